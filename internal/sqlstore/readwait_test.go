package sqlstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
)

// A read that finds every connection in use waits for one, but not for ever: it
// is told of an outage, which is over as soon as a connection is free. The clock
// is that of a bubble.
func TestReadsWaitForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
		release := s.HoldReaders()
		start := time.Now()
		err := s.Ping(t.Context())
		var outage *grahak.Error
		if !errors.As(err, &outage) || outage.Code != grahak.CodeUnavailable || outage.RetryIn <= 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want an outage with a time to try again", err)
		}
		if waited := time.Since(start); waited != sqlstore.ReadWait {
			t.Errorf("the read waited %v, want %v", waited, sqlstore.ReadWait)
		}

		// A caller that goes away does not wait so long.
		ctx, cancel := context.WithTimeout(t.Context(), sqlstore.ReadWait/2)
		defer cancel()
		start = time.Now()
		if err := s.Ping(ctx); grahak.CodeOf(err) != grahak.CodeUnavailable || time.Since(start) != sqlstore.ReadWait/2 {
			t.Errorf("a caller that went away was told %v after %v", err, time.Since(start))
		}
		// Writes need no read connection.
		if err := create(t.Context(), s, 1); err != nil {
			t.Errorf("a write beside reads that wait: %v", err)
		}

		answered := make(chan error, 1)
		go func() { answered <- s.Ping(t.Context()) }()
		time.Sleep(sqlstore.ReadWait - time.Nanosecond)
		release()
		if err := <-answered; err != nil {
			t.Errorf("a read that got a connection in time: %v", err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("a read with all connections free: %v", err)
		}
	})
}
