package storetest

import (
	"slices"
	"sync"

	"grahak"
)

var chainTests = []test{
	{"round trip", chainRoundTrip},
	{"refuses what does not follow", orderRefuses},
	{"unordered", chainUnordered},
	{"several orderers beside writers", orderBesideWriters},
}

// order appends a segment of at most limit events to the merchant's chain and
// returns it, nil if there were no events to put in order.
func (r *rig) order(m grahak.MerchantID, limit int) (*grahak.ChainSegment, error) {
	head, err := r.store.ChainHead(r.Context(), m)
	if err != nil {
		return nil, err
	}
	events, err := r.store.Pending(r.Context(), m, head.Position, limit)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		_, err = r.store.Tidy(r.Context(), m)
		return nil, err
	}
	s := r.segment(m, head, events)
	_, err = r.store.Order(r.Context(), m, s, events)
	return &s, err
}

// segment returns the segment of events after head. Its proof is no keyed index,
// because a store cannot tell.
func (r *rig) segment(m grahak.MerchantID, head grahak.ChainHead, events []grahak.Event) grahak.ChainSegment {
	s := grahak.ChainSegment{First: head.Position + 1, Customers: head.Customers, Proof: r.index()}
	link := head.Link
	for _, e := range events {
		link = e.Link(m, link)
		s.Links = append(s.Links, link)
		switch e.Type {
		case grahak.EventCustomerCreated:
			s.Customers++
		case grahak.EventCustomerErased:
			s.Customers--
		}
	}
	return s
}

// MustOrder puts all events of the merchant in order, at most limit at a time,
// tidies what is left to tidy and returns the segments that it added.
func (r *rig) MustOrder(m grahak.MerchantID, limit int) (added []grahak.ChainSegment) {
	r.Helper()
	for {
		s, err := r.order(m, limit)
		r.must(err)
		if s == nil {
			break
		}
		added = append(added, *s)
	}
	for range 1000 {
		more, err := r.store.Tidy(r.Context(), m)
		r.must(err)
		if !more {
			return added
		}
	}
	r.Fatal("there is always more to tidy")
	return nil
}

// MustHead returns the head of the merchant's chain.
func (r *rig) MustHead(m grahak.MerchantID) grahak.ChainHead {
	r.Helper()
	head, err := r.store.ChainHead(r.Context(), m)
	r.must(err)
	return head
}

// MustUnordered returns the merchants with events that are not in their chain,
// sorted.
func (r *rig) MustUnordered() []grahak.MerchantID {
	r.Helper()
	list, err := r.store.Unordered(r.Context())
	r.must(err)
	slices.Sort(list)
	return list
}

func chainRoundTrip(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustCustomer(other)
	for range 6 {
		r.MustCustomer(own)
	}
	gone := r.MustCustomer(own)
	r.MustErase(own, gone.ID)
	r.wantEqual("the head before anything is in order", r.MustHead(own), grahak.ChainHead{})
	none, err := r.store.Chain(r.Context(), own, 0, all)
	r.must(err)
	r.wantEqual("the chain before anything is in order", none, []grahak.ChainSegment(nil))

	// Nine events: the merchant's, seven creates, one erasure.
	var want []grahak.ChainSegment
	for _, size := range []int{1, 3, 2, 2, 1} {
		s, err := r.order(own, size)
		r.must(err)
		want = append(want, *s)
		r.wantEqual("the head", r.MustHead(own), s.Head())
	}
	r.wantEqual("the head at last", r.MustHead(own), grahak.ChainHead{Position: 9, Link: want[4].Links[0], Customers: 6})
	for _, c := range []struct {
		name  string
		after int64
		limit int
		want  []grahak.ChainSegment
	}{
		{"all", 0, all, want},
		{"the first", 0, 1, want[:1]},
		{"after the first", 1, 2, want[1:3]},
		{"after a position within a segment", 3, 1, want[2:3]},
		{"after the first position of a segment", 5, 1, want[3:4]},
		{"just before one", 4, 1, want[2:3]},
		{"the last", 8, 5, want[4:]},
		{"after the last", 9, 5, nil},
	} {
		got, err := r.store.Chain(r.Context(), own, c.after, c.limit)
		r.must(err)
		r.wantEqual(c.name, got, c.want)
	}
	r.wantEqual("another merchant's head", r.MustHead(other), grahak.ChainHead{})
	r.wantEqual("nobody's head", r.MustHead(nobody), grahak.ChainHead{})

	// One long segment.
	long := r.MustOrder(other, all)
	r.wantEqual("segments of the other", len(long), 1)
	got, err := r.store.Chain(r.Context(), other, 0, all)
	r.must(err)
	r.wantEqual("the other's chain", got, long)
}

