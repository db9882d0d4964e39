package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"grahak"
)

// Unordered implements [grahak.EventStore].
func (s *Store) Unordered(ctx context.Context) (list []grahak.MerchantID, err error) {
	err = s.vital.read(ctx, func(r *conn) error {
		return r.query(func(row row) error {
			var m grahak.MerchantID
			err := row.Scan((*string)(&m))
			list = append(list, m)
			return err
		}, `SELECT merchant_id FROM unordered ORDER BY merchant_id`)
	})
	return list, err
}

// OrderLag returns how old the oldest event is that is not in its merchant's chain,
// 0 if all are.
func (s *Store) OrderLag(ctx context.Context) (lag time.Duration, err error) {
	var oldest time.Time
	err = s.read(ctx, func(r *conn) error {
		return r.queryRow(`SELECT min((SELECT at FROM events WHERE merchant_id = u.merchant_id
			AND position > coalesce((SELECT last_position FROM event_chain WHERE merchant_id = u.merchant_id ORDER BY first_position DESC LIMIT 1), 0)
			ORDER BY position LIMIT 1)) FROM unordered u`).Scan(&oldest)
	})
	if err != nil || oldest.IsZero() {
		return 0, err
	}
	return max(0, s.writer.clock.Now().Sub(oldest)), nil
}

// ChainHead implements [grahak.EventStore].
func (s *Store) ChainHead(ctx context.Context, m grahak.MerchantID) (head grahak.ChainHead, err error) {
	err = s.vital.read(ctx, func(r *conn) error {
		head, err = chainHead(r, m)
		return err
	})
	return head, err
}

func chainHead(r *conn, m grahak.MerchantID) (head grahak.ChainHead, err error) {
	var link []byte
	err = r.queryRow(`SELECT last_position, customers, substr(links, -32) FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`, string(m)).
		Scan(&head.Position, &head.Customers, &link)
	if errors.Is(err, sql.ErrNoRows) {
		return head, nil
	}
	copy(head.Link[:], link)
	return head, err
}

// Chain implements [grahak.EventStore].
func (s *Store) Chain(ctx context.Context, m grahak.MerchantID, after int64, limit int) (list []grahak.ChainSegment, err error) {
	err = s.read(ctx, func(r *conn) error {
		return r.query(func(row row) error {
			var segment grahak.ChainSegment
			var last int64
			var proof, links []byte
			if err := row.Scan(&segment.First, &last, &segment.Customers, &proof, &links); err != nil {
				return err
			}
			segment.Links = make([]grahak.Link, len(links)/len(grahak.Link{}))
			for i := range segment.Links {
				copy(segment.Links[i][:], links[i*len(grahak.Link{}):])
			}
			if len(segment.Links) == 0 || segment.Head().Position != last {
				return fmt.Errorf("the chain of merchant %s is damaged at position %d", m, segment.First)
			}
			copy(segment.Proof[:], proof)
			list = append(list, segment)
			return nil
		}, `SELECT first_position, last_position, customers, proof, links FROM event_chain WHERE merchant_id = $1 AND first_position > $2 ORDER BY first_position LIMIT $3`,
			string(m), after, limit)
	})
	return list, err
}

// Order implements [grahak.EventStore]. It reads no block of the look-up index, so
// that the chain goes on whatever became of one.
func (s *Store) Order(ctx context.Context, m grahak.MerchantID, segment grahak.ChainSegment) (untidy bool, err error) {
	head := segment.Head()
	links := make([]byte, 0, len(segment.Links)*len(head.Link))
	for _, link := range segment.Links {
		links = append(links, link[:]...)
	}
	err = s.write(ctx, func(tx *conn) error {
		before, err := chainHead(tx, m)
		if err != nil {
			return err
		}
		if before.Position == segment.First-1 {
			_, err = tx.exec(`INSERT INTO event_chain (merchant_id, first_position, last_position, customers, proof, links) VALUES ($1, $2, $3, $4, $5, $6)`,
				string(m), segment.First, head.Position, segment.Customers, segment.Proof[:], links)
			if err != nil {
				return err
			}
			keys, err := changedKeys(tx, m, segment.First, head.Position)
			if err != nil {
				return err
			}
			if err := addKeys(tx, m, keys); err != nil {
				return err
			}
		}
		untidy, err = tidy(tx, m, 0)
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return untidy, nil
}

// Tidy implements [grahak.EventStore].
func (s *Store) Tidy(ctx context.Context, m grahak.MerchantID) (more bool, err error) {
	err = s.write(ctx, func(tx *conn) (err error) {
		more, err = tidy(tx, m, mergeBlocks)
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return more, nil
}

// tidy takes a step of the merges that are due, in which it writes little more
// than budget blocks, and takes the merchant off the list of those with something
// to do, if nothing is left. It reports whether merges are due then.
func tidy(tx *conn, m grahak.MerchantID, budget int) (more bool, err error) {
	head, err := chainHead(tx, m)
	if err != nil {
		return false, err
	}
	last, err := lastPosition(tx, m)
	if err != nil {
		return false, err
	}
	calm, fanIn := last == head.Position, busyFanIn
	if calm {
		fanIn = calmFanIn
	}
	if more, err = mergeRuns(tx, m, fanIn, budget); err != nil || more || !calm {
		return more, err
	}
	_, err = tx.exec(`DELETE FROM unordered WHERE merchant_id = $1`, string(m))
	return false, err
}

// changedKeys returns the look-up keys of the customers that events in a range of
// positions made or gave other values, as the customers are now.
func changedKeys(tx *conn, m grahak.MerchantID, first, last int64) (keys [][]byte, err error) {
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
	}, `SELECT c.id, c.email_index, c.mobile_index FROM events e JOIN customers c ON c.merchant_id = e.merchant_id AND c.id = e.subject
		WHERE e.merchant_id = $1 AND e.position BETWEEN $2 AND $3
		AND (e.type = 'customer.created' OR e.changed LIKE '%email_address%' OR e.changed LIKE '%mobile_number%')`,
		string(m), first, last)
	return keys, err
}
