package storetest

import (
	"fmt"
	"slices"

	"grahak"
)

// eventLooks records looks at customers between their changes. They change nothing of
// how the customers are found, counted and told of, before and after events are put in
// order, however few at once.
func eventLooks(r *rig) {
	for _, limit := range []int{1, 2, 5, all} {
		m := grahak.MerchantID(fmt.Sprint("looked-", limit))
		r.MustMerchant(m)
		r.MustOrder(m, all)
		var events []grahak.Event // in the order of writing
		event := func(e grahak.Event) grahak.Event {
			events = append(events, e)
			return e
		}
		look := func(c grahak.CustomerRecord) {
			r.must(r.store.RecordEvent(r.Context(), m, event(r.event(grahak.EventCustomerRevealed, string(c.ID), 0))))
		}
		a, b := r.customer(), r.customer()
		for _, c := range []grahak.CustomerRecord{a, b} {
			r.must(r.store.CreateCustomer(r.Context(), m, c, event(r.created(c)), nil))
			look(c)
		}
		a = r.next(a)
		_, err := r.store.UpdateCustomer(r.Context(), m, a, event(r.updated(a)), nil)
		r.must(err)
		look(a)
		look(a)
		_, err = r.store.EraseCustomer(r.Context(), m, b.ID, b.Revision, event(r.erased(b)), nil)
		r.must(err)
		ghost := r.customer()
		look(ghost)

		for _, name := range []string{"pending", "in order"} {
			newest := slices.Clone(events)
			slices.Reverse(newest)
			for _, c := range []struct {
				subject string
				limit   int
			}{{"", 3}, {"", len(events)}, {string(a.ID), all}, {string(a.ID), 2}, {string(b.ID), all}, {string(ghost.ID), all}, {"cst_unknown", all}} {
				var want []grahak.Event
				for _, e := range newest {
					if len(want) < c.limit && (c.subject == "" || e.Subject == c.subject) {
						want = append(want, e)
					}
				}
				got, err := r.store.LatestEvents(r.Context(), m, c.subject, c.limit)
				r.must(err)
				for i := range got {
					got[i].Position = 0
				}
				r.wantEqual(fmt.Sprintf("%s: the latest %d of %q", name, c.limit, c.subject), got, want)
			}
			found, total, err := r.store.FindCustomers(r.Context(), m, grahak.CustomerIndex{Email: a.Email}, grahak.CustomerRange{}, all)
			r.must(err)
			r.wantEqual(name+": found", found, []grahak.CustomerRecord{a})
			r.wantEqual(name+": the total", total, int64(1))
			_, revisions, err := r.store.KnownCustomers(r.Context(), m, nil, []grahak.CustomerID{a.ID, b.ID, ghost.ID})
			r.must(err)
			r.wantEqual(name+": the last revisions", revisions, map[grahak.CustomerID]int64{a.ID: 2, b.ID: 2})
			r.MustOrder(m, limit)
		}
		got, err := r.store.Events(r.Context(), m, 1, all)
		r.must(err)
		for i := range got {
			r.wantEqual("the position", got[i].Position, int64(i+2))
			got[i].Position = 0
		}
		r.wantEqual("the events in order", got, events)
		r.wantEqual("the head", r.MustHead(m), r.segment(m, grahak.ChainHead{}, r.MustEvents(m)).Head())
		counted, recorded, err := r.store.CountCustomers(r.Context(), m)
		r.must(err)
		r.wantEqual("the customers counted", [2]int64{counted, recorded}, [2]int64{1, 1})
	}
}
