package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"grahak"
)

var eventTests = []test{
	{"round trip", eventRoundTrip},
	{"positions", eventPositions},
	{"pages", eventPages},
	{"revisions", eventRevisions},
	{"looks", eventLooks},
	{"every change", everyChange},
	{"no change", noChange},
	{"ping", func(r *rig) { r.must(r.store.Ping(r.Context())) }},
}

func eventRoundTrip(r *rig) {
	r.MustMerchant(own)
	want := r.MustEvents(own)
	everyField := []grahak.Field{
		grahak.FieldReference, grahak.FieldMobileNumber, grahak.FieldMobileCountryCode,
		grahak.FieldEmail, grahak.FieldFirstName, grahak.FieldLastName, grahak.FieldMetadata,
	}
	for _, alter := range []func(*grahak.Event){
		func(*grahak.Event) {},
		func(e *grahak.Event) { e.Changed = nil },
		func(e *grahak.Event) { e.Changed = everyField },
		func(e *grahak.Event) { e.Changed = everyField[3:4] },
		func(e *grahak.Event) { e.Subject = "" },
		func(e *grahak.Event) { e.Subject = "203.0.113.0/24" },
		func(e *grahak.Event) { e.Subject = "cst_é'\"\\" },
		func(e *grahak.Event) { e.Actor, e.RequestID = "cli:o'hara", "" },
		func(e *grahak.Event) { e.At = start.Add(time.Microsecond) },
		func(e *grahak.Event) { e.At = time.Unix(0, 0).UTC() },
		func(e *grahak.Event) { e.Revision = 1 << 40 },
	} {
		// An event of a key and an event of a customer, whose subject and revision
		// are not for the test to choose.
		k := r.key(own)
		e := r.event(grahak.EventKeyCreated, r.id("key"), 7, grahak.FieldLastName, grahak.FieldEmail)
		alter(&e)
		r.must(r.store.CreateKey(r.Context(), own, k, e))
		c := r.customer()
		made := r.created(c)
		alter(&made)
		made.Subject, made.Revision = string(c.ID), c.Revision
		r.must(r.store.CreateCustomer(r.Context(), own, c, made, nil))
		want = append(want, placed(e, len(want)+1), placed(made, len(want)+2))
	}
	for range 2 {
		r.wantEqual("the events", r.MustEvents(own), want)
		r.MustOrder(own, 3)
	}
	got, err := r.store.Events(r.Context(), own, 0, all)
	r.must(err)
	r.wantEqual("the events in order", got, want)
}

// placed is e at a position.
func placed(e grahak.Event, position int) grahak.Event {
	e.Position = int64(position)
	return e
}

func eventPages(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustOrder(own, all)
	want := r.MustEvents(own)
	// Written out of the order of their ids and times, beside another
	// merchant's: clocks may be set back, and what is put in order later stands
	// later.
	const n = 20
	customers := make([]grahak.CustomerRecord, n)
	made := make([]grahak.Event, n)
	for i := range made {
		customers[i] = r.customer()
		made[i] = r.created(customers[i])
		made[i].At = start.Add(-time.Duration(i) * time.Second)
	}
	for i := range made {
		e := made[i*7%n]
		r.must(r.store.CreateCustomer(r.Context(), own, customers[i*7%n], e, nil))
		want = append(want, placed(e, len(want)+1))
		r.MustCustomer(other)
		r.MustOrder(own, all)
	}
	last := int64(len(want))
	for _, c := range []struct {
		name  string
		after int64
		limit int
		want  []grahak.Event
	}{
		{"from the first", 0, 5, want[:5]},
		{"after one", 5, 5, want[5:10]},
		{"up to the end", last - 1, 5, want[last-1:]},
		{"after the last", last, 5, nil},
		{"all", 0, all, want},
	} {
		got, err := r.store.Events(r.Context(), own, c.after, c.limit)
		r.must(err)
		r.wantEqual(c.name, got, c.want)
	}
	none, err := r.store.Events(r.Context(), nobody, 0, all)
	r.must(err)
	r.wantEqual("nobody's events", none, []grahak.Event(nil))
}

