package sqlstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The write-ahead log is copied into the database after this many pages
// (64 MiB). Rarely is better: a page that many transactions touched is copied
// once.
const checkpointPages = 16_000

// checkpointInterval is how often the length of the log is looked at.
const checkpointInterval = 250 * time.Millisecond

// restartWait is how long the writer waits for reads to let go of the log, in
// milliseconds. Only a read of the whole database takes longer, and during that
// the writer would stand still for this part of each checkpointInterval.
const restartWait = 20

// checkpointer copies the write-ahead log into the database beside the writer,
// and has the writer copy the short rest between two batches, because the log
// starts again from its beginning only when nothing of it is left to copy and
// no read uses it.
type checkpointer struct {
	conn    *sqliteConn
	log     *slog.Logger
	tick    *time.Ticker
	pages   atomic.Int64 // checkpointPages, but for tests
	dirty   atomic.Bool  // something was committed since the last look
	rest    atomic.Bool  // the writer is to copy the rest and start again
	quit    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

func newCheckpointer(c *sqliteConn, log *slog.Logger) *checkpointer {
	p := &checkpointer{
		conn:    c,
		log:     log,
		tick:    time.NewTicker(checkpointInterval),
		quit:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	p.pages.Store(checkpointPages)
	return p
}

// written notes that a transaction was committed.
func (p *checkpointer) written() {
	if !p.dirty.Load() {
		p.dirty.Store(true)
	}
}

// run looks at the log until stop.
func (p *checkpointer) run() {
	defer close(p.stopped)
	defer p.tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-p.tick.C:
		}
		if !p.dirty.Swap(false) {
			continue
		}
		// NOOP copies nothing and tells the length of the log.
		pages, err := checkpoint(p.conn, "NOOP")
		if err == nil && int64(pages) >= p.pages.Load() {
			if err = p.copy(); err == nil {
				p.rest.Store(true)
			}
		}
		if err != nil {
			p.log.Error("cannot copy the write-ahead log into the database; it will be tried again", "error", err)
			p.dirty.Store(true)
		}
	}
}

// copy copies the log into the database, which it leaves on the disk but for what was
// written to the log meanwhile: a checkpoint that others keep from the end does not sync
// the database, and the writer would have to wait for all of it.
func (p *checkpointer) copy() error {
	if _, err := checkpoint(p.conn, "PASSIVE"); err != nil {
		return err
	}
	if err := p.conn.syncDatabase(); err != nil {
		return err
	}
	_, err := checkpoint(p.conn, "PASSIVE")
	return err
}

// finish copies the rest of the log, if run asked for it, and waits a moment
// for the reads that still use the log: reads that begin from then on need it no
// more, and the next write starts it again. The writer calls it between two
// batches. If a read holds on to the log, run soon asks again.
func (p *checkpointer) finish(writer *sqliteConn) {
	if !p.rest.Load() || !p.rest.Swap(false) {
		return
	}
	if err := restart(writer); err != nil {
		p.log.Error("cannot copy the rest of the write-ahead log; it will be tried again", "error", err)
	}
}

// restart is a checkpoint that waits for reads for no longer than restartWait.
func restart(writer *sqliteConn) error {
	var wait int
	if err := writer.queryRow("PRAGMA busy_timeout").Scan(&wait); err != nil {
		return err
	}
	if _, err := writer.exec(fmt.Sprintf("PRAGMA busy_timeout = %d", restartWait)); err != nil {
		return err
	}
	_, err := checkpoint(writer, "RESTART")
	_, restoreErr := writer.exec(fmt.Sprintf("PRAGMA busy_timeout = %d", wait))
	return errors.Join(err, restoreErr)
}

// stop ends run. It may be called more than once.
func (p *checkpointer) stop() {
	p.once.Do(func() { close(p.quit) })
	<-p.stopped
}

// checkpoint runs a checkpoint and returns the length of the log in pages. Being
// kept from copying all of it by others who use it is no error.
func checkpoint(c *sqliteConn, mode string) (pages int, err error) {
	var busy, copied int
	err = c.queryRow("PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied)
	return pages, err
}

// paceBytes is how much of the database a checkpoint writes before it waits for that to
// be on the disk.
const paceBytes = 1 << 20

// pacer has what a checkpoint writes on the disk as it goes. At its end all of it would
// stand in the disk's queue at once, and the commits of meanwhile would wait behind it.
type pacer struct {
	*ownMethods
	written int
}

// paceDatabase has what c writes to the database, which is in checkpoints only, paced
// from now on.
func (c *sqliteConn) paceDatabase() error {
	p := new(pacer)
	var err error
	if p.ownMethods, _, err = c.ownMethods(sqlite3.SQLITE_FCNTL_FILE_POINTER, 0); err == nil {
		p.table().FxWrite = known[transferMethod](p.ownMethods, p.write)
	}
	return err
}

func (p *pacer) write(tls *libc.TLS, file, from uintptr, n int32, offset sqlite3.Tsqlite3_int64) int32 {
	rc := method[transferMethod](p.methods.FxWrite)(tls, file, from, n, offset)
	if p.written += int(n); rc != sqlite3.SQLITE_OK || p.written < paceBytes {
		return rc
	}
	p.written = 0
	return method[syncMethod](p.methods.FxSync)(tls, file, sqlite3.SQLITE_SYNC_NORMAL)
}
