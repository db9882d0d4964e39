package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// conn is one database connection with the statements prepared on it. It is
// used by one goroutine at a time.
//
// Statements run without a request's context on purpose: SQLite answers a
// cancelled statement by rolling back the whole transaction, with everybody
// else's writes in it.
type conn struct {
	sql        *sql.Conn
	statements map[string]*sql.Stmt
}

func newConn(ctx context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{sql: c, statements: make(map[string]*sql.Stmt)}, nil
}

// close closes the statements, which nothing else does, and the connection.
// Later uses fail with [sql.ErrConnDone].
func (c *conn) close() error {
	var err error
	for _, stmt := range c.statements {
		err = errors.Join(err, stmt.Close())
	}
	clear(c.statements)
	return errors.Join(err, c.sql.Close())
}

// statement returns query prepared, from memory after the first time. The
// queries of a process are its constants, so there are few.
func (c *conn) statement(query string) (*sql.Stmt, error) {
	if stmt := c.statements[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := c.sql.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = stmt
	return stmt, nil
}

// exec runs query and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	stmt, err := c.statement(query) //nolint:sqlclosecheck // It stays prepared for as long as the connection lives.
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// scanner is what a row is read from: *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// failedRow is a row that could not be asked for.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// queryRow runs a query that returns at most one row.
func (c *conn) queryRow(query string, args ...any) scanner {
	stmt, err := c.statement(query) //nolint:sqlclosecheck // It stays prepared for as long as the connection lives.
	if err != nil {
		return failedRow{err}
	}
	return stmt.QueryRowContext(context.Background(), args...)
}

// query runs a query and hands each row to scan.
func (c *conn) query(scan func(scanner) error, query string, args ...any) error {
	stmt, err := c.statement(query) //nolint:sqlclosecheck // It stays prepared for as long as the connection lives.
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// snapshot runs fn with all its reads of one moment.
func (c *conn) snapshot(fn func() error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	err := fn()
	if _, endErr := c.exec("ROLLBACK"); err == nil {
		err = endErr
	}
	return err
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
