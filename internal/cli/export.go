package cli

import (
	"context"
	"errors"
	"fmt"

	"grahak/internal/app"
	"grahak/internal/rows"
)

type exportCmd struct {
	Format string `default:"csv" enum:"csv,ndjson" env:"GRAHAK_FORMAT" placeholder:"csv|ndjson" help:"Form of the file: CSV with a header, or the customer object of the API on every line."`
	Output string `short:"o" env:"GRAHAK_OUTPUT" placeholder:"FILE" help:"Write this file, which must not exist and only its owner may read, in place of standard output. It appears when it is whole."`
	Gzip   bool   `env:"GRAHAK_GZIP" help:"Pack what is written by gzip."`
	merchantFlag
	target
}

// Help is what `grahak export --help` says above the flags.
func (exportCmd) Help() string {
	return `All customers of a merchant, beside running servers: with ids, times to the microsecond and metadata, in the form that grahak import reads. So a merchant moves to another Grahak, or away:

  grahak export --merchant acme --gzip --output acme.csv.gz
  grahak import acme.csv.gz --merchant acme --data elsewhere

They come in the order of their ids. Those that are made or erased meanwhile may be in it or not. It is personal data in clear. What is held on one person, with tokens and events, is what grahak customer export prints.`
}

// Run writes the customers.
func (c exportCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		bar := newProgress(std, "Exporting")
		n, err := d.Export(ctx, app.Export{
			Caller: c.caller(), Format: rows.Format(c.Format), Gzip: c.Gzip, Path: c.Output, Out: std.Out,
		}, bar.set)
		bar.finish()
		if unread := (app.UnreadError{}); errors.As(err, &unread) {
			return unreadable(unread.Err)
		}
		if err != nil {
			return err
		}
		if c.Output != "" {
			_, err = fmt.Fprintf(std.Out, "Wrote %s: %s.\n", c.Output, count(n, "customer"))
		}
		return err
	})
}
