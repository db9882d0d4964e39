package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"grahak"
)

// MigrateSQLite brings the schema of the store in the file at path up to date and
// returns its versions before and after, which are the same if there was nothing
// to do. No other process may use the store meanwhile. If there is none it returns
// [ErrNoStore]: a store is made for an environment, by whoever opens it first.
func MigrateSQLite(ctx context.Context, path string, log *slog.Logger) (before, after int64, err error) {
	cfg := SQLiteConfig{Path: path, LockWait: 5 * time.Second, Clock: grahak.SystemClock{}, Logger: log}
	if err := prepareFile(cfg); err != nil {
		return 0, 0, err
	}
	db, err := sql.Open("sqlite", writerDSN(cfg))
	if err != nil {
		return 0, 0, err
	}
	before, after, err = migrateSQLite(ctx, db, cfg)
	return before, after, explain(path, errors.Join(err, db.Close()))
}

func migrateSQLite(ctx context.Context, db *sql.DB, cfg SQLiteConfig) (before, after int64, err error) {
	if before, err = schemaVersion(ctx, db); err != nil {
		return 0, 0, err
	}
	if before == 0 {
		return 0, 0, ErrNoStore
	}
	if cfg.Environment, err = recordEnvironment(ctx, db, cfg); err != nil {
		return 0, 0, err
	}
	if err := prepareSchema(ctx, db, cfg); err != nil {
		return 0, 0, err
	}
	after, err = schemaVersion(ctx, db)
	return before, after, err
}
