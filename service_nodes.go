package grahak

import (
	"context"
	"encoding/hex"
	"hash/fnv"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	beatInterval = 500 * time.Millisecond
	// nodeSilence is for how long a node that does not beat is still taken for
	// alive.
	nodeSilence = 3 * time.Second
	// nodeCertain is for how long after it began to beat a node can be certain that no
	// other takes it for gone, however clocks and connections may lag.
	nodeCertain = nodeSilence / 2
	// nodeForgotten is when a node that does not beat is forgotten.
	nodeForgotten = time.Minute
)

// nodes knows which processes serve the store, and shares the work in the
// background among them: each piece belongs to one of those that are alive, the
// one with the highest hash, so that few pieces change hands when a node comes or
// goes. Nodes may disagree for a moment. Then two do the same work, of which the
// store takes one's: who owns what saves work and decides nothing.
//
// Whether a node is alive is told by its beats, which a clock of this process
// counts. Clocks of different nodes are never compared. Safe for concurrent use.
type nodes struct {
	store Store
	self  NodeID

	mu    sync.Mutex
	alive []NodeID
	seen  map[NodeID]lastBeat
	// locked is a merchant whose keys this node could not have when it needed them;
	// empty for none.
	locked MerchantID

	// sure ends with doubt, when lapse fires, which was started by the beat with the
	// number beat, or when somebody sees that it is later than until: a process that
	// stood still may go on before its timers do. lapsed is the last beat that would
	// have been too slow. back is since when a node that was certain once, and is so no
	// more, has beaten without a pause; zero if it has not.
	sure         context.Context //nolint:containedctx // It is a state that others wait for the end of.
	doubt        context.CancelFunc
	lapse        *time.Timer
	until        time.Time
	back         time.Time
	beat, lapsed uint64
}

type lastBeat struct {
	beat int64
	at   time.Duration // since the first look, less the time of looks that failed
}

// newNodes returns nodes of which none is known yet but this one.
func newNodes(store Store, random io.Reader) (*nodes, error) {
	var id [8]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return nil, err
	}
	self := NodeID("node_" + hex.EncodeToString(id[:]))
	n := &nodes{store: store, self: self, alive: []NodeID{self}, seen: make(map[NodeID]lastBeat)}
	n.sure, n.doubt = context.WithCancel(context.Background())
	n.doubt()
	return n, nil
}

// run beats until ctx ends. Then it tells the others that this node has gone, so
// that they need not wait for it. It does so too while this node lacks keys that
// the work needs, as one that was given another master key: others may have them.
// keys returns a [CodeUnavailable] error if those of a merchant cannot be had.
func (n *nodes) run(ctx context.Context, log *slog.Logger, keys func(context.Context, MerchantID) error) {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	var elapsed time.Duration
	failed := false
	for number := uint64(1); ; number++ {
		self, gone := n.self, n.silent(elapsed, nodeForgotten)
		if !n.able(ctx, keys) {
			self, gone = "", append(gone, n.self)
			n.give()
		}
		until := elapsing.Now().Add(nodeCertain)
		lapse := time.AfterFunc(nodeCertain, func() { n.expire(number) })
		beats, err := n.store.Beat(ctx, self, gone)
		if err != nil || self == "" {
			lapse.Stop()
			n.pause()
		}
		switch {
		case err == nil:
			n.learn(beats, elapsed)
			if self != "" {
				n.renew(number, lapse, until)
			}
		case ctx.Err() == nil && !failed:
			log.Error("cannot tell the other nodes that this one is alive; it will be tried again", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			n.give()
			leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_, _ = n.store.Beat(leave, "", []NodeID{n.self})
			return
		case <-tick.C:
			// While this node cannot look, nobody is silent.
			if !failed {
				elapsed += beatInterval
			}
		}
	}
}

// elapsing is the clock that certainty is measured by, which nobody sets.
var elapsing SystemClock

// certain returns a context that ends before another node may take this one for
// gone; it has ended already if one may.
func (n *nodes) certain() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	if elapsing.Now().After(n.until) {
		n.doubt()
	}
	return n.sure
}

// renew makes this node certain after the beat with the given number, unless that
// took too long. A node that is back must have beaten for so long that others, who
// may have taken it for gone, are certain of themselves only if they have heard it.
func (n *nodes) renew(number uint64, lapse *time.Timer, until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lapsed >= number {
		n.back = time.Time{}
		return
	}
	away := n.sure.Err() != nil
	if away && n.beat > 0 {
		now := elapsing.Now()
		if n.back.IsZero() {
			n.back = now
		}
		if now.Sub(n.back) <= nodeCertain {
			lapse.Stop()
			return
		}
	}
	if n.lapse != nil {
		n.lapse.Stop()
	}
	n.beat, n.lapse, n.until, n.back = number, lapse, until, time.Time{}
	if away {
		n.sure, n.doubt = context.WithCancel(context.Background())
	}
}

// pause notes that a beat has failed.
func (n *nodes) pause() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.back = time.Time{}
}

// expire ends the certainty that the beat with the given number gave.
func (n *nodes) expire(number uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lapsed = max(n.lapsed, number)
	if n.beat <= number {
		n.doubt()
	}
}

// give ends this node's certainty, because it is about to leave its work to others.
func (n *nodes) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lapse != nil {
		n.lapse.Stop()
	}
	n.doubt()
}

// isAlive reports whether a node is taken for alive.
func (n *nodes) isAlive(id NodeID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.alive, id)
}

// lack notes that the keys of m cannot be had.
func (n *nodes) lack(m MerchantID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.locked = m
}

// able reports whether no keys are lacking any more.
func (n *nodes) able(ctx context.Context, keys func(context.Context, MerchantID) error) bool {
	n.mu.Lock()
	m := n.locked
	n.mu.Unlock()
	if m == "" {
		return true
	}
	if CodeOf(keys(ctx, m)) == CodeUnavailable {
		return false
	}
	n.lack("")
	return true
}

// learn notes the beats that were seen after elapsed.
func (n *nodes) learn(beats map[NodeID]int64, elapsed time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.seen {
		if _, known := beats[id]; !known {
			delete(n.seen, id)
		}
	}
	n.alive = n.alive[:0:0]
	for id, beat := range beats {
		last, known := n.seen[id]
		if !known || last.beat != beat {
			last = lastBeat{beat, elapsed}
			n.seen[id] = last
		}
		if id == n.self || elapsed-last.at < nodeSilence {
			n.alive = append(n.alive, id)
		}
	}
}

// silent returns the other nodes that have not beaten for the given time.
func (n *nodes) silent(elapsed, since time.Duration) (list []NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, last := range n.seen {
		if id != n.self && elapsed-last.at >= since {
			list = append(list, id)
		}
	}
	return list
}

// mine returns those of the merchants whose work is this node's.
func (n *nodes) mine(merchants []MerchantID) []MerchantID {
	owned := merchants[:0:0]
	for _, m := range merchants {
		if n.owns(string(m)) {
			owned = append(owned, m)
		}
	}
	return owned
}

// owns reports whether this node does the work with the given name.
func (n *nodes) owns(work string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	score := func(id NodeID) uint64 {
		h := fnv.New64a()
		_, _ = io.WriteString(h, string(id))
		_, _ = io.WriteString(h, "/"+work)
		// Without this, names that differ in their last letters have scores that
		// are close to each other.
		x := h.Sum64()
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
		return x ^ x>>32
	}
	own := score(n.self)
	for _, id := range n.alive {
		if other := score(id); other > own || other == own && id > n.self {
			return false
		}
	}
	return true
}
