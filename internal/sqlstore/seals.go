package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"grahak"
)

const sealColumns = `merchant_id, revision, master_key_id, version, sealing, indexing, rotated_at, oldest_version, walking, walked_to, seen, unopened`

// MasterKeyID implements [grahak.SealStore].
func (s *portable) MasterKeyID(ctx context.Context, id string) (string, error) {
	var named string
	read := func() error {
		return s.read(ctx, func(r conn) (err error) {
			named, err = masterKeyID(r)
			return err
		})
	}
	if err := read(); err != nil || id == "" || named == id {
		return named, err
	}
	err := s.write(ctx, func(tx tx) error {
		if err := tx.lockAccess(); err != nil {
			return err
		}
		if named, err := masterKeyID(tx); err != nil {
			return err
		} else if named != "" {
			// It stays, unless nothing is under it.
			var used bool
			if err := tx.queryRow(`SELECT EXISTS (SELECT 1 FROM keysets)`).Scan(&used); err != nil || used {
				return err
			}
		}
		_, err := tx.exec(`UPDATE instance SET master_key_id = $1 WHERE id = 1`, id)
		return err
	})
	if err != nil {
		return "", err
	}
	// It may be that another is named for good.
	err = read()
	return named, err
}

func masterKeyID(c conn) (string, error) {
	var named sql.NullString
	err := c.queryRow(`SELECT master_key_id FROM instance WHERE id = 1`).Scan(&named)
	return named.String, err
}

// insertKeyset writes the keys of a new merchant as part of tx.
func insertKeyset(tx conn, m grahak.Merchant, k grahak.Keyset) error {
	_, err := tx.exec(`INSERT INTO keysets (merchant_id, master_key_id, sealing, indexing, version, oldest_version, rotated_at) VALUES ($1, $2, $3, $4, $5, $5, $6)`,
		string(m.ID), k.MasterKeyID, k.Sealing, k.Indexing, k.Version, m.CreatedAt.UnixMicro())
	return err
}

// Keyset implements [grahak.SealStore].
func (s *portable) Keyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error) {
	state, err := s.SealState(ctx, m)
	return state.Keyset, err
}

// SealState implements [grahak.SealStore].
func (s *portable) SealState(ctx context.Context, m grahak.MerchantID) (state grahak.SealState, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		state, err = sealState(r, m)
		return err
	})
	return state, err
}

func sealState(c conn, m grahak.MerchantID) (grahak.SealState, error) {
	state, err := scanSealState(c.queryRow(`SELECT `+sealColumns+` FROM keysets WHERE merchant_id = $1`, string(m)))
	if errors.Is(err, sql.ErrNoRows) {
		return state, merchantNotFound(m)
	}
	return state, err
}

func scanSealState(row row) (grahak.SealState, error) {
	var state grahak.SealState
	err := row.Scan((*string)(&state.Merchant), &state.Revision, &state.MasterKeyID, &state.Version, &state.Sealing, &state.Indexing,
		&state.RotatedAt, &state.Oldest, &state.Walking, (*string)(&state.After), &state.Seen, &state.Unopened)
	return state, err
}

// SealStates implements [grahak.SealStore].
func (s *portable) SealStates(ctx context.Context) (list []grahak.SealState, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = sealStates(r)
		return err
	})
	return list, err
}

func sealStates(c conn) ([]grahak.SealState, error) {
	return queryAll(c, scanSealState, `SELECT `+sealColumns+` FROM keysets ORDER BY merchant_id`)
}

// Rotating implements [grahak.SealStore].
func (s *portable) Rotating(ctx context.Context) (list []grahak.MerchantID, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		list, err = queryAll(r, scanMerchantID, `SELECT merchant_id FROM keysets WHERE oldest_version < version ORDER BY merchant_id`)
		return err
	})
	return list, err
}

// RotateKeyset implements [grahak.SealStore].
func (s *portable) RotateKeyset(ctx context.Context, k grahak.Keyset, at time.Time, e grahak.Event) error {
	return s.changeAccess(ctx, k.Merchant, e, func(tx tx) error {
		tx.rotated(k.Merchant)
		state, err := sealState(tx, k.Merchant)
		if err != nil {
			return err
		}
		if state.Revision != k.Revision {
			return errKeyRotated
		}
		_, err = tx.exec(`UPDATE keysets SET revision = revision + 1, version = $1, sealing = $2, rotated_at = $3, walking = 1, walked_to = '', seen = 0, unopened = 0
			WHERE merchant_id = $4`, k.Version, k.Sealing, at.UnixMicro(), string(k.Merchant))
		return err
	})
}

