package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/storetest"
)

// TestStore runs the suite of every engine, and then looks at how SQLite finds
// the rows for each statement that the suite made the store run.
func TestStore(t *testing.T) {
	statements := make(map[string]bool)
	storetest.Run(t, func(t testing.TB) grahak.Store {
		s := MustOpen(t, sqlstore.Config{})
		t.Cleanup(func() {
			for _, query := range s.Statements() {
				statements[query] = true
			}
		})
		return s
	})
	t.Run("query plans", func(t *testing.T) { checkPlans(t, statements) })
}

// The tables that grow with the number of customers, and the statements that
// may walk along an index of one.
var (
	large  = regexp.MustCompile(`\b(customers|events|client_auth_tokens)\b`)
	walks  = regexp.MustCompile(`^SCAN (customers|events|client_auth_tokens)\b`)
	sorts  = regexp.MustCompile(`USE TEMP B-TREE`)
	number = regexp.MustCompile(`\$\d+`)
)

// checkPlans fails the test if a statement on a table that grows reads rows that
// it does not need, or sorts what an index has in order.
func checkPlans(t *testing.T, statements map[string]bool) {
	s := MustOpen(t, sqlstore.Config{})
	db := MustOpenRaw(t, s)
	checked, paged := 0, 0
	for query := range statements {
		if !large.MatchString(query) || strings.HasPrefix(query, "PRAGMA") {
			continue
		}
		checked++
		args := make([]any, len(slices.Compact(slices.Sorted(slices.Values(number.FindAllString(query, -1))))))
		for i := range args {
			args[i] = 1
		}
		plan := MustQuery(t, db, "EXPLAIN QUERY PLAN "+query, args...)
		t.Logf("%s\n\t%s", query, strings.Join(plan, "\n\t"))
		for _, step := range plan {
			if walks.MatchString(step) {
				t.Errorf("%s\nreads a whole table: %s", query, step)
			}
			if sorts.MatchString(step) {
				t.Errorf("%s\nsorts: %s", query, step)
			}
		}
		if strings.HasPrefix(query, "SELECT") && strings.Contains(query, " LIMIT $") {
			paged++
			if !strings.Contains(strings.Join(plan, "\n"), "USING PRIMARY KEY") {
				t.Errorf("%s\ndoes not walk along the primary key: %v", query, plan)
			}
		}
	}
	// Two pages of customers and one of events, and what writes and finds them.
	if paged < 3 || checked < 12 {
		t.Errorf("%d statements on large tables were seen, %d of them pages: the suite did not run them all", checked, paged)
	}
}

// MustOpen opens a store, in a folder of its own unless cfg names a path, and
// closes it when the test ends.
func MustOpen(t testing.TB, cfg sqlstore.Config) *sqlstore.Store {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "grahak.db")
	}
	if cfg.Environment == "" {
		cfg.Environment = grahak.Sandbox
	}
	// The tests look at what callers are told.
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := sqlstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { MustClose(t, s) })
	return s
}

// MustClose closes the store; it may have been closed before.
func MustClose(t testing.TB, s *sqlstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}

// MustOpenRaw opens the database of the store as another process would.
func MustOpenRaw(t testing.TB, s *sqlstore.Store) *sql.DB { return MustOpenFile(t, s.Path()) }

// MustOpenFile opens a database file as another process would.
func MustOpenFile(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// MustQuery returns the last column of each row.
func MustQuery(t testing.TB, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = new(any)
	}
	var last string
	dest[len(dest)-1] = &last
	var result []string
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		result = append(result, last)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return result
}

// MustExec runs statements as another process would.
func MustExec(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// acme is the merchant of the tests. The store asks for no row of it.
const acme grahak.MerchantID = "acme"

// record returns the n-th customer, with padding bytes of sealed data.
func record(n, padding int) grahak.CustomerRecord {
	at := time.Date(2026, time.March, 17, 14, 13, 37, 0, time.UTC).Add(time.Duration(n) * time.Second)
	c := grahak.CustomerRecord{
		ID:        grahak.CustomerID(fmt.Sprintf("cst_%016d", n)),
		Sealed:    append(make([]byte, padding), fmt.Sprintf("sealed %d.", n)...),
		Revision:  1,
		CreatedAt: at,
		UpdatedAt: at,
	}
	binary.BigEndian.PutUint64(c.Reference[:], uint64(n+1)*0x9e3779b97f4a7c15)
	return c
}

func created(c grahak.CustomerRecord) grahak.Event {
	return grahak.Event{
		ID: grahak.EventID("evt_" + c.ID[4:]), Type: grahak.EventCustomerCreated,
		Subject: string(c.ID), Revision: 1, Actor: "key_0", At: c.CreatedAt,
	}
}

// create writes the n-th customer.
func create(ctx context.Context, s *sqlstore.Store, n int) error {
	c := record(n, 100)
	return s.CreateCustomer(ctx, acme, c, created(c), nil)
}

// MustCreate writes the customers from first up to but not last.
func MustCreate(t testing.TB, s *sqlstore.Store, first, last int) {
	t.Helper()
	for n := first; n < last; n++ {
		if err := create(t.Context(), s, n); err != nil {
			t.Fatalf("create customer %d: %v", n, err)
		}
	}
}

// wantWritten fails the test unless the store holds exactly the customers with
// the given numbers, whole, each with its one event.
func wantWritten(t testing.TB, s *sqlstore.Store, numbers ...int) {
	t.Helper()
	list, total, err := s.Customers(t.Context(), acme, "", 1<<20, 0)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Events(t.Context(), acme, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(numbers) || total != int64(len(numbers)) || len(events) != len(numbers) {
		t.Errorf("there are %d customers (total %d) and %d events, want %d each", len(list), total, len(events), len(numbers))
	}
	subjects := make(map[string]int)
	for _, e := range events {
		subjects[e.Subject]++
	}
	for _, n := range numbers {
		want := record(n, 100)
		got, err := s.Customer(t.Context(), acme, want.ID, want.Reference)
		if err != nil {
			t.Errorf("customer %d: %v", n, err)
			continue
		}
		if string(got.Sealed) != string(want.Sealed) || got.Reference != want.Reference || got.Revision != 1 {
			t.Errorf("customer %d is %+v, want %+v", n, got, want)
		}
		if subjects[string(want.ID)] != 1 {
			t.Errorf("customer %d has %d events, want 1", n, subjects[string(want.ID)])
		}
	}
}

func wantCode(t testing.TB, what string, err error, want grahak.Code) {
	t.Helper()
	if got := grahak.CodeOf(err); got != want {
		t.Errorf("%s: code %q (%v), want %q", what, got, err, want)
	}
}

// count returns the numbers from first up to but not last.
func count(first, last int) []int {
	var numbers []int
	for n := first; n < last; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// await returns when ok does, and fails the test if that takes too long.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
