package sqlstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"grahak"
	"grahak/internal/sqlstore"
)

// MustMakeFirstSchema makes a database of the first schema with the merchants acme
// and empty, and with that many customers of acme, which have no indexes there.
// Every third was updated once. It returns its file.
func MustMakeFirstSchema(t testing.TB, customers int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grahak.db")
	db := MustOpenFile(t, path)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	at := record(0, 0).CreatedAt.UnixMicro()
	MustExec(t, db, fmt.Sprintf(`INSERT INTO instance (id, environment, master_key_id, access_version, created_at) VALUES (1, 'sandbox', 'mk_old', 7, %d)`, at))
	for _, m := range []grahak.MerchantID{acme, "empty"} {
		MustExec(t, db, fmt.Sprintf(`INSERT INTO merchants (id, name, ip_mode, created_at) VALUES ('%s', '', 'off', %d)`, m, at))
		MustExec(t, db, fmt.Sprintf(`INSERT INTO keysets (merchant_id, master_key_id, sealing, indexing) VALUES ('%s', 'mk_old', x'01', x'02')`, m))
		MustExec(t, db, fmt.Sprintf(`INSERT INTO events (merchant_id, position, id, type, subject, revision, actor, request_id, at) VALUES ('%s', 1, 'evt_m', 'merchant.created', '', 0, 'cli:tester', '', %d)`, m, at))
	}
	position := 1
	event := func(kind, changed string, c grahak.CustomerRecord) {
		position++
		MustExec(t, db, fmt.Sprintf(`INSERT INTO events (merchant_id, position, id, type, subject, revision, changed, actor, request_id, at)
			VALUES ('acme', %d, 'evt_%d', '%s', '%s', %d, %s, 'key_0', 'req', %d)`, position, position, kind, c.ID, c.Revision, changed, c.UpdatedAt.UnixMicro()))
	}
	MustExec(t, db, `BEGIN`)
	for n := range customers {
		c := record(n, 20)
		event("customer.created", "NULL", c)
		if n%3 == 0 {
			c.Revision = 2
			event("customer.updated", "'mobile_number,email_address'", c)
		}
		MustExec(t, db, fmt.Sprintf(`INSERT INTO customers (merchant_id, id, reference_index, sealed, revision, created_at, updated_at) VALUES ('acme', '%s', x'%x', x'%x', %d, %d, %d)`,
			c.ID, c.Reference[:], c.Sealed.Bytes, c.Revision, c.CreatedAt.UnixMicro(), c.UpdatedAt.UnixMicro()))
	}
	MustExec(t, db, fmt.Sprintf(`INSERT INTO customer_counts (merchant_id, total) VALUES ('acme', %d)`, customers))
	MustExec(t, db, `COMMIT`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// migrated is the n-th customer of such a database after the migration.
func migrated(n int) grahak.CustomerRecord {
	c := record(n, 20)
	c.Sealed.Version, c.Email, c.Mobile = 0, grahak.ShortIndex{}, grahak.ShortIndex{}
	if n%3 == 0 {
		c.Revision = 2
	}
	return c
}

// TestMigrateFirstSchema brings a database of the first schema up to date.
// Everything is there as before; customers are searchable as soon as they were
// sealed anew, as after a rotation, or changed; and the walk that does it leaves
// an index that is fast.
func TestMigrateFirstSchema(t *testing.T) {
	const customers = 200
	path := MustMakeFirstSchema(t, customers)
	_, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path})
	wantSentence(t, err, "schema version 1", "grahak serve")

	s := MustOpen(t, sqlstore.SQLiteConfig{Path: path})
	at := record(0, 0).CreatedAt
	states, err := s.SealStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []grahak.SealState
	for _, m := range []grahak.MerchantID{acme, "empty"} {
		want = append(want, grahak.SealState{
			Keyset:    grahak.Keyset{Merchant: m, Revision: 1, MasterKeyID: "mk_old", Version: 1, Sealing: []byte{1}, Indexing: []byte{2}},
			RotatedAt: at, Oldest: 0, Walking: true,
		})
	}
	diff(t, "the state of the keys", want, states)
	rotating, err := s.Rotating(t.Context())
	diff(t, "merchants to walk through", []grahak.MerchantID{acme, "empty"}, rotating, err)
	wantUnordered(t, s, acme, "empty")
	named, err := s.MasterKeyID(t.Context(), "")
	diff(t, "the master key", "mk_old", named, err)
	total := func(want int64) {
		t.Helper()
		list, total, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1<<20, 0)
		if err != nil || total != want || int64(len(list)) != want {
			t.Errorf("there are %d customers, and a total of %d (%v), want %d", len(list), total, err, want)
		}
	}
	total(customers)
	for n := 0; n < customers; n += 10 {
		c := migrated(n)
		got, err := s.Customer(t.Context(), acme, "", c.Reference)
		diff(t, "a customer", c, got, err)
	}

	// A part of the events is put in order before the walk, and some customers
	// are changed or erased before it reaches them.
	MustOrder(t, s, acme, 1, 100)
	total(customers)
	update := func(n int, field grahak.Field) {
		t.Helper()
		c := record(n, 20)
		c.Revision = migrated(n).Revision + 1
		done, err := s.UpdateCustomer(t.Context(), acme, c, grahak.Event{ID: grahak.EventID(fmt.Sprint("evt_late_", n)), Type: grahak.EventCustomerUpdated, Subject: string(c.ID), Changed: []grahak.Field{field}}, nil)
		diff(t, "done", true, done, err)
	}
	update(5, grahak.FieldFirstName)
	update(6, grahak.FieldEmail)
	update(150, grahak.FieldLastName)
	MustErase(t, s, migrated(7))
	MustWalk(t, s, acme)
	total(customers - 1)
	wantSearchable := func(what string) {
		t.Helper()
		for n := range customers {
			c := record(n, 20)
			for name, by := range map[string]grahak.CustomerIndex{"e-mail": {Email: c.Email}, "mobile": {Mobile: c.Mobile}} {
				list, _, err := s.FindCustomers(t.Context(), acme, by, grahak.CustomerRange{}, 2)
				if err != nil || (len(list) == 1 && list[0].ID == c.ID) == (n == 7) || len(list) > 1 {
					t.Errorf("%s: by %s %d customers are found (%v) instead of %s", what, name, len(list), err, c.ID)
				}
			}
		}
	}
	wantSearchable("after the walk")
	MustTidy(t, s, acme)
	wantSearchable("after the merges")
	MustWork(t, s, func(tx sqlstore.Tx) error {
		levels, err := tx.CheckIndex(acme)
		for level, runs := range levels {
			if runs >= sqlstore.BusyFanIn {
				t.Errorf("after the walk there are %d runs on level %d", runs, level)
			}
		}
		return err
	})
	events, err := s.Events(t.Context(), acme, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	MustOrder(t, s, acme, 101, 100+len(events))
	MustOrder(t, s, "empty", 1, 1)
	MustTidy(t, s, acme)
	wantUnordered(t, s)
	total(customers - 1)
	wantSearchable("with all in order")

	// It ends as a rotation does.
	for _, m := range []grahak.MerchantID{acme, "empty"} {
		MustWalk(t, s, m)
		state, err := s.SealState(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RetireKeyset(t.Context(), state.Keyset, grahak.Event{ID: "evt_retired", Type: grahak.EventSealRetired}); err != nil {
			t.Errorf("the end of the walk through %s: %v", m, err)
		}
	}
	rotating, err = s.Rotating(t.Context())
	diff(t, "merchants to walk through at last", 0, len(rotating), err)
	wantSound(t, s)
	MustClose(t, s)
	s = MustOpen(t, sqlstore.SQLiteConfig{Path: path})
	wantSearchable("opened again")
}

// TestWalkIsTidied has all events in order before the walk gives customers their
// indexes: what it adds is still to be merged, by whoever puts events in order.
func TestWalkIsTidied(t *testing.T) {
	s := MustOpen(t, sqlstore.SQLiteConfig{Path: MustMakeFirstSchema(t, 4)})
	MustOrder(t, s, acme, 1, 7)
	MustOrder(t, s, "empty", 1, 1)
	wantUnordered(t, s)
	MustWalk(t, s, acme)
	MustWalk(t, s, "empty")
	wantUnordered(t, s, acme)
	more, err := s.Tidy(t.Context(), acme)
	diff(t, "more to tidy", false, more, err)
	wantUnordered(t, s)
}

// MustWalk seals the merchant's customers anew, as what record makes of their
// numbers, some at a time.
func MustWalk(t testing.TB, s *sqlstore.SQLite, m grahak.MerchantID) {
	t.Helper()
	const step = 15
	for {
		state, err := s.SealState(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if !state.Walking {
			return
		}
		before := state.After
		list, err := s.CustomersAfter(t.Context(), m, before, step)
		if err != nil {
			t.Fatal(err)
		}
		var anew []grahak.CustomerRecord
		for _, c := range list {
			state.After = c.ID
			var n int
			if _, err := fmt.Sscanf(string(c.ID), "cst_%d", &n); err != nil {
				t.Fatal(err)
			}
			sealed := record(n, 20)
			sealed.Revision = c.Revision
			anew = append(anew, sealed)
		}
		state.Walking = len(list) == step
		if err := s.Reseal(t.Context(), state, before, anew); err != nil {
			t.Fatal(err)
		}
	}
}

// diff fails the test unless got equals want and nothing went wrong.
func diff(t testing.TB, what string, want, got any, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
