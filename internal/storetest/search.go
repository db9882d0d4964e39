package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"grahak"
)

var searchTests = []test{
	{"what was just written", searchJustWritten},
	{"updates and order in any order", searchAfterUpdates},
	{"updates of other fields", searchAfterOtherUpdates},
	{"pages", searchPages},
	{"first member", searchByFirstMember},
	{"page is one moment", searchIsOneMoment},
}

// MustFind returns the ids of the customers that by finds, in the order in
// which they come.
func (r *rig) MustFind(m grahak.MerchantID, by grahak.CustomerIndex) (ids []grahak.CustomerID) {
	r.Helper()
	list, _, err := r.store.FindCustomers(r.Context(), m, by, grahak.CustomerRange{}, all)
	r.must(err)
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

func byEmail(x grahak.ShortIndex) grahak.CustomerIndex  { return grahak.CustomerIndex{Email: x} }
func byMobile(x grahak.ShortIndex) grahak.CustomerIndex { return grahak.CustomerIndex{Mobile: x} }
func byReference(x grahak.Index) grahak.CustomerIndex   { return grahak.CustomerIndex{Reference: x} }

// wantFound fails the test unless each of c's indexes finds c and nothing else.
func (r *rig) wantFound(what string, m grahak.MerchantID, c grahak.CustomerRecord) {
	r.Helper()
	for name, by := range indexesOf(c) {
		list, _, err := r.store.FindCustomers(r.Context(), m, by, grahak.CustomerRange{}, all)
		r.must(err)
		r.wantEqual(what+": by "+name, list, []grahak.CustomerRecord{c})
	}
}

// wantLost fails the test if one of c's indexes finds a customer.
func (r *rig) wantLost(what string, m grahak.MerchantID, c grahak.CustomerRecord) {
	r.Helper()
	for name, by := range indexesOf(c) {
		r.wantEqual(what+": by "+name, r.MustFind(m, by), []grahak.CustomerID(nil))
	}
}

// indexesOf returns the indexes that c has, by name.
func indexesOf(c grahak.CustomerRecord) map[string]grahak.CustomerIndex {
	indexes := map[string]grahak.CustomerIndex{"reference": byReference(c.Reference)}
	if c.Email != (grahak.ShortIndex{}) {
		indexes["e-mail"] = byEmail(c.Email)
	}
	if c.Mobile != (grahak.ShortIndex{}) {
		indexes["mobile"] = byMobile(c.Mobile)
	}
	return indexes
}

func searchJustWritten(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	everyByte := grahak.ShortIndex{0, 0xff, '\'', '%', 0x80, '\\', '"', 0}
	customers := []grahak.CustomerRecord{r.customer(), r.customer(), r.customer(), r.customer()}
	customers[1].Email, customers[1].Mobile = grahak.ShortIndex{}, grahak.ShortIndex{}
	customers[2].Email = everyByte
	customers[3].Mobile = grahak.ShortIndex(slices.Repeat([]byte{0xff}, 8))
	check := func(what string) {
		r.Helper()
		for i, c := range customers {
			r.wantFound(fmt.Sprintf("%s: customer %d", what, i), own, c)
			r.wantLost(fmt.Sprintf("%s: customer %d at another merchant", what, i), other, c)
			r.wantLost(fmt.Sprintf("%s: customer %d at nobody", what, i), nobody, c)
		}
		r.wantLost(what+": nobody's indexes", own, r.customer())
	}
	for _, c := range customers {
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		r.wantFound("just written", own, c)
	}
	check("none in order")
	_, err := r.order(own, 3)
	r.must(err)
	check("some in order")
	r.MustOrder(own, all)
	check("all in order")

	// The same indexes at another merchant are another customer's.
	twin := customers[0]
	twin.ID = r.customer().ID
	r.must(r.store.CreateCustomer(r.Context(), other, twin, r.created(twin), nil))
	for range 2 {
		r.wantFound("one of twins", own, customers[0])
		r.wantFound("the other twin", other, twin)
		r.MustOrder(other, all)
	}
}

// searchAfterUpdates mixes updates of the e-mail address and the mobile number
// with ordering in every order there is: at each moment the values that are
// stored find the customer, once, and those that were do not.
func searchAfterUpdates(r *rig) {
	r.wantEqual("the master key", r.MustMasterKey(), firstMaster)
	// u is an update, o puts all events in order, and p the next one only. As
	// every sequence begins with shorter ones, it is looked at its end.
	sequences := []string{""}
	for i := 0; i < len(sequences) && len(sequences[i]) < 4; i++ {
		for _, step := range []string{"u", "o", "p"} {
			sequences = append(sequences, sequences[i]+step)
		}
	}
	errs := r.together(parallel, func(r *rig, worker int) error {
		for i := worker; i < len(sequences); i += parallel {
			if err := r.searchAfter(grahak.MerchantID(fmt.Sprintf("acme-%d", i)), sequences[i]); err != nil {
				return fmt.Errorf("after %s: %w", sequences[i], err)
			}
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
}

// searchAfter makes the merchant m and a customer, takes the steps and then
// erases it.
func (r *rig) searchAfter(m grahak.MerchantID, steps string) error {
	ctx := r.Context()
	merchant := grahak.Merchant{ID: m, IPMode: grahak.IPModeOff, CreatedAt: r.now()}
	if err := r.store.CreateMerchant(ctx, merchant, r.keyset(m, firstMaster), r.event(grahak.EventMerchantCreated, "", 0)); err != nil {
		return err
	}
	// The values go round, so that one comes back after another; at times there
	// is none.
	emails := []grahak.ShortIndex{r.short(), r.short()}
	mobiles := []grahak.ShortIndex{r.short(), r.short(), {}}
	c := r.customer()
	c.Email, c.Mobile = emails[0], mobiles[0]
	check := func(done string, exists bool) error {
		for name, x := range map[string]struct {
			values []grahak.ShortIndex
			stored grahak.ShortIndex
			by     func(grahak.ShortIndex) grahak.CustomerIndex
		}{"e-mail": {emails, c.Email, byEmail}, "mobile": {mobiles[:2], c.Mobile, byMobile}} {
			for i, value := range x.values {
				list, _, err := r.store.FindCustomers(ctx, m, x.by(value), grahak.CustomerRange{}, all)
				if err != nil {
					return err
				}
				var want []grahak.CustomerRecord
				if exists && value == x.stored {
					want = []grahak.CustomerRecord{c}
				}
				r.wantEqual(fmt.Sprintf("%q: by value %d of %s", done, i, name), list, want)
			}
		}
		return nil
	}
	if err := r.store.CreateCustomer(ctx, m, c, r.created(c), nil); err != nil {
		return err
	}
	// The merchant's own event is out of the way of p.
	if _, err := r.order(m, 1); err != nil {
		return err
	}
	for _, step := range steps {
		var err error
		switch step {
		case 'u':
			sealed := c.Sealed.Version
			c = r.next(c)
			c.Email, c.Mobile = emails[(c.Revision-1)%2], mobiles[(c.Revision-1)%3]
			c.Sealed.Version = sealed
			_, err = r.store.UpdateCustomer(ctx, m, c, r.event(grahak.EventCustomerUpdated, string(c.ID), c.Revision, grahak.FieldMobileNumber, grahak.FieldEmail), nil)
		case 'o':
			for more := true; more && err == nil; {
				var s *grahak.ChainSegment
				s, err = r.order(m, all)
				more = s != nil
			}
		case 'p':
			_, err = r.order(m, 1)
		}
		if err != nil {
			return err
		}
	}
	if err := check(steps, true); err != nil {
		return err
	}
	if err := r.erase(m, c.ID); err != nil {
		return err
	}
	if err := check(steps+" and erased", false); err != nil {
		return err
	}
	if _, err := r.order(m, all); err != nil {
		return err
	}
	return check(steps+", erased and in order", false)
}

// searchAfterOtherUpdates changes one of the two, or neither.
func searchAfterOtherUpdates(r *rig) {
	r.MustMerchant(own)
	for _, ordered := range []bool{false, true} {
		c := r.MustCustomer(own)
		for _, changed := range []grahak.Field{grahak.FieldFirstName, grahak.FieldMobileNumber, grahak.FieldEmail, grahak.FieldMobileCountryCode} {
			if ordered {
				r.MustOrder(own, all)
			}
			next := r.next(c)
			next.Email, next.Mobile = c.Email, c.Mobile
			old := r.customer() // with what is not to be found any more
			switch changed {
			case grahak.FieldMobileNumber:
				old.Mobile, next.Mobile = c.Mobile, r.short()
			case grahak.FieldEmail:
				old.Email, next.Email = c.Email, r.short()
			case grahak.FieldMobileCountryCode:
				// An index may change though its field did not: it had none, or
				// letters are folded in another way.
				old.Email, next.Email = c.Email, r.short()
			}
			done, err := r.store.UpdateCustomer(r.Context(), own, next, r.event(grahak.EventCustomerUpdated, string(c.ID), next.Revision, changed), nil)
			r.must(err)
			r.wantEqual("done", done, true)
			what := fmt.Sprintf("after an update of %s (in order before it: %t)", changed, ordered)
			r.wantFound(what, own, next)
			r.wantLost(what, own, old)
			c = next
		}
		r.MustOrder(own, all)
		r.wantFound("in order at last", own, c)
	}
}

// searchPages looks for what many customers share, in ranges of ids, while some
// of them are in order and some not.
func searchPages(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	const n = 24
	email, mobile := r.short(), r.short()
	var mine []grahak.CustomerRecord
	for i := range n {
		c := r.customer()
		c.CreatedAt = start.Add(-time.Duration(i) * time.Hour)
		if i%4 != 3 {
			c.Email = email
		}
		if i%3 != 2 {
			c.Mobile = mobile
		}
		mine = append(mine, c)
	}
	for i := range mine {
		c := mine[i*5%n]
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
	}
	check := func(state string) {
		r.Helper()
		for _, by := range []struct {
			name  string
			index grahak.CustomerIndex
			fits  func(grahak.CustomerRecord) bool
		}{
			{"e-mail", byEmail(email), func(c grahak.CustomerRecord) bool { return c.Email == email }},
			{"mobile", byMobile(mobile), func(c grahak.CustomerRecord) bool { return c.Mobile == mobile }},
			{"reference", byReference(mine[7].Reference), func(c grahak.CustomerRecord) bool { return c.ID == mine[7].ID }},
		} {
			for _, from := range []grahak.CustomerID{"", mine[5].ID, mine[7].ID} {
				for _, before := range []grahak.CustomerID{"", mine[7].ID, mine[8].ID, mine[n-1].ID + "x"} {
					for _, limit := range []int{1, 4, all} {
						var want []grahak.CustomerRecord
						for _, c := range slices.Backward(mine) {
							if len(want) < limit && by.fits(c) && c.ID >= from && (before == "" || c.ID < before) {
								want = append(want, c)
							}
						}
						// Times are not looked at.
						in := grahak.CustomerRange{From: from, Before: before, CreatedFrom: start.AddDate(100, 0, 0), CreatedBefore: time.Unix(1, 0)}
						got, total, err := r.store.FindCustomers(r.Context(), own, by.index, in, limit)
						r.must(err)
						r.wantEqual(fmt.Sprintf("%s: %d by %s from %q before %q", state, limit, by.name, from, before), got, want)
						r.wantEqual("the total", total, int64(n))
					}
				}
			}
		}
	}
	check("none in order")
	_, err := r.order(own, n/2)
	r.must(err)
	check("half in order")
	r.MustOrder(own, all)
	check("all in order")
	// Those that are updated are in both places that a store may look into.
	for i := range mine {
		if i%5 == 0 {
			email, mobile := mine[i].Email, mine[i].Mobile
			mine[i] = r.next(mine[i])
			mine[i].Email, mine[i].Mobile = email, mobile
			_, err := r.store.UpdateCustomer(r.Context(), own, mine[i], r.event(grahak.EventCustomerUpdated, string(mine[i].ID), mine[i].Revision, grahak.FieldLastName), nil)
			r.must(err)
		}
	}
	check("all in order, and then some updated")
}

// searchByFirstMember looks for more than one index: the first counts.
func searchByFirstMember(r *rig) {
	r.MustMerchant(own)
	a, b := r.MustCustomer(own), r.MustCustomer(own)
	for range 2 {
		for _, c := range []struct {
			name string
			by   grahak.CustomerIndex
			want []grahak.CustomerID
		}{
			{"reference and e-mail", grahak.CustomerIndex{Reference: a.Reference, Email: b.Email}, []grahak.CustomerID{a.ID}},
			{"an unknown reference and an e-mail", grahak.CustomerIndex{Reference: r.index(), Email: b.Email}, nil},
			{"reference and mobile", grahak.CustomerIndex{Reference: b.Reference, Mobile: a.Mobile}, []grahak.CustomerID{b.ID}},
			{"e-mail and mobile", grahak.CustomerIndex{Email: b.Email, Mobile: a.Mobile}, []grahak.CustomerID{b.ID}},
			{"an unknown e-mail and a mobile", grahak.CustomerIndex{Email: r.short(), Mobile: a.Mobile}, nil},
		} {
			r.wantEqual(c.name, r.MustFind(own, c.by), c.want)
		}
		r.MustOrder(own, all)
	}
}

// searchIsOneMoment has every customer share one e-mail address, and looks for
// that while customers are written, changed and erased and events put in order:
// each time exactly as many are found as there are, none of them twice.
func searchIsOneMoment(r *rig) {
	r.MustMerchant(own)
	email := r.short()
	const writers, each = 4, 25
	written := make(chan struct{})
	var beside sync.WaitGroup
	for range 2 {
		beside.Go(func() {
			until(written, func() bool {
				list, total, err := r.store.FindCustomers(r.Context(), own, byEmail(email), grahak.CustomerRange{}, all)
				descend := slices.IsSortedFunc(list, func(a, b grahak.CustomerRecord) int { return strings.Compare(string(b.ID), string(a.ID)) })
				distinct := make(map[grahak.CustomerID]bool)
				for _, c := range list {
					distinct[c.ID] = true
				}
				if err != nil || int64(len(list)) != total || int64(len(distinct)) != total || !descend {
					r.Errorf("%d customers were found, %d of them different, in descending order: %t; there are %d (%v)", len(list), len(distinct), descend, total, err)
					return false
				}
				return true
			})
		})
	}
	beside.Go(func() {
		until(written, func() bool {
			_, err := r.order(own, 5)
			if err != nil {
				r.Errorf("order: %v", err)
			}
			return err == nil
		})
	})
	errs := r.together(writers, func(r *rig, _ int) error {
		for i := range each {
			c := r.customer()
			c.Email = email
			if err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil); err != nil {
				return err
			}
			if i%2 == 0 {
				next := r.next(c)
				next.Email = email
				if _, err := r.store.UpdateCustomer(r.Context(), own, next, r.event(grahak.EventCustomerUpdated, string(c.ID), 2, grahak.FieldMobileNumber), nil); err != nil {
					return err
				}
			}
			if i%5 == 0 {
				if err := r.erase(own, c.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	close(written)
	beside.Wait()
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers})
}