// eventPositions has many write at once, and two put events in order, and follows
// the positions meanwhile: they have no gap, no reader misses one, and a
// customer's revisions are in order.
func eventPositions(r *rig) {
	r.MustMerchant(own)
	const writers, each = 8, 20
	written, finished := make(chan struct{}), make(chan struct{})
	var orderers sync.WaitGroup
	for i := range 2 {
		r := r.process(i)
		orderers.Go(func() {
			until(written, func() bool {
				_, err := r.order(own, 5+i)
				if err != nil {
					r.Errorf("order: %v", err)
				}
				return err == nil
			})
		})
	}
	go func() {
		defer close(finished)
		r.together(writers, func(r *rig, _ int) error {
			c := r.customer()
			if err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil); err != nil {
				r.Errorf("CreateCustomer: %v", err)
			}
			for range each - 1 {
				c = r.next(c)
				if done, err := r.store.UpdateCustomer(r.Context(), own, c, r.updated(c), nil); err != nil || !done {
					r.Errorf("UpdateCustomer: %t, %v", done, err)
				}
			}
			return nil
		})
		close(written)
		orderers.Wait()
		for {
			if s, err := r.order(own, all); err != nil || s == nil {
				if err != nil {
					r.Errorf("order: %v", err)
				}
				return
			}
		}
	}()
	followed := r.process(1).follow(finished)
	revisions := make(map[string]int64)
	for i, e := range followed {
		if e.Position != int64(i+1) {
			r.Fatalf("event %d of those followed has the position %d", i+1, e.Position)
		}
		if e.Revision != 0 && e.Revision != revisions[e.Subject]+1 {
			r.Errorf("at position %d the revision of %s is %d, want %d", e.Position, e.Subject, e.Revision, revisions[e.Subject]+1)
		}
		revisions[e.Subject] = e.Revision
	}
	if want := 1 + writers*each; len(followed) != want {
		r.Errorf("%d events were followed, want %d", len(followed), want)
	}
}

// eventRevisions changes customers on nodes whose clocks differ: the ids and times
// of their events run backwards. Each customer's are in the order of its revisions
// all the same, however few are put in order at once.
func eventRevisions(r *rig) {
	const customers, revisions = 3, 6
	for _, limit := range []int{1, 2, 5, all} {
		m := grahak.MerchantID(fmt.Sprint("acme-", limit))
		r.MustMerchant(m)
		r.MustOrder(m, all)
		records := make([]grahak.CustomerRecord, customers)
		var events []grahak.Event // in the order of writing
		for i := range records {
			records[i] = r.customer()
		}
		// Ids descend from one write to the next.
		id := r.serial.Add(customers * revisions)
		event := func(e grahak.Event) grahak.Event {
			e.ID = grahak.EventID(fmt.Sprintf("evt_%016d", id-int64(len(events))))
			e.At = start.Add(-time.Duration(len(events)) * time.Second)
			events = append(events, e)
			return e
		}
		for revision := range revisions {
			for i := range records {
				var done bool
				var err error
				switch {
				case revision == 0:
					err, done = r.store.CreateCustomer(r.Context(), m, records[i], event(r.created(records[i])), nil), true
				case revision == revisions-1 && i == 0:
					done, err = r.store.EraseCustomer(r.Context(), m, records[i].ID, records[i].Revision, event(r.erased(records[i])), nil)
				default:
					records[i] = r.next(records[i])
					done, err = r.store.UpdateCustomer(r.Context(), m, records[i], event(r.updated(records[i])), nil)
				}
				r.must(err)
				r.wantEqual("done", done, true)
			}
		}
		for range 2 {
			for _, c := range records {
				var want []grahak.Event
				for _, e := range events {
					if e.Subject == string(c.ID) {
						want = append(want, e)
					}
				}
				got, err := r.store.EventsOf(r.Context(), m, string(c.ID))
				r.must(err)
				for i := range got {
					got[i].Position = 0
				}
				r.wantEqual("the events of one customer", got, want)
			}
			r.MustOrder(m, limit)
		}
		got, err := r.store.Events(r.Context(), m, 1, all)
		r.must(err)
		r.wantEqual("the number of events", len(got), len(events))
		reached := make(map[string]int64)
		for i, e := range got {
			r.wantEqual("the position", e.Position, int64(i+2))
			if reached[e.Subject]++; e.Revision != reached[e.Subject] {
				r.Errorf("at most %d at once: at position %d the revision of %s is %d, want %d", limit, e.Position, e.Subject, e.Revision, reached[e.Subject])
			}
		}
		whole := r.segment(m, grahak.ChainHead{}, r.MustEvents(m))
		r.wantEqual("the head", r.MustHead(m), whole.Head())
	}
}

