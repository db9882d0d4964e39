package sqlstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"grahak"
)

const customerColumns = `id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at`

var errCustomerNotFound = grahak.Errorf(grahak.CodeCustomerNotFound, "There is no such customer.")

// Customers implements [grahak.CustomerStore].
func (s *portable) Customers(ctx context.Context, m grahak.MerchantID, in grahak.CustomerRange, limit, offset int) (list []grahak.CustomerRecord, total int64, err error) {
	from, before := ids(in)
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			if total, err = s.total(r, m); err != nil {
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
func (s *portable) FindCustomers(ctx context.Context, m grahak.MerchantID, by grahak.CustomerIndex, in grahak.CustomerRange, limit int) (list []grahak.CustomerRecord, total int64, err error) {
	from, before := ids(in)
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			if total, err = s.total(r, m); err != nil {
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
			list, err = s.search(r, m, value, from, before, limit)
			return err
		})
	})
	return list, total, err
}

// CountCustomers implements [grahak.CustomerStore].
func (s *portable) CountCustomers(ctx context.Context, m grahak.MerchantID) (counted, recorded int64, err error) {
	err = s.longRead(ctx, func(r conn) error {
		return r.snapshot(func() error {
			if recorded, err = s.total(r, m); err != nil {
				return err
			}
			return r.queryRow(`SELECT count(*) FROM customers WHERE merchant_id = $1`, string(m)).Scan(&counted)
		})
	})
	return counted, recorded, err
}

// CustomersAfter implements [grahak.CustomerStore].
func (s *portable) CustomersAfter(ctx context.Context, m grahak.MerchantID, after grahak.CustomerID, limit int) (list []grahak.CustomerRecord, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`, string(m), string(after), limit)
		return err
	})
	return list, err
}

// newestFirst returns the first limit customers of list in descending order of id,
// each once.
func newestFirst(list []grahak.CustomerRecord, limit int) []grahak.CustomerRecord {
	slices.SortFunc(list, func(a, b grahak.CustomerRecord) int { return strings.Compare(string(b.ID), string(a.ID)) })
	list = slices.CompactFunc(list, func(a, b grahak.CustomerRecord) bool { return a.ID == b.ID })
	return list[:min(len(list), limit)]
}

func queryCustomers(r conn, query string, args ...any) ([]grahak.CustomerRecord, error) {
	return queryAll(r, scanCustomer, query, args...)
}

func scanCustomer(row row) (grahak.CustomerRecord, error) {
	var c grahak.CustomerRecord
	err := row.Scan((*string)(&c.ID), &c.Reference, &c.Email, &c.Mobile, &c.Sealed.Bytes, &c.Sealed.Version, &c.Revision, &c.CreatedAt, &c.UpdatedAt)
	return c, err
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
