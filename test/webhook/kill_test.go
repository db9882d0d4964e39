package webhook_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// load is writers that create, update and erase customers of several merchants.
type load struct {
	serial  atomic.Int64
	written atomic.Int64 // requests that were answered
	most    int64        // of them
	clients []*client
	writing sync.WaitGroup
	end     context.CancelFunc
}

// startLoad starts writers, two for each merchant, which end with the test, when
// stop is called, or when most requests were answered.
func startLoad(t *testing.T, seed uint64, most int64, merchants []merchant, servers ...*testkit.Server) *load {
	t.Helper()
	l := &load{most: most}
	l.serial.Store(int64(seed % 1000 * 100_000))
	var ctx context.Context
	ctx, l.end = context.WithCancel(t.Context())
	for w, m := range append(append([]merchant{}, merchants...), merchants...) {
		c := newClient(t, m, servers...)
		l.clients = append(l.clients, c)
		l.writing.Go(func() { l.write(ctx, c, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	t.Cleanup(l.stop)
	return l
}

// join makes another server known to the writers.
func (l *load) join(server *testkit.Server) {
	for _, c := range l.clients {
		c.join(server)
	}
}

// stop ends the writers.
func (l *load) stop() {
	l.end()
	l.writing.Wait()
}

// write changes customers until ctx ends. What becomes of a request that is not
// answered only the database knows.
func (l *load) write(ctx context.Context, c *client, random *rand.Rand) {
	var ids []string
	for ctx.Err() == nil && l.written.Load() < l.most {
		method, path, fields := http.MethodPost, "/customers", url.Values(nil)
		at := -1
		if len(ids) > 0 {
			at = random.IntN(len(ids))
		}
		switch kind := random.IntN(10); {
		case at < 0 || kind < 3:
			fields = form(int(l.serial.Add(1)))
		case kind < 9:
			path, fields = path+"/"+ids[at], url.Values{"first_name": {fmt.Sprint("Name", strings.Repeat("x", random.IntN(50)))}}
		default:
			method, path = http.MethodDelete, path+"/"+ids[at]
			ids = append(ids[:at], ids[at+1:]...)
		}
		status, id, err := c.do(ctx, method, path, fields)
		// Without an end there is a pace, which endpoints that take their time can keep up
		// with; and the server may be gone.
		if l.most == math.MaxInt64 || err != nil {
			rest := time.NewTimer(20 * time.Millisecond)
			select {
			case <-rest.C:
			case <-ctx.Done():
			}
		}
		switch {
		case err != nil:
			continue
		case status == http.StatusOK && path == "/customers":
			ids = append(ids, id)
		}
		l.written.Add(1)
	}
}

// subscriptions are two endpoints of each merchant, of which one is not sent all
// types. Both take their time.
func (r *receiver) subscriptions(t *testing.T, i *instance, merchants []merchant) (hooks []*hook) {
	t.Helper()
	late := func(_ http.ResponseWriter, req *http.Request, _ delivery) int {
		return hold(req, rand.N(60*time.Millisecond))
	}
	for _, m := range merchants {
		hooks = append(hooks, r.MustHook(t, i, m, "all", late),
			r.MustHook(t, i, m, "some", late, "--types", "customer.updated,customer.erased"))
	}
	return hooks
}

// seed returns a new seed, which the test's log tells.
func seed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// Whenever the server is killed, every event that is in the database arrives at
// every endpoint that it is for, in order, and nothing else does.
func TestKill(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		seed := seed(t)
		random := rand.New(rand.NewPCG(seed, 0))
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		var merchants []merchant
		for n := range 3 {
			merchants = append(merchants, i.MustMerchant(t, fmt.Sprintf("acme_%d", n)))
		}
		hooks := r.subscriptions(t, i, merchants)
		got := func() (n int) {
			for _, h := range hooks {
				n += h.accepted()
			}
			return n
		}
		kills := 6 * long(10)
		if i.data == "" {
			kills = 2 * long(10) // The next server waits until the last is taken for gone.
		}
		for kill := range kills {
			l := startLoad(t, seed+uint64(kill), 500, merchants, server)
			// The kill comes at any point, also right after the start.
			writes, arrivals := l.written.Load()+random.Int64N(300), got()
			if kill%3 > 0 {
				arrivals += random.IntN(200)
			}
			await(t, "there is enough going on for a kill", func() bool { return l.written.Load() >= writes && got() >= arrivals })
			server.Kill(t)
			l.stop()
			server = i.MustStart(t, r)
		}
		MustGetAll(t, i, hooks)
		server.Stop(t)
	})
}

// MustGetAll waits until the endpoints have taken all events that there are, and
// fails the test as [hook.MustGetAll] does. Servers may still be at work on requests
// that nobody waits for: the events of those may come as well.
func MustGetAll(t *testing.T, i *instance, hooks []*hook) {
	t.Helper()
	list := func() map[string][]event {
		events := make(map[string][]event)
		for _, h := range hooks {
			if m := h.merchant.Merchant; events[m] == nil {
				events[m] = i.MustEvents(t, m)
			}
		}
		return events
	}
	wanted := list()
	for _, h := range hooks {
		h.mustTake(t, wanted[h.merchant.Merchant])
	}
	got := make([][]delivery, len(hooks))
	for n, h := range hooks {
		got[n] = h.deliveries()
	}
	// What has come by now is there by now.
	known := list()
	total, repeated := 0, 0
	for n, h := range hooks {
		h.check(t, known[h.merchant.Merchant], got[n])
		total += h.accepted()
		repeated += len(got[n]) - h.accepted()
	}
	t.Logf("%d events were taken; %d further requests repeated some of them", total, repeated)
	if total == 0 {
		t.Error("no events were taken")
	}
}

// The node that sends to an endpoint is killed, and then the next is paused until it
// is taken for gone and goes on later: another takes over, and never do two send
// the same event at the same time.
func TestNodes(t *testing.T) {
	t.Parallel()
	i := engines["postgres"](t)
	r := newReceiver(t, i)
	var nodes []*testkit.Server
	processes := make(map[string]*testkit.Server) // by the id that the node has in the database
	start := func() {
		t.Helper()
		node := i.MustStart(t, r)
		await(t, "the node beats", func() bool {
			for _, id := range i.query(t, "SELECT convert_from(id, 'UTF8') FROM nodes") {
				if processes[id] == nil {
					processes[id] = node
					return true
				}
			}
			return false
		})
		nodes = append(nodes, node)
	}
	for range 3 {
		start()
	}
	var merchants []merchant
	for n := range 4 {
		merchants = append(merchants, i.MustMerchant(t, fmt.Sprintf("acme_%d", n)))
	}
	hooks := r.subscriptions(t, i, merchants)
	l := startLoad(t, seed(t), math.MaxInt64, merchants, nodes...)
	// holders returns the node of each endpoint.
	holders := func() map[string]string {
		list := make(map[string]string)
		for _, row := range i.query(t, "SELECT convert_from(id, 'UTF8'), convert_from(holder, 'UTF8') FROM webhooks") {
			id, holder, _ := strings.Cut(row, "|")
			list[id] = holder
		}
		return list
	}
	// victim returns the node that sends to the first endpoint now, while it does.
	victim := func() (id string) {
		t.Helper()
		before := hooks[0].accepted()
		await(t, "a node sends", func() bool {
			id = holders()[hooks[0].id]
			return processes[id] != nil && hooks[0].accepted() > before+10
		})
		return id
	}
	// replaced returns when other nodes send to all endpoints, and what the node had
	// under way has been sent again.
	replaced := func(id string) {
		t.Helper()
		await(t, "other nodes take over", func() bool {
			for _, now := range holders() {
				if now == "" || now == id {
					return false
				}
			}
			return true
		})
		for _, h := range hooks {
			before := h.accepted()
			await(t, "another node sends", func() bool { return h.accepted() > before+20 })
		}
	}
	rounds := long(10)
	for round := range rounds {
		id := victim()
		processes[id].Kill(t)
		replaced(id)

		id = victim()
		processes[id].Signal(t, syscall.SIGSTOP)
		replaced(id)
		processes[id].Signal(t, syscall.SIGCONT)
		if round < rounds-1 {
			start()
			l.join(nodes[len(nodes)-1])
		}
	}
	l.stop()
	MustGetAll(t, i, hooks)
}
