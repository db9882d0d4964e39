package retries_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
)

// operation is one kind of write, of a customer with a given reference.
type operation struct {
	name string
	// exists is set if the customer is there before.
	exists bool
	write  func(reference string) request
	// differ makes it say something else in its body; nil if that says nothing.
	differ func(*request)
	// events are those that the customer then has.
	events []grahak.EventType
	// gone is set if the customer then is not there.
	gone bool
	// anew is the answer to the request when its key is as good as new, by its name
	// among the decided bodies; empty if that is the customer as it is.
	anew string
}

const (
	created = grahak.EventCustomerCreated
	updated = grahak.EventCustomerUpdated
	erased  = grahak.EventCustomerErased
)

func change(key, value string) func(*request) {
	return func(r *request) { r.pairs = append(r.pairs, pair{key, value}) }
}

var operations = []operation{
	{
		name: "create", events: []grahak.EventType{created}, anew: "duplicate_reference", differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/customers", pairs: []pair{{"object_reference_id", reference}, {"mobile_number", "98"}, {"email_address", reference}}}
		},
	},
	{
		name: "make", events: []grahak.EventType{created}, differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/v2/customers/" + reference, pairs: []pair{{"mobile_number", "98"}}}
		},
	},
	{
		name: "fetch", exists: true, events: []grahak.EventType{created}, differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/v2/customers/" + reference, pairs: []pair{{"mobile_number", "99"}}}
		},
	},
	{
		name: "fetch and update", exists: true, events: []grahak.EventType{created, updated}, differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/v2/customers/" + reference, pairs: []pair{{"first_name", "Jane"}, {"update", "true"}}}
		},
	},
	{
		name: "update", exists: true, events: []grahak.EventType{created, updated}, differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/customers/" + reference, pairs: []pair{{"first_name", "Jane"}}}
		},
	},
	{
		name: "update of nothing", exists: true, events: []grahak.EventType{created}, differ: change("last_name", "Rao"),
		write: func(reference string) request {
			return request{method: http.MethodPost, path: "/customers/" + reference, pairs: []pair{{"mobile_number", "1"}}}
		},
	},
	{
		name: "erase", exists: true, events: []grahak.EventType{created, erased}, gone: true, anew: "customer_not_found",
		write: func(reference string) request {
			return request{method: http.MethodDelete, path: "/customers/" + reference}
		},
	},
}

// MustExist makes the customer that an operation is about, if it needs one.
func (d *deployment) MustExist(tb testing.TB, o operation, reference string) {
	tb.Helper()
	if !o.exists {
		return
	}
	d.MustSend(tb, request{method: http.MethodPost, path: "/customers", pairs: []pair{{"object_reference_id", reference}, {"mobile_number", "1"}}}).id(tb)
}

// A write that was answered is answered the same to whoever sends it again with
// its key, in any encoding, until the key expires. Nothing else is done under the
// key. It took effect once.
func TestRepeat(t *testing.T) {
	t.Parallel()
	bodies := MustBodies(t)
	onEachEngine(t, func(t *testing.T, d *deployment) {
		customers := 0
		for i, o := range operations {
			for encoding := range encodings {
				what := fmt.Sprintf("%s in %s", o.name, encoding)
				reference := person("repeat-"+encoding, i)
				d.MustExist(t, o, reference)
				r := o.write(reference)
				r.key, r.encoding = fmt.Sprintf("%s %d", reference, i), encoding
				first := d.MustSend(t, r)
				id := first.id(t)
				if first.Replayed != "" {
					t.Errorf("%s: the first answer is %+v", what, first)
				}
				again := replayed(first)
				for encoding := range encodings {
					d.MustSend(t, r.with(func(r *request) { r.encoding = encoding })).is(t, what+", again in "+encoding, again)
				}
				d.MustSend(t, r.with(func(r *request) { r.key = `"` + r.key + `"` })).is(t, what+", the key in quotes", again)
				mismatch := bodies["idempotency_mismatch"]
				if o.differ != nil {
					d.MustSend(t, r.with(o.differ)).is(t, what+", with other fields", mismatch)
					d.MustSend(t, r.with(change("options.get_client_auth_token", "true"))).is(t, what+", with a token", mismatch)
				}
				d.MustSend(t, r.with(func(r *request) { r.path = "/customers/" + id })).is(t, what+", on another path", mismatch)
				d.MustSend(t, r.with(func(r *request) { r.ifMatch = "*" })).is(t, what+", with a condition", mismatch)
				d.MustSend(t, r.with(func(r *request) { r.ifMatch = `"x"` })).is(t, what+", with another condition", mismatch)

				theirs := d.MustSend(t, r.with(func(r *request) { r.merchant = other }))
				if theirs.Replayed != "" || theirs.Body == first.Body {
					t.Errorf("%s: another merchant with the same key is answered %+v", what, theirs)
				}

				d.clock.Advance(keep - time.Microsecond)
				d.MustSend(t, r).is(t, what+", at the last microsecond of its key", again)
				d.MustHave(t, what, id, o.events...)
				d.clock.Advance(time.Microsecond)
				anew := first
				if o.anew != "" {
					anew = bodies[o.anew]
				}
				if o.name == "create" {
					anew.Existing = id
				}
				if anew.Created != "" {
					anew.Created = "false"
				}
				d.MustSend(t, r).is(t, what+", after its key", anew)
				d.MustHave(t, what+", after its key", id, o.events...)
				if !o.gone {
					customers++
				}
			}
		}
		d.MustCount(t, customers)
		// What has expired is pruned, and what has not is not.
		d.clock.Advance(keep)
		pruned := 0
		for {
			n, err := d.nodes[0].store.PruneIdempotency(t.Context(), d.clock.Now(), 5)
			if err != nil || n > 5 {
				t.Fatalf("pruned %d (%v), want 5 at most", n, err)
			}
			if pruned += n; n == 0 {
				break
			}
		}
		if pruned < len(operations)*len(encodings) {
			t.Errorf("%d keys were pruned, want at least one for each request", pruned)
		}
	})
}

