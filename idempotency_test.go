package grahak_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
)

// slowStore is a store that a test keeps waiting before it writes a customer.
type slowStore struct {
	grahak.Store
	reached chan struct{}   // receives a value when a write has come so far
	goOn    <-chan struct{} // lets one go on
}

func (s *slowStore) CreateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, b *grahak.Besides) error {
	s.reached <- struct{}{}
	<-s.goOn
	return s.Store.CreateCustomer(ctx, m, c, e, b)
}

// outcome is what a create came to, and after how long.
type outcome struct {
	id       grahak.CustomerID
	replayed bool
	code     grahak.Code
	retryIn  time.Duration
	took     time.Duration
}

// A request waits for another with the same key for five seconds and no longer; if
// that ends in time, it is answered the same, and if that fails, it does the work
// itself. Nobody else waits.
func TestIdempotencyWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// The first goes on after this time, once another has waited for it since
		// almost the beginning.
		after time.Duration
		// fail has the first fail.
		fail          bool
		first, second outcome
	}{
		{"in time", 4 * time.Second, false, outcome{took: 4 * time.Second}, outcome{replayed: true, took: 3 * time.Second}},
		{"just in time", 6*time.Second - time.Nanosecond, false, outcome{took: 6*time.Second - time.Nanosecond}, outcome{replayed: true, took: 5*time.Second - time.Nanosecond}},
		{"too late", 7 * time.Second, false, outcome{took: 7 * time.Second}, outcome{code: grahak.CodeIdempotencyInProgress, retryIn: time.Second, took: 5 * time.Second}},
		{"the first fails", 4 * time.Second, true, outcome{code: grahak.CodeDuplicateReference, took: 4 * time.Second}, outcome{code: grahak.CodeDuplicateReference, took: 3 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := MustMerchantRig(t)
				if tt.fail {
					r.MustCreate(t, acme, person("a@example.com"))
				}
				goOn := make(chan struct{})
				store := &slowStore{Store: r.store, reached: make(chan struct{}, 8), goOn: goOn}
				s := MustService(t, grahak.Config{Store: store, Sealer: r.sealer, Clock: r.clock})
				create := func(ctx context.Context, m grahak.MerchantID, reference, key string) <-chan outcome {
					done := make(chan outcome, 1)
					begin := time.Now()
					go func() {
						result, err := s.CreateCustomer(ctx, caller(m, grahak.ScopeWrite), person(reference), grahak.WriteOptions{IdempotencyKey: key})
						o := outcome{id: result.Customer.ID, replayed: result.Replayed, code: grahak.CodeOf(err), took: time.Since(begin)}
						if e, ok := err.(*grahak.Error); ok { //nolint:errorlint // It is not wrapped, and its members are looked at.
							o.retryIn = e.RetryIn
						}
						done <- o
					}()
					return done
				}
				first := create(t.Context(), acme, "a@example.com", "k")
				<-store.reached
				pass(time.Second)
				second := create(t.Context(), acme, "a@example.com", "k")
				ctx, cancel := context.WithCancel(t.Context())
				gone := create(ctx, acme, "a@example.com", "k")
				// Another key, and the same of another merchant, come as far as the store.
				free := []<-chan outcome{create(t.Context(), acme, "b@example.com", "other"), create(t.Context(), rival, "a@example.com", "k"), create(t.Context(), acme, "c@example.com", "")}
				for range free {
					<-store.reached
				}
				// Who hangs up waits no longer.
				cancel()
				if got := <-gone; got.code != grahak.CodeUnavailable || got.took != 0 {
					t.Errorf("who hung up: %+v", got)
				}
				pass(tt.after - time.Second)
				close(goOn)
				got := [2]outcome{<-first, <-second}
				for _, done := range free {
					if got := <-done; got.code != "" || got.replayed {
						t.Errorf("who had nobody to wait for: %+v", got)
					}
				}
				if !tt.fail {
					tt.first.id = r.MustCustomer(t, acme, "a@example.com").ID
				}
				if tt.second.replayed {
					tt.second.id = tt.first.id
				}
				if got != [2]outcome{tt.first, tt.second} {
					t.Errorf("got %+v, want %+v and %+v", got, tt.first, tt.second)
				}
			})
		})
	}
}
