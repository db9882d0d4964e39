package storetest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"grahak"
)

var textTests = []test{
	{"order of ids", orderOfIDs},
	{"ids that look alike", alikeIDs},
	{"strange ids", strangeIDs},
	{"strange text", strangeText},
	{"none and empty", noneAndEmpty},
}

// alike are ids whose order by bytes is that of no dictionary, and of which some
// are equal to others where letter case, accents or the form of a letter do not
// count.
var alike = []grahak.CustomerID{
	"cst_B", "cst_a", "cst_é", "cst_b", "cst_A", "cst_e", "cst_f", "cst_E", "cst_ß", "cst_ss", "cst_SS", "cst_-", "cst__", "cst_ ", "cst_",
	"cst_10", "cst_9", "cst_aa", "cst_aA", "cst_a-a", "cst_å", "cst_z", "cst_Z", "cst_i", "cst_ı", "cst_İ", "cst_日本", "cst_０", "cst_0",
	"cst_\u00e1", "cst_a\u0301", "CST_a", "cst", "cst_'", `cst_\`, `cst_"`, "cst_%", "cst_🛒",
}

// MustAlike writes a customer for each of the ids, which all have one e-mail
// address, and returns them in ascending order of the bytes of their ids.
func (r *rig) MustAlike(m grahak.MerchantID) []grahak.CustomerRecord {
	r.Helper()
	email := r.short()
	var list []grahak.CustomerRecord
	for _, id := range alike {
		c := r.customer()
		c.ID, c.Email = id, email
		r.must(r.store.CreateCustomer(r.Context(), m, c, r.created(c), nil))
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b grahak.CustomerRecord) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

// orderOfIDs pages through customers: their order is that of the bytes of their
// ids, whatever the language of the database.
func orderOfIDs(r *rig) {
	r.MustMerchant(own)
	ascending := r.MustAlike(own)
	descending := slices.Clone(ascending)
	slices.Reverse(descending)
	const page = 4
	for _, ordered := range []int{0, len(alike) / 2} {
		if ordered > 0 {
			r.must(second(r.order(own, ordered)))
		}
		var up, down, found []grahak.CustomerRecord
		for range len(alike)/page + 2 {
			var after, before, beforeFound grahak.CustomerID
			if len(up) > 0 {
				after, before, beforeFound = up[len(up)-1].ID, down[len(down)-1].ID, found[len(found)-1].ID
			}
			list, err := r.store.CustomersAfter(r.Context(), own, after, page)
			r.must(err)
			up = append(up, list...)
			list, _, err = r.store.Customers(r.Context(), own, grahak.CustomerRange{Before: before}, page, 0)
			r.must(err)
			down = append(down, list...)
			list, _, err = r.store.FindCustomers(r.Context(), own, byEmail(ascending[0].Email), grahak.CustomerRange{Before: beforeFound}, page)
			r.must(err)
			found = append(found, list...)
		}
		what := fmt.Sprintf("with %d in order: ", r.MustHead(own).Position)
		r.wantEqual(what+"customers in ascending order", up, ascending)
		r.wantEqual(what+"customers in descending order", down, descending)
		r.wantEqual(what+"customers found", found, descending)
		for i := 0; i < len(ascending); i += page - 1 {
			from := ascending[i]
			in := grahak.CustomerRange{From: from.ID, Before: ascending[min(i+page, len(ascending)-1)].ID}
			want := slices.Clone(ascending[i:min(i+page, len(ascending)-1)])
			slices.Reverse(want)
			list, _, err := r.store.Customers(r.Context(), own, in, all, 0)
			r.must(err)
			r.wantEqual(fmt.Sprintf("%slisted from %q before %q", what, in.From, in.Before), list, want)
			list, _, err = r.store.FindCustomers(r.Context(), own, byEmail(from.Email), in, all)
			r.must(err)
			r.wantEqual(fmt.Sprintf("%sfound from %q before %q", what, in.From, in.Before), list, want)
		}
	}
}

// alikeIDs changes one customer after the other, of those whose ids look alike:
// nothing happens to any other.
func alikeIDs(r *rig) {
	r.MustMerchant(own)
	customers := r.MustAlike(own)
	r.must(second(r.order(own, len(customers)/2)))
	stored := func() []grahak.CustomerRecord {
		r.Helper()
		list, err := r.store.CustomersAfter(r.Context(), own, "", all)
		r.must(err)
		return list
	}
	want := slices.Clone(customers)
	for i, c := range customers {
		token := r.token(own, c.ID)
		if i%2 == 0 {
			r.must(r.store.PutToken(r.Context(), own, token))
			r.MustErase(own, c.ID)
			r.wantNoToken("a token of an erased customer", token)
			want = slices.DeleteFunc(want, func(x grahak.CustomerRecord) bool { return x.ID == c.ID })
		} else {
			next := r.next(c)
			done, err := r.store.UpdateCustomer(r.Context(), own, next, r.updated(next), &grahak.Besides{Token: &token})
			r.must(err)
			r.wantEqual("done", done, true)
			r.wantToken(token)
			want[slices.IndexFunc(want, func(x grahak.CustomerRecord) bool { return x.ID == c.ID })] = next
		}
		r.wantEqual(fmt.Sprintf("the customers after a change of %q", c.ID), stored(), want)
		events, err := r.store.EventsOf(r.Context(), own, string(c.ID))
		r.must(err)
		r.wantEqual(fmt.Sprintf("the number of events of %q", c.ID), len(events), 2)
	}
}

// strange is text that breaks programs: it holds what ends strings, what quotes
// and escapes, what stands for other text, and what is no text.
var strange = []string{
	"\x00", "cst_a\x00b", "cst_0000000000000001\x00", `\`, `cst_\x41`, `cst_\\`, `cst_\000`, "cst_'", `cst_"`, "x'; DROP TABLE customers; --", "$1", "cst_%",
	"cst_\xff", "\xff\xfe", "cst_a\xc3(", "cst_\xed\xa0\x80", "cst_\U0010FFFF", "cst_\u202e", "cst_\r\n", " ", "NULL", `{"a"}`, strings.Repeat("cst_", 1<<14),
}

// strangeIDs asks for customers, keys and merchants by text that nobody's id is:
// there are none, and to ask is no error.
func strangeIDs(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	c, k := r.MustCustomer(own), r.MustKey(own)
	r.MustOrder(own, 2)
	r.MustCustomer(own)
	before := r.MustState(own)
	merchants, err := r.store.Merchants(ctx)
	r.must(err)
	for _, s := range strange {
		what := fmt.Sprintf("%.40q: ", s)
		id, m := grahak.CustomerID(s), grahak.MerchantID(s)
		named := r.next(c)
		named.ID = id
		token := r.token(own, id)
		e := r.event(grahak.EventKeyRevoked, "", 0)
		for name, err := range map[string]error{
			"Customer":       second(r.store.Customer(ctx, own, id, r.index())),
			"Customer of":    second(r.store.Customer(ctx, m, c.ID, c.Reference)),
			"UpdateCustomer": second(r.store.UpdateCustomer(ctx, own, named, r.updated(named), &grahak.Besides{Token: &token})),
			"EraseCustomer":  second(r.store.EraseCustomer(ctx, own, id, 1, r.erased(named), nil)),
			"PutToken":       r.store.PutToken(ctx, own, token),
		} {
			r.wantCode(what+name, err, grahak.CodeCustomerNotFound)
		}
		for name, err := range map[string]error{
			"Key":       second(r.store.Key(ctx, own, grahak.KeyID(s))),
			"Key of":    second(r.store.Key(ctx, m, k.ID)),
			"RevokeKey": r.store.RevokeKey(ctx, own, grahak.KeyID(s), r.now(), e),
			"RotateKey": r.store.RotateKey(ctx, own, grahak.KeyID(s), start, r.key(own), e),
		} {
			r.wantCode(what+name, err, grahak.CodeKeyNotFound)
		}
		created := r.customer()
		for name, err := range map[string]error{
			"Merchant":        second(r.store.Merchant(ctx, m)),
			"Keyset":          second(r.store.Keyset(ctx, m)),
			"SealState":       second(r.store.SealState(ctx, m)),
			"CreateCustomer":  r.store.CreateCustomer(ctx, m, created, r.created(created), nil),
			"CreateKey":       r.store.CreateKey(ctx, m, r.key(m), e),
			"DisableMerchant": r.store.DisableMerchant(ctx, m, r.now(), e),
			"AddIPEntry":      r.store.AddIPEntry(ctx, m, r.entry("203.0.113.0/24"), e),
			"SetIPMode":       r.store.SetIPMode(ctx, m, grahak.IPModeReport, false, e),
			"RotateKeyset":    r.store.RotateKeyset(ctx, r.rotated(r.keyset(m, firstMaster)), r.now(), e),
		} {
			r.wantCode(what+name, err, grahak.CodeMerchantNotFound)
		}
		// Lists of what there is not are empty.
		r.wantLost(what, m, c)
		tokens, err := r.store.Tokens(ctx, own, id)
		r.must(err)
		r.wantEqual(what+"Tokens", tokens, []grahak.TokenRecord(nil))
		events, err := r.store.EventsOf(ctx, own, s)
		r.must(err)
		r.wantEqual(what+"EventsOf", events, []grahak.Event(nil))
		r.wantEqual(what+"Events and Pending", r.MustEvents(m), []grahak.Event(nil))
		list, total, err := r.store.Customers(ctx, m, grahak.CustomerRange{}, all, 0)
		r.must(err)
		r.wantEqual(what+"Customers", list, []grahak.CustomerRecord(nil))
		r.wantEqual(what+"their total", total, int64(0))
		keys, err := r.store.Keys(ctx, m)
		r.must(err)
		r.wantEqual(what+"Keys", keys, []grahak.APIKey(nil))
		entries, err := r.store.IPList(ctx, m)
		r.must(err)
		r.wantEqual(what+"IPList", entries, []grahak.IPEntry(nil))
		more, err := r.store.Tidy(ctx, m)
		r.must(err)
		r.wantEqual(what+"more to tidy", more, false)
		r.must(r.store.TouchKeys(ctx, map[grahak.KeyRef]grahak.KeyUse{{Merchant: own, Key: grahak.KeyID(s)}: {At: r.now()}, {Merchant: m, Key: k.ID}: {At: r.now()}}))
		// A bound is where it stands by its bytes.
		for _, in := range []grahak.CustomerRange{{From: id}, {Before: id}} {
			var want []grahak.CustomerRecord
			for _, c := range before.Customers {
				if c.ID >= in.From && (in.Before == "" || c.ID < in.Before) {
					want = append(want, c)
				}
			}
			list, _, err := r.store.Customers(ctx, own, in, all, 0)
			r.must(err)
			r.wantEqual(what+"customers of a range", list, want)
			list, _, err = r.store.FindCustomers(ctx, own, byEmail(c.Email), in, all)
			r.must(err)
			r.wantEqual(what+"customers found in a range", list, slices.DeleteFunc(want, func(x grahak.CustomerRecord) bool { return x.ID != c.ID }))
		}
		if _, err := r.store.CustomersAfter(ctx, own, id, 1); err != nil {
			r.Errorf("%sCustomersAfter: %v", what, err)
		}
	}
	r.wantEqual("what the merchant has at last", r.MustState(own), before)
	after, err := r.store.Merchants(ctx)
	r.must(err)
	r.wantEqual("the merchants at last", after, merchants)
}

// strangeText writes strange text where people may have it written: it is stored
// as it is; or, if it is no text at all, refused, and then nothing is written. What
// is written at the same moment suffers nothing.
func strangeText(r *rig) {
	r.MustMerchant(own)
	k := r.MustKey(own)
	victim := r.MustCustomer(own)
	for i, s := range strange {
		s = strings.ReplaceAll(s, "cst_", "actor ")
		what := fmt.Sprintf("%.40q: ", s)
		event := func(e grahak.Event) grahak.Event {
			e.Actor, e.RequestID = s, s
			return e
		}
		doomed := r.MustCustomer(own)
		for name, write := range map[string]func(token *grahak.TokenRecord, e grahak.Event) (grahak.Event, error){
			"a create": func(token *grahak.TokenRecord, _ grahak.Event) (grahak.Event, error) {
				c := r.customer()
				token.Customer = c.ID
				e := event(r.created(c))
				return e, r.store.CreateCustomer(r.Context(), own, c, e, &grahak.Besides{Token: token})
			},
			"an update": func(token *grahak.TokenRecord, _ grahak.Event) (grahak.Event, error) {
				next := r.next(victim)
				e := event(r.updated(next))
				done, err := r.store.UpdateCustomer(r.Context(), own, next, e, &grahak.Besides{Token: token})
				if err == nil {
					r.wantEqual("done", done, true)
					victim = next
				}
				return e, err
			},
			"a key": func(_ *grahak.TokenRecord, e grahak.Event) (grahak.Event, error) {
				labelled := r.key(own)
				labelled.Label, labelled.Prefix = s, s
				return e, r.store.CreateKey(r.Context(), own, labelled, e)
			},
			"an entry": func(_ *grahak.TokenRecord, e grahak.Event) (grahak.Event, error) {
				entry := r.entry(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24).String())
				entry.Label, entry.AddedBy = s, s
				return e, r.store.AddIPEntry(r.Context(), own, entry, e)
			},
			"an erasure": func(_ *grahak.TokenRecord, _ grahak.Event) (grahak.Event, error) {
				e := event(r.erased(doomed))
				done, err := r.store.EraseCustomer(r.Context(), own, doomed.ID, doomed.Revision, e, nil)
				r.wantEqual("done", done, err == nil)
				return e, err
			},
		} {
			text := utf8.ValidString(s) && !strings.Contains(s, "\x00")
			var before state
			if !text {
				before = r.MustState(own)
			}
			token := r.token(own, victim.ID)
			e, err := write(&token, event(r.event(grahak.EventKeyCreated, string(k.ID), 0)))
			switch {
			case err == nil:
				events := r.MustEvents(own)
				r.wantEqual(what+"the event of "+name, events[len(events)-1], placed(e, len(events)))
			case text:
				r.Errorf("%s%s: %v", what, name, err)
			default:
				r.wantCode(what+name, err, grahak.CodeInternal)
				r.wantNoToken(what+name, token)
				r.wantEqual(what+"what the merchant has after "+name+" that was refused", r.MustState(own), before)
			}
		}
	}
	r.wantCustomer(own, victim)

	// Together with others.
	total := r.MustState(own).Total
	errs := r.together(parallel, func(r *rig, i int) error {
		c := r.customer()
		e := r.created(c)
		if i%3 == 0 {
			e.Actor = strange[i%len(strange)] + "\x00\xff"
		}
		err := r.store.CreateCustomer(r.Context(), own, c, e, nil)
		_, missing := r.store.Customer(r.Context(), own, c.ID, grahak.Index{})
		r.wantEqual("a create that failed, and a customer that is missing", missing != nil, err != nil)
		if i%3 == 0 {
			return nil
		}
		return err
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	got := r.MustState(own)
	r.wantEqual("the total", got.Total, int64(len(got.Customers)))
	if made := got.Total - total; made < parallel*2/3 {
		r.Errorf("%d customers were made, want %d at least", made, parallel*2/3)
	}
}

// noneAndEmpty tells what is absent from what is empty.
func noneAndEmpty(r *rig) {
	r.MustMerchant(own)
	none, some := r.customer(), r.customer()
	none.Email, none.Mobile, none.Sealed.Bytes = grahak.ShortIndex{}, grahak.ShortIndex{}, []byte{}
	for _, c := range []grahak.CustomerRecord{none, some} {
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
	}
	zero := grahak.CustomerIndex{}
	for range 2 {
		r.wantCustomer(own, none)
		r.wantFound("a customer without an address and a number", own, none)
		r.wantEqual("customers by no index", r.MustFind(own, zero), []grahak.CustomerID(nil))
		r.MustOrder(own, all)
	}
	// What there was goes, and what was not comes.
	none, some = r.next(none), r.next(some)
	none.Mobile, some.Email, some.Mobile, some.Sealed.Bytes = r.short(), grahak.ShortIndex{}, grahak.ShortIndex{}, []byte{}
	for _, c := range []grahak.CustomerRecord{none, some} {
		e := r.event(grahak.EventCustomerUpdated, string(c.ID), 2, grahak.FieldEmail, grahak.FieldMobileNumber)
		done, err := r.store.UpdateCustomer(r.Context(), own, c, e, nil)
		r.must(err)
		r.wantEqual("done", done, true)
	}
	for range 2 {
		for _, c := range []grahak.CustomerRecord{none, some} {
			r.wantCustomer(own, c)
			r.wantFound("after an update", own, c)
		}
		r.wantEqual("customers by no index", r.MustFind(own, zero), []grahak.CustomerID(nil))
		r.MustOrder(own, all)
	}
	// An empty value is no absent one, and a time that is not set is none.
	k := r.key(own)
	k.Label, k.Prefix, k.ExpiresAt = "", "", time.Time{}
	e := r.event(grahak.EventKeyCreated, "", 0)
	e.RequestID, e.Actor = "", ""
	r.must(r.store.CreateKey(r.Context(), own, k, e))
	got, err := r.store.Key(r.Context(), own, k.ID)
	r.must(err)
	r.wantEqual("a key with nothing", got, k)
	events := r.MustEvents(own)
	r.wantEqual("an event with nothing", events[len(events)-1], placed(e, len(events)))
}
