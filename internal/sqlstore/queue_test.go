package sqlstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"grahak/internal/sqlstore"
)

// Work that waits behind a batch is helped with when the batch is late, or at once if it
// is a large one. The clock is that of a bubble.
func TestHelp(t *testing.T) {
	for _, test := range []struct {
		name   string
		before int // in the batch
		want   time.Duration
	}{
		{"a small batch", 2, sqlstore.LateAfter},
		{"a large batch", 4, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := sqlstore.NewQueue()
				release := make(chan struct{})
				do := func(fn func()) {
					go func() {
						if err := q.Do(t.Context(), fn); err != nil {
							t.Error(err)
						}
					}()
					synctest.Wait()
				}
				for range test.before {
					do(func() { <-release })
				}
				start := time.Now()
				done := make(chan time.Duration, 1)
				behind := func() { done <- time.Since(start) }
				if test.want == 0 {
					do(behind)
				}
				q.Start(4)
				if test.want > 0 {
					// The batch has begun.
					synctest.Wait()
					do(behind)
				}
				if waited := <-done; waited != test.want {
					t.Errorf("it waited %v, want %v", waited, test.want)
				}
				close(release)
				q.Stop()
			})
		})
	}
}
