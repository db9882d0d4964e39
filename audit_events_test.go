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