// A token that was asked for is fresh each time, and works; it moves nothing.
func TestRepeatWithToken(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, d *deployment) {
		for i, o := range operations {
			if o.gone {
				continue
			}
			reference := person("token", i)
			d.MustExist(t, o, reference)
			r := o.write(reference).with(change("options.get_client_auth_token", "true"))
			r.key = "token of " + reference
			first := d.MustSend(t, r)
			again := d.MustSend(t, r)
			again.is(t, o.name, replayed(first))
			if again.token == first.token {
				t.Errorf("%s: the token is %q both times", o.name, first.token)
			}
			for _, a := range []answer{first, again} {
				d.MustBeToken(t, a.token, a.id(t))
			}
			d.MustHave(t, o.name, first.id(t), o.events...)
		}
	})
}

// Of requests that are sent at once with one key, to one node or to two, one takes
// effect and all are answered as it is.
func TestRepeatAtOnce(t *testing.T) {
	t.Parallel()
	const together = 16
	onEachEngine(t, func(t *testing.T, d *deployment) {
		if _, ok := d.nodes[0].store.(*sqlstore.Postgres); ok {
			d.MustJoin(t)
		}
		for round := range 2 {
			for i, o := range operations {
				what := fmt.Sprintf("%s, round %d", o.name, round)
				reference := person(fmt.Sprintf("at-once-%d", round), i)
				d.MustExist(t, o, reference)
				r := o.write(reference)
				r.key = reference
				answers, errs := make([]answer, together), make([]error, together)
				start := make(chan struct{})
				var calls sync.WaitGroup
				for i := range together {
					calls.Go(func() {
						<-start
						answers[i], errs[i] = d.send(t.Context(), d.nodes[i%len(d.nodes)], r)
					})
				}
				close(start)
				calls.Wait()
				firsts := 0
				var first answer
				for i, a := range answers {
					if errs[i] != nil {
						t.Fatalf("%s: %v", what, errs[i])
					}
					if a.Replayed == "" {
						firsts++
						first = a
					}
				}
				if firsts != 1 {
					t.Errorf("%s: %d of %d requests took effect, want one: %+v", what, firsts, together, answers)
				}
				for _, a := range answers {
					a.Replayed = ""
					a.is(t, what, first)
				}
				d.MustHave(t, what, first.id(t), o.events...)
			}
		}
	})
}

// Once the customer is erased, no late repeat brings the person back, whatever the
// request was, until the key expires.
func TestRepeatAfterErase(t *testing.T) {
	t.Parallel()
	bodies := MustBodies(t)
	onEachEngine(t, func(t *testing.T, d *deployment) {
		type late struct {
			operation
			request   request
			reference string
		}
		var list []late
		for i, o := range operations {
			if o.gone {
				continue
			}
			reference := person("erased", i)
			d.MustExist(t, o, reference)
			r := o.write(reference)
			r.key = reference
			id := d.MustSend(t, r).id(t)
			d.MustSend(t, request{method: http.MethodDelete, path: "/customers/" + id}).id(t)
			list = append(list, late{o, r, reference})
		}
		d.MustCount(t, 0)
		// A restart changes nothing of it.
		d.nodes[0].close()
		d.nodes = nil
		d.MustJoin(t)
		for _, l := range list {
			for range 2 {
				d.MustSend(t, l.request).is(t, l.name+" of one who was erased", bodies["customer_not_found"])
			}
			d.MustSend(t, request{method: http.MethodGet, path: "/customers/" + l.reference}).is(t, l.name+" of one who was erased, read", bodies["customer_not_found"])
		}
		d.MustCount(t, 0)
		// Under a new key the person may come back, and is somebody else to the old one.
		create := operations[0].write(list[0].reference)
		create.key = "new"
		second := d.MustSend(t, create)
		second.id(t)
		d.MustSend(t, list[0].request).is(t, "the create of one who was erased and made anew", bodies["customer_not_found"])
		d.MustSend(t, create).is(t, "the second create, again", replayed(second))
		d.MustCount(t, 1)
		d.clock.Advance(keep)
		d.MustSend(t, list[1].request).id(t)
		d.MustCount(t, 2)
	})
}

