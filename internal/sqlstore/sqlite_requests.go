package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

// requestCacheKiB is the page cache of each of the two connections.
const requestCacheKiB = 1 << 10

// requestSchema makes the tables of PostgreSQL's 00006_requests.sql. The file is not
// migrated: another version of it is made anew.
var requestSchema = []string{
	`CREATE TABLE request_blocks (
		merchant_id TEXT    NOT NULL,
		id          BLOB    NOT NULL,
		from_at     INTEGER NOT NULL,
		to_at       INTEGER NOT NULL,
		requests    INTEGER NOT NULL,
		bytes       INTEGER NOT NULL,
		filter      BLOB    NOT NULL,
		content     BLOB    NOT NULL,
		PRIMARY KEY (merchant_id, id)
	) STRICT`,
	`CREATE INDEX request_blocks_to_at ON request_blocks (to_at, bytes)`,
	`CREATE TABLE request_stats (
		merchant_id TEXT    NOT NULL,
		at          INTEGER NOT NULL,
		node        TEXT    NOT NULL,
		data        BLOB    NOT NULL,
		PRIMARY KEY (merchant_id, at, node)
	) STRICT`,
	`CREATE INDEX request_stats_at ON request_stats (at)`,
	`PRAGMA user_version = 1`,
}

const requestSchemaVersion = 1

// Requests is a request log in a SQLite file of its own, so that neither its writes nor
// what becomes of it touch the customers' database. What was written survives the
// process; after a loss of power the last seconds may be missing. Use [OpenRequests].
type Requests struct {
	requestLog
	file *requestFile
}

// requestFile is the file and its connections.
type requestFile struct {
	path string
	log  *slog.Logger
	// Each connection is in its channel, unless somebody uses it. A nil one is to be
	// opened first.
	writer, reader chan *sqliteConn
	begun          atomic.Int64 // counts how often the file was begun anew
	closed         atomic.Bool
}

// OpenRequests opens the request log in the file at path, and makes it where there is
// none. A damaged one is deleted with a warning. It fails if the file cannot be made;
// later faults are errors of the methods, and mended once they can be.
func OpenRequests(path string, log *slog.Logger) (*Requests, error) {
	f := &requestFile{path: path, log: log, writer: make(chan *sqliteConn, 1), reader: make(chan *sqliteConn, 1)}
	c, err := f.connect()
	if damaged(err) {
		if err = f.remove(err); err == nil {
			c, err = f.connect()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the request log %s cannot be opened: make it writable for this user, or give --requests-keep 0d to have none (%w)", path, err)
	}
	f.writer <- c
	f.reader <- nil
	return &Requests{requestLog: requestLog{f}, file: f}, nil
}

// Close closes the file. Calls after it fail.
func (r *Requests) Close() error {
	r.file.closed.Store(true)
	var err error
	for _, of := range []chan *sqliteConn{r.file.reader, r.file.writer} {
		if c := <-of; c != nil {
			err = errors.Join(err, c.close())
		}
		of <- nil
	}
	return err
}

// connect opens a connection, and makes the file and its tables if they are not there.
func (f *requestFile) connect() (_ *sqliteConn, err error) {
	if f.closed.Load() {
		return nil, errClosed
	}
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	// A commit need not be on disk, but the file must be whole after a loss of power.
	c, err := newConn(dsn(SQLiteConfig{Path: f.path, LockWait: time.Second},
		"journal_mode(WAL)",
		"synchronous(NORMAL)",
		"wal_autocheckpoint(4000)",
		"journal_size_limit(33554432)",
		fmt.Sprintf("cache_size(-%d)", requestCacheKiB),
	))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	var version int
	if err := c.queryRow(`PRAGMA user_version`).Scan(&version); err != nil || version == requestSchemaVersion {
		return c, err
	}
	var tables int
	if err := c.queryRow(`SELECT count(*) FROM sqlite_schema`).Scan(&tables); err != nil {
		return nil, err
	}
	if version != 0 || tables != 0 {
		return nil, &sqliteError{code: sqlite3.SQLITE_NOTADB, message: "the file has another form"}
	}
	return c, transact(c, func() error {
		for _, statement := range requestSchema {
			if _, err := c.exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// transact runs fn in a transaction.
func transact(c *sqliteConn, fn func() error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		_, err = c.exec("COMMIT")
	}
	if err != nil {
		// It fails where SQLite has undone the transaction already.
		_, _ = c.exec("ROLLBACK")
	}
	return err
}

// remove deletes the file, because of why.
func (f *requestFile) remove(why error) error {
	f.log.Warn("the request log is begun anew, because it is damaged", "error", why)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(f.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// with runs fn with the connection of a channel. A file that turns out to be damaged is
// begun anew.
func (f *requestFile) with(ctx context.Context, of chan *sqliteConn, fn func(*sqliteConn) error) error {
	var c *sqliteConn
	select {
	case c = <-of:
	case <-ctx.Done():
		return grahak.Unavailable("the request log is busy", retryQueue, ctx.Err())
	}
	began := f.begun.Load()
	var err error
	if c == nil {
		c, err = f.connect()
	}
	if err == nil {
		err = c.during(ctx, func() error { return fn(c) })
	}
	of <- c
	if damaged(err) {
		err = errors.Join(err, f.renew(began, err))
	}
	return storageError(err)
}

// renew closes the connections and deletes the file, because of why, unless that was
// done since it was begun for the given time.
func (f *requestFile) renew(began int64, why error) error {
	w, r := <-f.writer, <-f.reader
	defer func() {
		f.writer <- w
		f.reader <- r
	}()
	if f.begun.Load() != began {
		return nil
	}
	var err error
	for _, c := range []**sqliteConn{&w, &r} {
		if *c != nil {
			err = errors.Join(err, (*c).close())
			*c = nil
		}
	}
	f.begun.Add(1)
	return errors.Join(err, f.remove(why))
}

// readRequests implements [requestEngine].
func (f *requestFile) readRequests(ctx context.Context, fn func(conn) error) error {
	return f.with(ctx, f.reader, func(c *sqliteConn) error { return c.snapshot(func() error { return fn(c) }) })
}

// writeRequests implements [requestEngine].
func (f *requestFile) writeRequests(ctx context.Context, fn func(conn) error) error {
	return f.with(ctx, f.writer, func(c *sqliteConn) error { return transact(c, func() error { return fn(c) }) })
}

// putRequests implements [requestEngine].
func (f *requestFile) putRequests(ctx context.Context, statements []write) error {
	return f.writeRequests(ctx, func(c conn) error {
		for _, s := range statements {
			if _, err := c.exec(s.query, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}
