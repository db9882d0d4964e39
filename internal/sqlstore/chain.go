package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"grahak"
)

// Unordered implements [grahak.EventStore].
func (s *Store) Unordered(ctx context.Context) (list []grahak.MerchantID, err error) {
	err = s.read(ctx, func(r *conn) error {
		return r.query(func(row row) error {
			var m grahak.MerchantID
			err := row.Scan((*string)(&m))
			list = append(list, m)
			return err
		}, `SELECT merchant_id FROM unordered ORDER BY merchant_id`)
	})
	return list, err
}

// ChainHead implements [grahak.EventStore].
func (s *Store) ChainHead(ctx context.Context, m grahak.MerchantID) (head grahak.ChainHead, err error) {
	err = s.read(ctx, func(r *conn) error {
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

// Order implements [grahak.EventStore].
func (s *Store) Order(ctx context.Context, m grahak.MerchantID, segment grahak.ChainSegment) error {
	head := segment.Head()
	links := make([]byte, 0, len(segment.Links)*len(head.Link))
	for _, link := range segment.Links {
		links = append(links, link[:]...)
	}
	return s.write(ctx, func(tx *conn) error {
		before, err := chainHead(tx, m)
		if err != nil || before.Position != segment.First-1 {
			return err
		}
		_, err = tx.exec(`INSERT INTO event_chain (merchant_id, first_position, last_position, customers, proof, links) VALUES ($1, $2, $3, $4, $5, $6)`,
			string(m), segment.First, head.Position, segment.Customers, segment.Proof[:], links)
		if err != nil {
			return err
		}
		// In the order of the index, so that each of its pages is touched once.
		_, err = tx.exec(`INSERT INTO lookup (merchant_id, value_index, customer_id)
			SELECT c.merchant_id, c.email_index, c.id FROM events e JOIN customers c ON c.merchant_id = e.merchant_id AND c.id = e.subject
				WHERE e.merchant_id = $1 AND e.position BETWEEN $2 AND $3 AND c.email_index IS NOT NULL
			UNION ALL
			SELECT c.merchant_id, c.mobile_index, c.id FROM events e JOIN customers c ON c.merchant_id = e.merchant_id AND c.id = e.subject
				WHERE e.merchant_id = $1 AND e.position BETWEEN $2 AND $3 AND c.mobile_index IS NOT NULL
			ORDER BY 2, 3
			ON CONFLICT (merchant_id, value_index, customer_id) DO NOTHING`,
			string(m), segment.First, head.Position)
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM unordered WHERE merchant_id = $1
			AND NOT EXISTS (SELECT 1 FROM events WHERE merchant_id = $1 AND position > $2)`, string(m), head.Position)
		return err
	})
}
