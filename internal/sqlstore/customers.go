package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"grahak"
)

const customerColumns = `id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at`

var errCustomerNotFound = grahak.Errorf(grahak.CodeCustomerNotFound, "There is no such customer.")

// CreateCustomer implements [grahak.CustomerStore].
func (s *Store) CreateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, token *grahak.TokenRecord) error {
	return s.write(ctx, func(tx *conn) error {
		if err := tx.batch.checkKey(tx, m, c.Sealed.Version); err != nil {
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
		if err := tx.batch.checkKey(tx, m, c.Sealed.Version); err != nil {
			return err
		}
		old, err := indexesOf(tx, m, c.ID)
		if err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE customers SET email_index = $1, mobile_index = $2, sealed = $3, key_version = $4, revision = $5, updated_at = $6
			WHERE merchant_id = $7 AND id = $8 AND revision = $9`,
			short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.UpdatedAt.UnixMicro(), string(m), string(c.ID), c.Revision-1)
		if err != nil || n == 0 {
			return err
		}
		added, err := old.replace(tx, m, c)
		if err != nil {
			return err
		}
		// The ordering pass adds them as well if the event says that they changed,
		// which it does not of a customer that had none or was folded otherwise.
		if !slices.Contains(e.Changed, grahak.FieldEmail) && !slices.Contains(e.Changed, grahak.FieldMobileNumber) {
			if err := addKeys(tx, m, added); err != nil {
				return err
			}
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

// EraseCustomer implements [grahak.CustomerStore].
func (s *Store) EraseCustomer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, e grahak.Event) error {
	return s.write(ctx, func(tx *conn) error {
		old, err := indexesOf(tx, m, id)
		if err != nil {
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
		erased := e
		erased.Revision = old.revision + 1
		return insertEvent(tx, m, erased)
	})
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
func (s *Store) Customers(ctx context.Context, m grahak.MerchantID, in grahak.CustomerRange, limit, offset int) (list []grahak.CustomerRecord, total int64, err error) {
	from, before := ids(in)
	err = s.read(ctx, func(r *conn) error {
		return r.snapshot(func() error {
			if total, _, err = customerTotal(r, m); err != nil {
				return err
			}
			list, err = queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id >= $2 AND id < $3
				AND created_at >= $4 AND created_at < $5 ORDER BY id DESC LIMIT $6 OFFSET $7`,
				string(m), from, before, microsOr(in.CreatedFrom, firstMicro), microsOr(in.CreatedBefore, lastMicro), limit, offset)
			return err
		})
	})
	return list, total, err
}

