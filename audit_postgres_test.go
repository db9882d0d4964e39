package grahak_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// On PostgreSQL events have no positions until they are in the chain: what waits is
// counted apart, and events behind the chain's end are what is left of one that
// was cut off.
func TestAuditOnPostgres(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off"}})
	url := cluster.Database(t)
	store, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	master, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.MasterKeyID(t.Context(), master.ID()); err != nil {
		t.Fatal(err)
	}
	s := MustService(t, grahak.Config{Store: store, Sealer: seal.New(master, store)})
	for _, m := range []grahak.MerchantID{acme, rival} {
		if _, err := s.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			t.Fatal(err)
		}
	}
	made := 0
	create := func() {
		t.Helper()
		made++
		if _, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(made)), grahak.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	order := func() {
		t.Helper()
		if err := s.OrderEvents(t.Context(), operator(acme)); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(what string, position, pending int64, fault ...string) {
		t.Helper()
		report, err := s.VerifyAudit(t.Context(), operator(acme), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if report.Head.Position != position || report.Pending != pending || (report.Fault == "") != (len(fault) == 0) {
			t.Errorf("%s: the report is %+v, want position %d, %d pending and the fault %q", what, report, position, pending, fault)
		}
		for _, part := range fault {
			if !strings.Contains(report.Fault, part) {
				t.Errorf("%s: the fault is %q, which does not say %q", what, report.Fault, part)
			}
		}
	}
	verify("nothing in order", 0, 1)
	create()
	create()
	order()
	verify("all in order", 3, 0)
	create()
	order()
	create()
	create()
	verify("two pending", 4, 2)

	cluster.Exec(t, url, `CREATE TABLE kept AS SELECT * FROM event_chain WHERE merchant_id = 'acme' AND first_position = 4;
		DELETE FROM event_chain WHERE merchant_id = 'acme' AND first_position = 4`)
	verify("the end of the chain removed", 3, 2, "ends at position 3", "an event at position 4", "the end of the chain was removed")
	cluster.Exec(t, url, `INSERT INTO event_chain SELECT * FROM kept`)
	verify("put back", 4, 2)

	cluster.Exec(t, url, `DELETE FROM pending_events WHERE merchant_id = 'acme' AND id = (SELECT id FROM pending_events WHERE merchant_id = 'acme' ORDER BY id DESC LIMIT 1)`)
	verify("a pending event removed", 4, 1, "there are 5 customers, but the events tell of 4")
	order()
	verify("a pending event removed, and the others in order", 5, 0, "there are 5 customers, but the events tell of 4")
	cluster.Exec(t, url, `UPDATE events SET actor = 'nobody' WHERE merchant_id = 'acme' AND position = 2`)
	verify("an event altered", 0, 0, "position 2 ", "was altered")

	// When all is old, what was altered stays, and another merchant's goes.
	if err := s.OrderEvents(t.Context(), operator(rival)); err != nil {
		t.Fatal(err)
	}
	clock := testkit.NewClock()
	clock.Advance(time.Since(clock.Now()) + 2*grahak.DefaultEventsKeep)
	late := MustService(t, grahak.Config{Store: store, Sealer: seal.New(master, store), Clock: clock})
	if err := late.PruneEvents(t.Context()); err == nil || !strings.Contains(err.Error(), "merchant acme: the oldest events stay: the event at position 2 ") {
		t.Errorf("pruning ended with %v", err)
	}
	verify("all is old", 0, 0, "position 2 ", "was altered")
	if _, err := s.CreateCustomer(t.Context(), caller(rival, grahak.ScopeWrite), person("late"), grahak.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	report, err := s.VerifyAudit(t.Context(), operator(rival), nil, nil)
	wantCode(t, err, "")
	diff(t, "the other merchant's report", grahak.AuditReport{Merchant: rival, Head: report.Head, Pruned: 1, Pending: 1}, report)
	diff(t, "events that were pruned", int64(1), late.PrunedEvents())
	if err := s.OrderEvents(t.Context(), operator(rival)); err != nil {
		t.Fatal(err)
	}
	report, err = s.VerifyAudit(t.Context(), operator(rival), nil, nil)
	wantCode(t, err, "")
	diff(t, "the other merchant's report at last", grahak.AuditReport{Merchant: rival, Head: report.Head, Pruned: 1}, report)
	diff(t, "the other merchant's head", int64(2), report.Head.Position)
}
