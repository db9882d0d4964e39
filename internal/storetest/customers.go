package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"grahak"
)

var customerTests = []test{
	{"round trip", customerRoundTrip},
	{"look-up", customerLookUp},
	{"an id before a reference", customerByIDFirst},
	{"same at another merchant", customerAtAnotherMerchant},
	{"update", customerUpdate},
	{"stale update", customerStaleUpdate},
	{"pages", customerPages},
	{"ranges", customerRanges},
	{"in ascending order", customersAfter},
	{"page is one moment", customerPageIsOneMoment},
}

func customerRoundTrip(r *rig) {
	r.MustMerchant(own)
	kolkata := time.FixedZone("IST", 5*3600+1800)
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for name, alter := range map[string]func(*grahak.CustomerRecord){
		"plain":      func(*grahak.CustomerRecord) {},
		"every byte": func(c *grahak.CustomerRecord) { c.Sealed.Bytes = everyByte },
		// As much as the most metadata takes.
		"large":           func(c *grahak.CustomerRecord) { c.Sealed.Bytes = slices.Repeat(everyByte, 448) },
		"index of few":    func(c *grahak.CustomerRecord) { c.Reference = grahak.Index{15: 1} },
		"index of ones":   func(c *grahak.CustomerRecord) { c.Reference = grahak.Index(slices.Repeat([]byte{0xff}, 16)) },
		"index of quotes": func(c *grahak.CustomerRecord) { c.Reference = grahak.Index([]byte(`'"\%_'"\%_'"\%_;`)) },
		"late revision":   func(c *grahak.CustomerRecord) { c.Revision = 1 << 40 },
		"other zone":      func(c *grahak.CustomerRecord) { c.UpdatedAt = c.UpdatedAt.In(kolkata) },
		"nanoseconds":     func(c *grahak.CustomerRecord) { c.UpdatedAt = c.UpdatedAt.Add(999) },
		"year 1970":       func(c *grahak.CustomerRecord) { c.CreatedAt = time.Unix(0, 0) },
		"year 2109":       func(c *grahak.CustomerRecord) { c.CreatedAt = start.AddDate(83, 0, 0) },
	} {
		c := r.customer()
		alter(&c)
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		c.CreatedAt, c.UpdatedAt = c.CreatedAt.UTC(), c.UpdatedAt.UTC().Truncate(time.Microsecond)
		got, err := r.store.Customer(r.Context(), own, c.ID, r.index())
		r.must(err)
		r.wantEqual(name+": the customer by id", got, c)
		got, err = r.store.Customer(r.Context(), own, "cst_unknown", c.Reference)
		r.must(err)
		r.wantEqual(name+": the customer by reference", got, c)
	}
}

func customerLookUp(r *rig) {
	r.MustMerchant(own)
	a, b := r.customer(), r.customer()
	a.ID, b.ID = "cst_000000000000000a", "cst_000000000000000b"
	a.Reference = grahak.Index([]byte("ABCDEFGHIJKLMNOP"))
	for _, c := range []grahak.CustomerRecord{a, b} {
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
	}
	lower := grahak.Index([]byte("abcdefghijklmnop"))
	flipped := a.Reference
	flipped[15] ^= 1
	for _, c := range []struct {
		name      string
		id        grahak.CustomerID
		reference grahak.Index
		want      grahak.CustomerID // empty: not found
	}{
		{"both of one", a.ID, a.Reference, a.ID},
		{"the id wins", b.ID, a.Reference, b.ID},
		{"the id wins, other way round", a.ID, b.Reference, a.ID},
		{"no id", "", a.Reference, a.ID},
		{"neither", "cst_000000000000000c", r.index(), ""},
		{"id in other case", "CST_000000000000000A", r.index(), ""},
		{"start of an id", "cst_000000000000000", r.index(), ""},
		{"id and a blank", a.ID + " ", r.index(), ""},
		{"id as a pattern", "cst_00000000000000__", r.index(), ""},
		{"index in other case", "", lower, ""},
		{"index with one other bit", "", flipped, ""},
		{"zero index", "", grahak.Index{}, ""},
	} {
		got, err := r.store.Customer(r.Context(), own, c.id, c.reference)
		if c.want == "" {
			r.wantCode(c.name, err, grahak.CodeCustomerNotFound)
			continue
		}
		r.must(err)
		r.wantEqual(c.name, got.ID, c.want)
	}
	// Letter case tells indexes apart when they are written, too.
	c := r.customer()
	c.Reference = lower
	r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
	r.wantCustomer(own, a)
	r.wantCustomer(own, c)
}

// customerByIDFirst looks up what is one customer's id and another's reference,
// whichever of them was written first and whichever has the lower id.
func customerByIDFirst(r *rig) {
	r.MustMerchant(own)
	for _, idFirst := range []bool{true, false} {
		for _, idLower := range []bool{true, false} {
			byID, byReference := r.customer(), r.customer()
			if !idLower {
				byID.ID, byReference.ID = byReference.ID, byID.ID
			}
			order := []grahak.CustomerRecord{byID, byReference}
			if !idFirst {
				slices.Reverse(order)
			}
			for _, c := range order {
				r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
			}
			got, err := r.store.Customer(r.Context(), own, byID.ID, byReference.Reference)
			r.must(err)
			r.wantEqual(fmt.Sprintf("written first: %t, lower id: %t", idFirst, idLower), got, byID)
		}
	}
}

