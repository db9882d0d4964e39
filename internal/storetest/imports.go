package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"grahak"
)

var importTests = []test{
	{"steps", importSteps},
	{"refused steps", importRefused},
	{"keys and merchants", importCodes},
	{"known customers", importKnown},
	{"another life", importAnotherLife},
	{"lists of brought ids", broughtLists},
	{"a brought id", broughtID},
	{"merchants apart", importsApart},
	{"one import", importRace},
	{"against creates", importsAgainstCreates},
}

// imported returns a customer to import whose id was brought, unless it is empty.
func (r *rig) imported(id string) grahak.CustomerRecord {
	c := r.customer()
	if id != "" {
		c.ID, c.Brought = grahak.CustomerID(id), true
		c.Sealed.Bytes = append([]byte{1, 0xff}, id...)
	}
	return c
}

// making returns the customers as a step makes them.
func (r *rig) making(customers ...grahak.CustomerRecord) []grahak.ImportWrite {
	list := make([]grahak.ImportWrite, len(customers))
	for i, c := range customers {
		list[i] = grahak.ImportWrite{Customer: c, Event: r.created(c)}
	}
	return list
}

// step returns a step of an import that makes the given customers, behind the state
// that is stored.
func (r *rig) step(m grahak.MerchantID, name grahak.Index, customers ...grahak.CustomerRecord) grahak.ImportStep {
	r.Helper()
	before, err := r.store.Import(r.Context(), m, name)
	r.must(err)
	s := grahak.ImportStep{Import: name, Before: before, State: before, Created: r.making(customers...)}
	s.State.Rows += int64(len(customers))
	s.State.Created += int64(len(customers))
	s.State.UpdatedAt = r.now()
	if s.State.StartedAt.IsZero() {
		s.State.StartedAt = s.State.UpdatedAt
	}
	return s
}

// MustImport makes the customers in a step of an import of its own.
func (r *rig) MustImport(m grahak.MerchantID, customers ...grahak.CustomerRecord) {
	r.Helper()
	done, err := r.store.ImportCustomers(r.Context(), m, r.step(m, r.index(), customers...))
	r.must(err)
	if !done {
		r.Fatal("the customers could not be imported")
	}
}

// stored returns c as the store returns it where it does not say whether its id was
// brought.
func stored(c grahak.CustomerRecord) grahak.CustomerRecord {
	c.Brought = false
	return c
}

