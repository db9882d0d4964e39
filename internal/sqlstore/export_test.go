package sqlstore

import (
	"context"
	"maps"
	"slices"
	"time"
)

// MaxBatch is how many writes share a commit at most.
const MaxBatch = maxBatch

// Tx is the writer's transaction as a test's own job sees it.
type Tx struct{ c *conn }

// Exec runs one statement.
func (tx Tx) Exec(query string, args ...any) (int64, error) { return tx.c.exec(query, args...) }

// QueryInt runs a query that returns one number.
func (tx Tx) QueryInt(query string, args ...any) (n int, err error) {
	err = tx.c.queryRow(query, args...).Scan(&n)
	return n, err
}

// Write has the writer run fn among the store's own writes.
func (s *Store) Write(ctx context.Context, fn func(Tx) error) error {
	return s.write(ctx, func(c *conn) error { return fn(Tx{c}) })
}

// Path is the database file.
func (s *Store) Path() string { return s.path }

// Closing is closed when the store has begun to close.
func (s *Store) Closing() <-chan struct{} { return s.writer.quit }

// Checkpoint lets the write-ahead log be looked at this often, and copied after
// so many pages.
func (s *Store) Checkpoint(interval time.Duration, pages int64) {
	s.checkpoints.pages.Store(pages)
	s.checkpoints.tick.Reset(interval)
}

// Statements returns every statement that the store has run. Nothing else may
// use the store meanwhile.
func (s *Store) Statements() []string {
	all := make(map[string]bool)
	for _, c := range s.held {
		for query := range c.statements {
			all[query] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// ReadWait is how long a read waits for a connection.
const ReadWait = readWait

// HoldReaders keeps every read connection until release is called.
func (s *Store) HoldReaders() (release func()) {
	held := make([]*conn, cap(s.readers))
	for i := range held {
		held[i] = <-s.readers
	}
	return func() {
		for _, c := range held {
			s.readers <- c
		}
	}
}
