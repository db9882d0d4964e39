package sqlstore

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"grahak"
)

// retryQueue is when to try again after a queue was full.
const retryQueue = time.Second

// The states of a job.
const (
	jobWaiting int32 = iota
	jobStarted
	jobAbandoned
)

// job is work that waits for another goroutine to do it. Its caller may be gone
// when that happens, so what it sets may be read only after done.
type job[W any] struct {
	work    W
	err     error
	state   atomic.Int32
	done    chan struct{} // has room for the one answer
	timeout *time.Timer
}

// queue is jobs that wait for the goroutines that run them in batches.
type queue[W any] struct {
	what    string        // the jobs, in messages
	wait    time.Duration // how long a caller waits for its job
	jobs    chan *job[W]
	workers sync.WaitGroup
	quit    chan struct{}
	stopped chan struct{}
	once    sync.Once
	spare   spareJobs[W]
	late    chan struct{} // asks for help; see [queue.help]
}

// lateAfter is how long a batch may take before it asks for help.
const lateAfter = 2 * time.Millisecond

func newQueue[W any](what string, size int, wait time.Duration) *queue[W] {
	return &queue[W]{what: what, wait: wait, jobs: make(chan *job[W], size), quit: make(chan struct{}), stopped: make(chan struct{}), late: make(chan struct{}, 1)}
}

// do has work done and returns its error. A full queue is refused at once. A
// context that ends takes the job out of the queue if it has not begun; one that
// has begun runs to its end, and do then still waits for it. After
// [grahak.CodeUnavailable], it may yet be done.
func (q *queue[W]) do(ctx context.Context, work W) error {
	select {
	case <-q.quit:
		return grahak.Unavailable("the storage is closing", retryQueue, nil)
	default:
	}
	j := q.spare.job(work, q.wait)
	select {
	case q.jobs <- j:
	default:
		q.spare.put(j)
		return grahak.Unavailable("too many "+q.what+" are waiting", retryQueue, nil)
	}
	return q.spare.await(ctx, j, q.stopped)
}

// spareJobs has jobs that are done, for others to come: a job costs three allocations.
type spareJobs[W any] struct{ pool sync.Pool }

// job returns a job that is waited for as long as wait.
func (s *spareJobs[W]) job(work W, wait time.Duration) *job[W] {
	j, _ := s.pool.Get().(*job[W])
	if j == nil {
		j = &job[W]{done: make(chan struct{}, 1), timeout: time.NewTimer(wait)}
	} else {
		j.timeout.Reset(wait)
	}
	j.work = work
	return j
}

// put takes a job back that no other goroutine has.
func (s *spareJobs[W]) put(j *job[W]) {
	j.timeout.Stop()
	var none W
	j.work, j.err = none, nil
	j.state.Store(jobWaiting)
	s.pool.Put(j)
}

// await returns the error of a job that waits, as [queue.do] does.
func (s *spareJobs[W]) await(ctx context.Context, j *job[W], stopped <-chan struct{}) error {
	answered, err := j.await(ctx, stopped)
	if answered {
		s.put(j)
	}
	return storageError(err)
}

// await returns the error of the job when it is done. It gives up when the time is
// over, and when stopped is closed: then the job is not answered, and may yet run.
func (j *job[W]) await(ctx context.Context, stopped <-chan struct{}) (answered bool, err error) {
	cancelled := ctx.Done()
	for {
		select {
		case <-j.done:
			return true, j.err
		case <-cancelled:
			if j.state.CompareAndSwap(jobWaiting, jobAbandoned) {
				return false, grahak.Unavailable("the caller went away before the storage began", retryQueue, ctx.Err())
			}
			cancelled = nil
		case <-j.timeout.C:
			j.state.CompareAndSwap(jobWaiting, jobAbandoned)
			return false, grahak.Unavailable("the storage did not answer in time", retryStorage, nil)
		case <-stopped:
			// What was taken was answered; what was not did not happen.
			select {
			case <-j.done:
				return true, j.err
			default:
				return false, grahak.Unavailable("the storage is closed", retryQueue, nil)
			}
		}
	}
}

// work calls process with the jobs that wait, up to as many as batch holds,
// until stop. It never waits for more to come. process sets the error of each
// job; then each is answered.
func (q *queue[W]) work(batch []*job[W], process func([]*job[W])) {
	defer q.workers.Done()
	for {
		var first *job[W]
		select {
		case first = <-q.jobs:
		case <-q.quit:
			select {
			case first = <-q.jobs:
			default:
				return
			}
		}
		q.answer(first, batch, process)
	}
}

// help does what work does, but only when a batch of another goroutine, see asking, takes
// longer than lateAfter or is more than half of the most that there may be, and then until
// no job waits.
func (q *queue[W]) help(batch []*job[W], process func([]*job[W])) {
	defer q.workers.Done()
	for {
		select {
		case <-q.late:
		case <-q.quit:
			return
		}
		for more := true; more; {
			select {
			case first := <-q.jobs:
				q.answer(first, batch, process)
			default:
				more = false
			}
		}
	}
}

// asking returns process for one goroutine, such that it asks for help where help says so.
func (q *queue[W]) asking(process func([]*job[W])) func([]*job[W]) {
	ask := func() {
		select {
		case q.late <- struct{}{}:
		default:
		}
	}
	timer := time.AfterFunc(lateAfter, ask)
	timer.Stop()
	return func(jobs []*job[W]) {
		if 2*len(jobs) > cap(jobs) {
			ask()
		}
		timer.Reset(lateAfter)
		process(jobs)
		timer.Stop()
	}
}

// answer calls process with first and the jobs that wait, as work does, and answers each.
// It uses the memory of batch.
func (q *queue[W]) answer(first *job[W], batch []*job[W], process func([]*job[W])) {
	// Whoever is ready to run may be about to queue a job: they run first.
	// That makes batches larger and waits for nobody.
	runtime.Gosched()
	batch = append(batch[:0], first)
fill:
	for len(batch) < cap(batch) {
		select {
		case j := <-q.jobs:
			batch = append(batch, j)
		default:
			break fill
		}
	}
	started := batch[:0]
	for _, j := range batch {
		if j.state.CompareAndSwap(jobWaiting, jobStarted) {
			started = append(started, j)
		}
	}
	if len(started) > 0 {
		process(started)
	}
	for _, j := range started {
		j.done <- struct{}{}
	}
	clear(batch)
}

// stop refuses new jobs, finishes those that wait and returns when the workers
// have ended. It may be called more than once.
func (q *queue[W]) stop() {
	q.once.Do(func() {
		close(q.quit)
		q.workers.Wait()
		close(q.stopped)
	})
}
