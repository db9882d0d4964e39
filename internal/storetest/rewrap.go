package storetest

import (
	"fmt"
	"sync"

	"grahak"
)

var rewrapTests = []test{
	{"rewrap", rewrap},
	{"refuses what changed", rewrapRefuses},
	{"without merchants", rewrapWithoutMerchants},
	{"one of many", rewrapsByMany},
	{"against new merchants and rotations", rewrapAgainstChanges},
}

// rewrapped returns the keysets of all merchants as wrapped under another master
// key, with the events of that.
func (r *rig) rewrapped(master string) (keysets []grahak.Keyset, events []grahak.Event, err error) {
	states, err := r.store.SealStates(r.Context())
	for _, state := range states {
		k := state.Keyset
		k.MasterKeyID = master
		k.Sealing = fmt.Appendf(nil, "%s of version %d under %s", k.Merchant, k.Version, master)
		k.Indexing = fmt.Appendf(nil, "%s under %s", k.Merchant, master)
		keysets = append(keysets, k)
		events = append(events, r.event(grahak.EventSealRewrapped, master, 0))
	}
	return keysets, events, err
}

// MustRewrapped is rewrapped without its error.
func (r *rig) MustRewrapped(master string) ([]grahak.Keyset, []grahak.Event) {
	r.Helper()
	keysets, events, err := r.rewrapped(master)
	r.must(err)
	return keysets, events
}

func rewrap(r *rig) {
	merchants := []grahak.MerchantID{other, own, "z"}
	for _, m := range merchants {
		r.MustMerchant(m)
		r.MustCustomer(m)
	}
	// In the middle of a rotation, too.
	r.MustRotate(own)
	want := make(map[grahak.MerchantID]state)
	for _, m := range merchants {
		want[m] = r.MustState(m)
	}
	version := r.MustVersion()
	keysets, events := r.MustRewrapped("mk_second")
	r.must(r.store.RewrapKeysets(r.Context(), "mk_second", keysets, events))
	for i, m := range merchants {
		s := want[m]
		s.Seal.Keyset = keysets[i]
		s.Seal.Revision++
		s.Events = append(s.Events, placed(events[i], len(s.Events)+1))
		r.wantEqual("what "+string(m)+" has", r.MustState(m), s)
	}
	if r.MustVersion() == version {
		r.Error("the access version did not move")
	}
	r.wantMasterKey("after a rewrap", "", "mk_second")
	r.wantMasterKey("the first one after a rewrap", firstMaster, "mk_second")
	late := grahak.Merchant{ID: "late", IPMode: grahak.IPModeOff, CreatedAt: r.now()}
	r.wantCode("a merchant under the first one",
		r.store.CreateMerchant(r.Context(), late, r.keyset(late.ID, firstMaster), r.event(grahak.EventMerchantCreated, "", 0)), grahak.CodeKeyRotated)
	r.MustMerchant("late")
	// And back.
	keysets, events = r.MustRewrapped(firstMaster)
	r.must(r.store.RewrapKeysets(r.Context(), firstMaster, keysets, events))
	r.wantMasterKey("after the way back", "", firstMaster)
}

// rewrapRefuses wraps keys that are not the stored ones any more: nothing of it
// is written, of no merchant.
func rewrapRefuses(r *rig) {
	const second = "mk_second"
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustCustomer(own)
	refuse := func(name string, keysets []grahak.Keyset, events []grahak.Event) {
		r.Helper()
		states, err := r.store.SealStates(r.Context())
		r.must(err)
		mine, theirs, version := r.MustState(own), r.MustState(other), r.MustVersion()
		r.wantCode(name, r.store.RewrapKeysets(r.Context(), second, keysets, events), grahak.CodeKeyRotated)
		after, err := r.store.SealStates(r.Context())
		r.must(err)
		r.wantEqual(name+": all keys", after, states)
		r.wantEqual(name+": what one merchant has", r.MustState(own), mine)
		r.wantEqual(name+": what another has", r.MustState(other), theirs)
		r.wantEqual(name+": the access version", r.MustVersion(), version)
		r.wantMasterKey(name, "", firstMaster)
	}
	keysets, events := r.MustRewrapped(second)
	refuse("one is missing", keysets[:1], events[:1])
	refuse("the other is missing", keysets[1:], events[1:])
	refuse("all are missing", nil, nil)
	unknown := keysets[1]
	unknown.Merchant = nobody
	refuse("one is nobody's", []grahak.Keyset{keysets[0], unknown}, events)
	refuse("one is nobody's besides", append(keysets[:2:2], unknown), append(events[:2:2], r.event(grahak.EventSealRewrapped, second, 0)))
	r.wantEqual("nobody's events", r.MustEvents(nobody), []grahak.Event(nil))

	// Each of these comes between reading the keys and writing them.
	for _, between := range []struct {
		name   string
		change func()
	}{
		{"a merchant was rotated", func() { r.MustRotate(own) }},
		{"its rotation has ended", func() {
			state := r.MustReseal(own)
			r.must(r.store.RetireKeyset(r.Context(), state.Keyset, r.event(grahak.EventSealRetired, "version", 0)))
		}},
		{"another was rotated", func() { r.MustRotate(other) }},
		{"a merchant was added", func() { r.MustMerchant("late") }},
		{"somebody else rewrapped", func() {
			keysets, events := r.MustRewrapped(firstMaster)
			r.must(r.store.RewrapKeysets(r.Context(), firstMaster, keysets, events))
		}},
	} {
		keysets, events := r.MustRewrapped(second)
		between.change()
		refuse(between.name, keysets, events)
	}
	// What changes no key is no obstacle.
	keysets, events = r.MustRewrapped(second)
	r.MustReseal(other)
	r.MustKey(own)
	r.must(r.store.RewrapKeysets(r.Context(), second, keysets, events))
	r.wantMasterKey("at last", "", second)
}

