package app

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"grahak"
	"grahak/internal/config"
	"grahak/internal/sqlstore"
)

// Migration says how to bring a schema up to date.
type Migration struct {
	// NoLock is for PostgreSQL: it leaves out the lock that keeps two migrations
	// apart, for databases that have no such locks.
	NoLock bool
	// Logger takes what is done; required.
	Logger *slog.Logger
}

// Migrate brings the schema of the data up to date and returns its versions
// before and after, which are the same if there was nothing to do. In a data
// folder it refuses while a server runs. Errors are one sentence.
func Migrate(ctx context.Context, data config.Data, m Migration) (before, after int64, err error) {
	if data.Postgres() {
		return sqlstore.MigratePostgres(ctx, data.DatabaseURL.Secret(), sqlstore.MigrateOptions{NoLock: m.NoLock, Logger: m.Logger})
	}
	if _, err := os.Stat(data.Database()); err != nil {
		return 0, 0, noData(data)
	}
	lock, err := lockOut(data)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	before, after, err = sqlstore.MigrateSQLite(ctx, data.Database(), m.Logger)
	if errors.Is(err, sqlstore.ErrNoStore) {
		err = noData(data)
	}
	return before, after, err
}

// DistributeCitus distributes the tables of the PostgreSQL database that data
// names over its Citus cluster; see [sqlstore.DistributeCitus].
func DistributeCitus(ctx context.Context, data config.Data, tell func(sentence string)) error {
	return sqlstore.DistributeCitus(ctx, data.DatabaseURL.Secret(), tell)
}

// InspectPostgres looks at the PostgreSQL database that data names and at its
// server; see [sqlstore.InspectPostgres].
func InspectPostgres(ctx context.Context, data config.Data) (sqlstore.PostgresReport, error) {
	return sqlstore.InspectPostgres(ctx, data.DatabaseURL.Secret(), grahak.SystemClock{}.Now)
}

// OldestPostgres is the oldest major version of PostgreSQL that can be used.
const OldestPostgres = sqlstore.OldestPostgres
