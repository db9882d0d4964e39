package sqlstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"grahak"
)

// MaxBatch is how many writes share a commit at most.
const MaxBatch = maxBatch

// Tx is a transaction as a test's own job sees it.
type Tx struct{ c conn }

// Exec runs one statement.
func (tx Tx) Exec(query string, args ...any) (int64, error) { return tx.c.exec(query, args...) }

// QueryInt runs a query that returns one number.
func (tx Tx) QueryInt(query string, args ...any) (n int, err error) {
	err = tx.c.queryRow(query, args...).Scan(&n)
	return n, err
}

// EachInt calls fn with each row of a query that returns numbers.
func (tx Tx) EachInt(query string, fn func(n int) error) error {
	return tx.c.query(func(r row) error {
		var n int
		if err := r.Scan(&n); err != nil {
			return err
		}
		return fn(n)
	}, query)
}

// BusyFanIn is how many runs of a level of the look-up index are merged while it is
// not calm.
const BusyFanIn = busyFanIn

// AddKeys appends a run with keys to the merchant's look-up index.
func (tx Tx) AddKeys(m grahak.MerchantID, keys [][]byte) error { return addKeys(tx.c, m, keys) }

// RemoveKey takes a key out of the merchant's look-up index.
func (tx Tx) RemoveKey(m grahak.MerchantID, key []byte) error { return removeKey(tx.c, m, key) }

// SearchKeys returns ids of customers under value.
func (tx Tx) SearchKeys(m grahak.MerchantID, value []byte, from, before string, limit int) ([]string, error) {
	return searchKeys(tx.c, m, value, from, before, limit)
}

// MergeRuns takes a step of the merges that are due.
func (tx Tx) MergeRuns(m grahak.MerchantID, calm bool, budget int) (bool, error) {
	return mergeRuns(tx.c, m, calm, budget)
}

// CheckIndex returns what is wrong with the form of the merchant's look-up index,
// and how many whole runs it has on each level.
func (tx Tx) CheckIndex(m grahak.MerchantID) (levels map[int64]int, err error) {
	runs, err := lookupRuns(tx.c, m)
	if err != nil {
		return nil, err
	}
	levels = make(map[int64]int)
	var known int
	for _, r := range runs {
		if r.whole {
			levels[r.level]++
		}
		var last []byte
		err := tx.c.query(func(row row) error {
			var first, block []byte
			if err := row.Scan(&first, &block); err != nil {
				return err
			}
			known++
			if key, _, err := nextKey(block); err != nil || bytes.Compare(first, last) <= 0 || bytes.Compare(first, key) > 0 {
				return fmt.Errorf("run %d: a block that begins with %x, behind %x, stands under %x", r.number, key, last, first)
			}
			for len(block) > 0 {
				var key []byte
				var err error
				if key, block, err = nextKey(block); err != nil || bytes.Compare(key, last) <= 0 {
					return fmt.Errorf("run %d: %x comes after %x", r.number, key, last)
				}
				last = key
			}
			return nil
		}, `SELECT first, keys FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 ORDER BY first`, string(m), r.number)
		if err != nil {
			return nil, err
		}
	}
	blocks, err := tx.QueryInt(`SELECT count(*) FROM lookup_blocks WHERE merchant_id = $1`, string(m))
	if err == nil && blocks != known {
		err = fmt.Errorf("%d of %d blocks belong to no run", blocks-known, blocks)
	}
	return levels, err
}

// Write has the writer run fn among the store's own writes.
func (s *SQLite) Write(ctx context.Context, fn func(Tx) error) error {
	return s.do(ctx, func(c *sqliteConn) error { return fn(Tx{c}) })
}

// SetMostTailKeys sets how many look-up keys of events behind the chains are
// remembered at most.
func (s *SQLite) SetMostTailKeys(n int) { s.tails.most = n }

// Path is the database file.
func (s *SQLite) Path() string { return s.path }

// Closing is closed when the store has begun to close.
func (s *SQLite) Closing() <-chan struct{} { return s.writer.quit }

// Checkpoint lets the write-ahead log be looked at this often, and copied after
// so many pages.
func (s *SQLite) Checkpoint(interval time.Duration, pages int64) {
	s.checkpoints.pages.Store(pages)
	s.checkpoints.tick.Reset(interval)
}

// Statements returns every statement that the store has run. Nothing else may
// use the store meanwhile, and there are no checkpoints from then on.
func (s *SQLite) Statements() []string {
	s.checkpoints.stop()
	all := make(map[string]bool)
	for _, c := range s.held {
		for query := range c.statements {
			all[query] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Write has the store run fn as one of its own writes.
func (s *Postgres) Write(ctx context.Context, fn func(Tx) error) error {
	return s.write(ctx, func(tx tx) error { return fn(Tx{tx}) })
}

// Statements returns every statement that the connections have prepared which are
// open. Nothing else may use the store meanwhile.
func (s *Postgres) Statements() []string {
	all := make(map[string]bool)
	for _, c := range s.pool.AcquireAllIdle(context.Background()) {
		for query := range newPostgresConn(context.Background(), c.Conn().PgConn()).statements {
			all[query] = true
		}
		c.Release()
	}
	return slices.Sorted(maps.Keys(all))
}

// ReadWait is how long a read waits for a connection.
const ReadWait = readWait

// HoldReaders keeps every read connection but those of look-ups until release is
// called.
func (s *SQLite) HoldReaders() (release func()) { return s.takeReaders() }

// Recompiled returns the statements that SQLite compiled more than once. Nothing
// else may use the store meanwhile, and there are no checkpoints from then on.
func (s *SQLite) Recompiled() (list []string) {
	s.checkpoints.stop()
	for _, c := range s.held {
		for query, statement := range c.statements {
			if sqlite3.Xsqlite3_stmt_status(c.tls, statement.ptr, sqlite3.SQLITE_STMTSTATUS_REPREPARE, 0) > 0 {
				list = append(list, query)
			}
		}
	}
	return list
}

// CopiedColumns returns the columns that [Copy] copies, by table.
func CopiedColumns() map[string][]string {
	columns := make(map[string][]string)
	for _, t := range append([]copyTable{instanceTable}, copyTables...) {
		columns[t.name] = strings.Split(t.columns, ", ")
	}
	return columns
}

// LateAfter is how long a batch takes before its goroutine asks for help.
const LateAfter = lateAfter

// Queue is a queue of functions, which one goroutine runs and another helps.
type Queue struct{ q *queue[func()] }

// NewQueue returns a queue that nobody works on yet.
func NewQueue() Queue { return Queue{newQueue[func()]("functions", 100, time.Minute)} }

// Do waits until fn has run.
func (q Queue) Do(ctx context.Context, fn func()) error { return q.q.do(ctx, fn) }

// Start begins to run what waits, up to batch functions at a time.
func (q Queue) Start(batch int) {
	process := func(jobs []*job[func()]) {
		for _, j := range jobs {
			j.work()
		}
	}
	q.q.workers.Add(2)
	go q.q.work(make([]*job[func()], 0, batch), q.q.asking(process))
	go q.q.help(make([]*job[func()], 0, batch), q.q.asking(process))
}

// Stop runs what waits and ends both goroutines.
func (q Queue) Stop() { q.q.stop() }
