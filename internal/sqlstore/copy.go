package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"grahak"
)

// CopyConfig says what to copy.
type CopyConfig struct {
	// From is the store to copy. Nobody can write it while [Copy] runs.
	From *SQLite
	// URL names the database to copy into, as in [PostgresConfig].
	URL string
	// Progress is told, by one goroutine, how many rows of how many a step has
	// done; may be nil.
	Progress func(step string, done, total int64)
	// ChunkRows bounds how many rows share a transaction; default 10,000. They
	// have maxChunk bytes, too, and little more.
	ChunkRows int
	// Clock tells how long it takes; default [grahak.SystemClock].
	Clock grahak.Clock
	// Logger is told of each migration of an empty database; default
	// [slog.Default].
	Logger *slog.Logger
}

// CopyReport is what came of a [Copy], as far as it got.
type CopyReport struct {
	// Begun is set once the database holds a copy, if an unfinished one: then the
	// next call goes on where this one has ended.
	Begun bool
	// Restarted is set if the database held an unfinished copy of the same store
	// as it was once, or one in which something was wrong, which was thrown away.
	Restarted bool
	// Environment and MasterKeyID are those of the store.
	Environment grahak.Environment
	MasterKeyID string
	// Resumed counts the rows that an earlier call had copied, and Copied those
	// of this one, which took Took.
	Resumed, Copied int64
	Took            time.Duration
	// Tables is empty unless everything was copied and both sides were read again.
	Tables []CopiedTable
}

// CopiedTable is what both sides hold of a table.
type CopiedTable struct {
	Name           string // in the database
	Source, Target TableSum
}

// Same reports whether the table was copied as it is.
func (t CopiedTable) Same() bool { return t.Source == t.Target }

// TableSum is the rows of a table: how many there are, and the SHA-256 over all
// values in the order of the table's key. A value is its bytes, eight of them, the
// highest first, for an integer, behind their number in four bytes, which is -1 for
// NULL. Each row begins with the number of its values in two bytes.
type TableSum struct {
	Rows   int64
	SHA256 [sha256.Size]byte
}

// ErrCopyDiffers is returned by [Copy] when it has copied everything and the
// database does not hold what the store does; the report says which tables differ.
// The next call starts over.
var ErrCopyDiffers = errors.New("the database does not hold what the data folder does, so the copy does not count")

// copyTable is a table to copy.
type copyTable struct {
	name    string // in PostgreSQL
	key     string // the columns that make the rows' order
	columns string // all of them, those of the key first
	// source is what the rows are selected from in SQLite; by default the table of
	// the same name.
	source string
	// order is what has PostgreSQL sort as SQLite does, where the key alone does
	// not: all but text that is no id sorts by its bytes on both.
	order string
}

// columnCount returns how many columns there are.
func (t copyTable) columnCount() int { return strings.Count(t.columns, ",") + 1 }

// keyColumns returns how many of the columns are the key.
func (t copyTable) keyColumns() int { return strings.Count(t.key, ",") + 1 }

func (t copyTable) from() string {
	if t.source == "" {
		return t.name
	}
	return t.source
}

const copiedEvent = `type, subject, revision, changed, actor, request_id, at`

// chainEnd is the position of the last event of a merchant's chain in SQLite.
const chainEnd = `coalesce((SELECT last_position FROM event_chain WHERE merchant_id = %s ORDER BY first_position DESC LIMIT 1), 0)`