func customerAtAnotherMerchant(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	twin := c
	twin.Sealed.Bytes = []byte("sealed for another merchant")
	r.must(r.store.CreateCustomer(r.Context(), other, twin, r.created(twin), nil))
	r.wantCustomer(own, c)
	r.wantCustomer(other, twin)
}

func customerUpdate(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	c := r.MustCustomer(own)
	bystander := r.MustCustomer(own)
	twin := c
	r.must(r.store.CreateCustomer(r.Context(), other, twin, r.created(twin), nil))

	want := r.next(c)
	token := r.token(own, c.ID)
	// An update leaves what it does not name.
	given := want
	given.Reference, given.CreatedAt = r.index(), r.now()
	event := r.updated(want)
	done, err := r.store.UpdateCustomer(r.Context(), own, given, event, &grahak.Besides{Token: &token})
	r.must(err)
	r.wantEqual("done", done, true)
	r.wantCustomer(own, want)
	r.wantCustomer(own, bystander)
	r.wantCustomer(other, twin)
	r.wantToken(token)
	events := r.MustEvents(own)
	r.wantEqual("the last event", events[len(events)-1], placed(event, len(events)))
	_, err = r.store.Customer(r.Context(), own, "", given.Reference)
	r.wantCode("the reference of the update", err, grahak.CodeCustomerNotFound)

	again := r.next(want)
	done, err = r.store.UpdateCustomer(r.Context(), own, again, r.updated(again), nil)
	r.must(err)
	r.wantEqual("done again", done, true)
	r.wantCustomer(own, again)
}

func customerStaleUpdate(r *rig) {
	r.MustMerchant(own)
	current := r.MustCustomer(own)
	for range 2 {
		current = r.next(current)
		done, err := r.store.UpdateCustomer(r.Context(), own, current, r.updated(current), nil)
		r.must(err)
		r.wantEqual("done", done, true)
	}
	before := r.MustState(own)
	for _, revision := range []int64{0, 1, current.Revision - 1, current.Revision, current.Revision + 2} {
		stale := r.next(current)
		stale.Revision = revision
		token := r.token(own, current.ID)
		done, err := r.store.UpdateCustomer(r.Context(), own, stale, r.updated(stale), &grahak.Besides{Token: &token})
		r.must(err)
		what := fmt.Sprintf("update to revision %d of a customer at revision %d", revision, current.Revision)
		r.wantEqual(what+": done", done, false)
		r.wantEqual(what+": what is stored", r.MustState(own), before)
		r.wantNoToken(what, token)
	}
}

func customerPages(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	got, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, 10, 0)
	r.must(err)
	if len(got) != 0 || total != 0 {
		r.Errorf("a new merchant has %d customers of %d, want none", len(got), total)
	}

	// Written out of order, beside another merchant's of the same ids.
	const n = 25
	records := make([]grahak.CustomerRecord, n)
	for i := range records {
		records[i] = r.customer()
		// Clocks may be set back; the order is that of ids.
		records[i].CreatedAt = start.Add(-time.Duration(i) * time.Second)
	}
	for i := range records {
		c := records[i*7%n]
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		if i%3 == 0 {
			r.must(r.store.CreateCustomer(r.Context(), other, c, r.created(c), nil))
		}
	}
	newest := slices.Clone(records)
	slices.Reverse(newest)

	for _, c := range []struct {
		name          string
		before        grahak.CustomerID
		limit, offset int
		want          []grahak.CustomerRecord
	}{
		{"first page", "", 10, 0, newest[:10]},
		{"offset", "", 10, 10, newest[10:20]},
		{"last page", "", 10, 20, newest[20:]},
		{"offset at the end", "", 10, n, nil},
		{"offset past the end", "", 10, n + 1, nil},
		{"everything", "", n, 0, newest},
		{"more than everything", "", all, 0, newest},
		{"before the newest", newest[0].ID, 5, 0, newest[1:6]},
		{"before one in the middle", newest[9].ID, 10, 0, newest[10:20]},
		{"before and offset", newest[9].ID, 5, 3, newest[13:18]},
		{"before one that does not exist", newest[9].ID + "x", 2, 0, newest[9:11]},
		{"before the oldest", newest[n-1].ID, 10, 0, nil},
		{"before all", "a", 10, 0, nil},
	} {
		got, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{Before: c.before}, c.limit, c.offset)
		r.must(err)
		r.wantEqual(c.name, got, c.want)
		r.wantEqual(c.name+": total", total, int64(n))
	}
	_, total, err = r.store.Customers(r.Context(), other, grahak.CustomerRange{}, 1, 0)
	r.must(err)
	r.wantEqual("the other merchant's total", total, int64(9))
	_, total, err = r.store.Customers(r.Context(), nobody, grahak.CustomerRange{}, 1, 0)
	r.must(err)
	r.wantEqual("nobody's total", total, int64(0))
}

