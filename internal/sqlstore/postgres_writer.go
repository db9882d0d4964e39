package sqlstore

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"grahak"
)

const (
	// maxWaiting bounds how many writes wait, of which queueSize may be one
	// merchant's: a merchant that floods its lane does not shut out others.
	maxWaiting = 4 * queueSize
	// maxSharedCommit bounds how many writes of a merchant share a commit.
	maxSharedCommit = 128
	// maxLanes bounds how many commits of a merchant are under way at once. More
	// would only make each smaller.
	maxLanes = 2
	// writeAnswer is how long a caller waits for its write.
	writeAnswer = operationLimit + time.Second
)

// write is a change in one statement. It is the only one of its kind that
// waits for no other but those of its own merchant.
type write struct {
	query string
	args  []any
	// first runs before it, in a statement of its own; may be nil.
	first *write
	// version is that of the key that the write is sealed under, if it is.
	sealed  bool
	version int64
	// turn is where the write stands among those that share its transaction: all
	// take their locks in this order, so that none waits for one that waits for it.
	turn string
	// place is where it stands among the statements of its transaction.
	place int
	// rows is how many rows were written; it is set before the job is done.
	rows int64
}

// writeJob is a write that waits for its turn.
type writeJob = job[*write]

// lanes runs writes of one statement. Those of one merchant that wait share a
// transaction, a round trip and a commit; it never waits for more to come. Those
// of different merchants never share anything but the connections.
type lanes struct {
	store    *Postgres
	observer Observer
	clock    grahak.Clock
	log      *slog.Logger

	mu      sync.Mutex
	lanes   map[grahak.MerchantID]*lane
	waiting int
	closed  bool
	workers sync.WaitGroup
	stopped chan struct{}
	spare   spareJobs[*write]
}

// lane is the writes of one merchant.
type lane struct {
	merchant grahak.MerchantID
	jobs     []*writeJob
	active   int
}

func newLanes(s *Postgres, cfg PostgresConfig) *lanes {
	return &lanes{
		store:    s,
		observer: cfg.Observer,
		clock:    cfg.Clock,
		log:      cfg.Logger,
		lanes:    make(map[grahak.MerchantID]*lane),
		stopped:  make(chan struct{}),
	}
}

// do runs a statement and returns when it is on disk. What it has written is told
// by its rows.
func (w *lanes) do(ctx context.Context, m grahak.MerchantID, s *write) error {
	j := w.spare.job(s, writeAnswer)
	if err := w.add(m, j); err != nil {
		w.spare.put(j)
		return err
	}
	return w.spare.await(ctx, j, w.stopped)
}

// add queues a job and begins to run those that wait, unless enough of the
// merchant run already.
func (w *lanes) add(m grahak.MerchantID, j *writeJob) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return grahak.Unavailable("the storage is closing", retryQueue, nil)
	case w.waiting >= maxWaiting:
		return grahak.Unavailable("too many writes are waiting", retryQueue, nil)
	}
	l := w.lanes[m]
	if l != nil && len(l.jobs) >= queueSize {
		return grahak.Unavailable("too many writes of the merchant are waiting", retryQueue, nil)
	}
	if l == nil {
		l = &lane{merchant: m}
		w.lanes[m] = l
	}
	l.jobs = append(l.jobs, j)
	w.waiting++
	if l.active < maxLanes {
		l.active++
		w.workers.Add(1)
		go w.work(l)
	}
	return nil
}

// work runs the jobs of a lane until none waits.
func (w *lanes) work(l *lane) {
	defer w.workers.Done()
	for {
		// Whoever is ready to run may be about to queue a job: they run first.
		runtime.Gosched()
		jobs := w.take(l)
		if jobs == nil {
			return
		}
		started := jobs[:0]
		for _, j := range jobs {
			if j.state.CompareAndSwap(jobWaiting, jobStarted) {
				started = append(started, j)
			}
		}
		if len(started) > 0 {
			w.commit(l.merchant, started)
		}
		for _, j := range started {
			j.done <- struct{}{}
		}
	}
}

// take returns the next jobs of a lane that can share a transaction. It returns
// nil, and ends the caller's work, if none waits.
func (w *lanes) take(l *lane) []*writeJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(l.jobs) == 0 {
		l.active--
		if l.active == 0 {
			delete(w.lanes, l.merchant)
		}
		return nil
	}
	var sealed *write
	n := 0
	for _, j := range l.jobs {
		if n == maxSharedCommit || j.work.sealed && sealed != nil && j.work.version != sealed.version {
			break
		}
		if j.work.sealed {
			sealed = j.work
		}
		n++
	}
	jobs := slices.Clone(l.jobs[:n])
	l.jobs = slices.Delete(l.jobs, 0, n)
	w.waiting -= n
	return jobs
}

