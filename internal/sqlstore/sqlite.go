package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"grahak"
	"grahak/internal/disk"
)

// SQLiteConfig says what to open.
type SQLiteConfig struct {
	// Path is the database file. Its folder must exist.
	Path string
	// Environment is recorded in a new store. Opening an existing store of
	// another environment is an error; empty takes the store's own, and then
	// the store must exist.
	Environment grahak.Environment
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// LockWait is how long a write waits for another process that is writing;
	// default 5 seconds.
	LockWait time.Duration
	// Beside is for a command beside a server that may be writing all the time:
	// its writes ask for the lock often. SQLite by itself asks ever more rarely,
	// at last ten times a second, and would find the lock of a busy server free
	// by luck only.
	Beside bool
	// Observer is told of commits; may be nil.
	Observer Observer
	// Logger receives faults that no caller is told of; default
	// [slog.Default].
	Logger *slog.Logger
}

// Observer is told what a store writes. It must not block, and is safe for concurrent
// use where it is given to [OpenPostgres].
type Observer interface {
	// Committed reports a batch of that many writes, and how long its commit
	// took.
	Committed(writes int, commit time.Duration)
}

// SQLite implements [grahak.Store] on one file of one machine. Use [OpenSQLite].
//
// Writes go through one goroutine that commits what waits together (see writer);
// reads have connections of their own and never wait for it.
type SQLite struct {
	portable
	environment grahak.Environment
	path        string
	writer      *writer
	lookUps     *queue[*sqliteLookUp] // of customers
	vital       readers               // for the short reads that requests and order depend on
	readers     readers               // for all other short reads
	long        readers               // for reads that may take minutes
	tails       tails
	checkpoints *checkpointer // nil where nothing is written
	held        []*sqliteConn // every connection, to close
}

var _ grahak.Store = (*SQLite)(nil)

// ErrNoStore is returned by [OpenSQLite] when the file does not exist, or holds
// nothing, and SQLiteConfig.Environment is empty; and by [OpenPostgres] when the
// database has no schema and PostgresConfig.Migrate is not set, or has a schema only
// and PostgresConfig.Environment is empty.
var ErrNoStore = errors.New("there is no database yet")

// How many reads run at once that are not look-ups. Those of readers are half as many
// as goroutines run: most of what they read is in memory, so that more of them would
// not wait for the disk but for each other, and all would take longer.
const (
	vitalConns   = 2
	minReadConns = 2
	maxReadConns = 8
	longConns    = 2
)

// readers is connections for reads, of which each is used by one at a time.
type readers chan *sqliteConn

// maxLookUpConns bounds how many batches of look-ups run at once, which is never more
// than one for each goroutine that runs.
const maxLookUpConns = 8

// readWait is how long a read waits for a connection.
const readWait = 5 * time.Second

