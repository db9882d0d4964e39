package postgres_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// The kinds of calls.
const (
	callCreate = "create"
	callEnsure = "create or fetch"
	callRevise = "create or update"
	callGet    = "get"
	callUpdate = "update"
	callErase  = "erase"
)

// call is one thing that a caller wants done, by one request or, with an
// idempotency key, by the same again until it is answered.
type call struct {
	reference string
	kind      string
	name      string // that the call gives the customer; no two give the same
	match     string // If-Match; empty for none
	keyed     bool
}

// told is what a caller was told.
type told struct {
	unknown  bool // nothing, or that it is not known
	status   int
	id, name string
	revision int64
	created  bool
	replayed bool // the customer may have changed since the call took effect
	repeated bool // the answer is that to a later request than the first
}

// person is all that there is of one reference.
type person struct {
	there    bool
	id       string // empty if nobody was told yet
	name     string
	revision int64
}

// is reports whether a customer that somebody was told of may be p, and returns p
// as it is known then.
func (p person) is(id string) (bool, person) {
	if !p.there || p.id != "" && p.id != id {
		return false, p
	}
	p.id = id
	return true, p
}

// matches reports whether p may have the entity tag, and returns p as it is known
// then.
func (p person) matches(tag string) (bool, person) {
	id, revision := parseTag(tag)
	ok, known := p.is(id)
	return ok && known.revision == revision, known
}

func parseTag(tag string) (id string, revision int64) {
	id, text, _ := strings.Cut(strings.Trim(tag, `"`), "-")
	revision, _ = strconv.ParseInt(text, 10, 64)
	return id, revision
}

// renamed returns p as an update leaves it.
func (p person) renamed(name string) person {
	p.name = name
	p.revision++
	return p
}

