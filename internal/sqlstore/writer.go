package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
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
	// retryQueue is when to try again after the queue was full.
	retryQueue = time.Second
)

// The states of a job.
const (
	jobWaiting int32 = iota
	jobStarted
	jobAbandoned
)

// job is one write: a function that runs inside the writer's transaction.
//
// It returns nil, or an *[grahak.Error] if it decided to write nothing; then it
// must have written nothing. Any other error is a failed statement, which
// undoes the transaction. It may run again after that, so it must not keep
// state between runs.
type job struct {
	run   func(*conn) error
	err   error
	state atomic.Int32
	done  chan struct{}
}

// writer runs jobs in one goroutine: those that wait run back to back in one
// transaction, which is committed once; only then is each answered. It never
// waits for more to come.
type writer struct {
	conn        *conn
	checkpoints *checkpointer
	observer    Observer
	clock       grahak.Clock
	log         *slog.Logger
	lockTries   int           // how often the lock is asked for before a batch fails
	wait        time.Duration // how long a caller waits for its write
	jobs        chan *job
	quit        chan struct{}
	stopped     chan struct{}
	stopOnce    sync.Once
}

func newWriter(c *conn, checkpoints *checkpointer, cfg Config) *writer {
	return &writer{
		conn:        c,
		checkpoints: checkpoints,
		observer:    cfg.Observer,
		clock:       cfg.Clock,
		log:         cfg.Logger,
		lockTries:   1,
		wait:        max(writeWait, cfg.LockWait+writeWait/2),
		jobs:        make(chan *job, queueSize),
		quit:        make(chan struct{}),
		stopped:     make(chan struct{}),
	}
}

// do runs fn in the writer's transaction and returns when that is on disk, or
// with fn's *[grahak.Error]. A full queue is refused at once. A context that
// ends takes the job out of the queue if it has not begun; one that has begun
// runs to its end, and do then still waits for it.
func (w *writer) do(ctx context.Context, fn func(*conn) error) error {
	j := &job{run: fn, done: make(chan struct{})}
	select {
	case <-w.quit:
		return grahak.Unavailable("the storage is closing", retryQueue, nil)
	default:
	}
	select {
	case w.jobs <- j:
	default:
		return grahak.Unavailable("too many writes are waiting", retryQueue, nil)
	}
	timeout := time.NewTimer(w.wait)
	defer timeout.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-j.done:
			return storageError(j.err)
		case <-cancelled:
			if j.state.CompareAndSwap(jobWaiting, jobAbandoned) {
				return grahak.Unavailable("the caller went away before the write began", retryQueue, ctx.Err())
			}
			cancelled = nil
		case <-timeout.C:
			j.state.CompareAndSwap(jobWaiting, jobAbandoned)
			return grahak.Unavailable("the storage did not answer in time", retryStorage, nil)
		case <-w.stopped:
			// The writer answered all it took; what it did not take did not
			// happen.
			select {
			case <-j.done:
				return storageError(j.err)
			default:
				return grahak.Unavailable("the storage is closed", retryQueue, nil)
			}
		}
	}
}

// stop refuses new jobs, finishes those that wait and returns when the writer
// has ended. It may be called more than once.
func (w *writer) stop() {
	w.stopOnce.Do(func() { close(w.quit) })
	<-w.stopped
}

func (w *writer) run() {
	defer close(w.stopped)
	batch := make([]*job, 0, maxBatch)
	for {
		var first *job
		select {
		case first = <-w.jobs:
		case <-w.quit:
			select {
			case first = <-w.jobs:
			default:
				return
			}
		}
		// Whoever is ready to run may be about to queue a write: they run first.
		// That makes batches larger and waits for nobody.
		runtime.Gosched()
		batch = append(batch[:0], first)
	fill:
		for len(batch) < maxBatch {
			select {
			case j := <-w.jobs:
				batch = append(batch, j)
			default:
				break fill
			}
		}
		w.process(batch)
		clear(batch)
		w.checkpoints.finish(w.conn)
	}
}

// process runs the jobs that were not abandoned and answers them.
func (w *writer) process(batch []*job) {
	started := batch[:0]
	for _, j := range batch {
		if j.state.CompareAndSwap(jobWaiting, jobStarted) {
			started = append(started, j)
		}
	}
	if len(started) == 0 {
		return
	}
	w.commit(started)
	for _, j := range started {
		close(j.done)
	}
}

// commit runs jobs in one transaction and sets the error of each. If a
// statement fails, the transaction is undone; then, unless the storage itself
// has failed, each job runs in a transaction of its own, so that one bad job
// costs the others nothing but time.
func (w *writer) commit(jobs []*job) {
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
		if _, err := w.transact([]*job{j}); err != nil {
			j.err = err
		}
	}
}

// transact runs jobs in one transaction. If it returns an error, nothing of the
// transaction is left; failed is the job whose statement failed, or nil if the
// transaction itself did.
func (w *writer) transact(jobs []*job) (failed *job, err error) {
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
		_, err = w.conn.exec("COMMIT")
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
func (w *writer) rollback() { _, _ = w.conn.exec("ROLLBACK") }

// runJob runs j and turns a panic into an error, so that a fault in one job
// does not stop all writes.
func runJob(j *job, c *conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a write: %v\n%s", p, debug.Stack())
		}
	}()
	return j.run(c)
}

// asUnavailable makes a failed BEGIN or COMMIT an outage whatever its code:
// the writes in it are not on disk, and may be tried again.
func asUnavailable(err error) error {
	if e := storageError(err); grahak.CodeOf(e) == grahak.CodeUnavailable {
		return e
	}
	return grahak.Unavailable("the storage failed", retryStorage, err)
}

// write runs fn in the writer's transaction; see [writer.do].
func (s *Store) write(ctx context.Context, fn func(*conn) error) error {
	return s.writer.do(ctx, fn)
}
