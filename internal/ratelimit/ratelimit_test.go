package ratelimit_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak/internal/ratelimit"
)

var start = time.Date(2026, time.March, 17, 14, 13, 37, 0, time.UTC)

func TestTake(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	type take struct {
		key  string
		at   time.Duration // after start
		want ratelimit.Decision
	}
	for name, c := range map[string]struct {
		limit  int
		window time.Duration
		takes  []take
	}{
		"a burst, and then evenly": {3, 300 * ms, []take{
			{"a", 0, ratelimit.Decision{Allowed: true, Left: 2, Full: 100 * ms}},
			{"a", 0, ratelimit.Decision{Allowed: true, Left: 1, Full: 200 * ms}},
			{"a", 0, ratelimit.Decision{Allowed: true, Left: 0, Full: 300 * ms}},
			{"a", 0, ratelimit.Decision{Full: 300 * ms, RetryIn: 100 * ms}},
			{"a", 99 * ms, ratelimit.Decision{Full: 201 * ms, RetryIn: 1 * ms}},
			{"a", 100 * ms, ratelimit.Decision{Allowed: true, Left: 0, Full: 300 * ms}},
			{"a", 100 * ms, ratelimit.Decision{Full: 300 * ms, RetryIn: 100 * ms}},
			{"a", 350 * ms, ratelimit.Decision{Allowed: true, Left: 1, Full: 150 * ms}},
			{"a", 600 * ms, ratelimit.Decision{Allowed: true, Left: 2, Full: 100 * ms}},
		}},
		"keys do not share": {1, time.Second, []take{
			{"a", 0, ratelimit.Decision{Allowed: true, Full: time.Second}},
			{"a", 0, ratelimit.Decision{Full: time.Second, RetryIn: time.Second}},
			{"b", 0, ratelimit.Decision{Allowed: true, Full: time.Second}},
			{"", 0, ratelimit.Decision{Allowed: true, Full: time.Second}},
		}},
		"what is refused costs nothing": {1, time.Second, []take{
			{"a", 0, ratelimit.Decision{Allowed: true, Full: time.Second}},
			{"a", 900 * ms, ratelimit.Decision{Full: 100 * ms, RetryIn: 100 * ms}},
			{"a", 999 * ms, ratelimit.Decision{Full: 1 * ms, RetryIn: 1 * ms}},
			{"a", 1000 * ms, ratelimit.Decision{Allowed: true, Full: time.Second}},
		}},
		"an interval that is not whole is rounded up": {3, 1000 * time.Nanosecond, []take{
			{"a", 0, ratelimit.Decision{Allowed: true, Left: 2, Full: 334}},
			{"a", 333, ratelimit.Decision{Allowed: true, Left: 1, Full: 335}},
		}},
		"no limit": {0, time.Second, []take{
			{"a", 0, ratelimit.Decision{Allowed: true}},
			{"a", 0, ratelimit.Decision{Allowed: true}},
		}},
		"a clock that is set back costs one window": {2, time.Second, []take{
			{"a", time.Hour, ratelimit.Decision{Allowed: true, Left: 1, Full: 500 * ms}},
			{"a", 0, ratelimit.Decision{Full: time.Second, RetryIn: 500 * ms}},
			{"a", 500 * ms, ratelimit.Decision{Allowed: true, Left: 0, Full: time.Second}},
			{"a", 1500 * ms, ratelimit.Decision{Allowed: true, Left: 1, Full: 500 * ms}},
		}},
	} {
		l := ratelimit.New[string](c.limit, c.window, 10, start)
		for i, take := range c.takes {
			got := l.Take(take.key, start.Add(take.at))
			if diff := cmp.Diff(take.want, got); diff != "" {
				t.Errorf("%s, request %d (-want +got):\n%s", name, i, diff)
			}
		}
	}
}

func TestReturn(t *testing.T) {
	t.Parallel()
	l := ratelimit.New[string](2, time.Second, 10, start)
	l.Take("a", start)
	l.Take("a", start)
	l.Return("a")
	l.Return("nobody's")
	got := []bool{l.Take("a", start).Allowed, l.Take("a", start).Allowed}
	if diff := cmp.Diff([]bool{true, false}, got); diff != "" {
		t.Errorf("after one of two was given back (-want +got):\n%s", diff)
	}
	var off *ratelimit.Limiter[string]
	off.Return("a")
	if off.Len() != 0 {
		t.Error("a limiter that is off remembers something")
	}
}

// naive is what a limiter does, for one key: requests stand in line to be forgotten one
// after the other, an interval each, and no more than limit may stand there.
type naive struct {
	interval time.Duration
	limit    int
	leaves   []time.Time // when each of the line leaves
}

func (n *naive) take(now time.Time) bool {
	for len(n.leaves) > 0 && !n.leaves[0].After(now) {
		n.leaves = n.leaves[1:]
	}
	if len(n.leaves) >= n.limit {
		return false
	}
	last := now
	if len(n.leaves) > 0 {
		last = n.leaves[len(n.leaves)-1]
	}
	n.leaves = append(n.leaves, last.Add(n.interval))
	return true
}

// fork returns a line that is the same and apart.
func (n *naive) fork() *naive {
	return &naive{n.interval, n.limit, append([]time.Time(nil), n.leaves...)}
}

