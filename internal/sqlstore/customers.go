package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"time"

	"grahak"
)

const customerColumns = `id, reference_index, sealed, revision, created_at, updated_at`

var errCustomerNotFound = grahak.Errorf(grahak.CodeCustomerNotFound, "There is no such customer.")

// CreateCustomer implements [grahak.CustomerStore].
func (s *Store) CreateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, token *grahak.TokenRecord) error {
	return s.write(ctx, func(tx *conn) error {
		n, err := tx.exec(`INSERT INTO customers (merchant_id, id, reference_index, sealed, revision, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (merchant_id, reference_index) DO NOTHING`,
			string(m), string(c.ID), c.Reference[:], c.Sealed, c.Revision, c.CreatedAt.UnixMicro(), c.UpdatedAt.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return grahak.Errorf(grahak.CodeDuplicateReference, "A customer with this reference exists.")
		}
		tx.batch.created(m)
		if err := insertEvent(tx, m, e); err != nil {
			return err
		}
		return insertToken(tx, m, token)
	})
}

// Customer implements [grahak.CustomerStore]. SQLite runs the halves of the
// union one after the other, so a hit by id costs one look-up; the order is not
// relied upon.
func (s *Store) Customer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, reference grahak.Index) (grahak.CustomerRecord, error) {
	var c grahak.CustomerRecord
	err := s.lookUps.do(ctx, func(r *conn) error {
		err := r.query(func(row row) error {
			var err error
			if c, err = scanCustomer(row); err == nil && c.ID == id {
				return io.EOF
			}
			return err
		}, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = $2
			UNION ALL SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND reference_index = $3`,
			string(m), string(id), reference[:])
		if err == nil && c.ID == "" {
			return errCustomerNotFound
		}
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return grahak.CustomerRecord{}, err
	}
	return c, nil
}

// UpdateCustomer implements [grahak.CustomerStore].
func (s *Store) UpdateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, token *grahak.TokenRecord) (bool, error) {
	var done bool
	err := s.write(ctx, func(tx *conn) error {
		done = false
		n, err := tx.exec(`UPDATE customers SET sealed = $1, revision = $2, updated_at = $3 WHERE merchant_id = $4 AND id = $5 AND revision = $6`,
			c.Sealed, c.Revision, c.UpdatedAt.UnixMicro(), string(m), string(c.ID), c.Revision-1)
		if err != nil {
			return err
		}
		if n == 0 {
			return s.customerExists(tx, m, c.ID)
		}
		if err := insertEvent(tx, m, e); err != nil {
			return err
		}
		done = true
		return insertToken(tx, m, token)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return done, nil
}

// customerExists returns nil if the customer exists.
func (s *Store) customerExists(tx *conn, m grahak.MerchantID, id grahak.CustomerID) error {
	var found int
	err := tx.queryRow(`SELECT 1 FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id)).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return errCustomerNotFound
	}
	return err
}

// Customers implements [grahak.CustomerStore].
func (s *Store) Customers(ctx context.Context, m grahak.MerchantID, before grahak.CustomerID, limit, offset int) (list []grahak.CustomerRecord, total int64, err error) {
	const page = `SELECT ` + customerColumns + ` FROM customers WHERE merchant_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3`
	const pageBefore = `SELECT ` + customerColumns + ` FROM customers WHERE merchant_id = $1 AND id < $4 ORDER BY id DESC LIMIT $2 OFFSET $3`
	query, args := page, []any{string(m), limit, offset}
	if before != "" {
		query, args = pageBefore, append(args, string(before))
	}
	err = s.read(ctx, func(r *conn) error {
		return r.snapshot(func() error {
			err := r.queryRow(`SELECT total FROM customer_counts WHERE merchant_id = $1`, string(m)).Scan(&total)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			return r.query(func(row row) error {
				c, err := scanCustomer(row)
				list = append(list, c)
				return err
			}, query, args...)
		})
	})
	return list, total, err
}

func scanCustomer(row row) (grahak.CustomerRecord, error) {
	var c grahak.CustomerRecord
	var reference []byte
	var created, updated int64
	if err := row.Scan((*string)(&c.ID), &reference, &c.Sealed, &c.Revision, &created, &updated); err != nil {
		return c, err
	}
	copy(c.Reference[:], reference)
	c.CreatedAt, c.UpdatedAt = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	return c, nil
}
