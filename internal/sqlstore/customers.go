package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"grahak"
)

const customerColumns = `id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at`

// The two ways to one customer.
const (
	customerByID        = `SELECT ` + customerColumns + ` FROM customers WHERE merchant_id = $1 AND id = $2`
	customerByReference = `SELECT ` + customerColumns + ` FROM customers WHERE merchant_id = $1 AND reference_index = $2`
)

var errCustomerNotFound = grahak.Errorf(grahak.CodeCustomerNotFound, "There is no such customer.")

// Customers implements [grahak.CustomerStore]. The customers whose ids tell when
// they were made come from the table, in the order of its key; those with ids that
// were brought from an index that has only them.
func (s *portable) Customers(ctx context.Context, m grahak.MerchantID, in grahak.CustomerRange, limit, offset int) (list []grahak.CustomerRecord, total int64, err error) {
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			if total, err = s.total(r, m); err != nil {
				return err
			}
			list = nil
			if in.Until != "" {
				brought, err := hasBrought(r, m)
				if err != nil {
					return err
				}
				if brought && (in.Before == "" || in.Until < in.Before) {
					in.Before = in.Until
				}
			}
			skip := offset
			if in.Behind.Brought.IsZero() {
				if list, skip, err = madeHere(r, m, in, limit, offset); err != nil || len(list) == limit {
					return err
				}
			}
			brought, err := broughtHere(r, m, in, limit-len(list), skip)
			list = append(list, brought...)
			return err
		})
	})
	return list, total, err
}

// madeHere returns at most limit customers of a range whose ids tell when they were
// made, skipping offset; and how many of those behind them are still to be skipped.
func madeHere(r conn, m grahak.MerchantID, in grahak.CustomerRange, limit, offset int) (list []grahak.CustomerRecord, skip int, err error) {
	from, before := ids(in)
	page := func(scan func(row) error, limit, offset int) error {
		return r.query(scan, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id >= $2 AND id < $3
			AND created_at >= $4 AND created_at < $5 AND brought IS NULL ORDER BY id DESC LIMIT $6 OFFSET $7`,
			string(m), from, before, microsOr(in.CreatedFrom, firstMicro), microsOr(in.CreatedBefore, lastMicro), limit, offset)
	}
	err = page(func(row row) error {
		c, err := scanCustomer(row)
		list = append(list, c)
		return err
	}, limit, offset)
	if err != nil || len(list) > 0 {
		return list, 0, err
	}
	skip = offset
	if offset > 0 {
		err = page(func(row) error { skip--; return nil }, offset, 0)
	}
	return nil, skip, err
}

// broughtHere returns at most limit customers of a range with ids that were brought,
// skipping offset.
func broughtHere(r conn, m grahak.MerchantID, in grahak.CustomerRange, limit, offset int) ([]grahak.CustomerRecord, error) {
	end, endID := microsOr(in.CreatedBefore, lastMicro), ""
	if at := microsOr(in.Behind.Brought, lastMicro); at < end {
		end, endID = at, string(in.Behind.ID)
	}
	list, err := queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND brought IS NOT NULL
		AND brought >= $2 AND (brought, id) < ($3, $4) ORDER BY brought DESC, id DESC LIMIT $5 OFFSET $6`,
		string(m), microsOr(in.CreatedFrom, firstMicro), end, endID, limit, offset)
	for i := range list {
		list[i].Brought = true
	}
	return list, err
}

// FindCustomers implements [grahak.CustomerStore].
func (s *portable) FindCustomers(ctx context.Context, m grahak.MerchantID, by grahak.CustomerIndex, in grahak.CustomerRange, limit int) (list []grahak.CustomerRecord, total int64, err error) {
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			if total, err = s.total(r, m); err != nil {
				return err
			}
			from, before, err := foundIDs(r, m, in)
			if err != nil {
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

// foundIDs returns the bounds of the ids that an index may find.
func foundIDs(r conn, m grahak.MerchantID, in grahak.CustomerRange) (from, before string, err error) {
	if in.From == "" && in.Before == "" {
		from, before = ids(in)
		return from, before, nil
	}
	brought, err := hasBrought(r, m)
	if brought {
		in.From, in.Before = "", ""
	}
	from, before = ids(in)
	return from, before, err
}

// hasBrought reports whether the merchant has a customer with an id that was brought.
func hasBrought(r conn, m grahak.MerchantID) (bool, error) {
	var one int
	err := r.queryRow(`SELECT 1 FROM customers WHERE merchant_id = $1 AND brought IS NOT NULL ORDER BY brought, id LIMIT 1`, string(m)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
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
	before = afterAllIDs
	for _, end := range []grahak.CustomerID{in.Before, in.Behind.ID} {
		if end != "" {
			before = min(before, string(end))
		}
	}
	return string(in.From), before
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
