package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

// sqliteConn is one database connection with the statements prepared on it. It is
// used by one goroutine at a time.
//
// It speaks to SQLite itself. The driver for database/sql would lock the
// connection for each value, ask for the names and types of all columns of each
// result and allocate for each argument, which costs more than a look-up does.
//
// Statements run without a request's context on purpose: SQLite answers a
// cancelled statement by rolling back the whole transaction, with everybody
// else's writes in it. See during for the few that may be cancelled.
type sqliteConn struct {
	tls        *libc.TLS
	db         uintptr // 0 when closed
	statements map[string]*statement
	batch      batch       // what the transaction that runs has made so far; the writer's only
	pending    pendingKeys // the writer's only
	log        *logWriter  // the writer's only
	owned      []*ownMethods
}

// statement is a prepared statement.
type statement struct {
	conn *sqliteConn
	ptr  uintptr
	// params has, for each parameter in SQLite's order, the argument that
	// stands for it.
	params []int
	// The text and bytes of the arguments are in memory of SQLite's own, which
	// does not move.
	arguments uintptr
	size      int
}

// sqliteError is an error of SQLite.
type sqliteError struct {
	code    int // extended result code
	message string
}

func (e *sqliteError) Error() string { return e.message + " (" + strconv.Itoa(e.code) + ")" }

// newConn opens the database that dsn names, which exists, and runs its
// pragmas: dsn is a file's URI as SQLite reads it, whose parameters _pragma are
// those of the driver.
func newConn(dsn string) (*sqliteConn, error) {
	_, query, _ := strings.Cut(dsn, "?")
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	name, err := libc.CString(dsn)
	if err != nil {
		return nil, err
	}
	c := &sqliteConn{tls: libc.NewTLS(), statements: make(map[string]*statement)}
	defer libc.Xfree(c.tls, name)
	slot := libc.Xcalloc(c.tls, 1, pointerSize)
	defer libc.Xfree(c.tls, slot)
	// One goroutine at a time uses it, so SQLite need not lock it.
	const flags = sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_URI | sqlite3.SQLITE_OPEN_NOMUTEX | sqlite3.SQLITE_OPEN_EXRESCODE
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, slot, flags, 0)
	c.db = pointerAt(slot)
	if rc != sqlite3.SQLITE_OK {
		return nil, errors.Join(c.fault(rc), c.close())
	}
	if rc := c.planOnce(); rc != sqlite3.SQLITE_OK {
		return nil, errors.Join(c.fault(rc), c.close())
	}
	for _, pragma := range parameters["_pragma"] {
		if _, err := c.exec("PRAGMA " + pragma); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

const pointerSize = libc.Tsize_t(unsafe.Sizeof(uintptr(0)))

// memory is n bytes of SQLite's memory at p. They are valid as long as SQLite
// says.
func memory(p uintptr, n int) []byte {
	// A conversion would be taken for one of a Go pointer that was kept as a
	// number; this memory is not Go's.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n) //nolint:gosec // SQLite's memory is reached in no other way.
}

// pointerAt returns the pointer that is stored at p.
func pointerAt(p uintptr) uintptr {
	return **(**uintptr)(unsafe.Pointer(&p)) //nolint:gosec // As in memory.
}

// fault is the error for a result code.
func (c *sqliteConn) fault(rc int32) error {
	message := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 && sqlite3.Xsqlite3_extended_errcode(c.tls, c.db) == rc {
		message = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	}
	return &sqliteError{code: int(rc), message: message}
}

// errClosed is returned by a connection that is closed.
var errClosed = errors.New("the database connection is closed")

// planOnce has SQLite plan a statement without regard to its arguments. Otherwise
// it would compile one with a parameter in LIMIT anew each time, which costs as
// much as to run it.
func (c *sqliteConn) planOnce() int32 {
	arguments := libc.NewVaList(int32(1), uintptr(0))
	defer libc.Xfree(c.tls, arguments)
	return sqlite3.Xsqlite3_db_config(c.tls, c.db, sqlite3.SQLITE_DBCONFIG_ENABLE_QPSG, arguments)
}

// close closes the connection and its statements. It may be called more than
// once.
func (c *sqliteConn) close() error {
	if c.db == 0 {
		return nil
	}
	for _, s := range c.statements {
		sqlite3.Xsqlite3_finalize(c.tls, s.ptr)
		libc.Xfree(c.tls, s.arguments)
	}
	var err error
	if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
		err = c.fault(rc)
	}
	for _, m := range c.owned {
		libc.Xfree(c.tls, m.own)
	}
	c.tls.Close()
	c.db, c.statements, c.log, c.owned = 0, nil, nil, nil
	return err
}

// interruptInterval is how often statements are cancelled that should have ended.
const interruptInterval = 10 * time.Millisecond

