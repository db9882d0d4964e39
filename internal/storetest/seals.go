package storetest

import (
	"fmt"
	"time"

	"grahak"
)

var sealTests = []test{
	{"state", sealState},
	{"rotate", rotateKeyset},
	{"rotate refuses", rotateRefuses},
	{"fence", keyFence},
	{"fence against creates", keyFenceAgainstCreates},
	{"retire against writes", retireAgainstWrites},
	{"reseal", reseal},
	{"reseal gives indexes", resealGivesIndexes},
	{"reseal in between", resealInBetween},
	{"reseal refuses", resealRefuses},
	{"restart", restartReseal},
	{"retire", retireKeyset},
	{"retire refuses", retireRefuses},
	{"one of many", rotationsByMany},
}

// MustSeal returns the state of the merchant's keys.
func (r *rig) MustSeal(m grahak.MerchantID) grahak.SealState {
	r.Helper()
	state, err := r.store.SealState(r.Context(), m)
	r.must(err)
	return state
}

// rotated returns k as a rotation makes it.
func (r *rig) rotated(k grahak.Keyset) grahak.Keyset {
	k.Version++
	k.Sealing = fmt.Appendf(nil, "sealing %d %s", k.Version, r.id("sk"))
	return k
}

// rotate rotates the merchant's keys.
func (r *rig) rotate(m grahak.MerchantID) error {
	state, err := r.store.SealState(r.Context(), m)
	if err != nil {
		return err
	}
	return r.store.RotateKeyset(r.Context(), r.rotated(state.Keyset), r.now(), r.event(grahak.EventSealRotated, "version", 0))
}

// MustRotate rotates the merchant's keys and returns the state after that.
func (r *rig) MustRotate(m grahak.MerchantID) grahak.SealState {
	r.Helper()
	r.must(r.rotate(m))
	return r.MustSeal(m)
}

// anew returns c as sealed under a version; its indexes stay.
func (r *rig) anew(c grahak.CustomerRecord, version int64) grahak.CustomerRecord {
	c.Sealed = grahak.Sealed{Bytes: fmt.Appendf(nil, "%s under version %d", c.ID, version), Version: version}
	return c
}

// MustReseal walks through the merchant's customers, a few at a time, and
// returns the state at the end of the walk.
func (r *rig) MustReseal(m grahak.MerchantID) grahak.SealState {
	r.Helper()
	const step = 3
	for state := r.MustSeal(m); state.Walking; {
		before := state.After
		list, err := r.store.CustomersAfter(r.Context(), m, before, step)
		r.must(err)
		var sealed []grahak.CustomerRecord
		for _, c := range list {
			state.After, state.Seen = c.ID, state.Seen+1
			if c.Sealed.Version < state.Version {
				sealed = append(sealed, r.anew(c, state.Version))
			}
		}
		state.Walking = len(list) == step
		r.must(r.store.Reseal(r.Context(), state, before, sealed))
		r.wantEqual("the state after a step", r.MustSeal(m), state)
	}
	return r.MustSeal(m)
}

// MustRotating returns the merchants whose state is not complete.
func (r *rig) MustRotating() []grahak.MerchantID {
	r.Helper()
	list, err := r.store.Rotating(r.Context())
	r.must(err)
	return list
}

func sealState(r *rig) {
	states, err := r.store.SealStates(r.Context())
	r.must(err)
	r.wantEqual("the states of an empty store", states, []grahak.SealState(nil))
	var want []grahak.SealState
	for _, id := range []grahak.MerchantID{"b", "A", "a", "_", "0"} {
		m, keys := r.MustMerchant(id)
		state := grahak.SealState{Keyset: keys, RotatedAt: m.CreatedAt, Oldest: 1}
		r.wantEqual("the state", r.MustSeal(id), state)
		if !state.Complete() {
			r.Error("the state of a new merchant is not complete")
		}
		want = append(want, state)
	}
	// By id, in the order of bytes.
	want = []grahak.SealState{want[4], want[1], want[3], want[2], want[0]}
	states, err = r.store.SealStates(r.Context())
	r.must(err)
	r.wantEqual("all states", states, want)
	r.wantEqual("rotating", r.MustRotating(), []grahak.MerchantID(nil))
	_, err = r.store.SealState(r.Context(), nobody)
	r.wantCode("nobody's state", err, grahak.CodeMerchantNotFound)
}

