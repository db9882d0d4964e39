package storetest

import (
	"slices"
	"sync"

	"grahak"
)

var pruneTests = []test{
	{"events in a range", eventRanges},
	{"a part and all", pruneParts},
	{"refuses what does not end a segment", pruneRefuses},
	{"several pruners beside writers", pruneBesideWriters},
}

// checkpoint returns the checkpoint at head. Its proof is no keyed index, because a
// store cannot tell.
func (r *rig) checkpoint(head grahak.ChainHead) grahak.Checkpoint {
	return grahak.Checkpoint{ChainHead: head, Proof: r.index()}
}

// MustPrune prunes the merchant's events up to the end of a segment, of which there
// must be n, and returns the checkpoint.
func (r *rig) MustPrune(m grahak.MerchantID, head grahak.ChainHead, n int64) grahak.Checkpoint {
	r.Helper()
	c := r.checkpoint(head)
	pruned, err := r.store.PruneEvents(r.Context(), m, c)
	r.must(err)
	r.wantEqual("events that were pruned", pruned, n)
	return c
}

// MustCheckpoint returns the checkpoint of the merchant's chain.
func (r *rig) MustCheckpoint(m grahak.MerchantID) grahak.Checkpoint {
	r.Helper()
	c, err := r.store.ChainCheckpoint(r.Context(), m)
	r.must(err)
	return c
}

// eventRanges asks for events from both ends, of all subjects and of one.
func eventRanges(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	busy, c := r.MustCustomer(own), r.MustCustomer(own)
	for range 4 {
		busy = r.next(busy)
		r.must(second(r.store.UpdateCustomer(r.Context(), own, busy, r.updated(busy), nil)))
		r.MustCustomer(own)
	}
	r.MustErase(own, c.ID)
	r.MustCustomer(other)
	r.MustOrder(own, 3)
	r.MustOrder(other, all)
	events := r.MustEvents(own) // 1 to 12
	at := func(positions ...int64) (list []grahak.Event) {
		for _, p := range positions {
			list = append(list, events[p-1])
		}
		return list
	}
	theirs, gone := string(busy.ID), string(c.ID)
	for _, tt := range []struct {
		name  string
		in    grahak.EventRange
		limit int
		want  []grahak.Event
	}{
		{"all", grahak.EventRange{}, all, events},
		{"between", grahak.EventRange{After: 3, Before: 6}, all, at(4, 5)},
		{"the first between", grahak.EventRange{After: 3, Before: 6}, 1, at(4)},
		{"nothing between", grahak.EventRange{After: 5, Before: 6}, all, nil},
		{"the newest", grahak.EventRange{Newest: true}, 3, at(12, 11, 10)},
		{"newest before", grahak.EventRange{Before: 4, Newest: true}, all, at(3, 2, 1)},
		{"newest between", grahak.EventRange{After: 1, Before: 4, Newest: true}, 1, at(3)},
		{"beyond the end", grahak.EventRange{After: 12}, all, nil},
		{"before the first", grahak.EventRange{Before: 1, Newest: true}, all, nil},
		{"of a subject", grahak.EventRange{Subject: theirs}, all, at(2, 4, 6, 8, 10)},
		{"of a subject, the newest", grahak.EventRange{Subject: theirs, Newest: true}, 2, at(10, 8)},
		{"of a subject, between", grahak.EventRange{Subject: theirs, After: 2, Before: 10}, 2, at(4, 6)},
		{"of a subject, newest between", grahak.EventRange{Subject: theirs, After: 2, Before: 10, Newest: true}, 2, at(8, 6)},
		{"of one who is gone", grahak.EventRange{Subject: gone}, all, at(3, 12)},
		{"of nobody", grahak.EventRange{Subject: "cst_nobody"}, all, nil},
	} {
		got, err := r.store.EventsIn(r.Context(), own, tt.in, tt.limit)
		r.must(err)
		r.wantEqual(tt.name, got, tt.want)
	}
	none, err := r.store.EventsIn(r.Context(), other, grahak.EventRange{Subject: theirs}, all)
	r.must(err)
	r.wantEqual("of another merchant's subject", none, []grahak.Event(nil))
}

