package grahak

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// How long and how much of the request log is kept.
const (
	DefaultRequestsKeep = 30 * 24 * time.Hour
	DefaultRequestsSize = 1 << 30 // bytes
)

const (
	requestFlushInterval = time.Second
	requestFlushTimeout  = 5 * time.Second
	requestPruneInterval = time.Minute
	requestPruneBatch    = 200
	// requestPending bounds what waits to be written, in bytes: what comes beyond is
	// dropped.
	requestPending = 8 << 20
	// requestBlockRows is when a block is full.
	requestBlockRows = 2_000
	// Of blocks with fewer than requestSmall rows, requestMerged are made one.
	requestSmall  = 500
	requestMerged = 64
	// maxQuarters is how many quarters of an hour of a merchant wait to be written
	// while that fails.
	maxQuarters = 8
)

// requestLog collects requests and writes them in batches. Safe for concurrent use.
type requestLog struct {
	store  RequestStore // nil for no log
	clock  Clock
	random io.Reader
	log    *slog.Logger
	node   string
	keep   time.Duration
	size   int64

	dropped atomic.Int64
	full    chan struct{} // is sent to when a block is full

	mu      sync.Mutex
	pending map[MerchantID]*pendingRequests
	bytes   int // of all blocks that are pending

	// flushing has a value while what was taken from pending is written, or blocks are
	// merged; small, which whoever put it there may use, is the blocks of each merchant
	// that are to be.
	flushing chan struct{}
	small    map[MerchantID][]RequestBlockID
}

// pendingRequests is what is not written of a merchant's requests.
type pendingRequests struct {
	full     []*blockWriter
	block    *blockWriter
	quarters []*quarter // the current one is the last
}

func newRequestLog(s *Service, cfg Config) *requestLog {
	return &requestLog{
		store:    cfg.Requests,
		clock:    s.clock,
		random:   s.random,
		log:      s.log,
		node:     string(s.nodes.self),
		keep:     cmp.Or(cfg.RequestsKeep, DefaultRequestsKeep),
		size:     cmp.Or(cfg.RequestsSize, DefaultRequestsSize),
		full:     make(chan struct{}, 1),
		pending:  make(map[MerchantID]*pendingRequests),
		flushing: make(chan struct{}, 1),
		small:    make(map[MerchantID][]RequestBlockID),
	}
}

// note adds a request to what is pending.
func (l *requestLog) note(r RequestRecord) {
	if r.Merchant == "" {
		r.Merchant = UnknownMerchant
	}
	r.Addr = r.Addr.Unmap().WithZone("")
	quarterAt := r.At.Truncate(statsStep)
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending[r.Merchant]
	if p == nil {
		p = &pendingRequests{block: new(blockWriter)}
		l.pending[r.Merchant] = p
	}
	if n := len(p.quarters); n == 0 || p.quarters[n-1].at.Before(quarterAt) {
		p.quarters = append(p.quarters, newQuarter(quarterAt))
		if n >= maxQuarters {
			p.quarters = p.quarters[1:]
		}
	}
	p.quarters[len(p.quarters)-1].add(r)
	if l.bytes >= requestPending {
		l.dropped.Add(1)
		return
	}
	before := len(p.block.rows)
	p.block.add(r)
	l.bytes += len(p.block.rows) - before
	if p.block.count >= requestBlockRows {
		p.full = append(p.full, p.block)
		p.block = new(blockWriter)
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// take returns what is pending, which then is so no more, and forgets merchants that
// have made no request for a quarter of an hour. failed has the statistics that it
// returned be written again.
func (l *requestLog) take() (blocks []RequestBlock, stats []RequestStats, failed func(), err error) {
	current := l.clock.Now().Truncate(statsStep)
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []*quarter
	for m, p := range l.pending {
		writers := p.full
		if p.block.count > 0 {
			writers = append(writers, p.block)
			p.block = new(blockWriter)
		}
		p.full = nil
		for _, w := range writers {
			var random [8]byte
			if _, err := io.ReadFull(l.random, random[:]); err != nil {
				return nil, nil, nil, err
			}
			blocks = append(blocks, w.block(m, random))
		}
		dirty := p.quarters[:0]
		for i, q := range p.quarters {
			if q.dirty {
				q.dirty = false
				taken = append(taken, q)
				stats = append(stats, RequestStats{Merchant: m, At: q.at, Node: l.node, Data: q.encode()})
			} else if i < len(p.quarters)-1 {
				continue // a quarter that is over and written
			}
			dirty = append(dirty, q)
		}
		clear(p.quarters[len(dirty):])
		p.quarters = dirty
		if last := p.quarters[len(p.quarters)-1]; len(writers) == 0 && !last.dirty && len(p.quarters) == 1 && last.at.Before(current) {
			delete(l.pending, m)
		}
	}
	l.bytes = 0
	failed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, q := range taken {
			q.dirty = true
		}
	}
	return blocks, stats, failed, nil
}

// flush writes what is pending, and returns when it is there to be read, or after twice
// requestFlushTimeout. What cannot be written is dropped and counted.
func (l *requestLog) flush(ctx context.Context) error {
	if l.store == nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, requestFlushTimeout)
	defer cancel()
	select {
	case l.flushing <- struct{}{}:
		defer func() { <-l.flushing }()
	case <-waiting.Done():
		return waiting.Err()
	}
	blocks, stats, failed, err := l.take()
	if err != nil || len(blocks)+len(stats) == 0 {
		return err
	}
	// Whoever waits for it may go away; the others' requests are not dropped for that.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestFlushTimeout)
	defer cancel()
	if err := l.store.PutRequests(writing, blocks, stats); err != nil {
		failed()
		for _, b := range blocks {
			l.dropped.Add(b.Count)
		}
		return err
	}
	for _, b := range blocks {
		if b.Count < requestSmall {
			l.small[b.Merchant] = append(l.small[b.Merchant], b.ID)
		}
	}
	return nil
}