// A limiter does for each key what the naive one does, of times in any steps.
func TestAgainstNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		interval := time.Duration(rapid.IntRange(1, 50).Draw(t, "interval"))
		keys := rapid.IntRange(1, 4).Draw(t, "keys")
		l := ratelimit.New[int](limit, time.Duration(limit)*interval, keys, start)
		model := make(map[int]*naive)
		for key := range keys {
			model[key] = &naive{interval: interval, limit: limit}
		}
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "passes")))
			key := rapid.IntRange(0, keys-1).Draw(t, "key")
			n := model[key]
			want := n.take(now)
			peeked, again := l.Peek(key, now), l.Peek(key, now)
			got := l.Take(key, now)
			left := 0
			for try := n.fork(); try.take(now); {
				left++
			}
			before := left
			if want {
				before++
			}
			if peeked != again || peeked.Allowed != want || peeked.Left != before {
				t.Fatalf("key %d at %v: got %+v and %+v without asking, want %v with %d left", key, now.Sub(start), peeked, again, want, before)
			}
			if got.Allowed != want || got.Left != left {
				t.Fatalf("key %d at %v: got %+v, want %v with %d left", key, now.Sub(start), got, want, left)
			}
			if want {
				if last := n.leaves[len(n.leaves)-1].Sub(now); got.Full != last || got.RetryIn != 0 {
					t.Fatalf("key %d at %v: got %+v, want its limit back in %v", key, now.Sub(start), got, last)
				}
				continue
			}
			// The time it names is the first at which a request is allowed.
			if n.fork().take(now.Add(got.RetryIn-1)) || !n.fork().take(now.Add(got.RetryIn)) {
				t.Fatalf("key %d at %v: %v is not when to try again", key, now.Sub(start), got.RetryIn)
			}
		}
	})
}

// However many keys there are, few are remembered, and those that have used most.
func TestForgets(t *testing.T) {
	t.Parallel()
	const most, limit = 100, 10
	l := ratelimit.New[int](limit, 10*time.Second, most, start)
	heavy := func(key int) { // uses its limit up
		for range limit {
			l.Take(key, start)
		}
	}
	for key := range most / 2 {
		heavy(key)
	}
	for key := range 100_000 { // a flood of keys that are used once each
		l.Take(1000+key, start)
	}
	if got := l.Len(); got != most {
		t.Errorf("%d keys are remembered, want %d", got, most)
	}
	for key := range most / 2 {
		if l.Take(key, start).Allowed {
			t.Errorf("key %d, which had used its limit up, is forgotten for others that had not", key)
		}
	}
	// A key that was put in with little and used up later is kept as well.
	late := ratelimit.New[int](limit, 10*time.Second, most, start)
	for key := range most {
		late.Take(key, start)
	}
	for range limit - 1 {
		late.Take(0, start)
	}
	for key := range 10 * most {
		late.Take(1000+key, start)
		late.Take(1000+key, start)
	}
	if late.Take(0, start).Allowed {
		t.Error("a key that was used up after others had come is forgotten")
	}
	// Those that have their limit back make place without being pushed.
	hour := start.Add(time.Hour)
	for key := range most {
		l.Take(-1-key, hour)
	}
	for key := range most {
		if got := l.Take(-1-key, hour); got.Left != limit-2 {
			t.Errorf("key %d was forgotten for those of an hour ago", -1-key)
		}
	}
	// And memory shrinks to what is in use.
	for key := range most {
		l.Take(5000+key, hour.Add(time.Duration(key)*time.Hour))
	}
	l.Peek(6000, hour.Add((most-1)*time.Hour)) // Who only looks is not remembered.
	if got := l.Len(); got != 1 {
		t.Errorf("%d keys are remembered of which one is in use", got)
	}
}

// A large limiter is bounded as well, though its keys are in parts.
func TestBounded(t *testing.T) {
	t.Parallel()
	const most = 4096
	l := ratelimit.New[string](1, time.Hour, most, start)
	for i := range 4 * most {
		l.Take(fmt.Sprint("key ", i), start)
	}
	if got := l.Len(); got < most*9/10 || got > most+most/16 {
		t.Errorf("%d keys are remembered, want %d", got, most)
	}
}

// Of requests at once exactly the limit is allowed.
func TestParallel(t *testing.T) {
	t.Parallel()
	const limit, goroutines, tries = 1000, 8, 500
	l := ratelimit.New[string](limit, time.Hour, 1<<16, start)
	var allowed [2]atomic.Int64
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for i := range tries {
				key := (g + i) % 2
				if l.Take([]string{"a", "b"}[key], start).Allowed {
					allowed[key].Add(1)
				}
				l.Take(fmt.Sprint(g, i), start)
			}
		})
	}
	group.Wait()
	if a, b := allowed[0].Load(), allowed[1].Load(); a != limit || b != limit {
		t.Errorf("%d and %d of %d requests were allowed, want %d of each", a, b, goroutines*tries/2, limit)
	}
}

func BenchmarkTake(b *testing.B) {
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("key_%016d", i)
	}
	b.Run("known keys", func(b *testing.B) {
		l := ratelimit.New[string](50_000, time.Second, 1<<16, start)
		b.ReportAllocs()
		now := start
		for i := 0; b.Loop(); i++ {
			now = now.Add(time.Microsecond)
			l.Take(keys[i%len(keys)], now)
		}
	})
	b.Run("known keys, in parallel", func(b *testing.B) {
		l := ratelimit.New[string](50_000, time.Second, 1<<16, start)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				l.Take(keys[i%len(keys)], start.Add(time.Duration(i)*time.Microsecond))
			}
		})
	})
	b.Run("a flood of keys", func(b *testing.B) {
		l := ratelimit.New[[16]byte](60, time.Minute, 1<<16, start)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			l.Take([16]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}, start)
		}
	})
}
