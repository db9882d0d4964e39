package storetest

import (
	"errors"
	"fmt"
	"slices"

	"grahak"
)

var masterKeyTests = []test{
	{"named first", masterKeyNamedFirst},
	{"named late", masterKeyNamedLate},
	{"named by many", masterKeyNamedByMany},
}

// wantMasterKey calls MasterKeyID with id and fails the test unless it returns
// want and, asked again, keeps to it.
func (r *rig) wantMasterKey(what, id, want string) {
	r.Helper()
	for _, given := range []string{id, ""} {
		got, err := r.store.MasterKeyID(r.Context(), given)
		r.must(err)
		r.wantEqual(fmt.Sprintf("%s: the master key after %q", what, given), got, want)
	}
}

// masterKeyNamedFirst names a key before there is a merchant, as a server does.
func masterKeyNamedFirst(r *rig) {
	r.wantMasterKey("a new store", "", "")
	r.wantMasterKey("the first name", "mk_1", "mk_1")
	r.wantMasterKey("the same name", "mk_1", "mk_1")
	// Nothing is under the first key yet, so it may be lost without harm.
	r.wantMasterKey("another name while there is no merchant", "mk_2", "mk_2")
	r.wantMasterKey("the first name again", "mk_1", "mk_1")
	r.wantMasterKey("the other name again", "mk_2", "mk_2")

	_, keys := r.MustMerchant(own)
	r.wantMasterKey("with a merchant", "", "mk_2")
	r.wantMasterKey("another name with a merchant", "mk_1", "mk_2")
	r.wantMasterKey("a new name with a merchant", "mk_3", "mk_2")
	r.wantMasterKey("the same name with a merchant", "mk_2", "mk_2")
	// A disabled merchant's customers are still under the key.
	r.must(r.store.DisableMerchant(r.Context(), own, r.now(), r.event(grahak.EventMerchantDisabled, "", 0)))
	r.wantMasterKey("another name with a disabled merchant", "mk_3", "mk_2")
	got, err := r.store.Keyset(r.Context(), own)
	r.must(err)
	r.wantEqual("the merchant's own keys", got, keys)
}

// masterKeyNamedLate makes no merchant while no master key is named: the keys of
// all merchants are under the one that the store names.
func masterKeyNamedLate(r *rig) {
	m := grahak.Merchant{ID: own, IPMode: grahak.IPModeOff, CreatedAt: r.now()}
	create := func(master string) error {
		return r.store.CreateMerchant(r.Context(), m, r.keyset(own, master), r.event(grahak.EventMerchantCreated, "", 0))
	}
	r.wantCode("a merchant while no master key is named", create("mk_1"), grahak.CodeKeyRotated)
	r.wantMasterKey("no name", "", "")
	r.wantMasterKey("the first name", "mk_1", "mk_1")
	r.wantCode("a merchant under another master key", create("mk_2"), grahak.CodeKeyRotated)
	r.wantMasterKey("another name, with no merchant yet", "mk_2", "mk_2")
	r.wantCode("a merchant under the key that was named before", create("mk_1"), grahak.CodeKeyRotated)
	r.wantEqual("the events of refusals", r.MustEvents(own), []grahak.Event(nil))
	_, err := r.store.Merchant(r.Context(), own)
	r.wantCode("the merchant after refusals", err, grahak.CodeMerchantNotFound)
	r.wantCode("a merchant under the named master key", create("mk_2"), "")
	r.wantMasterKey("the first name again, with a merchant", "mk_1", "mk_2")
}

// masterKeyNamedByMany has many name a key of their own, once each, and make a
// merchant under the one that they are told of, all at once. The name can be
// replaced until the first of them has a merchant; then all are told of that one.
func masterKeyNamedByMany(r *rig) {
	told := make([]string, parallel)
	r.wantOutcomes(r.together(parallel, func(r *rig, i int) error {
		m := grahak.Merchant{ID: grahak.MerchantID(fmt.Sprintf("acme-%d", i)), IPMode: grahak.IPModeOff, CreatedAt: r.now()}
		name := fmt.Sprintf("mk_%d", i)
		// Each of the others may take the name away once.
		for range parallel {
			var err error
			if told[i], err = r.store.MasterKeyID(r.Context(), name); err != nil {
				return err
			}
			name = ""
			err = r.store.CreateMerchant(r.Context(), m, r.keyset(m.ID, told[i]), r.event(grahak.EventMerchantCreated, "", 0))
			if grahak.CodeOf(err) != grahak.CodeKeyRotated {
				return err
			}
		}
		return errors.New("the name changed again and again")
	}), map[grahak.Code]int{"": parallel})
	if differ := slices.Compact(slices.Sorted(slices.Values(told))); len(differ) != 1 {
		r.Errorf("callers were told of the keys %q at last", differ)
	}
	r.wantMasterKey("one more name", "mk_late", told[0])
	states, err := r.store.SealStates(r.Context())
	r.must(err)
	r.wantEqual("merchants", len(states), parallel)
	for _, state := range states {
		r.wantEqual("the master key of "+string(state.Merchant), state.MasterKeyID, told[0])
	}
}
