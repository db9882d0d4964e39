package sqlstore

import (
	"context"
	"errors"

	"grahak"
)

// KnownCustomers implements [grahak.ImportStore].
func (s *SQLite) KnownCustomers(ctx context.Context, m grahak.MerchantID, references []grahak.Index, ids []grahak.CustomerID) (list []grahak.CustomerRecord, revisions map[grahak.CustomerID]int64, err error) {
	revisions = make(map[grahak.CustomerID]int64)
	err = s.read(ctx, func(r conn) error {
		return r.snapshot(func() error {
			for _, reference := range references {
				found, err := queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND reference_index = $2`, string(m), reference[:])
				if err != nil {
					return err
				}
				list = append(list, found...)
			}
			for _, id := range ids {
				found, err := queryCustomers(r, `SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id))
				if err != nil {
					return err
				}
				list = append(list, found...)
				var revision int64
				// As in EventsOf.
				err = r.queryRow(`SELECT coalesce(max(revision), 0) FROM events WHERE merchant_id = $1
					AND position IN (SELECT position FROM events WHERE merchant_id = $1 AND subject = $2)`, string(m), string(id)).Scan(&revision)
				if err != nil {
					return err
				}
				if revision > 0 {
					revisions[id] = revision
				}
			}
			return nil
		})
	})
	return list, revisions, err
}

// ImportCustomers implements [grahak.ImportStore]. Others write in the same
// transaction, so what is undone is undone to where it began.
func (s *SQLite) ImportCustomers(ctx context.Context, m grahak.MerchantID, step grahak.ImportStep) (bool, error) {
	var done bool
	err := s.do(ctx, func(tx *sqliteConn) (err error) {
		done = false
		if err := checkBefore(tx, m, step, ""); err != nil {
			return err
		}
		if err := keyVersions(step, func(v int64) error { return tx.batch.checkKey(tx, m, v) }); err != nil {
			return err
		}
		position, known := tx.batch.positions[m]
		if _, err := tx.exec("SAVEPOINT step"); err != nil {
			return err
		}
		if done, err = tx.importStep(m, step); err != nil {
			return err
		}
		if !done {
			if _, err := tx.exec("ROLLBACK TO step"); err != nil {
				return err
			}
			tx.batch.events = tx.batch.events[:0]
			tx.pending.forget()
			if delete(tx.batch.positions, m); known {
				tx.batch.positions[m] = position
			}
		}
		_, err = tx.exec("RELEASE step")
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return done, nil
}

// importStep writes a step. If it reports false, or returns an error, what it has
// written is to be undone.
func (tx *sqliteConn) importStep(m grahak.MerchantID, step grahak.ImportStep) (bool, error) {
	for _, w := range step.Created {
		c := w.Customer
		n, err := tx.exec(`INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at, brought)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
			string(m), string(c.ID), c.Reference[:], short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.CreatedAt.UnixMicro(), c.UpdatedAt.UnixMicro(), broughtAt(c))
		if err != nil || n == 0 {
			return false, err
		}
	}
	for _, w := range step.Created {
		if err := tx.batch.addFound(tx, m, w.Event, &w.Customer); err != nil {
			return false, err
		}
	}
	for _, w := range step.Updated {
		done, err := tx.updateCustomer(m, w.Customer, w.Event)
		if errors.Is(err, errCustomerNotFound) {
			return false, nil
		}
		if err != nil || !done {
			return false, err
		}
	}
	if err := tx.batch.writeEvents(tx); err != nil {
		return false, err
	}
	return true, putImport(tx, m, step)
}
