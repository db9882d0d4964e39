package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"grahak"
)

// Pending implements [grahak.EventStore]. Events are in the order of their ids,
// which begin with a time; what commits late is ordered late. Where that takes a
// customer's events out of the order of its revisions, they change places.
func (s *Postgres) Pending(ctx context.Context, m grahak.MerchantID, after int64, limit int) (list []grahak.Event, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		return c.snapshot(func() error {
			list, err = pendingEvents(c, m, limit)
			return err
		})
	})
	inRevisionOrder(list)
	for i := range list {
		list[i].Position = after + int64(i) + 1
	}
	return list, err
}

// pendingEvent is the columns of an event that has no position yet.
const pendingEvent = `0::bigint, id, type, subject, revision, changed, actor, request_id, at`

// pendingEvents returns the first events in the order of their ids and, beyond limit,
// those that a customer's revisions among them need. c reads as of one moment:
// otherwise a revision could be missed that was written between two looks, and a
// later one be seen.
func pendingEvents(c conn, m grahak.MerchantID, limit int) ([]grahak.Event, error) {
	list, err := queryAll(c, scanEvent, `SELECT `+pendingEvent+` FROM pending_events WHERE merchant_id = $1 ORDER BY id LIMIT $2`, string(m), limit)
	if err != nil || len(list) < limit {
		return list, err
	}
	// An earlier revision of a customer may stand behind the limit.
	var subjects []string
	latest := make(map[string]int64)
	for _, e := range list {
		if e.Revision > 1 {
			subjects = append(subjects, e.Subject)
			latest[e.Subject] = max(latest[e.Subject], e.Revision)
		}
	}
	if len(subjects) == 0 {
		return list, nil
	}
	rest, err := queryAll(c, scanEvent, `SELECT `+pendingEvent+` FROM pending_events WHERE merchant_id = $1 AND id > $2 AND subject = ANY($3) ORDER BY id`,
		string(m), string(list[len(list)-1].ID), subjects)
	for _, e := range rest {
		if e.Revision > 0 && e.Revision < latest[e.Subject] {
			list = append(list, e)
		}
	}
	return list, err
}

// CountPending implements [grahak.EventStore].
func (s *Postgres) CountPending(ctx context.Context, m grahak.MerchantID) (n int64, err error) {
	err = s.read(ctx, func(c conn) error {
		return c.queryRow(`SELECT count(*) FROM pending_events WHERE merchant_id = $1`, string(m)).Scan(&n)
	})
	return n, err
}

// EventsOf implements [grahak.EventStore].
func (s *Postgres) EventsOf(ctx context.Context, m grahak.MerchantID, subject string) (list []grahak.Event, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		return c.snapshot(func() error {
			list, err = queryAll(c, scanEvent, `SELECT `+eventColumns+` FROM events WHERE merchant_id = $1 AND subject = $2 ORDER BY position`, string(m), subject)
			if err != nil {
				return err
			}
			rest, err := queryAll(c, scanEvent, `SELECT `+pendingEvent+` FROM pending_events WHERE merchant_id = $1 AND subject = $2 ORDER BY id`, string(m), subject)
			inRevisionOrder(rest)
			list = append(list, rest...)
			return err
		})
	})
	return list, err
}

// LatestEvents implements [grahak.EventStore].
func (s *Postgres) LatestEvents(ctx context.Context, m grahak.MerchantID, subject string, limit int) (list []grahak.Event, err error) {
	pending, args := `SELECT `+pendingEvent+` FROM pending_events WHERE merchant_id = $1 ORDER BY id DESC LIMIT $2`, []any{string(m), limit}
	if subject != "" {
		pending, args = `SELECT `+pendingEvent+` FROM pending_events WHERE merchant_id = $1 AND subject = $3 ORDER BY id DESC LIMIT $2`, append(args, subject)
	}
	ordered, among := s.eventsIn(m, grahak.EventRange{Subject: subject, Newest: true}, limit)
	err = s.vitalRead(ctx, func(c conn) error {
		return c.snapshot(func() error {
			if list, err = queryAll(c, scanEvent, pending, args...); err != nil {
				return err
			}
			slices.Reverse(list)
			inRevisionOrder(list)
			slices.Reverse(list)
			rest, err := queryAll(c, scanEvent, ordered, among...)
			list = append(list, rest...)
			list = list[:min(limit, len(list))]
			return err
		})
	})
	return list, err
}

