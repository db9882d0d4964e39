package grahak

import (
	"context"
	"slices"
	"strings"
	"time"
)

// EventListQuery asks for a page of a merchant's events of customers.
type EventListQuery struct {
	// Limit is how many to return, from 1; more than [MaxPage] is MaxPage.
	Limit int
	// Follow asks for the events after the position After, in order; from 0 on, for
	// those from the oldest that is shown. Otherwise they come newest first, those
	// below the position Before only, if that is not 0.
	Follow bool
	After  int64
	Before int64
	// Types is names of types, with commas between them; all, if it is not given.
	Types Input
	// Customer is the id or the reference of the customer that the events are of. One
	// who was erased has an id only.
	Customer Input
}

// EventPage is events of customers.
type EventPage struct {
	Events []Event
	// Next is the After of what follows, always, or the Before of the next page, 0 for
	// none. A page may hold fewer events than were asked for, even none, and yet have a
	// next one.
	Next int64
}

// customerEvents are the types of events that are shown to merchants.
var customerEvents = []EventType{EventCustomerCreated, EventCustomerUpdated, EventCustomerErased}

// catchUpGrace is for how much longer than it is shown to others an event is shown to
// those who follow positions: who begins with the oldest is not overtaken by time
// before the second page.
const catchUpGrace = time.Hour

var errEventsExpired = Errorf(CodeEventsExpired, "The events behind this position are not available any more: begin again with the oldest, and read the customers anew.")

// CustomerEvents returns a page of the merchant's events of customers, of those that
// are in its chain. Following positions misses nothing and never stands still: Next
// moves on also where nothing fits the query, and is After as it was asked for when
// nothing has happened since. Codes: [CodeInvalidField]; [CodeEventsExpired] for a
// position behind which events are no longer shown, were pruned, or that the
// merchant has not reached, as after a restore.
func (s *Service) CustomerEvents(ctx context.Context, c Caller, q EventListQuery) (EventPage, error) {
	if err := c.may(ScopeRead); err != nil {
		return EventPage{}, err
	}
	l := eventList{Service: s, merchant: c.Merchant, limit: min(q.Limit, MaxPage), types: customerEvents}
	var v validator
	if q.Limit < 1 {
		v.bad = append(v.bad, FieldCount)
	}
	if q.After < 0 {
		v.bad = append(v.bad, FieldCursor)
	}
	if q.Before < 0 || q.Before > 0 && q.Follow {
		v.bad = append(v.bad, FieldBefore)
	}
	if q.Types.Given {
		l.types = nil
		v.require(FieldType, q.Types, func(list string) bool {
			for name := range strings.SplitSeq(list, ",") {
				l.types = append(l.types, EventType(name))
			}
			return !slices.ContainsFunc(l.types, func(t EventType) bool { return !slices.Contains(customerEvents, t) })
		})
	}
	ref := ""
	if q.Customer.Given {
		ref = v.require(FieldCustomer, q.Customer, validReference)
	}
	if err := v.err(); err != nil {
		return EventPage{}, err
	}
	if ref != "" {
		record, err := s.record(ctx, c.Merchant, ref)
		switch CodeOf(err) {
		case "":
			l.customer = string(record.ID)
		case CodeCustomerNotFound:
			l.customer = ref
		default:
			return EventPage{}, err
		}
	}
	head, err := s.store.ChainHead(ctx, c.Merchant)
	if err != nil {
		return EventPage{}, err
	}
	l.head, l.now = head.Position, s.clock.Now()
	if q.Follow {
		return l.follow(ctx, q.After)
	}
	return l.newest(ctx, q.Before)
}

// eventList is an [EventListQuery] that was checked, and what it is asked of.
type eventList struct {
	*Service
	merchant MerchantID
	limit    int
	types    []EventType
	customer string // empty for any
	head     int64  // the last position in the chain
	now      time.Time
}

