package storetest

import (
	"fmt"
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
			r.wantCode("a create under "+what, r.store.CreateCustomer(r.Context(), own, created, r.created(created), &token), grahak.CodeKeyRotated)
			r.wantNoToken("a token of a create under "+what, token)
			token = r.token(own, c.ID)
			done, err := r.store.UpdateCustomer(r.Context(), own, updated, r.updated(updated), &token)
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
// it read last. What was written after a rotation, in the order of events, is
// under that version, and what was written before it is not.
func keyFenceAgainstCreates(r *rig) {
	const rotations, writers, each = 12, parallel, 12
	r.MustMerchant(own)
	shared := r.MustCustomer(own)
	var written atomic.Int64
	errs := together(writers+1, func(i int) error {
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
			}
			return nil
		}
		// Whatever happens, nobody waits for this one after it has ended.
		defer written.Add(writers * each)
		version := int64(1)
		for range each {
			for tries := 0; ; tries++ {
				c := r.anew(r.customer(), version)
				err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil)
				if err == nil {
					written.Add(1)
					break
				}
				if grahak.CodeOf(err) != grahak.CodeKeyRotated || tries > rotations {
					return err
				}
				k, err := r.store.Keyset(r.Context(), own)
				if err != nil {
					return err
				}
				version = k.Version
				// An update that loses its race writes nothing under any version.
				current, err := r.store.Customer(r.Context(), own, shared.ID, grahak.Index{})
				if err != nil {
					return err
				}
				next := r.anew(r.next(current), version)
				if _, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), nil); err != nil && grahak.CodeOf(err) != grahak.CodeKeyRotated {
					return err
				}
			}
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers + 1})
	got := r.MustState(own)
	versions := make(map[string]int64)
	for _, c := range got.Customers {
		versions[string(c.ID)] = c.Sealed.Version
	}
	newest, under := int64(1), make(map[int64]int)
	for _, e := range got.Events {
		switch e.Type {
		case grahak.EventSealRotated:
			newest++
		case grahak.EventCustomerCreated:
			under[newest]++
			if e.Subject != string(shared.ID) && versions[e.Subject] != newest {
				r.Errorf("customer %s was written under version %d when %d was the newest", e.Subject, versions[e.Subject], newest)
			}
		}
	}
	r.wantEqual("rotations", newest, int64(1+rotations))
	r.Logf("creates under each version: %v", under)
	r.wantEqual("creates", int64(len(got.Customers)), got.Total)
	r.wantEqual("customers", len(got.Customers), 1+writers*each)
}
