package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"grahak"
)

// insertEvent writes e as part of tx.
func insertEvent(tx *conn, m grahak.MerchantID, e grahak.Event) error {
	var changed any
	if len(e.Changed) > 0 {
		names := make([]string, len(e.Changed))
		for i, f := range e.Changed {
			names[i] = f.String()
		}
		changed = strings.Join(names, ",")
	}
	position, err := tx.batch.nextPosition(tx, m)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO events (merchant_id, position, id, type, subject, revision, changed, actor, request_id, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		string(m), position, string(e.ID), string(e.Type), e.Subject, e.Revision, changed, e.Actor, e.RequestID, e.At.UnixMicro())
	return err
}

const eventColumns = `position, id, type, subject, revision, changed, actor, request_id, at`

// Events implements [grahak.EventStore].
func (s *Store) Events(ctx context.Context, m grahak.MerchantID, after int64, limit int) ([]grahak.Event, error) {
	return s.events(ctx, `SELECT `+eventColumns+` FROM events WHERE merchant_id = $1 AND position > $2 ORDER BY position LIMIT $3`, string(m), after, limit)
}

// EventsOf implements [grahak.EventStore]. The positions come first, from the
// index by subject: asked for events in order of position, SQLite would read all
// of the merchant's.
func (s *Store) EventsOf(ctx context.Context, m grahak.MerchantID, subject string) ([]grahak.Event, error) {
	return s.events(ctx, `SELECT `+eventColumns+` FROM events WHERE merchant_id = $1
		AND position IN (SELECT position FROM events WHERE merchant_id = $1 AND subject = $2) ORDER BY position`, string(m), subject)
}

func (s *Store) events(ctx context.Context, query string, args ...any) (list []grahak.Event, err error) {
	err = s.vital.read(ctx, func(r *conn) error {
		return r.query(func(row row) error {
			e, err := scanEvent(row)
			list = append(list, e)
			return err
		}, query, args...)
	})
	return list, err
}

func scanEvent(row row) (grahak.Event, error) {
	var e grahak.Event
	var changed sql.NullString
	err := row.Scan(&e.Position, (*string)(&e.ID), (*string)(&e.Type), &e.Subject, &e.Revision, &changed, &e.Actor, &e.RequestID, &e.At)
	if changed.Valid {
		for name := range strings.SplitSeq(changed.String, ",") {
			f, ok := grahak.ParseField(name)
			if !ok {
				return e, fmt.Errorf("the event at position %d names a field that there is not: it was altered", e.Position)
			}
			e.Changed = append(e.Changed, f)
		}
	}
	return e, err
}
