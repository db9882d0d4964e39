package storetest

import (
	"time"

	"grahak"
)

var tokenTests = []test{
	{"round trip", tokenRoundTrip},
	{"expiry", tokenExpiry},
	{"disabled merchant", tokenOfDisabledMerchant},
	{"prune", tokenPrune},
}

func tokenRoundTrip(r *rig) {
	r.MustMerchant(own)
	c := r.customer()
	withCreate, withUpdate, alone, second := r.token(own, c.ID), r.token(own, c.ID), r.token(own, c.ID), r.token(own, c.ID)
	withCreate.ExpiresAt = start.Add(time.Hour + time.Microsecond)
	r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), &grahak.Besides{Token: &withCreate}))
	next := r.next(c)
	_, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), &grahak.Besides{Token: &withUpdate})
	r.must(err)
	before := r.MustState(own)
	r.must(r.store.PutToken(r.Context(), own, alone))
	r.must(r.store.PutToken(r.Context(), own, second))
	// A new token ends none of the earlier ones.
	for _, token := range []grahak.TokenRecord{withCreate, withUpdate, alone, second} {
		r.wantToken(token)
	}
	r.wantEqual("what is stored beside a token", r.MustState(own), before)
	r.wantNoToken("a token that nobody made", r.token(own, c.ID))
}

func tokenExpiry(r *rig) {
	r.MustMerchant(own)
	token := r.token(own, r.MustCustomer(own).ID)
	r.must(r.store.PutToken(r.Context(), own, token))
	for _, c := range []struct {
		name string
		at   time.Time
		want grahak.Code
	}{
		{"long before", start, ""},
		{"a microsecond before", token.ExpiresAt.Add(-time.Microsecond), ""},
		{"at its end", token.ExpiresAt, grahak.CodeTokenNotFound},
		{"after", token.ExpiresAt.Add(time.Second), grahak.CodeTokenNotFound},
	} {
		_, err := r.store.Token(r.Context(), token.Hash, c.at)
		r.wantCode(c.name, err, c.want)
	}
}

// tokenOfDisabledMerchant disables one of two merchants with tokens for twin
// customers. Its tokens are not found any more, and are still pruned.
func tokenOfDisabledMerchant(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
	mine, theirs := r.token(own, c.ID), r.token(other, c.ID)
	r.must(r.store.PutToken(r.Context(), own, mine))
	r.must(r.store.PutToken(r.Context(), other, theirs))
	r.wantToken(theirs)

	r.must(r.store.DisableMerchant(r.Context(), other, r.now(), r.event(grahak.EventMerchantDisabled, "", 0)))
	r.wantNoToken("a disabled merchant's token", theirs)
	r.wantToken(mine)
	pruned, err := r.store.PruneTokens(r.Context(), theirs.ExpiresAt, 10)
	r.must(err)
	r.wantEqual("pruned of both merchants", pruned, 2)
}

func tokenPrune(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	now := start.Add(time.Hour)
	prune := func(limit, want int) {
		r.Helper()
		n, err := r.store.PruneTokens(r.Context(), now, limit)
		r.must(err)
		r.wantEqual("pruned", n, want)
	}
	prune(10, 0)
	var expired, valid []grahak.TokenRecord
	for i := range 7 {
		for _, m := range []grahak.MerchantID{own, other} {
			c := r.MustCustomer(m)
			old, fresh := r.token(m, c.ID), r.token(m, c.ID)
			old.ExpiresAt = now.Add(-time.Duration(i+1) * time.Microsecond)
			fresh.ExpiresAt = now.Add(time.Duration(i+1) * time.Microsecond)
			r.must(r.store.PutToken(r.Context(), m, old))
			r.must(r.store.PutToken(r.Context(), m, fresh))
			expired, valid = append(expired, old), append(valid, fresh)
		}
	}
	before := r.MustState(own)
	prune(10, 10)
	prune(3, 3)
	prune(10, 1)
	prune(10, 0)
	for _, token := range expired {
		// Asked for as of a time at which it was valid.
		r.wantNoToken("a pruned token", token)
	}
	for _, token := range valid {
		got, err := r.store.Token(r.Context(), token.Hash, now)
		r.must(err)
		r.wantEqual("a token that has not expired", got, token)
	}
	r.wantEqual("what is stored beside tokens", r.MustState(own), before)
}