// follow reads the events as they come until finished is closed and none is
// left.
func (r *rig) follow(finished <-chan struct{}) (followed []grahak.Event) {
	var after int64
	for {
		last := false
		select {
		case <-finished:
			last = true
		default:
		}
		page, err := r.store.Events(r.Context(), own, after, 7)
		r.must(err)
		if len(page) > 0 {
			if page[0].Position <= after {
				r.Fatalf("after position %d came %d", after, page[0].Position)
			}
			followed = append(followed, page...)
			after = page[len(page)-1].Position
		} else if last {
			return followed
		}
	}
}

// everyChange makes each change once. Each writes exactly its event, and moves
// the access version exactly if it decides about access.
func everyChange(r *rig) {
	r.MustMerchant(other)
	ctx := r.Context()
	theirs := r.MustState(other)
	c, created := r.customer(), r.now()
	updated := r.next(c)
	k, successor := r.key(own), r.key(own)
	entry := r.entry("203.0.113.7/32")
	token := r.token(own, c.ID)
	for _, change := range []struct {
		name    string
		event   grahak.Event // none if it has no type
		access  bool
		perform func(grahak.Event) error
	}{
		{"CreateMerchant", r.event(grahak.EventMerchantCreated, "", 0), true, func(e grahak.Event) error {
			return r.store.CreateMerchant(ctx, grahak.Merchant{ID: own, IPMode: grahak.IPModeOff, CreatedAt: created}, r.keyset(own, firstMaster), e)
		}},
		{"CreateKey", r.event(grahak.EventKeyCreated, string(k.ID), 0), true, func(e grahak.Event) error {
			return r.store.CreateKey(ctx, own, k, e)
		}},
		{"CreateCustomer", r.created(c), false, func(e grahak.Event) error {
			return r.store.CreateCustomer(ctx, own, c, e, nil)
		}},
		{"UpdateCustomer", r.updated(updated), false, func(e grahak.Event) error {
			_, err := r.store.UpdateCustomer(ctx, own, updated, e, nil)
			return err
		}},
		{"PutToken", grahak.Event{}, false, func(grahak.Event) error { return r.store.PutToken(ctx, own, token) }},
		{"RotateKeyset", r.event(grahak.EventSealRotated, "version 2", 0), true, func(e grahak.Event) error {
			return r.store.RotateKeyset(ctx, r.rotated(r.MustSeal(own).Keyset), r.now(), e)
		}},
		{"RestartReseal", grahak.Event{}, false, func(grahak.Event) error { return r.store.RestartReseal(ctx, own, 2) }},
		{"Reseal", grahak.Event{}, false, func(grahak.Event) error {
			state := r.MustSeal(own)
			state.After, state.Walking = c.ID, false
			return r.store.Reseal(ctx, state, "", []grahak.CustomerRecord{r.anew(updated, 2)})
		}},
		{"RetireKeyset", r.event(grahak.EventSealRetired, "version 2", 0), true, func(e grahak.Event) error {
			return r.store.RetireKeyset(ctx, r.MustSeal(own).Keyset, e)
		}},
		{"RecordEvent", r.event(grahak.EventCustomerRevealed, string(c.ID), 0), false, func(e grahak.Event) error {
			return r.store.RecordEvent(ctx, own, e)
		}},
		{"EraseCustomer", r.event(grahak.EventCustomerErased, string(c.ID), updated.Revision+1), false, func(e grahak.Event) error {
			return second(r.store.EraseCustomer(ctx, own, c.ID, updated.Revision, e, nil))
		}},
		{"PruneTokens", grahak.Event{}, false, func(grahak.Event) error {
			_, err := r.store.PruneTokens(ctx, token.ExpiresAt.Add(time.Second), 10)
			return err
		}},
		{"TouchKeys", grahak.Event{}, false, func(grahak.Event) error {
			return r.store.TouchKeys(ctx, map[grahak.KeyRef]grahak.KeyUse{{Merchant: own, Key: k.ID}: {At: r.now()}})
		}},
		{"RotateKey", r.event(grahak.EventKeyRotated, string(k.ID), 0), true, func(e grahak.Event) error {
			return r.store.RotateKey(ctx, own, k.ID, start.Add(time.Hour), successor, e)
		}},
		{"RevokeKey", r.event(grahak.EventKeyRevoked, string(k.ID), 0), true, func(e grahak.Event) error {
			return r.store.RevokeKey(ctx, own, k.ID, r.now(), e)
		}},
		{"AddIPEntry", r.event(grahak.EventIPEntryAdded, entry.Prefix.String(), 0), true, func(e grahak.Event) error {
			return r.store.AddIPEntry(ctx, own, entry, e)
		}},
		{"SetIPMode", r.event(grahak.EventIPModeChanged, "report", 0), true, func(e grahak.Event) error {
			return r.store.SetIPMode(ctx, own, grahak.IPModeReport, false, e)
		}},
		{"RemoveIPEntry", r.event(grahak.EventIPEntryRemoved, entry.Prefix.String(), 0), true, func(e grahak.Event) error {
			return r.store.RemoveIPEntry(ctx, own, entry.Prefix, false, e)
		}},
		{"DisableMerchant", r.event(grahak.EventMerchantDisabled, "", 0), true, func(e grahak.Event) error {
			return r.store.DisableMerchant(ctx, own, r.now(), e)
		}},
	} {
		r.MustOrder(own, all)
		version, want := r.MustVersion(), r.MustEvents(own)
		if err := change.perform(change.event); err != nil {
			r.Errorf("%s: %v", change.name, err)
			continue
		}
		if change.event.Type != "" {
			want = append(want, placed(change.event, len(want)+1))
		}
		r.wantEqual(change.name+": the events", r.MustEvents(own), want)
		if moved := r.MustVersion() != version; moved != change.access {
			r.Errorf("%s: the access version moved: %t, want %t", change.name, moved, change.access)
		}
		// Every event is put in order, whatever changed.
		if unordered := slices.Contains(r.MustUnordered(), own); unordered != (change.event.Type != "") {
			r.Errorf("%s: the merchant has events that are not in its chain: %t", change.name, unordered)
		}
	}
	r.wantEqual("what the other merchant has", r.MustState(other), theirs)
}

