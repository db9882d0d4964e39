package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
)

type copyCmd struct {
	From config.DatabaseURL `required:"" env:"GRAHAK_FROM" placeholder:"URL" help:"The data folder to copy, with three slashes before its absolute path: sqlite:///var/lib/grahak."`
	To   config.DatabaseURL `required:"" env:"GRAHAK_TO" placeholder:"URL" help:"The PostgreSQL database to copy into, which is empty: postgres://USER@HOST:PORT/NAME. A password belongs in the variable, in PGPASSWORD or in a password file."`
	jsonFlag
}

// Help is what `grahak copy --help` says above the flags.
func (copyCmd) Help() string {
	return `Move from a data folder to PostgreSQL, once the server on the folder has been stopped:

  createdb grahak
  grahak copy --from sqlite:///var/lib/grahak \
    --to postgres://grahak@db.example.com/grahak

It makes the schema, copies everything but the master key, reads both sides again and compares them. The folder is not changed. Nothing is served from the database before all of it is there and was found to be the same. However it was ended, the same command goes on where it was; if the folder was written meanwhile, it starts over.

Between two PostgreSQL databases use pg_dump, and between two folders grahak backup.`
}

// Run copies, and says what is there then and what to do next.
func (c copyCmd) Run(ctx context.Context, std Streams) error {
	from, to := config.Data{Dir: config.DefaultDir, DatabaseURL: c.From}, config.Data{Dir: config.DefaultDir, DatabaseURL: c.To}
	switch none := (config.DatabaseURL{}); {
	case c.From == none || c.To == none:
		return wrongUse("--from and --to are needed: give sqlite:// with the absolute path of the data folder, and postgres:// with the database")
	case from.Postgres() && to.Postgres():
		return wrongUse("grahak copy moves a data folder to PostgreSQL; to copy one PostgreSQL database into another, use pg_dump and pg_restore")
	case from.Postgres():
		return wrongUse("--from is the data folder, sqlite://…, and --to the PostgreSQL database: there is no way back but a new folder and the API")
	case !to.Postgres():
		return wrongUse("grahak copy moves a data folder to PostgreSQL; to copy a folder, use grahak backup and grahak restore")
	}
	bar := steps{std: std}
	report, err := app.Copy(ctx, from, to, warnings(std), bar.set)
	bar.finish()
	if err := c.print(std.Out, report); err != nil {
		return err
	}
	switch {
	case err == nil && c.JSON:
		return nil
	case err == nil:
		_, err = io.WriteString(std.Out, c.next(from, to, report))
		return err
	case !report.Begun:
		return c.explain(err)
	case ctx.Err() != nil:
		return errors.New("interrupted: run the same command again, which goes on where it has ended")
	case errors.Is(err, app.ErrCopyDiffers):
		return errors.New(sentence(err) + ": run the same command again, which starts over")
	}
	return fmt.Errorf("%w; run the same command again, which goes on where it has ended", c.explain(err))
}

// explain is err as a sentence with the names that flags have here.
func (c copyCmd) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(strings.NewReplacer("--database-url", "--to", "--data", "--from").Replace(sentence(err)))
}

// print prints the tables that were compared, if any were.
func (c copyCmd) print(w io.Writer, r app.Copying) error {
	if len(r.Tables) == 0 {
		return nil
	}
	if c.JSON {
		return printJSON(w, c.toJSON(r))
	}
	rows := make([][]string, len(r.Tables))
	for i, t := range r.Tables {
		rows[i] = []string{t.Name, fmt.Sprint(t.Source.Rows), hex.EncodeToString(t.Source.SHA256[:]), "same"}
		if !t.Same() {
			rows[i][3] = fmt.Sprintf("NOT: %s, %x", count(t.Target.Rows, "row"), t.Target.SHA256)
		}
	}
	return table(w, []string{"TABLE", "ROWS", "SHA-256", "COPY"}, rows)
}

// rate is how many rows were copied in a second.
func rate(r app.Copying) int64 {
	return int64(float64(r.Copied) / max(r.Took.Seconds(), 0.001))
}

// next says what was done and what is to be done.
func (c copyCmd) next(from, to config.Data, r app.Copying) string {
	var b strings.Builder
	if r.Restarted {
		b.WriteString("\nThe unfinished copy that was there was of other data, or spoilt, so it was thrown away.\n")
	}
	fmt.Fprintf(&b, "\nCopied %s in %.1f seconds, %d a second", count(r.Copied, "row"), r.Took.Seconds(), rate(r))
	if r.Resumed > 0 {
		fmt.Fprintf(&b, ", after %d that were there from before", r.Resumed)
	}
	fmt.Fprintf(&b, ". Both sides were read again, and are the same.\n\nStart the server on %s", c.To)
	if r.MasterKeyID != "" {
		fmt.Fprintf(&b, " with the same master key, %s", r.MasterKeyID)
	}
	env := ""
	if r.Environment == grahak.Production {
		env = " --env production"
	}
	if _, err := os.Stat(from.GeneratedMasterKey()); err == nil && r.Environment == grahak.Sandbox {
		to.Dir = from.Folder()
		fmt.Fprintf(&b, ", which this sandbox keeps in %s", from.GeneratedMasterKey())
	}
	fmt.Fprintf(&b, ":\n\n  %s serve%s%s\n\n", programName(), env, dataFlag(to))
	fmt.Fprintf(&b, "Merchants, API keys and customers are as they were. Start none on %s any more: what is written there from now on is not in the database.\n", from.Folder())
	return b.String()
}

// copiedTableJSON is a table that was copied, for programs.
type copiedTableJSON struct {
	Table      string `json:"table"`
	Rows       int64  `json:"rows"`
	SHA256     string `json:"sha256"`
	CopyRows   int64  `json:"copy_rows"`
	CopySHA256 string `json:"copy_sha256"`
	Same       bool   `json:"same"`
}

func (c copyCmd) toJSON(r app.Copying) any {
	tables := make([]copiedTableJSON, len(r.Tables))
	same := true
	for i, t := range r.Tables {
		same = same && t.Same()
		tables[i] = copiedTableJSON{
			Table: t.Name, Same: t.Same(),
			Rows: t.Source.Rows, SHA256: hex.EncodeToString(t.Source.SHA256[:]),
			CopyRows: t.Target.Rows, CopySHA256: hex.EncodeToString(t.Target.SHA256[:]),
		}
	}
	return struct {
		From        string            `json:"from"`
		To          string            `json:"to"`
		Environment string            `json:"environment"`
		MasterKeyID string            `json:"master_key_id"`
		Copied      int64             `json:"copied_rows"`
		Resumed     int64             `json:"resumed_rows"`
		Restarted   bool              `json:"restarted"`
		Seconds     float64           `json:"seconds"`
		Rate        int64             `json:"rows_per_second"`
		Same        bool              `json:"same"`
		Tables      []copiedTableJSON `json:"tables"`
	}{
		c.From.String(), c.To.String(), string(r.Environment), r.MasterKeyID, r.Copied, r.Resumed, r.Restarted,
		r.Took.Seconds(), rate(r), same, tables,
	}
}
