package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"slices"

	"grahak"
)

// CreateCustomer implements [grahak.CustomerStore].
func (s *SQLite) CreateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, b *grahak.Besides) error {
	return s.doSeeingNoEvents(ctx, func(tx *sqliteConn) error {
		if err := tx.batch.checkKey(tx, m, c.Sealed.Version); err != nil {
			return err
		}
		if err := unused(tx, m, b); err != nil {
			return err
		}
		n, err := tx.exec(`INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (merchant_id, reference_index) DO NOTHING`,
			string(m), string(c.ID), c.Reference[:], short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.CreatedAt.UnixMicro(), c.UpdatedAt.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return grahak.Errorf(grahak.CodeDuplicateReference, "A customer with this reference exists.")
		}
		if err := tx.batch.addFound(tx, m, e, &c); err != nil {
			return err
		}
		return insertBesides(tx, m, b)
	})
}

// Customer implements [grahak.CustomerStore].
func (s *SQLite) Customer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, reference grahak.Index) (grahak.CustomerRecord, error) {
	l := &sqliteLookUp{merchant: m, id: id, reference: reference}
	if err := s.lookUps.do(ctx, l); err != nil {
		// The job may still run, so what it sets is not to be read.
		return grahak.CustomerRecord{}, err
	}
	return l.found, nil
}

// customer returns the customer that query finds, or [errCustomerNotFound].
func (c *sqliteConn) customer(query string, args ...any) (found grahak.CustomerRecord, err error) {
	err = c.each(func(s *statement) error {
		err := s.Scan((*string)(&found.ID), &found.Reference, &found.Email, &found.Mobile, &found.Sealed.Bytes, &found.Sealed.Version, &found.Revision, &found.CreatedAt, &found.UpdatedAt)
		if err == nil {
			err = io.EOF
		}
		return err
	}, query, args...)
	if err == nil && found.ID == "" {
		err = errCustomerNotFound
	}
	return found, err
}

// UpdateCustomer implements [grahak.CustomerStore].
func (s *SQLite) UpdateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, b *grahak.Besides) (bool, error) {
	var done bool
	err := s.doSeeingNoEvents(ctx, func(tx *sqliteConn) (err error) {
		done = false
		if err := tx.batch.checkKey(tx, m, c.Sealed.Version); err != nil {
			return err
		}
		if err := unused(tx, m, b); err != nil {
			return err
		}
		if done, err = tx.updateCustomer(m, c, e); err != nil || !done {
			return err
		}
		return insertBesides(tx, m, b)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return done, nil
}

// updateCustomer overwrites a customer and adds the event to the batch. It reports
// false, and does nothing, if the stored revision is not the one before.
func (tx *sqliteConn) updateCustomer(m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event) (bool, error) {
	const update = `UPDATE customers SET email_index = $1, mobile_index = $2, sealed = $3, key_version = $4, revision = $5, updated_at = $6
		WHERE merchant_id = $7 AND id = $8 AND revision = $9`
	args := []any{short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.UpdatedAt.UnixMicro(), string(m), string(c.ID), c.Revision - 1}
	// The ordering pass adds the indexes that the event says have changed.
	found := slices.Contains(e.Changed, grahak.FieldEmail) || slices.Contains(e.Changed, grahak.FieldMobileNumber)
	if !found {
		// The rest rarely has others, and then what it had is not read.
		n, err := tx.exec(update+` AND email_index IS $1 AND mobile_index IS $2`, args...)
		if err != nil {
			return false, err
		}
		if n > 0 {
			return true, tx.batch.addEvent(tx, m, e)
		}
	}
	old, err := indexesOf(tx, m, c.ID)
	if err != nil {
		return false, err
	}
	n, err := tx.exec(update, args...)
	if err != nil || n == 0 {
		return false, err
	}
	added, err := old.replace(tx, m, c)
	if err != nil {
		return false, err
	}
	if found {
		return true, tx.batch.addFound(tx, m, e, &c)
	}
	// But not those of a customer that had none or was folded otherwise.
	if err := addKeys(tx, m, added); err != nil {
		return false, err
	}
	return true, tx.batch.addEvent(tx, m, e)
}

// EraseCustomer implements [grahak.CustomerStore].
func (s *SQLite) EraseCustomer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, revision int64, e grahak.Event, b *grahak.Besides) (bool, error) {
	var done bool
	err := s.do(ctx, func(tx *sqliteConn) error {
		done = false
		if err := unused(tx, m, b); err != nil {
			return err
		}
		old, err := indexesOf(tx, m, id)
		if err != nil || old.revision != revision {
			return err
		}
		if _, err := tx.exec(`DELETE FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id)); err != nil {
			return err
		}
		if _, err := old.replace(tx, m, grahak.CustomerRecord{ID: id}); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM client_auth_tokens WHERE merchant_id = $1 AND customer_id = $2`, string(m), string(id)); err != nil {
			return err
		}
		if err := tx.appendEvent(m, e); err != nil {
			return err
		}
		done = true
		return insertBesides(tx, m, b)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return done, nil
}

// customerExists returns nil if the customer exists.
func customerExists(tx conn, m grahak.MerchantID, id grahak.CustomerID) error {
	var found int
	err := tx.queryRow(`SELECT 1 FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id)).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return errCustomerNotFound
	}
	return err
}

// chainTotal returns the position of the chain's head, and how many customers the
// merchant had there.
func chainTotal(r conn, m grahak.MerchantID) (position, customers int64, err error) {
	// The links of a segment are left out, because they fill several pages.
	err = r.queryRow(`SELECT last_position, customers FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`, string(m)).Scan(&position, &customers)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil
	}
	return position, customers, err
}

// chainAndLast is [chainTotal] with the position of the last event, which is that of the
// head if all are in the chain.
func chainAndLast(r conn, m grahak.MerchantID) (head, last, customers int64, err error) {
	if head, customers, err = chainTotal(r, m); err == nil {
		last, err = lastPosition(r, m)
	}
	return head, last, customers, err
}

// unused returns [errIdempotencyKeyUsed] if there is a record of the idempotency
// key in b.
func unused(tx conn, m grahak.MerchantID, b *grahak.Besides) error {
	if b == nil || b.Key == nil {
		return nil
	}
	_, used, err := idempotency(tx, m, b.Key.Key, b.Key.At)
	if used {
		return errIdempotencyKeyUsed
	}
	return err
}

// insertBesides writes b as part of tx.
func insertBesides(tx conn, m grahak.MerchantID, b *grahak.Besides) error {
	if b == nil {
		return nil
	}
	if b.Token != nil {
		if err := insertToken(tx, m, b.Token); err != nil {
			return err
		}
	}
	return keepKey(tx, m, b.Key)
}

// insertToken writes token as part of tx.
func insertToken(tx conn, m grahak.MerchantID, token *grahak.TokenRecord) error {
	_, err := tx.exec(`INSERT INTO client_auth_tokens (merchant_id, customer_id, hash, expires_at) VALUES ($1, $2, $3, $4)`,
		string(m), string(token.Customer), token.Hash[:], token.ExpiresAt.UnixMicro())
	return err
}

// PutToken implements [grahak.CustomerStore].
func (s *SQLite) PutToken(ctx context.Context, m grahak.MerchantID, token grahak.TokenRecord) error {
	return s.do(ctx, func(tx *sqliteConn) error {
		if err := customerExists(tx, m, token.Customer); err != nil {
			return err
		}
		return insertToken(tx, m, &token)
	})
}
