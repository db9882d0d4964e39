package sqlstore

import (
	"database/sql"
	"io"
	"time"

	"grahak"
)

// conn is what statements run on, of either engine. It is used by one goroutine
// at a time.
//
// Parameters are $1, $2 …; arguments are strings, byte slices, int, int64, bool
// or nil.
type conn interface {
	// exec runs a statement and returns how many rows it changed.
	exec(query string, args ...any) (int64, error)
	// query runs a query and hands each row to scan, until that returns an error.
	// io.EOF from scan ends the query without being an error of it.
	query(scan func(row) error, query string, args ...any) error
	// queryRow returns the first row of a query, which runs when that is read.
	queryRow(query string, args ...any) row
	// later runs a statement before the next one, or before the transaction that
	// it is in is committed: where that saves time, several of them run together.
	// The arguments may change once it has returned.
	later(query string, args ...any) error
	// snapshot runs fn with all its reads of one moment.
	snapshot(fn func() error) error
	// blockSize is when a block of the look-up index is full, in bytes.
	blockSize() int
}

// tx is a transaction that writes.
type tx interface {
	conn
	// appendEvent writes an event of the merchant.
	appendEvent(m grahak.MerchantID, e grahak.Event) error
	// lockAccess waits for all other transactions that have called it to end, so
	// that what is read from then on of merchants, keys and IP lists holds until
	// this one ends.
	lockAccess() error
	// lockIndex does the same for a merchant's re-sealing, chain and look-up
	// index.
	lockIndex(m grahak.MerchantID) error
	// lockKeys waits for all writes to end that have looked at the version of the
	// merchant's key, so that none under an older version than the newest is under
	// way any more.
	lockKeys(m grahak.MerchantID) error
	// rotated is told that the merchant's key gets another version.
	rotated(m grahak.MerchantID)
	// unfound is told that the merchant's customer has lost the value of an index.
	unfound(m grahak.MerchantID, value []byte, id grahak.CustomerID)
}

// row is one row of a result.
type row interface {
	// Scan copies the columns into dest, pointers to string, []byte (nil for
	// NULL), int, int64, bool, [time.Time] (see micros), [sql.NullString],
	// [grahak.Index] or [grahak.ShortIndex] (zero for NULL). If there is no row
	// it returns [sql.ErrNoRows].
	Scan(dest ...any) error
}

// firstRow is the first row of a query that runs when it is read.
type firstRow struct {
	conn  conn
	query string
	args  []any
}

// Scan implements [row].
func (f firstRow) Scan(dest ...any) error {
	found := false
	err := f.conn.query(func(r row) error {
		found = true
		if err := r.Scan(dest...); err != nil {
			return err
		}
		return io.EOF
	}, f.query, f.args...)
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// queryAll returns what scan makes of each row of a query.
func queryAll[T any](c conn, scan func(row) (T, error), query string, args ...any) (list []T, err error) {
	err = c.query(func(r row) error {
		v, err := scan(r)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}

// micros is how a time is stored: microseconds since 1970 UTC, NULL for none.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