// stop refuses new jobs and returns when those that wait are done.
func (w *lanes) stop() {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	w.mu.Unlock()
	w.workers.Wait()
	if !again {
		close(w.stopped)
	}
}

// beside runs fn beside the writes, unless the store is closing. stop waits for it.
func (w *lanes) beside(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.workers.Go(fn)
	}
}

func (w *lanes) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// commit runs jobs in one transaction and sets the error of each. If a statement
// fails, nothing is written; then, unless the database itself has failed, each
// runs in a transaction of its own.
func (w *lanes) commit(m grahak.MerchantID, jobs []*writeJob) {
	slices.SortStableFunc(jobs, func(a, b *writeJob) int { return strings.Compare(a.work.turn, b.work.turn) })
	err := w.transact(m, jobs)
	if err == nil {
		return
	}
	down := grahak.CodeOf(err) == grahak.CodeUnavailable
	if len(jobs) == 1 || down {
		switch state := sqlState(err); {
		case state == stateDivisionByZero:
			err = w.store.keyChanged(m)
		case state == stateNull:
			err = errIdempotencyKeyUsed
		case !down:
			w.log.Error("a write failed and was undone", "error", err)
		}
		for _, j := range jobs {
			j.err = err
		}
		return
	}
	for _, j := range jobs {
		w.commit(m, []*writeJob{j})
	}
}

// fence fails, by dividing by zero, unless the merchant has keys of the given
// version; and they keep that version until the transaction ends.
const fence = `SELECT 1 / count(*) FROM (SELECT 1 FROM keysets WHERE merchant_id = $1 AND version = $2 FOR KEY SHARE) AS newest`

// transact runs jobs in one transaction, in one round trip. If it returns an
// error, nothing of them was written, unless that is an outage.
func (w *lanes) transact(m grahak.MerchantID, jobs []*writeJob) error {
	var sealed *write
	for _, j := range jobs {
		if j.work.sealed {
			sealed = j.work
		}
	}
	return w.store.run(context.Background(), operation{slots: w.store.writing, limit: operationLimit}, func(c *postgresConn) error {
		batch := make([]write, 0, 2*len(jobs)+1)
		if sealed != nil {
			batch = append(batch, write{query: fence, args: []any{string(m), sealed.version}})
		}
		for _, j := range jobs {
			if j.work.first != nil {
				batch = append(batch, *j.work.first)
			}
			batch = append(batch, write{query: j.work.query, args: j.work.args})
			j.work.place = len(batch) - 1
		}
		start := w.clock.Now()
		if err := c.runTogether(batch); err != nil {
			return err
		}
		if w.observer != nil {
			w.observer.Committed(len(jobs), w.clock.Now().Sub(start))
		}
		for _, j := range jobs {
			j.work.rows = batch[j.work.place].rows
		}
		return nil
	})
}

// runTogether runs statements in one transaction, in one round trip, and sets the
// rows of each.
func (c *postgresConn) runTogether(batch []write) error {
	described := make([]*pgconn.StatementDescription, len(batch))
	values := make([][][]byte, len(batch))
	for i, s := range batch {
		var err error
		if described[i], err = c.prepare(s.query); err != nil {
			return err
		}
		if values[i], err = encodeArgs(described[i], s.args); err != nil {
			return err
		}
	}
	p := c.raw.StartPipeline(c.ctx)
	for i := range batch {
		p.SendQueryPrepared(described[i].Name, values[i], binaryFormat, binaryFormat)
	}
	err := p.Sync()
	for i := 0; err == nil; i++ {
		var result any
		if result, err = p.GetResults(); err != nil {
			break
		}
		switch result := result.(type) {
		case *pgconn.ResultReader:
			var tag pgconn.CommandTag
			if tag, err = result.Close(); err == nil {
				batch[i].rows = tag.RowsAffected()
			}
		case *pgconn.PipelineSync:
			return p.Close()
		default:
			err = fmt.Errorf("the database answered with %T in a pipeline", result)
		}
	}
	// What closing says of a connection that is gone is that it may be tried again,
	// and that holds for closing only.
	_ = p.Close()
	return err
}

// keyChanged returns what is wrong with a write that the fence refused.
func (s *Postgres) keyChanged(m grahak.MerchantID) error {
	if _, err := s.SealState(context.Background(), m); err != nil {
		return err
	}
	return errKeyRotated
}