// pruneParts prunes the beginning of a chain and then all of it. Nothing but the
// events and their part of the chain goes, and what comes next follows on it.
func pruneParts(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustCustomer(other)
	r.MustOrder(other, all)
	kept, gone := r.MustCustomer(own), r.MustCustomer(own)
	r.MustErase(own, gone.ID)
	r.MustOrder(own, 2) // 1 and 2, 3 and 4
	late := r.MustCustomer(own)
	r.MustOrder(own, all)       // 5
	last := r.MustCustomer(own) // 6, which is not in the chain
	theirs := r.MustState(other)
	before := r.MustState(own)
	r.wantEqual("the checkpoint before anything was pruned", before.Pruned, grahak.Checkpoint{})

	c := r.MustPrune(own, before.Chain[1].Head(), 4)
	want := before
	want.Events, want.Chain, want.Pruned = before.Events[4:], before.Chain[2:], c
	r.wantEqual("what the merchant has without its first events", r.MustState(own), want)
	for _, subject := range []grahak.CustomerID{kept.ID, gone.ID} {
		none, err := r.store.EventsOf(r.Context(), own, string(subject))
		r.must(err)
		r.wantEqual("the events of a customer that were pruned", none, []grahak.Event(nil))
	}
	oldest, err := r.store.EventsIn(r.Context(), own, grahak.EventRange{Newest: true}, all)
	r.must(err)
	r.wantEqual("the oldest event that is left", oldest[len(oldest)-1], before.Events[4])
	const customers = int64(3)
	whole := func(what string) {
		r.Helper()
		counted, recorded, err := r.store.CountCustomers(r.Context(), own)
		r.must(err)
		r.wantEqual(what+": customers", [2]int64{counted, recorded}, [2]int64{customers, customers})
		for _, c := range []grahak.CustomerRecord{kept, late, last} {
			found, total, err := r.store.FindCustomers(r.Context(), own, grahak.CustomerIndex{Mobile: c.Mobile}, grahak.CustomerRange{}, all)
			r.must(err)
			r.wantEqual(what+": the customer that is found", found, []grahak.CustomerRecord{c})
			r.wantEqual(what+": the total", total, customers)
		}
	}
	whole("a part was pruned")

	r.MustOrder(own, all) // 6
	head := r.MustHead(own)
	r.wantEqual("the head", head.Position, int64(6))
	c = r.MustPrune(own, head, 2)
	got := r.MustState(own)
	want = state{Merchant: before.Merchant, Seal: before.Seal, Customers: before.Customers, Total: customers, Pruned: c}
	r.wantEqual("what the merchant has when all was pruned", got, want)
	r.wantEqual("the head when all was pruned", r.MustHead(own), head)
	whole("all was pruned")
	r.wantEqual("merchants with events out of order", r.MustUnordered(), []grahak.MerchantID(nil))

	// Positions go on, in the chain and before it.
	r.MustErase(own, late.ID)
	late = r.MustCustomer(own)
	r.wantEqual("events that are not in order", positions(r.MustEvents(own)), []int64{7, 8})
	whole("all was pruned, and more came")
	added := r.MustOrder(own, 1)
	r.wantEqual("where the next segment begins", added[0].First, int64(7))
	r.wantEqual("its link", added[0].Links[0], r.MustEvents(own)[0].Link(own, head.Link))
	r.wantEqual("the head at last", r.MustHead(own), added[1].Head())
	whole("more is in order")
	c = r.MustPrune(own, added[0].Head(), 1)
	r.wantEqual("the last checkpoint", r.MustCheckpoint(own), c)
	r.wantEqual("the events that are left", positions(r.MustEvents(own)), []int64{8})
	r.wantEqual("what the other merchant has", r.MustState(other), theirs)
}

// positions returns those of events.
func positions(events []grahak.Event) (list []int64) {
	for _, e := range events {
		list = append(list, e.Position)
	}
	return list
}

