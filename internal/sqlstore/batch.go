package sqlstore

import (
	"database/sql"
	"errors"

	"grahak"
)

// batch is what one transaction of the writer has made so far, for what is
// written once a transaction rather than once a write. It is emptied when a
// transaction begins.
type batch struct {
	customers map[grahak.MerchantID]int64 // made
	positions map[grahak.MerchantID]int64 // of the last event
}

// reset empties b.
func (b *batch) reset() {
	if b.customers == nil {
		b.customers = make(map[grahak.MerchantID]int64)
		b.positions = make(map[grahak.MerchantID]int64)
	}
	clear(b.customers)
	clear(b.positions)
}

// created notes that a customer of m was made.
func (b *batch) created(m grahak.MerchantID) { b.customers[m]++ }

// nextPosition returns the position of the next event of m. The database is
// asked once a transaction, because other processes write events too.
func (b *batch) nextPosition(tx *conn, m grahak.MerchantID) (int64, error) {
	last, known := b.positions[m]
	if !known {
		err := tx.queryRow(`SELECT position FROM events WHERE merchant_id = $1 ORDER BY position DESC LIMIT 1`, string(m)).Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
	}
	b.positions[m] = last + 1
	return last + 1, nil
}

// flush writes what is owed before the transaction is committed.
func (b *batch) flush(tx *conn) error {
	for m, n := range b.customers {
		_, err := tx.exec(`INSERT INTO customer_counts (merchant_id, total) VALUES ($1, $2)
			ON CONFLICT (merchant_id) DO UPDATE SET total = customer_counts.total + excluded.total`, string(m), n)
		if err != nil {
			return err
		}
	}
	return nil
}
