package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"

	"grahak"
)

// changedFields is how an event's changed fields are stored: their names, NULL
// for none.
func changedFields(e grahak.Event) any {
	if len(e.Changed) == 0 {
		return nil
	}
	names := make([]string, len(e.Changed))
	for i, f := range e.Changed {
		names[i] = f.String()
	}
	return strings.Join(names, ",")
}

const eventColumns = `position, id, type, subject, revision, changed, actor, request_id, at`

// Events implements [grahak.EventStore].
func (s *portable) Events(ctx context.Context, m grahak.MerchantID, after int64, limit int) ([]grahak.Event, error) {
	return s.events(ctx, `SELECT `+eventColumns+` FROM events WHERE merchant_id = $1 AND position > $2 ORDER BY position LIMIT $3`, string(m), after, limit)
}

// EventsIn implements [grahak.EventStore].
func (s *portable) EventsIn(ctx context.Context, m grahak.MerchantID, r grahak.EventRange, limit int) ([]grahak.Event, error) {
	query, args := s.eventsIn(m, r, limit)
	return s.events(ctx, query, args...)
}

// eventsIn returns the statement of EventsIn.
func (s *portable) eventsIn(m grahak.MerchantID, r grahak.EventRange, limit int) (query string, args []any) {
	before := r.Before
	if before == 0 {
		before = math.MaxInt64
	}
	args = []any{string(m), r.After, before, limit}
	order := "ORDER BY position"
	if r.Newest {
		order = "ORDER BY position DESC"
	}
	if r.Subject == "" {
		return `SELECT ` + eventColumns + ` FROM events WHERE merchant_id = $1 AND position > $2 AND position < $3 ` + order + ` LIMIT $4`, args
	}
	return s.eventsAbout(order), append(args, r.Subject)
}

// RecordEvent implements [grahak.EventStore].
func (s *portable) RecordEvent(ctx context.Context, m grahak.MerchantID, e grahak.Event) error {
	return s.write(ctx, func(tx tx) error {
		if _, err := merchant(tx, m); err != nil {
			return err
		}
		return tx.appendEvent(m, e)
	})
}

func (s *portable) events(ctx context.Context, query string, args ...any) (list []grahak.Event, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		list, err = queryAll(r, scanEvent, query, args...)
		return err
	})
	return list, err
}

func scanEvent(row row) (grahak.Event, error) {
	var e grahak.Event
	var changed sql.NullString
	err := row.Scan(&e.Position, (*string)(&e.ID), (*string)(&e.Type), &e.Subject, &e.Revision, &changed, &e.Actor, &e.RequestID, &e.At)
	if err != nil {
		return e, err
	}
	e.Changed, err = parseChanged(changed, e.Position)
	return e, err
}

// parseChanged reads the changed fields of the event at a position.
func parseChanged(changed sql.NullString, position int64) (list []grahak.Field, err error) {
	if !changed.Valid {
		return nil, nil
	}
	for name := range strings.SplitSeq(changed.String, ",") {
		f, ok := grahak.ParseField(name)
		if !ok {
			return list, fmt.Errorf("the event at position %d names a field that there is not: it was altered", position)
		}
		list = append(list, f)
	}
	return list, nil
}
