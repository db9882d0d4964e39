package storetest

import (
	"fmt"
	"slices"

	"grahak"
)

var eraseTests = []test{
	{"erase", erase},
	{"nothing is left", eraseLeavesNothing},
	{"reference is free", eraseFreesReference},
	{"against updates and tokens", eraseAgainstUpdates},
	{"stale", eraseStale},
	{"one of many", erasesOfOneCustomer},
	{"tokens", customerTokens},
	{"events of one subject", eventsOf},
}

// erase erases customers of different revisions, in order or not: the customer
// goes, and everything else stays.
func erase(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	bystander := r.MustCustomer(own)
	kept := r.token(own, bystander.ID)
	r.must(r.store.PutToken(r.Context(), own, kept))
	for _, ordered := range []bool{false, true} {
		for updates := range 3 {
			c := r.customer()
			mine, theirs := r.token(own, c.ID), r.token(other, c.ID)
			r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), &grahak.Besides{Token: &mine}))
			// Another merchant has a twin.
			r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), &grahak.Besides{Token: &theirs}))
			twin := c
			for range updates {
				c = r.next(c)
				_, err := r.store.UpdateCustomer(r.Context(), own, c, r.updated(c), nil)
				r.must(err)
			}
			if ordered {
				r.MustOrder(own, all)
			}
			want, version := r.MustState(own), r.MustVersion()
			event := r.erased(c)
			done, err := r.store.EraseCustomer(r.Context(), own, c.ID, c.Revision, event, nil)
			r.must(err)
			r.wantEqual("done", done, true)
			want.Events = append(want.Events, placed(event, len(want.Events)+1))
			want.Customers = slices.DeleteFunc(want.Customers, func(x grahak.CustomerRecord) bool { return x.ID == c.ID })
			want.Total--
			want.Unordered = true
			for range 2 {
				r.wantEqual("what is left", r.MustState(own), want)
				r.wantLost("the erased customer", own, c)
				_, err := r.store.Customer(r.Context(), own, c.ID, c.Reference)
				r.wantCode("the erased customer", err, grahak.CodeCustomerNotFound)
				r.wantNoToken("its token", mine)
				tokens, err := r.store.Tokens(r.Context(), own, c.ID)
				r.must(err)
				r.wantEqual("its tokens", tokens, []grahak.TokenRecord(nil))
				r.wantFound("a bystander", own, bystander)
				r.wantToken(kept)
				r.wantCustomer(other, twin)
				r.wantFound("a twin", other, twin)
				r.wantToken(theirs)
				want.Chain = append(want.Chain, r.MustOrder(own, all)...)
				want.Unordered = false
			}
			r.wantEqual("the access version", r.MustVersion(), version)
		}
	}
}

// eraseLeavesNothing makes a customer with the id of an erased one, which would
// be found by whatever was left of that. The ids of a service do not repeat.
func eraseLeavesNothing(r *rig) {
	r.MustMerchant(own)
	for _, steps := range []string{"", "o", "u", "uo", "ou", "ouo", "ouou"} {
		c := r.MustCustomer(own)
		was := []grahak.CustomerRecord{c}
		for _, step := range steps {
			if step == 'o' {
				r.MustOrder(own, all)
				continue
			}
			c = r.next(c)
			c.Mobile = r.short()
			_, err := r.store.UpdateCustomer(r.Context(), own, c, r.event(grahak.EventCustomerUpdated, string(c.ID), c.Revision, grahak.FieldMobileNumber, grahak.FieldEmail), nil)
			r.must(err)
			was = append(was, c)
		}
		token := r.token(own, c.ID)
		r.must(r.store.PutToken(r.Context(), own, token))
		r.MustErase(own, c.ID)
		successor := r.customer()
		successor.ID = c.ID
		r.must(r.store.CreateCustomer(r.Context(), own, successor, r.created(successor), nil))
		for range 2 {
			for _, old := range was {
				r.wantLost(steps+": a value that was erased", own, old)
			}
			r.wantFound(steps+": the successor", own, successor)
			r.wantNoToken(steps, token)
			tokens, err := r.store.Tokens(r.Context(), own, c.ID)
			r.must(err)
			r.wantEqual(steps+": the successor's tokens", tokens, []grahak.TokenRecord(nil))
			r.MustOrder(own, all)
		}
	}
}

