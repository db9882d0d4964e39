package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"grahak"
	"grahak/internal/config"
	"grahak/internal/control"
)

// ImportCheck is a dry run of an import, as [grahak.ImportCheck] is one.
type ImportCheck interface {
	Rows(ctx context.Context, rows []grahak.ImportRow) ([]grahak.ImportFault, error)
	State() grahak.ImportState
}

// Importer does imports: those of a server on the data folder, if one runs, and
// otherwise those of this process. Use [OpenImporter].
type Importer struct {
	importService
	// Served is set if a server does them.
	Served bool

	check func(by grahak.Caller, rule grahak.OnDuplicate) (ImportCheck, error)
	close func() error
}

// importService is what does imports.
type importService interface {
	ImportState(ctx context.Context, by grahak.Caller, id string) (grahak.ImportState, error)
	ImportCustomers(ctx context.Context, by grahak.Caller, chunk grahak.ImportChunk) (grahak.ImportState, []grahak.ImportFault, error)
}

// serverPatience is how long a server may hold its data folder without taking
// work from commands: one that starts does so a moment later.
const serverPatience = 5 * time.Second

// OpenImporter returns what does imports into the data folder or database. While
// it is open, no server can start on a folder on which none runs, and this process
// does its work in the background; on PostgreSQL it does so beside the servers.
// countryCode is that of customers without one, unless a server has its own. The
// caller closes it.
func OpenImporter(ctx context.Context, data config.Data, key config.MasterKey, countryCode string, log *slog.Logger) (*Importer, error) {
	if data.Postgres() {
		return openImporter(ctx, data, key, countryCode, log, func() error { return nil })
	}
	// Locking would make the file.
	if _, err := os.Stat(data.Database()); err != nil {
		return nil, noData(data)
	}
	client := control.NewClient(data.ControlSocket())
	var limit <-chan time.Time
	for {
		lock, err := tryLock(data)
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return openImporter(ctx, data, key, countryCode, log, lock.Unlock)
		}
		err = client.Ping(ctx)
		if err == nil {
			return &Importer{
				importService: client, Served: true, close: client.Close,
				check: func(by grahak.Caller, rule grahak.OnDuplicate) (ImportCheck, error) {
					return client.NewImportCheck(by, rule), nil
				},
			}, nil
		}
		if limit == nil {
			limit = time.After(serverPatience)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit:
			return nil, fmt.Errorf("the data folder %s is in use, by a command that works alone, or by a server that takes no work from commands, whose log then says why: wait for the end of the one, or restart the other (%w)", data.Folder(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// openImporter returns an Importer of this process.
func openImporter(ctx context.Context, data config.Data, key config.MasterKey, countryCode string, log *slog.Logger, release func() error) (*Importer, error) {
	d, err := OpenData(ctx, data, key, log)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	s, err := grahak.NewService(grahak.Config{Store: d.Store, Sealer: d.Sealer, Environment: d.Store.Environment(), CountryCode: countryCode, Logger: log})
	if err != nil {
		return nil, errors.Join(err, d.Close(), release())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { s.Run(background) })
	return &Importer{
		importService: s,
		check: func(by grahak.Caller, rule grahak.OnDuplicate) (ImportCheck, error) {
			return s.NewImportCheck(by, rule)
		},
		close: func() error {
			stop()
			work.Wait()
			return errors.Join(d.Close(), release())
		},
	}, nil
}

// Close ends the work in the background.
func (i *Importer) Close() error { return i.close() }
