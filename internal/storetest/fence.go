package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"grahak"
)

// keyFence writes what is sealed under other versions than the newest: nothing
// is written. Erasures and tokens need no key.
func keyFence(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	newest := int64(1)
	for range 3 {
		c := r.customer()
		c.Sealed.Version = newest
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		before := r.MustState(own)
		for _, version := range []int64{-1, 0, newest - 1, newest + 1, 1 << 40} {
			what := fmt.Sprintf("version %d at version %d", version, newest)
			created, updated := r.customer(), r.next(c)
			created.Sealed.Version, updated.Sealed.Version = version, version
			token := r.token(own, created.ID)
			r.wantCode("a create under "+what, r.store.CreateCustomer(r.Context(), own, created, r.created(created), &grahak.Besides{Token: &token}), grahak.CodeKeyRotated)
			r.wantNoToken("a token of a create under "+what, token)
			token = r.token(own, c.ID)
			done, err := r.store.UpdateCustomer(r.Context(), own, updated, r.updated(updated), &grahak.Besides{Token: &token})
			r.wantCode("an update under "+what, err, grahak.CodeKeyRotated)
			r.wantEqual("done", done, false)
			r.wantNoToken("a token of an update under "+what, token)
			r.wantEqual(what+": what the merchant has", r.MustState(own), before)
			r.wantLost(what, own, created)
		}
		next := r.next(c)
		done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), nil)
		r.must(err)
		r.wantEqual("an update under the newest version was done", done, true)
		r.MustRotate(own)
		newest++
		r.must(r.store.PutToken(r.Context(), own, r.token(own, c.ID)))
		r.MustErase(own, c.ID)
	}
	// Another merchant's versions are its own.
	r.MustCustomer(other)
}

// keyFenceAgainstCreates rotates while many write, each under the version that
// it read last: nothing that begins after a rotation is written under a version
// before it.
func keyFenceAgainstCreates(r *rig) {
	const rotations, writers, each = 12, parallel, 12
	r.MustMerchant(own)
	shared := r.MustCustomer(own)
	var written, newest atomic.Int64
	errs := r.together(writers+1, func(r *rig, i int) error {
		if i == writers {
			for n := range int64(rotations) {
				// Spread over the writes.
				for written.Load() < n*writers*each/rotations {
					if err := r.store.Ping(r.Context()); err != nil {
						return err
					}
				}
				if err := r.rotate(own); err != nil {
					return err
				}
				newest.Store(2 + n)
			}
			return nil
		}
		// Whatever happens, nobody waits for this one after it has ended.
		defer written.Add(writers * each)
		version := int64(1)
		for range each {
			for tries := 0; ; tries++ {
				c := r.anew(r.customer(), version)
				oldest := newest.Load()
				err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil)
				if err == nil {
					if version < oldest {
						r.Errorf("a create under version %d began after version %d was made", version, oldest)
					}
					written.Add(1)
					break
				}
				if grahak.CodeOf(err) != grahak.CodeKeyRotated || tries > rotations {
					return err
				}
				// An update loses the same race, or another one.
				current, err := r.store.Customer(r.Context(), own, shared.ID, grahak.Index{})
				if err != nil {
					return err
				}
				next := r.anew(r.next(current), version)
				oldest = newest.Load()
				done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), nil)
				if err != nil && grahak.CodeOf(err) != grahak.CodeKeyRotated {
					return err
				}
				if done && version < oldest {
					r.Errorf("an update under version %d began after version %d was made", version, oldest)
				}
				k, err := r.store.Keyset(r.Context(), own)
				if err != nil {
					return err
				}
				version = k.Version
			}
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers + 1})
	got := r.MustState(own)
	under := make(map[int64]int)
	for _, c := range got.Customers {
		under[c.Sealed.Version]++
	}
	r.Logf("customers under each version: %v", under)
	r.wantEqual("the version", got.Seal.Version, int64(1+rotations))
	r.wantEqual("creates", int64(len(got.Customers)), got.Total)
	r.wantEqual("customers", len(got.Customers), 1+writers*each)
}

// retireAgainstWrites rotates, walks and retires again and again while many write:
// when the older keys have gone, nobody is under them, and nobody comes to be. No
// walk undoes a write.
func retireAgainstWrites(r *rig) {
	const rotations, writers = 5, 8
	r.MustMerchant(own)
	finished := make(chan struct{})
	var mu sync.Mutex
	written := make(map[grahak.CustomerID]grahak.CustomerRecord) // as last written
	errs := r.together(writers+1, func(r *rig, i int) error {
		if i == writers {
			defer close(finished)
			for n := range int64(rotations) {
				if err := r.rotate(own); err != nil {
					return err
				}
				if err := r.walkAndRetire(own); err != nil {
					return err
				}
				list, err := r.store.CustomersAfter(r.Context(), own, "", all)
				if err != nil {
					return err
				}
				for _, c := range list {
					if c.Sealed.Version < 2+n {
						r.Errorf("customer %s is under version %d, which was retired for version %d", c.ID, c.Sealed.Version, 2+n)
					}
				}
			}
			return nil
		}
		// After each refusal a customer is made, so that a walk has an end; the other
		// writes change it.
		version := int64(1)
		var last grahak.CustomerRecord
		var err error
		until(finished, func() bool {
			next := r.next(last)
			if last.ID == "" {
				next = r.customer()
			}
			next.Sealed.Version = version
			done := true
			if last.ID == "" {
				err = r.store.CreateCustomer(r.Context(), own, next, r.created(next), nil)
			} else {
				done, err = r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), nil)
			}
			if err == nil && !done {
				err = errors.New("an update that had no rival was not done")
			}
			if last = next; err == nil {
				mu.Lock()
				written[next.ID] = next
				mu.Unlock()
			}
			if grahak.CodeOf(err) == grahak.CodeKeyRotated {
				var k grahak.Keyset
				k, err = r.store.Keyset(r.Context(), own)
				version, last.ID = k.Version, ""
			}
			return err == nil
		})
		return err
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers + 1})
	got := r.MustState(own)
	if !got.Seal.Complete() || got.Seal.Version != 1+rotations {
		r.Errorf("the state at last is %+v", got.Seal)
	}
	r.wantEqual("the number of customers", len(got.Customers), len(written))
	for _, c := range got.Customers {
		want := written[c.ID]
		want.Sealed.Version = 1 + rotations
		r.wantEqual("a customer at last", c, want)
	}
}

// walkAndRetire puts the merchant's customers under the newest version, without
// any other change, and retires the others.
func (r *rig) walkAndRetire(m grahak.MerchantID) error {
	for range 1000 {
		state, err := r.store.SealState(r.Context(), m)
		for err == nil && state.Walking {
			before := state.After
			var list, sealed []grahak.CustomerRecord
			if list, err = r.store.CustomersAfter(r.Context(), m, before, 50); err != nil {
				break
			}
			for _, c := range list {
				state.After, state.Seen = c.ID, state.Seen+1
				c.Sealed.Version = state.Version
				sealed = append(sealed, c)
			}
			state.Walking = len(list) == 50
			err = r.store.Reseal(r.Context(), state, before, sealed)
		}
		if err == nil {
			err = r.store.RetireKeyset(r.Context(), state.Keyset, r.event(grahak.EventSealRetired, "version", 0))
		}
		if grahak.CodeOf(err) != grahak.CodeKeyRotated {
			return err
		}
	}
	return errors.New("a customer was under an older version again and again")
}
