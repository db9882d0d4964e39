package sqlstore

import (
	"errors"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// logBuffer is how much of the write-ahead log is written in one call: as many
// frames, which are pages behind 24 bytes each, as SQLite's own write takes. It
// takes less than 128 KiB.
const logBuffer = 31 * (24 + 4096)

// logWriter gathers what a COMMIT writes to the write-ahead log: SQLite writes each
// frame in two calls of the system, which would be half of what a commit costs.
//
// It stands between SQLite and the methods of the log's file, for the one connection
// that writes. The file sees the same bytes in the same order: what was gathered is
// written before the file is synced, read, truncated or measured, and before a write
// that does not continue it. Others look at a frame only when the wal-index says that
// it is there, which SQLite, with synchronous=FULL, writes after the file was synced.
// Only a COMMIT is gathered, and it ends with that sync or fails, so nothing
// is left over for a moment when another process holds the lock.
type logWriter struct {
	file    uintptr // SQLite's of the log
	methods *sqlite3.Tsqlite3_io_methods
	own     uintptr // SQLite's memory: the methods in their place, and behind them the buffer
	buffer  uintptr
	used    int
	offset  int64 // of the buffer in the file
	gathers bool
	calls   []any // the functions in own, which would not be alive for SQLite's sake
}

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

// known is what SQLite knows the function f as, which has to be kept alive.
func known(f any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&f))[1] //nolint:gosec // As in method.
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

// gatherLog has commits of c, which are durable, gathered from now on.
func (c *sqliteConn) gatherLog() error {
	file, err := c.file(sqlite3.SQLITE_FCNTL_JOURNAL_POINTER)
	if err != nil {
		return err
	}
	w := &logWriter{file: file}
	const size = unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})
	if w.own = libc.Xmalloc(c.tls, libc.Tsize_t(size+logBuffer)); w.own == 0 {
		return c.fault(sqlite3.SQLITE_NOMEM)
	}
	w.buffer = w.own + size
	w.methods = methodsOf(file)
	own := at[sqlite3.Tsqlite3_io_methods](w.own)
	*own = *w.methods
	var (
		write    transferMethod = w.write
		read     transferMethod = w.read
		truncate truncateMethod = w.truncate
		sync     syncMethod     = w.sync
		fileSize sizeMethod     = w.fileSize
	)
	w.calls = []any{write, read, truncate, sync, fileSize}
	own.FxWrite, own.FxRead, own.FxTruncate, own.FxSync, own.FxFileSize = known(write), known(read), known(truncate), known(sync), known(fileSize)
	at[sqlite3.Tsqlite3_file](file).FpMethods = w.own
	c.log = w
	return nil
}

// flush writes what was gathered. After an error it is gone, as is the transaction.
func (w *logWriter) flush(tls *libc.TLS) int32 {
	n := w.used
	w.used = 0
	if n == 0 {
		return sqlite3.SQLITE_OK
	}
	return method[transferMethod](w.methods.FxWrite)(tls, w.file, w.buffer, int32(n), w.offset)
}

func (w *logWriter) write(tls *libc.TLS, file, from uintptr, n int32, offset sqlite3.Tsqlite3_int64) int32 {
	continues := offset == w.offset+int64(w.used) && w.used+int(n) <= logBuffer
	if !w.gathers || !continues {
		if rc := w.flush(tls); rc != sqlite3.SQLITE_OK {
			return rc
		}
	}
	if !w.gathers || n > logBuffer {
		return method[transferMethod](w.methods.FxWrite)(tls, file, from, n, offset)
	}
	if w.used == 0 {
		w.offset = offset
	}
	libc.Xmemcpy(tls, w.buffer+uintptr(w.used), from, libc.Tsize_t(n))
	w.used += int(n)
	return sqlite3.SQLITE_OK
}

func (w *logWriter) read(tls *libc.TLS, file, to uintptr, n int32, offset sqlite3.Tsqlite3_int64) int32 {
	if rc := w.flush(tls); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[transferMethod](w.methods.FxRead)(tls, file, to, n, offset)
}

func (w *logWriter) truncate(tls *libc.TLS, file uintptr, size sqlite3.Tsqlite3_int64) int32 {
	if rc := w.flush(tls); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[truncateMethod](w.methods.FxTruncate)(tls, file, size)
}

func (w *logWriter) sync(tls *libc.TLS, file uintptr, flags int32) int32 {
	if rc := w.flush(tls); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[syncMethod](w.methods.FxSync)(tls, file, flags)
}

func (w *logWriter) fileSize(tls *libc.TLS, file, size uintptr) int32 {
	if rc := w.flush(tls); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[sizeMethod](w.methods.FxFileSize)(tls, file, size)
}
