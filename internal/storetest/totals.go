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
	done     atomic.Int64 // how many customers were written
}

func (r *rig) mustCreates(m grahak.MerchantID) *creates {
	r.Helper()
	r.MustMerchant(m)
	c := &creates{rig: r, merchant: m, first: r.MustCustomer(m)}
	c.done.Add(1)
	c.token = r.token(m, c.first.ID)
	r.must(r.store.PutToken(r.Context(), m, c.token))
	return c
}

func (c *creates) create(alter func(*grahak.CustomerRecord), token *grahak.TokenRecord) error {
	record := c.customer()
	alter(&record)
	err := c.store.CreateCustomer(c.Context(), c.merchant, record, c.created(record), token)
	if err == nil {
		c.done.Add(1)
	}
	return err
}

func (c *creates) valid() error { return c.create(func(*grahak.CustomerRecord) {}, nil) }

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
	got, want := c.MustState(c.merchant), c.done.Load()
	if got.Total != want || int64(len(got.Customers)) != want {
		c.Errorf("merchant %s has %d customers and a total of %d, want %d", c.merchant, len(got.Customers), got.Total, want)
	}
	// The merchant's own event is the odd one.
	if int64(len(got.Events)) != want+1 {
		c.Errorf("merchant %s has %d events, want %d", c.merchant, len(got.Events), want+1)
	}
	for i, e := range got.Events {
		if e.Position != int64(i+1) {
			c.Fatalf("event %d of merchant %s has the position %d", i+1, c.merchant, e.Position)
		}
	}
}

// totalAfterFailures makes one create after the other: what one that failed has
// left behind must not be counted with the next.
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
	} {
		r.wantCode(step.name, step.create(), step.want)
		c.check()
		bystander.check()
	}
}

// totalBesideFailures makes all kinds of creates at two merchants at once, so
// that those that fail share transactions with those that do not.
func totalBesideFailures(r *rig) {
	const each = 4
	merchants := []*creates{r.mustCreates(own), r.mustCreates(other)}
	errs := together(parallel, func(i int) error {
		// The merchants do not have the same number, or it would not show if
		// one had the other's.
		c := merchants[min(i%3, 1)]
		for range each {
			for range 3 {
				if err := c.valid(); err != nil {
					return err
				}
			}
			r.wantCode("a duplicate", c.duplicate(), grahak.CodeDuplicateReference)
			if i%4 == 0 {
				r.wantCode("one with a taken id", c.sameID(), grahak.CodeInternal)
				r.wantCode("one with a taken token", c.sameToken(), grahak.CodeInternal)
			}
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	for i, workers := range []int64{parallel / 3, parallel - parallel/3} {
		r.wantEqual("customers written", merchants[i].done.Load(), 1+workers*each*3)
		merchants[i].check()
	}
}
