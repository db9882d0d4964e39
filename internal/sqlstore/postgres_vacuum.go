package sqlstore

import (
	"context"
	"sync/atomic"

	"grahak"
)

// vacuumEvery is after how many pending events that this process has moved their
// table is vacuumed.
const vacuumEvery = 10_000

// vacuum keeps the table of pending events small. Every event is deleted from it
// within a second, and PostgreSQL's own vacuum comes once a minute at most: what is
// dead until then is in the way of each search, list and pass, which all begin where
// it lies.
type vacuum struct {
	moved   atomic.Int64 // events since the last time
	running atomic.Bool
	refused atomic.Bool // the database does not do that for us
}

// vacuumPending vacuums the table of pending events, beside all else, if enough of it
// is dead: now that the given number of events has been moved. It does not wait.
func (s *Postgres) vacuumPending(moved int) {
	if s.vacuum.moved.Add(int64(moved)) < vacuumEvery || s.vacuum.refused.Load() || !s.vacuum.running.CompareAndSwap(false, true) {
		return
	}
	s.vacuum.moved.Store(0)
	s.lanes.beside(func() {
		defer s.vacuum.running.Store(false)
		err := s.run(context.Background(), operation{slots: s.background, limit: operationLimit}, func(c *postgresConn) error {
			return c.simple("VACUUM (SKIP_LOCKED, TRUNCATE FALSE) pending_events")
		})
		// After an outage, or out of time with a part done, the next one is due as ever.
		if err != nil && grahak.CodeOf(err) != grahak.CodeUnavailable {
			s.vacuum.refused.Store(true)
			s.lanes.log.Warn("the database vacuums the table of pending events only by itself", "error", err)
		}
	})
}
