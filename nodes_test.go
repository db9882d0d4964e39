package grahak_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
	"grahak/internal/testkit"
)

// beats is the table that the nodes on a store beat in.
type beats struct {
	mu     sync.Mutex
	counts map[grahak.NodeID]int64
}

// names returns the nodes that are in the table.
func (b *beats) names() []grahak.NodeID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.counts))
}

// sharedStore is a store as one of several nodes has it: SQLite's, which serves
// one process, with a table of beats.
type sharedStore struct {
	grahak.Store
	beats *beats

	mu   sync.Mutex
	away bool // Beat fails
}

func (s *sharedStore) Beat(_ context.Context, self grahak.NodeID, gone []grahak.NodeID) (map[grahak.NodeID]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("the store is away")
	}
	s.beats.mu.Lock()
	defer s.beats.mu.Unlock()
	for _, id := range gone {
		delete(s.beats.counts, id)
	}
	if self != "" {
		s.beats.counts[self]++
	}
	return maps.Clone(s.beats.counts), nil
}

func (s *sharedStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// node is a service that runs beside others on one store.
type node struct {
	*grahak.Service
	name  string
	store *sharedStore
	log   *testkit.Buffer
	leave func() // ends Run and waits for it
}

// MustNode starts one more node on the store of r. It is called inside the bubble
// and ends there.
func (r *rig) MustNode(t *testing.T, name string, table *beats) *node {
	t.Helper()
	return r.MustNodeWith(t, name, table, r.sealer)
}

// MustNodeWith is MustNode with another sealer.
func (r *rig) MustNodeWith(t *testing.T, name string, table *beats, sealer grahak.Sealer) *node {
	t.Helper()
	n := &node{name: name, store: &sharedStore{Store: r.store, beats: table}, log: new(testkit.Buffer)}
	n.Service = MustService(t, grahak.Config{Store: n.store, Sealer: sealer, Logger: slog.New(slog.NewTextHandler(n.log, nil))})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Run(ctx)
	}()
	n.leave = sync.OnceFunc(func() {
		stop()
		<-ended
	})
	t.Cleanup(n.leave)
	return n
}

// pass lets time pass, and what is due by then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pieces is how many pieces of work the nodes of a test share.
const pieces = 300

// owners returns the name of the node that owns each piece of work, and fails the test
// unless each has exactly one owner.
func owners(t *testing.T, what string, nodes ...*node) (list [pieces]string) {
	t.Helper()
	for i := range list {
		for _, n := range nodes {
			if !n.Owns(fmt.Sprint("merchant-", i)) {
				continue
			}
			if list[i] != "" {
				t.Errorf("%s: piece %d has two owners", what, i)
			}
			list[i] = n.name
		}
		if list[i] == "" {
			t.Errorf("%s: piece %d has no owner", what, i)
		}
	}
	return list
}

// wantMoved fails the test unless every piece that has another owner than before
// was that of left before, or is that of joined now; either may be nobody.
func wantMoved(t *testing.T, what string, before, after [pieces]string, left, joined string) {
	t.Helper()
	moved := 0
	for i := range before {
		if before[i] == after[i] {
			continue
		}
		moved++
		if before[i] != left && after[i] != joined {
			t.Errorf("%s: piece %d went from one node to another, and neither came or went", what, i)
		}
	}
	if moved == 0 {
		t.Errorf("%s: nothing went from one node to another", what)
	}
}

// Three nodes share the work. One that joins takes a part of everybody's, one
// that leaves or falls silent gives its own to the others, and nothing else
// moves.
func TestNodesShareWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := MustMerchantRig(t)
		table := &beats{counts: make(map[grahak.NodeID]int64)}
		// Whoever is alone does everything, from the start.
		a := r.MustNode(t, "a", table)
		alone := owners(t, "alone", a)
		pass(time.Second)
		b := r.MustNode(t, "b", table)
		pass(time.Second)
		two := owners(t, "two", a, b)
		wantMoved(t, "a second node joins", alone, two, "", "b")
		c := r.MustNode(t, "c", table)
		pass(time.Second)
		three := owners(t, "three", a, b, c)
		wantMoved(t, "a third node joins", two, three, "", "c")
		shares := make(map[string]int)
		for _, n := range three {
			shares[n]++
		}
		for _, n := range []*node{a, b, c} {
			if shares[n.name] < pieces/6 {
				t.Errorf("one of three nodes has %d of %d pieces", shares[n.name], pieces)
			}
		}

		// A node that falls silent is given time. It goes on with its own work
		// itself, because it cannot know.
		c.store.setAway(true)
		pass(2 * time.Second)
		diff(t, "owners two seconds after a node fell silent", three, owners(t, "silent for two seconds", a, b, c))
		pass(2 * time.Second)
		diff(t, "owners four seconds after a node fell silent", two, owners(t, "silent for four seconds", a, b))
		if len(table.names()) != 3 {
			t.Errorf("after four seconds the nodes are %q, want all three", table.names())
		}
		c.store.setAway(false)
		pass(time.Second)
		diff(t, "owners after it came back", three, owners(t, "back", a, b, c))
		c.store.setAway(true)
		pass(2 * time.Minute)
		if len(table.names()) != 2 {
			t.Errorf("after two minutes the nodes are %q, want those two that beat", table.names())
		}
		diff(t, "owners after a node was forgotten", two, owners(t, "forgotten", a, b))
		if lines := strings.Count(c.log.String(), "\n"); lines != 2 {
			t.Errorf("two outages gave %d lines:\n%s", lines, c.log)
		}
		c.store.setAway(false)
		pass(time.Second)
		diff(t, "owners after it came back from being forgotten", three, owners(t, "back again", a, b, c))

		// When all lose the store for a while, nothing moves.
		for _, away := range []bool{true, false} {
			for _, n := range []*node{a, b, c} {
				n.store.setAway(away)
			}
			for range 240 {
				pass(500 * time.Millisecond)
				diff(t, "owners in an outage and after it", three, owners(t, "outage of all", a, b, c))
			}
		}

		// One that leaves says so: at the next beat its work is others'.
		b.leave()
		pass(time.Second)
		last := owners(t, "one left", a, c)
		wantMoved(t, "a node leaves", three, last, "b", "")
		if len(table.names()) != 2 {
			t.Errorf("after one has left the nodes are %q, want two", table.names())
		}
		a.leave()
		c.leave()
		if len(table.names()) != 0 {
			t.Errorf("after all have left there are the nodes %q", table.names())
		}
		for _, n := range []*node{a, b} {
			if lines := strings.Count(n.log.String(), "\n"); lines != 1 {
				t.Errorf("one outage gave %d lines:\n%s", lines, n.log)
			}
		}
	})
}

