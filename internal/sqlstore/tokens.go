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
	return s.prune(ctx, "client_auth_tokens", "merchant_id, customer_id, hash", now, limit)
}
