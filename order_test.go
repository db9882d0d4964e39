package grahak_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
)

// More events than fit a batch are put in order by as many passes as it takes, by
// two processes at once: the chain is that of the events, and counts the
// customers.
func TestOrderInBatches(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	const customers = grahak.OrderBatch + 200
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			for i := w; i < customers; i += 16 {
				if _, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(i)), grahak.WriteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	r.MustCreate(t, rival, person("ref"))
	for i := range 10 {
		r.MustErase(t, acme, fmt.Sprint(i))
	}
	for _, s := range []*rig{r, other} {
		group.Go(func() { s.MustOrder(t) })
	}
	group.Wait()
	r.MustOrder(t)
	unordered, err := r.store.Unordered(t.Context())
	if err != nil || len(unordered) > 0 {
		t.Errorf("merchants with events that are not in order: %q (%v)", unordered, err)
	}
	report := r.MustVerify(t, nil)
	diff(t, "the position of the head", int64(1+customers+10), report.Head.Position)
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: report.Head}, report)
	head, err := r.store.ChainHead(t.Context(), acme)
	wantCode(t, err, "")
	diff(t, "customers in the chain", int64(customers-10), head.Customers)
	for _, segment := range r.mustSegments(t) {
		if len(segment.Links) > grahak.OrderBatch {
			t.Errorf("a segment has %d events, want at most %d", len(segment.Links), grahak.OrderBatch)
		}
	}
	head, err = r.store.ChainHead(t.Context(), rival)
	wantCode(t, err, "")
	diff(t, "the rival's head", grahak.ChainHead{Position: 2, Link: head.Link, Customers: 1}, head)
}

// A merchant whose keys cannot be had does not keep others' events from being put
// in order, and its own wait until they can.
func TestOrderWithoutAKey(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, rival, person("ref"))
	keys := r.mustKeyset(t, acme)
	r.MustTamper(t, `UPDATE keysets SET indexing = x'00' WHERE merchant_id = 'acme'`)
	s := r.MustJoin(t)
	if err := s.Order(t.Context()); err == nil || !strings.Contains(err.Error(), "merchant acme") {
		t.Errorf("order without acme's keys: got %v, want an error that names the merchant", err)
	}
	unordered, err := r.store.Unordered(t.Context())
	wantCode(t, err, "")
	diff(t, "merchants with events that are not in order", []grahak.MerchantID{acme}, unordered)
	r.MustTamper(t, `UPDATE keysets SET indexing = ? WHERE merchant_id = 'acme'`, keys.Indexing)
	r.MustJoin(t).MustOrder(t)
	diff(t, "the report", int64(1), r.MustVerify(t, nil).Head.Position)
}

// mustKeyset returns the stored keys of a merchant.
func (r *rig) mustKeyset(tb testing.TB, m grahak.MerchantID) grahak.Keyset {
	tb.Helper()
	k, err := r.store.Keyset(tb.Context(), m)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Within a second of its commit an event is in the chain.
func TestRunPutsEventsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		for i := range 3 {
			if _, err := b.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(i)), grahak.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			head, err := b.store.ChainHead(t.Context(), acme)
			if err != nil || head.Position != int64(2+i) || head.Customers != int64(1+i) {
				t.Errorf("a second after customer %d the chain's head is %+v (%v)", i, head, err)
			}
		}
		b.end()
		diff(t, "faults logged", "", b.log.String())
	})
}

// A fault of the ordering pass that lasts is told of once a minute, and not of
// each attempt.
func TestRunTellsOfAFaultOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		// A merchant whose keys nobody can open.
		k := grahak.Keyset{Merchant: "strange", Version: 1, Sealing: []byte{0}, Indexing: []byte{0}}
		var err error
		if k.MasterKeyID, err = b.store.MasterKeyID(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := b.store.CreateMerchant(t.Context(), grahak.Merchant{ID: k.Merchant, IPMode: grahak.IPModeOff, CreatedAt: time.Now()}, k,
			grahak.Event{ID: "evt_strange", Type: grahak.EventMerchantCreated, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Minute + 30*time.Second)
		lines := strings.Count(b.log.String(), "\n")
		if lines < 5 || lines > 7 || !strings.Contains(b.log.String(), "strange") {
			t.Errorf("five minutes of trouble gave %d lines:\n%s", lines, b.log)
		}
		// The other merchant's events are put in order all the same.
		unordered, err := b.store.Unordered(t.Context())
		if err != nil || !slices.Equal(unordered, []grahak.MerchantID{"strange"}) {
			t.Errorf("merchants with events that are not in order: %q (%v)", unordered, err)
		}
		b.end()
	})
}

