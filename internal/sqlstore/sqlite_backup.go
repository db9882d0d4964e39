package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"time"

	"grahak"
)

// copyInterval is how often the progress of a copy is told.
const copyInterval = 200 * time.Millisecond

// copyWait is how long a copy waits for a lock. It reads, so only another
// process that puts the files in order after a crash can make it wait.
const copyWait = 5 * time.Second

// CopySize returns how large a copy of the database is about to be, in bytes.
func (s *SQLite) CopySize(ctx context.Context) (size int64, err error) {
	err = s.readers.read(ctx, func(r *sqliteConn) error {
		var pages, free, pageSize int64
		err := r.snapshot(func() error {
			return errors.Join(
				r.queryRow("PRAGMA page_count").Scan(&pages),
				r.queryRow("PRAGMA freelist_count").Scan(&free),
				r.queryRow("PRAGMA page_size").Scan(&pageSize),
			)
		})
		size = (pages - free) * pageSize
		return err
	})
	return size, err
}

// CopyTo writes a copy of the database, as of one moment after the call, to
// target, which is a file and empty. What was deleted is not in the copy. No
// write waits for it, but the write-ahead log does not start again before it
// ends. progress is told now and then how many bytes of about how many there
// are. When ctx ends, CopyTo returns its error; whatever the error, it is for
// the caller to remove the file, and to see to it that it is on disk.
func (s *SQLite) CopyTo(ctx context.Context, target string, progress func(done, total int64)) error {
	size, err := s.CopySize(ctx)
	if err != nil {
		return err
	}
	// SQLite takes a name that begins with "file:" for more than a name.
	if target, err = filepath.Abs(target); err != nil {
		return err
	}
	// The connection cannot write the database, and it overwrites what is free
	// in a page of the copy.
	c, err := newConn(dsn(SQLiteConfig{Path: s.path, LockWait: copyWait}, "secure_delete(1)") + "&mode=ro")
	if err != nil {
		return storageError(err)
	}
	copied := make(chan error, 1)
	go func() {
		err := c.during(ctx, func() error {
			_, err := c.exec("VACUUM INTO $1", target)
			return err
		})
		copied <- errors.Join(err, c.close())
	}()
	tick := time.NewTicker(copyInterval)
	defer tick.Stop()
	for progress(0, size); ; {
		select {
		case err := <-copied:
			if err != nil {
				// An error of the disk leaves the journal of the copy.
				_ = os.Remove(target + "-journal")
			}
			return storageError(err)
		case <-tick.C:
			if info, err := os.Stat(target); err == nil {
				progress(min(info.Size(), size), size)
			}
		}
	}
}

// OpenCopy opens a copy that [SQLite.CopyTo] made, to read it: nobody may write
// the file meanwhile, none is made beside it, and every write to the store
// fails. What follows the database in the file does no harm. The schema may be an
// older one, of which nothing but [SQLite.Check] and [SQLite.Summarize] is sure to
// work; see [Summary].
func OpenCopy(ctx context.Context, path string) (*SQLite, error) {
	s := newSQLite(path)
	s.writer = &writer{queue: newQueue[func(*sqliteConn) error]("writes", 0, 0)}
	s.writer.stop()
	if err := s.openCopy(ctx); err != nil {
		return nil, errors.Join(err, s.disconnect())
	}
	return s, nil
}

func (s *SQLite) openCopy(ctx context.Context) error {
	cfg := SQLiteConfig{Path: s.path}
	readOnly := func(cacheKiB int) string { return readerDSN(cfg, cacheKiB) + "&mode=ro&immutable=1" }
	db, err := sql.Open("sqlite", readOnly(readerCacheKiB))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if s.environment, err = recordEnvironment(ctx, db, cfg); err != nil {
		return err
	}
	lookUpConns, err := s.connectReaders(readOnly)
	if err != nil {
		return err
	}
	s.startLookUps(lookUpConns)
	return nil
}

// Summary is what a store holds, in numbers.
type Summary struct {
	Schema      int64 // the version of the schema
	Environment grahak.Environment
	MasterKeyID string // of the key that the merchants' keys are under; empty for none
	Merchants   []MerchantSummary
}

// MerchantSummary is what a store holds of one merchant.
type MerchantSummary struct {
	ID        grahak.MerchantID
	Customers int64
	Events    int64
	Head      grahak.ChainHead // of the chain of events
}

// Summarize counts everything, by reading an index of each table to its end.
// Merchants are by id.
func (s *SQLite) Summarize(ctx context.Context) (Summary, error) {
	sum := Summary{Environment: s.environment}
	err := s.long.read(ctx, func(r *sqliteConn) error {
		return r.during(ctx, func() error {
			return r.snapshot(func() (err error) {
				if sum.MasterKeyID, err = masterKeyID(r); err != nil {
					return err
				}
				if err := r.queryRow(schemaVersionQuery).Scan(&sum.Schema); err != nil {
					return err
				}
				sum.Merchants, err = summarizeMerchants(r)
				return err
			})
		})
	})
	return sum, err
}

func summarizeMerchants(r *sqliteConn) (list []MerchantSummary, err error) {
	err = r.query(func(row row) error {
		var m MerchantSummary
		err := row.Scan((*string)(&m.ID), &m.Customers, &m.Events)
		list = append(list, m)
		return err
	}, `SELECT m.id, (SELECT count(*) FROM customers c WHERE c.merchant_id = m.id), (SELECT count(*) FROM events e WHERE e.merchant_id = m.id)
		FROM merchants m ORDER BY m.id`)
	for i := range list {
		if err != nil {
			break
		}
		list[i].Head, err = chainHead(r, list[i].ID)
	}
	return list, err
}