func rewrapWithoutMerchants(r *rig) {
	r.wantMasterKey("the first name", firstMaster, firstMaster)
	r.must(r.store.RewrapKeysets(r.Context(), "mk_second", nil, nil))
	r.wantMasterKey("after a rewrap of nothing", "", "mk_second")
}

// rewrapsByMany has many wrap the same keys under a key of their own: one does.
func rewrapsByMany(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	states, err := r.store.SealStates(r.Context())
	r.must(err)
	var winner string
	var mu sync.Mutex
	r.wantOutcomes(r.together(parallel, func(r *rig, i int) error {
		master := fmt.Sprintf("mk_%d", i)
		var keysets []grahak.Keyset
		var events []grahak.Event
		for _, state := range states {
			k := state.Keyset
			k.MasterKeyID, k.Sealing = master, []byte(master)
			keysets = append(keysets, k)
			events = append(events, r.event(grahak.EventSealRewrapped, master, 0))
		}
		err := r.store.RewrapKeysets(r.Context(), master, keysets, events)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			winner = master
		}
		return err
	}), map[grahak.Code]int{"": 1, grahak.CodeKeyRotated: parallel - 1})
	r.wantMasterKey("the winner's", "", winner)
	for _, m := range []grahak.MerchantID{own, other} {
		got := r.MustState(m)
		r.wantEqual("the master key of "+string(m), got.Seal.MasterKeyID, winner)
		r.wantEqual("its keys", string(got.Seal.Sealing), winner)
		r.wantEqual("its events", len(got.Events), 2)
	}
}

// rewrapAgainstChanges rewraps while merchants are made and rotated. Whatever
// comes first, at the end all keys are under the named master key, and each is
// of the newest version of its merchant.
func rewrapAgainstChanges(r *rig) {
	const rewraps, changers, each = 5, 6, 5
	r.wantEqual("the master key", r.MustMasterKey(), firstMaster)
	again := func(attempt func() error) error {
		for range 200 {
			if err := attempt(); grahak.CodeOf(err) != grahak.CodeKeyRotated {
				return err
			}
		}
		return fmt.Errorf("refused again and again")
	}
	r.wantOutcomes(r.together(1+changers, func(r *rig, i int) error {
		if i == changers {
			for n := range rewraps {
				master := fmt.Sprintf("mk_%d", n)
				err := again(func() error {
					keysets, events, err := r.rewrapped(master)
					if err != nil {
						return err
					}
					return r.store.RewrapKeysets(r.Context(), master, keysets, events)
				})
				if err != nil {
					return err
				}
			}
			return nil
		}
		for n := range each {
			m := grahak.Merchant{ID: grahak.MerchantID(fmt.Sprintf("acme-%d-%d", i, n)), IPMode: grahak.IPModeOff, CreatedAt: r.now()}
			err := again(func() error {
				named, err := r.store.MasterKeyID(r.Context(), "")
				if err != nil {
					return err
				}
				k := r.keyset(m.ID, named)
				k.Sealing = fmt.Appendf(nil, "%s of version 1 under %s", m.ID, named)
				return r.store.CreateMerchant(r.Context(), m, k, r.event(grahak.EventMerchantCreated, "", 0))
			})
			if err != nil {
				return err
			}
			err = again(func() error {
				state, err := r.store.SealState(r.Context(), m.ID)
				if err != nil {
					return err
				}
				k := state.Keyset
				k.Version++
				k.Sealing = fmt.Appendf(nil, "%s of version %d under %s", m.ID, k.Version, k.MasterKeyID)
				return r.store.RotateKeyset(r.Context(), k, r.now(), r.event(grahak.EventSealRotated, "version", 0))
			})
			if err != nil {
				return err
			}
		}
		return nil
	}), map[grahak.Code]int{"": 1 + changers})
	last := fmt.Sprintf("mk_%d", rewraps-1)
	r.wantMasterKey("at last", "", last)
	states, err := r.store.SealStates(r.Context())
	r.must(err)
	r.wantEqual("merchants", len(states), changers*each)
	for _, state := range states {
		r.wantEqual("the master key of "+string(state.Merchant), state.MasterKeyID, last)
		r.wantEqual("its keys", string(state.Sealing), fmt.Sprintf("%s of version 2 under %s", state.Merchant, last))
	}
}
