package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"grahak/internal/app"
	"grahak/internal/config"
)

type migrateCmd struct {
	NoLock bool `name:"no-lock" env:"GRAHAK_NO_LOCK" help:"Take no advisory lock against a second migration, for databases that have none, such as CockroachDB; then see to it yourself that there is only one."`
	config.Data
}

// Help is what `grahak migrate --help` says above the flags.
func (migrateCmd) Help() string {
	return `A production on PostgreSQL does not change its schema by itself. Run this before its first start, and before you start a newer Grahak on it; servers of the older version may go on meanwhile:

  grahak migrate --database-url postgres://grahak@db.example.com/grahak

The user makes tables, so it owns the database or may create in its schema. In a sandbox, and in a data folder, grahak serve does this by itself; there it takes a folder that no server uses.`
}

// Run brings the schema up to date and says what it did.
func (c migrateCmd) Run(ctx context.Context, std Streams) error {
	switch err := c.Check(); {
	case err != nil:
		return wrongUse("%w", err)
	case c.NoLock && !c.Postgres():
		return wrongUse("--no-lock is for PostgreSQL: give --database-url as well")
	}
	before, after, err := app.Migrate(ctx, c.Data, app.Migration{NoLock: c.NoLock, Logger: slog.New(stepLog{std.Out})})
	if err != nil {
		return err
	}
	switch {
	case before == after:
		fmt.Fprintf(std.Out, "The schema is of version %d already; there was nothing to do.\n", after)
	case before == 0:
		fmt.Fprintf(std.Out, "Made the schema, of version %d.\n", after)
	default:
		fmt.Fprintf(std.Out, "Brought the schema from version %d to version %d.\n", before, after)
	}
	return nil
}

// stepLog prints what is done as a log's messages, for people: a line each, with
// the values behind it.
type stepLog struct{ out io.Writer }

// Enabled implements [slog.Handler].
func (stepLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements [slog.Handler].
func (l stepLog) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, "  %s=%s", a.Key, a.Value)
		return true
	})
	_, err := fmt.Fprintln(l.out, line.String())
	return err
}

// WithAttrs implements [slog.Handler]. What is the same for all lines is left out.
func (l stepLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l stepLog) WithGroup(string) slog.Handler { return l }
