package sqlstore

import (
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
	*ownMethods
	buffer  uintptr // SQLite's memory
	used    int
	offset  int64 // of the buffer in the file
	gathers bool
}

// gatherLog has commits of c, which are durable, gathered from now on.
func (c *sqliteConn) gatherLog() error {
	w := new(logWriter)
	var err error
	if w.ownMethods, w.buffer, err = c.ownMethods(sqlite3.SQLITE_FCNTL_JOURNAL_POINTER, logBuffer); err != nil {
		return err
	}
	own := w.table()
	own.FxWrite = known[transferMethod](w.ownMethods, w.write)
	own.FxRead = known[transferMethod](w.ownMethods, w.read)
	own.FxTruncate = known[truncateMethod](w.ownMethods, w.truncate)
	own.FxSync = known[syncMethod](w.ownMethods, w.sync)
	own.FxFileSize = known[sizeMethod](w.ownMethods, w.fileSize)
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