func importSteps(r *rig) {
	r.MustMerchant(own)
	old := r.MustCustomer(own)
	name := r.index()
	none, err := r.store.Import(r.Context(), own, name)
	r.must(err)
	r.wantEqual("an import that has not begun", none, grahak.ImportState{})

	a, b, c := r.imported(""), r.imported("cth_Abc9"), r.imported("")
	c.Email, c.Mobile = grahak.ShortIndex{}, grahak.ShortIndex{}
	// One that is made and changed at once, and one that is changed twice.
	b2, old2 := r.next(b), r.next(old)
	old3 := r.next(old2)
	step := r.step(own, name, a, b, c)
	for _, next := range []grahak.CustomerRecord{old2, old3, b2} {
		step.Updated = append(step.Updated, grahak.ImportWrite{Customer: next, Event: r.updated(next)})
	}
	step.State.Rows, step.State.Updated, step.State.Skipped, step.State.Rejected = 9, 3, 1, 2
	step.State.LastFaults = []grahak.ImportFault{{Line: 7, Field: grahak.FieldEmail, Reason: "It is not."}, {Line: 1 << 40, Field: grahak.FieldRow, Reason: "“Strange” \u2028"}}
	done, err := r.store.ImportCustomers(r.Context(), own, step)
	r.must(err)
	r.wantEqual("a step is done", done, true)
	got, err := r.store.Import(r.Context(), own, name)
	r.must(err)
	r.wantEqual("the state after it", got, step.State)
	for _, want := range []grahak.CustomerRecord{a, stored(b2), c, old3} {
		r.wantCustomer(own, want)
	}
	for _, subject := range []struct {
		id     grahak.CustomerID
		events []grahak.Event
	}{
		{a.ID, []grahak.Event{step.Created[0].Event}},
		{b.ID, []grahak.Event{step.Created[1].Event, step.Updated[2].Event}},
		{c.ID, []grahak.Event{step.Created[2].Event}},
	} {
		events, err := r.store.EventsOf(r.Context(), own, string(subject.id))
		r.must(err)
		for i := range events {
			events[i].Position = 0
		}
		r.wantEqual("the events of "+string(subject.id), events, subject.events)
	}
	search := func(when string) {
		for _, want := range []struct {
			by   grahak.CustomerIndex
			list []grahak.CustomerRecord
		}{
			{grahak.CustomerIndex{Email: a.Email}, []grahak.CustomerRecord{a}},
			{grahak.CustomerIndex{Email: b.Email}, nil},
			{grahak.CustomerIndex{Email: b2.Email}, []grahak.CustomerRecord{stored(b2)}},
			{grahak.CustomerIndex{Mobile: b2.Mobile}, []grahak.CustomerRecord{stored(b2)}},
			{grahak.CustomerIndex{Email: old2.Email}, nil},
			{grahak.CustomerIndex{Email: old3.Email}, []grahak.CustomerRecord{old3}},
		} {
			list, total, err := r.store.FindCustomers(r.Context(), own, want.by, grahak.CustomerRange{}, all)
			r.must(err)
			r.wantEqual("found "+when, list, want.list)
			r.wantEqual("the total "+when, total, int64(4))
		}
	}
	search("before the events are in order")
	r.MustOrder(own, 2)
	search("afterwards")
	r.wantEqual("events", len(r.MustEvents(own)), 1+1+3+3)

	// An import may begin anew.
	again := r.step(own, name)
	again.State = grahak.ImportState{Rows: 1, Skipped: 1, StartedAt: r.now(), UpdatedAt: r.now(), Done: true}
	done, err = r.store.ImportCustomers(r.Context(), own, again)
	r.must(err)
	r.wantEqual("a step without customers is done", done, true)
	got, err = r.store.Import(r.Context(), own, name)
	r.must(err)
	r.wantEqual("the state after it", got, again.State)
}

// importRefused holds that a step that cannot be done whole is not done at all, and
// that what others write then is as if it had never been.
func importRefused(r *rig) {
	r.MustMerchant(own)
	there, brought := r.MustCustomer(own), r.imported("cst_om2l6ctlptxwxuzj")
	r.MustImport(own, brought)
	name := r.index()
	done, err := r.store.ImportCustomers(r.Context(), own, r.step(own, name, r.imported("")))
	r.must(err)
	r.wantEqual("the first step is done", done, true)

	with := func(change func(c *grahak.CustomerRecord)) func() grahak.ImportStep {
		return func() grahak.ImportStep {
			bad := r.imported("")
			change(&bad)
			return r.step(own, name, r.imported(""), bad, r.imported("cth_"+r.id("x")[2:]))
		}
	}
	changing := func(change func(c *grahak.CustomerRecord)) func() grahak.ImportStep {
		return func() grahak.ImportStep {
			step := r.step(own, name, r.imported(""))
			good, bad := r.next(stored(brought)), r.next(there)
			change(&bad)
			for _, c := range []grahak.CustomerRecord{good, bad} {
				step.Updated = append(step.Updated, grahak.ImportWrite{Customer: c, Event: r.updated(c)})
			}
			return step
		}
	}
	before := func(change func(*grahak.ImportState)) func() grahak.ImportStep {
		return func() grahak.ImportStep {
			step := r.step(own, name, r.imported(""))
			change(&step.Before)
			return step
		}
	}
	twin := r.imported("")
	for _, c := range []struct {
		name string
		step func() grahak.ImportStep
		code grahak.Code // empty: not done
	}{
		{"the reference of another", with(func(c *grahak.CustomerRecord) { c.Reference = there.Reference }), ""},
		{"the id of another", with(func(c *grahak.CustomerRecord) { c.ID = there.ID }), ""},
		{"an id that was brought", with(func(c *grahak.CustomerRecord) { c.ID = brought.ID }), ""},
		{"one twice", func() grahak.ImportStep { return r.step(own, name, twin, r.imported(""), twin) }, ""},
		{"a change of an older revision", changing(func(c *grahak.CustomerRecord) { c.Revision-- }), ""},
		{"a change of a newer revision", changing(func(c *grahak.CustomerRecord) { c.Revision++ }), ""},
		{"a change of nobody", changing(func(c *grahak.CustomerRecord) { c.ID = "cst_nobody" }), ""},
		{"a state from before", before(func(s *grahak.ImportState) { s.Rows-- }), grahak.CodeImportConflict},
		{"a state of another time", before(func(s *grahak.ImportState) { s.UpdatedAt = s.UpdatedAt.Add(time.Microsecond) }), grahak.CodeImportConflict},
		{"no state", before(func(s *grahak.ImportState) { *s = grahak.ImportState{} }), grahak.CodeImportConflict},
		{"a state of an import that has not begun", func() grahak.ImportStep {
			step := r.step(own, name, r.imported(""))
			step.Import = r.index()
			return step
		}, grahak.CodeImportConflict},
	} {
		step := c.step()
		was, state := r.MustState(own), step.Before
		if c.code != "" {
			state, err = r.store.Import(r.Context(), own, step.Import)
			r.must(err)
		}
		done, err := r.store.ImportCustomers(r.Context(), own, step)
		r.wantCode(c.name, err, c.code)
		r.wantEqual(c.name+": done", done, false)
		r.wantEqual(c.name+": what there is", r.MustState(own), was)
		now, err := r.store.Import(r.Context(), own, step.Import)
		r.must(err)
		r.wantEqual(c.name+": the state", now, state)
		r.MustOrder(own, all)
		r.MustCustomer(own)
	}
}

