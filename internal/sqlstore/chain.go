package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"grahak"
)

// ChainHead implements [grahak.EventStore].
func (s *portable) ChainHead(ctx context.Context, m grahak.MerchantID) (head grahak.ChainHead, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		head, err = chainHead(r, m)
		return err
	})
	return head, err
}

func chainHead(r conn, m grahak.MerchantID) (head grahak.ChainHead, err error) {
	var link []byte
	err = r.queryRow(`SELECT last_position, customers, substr(links, length(links) - 31) FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`, string(m)).
		Scan(&head.Position, &head.Customers, &link)
	if errors.Is(err, sql.ErrNoRows) {
		return head, nil
	}
	copy(head.Link[:], link)
	return head, err
}

// checkpointPosition is the first position of the row in the chain that is no
// segment but the checkpoint: it has one link, that of the last event that was
// pruned, whose position is its last one.
const checkpointPosition = 0

// ChainCheckpoint implements [grahak.EventStore].
func (s *portable) ChainCheckpoint(ctx context.Context, m grahak.MerchantID) (c grahak.Checkpoint, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		var link, proof []byte
		err := r.queryRow(`SELECT last_position, customers, proof, links FROM event_chain WHERE merchant_id = $1 AND first_position = $2`, string(m), checkpointPosition).
			Scan(&c.Position, &c.Customers, &proof, &link)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil && len(link) != len(c.Link) {
			err = fmt.Errorf("the chain of merchant %s is damaged at its checkpoint", m)
		}
		copy(c.Link[:], link)
		copy(c.Proof[:], proof)
		return err
	})
	return c, err
}

// PruneEvents implements [grahak.EventStore].
func (s *portable) PruneEvents(ctx context.Context, m grahak.MerchantID, c grahak.Checkpoint) (pruned int64, err error) {
	err = s.write(ctx, func(tx tx) error {
		pruned = 0
		if err := tx.lockIndex(m); err != nil {
			return err
		}
		var end grahak.ChainHead
		var link []byte
		err := tx.queryRow(`SELECT last_position, customers, substr(links, length(links) - 31) FROM event_chain WHERE merchant_id = $1 AND first_position > $2 AND first_position <= $3
			ORDER BY first_position DESC LIMIT 1`, string(m), checkpointPosition, c.Position).Scan(&end.Position, &end.Customers, &link)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if copy(end.Link[:], link); end != c.ChainHead {
			return nil
		}
		if pruned, err = tx.exec(`DELETE FROM events WHERE merchant_id = $1 AND position <= $2`, string(m), c.Position); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM event_chain WHERE merchant_id = $1 AND first_position <= $2`, string(m), c.Position); err != nil {
			return err
		}
		return insertChain(tx, m, checkpointPosition, c.ChainHead, c.Proof, c.Link[:])
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return 0, err
	}
	return pruned, nil
}

// Chain implements [grahak.EventStore].
func (s *portable) Chain(ctx context.Context, m grahak.MerchantID, after int64, limit int) (list []grahak.ChainSegment, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, func(row row) (segment grahak.ChainSegment, err error) {
			var last int64
			var proof, links []byte
			if err := row.Scan(&segment.First, &last, &segment.Customers, &proof, &links); err != nil {
				return segment, err
			}
			segment.Links = make([]grahak.Link, len(links)/len(grahak.Link{}))
			for i := range segment.Links {
				copy(segment.Links[i][:], links[i*len(grahak.Link{}):])
			}
			if len(segment.Links) == 0 || segment.Head().Position != last {
				return segment, fmt.Errorf("the chain of merchant %s is damaged at position %d", m, segment.First)
			}
			copy(segment.Proof[:], proof)
			return segment, nil
		}, `SELECT first_position, last_position, customers, proof, links FROM event_chain WHERE merchant_id = $1 AND first_position > $2 ORDER BY first_position LIMIT $3`,
			string(m), max(after, checkpointPosition), limit)
		return err
	})
	return list, err
}

// insertSegment appends a segment to the merchant's chain.
func insertSegment(tx conn, m grahak.MerchantID, segment grahak.ChainSegment) error {
	head := segment.Head()
	links := make([]byte, 0, len(segment.Links)*len(head.Link))
	for _, link := range segment.Links {
		links = append(links, link[:]...)
	}
	return insertChain(tx, m, segment.First, head, segment.Proof, links)
}

// insertChain writes a row of the merchant's chain.
func insertChain(tx conn, m grahak.MerchantID, first int64, head grahak.ChainHead, proof grahak.Index, links []byte) error {
	_, err := tx.exec(`INSERT INTO event_chain (merchant_id, first_position, last_position, customers, proof, links) VALUES ($1, $2, $3, $4, $5, $6)`,
		string(m), first, head.Position, head.Customers, proof[:], links)
	return err
}

// Tidy implements [grahak.EventStore].
func (s *portable) Tidy(ctx context.Context, m grahak.MerchantID) (more bool, err error) {
	err = s.write(ctx, func(tx tx) (err error) {
		if err = tx.lockIndex(m); err != nil {
			return err
		}
		more, err = s.tidy(tx, m, mergeBlocks)
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
func (s *portable) tidy(tx conn, m grahak.MerchantID, budget int) (more bool, err error) {
	calm, err := s.ordered(tx, m)
	if err != nil {
		return false, err
	}
	if more, err = mergeRuns(tx, m, calm, budget); err != nil || more || !calm {
		return more, err
	}
	_, err = tx.exec(`DELETE FROM unordered WHERE merchant_id = $1`, string(m))
	return false, err
}

// noteUnordered notes that the merchant has events to put in order or an index to
// tidy.
func noteUnordered(tx conn, m grahak.MerchantID) error {
	_, err := tx.exec(`INSERT INTO unordered (merchant_id) VALUES ($1) ON CONFLICT (merchant_id) DO NOTHING`, string(m))
	return err
}