// orderRefuses appends segments that do not follow on the head: none is written,
// and none is an error, because somebody else may have come first.
func orderRefuses(r *rig) {
	r.MustMerchant(own)
	for range 5 {
		r.MustCustomer(own)
	}
	events := r.MustEvents(own)
	refuse := func(name string, before grahak.ChainHead, events []grahak.Event) {
		r.Helper()
		state := r.MustState(own)
		_, err := r.store.Order(r.Context(), own, r.segment(own, before, events), events)
		r.must(err)
		r.wantEqual(name, r.MustState(own), state)
	}
	first := r.segment(own, grahak.ChainHead{}, events[:3])
	last := r.segment(own, first.Head(), events[3:])
	refuse("a segment that begins after a gap", first.Head(), events[3:])
	refuse("a segment before the first position", grahak.ChainHead{Position: -1}, events[:2])
	_, err := r.store.Order(r.Context(), own, first, events[:3])
	r.must(err)
	r.wantEqual("the head", r.MustHead(own), first.Head())
	refuse("the same segment again", grahak.ChainHead{}, events[:3])
	refuse("another segment in the same place", grahak.ChainHead{}, events)
	refuse("a segment that begins within the chain", grahak.ChainHead{Position: 2}, events[2:])
	refuse("a segment that leaves out a position", grahak.ChainHead{Position: 4}, events[4:])
	_, err = r.store.Order(r.Context(), own, last, events[3:])
	r.must(err)
	r.wantEqual("the head after the one that follows", r.MustHead(own), last.Head())
	refuse("the last segment again", first.Head(), events[3:])
}

// chainUnordered follows which merchants have events that are not in order: one
// has none exactly when the chain has come to its last event. That every kind of
// event counts is in everyChange.
func chainUnordered(r *rig) {
	r.wantEqual("an empty store", r.MustUnordered(), []grahak.MerchantID(nil))
	r.MustMerchant(own)
	r.MustMerchant(other)
	both := []grahak.MerchantID{other, own}
	r.wantEqual("two new merchants", r.MustUnordered(), both)
	r.MustOrder(other, all)
	r.wantEqual("one in order", r.MustUnordered(), []grahak.MerchantID{own})
	r.MustOrder(own, all)
	r.wantEqual("both in order", r.MustUnordered(), []grahak.MerchantID(nil))

	c := r.MustCustomer(own)
	r.MustCustomer(own)
	r.wantEqual("two more events", r.MustUnordered(), []grahak.MerchantID{own})
	_, err := r.order(own, 1)
	r.must(err)
	r.wantEqual("one of them in order", r.MustUnordered(), []grahak.MerchantID{own})
	r.MustMode(other, grahak.IPModeReport)
	r.wantEqual("one left, and one of the other", r.MustUnordered(), both)
	r.MustOrder(own, all)
	r.MustOrder(other, all)
	r.wantEqual("all in order", r.MustUnordered(), []grahak.MerchantID(nil))

	// What writes no event leaves nothing to put in order.
	r.MustMode(other, grahak.IPModeReport)
	r.must(r.store.PutToken(r.Context(), own, r.token(own, c.ID)))
	stale := r.next(r.next(c))
	done, err := r.store.UpdateCustomer(r.Context(), own, stale, r.updated(stale), nil)
	r.must(err)
	r.wantEqual("a stale update was done", done, false)
	duplicate := r.customer()
	duplicate.Reference = c.Reference
	r.wantCode("a duplicate", r.store.CreateCustomer(r.Context(), own, duplicate, r.created(duplicate), nil), grahak.CodeDuplicateReference)
	r.wantEqual("after no event", r.MustUnordered(), []grahak.MerchantID(nil))

	// An Order that is late, with nothing new in it, hides no later event.
	segments, err := r.store.Chain(r.Context(), own, 0, all)
	r.must(err)
	late := r.MustEvents(own)[:len(segments[0].Links)]
	r.MustCustomer(own)
	_, err = r.store.Order(r.Context(), own, segments[0], late)
	r.must(err)
	r.wantEqual("after an Order that came late", r.MustUnordered(), []grahak.MerchantID{own})
}

// orderBesideWriters has several put events in order while many write: the chain
// they make together is that of the events, and nothing is left out.
func orderBesideWriters(r *rig) {
	const writers, each = 8, 15
	merchants := []grahak.MerchantID{own, other}
	for _, m := range merchants {
		r.MustMerchant(m)
	}
	written := make(chan struct{})
	var orderers sync.WaitGroup
	for i := range 3 {
		orderers.Go(func() {
			for last := false; !last; {
				select {
				case <-written:
					last = true
				default:
				}
				// Bounded, because a merchant that is never in order would
				// be listed for ever.
				for range 1000 {
					unordered, err := r.store.Unordered(r.Context())
					if err != nil {
						r.Errorf("Unordered: %v", err)
					}
					if len(unordered) == 0 {
						break
					}
					for _, m := range unordered {
						if _, err := r.order(m, 3+i); err != nil {
							r.Errorf("order: %v", err)
						}
					}
				}
			}
		})
	}
	errs := r.together(writers, func(r *rig, i int) error {
		m := merchants[i%2]
		for range each {
			c := r.customer()
			if err := r.store.CreateCustomer(r.Context(), m, c, r.created(c), nil); err != nil {
				return err
			}
		}
		return nil
	})
	close(written)
	orderers.Wait()
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers})
	r.wantEqual("merchants with events out of order", r.MustUnordered(), []grahak.MerchantID(nil))
	for _, m := range merchants {
		events := r.MustEvents(m)
		whole := r.segment(m, grahak.ChainHead{}, events)
		r.wantEqual("the head of "+string(m), r.MustHead(m), whole.Head())
		segments, err := r.store.Chain(r.Context(), m, 0, all)
		r.must(err)
		var links []grahak.Link
		for _, s := range segments {
			r.wantEqual("where a segment begins", s.First, int64(len(links)+1))
			links = append(links, s.Links...)
		}
		r.wantEqual("the links of "+string(m), links, whole.Links)
	}
}