// What changed nothing is not remembered, so that its key may be used for another
// request, and for the same once it is possible.
func TestRefusedIsForgotten(t *testing.T) {
	t.Parallel()
	bodies := MustBodies(t)
	onEachEngine(t, func(t *testing.T, d *deployment) {
		taken := operations[0].write(person("taken", 0))
		d.MustSend(t, taken).id(t)
		update := func(reference string) request { return operations[4].write(reference) }
		for _, tt := range []struct {
			name    string
			request request
			want    string
		}{
			{"a bad field", operations[0].write("").with(func(r *request) { r.pairs[1].value = "x" }), "wrong_object_reference_id"},
			{"a bad number, v2", operations[1].write(person("nobody", 0)).with(func(r *request) { r.pairs[0].value = "x" }), "wrong_mobile_number"},
			{"a reference that is taken", taken, "duplicate_reference"},
			{"an update of nobody", update(person("nobody", 0)), "customer_not_found"},
			{"an erase of nobody", operations[6].write(person("nobody", 0)), "customer_not_found"},
			{"an update of another version", update(person("taken", 0)).with(func(r *request) { r.ifMatch = `"x-1"` }), "precondition_failed"},
			{"an erase of another version", operations[6].write(person("taken", 0)).with(func(r *request) { r.ifMatch = `"x-1"` }), "precondition_failed"},
			{"a make with a condition", operations[1].write(person("nobody", 0)).with(func(r *request) { r.ifMatch = "*" }), "precondition_failed"},
		} {
			r := tt.request
			r.key = tt.name
			for range 2 {
				got := d.MustSend(t, r)
				if got.Status != bodies[tt.want].Status || got.Replayed != "" || tt.name != "a bad field" && got.Body != bodies[tt.want].Body {
					t.Errorf("%s: %+v, want %+v", tt.name, got, bodies[tt.want])
				}
			}
			another := operations[0].write(person("another", 0)).with(func(r *request) { r.pairs[0].value = tt.name })
			another.key = tt.name
			if got := d.MustSend(t, another); got.Status != http.StatusOK || got.Replayed != "" {
				t.Errorf("%s: its key, used for another request, is answered %+v", tt.name, got)
			}
		}
		// The same request, once there is a customer.
		r := update(person("later", 0))
		r.key = "later"
		d.MustSend(t, r).is(t, "an update of nobody yet", bodies["customer_not_found"])
		d.MustSend(t, operations[0].write(person("later", 0))).id(t)
		if got := d.MustSend(t, r); got.Status != http.StatusOK || got.Replayed != "" {
			t.Errorf("an update whose customer was made since: %+v", got)
		}
	})
}

// Of different requests that are sent at once with one key, to one node or to two,
// one takes effect and the others are refused. Those without the key that the
// database gets together with them are not held back by it.
func TestOneKeyForMany(t *testing.T) {
	t.Parallel()
	const together = 16
	bodies := MustBodies(t)
	onEachEngine(t, func(t *testing.T, d *deployment) {
		if _, ok := d.nodes[0].store.(*sqlstore.Postgres); ok {
			d.MustJoin(t)
		}
		const rounds = 4
		for round := range rounds {
			answers, errs := make([]answer, 2*together), make([]error, 2*together)
			start := make(chan struct{})
			var calls sync.WaitGroup
			for i := range answers {
				r := operations[0].write(person(fmt.Sprintf("many-%d", round), i))
				if i < together {
					r.key = fmt.Sprintf("many %d", round)
				}
				calls.Go(func() {
					<-start
					answers[i], errs[i] = d.send(t.Context(), d.nodes[i%len(d.nodes)], r)
				})
			}
			close(start)
			calls.Wait()
			won := 0
			for i, a := range answers {
				switch {
				case errs[i] != nil:
					t.Fatal(errs[i])
				case i >= together || a.Status == http.StatusOK && won == 0:
					if a.Replayed != "" {
						t.Errorf("request %d is answered %+v", i, a)
					}
					a.id(t)
					if i < together {
						won++
					}
				default:
					a.is(t, fmt.Sprintf("request %d", i), bodies["idempotency_mismatch"])
				}
			}
			if won != 1 {
				t.Errorf("%d requests with one key took effect, want one", won)
			}
		}
		d.MustCount(t, rounds*(together+1))
	})
}
