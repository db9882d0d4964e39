// Package ratelimit bounds how often something may happen, by key: GCRA, the generic cell
// rate algorithm, which needs one number for a key and no background work.
package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// Limiter lets every key have a number of requests at once, its limit, and gives them back
// evenly over a window. Times are given to it, so it has no clock. A nil Limiter allows
// everything. It is safe for concurrent use.
//
// It remembers a bounded number of keys. Where that is reached, a new key takes the place
// of the one that would have its whole limit back first, and so of one that has it back
// already if there is any: forgetting that changes nothing. So whoever wants another key
// forgotten, his own included, has to use as many keys as are remembered, each of them
// more; and what is forgotten has its whole limit again.
type Limiter[K comparable] struct {
	interval int64 // between requests that come evenly, in nanoseconds
	span     int64 // interval times the limit
	start    time.Time
	most     int // keys of a shard
	seed     maphash.Seed
	shards   []shard[K]
}

// shards is how many parts a limiter of many keys has, each with a lock of its own.
const shards = 16

// shard is the part of the keys that hash to it.
type shard[K comparable] struct {
	mu sync.Mutex
	// full holds when a key has its whole limit back, in nanoseconds since the
	// limiter's start.
	full map[K]int64
	// order is a heap of the keys of full, the first to be forgotten at the top.
	// A request of a key that is known does not move it: what order says is no
	// later than what full says, but for a request that was given back.
	order []entry[K]

	_ [64]byte // Neighbours are in cache lines of their own.
}

type entry[K comparable] struct {
	key  K
	full int64
}

// New returns a limiter of limit requests in each window, which remembers about most keys
// at once. Window and most are positive; start is a time before the first request. A limit
// of 0 returns nil, the limiter that allows everything. The interval between requests is
// rounded up to a nanosecond.
func New[K comparable](limit int, window time.Duration, most int, start time.Time) *Limiter[K] {
	if limit == 0 {
		return nil
	}
	l := &Limiter[K]{start: start, seed: maphash.MakeSeed(), shards: make([]shard[K], 1), most: most}
	if most >= 64*shards {
		l.shards, l.most = make([]shard[K], shards), (most+shards-1)/shards
	}
	l.interval = (int64(window) + int64(limit) - 1) / int64(limit)
	l.span = l.interval * int64(limit)
	for i := range l.shards {
		l.shards[i].full = make(map[K]int64)
	}
	return l
}

// Decision is what a limiter says of a request.
type Decision struct {
	Allowed bool
	// Left is how many more requests would be allowed now.
	Left int
	// Full is how long it takes until the whole limit is there again.
	Full time.Duration
	// RetryIn is how long it takes until a request is allowed, if this one is not.
	RetryIn time.Duration
}

// Take asks for a request of key at the time now, and counts it if it is allowed: one that
// is refused costs nothing. Where now is before an earlier now, because a clock was set
// back, a key waits no longer than for its whole limit.
func (l *Limiter[K]) Take(key K, now time.Time) Decision { return l.decide(key, now, 1) }

// Peek says whether Take would allow a request, and what is left, but counts nothing.
func (l *Limiter[K]) Peek(key K, now time.Time) Decision { return l.decide(key, now, 0) }

// decide is Take of count requests, 1 or 0.
func (l *Limiter[K]) decide(key K, now time.Time, count int64) Decision {
	if l == nil {
		return Decision{Allowed: true}
	}
	at := int64(now.Sub(l.start))
	s := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	full, known := s.full[key]
	if !known {
		full = at
	}
	full = min(max(full, at), at+l.span)
	if wait := full + l.interval - l.span - at; wait > 0 {
		s.full[key] = full
		return Decision{Full: time.Duration(full - at), RetryIn: time.Duration(wait)}
	}
	full += count * l.interval
	switch {
	case known:
		s.full[key] = full
	case count > 0:
		s.add(key, full, at, l.most)
	}
	return Decision{Allowed: true, Left: int((l.span + at - full) / l.interval), Full: time.Duration(full - at)}
}

// Return gives back a request of key that Take allowed.
func (l *Limiter[K]) Return(key K) {
	if l == nil {
		return
	}
	s := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if full, known := s.full[key]; known {
		s.full[key] = full - l.interval
	}
}

// Len returns how many keys are remembered.
func (l *Limiter[K]) Len() (n int) {
	if l == nil {
		return 0
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.full)
		s.mu.Unlock()
	}
	return n
}

func (l *Limiter[K]) shard(key K) *shard[K] {
	if len(l.shards) == 1 {
		return &l.shards[0]
	}
	return &l.shards[maphash.Comparable(l.seed, key)%shards]
}

// add remembers a key. It forgets two that have their limit back, if there are, so that
// no more are kept than are in use; and whichever has it back first, if there are most.
// The caller holds mu.
func (s *shard[K]) add(key K, full, at int64, most int) {
	for range 2 {
		if len(s.order) > 0 && s.first() <= at {
			s.forget()
		}
	}
	if len(s.order) >= most {
		s.first()
		s.forget()
	}
	s.full[key] = full
	s.order = append(s.order, entry[K]{key, full})
	for i := len(s.order) - 1; i > 0; {
		up := (i - 1) / 2
		if s.order[up].full <= s.order[i].full {
			break
		}
		s.order[up], s.order[i] = s.order[i], s.order[up]
		i = up
	}
}

// first brings the key that has its limit back first to the top, and returns when that
// is. The caller holds mu.
func (s *shard[K]) first() int64 {
	for {
		top := &s.order[0]
		full := s.full[top.key]
		if full <= top.full {
			return full
		}
		top.full = full
		s.sink()
	}
}

// forget drops the key at the top. The caller holds mu.
func (s *shard[K]) forget() {
	delete(s.full, s.order[0].key)
	last := len(s.order) - 1
	s.order[0] = s.order[last]
	s.order[last] = entry[K]{}
	s.order = s.order[:last]
	s.sink()
}

// sink moves the key at the top down to its place.
func (s *shard[K]) sink() {
	for i := 0; ; {
		least := i
		for _, down := range [...]int{2*i + 1, 2*i + 2} {
			if down < len(s.order) && s.order[down].full < s.order[least].full {
				least = down
			}
		}
		if least == i {
			return
		}
		s.order[i], s.order[least] = s.order[least], s.order[i]
		i = least
	}
}
