package postgres_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// The phases of a failover.
const (
	together = iota // primary and standby
	falling
	alone    // there is only a standby
	promoted // from the beginning of the promotion
)

// load is clients that create and read customers while a database fails over.
type load struct {
	cases  map[string]wireCase
	phase  atomic.Int32
	serial atomic.Int64
	since  atomic.Int64 // of the creates that were acknowledged, those after the promotion

	mu           sync.Mutex
	acknowledged []customer
	untold       map[string]url.Values // creates that had been done when they were sent again, by reference
	gaps         map[string]*gap       // by kind
	complaints   int
}

// gap is when requests of a kind were not served: from the end of the last that was
// served before to the end of the first after.
type gap struct{ last, first time.Time }

func (l *load) complain(t *testing.T, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.complaints++; l.complaints <= 10 {
		t.Errorf(format, args...)
	}
}

// served notes that a request was served, which began in a phase.
func (l *load) served(t *testing.T, what string, began int32) {
	ended, now := l.phase.Load(), time.Now()
	if began == alone && ended == alone {
		l.complain(t, "a %s is served by a standby", what)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gaps == nil {
		l.gaps = make(map[string]*gap)
	}
	g := l.gaps[what]
	if g == nil {
		g = new(gap)
		l.gaps[what] = g
	}
	switch {
	case ended != promoted:
		g.last = now
	case g.first.IsZero():
		g.first = now
	}
}

// unavailable reports whether a request was refused as it must be in an outage, and
// fails the test if it was refused otherwise.
func (l *load) unavailable(t *testing.T, what string, a answer, err error) bool {
	if err != nil || a.took > answerBound {
		l.complain(t, "a %s is answered after %v: %v", what, a.took, err)
		return true
	}
	if a.status != http.StatusServiceUnavailable {
		return false
	}
	if !a.is(l.cases["unavailable"]) || a.header.Get("Retry-After") == "" {
		l.complain(t, "a %s is answered %d %s without Retry-After", what, a.status, a.body)
	}
	if l.phase.Load() == together {
		l.complain(t, "a %s is answered 503 while the database is there", what)
	}
	return true
}

// create creates customers until ctx ends, each until it is there.
func (l *load) create(ctx context.Context, t *testing.T, c *client) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		form := form(l.serial.Add(1))
		for again := false; ; again = true {
			<-tick.C
			began := l.phase.Load()
			a, err := c.create(context.WithoutCancel(ctx), form)
			if l.unavailable(t, "create", a, err) {
				if ctx.Err() != nil {
					return
				}
				continue
			}
			if again && a.is(l.cases["duplicate_reference"]) {
				l.mu.Lock()
				l.untold[form.Get("object_reference_id")] = form
				l.mu.Unlock()
				break
			}
			got, err := a.customer()
			if err != nil || a.status != http.StatusOK || !cmp.Equal(made(form, got), got) {
				l.complain(t, "a create is answered %d %s", a.status, a.body)
				break
			}
			l.mu.Lock()
			l.acknowledged = append(l.acknowledged, got)
			l.mu.Unlock()
			l.served(t, "create", began)
			if began == promoted {
				l.since.Add(1)
			}
			break
		}
	}
}

// read reads customers that were acknowledged until ctx ends.
func (l *load) read(ctx context.Context, t *testing.T, c *client) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		l.mu.Lock()
		if len(l.acknowledged) == 0 {
			l.mu.Unlock()
			continue
		}
		want := l.acknowledged[rand.IntN(len(l.acknowledged))]
		l.mu.Unlock()
		id := want.ID
		if rand.IntN(2) == 0 {
			id = want.Reference
		}
		began := l.phase.Load()
		a, err := c.get(context.WithoutCancel(ctx), id)
		if l.unavailable(t, "read", a, err) {
			continue
		}
		if got, err := a.customer(); err != nil || a.status != http.StatusOK || !cmp.Equal(want, got) {
			l.complain(t, "an acknowledged customer is read as %d %s", a.status, a.body)
			continue
		}
		l.served(t, "read", began)
	}
}

