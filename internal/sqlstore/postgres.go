package sqlstore

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"grahak"
)

// PostgresConfig says what to open.
type PostgresConfig struct {
	// URL names the database as libpq does: postgres://user@host:5432/name, with
	// any number of hosts. Passwords may come from PGPASSWORD or a password file
	// as well.
	URL string
	// Environment is recorded in a new store. Opening an existing store of
	// another environment is an error; empty takes the store's own, and then the
	// store must exist.
	Environment grahak.Environment
	// Migrate brings an older schema, or an empty database, up to date. Otherwise
	// both are refused, a database without a store with [ErrNoStore].
	Migrate bool
	// Connections bounds the connections to the database; default
	// [DefaultConnections], at least [MinConnections].
	Connections int
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// Observer is told of commits; may be nil. It is called by several goroutines.
	Observer Observer
	// Logger receives faults that no caller is told of; default
	// [slog.Default].
	Logger *slog.Logger
}

// How many connections a process has to its database at most.
const (
	DefaultConnections = 16
	MinConnections     = 8
)

// Postgres implements [grahak.Store] for any number of processes on one
// PostgreSQL database. Use [OpenPostgres].
//
// Writes of customers share round trips and commits; see lanes. Events get their
// positions after their commit, from the pass that orders them, because commits
// of several processes have no order that a write could know: until then they are
// in a table of their own.
type Postgres struct {
	portable
	environment grahak.Environment
	pool        *pgxpool.Pool
	lanes       *lanes
	lookUps     *queue[*lookUp]
	vacuum      vacuum

	// The operations of each kind that run at once have connections enough, all
	// together, so none waits for one of another kind.
	vital, reading, finding, writing, background slots
	// Those that take minutes leave connections to others that only read.
	long slots

	waits, waited atomic.Int64 // for one of those connections; waited in nanoseconds
}

var (
	_ Store = (*Postgres)(nil)
	_ Store = (*SQLite)(nil)
)

// OpenPostgres opens the store. Errors that an operator can mend are one sentence
// that says how; none shows a password.
func OpenPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Connections == 0 {
		cfg.Connections = DefaultConnections
	}
	if cfg.Clock == nil {
		cfg.Clock = grahak.SystemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	pool, err := poolConfig(cfg.URL, max(cfg.Connections, MinConnections))
	if err != nil {
		return nil, err
	}
	s, err := openPostgres(ctx, pool, cfg)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		// A server or a machine that stood still for a moment answers the second time.
		s, err = openPostgres(ctx, pool, cfg)
	}
	if err != nil {
		return nil, explainPostgres(pool.ConnConfig, err)
	}
	return s, nil
}

// openPostgres is [OpenPostgres] with all settings.
func openPostgres(ctx context.Context, pool *pgxpool.Config, cfg PostgresConfig) (*Postgres, error) {
	environment, err := preparePostgres(ctx, pool.ConnConfig, cfg)
	if err != nil {
		return nil, err
	}
	s := &Postgres{environment: environment}
	s.engine = s
	if s.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, err
	}
	// Preparing has limits of its own; those in the URL may be none.
	if err := s.pool.Ping(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	s.share(int(pool.MaxConns))
	s.lanes = newLanes(s, cfg)
	s.startLookUps()
	return s, nil
}

// share divides the connections among the kinds of operations.
func (s *Postgres) share(connections int) {
	vital, background := 2, 1
	if connections > MinConnections {
		vital, background = 3, 2
	}
	rest := connections - vital - background
	reading := max(2, rest*3/11)
	finding := max(1, rest*3/11)
	s.vital, s.background = make(slots, vital), make(slots, background)
	s.reading, s.finding = make(slots, reading), make(slots, finding)
	s.writing = make(slots, rest-reading-finding)
	s.long = make(slots, 1)
}

// Environment implements [Store].
func (s *Postgres) Environment() grahak.Environment { return s.environment }

// QueueLen implements [Store].
func (s *Postgres) QueueLen() int { return s.lanes.len() }

// QueueCap implements [Store].
func (s *Postgres) QueueCap() int { return maxWaiting }

// ConnectionStats is what the connections to the database are doing.
type ConnectionStats struct {
	InUse, Idle, Max int
	// Opened counts connections that were made since the start.
	Opened int64
	// Waits counts the operations that had to wait for a connection, and Waited is
	// how long they did together.
	Waits  int64
	Waited time.Duration
}

// Connections returns what the connections are doing now.
func (s *Postgres) Connections() ConnectionStats {
	stat := s.pool.Stat()
	return ConnectionStats{
		InUse:  int(stat.AcquiredConns()),
		Idle:   int(stat.IdleConns()),
		Max:    int(stat.MaxConns()),
		Opened: stat.NewConnsCount(),
		Waits:  s.waits.Load(),
		Waited: time.Duration(s.waited.Load()),
	}
}

// Close implements [Store].
func (s *Postgres) Close() error {
	s.lanes.stop()
	s.lookUps.stop()
	s.pool.Close()
	return nil
}

// read implements [engine].
func (s *Postgres) read(ctx context.Context, fn func(conn) error) error {
	return s.run(ctx, operation{slots: s.reading, limit: operationLimit, again: true}, func(c *postgresConn) error { return fn(c) })
}

// vitalRead implements [engine].
func (s *Postgres) vitalRead(ctx context.Context, fn func(conn) error) error {
	return s.run(ctx, operation{slots: s.vital, limit: operationLimit, again: true}, func(c *postgresConn) error { return fn(c) })
}

// longRead implements [engine].
func (s *Postgres) longRead(ctx context.Context, fn func(conn) error) error {
	if !s.enter(ctx, ctx, s.long) {
		return grahak.Unavailable("another long read did not end in time", retryQueue, ctx.Err())
	}
	defer func() { <-s.long }()
	return s.run(ctx, operation{slots: s.reading}, func(c *postgresConn) error {
		return c.snapshot(func() error {
			if err := c.simple("SET LOCAL statement_timeout = '" + longLimit + "'"); err != nil {
				return err
			}
			return fn(c)
		})
	})
}

// write implements [engine].
func (s *Postgres) write(ctx context.Context, fn func(tx) error) error {
	return s.run(ctx, operation{slots: s.background, limit: transactionLimit}, func(c *postgresConn) error { return c.transact(fn) })
}