// noChange asks for what is so already: that is no error, and leaves no event.
func noChange(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	k := r.MustKey(own)
	r.MustEntry(own, "203.0.113.7/32")
	for _, repeated := range []struct {
		name    string
		perform func(at time.Time, e grahak.Event) error
	}{
		{"SetIPMode", func(_ time.Time, e grahak.Event) error {
			return r.store.SetIPMode(ctx, own, grahak.IPModeEnforce, false, e)
		}},
		{"RevokeKey", func(at time.Time, e grahak.Event) error { return r.store.RevokeKey(ctx, own, k.ID, at, e) }},
		{"DisableMerchant", func(at time.Time, e grahak.Event) error { return r.store.DisableMerchant(ctx, own, at, e) }},
	} {
		e := r.event(grahak.EventKeyRevoked, "", 0)
		r.must(repeated.perform(r.now(), e))
		want, version := r.MustState(own), r.MustVersion()
		r.wantEqual(repeated.name+": the last event", want.Events[len(want.Events)-1], placed(e, len(want.Events)))
		r.must(repeated.perform(r.now(), r.event(grahak.EventKeyRevoked, "", 0)))
		r.wantEqual(repeated.name+" again: what the merchant has", r.MustState(own), want)
		r.wantEqual(repeated.name+" again: the access version", r.MustVersion(), version)
	}
}