// pruneRefuses asks to prune up to where no segment ends: nothing changes, and none
// is an error, because somebody else may have come first.
func pruneRefuses(r *rig) {
	r.MustMerchant(own)
	for range 5 {
		r.MustCustomer(own)
	}
	r.MustOrder(own, 3) // 1 to 3, 4 to 6
	r.MustCustomer(own) // 7, which is not in the chain
	refuse := func(name string, head grahak.ChainHead) {
		r.Helper()
		state := r.MustState(own)
		r.MustPrune(own, head, 0)
		r.wantEqual(name, r.MustState(own), state)
	}
	segments := r.MustState(own).Chain
	first, last := segments[0].Head(), segments[1].Head()
	at := func(head grahak.ChainHead, change func(*grahak.ChainHead)) grahak.ChainHead {
		change(&head)
		return head
	}
	within := grahak.ChainHead{Position: 5, Link: segments[1].Links[1], Customers: 4}
	refuse("nothing", grahak.ChainHead{})
	refuse("within a segment", within)
	refuse("another link", at(first, func(h *grahak.ChainHead) { h.Link[0] ^= 1 }))
	refuse("another number of customers", at(first, func(h *grahak.ChainHead) { h.Customers++ }))
	refuse("another position", at(first, func(h *grahak.ChainHead) { h.Position++ }))
	refuse("what is not in the chain", at(last, func(h *grahak.ChainHead) { h.Position = 7 }))
	r.MustPrune(own, first, 3)
	refuse("what was pruned", first)
	refuse("within a segment behind a checkpoint", within)
	r.MustPrune(own, last, 3)
	refuse("what was pruned before", first)
	refuse("what was pruned, all of it", last)
	r.wantEqual("nobody's checkpoint", r.MustCheckpoint(nobody), grahak.Checkpoint{})
}

// pruneBesideWriters has several prune the same and one put events in order while
// many write: every event is pruned once or there at the end, and whoever reads from
// a position on sees no gap but one that the checkpoint explains.
func pruneBesideWriters(r *rig) {
	const writers, each = 6, 15
	r.MustMerchant(own)
	written := make(chan struct{})
	var workers sync.WaitGroup
	var mu sync.Mutex
	var pruned int64
	work := func(r *rig, step func(*rig) error) {
		workers.Go(func() {
			until(written, func() bool {
				err := step(r)
				if err != nil {
					r.Errorf("%v", err)
				}
				return err == nil
			})
		})
	}
	work(r.process(0), func(r *rig) error { return second(r.order(own, 4)) })
	for i := range 3 {
		work(r.process(i), func(r *rig) error {
			segments, err := r.store.Chain(r.Context(), own, 0, 3)
			if err != nil || len(segments) < 3 {
				return err
			}
			n, err := r.store.PruneEvents(r.Context(), own, r.checkpoint(segments[1].Head()))
			mu.Lock()
			defer mu.Unlock()
			pruned += n
			return err
		})
	}
	work(r.process(1), func(r *rig) error {
		events, err := r.store.Events(r.Context(), own, 0, 5)
		if err != nil || len(events) == 0 {
			return err
		}
		for i, e := range events {
			if e.Position != events[0].Position+int64(i) {
				r.Errorf("the events at positions %d have a gap", positions(events))
			}
		}
		if c, err := r.store.ChainCheckpoint(r.Context(), own); err != nil || c.Position < events[0].Position-1 {
			r.Errorf("the first event stands at position %d, and the checkpoint at %d (%v)", events[0].Position, c.Position, err)
		}
		return nil
	})
	errs := r.together(writers, func(r *rig, _ int) error {
		for range each {
			c := r.customer()
			if err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil); err != nil {
				return err
			}
		}
		return nil
	})
	close(written)
	workers.Wait()
	r.wantOutcomes(errs, map[grahak.Code]int{"": writers})
	r.MustOrder(own, all)
	checkpoint, events := r.MustCheckpoint(own), r.MustEvents(own)
	r.wantEqual("events that were pruned", pruned, checkpoint.Position)
	r.wantEqual("events that there were", checkpoint.Position+int64(len(events)), int64(1+writers*each))
	r.wantEqual("customers", r.MustHead(own).Customers, int64(writers*each))
	link := checkpoint.Link
	for _, e := range events {
		link = e.Link(own, link)
	}
	r.wantEqual("the link at the end", r.MustHead(own).Link, link)
	if !slices.IsSorted(positions(events)) {
		r.Errorf("the positions are %d", positions(events))
	}
}
