package storetest

import (
	"net/netip"

	"grahak"
)

var isolationTests = []test{
	{"another merchant's things", isolation},
}

// isolation uses every method that takes a merchant with the names of what
// belongs to another: they do not exist, and nothing of the owner's changes.
func isolation(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	k := r.MustKey(own)
	entry := r.MustEntry(own, "203.0.113.0/24")
	r.MustMode(own, grahak.IPModeEnforce)
	kept := r.token(own, c.ID)
	r.must(r.store.PutToken(ctx, own, kept))
	_, err := r.order(own, 2)
	r.must(err)
	mine, theirs := r.MustState(own), r.MustState(other)
	next, token := r.next(c), r.token(other, c.ID)
	event := r.event(grahak.EventKeyRevoked, string(k.ID), 0)

	for _, refused := range []struct {
		name    string
		want    grahak.Code
		perform func() error
	}{
		{"Customer", grahak.CodeCustomerNotFound, func() error {
			_, err := r.store.Customer(ctx, other, c.ID, c.Reference)
			return err
		}},
		{"UpdateCustomer", grahak.CodeCustomerNotFound, func() error {
			_, err = r.store.UpdateCustomer(ctx, other, next, r.updated(next), &grahak.Besides{Token: &token})
			return err
		}},
		{"EraseCustomer", grahak.CodeCustomerNotFound, func() error {
			return second(r.store.EraseCustomer(ctx, other, c.ID, c.Revision, r.erased(c), nil))
		}},
		{"PutToken", grahak.CodeCustomerNotFound, func() error { return r.store.PutToken(ctx, other, token) }},
		{"Key", grahak.CodeKeyNotFound, func() error {
			_, err := r.store.Key(ctx, other, k.ID)
			return err
		}},
		{"RevokeKey", grahak.CodeKeyNotFound, func() error { return r.store.RevokeKey(ctx, other, k.ID, r.now(), event) }},
		{"RotateKey", grahak.CodeKeyNotFound, func() error {
			return r.store.RotateKey(ctx, other, k.ID, start, r.key(other), event)
		}},
		{"TouchKeys", "", func() error {
			return r.store.TouchKeys(ctx, map[grahak.KeyRef]grahak.KeyUse{{Merchant: other, Key: k.ID}: {At: r.now()}})
		}},
		{"RemoveIPEntry", grahak.CodeIPEntryNotFound, func() error { return r.store.RemoveIPEntry(ctx, other, entry.Prefix, false, event) }},
		{"SetIPMode", grahak.CodeIPListEmpty, func() error { return r.store.SetIPMode(ctx, other, grahak.IPModeEnforce, false, event) }},
		{"RestartReseal", grahak.CodeKeyRotated, func() error { return r.store.RestartReseal(ctx, other, 2) }},
		{"Order", "", func() error {
			// The owner's chain goes on here, the other's does not.
			head := r.MustHead(own)
			events := mine.Events[head.Position:]
			return second(r.store.Order(ctx, other, r.segment(own, head, events), events))
		}},
		{"PruneEvents", "", func() error {
			return second(r.store.PruneEvents(ctx, other, r.checkpoint(r.MustHead(own))))
		}},
		{"Tidy", "", func() error {
			_, err := r.store.Tidy(ctx, other)
			return err
		}},
	} {
		r.wantCode(refused.name, refused.perform(), refused.want)
		r.wantEqual(refused.name+": what the owner has", r.MustState(own), mine)
		r.wantEqual(refused.name+": what the other has", r.MustState(other), theirs)
		r.wantNoToken(refused.name, token)
	}
	// MustState has shown that the other's lists are empty: Customers, Keys,
	// IPList, Events and Chain of the other return nothing of the owner's.
	for range 2 {
		r.wantLost("the owner's customer", other, c)
		r.wantFound("the owner's customer", own, c)
		after, err := r.store.CustomersAfter(ctx, other, "", all)
		r.must(err)
		r.wantEqual("customers in ascending order", after, []grahak.CustomerRecord(nil))
		tokens, err := r.store.Tokens(ctx, other, c.ID)
		r.must(err)
		r.wantEqual("tokens", tokens, []grahak.TokenRecord(nil))
		events, err := r.store.EventsOf(ctx, other, string(c.ID))
		r.must(err)
		r.wantEqual("events of the customer", events, []grahak.Event(nil))
		events, err = r.store.LatestEvents(ctx, other, string(c.ID), all)
		r.must(err)
		r.wantEqual("latest events of the customer", events, []grahak.Event(nil))
		events, err = r.store.EventsIn(ctx, other, grahak.EventRange{Subject: string(c.ID)}, all)
		r.must(err)
		r.wantEqual("events of the customer in a range", events, []grahak.Event(nil))
		r.wantEqual("the head", r.MustHead(other), grahak.ChainHead{})
		r.MustOrder(own, all)
	}
	mine = r.MustState(own)

	// The same names are free at the other merchant, and what is written there
	// stays there.
	same := k
	same.Merchant, same.Hash = other, grahak.HashKey("another key")
	r.must(r.store.CreateKey(ctx, other, same, r.event(grahak.EventKeyCreated, string(k.ID), 0)))
	r.must(r.store.CreateCustomer(ctx, other, c, r.created(c), &grahak.Besides{Token: &token}))
	r.must(r.store.AddIPEntry(ctx, other, entry, r.event(grahak.EventIPEntryAdded, entry.Prefix.String(), 0)))
	_, err = r.store.UpdateCustomer(ctx, other, next, r.updated(next), nil)
	r.must(err)
	r.wantFound("the other's twin", other, next)
	rotated := r.MustRotate(other)
	rotated.After, rotated.Walking = c.ID, false
	r.must(r.store.Reseal(ctx, rotated, "", []grahak.CustomerRecord{r.anew(next, 2)}))
	r.wantCustomer(other, r.anew(next, 2))
	r.must(r.store.RetireKeyset(ctx, r.MustSeal(other).Keyset, r.event(grahak.EventSealRetired, "version 2", 0)))
	r.MustOrder(other, all)
	r.wantEqual("what the owner has", r.MustState(own), mine)
	r.must(r.store.RevokeKey(ctx, other, k.ID, r.now(), r.event(grahak.EventKeyRevoked, string(k.ID), 0)))
	r.must(r.store.RemoveIPEntry(ctx, other, netip.MustParsePrefix("203.0.113.0/24"), false, r.event(grahak.EventIPEntryRemoved, "203.0.113.0/24", 0)))
	r.must(r.store.SetIPMode(ctx, other, grahak.IPModeReport, false, r.event(grahak.EventIPModeChanged, "report", 0)))
	r.wantToken(token)
	r.MustErase(other, c.ID)
	r.wantNoToken("an erased customer's", token)
	r.wantFound("the owner's customer", own, c)
	r.must(r.store.DisableMerchant(ctx, other, r.now(), r.event(grahak.EventMerchantDisabled, "", 0)))
	r.wantEqual("what the owner has", r.MustState(own), mine)
	access, err := r.store.Access(ctx, k.Hash)
	r.must(err)
	r.wantToken(kept)
	r.wantEqual("the owner's key", access, grahak.AccessRecord{Key: k, Merchant: mine.Merchant, IPList: []netip.Prefix{entry.Prefix}})
	access, err = r.store.Access(ctx, same.Hash)
	r.must(err)
	r.wantEqual("the other's key is the other's", access.Merchant.ID, other)
}
