package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// The three nodes of TestNodes, by what becomes of them.
const (
	surviving = iota
	drained
	killed
	nodes
)

// attempt is one create of a reference that several callers want to create.
type attempt struct {
	id     string // of the request
	node   int
	form   url.Values
	answer answer
	err    error
}

// race is callers that create the same references through several nodes.
type race struct {
	merchants []apiKey
	nodes     [nodes]*testkit.Server
	ending    [nodes]atomic.Bool // set before a node is told to end
	answered  atomic.Int64

	mu       sync.Mutex
	attempts map[int64][]attempt // by reference
}

// merchant returns whose the n-th reference is.
func (r *race) merchant(n int64) apiKey { return r.merchants[n%int64(len(r.merchants))] }

// caller creates references as a program behind a load balancer does: through one
// node until that does not answer, and then the same through another.
type caller struct {
	race    *race
	number  int
	node    int
	clients [nodes]map[string]*client // by merchant
}

func (r *race) newCaller(t *testing.T, number int) *caller {
	c := &caller{race: r, number: number, node: number % nodes}
	for i, node := range r.nodes {
		c.clients[i] = make(map[string]*client)
		for _, m := range r.merchants {
			c.clients[i][m.Merchant] = newClient(t, node.BaseURL, m.Key)
		}
	}
	return c
}

// create sends the n-th reference until a node answers.
func (c *caller) create(t *testing.T, n int64) {
	for try := range nodes {
		form := form(n)
		form.Set("last_name", fmt.Sprintf("Rao of caller %d", c.number))
		a := attempt{id: fmt.Sprintf("r%d.c%d.t%d", n, c.number, try), node: c.node, form: form}
		a.answer, a.err = c.clients[c.node][c.race.merchant(n).Merchant].do(t.Context(), http.MethodPost, "/customers", form, a.id)
		if a.err != nil && !c.race.ending[c.node].Load() {
			t.Errorf("node %d, which nobody told to end, does not answer: %v", c.node, a.err)
		}
		c.race.mu.Lock()
		c.race.attempts[n] = append(c.race.attempts[n], a)
		c.race.mu.Unlock()
		if a.err == nil {
			c.race.answered.Add(1)
			return
		}
		c.node = (c.node + 1) % nodes
	}
	t.Errorf("reference %d: no node answers caller %d", n, c.number)
}

// Callers race to create the same references through three nodes, one of which is
// killed and another drained meanwhile. One of them wins each reference, nothing
// that was acknowledged is lost, nobody sees a failure but those whose requests the
// killed node had, and the last node does the work that the killed one left.
func TestNodes(t *testing.T) {
	t.Parallel()
	const callers, together = 12, 12
	rounds := 40 * long(10)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := MustDeploy(t, postgres.Shared(t))
	r := &race{attempts: make(map[int64][]attempt)}
	for i := range r.nodes {
		r.nodes[i] = d.node(t, "")
	}
	for i := range 6 {
		r.merchants = append(r.merchants, d.MustMerchant(t, fmt.Sprintf("acme_%d", i)))
	}
	var all []*caller
	for i := range callers {
		all = append(all, r.newCaller(t, i))
	}

	// The nodes end at any point of a round.
	expected := int64(rounds * together * callers)
	reached := func(part int64) <-chan struct{} {
		now := make(chan struct{})
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for r.answered.Load() < part && t.Context().Err() == nil {
				<-tick.C
			}
			close(now)
		}()
		return now
	}
	var ending sync.WaitGroup
	ending.Go(func() {
		<-reached(expected / 3)
		r.ending[killed].Store(true)
		r.nodes[killed].Kill(t)
		<-reached(expected * 2 / 3)
		r.ending[drained].Store(true)
		r.nodes[drained].Signal(t, syscall.SIGTERM)
	})
	for round := range rounds {
		var working sync.WaitGroup
		for _, c := range all {
			working.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(round*callers+c.number)))
				for _, i := range random.Perm(together) {
					c.create(t, int64(round*together+i))
				}
			})
		}
		working.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	ending.Wait()
	r.nodes[drained].WaitExit(t)

	customers := make(map[string]int)
	for n := range r.attempts {
		customers[r.merchant(n).Merchant]++
	}
	d.MustBeWhole(t, customers)
	await(t, "the surviving node says that every event has its place", recoveryBound, func() bool {
		return MustScrape(t, r.nodes[surviving])[orderLag] == 0
	})
	r.check(t, d)
}

// check compares what the callers were told with what the surviving node has.
func (r *race) check(t *testing.T, d *deployment) {
	t.Helper()
	duplicate := MustWireCases(t)["duplicate_reference"]
	madeBy := make(map[string]string) // requests by customer
	for _, row := range d.query(t, "SELECT convert_from(subject, 'UTF8'), request_id FROM events WHERE type = 'customer.created'") {
		id, request, _ := strings.Cut(row, "|")
		madeBy[id] = request
	}
	clients := make(map[string]*client)
	for _, m := range r.merchants {
		clients[m.Merchant] = newClient(t, r.nodes[surviving].BaseURL, m.Key)
	}
	var unanswered [nodes]int
	silent, refused := 0, 0
	for n, attempts := range r.attempts {
		read, err := clients[r.merchant(n).Merchant].get(t.Context(), form(n).Get("object_reference_id"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := read.customer()
		if read.status != http.StatusOK || err != nil {
			t.Errorf("reference %d is answered %d %s (%v)", n, read.status, read.body, err)
			continue
		}
		var winners, maker int
		for _, a := range attempts {
			made := made(a.form, got)
			if a.id == madeBy[got.ID] {
				maker++
				if diff := cmp.Diff(made, got); diff != "" {
					t.Errorf("reference %d is not what its creator sent (-sent +read):\n%s", n, diff)
				}
			}
			switch {
			case a.err != nil:
				unanswered[a.node]++
				if a.id == madeBy[got.ID] {
					silent++
					if a.node != killed {
						t.Errorf("reference %d was created by a request that node %d, which was drained, never answered: %v", n, a.node, a.err)
					}
				}
			case a.answer.status == http.StatusOK:
				winners++
				if a.id != madeBy[got.ID] {
					t.Errorf("reference %d: request %s is told that it has created the customer, but %q has", n, a.id, madeBy[got.ID])
				}
				if told, err := a.answer.customer(); err != nil || !cmp.Equal(told, got) {
					t.Errorf("reference %d: %s (%v) was acknowledged, and %s is read", n, a.answer.body, err, read.body)
				}
			case a.answer.is(duplicate):
				refused++
			default:
				t.Errorf("reference %d: request %s to node %d is answered %d %s", n, a.id, a.node, a.answer.status, a.answer.body)
			}
		}
		if maker != 1 || winners > 1 {
			t.Errorf("reference %d was created by %d of its requests (%q), and %d are told so", n, maker, madeBy[got.ID], winners)
		}
	}
	if unanswered[surviving] > 0 {
		t.Errorf("the surviving node left %d requests unanswered", unanswered[surviving])
	}
	t.Logf("%d references, %d duplicates refused; %d requests unanswered by the killed node and %d by the drained one; %d customers of whom no caller was told",
		len(r.attempts), refused, unanswered[killed], unanswered[drained], silent)
}
