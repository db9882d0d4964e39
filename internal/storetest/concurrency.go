package storetest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"grahak"
)

var concurrencyTests = []test{
	{"one reference", createsOfOneReference},
	{"many references", createsOfManyReferences},
	{"one revision", updatesOfOneRevision},
	{"updates with retries", updatesWithRetries},
	{"one merchant", createsOfOneMerchant},
	{"one key at two merchants", createsOfOneKey},
	{"last entries of an enforced list", removalsOfLastEntries},
	{"enforce against remove", enforceAgainstRemove},
	{"contexts that end", contextsThatEnd},
}

// parallel is how many callers meet.
const parallel = 24

func createsOfOneReference(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	reference := r.index()
	tokens := make([]grahak.TokenRecord, parallel)
	records := make([]grahak.CustomerRecord, parallel)
	errs := r.together(parallel, func(r *rig, i int) error {
		records[i] = r.customer()
		records[i].Reference = reference
		tokens[i] = r.token(own, records[i].ID)
		return r.store.CreateCustomer(r.Context(), own, records[i], r.created(records[i]), &grahak.Besides{Token: &tokens[i]})
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeDuplicateReference: parallel - 1})
	got := r.MustState(own)
	if len(got.Customers) != 1 || got.Total != 1 || len(got.Events) != 2 {
		r.Fatalf("there are %d customers (total %d) and %d events, want 1 and 2", len(got.Customers), got.Total, len(got.Events))
	}
	for i, err := range errs {
		if err != nil {
			r.wantNoToken("a token of a duplicate", tokens[i])
			continue
		}
		r.wantEqual("the customer", got.Customers[0], records[i])
		r.wantEqual("the subject of the event", got.Events[1].Subject, string(records[i].ID))
		r.wantToken(tokens[i])
	}
}