// customerRanges bounds lists by id and by time. The lower bounds belong to the
// range, the upper ones do not, and a microsecond decides.
func customerRanges(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	const n = 12
	// Times do not ascend with the ids, or one bound would hide the other, and
	// some are equal.
	at := func(i int) time.Time { return start.Add(time.Duration(i*5%n/2) * time.Microsecond) }
	records := make([]grahak.CustomerRecord, n)
	for i := range records {
		records[i] = r.customer()
		records[i].CreatedAt = at(i)
		r.must(r.store.CreateCustomer(r.Context(), own, records[i], r.created(records[i]), nil))
		r.must(r.store.CreateCustomer(r.Context(), other, records[i], r.created(records[i]), nil))
	}
	ids := []grahak.CustomerID{"", records[3].ID, records[3].ID + "0", records[n-1].ID, "z"}
	times := []time.Time{{}, at(0), at(0).Add(time.Microsecond), at(0).Add(2 * time.Microsecond).In(time.FixedZone("IST", 19800)), start.AddDate(500, 0, 0)}
	for _, from := range ids {
		for _, before := range ids {
			for _, createdFrom := range times {
				for _, createdBefore := range times {
					in := grahak.CustomerRange{From: from, Before: before, CreatedFrom: createdFrom, CreatedBefore: createdBefore}
					var want []grahak.CustomerRecord
					for _, c := range slices.Backward(records) {
						if c.ID >= from && (before == "" || c.ID < before) &&
							!c.CreatedAt.Before(createdFrom) && (createdBefore.IsZero() || c.CreatedAt.Before(createdBefore)) {
							want = append(want, c)
						}
					}
					got, total, err := r.store.Customers(r.Context(), own, in, all, 0)
					r.must(err)
					r.wantEqual(fmt.Sprintf("%+v", in), got, want)
					r.wantEqual("the total, whatever the range", total, int64(n))
				}
			}
		}
	}
	// Limit and offset count what is in the range.
	in := grahak.CustomerRange{From: records[1].ID, CreatedFrom: start.Add(time.Microsecond)}
	whole, _, err := r.store.Customers(r.Context(), own, in, all, 0)
	r.must(err)
	if len(whole) < 6 {
		r.Fatalf("the range has %d customers, too few to page", len(whole))
	}
	part, _, err := r.store.Customers(r.Context(), own, in, 3, 2)
	r.must(err)
	r.wantEqual("a part of a range", part, whole[2:5])
}

// customersAfter reads in the order of ids, a few at a time.
func customersAfter(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	const n = 10
	records := make([]grahak.CustomerRecord, n)
	for i := range records {
		records[i] = r.customer()
	}
	for i := range records {
		c := records[i*7%n]
		r.must(r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil))
		r.MustCustomer(other)
	}
	for _, c := range []struct {
		name  string
		after grahak.CustomerID
		limit int
		want  []grahak.CustomerRecord
	}{
		{"from the first", "", 3, records[:3]},
		{"after the third", records[2].ID, 4, records[3:7]},
		{"after one that does not exist", records[2].ID + "x", 1, records[3:4]},
		{"up to the end", records[6].ID, 3, records[7:]},
		{"past the end", records[6].ID, all, records[7:]},
		{"after the last", records[n-1].ID, all, nil},
		{"all", "", all, records},
	} {
		got, err := r.store.CustomersAfter(r.Context(), own, c.after, c.limit)
		r.must(err)
		r.wantEqual(c.name, got, c.want)
	}
	none, err := r.store.CustomersAfter(r.Context(), nobody, "", all)
	r.must(err)
	r.wantEqual("nobody's customers", none, []grahak.CustomerRecord(nil))
}

// customerPageIsOneMoment reads pages while customers are written and erased and
// events put in order: a page that holds everything always has as many customers
// as its total says.
func customerPageIsOneMoment(r *rig) {
	r.MustMerchant(own)
	const writers, each = 4, 30
	written := make(chan struct{})
	var beside sync.WaitGroup
	for range 2 {
		beside.Go(func() {
			until(written, func() bool {
				list, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, all, 0)
				if err != nil || int64(len(list)) != total {
					r.Errorf("a page of %d customers with a total of %d (%v)", len(list), total, err)
					return false
				}
				return true
			})
		})
	}
	beside.Go(func() {
		until(written, func() bool {
			_, err := r.order(own, 7)
			if err != nil {
				r.Errorf("order: %v", err)
			}
			return err == nil
		})
	})
	errs := r.together(writers, func(r *rig, _ int) error {
		for i := range each {
			c := r.customer()
			if err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil); err != nil {
				return err
			}
			if i%3 == 0 {
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
	_, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, 1, 0)
	r.must(err)
	r.wantEqual("total", total, int64(writers*each*2/3))
}