// OpenSQLite opens the store. If cfg.Environment is set it makes a store that does not
// exist and brings an older schema up to date; otherwise it refuses both, so
// that a command never changes the schema under a server that runs. Errors that
// an operator can mend are one sentence that says how.
func OpenSQLite(ctx context.Context, cfg SQLiteConfig) (*SQLite, error) {
	if cfg.LockWait == 0 {
		cfg.LockWait = 5 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = grahak.SystemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := prepareFile(cfg); err != nil {
		return nil, err
	}
	s := newSQLite(cfg.Path)
	if err := s.open(ctx, cfg); err != nil {
		return nil, explain(cfg.Path, errors.Join(err, s.disconnect()))
	}
	return s, nil
}

func (s *SQLite) open(ctx context.Context, cfg SQLiteConfig) error {
	// The pool serves the migrations only.
	db, err := sql.Open("sqlite", writerDSN(cfg))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := prepareSchema(ctx, db, cfg); err != nil {
		return err
	}
	if s.environment, err = recordEnvironment(ctx, db, cfg); err != nil {
		return err
	}
	lookUpConns, err := s.connectReaders(func(cacheKiB int) string { return readerDSN(cfg, cacheKiB) })
	if err != nil {
		return err
	}
	checkpointConn, err := s.connect(writerDSN(cfg))
	if err != nil {
		return err
	}
	writeConn, err := s.connect(writerDSN(cfg))
	if err != nil {
		return err
	}
	if err := writeConn.gatherLog(); err != nil {
		return err
	}
	if err := checkpointConn.paceDatabase(); err != nil {
		return err
	}
	s.checkpoints = newCheckpointer(checkpointConn, cfg.Logger)
	s.writer = newWriter(writeConn, s.checkpoints, cfg)
	if cfg.Beside {
		if err := s.writer.askOften(cfg.LockWait); err != nil {
			return err
		}
	}
	// Nothing fails from here on, so nobody closes a connection under its user.
	s.startLookUps(lookUpConns)
	s.writer.workers.Add(1)
	go s.writer.run()
	go s.checkpoints.run()
	return nil
}

// connectReaders makes the connections of all reads. It returns those of look-ups
// of customers.
func (s *SQLite) connectReaders(dsn func(cacheKiB int) string) ([]*sqliteConn, error) {
	for _, kind := range []struct {
		pool            *readers
		conns, cacheKiB int
	}{
		{&s.vital, vitalConns, vitalCacheKiB},
		{&s.readers, min(max(minReadConns, runtime.GOMAXPROCS(0)/2), maxReadConns), readerCacheKiB},
		{&s.long, longConns, longCacheKiB},
	} {
		*kind.pool = make(readers, kind.conns)
		for range kind.conns {
			c, err := s.connect(dsn(kind.cacheKiB))
			if err != nil {
				return nil, err
			}
			*kind.pool <- c
		}
	}
	lookUpConns := make([]*sqliteConn, min(runtime.GOMAXPROCS(0), maxLookUpConns))
	for i := range lookUpConns {
		var err error
		if lookUpConns[i], err = s.connect(dsn(lookUpCacheKiB)); err != nil {
			return nil, err
		}
	}
	return lookUpConns, nil
}

// connect returns a connection that is held until the store is closed.
func (s *SQLite) connect(dsn string) (*sqliteConn, error) {
	c, err := newConn(dsn)
	if err == nil {
		s.held = append(s.held, c)
	}
	return c, err
}

// prepareFile makes an empty database file that only its owner can read, or
// returns [ErrNoStore] if there is none to open. An empty file is not opened for
// a command, because SQLite would begin to fill it.
func prepareFile(cfg SQLiteConfig) error {
	if cfg.Environment == "" {
		if info, err := os.Stat(cfg.Path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return ErrNoStore
		}
		return nil
	}
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return explain(cfg.Path, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(cfg.Path))
}

// Environment returns the environment that the store was made for.
func (s *SQLite) Environment() grahak.Environment { return s.environment }

// QueueLen returns how many writes wait, and QueueCap how many may.
func (s *SQLite) QueueLen() int { return len(s.writer.jobs) }

// QueueCap returns how many writes may wait before more are refused.
func (s *SQLite) QueueCap() int { return cap(s.writer.jobs) }

// Size returns the bytes of the database file and of its write-ahead log.
func (s *SQLite) Size() (database, log int64) {
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	return size(s.path), size(s.path + "-wal")
}

// Close finishes the writes that wait and the reads that are under way, and
// closes the files. Calls after it fail.
func (s *SQLite) Close() error {
	s.writer.stop()
	s.lookUps.stop()
	if s.checkpoints != nil {
		s.checkpoints.stop()
	}
	giveBack := s.takeReaders()
	err := s.disconnect()
	// Whoever waits for a connection gets one that is closed.
	giveBack()
	return err
}

// takeReaders waits for the connections of all reads but look-ups and takes them until
// giveBack is called.
func (s *SQLite) takeReaders() (giveBack func()) {
	pools := []readers{s.vital, s.readers, s.long}
	taken := make([][]*sqliteConn, len(pools))
	for i, pool := range pools {
		for range cap(pool) {
			taken[i] = append(taken[i], <-pool)
		}
	}
	return func() {
		for i, pool := range pools {
			for _, c := range taken[i] {
				pool <- c
			}
		}
	}
}

// disconnect closes the connections, which must not be in use.
func (s *SQLite) disconnect() error {
	var err error
	for _, c := range s.held {
		err = errors.Join(err, c.close())
	}
	return err
}

// Check reads the whole database and returns what is wrong with it, a line
// each; nothing when it is sound. It may take minutes on a large one. It reads a
// table at a time, because the write-ahead log cannot start again during a read.
func (s *SQLite) Check(ctx context.Context) (found []string, err error) {
	err = s.long.read(ctx, func(r *sqliteConn) error {
		err := r.during(ctx, func() (err error) {
			found, err = check(r)
			return err
		})
		if damaged(err) {
			// The damage ended the check itself.
			found = append(found, err.Error())
			return nil
		}
		return err
	})
	return found, err
}

// check returns what is wrong with the database.
func check(r *sqliteConn) (found []string, err error) {
	var tables []string
	err = r.query(func(row row) error {
		var name string
		err := row.Scan(&name)
		tables = append(tables, name)
		return err
	}, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	for _, table := range tables {
		if err != nil {
			break
		}
		err = r.query(func(row row) error {
			var text string
			err := row.Scan(&text)
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				if line != "ok" && !strings.HasPrefix(line, "***") {
					found = append(found, line)
				}
			}
			return err
		}, "PRAGMA integrity_check("+table+")")
	}
	return found, err
}

// newSQLite returns a store that is not connected yet.
func newSQLite(path string) *SQLite {
	s := &SQLite{path: path, tails: tails{most: maxTailKeys}}
	s.engine = s
	return s
}

// read implements [engine].
func (s *SQLite) read(ctx context.Context, fn func(conn) error) error {
	return s.readers.read(ctx, func(c *sqliteConn) error { return fn(c) })
}

// vitalRead implements [engine].
func (s *SQLite) vitalRead(ctx context.Context, fn func(conn) error) error {
	return s.vital.read(ctx, func(c *sqliteConn) error { return fn(c) })
}

// longRead implements [engine].
func (s *SQLite) longRead(ctx context.Context, fn func(conn) error) error {
	return s.long.read(ctx, func(c *sqliteConn) error { return fn(c) })
}

// write implements [engine].
func (s *SQLite) write(ctx context.Context, fn func(tx) error) error {
	return s.do(ctx, func(c *sqliteConn) error { return fn(c) })
}

// do runs fn in the writer's transaction and returns when that is on disk, or
// with fn's *[grahak.Error]; see [queue.do].
func (s *SQLite) do(ctx context.Context, fn func(*sqliteConn) error) error {
	return s.writer.do(ctx, func(c *sqliteConn) error {
		if err := c.batch.writeEvents(c); err != nil {
			return err
		}
		return fn(c)
	})
}

// doSeeingNoEvents is do for an fn that does not read events: those of the
// transaction may be written later.
func (s *SQLite) doSeeingNoEvents(ctx context.Context, fn func(*sqliteConn) error) error {
	return s.writer.do(ctx, fn)
}

// read runs fn with one of the connections. fn must not keep it. The context and
// readWait bound the wait for a connection only: a statement that is under way
// is not worth the cost of being interruptible, since what a request reads is
// bounded.
func (p readers) read(ctx context.Context, fn func(*sqliteConn) error) error {
	var c *sqliteConn
	select {
	case c = <-p:
	default:
		wait, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		select {
		case c = <-p:
		case <-wait.Done():
			return grahak.Unavailable("no read connection became free in time", time.Second, wait.Err())
		}
	}
	defer func() { p <- c }()
	return storageError(fn(c))
}

// recordEnvironment returns the environment of the store, after writing it
// into a new one.
func recordEnvironment(ctx context.Context, db *sql.DB, cfg SQLiteConfig) (grahak.Environment, error) {
	if cfg.Environment != "" {
		_, err := db.ExecContext(ctx, `INSERT INTO instance (id, environment, access_version, created_at) VALUES (1, $1, 1, $2) ON CONFLICT (id) DO NOTHING`,
			string(cfg.Environment), cfg.Clock.Now().UnixMicro())
		if err != nil {
			return "", err
		}
	}
	var env string
	err := db.QueryRowContext(ctx, `SELECT environment FROM instance WHERE id = 1`).Scan(&env)
	if errors.Is(err, sql.ErrNoRows) {
		// A first start that ended before it wrote this wrote nothing else.
		return "", ErrNoStore
	}
	if err != nil {
		return "", err
	}
	if cfg.Environment != "" && env != string(cfg.Environment) {
		return "", fmt.Errorf("the database in %s was made for the %s environment, not %s: use another data folder, or --env %s", filepath.Dir(cfg.Path), env, cfg.Environment, env)
	}
	return grahak.Environment(env), nil
}
