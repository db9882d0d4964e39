package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// outage is how a node's database goes away and comes back.
type outage struct {
	begin, end func(t *testing.T)
	// partly says that requests may also be served meanwhile, reads or all.
	partlyReads, partly bool
}

// The phases of a watch.
const (
	before  = iota
	leaving // during outage.begin
	during  // from the end of outage.begin to the beginning of outage.end
	between // until all has been served once
	after
)

const (
	// deep is when what a node remembers of keys no longer counts.
	deep = 2500 * time.Millisecond
	// pace is the time between two requests of one kind.
	pace = 20 * time.Millisecond
)

// watch asks a node for everything while its database goes away and comes back,
// again and again.
type watch struct {
	d        *deployment
	node     *testkit.Server
	merchant apiKey
	cases    map[string]wireCase
	serial   atomic.Int64

	mu           sync.Mutex
	acknowledged map[string]customer // by reference
	doubtful     []url.Values        // creates that were answered 503
	subject      customer            // who is updated, as acknowledged
	names        []string            // first names that subject may have besides: of updates that were answered 503
	complaints   int
}

// kind is a kind of requests.
type kind struct {
	name string
	read bool
	ask  func(context.Context) (answer, error)
	// served reports whether the answer is right when there is a database. It is
	// called once for each that is no 503.
	served func(answer) bool
	// doubted is told of a 503; may be nil.
	doubted func()
	// late is not asked before the outage.
	late bool
	// remembered may be answered from memory for as long as that counts.
	remembered bool
}

// progress is what was seen of a kind.
type progress struct {
	early, deep, back, settled atomic.Int64
	longest                    time.Duration
}

// MustWatch starts to watch a node of the deployment, which has merchants of that
// name no longer.
func MustWatch(t *testing.T, d *deployment, node *testkit.Server) *watch {
	t.Helper()
	w := &watch{d: d, node: node, merchant: d.MustMerchant(t, "acme"), cases: MustWireCases(t), acknowledged: make(map[string]customer)}
	c := newClient(t, node.BaseURL, w.merchant.Key)
	for range 20 {
		form := form(w.serial.Add(1))
		a, err := c.create(t.Context(), form)
		if err != nil || !w.created(form, a) {
			t.Fatalf("create is answered %d %s (%v)", a.status, a.body, err)
		}
	}
	w.subject = w.acknowledged[form(1).Get("object_reference_id")]
	return w
}

// created reports whether the answer is right for a create, and notes it then.
func (w *watch) created(form url.Values, a answer) bool {
	got, err := a.customer()
	if err != nil || a.status != http.StatusOK || !cmp.Equal(made(form, got), got) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged[got.Reference] = got
	return true
}

// kinds returns all that is asked. unseen is a key that the node has not met.
func (w *watch) kinds(t *testing.T, unseen string) []*kind {
	c := newClient(t, w.node.BaseURL, w.merchant.Key)
	stranger := newClient(t, w.node.BaseURL, unseen)
	nobody := newClient(t, w.node.BaseURL, "a-key-that-nobody-has-made")
	fixed := w.acknowledged[form(2).Get("object_reference_id")]
	isFixed := func(a answer) bool {
		got, err := a.customer()
		return err == nil && a.status == http.StatusOK && cmp.Equal(fixed, got)
	}
	isPage := func(a answer) bool {
		var page struct{ List []customer }
		err := json.Unmarshal([]byte(a.body), &page)
		return err == nil && a.status == http.StatusOK && len(page.List) == 5
	}
	var last url.Values
	var name string
	return []*kind{
		{
			name: "create",
			ask: func(ctx context.Context) (answer, error) {
				last = form(w.serial.Add(1))
				return c.create(ctx, last)
			},
			served: func(a answer) bool { return w.created(last, a) },
			doubted: func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.doubtful = append(w.doubtful, last)
			},
		},
		{
			name: "update",
			ask: func(ctx context.Context) (answer, error) {
				name = fmt.Sprintf("Asha %d", w.serial.Add(1))
				return c.do(ctx, http.MethodPost, "/customers/"+w.subject.ID, url.Values{"first_name": {name}}, "")
			},
			served: func(a answer) bool {
				got, err := a.customer()
				w.mu.Lock()
				defer w.mu.Unlock()
				want := w.subject
				want.FirstName, want.Updated = &name, got.Updated
				if err != nil || a.status != http.StatusOK || !cmp.Equal(want, got) {
					return false
				}
				w.subject, w.names = got, nil
				w.acknowledged[got.Reference] = got
				return true
			},
			doubted: func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.names = append(w.names, name)
			},
		},
		{name: "get by id", read: true, ask: func(ctx context.Context) (answer, error) { return c.get(ctx, fixed.ID) }, served: isFixed},
		{name: "get by reference", read: true, ask: func(ctx context.Context) (answer, error) { return c.get(ctx, fixed.Reference) }, served: isFixed},
		{
			name: "get of nobody", read: true,
			ask:    func(ctx context.Context) (answer, error) { return c.get(ctx, "nobody@example.com") },
			served: func(a answer) bool { return a.is(w.cases["customer_not_found"]) },
		},
		{
			name: "list", read: true,
			ask: func(ctx context.Context) (answer, error) {
				return c.do(ctx, http.MethodGet, "/customers?count=5", nil, "")
			},
			served: isPage,
		},
		{name: "get with a key not seen before", read: true, late: true, ask: func(ctx context.Context) (answer, error) { return stranger.get(ctx, fixed.ID) }, served: isFixed},
		{
			name: "get with an unknown key", read: true, late: true, remembered: true,
			ask:    func(ctx context.Context) (answer, error) { return nobody.get(ctx, fixed.ID) },
			served: func(a answer) bool { return a.is(w.cases["invalid_api_key"]) },
		},
	}
}