// rotateKeyset rotates twice, the second time before anything was sealed anew.
func rotateKeyset(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustCustomer(own)
	theirs := r.MustState(other)
	want, version := r.MustState(own), r.MustVersion()
	for round := range 2 {
		k, at, event := r.rotated(want.Seal.Keyset), r.now(), r.event(grahak.EventSealRotated, "version", 0)
		r.must(r.store.RotateKeyset(r.Context(), k, at, event))
		k.Revision++
		want.Seal = grahak.SealState{Keyset: k, RotatedAt: at, Oldest: 1, Walking: true}
		want.Events = append(want.Events, placed(event, len(want.Events)+1))
		r.wantEqual("what the merchant has", r.MustState(own), want)
		r.wantEqual("what the other has", r.MustState(other), theirs)
		r.wantEqual("rotating", r.MustRotating(), []grahak.MerchantID{own})
		if r.MustVersion() == version {
			r.Error("the access version did not move")
		}
		version = r.MustVersion()
		if round == 0 {
			// A step of the first walk, so that the second one is seen to start
			// from the beginning.
			state := want.Seal
			state.After, state.Seen, state.Unopened = want.Customers[0].ID, 1, 1
			r.must(r.store.Reseal(r.Context(), state, "", nil))
			r.wantEqual("the state after a step", r.MustSeal(own), state)
		}
	}
	r.must(r.rotate(other))
	r.wantEqual("two rotating", r.MustRotating(), []grahak.MerchantID{other, own})
}

func rotateRefuses(r *rig) {
	_, keys := r.MustMerchant(own)
	event := func() grahak.Event { return r.event(grahak.EventSealRotated, "version", 0) }
	// The first is done by somebody else.
	r.must(r.rotate(own))
	before, version := r.MustState(own), r.MustVersion()
	stale := r.rotated(keys)
	r.wantCode("a revision that is not stored any more", r.store.RotateKeyset(r.Context(), stale, r.now(), event()), grahak.CodeKeyRotated)
	ahead := r.rotated(before.Seal.Keyset)
	ahead.Revision++
	r.wantCode("a revision that is not stored yet", r.store.RotateKeyset(r.Context(), ahead, r.now(), event()), grahak.CodeKeyRotated)
	unknown := r.rotated(before.Seal.Keyset)
	unknown.Merchant = nobody
	r.wantCode("an unknown merchant", r.store.RotateKeyset(r.Context(), unknown, r.now(), event()), grahak.CodeMerchantNotFound)
	r.wantEqual("what the merchant has", r.MustState(own), before)
	r.wantEqual("nobody's events", r.MustEvents(nobody), []grahak.Event(nil))
	r.wantEqual("the access version", r.MustVersion(), version)
}

// reseal walks through customers, some of which are under the newest version
// already. Only what is sealed changes.
func reseal(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	var records []grahak.CustomerRecord
	for range 8 {
		records = append(records, r.MustCustomer(own))
		r.MustCustomer(other)
	}
	r.MustOrder(own, all)
	r.MustRotate(own)
	theirs := r.MustState(other)
	// One is updated and one made after the rotation.
	records[4] = r.anew(r.next(records[4]), 2)
	done, err := r.store.UpdateCustomer(r.Context(), own, records[4], r.updated(records[4]), nil)
	r.must(err)
	r.wantEqual("done", done, true)
	late := r.anew(r.customer(), 2)
	r.must(r.store.CreateCustomer(r.Context(), own, late, r.created(late), nil))
	records = append(records, late)

	want, version := r.MustState(own), r.MustVersion()
	state := r.MustReseal(own)
	want.Seal.After, want.Seal.Seen, want.Seal.Walking = late.ID, 9, false
	want.Customers = nil
	for i := range records {
		if records[i].Sealed.Version == 1 {
			records[i] = r.anew(records[i], 2)
		}
		want.Customers = append([]grahak.CustomerRecord{records[i]}, want.Customers...)
	}
	got := r.MustState(own)
	if got.Seal.Walking {
		// A walk whose last step was full ends with an empty one.
		r.Error("the walk did not end")
	}
	r.wantEqual("what the merchant has", got, want)
	r.wantEqual("the state", state, want.Seal)
	r.wantEqual("what the other has", r.MustState(other), theirs)
	r.wantEqual("the access version", r.MustVersion(), version)
	for _, c := range records {
		r.wantFound("sealed anew", own, c)
	}
	r.MustOrder(own, all)
	for _, c := range records {
		r.wantFound("sealed anew and in order", own, c)
	}
	// The older version is kept until it is retired.
	r.wantEqual("rotating", r.MustRotating(), []grahak.MerchantID{own})
}

