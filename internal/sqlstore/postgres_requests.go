package sqlstore

import (
	"context"
	"slices"

	"grahak"
)

// Requests returns the request log that the database keeps.
func (s *Postgres) Requests() grahak.RequestStore { return requestLog{postgresRequests{s}} }

// postgresRequests is a request log in the database of the store.
type postgresRequests struct{ *Postgres }

// readRequests implements [requestEngine].
func (s postgresRequests) readRequests(ctx context.Context, fn func(conn) error) error {
	return s.read(ctx, fn)
}

// writeRequests implements [requestEngine].
func (s postgresRequests) writeRequests(ctx context.Context, fn func(conn) error) error {
	return s.run(ctx, operation{slots: s.background, limit: operationLimit}, func(c *postgresConn) error {
		return c.transact(func(t tx) error {
			if err := c.simple("SET LOCAL synchronous_commit = off"); err != nil {
				return err
			}
			return fn(t)
		})
	})
}

// putRequests implements [requestEngine], in one round trip for each transaction.
func (s postgresRequests) putRequests(ctx context.Context, statements []write) error {
	return s.run(ctx, operation{slots: s.background, limit: operationLimit}, func(c *postgresConn) error {
		for batch := range slices.Chunk(statements, maxDelayed) {
			relaxed := []write{{query: `SELECT set_config('synchronous_commit', 'off', true)`}}
			if err := c.runTogether(append(relaxed, batch...)); err != nil {
				return err
			}
		}
		return nil
	})
}
