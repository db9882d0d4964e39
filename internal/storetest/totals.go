package storetest

import (
	"sync/atomic"

	"grahak"
)

var totalTests = []test{
	{"after refused and failed creates", totalAfterFailures},
	{"beside refused and failed creates", totalBesideFailures},
}

// creates is a merchant with one customer and a token of it, and the ways in
// which another create can go.
type creates struct {
	*rig
	merchant grahak.MerchantID
	first    grahak.CustomerRecord
	token    grahak.TokenRecord
	done     *atomic.Int64 // how many customers were written
	erased   *atomic.Int64 // how many of them were erased
}

func (r *rig) mustCreates(m grahak.MerchantID) *creates {
	r.Helper()
	r.MustMerchant(m)
	c := &creates{rig: r, merchant: m, first: r.MustCustomer(m), done: new(atomic.Int64), erased: new(atomic.Int64)}
	c.done.Add(1)
	c.token = r.token(m, c.first.ID)
	r.must(r.store.PutToken(r.Context(), m, c.token))
	return c
}

func (c *creates) create(alter func(*grahak.CustomerRecord), token *grahak.TokenRecord) error {
	record := c.customer()
	alter(&record)
	err := c.store.CreateCustomer(c.Context(), c.merchant, record, c.created(record), &grahak.Besides{Token: token})
	if err == nil {
		c.done.Add(1)
	}
	return err
}

func (c *creates) valid() error { return c.create(func(*grahak.CustomerRecord) {}, nil) }

// erase erases a customer that it writes before.
func (c *creates) erase() error {
	var id grahak.CustomerID
	if err := c.create(func(record *grahak.CustomerRecord) { id = record.ID }, nil); err != nil {
		return err
	}
	err := c.rig.erase(c.merchant, id)
	if err == nil {
		c.erased.Add(1)
	}
	return err
}

// unknown erases nobody.
func (c *creates) unknown() error {
	return second(c.store.EraseCustomer(c.Context(), c.merchant, "cst_unknown", 1, c.event(grahak.EventCustomerErased, "cst_unknown", 2), nil))
}

// duplicate is refused.
func (c *creates) duplicate() error {
	return c.create(func(record *grahak.CustomerRecord) { record.Reference = c.first.Reference }, nil)
}

// sameID fails, because no two customers have one id.
func (c *creates) sameID() error {
	return c.create(func(record *grahak.CustomerRecord) { record.ID = c.first.ID }, nil)
}

// sameToken fails when the customer is written already, because no two tokens
// have one hash.
func (c *creates) sameToken() error {
	return c.create(func(*grahak.CustomerRecord) {}, &c.token)
}

// check fails the test unless the merchant's total is what was written, and the
// creates that were not left neither a customer nor a gap among the events.
func (c *creates) check() {
	c.Helper()
	got, done, erased := c.MustState(c.merchant), c.done.Load(), c.erased.Load()
	want := done - erased
	if got.Total != want || int64(len(got.Customers)) != want {
		c.Errorf("merchant %s has %d customers and a total of %d, want %d", c.merchant, len(got.Customers), got.Total, want)
	}
	_, total, err := c.store.FindCustomers(c.Context(), c.merchant, byEmail(c.first.Email), grahak.CustomerRange{}, 1)
	c.must(err)
	c.wantEqual("the total beside a search", total, want)
	counted, recorded, err := c.store.CountCustomers(c.Context(), c.merchant)
	c.must(err)
	c.wantEqual("the customers counted one by one", counted, want)
	c.wantEqual("the customers that events tell of", recorded, want)
	// The merchant's own event is the odd one.
	if int64(len(got.Events)) != done+erased+1 {
		c.Errorf("merchant %s has %d events, want %d", c.merchant, len(got.Events), done+erased+1)
	}
	for i, e := range got.Events {
		if e.Position != int64(i+1) {
			c.Fatalf("event %d of merchant %s has the position %d", i+1, c.merchant, e.Position)
		}
	}
}

// totalAfterFailures makes one create after the other: what one that failed has
// left behind must not be counted with the next. Events are put in order now and
// then, and no total shows how many of them are.
func totalAfterFailures(r *rig) {
	c, bystander := r.mustCreates(own), r.mustCreates(other)
	for _, step := range []struct {
		name   string
		create func() error
		want   grahak.Code
	}{
		{"a valid one", c.valid, ""},
		{"a duplicate", c.duplicate, grahak.CodeDuplicateReference},
		{"a valid one after a duplicate", c.valid, ""},
		{"one with a taken id", c.sameID, grahak.CodeInternal},
		{"a valid one after a taken id", c.valid, ""},
		{"one with a taken token", c.sameToken, grahak.CodeInternal},
		{"another merchant's after a taken token", bystander.valid, ""},
		{"one with a taken token again", c.sameToken, grahak.CodeInternal},
		{"a valid one after a taken token", c.valid, ""},
		{"an erasure", c.erase, ""},
		{"an erasure of nobody", c.unknown, grahak.CodeCustomerNotFound},
		{"another merchant's erasure", bystander.erase, ""},
		{"a valid one after erasures", c.valid, ""},
	} {
		r.wantCode(step.name, step.create(), step.want)
		c.check()
		bystander.check()
		_, err := r.order(own, 2)
		r.must(err)
		c.check()
		bystander.check()
	}
	r.MustOrder(own, all)
	r.MustOrder(other, all)
	c.check()
	bystander.check()
	r.wantEqual("the chain's count", r.MustHead(own).Customers, c.done.Load()-c.erased.Load())
	r.wantCode("an erasure with all in order", c.erase(), "")
	c.check()
}

// totalBesideFailures makes all kinds of creates and erasures at two merchants at
// once, so that those that fail share transactions with those that do not, and
// some events are put in order meanwhile.
func totalBesideFailures(r *rig) {
	const each = 4
	merchants := []*creates{r.mustCreates(own), r.mustCreates(other)}
	errs := r.together(parallel, func(r *rig, i int) error {
		// The merchants do not have the same number, or it would not show if
		// one had the other's.
		c := *merchants[min(i%4, 1)]
		c.rig = r
		for range each {
			for range 3 {
				if err := c.valid(); err != nil {
					return err
				}
			}
			r.wantCode("a duplicate", c.duplicate(), grahak.CodeDuplicateReference)
			r.wantCode("an erasure", c.erase(), "")
			if _, err := r.order(c.merchant, 5); err != nil {
				return err
			}
			if i%5 == 0 {
				r.wantCode("one with a taken id", c.sameID(), grahak.CodeInternal)
				r.wantCode("one with a taken token", c.sameToken(), grahak.CodeInternal)
			}
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	for i, workers := range []int64{parallel / 4, parallel - parallel/4} {
		r.wantEqual("customers written", merchants[i].done.Load(), 1+workers*each*4)
		merchants[i].check()
		r.MustOrder(merchants[i].merchant, all)
		merchants[i].check()
	}
}