// Reseal implements [grahak.SealStore].
func (s *portable) Reseal(ctx context.Context, state grahak.SealState, before grahak.CustomerID, customers []grahak.CustomerRecord) error {
	m := string(state.Merchant)
	return s.write(ctx, func(tx tx) error {
		if err := tx.lockIndex(state.Merchant); err != nil {
			return err
		}
		stored, err := sealState(tx, state.Merchant)
		if err != nil {
			return err
		}
		if stored.Version != state.Version || !stored.Walking || stored.After != before {
			return errKeyRotated
		}
		var keys [][]byte
		for _, c := range customers {
			old, err := indexesOf(tx, state.Merchant, c.ID)
			if errors.Is(err, errCustomerNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			// Where several processes write, a write under the older version may have
			// been under way when the newest one was made. It must not be undone, so
			// its customer is passed over; whoever ends the rotation finds it. None is
			// under a newer version, unless that was altered; it must not be lost for
			// that.
			n, err := tx.exec(`UPDATE customers SET email_index = $1, mobile_index = $2, sealed = $3, key_version = $4
				WHERE merchant_id = $5 AND id = $6 AND revision = $7 AND key_version <> $4`,
				short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, m, string(c.ID), c.Revision)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			added, err := old.replace(tx, state.Merchant, c)
			if err != nil {
				return err
			}
			keys = append(keys, added...)
		}
		if err := addKeys(tx, state.Merchant, keys); err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := noteUnordered(tx, state.Merchant); err != nil {
				return err
			}
		}
		_, err = tx.exec(`UPDATE keysets SET walking = $1, walked_to = $2, seen = $3, unopened = $4 WHERE merchant_id = $5`,
			state.Walking, string(state.After), state.Seen, state.Unopened, m)
		return err
	})
}

// RestartReseal implements [grahak.SealStore].
func (s *portable) RestartReseal(ctx context.Context, m grahak.MerchantID, version int64) error {
	return s.write(ctx, func(tx tx) error {
		n, err := tx.exec(`UPDATE keysets SET walking = 1, walked_to = '', seen = 0, unopened = 0 WHERE merchant_id = $1 AND version = $2 AND oldest_version < $2`, string(m), version)
		if err == nil && n == 0 {
			return errKeyRotated
		}
		return err
	})
}

// RetireKeyset implements [grahak.SealStore]. Writes under an older version may
// have been under way when the newest one was made; it waits for those to end, and
// then none can come. So it is enough to look before the write begins, which takes
// seconds for millions of customers.
func (s *portable) RetireKeyset(ctx context.Context, k grahak.Keyset, e grahak.Event) error {
	if err := s.write(ctx, func(tx tx) error { return tx.lockKeys(k.Merchant) }); err != nil {
		return err
	}
	var old string
	err := s.longRead(ctx, func(r conn) error {
		return r.queryRow(`SELECT id FROM customers WHERE merchant_id = $1 AND key_version <> $2 LIMIT 1`, string(k.Merchant), k.Version).Scan(&old)
	})
	if err == nil {
		if err := s.RestartReseal(ctx, k.Merchant, k.Version); err != nil {
			return err
		}
		return errKeyRotated
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return s.changeAccess(ctx, k.Merchant, e, func(tx tx) error {
		if err := tx.lockIndex(k.Merchant); err != nil {
			return err
		}
		state, err := sealState(tx, k.Merchant)
		if err != nil {
			return err
		}
		if state.Revision != k.Revision || state.Walking || state.Unopened > 0 {
			return errKeyRotated
		}
		_, err = tx.exec(`UPDATE keysets SET revision = revision + 1, sealing = $1, oldest_version = version WHERE merchant_id = $2`, k.Sealing, string(k.Merchant))
		return err
	})
}

// RewrapKeysets implements [grahak.SealStore].
func (s *portable) RewrapKeysets(ctx context.Context, masterKeyID string, keysets []grahak.Keyset, events []grahak.Event) error {
	revisions := make(map[grahak.MerchantID]int64, len(keysets))
	for _, k := range keysets {
		revisions[k.Merchant] = k.Revision
	}
	return s.write(ctx, func(tx tx) error {
		if err := tx.lockAccess(); err != nil {
			return err
		}
		states, err := sealStates(tx)
		if err != nil {
			return err
		}
		if len(states) != len(keysets) {
			return errKeyRotated
		}
		for _, state := range states {
			if revision, given := revisions[state.Merchant]; !given || revision != state.Revision {
				return errKeyRotated
			}
		}
		for i, k := range keysets {
			err := tx.later(`UPDATE keysets SET revision = revision + 1, master_key_id = $1, sealing = $2, indexing = $3 WHERE merchant_id = $4`,
				masterKeyID, k.Sealing, k.Indexing, string(k.Merchant))
			if err != nil {
				return err
			}
			if err := tx.appendEvent(k.Merchant, events[i]); err != nil {
				return err
			}
		}
		_, err = tx.exec(`UPDATE instance SET master_key_id = $1, access_version = access_version + 1 WHERE id = 1`, masterKeyID)
		return err
	})
}
