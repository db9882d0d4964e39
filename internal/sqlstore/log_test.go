package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"grahak/internal/sqlstore"
)

// TestLogIsWhole writes ever larger transactions in caches down to one that cannot
// hold them, so that they are written in parts, and some pages of them again. After
// each it opens what a crash would leave of the files.
func TestLogIsWhole(t *testing.T) {
	t.Parallel()
	const tokens = 1000 // that each transaction writes, in a random order
	for _, pages := range []int{2000, 50, 10} {
		t.Run(fmt.Sprintf("cache of %d pages", pages), func(t *testing.T) {
			t.Parallel()
			s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
			MustWork(t, s, func(tx sqlstore.Tx) error {
				_, err := tx.Exec(fmt.Sprintf(`PRAGMA cache_size = %d`, pages))
				return err
			})
			n := 0
			for round, batch := range []int{3, sqlstore.MaxBatch - 1, 2} {
				release := MustBlock(t, s)
				var writes sync.WaitGroup
				for i := range batch {
					writes.Go(func() {
						if err := create(t.Context(), s, n+i); err != nil {
							t.Errorf("create customer %d: %v", n+i, err)
						}
					})
				}
				writes.Go(func() {
					err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
						_, err := tx.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
							INSERT INTO client_auth_tokens (merchant_id, customer_id, hash, expires_at) SELECT $1, 'cst_' || i, randomblob(32), i FROM n`,
							string(acme), tokens)
						return err
					})
					if err != nil {
						t.Errorf("write tokens: %v", err)
					}
				})
				await(t, "all writes to wait", func() bool { return s.QueueLen() == batch+1 })
				release()
				writes.Wait()
				n += batch
				for _, s := range []*sqlstore.SQLite{s, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: MustCrash(t, s)})} {
					wantWritten(t, s, count(0, n)...)
					wantSound(t, s)
					MustWork(t, s, func(tx sqlstore.Tx) error {
						got, err := tx.QueryInt(`SELECT count(*) FROM client_auth_tokens`)
						if want := tokens * (1 + round); got != want {
							t.Errorf("there are %d tokens, want %d", got, want)
						}
						return err
					})
				}
			}
		})
	}
}

// MustCrash returns a copy of the database's files as they are.
func MustCrash(t testing.TB, s *sqlstore.SQLite) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grahak.db")
	for _, suffix := range []string{"", "-wal"} {
		MustWrite(t, path+suffix, MustRead(t, s.Path()+suffix))
	}
	return path
}
