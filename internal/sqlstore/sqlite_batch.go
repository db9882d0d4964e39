package sqlstore

import (
	"database/sql"
	"errors"
	"strconv"

	"grahak"
)

// batch is what one transaction of the writer knows or has made so far, for what
// is read or written once a transaction rather than once a write. It is emptied
// when a transaction begins.
type batch struct {
	positions   map[grahak.MerchantID]int64 // of the last event
	keyVersions map[grahak.MerchantID]int64
	events      []keptEvent // that are not written yet
	args        []any       // of insertEvents
}

// reset empties b.
func (b *batch) reset() {
	if b.positions == nil {
		b.positions = make(map[grahak.MerchantID]int64)
		b.keyVersions = make(map[grahak.MerchantID]int64)
	}
	clear(b.positions)
	clear(b.keyVersions)
	b.events = b.events[:0]
}

// nextPosition returns the position of the next event of m. The database is
// asked once a transaction, because other processes write events too.
func (b *batch) nextPosition(tx *sqliteConn, m grahak.MerchantID) (int64, error) {
	last, known := b.positions[m]
	if !known {
		var err error
		if last, err = lastPosition(tx, m); err != nil {
			return 0, err
		}
	}
	b.positions[m] = last + 1
	return last + 1, nil
}

// addEvent gives the event its position and keeps it to be written with others, which
// costs half of what it costs alone.
func (b *batch) addEvent(tx *sqliteConn, m grahak.MerchantID, e grahak.Event) error {
	position, err := b.nextPosition(tx, m)
	if err != nil {
		return err
	}
	e.Position = position
	b.events = append(b.events, keptEvent{merchant: string(m), Event: e, changed: changedFields(e), at: e.At.UnixMicro()})
	return nil
}

// addFound is addEvent for an event that made c, or gave it other values to be found by.
func (b *batch) addFound(tx *sqliteConn, m grahak.MerchantID, e grahak.Event, c *grahak.CustomerRecord) error {
	if err := b.addEvent(tx, m, e); err != nil {
		return err
	}
	return tx.pending.add(tx, m, b.positions[m], c)
}

// keptEvent is an event that is to be written.
type keptEvent struct {
	grahak.Event
	merchant string
	changed  any
	at       int64 // microseconds since 1970 UTC
}

// eventArgs is how many arguments an event is.
const eventArgs = 10

// insertEvents has the statements that write 1, 2, 4 … events. A conflict undoes the
// whole transaction, which happens after any error: to undo only the statement, SQLite
// would keep a copy of each page that it changes.
var insertEvents = func() (queries [6]string) {
	for i := range queries {
		query := "INSERT OR ROLLBACK INTO events (merchant_id, position, id, type, subject, revision, changed, actor, request_id, at) VALUES "
		for n := range eventArgs << i {
			switch {
			case n == 0:
				query += "("
			case n%eventArgs == 0:
				query += "), ("
			default:
				query += ", "
			}
			query += "$" + strconv.Itoa(n+1)
		}
		queries[i] = query + ")"
	}
	return queries
}()

// writeEvents writes the events that were kept.
func (b *batch) writeEvents(tx *sqliteConn) error {
	rest := b.events
	for i := len(insertEvents) - 1; i >= 0; i-- {
		for n := 1 << i; len(rest) >= n; rest = rest[n:] {
			b.args = b.args[:0]
			for j := range rest[:n] {
				e := &rest[j]
				b.args = append(b.args, &e.merchant, &e.Position, (*string)(&e.ID), (*string)(&e.Type), &e.Subject, &e.Revision, e.changed, &e.Actor, &e.RequestID, &e.at)
			}
			if _, err := tx.exec(insertEvents[i], b.args...); err != nil {
				return err
			}
		}
	}
	clear(b.events)
	b.events = b.events[:0]
	return nil
}

// lastPosition returns the position of the merchant's last event, 0 for none. Where
// all events were pruned the chain has it.
func lastPosition(c conn, m grahak.MerchantID) (last int64, err error) {
	err = c.queryRow(`SELECT position FROM events WHERE merchant_id = $1 ORDER BY position DESC LIMIT 1`, string(m)).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		last, _, err = chainTotal(c, m)
	}
	return last, err
}

var errKeyRotated = &grahak.Error{Code: grahak.CodeKeyRotated, Message: "The merchant's sealing keys have changed."}

// checkKey returns [errKeyRotated] unless version is the newest of the
// merchant's sealing key, so that no write follows a rotation that was sealed
// before it.
func (b *batch) checkKey(tx *sqliteConn, m grahak.MerchantID, version int64) error {
	newest, known := b.keyVersions[m]
	if !known {
		err := tx.queryRow(`SELECT version FROM keysets WHERE merchant_id = $1`, string(m)).Scan(&newest)
		if errors.Is(err, sql.ErrNoRows) {
			return merchantNotFound(m)
		}
		if err != nil {
			return err
		}
		b.keyVersions[m] = newest
	}
	if version != newest {
		return errKeyRotated
	}
	return nil
}

// lockAccess implements [tx]: the writer is alone.
func (tx *sqliteConn) lockAccess() error { return nil }

// lockIndex implements [tx].
func (tx *sqliteConn) lockIndex(grahak.MerchantID) error { return nil }

// lockKeys implements [tx].
func (tx *sqliteConn) lockKeys(grahak.MerchantID) error { return nil }

// rotated implements [tx].
func (tx *sqliteConn) rotated(m grahak.MerchantID) { delete(tx.batch.keyVersions, m) }

// unfound implements [tx].
func (tx *sqliteConn) unfound(m grahak.MerchantID, value []byte, id grahak.CustomerID) {
	tx.pending.remove(m, value, id)
}

// flush writes what is owed before the transaction is committed: events, and which
// merchants have some to put in order.
func (b *batch) flush(tx *sqliteConn) error {
	if err := b.writeEvents(tx); err != nil {
		return err
	}
	for m := range b.positions {
		if err := noteUnordered(tx, m); err != nil {
			return err
		}
	}
	return nil
}
