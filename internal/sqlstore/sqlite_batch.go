package sqlstore

import (
	"database/sql"
	"errors"

	"grahak"
)

// batch is what one transaction of the writer knows or has made so far, for what
// is read or written once a transaction rather than once a write. It is emptied
// when a transaction begins.
type batch struct {
	positions   map[grahak.MerchantID]int64 // of the last event
	keyVersions map[grahak.MerchantID]int64
}

// reset empties b.
func (b *batch) reset() {
	if b.positions == nil {
		b.positions = make(map[grahak.MerchantID]int64)
		b.keyVersions = make(map[grahak.MerchantID]int64)
	}
	clear(b.positions)
	clear(b.keyVersions)
}

// nextPosition returns the position of the next event of m. The database is
// asked once a transaction, because other processes write events too.
func (b *batch) nextPosition(tx *sqliteConn, m grahak.MerchantID) (int64, error) {
	last, known := b.positions[m]
	if !known {
		var err error
		if last, err = lastPosition(tx, m); err != nil {
			return 0, err
		}
	}
	b.positions[m] = last + 1
	return last + 1, nil
}

// lastPosition returns the position of the merchant's last event, 0 for none. Where
// all events were pruned the chain has it.
func lastPosition(c conn, m grahak.MerchantID) (last int64, err error) {
	err = c.queryRow(`SELECT position FROM events WHERE merchant_id = $1 ORDER BY position DESC LIMIT 1`, string(m)).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		last, _, err = chainTotal(c, m)
	}
	return last, err
}

var errKeyRotated = &grahak.Error{Code: grahak.CodeKeyRotated, Message: "The merchant's sealing keys have changed."}

// checkKey returns [errKeyRotated] unless version is the newest of the
// merchant's sealing key, so that no write follows a rotation that was sealed
// before it.
func (b *batch) checkKey(tx *sqliteConn, m grahak.MerchantID, version int64) error {
	newest, known := b.keyVersions[m]
	if !known {
		err := tx.queryRow(`SELECT version FROM keysets WHERE merchant_id = $1`, string(m)).Scan(&newest)
		if errors.Is(err, sql.ErrNoRows) {
			return merchantNotFound(m)
		}
		if err != nil {
			return err
		}
		b.keyVersions[m] = newest
	}
	if version != newest {
		return errKeyRotated
	}
	return nil
}

// lockAccess implements [tx]: the writer is alone.
func (tx *sqliteConn) lockAccess() error { return nil }

// lockIndex implements [tx].
func (tx *sqliteConn) lockIndex(grahak.MerchantID) error { return nil }

// lockKeys implements [tx].
func (tx *sqliteConn) lockKeys(grahak.MerchantID) error { return nil }

// rotated implements [tx].
func (tx *sqliteConn) rotated(m grahak.MerchantID) { delete(tx.batch.keyVersions, m) }

// flush writes what is owed before the transaction is committed: which merchants
// have events to put in order.
func (b *batch) flush(tx *sqliteConn) error {
	for m := range b.positions {
		if err := noteUnordered(tx, m); err != nil {
			return err
		}
	}
	return nil
}