// FindCustomers implements [grahak.CustomerStore].
func (s *Store) FindCustomers(ctx context.Context, m grahak.MerchantID, by grahak.CustomerIndex, in grahak.CustomerRange, limit int) (list []grahak.CustomerRecord, total int64, err error) {
	from, before := ids(in)
	err = s.read(ctx, func(r *conn) error {
		return r.snapshot(func() error {
			var ordered int64
			if total, ordered, err = customerTotal(r, m); err != nil {
				return err
			}
			if by.Reference != (grahak.Index{}) {
				list, err = queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND reference_index = $2 AND id >= $3 AND id < $4 LIMIT $5`,
					string(m), by.Reference[:], from, before, limit)
				return err
			}
			value := by.Email
			if value == (grahak.ShortIndex{}) {
				value = by.Mobile
			}
			list, err = search(r, m, value, from, before, ordered, limit)
			return err
		})
	})
	return list, total, err
}

// search returns the customers with the value of an index: those that the
// look-up index has, and those with events after the position ordered, which it
// may not have yet.
func search(r *conn, m grahak.MerchantID, value grahak.ShortIndex, from, before string, ordered int64, limit int) ([]grahak.CustomerRecord, error) {
	found, err := searchKeys(r, m, value[:], from, before, limit)
	if err != nil {
		return nil, err
	}
	list, err := queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1
			AND id IN (SELECT subject FROM events WHERE merchant_id = $1 AND position > $6)
			AND (email_index = $2 OR mobile_index = $2) AND id >= $3 AND id < $4
		ORDER BY id DESC LIMIT $5`,
		string(m), value[:], from, before, limit, ordered)
	if err != nil {
		return nil, err
	}
	for _, id := range found {
		c, err := scanCustomer(r.queryRow(`SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), id))
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("the look-up index of merchant %s has a customer %q who does not exist: it was altered", m, id)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b grahak.CustomerRecord) int { return strings.Compare(string(b.ID), string(a.ID)) })
	list = slices.CompactFunc(list, func(a, b grahak.CustomerRecord) bool { return a.ID == b.ID })
	return list[:min(len(list), limit)], nil
}

// customerTotal returns how many customers the merchant has, and the position
// up to which its events are in order: the chain counts up to there, and the
// rest is counted.
func customerTotal(r *conn, m grahak.MerchantID) (total, ordered int64, err error) {
	var counted int64
	// The links of a segment are left out, because they fill several pages.
	err = r.queryRow(`SELECT last_position, customers FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`, string(m)).Scan(&ordered, &counted)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, 0, err
	}
	err = r.queryRow(`SELECT coalesce(sum(CASE type WHEN 'customer.created' THEN 1 WHEN 'customer.erased' THEN -1 ELSE 0 END), 0)
		FROM events WHERE merchant_id = $1 AND position > $2`, string(m), ordered).Scan(&total)
	return counted + total, ordered, err
}

// CountCustomers implements [grahak.CustomerStore].
func (s *Store) CountCustomers(ctx context.Context, m grahak.MerchantID) (counted, recorded int64, err error) {
	err = s.read(ctx, func(r *conn) error {
		return r.snapshot(func() error {
			if recorded, _, err = customerTotal(r, m); err != nil {
				return err
			}
			return r.queryRow(`SELECT count(*) FROM customers WHERE merchant_id = $1`, string(m)).Scan(&counted)
		})
	})
	return counted, recorded, err
}

// CustomersAfter implements [grahak.CustomerStore].
func (s *Store) CustomersAfter(ctx context.Context, m grahak.MerchantID, after grahak.CustomerID, limit int) (list []grahak.CustomerRecord, err error) {
	err = s.read(ctx, func(r *conn) error {
		list, err = queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`, string(m), string(after), limit)
		return err
	})
	return list, err
}

func queryCustomers(r *conn, query string, args ...any) (list []grahak.CustomerRecord, err error) {
	err = r.query(func(row row) error {
		c, err := scanCustomer(row)
		list = append(list, c)
		return err
	}, query, args...)
	return list, err
}

func scanCustomer(row row) (grahak.CustomerRecord, error) {
	var c grahak.CustomerRecord
	err := row.Scan((*string)(&c.ID), &c.Reference, &c.Email, &c.Mobile, &c.Sealed.Bytes, &c.Sealed.Version, &c.Revision, &c.CreatedAt, &c.UpdatedAt)
	return c, err
}

// indexes is what the look-up index may have of a customer.
type indexes struct {
	email, mobile []byte // nil for none
	revision      int64  // of the customer
}

// indexesOf returns the indexes of a customer, or [errCustomerNotFound].
func indexesOf(tx *conn, m grahak.MerchantID, id grahak.CustomerID) (x indexes, err error) {
	err = tx.queryRow(`SELECT email_index, mobile_index, revision FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id)).
		Scan(&x.email, &x.mobile, &x.revision)
	if errors.Is(err, sql.ErrNoRows) {
		return x, errCustomerNotFound
	}
	return x, err
}

// replace takes the indexes that c, the customer as it is from now on, does not
// have out of the look-up index, and returns the keys of those that it has and
// the look-up index has not.
func (x indexes) replace(tx *conn, m grahak.MerchantID, c grahak.CustomerRecord) (added [][]byte, err error) {
	for _, value := range []struct {
		was []byte
		is  grahak.ShortIndex
	}{{x.email, c.Email}, {x.mobile, c.Mobile}} {
		if bytes.Equal(value.was, value.is[:]) {
			continue
		}
		if value.was != nil {
			if err := removeKey(tx, m, lookupKey(value.was, string(c.ID))); err != nil {
				return nil, err
			}
		}
		if value.is != (grahak.ShortIndex{}) {
			added = append(added, lookupKey(value.is[:], string(c.ID)))
		}
	}
	return added, nil
}

// short is how a short index is stored: NULL for none.
func short(x grahak.ShortIndex) any {
	if x == (grahak.ShortIndex{}) {
		return nil
	}
	return x[:]
}

// afterAllIDs is above every id.
const afterAllIDs = "\U0010FFFF"

// ids returns the bounds of a range's ids.
func ids(in grahak.CustomerRange) (from, before string) {
	if in.Before == "" {
		return string(in.From), afterAllIDs
	}
	return string(in.From), string(in.Before)
}

// The bounds of all times that are stored, in microseconds.
const (
	firstMicro = -1 << 63
	lastMicro  = 1<<63 - 1
)

// microsOr is how a bound in time is compared: none for a zero time.
func microsOr(t time.Time, none int64) int64 {
	if t.IsZero() {
		return none
	}
	return t.UnixMicro()
}
