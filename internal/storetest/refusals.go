package storetest

import (
	"net/netip"
	"time"

	"grahak"
)

var refusalTests = []test{
	{"nothing is written", refusedWrites},
	{"nothing is found", refusedReads},
}

// refusedWrites makes every write that a code in [grahak.Store] refuses. None
// leaves a trace: no event, no token, and no part of what it would have done.
func refusedWrites(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	k, revoked, foreign := r.MustKey(own), r.MustKey(own), r.MustKey(other)
	r.must(r.store.RevokeKey(ctx, own, revoked.ID, r.now(), r.event(grahak.EventKeyRevoked, string(revoked.ID), 0)))
	entry := r.MustEntry(own, "203.0.113.0/24")
	r.MustMode(own, grahak.IPModeEnforce)
	mine, theirs := r.MustState(own), r.MustState(other)
	merchants, err := r.store.Merchants(ctx)
	r.must(err)

	duplicate := r.customer()
	duplicate.Reference = c.Reference
	unknown := r.next(r.customer())
	withHash := func(k grahak.APIKey) grahak.APIKey {
		copied := r.key(own)
		copied.Hash = k.Hash
		return copied
	}
	event := func(t grahak.EventType, subject string) grahak.Event { return r.event(t, subject, 0) }
	keyCreated, keyRotated := event(grahak.EventKeyCreated, "key_1"), event(grahak.EventKeyRotated, string(k.ID))
	for _, refused := range []struct {
		name    string
		want    grahak.Code
		perform func(token grahak.TokenRecord) error
	}{
		{"create a customer with a taken reference", grahak.CodeDuplicateReference, func(token grahak.TokenRecord) error {
			return r.store.CreateCustomer(ctx, own, duplicate, r.created(duplicate), &grahak.Besides{Token: &token})
		}},
		{"create a customer with the reference and the id of another", grahak.CodeDuplicateReference, func(token grahak.TokenRecord) error {
			return r.store.CreateCustomer(ctx, own, c, r.created(c), &grahak.Besides{Token: &token})
		}},
		{"update an unknown customer", grahak.CodeCustomerNotFound, func(token grahak.TokenRecord) error {
			_, err := r.store.UpdateCustomer(ctx, own, unknown, r.updated(unknown), &grahak.Besides{Token: &token})
			return err
		}},
		{"update by reference", grahak.CodeCustomerNotFound, func(token grahak.TokenRecord) error {
			byReference := r.next(c)
			byReference.ID = unknown.ID
			_, err := r.store.UpdateCustomer(ctx, own, byReference, r.updated(byReference), &grahak.Besides{Token: &token})
			return err
		}},
		{"create a customer of an unknown merchant", grahak.CodeMerchantNotFound, func(token grahak.TokenRecord) error {
			return r.store.CreateCustomer(ctx, nobody, duplicate, r.created(duplicate), &grahak.Besides{Token: &token})
		}},
		{"record an event of an unknown merchant", grahak.CodeMerchantNotFound, func(grahak.TokenRecord) error {
			return r.store.RecordEvent(ctx, nobody, r.event(grahak.EventCustomerRevealed, string(c.ID), 0))
		}},
		{"erase an unknown customer", grahak.CodeCustomerNotFound, func(grahak.TokenRecord) error {
			return second(r.store.EraseCustomer(ctx, own, unknown.ID, unknown.Revision, r.erased(unknown), nil))
		}},
		{"erase a customer in other case", grahak.CodeCustomerNotFound, func(grahak.TokenRecord) error {
			return second(r.store.EraseCustomer(ctx, own, "CST"+c.ID[3:], c.Revision, r.erased(c), nil))
		}},
		{"erase a customer of an unknown merchant", grahak.CodeCustomerNotFound, func(grahak.TokenRecord) error {
			return second(r.store.EraseCustomer(ctx, nobody, c.ID, c.Revision, r.erased(c), nil))
		}},
		{"put a token of an unknown customer", grahak.CodeCustomerNotFound, func(token grahak.TokenRecord) error {
			token.Customer = unknown.ID
			return r.store.PutToken(ctx, own, token)
		}},
		{"put a token of a customer in other case", grahak.CodeCustomerNotFound, func(token grahak.TokenRecord) error {
			token.Customer = "CST" + c.ID[3:]
			return r.store.PutToken(ctx, own, token)
		}},
		{"create a merchant that exists", grahak.CodeMerchantExists, func(grahak.TokenRecord) error {
			again := grahak.Merchant{ID: own, Name: "again", IPMode: grahak.IPModeOff, CreatedAt: r.now()}
			keys := r.keyset(own, firstMaster)
			keys.Sealing, keys.Indexing = []byte("again"), []byte("again")
			return r.store.CreateMerchant(ctx, again, keys, event(grahak.EventMerchantCreated, ""))
		}},
		{"create a merchant under a master key that is not named", grahak.CodeKeyRotated, func(grahak.TokenRecord) error {
			m := grahak.Merchant{ID: nobody, IPMode: grahak.IPModeOff, CreatedAt: r.now()}
			return r.store.CreateMerchant(ctx, m, r.keyset(nobody, "mk_other"), event(grahak.EventMerchantCreated, ""))
		}},
		{"disable an unknown merchant", grahak.CodeMerchantNotFound, func(grahak.TokenRecord) error {
			return r.store.DisableMerchant(ctx, nobody, r.now(), event(grahak.EventMerchantDisabled, ""))
		}},
		{"create a key of an unknown merchant", grahak.CodeMerchantNotFound, func(grahak.TokenRecord) error {
			return r.store.CreateKey(ctx, nobody, r.key(nobody), keyCreated)
		}},
		{"create a key that exists", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.CreateKey(ctx, own, withHash(k), keyCreated)
		}},
		{"create a key that is revoked", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.CreateKey(ctx, own, withHash(revoked), keyCreated)
		}},
		{"create a key that exists at another merchant", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.CreateKey(ctx, own, withHash(foreign), keyCreated)
		}},
		{"revoke an unknown key", grahak.CodeKeyNotFound, func(grahak.TokenRecord) error {
			return r.store.RevokeKey(ctx, own, "key_unknown", r.now(), event(grahak.EventKeyRevoked, "key_unknown"))
		}},
		{"rotate an unknown key", grahak.CodeKeyNotFound, func(grahak.TokenRecord) error {
			return r.store.RotateKey(ctx, own, "key_unknown", start, r.key(own), keyRotated)
		}},
		{"rotate a revoked key", grahak.CodeKeyNotFound, func(grahak.TokenRecord) error {
			return r.store.RotateKey(ctx, own, revoked.ID, start, r.key(own), keyRotated)
		}},
		{"rotate to a key that exists", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.RotateKey(ctx, own, k.ID, start, withHash(revoked), keyRotated)
		}},
		{"rotate to itself", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.RotateKey(ctx, own, k.ID, start, withHash(k), keyRotated)
		}},
		{"rotate to a key that exists at another merchant", grahak.CodeKeyExists, func(grahak.TokenRecord) error {
			return r.store.RotateKey(ctx, own, k.ID, start, withHash(foreign), keyRotated)
		}},
		{"add an entry that exists", grahak.CodeIPEntryExists, func(grahak.TokenRecord) error {
			again := r.entry(entry.Prefix.String())
			again.Label = "again"
			return r.store.AddIPEntry(ctx, own, again, event(grahak.EventIPEntryAdded, entry.Prefix.String()))
		}},
		{"add an entry of an unknown merchant", grahak.CodeMerchantNotFound, func(grahak.TokenRecord) error {
			return r.store.AddIPEntry(ctx, nobody, r.entry("192.0.2.0/24"), event(grahak.EventIPEntryAdded, "192.0.2.0/24"))
		}},
		{"remove an unknown entry", grahak.CodeIPEntryNotFound, func(grahak.TokenRecord) error {
			return r.store.RemoveIPEntry(ctx, own, netip.MustParsePrefix("203.0.113.0/25"), false, event(grahak.EventIPEntryRemoved, "203.0.113.0/25"))
		}},
		{"remove the last entry of an enforced list", grahak.CodeIPListEmpty, func(grahak.TokenRecord) error {
			return r.store.RemoveIPEntry(ctx, own, entry.Prefix, false, event(grahak.EventIPEntryRemoved, entry.Prefix.String()))
		}},
		{"enforce an empty list", grahak.CodeIPListEmpty, func(grahak.TokenRecord) error {
			return r.store.SetIPMode(ctx, other, grahak.IPModeEnforce, false, event(grahak.EventIPModeChanged, "enforce"))
		}},
		{"set the mode of an unknown merchant", grahak.CodeMerchantNotFound, func(grahak.TokenRecord) error {
			return r.store.SetIPMode(ctx, nobody, grahak.IPModeOff, false, event(grahak.EventIPModeChanged, "off"))
		}},
	} {
		token := r.token(own, c.ID)
		r.wantCode(refused.name, refused.perform(token), refused.want)
		r.wantNoToken(refused.name, token)
		r.wantEqual(refused.name+": what the merchant has", r.MustState(own), mine)
		r.wantEqual(refused.name+": what the other merchant has", r.MustState(other), theirs)
		r.wantEqual(refused.name+": nobody's events", r.MustEvents(nobody), []grahak.Event(nil))
		keys, err := r.store.Keys(ctx, nobody)
		r.must(err)
		r.wantEqual(refused.name+": nobody's keys", keys, []grahak.APIKey(nil))
		list, err := r.store.Merchants(ctx)
		r.must(err)
		r.wantEqual(refused.name+": the merchants", list, merchants)
	}
	access, err := r.store.Access(ctx, foreign.Hash)
	r.must(err)
	r.wantEqual("whose the key is that others tried to take", access.Key, foreign)
}

