package sqlstore_test

import (
	"errors"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// A write that panics, or fails after it has written, leaves nothing, and no
// connection that others would suffer from.
func TestPostgresUndoesWrites(t *testing.T) {
	t.Parallel()
	url := postgres.Shared(t).Database(t)
	s := MustOpenPostgres(t, url)
	another := MustOpenPostgres(t, url)
	entries := func(s *sqlstore.Postgres) (n int) {
		t.Helper()
		must(t, s.Write(t.Context(), func(tx sqlstore.Tx) (err error) {
			n, err = tx.QueryInt(`SELECT count(*) FROM ip_list`)
			return err
		}))
		return n
	}
	insert := func(tx sqlstore.Tx, prefix string) {
		t.Helper()
		if n, err := tx.Exec(`INSERT INTO ip_list (merchant_id, prefix, label, added_by, created_at) VALUES ('acme', $1, '', '', 0)`, prefix); err != nil || n != 1 {
			t.Errorf("%d rows were inserted: %v", n, err)
		}
	}
	failed := errors.New("it failed")
	for name, end := range map[string]func(sqlstore.Tx) error{
		"a panic":  func(sqlstore.Tx) error { panic("it panicked") },
		"an error": func(sqlstore.Tx) error { return failed },
		"a statement that failed": func(tx sqlstore.Tx) error {
			return second(tx.Exec(`INSERT INTO ip_list (merchant_id) VALUES ('acme')`))
		},
		"a statement that is none":         func(tx sqlstore.Tx) error { return second(tx.Exec(`INSERT`)) },
		"a row that exists":                func(tx sqlstore.Tx) error { return second(tx.Exec(`INSERT INTO ip_list SELECT * FROM ip_list`)) },
		"an error that nobody was told of": func(tx sqlstore.Tx) error { _, _ = tx.Exec(`INSERT`); return nil },
		"a panic in the middle of a result": func(tx sqlstore.Tx) error {
			return tx.EachInt(`SELECT n FROM generate_series(1, 100000) AS n`, func(int) error { panic("it panicked") })
		},
		"an error in the middle of a result": func(tx sqlstore.Tx) error {
			return tx.EachInt(`SELECT n FROM generate_series(1, 100000) AS n`, func(int) error { return failed })
		},
		"an error at the end of a result": func(tx sqlstore.Tx) error {
			return tx.EachInt(`SELECT 1 / (1000 - n) FROM generate_series(1, 1000) AS n`, func(int) error { return nil })
		},
	} {
		// More often than there are connections.
		for range 2 * sqlstore.MinConnections {
			err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
				insert(tx, "203.0.113.0/24")
				insert(tx, "203.0.113.1/32")
				return end(tx)
			})
			var known *grahak.Error
			if err == nil || errors.As(err, &known) {
				t.Fatalf("%s: got %v, want an error that is internal", name, err)
			}
			if strings.HasPrefix(name, "a panic") && !strings.Contains(err.Error(), "panic") {
				t.Errorf("%s: got %v, which does not say so", name, err)
			}
		}
		if here, there := entries(s), entries(another); here != 0 || there != 0 {
			t.Errorf("%s: %d entries are left, and another process sees %d", name, here, there)
		}
	}
	must(t, s.Write(t.Context(), func(tx sqlstore.Tx) error {
		insert(tx, "203.0.113.0/24")
		return nil
	}))
	if here, there := entries(s), entries(another); here != 1 || there != 1 {
		t.Errorf("there is %d entry, and another process sees %d, want one", here, there)
	}
}

// second drops what a call returns beside its error.
func second[T any](_ T, err error) error { return err }
