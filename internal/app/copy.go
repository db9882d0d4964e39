package app

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"grahak/internal/config"
	"grahak/internal/sqlstore"
)

// Copying is what [Copy] came to.
type Copying = sqlstore.CopyReport

// ErrCopyDiffers is returned by [Copy] when it has copied everything and found the
// two sides to differ.
var ErrCopyDiffers = sqlstore.ErrCopyDiffers

// Copy copies the data folder that from names into the PostgreSQL database that to
// names, and compares them; see [sqlstore.Copy]. It refuses while a server runs on
// the folder, on which none can start meanwhile. log is told of the migrations of an
// empty database. Errors are one sentence.
func Copy(ctx context.Context, from, to config.Data, log *slog.Logger, progress Progress) (report Copying, err error) {
	if _, err := os.Stat(from.Database()); err != nil {
		return report, noData(from)
	}
	lock, err := lockOut(from)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	source, err := sqlstore.OpenSQLite(ctx, sqlstore.SQLiteConfig{Path: from.Database(), Logger: log})
	if errors.Is(err, sqlstore.ErrNoStore) {
		return report, noData(from)
	}
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return sqlstore.Copy(ctx, sqlstore.CopyConfig{From: source, URL: to.DatabaseURL.Secret(), Progress: progress, Logger: log})
}
