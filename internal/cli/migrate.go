package cli

import (
	"context"
	"fmt"

	"grahak/internal/app"
	"grahak/internal/config"
)

type migrateCmd struct {
	NoLock     bool   `name:"no-lock" env:"GRAHAK_NO_LOCK" help:"Take no advisory lock against a second migration, for databases that have none, such as CockroachDB; then see to it yourself that there is only one."`
	Distribute string `enum:",citus" default:"" env:"GRAHAK_DISTRIBUTE" placeholder:"citus" help:"Distribute the tables over the nodes of a Citus cluster, by merchant."`
	config.Data
}

// Help is what `grahak migrate --help` says above the flags.
func (migrateCmd) Help() string {
	return `A production on PostgreSQL does not change its schema by itself. Run this before its first start, and before you start a newer Grahak on it; servers of the older version may go on meanwhile:

  grahak migrate --database-url postgres://grahak@db.example.com/grahak

The user makes tables, so it owns the database or may create in its schema. It may be run again at any time, and after it was interrupted.

On a Citus cluster, --distribute citus then moves the tables to where they belong: all of a merchant to one node, so that each of its requests is the work of one node, and what is small and needed by all to every node.

In a sandbox, and in a data folder, grahak serve does this by itself; here the folder is one that no server uses.`
}

// Run brings the schema up to date and says what it did.
func (c migrateCmd) Run(ctx context.Context, std Streams) error {
	switch err := c.Check(); {
	case err != nil:
		return wrongUse("%w", err)
	case (c.NoLock || c.Distribute != "") && !c.Postgres():
		return wrongUse("--no-lock and --distribute are for PostgreSQL: give --database-url as well")
	}
	before, after, err := app.Migrate(ctx, c.Data, app.Migration{NoLock: c.NoLock, Logger: warnings(std)})
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
	if c.Distribute == "citus" {
		return app.DistributeCitus(ctx, c.Data, func(sentence string) { fmt.Fprintln(std.Out, sentence+".") })
	}
	return nil
}