// createsOfManyReferences writes at two merchants while everything written is
// read back at once: what a create returned for is there.
func createsOfManyReferences(r *rig) {
	const each = 15
	merchants := []grahak.MerchantID{own, other}
	for _, m := range merchants {
		r.MustMerchant(m)
	}
	errs := r.together(parallel, func(r *rig, i int) error {
		m := merchants[i%2]
		for range each {
			c := r.customer()
			if err := r.store.CreateCustomer(r.Context(), m, c, r.created(c), nil); err != nil {
				return err
			}
			got, err := r.process(i+1).store.Customer(r.Context(), m, "", c.Reference)
			if err != nil {
				return err
			}
			r.wantEqual("the customer just written", got, c)
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	for _, m := range merchants {
		got := r.MustState(m)
		if want := parallel / 2 * each; len(got.Customers) != want || len(got.Events) != want+1 {
			r.Errorf("merchant %s has %d customers and %d events, want %d and %d", m, len(got.Customers), len(got.Events), want, want+1)
		}
	}
}

func updatesOfOneRevision(r *rig) {
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	records := make([]grahak.CustomerRecord, parallel)
	tokens := make([]grahak.TokenRecord, parallel)
	done := make([]bool, parallel)
	errs := r.together(parallel, func(r *rig, i int) (err error) {
		records[i], tokens[i] = r.next(c), r.token(own, c.ID)
		records[i].Sealed.Bytes = fmt.Appendf(nil, "by updater %d", i)
		done[i], err = r.store.UpdateCustomer(r.Context(), own, records[i], r.updated(records[i]), &grahak.Besides{Token: &tokens[i]})
		return err
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	winners := 0
	for i := range done {
		if done[i] {
			winners++
			r.wantCustomer(own, records[i])
			r.wantToken(tokens[i])
		} else {
			r.wantNoToken("a token of a stale update", tokens[i])
		}
	}
	r.wantEqual("updates that were done", winners, 1)
	r.wantEqual("events", len(r.MustEvents(own)), 3)
}

// updatesWithRetries lets every updater try until it was the first of its
// revision: no update is lost, and each has one event.
func updatesWithRetries(r *rig) {
	const updaters = 8
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	errs := r.together(updaters, func(r *rig, _ int) error {
		for range 10 * updaters {
			current, err := r.store.Customer(r.Context(), own, c.ID, grahak.Index{})
			if err != nil {
				return err
			}
			next := r.next(current)
			done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), nil)
			if done || err != nil {
				return err
			}
		}
		return fmt.Errorf("an updater never was the first")
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": updaters})
	got, err := r.store.Customer(r.Context(), own, c.ID, grahak.Index{})
	r.must(err)
	r.wantEqual("the revision", got.Revision, int64(1+updaters))
	revisions := make(map[int64]int)
	for _, e := range r.MustEvents(own) {
		if e.Subject == string(c.ID) {
			revisions[e.Revision]++
		}
	}
	for revision := int64(1); revision <= 1+updaters; revision++ {
		if revisions[revision] != 1 {
			r.Errorf("revision %d has %d events, want 1", revision, revisions[revision])
		}
	}
}

func createsOfOneMerchant(r *rig) {
	r.wantEqual("the master key", r.MustMasterKey(), firstMaster)
	merchants := make([]grahak.Merchant, parallel)
	keys := make([]grahak.Keyset, parallel)
	errs := r.together(parallel, func(r *rig, i int) error {
		merchants[i] = grahak.Merchant{ID: own, Name: fmt.Sprint(i), IPMode: grahak.IPModeOff, CreatedAt: r.now()}
		keys[i] = r.keyset(own, firstMaster)
		keys[i].Sealing, keys[i].Indexing = []byte{byte(i)}, []byte{0, byte(i)}
		return r.store.CreateMerchant(r.Context(), merchants[i], keys[i], r.event(grahak.EventMerchantCreated, "", 0))
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeMerchantExists: parallel - 1})
	got := r.MustState(own)
	r.wantEqual("events", len(got.Events), 1)
	for i, err := range errs {
		if err == nil {
			r.wantEqual("the merchant", got.Merchant, merchants[i])
			r.wantEqual("its keys", got.Seal.Keyset, keys[i])
		}
	}
}

func createsOfOneKey(r *rig) {
	merchants := []grahak.MerchantID{own, other}
	for _, m := range merchants {
		r.MustMerchant(m)
	}
	hash := grahak.HashKey("an imported key")
	keys := make([]grahak.APIKey, parallel)
	errs := r.together(parallel, func(r *rig, i int) error {
		keys[i] = r.key(merchants[i%2])
		keys[i].Hash = hash
		return r.store.CreateKey(r.Context(), keys[i].Merchant, keys[i], r.event(grahak.EventKeyImported, string(keys[i].ID), 0))
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeKeyExists: parallel - 1})
	access, err := r.store.Access(r.Context(), hash)
	r.must(err)
	for i, err := range errs {
		if err == nil {
			r.wantEqual("the key", access.Key, keys[i])
		}
	}
	r.wantEqual("keys", len(r.MustState(own).Keys)+len(r.MustState(other).Keys), 1)
	r.wantEqual("events", len(r.MustEvents(own))+len(r.MustEvents(other)), 3)
}

// removalsOfLastEntries removes every entry of an enforced list at once: one
// must stay, or nobody could call any more.
func removalsOfLastEntries(r *rig) {
	const entries = 8
	r.MustMerchant(own)
	for i := range entries {
		r.MustEntry(own, fmt.Sprintf("203.0.113.%d/32", i))
	}
	r.MustMode(own, grahak.IPModeEnforce)
	errs := r.together(entries, func(r *rig, i int) error {
		p := netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", i))
		return r.store.RemoveIPEntry(r.Context(), own, p, false, r.event(grahak.EventIPEntryRemoved, p.String(), 0))
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": entries - 1, grahak.CodeIPListEmpty: 1})
	got := r.MustState(own)
	r.wantEqual("entries", len(got.IPList), 1)
	r.wantEqual("events", len(got.Events), 1+entries+1+entries-1)
}

// enforceAgainstRemove lets a switch to enforce meet the removal of the last
// entry: only one of them may be done.
func enforceAgainstRemove(r *rig) {
	for i := range 20 {
		m := grahak.MerchantID(fmt.Sprintf("acme-%d", i))
		r.MustMerchant(m)
		entry := r.MustEntry(m, "203.0.113.0/24")
		errs := r.together(2, func(r *rig, i int) error {
			if i == 0 {
				return r.store.SetIPMode(r.Context(), m, grahak.IPModeEnforce, false, r.event(grahak.EventIPModeChanged, "enforce", 0))
			}
			return r.store.RemoveIPEntry(r.Context(), m, entry.Prefix, false, r.event(grahak.EventIPEntryRemoved, entry.Prefix.String(), 0))
		})
		r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeIPListEmpty: 1})
		if got := r.MustState(m); got.Merchant.IPMode == grahak.IPModeEnforce && len(got.IPList) == 0 {
			r.Error("an empty list is enforced")
		}
	}
}

// contextsThatEnd cancels half of many writes at any moment. A cancelled write
// is whole or absent, and the writes beside it are unaffected.
func contextsThatEnd(r *rig) {
	const writes = 400
	r.MustMerchant(own)
	records := make([]grahak.CustomerRecord, writes)
	tokens := make([]grahak.TokenRecord, writes)
	cancels := make([]context.CancelFunc, writes)
	contexts := make([]context.Context, writes)
	for i := range writes {
		contexts[i], cancels[i] = context.WithCancel(r.Context())
		defer cancels[i]()
	}
	contexts[1] = r.ended()
	var cancelling sync.WaitGroup
	cancelling.Go(func() {
		for i := 1; i < writes; i += 2 {
			cancels[i]()
			// Any read takes some time, in which writes go on.
			if _, err := r.store.AccessVersion(r.Context()); err != nil {
				r.Errorf("a read beside cancelled writes: %v", err)
			}
		}
	})
	errs := r.together(writes, func(r *rig, i int) error {
		records[i] = r.customer()
		tokens[i] = r.token(own, records[i].ID)
		return r.store.CreateCustomer(contexts[i], own, records[i], r.created(records[i]), &grahak.Besides{Token: &tokens[i]})
	})
	cancelling.Wait()

	got := r.MustState(own)
	stored := make(map[grahak.CustomerID]grahak.CustomerRecord)
	for _, c := range got.Customers {
		stored[c.ID] = c
	}
	events := make(map[string]int)
	for _, e := range got.Events {
		events[e.Subject]++
	}
	for i, err := range errs {
		id := records[i].ID
		c, written := stored[id]
		switch {
		case err == nil && !written:
			r.Errorf("customer %s was acknowledged and is lost", id)
		case err != nil && i%2 == 0:
			r.Errorf("a write whose context did not end: %v", err)
		case err != nil:
			r.wantCode("a write whose context ended", err, grahak.CodeUnavailable)
		}
		if !written {
			r.wantEqual("events of a customer that was not written", events[string(id)], 0)
			r.wantNoToken("a token of a customer that was not written", tokens[i])
			continue
		}
		r.wantEqual("the customer", c, records[i])
		r.wantEqual("its events", events[string(id)], 1)
		r.wantToken(tokens[i])
	}
}

// until takes steps until one reports false or done is closed, but at least one.
func until(done <-chan struct{}, step func() bool) {
	for step() {
		select {
		case <-done:
			return
		default:
		}
	}
}
