package sqlstore_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/sqlstore"
)

// TestEventsOfABatch has the writes of two merchants share a transaction, in numbers
// that take several statements, with one among them that looks at the events: it sees those
// before it, and each merchant's events are in the order of its writes.
func TestEventsOfABatch(t *testing.T) {
	const other grahak.MerchantID = "other"
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	if err := createMerchant(t.Context(), s, other); err != nil {
		t.Fatal(err)
	}
	want := map[grahak.MerchantID][]string{acme: {""}, other: {""}}
	release := MustBlock(t, s)
	var outcomes []<-chan error
	for n := range 90 {
		m := acme
		if n%7 == 0 {
			m = other
		}
		c := record(n, 100)
		want[m] = append(want[m], string(c.ID))
		outcomes = append(outcomes, MustQueue(t, s, func() error { return s.CreateCustomer(t.Context(), m, c, created(c), nil) }))
		if n%40 != 39 {
			continue
		}
		outcomes = append(outcomes, MustQueue(t, s, func() error {
			return s.Write(t.Context(), func(tx sqlstore.Tx) error {
				if seen, err := tx.QueryInt(`SELECT count(*) FROM events`); err != nil || seen != n+1+len(want) {
					t.Errorf("after %d creates there are %d events (%v), want those and one of each merchant", n+1, seen, err)
				}
				return nil
			})
		}))
	}
	release()
	for _, outcome := range outcomes {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
	for m, subjects := range want {
		events, err := s.Events(t.Context(), m, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, e := range events {
			got = append(got, e.Subject)
			if e.Position != int64(i+1) {
				t.Errorf("event %d of merchant %s has position %d", i+1, m, e.Position)
			}
		}
		if diff := cmp.Diff(subjects, got); diff != "" {
			t.Errorf("what the events of merchant %s are about (-want +got):\n%s", m, diff)
		}
	}
}
