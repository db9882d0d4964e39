package sqlstore

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// The write-ahead log is copied into the database after this many pages
// (64 MiB). Rarely is better: a page that many transactions touched is copied
// once.
const checkpointPages = 16_000

// checkpointInterval is how often the length of the log is looked at.
const checkpointInterval = 250 * time.Millisecond

// checkpointer copies the write-ahead log into the database beside the writer,
// and has the writer copy the short rest between two batches, because the log
// starts again from its beginning only when nothing of it is left to copy.
type checkpointer struct {
	conn    *conn
	log     *slog.Logger
	dirty   atomic.Bool // something was committed since the last look
	rest    atomic.Bool // the writer is to copy the rest
	quit    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

func newCheckpointer(c *conn, log *slog.Logger) *checkpointer {
	return &checkpointer{conn: c, log: log, quit: make(chan struct{}), stopped: make(chan struct{})}
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
	tick := time.NewTicker(checkpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
		}
		if !p.dirty.Swap(false) {
			continue
		}
		// NOOP copies nothing and tells the length of the log.
		pages, err := checkpoint(p.conn, "NOOP")
		if err == nil && pages >= checkpointPages {
			if _, err = checkpoint(p.conn, "PASSIVE"); err == nil {
				p.rest.Store(true)
			}
		}
		if err != nil {
			p.log.Error("cannot copy the write-ahead log into the database; it will be tried again", "error", err)
			p.dirty.Store(true)
		}
	}
}

// finish copies the rest of the log, if run asked for it. The writer calls it
// between two batches.
func (p *checkpointer) finish(writer *conn) {
	if p.rest.Load() && p.rest.Swap(false) {
		if _, err := checkpoint(writer, "PASSIVE"); err != nil {
			p.log.Error("cannot copy the rest of the write-ahead log; it will be tried again", "error", err)
		}
	}
}

// stop ends run. It may be called more than once.
func (p *checkpointer) stop() {
	p.once.Do(func() { close(p.quit) })
	<-p.stopped
}

// checkpoint runs a checkpoint and returns how many pages of the log are not
// yet copied.
func checkpoint(c *conn, mode string) (int, error) {
	var busy, pages, copied int
	err := c.queryRow("PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied)
	return pages - copied, err
}