// follow returns the page after a position.
func (l *eventList) follow(ctx context.Context, after int64) (EventPage, error) {
	if after > l.head {
		return EventPage{}, errEventsExpired
	}
	expired := l.now.Add(-l.catchUp - catchUpGrace)
	if after == 0 {
		expired = time.Time{}
		var err error
		if after, err = l.oldest(ctx); err != nil {
			return EventPage{}, err
		}
	}
	page := EventPage{Next: after}
	for scanned := 0; page.Next < l.head && scanned < l.maxScan && len(page.Events) < l.limit; {
		events, more, err := l.read(ctx, EventRange{After: page.Next, Before: l.head + 1}, scanned)
		if err != nil {
			return EventPage{}, err
		}
		switch {
		case l.customer != "":
			// Of one customer's events it does not show that some are not there.
			first, err := l.store.EventsIn(ctx, l.merchant, EventRange{After: page.Next}, 1)
			if err != nil {
				return EventPage{}, err
			}
			if !follows(first, page.Next, expired) {
				return EventPage{}, errEventsExpired
			}
		case !follows(events, page.Next, expired):
			return EventPage{}, errEventsExpired
		}
		expired = time.Time{}
		scanned += len(events)
		for _, e := range events {
			if len(page.Events) == l.limit {
				return page, nil
			}
			page.Next = e.Position
			if slices.Contains(l.types, e.Type) {
				page.Events = append(page.Events, e)
			}
		}
		if !more && len(page.Events) < l.limit {
			page.Next = l.head
		}
	}
	return page, nil
}

// follows reports whether the first of the events stands just behind a position, and
// is not older than expired.
func follows(events []Event, after int64, expired time.Time) bool {
	return len(events) > 0 && events[0].Position == after+1 && !events[0].At.Before(expired)
}

// oldest returns the position before the first event that is shown. Times are in the
// order of positions, but for the differences of the nodes' clocks.
func (l *eventList) oldest(ctx context.Context) (int64, error) {
	shown := l.now.Add(-l.catchUp)
	first, err := l.store.EventsIn(ctx, l.merchant, EventRange{Before: l.head + 1}, 1)
	if err != nil || len(first) == 0 {
		return l.head, err
	}
	low, high := first[0].Position-1, l.head
	for probe := low; low < high; probe = (low + high) / 2 {
		e, err := l.store.EventsIn(ctx, l.merchant, EventRange{After: probe}, 1)
		if err != nil {
			return 0, err
		}
		if follows(e, probe, shown) {
			high = probe
		} else {
			low = probe + 1
		}
	}
	return low, nil
}

// newest returns the page of the newest events below a position, 0 for all.
func (l *eventList) newest(ctx context.Context, before int64) (EventPage, error) {
	if before == 0 || before > l.head {
		before = l.head + 1
	}
	shown := l.now.Add(-l.catchUp)
	var page EventPage
	for scanned := 0; scanned < l.maxScan; {
		events, more, err := l.read(ctx, EventRange{Before: before, Newest: true}, scanned)
		if err != nil {
			return EventPage{}, err
		}
		scanned += len(events)
		for _, e := range events {
			before = e.Position
			switch {
			case e.At.Before(shown.Add(-catchUpGrace)):
				return page, nil
			case e.At.Before(shown) || !slices.Contains(l.types, e.Type):
			case len(page.Events) == l.limit:
				page.Next = page.Events[l.limit-1].Position
				return page, nil
			default:
				page.Events = append(page.Events, e)
			}
		}
		if !more {
			return page, nil
		}
	}
	page.Next = before
	return page, nil
}

// maxEventChunk is how many events are read at once for a page that takes long.
const maxEventChunk = 1_000

// read returns the next events of a range, and whether there may be more.
func (l *eventList) read(ctx context.Context, r EventRange, scanned int) (events []Event, more bool, err error) {
	// The client of a long look may have gone.
	if err := ctx.Err(); err != nil {
		return nil, false, Unavailable("the caller went away before the events were read", time.Second, err)
	}
	// Most often the first that are there fit.
	chunk := MaxPage + 1
	if scanned > 0 {
		chunk = maxEventChunk
	}
	chunk = min(chunk, l.maxScan)
	r.Subject = l.customer
	events, err = l.store.EventsIn(ctx, l.merchant, r, chunk)
	return events, len(events) == chunk, err
}
