package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
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
	t.Parallel()
	statements := make(map[string]bool)
	storetest.Run(t, func(t testing.TB) (grahak.Store, func() grahak.Store) {
		// On a busy machine a process may wait long for the others.
		const lockWait = 30 * time.Second
		s := MustOpen(t, sqlstore.SQLiteConfig{LockWait: lockWait})
		t.Cleanup(func() {
			for _, query := range s.Statements() {
				statements[query] = true
			}
		})
		return s, func() grahak.Store {
			return MustOpen(t, sqlstore.SQLiteConfig{Path: s.Path(), Beside: true, LockWait: lockWait})
		}
	})
	t.Run("query plans", func(t *testing.T) { checkPlans(t, statements) })
	t.Run("one merchant", func(t *testing.T) { checkMerchants(t, statements) })
	t.Run("portable", func(t *testing.T) { checkPortable(t, statements) })
}

// The tables that grow with the number of customers, and what a plan says of a
// statement that reads all of one, all of one that is a merchant's, or sorts.
var (
	large = regexp.MustCompile(`\b(customers|events|client_auth_tokens|idempotency_keys|event_chain|lookup_blocks)\b`)
	walks = regexp.MustCompile(`^SCAN (customers|events|client_auth_tokens|idempotency_keys|event_chain|lookup_blocks|[a-z])\b`)
	wide  = regexp.MustCompile(`^SEARCH (customers|events|event_chain|lookup_blocks|[a-z]) USING .*\((merchant_id=\?)?\)$`)
	sorts = regexp.MustCompile(`USE TEMP B-TREE`)
	// The index of a table with rowids has a name of SQLite's own.
	primary = regexp.MustCompile(`USING (PRIMARY KEY|INDEX sqlite_autoindex_\w+) `)
	number  = regexp.MustCompile(`\$\d+`)
)

// Statements that read a merchant's rows from one end, and stop at the first.
var endOnly = []string{
	`SELECT position FROM events WHERE merchant_id = $1 ORDER BY position DESC LIMIT 1`,
	`SELECT last_position, customers, substr(links, length(links) - 31) FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`,
	`SELECT last_position, customers FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1`,
	"SELECT coalesce((SELECT customers FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1), 0)",
	// It tells whether there is one.
	`SELECT 1 FROM customers WHERE merchant_id = $1 AND brought IS NOT NULL ORDER BY brought, id LIMIT 1`,
	// At the end of a rotation all customers are looked at once more.
	`SELECT id FROM customers WHERE merchant_id = $1 AND key_version <> $2 LIMIT 1`,
	// An audit counts them.
	`SELECT count(*) FROM customers WHERE merchant_id = $1`,
}

// sortsFew is the statements that sort: the few tokens of a customer.
const sortsFew = `SELECT hash, expires_at FROM client_auth_tokens WHERE merchant_id = $1 AND customer_id = $2 `

// fewRows is the statements that read a whole table which stays small: all endpoints,
// each with one row of its merchant's chain.
const fewRows = `SELECT merchant_id, id, url, types, `

// checkPlans fails the test if a statement on a table that grows reads rows that
// it does not need, or sorts what an index has in order.
func checkPlans(t *testing.T, statements map[string]bool) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
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
			if walks.MatchString(step) && !strings.HasPrefix(query, fewRows) {
				t.Errorf("%s\nreads a whole table: %s", query, step)
			}
			if wide.MatchString(step) && !strings.HasPrefix(query, fewRows) && !slices.ContainsFunc(endOnly, func(start string) bool { return strings.HasPrefix(query, start) }) {
				t.Errorf("%s\nreads all rows of a merchant: %s", query, step)
			}
			if sorts.MatchString(step) && !strings.HasPrefix(query, sortsFew) {
				t.Errorf("%s\nsorts: %s", query, step)
			}
		}
		if strings.HasPrefix(query, "SELECT") && strings.Contains(query, " LIMIT $") {
			paged++
			// There is one customer of a reference at most. Those that were brought have
			// an index of their own.
			if !primary.MatchString(strings.Join(plan, "\n")) && !strings.Contains(query, "reference_index = $2") && !strings.Contains(query, "brought >= $2") {
				t.Errorf("%s\ndoes not walk along the primary key: %v", query, plan)
			}
		}
	}
	// Pages of customers in both directions, of those that are searched, of events
	// and of the chain; and what writes and finds them.
	if paged < 5 || checked < 30 {
		t.Errorf("%d statements on large tables were seen, %d of them pages: the suite did not run them all", checked, paged)
	}
}

// MustOpenAcme opens a store with the merchant acme, in a folder of its own unless
// cfg names a path, and closes it when the test ends. cfg's observer sees nothing
// of how the merchant is made.
func MustOpenAcme(t testing.TB, cfg sqlstore.SQLiteConfig) *sqlstore.SQLite {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "grahak.db")
	}
	if info, err := os.Stat(cfg.Path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		first := MustOpen(t, sqlstore.SQLiteConfig{Path: cfg.Path, Environment: cfg.Environment})
		if err := createMerchant(t.Context(), first, acme); err != nil {
			t.Fatal(err)
		}
		MustClose(t, first)
	}
	return MustOpen(t, cfg)
}