// during runs fn with statements that are cancelled when ctx ends, whose error
// it then returns. It is for what takes long and shares no transaction with
// anybody.
func (c *sqliteConn) during(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var interrupting sync.WaitGroup
	interrupting.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		// A TLS is for one goroutine.
		tls := libc.NewTLS()
		defer tls.Close()
		// Between two statements there is nothing to interrupt, and the second
		// runs.
		again := time.NewTicker(interruptInterval)
		defer again.Stop()
		for {
			sqlite3.Xsqlite3_interrupt(tls, c.db)
			select {
			case <-ended:
				return
			case <-again.C:
			}
		}
	})
	err := fn()
	close(ended)
	interrupting.Wait()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// prepare returns query prepared, from memory after the first time. The
// queries of a process are its constants, so there are few.
func (c *sqliteConn) prepare(query string) (*statement, error) {
	if s := c.statements[query]; s != nil {
		return s, nil
	}
	if c.db == 0 {
		return nil, errClosed
	}
	text, err := libc.CString(query)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, text)
	slot := libc.Xcalloc(c.tls, 1, pointerSize)
	defer libc.Xfree(c.tls, slot)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, text, int32(len(query)+1), slot, 0); rc != sqlite3.SQLITE_OK {
		return nil, c.fault(rc)
	}
	s := &statement{conn: c, ptr: pointerAt(slot)}
	for i := range sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.ptr) {
		name := libc.GoString(sqlite3.Xsqlite3_bind_parameter_name(c.tls, s.ptr, i+1))
		n := 0
		if len(name) > 1 {
			n, _ = strconv.Atoi(name[1:])
		}
		if n < 1 {
			sqlite3.Xsqlite3_finalize(c.tls, s.ptr)
			return nil, fmt.Errorf("parameters are $1, $2 …, but one is %q", name)
		}
		s.params = append(s.params, n-1)
	}
	c.statements[query] = s
	return s, nil
}

// bind sets the parameters of the statement. Besides the types of [conn], arguments may
// be pointers to strings and int64s, of which no interface has to be allocated. It keeps
// none.
func (s *statement) bind(args []any) error {
	need := 0
	for _, n := range s.params {
		if n >= len(args) {
			return fmt.Errorf("argument $%d is missing", n+1)
		}
		switch v := args[n].(type) {
		case string:
			need += len(v)
		case *string:
			need += len(*v)
		case []byte:
			need += len(v)
		}
	}
	tls := s.conn.tls
	if need > s.size || s.arguments == 0 {
		libc.Xfree(tls, s.arguments)
		s.size = max(256, 2*need)
		if s.arguments = libc.Xmalloc(tls, libc.Tsize_t(s.size)); s.arguments == 0 {
			s.size = 0
			return &sqliteError{code: sqlite3.SQLITE_NOMEM, message: "out of memory"}
		}
	}
	free := memory(s.arguments, s.size)
	at := s.arguments
	text := func(index int32, v string) int32 {
		rc := sqlite3.Xsqlite3_bind_text(tls, s.ptr, index, at, int32(len(v)), sqlite3.SQLITE_STATIC)
		copy(free, v)
		free, at = free[len(v):], at+uintptr(len(v))
		return rc
	}
	for i, n := range s.params {
		index := int32(i + 1)
		var rc int32
		switch v := args[n].(type) {
		case nil:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.ptr, index)
		case int:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.ptr, index, int64(v))
		case int64:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.ptr, index, v)
		case bool:
			truth := int64(0)
			if v {
				truth = 1
			}
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.ptr, index, truth)
		case *int64:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.ptr, index, *v)
		case string:
			rc = text(index, v)
		case *string:
			rc = text(index, *v)
		case []byte:
			rc = sqlite3.Xsqlite3_bind_blob(tls, s.ptr, index, at, int32(len(v)), sqlite3.SQLITE_STATIC)
			copy(free, v)
			free, at = free[len(v):], at+uintptr(len(v))
		default:
			// To tell which type it is would have all arguments allocated.
			return fmt.Errorf("argument $%d is of a type that is none of the database's", n+1)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.conn.fault(rc)
		}
	}
	return nil
}

// exec implements [conn]. Arguments are not kept.
func (c *sqliteConn) exec(query string, args ...any) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	if err := s.bind(args); err != nil {
		return 0, err
	}
	rc := sqlite3.Xsqlite3_step(c.tls, s.ptr)
	for rc == sqlite3.SQLITE_ROW {
		rc = sqlite3.Xsqlite3_step(c.tls, s.ptr)
	}
	if rc != sqlite3.SQLITE_DONE {
		err = c.fault(rc)
	}
	// After an error, resetting returns the same error once more.
	sqlite3.Xsqlite3_reset(c.tls, s.ptr)
	if err != nil {
		return 0, err
	}
	return sqlite3.Xsqlite3_changes64(c.tls, c.db), nil
}

