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
	Store   *sqlstore.Store
	Sealer  *seal.Sealer
}

// OpenData opens an existing data folder. A master key that cannot be had is
// no error until something needs it.
func OpenData(ctx context.Context, data config.Data, key config.MasterKey, log *slog.Logger) (*Data, error) {
	if info, err := os.Stat(data.Dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("the data folder %s is a file: give a folder with --data", data.Dir)
	}
	store, err := sqlstore.Open(ctx, sqlstore.Config{Path: data.Database(), LockWait: operatorLockWait, Beside: true, Logger: log})
	if errors.Is(err, sqlstore.ErrNoStore) {
		return nil, fmt.Errorf("there is no data in %q: run `grahak serve` first, or give the right folder with --data", data.Dir)
	}
	if err != nil {
		return nil, err
	}
	sealer, err := dataSealer(ctx, store, data, key)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	service, err := grahak.NewService(grahak.Config{Store: store, Sealer: sealer, Environment: store.Environment(), Logger: log})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &Data{Service: service, Store: store, Sealer: sealer}, nil
}

// dataSealer returns the sealer of an existing folder. If the master key cannot
// be had, or is not the one that the folder's merchants are under, it is one
// that says so when it is needed.
func dataSealer(ctx context.Context, store *sqlstore.Store, data config.Data, key config.MasterKey) (*seal.Sealer, error) {
	master, err := readMasterKey(data, key, false)
	if err != nil {
		return seal.Broken(err), nil
	}
	named, err := store.MasterKeyID(ctx, "")
	if err != nil {
		return nil, err
	}
	if err := sameMasterKey(named, master); err != nil {
		return seal.Broken(err), nil
	}
	return seal.New(master, store), nil
}

// sameMasterKey returns an error unless master is the key that is named.
func sameMasterKey(named string, master *seal.MasterKey) error {
	switch named {
	case master.ID():
		return nil
	case "":
		return errors.New("no server has started on this data with a master key yet: run `grahak serve` with it first")
	}
	return fmt.Errorf("the data is sealed under master key %s, but the configured master key is %s: configure the right one", named, master.ID())
}

// Close closes the folder.
func (d *Data) Close() error { return d.Store.Close() }

// errMasterKeyLost is in the error for a generated master key that is gone.
var errMasterKeyLost = errors.New("customers are sealed under it and cannot be read without it")

// readMasterKey returns the master key that was given, or else the one that a
// sandbox keeps in its data folder, made now if create is set and there is
// none.
func readMasterKey(data config.Data, key config.MasterKey, create bool) (*seal.MasterKey, error) {
	if key.Text != "" {
		master, err := seal.ParseMasterKey([]byte(key.Text))
		if err != nil {
			return nil, fmt.Errorf("GRAHAK_MASTER_KEY is not a master key: %w", err)
		}
		return master, nil
	}
	if key.File != "" {
		master, err := seal.ReadMasterKey(key.File)
		if err != nil {
			return nil, fmt.Errorf("the master key file %s cannot be used: %w", key.File, err)
		}
		return master, nil
	}
	path := data.GeneratedMasterKey()
	master, err := seal.ReadMasterKey(path)
	switch {
	case errors.Is(err, seal.ErrNoMasterKey) && create:
		if master, err = seal.MakeMasterKey(path); err != nil {
			return nil, fmt.Errorf("the master key %s cannot be made: %w", path, err)
		}
		return master, nil
	case errors.Is(err, seal.ErrNoMasterKey):
		return nil, fmt.Errorf("there is no master key in %s: put the file back, or give the key with --master-key-file or GRAHAK_MASTER_KEY; %w", path, errMasterKeyLost)
	case err != nil:
		return nil, fmt.Errorf("the master key file %s cannot be used: %w", path, err)
	}
	return master, nil
}