// A first schema's customers have no indexes. They get them as if their keys had
// been rotated, and everybody is found and counted throughout.
func TestCustomersWithoutIndexes(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const customers = grahak.ResealBatch + 10
	want := make(map[string]grahak.Customer)
	var mu sync.Mutex
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := w; i < customers; i += 8 {
				in := person(fmt.Sprint(i))
				in.Email = given(fmt.Sprintf("c%d@example.com", i))
				result, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), in, grahak.WriteOptions{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				want[result.Customer.Reference] = result.Customer
				mu.Unlock()
			}
		})
	}
	group.Wait()
	// What the migration leaves.
	r.MustOrder(t)
	for _, query := range []string{
		`UPDATE customers SET email_index = NULL, mobile_index = NULL, key_version = 0`,
		`UPDATE keysets SET oldest_version = 0, walking = 1`,
		`DELETE FROM lookup_blocks`, `DELETE FROM lookup_runs`, `DELETE FROM event_chain`,
		`INSERT INTO unordered SELECT id FROM merchants`,
	} {
		r.MustTamper(t, query)
	}
	found := func(ref string) bool {
		t.Helper()
		page := r.MustPage(t, acme, grahak.ListQuery{Limit: 2, Filter: grahak.CustomerFilter{Email: given(want[ref].Email)}})
		diff(t, "the total", int64(customers), page.Total)
		diff(t, "the customer", want[ref], r.MustCustomer(t, acme, ref))
		if len(page.Customers) == 1 {
			diff(t, "the customer found", want[ref], page.Customers[0])
		}
		return len(page.Customers) == 1
	}
	diff(t, "a customer is found before it has an index", false, found("1"))
	result, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "2", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
	wantCode(t, err, "")
	want["2"] = result.Customer
	diff(t, "a customer is found that was changed", true, found("2"))
	r.MustOrder(t)
	diff(t, "a customer is found that was changed, in order", true, found("2"))
	diff(t, "a customer is found that has no index, in order", false, found("1"))
	if err := r.ResealAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for ref := range want {
		diff(t, "customer "+ref+" is found", true, found(ref))
	}
	states, err := r.SealStates(t.Context())
	wantCode(t, err, "")
	for _, state := range states {
		if !state.Complete() || state.Version != 1 || state.Walking {
			t.Errorf("the state at last is %+v", state)
		}
	}
	for ref := range want {
		r.MustErase(t, acme, ref)
	}
	page := r.MustPage(t, acme, grahak.ListQuery{Limit: 1, Filter: grahak.CustomerFilter{MobileNumber: given("9988776655")}})
	diff(t, "a search after all were erased", grahak.CustomerPage{Customers: []grahak.Customer{}}, page)
}

// overtaken is a store in which another process appends the first of the pending
// events to the chain, just after they were read for the first time.
type overtaken struct {
	grahak.Store
	once sync.Once
}

func (o *overtaken) Pending(ctx context.Context, m grahak.MerchantID, after int64, limit int) ([]grahak.Event, error) {
	events, err := o.Store.Pending(ctx, m, after, limit)
	o.once.Do(func() {
		segment := grahak.ChainSegment{First: after + 1, Links: []grahak.Link{events[0].Link(m, grahak.Link{})}}
		if _, orderErr := o.Store.Order(ctx, m, segment, events[:1]); orderErr != nil {
			err = orderErr
		}
	})
	return events, err
}

// Whoever asks for all events to be put in order gets that, although another
// process does a part of it at the same time.
func TestOrderEvents(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const customers = 5
	for i := range customers {
		r.MustCreate(t, acme, person(fmt.Sprint(i)))
	}
	s := MustService(t, grahak.Config{Store: &overtaken{Store: r.store}, Sealer: r.sealer, Clock: r.clock})
	wantCode(t, s.OrderEvents(t.Context(), caller(acme, grahak.ScopeWrite)), grahak.CodeInsufficientScope)
	for range 2 {
		if err := s.OrderEvents(t.Context(), operator(acme)); err != nil {
			t.Fatal(err)
		}
		pending, err := r.store.CountPending(t.Context(), acme)
		wantCode(t, err, "")
		head, err := r.store.ChainHead(t.Context(), acme)
		wantCode(t, err, "")
		if pending != 0 || head.Position != 1+customers || head.Customers != customers {
			t.Errorf("%d events are pending, and the head is %+v", pending, head)
		}
	}
	unordered, err := r.store.Unordered(t.Context())
	if err != nil || slices.Contains(unordered, acme) {
		t.Errorf("merchants with events that are not in order: %q (%v)", unordered, err)
	}
}
