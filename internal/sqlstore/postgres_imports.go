package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"grahak"
)

// KnownCustomers implements [grahak.ImportStore]. Each is looked up by itself; see
// search.
func (s *Postgres) KnownCustomers(ctx context.Context, m grahak.MerchantID, references []grahak.Index, ids []grahak.CustomerID) (list []grahak.CustomerRecord, revisions map[grahak.CustomerID]int64, err error) {
	values, names := make([]string, len(references)), make([]string, len(ids))
	for i, reference := range references {
		values[i] = string(reference[:])
	}
	for i, id := range ids {
		names[i] = string(id)
	}
	err = s.read(ctx, func(c conn) error {
		revisions = make(map[grahak.CustomerID]int64)
		return c.snapshot(func() error {
			list, err = queryCustomers(c, `SELECT `+customerColumns+` FROM unnest($2::bytea[]) AS wanted (value)
				CROSS JOIN LATERAL (SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND reference_index = wanted.value LIMIT 1) AS customer`, string(m), values)
			if err != nil || len(names) == 0 {
				return err
			}
			byID, err := queryCustomers(c, `SELECT `+customerColumns+` FROM unnest($2::bytea[]) AS wanted (value)
				CROSS JOIN LATERAL (SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = wanted.value LIMIT 1) AS customer`, string(m), names)
			if err != nil {
				return err
			}
			list = append(list, byID...)
			note := func(row row) error {
				var id string
				var revision int64
				err := row.Scan(&id, &revision)
				if revision == 0 { // Who was only looked at has not changed.
					return err
				}
				revisions[grahak.CustomerID(id)] = max(revisions[grahak.CustomerID(id)], revision)
				return err
			}
			err = c.query(note, `SELECT wanted.value, event.revision FROM unnest($2::bytea[]) AS wanted (value)
				CROSS JOIN LATERAL (SELECT max(revision) AS revision FROM events WHERE merchant_id = $1 AND subject = wanted.value) AS event
				WHERE event.revision IS NOT NULL`, string(m), names)
			if err != nil {
				return err
			}
			return c.query(note, `SELECT p.subject, p.revision FROM unnest($2::bytea[]) AS wanted (value) JOIN pending_events AS p ON p.subject = wanted.value
				WHERE p.merchant_id = $1`, string(m), names)
		})
	})
	return list, revisions, err
}

const (
	importCustomers = `INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at, brought)
		SELECT $1, id, reference_index, nullif(email_index, ''::bytea), nullif(mobile_index, ''::bytea), sealed, key_version, revision, created_at, updated_at, nullif(brought, 0)
		FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
			AS made (id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at, brought)
		ON CONFLICT DO NOTHING`
	importEvents = `INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
		SELECT $1, id, type, subject, revision, actor, request_id, at, 1
		FROM unnest($2::bytea[], $3::text[], $4::bytea[], $5::bigint[], $6::text[], $7::text[], $8::bigint[]) AS told (id, type, subject, revision, actor, request_id, at)`
)

// ImportCustomers implements [grahak.ImportStore]. It takes its locks in the order
// in which other writes do: the merchant's key, customers to make in the order of
// references, then those to change in the order of ids.
func (s *Postgres) ImportCustomers(ctx context.Context, m grahak.MerchantID, step grahak.ImportStep) (bool, error) {
	err := s.run(ctx, operation{slots: s.writing, limit: transactionLimit}, func(c *postgresConn) error {
		return c.transact(func(tx tx) error {
			if err := keyVersions(step, func(version int64) error { return holdKey(tx, m, version) }); err != nil {
				return err
			}
			if err := checkBefore(tx, m, step, " FOR UPDATE"); err != nil {
				return err
			}
			batch, want := importBatch(m, step)
			if err := c.runTogether(batch); err != nil {
				return err
			}
			for i, w := range batch {
				if w.rows != want[i] {
					return errImportMet
				}
			}
			return putImport(tx, m, step)
		})
	})
	if errors.Is(err, errImportMet) {
		return false, nil
	}
	return err == nil, err
}

// holdKey returns [errKeyRotated] unless version is the newest of the merchant's key,
// which it then is until the transaction ends.
func holdKey(tx conn, m grahak.MerchantID, version int64) error {
	var newest int64
	err := tx.queryRow(`SELECT version FROM keysets WHERE merchant_id = $1 FOR KEY SHARE`, string(m)).Scan(&newest)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return merchantNotFound(m)
	case err == nil && newest != version:
		return errKeyRotated
	}
	return err
}

// importBatch returns the statements of a step, and how many rows each writes.
func importBatch(m grahak.MerchantID, step grahak.ImportStep) (batch []write, want []int64) {
	if len(step.Created) > 0 {
		batch = append(batch,
			write{query: importCustomers, args: []any{
				string(m),
				each(step.Created, func(w grahak.ImportWrite) string { return string(w.Customer.ID) }),
				each(step.Created, func(w grahak.ImportWrite) string { return string(w.Customer.Reference[:]) }),
				each(step.Created, func(w grahak.ImportWrite) string { return shortText(w.Customer.Email) }),
				each(step.Created, func(w grahak.ImportWrite) string { return shortText(w.Customer.Mobile) }),
				each(step.Created, func(w grahak.ImportWrite) string { return string(w.Customer.Sealed.Bytes) }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Customer.Sealed.Version }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Customer.Revision }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Customer.CreatedAt.UnixMicro() }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Customer.UpdatedAt.UnixMicro() }),
				each(step.Created, func(w grahak.ImportWrite) int64 {
					at, _ := broughtAt(w.Customer).(int64)
					return at
				}),
			}},
			write{query: importEvents, args: []any{
				string(m),
				each(step.Created, func(w grahak.ImportWrite) string { return string(w.Event.ID) }),
				each(step.Created, func(w grahak.ImportWrite) string { return string(w.Event.Type) }),
				each(step.Created, func(w grahak.ImportWrite) string { return w.Event.Subject }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Event.Revision }),
				each(step.Created, func(w grahak.ImportWrite) string { return w.Event.Actor }),
				each(step.Created, func(w grahak.ImportWrite) string { return w.Event.RequestID }),
				each(step.Created, func(w grahak.ImportWrite) int64 { return w.Event.At.UnixMicro() }),
			}})
		want = append(want, int64(len(step.Created)), int64(len(step.Created)))
	}
	for _, w := range step.Updated {
		batch = append(batch, write{query: updateCustomer[0], args: updateArgs(m, w.Customer, w.Event)})
		want = append(want, 1)
	}
	return batch, want
}

// each returns what of makes of each of the list.
func each[T, V any](list []T, of func(T) V) []V {
	values := make([]V, len(list))
	for i, v := range list {
		values[i] = of(v)
	}
	return values
}

// shortText is a short index as text, empty for none.
func shortText(x grahak.ShortIndex) string {
	if x == (grahak.ShortIndex{}) {
		return ""
	}
	return string(x[:])
}

// errImportMet undoes a step that has met what it did not know of.
var errImportMet = errors.New("a step of an import met customers that it did not know")
