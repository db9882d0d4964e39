package sqlstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

// hold returns a connection that reads the database as of one moment, and lets
// nobody write it before it is closed.
func (s *SQLite) hold() (*sqliteConn, error) {
	c, err := newConn(dsn(SQLiteConfig{Path: s.path, LockWait: copyWait}, fmt.Sprintf("cache_size(-%d)", writerCacheKiB)))
	if err != nil {
		return nil, explain(s.path, err)
	}
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, explain(s.path, errors.Join(err, c.close()))
	}
	return c, nil
}

// copyState is what a copy must know of the store that it is made of.
type copyState struct {
	environment grahak.Environment
	masterKeyID string
	createdAt   int64 // in microseconds
	// identity tells the store from others, and content also from what it was at
	// another time: every write changes a table that is small or the number of rows
	// of another.
	identity, content [sha256.Size]byte
	rows              map[string]int64 // in each table, as it is copied
}

// copyState looks at the store. It counts all rows, which takes seconds for
// millions.
func (c *sqliteConn) copyState() (s copyState, err error) {
	s.rows = make(map[string]int64)
	if s.masterKeyID, err = masterKeyID(c); err != nil {
		return s, err
	}
	if err := c.queryRow(`SELECT environment, created_at FROM instance WHERE id = 1`).Scan((*string)(&s.environment), &s.createdAt); err != nil {
		return s, err
	}
	s.identity = sha256.Sum256(fmt.Appendf(nil, "%s %d", s.environment, s.createdAt))
	var schema int64
	if err := c.queryRow(schemaVersionQuery).Scan(&schema); err != nil {
		return s, err
	}
	content := sha256.New()
	fmt.Fprintf(content, "schema %d\n", schema)
	for _, t := range copyTables {
		var rows int64
		if err := c.queryRow(`SELECT count(*) FROM ` + t.from()).Scan(&rows); err != nil {
			return s, err
		}
		s.rows[t.name] = rows
		fmt.Fprintf(content, "%s %d\n", t.name, rows)
	}
	// As many events may have been pruned as were written.
	var pruned int64
	if err := c.queryRow(`SELECT coalesce(sum(last_position), 0) FROM event_chain WHERE first_position = $1`, checkpointPosition).Scan(&pruned); err != nil {
		return s, err
	}
	fmt.Fprintf(content, "pruned %d\n", pruned)
	for _, t := range append([]copyTable{instanceTable}, copyTables...) {
		switch t.name {
		case "customers", "client_auth_tokens", "events", "pending_events", "event_chain", "lookup_blocks", "webhook_attempts":
			// A customer changes with an event, a token's key with its use, the chain
			// and the look-up index with their ends and runs, a delivery log with its
			// endpoint.
			continue
		}
		sum, err := c.sum(t, new(atomic.Int64))
		if err != nil {
			return s, err
		}
		content.Write(sum.SHA256[:])
	}
	content.Sum(s.content[:0])
	return s, nil
}

// rowsOf calls each with the rows of a table in the order of its key, those behind
// the key after only if that is not nil.
func (c *sqliteConn) rowsOf(t copyTable, after []any, each func(*statement) error) error {
	query := `SELECT ` + t.columns + ` FROM ` + t.from()
	if after != nil {
		query += ` WHERE (` + t.key + `) > (`
		for i := range after {
			query += fmt.Sprintf("$%d, ", i+1)
		}
		query = strings.TrimSuffix(query, ", ") + `)`
	}
	return c.query(func(r row) error {
		s, ok := r.(*statement)
		if !ok {
			return fmt.Errorf("a row of SQLite is a %T", r)
		}
		return each(s)
	}, query+` ORDER BY `+t.key, after...)
}