// resealGivesIndexes gives customers other indexes than they had: none before,
// as those have that an older schema kept, or others.
func resealGivesIndexes(r *rig) {
	r.MustMerchant(own)
	var records []grahak.CustomerRecord
	for i := range 6 {
		c := r.customer()
		if i%2 == 0 {
			c.Email, c.Mobile = grahak.ShortIndex{}, grahak.ShortIndex{}
		}
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		records = append(records, c)
	}
	_, err := r.order(own, 4)
	r.must(err)
	state := r.MustRotate(own)
	var sealed []grahak.CustomerRecord
	for i, c := range records {
		c = r.anew(c, 2)
		c.Email = r.short()
		if i%3 > 0 {
			c.Mobile = r.short()
		}
		sealed = append(sealed, c)
	}
	state.After, state.Seen, state.Walking = records[5].ID, 6, false
	r.must(r.store.Reseal(r.Context(), state, "", sealed))
	for range 2 {
		for i, c := range sealed {
			r.wantFound(fmt.Sprintf("customer %d", i), own, c)
			old := r.customer() // with what is not to be found any more
			old.Email = records[i].Email
			if records[i].Mobile != c.Mobile {
				old.Mobile = records[i].Mobile
			}
			r.wantLost(fmt.Sprintf("what customer %d had", i), own, old)
		}
		r.MustOrder(own, all)
	}
	for i, c := range sealed {
		r.MustErase(own, c.ID)
		r.wantLost("erased", own, c)
		r.wantLost("erased, as it was", own, records[i])
	}
}

// resealInBetween changes customers between the moment that a step read them and
// the moment that it is written.
func resealInBetween(r *rig) {
	r.MustMerchant(own)
	for _, ordered := range []bool{true, false} {
		var records []grahak.CustomerRecord
		version := r.MustSeal(own).Version
		for range 4 {
			c := r.anew(r.customer(), version)
			r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
			records = append(records, c)
		}
		if ordered {
			r.MustOrder(own, all)
		}
		state := r.MustRotate(own)
		version = state.Version
		var sealed []grahak.CustomerRecord
		for _, c := range records {
			sealed = append(sealed, r.anew(c, version))
		}
		updated := r.anew(r.next(records[1]), version)
		updated.Sealed.Bytes = []byte("by an update")
		_, err := r.store.UpdateCustomer(r.Context(), own, updated, r.updated(updated), nil)
		r.must(err)
		r.MustErase(own, records[2].ID)
		// The id of the last one is taken by another customer. Ids do not repeat;
		// but what is written later under the newest version always stays.
		r.MustErase(own, records[3].ID)
		taken := r.anew(r.customer(), version)
		taken.ID = records[3].ID
		taken.Sealed.Bytes = []byte("by a create")
		r.must(r.store.CreateCustomer(r.Context(), own, taken, r.created(taken), nil))

		state.After, state.Seen, state.Walking = records[3].ID, 4, false
		r.must(r.store.Reseal(r.Context(), state, "", sealed))
		r.wantEqual("the state", r.MustSeal(own), state)
		for range 2 {
			for _, c := range []grahak.CustomerRecord{sealed[0], updated, taken} {
				r.wantCustomer(own, c)
				r.wantFound("what is stored", own, c)
			}
			r.wantLost("the erased customer", own, records[2])
			r.wantLost("the customer whose id was taken", own, records[3])
			_, err = r.store.Customer(r.Context(), own, records[2].ID, records[2].Reference)
			r.wantCode("the erased customer", err, grahak.CodeCustomerNotFound)
			old := r.customer()
			old.Email = records[1].Email
			r.wantLost("what the updated customer had", own, old)
			r.MustOrder(own, all)
		}
	}
}

