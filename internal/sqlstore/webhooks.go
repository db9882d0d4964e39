package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"grahak"
)

const webhookColumns = `merchant_id, id, url, types, label, created_at, disabled_at, disabled_for, secret_version, previous_until,
	cursor, failures, failing_since, resume_at, holder, term`

func webhookNotFound(id grahak.WebhookID) error {
	return grahak.Errorf(grahak.CodeWebhookNotFound, "The merchant has no webhook %q: see `grahak webhook list`.", string(id))
}

// webhookTypes is how the types of events of an endpoint are stored: one behind
// the other.
func webhookTypes(types []grahak.EventType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ",")
}

// webhookFields are where the columns of an endpoint go.
func webhookFields(w *grahak.Webhook, types *string) []any {
	return []any{
		(*string)(&w.Merchant), (*string)(&w.ID), &w.URL, types, &w.Label, &w.CreatedAt, &w.DisabledAt, (*string)(&w.DisabledFor), &w.SecretVersion, &w.PreviousUntil,
		&w.Cursor, &w.Failures, &w.FailingSince, &w.ResumeAt, (*string)(&w.Holder), &w.Term,
	}
}

func scanWebhook(row row) (w grahak.Webhook, err error) {
	var types string
	err = row.Scan(webhookFields(&w, &types)...)
	for t := range strings.SplitSeq(types, ",") {
		w.Types = append(w.Types, grahak.EventType(t))
	}
	return w, err
}

func webhook(c conn, m grahak.MerchantID, id grahak.WebhookID) (grahak.Webhook, error) {
	w, err := scanWebhook(c.queryRow(`SELECT `+webhookColumns+` FROM webhooks WHERE merchant_id = $1 AND id = $2`, string(m), string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return w, webhookNotFound(id)
	}
	return w, err
}

// changeWebhook runs a change of an endpoint, which others wait for. One that
// changes nothing leaves no event.
func (s *portable) changeWebhook(ctx context.Context, m grahak.MerchantID, e grahak.Event, change func(tx) error) error {
	return s.write(ctx, func(tx tx) error {
		if err := tx.lockAccess(); err != nil {
			return err
		}
		if err := change(tx); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		return tx.appendEvent(m, e)
	})
}

// checkWebhooks returns an error if the merchant has as many endpoints as it may.
func checkWebhooks(tx conn, m grahak.MerchantID) error {
	var n int
	if err := tx.queryRow(`SELECT count(*) FROM webhooks WHERE merchant_id = $1 AND disabled_at IS NULL`, string(m)).Scan(&n); err != nil {
		return err
	}
	if n >= grahak.MaxWebhooks {
		return grahak.Errorf(grahak.CodeWebhooksFull, "The merchant has %d webhooks, which is the most: disable one first with `grahak webhook disable`.", n)
	}
	return nil
}

// CreateWebhook implements [grahak.WebhookStore].
func (s *portable) CreateWebhook(ctx context.Context, m grahak.MerchantID, w grahak.Webhook, e grahak.Event) error {
	return s.changeWebhook(ctx, m, e, func(tx tx) error {
		if _, err := merchant(tx, m); err != nil {
			return err
		}
		if err := checkWebhooks(tx, m); err != nil {
			return err
		}
		head, err := chainHead(tx, m)
		if err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO webhooks (merchant_id, id, url, types, label, created_at, disabled_for, secret_version, cursor, failures, holder, term)
			VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, '', 0)`,
			string(m), string(w.ID), w.URL, webhookTypes(w.Types), w.Label, w.CreatedAt.UnixMicro(), w.SecretVersion, head.Position)
		return err
	})
}

// Webhooks implements [grahak.WebhookStore].
func (s *portable) Webhooks(ctx context.Context, m grahak.MerchantID) (list []grahak.Webhook, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, scanWebhook, `SELECT `+webhookColumns+` FROM webhooks WHERE merchant_id = $1 ORDER BY id`, string(m))
		return err
	})
	return list, err
}

// Webhook implements [grahak.WebhookStore].
func (s *portable) Webhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID) (w grahak.Webhook, err error) {
	err = s.read(ctx, func(r conn) error {
		w, err = webhook(r, m, id)
		return err
	})
	return w, err
}

// DisableWebhook implements [grahak.WebhookStore].
func (s *portable) DisableWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, at time.Time, e grahak.Event) error {
	return s.changeWebhook(ctx, m, e, func(tx tx) error {
		if _, err := webhook(tx, m, id); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE webhooks SET disabled_at = $3, disabled_for = $4, holder = '', term = term + 1
			WHERE merchant_id = $1 AND id = $2 AND disabled_at IS NULL`, string(m), string(id), at.UnixMicro(), string(grahak.WebhookEndOperator))
		return unlessUnchanged(n, err)
	})
}

