package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"grahak"
	"grahak/internal/config"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
)

// operatorLockWait is how long a command waits for a busy server to let it
// write. The server's writer lets go of the database after every batch.
const operatorLockWait = 30 * time.Second

// Data is a data folder, or a PostgreSQL database, opened for an operator's
// command, beside running servers or without one. Use [OpenData].
type Data struct {
	Service *grahak.Service
	Store   sqlstore.Store
	// SQLite and Postgres are the store once more, the one that it is not being
	// nil.
	SQLite   *sqlstore.SQLite
	Postgres *sqlstore.Postgres
	Sealer   *seal.Sealer
	// MasterKeys is read when something needs it.
	MasterKeys *seal.MasterKeys

	data config.Data
	key  config.MasterKey
}

// OpenData opens an existing data folder or database. A master key that cannot be
// had is no error until something needs it.
func OpenData(ctx context.Context, data config.Data, key config.MasterKey, log *slog.Logger) (_ *Data, err error) {
	d := &Data{data: data, key: key}
	if data.Postgres() {
		err = d.openPostgres(ctx, log)
	} else {
		err = d.openSQLite(ctx, log)
	}
	if err != nil {
		return nil, err
	}
	d.MasterKeys = seal.NewMasterKeys(masterKeySource(data, key, d.Store.Environment()), 0)
	d.Sealer = seal.NewSealer(d.MasterKeys, d.Store)
	d.Service, err = grahak.NewService(grahak.Config{Store: d.Store, Sealer: d.Sealer, Environment: d.Store.Environment(), Logger: log})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Data) openSQLite(ctx context.Context, log *slog.Logger) (err error) {
	folder := d.data.Folder()
	if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		return fmt.Errorf("the data folder %s is a file: give a folder with --data", folder)
	}
	if _, err := os.Stat(d.data.Database()); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("this user may not read the data folder %s: run the command as the user that the server runs as", folder)
	}
	d.SQLite, err = sqlstore.OpenSQLite(ctx, sqlstore.SQLiteConfig{Path: d.data.Database(), LockWait: operatorLockWait, Beside: true, Logger: log})
	if errors.Is(err, sqlstore.ErrNoStore) {
		return noData(d.data)
	}
	d.Store = d.SQLite
	return err
}

// noData is the error for a place in which no server has kept anything yet.
func noData(data config.Data) error {
	if data.Postgres() {
		return fmt.Errorf("there is no data in %s: run `grahak serve` on it first, or give the right database with --database-url", data.DatabaseURL)
	}
	return fmt.Errorf("there is no data in %q: run `grahak serve` first, or give the right folder with --data", data.Folder())
}

func (d *Data) openPostgres(ctx context.Context, log *slog.Logger) (err error) {
	d.Postgres, err = sqlstore.OpenPostgres(ctx, sqlstore.PostgresConfig{URL: d.data.DatabaseURL.Secret(), Connections: sqlstore.MinConnections, Logger: log})
	if errors.Is(err, sqlstore.ErrNoStore) {
		return noData(d.data)
	}
	d.Store = d.Postgres
	return err
}

// Courier returns what carries a message to an endpoint from this process.
func (d *Data) Courier(flags config.WebhookFlags, version string) (grahak.Courier, error) {
	courier, err := newCourier(flags, d.Store.Environment(), version)
	if err != nil {
		return nil, err
	}
	return courier, nil
}

// Close closes the folder or database.
func (d *Data) Close() error {
	d.MasterKeys.Close()
	return d.Store.Close()
}