// copyTables are the tables to copy but for instance, which comes last because a
// database with a row in it is a store. The request log is not copied: on SQLite it is a
// file of its own, and nothing depends on it.
//
// On SQLite the writer gives events their positions. On PostgreSQL an event has one
// once it is in the chain, so those behind the chain's end become pending events
// without. The pass that orders events then puts them into the chain and their
// customers, whom the look-up index does not have yet, into that.
var copyTables = []copyTable{
	{name: "merchants", key: "id", columns: "id, name, ip_mode, created_at, disabled_at"},
	{name: "keysets", key: "merchant_id", columns: "merchant_id, master_key_id, sealing, indexing, revision, version, oldest_version, rotated_at, walking, walked_to, seen, unopened"},
	{name: "api_keys", key: "merchant_id, id", columns: "merchant_id, id, hash, prefix, label, scope, created_at, expires_at, revoked_at, last_used_at, last_used_addr"},
	{name: "ip_list", key: "merchant_id, prefix", columns: "merchant_id, prefix, label, added_by, created_at", order: "merchant_id, convert_to(prefix, 'UTF8')"},
	{name: "operators", key: "merchant_id, name", columns: "merchant_id, name, created_at, set_up_at, disabled_at, password, totp_version, totp_step, failures, locked_until, last_login_at"},
	{name: "operator_grants", key: "merchant_id, operator", columns: "merchant_id, operator, role, granted_by, granted_at"},
	{name: "operator_sessions", key: "merchant_id, hash", columns: "merchant_id, hash, operator, created_at, used_at, expires_at, addr, browser"},
	{name: "operator_codes", key: "merchant_id, hash", columns: "merchant_id, hash, operator, kind, expires_at"},
	{name: "customers", key: "merchant_id, id", columns: "merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at, brought"},
	{name: "client_auth_tokens", key: "merchant_id, customer_id, hash", columns: "merchant_id, customer_id, hash, expires_at"},
	{name: "idempotency_keys", key: "merchant_id, key_index", columns: "merchant_id, key_index, request_index, outcome, customer_id, expires_at"},
	{
		name: "events", key: "merchant_id, position", columns: "merchant_id, position, id, " + copiedEvent,
		source: `(SELECT * FROM events AS e WHERE position <= ` + fmt.Sprintf(chainEnd, "e.merchant_id") + `)`,
	},
	{
		name: "pending_events", key: "merchant_id, id", columns: "merchant_id, id, " + copiedEvent + ", reindex, old_email, old_mobile",
		// What the customers no longer have was taken out of the look-up index at once.
		source: `(SELECT e.*, (e.type LIKE 'customer.%' AND e.revision > 0) AS reindex, NULL AS old_email, NULL AS old_mobile
			FROM merchants AS m CROSS JOIN events AS e WHERE e.merchant_id = m.id AND e.position > ` + fmt.Sprintf(chainEnd, "m.id") + `)`,
	},
	{name: "imports", key: "merchant_id, import_index", columns: "merchant_id, import_index, rows_done, created, updated, skipped, rejected, faults, started_at, updated_at, done"},
	{name: "event_chain", key: "merchant_id, first_position", columns: "merchant_id, first_position, last_position, customers, proof, links"},
	{name: "lookup_runs", key: "merchant_id, run", columns: "merchant_id, run, level, keys, whole"},
	{name: "lookup_blocks", key: "merchant_id, run, first", columns: "merchant_id, run, first, keys"},
	{name: "unordered", key: "merchant_id", columns: "merchant_id"},
	{name: "webhooks", key: "merchant_id, id", columns: "merchant_id, id, url, types, label, created_at, disabled_at, disabled_for, secret_version, previous_until, cursor, failures, failing_since, resume_at, holder, term"},
	{name: "webhook_retries", key: "merchant_id, webhook_id, position", columns: "merchant_id, webhook_id, position, event_id, customer_id, attempts, first_at, next_at"},
	{name: "webhook_attempts", key: "merchant_id, webhook_id, at, event_id", columns: "merchant_id, webhook_id, at, event_id, position, attempt, took, status, failure"},
}

var instanceTable = copyTable{name: "instance", key: "id", columns: "id, environment, master_key_id, access_version, created_at"}

// copyChunk is rows of a table that are copied together.
type copyChunk struct {
	rows   int64
	tuples []byte // as the binary format of COPY has them
	last   []byte // the key of the last of them; see [statement.appendMark]
}

// maxChunk is when a chunk is full, in bytes. With it, Copy holds as many as are
// read and written at once.
const maxChunk = 4 << 20

