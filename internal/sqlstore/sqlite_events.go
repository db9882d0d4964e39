package sqlstore

import (
	"context"
	"time"

	"grahak"
)

// appendEvent implements [tx].
func (tx *sqliteConn) appendEvent(m grahak.MerchantID, e grahak.Event) error {
	if err := tx.batch.addEvent(tx, m, e); err != nil {
		return err
	}
	return tx.batch.writeEvents(tx)
}

// EventsOf implements [grahak.EventStore]. The positions come first, from the
// index by subject: asked for events in order of position, SQLite would read all
// of the merchant's.
func (s *SQLite) EventsOf(ctx context.Context, m grahak.MerchantID, subject string) ([]grahak.Event, error) {
	return s.events(ctx, `SELECT `+eventColumns+` FROM events WHERE merchant_id = $1
		AND position IN (SELECT position FROM events WHERE merchant_id = $1 AND subject = $2) ORDER BY position`, string(m), subject)
}

// LatestEvents implements [grahak.EventStore].
func (s *SQLite) LatestEvents(ctx context.Context, m grahak.MerchantID, subject string, limit int) ([]grahak.Event, error) {
	return s.EventsIn(ctx, m, grahak.EventRange{Subject: subject, Newest: true}, limit)
}

// eventsAbout implements [engine].
func (s *SQLite) eventsAbout(order string) string {
	return `SELECT ` + eventColumns + ` FROM events WHERE merchant_id = $1 AND position IN
		(SELECT position FROM events WHERE merchant_id = $1 AND subject = $5 AND position > $2 AND position < $3 ` + order + ` LIMIT $4) ` + order
}

// Pending implements [grahak.EventStore]: events have their positions from the
// writer.
func (s *SQLite) Pending(ctx context.Context, m grahak.MerchantID, after int64, limit int) ([]grahak.Event, error) {
	return s.Events(ctx, m, after, limit)
}

// CountPending implements [grahak.EventStore].
func (s *SQLite) CountPending(ctx context.Context, m grahak.MerchantID) (n int64, err error) {
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			head, _, err := chainTotal(r, m)
			if err != nil {
				return err
			}
			return r.queryRow(`SELECT count(*) FROM events WHERE merchant_id = $1 AND position > $2`, string(m), head).Scan(&n)
		})
	})
	return n, err
}

// Beat implements [grahak.Store].
func (s *SQLite) Beat(_ context.Context, self grahak.NodeID, _ []grahak.NodeID) (map[grahak.NodeID]int64, error) {
	if self == "" {
		return nil, nil
	}
	return map[grahak.NodeID]int64{self: 1}, nil
}

// ordered implements [engine].
func (s *SQLite) ordered(tx conn, m grahak.MerchantID) (bool, error) {
	head, last, _, err := chainAndLast(tx, m)
	return last == head, err
}

// Unordered implements [grahak.EventStore].
func (s *SQLite) Unordered(ctx context.Context) (list []grahak.MerchantID, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		list, err = queryAll(r, scanMerchantID, `SELECT merchant_id FROM unordered ORDER BY merchant_id`)
		return err
	})
	return list, err
}

// OrderLag returns how old the oldest event is that is not in its merchant's chain,
// 0 if all are.
func (s *SQLite) OrderLag(ctx context.Context) (lag time.Duration, err error) {
	var oldest time.Time
	err = s.read(ctx, func(r conn) error {
		return r.queryRow(`SELECT min((SELECT at FROM events WHERE merchant_id = u.merchant_id
			AND position > coalesce((SELECT last_position FROM event_chain WHERE merchant_id = u.merchant_id ORDER BY first_position DESC LIMIT 1), 0)
			ORDER BY position LIMIT 1)) FROM unordered u`).Scan(&oldest)
	})
	if err != nil || oldest.IsZero() {
		return 0, err
	}
	return max(0, s.writer.clock.Now().Sub(oldest)), nil
}

// WebhookLag implements [Store].
func (s *SQLite) WebhookLag(ctx context.Context) (time.Duration, error) {
	return s.webhookLag(ctx, s.writer.clock.Now())
}

// Order implements [grahak.EventStore]. It reads no block of the look-up index, so
// that the chain goes on whatever became of one.
func (s *SQLite) Order(ctx context.Context, m grahak.MerchantID, segment grahak.ChainSegment, _ []grahak.Event) (untidy bool, err error) {
	head := segment.Head()
	err = s.do(ctx, func(tx *sqliteConn) error {
		before, err := chainHead(tx, m)
		if err != nil {
			return err
		}
		if before.Position == segment.First-1 {
			if err := insertSegment(tx, m, segment); err != nil {
				return err
			}
			changed, known, err := tx.pending.take(tx, m, segment.First, head.Position)
			if err == nil && !known {
				changed, err = changedKeys(tx, m, segment.First, head.Position)
			}
			if err != nil {
				return err
			}
			keys := make([][]byte, len(changed))
			for i, k := range changed {
				keys[i] = lookupKey(k.value[:], k.id)
			}
			if err := addKeys(tx, m, keys); err != nil {
				return err
			}
		}
		untidy, err = s.tidy(tx, m, 0)
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return untidy, nil
}

// changedKeys returns the look-up keys of the customers that events in a range of
// positions made or gave other values, as the customers are now, in order of the
// events.
func changedKeys(r conn, m grahak.MerchantID, first, last int64) (keys []tailKey, err error) {
	err = r.query(func(row row) error {
		var k tailKey
		var email, mobile grahak.ShortIndex
		if err := row.Scan(&k.position, &k.id, &email, &mobile); err != nil {
			return err
		}
		for _, k.value = range [...]grahak.ShortIndex{email, mobile} {
			if k.value != (grahak.ShortIndex{}) {
				keys = append(keys, k)
			}
		}
		return nil
	}, `SELECT e.position, c.id, c.email_index, c.mobile_index FROM events e JOIN customers c ON c.merchant_id = e.merchant_id AND c.id = e.subject
		WHERE e.merchant_id = $1 AND e.position BETWEEN $2 AND $3
		AND (e.type = 'customer.created' OR e.changed LIKE '%email_address%' OR e.changed LIKE '%mobile_number%') ORDER BY e.position`,
		string(m), first, last)
	return keys, err
}
