package sqlstore

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

const (
	// queueSize is how many writes may wait. At some ten thousand a second
	// that is a tenth of a second; a longer queue would only make callers wait
	// for an answer that they have given up on.
	queueSize = 1024
	// maxBatch bounds how many writes share a commit.
	maxBatch = 256
	// writeWait is how long a caller waits for its write to be committed, unless
	// the lock may take longer: who gives up before the writer does would take a
	// change that happens for one that failed.
	writeWait = 10 * time.Second
)

// writer runs writes in one goroutine: those that wait run back to back in one
// transaction, which is committed once; only then is each answered.
//
// A write's job returns nil, or an *[grahak.Error] if it decided to write
// nothing; then it must have written nothing. Any other error is a failed
// statement, which undoes the transaction. It may run again after that, so it
// must not keep state between runs.
type writer struct {
	*queue[func(*sqliteConn) error]
	conn        *sqliteConn
	checkpoints *checkpointer
	observer    Observer
	clock       grahak.Clock
	log         *slog.Logger
	lockTries   int // how often the lock is asked for before a batch fails
}

func newWriter(c *sqliteConn, checkpoints *checkpointer, cfg SQLiteConfig) *writer {
	return &writer{
		queue:       newQueue[func(*sqliteConn) error]("writes", queueSize, max(writeWait, cfg.LockWait+writeWait/2)),
		conn:        c,
		checkpoints: checkpoints,
		observer:    cfg.Observer,
		clock:       cfg.Clock,
		log:         cfg.Logger,
		lockTries:   1,
	}
}

func (w *writer) run() {
	w.work(make([]*sqliteJob, 0, maxBatch), func(jobs []*sqliteJob) {
		// A checkpoint that is due comes first: the callers of this batch wait for
		// it, and those of the last one do not.
		w.checkpoints.finish(w.conn)
		w.commit(jobs)
	})
}

// commit runs jobs in one transaction and sets the error of each. If a
// statement fails, the transaction is undone; then, unless the storage itself
// has failed, each job runs in a transaction of its own, so that one bad job
// costs the others nothing but time.
func (w *writer) commit(jobs []*sqliteJob) {
	failed, err := w.transact(jobs)
	if err == nil {
		return
	}
	down := grahak.CodeOf(storageError(err)) == grahak.CodeUnavailable
	if !down {
		// Of an outage every caller is told; it needs no line a batch besides.
		w.log.Error("a write failed and was undone", "writes", len(jobs), "error", err)
	}
	if failed == nil || len(jobs) == 1 || down {
		for _, j := range jobs {
			j.err = err
		}
		return
	}
	for _, j := range jobs {
		if _, err := w.transact([]*sqliteJob{j}); err != nil {
			j.err = err
		}
	}
}

// transact runs jobs in one transaction. If it returns an error, nothing of the
// transaction is left; failed is the job whose statement failed, or nil if the
// transaction itself did.
func (w *writer) transact(jobs []*sqliteJob) (failed *sqliteJob, err error) {
	if err := w.begin(); err != nil {
		// Should an earlier transaction still be open, the next one begins
		// clean.
		w.rollback()
		return nil, asUnavailable(err)
	}
	w.conn.batch.reset()
	for _, j := range jobs {
		j.err = runJob(j, w.conn)
		var decided *grahak.Error
		if j.err != nil && !errors.As(j.err, &decided) {
			w.rollback()
			return j, j.err
		}
	}
	start := w.clock.Now()
	err = w.conn.batch.flush(w.conn)
	if err == nil {
		err = w.conn.commit()
	}
	if err != nil {
		w.rollback()
		return nil, asUnavailable(err)
	}
	if w.observer != nil {
		w.observer.Committed(len(jobs), w.clock.Now().Sub(start))
	}
	w.checkpoints.written()
	return nil, nil
}

// eagerWait is how long SQLite waits for the lock before it is asked anew, in a
// store beside a server. Within it SQLite tries six times.
const eagerWait = 25 * time.Millisecond

// askOften makes the writer wait for the lock as long as wait, in many short
// waits instead of a long one.
func (w *writer) askOften(wait time.Duration) error {
	w.lockTries = max(1, int(wait/eagerWait))
	_, err := w.conn.exec(fmt.Sprintf("PRAGMA busy_timeout = %d", eagerWait.Milliseconds()))
	return err
}

// begin begins a transaction that holds the lock for writing.
func (w *writer) begin() (err error) {
	for range w.lockTries {
		if _, err = w.conn.exec("BEGIN IMMEDIATE"); err == nil {
			return nil
		}
		if code, _ := primary(err); code != sqlite3.SQLITE_BUSY {
			return err
		}
	}
	return err
}

// rollback ends the transaction, if an error has not ended it already: SQLite
// undoes the whole transaction by itself after some errors, and the statement
// after that would be committed on its own. So no statement follows an error
// but this one, whose own error then only says that nothing was left to undo.
func (w *writer) rollback() {
	w.conn.pending.forget()
	_, _ = w.conn.exec("ROLLBACK")
}

// asUnavailable makes a failed BEGIN or COMMIT an outage whatever its code:
// the writes in it are not on disk, and may be tried again.
func asUnavailable(err error) error {
	if e := storageError(err); grahak.CodeOf(e) == grahak.CodeUnavailable {
		return e
	}
	return grahak.Unavailable("the storage failed", retryStorage, err)
}

// sqliteJob is work on a connection of SQLite.
type sqliteJob = job[func(*sqliteConn) error]

// runJob runs j.
func runJob(j *sqliteJob, c *sqliteConn) (err error) {
	defer recovered(&err)
	return j.work(c)
}

// recovered, deferred, turns a panic into an error, so that a fault in one job does not
// stop all others.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in the storage: %v\n%s", p, debug.Stack())
	}
}