// The nodes follow when a standby takes the place of their primary: nothing that
// was acknowledged is lost, and writes go on by themselves.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*testing.T, *postgres.Cluster){
		"the primary is killed": func(t *testing.T, primary *postgres.Cluster) { primary.Kill(t) },
		// Its machine accepts connections and says nothing more.
		"the primary hangs": func(t *testing.T, primary *postgres.Cluster) { primary.Pause(t) },
	} {
		for range long(3) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				failOver(t, fail)
			})
		}
	}
}

func failOver(t *testing.T, fail func(*testing.T, *postgres.Cluster)) {
	t.Helper()
	primary := postgres.Start(t, postgres.Options{})
	d := MustDeploy(t, primary)
	standby := primary.Standby(t, postgres.Options{})
	both := postgres.URL(d.database, primary, standby)
	nodes := []*testkit.Server{d.node(t, both), d.node(t, both)}
	acme := d.MustMerchant(t, "acme")
	l := &load{cases: MustWireCases(t), untold: make(map[string]url.Values)}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for _, node := range nodes {
		for range 3 {
			working.Go(func() { l.create(ctx, t, newClient(t, node.BaseURL, acme.Key)) })
			working.Go(func() { l.read(ctx, t, newClient(t, node.BaseURL, acme.Key)) })
		}
	}
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acknowledged)
	}
	await(t, "customers are created", recoveryBound, func() bool { return count() > 300 })
	l.phase.Store(falling)
	fail(t, primary)
	l.phase.Store(alone)
	lost := time.Now()
	await(t, "nobody has been promoted", answerBound, func() bool { return time.Since(lost) > deep+time.Second })
	l.phase.Store(promoted)
	promotion := time.Now()
	standby.Promote(t)
	took := time.Since(promotion)
	await(t, "writes go on", recoveryBound, func() bool { return l.since.Load() > 100 })
	stop()
	working.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, what := range []string{"create", "read"} {
		g := l.gaps[what]
		t.Logf("no %s was served for %v: %v after the failure the promotion began, which took %v; the first was served %v after its beginning", what,
			g.first.Sub(g.last).Round(time.Millisecond), promotion.Sub(lost).Round(time.Millisecond), took.Round(time.Millisecond), g.first.Sub(promotion).Round(time.Millisecond))
	}
	t.Logf("%d creates were acknowledged, and %d were found to be done when they were sent again", len(l.acknowledged), len(l.untold))

	d.cluster, d.database = standby, postgres.URL(d.database, standby)
	l.check(t, newClient(t, nodes[0].BaseURL, acme.Key))
	d.MustBeWhole(t, map[string]int{"acme": len(l.acknowledged) + len(l.untold)})
}

// check reads all pages and compares them with what was acknowledged.
func (l *load) check(t *testing.T, c *client) {
	t.Helper()
	// A create that was given up after a 503 may have been done as well.
	there := make(map[string]customer)
	for after := ""; ; {
		a, err := c.do(t.Context(), http.MethodGet, "/customers?count=100&after="+url.QueryEscape(after), nil, "")
		var page struct {
			List []customer
			Next *string
		}
		if err == nil {
			err = json.Unmarshal([]byte(a.body), &page)
		}
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("a page is answered %d %s (%v)", a.status, a.body, err)
		}
		for _, c := range page.List {
			if _, twice := there[c.Reference]; twice {
				t.Errorf("reference %s is there twice", c.Reference)
			}
			there[c.Reference] = c
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
	}
	for _, want := range l.acknowledged {
		if diff := cmp.Diff(want, there[want.Reference]); diff != "" {
			t.Errorf("an acknowledged customer is not what it was (-acknowledged +listed):\n%s", diff)
		}
	}
	for reference, form := range l.untold {
		got := there[reference]
		if diff := cmp.Diff(made(form, got), got); diff != "" {
			t.Errorf("a customer that was made without an answer is not what was sent (-sent +listed):\n%s", diff)
		}
	}
}
