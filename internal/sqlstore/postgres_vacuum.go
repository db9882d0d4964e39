package sqlstore

import (
	"context"
	"sync/atomic"

	"grahak"
)

// vacuumEvery is after how many pending events that this process has moved their
// table, and that of the look-up index, are vacuumed.
const vacuumEvery = 10_000

// vacuum keeps the tables small whose rows do not live long. Every pending event is
// deleted within a second, and PostgreSQL's own vacuum comes once a minute at most:
// what is dead until then is in the way of each search, list and pass, which all
// begin where it lies. The look-up index's blocks live until they are merged: while
// many customers come, dead ones would take several times the room of the others.
type vacuum struct {
	moved   atomic.Int64 // events since the last time
	running atomic.Bool
	refused atomic.Bool // the database does not do that for us
}

// vacuumPending vacuums the tables, beside all else, if enough of the pending events
// is dead: now that the given number of events has been moved. It does not wait.
func (s *Postgres) vacuumPending(moved int) {
	if s.vacuum.moved.Add(int64(moved)) < vacuumEvery || s.vacuum.refused.Load() || !s.vacuum.running.CompareAndSwap(false, true) {
		return
	}
	s.vacuum.moved.Store(0)
	s.lanes.beside(func() {
		defer s.vacuum.running.Store(false)
		err := s.run(context.Background(), operation{slots: s.background, limit: operationLimit}, func(c *postgresConn) error {
			return c.simple("VACUUM (SKIP_LOCKED, TRUNCATE FALSE) pending_events, lookup_blocks")
		})
		// After an outage, or out of time with a part done, the next one is due as ever.
		if err != nil && grahak.CodeOf(err) != grahak.CodeUnavailable {
			s.vacuum.refused.Store(true)
			s.lanes.log.Warn("the database vacuums the tables of pending events and of the look-up index only by itself", "error", err)
		}
	})
}
