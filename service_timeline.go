package grahak

import (
	"context"
	"slices"
	"time"
)

// Timeline is what happened to a customer lately.
type Timeline struct {
	// Entries are newest first.
	Entries []TimelineEntry
	// More is set if there are older ones.
	More bool
	// Erased is when the customer was erased, zero for one who is there.
	Erased time.Time
	// Tokens are the client auth tokens that are kept, the newest first.
	Tokens []TokenTimes
}

// TimelineEntry is an event of a customer, or a request about the customer, or an
// event with the request that led to it.
type TimelineEntry struct {
	At      time.Time
	Event   *Event         // nil for a request that changed nothing
	Request *RequestRecord // nil if it is not in the request log
}

// TokenTimes says when a token was issued, and until when it is valid.
type TokenTimes struct{ IssuedAt, ExpiresAt time.Time }

// CustomerTimeline returns at most limit of the latest that happened to a customer, who
// may have been erased. Viewers may. Codes: [CodeInsufficientScope];
// [CodeCustomerNotFound] if there is not even an event.
func (s *Service) CustomerTimeline(ctx context.Context, c Caller, id CustomerID, limit int) (Timeline, error) {
	if err := c.may(scopeViewer); err != nil {
		return Timeline{}, err
	}
	if id == "" || !validReference(string(id)) {
		return Timeline{}, errNoCustomer
	}
	events, err := s.store.LatestEvents(ctx, c.Merchant, string(id), limit+1)
	if err != nil {
		return Timeline{}, err
	}
	if len(events) == 0 || !events[0].Type.AboutCustomer() {
		// The events of one who is there may be pruned.
		if _, err := s.recordByID(ctx, c.Merchant, id); err != nil {
			return Timeline{}, err
		}
		events = nil
	}
	requests, err := s.Requests(ctx, c, RequestQuery{Limit: min(limit+1, MaxPage), Customer: id})
	if err != nil {
		return Timeline{}, err
	}
	tokens, err := s.store.Tokens(ctx, c.Merchant, id)
	if err != nil {
		return Timeline{}, err
	}
	t := mergeTimeline(events, requests.Requests, limit)
	t.More = t.More || requests.Next != ""
	// Somebody else may have come with the id since.
	last := slices.IndexFunc(events, func(e Event) bool { return e.Revision > 0 })
	if last >= 0 && events[last].Type == EventCustomerErased {
		t.Erased = events[last].At
	}
	for _, token := range slices.Backward(tokens) {
		t.Tokens = append(t.Tokens, TokenTimes{IssuedAt: token.ExpiresAt.Add(-TokenLifetime), ExpiresAt: token.ExpiresAt})
	}
	return t, nil
}

// mergeTimeline returns the newest of events and requests, which are newest first each.
func mergeTimeline(events []Event, requests []RequestRecord, limit int) Timeline {
	t := Timeline{Entries: make([]TimelineEntry, 0, len(events)+len(requests))}
	of := make(map[string]int, len(requests)) // the entries of requests
	for i, r := range requests {
		of[r.RequestID] = len(t.Entries)
		t.Entries = append(t.Entries, TimelineEntry{At: r.At, Request: &requests[i]})
	}
	for i, e := range events {
		if at, ok := of[e.RequestID]; ok && t.Entries[at].Event == nil {
			t.Entries[at].Event = &events[i]
			continue
		}
		t.Entries = append(t.Entries, TimelineEntry{At: e.At, Event: &events[i]})
	}
	slices.SortStableFunc(t.Entries, func(a, b TimelineEntry) int { return b.At.Compare(a.At) })
	if len(t.Entries) > limit {
		t.Entries, t.More = t.Entries[:limit], true
	}
	return t
}