// Copy copies everything that cfg.From holds, as of one moment, into a PostgreSQL
// database that has no tables yet, or the schema and nothing in it, or a copy that
// was begun and not finished: then it goes on where that has ended, whatever ended
// it. At the end it reads both sides and compares them. Until that has succeeded
// the database is no store, and [OpenPostgres] refuses it. A context that ends
// makes it return the context's error. Errors that an operator can mend are one
// sentence that says how; none shows a password.
func Copy(ctx context.Context, cfg CopyConfig) (report CopyReport, err error) {
	if cfg.ChunkRows == 0 {
		cfg.ChunkRows = 10_000
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int64, int64) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = grahak.SystemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := copier{cfg: cfg}
	defer func() {
		if err = errors.Join(err, c.close()); err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	err = c.run(ctx)
	return c.report, err
}

// copier is a copy that is being made.
type copier struct {
	cfg    CopyConfig
	report CopyReport
	source *sqliteConn
	state  copyState
	target *copyTarget
	rows   int64 // in all tables together
}

func (c *copier) close() error {
	var err error
	if c.target != nil {
		c.target.close()
	}
	if c.source != nil {
		err = c.source.close()
	}
	return err
}

func (c *copier) run(ctx context.Context) (err error) {
	if c.source, err = c.cfg.From.hold(); err != nil {
		return err
	}
	err = c.source.during(ctx, func() error {
		c.state, err = c.source.copyState()
		return err
	})
	if err != nil {
		return storageError(err)
	}
	c.report.Environment, c.report.MasterKeyID = c.state.environment, c.state.masterKeyID
	if c.target, err = openCopyTarget(ctx, c.cfg); err != nil {
		return err
	}
	if c.report.Restarted, err = c.target.claim(c.state); err != nil {
		return c.target.explain(err)
	}
	c.report.Begun = true
	for _, t := range copyTables {
		c.report.Resumed += c.target.marks[t.name].rows
		c.rows += c.state.rows[t.name]
	}
	began := c.cfg.Clock.Now()
	for _, t := range copyTables {
		if err := c.copy(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	c.report.Took = c.cfg.Clock.Now().Sub(began)
	return c.finish(ctx)
}

// copy copies what is left to copy of a table. While a chunk is written the next
// is read.
func (c *copier) copy(ctx context.Context, t copyTable) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	chunks, read := make(chan copyChunk), make(chan error, 1)
	go func() {
		read <- c.source.during(reading, func() error {
			return c.source.chunks(t, c.target.marks[t.name].last, c.cfg.ChunkRows, func(chunk copyChunk) error {
				select {
				case chunks <- chunk:
					return nil
				case <-reading.Done():
					return reading.Err()
				}
			})
		})
		close(chunks)
	}()
	var failed error
	for chunk := range chunks {
		if failed != nil {
			continue
		}
		if failed = c.target.write(t, chunk); failed != nil {
			stop()
			continue
		}
		c.report.Copied += chunk.rows
		c.cfg.Progress("Copying rows", c.report.Resumed+c.report.Copied, c.rows)
	}
	if err := <-read; failed == nil {
		return storageError(err)
	}
	return c.target.explain(failed)
}

// finish makes the copy count, if both sides are the same.
func (c *copier) finish(ctx context.Context) error {
	if err := c.target.analyze(); err != nil {
		return c.target.explain(err)
	}
	var before int64
	for _, t := range copyTables {
		compared, err := c.compare(ctx, t, before)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		before += compared.Source.Rows
		c.report.Tables = append(c.report.Tables, compared)
	}
	for _, t := range c.report.Tables {
		if !t.Same() {
			return errors.Join(ErrCopyDiffers, c.target.spoil())
		}
	}
	instance, err := c.target.finish(c.source)
	if err != nil {
		return c.target.explain(err)
	}
	c.report.Tables = append(c.report.Tables, instance)
	return nil
}

// compare reads a table on both sides at once. before counts the rows that were
// compared before.
func (c *copier) compare(ctx context.Context, t copyTable, before int64) (CopiedTable, error) {
	compared := CopiedTable{Name: t.name}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Rows count for half on either side.
	var seen atomic.Int64
	errs := make(chan error, 2)
	side := func(sum func() (TableSum, error), into *TableSum) {
		var err error
		if *into, err = sum(); err != nil {
			stop()
		}
		errs <- err
	}
	go side(func() (sum TableSum, err error) {
		err = c.source.during(ctx, func() error {
			sum, err = c.source.sum(t, &seen)
			return err
		})
		return sum, storageError(err)
	}, &compared.Source)
	go side(func() (TableSum, error) {
		sum, err := c.target.on(ctx).sum(t, &seen)
		return sum, c.target.explain(err)
	}, &compared.Target)
	tick := time.NewTicker(copyInterval)
	defer tick.Stop()
	var failed error
	for waiting := 2; waiting > 0; {
		select {
		case err := <-errs:
			waiting--
			// What is stopped because the other side has failed fails of that.
			if failed == nil {
				failed = err
			}
		case <-tick.C:
		}
		c.cfg.Progress("Comparing rows", before+seen.Load()/2, c.rows)
	}
	return compared, failed
}