// chunks calls send with the rows of a table behind the key that after marks, in
// chunks of at most limit rows.
func (c *sqliteConn) chunks(t copyTable, after []byte, limit int, send func(copyChunk) error) error {
	args, err := unmark(after)
	if err != nil {
		return err
	}
	var chunk copyChunk
	columns, key := t.columnCount(), t.keyColumns()
	err = c.rowsOf(t, args, func(s *statement) (err error) {
		if chunk.tuples, err = s.appendTuple(chunk.tuples, columns); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		chunk.last = s.appendMark(chunk.last[:0], key)
		if chunk.rows++; chunk.rows < int64(limit) && len(chunk.tuples) < maxChunk {
			return nil
		}
		full := chunk
		chunk = copyChunk{tuples: make([]byte, 0, len(full.tuples))}
		return send(full)
	})
	if err != nil || chunk.rows == 0 {
		return err
	}
	return send(chunk)
}

// sum reads a table to its end. It adds to seen as it goes.
func (c *sqliteConn) sum(t copyTable, seen *atomic.Int64) (sum TableSum, err error) {
	hash, columns := sha256.New(), t.columnCount()
	var tuple []byte
	err = c.rowsOf(t, nil, func(s *statement) (err error) {
		tuple, err = s.appendTuple(tuple[:0], columns)
		hash.Write(tuple)
		sum.Rows++
		seen.Add(1)
		return err
	})
	hash.Sum(sum.SHA256[:0])
	return sum, err
}

// null is the length of NULL.
const null = 1<<32 - 1

// appendTuple appends the row that s has come to, in the binary form of
// PostgreSQL's COPY, whose integers have eight bytes.
func (s *statement) appendTuple(buf []byte, columns int) ([]byte, error) {
	buf = binary.BigEndian.AppendUint16(buf, uint16(columns))
	for i := range int32(columns) {
		switch kind := sqlite3.Xsqlite3_column_type(s.conn.tls, s.ptr, i); kind {
		case sqlite3.SQLITE_NULL:
			buf = binary.BigEndian.AppendUint32(buf, null)
		case sqlite3.SQLITE_INTEGER:
			buf = binary.BigEndian.AppendUint32(buf, 8)
			buf = binary.BigEndian.AppendUint64(buf, uint64(sqlite3.Xsqlite3_column_int64(s.conn.tls, s.ptr, i)))
		case sqlite3.SQLITE_TEXT, sqlite3.SQLITE_BLOB:
			value := s.blob(i)
			buf = binary.BigEndian.AppendUint32(buf, uint32(len(value)))
			buf = append(buf, value...)
		default:
			return buf, fmt.Errorf("column %d: a value of type %d has no place in the other database", i+1, kind)
		}
	}
	return buf, nil
}

// appendMark appends the first columns of the row that s has come to, so that
// [unmark] gives the values back. They are integers, text and blobs, which SQLite
// compares each in its own way.
func (s *statement) appendMark(mark []byte, columns int) []byte {
	for i := range int32(columns) {
		kind := sqlite3.Xsqlite3_column_type(s.conn.tls, s.ptr, i)
		mark = append(mark, byte(kind))
		if kind == sqlite3.SQLITE_INTEGER {
			mark = binary.AppendVarint(mark, sqlite3.Xsqlite3_column_int64(s.conn.tls, s.ptr, i))
			continue
		}
		value := s.blob(i)
		mark = append(binary.AppendUvarint(mark, uint64(len(value))), value...)
	}
	return mark
}

var errDamagedMark = errors.New("the note of how far the copy has come is damaged: empty the database, and copy again")

// unmark is the inverse of [statement.appendMark]; nil for an empty mark.
func unmark(mark []byte) (values []any, err error) {
	for len(mark) > 0 {
		kind := mark[0]
		mark = mark[1:]
		if kind == sqlite3.SQLITE_INTEGER {
			value, n := binary.Varint(mark)
			if n <= 0 {
				return nil, errDamagedMark
			}
			values, mark = append(values, value), mark[n:]
			continue
		}
		length, n := binary.Uvarint(mark)
		if n <= 0 || length > uint64(len(mark)-n) {
			return nil, errDamagedMark
		}
		value := mark[n : n+int(length)]
		mark = mark[n+int(length):]
		if kind == sqlite3.SQLITE_TEXT {
			values = append(values, string(value))
		} else {
			values = append(values, value)
		}
	}
	return values, nil
}
