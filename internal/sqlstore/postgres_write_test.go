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

// A value that a customer no longer has stays in the look-up index until the event
// of its change is in order, and no longer. A search never shows it.
func TestPostgresForgetsValues(t *testing.T) {
	t.Parallel()
	s := MustOpenPostgres(t, postgres.Shared(t).Database(t))
	must(t, second(s.MasterKeyID(t.Context(), "mk_test")))
	must(t, s.CreateMerchant(t.Context(), grahak.Merchant{ID: acme, IPMode: grahak.IPModeOff, CreatedAt: record(0, 0).CreatedAt},
		grahak.Keyset{Merchant: acme, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}},
		grahak.Event{ID: "evt_made", Type: grahak.EventMerchantCreated, At: record(0, 0).CreatedAt}))
	const customers = 60
	var all []grahak.CustomerRecord
	for n := range customers {
		c := record(n, 20)
		all = append(all, c)
		must(t, s.CreateCustomer(t.Context(), acme, c, created(c), nil))
		if n == customers/2 {
			MustOrderAll(t, s, acme, 7)
		}
	}
	MustOrderAll(t, s, acme, 7)
	// wantIndexed fails the test unless exactly the customers that are wanted are in
	// the index under the value.
	wantIndexed := func(what string, value grahak.ShortIndex, want ...string) {
		t.Helper()
		must(t, s.Write(t.Context(), func(tx sqlstore.Tx) error {
			got, err := tx.SearchKeys(acme, value[:], "", "\xff", customers)
			diff(t, what, want, got)
			return err
		}))
	}
	type was struct {
		value grahak.ShortIndex
		what  string
	}
	var gone []was
	for n, c := range all {
		e := created(c)
		e.ID, e.Revision = grahak.EventID("evt_later_"+c.ID[4:]), 2
		id := string(c.ID)
		switch n % 4 {
		case 0:
			e.Type = grahak.EventCustomerErased
			must(t, second(s.EraseCustomer(t.Context(), acme, c.ID, 1, e, nil)))
			gone = append(gone, was{c.Email, "the address of the erased " + id}, was{c.Mobile, "the number of the erased " + id})
		case 1:
			next := c
			next.Revision, next.Email = 2, newNumber(n)
			e.Type, e.Changed = grahak.EventCustomerUpdated, []grahak.Field{grahak.FieldEmail}
			must(t, second(s.UpdateCustomer(t.Context(), acme, next, e, nil)))
			gone = append(gone, was{c.Email, "the old address of " + id})
			all[n] = next
		}
	}
	MustOrderAll(t, s, acme, 7)
	for _, g := range gone {
		wantIndexed(g.what, g.value)
	}
	for n, c := range all {
		if n%4 > 0 {
			wantIndexed("the address of "+string(c.ID), c.Email, string(c.ID))
			wantIndexed("the number of "+string(c.ID), c.Mobile, string(c.ID))
		}
	}
	must(t, s.Write(t.Context(), func(tx sqlstore.Tx) error { return second(tx.CheckIndex(acme)) }))
}
