package storetest

import (
	"fmt"
	"time"

	"grahak"
)

var idempotencyTests = []test{
	{"round trip", idempotencyRoundTrip},
	{"used key", idempotencyUsed},
	{"expiry", idempotencyExpiry},
	{"prune", idempotencyPrune},
	{"race", idempotencyRace},
}

// keyed returns what a write with a new idempotency key, which was made at the
// tests' start and expires an hour later, writes besides.
func (r *rig) keyed(outcome grahak.IdempotencyOutcome, id grahak.CustomerID) *grahak.Besides {
	return &grahak.Besides{Key: &grahak.IdempotencyRecord{
		Key: r.index(), Request: r.index(), Outcome: outcome, Customer: id, At: start, ExpiresAt: start.Add(time.Hour),
	}}
}

// wantRecord fails the test unless the store returns want, apart from the time it
// was made at, a moment before it expires, and nothing from then on.
func (r *rig) wantRecord(want grahak.IdempotencyRecord) {
	r.Helper()
	want.At = time.Time{}
	for _, c := range []struct {
		now  time.Time
		want grahak.IdempotencyRecord
	}{{want.ExpiresAt.Add(-time.Microsecond), want}, {want.ExpiresAt, grahak.IdempotencyRecord{}}} {
		got, found, err := r.store.Idempotency(r.Context(), own, want.Key, c.now)
		r.must(err)
		r.wantEqual(fmt.Sprintf("the record at %s", c.now), got, c.want)
		r.wantEqual("found", found, c.want.Outcome != "")
	}
}

// wantUnused fails the test if the store knows the key.
func (r *rig) wantUnused(what string, m grahak.MerchantID, key grahak.Index) {
	r.Helper()
	_, found, err := r.store.Idempotency(r.Context(), m, key, start)
	r.must(err)
	r.wantEqual(what+": found", found, false)
}

// idempotencyRoundTrip writes each kind of change with a key. The keys are their
// merchant's, stay when the customer has gone, and are of one value only.
func idempotencyRoundTrip(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.customer()
	created := r.keyed(grahak.OutcomeCreated, c.ID)
	token := r.token(own, c.ID)
	created.Token = &token
	r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), created))
	r.wantToken(token)
	next := r.next(c)
	updated := r.keyed(grahak.OutcomeFound, c.ID)
	done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), updated)
	r.must(err)
	r.wantEqual("updated", done, true)
	unchanged := r.keyed(grahak.OutcomeFound, c.ID)
	r.must(r.store.PutIdempotency(r.Context(), own, *unchanged.Key))
	erased := r.keyed(grahak.OutcomeErased, c.ID)
	done, err = r.store.EraseCustomer(r.Context(), own, c.ID, next.Revision, r.erased(next), erased)
	r.must(err)
	r.wantEqual("erased", done, true)
	for _, b := range []*grahak.Besides{created, updated, unchanged, erased} {
		r.wantRecord(*b.Key)
		r.wantUnused("at another merchant", other, b.Key.Key)
		r.wantUnused("by the request", own, b.Key.Request)
	}
}

// idempotencyUsed tries each kind of change with a key that was used: nothing is
// written, and the record stays.
func idempotencyUsed(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.customer()
	first := r.keyed(grahak.OutcomeCreated, c.ID)
	r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), first))
	again := func(outcome grahak.IdempotencyOutcome) *grahak.Besides {
		b := r.keyed(outcome, c.ID)
		b.Key.Key = first.Key.Key
		token := r.token(own, c.ID)
		b.Token = &token
		return b
	}
	before := r.MustState(own)
	fresh, twin := r.customer(), r.customer()
	twin.Reference = c.Reference
	for what, candidate := range map[string]grahak.CustomerRecord{"another reference": fresh, "the same reference": twin} {
		err := r.store.CreateCustomer(r.Context(), own, candidate, r.created(candidate), again(grahak.OutcomeCreated))
		if code := grahak.CodeOf(err); code != grahak.CodeIdempotencyKeyUsed && code != grahak.CodeDuplicateReference {
			r.Errorf("a create of %s returned %v", what, err)
		}
	}
	next := r.next(c)
	done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), again(grahak.OutcomeFound))
	r.wantRefused("an update", done, err)
	done, err = r.store.EraseCustomer(r.Context(), own, c.ID, c.Revision, r.erased(c), again(grahak.OutcomeErased))
	r.wantRefused("an erasure", done, err)
	r.wantCode("a change of nothing", r.store.PutIdempotency(r.Context(), own, *again(grahak.OutcomeFound).Key), grahak.CodeIdempotencyKeyUsed)
	r.wantEqual("what is stored", r.MustState(own), before)
	r.wantRecord(*first.Key)

	// What was refused for another reason leaves no record.
	missed := r.keyed(grahak.OutcomeCreated, twin.ID)
	r.wantCode("a duplicate", r.store.CreateCustomer(r.Context(), own, twin, r.created(twin), missed), grahak.CodeDuplicateReference)
	stale := r.next(next)
	lost := r.keyed(grahak.OutcomeFound, c.ID)
	done, err = r.store.UpdateCustomer(r.Context(), own, stale, r.updated(stale), lost)
	r.must(err)
	r.wantEqual("an update of another revision", done, false)
	gone := r.keyed(grahak.OutcomeErased, c.ID)
	done, err = r.store.EraseCustomer(r.Context(), own, c.ID, 7, r.erased(c), gone)
	r.must(err)
	r.wantEqual("an erasure of another revision", done, false)
	r.wantEqual("what is stored", r.MustState(own), before)
	for _, b := range []*grahak.Besides{missed, lost, gone} {
		r.wantUnused("after a refusal", own, b.Key.Key)
	}
	// The same key is another one at another merchant.
	b := again(grahak.OutcomeCreated)
	b.Token = nil
	r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), b))
}

