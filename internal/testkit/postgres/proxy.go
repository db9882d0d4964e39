package postgres

import (
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy is the network between clients and a cluster, which a test can break. It
// speaks PostgreSQL's protocol as far as it must to know what a client asks and
// where an answer ends; it refuses TLS. It is safe for concurrent use.
type Proxy struct {
	server     string
	addr       string
	roundTrips atomic.Int64
	work       sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]bool
	cuts     []*cut
	gate     chan struct{} // closed while answers pass
	held     chan struct{} // closed when an answer did not pass
}

// Cut tells of a connection that was cut.
type Cut struct {
	// SQL has the statements that the client had the server run.
	SQL []string
	// Answer is what the server answered and the client never saw: the tag of
	// each completed statement, as "INSERT 0 1", and "ERROR " with its SQLSTATE
	// for one that failed.
	Answer []string
}

// cut is a connection's end that is to come.
type cut struct {
	match string
	after bool
	done  chan Cut
}

// Proxy returns a new proxy for the cluster, which ends with the test. [URL]
// leads clients to it.
func (c *Cluster) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	p, err := c.NewProxy()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.Refuse(tb)
		p.CutAll()
		p.work.Wait()
	})
	return p
}

// Addr returns host and port of the proxy.
func (p *Proxy) Addr() string { return p.addr }

// accept has the proxy take connections.
func (p *Proxy) accept(listener net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = listener
	p.work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // It was closed.
			}
			l := newLink(p, client)
			p.mu.Lock()
			open := p.listener == listener
			if open {
				p.links[l] = true
			}
			p.mu.Unlock()
			if !open {
				l.close()
				return
			}
			p.work.Go(l.run)
		}
	})
}

// Refuse lets nobody connect any more, as a machine does on which nothing
// listens. Connections that exist go on.
func (p *Proxy) Refuse(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return
	}
	if err := p.listener.Close(); err != nil {
		tb.Fatal(err)
	}
	p.listener = nil
}

// Accept lets clients connect again after [Proxy.Refuse].
func (p *Proxy) Accept(tb testing.TB) {
	tb.Helper()
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		tb.Fatal(err)
	}
	p.accept(listener)
}

// CutAll cuts every connection that exists and returns how many these were.
func (p *Proxy) CutAll() int {
	p.mu.Lock()
	links := p.links
	p.links = make(map[*link]bool)
	p.mu.Unlock()
	for l := range links {
		l.close()
	}
	return len(links)
}

// HoldAnswers lets nothing from the server reach a client any more, until
// [Proxy.Release]; the server goes on receiving. What it returns is closed when
// an answer has been held back.
func (p *Proxy) HoldAnswers() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
		p.gate, p.held = make(chan struct{}), make(chan struct{})
	default: // They are held already.
	}
	return p.held
}

// Release lets the answers pass that were held back, and those to come.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// CutBefore cuts the next connection whose client has the server run a statement
// that contains text, before the server sees any of what was sent with it, so
// that nothing of it is committed. Letter case and white space do not count;
// "COMMIT" finds the end of an explicit transaction. What it returns receives one
// value, when the connection is cut.
func (p *Proxy) CutBefore(text string) <-chan Cut { return p.addCut(text, false) }

// CutAfter is [Proxy.CutBefore] for the other side of the commit: the server runs
// the statement and all that was sent with it up to the next Sync, and nothing of
// its answer reaches the client. The connection is cut when the server has
// answered in full, or has gone.
func (p *Proxy) CutAfter(text string) <-chan Cut { return p.addCut(text, true) }

func (p *Proxy) addCut(text string, after bool) <-chan Cut {
	c := &cut{match: normal(text), after: after, done: make(chan Cut, 1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = append(p.cuts, c)
	return c.done
}

// normal returns SQL without what does not count when it is compared.
func normal(sql string) string { return strings.ToLower(strings.Join(strings.Fields(sql), " ")) }

// takeCut returns the oldest cut for a batch of statements, if there is one, and
// forgets it. Where the batch has not ended yet, only a cut before it will do.
func (p *Proxy) takeCut(batch []string, ended bool) *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.cuts, func(c *cut) bool {
		return (ended || !c.after) && slices.ContainsFunc(batch, func(sql string) bool { return strings.Contains(normal(sql), c.match) })
	})
	if i < 0 {
		return nil
	}
	c := p.cuts[i]
	p.cuts = slices.Delete(p.cuts, i, i+1)
	return c
}

// pass returns when an answer may reach its client, or when gone is closed.
func (p *Proxy) pass(gone <-chan struct{}) {
	p.mu.Lock()
	gate := p.gate
	select {
	case <-gate:
	default:
		select {
		case <-p.held:
		default:
			close(p.held)
		}
	}
	p.mu.Unlock()
	select {
	case <-gate:
	case <-gone:
	}
}

// RoundTrips returns how often clients have asked the server something and
// waited for its answer, not counting the start of a connection.
func (p *Proxy) RoundTrips() int64 { return p.roundTrips.Load() }
