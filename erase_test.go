package grahak_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
)

// MustErase erases a customer of merchant m.
func (r *rig) MustErase(tb testing.TB, m grahak.MerchantID, ref string) grahak.CustomerID {
	tb.Helper()
	erased, err := r.EraseCustomer(tb.Context(), caller(m, grahak.ScopeWrite), ref, grahak.WriteOptions{})
	if err != nil {
		tb.Fatalf("erase customer %q of %s: %v", ref, m, err)
	}
	return erased.Customer
}

// MustRecord returns a customer of merchant m as it is stored.
func (r *rig) MustRecord(tb testing.TB, m grahak.MerchantID, id grahak.CustomerID) grahak.CustomerRecord {
	tb.Helper()
	record, err := r.store.Customer(tb.Context(), m, id, grahak.Index{})
	if err != nil {
		tb.Fatal(err)
	}
	return record
}

// MustDamage puts what is sealed of the customer from into the row of the
// customer id, as somebody with access to the file might. It is no secret then
// that the row was changed: there is an event of it.
func (r *rig) MustDamage(tb testing.TB, m grahak.MerchantID, id, from grahak.CustomerID) {
	tb.Helper()
	record := r.MustRecord(tb, m, id)
	record.Sealed = r.MustRecord(tb, m, from).Sealed
	record.Revision++
	e := grahak.Event{ID: grahak.EventID("evt_damage_" + id), Type: grahak.EventCustomerUpdated, Subject: string(id), Revision: record.Revision}
	if done, err := r.store.UpdateCustomer(tb.Context(), m, record, e, nil); err != nil || !done {
		tb.Fatal(done, err)
	}
}

// After an erasure both ids are unknown, searches and tokens find nothing, the
// reference is free, and the events stay.
func TestErase(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	c := caller(acme, grahak.ScopeWrite)
	kept := r.MustCreate(t, acme, person("kept"))
	for i, by := range []string{"reference", "id"} {
		for _, ordered := range []bool{false, true} {
			r.clock.Advance(time.Second)
			created, err := r.CreateCustomer(t.Context(), c, person("ref"), grahak.WriteOptions{Token: true})
			wantCode(t, err, "")
			customer := created.Customer
			_, err = r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			wantCode(t, err, "")
			if ordered {
				r.MustOrder(t)
			}
			events := r.MustEvents(t, acme)
			ref := []string{"ref", string(customer.ID)}[i]
			r.clock.Advance(time.Second)
			diff(t, "the id of who was erased by "+by, customer.ID, r.MustErase(t, acme, ref))

			for range 2 {
				for _, gone := range []string{"ref", string(customer.ID)} {
					for name, call := range map[string]func() error{
						"read":              func() error { return second(r.Customer(t.Context(), c, gone, false)) },
						"read by another":   func() error { return second(other.Customer(t.Context(), c, gone, false)) },
						"read with a token": func() error { return second(r.Customer(t.Context(), c, gone, true)) },
						"update": func() error {
							return second(r.UpdateCustomer(t.Context(), c, gone, person("ref"), grahak.WriteOptions{Token: true}))
						},
						"erase":                  func() error { return second(r.EraseCustomer(t.Context(), c, gone, grahak.WriteOptions{})) },
						"export":                 func() error { return second(r.ExportCustomer(t.Context(), operator(acme), gone)) },
						"erase, as an operator":  func() error { return second(r.EraseCustomer(t.Context(), operator(acme), gone, grahak.WriteOptions{})) },
						"erase, as another does": func() error { return second(other.EraseCustomer(t.Context(), c, gone, grahak.WriteOptions{})) },
					} {
						if got := grahak.CodeOf(call()); got != grahak.CodeCustomerNotFound {
							t.Errorf("%s %q after an erasure: got code %q", name, gone, got)
						}
					}
				}
				_, err = r.VerifyToken(t.Context(), created.Token.Value)
				wantCode(t, err, grahak.CodeTokenNotFound)
				for name, f := range map[string]grahak.CustomerFilter{
					"reference": {Reference: given("ref")}, "address": {Email: given("customer@example.com")},
					"number": {MobileNumber: given("9988776655")}, "nothing": {},
				} {
					page := r.MustPage(t, acme, grahak.ListQuery{Limit: 10, Filter: f})
					want := []string{"kept"}
					if name == "reference" {
						want = nil
					}
					diff(t, "customers by "+name, want, references(page))
					diff(t, "the total", int64(1), page.Total)
				}
				r.MustOrder(t)
			}
			want := append(events, grahak.Event{
				Type: grahak.EventCustomerErased, Subject: string(customer.ID), Revision: 3,
				Actor: c.Actor, RequestID: c.RequestID, At: r.clock.Now().Truncate(time.Microsecond),
			})
			got := r.MustEvents(t, acme)
			last := &want[len(want)-1]
			last.ID, last.Position = got[len(got)-1].ID, int64(len(want))
			diff(t, "the events", want, got)
		}
	}
	// It is another customer that has the reference next.
	again := r.MustCreate(t, acme, person("ref"))
	diff(t, "who has the reference now", again, r.MustCustomer(t, acme, "ref"))
	diff(t, "revision of who has the reference now", int64(1), again.Revision)
	diff(t, "a bystander", kept, r.MustCustomer(t, acme, "kept"))
}