// customers is what the service promises of one reference: it is what any order
// of the calls, one after the other, shows. A call of which nobody knows whether it
// took effect may do so at any time until the end, where nobody looks any more.
var customers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var list [][]porcupine.Operation
		places := make(map[string]int)
		for _, o := range history {
			reference := o.Input.(call).reference
			place, known := places[reference]
			if !known {
				place = len(list)
				places[reference] = place
				list = append(list, nil)
			}
			list[place] = append(list[place], o)
		}
		return list
	},
	Init: func() any { return person{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(person).after(input.(call), output.(told))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

// after reports whether c could be answered with o, and returns what there is then.
func (p person) after(c call, o told) (bool, person) {
	made := person{there: true, id: o.id, name: c.name, revision: 1}
	switch c.kind {
	case callCreate:
		switch {
		case o.status == http.StatusBadRequest:
			return p.there, p
		case o.unknown && p.there:
			return true, p
		case p.there:
			return false, p
		}
		// Repeated, it says 404 if the customer that it made was erased since.
		fits := o.unknown || o.status == http.StatusNotFound && o.repeated ||
			o.status == http.StatusOK && (o.replayed || o.name == c.name && o.revision == 1)
		return fits, made
	case callEnsure, callRevise:
		if !p.there {
			return o.unknown || o.status == http.StatusOK && o.created && o.name == c.name && o.revision == 1, made
		}
		next := p
		if c.kind == callRevise {
			next = p.renamed(c.name)
		}
		if o.unknown {
			return true, next
		}
		ok, known := next.is(o.id)
		return ok && o.status == http.StatusOK && !o.created && o.name == known.name && o.revision == known.revision, known
	case callGet:
		if o.status == http.StatusNotFound {
			return !p.there, p
		}
		ok, known := p.is(o.id)
		return ok && o.name == known.name && o.revision == known.revision, known
	case callUpdate:
		return p.afterUpdate(c, o)
	default:
		switch {
		case o.unknown:
			return true, person{}
		case o.status == http.StatusNotFound:
			return !p.there, p
		}
		ok, _ := p.is(o.id)
		return ok && o.status == http.StatusOK, person{}
	}
}

func (p person) afterUpdate(c call, o told) (bool, person) {
	fits, known := true, p
	if c.match != "" {
		fits, known = p.matches(c.match)
	}
	switch {
	case o.status == http.StatusPreconditionFailed:
		return p.there && !fits, p
	case !p.there:
		return o.unknown || o.status == http.StatusNotFound, p
	case o.unknown && !fits:
		return true, p
	case o.unknown:
		return true, known.renamed(c.name)
	case !fits:
		return false, p
	case o.status == http.StatusNotFound:
		// It took effect on a customer that was erased before the answer.
		return o.repeated, known.renamed(c.name)
	}
	ok, known := known.is(o.id)
	next := known.renamed(c.name)
	return ok && o.status == http.StatusOK && (o.replayed || o.name == next.name && o.revision == next.revision), next
}

// history is calls on nodes that are killed and replaced, as their callers saw
// them.
type history struct {
	key   apiKey
	nodes [3]atomic.Pointer[testkit.Server]
	begun time.Time
	names atomic.Int64

	mu         sync.Mutex
	operations []porcupine.Operation
}

// Whatever is asked of one reference, through several nodes, of which some die while
// they work and one loses its connections to the database, looks as if all had been
// done one after the other: there is one customer or none, no update is lost, and a
// request that is repeated with its idempotency key takes effect once.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	const callers = 8
	calls, references := 90*long(5), 20*long(3)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cluster := postgres.Shared(t)
	d := MustDeploy(t, cluster)
	proxy := cluster.Proxy(t)
	through := strings.Replace(d.database, cluster.Addr(), proxy.Addr(), 1)
	h := &history{}
	for i := range h.nodes {
		h.nodes[i].Store(d.node(t, map[bool]string{true: through}[i == 2]))
	}
	h.key = d.MustMerchant(t, "acme")
	h.begun = time.Now()

	var done atomic.Int64
	var working, breaking sync.WaitGroup
	breaking.Go(func() {
		parts := 6 * long(4)
		for part := 1; part < parts; part++ {
			await(t, "the callers go on", 10*recoveryBound, func() bool {
				return done.Load() >= int64(calls*callers*part/parts) || t.Failed()
			})
			switch part % 3 {
			case 2:
				proxy.CutAll()
			default:
				i := part % 3
				h.nodes[i].Load().Kill(t)
				h.nodes[i].Store(d.node(t, ""))
			}
		}
	})
	for number := range callers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(number)))
			tags := make(map[string]string) // the last that was seen
			for range calls {
				reference := form(random.Int64N(int64(references))).Get("object_reference_id")
				h.call(t, random, reference, tags)
				done.Add(1)
			}
		})
	}
	working.Wait()
	breaking.Wait()

	outcomes := make(map[string]int)
	for _, o := range h.operations {
		out := o.Output.(told)
		what := strconv.Itoa(out.status)
		if out.unknown {
			what = "not known"
		}
		if out.replayed {
			what += " again"
		}
		outcomes[o.Input.(call).kind+" "+what]++
	}
	t.Logf("%d calls: %v", len(h.operations), outcomes)
	for _, kind := range []string{"create 200", "create 400", "create or fetch 200", "create or update 200", "get 200", "get 404", "update 200", "update 404", "update 412", "update 200 again", "erase 200 again", "erase 200", "erase 404"} {
		if outcomes[kind] == 0 {
			t.Errorf("no call ended with %s", kind)
		}
	}
	switch porcupine.CheckOperationsTimeout(customers, h.operations, 2*time.Minute) {
	case porcupine.Illegal:
		for _, one := range customers.Partition(h.operations) {
			if !porcupine.CheckOperations(customers, one) {
				t.Errorf("no order of the %d calls of one reference explains what their callers were told:", len(one))
				for _, o := range one {
					t.Logf("%8.3f to %8.3f ms: %s", float64(o.Call)/1e6, float64(o.Return)/1e6, customers.DescribeOperation(o.Input, o.Output))
				}
			}
		}
	case porcupine.Unknown:
		t.Error("the search for an order took too long")
	}
	d.MustBeWhole(t, nil)
}