func importCodes(r *rig) {
	r.MustMerchant(own)
	name := r.index()
	_, err := r.store.ImportCustomers(r.Context(), nobody, r.step(nobody, name, r.imported("")))
	r.wantCode("an unknown merchant", err, grahak.CodeMerchantNotFound)
	for _, version := range []int64{0, 2} {
		c, next := r.imported(""), r.next(r.MustCustomer(own))
		c.Sealed.Version, next.Sealed.Version = version, version
		made, changed := r.step(own, name, c), r.step(own, name, r.imported(""))
		changed.Updated = []grahak.ImportWrite{{Customer: next, Event: r.updated(next)}}
		for _, step := range []grahak.ImportStep{made, changed} {
			was := r.MustState(own)
			_, err := r.store.ImportCustomers(r.Context(), own, step)
			r.wantCode(fmt.Sprintf("key version %d", version), err, grahak.CodeKeyRotated)
			r.wantEqual("what there is", r.MustState(own), was)
		}
	}
	state, err := r.store.Import(r.Context(), own, name)
	r.must(err)
	r.wantEqual("the state", state, grahak.ImportState{})
}

func importKnown(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	var customers []grahak.CustomerRecord
	for range 4 {
		customers = append(customers, r.MustCustomer(own))
		r.MustCustomer(other)
	}
	changed := r.next(customers[1])
	r.must(second(r.store.UpdateCustomer(r.Context(), own, changed, r.updated(changed), nil)))
	customers[1] = changed
	r.MustErase(own, customers[2].ID)
	want := func(list []grahak.CustomerRecord, revisions map[grahak.CustomerID]int64, references []grahak.Index, ids ...grahak.CustomerID) {
		r.Helper()
		got, had, err := r.store.KnownCustomers(r.Context(), own, references, ids)
		r.must(err)
		slices.SortFunc(got, func(a, b grahak.CustomerRecord) int { return cmp.Compare(a.ID, b.ID) })
		got = slices.CompactFunc(got, func(a, b grahak.CustomerRecord) bool { return a.ID == b.ID })
		r.wantEqual("known customers", got, list)
		r.wantEqual("revisions", had, revisions)
	}
	for _, ordered := range []bool{false, true} {
		want(nil, nil, nil)
		want(nil, nil, []grahak.Index{r.index(), customers[2].Reference}, "cst_nobody")
		want(customers[:2], nil, []grahak.Index{customers[1].Reference, r.index(), customers[0].Reference})
		want([]grahak.CustomerRecord{customers[0], customers[1], customers[3]},
			map[grahak.CustomerID]int64{customers[1].ID: 2, customers[2].ID: 2, customers[3].ID: 1},
			[]grahak.Index{customers[0].Reference, customers[1].Reference}, customers[1].ID, customers[2].ID, customers[3].ID, "cst_nobody")
		if !ordered {
			r.MustOrder(own, all)
		}
	}
}

