package sqlstore

import (
	"context"
	"errors"
	"log/slog"

	"grahak"
)

// PostgresConfig says what to open.
type PostgresConfig struct {
	// URL names the database as libpq does: postgres://user@host:5432/name, with
	// any number of hosts. Passwords may come from PGPASSWORD or a password file
	// as well.
	URL string
	// Environment is recorded in a new store. Opening an existing store of
	// another environment is an error; empty takes the store's own, and then the
	// store must exist.
	Environment grahak.Environment
	// Migrate brings an older schema, or an empty database, up to date. Otherwise
	// both are refused.
	Migrate bool
	// Connections bounds the connections to the database; default 16, at least 8.
	Connections int
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// Observer is told of commits; may be nil. It is called by several goroutines.
	Observer Observer
	// Logger receives faults that no caller is told of; default
	// [slog.Default].
	Logger *slog.Logger
}

// Postgres implements [grahak.Store] for any number of processes on one
// PostgreSQL database. Use [OpenPostgres].
type Postgres struct {
	portable
}

// OpenPostgres opens the store. Errors that an operator can mend are one sentence
// that says how; none shows a password.
func OpenPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	return nil, errors.ErrUnsupported
}

// MigrateOptions are what [MigratePostgres] may be told.
type MigrateOptions struct {
	// NoLock leaves out the advisory lock that keeps two migrations apart, for
	// databases that have none, such as CockroachDB.
	NoLock bool
	// Citus distributes the tables by merchant on a Citus cluster.
	Citus bool
	// Logger is told what is done.
	Logger *slog.Logger
}

// MigratePostgres brings the schema up to date and returns the versions before
// and after.
func MigratePostgres(ctx context.Context, url string, opts MigrateOptions) (before, after int64, err error) {
	return 0, 0, errors.ErrUnsupported
}