// Events are put in order whichever node owns their merchant, and also when that
// node has fallen silent.
func TestNodesOrderEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := MustRig(t)
		table := &beats{counts: make(map[grahak.NodeID]int64)}
		nodes := []*node{r.MustNode(t, "a", table), r.MustNode(t, "b", table), r.MustNode(t, "c", table)}
		pass(time.Second)
		const merchants = 12
		wantOrdered := func(what string) {
			t.Helper()
			unordered, err := r.store.Unordered(t.Context())
			if err != nil || len(unordered) > 0 {
				t.Errorf("%s: merchants with events that are not in order: %q (%v)", what, unordered, err)
			}
		}
		owned := make(map[*node]int)
		for i := range merchants {
			m := grahak.MerchantID(fmt.Sprint("acme-", i))
			if _, err := r.CreateMerchant(t.Context(), operator(m), ""); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				if n.Owns(string(m)) {
					owned[n]++
				}
			}
		}
		pass(time.Second)
		wantOrdered("three nodes")
		// The one with the most work goes without a word.
		slices.SortFunc(nodes, func(x, y *node) int { return owned[y] - owned[x] })
		silent := nodes[0]
		silent.store.setAway(true)
		silent.leave()
		for i := range merchants {
			r.MustCreate(t, grahak.MerchantID(fmt.Sprint("acme-", i)), person("ref"))
		}
		pass(5 * time.Second)
		wantOrdered("two nodes, after one fell silent")
		for i := range merchants {
			m := grahak.MerchantID(fmt.Sprint("acme-", i))
			head, err := r.store.ChainHead(t.Context(), m)
			if err != nil || head.Position != 2 || head.Customers != 1 {
				t.Errorf("the chain of %s is at %+v (%v)", m, head, err)
			}
		}
	})
}

// keylessSealer is a sealer that may lack the master key.
type keylessSealer struct {
	grahak.Sealer
	lost atomic.Bool
}

func (s *keylessSealer) Index(ctx context.Context, m grahak.MerchantID, purpose grahak.IndexPurpose, value string) (grahak.Index, error) {
	if s.lost.Load() {
		return grahak.Index{}, grahak.Unavailable("the master key is lost", time.Second, nil)
	}
	return s.Sealer.Index(ctx, m, purpose, value)
}

// A node that lacks the master key, but has the store, leaves its work to those that
// have both, and takes it up again when it has the key.
func TestNodesWithoutMasterKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := MustRig(t)
		table := &beats{counts: make(map[grahak.NodeID]int64)}
		sealer := &keylessSealer{Sealer: r.sealer}
		whole := r.MustNode(t, "whole", table)
		sealer.lost.Store(true)
		lacking := r.MustNodeWith(t, "lacking", table, sealer)
		pass(time.Second)
		before := owners(t, "before there is work", whole, lacking)
		for i := range 12 {
			m := grahak.MerchantID(fmt.Sprint("acme-", i))
			if _, err := r.CreateMerchant(t.Context(), operator(m), ""); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * time.Second)
		if unordered, err := r.store.Unordered(t.Context()); err != nil || len(unordered) > 0 {
			t.Errorf("merchants with events that are not in order: %q (%v)", unordered, err)
		}
		if names := table.names(); len(names) != 1 {
			t.Errorf("the nodes that beat are %q, want the one with the key", names)
		}
		sealer.lost.Store(false)
		pass(2 * time.Second)
		diff(t, "owners when both have the key", before, owners(t, "both have the key", whole, lacking))
	})
}
