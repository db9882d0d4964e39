package grahak

import (
	"context"
	"strings"
	"time"
)

// AuditQuery asks for a page of a merchant's events.
type AuditQuery struct {
	// Limit is how many to return, from 1; more than [MaxPage] is MaxPage.
	Limit int
	// Before is the Next of an earlier page; 0 for the newest.
	Before int64
	// Type is a type, or the beginning of several up to a dot; empty for any.
	Type EventType
	// Actor is who did it, Subject to whom or what; empty for any.
	Actor, Subject string
}

// AuditPage is events of all types, newest first. A page may hold fewer than were asked
// for, even none, and yet have a next one, because a bounded number of events is looked
// through for each.
type AuditPage struct {
	Events []Event
	// Next is the Before of the next page, 0 if there is none.
	Next int64
	// SearchedTo is when the last event was that was looked at for a page with a next
	// one.
	SearchedTo time.Time
	// Head is where the chain has come to; Position 0 if there is none yet.
	Head Anchor
}

// AuditEvents returns a page of the merchant's events. Viewers may. Code:
// [CodeInsufficientScope]; [CodeInvalidField] for a limit below 1 or a position below 0.
func (s *Service) AuditEvents(ctx context.Context, c Caller, q AuditQuery) (AuditPage, error) {
	if err := c.may(scopeViewer); err != nil {
		return AuditPage{}, err
	}
	var v validator
	if q.Limit < 1 {
		v.bad = append(v.bad, FieldCount)
	}
	if q.Before < 0 {
		v.bad = append(v.bad, FieldBefore)
	}
	if err := v.err(); err != nil {
		return AuditPage{}, err
	}
	head, err := s.store.ChainHead(ctx, c.Merchant)
	if err != nil {
		return AuditPage{}, err
	}
	page := AuditPage{Head: Anchor{Position: head.Position, Link: head.Link}}
	limit := min(q.Limit, MaxPage)
	for scanned, before, chunk := 0, q.Before, limit+1; ; chunk = maxEventChunk {
		if err := ctx.Err(); err != nil {
			return AuditPage{}, Unavailable("the caller went away before the events were read", time.Second, err)
		}
		var events []Event
		if before == 0 {
			events, err = s.store.LatestEvents(ctx, c.Merchant, q.Subject, chunk)
		} else {
			events, err = s.store.EventsIn(ctx, c.Merchant, EventRange{Before: before, Subject: q.Subject, Newest: true}, chunk)
		}
		if err != nil {
			return AuditPage{}, err
		}
		for _, e := range events {
			if len(page.Events) == limit {
				page.Next, page.SearchedTo = before, page.Events[limit-1].At
				return page, nil
			}
			// Where many have no position, those that do not fit a page are shown once
			// they have one.
			before = e.Position
			if before == 0 {
				before = head.Position + 1
			}
			if q.chooses(e) {
				page.Events = append(page.Events, e)
			}
			page.SearchedTo = e.At
		}
		scanned += len(events)
		switch {
		case len(events) < chunk:
			page.SearchedTo = time.Time{}
			return page, nil
		case scanned >= s.maxScan:
			page.Next = before
			return page, nil
		}
	}
}

// chooses reports whether q is about events such as e.
func (q AuditQuery) chooses(e Event) bool {
	group, all := strings.CutSuffix(string(q.Type), ".")
	kind, _, _ := strings.Cut(string(e.Type), ".")
	return (q.Type == "" || e.Type == q.Type || all && kind == group) &&
		(q.Actor == "" || e.Actor == q.Actor) &&
		(q.Subject == "" || e.Subject == q.Subject)
}
