package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"grahak"
)

// Tokens implements [grahak.CustomerStore].
func (s *portable) Tokens(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID) (list []grahak.TokenRecord, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, func(row row) (grahak.TokenRecord, error) {
			token := grahak.TokenRecord{Merchant: m, Customer: id}
			var hash []byte
			err := row.Scan(&hash, &token.ExpiresAt)
			copy(token.Hash[:], hash)
			return token, err
		}, `SELECT hash, expires_at FROM client_auth_tokens WHERE merchant_id = $1 AND customer_id = $2 ORDER BY expires_at, hash`, string(m), string(id))
		return err
	})
	return list, err
}

// Token implements [grahak.Store].
func (s *portable) Token(ctx context.Context, hash grahak.TokenHash, now time.Time) (grahak.TokenRecord, error) {
	token := grahak.TokenRecord{Hash: hash}
	err := s.read(ctx, func(r conn) error {
		err := r.queryRow(`SELECT t.merchant_id, t.customer_id, t.expires_at FROM client_auth_tokens t JOIN merchants m ON m.id = t.merchant_id
			WHERE t.hash = $1 AND t.expires_at > $2 AND m.disabled_at IS NULL`, hash[:], now.UnixMicro()).
			Scan((*string)(&token.Merchant), (*string)(&token.Customer), &token.ExpiresAt)
		if errors.Is(err, sql.ErrNoRows) {
			return grahak.Errorf(grahak.CodeTokenNotFound, "There is no such token, or it has expired.")
		}
		return err
	})
	if err != nil {
		return grahak.TokenRecord{}, err
	}
	return token, nil
}

// PruneTokens implements [grahak.Store].
func (s *portable) PruneTokens(ctx context.Context, now time.Time, limit int) (int, error) {
	var due int
	err := s.read(ctx, func(r conn) error {
		// Without an order, a planner that takes many for expired reads the table
		// from its beginning to find the first, which is all of it if there is none.
		return r.queryRow(`SELECT count(*) FROM (SELECT 1 FROM client_auth_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1) AS expired`, now.UnixMicro()).Scan(&due)
	})
	// Most looks find nothing, and those cost no write.
	if err != nil || due == 0 {
		return 0, err
	}
	var deleted int64
	err = s.write(ctx, func(tx tx) error {
		var err error
		deleted, err = tx.exec(`DELETE FROM client_auth_tokens WHERE (merchant_id, customer_id, hash) IN
			(SELECT merchant_id, customer_id, hash FROM client_auth_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`,
			now.UnixMicro(), limit)
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return 0, err
	}
	return int(deleted), nil
}
