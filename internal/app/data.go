package app

import (
	"context"
	"errors"
	"fmt"
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

// Data is a data folder opened for an operator's command, beside a running
// server or without one. Use [OpenData].
type Data struct {
	Service *grahak.Service
	Store   *sqlstore.SQLite
	Sealer  *seal.Sealer
	// MasterKeys is read when something needs it.
	MasterKeys *seal.MasterKeys

	data config.Data
	key  config.MasterKey
}

// OpenData opens an existing data folder. A master key that cannot be had is no
// error until something needs it.
func OpenData(ctx context.Context, data config.Data, key config.MasterKey, log *slog.Logger) (*Data, error) {
	if info, err := os.Stat(data.Dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("the data folder %s is a file: give a folder with --data", data.Dir)
	}
	store, err := sqlstore.OpenSQLite(ctx, sqlstore.SQLiteConfig{Path: data.Database(), LockWait: operatorLockWait, Beside: true, Logger: log})
	if errors.Is(err, sqlstore.ErrNoStore) {
		return nil, fmt.Errorf("there is no data in %q: run `grahak serve` first, or give the right folder with --data", data.Dir)
	}
	if err != nil {
		return nil, err
	}
	masters := seal.NewMasterKeys(masterKeySource(data, key, store.Environment()), 0)
	sealer := seal.NewSealer(masters, store)
	service, err := grahak.NewService(grahak.Config{Store: store, Sealer: sealer, Environment: store.Environment(), Logger: log})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &Data{Service: service, Store: store, Sealer: sealer, MasterKeys: masters, data: data, key: key}, nil
}

// Close closes the folder.
func (d *Data) Close() error {
	d.MasterKeys.Close()
	return d.Store.Close()
}