// resealRefuses takes steps that somebody else has taken.
func resealRefuses(r *rig) {
	r.MustMerchant(own)
	a, b := r.MustCustomer(own), r.MustCustomer(own)
	idle := r.MustSeal(own)
	step := func(from grahak.SealState, after grahak.CustomerID) grahak.SealState {
		from.After, from.Seen = after, from.Seen+1
		return from
	}
	refuse := func(name string, state grahak.SealState, before grahak.CustomerID) {
		r.Helper()
		want := r.MustState(own)
		sealed := []grahak.CustomerRecord{r.anew(a, state.Version), r.anew(b, state.Version)}
		r.wantCode(name, r.store.Reseal(r.Context(), state, before, sealed), grahak.CodeKeyRotated)
		r.wantEqual(name+": what the merchant has", r.MustState(own), want)
	}
	refuse("no walk has begun", step(idle, a.ID), "")
	first := r.MustRotate(own)
	refuse("an older version", step(idle, a.ID), "")
	ahead := step(first, a.ID)
	ahead.Version++
	refuse("a version that is not made", ahead, "")
	refuse("before the walk came there", step(first, b.ID), a.ID)
	r.must(r.store.Reseal(r.Context(), step(first, a.ID), "", []grahak.CustomerRecord{r.anew(a, 2)}))
	refuse("a step that was taken", step(first, a.ID), "")
	second := r.MustRotate(own)
	refuse("the walk of an older version", step(first, b.ID), a.ID)
	refuse("the walk of an older version, from its start", step(first, b.ID), "")
	end := step(second, b.ID)
	end.Walking = false
	r.must(r.store.Reseal(r.Context(), end, "", []grahak.CustomerRecord{r.anew(a, 3), r.anew(b, 3)}))
	refuse("a walk that has ended", end, b.ID)
	unknown := step(second, a.ID)
	unknown.Merchant = nobody
	r.wantCode("an unknown merchant", r.store.Reseal(r.Context(), unknown, "", nil), grahak.CodeMerchantNotFound)
}

// restartReseal starts a walk again that is stuck or under way.
func restartReseal(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustRotate(other)
	c := r.MustCustomer(own)
	r.MustCustomer(own)
	complete := r.MustState(own)
	r.wantCode("a state that is complete", r.store.RestartReseal(r.Context(), own, 1), grahak.CodeKeyRotated)
	r.wantEqual("a state that is complete", r.MustState(own), complete)
	begin := r.MustRotate(own)
	theirs := r.MustState(other)
	for _, walking := range []bool{true, false} {
		state := begin
		state.After, state.Seen, state.Unopened, state.Walking = c.ID, 1, 1, walking
		r.must(r.store.Reseal(r.Context(), state, "", nil))
		want := r.MustState(own)
		r.wantEqual("the state after a step", want.Seal, state)
		for _, version := range []int64{0, 1, 3} {
			r.wantCode("another version", r.store.RestartReseal(r.Context(), own, version), grahak.CodeKeyRotated)
			r.wantEqual("what the merchant has after a refusal", r.MustState(own), want)
		}
		r.must(r.store.RestartReseal(r.Context(), own, 2))
		want.Seal = begin
		r.wantEqual("what the merchant has", r.MustState(own), want)
	}
	r.wantEqual("what the other has", r.MustState(other), theirs)
}

// retireKeyset ends a rotation.
func retireKeyset(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.must(r.rotate(other))
	for range 7 {
		r.MustCustomer(own)
	}
	theirs := r.MustState(other)
	for range 2 {
		r.MustRotate(own)
		state := r.MustReseal(own)
		want, version := r.MustState(own), r.MustVersion()
		k, event := state.Keyset, r.event(grahak.EventSealRetired, "version", 0)
		k.Sealing = fmt.Appendf(nil, "only version %d", k.Version)
		r.must(r.store.RetireKeyset(r.Context(), k, event))
		k.Revision++
		want.Seal.Keyset, want.Seal.Oldest = k, k.Version
		want.Events = append(want.Events, placed(event, len(want.Events)+1))
		got := r.MustState(own)
		r.wantEqual("what the merchant has", got, want)
		if !got.Seal.Complete() {
			r.Error("the state is not complete")
		}
		r.wantEqual("rotating", r.MustRotating(), []grahak.MerchantID{other})
		if r.MustVersion() == version {
			r.Error("the access version did not move")
		}
	}
	r.wantEqual("what the other has", r.MustState(other), theirs)
}