// EnableWebhook implements [grahak.WebhookStore].
func (s *portable) EnableWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, e grahak.Event) error {
	return s.changeWebhook(ctx, m, e, func(tx tx) error {
		w, err := webhook(tx, m, id)
		if err != nil {
			return err
		}
		if w.DisabledAt.IsZero() {
			return errUnchanged
		}
		if err := checkWebhooks(tx, m); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE webhooks SET disabled_at = NULL, disabled_for = '', failures = 0, failing_since = NULL, resume_at = NULL, holder = '', term = term + 1
			WHERE merchant_id = $1 AND id = $2`, string(m), string(id))
		if err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE webhook_retries SET attempts = 0, first_at = $3, next_at = $3 WHERE merchant_id = $1 AND webhook_id = $2 AND next_at > 0`,
			string(m), string(id), e.At.UnixMicro())
		return err
	})
}

// RotateWebhookSecret implements [grahak.WebhookStore].
func (s *portable) RotateWebhookSecret(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, version int64, until time.Time, e grahak.Event) (rotated bool, err error) {
	err = s.changeWebhook(ctx, m, e, func(tx tx) error {
		if _, err := webhook(tx, m, id); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE webhooks SET secret_version = secret_version + 1, previous_until = $4 WHERE merchant_id = $1 AND id = $2 AND secret_version = $3`,
			string(m), string(id), version, until.UnixMicro())
		rotated = n > 0
		return unlessUnchanged(n, err)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return rotated, nil
}

// WebhookWork implements [grahak.WebhookStore].
func (s *portable) WebhookWork(ctx context.Context) (list []grahak.WebhookWork, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		list, err = queryAll(r, func(row row) (work grahak.WebhookWork, err error) {
			var types string
			err = row.Scan(append(webhookFields(&work.Webhook, &types), &work.Head, &work.RetryAt)...)
			for t := range strings.SplitSeq(types, ",") {
				work.Types = append(work.Types, grahak.EventType(t))
			}
			return work, err
		}, `SELECT `+webhookColumns+`,
			coalesce((SELECT last_position FROM event_chain AS c WHERE c.merchant_id = w.merchant_id ORDER BY c.first_position DESC LIMIT 1), 0),
			(SELECT next_at FROM webhook_retries AS r WHERE r.merchant_id = w.merchant_id AND r.webhook_id = w.id AND r.next_at > 0 ORDER BY r.next_at LIMIT 1)
			FROM webhooks AS w WHERE disabled_at IS NULL`)
		return err
	})
	return list, err
}

// webhookLag implements [Store.WebhookLag].
func (s *portable) webhookLag(ctx context.Context, now time.Time) (lag time.Duration, err error) {
	var unread, waiting time.Time
	err = s.read(ctx, func(r conn) error {
		return r.queryRow(`SELECT min((SELECT at FROM events AS e WHERE e.merchant_id = w.merchant_id AND e.position > w.cursor ORDER BY e.position LIMIT 1)),
			min((SELECT first_at FROM webhook_retries AS r WHERE r.merchant_id = w.merchant_id AND r.webhook_id = w.id AND r.next_at > 0 ORDER BY r.next_at LIMIT 1))
			FROM webhooks AS w WHERE disabled_at IS NULL`).Scan(&unread, &waiting)
	})
	for _, at := range []time.Time{unread, waiting} {
		if err == nil && !at.IsZero() {
			lag = max(lag, now.Sub(at))
		}
	}
	return lag, err
}

// ClaimWebhook implements [grahak.WebhookStore].
func (s *portable) ClaimWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, term int64, holder grahak.NodeID) (claimed bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		n, err := tx.exec(`UPDATE webhooks SET holder = $4, term = term + 1 WHERE merchant_id = $1 AND id = $2 AND term = $3 AND disabled_at IS NULL`,
			string(m), string(id), term, string(holder))
		claimed = n > 0
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return claimed, nil
}

// ReleaseWebhook implements [grahak.WebhookStore].
func (s *portable) ReleaseWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, holder grahak.NodeID) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(`UPDATE webhooks SET holder = '', term = term + 1 WHERE merchant_id = $1 AND id = $2 AND holder = $3`, string(m), string(id), string(holder))
		return err
	})
}

// WebhookWaiting implements [grahak.WebhookStore].
func (s *portable) WebhookWaiting(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID) (waiting map[grahak.CustomerID]time.Time, err error) {
	err = s.read(ctx, func(r conn) error {
		waiting = make(map[grahak.CustomerID]time.Time)
		return r.query(func(row row) error {
			var customer string
			var next time.Time
			err := row.Scan(&customer, &next)
			waiting[grahak.CustomerID(customer)] = next
			return err
		}, `SELECT customer_id, next_at FROM webhook_retries WHERE merchant_id = $1 AND webhook_id = $2 AND next_at > 0`, string(m), string(id))
	})
	return waiting, err
}

// WebhookRetries implements [grahak.WebhookStore]. It looks the events up one by
// one: a planner that takes what is due for much would read all of the merchant's.
// Nor may it take the index on next_at for a customer's earliest event, which is
// why that is not compared as it is.
func (s *portable) WebhookRetries(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, due time.Time, limit int) (list []grahak.WebhookRetry, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, scanRetry, `SELECT r.position, r.event_id, r.customer_id, r.attempts, r.first_at, r.next_at,
			coalesce((SELECT e.type FROM events AS e WHERE e.merchant_id = r.merchant_id AND e.position = r.position), ''),
			(SELECT e.changed FROM events AS e WHERE e.merchant_id = r.merchant_id AND e.position = r.position),
			(SELECT e.at FROM events AS e WHERE e.merchant_id = r.merchant_id AND e.position = r.position)
			FROM webhook_retries AS r WHERE r.merchant_id = $1 AND r.webhook_id = $2 AND r.next_at > 0 AND r.next_at <= $3 AND r.position = (SELECT b.position FROM webhook_retries AS b
				WHERE b.merchant_id = r.merchant_id AND b.webhook_id = r.webhook_id AND b.customer_id = r.customer_id AND coalesce(b.next_at, 0) > 0 ORDER BY b.position LIMIT 1)
			ORDER BY r.next_at LIMIT $4`, string(m), string(id), due.UnixMicro(), limit)
		return err
	})
	return list, err
}

func scanRetry(row row) (r grahak.WebhookRetry, err error) {
	var changed sql.NullString
	err = row.Scan(&r.Event.Position, (*string)(&r.Event.ID), &r.Event.Subject, &r.Attempts, &r.FirstAt, &r.NextAt, (*string)(&r.Event.Type), &changed, &r.Event.At)
	if err == nil {
		r.Event.Changed, err = parseChanged(changed, r.Event.Position)
	}
	return r, err
}

// SettleWebhook implements [grahak.WebhookStore].
func (s *portable) SettleWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, holder grahak.NodeID, term int64, settled grahak.WebhookSettlement) (held bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		n, err := tx.exec(`UPDATE webhooks SET cursor = CASE WHEN cursor > $5 THEN cursor ELSE $5 END, failures = $6, failing_since = $7, resume_at = $8
			WHERE merchant_id = $1 AND id = $2 AND holder = $3 AND term = $4 AND disabled_at IS NULL`,
			string(m), string(id), string(holder), term, settled.Cursor, settled.Failures, micros(settled.FailingSince), micros(settled.ResumeAt))
		if held = n > 0; err != nil || !held {
			return err
		}
		if err := settleRetries(tx, m, id, settled); err != nil {
			return err
		}
		for _, a := range settled.Attempts {
			err := tx.later(`INSERT INTO webhook_attempts (merchant_id, webhook_id, at, event_id, position, attempt, took, status, failure)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (merchant_id, webhook_id, at, event_id) DO NOTHING`,
				string(m), string(id), a.At.UnixMicro(), string(a.EventID), a.Position, a.Attempt, a.Took.Microseconds(), a.Status, string(a.Failure))
			if err != nil {
				return err
			}
		}
		if settled.End == "" {
			return nil
		}
		_, err = tx.exec(`UPDATE webhooks SET disabled_at = $3, disabled_for = $4, holder = '', term = term + 1 WHERE merchant_id = $1 AND id = $2`,
			string(m), string(id), settled.EndAt.UnixMicro(), string(settled.End))
		if err != nil {
			return err
		}
		return tx.appendEvent(m, settled.EndEvent)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return held, nil
}

// settleRetries writes the events of a settlement that are not delivered.
func settleRetries(tx tx, m grahak.MerchantID, id grahak.WebhookID, settled grahak.WebhookSettlement) error {
	for _, position := range settled.Done {
		if err := tx.later(`DELETE FROM webhook_retries WHERE merchant_id = $1 AND webhook_id = $2 AND position = $3`, string(m), string(id), position); err != nil {
			return err
		}
	}
	for _, r := range settled.Retries {
		err := tx.later(`INSERT INTO webhook_retries (merchant_id, webhook_id, position, event_id, customer_id, attempts, first_at, next_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (merchant_id, webhook_id, position) DO UPDATE SET attempts = excluded.attempts, first_at = excluded.first_at, next_at = excluded.next_at`,
			string(m), string(id), r.Event.Position, string(r.Event.ID), r.Event.Subject, r.Attempts, r.FirstAt.UnixMicro(), micros(r.NextAt))
		if err != nil {
			return err
		}
	}
	for customer, next := range settled.NextAt {
		err := tx.later(`UPDATE webhook_retries SET next_at = $4 WHERE merchant_id = $1 AND webhook_id = $2 AND customer_id = $3 AND next_at > 0`,
			string(m), string(id), string(customer), next.UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}

// ReplayWebhook implements [grahak.WebhookStore]. What waits behind an event that is
// sent again is due with it.
func (s *portable) ReplayWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, from, to int64, givenUp bool, e grahak.Event) (replayed int, err error) {
	at := e.At.UnixMicro()
	err = s.write(ctx, func(tx tx) error {
		w, err := webhook(tx, m, id)
		if err != nil {
			return err
		}
		if !w.DisabledAt.IsZero() {
			return grahak.Errorf(grahak.CodeWebhookDisabled, "The webhook %s is disabled, so nothing is sent to it: enable it first with `grahak webhook enable %s`.", id, id)
		}
		var n int64
		if givenUp {
			n, err = tx.exec(`UPDATE webhook_retries SET attempts = 0, first_at = $5, next_at = $5
				WHERE merchant_id = $1 AND webhook_id = $2 AND position >= $3 AND position <= $4 AND next_at IS NULL`,
				string(m), string(id), from, to, at)
		} else {
			// A type that is not asked for is asked for twice.
			types := [3]string{string(w.Types[0]), string(w.Types[0]), string(w.Types[0])}
			for i, t := range w.Types[:min(len(w.Types), len(types))] {
				types[i] = string(t)
			}
			n, err = tx.exec(`INSERT INTO webhook_retries (merchant_id, webhook_id, position, event_id, customer_id, attempts, first_at, next_at)
				SELECT w.merchant_id, w.id, e.position, e.id, e.subject, 0, CAST($5 AS BIGINT), CAST($5 AS BIGINT)
				FROM webhooks AS w JOIN events AS e ON e.merchant_id = w.merchant_id AND e.position <= w.cursor
				WHERE w.merchant_id = $1 AND w.id = $2 AND e.position >= $3 AND e.position <= $4 AND e.type IN ($6, $7, $8)
				ON CONFLICT (merchant_id, webhook_id, position) DO UPDATE SET attempts = 0, first_at = excluded.first_at, next_at = excluded.next_at`,
				string(m), string(id), from, to, at, types[0], types[1], types[2])
		}
		if replayed = int(n); err != nil || n == 0 {
			return err
		}
		_, err = tx.exec(`UPDATE webhook_retries SET next_at = $3 WHERE merchant_id = $1 AND webhook_id = $2 AND next_at > $3
			AND EXISTS (SELECT 1 FROM webhook_retries AS r WHERE r.merchant_id = $1 AND r.webhook_id = $2 AND r.customer_id = webhook_retries.customer_id AND r.next_at = $3)`,
			string(m), string(id), at)
		if err != nil {
			return err
		}
		return tx.appendEvent(m, e)
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return 0, err
	}
	return replayed, nil
}

// WebhookLog implements [grahak.WebhookStore].
func (s *portable) WebhookLog(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, failed bool, limit int) (list []grahak.WebhookAttempt, err error) {
	read := limit
	if failed {
		// The log is short, and what failed is in no order of its own.
		read = math.MaxInt32
	}
	err = s.read(ctx, func(r conn) error {
		list = nil
		return r.query(func(row row) error {
			var a grahak.WebhookAttempt
			var took int64
			if err := row.Scan(&a.At, (*string)(&a.EventID), &a.Position, &a.Attempt, &took, &a.Status, (*string)(&a.Failure)); err != nil {
				return err
			}
			a.Took = time.Duration(took) * time.Microsecond
			if failed && a.Delivered() {
				return nil
			}
			if list = append(list, a); len(list) == limit {
				return io.EOF
			}
			return nil
		}, `SELECT at, event_id, position, attempt, took, status, failure FROM webhook_attempts WHERE merchant_id = $1 AND webhook_id = $2
			ORDER BY at DESC, event_id DESC LIMIT $3`, string(m), string(id), read)
	})
	return list, err
}

// PruneWebhook implements [grahak.WebhookStore].
func (s *portable) PruneWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, before time.Time, keep int, givenUpBefore time.Time, limit int) (more bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		// nth is the time of an attempt in a set order, zero if there are not as many.
		nth := func(order string, skip int) (at time.Time, err error) {
			err = tx.queryRow(`SELECT at FROM webhook_attempts WHERE merchant_id = $1 AND webhook_id = $2 ORDER BY at `+order+` LIMIT 1 OFFSET $3`, string(m), string(id), skip).Scan(&at)
			if errors.Is(err, sql.ErrNoRows) {
				return time.Time{}, nil
			}
			return at, err
		}
		until := before.Add(-time.Microsecond)
		surplus, err := nth("DESC", keep)
		if err != nil {
			return err
		}
		if surplus.After(until) {
			until = surplus
		}
		last, err := nth("ASC", limit-1)
		if err != nil {
			return err
		}
		if more = !last.IsZero() && last.Before(until); more {
			until = last
		}
		if _, err := tx.exec(`DELETE FROM webhook_attempts WHERE merchant_id = $1 AND webhook_id = $2 AND at <= $3`, string(m), string(id), until.UnixMicro()); err != nil {
			return err
		}
		var position int64
		err = tx.queryRow(`SELECT position FROM webhook_retries WHERE merchant_id = $1 AND webhook_id = $2 AND coalesce(next_at, 0) = 0 AND first_at < $3 ORDER BY position LIMIT 1 OFFSET $4`,
			string(m), string(id), givenUpBefore.UnixMicro(), limit-1).Scan(&position)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			position = math.MaxInt64
		case err != nil:
			return err
		default:
			more = true
		}
		_, err = tx.exec(`DELETE FROM webhook_retries WHERE merchant_id = $1 AND webhook_id = $2 AND next_at IS NULL AND first_at < $3 AND position <= $4`,
			string(m), string(id), givenUpBefore.UnixMicro(), position)
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return more, nil
}