// eventsAbout implements [engine]. A planner that may choose would read a merchant's
// events in order, to find those of the subject among them.
func (s *Postgres) eventsAbout(order string) string {
	return `WITH about AS MATERIALIZED (SELECT ` + eventColumns + ` FROM events WHERE merchant_id = $1 AND subject = $5)
		SELECT ` + eventColumns + ` FROM about WHERE position > $2 AND position < $3 ` + order + ` LIMIT $4`
}

const (
	// sampledEvents is how many pending events are looked at for their merchants at
	// once. If there are more, the next look begins behind the last of the merchants,
	// so that one with many events, or whose events cannot be put in order, does not
	// hide the others.
	sampledEvents = 10_000
	// maxSamples bounds the looks. The merchants behind them are seen once those
	// before them are in order.
	maxSamples = 64
)

// Unordered implements [grahak.EventStore].
func (s *Postgres) Unordered(ctx context.Context) (list []grahak.MerchantID, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		if list, err = queryAll(c, scanMerchantID, `SELECT merchant_id FROM unordered`); err != nil {
			return err
		}
		var last grahak.MerchantID
		for range maxSamples {
			events := 0
			err := c.query(func(row row) error {
				var n int
				err := row.Scan((*string)(&last), &n)
				list = append(list, last)
				events += n
				return err
			}, `SELECT merchant_id, count(*) FROM (SELECT merchant_id FROM pending_events WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2) AS sample
				GROUP BY merchant_id ORDER BY merchant_id`, string(last), sampledEvents)
			if err != nil || events < sampledEvents {
				return err
			}
		}
		return nil
	})
	slices.Sort(list)
	return slices.Compact(list), err
}

// OrderLag implements [Store]. It looks at all pending events.
func (s *Postgres) OrderLag(ctx context.Context) (lag time.Duration, err error) {
	var oldest time.Time
	err = s.read(ctx, func(c conn) error {
		return c.queryRow(`SELECT min(at) FROM pending_events`).Scan(&oldest)
	})
	if err != nil || oldest.IsZero() {
		return 0, err
	}
	return max(0, s.lanes.clock.Now().Sub(oldest)), nil
}

// WebhookLag implements [Store].
func (s *Postgres) WebhookLag(ctx context.Context) (time.Duration, error) {
	return s.webhookLag(ctx, s.lanes.clock.Now())
}

// ordered implements [engine].
func (s *Postgres) ordered(tx conn, m grahak.MerchantID) (bool, error) {
	// Without an order, a planner that takes the merchant for one of few reads the
	// events of the others to find one of its own.
	var pending int
	err := tx.queryRow(`SELECT count(*) FROM (SELECT 1 FROM pending_events WHERE merchant_id = $1 ORDER BY id LIMIT 1) AS pending`, string(m)).Scan(&pending)
	return pending == 0, err
}

// moveEvents gives events their positions, and returns those that changed what
// their customers are searched by. The range is that of their ids: a planner that
// takes what is pending for little would compare all of it with each of them.
const moveEvents = `WITH places AS (SELECT * FROM unnest($2::bytea[], $3::bigint[]) AS places (id, position)),
	moved AS (DELETE FROM pending_events AS p USING places WHERE p.merchant_id = $1 AND p.id >= $4 AND p.id <= $5 AND p.id = places.id
		RETURNING p.merchant_id, places.position, p.id, p.type, p.subject, p.revision, p.changed, p.actor, p.request_id, p.at, p.reindex, p.old_email, p.old_mobile),
	kept AS (INSERT INTO events (merchant_id, position, id, type, subject, revision, changed, actor, request_id, at)
		SELECT merchant_id, position, id, type, subject, revision, changed, actor, request_id, at FROM moved ORDER BY position)
	SELECT subject, reindex, old_email, old_mobile FROM moved`