// importAnotherLife makes a customer with the id of one that was erased, while
// nothing of that is in order yet. Events stay in the order in which they happened.
func importAnotherLife(r *rig) {
	r.MustMerchant(own)
	first := r.imported("cth_1")
	r.MustImport(own, first)
	r.MustErase(own, first.ID)
	_, revisions, err := r.store.KnownCustomers(r.Context(), own, nil, []grahak.CustomerID{first.ID})
	r.must(err)
	again := r.imported("cth_1")
	again.Revision = revisions[first.ID] + 1
	r.MustImport(own, again)
	r.wantCustomer(own, stored(again))
	r.MustOrder(own, 2)
	events, err := r.store.EventsOf(r.Context(), own, "cth_1")
	r.must(err)
	var types []grahak.EventType
	for _, e := range events {
		types = append(types, e.Type)
	}
	r.wantEqual("events", types, []grahak.EventType{grahak.EventCustomerCreated, grahak.EventCustomerErased, grahak.EventCustomerCreated})
}

// broughtLists reads lists in which ids of both kinds are mixed, in pages of every
// size, by offset and by place.
func broughtLists(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	var made, brought []grahak.CustomerRecord
	for i, id := range []string{
		"cst_om2l6ctlptxwxuzj", "", "cth_Zz9", "", "cst_0000000000000000", "cst_A", "", "cth_zz9", "cst_zzzzzzzzzzzzzzzzzzzzz", "",
	} {
		c := r.imported(id)
		if id != "" {
			c.CreatedAt = start.Add(-time.Duration(i%3) * time.Hour)
			brought = append(brought, c)
		} else {
			made = append(made, c)
		}
		r.MustImport(own, c)
		c.Reference = r.index()
		r.MustImport(other, c)
	}
	slices.Reverse(made)
	slices.SortFunc(brought, func(a, b grahak.CustomerRecord) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	whole := slices.Concat(made, brought)
	for limit := 1; limit <= len(whole)+1; limit++ {
		for offset := range len(whole) + 2 {
			list, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, limit, offset)
			r.must(err)
			r.wantEqual(fmt.Sprintf("%d behind %d", limit, offset), list, whole[min(offset, len(whole)):min(offset+limit, len(whole))])
			r.wantEqual("the total", total, int64(len(whole)))
		}
	}
	// From and Before are of ids that tell the time; times are of all.
	between := func(from, before time.Time) (want []grahak.CustomerRecord) {
		for _, c := range whole {
			if !c.CreatedAt.Before(from) && (before.IsZero() || c.CreatedAt.Before(before)) {
				want = append(want, c)
			}
		}
		return want
	}
	for _, in := range []grahak.CustomerRange{
		{},
		{CreatedFrom: start.Add(-time.Hour)},
		{CreatedBefore: start},
		{CreatedFrom: start.Add(-2 * time.Hour), CreatedBefore: start.Add(-time.Hour + time.Microsecond)},
		{CreatedFrom: start, CreatedBefore: made[1].CreatedAt, Before: made[1].ID},
		{CreatedFrom: made[2].CreatedAt, From: made[2].ID},
	} {
		want := between(in.CreatedFrom, in.CreatedBefore)
		for limit := 1; limit <= len(want)+1; limit++ {
			var got []grahak.CustomerRecord
			for page := in; ; {
				list, _, err := r.store.Customers(r.Context(), own, page, limit, 0)
				r.must(err)
				got = append(got, list...)
				if len(list) < limit || len(got) > len(whole) {
					break
				}
				last := list[limit-1]
				if page.Behind.ID = last.ID; last.Brought {
					page.Behind.Brought = last.CreatedAt
				}
			}
			r.wantEqual(fmt.Sprintf("%+v in pages of %d", in, limit), got, want)
		}
	}
	// Until is a bound for those alone who have such ids among them.
	until := grahak.CustomerRange{Until: made[1].ID}
	list, _, err := r.store.Customers(r.Context(), own, until, all, 0)
	r.must(err)
	r.wantEqual("until an id", list, slices.Concat(made[2:], brought))
	for _, c := range brought {
		r.MustErase(other, c.ID)
	}
	list, _, err = r.store.Customers(r.Context(), other, until, all, 0)
	r.must(err)
	r.wantEqual("how many there are without any", len(list), len(made))
	// The walk of a re-sealing and exports see each once, by id.
	slices.SortFunc(whole, func(a, b grahak.CustomerRecord) int { return cmp.Compare(a.ID, b.ID) })
	for i := range whole {
		whole[i] = stored(whole[i])
	}
	var walked []grahak.CustomerRecord
	for after := grahak.CustomerID(""); ; after = walked[len(walked)-1].ID {
		list, err := r.store.CustomersAfter(r.Context(), own, after, 3)
		r.must(err)
		if walked = append(walked, list...); len(list) < 3 {
			break
		}
	}
	r.wantEqual("the walk", walked, whole)
}

