package grahak_test

import (
	"errors"
	"testing"
	"time"

	"grahak"
)

// Operators read the events that they choose, all of them however many there
// are, in order; nobody else reads any.
func TestEventsAreChosen(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const many = 1500 // more than are read at once
	r.MustCrowd(t, acme, many)
	r.clock.Advance(time.Hour)
	since := r.clock.Now()
	r.MustCreate(t, acme, person("late"))
	r.MustErase(t, acme, "late")
	all := r.MustEvents(t, acme)
	if len(all) != many+3 {
		t.Fatalf("there are %d events", len(all))
	}
	for name, c := range map[string]struct {
		query grahak.EventQuery
		want  []grahak.Event
	}{
		"all":                     {grahak.EventQuery{}, all},
		"after a position":        {grahak.EventQuery{After: 1400}, all[1400:]},
		"after the last":          {grahak.EventQuery{After: many + 3}, nil},
		"of a type":               {grahak.EventQuery{Type: grahak.EventCustomerErased}, all[many+2:]},
		"of a time":               {grahak.EventQuery{Since: since}, all[many+1:]},
		"of a type, and a time":   {grahak.EventQuery{Type: grahak.EventCustomerCreated, Since: since}, all[many+1 : many+2]},
		"of a type, and none":     {grahak.EventQuery{Type: grahak.EventMerchantDisabled}, nil},
		"of a time that is ahead": {grahak.EventQuery{Since: since.Add(time.Hour)}, nil},
	} {
		var got []grahak.Event
		err := r.Events(t.Context(), operator(acme), c.query, func(e grahak.Event) error {
			got = append(got, e)
			return nil
		})
		wantCode(t, err, "")
		diff(t, name, c.want, got)
	}
	enough, calls := errors.New("enough"), 0
	err := r.Events(t.Context(), operator(acme), grahak.EventQuery{}, func(grahak.Event) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls, want the first one's error", err, calls)
	}
	none := func(grahak.Event) error {
		t.Error("an event was shown")
		return nil
	}
	wantCode(t, r.Events(t.Context(), caller(acme, grahak.ScopeWrite), grahak.EventQuery{}, none), grahak.CodeInsufficientScope)
	wantCode(t, r.Events(t.Context(), operator("nobody"), grahak.EventQuery{}, none), grahak.CodeMerchantNotFound)
}

// What an operator does that changes no customer, key or list leaves an event, too, with
// who it was; what is refused, or finds nothing to do, leaves none.
func TestDeedsAreEvents(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	c := r.MustCreate(t, acme, person("first"))
	r.MustCreate(t, acme, person("second"))
	w, _, err := r.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: "https://hooks.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	before := len(r.MustEvents(t, acme))
	asha := grahak.Operator(acme, "operator:asha")
	asha.RequestID = "request-1"
	replay := func(of grahak.WebhookReplay, n int, code grahak.Code) {
		t.Helper()
		got, err := r.ReplayWebhook(t.Context(), asha, w.ID, of)
		wantCode(t, err, code)
		diff(t, "events that are sent again", n, got)
	}
	replay(grahak.WebhookReplay{GivenUp: true}, 0, "")
	replay(grahak.WebhookReplay{From: 2, To: 1}, 0, grahak.CodeInvalidWebhook)
	replay(grahak.WebhookReplay{From: 1, To: 100}, 2, "")
	if _, err := r.TestWebhook(t.Context(), asha, w.ID, new(receivers)); err != nil {
		t.Fatal(err)
	}
	// An export is one event, however many pages it has.
	_, next, err := r.ExportCustomers(t.Context(), asha, "", 1)
	wantCode(t, err, "")
	diff(t, "the next page", c.ID, next)
	_, _, err = r.ExportCustomers(t.Context(), asha, next, 1)
	wantCode(t, err, "")
	_, _, err = r.ExportCustomers(t.Context(), caller(acme, grahak.ScopeWrite), "", 1)
	wantCode(t, err, grahak.CodeInsufficientScope)

	type deed struct {
		Type               grahak.EventType
		Subject, By, Asked string
	}
	var got []deed
	for _, e := range r.MustEvents(t, acme)[before:] {
		got = append(got, deed{e.Type, e.Subject, e.Actor, e.RequestID})
	}
	diff(t, "what is recorded", []deed{
		{grahak.EventWebhookReplayed, string(w.ID), "operator:asha", "request-1"},
		{grahak.EventWebhookTested, string(w.ID), "operator:asha", "request-1"},
		{grahak.EventCustomersExported, "", "operator:asha", "request-1"},
	}, got)
}