func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	customer := r.MustCreate(t, acme, person("ref"))
	before := r.MustEvents(t, acme)
	erase := func(c grahak.Caller, ref string) error {
		return second(r.EraseCustomer(t.Context(), c, ref, grahak.WriteOptions{}))
	}
	for _, ref := range []string{"ref", string(customer.ID), "unknown", ""} {
		wantCode(t, erase(caller(acme, grahak.ScopeRead), ref), grahak.CodeInsufficientScope)
		wantCode(t, erase(grahak.Caller{Merchant: acme}, ref), grahak.CodeInsufficientScope)
		wantCode(t, erase(caller(rival, grahak.ScopeWrite), ref), grahak.CodeCustomerNotFound)
		wantCode(t, erase(operator(rival), ref), grahak.CodeCustomerNotFound)
		_, err := r.ExportCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref)
		wantCode(t, err, grahak.CodeInsufficientScope)
	}
	for _, ref := range []string{"", " ", "unknown", "Ref", "ref ", strings.ToUpper(string(customer.ID)), "cst_0000000000000000", "\xff", "a\x00b", strings.Repeat("a", 1<<20)} {
		wantCode(t, erase(caller(acme, grahak.ScopeWrite), ref), grahak.CodeCustomerNotFound)
	}
	diff(t, "the customer after refusals", customer, r.MustCustomer(t, acme, "ref"))
	diff(t, "events of refusals", before, r.MustEvents(t, acme))
}

// An id comes before a reference here, too: nobody erases another by a reference
// that is the other's id.
func TestEraseByIDFirst(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	first := r.MustCreate(t, acme, person("first"))
	second := r.MustCreate(t, acme, person(string(first.ID)))
	diff(t, "who was erased", first.ID, r.MustErase(t, acme, string(first.ID)))
	diff(t, "the one with that reference", second, r.MustCustomer(t, acme, string(first.ID)))
	diff(t, "who was erased then", second.ID, r.MustErase(t, acme, string(first.ID)))
}

// A row that does not open can be erased by its own id. By a reference nobody is
// erased who cannot be seen to have it.
func TestEraseOfDamagedRow(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	a, b := r.MustCreate(t, acme, person("a")), r.MustCreate(t, acme, person("b"))
	r.MustDamage(t, acme, b.ID, a.ID)
	for name, err := range map[string]error{
		"read":  second(r.Customer(t.Context(), caller(acme, grahak.ScopeRead), "b", false)),
		"list":  second(r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 10})),
		"erase": second(r.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "b", grahak.WriteOptions{})),
	} {
		var known *grahak.Error
		if err == nil || errors.As(err, &known) || !strings.Contains(err.Error(), string(b.ID)) {
			t.Errorf("%s of a damaged row: got %v, want an internal error that names the row", name, err)
		}
	}
	diff(t, "who was erased", b.ID, r.MustErase(t, acme, string(b.ID)))
	diff(t, "the customers left", []string{"a"}, references(r.MustPage(t, acme, grahak.ListQuery{Limit: 10})))
	r.MustCreate(t, acme, person("b"))

	// Somebody exchanges the indexes of two references.
	c := r.MustCreate(t, acme, person("c"))
	x, y := r.MustRecord(t, acme, a.ID).Reference, r.MustRecord(t, acme, c.ID).Reference
	r.MustTamper(t, `UPDATE customers SET reference_index = x'00' WHERE id = ?`, string(a.ID))
	r.MustTamper(t, `UPDATE customers SET reference_index = ? WHERE id = ?`, x[:], string(c.ID))
	r.MustTamper(t, `UPDATE customers SET reference_index = ? WHERE id = ?`, y[:], string(a.ID))
	for _, ref := range []string{"a", "c"} {
		for name, err := range map[string]error{
			"read":   second(r.Customer(t.Context(), caller(acme, grahak.ScopeWrite), ref, true)),
			"update": second(r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})),
			"erase":  second(r.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, grahak.WriteOptions{})),
		} {
			var known *grahak.Error
			if err == nil || errors.As(err, &known) {
				t.Errorf("%s of %q, whose index is another's: got %v, want an internal error", name, ref, err)
			}
		}
	}
	diff(t, "one of them by id", a, r.MustCustomer(t, acme, string(a.ID)))
	diff(t, "the other by id", c, r.MustCustomer(t, acme, string(c.ID)))
}