// Order implements [grahak.EventStore].
func (s *Postgres) Order(ctx context.Context, m grahak.MerchantID, segment grahak.ChainSegment, events []grahak.Event) (untidy bool, err error) {
	ids, positions := make([]string, len(events)), make([]int64, len(events))
	for i, e := range events {
		ids[i], positions[i] = string(e.ID), e.Position
	}
	err = s.write(ctx, func(tx tx) error {
		if err := tx.lockIndex(m); err != nil {
			return err
		}
		before, _, err := chainTotal(tx, m)
		if err != nil {
			return err
		}
		if before == segment.First-1 {
			if err := s.moveEvents(tx, m, segment, ids, positions); err != nil {
				return err
			}
		}
		if untidy, err = s.tidy(tx, m, 0); err == nil && untidy {
			err = noteUnordered(tx, m)
		}
		return err
	})
	if err == nil {
		s.vacuumPending(len(events))
	}
	return untidy, err
}

// moveEvents appends a segment to the merchant's chain, moves its events behind
// those that have positions, and brings the look-up index up to date with them.
func (s *Postgres) moveEvents(tx tx, m grahak.MerchantID, segment grahak.ChainSegment, ids []string, positions []int64) error {
	if err := insertSegment(tx, m, segment); err != nil {
		return err
	}
	var changed []string       // customers
	stale := make([][]byte, 0) // keys
	moved := 0
	err := tx.query(func(row row) error {
		var id string
		var reindex bool
		var email, mobile []byte
		if err := row.Scan(&id, &reindex, &email, &mobile); err != nil {
			return err
		}
		moved++
		if reindex {
			changed = append(changed, id)
		}
		for _, value := range [][]byte{email, mobile} {
			if value != nil {
				stale = append(stale, lookupKey(value, id))
			}
		}
		return nil
	}, moveEvents, string(m), ids, positions, slices.Min(ids), slices.Max(ids))
	if err != nil {
		return err
	}
	if moved != len(ids) {
		// They were ordered by somebody else, or altered.
		return fmt.Errorf("%d of %d pending events of merchant %s have gone", len(ids)-moved, len(ids), m)
	}
	keys, err := currentKeys(tx, m, changed)
	if err != nil {
		return err
	}
	held := make(map[string]bool, len(keys))
	for _, key := range keys {
		held[string(key)] = true
	}
	for _, key := range stale {
		if held[string(key)] {
			continue
		}
		if err := removeKey(tx, m, key); err != nil {
			return err
		}
	}
	return addKeys(tx, m, keys)
}

// currentKeys returns the look-up keys of customers as they are now. It looks them
// up one by one; see search.
func currentKeys(tx conn, m grahak.MerchantID, ids []string) (keys [][]byte, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	err = tx.query(func(row row) error {
		var id string
		var email, mobile []byte
		if err := row.Scan(&id, &email, &mobile); err != nil {
			return err
		}
		for _, value := range [][]byte{email, mobile} {
			if value != nil {
				keys = append(keys, lookupKey(value, id))
			}
		}
		return nil
	}, `SELECT id, email_index, mobile_index FROM unnest($2::bytea[]) AS changed (changed_id)
		CROSS JOIN LATERAL (SELECT id, email_index, mobile_index FROM customers WHERE merchant_id = $1 AND id = changed_id LIMIT 1) AS customer`, string(m), ids)
	return keys, err
}

// Beat implements [grahak.Store].
func (s *Postgres) Beat(ctx context.Context, self grahak.NodeID, gone []grahak.NodeID) (map[grahak.NodeID]int64, error) {
	beats := make(map[grahak.NodeID]int64)
	err := s.vitalRead(ctx, func(c conn) error {
		for _, id := range gone {
			if _, err := c.exec(`DELETE FROM nodes WHERE id = $1`, string(id)); err != nil {
				return err
			}
		}
		if self != "" {
			if _, err := c.exec(`INSERT INTO nodes (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = nodes.beat + 1`, string(self)); err != nil {
				return err
			}
		}
		clear(beats)
		return c.query(func(row row) error {
			var id string
			var beat int64
			err := row.Scan(&id, &beat)
			beats[grahak.NodeID(id)] = beat
			return err
		}, `SELECT id, beat FROM nodes`)
	})
	return beats, err
}