// createMerchant writes a merchant, with keys that nobody opens.
func createMerchant(ctx context.Context, s *sqlstore.SQLite, id grahak.MerchantID) error {
	const master = "mk_test"
	if _, err := s.MasterKeyID(ctx, master); err != nil {
		return err
	}
	m := grahak.Merchant{ID: id, IPMode: grahak.IPModeOff, CreatedAt: record(0, 0).CreatedAt}
	keys := grahak.Keyset{Merchant: id, MasterKeyID: master, Version: 1, Sealing: []byte{1}, Indexing: []byte{1}}
	return s.CreateMerchant(ctx, m, keys, grahak.Event{ID: grahak.EventID("evt_" + id), Type: grahak.EventMerchantCreated, At: m.CreatedAt})
}

// MustOpen opens a store, in a folder of its own unless cfg names a path,
// without making anything in it, and closes it when the test ends.
func MustOpen(t testing.TB, cfg sqlstore.SQLiteConfig) *sqlstore.SQLite {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "grahak.db")
	}
	if cfg.Environment == "" {
		cfg.Environment = grahak.Sandbox
	}
	// The tests look at what callers are told.
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := sqlstore.OpenSQLite(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { MustClose(t, s) })
	return s
}

// MustClose closes the store; it may have been closed before.
func MustClose(t testing.TB, s *sqlstore.SQLite) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}

// MustOpenRaw opens the database of the store as another process would.
func MustOpenRaw(t testing.TB, s *sqlstore.SQLite) *sql.DB { return MustOpenFile(t, s.Path()) }

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

// acme is the merchant of the tests.
const acme grahak.MerchantID = "acme"

// record returns the n-th customer, with padding bytes of sealed data.
func record(n, padding int) grahak.CustomerRecord {
	at := time.Date(2026, time.March, 17, 14, 13, 37, 0, time.UTC).Add(time.Duration(n) * time.Second)
	c := grahak.CustomerRecord{
		ID:        grahak.CustomerID(fmt.Sprintf("cst_%016d", n)),
		Sealed:    grahak.Sealed{Bytes: append(make([]byte, padding), fmt.Sprintf("sealed %d.", n)...), Version: 1},
		Revision:  1,
		CreatedAt: at,
		UpdatedAt: at,
	}
	binary.BigEndian.PutUint64(c.Reference[:], uint64(n+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(c.Email[:], uint64(n+1)*0xc2b2ae3d27d4eb4f)
	binary.BigEndian.PutUint64(c.Mobile[:], uint64(n+1)*0xd6e8feb86659fd93)
	return c
}

func created(c grahak.CustomerRecord) grahak.Event {
	return grahak.Event{
		ID: grahak.EventID("evt_" + c.ID[4:]), Type: grahak.EventCustomerCreated,
		Subject: string(c.ID), Revision: 1, Actor: "key_0", At: c.CreatedAt,
	}
}

// create writes the n-th customer.
func create(ctx context.Context, s *sqlstore.SQLite, n int) error {
	c := record(n, 100)
	return s.CreateCustomer(ctx, acme, c, created(c), nil)
}

// MustCreate writes the customers from first up to but not last.
func MustCreate(t testing.TB, s *sqlstore.SQLite, first, last int) {
	t.Helper()
	for n := first; n < last; n++ {
		if err := create(t.Context(), s, n); err != nil {
			t.Fatalf("create customer %d: %v", n, err)
		}
	}
}

// MustErase erases c, which is as it is stored.
func MustErase(t testing.TB, s *sqlstore.SQLite, c grahak.CustomerRecord) {
	t.Helper()
	e := grahak.Event{
		ID: grahak.EventID("evt_erased_" + c.ID[4:]), Type: grahak.EventCustomerErased,
		Subject: string(c.ID), Revision: c.Revision + 1, Actor: "key_0", At: c.UpdatedAt,
	}
	if done, err := s.EraseCustomer(t.Context(), acme, c.ID, c.Revision, e, nil); err != nil || !done {
		t.Fatalf("erase customer %s: %t, %v", c.ID, done, err)
	}
}

// wantWritten fails the test unless the store holds exactly the customers with
// the given numbers, whole, each with its one event, behind the merchant's own.
func wantWritten(t testing.TB, s *sqlstore.SQLite, numbers ...int) {
	t.Helper()
	list, total, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1<<20, 0)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Events(t.Context(), acme, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(numbers) || total != int64(len(numbers)) || len(events) != len(numbers)+1 {
		t.Errorf("there are %d customers (total %d) and %d events, want %d and one event more", len(list), total, len(events), len(numbers))
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
		if string(got.Sealed.Bytes) != string(want.Sealed.Bytes) || got.Reference != want.Reference || got.Revision != 1 {
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