// eraseFreesReference uses a reference again and again.
func eraseFreesReference(r *rig) {
	r.MustMerchant(own)
	reference := r.index()
	for round := range 4 {
		c := r.customer()
		c.Reference = reference
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		again := r.customer()
		again.Reference = reference
		r.wantCode("a second one", r.store.CreateCustomer(r.Context(), own, again, r.created(again), nil), grahak.CodeDuplicateReference)
		r.wantCustomer(own, c)
		if round%2 == 1 {
			r.MustOrder(own, all)
		}
		r.MustErase(own, c.ID)
		_, err := r.store.Customer(r.Context(), own, "", reference)
		r.wantCode("the reference of an erased customer", err, grahak.CodeCustomerNotFound)
		r.wantCode("an update of an erased customer", second(r.store.UpdateCustomer(r.Context(), own, r.next(c), r.updated(r.next(c)), nil)), grahak.CodeCustomerNotFound)
		r.wantCode("a token of an erased customer", r.store.PutToken(r.Context(), own, r.token(own, c.ID)), grahak.CodeCustomerNotFound)
		r.wantCode("an erasure of an erased customer", second(r.store.EraseCustomer(r.Context(), own, c.ID, c.Revision, r.erased(c), nil)), grahak.CodeCustomerNotFound)
	}
	got := r.MustState(own)
	r.wantEqual("the total", got.Total, int64(0))
	r.wantEqual("the events", len(got.Events), 1+4*2)
}

// second drops what a call returns beside its error.
func second[T any](_ T, err error) error { return err }

// eraseStale erases a customer of another revision than the stored one.
func eraseStale(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
	c = r.next(c)
	done, err := r.store.UpdateCustomer(r.Context(), own, c, r.updated(c), nil)
	r.must(err)
	r.wantEqual("done", done, true)
	token := r.token(own, c.ID)
	r.must(r.store.PutToken(r.Context(), own, token))
	for range 2 {
		want := r.MustState(own)
		for _, revision := range []int64{-1, 0, 1, 3, 1 << 40} {
			done, err := r.store.EraseCustomer(r.Context(), own, c.ID, revision, r.erased(c), nil)
			r.must(err)
			r.wantEqual(fmt.Sprintf("an erasure of revision %d was done", revision), done, false)
			r.wantEqual(fmt.Sprintf("what is stored after an erasure of revision %d", revision), r.MustState(own), want)
			r.wantFound("the customer", own, c)
			r.wantToken(token)
		}
		r.MustOrder(own, all)
	}
	done, err = r.store.EraseCustomer(r.Context(), own, c.ID, c.Revision, r.erased(c), nil)
	r.must(err)
	r.wantEqual("an erasure of the stored revision was done", done, true)
}

// eraseAgainstUpdates lets an erasure meet updates and tokens of the customer.
// Whichever comes first, nothing of the customer is there at the end.
func eraseAgainstUpdates(r *rig) {
	r.MustMerchant(own)
	for range 10 {
		c := r.MustCustomer(own)
		records := make([]grahak.CustomerRecord, parallel)
		tokens := make([][]grahak.TokenRecord, parallel)
		var updated [parallel]bool
		errs := r.together(parallel, func(r *rig, i int) (err error) {
			records[i] = r.next(c)
			token := func() *grahak.TokenRecord {
				token := r.token(own, c.ID)
				tokens[i] = append(tokens[i], token)
				return &token
			}
			switch {
			case i == parallel/2:
				return r.erase(own, c.ID)
			case i%4 == 0:
				for n := 0; err == nil && n < 12; n++ {
					err = r.store.PutToken(r.Context(), own, *token())
				}
			case i%4 == 2:
				err = r.store.PutToken(r.Context(), own, *token())
			default:
				updated[i], err = r.store.UpdateCustomer(r.Context(), own, records[i], r.updated(records[i]), &grahak.Besides{Token: token()})
			}
			if grahak.CodeOf(err) == grahak.CodeCustomerNotFound {
				return nil
			}
			return err
		})
		r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
		updates := int64(0)
		left, err := r.store.Tokens(r.Context(), own, c.ID)
		r.must(err)
		r.wantEqual("tokens of the erased customer", left, []grahak.TokenRecord(nil))
		for i, made := range tokens {
			if len(made) > 0 {
				r.wantNoToken("the last token of the erased customer", made[len(made)-1])
			}
			r.wantLost("the erased customer", own, records[i])
			if updated[i] {
				updates++
			}
		}
		events, err := r.store.EventsOf(r.Context(), own, string(c.ID))
		r.must(err)
		last := events[len(events)-1]
		if last.Type != grahak.EventCustomerErased || last.Revision != 2+updates || int64(len(events)) != 2+updates {
			r.Errorf("after %d updates there are %d events, the last %s at revision %d", updates, len(events), last.Type, last.Revision)
		}
	}
	r.wantEqual("the total", r.MustState(own).Total, int64(0))
}