// broughtID does with a customer whose id was brought what is done with others.
func broughtID(r *rig) {
	r.MustMerchant(own)
	longest := "cth_" + fmt.Sprintf("%059d", 7)
	c, twin := r.imported(longest), r.imported("cst_Om2l6ctlptxwxuzj")
	twin.Email, twin.Mobile = c.Email, c.Mobile
	r.MustImport(own, c, twin)
	for _, id := range []grahak.CustomerID{"cst_om2l6ctlptxwxuzj", "cth_7", grahak.CustomerID(longest[:62])} {
		_, err := r.store.Customer(r.Context(), own, id, grahak.Index{})
		r.wantCode("an id that is another", err, grahak.CodeCustomerNotFound)
	}
	token := r.token(own, c.ID)
	r.must(r.store.PutToken(r.Context(), own, token))
	r.wantToken(token)
	next := r.next(stored(c))
	next.Email = c.Email
	e := r.event(grahak.EventCustomerUpdated, longest, 2, grahak.FieldFirstName)
	r.must(second(r.store.UpdateCustomer(r.Context(), own, next, e, nil)))
	r.wantCustomer(own, next)
	find := func(when string, in grahak.CustomerRange, want ...grahak.CustomerRecord) {
		r.Helper()
		for _, by := range []grahak.CustomerIndex{{Email: c.Email}, {Mobile: c.Mobile}} {
			list, _, err := r.store.FindCustomers(r.Context(), own, by, in, all)
			r.must(err)
			r.wantEqual("found "+when, list, want)
		}
	}
	for _, when := range []string{"pending", "in order"} {
		// Bounds of ids that tell the time mean nothing for these.
		narrow := grahak.CustomerRange{From: "cst_0000000000000001", Before: "cst_0000000000000002", CreatedFrom: start}
		find(when, grahak.CustomerRange{}, next, stored(twin))
		find(when, narrow, next, stored(twin))
		narrow.Behind.ID = next.ID
		find(when, narrow, stored(twin))
		narrow.Behind.ID = twin.ID
		find(when, narrow)
		r.MustOrder(own, all)
	}
	list, _, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, all, 0)
	r.must(err)
	next.Brought = true
	r.wantEqual("an update leaves its place", list, []grahak.CustomerRecord{twin, next})
	r.MustErase(own, c.ID)
	r.wantNoToken("a token of the erased", token)
	find("after the erasure", grahak.CustomerRange{}, stored(twin))
	list, _, err = r.store.Customers(r.Context(), own, grahak.CustomerRange{}, all, 0)
	r.must(err)
	r.wantEqual("the list after the erasure", list, []grahak.CustomerRecord{twin})
}