// Many erase the same customers, by reference and by id, through two processes,
// while others make ones with these references: each erasure that is told is one
// customer gone, and one event.
func TestConcurrentErasures(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	services := []*rig{r, r.MustJoin(t)}
	const workers, each = 8, 10
	var mu sync.Mutex
	erased, made := make(map[grahak.CustomerID]int), make(map[grahak.CustomerID]bool)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			s := services[w%2]
			for i := range each {
				ref := fmt.Sprint("ref ", i%3)
				result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(ref), grahak.WriteOptions{})
				if code := grahak.CodeOf(err); code != "" && code != grahak.CodeDuplicateReference {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					made[result.Customer.ID] = true
					mu.Unlock()
					if i%2 == 0 {
						ref = string(result.Customer.ID)
					}
				}
				gone, err := s.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, grahak.WriteOptions{})
				if code := grahak.CodeOf(err); code != "" && code != grahak.CodeCustomerNotFound {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					erased[gone.Customer]++
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	for id, times := range erased {
		if times != 1 || !made[id] {
			t.Errorf("customer %s, made: %t, was erased %d times", id, made[id], times)
		}
	}
	diff(t, "customers left", int64(len(made)-len(erased)), r.MustPage(t, acme, grahak.ListQuery{Limit: 1}).Total)
	events := slices.DeleteFunc(r.MustEvents(t, acme), func(e grahak.Event) bool { return e.Type != grahak.EventCustomerErased })
	diff(t, "events of erasures", len(erased), len(events))
}

// What an export holds is everything there is on one customer, and on nobody
// else.
func TestExportCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	c := caller(acme, grahak.ScopeWrite)
	r.MustCreate(t, acme, person("bystander"))
	created, err := r.CreateCustomer(t.Context(), c, person("ref"), grahak.WriteOptions{Token: true})
	wantCode(t, err, "")
	r.clock.Advance(time.Minute)
	updated, err := r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{Email: given("new@example.com")}, grahak.WriteOptions{Token: true})
	wantCode(t, err, "")
	_, err = r.Customer(t.Context(), c, "bystander", true)
	wantCode(t, err, "")
	id := created.Customer.ID
	token := func(token *grahak.Token) grahak.TokenRecord {
		return grahak.TokenRecord{Merchant: acme, Customer: id, Hash: grahak.HashToken(token.Value), ExpiresAt: token.ExpiresAt.Truncate(time.Microsecond)}
	}
	all := r.MustEvents(t, acme)
	want := grahak.CustomerExport{
		Customer: updated.Customer,
		Tokens:   []grahak.TokenRecord{token(created.Token), token(updated.Token)},
		Events:   []grahak.Event{all[2], all[3]},
	}
	for _, ref := range []string{"ref", string(id)} {
		got, err := r.ExportCustomer(t.Context(), operator(acme), ref)
		wantCode(t, err, "")
		diff(t, "the export", want, got)
	}
	_, err = r.ExportCustomer(t.Context(), operator(rival), "ref")
	wantCode(t, err, grahak.CodeCustomerNotFound)
	_, err = r.ExportCustomer(t.Context(), operator(acme), "unknown")
	wantCode(t, err, grahak.CodeCustomerNotFound)
}