// erasesOfOneCustomer has many erase one customer: one does, and there is one
// event.
func erasesOfOneCustomer(r *rig) {
	r.MustMerchant(own)
	c := r.MustCustomer(own)
	r.wantOutcomes(r.together(parallel, func(r *rig, _ int) error {
		return second(r.store.EraseCustomer(r.Context(), own, c.ID, c.Revision, r.erased(c), nil))
	}), map[grahak.Code]int{"": 1, grahak.CodeCustomerNotFound: parallel - 1})
	got := r.MustState(own)
	r.wantEqual("the total", got.Total, int64(0))
	r.wantEqual("the events", len(got.Events), 3)
}

// customerTokens lists the tokens of a customer: valid and expired ones, until
// they are pruned.
func customerTokens(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c, bystander := r.MustCustomer(own), r.MustCustomer(own)
	r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
	wantTokens := func(what string, m grahak.MerchantID, id grahak.CustomerID, want ...grahak.TokenRecord) {
		r.Helper()
		got, err := r.store.Tokens(r.Context(), m, id)
		r.must(err)
		want = slices.Clone(want)
		byHash := func(a, b grahak.TokenRecord) int { return slices.Compare(a.Hash[:], b.Hash[:]) }
		slices.SortFunc(got, byHash)
		slices.SortFunc(want, byHash)
		r.wantEqual(what, got, want)
	}
	wantTokens("no tokens", own, c.ID)
	var mine []grahak.TokenRecord
	for i := range 3 {
		token := r.token(own, c.ID)
		token.ExpiresAt = start.AddDate(0, 0, i-1)
		r.must(r.store.PutToken(r.Context(), own, token))
		mine = append(mine, token)
	}
	beside, theirs := r.token(own, bystander.ID), r.token(other, c.ID)
	r.must(r.store.PutToken(r.Context(), own, beside))
	r.must(r.store.PutToken(r.Context(), other, theirs))
	wantTokens("three tokens", own, c.ID, mine...)
	wantTokens("another customer's", own, bystander.ID, beside)
	wantTokens("another merchant's", other, c.ID, theirs)
	wantTokens("nobody's", nobody, c.ID)
	_, err := r.store.PruneTokens(r.Context(), start, all)
	r.must(err)
	wantTokens("what is not pruned", own, c.ID, mine[2])
}

// eventsOf lists the events of one subject.
func eventsOf(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
	k := r.MustKey(own)
	for range 3 {
		r.MustCustomer(own)
		c = r.next(c)
		_, err := r.store.UpdateCustomer(r.Context(), own, c, r.updated(c), nil)
		r.must(err)
	}
	r.MustErase(own, c.ID)
	for _, limit := range []int{0, 5, all} {
		// None, some and all of them are in order.
		if limit > 0 {
			r.must(second(r.order(own, limit)))
		}
		for _, subject := range []string{string(c.ID), string(k.ID), "", "cst_unknown", "CST" + string(c.ID[3:]), string(c.ID[:8])} {
			var want []grahak.Event
			for _, e := range r.MustEvents(own) {
				if e.Subject == subject {
					want = append(want, e)
				}
			}
			got, err := r.store.EventsOf(r.Context(), own, subject)
			r.must(err)
			// Those that are not in order may have no position yet.
			head := r.MustHead(own)
			for i := range got {
				if got[i].Position == 0 && i < len(want) && want[i].Position > head.Position {
					got[i].Position = want[i].Position
				}
			}
			r.wantEqual("the events of "+subject, got, want)
		}
	}
	got, err := r.store.EventsOf(r.Context(), own, string(c.ID))
	r.must(err)
	r.wantEqual("events of the customer", len(got), 5)
	got, err = r.store.EventsOf(r.Context(), other, string(c.ID))
	r.must(err)
	r.wantEqual("events of the other's customer", len(got), 1)
	got, err = r.store.EventsOf(r.Context(), nobody, string(c.ID))
	r.must(err)
	r.wantEqual("nobody's events", got, []grahak.Event(nil))
}