// wantRefused fails the test unless a write with a used key was refused in one of
// the ways that it may be.
func (r *rig) wantRefused(what string, done bool, err error) {
	r.Helper()
	if done || err != nil && grahak.CodeOf(err) != grahak.CodeIdempotencyKeyUsed {
		r.Errorf("%s with a used key: %t, %v", what, done, err)
	}
}

// idempotencyExpiry uses a key again once its record has expired: it is replaced.
func idempotencyExpiry(r *rig) {
	r.MustMerchant(own)
	c := r.customer()
	first := r.keyed(grahak.OutcomeCreated, c.ID)
	r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), first))
	later := func(outcome grahak.IdempotencyOutcome, id grahak.CustomerID, at time.Time) *grahak.Besides {
		b := r.keyed(outcome, id)
		b.Key.Key, b.Key.At, b.Key.ExpiresAt = first.Key.Key, at, at.Add(time.Hour)
		return b
	}
	at := first.Key.ExpiresAt
	fresh := r.customer()
	err := r.store.CreateCustomer(r.Context(), own, fresh, r.created(fresh), later(grahak.OutcomeCreated, fresh.ID, at.Add(-time.Microsecond)))
	if err == nil {
		r.Error("a create with the key succeeded a microsecond before its record expired")
	}
	b := later(grahak.OutcomeCreated, fresh.ID, at)
	r.must(r.store.CreateCustomer(r.Context(), own, fresh, r.created(fresh), b))
	r.wantRecord(*b.Key)
	at = b.Key.ExpiresAt
	next := r.next(fresh)
	b = later(grahak.OutcomeFound, fresh.ID, at)
	done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), b)
	r.must(err)
	r.wantEqual("updated", done, true)
	r.wantRecord(*b.Key)
	b = later(grahak.OutcomeFound, fresh.ID, b.Key.ExpiresAt)
	r.must(r.store.PutIdempotency(r.Context(), own, *b.Key))
	r.wantRecord(*b.Key)
	b = later(grahak.OutcomeErased, fresh.ID, b.Key.ExpiresAt)
	done, err = r.store.EraseCustomer(r.Context(), own, fresh.ID, next.Revision, r.erased(next), b)
	r.must(err)
	r.wantEqual("erased", done, true)
	r.wantRecord(*b.Key)
}

func idempotencyPrune(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	var kept []grahak.IdempotencyRecord
	for i := range 6 {
		for _, m := range []grahak.MerchantID{own, other} {
			b := r.keyed(grahak.OutcomeFound, r.customer().ID)
			b.Key.ExpiresAt = start.Add(time.Duration(i) * time.Minute)
			r.must(r.store.PutIdempotency(r.Context(), m, *b.Key))
			if i == 5 && m == own {
				kept = append(kept, *b.Key)
			}
		}
	}
	for _, want := range []int{4, 4, 2, 0} {
		n, err := r.store.PruneIdempotency(r.Context(), start.Add(5*time.Minute-time.Microsecond), 4)
		r.must(err)
		r.wantEqual("pruned", n, want)
	}
	for _, record := range kept {
		r.wantRecord(record)
	}
}

// idempotencyRace has many create a customer each with one key, at once: one of
// them is made.
func idempotencyRace(r *rig) {
	r.MustMerchant(own)
	key := r.keyed(grahak.OutcomeCreated, "").Key
	records := make([]grahak.CustomerRecord, parallel)
	for i := range records {
		records[i] = r.customer()
	}
	r.wantOutcomes(r.together(parallel, func(r *rig, i int) error {
		mine := *key
		mine.Customer = records[i].ID
		err := r.store.CreateCustomer(r.Context(), own, records[i], r.created(records[i]), &grahak.Besides{Key: &mine})
		// The two refusals are one to the service.
		if grahak.CodeOf(err) == grahak.CodeDuplicateReference {
			return &grahak.Error{Code: grahak.CodeIdempotencyKeyUsed}
		}
		return err
	}), map[grahak.Code]int{"": 1, grahak.CodeIdempotencyKeyUsed: parallel - 1})
	got, found, err := r.store.Idempotency(r.Context(), own, key.Key, start)
	r.must(err)
	_, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, 10, 0)
	r.must(err)
	r.wantEqual("customers", total, int64(1))
	winner, err := r.store.Customer(r.Context(), own, got.Customer, grahak.Index{})
	r.must(err)
	r.wantEqual("found", found, true)
	r.wantEqual("the customer of the record", winner.ID, got.Customer)
}
