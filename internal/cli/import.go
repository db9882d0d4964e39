package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/rows"
)

type importCmd struct {
	File          string             `arg:"" help:"The file: CSV with a header or NDJSON, either packed by gzip or not; - for standard input."`
	Format        string             `enum:",csv,ndjson" default:"" env:"GRAHAK_FORMAT" placeholder:"csv|ndjson" help:"Form of the file, where its content does not tell it."`
	OnDuplicate   grahak.OnDuplicate `enum:"skip,update,fail" default:"fail" env:"GRAHAK_ON_DUPLICATE" placeholder:"skip|update|fail" help:"What becomes of a row whose object_reference_id there is already: leave the customer as it is, put the row's fields over it, or reject the row."`
	DryRun        bool               `env:"GRAHAK_DRY_RUN" help:"Write no customer, but say which rows are bad and what would become of the others."`
	Rejected      string             `env:"GRAHAK_REJECTED" placeholder:"FILE" help:"Write the rows that are rejected to this file as they were, with the reason, so that they can be mended and imported. It must not exist, and only its owner may read it."`
	IgnoreUnknown bool               `env:"GRAHAK_IGNORE_UNKNOWN" help:"Read over columns and keys that no customer has."`
	Restart       bool               `env:"GRAHAK_RESTART" help:"Begin with the first row, although the same file was imported before, whole or in part."`
	CountryCode   string             `name:"default-country-code" default:"91" env:"GRAHAK_DEFAULT_COUNTRY_CODE" placeholder:"DIGITS" help:"Mobile country code of customers without one; a server that does the work on a data folder has its own."`
	merchantFlag
	target
	jsonFlag
}

// Help is what `grahak import --help` says above the flags.
func (importCmd) Help() string {
	return `The columns of CSV, or keys of NDJSON, have the names of the API: object_reference_id and mobile_number, which every customer has, and id, mobile_country_code, email_address, first_name, last_name, date_created, last_updated and metadata (a JSON object), or one column metadata.KEY for each key.

  grahak import customers.csv --merchant acme --dry-run
  grahak import customers.csv --merchant acme --rejected rejected.csv

An id that is given is kept if it is cst_ or cth_ with up to 59 letters and digits; times are in RFC 3339. Rows that are bad are reported with line, field and reason, and rejected; the others are imported, and the exit status is 1.

It may be interrupted at any time: the same command with the same file goes on where it has ended, which is told by the file's content. Only standard input cannot go on; import it again with --on-duplicate skip. If a server runs on the data folder, that does the work, and this command needs no master key. Otherwise no server can start on the folder meanwhile.`
}

// Run imports the file.
func (c importCmd) Run(ctx context.Context, std Streams) (err error) {
	switch {
	case c.File == "":
		return wrongUse("<file> is empty: give the file to import, or - for standard input")
	case c.Rejected != "" && c.Rejected == c.File:
		return wrongUse("--rejected is the file to import itself: give another")
	}
	if err := c.check(); err != nil {
		return err
	}
	importer, err := app.OpenImporter(ctx, c.Data, c.MasterKey, c.CountryCode, warnings(std))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, importer.Close()) }()
	what := "Importing"
	if c.DryRun {
		what = "Checking"
	}
	clock := grahak.SystemClock{}
	begun := clock.Now()
	bar := newProgress(std, what)
	bar.bytes = true
	done, err := importer.Run(ctx, app.Import{
		Path: c.File, In: std.In, Caller: c.caller(), Format: rows.Format(c.Format), OnDuplicate: c.OnDuplicate,
		IgnoreUnknown: c.IgnoreUnknown, Restart: c.Restart, DryRun: c.DryRun, Rejected: c.Rejected,
		Begun: func(s grahak.ImportState) {
			fmt.Fprintf(std.Err, "Resuming behind row %d: of the rows before it, %s.\n", s.Rows, counts(s))
		},
		Report: func(row app.RejectedRow) {
			bar.aside()
			c.report(std.Out, row)
		},
		Progress: func(done, total, rows int64) {
			if seconds := clock.Now().Sub(begun).Seconds(); seconds > 0 {
				bar.describe(fmt.Sprintf("%s, %.0f rows/s", what, float64(rows)/seconds))
			}
			bar.set(done, total)
		},
	})
	bar.finish()
	if err != nil {
		return err
	}
	if done.Unnoted > 0 {
		fmt.Fprintf(std.Err, "%s had been rejected before %s was given, so that is without them.\n", count(done.Unnoted, "row"), c.Rejected)
	}
	if err := c.summarize(std.Out, done); err != nil {
		return err
	}
	return c.verdict(done)
}

