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
	"grahak/internal/disk"
)

// Page caches, in KiB. The writer's holds the upper levels of the index on
// references and the pages of one transaction.
const (
	writerCacheKiB = 8 << 10
	lookUpCacheKiB = 6 << 10
	readerCacheKiB = 2 << 10
	vitalCacheKiB  = 512
	longCacheKiB   = 512
)

// maxKeptLog is what is kept of the write-ahead log's file when it starts again,
// in bytes: it grows beyond only while a long read holds on to it.
const maxKeptLog = 128 << 20

func dsn(cfg SQLiteConfig, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(" + strconv.FormatInt(cfg.LockWait.Milliseconds(), 10) + ")",
		"trusted_schema(0)",
	}, pragmas...)}
	// A database file's name is escaped, so that no character of a folder's
	// name is read as an option.
	return "file:" + (&url.URL{Path: cfg.Path}).EscapedPath() + "?" + q.Encode()
}

// writerDSN opens for durable writes: a commit has returned from fsync. What is
// deleted is overwritten, as far as SQLite reaches. The store checkpoints by
// itself, so SQLite does not.
func writerDSN(cfg SQLiteConfig) string {
	return dsn(cfg,
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"secure_delete(1)",
		"wal_autocheckpoint(0)",
		fmt.Sprintf("journal_size_limit(%d)", maxKeptLog),
		fmt.Sprintf("cache_size(-%d)", writerCacheKiB),
	)
}

func readerDSN(cfg SQLiteConfig, cacheKiB int) string {
	return dsn(cfg, "query_only(1)", "wal_autocheckpoint(0)", fmt.Sprintf("cache_size(-%d)", cacheKiB))
}

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// NewestSchema returns the version of the schema that this program makes, which
// is the newest that it knows.
func NewestSchema() (int64, error) {
	files, err := sqliteMigrations.ReadDir("migrations/sqlite")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1].Name())
}

// prepareSchema makes sure that the schema is the one this program knows. It
// migrates an older one if cfg.Environment is set and is the store's own.
func prepareSchema(ctx context.Context, db *sql.DB, cfg SQLiteConfig) error {
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
	current, err := schemaVersion(ctx, db)
	folder := filepath.Dir(cfg.Path)
	switch {
	case err != nil:
		return err
	case current == newest:
		return nil
	case current > newest:
		return fmt.Errorf("the database in %s has schema version %d, but this grahak knows only up to %d: use the newer grahak that made it", folder, current, newest)
	case cfg.Environment == "" && current == 0:
		return ErrNoStore
	case cfg.Environment == "":
		return fmt.Errorf("the database in %s has schema version %d and this grahak needs %d: run `grahak migrate`, or start `grahak serve` of this version, which brings it up to date", folder, current, newest)
	case current > 0:
		// A store of the other environment is left as it is.
		if _, err := recordEnvironment(ctx, db, cfg); err != nil {
			return err
		}
	}
	_, err = provider.Up(ctx)
	return err
}

// schemaVersion returns the version of the last migration, 0 for an empty
// database. It looks by itself, because goose takes a table that cannot be read
// for one that does not exist.
func schemaVersion(ctx context.Context, db *sql.DB) (version int64, err error) {
	var tables int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'`).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, schemaVersionQuery).Scan(&version)
	return version, err
}

// schemaVersionQuery returns the version of the last migration.
const schemaVersionQuery = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// primary returns the primary result code in err's chain, and false if err
// does not come from SQLite.
func primary(err error) (int, bool) {
	var own *sqliteError
	if errors.As(err, &own) {
		return own.code & 0xff, true
	}
	var e *sqlite.Error // of migrations
	if errors.As(err, &e) {
		return e.Code() & 0xff, true
	}
	return 0, false
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
	var known *grahak.Error
	if errors.As(err, &known) {
		return err
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
		what = "the database is damaged: restore it from a backup"
	case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		what = "the storage ran out of memory or was interrupted"
	default:
		return err
	}
	return grahak.Unavailable(what, retryStorage, err)
}

// noSpace reports whether the disk that holds folder has no room for the files
// that SQLite works with, which it reports as an error of the disk.
func noSpace(folder string) bool {
	free, err := disk.Free(folder)
	return err == nil && free < 1<<20
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
	case errors.Is(err, syscall.ENOSPC), isSQLite && (code == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR && noSpace(folder)):
		return fmt.Errorf("the disk that holds %s is full: free some space and start again; nothing is lost (%w)", folder, err)
	case damaged(err):
		return fmt.Errorf("the database %s is damaged or not a database: restore it from a backup; it was left as it is (%w)", path, err)
	case isSQLite && (code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED):
		return fmt.Errorf("the database %s is locked by another process: stop that one or try again (%w)", path, err)
	case isSQLite && code == sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the disk that holds %s returned an error: look at the system's log (%w)", folder, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("the folder %s does not exist: make it, or give another with --data (%w)", folder, err)
	}
	return err
}
