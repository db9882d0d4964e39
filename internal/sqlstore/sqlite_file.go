package sqlstore

import (
	"errors"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

type (
	transferMethod = func(*libc.TLS, uintptr, uintptr, int32, sqlite3.Tsqlite3_int64) int32
	truncateMethod = func(*libc.TLS, uintptr, sqlite3.Tsqlite3_int64) int32
	syncMethod     = func(*libc.TLS, uintptr, int32) int32
	sizeMethod     = func(*libc.TLS, uintptr, uintptr) int32
)

// method returns the function that SQLite knows as p.
func method[F any](p uintptr) F {
	return *(*F)(unsafe.Pointer(&p)) //nolint:gosec // SQLite's functions are reached in no other way.
}

// at returns what is in SQLite's memory at p.
func at[T any](p uintptr) *T {
	return *(**T)(unsafe.Pointer(&p)) //nolint:gosec // As in memory.
}

// file returns SQLite's file that a file control tells of.
func (c *sqliteConn) file(control int32) (uintptr, error) {
	name, err := libc.CString("main")
	if err != nil {
		return 0, err
	}
	defer libc.Xfree(c.tls, name)
	slot := libc.Xcalloc(c.tls, 1, pointerSize)
	defer libc.Xfree(c.tls, slot)
	if rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, name, control, slot); rc != sqlite3.SQLITE_OK {
		return 0, c.fault(rc)
	}
	file := pointerAt(slot)
	if file == 0 || pointerAt(file) == 0 {
		return 0, errors.New("the database has no such file")
	}
	return file, nil
}

// methodsOf returns the methods of SQLite's file.
func methodsOf(file uintptr) *sqlite3.Tsqlite3_io_methods {
	return at[sqlite3.Tsqlite3_io_methods](at[sqlite3.Tsqlite3_file](file).FpMethods)
}

// syncDatabase has what was written to the database's file on the disk.
func (c *sqliteConn) syncDatabase() error {
	file, err := c.file(sqlite3.SQLITE_FCNTL_FILE_POINTER)
	if err != nil {
		return err
	}
	if rc := method[syncMethod](methodsOf(file).FxSync)(c.tls, file, sqlite3.SQLITE_SYNC_NORMAL); rc != sqlite3.SQLITE_OK {
		return c.fault(rc)
	}
	return nil
}

// ownMethods stand between SQLite and the methods of a file, for one connection.
type ownMethods struct {
	file    uintptr // SQLite's
	methods *sqlite3.Tsqlite3_io_methods
	own     uintptr // SQLite's memory: the methods in their place
	calls   []any   // the functions in own, which would not be alive for SQLite's sake
}

// ownMethods has the file that a file control tells of use a copy of its methods from now
// on, which is freed with c, as are the bytes of SQLite's memory that come with it.
func (c *sqliteConn) ownMethods(control int32, bytes int) (m *ownMethods, memory uintptr, err error) {
	file, err := c.file(control)
	if err != nil {
		return nil, 0, err
	}
	m = &ownMethods{file: file, methods: methodsOf(file)}
	const size = unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})
	if m.own = libc.Xmalloc(c.tls, libc.Tsize_t(size)+libc.Tsize_t(bytes)); m.own == 0 {
		return nil, 0, c.fault(sqlite3.SQLITE_NOMEM)
	}
	c.owned = append(c.owned, m)
	*m.table() = *m.methods
	at[sqlite3.Tsqlite3_file](file).FpMethods = m.own
	return m, m.own + size, nil
}

// table returns the methods that SQLite calls.
func (m *ownMethods) table() *sqlite3.Tsqlite3_io_methods {
	return at[sqlite3.Tsqlite3_io_methods](m.own)
}

// known returns what SQLite knows the function f as, which m keeps alive.
func known[F any](m *ownMethods, f F) uintptr {
	m.calls = append(m.calls, f)
	return (*[2]uintptr)(unsafe.Pointer(&m.calls[len(m.calls)-1]))[1] //nolint:gosec // As in method.
}
