package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"grahak"
)

const (
	// operationLimit bounds an operation, from the wait for a connection to the
	// answer: who asks is told of an outage after that at the latest.
	operationLimit = 5 * time.Second
	// statementLimit and lockLimit are where the server itself gives up, before we
	// do: a connection that is given up on has to be made anew.
	statementLimit = "4s"
	lockLimit      = "3s"
	idleLimit      = "10s" // in a transaction
	// transactionLimit bounds a transaction of several round trips, which nobody's
	// request waits for.
	transactionLimit = 30 * time.Second
	// connectLimit bounds the attempt to connect to one host.
	connectLimit = 2 * time.Second
	// longLimit bounds a statement of what may take minutes.
	longLimit = "1h"
)

// poolConfig returns the configuration of the connections to the database.
func poolConfig(url string, connections int) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, explainURL(err)
	}
	configureConn(cfg.ConnConfig)
	cfg.AfterConnect = setPlans
	cfg.MaxConns = int32(connections)
	cfg.MaxConnLifetimeJitter = cfg.MaxConnLifetime / 10
	cfg.PingTimeout = operationLimit / 2
	return cfg, nil
}

// planSettings have the server plan a statement once, for any merchant. Of a merchant
// that has grown since the server last looked, it would believe that there are no
// rows, and read all of them where the merchant and an id are asked for. Not knowing
// the range, it takes a page of a list for few rows that are better found in no order
// and sorted: all of the merchant's, or the whole table, in several processes. And it
// compiles what seems to be costly, which takes longer than to run it.
var planSettings = []string{
	"SET plan_cache_mode = force_generic_plan",
	"SET enable_bitmapscan = off", "SET enable_seqscan = off", "SET max_parallel_workers_per_gather = 0",
	"SET jit = off",
}

// setPlans sets planSettings. A database that does not have one plans as it may.
func setPlans(ctx context.Context, conn *pgx.Conn) error {
	// Nothing else bounds this part of a connection's making.
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	for _, set := range planSettings {
		if _, err := conn.PgConn().Exec(ctx, set).ReadAll(); err != nil && sqlState(err) == "" {
			return err
		}
	}
	return nil
}

// configureConn sets what the URL leaves open. The statements are made for the
// isolation level that is set here: each of a transaction sees what was committed
// before it, so what has waited for a lock sees what the lock's holder did.
func configureConn(cfg *pgx.ConnConfig) {
	for name, value := range map[string]string{
		"application_name":                    "grahak",
		"default_transaction_isolation":       "read committed",
		"statement_timeout":                   statementLimit,
		"lock_timeout":                        lockLimit,
		"idle_in_transaction_session_timeout": idleLimit,
	} {
		if _, given := cfg.RuntimeParams[name]; !given {
			cfg.RuntimeParams[name] = value
		}
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > connectLimit {
		cfg.ConnectTimeout = connectLimit
	}
	// Everything needs to write sooner or later, so a standby is never the right
	// host.
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// slots bounds how many operations of a kind run at once, so that none takes the
// connections of the others.
type slots chan struct{}

// operation is how an operation is run.
type operation struct {
	slots slots
	limit time.Duration // of all attempts together; 0 for none but the context's
	// again says that it may be run again after the connection was lost: it only
	// reads.
	again bool
}

// run runs fn with a connection, again if the server has undone it for the sake
// of others or if it cannot have begun. A caller that goes away does not end what
// has begun, unless there is no limit: the connection would be lost with it.
func (s *Postgres) run(ctx context.Context, o operation, fn func(*postgresConn) error) error {
	caller := ctx
	if o.limit > 0 {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.limit)
		defer cancel()
		ctx = limited
	}
	if !s.enter(caller, ctx, o.slots) {
		return grahak.Unavailable("no database connection became free in time", retryQueue, errors.Join(ctx.Err(), caller.Err()))
	}
	defer func() { <-o.slots }()
	for attempt := 0; ; attempt++ {
		lost, err := s.attempt(ctx, fn)
		if err == nil {
			return nil
		}
		retry := undone(err) || outdated(err) || full(err) || pgconn.SafeToRetry(err) || lost && o.again && attempt == 0
		if !retry || attempt == maxAttempts || !pause(ctx, attempt) {
			return postgresError(err, lost)
		}
	}
}

// enter waits for a slot, and reports false if the caller goes away or ctx ends
// first.
func (s *Postgres) enter(caller, ctx context.Context, slots slots) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	began := s.lanes.clock.Now()
	defer func() {
		s.waits.Add(1)
		s.waited.Add(int64(s.lanes.clock.Now().Sub(began)))
	}()
	select {
	case slots <- struct{}{}:
		return true
	case <-caller.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// maxAttempts bounds how often an operation is run again.
const maxAttempts = 10

// attempt runs fn with a connection once, and reports whether that was lost.
func (s *Postgres) attempt(ctx context.Context, fn func(*postgresConn) error) (lost bool, err error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return true, fmt.Errorf("connect: %w", err)
	}
	raw := c.Conn().PgConn()
	defer func() {
		defer c.Release()
		if p := recover(); p != nil {
			// Whatever the connection was in the middle of ends with it.
			closeNow(raw)
			err = fmt.Errorf("panic in the storage: %v\n%s", p, debug.Stack())
			return
		}
		lost = err != nil && raw.IsClosed()
		if lost || sqlState(err) == stateReadOnly {
			// The idle ones lead to the same server.
			s.pool.Reset()
		}
		if sqlState(err) == stateReadOnly || outdated(err) {
			closeNow(raw)
		}
	}()
	return false, fn(newPostgresConn(ctx, raw))
}

// closeNow closes a connection without waiting for the server.
func closeNow(raw *pgconn.PgConn) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = raw.Close(gone)
}

// transact runs fn in a transaction on c.
func (c *postgresConn) transact(fn func(tx) error) error {
	if err := c.simple("BEGIN"); err != nil {
		return err
	}
	c.inTx = true
	defer func() { c.inTx = false }()
	err := fn(c)
	if err == nil {
		err = c.catchUp()
	}
	if err != nil {
		if rollback := c.simple("ROLLBACK"); rollback != nil && c.raw.IsClosed() {
			err = errors.Join(err, rollback)
		}
		return err
	}
	results, err := c.raw.Exec(c.ctx, "COMMIT").ReadAll()
	if err != nil {
		return err
	}
	// The server takes the commit of a transaction in which a statement failed for
	// its end.
	if len(results) != 1 || results[0].CommandTag.String() != "COMMIT" {
		return errNotCommitted
	}
	return nil
}

var errNotCommitted = errors.New("the database has undone a transaction that was to be committed")