// counts says what became of rows.
func counts(s grahak.ImportState) string {
	return fmt.Sprintf("%d created, %d updated, %d skipped, %d rejected", s.Created, s.Updated, s.Skipped, s.Rejected)
}

// rejectedJSON is a rejected row for programs.
type rejectedJSON struct {
	Line   int64               `json:"line"`
	Faults []rejectedFieldJSON `json:"faults"`
}

type rejectedFieldJSON struct {
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Value  string `json:"value,omitempty"`
}

// report prints what is wrong with a row.
func (c importCmd) report(w io.Writer, row app.RejectedRow) {
	if c.JSON {
		out := rejectedJSON{Line: row.Line}
		for _, f := range row.Faults {
			out.Faults = append(out.Faults, rejectedFieldJSON{f.Name, f.Reason, f.Value})
		}
		_ = printJSON(w, out) // Where nobody reads, the import goes on.
		return
	}
	for _, f := range row.Faults {
		what := ""
		if f.Name != "" {
			what = ", " + f.Name
		}
		if f.Value != "" {
			what += " (" + f.Value + ")"
		}
		fmt.Fprintf(w, "line %d%s: %s\n", row.Line, what, f.Reason)
	}
}

// importJSON is what came of an import, for programs.
type importJSON struct {
	Rows     int64   `json:"rows"`
	Created  int64   `json:"created"`
	Updated  int64   `json:"updated"`
	Skipped  int64   `json:"skipped"`
	Rejected int64   `json:"rejected"`
	DryRun   bool    `json:"dry_run"`
	Before   bool    `json:"imported_before"`
	Resumed  int64   `json:"resumed_rows"`
	Seconds  float64 `json:"seconds"`
	Rate     int64   `json:"rows_per_second"`
}

// summarize prints what came of it all.
func (c importCmd) summarize(w io.Writer, d app.Imported) error {
	s, seconds := d.State, d.Took.Seconds()
	perSecond := int64(float64(s.Rows-d.Resumed) / max(seconds, 0.001))
	if c.JSON {
		return printJSON(w, importJSON{
			Rows: s.Rows, Created: s.Created, Updated: s.Updated, Skipped: s.Skipped, Rejected: s.Rejected,
			DryRun: c.DryRun, Before: d.Before, Resumed: d.Resumed, Seconds: seconds, Rate: perSecond,
		})
	}
	var err error
	switch {
	case d.Before:
		_, err = fmt.Fprintf(w, "The file was imported before, at %s: %s. Nothing was done; --restart imports it again.\n", stamp(s.UpdatedAt), counts(s))
	case c.DryRun:
		_, err = fmt.Fprintf(w, "A dry run of %s in %.1f seconds, %d a second: %d would be created, %d updated, %d skipped, %d rejected. Nothing was written.\n",
			count(s.Rows, "row"), seconds, perSecond, s.Created, s.Updated, s.Skipped, s.Rejected)
	default:
		resumed := ""
		if d.Resumed > 0 {
			resumed = fmt.Sprintf(", after %d that were done before", d.Resumed)
		}
		_, err = fmt.Fprintf(w, "Imported %s in %.1f seconds, %d a second%s: %s.\n", count(s.Rows-d.Resumed, "row"), seconds, perSecond, resumed, counts(s))
	}
	return err
}

// verdict returns an error if there are rejected rows that are left to be mended.
func (c importCmd) verdict(d app.Imported) error {
	n := d.State.Rejected
	if n == 0 || d.Before {
		return nil
	}
	were := "were"
	if n == 1 {
		were = "was"
	}
	switch {
	case c.DryRun:
		return fmt.Errorf("%s would be rejected: mend the file, or give --rejected FILE to the import to get them in a file of their own", count(n, "row"))
	case c.Rejected != "":
		return fmt.Errorf("%s %s rejected: mend what is in %s, and import that", count(n, "row"), were, c.Rejected)
	}
	return fmt.Errorf("%s %s rejected: mend the lines that are named above in a file of their own, and import that", count(n, "row"), were)
}
