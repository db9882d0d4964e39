package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"grahak"
)

const keyColumns = `merchant_id, id, hash, prefix, label, scope, created_at, expires_at, revoked_at, last_used_at, last_used_addr`

func keyNotFound(id grahak.KeyID) error {
	return grahak.Errorf(grahak.CodeKeyNotFound, "The merchant has no key %q: see `grahak key list`.", string(id))
}

// CreateKey implements [grahak.KeyStore].
func (s *portable) CreateKey(ctx context.Context, m grahak.MerchantID, k grahak.APIKey, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		if _, err := merchant(tx, m); err != nil {
			return err
		}
		return insertKey(tx, m, k)
	})
}

func insertKey(tx conn, m grahak.MerchantID, k grahak.APIKey) error {
	n, err := tx.exec(`INSERT INTO api_keys (merchant_id, id, hash, prefix, label, scope, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (hash) DO NOTHING`,
		string(m), string(k.ID), k.Hash[:], k.Prefix, k.Label, string(k.Scope), k.CreatedAt.UnixMicro(), micros(k.ExpiresAt))
	if err == nil && n == 0 {
		return grahak.Errorf(grahak.CodeKeyExists, "This key exists already, at this or another merchant: every key must be different.")
	}
	return err
}

// Keys implements [grahak.KeyStore].
func (s *portable) Keys(ctx context.Context, m grahak.MerchantID) (list []grahak.APIKey, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, scanKey, `SELECT `+keyColumns+` FROM api_keys WHERE merchant_id = $1 ORDER BY id`, string(m))
		return err
	})
	return list, err
}

// Key implements [grahak.KeyStore].
func (s *portable) Key(ctx context.Context, m grahak.MerchantID, id grahak.KeyID) (k grahak.APIKey, err error) {
	err = s.read(ctx, func(r conn) error {
		k, err = apiKey(r, m, id)
		return err
	})
	return k, err
}

func apiKey(c conn, m grahak.MerchantID, id grahak.KeyID) (grahak.APIKey, error) {
	k, err := scanKey(c.queryRow(`SELECT `+keyColumns+` FROM api_keys WHERE merchant_id = $1 AND id = $2`, string(m), string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return k, keyNotFound(id)
	}
	return k, err
}

// RevokeKey implements [grahak.KeyStore].
func (s *portable) RevokeKey(ctx context.Context, m grahak.MerchantID, id grahak.KeyID, at time.Time, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		if _, err := apiKey(tx, m, id); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE api_keys SET revoked_at = $1 WHERE merchant_id = $2 AND id = $3 AND revoked_at IS NULL`, at.UnixMicro(), string(m), string(id))
		return unlessUnchanged(n, err)
	})
}

// RotateKey implements [grahak.KeyStore].
func (s *portable) RotateKey(ctx context.Context, m grahak.MerchantID, old grahak.KeyID, oldExpires time.Time, successor grahak.APIKey, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		k, err := apiKey(tx, m, old)
		if err != nil {
			return err
		}
		if !k.RevokedAt.IsZero() {
			return keyNotFound(old)
		}
		// The insert may be refused, and what is refused must have written nothing.
		if err := insertKey(tx, m, successor); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE api_keys SET expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END
			WHERE merchant_id = $2 AND id = $3`, oldExpires.UnixMicro(), string(m), string(old))
		return err
	})
}

// TouchKeys implements [grahak.KeyStore].
func (s *portable) TouchKeys(ctx context.Context, used map[grahak.KeyRef]grahak.KeyUse) error {
	// Processes that note the same keys at once must not wait for each other in a
	// circle.
	refs := slices.SortedFunc(maps.Keys(used), func(a, b grahak.KeyRef) int {
		return cmp.Or(cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Key, b.Key))
	})
	return s.write(ctx, func(tx tx) error {
		for _, ref := range refs {
			var addr any
			if a := used[ref].Addr; a.IsValid() {
				addr = a.Unmap().WithZone("").String()
			}
			err := tx.later(`UPDATE api_keys SET last_used_at = $1, last_used_addr = $2
				WHERE merchant_id = $3 AND id = $4 AND (last_used_at IS NULL OR last_used_at < $1)`,
				used[ref].At.UnixMicro(), addr, string(ref.Merchant), string(ref.Key))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Access implements [grahak.KeyStore].
func (s *portable) Access(ctx context.Context, hash grahak.KeyHash) (a grahak.AccessRecord, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		return r.snapshot(func() error {
			a.Key, err = scanKey(r.queryRow(`SELECT `+keyColumns+` FROM api_keys WHERE hash = $1`, hash[:]))
			if errors.Is(err, sql.ErrNoRows) {
				return grahak.Errorf(grahak.CodeKeyNotFound, "There is no such key.")
			}
			if err != nil {
				return err
			}
			if a.Merchant, err = merchant(r, a.Key.Merchant); err != nil {
				return err
			}
			a.IPList, err = queryAll(r, scanPrefix, `SELECT prefix FROM ip_list WHERE merchant_id = $1`, string(a.Key.Merchant))
			return err
		})
	})
	return a, err
}

func scanPrefix(row row) (netip.Prefix, error) {
	var prefix string
	if err := row.Scan(&prefix); err != nil {
		return netip.Prefix{}, err
	}
	return netip.ParsePrefix(prefix)
}

func scanKey(row row) (grahak.APIKey, error) {
	var k grahak.APIKey
	var hash []byte
	var addr sql.NullString
	err := row.Scan((*string)(&k.Merchant), (*string)(&k.ID), &hash, &k.Prefix, &k.Label, (*string)(&k.Scope), &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt, &k.LastUsedAt, &addr)
	if err == nil && addr.Valid {
		k.LastUsedAddr, err = netip.ParseAddr(addr.String)
	}
	copy(k.Hash[:], hash)
	return k, err
}