func refusedReads(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	k := r.MustKey(own)
	hash := k.Hash
	hash[31] ^= 1
	for _, read := range []struct {
		name    string
		want    grahak.Code
		perform func() error
	}{
		{"Customer", grahak.CodeCustomerNotFound, func() error {
			_, err := r.store.Customer(ctx, own, "cst_unknown", r.index())
			return err
		}},
		{"Customer of an unknown merchant", grahak.CodeCustomerNotFound, func() error {
			_, err := r.store.Customer(ctx, nobody, c.ID, c.Reference)
			return err
		}},
		{"Merchant", grahak.CodeMerchantNotFound, func() error {
			_, err := r.store.Merchant(ctx, nobody)
			return err
		}},
		{"FindCustomers of an unknown merchant", "", func() error {
			list, total, err := r.store.FindCustomers(ctx, nobody, byEmail(c.Email), grahak.CustomerRange{}, all)
			if len(list) > 0 || total != 0 {
				r.Errorf("nobody has %d customers", total)
			}
			return err
		}},
		{"Keyset", grahak.CodeMerchantNotFound, func() error {
			_, err := r.store.Keyset(ctx, nobody)
			return err
		}},
		{"Key", grahak.CodeKeyNotFound, func() error {
			_, err := r.store.Key(ctx, own, "KEY"+k.ID[3:])
			return err
		}},
		{"Access", grahak.CodeKeyNotFound, func() error {
			_, err := r.store.Access(ctx, hash)
			return err
		}},
		{"Token", grahak.CodeTokenNotFound, func() error {
			_, err := r.store.Token(ctx, grahak.HashToken("tkn_unknown"), time.Time{}.Add(time.Second))
			return err
		}},
	} {
		r.wantCode(read.name, read.perform(), read.want)
	}
}