// mergeSmall merges the small blocks of each merchant that has enough of them. It is
// left to be done later where somebody flushes.
func (l *requestLog) mergeSmall(ctx context.Context) error {
	select {
	case l.flushing <- struct{}{}:
		defer func() { <-l.flushing }()
	default:
		return nil
	}
	for m, ids := range l.small {
		if len(ids) < requestMerged {
			continue
		}
		delete(l.small, m)
		if err := l.merge(ctx, m, ids); err != nil {
			return err
		}
	}
	return nil
}

// merge makes one block of several of a merchant.
func (l *requestLog) merge(ctx context.Context, m MerchantID, ids []RequestBlockID) error {
	byID, err := l.store.RequestRows(ctx, m, ids)
	if err != nil || len(byID) < len(ids) {
		return err
	}
	rows := make([][]byte, len(ids))
	for i, id := range ids {
		rows[i] = byID[id]
	}
	var random [8]byte
	if _, err := io.ReadFull(l.random, random[:]); err != nil {
		return err
	}
	b := mergeBlocks(m, rows, random)
	if b.Count == 0 {
		return nil
	}
	if err := l.store.MergeRequests(ctx, b, ids); err != nil {
		return err
	}
	if b.Count < requestSmall {
		l.small[m] = append(l.small[m], b.ID)
	}
	return nil
}

// run flushes until ctx ends, and once more then, unless that has just failed: a stop
// waits for a store that does not answer only once.
func (l *requestLog) run(ctx context.Context) {
	if l.store == nil {
		return
	}
	tick := time.NewTicker(requestFlushInterval)
	defer tick.Stop()
	var told time.Time
	counted := int64(0)
	for ended, failing := false, false; !ended; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.full:
		}
		if ended = ctx.Err() != nil; ended && failing {
			return
		}
		err := l.flush(context.WithoutCancel(ctx))
		if err == nil && !ended {
			err = l.mergeSmall(ctx)
		}
		failing = err != nil
		now, dropped := l.clock.Now(), l.dropped.Load()
		if (err != nil || dropped > counted) && (told.IsZero() || now.Sub(told) >= time.Minute) {
			l.log.Warn("requests are missing from the request log: it could not be written fast enough", "dropped", dropped-counted, "error", err)
			told, counted = now, dropped
		}
	}
}

// pruneRequests deletes what the request log has kept for long enough, or is too much,
// unless another node does.
func (s *Service) pruneRequests(ctx context.Context) (more bool, err error) {
	l := s.requests
	if l.store == nil || !s.nodes.owns("requests") {
		return false, nil
	}
	return l.store.PruneRequests(ctx, l.clock.Now().Add(-l.keep), l.size, requestPruneBatch)
}