// call does one thing at random with a reference, and notes what it was told.
func (h *history) call(t *testing.T, random *rand.Rand, reference string, tags map[string]string) {
	kinds := []string{callCreate, callEnsure, callRevise, callGet, callGet, callUpdate, callUpdate, callErase}
	c := call{reference: reference, kind: kinds[random.IntN(len(kinds))], name: fmt.Sprintf("Name %d", h.names.Add(1))}
	header := http.Header{}
	if c.kind == callCreate || c.kind == callUpdate || c.kind == callErase {
		c.keyed = random.IntN(2) == 0
	}
	if c.keyed {
		header.Set("Idempotency-Key", "key of "+c.name)
	}
	if c.kind == callUpdate && tags[reference] != "" && random.IntN(2) == 0 {
		c.match = tags[reference]
		header.Set("If-Match", c.match)
	}
	method, path := http.MethodPost, "/customers/"+url.PathEscape(reference)
	values := url.Values{"first_name": {c.name}}
	switch c.kind {
	case callCreate:
		path = "/customers"
		values.Set("object_reference_id", reference)
		values.Set("mobile_number", "9876543210")
	case callEnsure, callRevise:
		path = "/v2" + path
		values.Set("mobile_number", "9876543210")
		values.Set("update", strconv.FormatBool(c.kind == callRevise))
	case callGet:
		method, values = http.MethodGet, nil
	case callErase:
		method, values = http.MethodDelete, nil
	}
	begin := time.Since(h.begun)
	out := told{unknown: true}
	var tag string
	twin := told{}
	if c.keyed && random.IntN(4) > 0 {
		// Somebody else does the same at the same time.
		var other sync.WaitGroup
		node := random.IntN(len(h.nodes))
		other.Go(func() { twin, _ = h.send(t, node, method, path, values, header) })
		out, tag = h.send(t, random.IntN(len(h.nodes)), method, path, values, header)
		other.Wait()
		out.repeated, twin.repeated = true, true
	}
	lost := false // an earlier request may be under way still
	for try := 0; out.unknown && (try == 0 || c.keyed && try < 8); try++ {
		lost = out.repeated || try > 0
		repeated := lost
		out, tag = h.send(t, random.IntN(len(h.nodes)), method, path, values, header)
		out.repeated = repeated
	}
	// What was refused leaves the key to whoever comes next: then it is the other who
	// did it, if anybody.
	if !out.unknown && out.status != http.StatusOK && (twin.unknown || twin.status == http.StatusOK) {
		out = twin
	}
	if lost && out.status != http.StatusOK {
		out = told{unknown: true}
	}
	end := time.Since(h.begun)
	if out.unknown {
		if c.kind == callGet {
			return
		}
		end = math.MaxInt64
	}
	if tag != "" {
		tags[reference] = tag
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, porcupine.Operation{Input: c, Output: out, Call: int64(begin), Return: int64(end)})
}

// send sends a request to a node, or to the next one if it is not there at all, and
// returns what it says and the entity tag.
func (h *history) send(t *testing.T, node int, method, path string, values url.Values, header http.Header) (told, string) {
	var a answer
	var err error = syscall.ECONNREFUSED
	for try := 0; errors.Is(err, syscall.ECONNREFUSED) && try < len(h.nodes); try++ {
		client := newClient(t, h.nodes[(node+try)%len(h.nodes)].Load().BaseURL, h.key.Key)
		a, err = client.send(t.Context(), method, path, values, header)
		client.http.CloseIdleConnections()
	}
	if err != nil || a.status == http.StatusServiceUnavailable || a.status == http.StatusConflict {
		return told{unknown: true}, ""
	}
	out := told{status: a.status, created: a.header.Get("X-Customer-Created") == "true", replayed: a.header.Get("Idempotent-Replayed") == "true"}
	switch a.status {
	case http.StatusOK:
		c, err := a.customer()
		if err != nil {
			t.Errorf("%s %s: %v in %s", method, path, err, a.body)
		}
		out.id = c.ID
		if c.FirstName != nil {
			out.name = *c.FirstName
		}
		_, out.revision = parseTag(a.header.Get("Etag"))
		return out, a.header.Get("Etag")
	case http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed:
	default:
		t.Errorf("%s %s is answered %d %s", method, path, a.status, a.body)
	}
	return out, ""
}