// complain fails the test, in words a few times at most.
func (w *watch) complain(t *testing.T, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.complaints++; w.complaints <= 20 {
		t.Errorf(format, args...)
	}
}

// judge looks at an answer to a request that began and ended in the given phases,
// deeply if nothing that was remembered counted any more.
func (w *watch) judge(t *testing.T, k *kind, o outage, a answer, err error, began, ended int32, deeply bool) (served bool) {
	if err != nil {
		w.complain(t, "%s is not answered: %v", k.name, err)
		return false
	}
	if a.took > answerBound {
		w.complain(t, "%s is answered %d only after %v", k.name, a.status, a.took)
	}
	if a.status == http.StatusServiceUnavailable {
		if k.doubted != nil {
			k.doubted()
		}
		seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
		if !a.is(w.cases["unavailable"]) || err != nil || seconds < 1 {
			w.complain(t, "%s is answered %s with Retry-After %q, want %s and seconds", k.name, a.body, a.header.Get("Retry-After"), w.cases["unavailable"].Body)
		}
		if ended == before || began == after {
			w.complain(t, "%s is answered 503 while the database is there", k.name)
		}
		return false
	}
	if !k.served(a) {
		w.complain(t, "%s is answered %d %s in phase %d", k.name, a.status, a.body, ended)
		return false
	}
	if began == during && ended == during && (deeply || !k.remembered) && !o.partly && (!o.partlyReads || !k.read) {
		w.complain(t, "%s is answered %d %s while the database is gone", k.name, a.status, a.body)
	}
	return true
}

// through watches the node through an outage, and fails the test unless it tells
// everybody of it in time, recovers by itself, and has lost nothing that it
// acknowledged.
func (w *watch) through(t *testing.T, o outage) {
	t.Helper()
	kinds := w.kinds(t, w.d.MustKey(t, w.merchant.Merchant).Key)
	var phase atomic.Int32
	var lost atomic.Pointer[time.Time]
	seen := make([]progress, len(kinds))
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for i, k := range kinds {
		p := &seen[i]
		asking.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				began, since := phase.Load(), lost.Load()
				if began == before && k.late {
					continue
				}
				deeply := since != nil && time.Since(*since) > deep
				a, err := k.ask(context.WithoutCancel(ctx))
				ended := phase.Load()
				served := w.judge(t, k, o, a, err, began, ended, deeply)
				switch {
				case served && began == before:
					p.early.Add(1)
				case served && began == between:
					p.back.Add(1)
				case served && began == after:
					p.settled.Add(1)
				case began == during && ended == during:
					p.longest = max(p.longest, a.took)
					if deeply {
						p.deep.Add(1)
					}
				}
				if o.partly && deeply && began == during {
					p.deep.Add(1)
				}
			}
		})
	}
	all := func(enough func(*kind, *progress) bool) func() bool {
		return func() bool {
			for i := range seen {
				if !enough(kinds[i], &seen[i]) {
					return false
				}
			}
			return true
		}
	}
	health := w.watchHealth(t, o, ctx, &asking, &phase, &lost)

	await(t, "everything is served", recoveryBound, all(func(k *kind, p *progress) bool { return k.late || p.early.Load() > 2 }))
	phase.Store(leaving)
	o.begin(t)
	now := time.Now()
	lost.Store(&now)
	phase.Store(during)
	await(t, "everybody is told of the outage", 3*answerBound, all(func(k *kind, p *progress) bool {
		return p.deep.Load() > 0 || o.partlyReads && k.read && time.Since(now) > deep+time.Second
	}))
	if !o.partly {
		await(t, "readiness tells of the outage", answerBound, func() bool { return health.unready.Load() })
	}
	phase.Store(between)
	o.end(t)
	back := time.Now()
	await(t, "everything is served again", recoveryBound, all(func(_ *kind, p *progress) bool { return p.back.Load() > 0 }))
	await(t, "the node says that it is ready again", recoveryBound, func() bool { return health.ready.Load() })
	recovered := time.Since(back)
	phase.Store(after)
	await(t, "everything goes on being served", recoveryBound, all(func(_ *kind, p *progress) bool { return p.settled.Load() > 5 }))
	stop()
	asking.Wait()
	var longest time.Duration
	for i := range seen {
		longest = max(longest, seen[i].longest)
	}
	t.Logf("gone for %v; the longest answer took %v; readiness said %v; all was served again after %v",
		back.Sub(now).Round(time.Millisecond), longest.Round(time.Millisecond), health.reason.Load(), recovered.Round(time.Millisecond))
	w.settle(t)
}

