package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"grahak"
)

const merchantColumns = `id, name, ip_mode, created_at, disabled_at`

func merchantNotFound(m grahak.MerchantID) error {
	return grahak.Errorf(grahak.CodeMerchantNotFound, "There is no merchant %q: see `grahak merchant list`, or make it with `grahak merchant create %s`.", string(m), string(m))
}

// errUnchanged is what a change returns that found things as they should be,
// and so wrote nothing.
var errUnchanged = errors.New("there is nothing to change")

// changeAccess runs a write after which every process must forget what it
// remembers of keys, IP lists and merchants. A change that changes nothing
// leaves no event.
func (s *portable) changeAccess(ctx context.Context, m grahak.MerchantID, e grahak.Event, change func(tx) error) error {
	return s.write(ctx, func(tx tx) error {
		if err := tx.lockAccess(); err != nil {
			return err
		}
		if err := change(tx); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE instance SET access_version = access_version + 1 WHERE id = 1`); err != nil {
			return err
		}
		return tx.appendEvent(m, e)
	})
}

// unlessUnchanged returns [errUnchanged] for a statement that changed no row.
func unlessUnchanged(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errUnchanged
	}
	return err
}

// CreateMerchant implements [grahak.MerchantStore].
func (s *portable) CreateMerchant(ctx context.Context, m grahak.Merchant, keys grahak.Keyset, e grahak.Event) error {
	return s.changeAccess(ctx, m.ID, e, func(tx tx) error {
		if named, err := masterKeyID(tx); err != nil {
			return err
		} else if named != keys.MasterKeyID {
			return errKeyRotated
		}
		n, err := tx.exec(`INSERT INTO merchants (id, name, ip_mode, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`,
			string(m.ID), m.Name, string(m.IPMode), m.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return grahak.Errorf(grahak.CodeMerchantExists, "The merchant %q exists already.", string(m.ID))
		}
		return insertKeyset(tx, m, keys)
	})
}

// Merchant implements [grahak.MerchantStore].
func (s *portable) Merchant(ctx context.Context, id grahak.MerchantID) (m grahak.Merchant, err error) {
	err = s.read(ctx, func(r conn) error {
		m, err = merchant(r, id)
		return err
	})
	return m, err
}

func merchant(c conn, id grahak.MerchantID) (grahak.Merchant, error) {
	m, err := scanMerchant(c.queryRow(`SELECT `+merchantColumns+` FROM merchants WHERE id = $1`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return m, merchantNotFound(id)
	}
	return m, err
}

// Merchants implements [grahak.MerchantStore].
func (s *portable) Merchants(ctx context.Context) (list []grahak.Merchant, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, scanMerchant, `SELECT `+merchantColumns+` FROM merchants ORDER BY id`)
		return err
	})
	return list, err
}

// DisableMerchant implements [grahak.MerchantStore].
func (s *portable) DisableMerchant(ctx context.Context, id grahak.MerchantID, at time.Time, e grahak.Event) error {
	return s.changeAccess(ctx, id, e, func(tx tx) error {
		if _, err := merchant(tx, id); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE merchants SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL`, at.UnixMicro(), string(id))
		return unlessUnchanged(n, err)
	})
}

func scanMerchantID(row row) (m grahak.MerchantID, err error) {
	err = row.Scan((*string)(&m))
	return m, err
}

func scanMerchant(row row) (grahak.Merchant, error) {
	var m grahak.Merchant
	err := row.Scan((*string)(&m.ID), &m.Name, (*string)(&m.IPMode), &m.CreatedAt, &m.DisabledAt)
	return m, err
}
