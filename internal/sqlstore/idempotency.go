package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"grahak"
)

var errIdempotencyKeyUsed = &grahak.Error{Code: grahak.CodeIdempotencyKeyUsed, Message: "The idempotency key was used before."}

// Idempotency implements [grahak.CustomerStore].
func (s *portable) Idempotency(ctx context.Context, m grahak.MerchantID, key grahak.Index, now time.Time) (r grahak.IdempotencyRecord, found bool, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		r, found, err = idempotency(c, m, key, now)
		return err
	})
	return r, found, err
}

func idempotency(c conn, m grahak.MerchantID, key grahak.Index, now time.Time) (grahak.IdempotencyRecord, bool, error) {
	r := grahak.IdempotencyRecord{Key: key}
	err := c.queryRow(`SELECT request_index, outcome, customer_id, expires_at FROM idempotency_keys WHERE merchant_id = $1 AND key_index = $2 AND expires_at > $3`,
		string(m), key[:], now.UnixMicro()).Scan(&r.Request, (*string)(&r.Outcome), (*string)(&r.Customer), &r.ExpiresAt)
	if errors.Is(err, sql.ErrNoRows) {
		return grahak.IdempotencyRecord{}, false, nil
	}
	return r, err == nil, err
}

var putIdempotency = keepIdempotency + `VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (merchant_id, key_index) DO UPDATE SET
	request_index = excluded.request_index, outcome = excluded.outcome, customer_id = excluded.customer_id, expires_at = excluded.expires_at
	WHERE idempotency_keys.expires_at <= $7`

// PutIdempotency implements [grahak.CustomerStore].
func (s *portable) PutIdempotency(ctx context.Context, m grahak.MerchantID, r grahak.IdempotencyRecord) error {
	return s.write(ctx, func(tx tx) error { return keepKey(tx, m, &r) })
}

// keepKey writes the record of an idempotency key as part of tx, if there is one.
// Where the record of another request stands that has not expired, it writes nothing
// and returns [errIdempotencyKeyUsed].
func keepKey(c conn, m grahak.MerchantID, r *grahak.IdempotencyRecord) error {
	if r == nil {
		return nil
	}
	n, err := c.exec(putIdempotency, string(m), r.Key[:], r.Request[:], string(r.Outcome), string(r.Customer), r.ExpiresAt.UnixMicro(), r.At.UnixMicro())
	if err == nil && n == 0 {
		return errIdempotencyKeyUsed
	}
	return err
}

// PruneIdempotency implements [grahak.Store].
func (s *portable) PruneIdempotency(ctx context.Context, now time.Time, limit int) (int, error) {
	return s.prune(ctx, "idempotency_keys", "merchant_id, key_index", now, limit)
}

// prune deletes at most limit rows of a table, whose key's columns are given, that
// expired before now, and returns how many it deleted.
func (s *portable) prune(ctx context.Context, table, key string, now time.Time, limit int) (int, error) {
	var due int
	err := s.read(ctx, func(r conn) error {
		// Without an order, a planner that takes many for expired reads the table
		// from its beginning to find the first, which is all of it if there is none.
		return r.queryRow(fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %s WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1) AS expired`, table), now.UnixMicro()).Scan(&due)
	})
	// Most looks find nothing, and those cost no write.
	if err != nil || due == 0 {
		return 0, err
	}
	var deleted int64
	err = s.write(ctx, func(tx tx) error {
		var err error
		// PostgreSQL takes a limit that it does not know for a tenth of what there is,
		// and then reads all of a large table for every batch.
		deleted, err = tx.exec(fmt.Sprintf(`DELETE FROM %s WHERE (%s) IN
			(SELECT %[2]s FROM %[1]s WHERE expires_at <= $1 ORDER BY expires_at LIMIT %[3]d)`, table, key, limit), now.UnixMicro())
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return 0, err
	}
	return int(deleted), nil
}
