package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

// Page caches, in KiB. The writer's holds the upper levels of the index on
// references and the pages of one transaction.
const (
	writerCacheKiB = 24 << 10
	readerCacheKiB = 4 << 10
)

func dsn(cfg Config, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(" + strconv.FormatInt(cfg.LockWait.Milliseconds(), 10) + ")",
		"trusted_schema(0)",
	}, pragmas...)}
	// A database file's name is escaped, so that no character of a folder's
	// name is read as an option.
	return "file:" + (&url.URL{Path: cfg.Path}).EscapedPath() + "?" + q.Encode()
}

// writerDSN opens for durable writes: a commit has returned from fsync. The
// store checkpoints by itself, so SQLite does not.
func writerDSN(cfg Config) string {
	return dsn(cfg,
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"wal_autocheckpoint(0)",
		fmt.Sprintf("cache_size(-%d)", writerCacheKiB),
	)
}

func readerDSN(cfg Config) string {
	return dsn(cfg, "query_only(1)", "wal_autocheckpoint(0)", fmt.Sprintf("cache_size(-%d)", readerCacheKiB))
}

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// migrate brings the schema up to date. It refuses a schema that is newer than
// this program.
func migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	files, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithSlog(cfg.Logger))
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if current > newest {
		return fmt.Errorf("the database in %s has schema version %d, but this grahak knows only up to %d: use the newer grahak that made it", filepath.Dir(cfg.Path), current, newest)
	}
	if current == newest {
		return nil
	}
	_, err = provider.Up(ctx)
	return err
}

// primary returns the primary result code in err's chain, and false if err
// does not come from SQLite.
func primary(err error) (int, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Code() & 0xff, true
}

// damaged reports whether err says that the file is not a sound database.
func damaged(err error) bool {
	code, ok := primary(err)
	return ok && (code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB)
}

// retryStorage is when to try again after the storage failed.
const retryStorage = 2 * time.Second

// storageError turns a failure of the storage itself into a
// [grahak.CodeUnavailable] error. Anything else is returned as it is.
func storageError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errClosed) {
		return grahak.Unavailable("the storage is closed", retryStorage, err)
	}
	code, ok := primary(err)
	if !ok {
		return err
	}
	var what string
	switch code {
	case sqlite3.SQLITE_FULL:
		what = "the disk is full"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = "another process holds the database"
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		what = "the disk returned an error"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		what = "the database cannot be written"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		what = "the database is damaged"
	case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		what = "the storage ran out of memory or was interrupted"
	default:
		return err
	}
	return grahak.Unavailable(what, retryStorage, err)
}

// explain turns an error of opening the database into one sentence that says
// what is wrong and how to mend it.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	folder := filepath.Dir(path)
	code, isSQLite := primary(err)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS),
		isSQLite && (code == sqlite3.SQLITE_READONLY || code == sqlite3.SQLITE_CANTOPEN || code == sqlite3.SQLITE_PERM):
		return fmt.Errorf("the database %s cannot be written: make the folder %s and the files in it writable for this user (%w)", path, folder, err)
	case errors.Is(err, syscall.ENOSPC), isSQLite && code == sqlite3.SQLITE_FULL:
		return fmt.Errorf("the disk that holds %s is full: free some space and start again; nothing is lost (%w)", folder, err)
	case damaged(err):
		return fmt.Errorf("the database %s is damaged or not a database: restore it from a backup; it was left as it is (%w)", path, err)
	case isSQLite && (code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED):
		return fmt.Errorf("the database %s is locked by another process: stop that one or try again (%w)", path, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("the folder %s does not exist: make it, or give another with --data (%w)", folder, err)
	}
	return err
}