// importsApart does the same import for two merchants.
func importsApart(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	name, c := r.index(), r.imported("cth_same")
	for _, m := range []grahak.MerchantID{own, other} {
		state, err := r.store.Import(r.Context(), m, name)
		r.must(err)
		r.wantEqual("the state before", state, grahak.ImportState{})
		list, revisions, err := r.store.KnownCustomers(r.Context(), m, []grahak.Index{c.Reference}, []grahak.CustomerID{c.ID})
		r.must(err)
		r.wantEqual("known before", list, []grahak.CustomerRecord(nil))
		r.wantEqual("revisions before", revisions, map[grahak.CustomerID]int64{})
		done, err := r.store.ImportCustomers(r.Context(), m, r.step(m, name, c))
		r.must(err)
		r.wantEqual("done", done, true)
	}
	r.MustErase(own, c.ID)
	r.wantCustomer(other, stored(c))
}

// importRace has several do the same import at once: of those that begin at one
// state, one goes on, and nothing is done twice.
func importRace(r *rig) {
	r.MustMerchant(own)
	name := r.index()
	const rounds = 5
	for round := range rounds {
		c := r.imported(fmt.Sprintf("cth_%d", round))
		steps := make([]grahak.ImportStep, parallel)
		for i := range steps {
			steps[i] = r.step(own, name, c, r.imported(""))
			if i%2 == 0 {
				// It meets nobody, so that only the state is in its way.
				steps[i] = r.step(own, name, r.imported(""))
			}
		}
		won := make([]bool, parallel)
		errs := r.together(parallel, func(r *rig, i int) (err error) {
			won[i], err = r.store.ImportCustomers(r.Context(), own, steps[i])
			return err
		})
		winner := -1
		for i, err := range errs {
			switch {
			case won[i] && winner < 0:
				winner = i
			case won[i]:
				r.Fatalf("two did the step of round %d", round)
			case err != nil:
				r.wantCode("a loser", err, grahak.CodeImportConflict)
			}
		}
		if winner < 0 {
			r.Fatalf("nobody did the step of round %d: %v", round, errs)
		}
		state, err := r.store.Import(r.Context(), own, name)
		r.must(err)
		r.wantEqual("the state is the winner's", state, steps[winner].State)
		_, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, 1, 0)
		r.must(err)
		r.wantEqual("customers", total, state.Created)
	}
}

// importsAgainstCreates imports references that others make at the same time, many
// of them, in steps that have them in common. Nobody waits in a circle, every
// reference is made once, and a step that was done made all of its own.
func importsAgainstCreates(r *rig) {
	r.MustMerchant(own)
	const n = 60
	references := make([]grahak.Index, n)
	for i := range references {
		references[i] = r.index()
	}
	won := make([][]grahak.CustomerRecord, parallel)
	errs := r.together(parallel, func(r *rig, i int) error {
		var mine []grahak.CustomerRecord
		for k, reference := range references {
			if i%2 == 0 || k%5 == i%5 {
				c := r.imported("")
				c.Reference = reference
				mine = append(mine, c)
			}
		}
		if i%2 == 0 {
			for _, part := range [][]grahak.CustomerRecord{mine[:n/2], mine[n/2:]} {
				done, err := r.store.ImportCustomers(r.Context(), own, r.step(own, r.index(), part...))
				if err != nil {
					return err
				}
				if done {
					won[i] = append(won[i], part...)
				}
			}
			return nil
		}
		slices.Reverse(mine)
		for _, c := range mine {
			err := r.store.CreateCustomer(r.Context(), own, c, r.created(c), nil)
			switch grahak.CodeOf(err) {
			case "":
				won[i] = append(won[i], c)
			case grahak.CodeDuplicateReference:
			default:
				return err
			}
		}
		return nil
	})
	for _, err := range errs {
		r.must(err)
	}
	made := slices.Concat(won...)
	for _, c := range made {
		r.wantCustomer(own, c)
	}
	list, total, err := r.store.Customers(r.Context(), own, grahak.CustomerRange{}, all, 0)
	r.must(err)
	r.wantEqual("customers", len(list), len(made))
	r.wantEqual("the total", total, int64(len(made)))
	r.wantEqual("events", len(r.MustEvents(own)), len(made)+1)
}