// commit ends a transaction of the writer.
func (c *sqliteConn) commit() error {
	c.log.gathers = true
	c.boundCache()
	_, err := c.exec("COMMIT")
	// What a COMMIT that failed has not written is not to be written any more.
	c.log.gathers, c.log.used = false, 0
	return err
}

// Scan implements [row] for the row that s has come to.
func (s *statement) Scan(dest ...any) error {
	if n := int(sqlite3.Xsqlite3_column_count(s.conn.tls, s.ptr)); n != len(dest) {
		return fmt.Errorf("a row of %d columns cannot be read as %d", n, len(dest))
	}
	for i, d := range dest {
		if err := s.column(int32(i), d); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// column stores the column i in the variable that dest points to.
func (s *statement) column(i int32, dest any) error {
	tls := s.conn.tls
	kind := sqlite3.Xsqlite3_column_type(tls, s.ptr, i)
	switch d := dest.(type) {
	case *string:
		if kind == sqlite3.SQLITE_TEXT {
			*d = s.text(i)
			return nil
		}
	case *[]byte:
		switch kind {
		case sqlite3.SQLITE_NULL:
			*d = nil
			return nil
		case sqlite3.SQLITE_BLOB:
			*d = append([]byte{}, s.blob(i)...)
			return nil
		}
	case *int64:
		if kind == sqlite3.SQLITE_INTEGER {
			*d = sqlite3.Xsqlite3_column_int64(tls, s.ptr, i)
			return nil
		}
	case *int:
		if kind == sqlite3.SQLITE_INTEGER {
			*d = int(sqlite3.Xsqlite3_column_int64(tls, s.ptr, i))
			return nil
		}
	case *time.Time:
		switch kind {
		case sqlite3.SQLITE_NULL:
			*d = time.Time{}
			return nil
		case sqlite3.SQLITE_INTEGER:
			*d = time.UnixMicro(sqlite3.Xsqlite3_column_int64(tls, s.ptr, i)).UTC()
			return nil
		}
	case *grahak.Index:
		if kind == sqlite3.SQLITE_BLOB {
			*d = grahak.Index{}
			copy(d[:], s.blob(i))
			return nil
		}
	case *grahak.ShortIndex:
		if kind == sqlite3.SQLITE_BLOB || kind == sqlite3.SQLITE_NULL {
			*d = grahak.ShortIndex{}
			copy(d[:], s.blob(i))
			return nil
		}
	case *bool:
		if kind == sqlite3.SQLITE_INTEGER {
			*d = sqlite3.Xsqlite3_column_int64(tls, s.ptr, i) != 0
			return nil
		}
	case *sql.NullString:
		*d = sql.NullString{}
		if kind == sqlite3.SQLITE_NULL {
			return nil
		}
		d.Valid = true
		return s.column(i, &d.String)
	}
	return fmt.Errorf("a value of type %d does not go into the variable", kind)
}

// blob returns the bytes of column i, which are valid until the next step.
func (s *statement) blob(i int32) []byte {
	p := sqlite3.Xsqlite3_column_blob(s.conn.tls, s.ptr, i)
	return memory(p, int(sqlite3.Xsqlite3_column_bytes(s.conn.tls, s.ptr, i)))
}

func (s *statement) text(i int32) string {
	p := sqlite3.Xsqlite3_column_text(s.conn.tls, s.ptr, i)
	return string(memory(p, int(sqlite3.Xsqlite3_column_bytes(s.conn.tls, s.ptr, i))))
}

// queryRow implements [conn].
func (c *sqliteConn) queryRow(query string, args ...any) row { return firstRow{c, query, args} }

// query implements [conn].
func (c *sqliteConn) query(scan func(row) error, query string, args ...any) error {
	return c.each(func(s *statement) error { return scan(s) }, query, args...)
}

// each is query for a scan that knows the engine's rows: what that reads into need not be
// allocated.
func (c *sqliteConn) each(scan func(*statement) error, query string, args ...any) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	if err := s.bind(args); err != nil {
		return err
	}
	// A statement that is not reset keeps its moment.
	defer func() {
		if c.db != 0 {
			sqlite3.Xsqlite3_reset(c.tls, s.ptr)
		}
	}()
	for {
		switch rc := sqlite3.Xsqlite3_step(c.tls, s.ptr); rc {
		case sqlite3.SQLITE_ROW:
			if err := scan(s); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		case sqlite3.SQLITE_DONE:
			return nil
		default:
			return c.fault(rc)
		}
	}
}

// later implements [conn]: there is no time to save.
func (c *sqliteConn) later(query string, args ...any) error {
	_, err := c.exec(query, args...)
	return err
}

// blockSize implements [conn]: a block fits a page.
func (c *sqliteConn) blockSize() int { return 3800 }

// snapshot implements [conn].
func (c *sqliteConn) snapshot(fn func() error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	// Even after a panic the next reader must not find this moment.
	defer func() { _, _ = c.exec("ROLLBACK") }()
	return fn()
}
