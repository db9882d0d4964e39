package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"
)

// conn is one database connection with the statements prepared on it. It is
// used by one goroutine at a time.
//
// It speaks to the driver itself: a pool that finds a connection, locks it,
// converts each argument and copies each column twice would cost as much as a
// look-up does.
//
// Statements run without a request's context on purpose: SQLite answers a
// cancelled statement by rolling back the whole transaction, with everybody
// else's writes in it. See during for the few that may be cancelled.
type conn struct {
	driver     driver.Conn     // nil when closed
	ctx        context.Context // of statements
	statements map[string]statement
	batch      batch               // what the transaction that runs has made so far; the writer's only
	args       []driver.NamedValue // of the statement that runs
	values     []driver.Value      // of the row that was read last
}

// statement is a prepared statement.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func newConn(d driver.Driver, dsn string) (*conn, error) {
	c, err := d.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{driver: c, ctx: context.Background(), statements: make(map[string]statement)}, nil
}

// errClosed is returned by a connection that is closed.
var errClosed = errors.New("the database connection is closed")

// close closes the connection and its statements. It may be called more than
// once.
func (c *conn) close() error {
	if c.driver == nil {
		return nil
	}
	var err error
	for _, stmt := range c.statements {
		err = errors.Join(err, stmt.Close())
	}
	err = errors.Join(err, c.driver.Close())
	c.driver, c.statements = nil, nil
	return err
}

// during runs fn with statements that are cancelled when ctx ends, whose error
// it then returns. It is for what takes long and shares no transaction with
// anybody.
func (c *conn) during(ctx context.Context, fn func() error) error {
	c.ctx = ctx
	defer func() { c.ctx = context.Background() }()
	err := fn()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// prepare returns query prepared, from memory after the first time. The
// queries of a process are its constants, so there are few.
func (c *conn) prepare(query string) (statement, error) {
	if stmt := c.statements[query]; stmt != nil {
		return stmt, nil
	}
	if c.driver == nil {
		return nil, errClosed
	}
	prepared, err := c.driver.Prepare(query)
	if err != nil {
		return nil, err
	}
	stmt, ok := prepared.(statement)
	if !ok {
		return nil, errors.Join(errors.New("the database driver cannot run a statement with a context"), prepared.Close())
	}
	c.statements[query] = stmt
	return stmt, nil
}

// bind returns args for the driver. They are valid until the next call.
func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, arg := range args {
		if n, ok := arg.(int); ok {
			arg = int64(n)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: arg})
	}
	return c.args
}

// exec runs query and returns how many rows it changed. Arguments are strings,
// byte slices, int, int64 or nil, and are not kept.
func (c *conn) exec(query string, args ...any) (int64, error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(c.ctx, c.bind(args))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row is one row of a result, or the error of getting it. It is valid until
// the next statement on its connection.
type row struct {
	values []driver.Value
	err    error
}

// Scan copies the columns into dest, pointers to string, []byte (nil for NULL),
// int, int64, [sql.NullInt64] or [sql.NullString]. If there was no row it returns
// [sql.ErrNoRows].
func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	if len(dest) != len(r.values) {
		return fmt.Errorf("a row of %d columns cannot be read as %d", len(r.values), len(dest))
	}
	for i, d := range dest {
		if err := assign(d, r.values[i]); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// assign stores the column v in the variable that dest points to.
func assign(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *string:
		if s, ok := v.(string); ok {
			*d = s
			return nil
		}
	case *[]byte:
		if b, ok := v.([]byte); ok || v == nil {
			*d = b
			return nil
		}
	case *int64:
		if n, ok := v.(int64); ok {
			*d = n
			return nil
		}
	case *int:
		if n, ok := v.(int64); ok {
			*d = int(n)
			return nil
		}
	case *sql.NullInt64:
		return d.Scan(v)
	case *sql.NullString:
		return d.Scan(v)
	}
	return fmt.Errorf("a %T does not go into a %T", v, dest)
}

// queryRow runs a query that returns at most one row that matters.
func (c *conn) queryRow(query string, args ...any) row {
	found := row{err: sql.ErrNoRows}
	err := c.query(func(r row) error {
		found = r
		return io.EOF
	}, query, args...)
	if err != nil {
		return row{err: err}
	}
	return found
}

// query runs a query and hands each row to scan, until that returns an error.
// io.EOF from scan ends the query without being an error of it.
func (c *conn) query(scan func(row) error, query string, args ...any) (err error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(c.ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		// After an error of a row, closing returns the same error once more.
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	columns := len(rows.Columns())
	if cap(c.values) < columns {
		c.values = make([]driver.Value, columns)
	}
	values := c.values[:columns]
	for {
		err := rows.Next(values)
		if err == nil {
			err = scan(row{values: values})
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// snapshot runs fn with all its reads of one moment.
func (c *conn) snapshot(fn func() error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	// Even after a panic the next reader must not find this moment.
	defer func() { _, _ = c.exec("ROLLBACK") }()
	return fn()
}

// micros is how a time is stored: microseconds since 1970 UTC, NULL for none.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// fromMicros is the inverse of micros.
func fromMicros(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}
