package retries_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
)

// The version of a customer is that of its values: neither tokens nor keys that
// are changed under it move it, and every change of a value does.
func TestVersionStandsStill(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, d *deployment) {
		reference := person("version", 0)
		first := d.MustSend(t, operations[0].write(reference))
		read := request{method: http.MethodGet, path: "/customers/" + reference}
		stands := func(what, want string) {
			t.Helper()
			if got := d.MustSend(t, read); got.ETag != want || got.Status != http.StatusOK {
				t.Errorf("%s: the version is %s (%d), want %s", what, got.ETag, got.Status, want)
			}
		}
		if first.ETag == "" {
			t.Fatalf("no version: %+v", first)
		}
		d.MustSend(t, read.with(func(r *request) { r.path += "?options.get_client_auth_token=1" }))
		stands("a token was made", first.ETag)

		sealed := d.MustSealed(t, first.id(t))
		if _, _, err := d.nodes[0].service.RotateSeal(t.Context(), grahak.Operator(acme, "test")); err != nil {
			t.Fatal(err)
		}
		if _, err := d.nodes[0].service.Reseal(t.Context(), grahak.Operator(acme, "test"), func(grahak.SealState) {}); err != nil {
			t.Fatal(err)
		}
		if again := d.MustSealed(t, first.id(t)); again == sealed {
			t.Fatal("nothing was sealed anew, so this shows nothing")
		}
		stands("it was sealed anew", first.ETag)
		update := operations[4].write(reference)
		update.ifMatch, update.key = first.ETag, "update"
		second := d.MustSend(t, update)
		if second.Status != http.StatusOK || second.ETag == first.ETag {
			t.Errorf("an update of the version before the sealing: %+v", second)
		}
		d.MustSend(t, update).is(t, "again", replayed(second))

		// One who is made under the reference of one who was erased is another.
		d.MustSend(t, request{method: http.MethodDelete, path: "/customers/" + reference, ifMatch: second.ETag}).id(t)
		third := d.MustSend(t, operations[0].write(reference))
		if third.ETag == first.ETag || third.ETag == "" {
			t.Errorf("the version of one who was made anew is %s, as before", third.ETag)
		}
		update.key, update.ifMatch = "", first.ETag
		d.MustSend(t, update).is(t, "an update of one who was erased", MustBodies(t)["precondition_failed"])
	})
}

// MustSealed returns what is sealed of a customer of acme.
func (d *deployment) MustSealed(tb testing.TB, id string) string {
	tb.Helper()
	record, err := d.nodes[0].store.Customer(tb.Context(), acme, grahak.CustomerID(id), grahak.Index{})
	if err != nil {
		tb.Fatal(err)
	}
	return string(record.Sealed.Bytes)
}

// Of writes of one version that are sent at once, to one node or to two, one is
// done. The others change nothing.
func TestOneWriterOfAVersion(t *testing.T) {
	t.Parallel()
	const together = 8
	bodies := MustBodies(t)
	onEachEngine(t, func(t *testing.T, d *deployment) {
		if _, ok := d.nodes[0].store.(*sqlstore.Postgres); ok {
			d.MustJoin(t)
		}
		for round, o := range []operation{operations[3], operations[4], operations[6]} {
			reference := person("writers", round)
			d.MustExist(t, o, reference)
			version := d.MustSend(t, request{method: http.MethodGet, path: "/customers/" + reference}).ETag
			answers, errs := make([]answer, together), make([]error, together)
			start := make(chan struct{})
			var calls sync.WaitGroup
			for i := range together {
				calls.Go(func() {
					r := o.write(reference)
					if !o.gone {
						r.pairs[0].value = fmt.Sprintf("Jane %d", i)
					}
					r.ifMatch = version
					<-start
					answers[i], errs[i] = d.send(t.Context(), d.nodes[i%len(d.nodes)], r)
				})
			}
			close(start)
			calls.Wait()
			won := -1
			for i, a := range answers {
				switch {
				case errs[i] != nil:
					t.Fatal(errs[i])
				case a.Status == http.StatusOK && won < 0:
					won = i
				case o.gone:
					a.is(t, o.name, bodies["customer_not_found"])
				default:
					a.is(t, o.name, bodies["precondition_failed"])
				}
			}
			if won < 0 {
				t.Fatalf("%s: nobody was let: %+v", o.name, answers)
			}
			d.MustHave(t, o.name, answers[won].id(t), o.events...)
			if !o.gone {
				got := d.MustSend(t, request{method: http.MethodGet, path: "/customers/" + reference})
				if got.Body != answers[won].Body || got.ETag != answers[won].ETag {
					t.Errorf("%s: the customer is %+v, want what the winner was answered: %+v", o.name, got, answers[won])
				}
			}
		}
	})
}
