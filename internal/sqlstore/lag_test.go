package sqlstore_test

import (
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// The lag is that of the oldest event behind any merchant's chain.
func TestOrderLag(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s := MustOpen(t, sqlstore.SQLiteConfig{Clock: clock})
	wantLag := func(want time.Duration) {
		t.Helper()
		got, err := s.OrderLag(t.Context())
		// Times are stored in whole microseconds.
		if err != nil || got.Truncate(time.Millisecond) != want {
			t.Errorf("the lag is %v, %v, want %v", got, err, want)
		}
	}
	order := func(m grahak.MerchantID) {
		t.Helper()
		if _, err := s.Order(t.Context(), m, grahak.ChainSegment{First: 1, Links: make([]grahak.Link, 1)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantLag(0)
	if _, err := s.MasterKeyID(t.Context(), "mk_test"); err != nil {
		t.Fatal(err)
	}
	for _, m := range []grahak.MerchantID{"first", "second"} {
		err := s.CreateMerchant(t.Context(), grahak.Merchant{ID: m, IPMode: grahak.IPModeOff, CreatedAt: clock.Now()},
			grahak.Keyset{Merchant: m, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}},
			grahak.Event{ID: grahak.EventID("evt_" + m), Type: grahak.EventMerchantCreated, At: clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		clock.Advance(2 * time.Second)
	}
	wantLag(4 * time.Second)
	order("first")
	wantLag(2 * time.Second)
	// A clock that was set back makes no event younger than none.
	clock.Advance(-time.Hour)
	wantLag(0)
	clock.Advance(time.Hour)
	order("second")
	wantLag(0)
	MustClose(t, s)
	if _, err := s.OrderLag(t.Context()); err == nil {
		t.Error("a closed store tells its lag")
	}
}
