package storetest

import (
	"fmt"
	"time"

	"grahak"
)

var timeTests = []test{
	{"round trip", timeRoundTrip},
	{"microseconds decide", microsecondsDecide},
}

// moments are times at which a store might change what it is given: far ones,
// those around the beginning of Unix time, and those that others cannot hold.
var moments = []time.Time{
	time.Date(1, time.January, 1, 0, 0, 0, 1000, time.UTC),
	time.Date(1677, time.September, 21, 0, 12, 43, 145_223_000, time.UTC),
	time.Date(1900, time.February, 28, 23, 59, 59, 999_999_000, time.UTC),
	time.UnixMicro(-1).UTC(),
	time.UnixMicro(0).UTC(),
	time.UnixMicro(1).UTC(),
	time.Date(2000, time.February, 29, 12, 0, 0, 0, time.UTC),
	time.Date(2038, time.January, 19, 3, 14, 8, 0, time.UTC),
	time.Date(2262, time.April, 11, 23, 47, 16, 854_775_000, time.UTC),
	time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC),
	time.Date(294_000, time.June, 1, 1, 2, 3, 456_789_000, time.UTC),
}

// timeRoundTrip writes every kind of time at each of the moments, a part of a
// microsecond later than it is stored.
func timeRoundTrip(r *rig) {
	ctx := r.Context()
	r.MustMasterKey()
	for i, want := range moments {
		given := want.Add(789 * time.Nanosecond).In(time.FixedZone("IST", 19800))
		what := want.Format(time.RFC3339Nano) + ": "
		m := grahak.Merchant{ID: grahak.MerchantID(fmt.Sprint("acme-", i)), IPMode: grahak.IPModeOff, CreatedAt: given}
		e := r.event(grahak.EventMerchantCreated, "", 0)
		e.At = given
		r.must(r.store.CreateMerchant(ctx, m, r.keyset(m.ID, firstMaster), e))
		r.must(r.store.DisableMerchant(ctx, m.ID, given, r.event(grahak.EventMerchantDisabled, "", 0)))
		m.CreatedAt, m.DisabledAt, e.At = want, want, want

		c := r.customer()
		c.CreatedAt, c.UpdatedAt = given, given
		r.must(r.store.CreateCustomer(ctx, m.ID, c, r.created(c), nil))
		c.CreatedAt, c.UpdatedAt = want, want
		r.wantCustomer(m.ID, c)
		next := r.next(c)
		next.UpdatedAt = given
		r.must(second(r.store.UpdateCustomer(ctx, m.ID, next, r.updated(next), nil)))
		next.UpdatedAt = want
		r.wantCustomer(m.ID, next)

		k := r.key(m.ID)
		k.CreatedAt, k.ExpiresAt = given, given
		r.must(r.store.CreateKey(ctx, m.ID, k, r.event(grahak.EventKeyCreated, string(k.ID), 0)))
		r.must(r.store.RevokeKey(ctx, m.ID, k.ID, given, r.event(grahak.EventKeyRevoked, string(k.ID), 0)))
		r.must(r.store.TouchKeys(ctx, map[grahak.KeyRef]grahak.KeyUse{{Merchant: m.ID, Key: k.ID}: {At: given}}))
		k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt = want, want, want, want
		entry := r.entry("203.0.113.0/24")
		entry.CreatedAt = given
		r.must(r.store.AddIPEntry(ctx, m.ID, entry, r.event(grahak.EventIPEntryAdded, "203.0.113.0/24", 0)))
		entry.CreatedAt = want
		r.must(r.store.RotateKeyset(ctx, r.rotated(r.MustSeal(m.ID).Keyset), given, r.event(grahak.EventSealRotated, "", 0)))

		for range 2 {
			got := r.MustState(m.ID)
			r.wantEqual(what+"the merchant", got.Merchant, m)
			r.wantEqual(what+"its event", got.Events[0], placed(e, 1))
			r.wantEqual(what+"the key", got.Keys, []grahak.APIKey{k})
			r.wantEqual(what+"the entry", got.IPList, []grahak.IPEntry{entry})
			r.wantEqual(what+"the rotation", got.Seal.RotatedAt, want)
			r.MustOrder(m.ID, all)
		}
	}
}

// microsecondsDecide asks for what was a microsecond before and after: a bound of a
// range belongs to it below and not above, and a token ends at its time.
func microsecondsDecide(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	for _, at := range moments {
		c := r.customer()
		c.CreatedAt = at
		token := r.token(own, c.ID)
		token.ExpiresAt = at
		r.must(r.store.CreateCustomer(ctx, own, c, r.created(c), &grahak.Besides{Token: &token}))
		for _, shift := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
			bound := at.Add(shift)
			what := fmt.Sprintf("%s and %v: ", at.Format(time.RFC3339Nano), shift)
			in := grahak.CustomerRange{From: c.ID, Before: c.ID + "x"}
			if bound.IsZero() {
				continue // no bound at all
			}
			in.CreatedFrom = bound
			from, _, err := r.store.Customers(ctx, own, in, all, 0)
			r.must(err)
			r.wantEqual(what+"from then on", len(from) == 1, shift <= 0)
			in.CreatedFrom, in.CreatedBefore = time.Time{}, bound
			before, _, err := r.store.Customers(ctx, own, in, all, 0)
			r.must(err)
			r.wantEqual(what+"before then", len(before) == 1, shift > 0)
			_, err = r.store.Token(ctx, token.Hash, bound)
			r.wantEqual(what+"the token is valid", err == nil, shift < 0)
		}
	}
	// At each moment, those go that have expired.
	for i, at := range moments {
		_, err := r.store.PruneTokens(ctx, at, all)
		r.must(err)
		left := 0
		for _, c := range r.MustState(own).Customers {
			list, err := r.store.Tokens(ctx, own, c.ID)
			r.must(err)
			for _, token := range list {
				r.wantEqual("a token that is left is valid", token.ExpiresAt.After(at), true)
			}
			left += len(list)
		}
		r.wantEqual("tokens left", left, len(moments)-i-1)
	}
}
