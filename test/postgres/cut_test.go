package postgres_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit/postgres"
)

// MustBeCut returns what became of the connection that was to be cut.
func MustBeCut(t *testing.T, cut <-chan postgres.Cut) postgres.Cut {
	t.Helper()
	select {
	case c := <-cut:
		return c
	case <-time.After(answerBound):
		t.Fatal("no connection was cut")
		return postgres.Cut{}
	}
}

// A write whose connection is cut is done once or not at all, and nobody is told
// what is not so: it is answered 503, and whoever then sends it again learns which,
// and makes no second customer.
func TestCutWrites(t *testing.T) {
	t.Parallel()
	d := MustDeploy(t, postgres.Shared(t))
	proxy := d.cluster.Proxy(t)
	node := d.node(t, postgres.URL(d.database, proxy))
	acme := d.MustMerchant(t, "acme")
	c := newClient(t, node.BaseURL, acme.Key)
	cases := MustWireCases(t)
	customers := 0
	n := int64(0)
	mustCreate := func() customer {
		t.Helper()
		n++
		a, err := c.create(t.Context(), form(n))
		got, jsonErr := a.customer()
		if err != nil || jsonErr != nil || a.status != http.StatusOK {
			t.Fatalf("create is answered %d %s (%v)", a.status, a.body, err)
		}
		customers++
		return got
	}
	read := func(reference string) (answer, customer) {
		t.Helper()
		a, err := c.get(t.Context(), reference)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := a.customer()
		return a, got
	}

	type request func(context.Context) (answer, error)
	for range 5 * long(20) {
		for _, after := range []bool{false, true} {
			side, cutAt := "before", proxy.CutBefore
			if after {
				side, cutAt = "after", proxy.CutAfter
			}
			// cut sends a request whose connection to the database is cut at a statement,
			// and once more, and returns the second answer.
			cut := func(what, statement string, send request) answer {
				t.Helper()
				cut := cutAt(statement)
				a, err := send(t.Context())
				if err != nil || !a.is(cases["unavailable"]) || a.header.Get("Retry-After") == "" {
					t.Fatalf("%s, cut %s the commit's answer, is answered %d %s (%v)", what, side, a.status, a.body, err)
				}
				if got := MustBeCut(t, cut); after && !slices.ContainsFunc(got.Answer, func(tag string) bool { return strings.HasPrefix(tag, "INSERT 0 1") }) {
					t.Fatalf("%s was to be committed without an answer, but the database said %q to %q", what, got.Answer, got.SQL)
				}
				if a, err = send(t.Context()); err != nil {
					t.Fatal(err)
				}
				return a
			}

			for _, token := range []bool{false, true} {
				n++
				form := form(n)
				if token {
					form.Set("options.get_client_auth_token", "true")
				}
				a := cut("a create", "INSERT INTO customers", func(ctx context.Context) (answer, error) { return c.create(ctx, form) })
				customers++
				if after != a.is(cases["duplicate_reference"]) || !after && a.status != http.StatusOK {
					t.Errorf("a create, cut %s the commit's answer and sent again, is answered %d %s", side, a.status, a.body)
				}
				if a, got := read(form.Get("object_reference_id")); !cmp.Equal(made(form, got), got) {
					t.Errorf("a create, cut %s the commit's answer and sent again, is read as %d %s", side, a.status, a.body)
				}
			}

			old := mustCreate()
			a := cut("an update", "UPDATE customers", func(ctx context.Context) (answer, error) {
				return c.do(ctx, http.MethodPost, "/customers/"+old.ID, url.Values{"first_name": {"Meera"}}, "")
			})
			name := "Meera"
			want := old
			want.FirstName = &name
			got, _ := a.customer()
			want.Updated = got.Updated
			if a.status != http.StatusOK || !cmp.Equal(want, got) {
				t.Errorf("an update, cut %s the commit's answer and sent again, is answered %d %s", side, a.status, a.body)
			}
			if revision := d.query(t, "SELECT revision FROM customers WHERE id = '"+old.ID+"'")[0]; revision != "2" {
				t.Errorf("an update, cut %s the commit's answer and sent again, has brought its customer to revision %s", side, revision)
			}

			a = cut("an erasure", "DELETE FROM customers", func(ctx context.Context) (answer, error) {
				return c.do(ctx, http.MethodDelete, "/customers/"+old.ID, nil, "")
			})
			customers--
			if after != a.is(cases["customer_not_found"]) || !after && a.status != http.StatusOK {
				t.Errorf("an erasure, cut %s the commit's answer and sent again, is answered %d %s", side, a.status, a.body)
			}
			if a, _ := read(old.Reference); !a.is(cases["customer_not_found"]) {
				t.Errorf("an erased customer is read as %d %s", a.status, a.body)
			}

			// The pass that puts the events of all this in order goes on as it must.
			ordering := cutAt("COMMIT")
			kept := mustCreate()
			MustBeCut(t, ordering)

			// A read can be done again, and its caller does not learn of it.
			lost := cutAt("FROM customers WHERE merchant_id = $1 AND reference_index = $2")
			if a, got := read(kept.Reference); a.status != http.StatusOK || !cmp.Equal(kept, got) {
				t.Errorf("a read, cut %s the answer, is answered %d %s", side, a.status, a.body)
			}
			MustBeCut(t, lost)
		}
	}
	d.MustBeWhole(t, map[string]int{"acme": customers})
}