// retireRefuses tries to destroy older keys too early.
func retireRefuses(r *rig) {
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	refuse := func(name string, k grahak.Keyset, want grahak.Code) {
		r.Helper()
		before, version := r.MustState(own), r.MustVersion()
		err := r.store.RetireKeyset(r.Context(), k, r.event(grahak.EventSealRetired, "version", 0))
		r.wantCode(name, err, want)
		r.wantEqual(name+": what the merchant has", r.MustState(own), before)
		r.wantEqual(name+": the access version", r.MustVersion(), version)
	}
	begin := r.MustRotate(own)
	step := func(before grahak.CustomerID, walking bool, unopened int64, sealed ...grahak.CustomerRecord) {
		r.Helper()
		state := begin
		state.After, state.Seen, state.Walking, state.Unopened = c.ID, 1, walking, unopened
		r.must(r.store.Reseal(r.Context(), state, before, sealed))
	}
	// Whoever says that the walk has ended may be wrong. Then it begins anew.
	step("", false, 0)
	state := r.MustSeal(own)
	want, version := r.MustState(own), r.MustVersion()
	r.wantCode("a customer is under the older version", r.store.RetireKeyset(r.Context(), state.Keyset, r.event(grahak.EventSealRetired, "version", 0)), grahak.CodeKeyRotated)
	want.Seal = begin
	r.wantEqual("what the merchant has when a customer is under the older version", r.MustState(own), want)
	r.wantEqual("the access version then", r.MustVersion(), version)

	step("", true, 0, r.anew(c, 2))
	refuse("the walk has not ended", state.Keyset, grahak.CodeKeyRotated)
	step(c.ID, false, 1)
	refuse("a customer did not open", state.Keyset, grahak.CodeKeyRotated)
	r.must(r.store.RestartReseal(r.Context(), own, 2))
	step("", false, 0)
	stale := state.Keyset
	stale.Revision--
	refuse("a revision that is not stored any more", stale, grahak.CodeKeyRotated)
	unknown := state.Keyset
	unknown.Merchant = nobody
	refuse("an unknown merchant", unknown, grahak.CodeMerchantNotFound)
	r.wantEqual("nobody's events", r.MustEvents(nobody), []grahak.Event(nil))
	r.must(r.store.RetireKeyset(r.Context(), state.Keyset, r.event(grahak.EventSealRetired, "version", 0)))
}

// rotationsByMany has many make the next version at once, then take the same
// step, and then retire: one of them does each.
func rotationsByMany(r *rig) {
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	only := map[grahak.Code]int{"": 1, grahak.CodeKeyRotated: parallel - 1}
	before := r.MustSeal(own)
	r.wantOutcomes(r.together(parallel, func(r *rig, _ int) error {
		return r.store.RotateKeyset(r.Context(), r.rotated(before.Keyset), r.now(), r.event(grahak.EventSealRotated, "version", 0))
	}), only)
	begin := r.MustSeal(own)
	r.wantOutcomes(r.together(parallel, func(r *rig, _ int) error {
		state := begin
		state.After, state.Seen, state.Walking = c.ID, 1, false
		return r.store.Reseal(r.Context(), state, "", []grahak.CustomerRecord{r.anew(c, 2)})
	}), only)
	end := r.MustSeal(own)
	r.wantEqual("customers seen", end.Seen, int64(1))
	r.wantOutcomes(r.together(parallel, func(r *rig, _ int) error {
		return r.store.RetireKeyset(r.Context(), end.Keyset, r.event(grahak.EventSealRetired, "version", 0))
	}), only)
	got := r.MustState(own)
	r.wantEqual("the events", len(got.Events), 4)
	r.wantEqual("the revision", got.Seal.Revision, int64(3))
	if at := got.Seal.RotatedAt; at.Equal(before.RotatedAt) || at.Before(start) || at.After(start.Add(time.Hour)) {
		r.Errorf("the time of the rotation is %v", at)
	}
}