// health is what the operations listener says of a node.
type health struct {
	unready, ready atomic.Bool
	reason         atomic.Value // of the last 503 of readiness
}

// watchHealth asks for the node's liveness, which must stay, and its readiness,
// which must be as the phase is.
func (w *watch) watchHealth(t *testing.T, o outage, ctx context.Context, asking *sync.WaitGroup, phase *atomic.Int32, lost *atomic.Pointer[time.Time]) *health {
	h := new(health)
	c := newClient(t, w.node.OpsURL, "")
	ask := func(path string, judge func(a answer, began, ended int32)) {
		asking.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				began := phase.Load()
				a, err := c.do(context.WithoutCancel(ctx), http.MethodGet, path, nil, "")
				if err != nil || a.took > answerBound {
					w.complain(t, "%s is answered after %v: %v", path, a.took, err)
					return
				}
				judge(a, began, phase.Load())
			}
		})
	}
	ask("/healthz", func(a answer, _, _ int32) {
		if a.status != http.StatusOK {
			w.complain(t, "liveness is %d %s", a.status, a.body)
		}
	})
	ask("/readyz", func(a answer, began, ended int32) {
		var said struct{ Status, Reason string }
		if err := json.Unmarshal([]byte(a.body), &said); err != nil {
			w.complain(t, "readiness is %d %s", a.status, a.body)
		}
		switch a.status {
		case http.StatusOK:
			if began == between || began == after {
				h.ready.Store(true)
			}
		case http.StatusServiceUnavailable:
			if ended == before || began == after || said.Reason == "" {
				w.complain(t, "readiness is 503 %s in phase %d", a.body, ended)
			}
			h.reason.Store(said.Reason)
			if began == during && ended == during {
				h.unready.Store(true)
			}
		default:
			w.complain(t, "readiness is %d %s", a.status, a.body)
		}
		if o.partly {
			return
		}
		if h.unready.Load() && began == during && ended == during && a.status == http.StatusOK {
			w.complain(t, "readiness is 200 again while the database is gone")
		}
	})
	return h
}

// settle sends the creates again of which nobody knows whether they were done, and
// compares everything that was acknowledged with what the node and the database
// have.
func (w *watch) settle(t *testing.T) {
	t.Helper()
	c := newClient(t, w.node.BaseURL, w.merchant.Key)
	done := 0
	for _, form := range w.doubtful {
		a, err := c.create(t.Context(), form)
		if err == nil && w.created(form, a) {
			continue
		}
		if err != nil || !a.is(w.cases["duplicate_reference"]) {
			t.Fatalf("a create that is sent again is answered %d %s (%v)", a.status, a.body, err)
		}
		if a, err = c.get(t.Context(), form.Get("object_reference_id")); err != nil || !w.created(form, a) {
			t.Errorf("what a create of unknown outcome has made is read as %d %s (%v), of %v", a.status, a.body, err, form)
		}
		done++
	}
	t.Logf("%d creates were sent again, of which %d had been done", len(w.doubtful), done)
	w.doubtful = nil
	for reference, want := range w.acknowledged {
		for _, id := range []string{want.ID, reference} {
			a, err := c.get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.customer()
			if want.ID == w.subject.ID && got.FirstName != nil {
				for _, name := range w.names {
					if *got.FirstName == name {
						want.FirstName, want.Updated = got.FirstName, got.Updated
					}
				}
			}
			if diff := cmp.Diff(want, got); a.status != http.StatusOK || err != nil || diff != "" {
				t.Errorf("an acknowledged customer is read by %q as %d %s (-acknowledged +read):\n%s", id, a.status, a.body, diff)
			}
		}
	}
	w.d.MustBeWhole(t, map[string]int{w.merchant.Merchant: len(w.acknowledged)})
}
