package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// copyTest is a store to copy, and a server with databases to copy it into.
type copyTest struct {
	cluster *postgres.Cluster
	free    *[]string // databases with the schema and nothing in it
	source  *sqlstore.SQLite
	want    contents
}

// MustDatabase returns the URL of a database with the schema and nothing in it,
// that nobody else uses until the test ends.
func (c copyTest) MustDatabase(t testing.TB) string {
	t.Helper()
	if len(*c.free) == 0 {
		url := c.cluster.Database(t)
		_, _, err := sqlstore.MigratePostgres(t.Context(), url, sqlstore.MigrateOptions{Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		*c.free = append(*c.free, url)
	}
	last := len(*c.free) - 1
	url := (*c.free)[last]
	*c.free = (*c.free)[:last]
	t.Cleanup(func() {
		c.cluster.Exec(t, url, "DROP TABLE IF EXISTS copy_progress")
		tables := c.cluster.QueryText(t, url, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version'`)
		c.cluster.Exec(t, url, "TRUNCATE "+strings.Join(tables, ", "))
		*c.free = append(*c.free, url)
	})
	return url
}

// MustOpenCopied opens the store that a copy has made, and closes it when the test
// ends.
func MustOpenCopied(t testing.TB, url string) *sqlstore.Postgres {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Connections: sqlstore.MinConnections, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// copy copies the source as cfg says otherwise.
func (c copyTest) copy(ctx context.Context, url string, cfg sqlstore.CopyConfig) (sqlstore.CopyReport, error) {
	cfg.URL, cfg.Logger = url, slog.New(slog.DiscardHandler)
	if cfg.From == nil {
		cfg.From = c.source
	}
	return sqlstore.Copy(ctx, cfg)
}

// MustCopy copies, and fails the test unless everything has arrived.
func (c copyTest) MustCopy(t testing.TB, url string) sqlstore.CopyReport {
	t.Helper()
	report, err := c.copy(t.Context(), url, sqlstore.CopyConfig{})
	if err != nil {
		t.Fatalf("copy: %v", err)
	}
	wantContents(t, c.want, MustOpenCopied(t, url))
	return report
}

// interrupt copies until done says so of a step and of how many rows it has done.
func (c copyTest) interrupt(t testing.TB, url string, chunk int, done func(step string, rows int64) bool) sqlstore.CopyReport {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	report, err := c.copy(ctx, url, sqlstore.CopyConfig{ChunkRows: chunk, Progress: func(step string, rows, _ int64) {
		if done(step, rows) {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a copy that was interrupted returned %v", err)
	}
	return report
}

// rows is how many rows a copy of the test's store has.
func (c copyTest) rows(t testing.TB) int64 {
	t.Helper()
	var total int64
	_, err := c.copy(t.Context(), c.MustDatabase(t), sqlstore.CopyConfig{Progress: func(_ string, _, rows int64) { total = rows }})
	must(t, err)
	return total
}

// wantUnfinished fails the test unless nobody takes the database for a store.
func wantUnfinished(t testing.TB, url string) {
	t.Helper()
	for _, environment := range []grahak.Environment{"", grahak.Production, grahak.Sandbox} {
		s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: environment, Migrate: environment != "", Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			_ = s.Close()
		}
		wantSentence(t, err, "not finished", "grahak copy")
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	c := copyTest{
		cluster: postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off", "full_page_writes": "off"}}),
		free:    new([]string),
	}
	c.source, _ = MustStore(t, filepath.Join(t.TempDir(), "grahak.db"))
	c.want = MustReadAll(t, c.source)
	for name, test := range map[string]func(*testing.T, copyTest){
		"everything":              copyEverything,
		"every column":            copyEveryColumn,
		"events to be ordered":    copyTail,
		"an older store":          copyOlderStore,
		"interrupted":             copyInterrupted,
		"connections lost":        copyCut,
		"a row altered":           copyAltered,
		"the source changed":      copyChanged,
		"events pruned meanwhile": copyPruned,
		"refusals":                copyRefusals,
		"writers wait":            copyHolds,
		"another copy meanwhile":  copyTwice,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

// Everything is there afterwards, in a database that was empty, or migrated.
func copyEverything(t *testing.T, c copyTest) {
	for _, m := range c.want.Merchants {
		if m.Merchant.ID == acme && (len(m.Pending) == 0 || len(m.Chain) < 2 || len(m.Tokens) == 0 || len(m.Customers) != copyRows*9/10+2) {
			t.Fatalf("the store to copy lacks something: %d pending events, %d segments, %d tokens, %d customers", len(m.Pending), len(m.Chain), len(m.Tokens), len(m.Customers))
		}
	}
	for _, migrated := range []bool{false, true} {
		url := c.cluster.Database(t)
		if migrated {
			url = c.MustDatabase(t)
		}
		report := c.MustCopy(t, url)
		var rows int64
		for _, table := range report.Tables {
			counted := c.cluster.QueryText(t, url, "SELECT count(*) FROM "+table.Name)[0]
			if !table.Same() || counted != fmt.Sprint(table.Target.Rows) {
				t.Errorf("the report says %+v, and %s rows are there", table, counted)
			}
			rows += table.Target.Rows
		}
		if report.Copied != rows-1 || report.Resumed != 0 || report.Restarted || !report.Begun || report.Environment != grahak.Production || report.MasterKeyID != "mk_test" {
			t.Errorf("the report of %d rows is %+v", rows, report)
		}
		if left := c.cluster.QueryText(t, url, "SELECT 1 FROM pg_tables WHERE tablename = 'copy_progress'"); len(left) > 0 {
			t.Error("the note of the copy's progress is left")
		}
	}
}

// No column of either schema is forgotten. What is no part of the store stays where it
// is: beats of nodes, and the request log.
func copyEveryColumn(t *testing.T, c copyTest) {
	copied := sqlstore.CopiedColumns()
	raw := MustOpenRaw(t, c.source)
	for _, table := range MustQuery(t, raw, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'`) {
		columns := MustQuery(t, raw, `SELECT name FROM pragma_table_info($1) ORDER BY name`, table)
		if diff := cmp.Diff(columns, slices.Sorted(slices.Values(copied[table]))); diff != "" {
			t.Errorf("SQLite's table %s (-it has +is copied):\n%s", table, diff)
		}
	}
	url := c.MustDatabase(t)
	has := make(map[string][]string)
	for _, line := range c.cluster.QueryText(t, url, `SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name NOT IN ('goose_db_version', 'nodes', 'request_blocks', 'request_stats') ORDER BY table_name, column_name COLLATE "C"`) {
		table, column, _ := strings.Cut(line, "|")
		has[table] = append(has[table], column)
	}
	for _, columns := range copied {
		slices.Sort(columns)
	}
	if diff := cmp.Diff(has, copied); diff != "" {
		t.Errorf("PostgreSQL's tables (-they have +is copied):\n%s", diff)
	}
}

// Events that are not in the chain yet are ordered later, and their customers
// indexed, as if they had been written there.
func copyTail(t *testing.T, c copyTest) {
	url := c.MustDatabase(t)
	c.MustCopy(t, url)
	s := MustOpenCopied(t, url)
	unordered, err := s.Unordered(t.Context())
	must(t, err)
	if diff := cmp.Diff([]grahak.MerchantID{grahak.OperatorsMerchant, disabled, acme, lower}, unordered); diff != "" {
		t.Errorf("merchants with something to order (-want +got):\n%s", diff)
	}
	for _, m := range unordered {
		MustOrderAll(t, s, m, 8)
	}
	for i, m := range MustReadAll(t, s).Merchants {
		before := c.want.Merchants[i]
		if len(m.Pending) != 0 || len(m.Events) != len(before.Events)+len(before.Pending) {
			t.Errorf("merchant %s has %d events and %d pending ones, of %d and %d", m.Merchant.ID, len(m.Events), len(m.Pending), len(before.Events), len(before.Pending))
		}
		m.Events, m.Pending, m.Chain = before.Events, before.Pending, before.Chain
		if diff := cmp.Diff(before, m, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
			t.Errorf("after all events were ordered (-want +got):\n%s", diff)
		}
	}
	if left := c.cluster.QueryText(t, url, "SELECT merchant_id FROM pending_events UNION ALL SELECT merchant_id FROM unordered"); len(left) > 0 {
		t.Errorf("%d rows are left to be ordered", len(left))
	}
	// The index finds what an update and an erasure leave.
	for _, n := range []int{copyOrdered - 1, copyRows - 1} {
		was := record(n, 0)
		now, err := s.Customer(t.Context(), acme, was.ID, grahak.Index{})
		must(t, err)
		now.Revision, now.Mobile, now.Sealed.Version = now.Revision+1, newNumber(0xfe), 2
		e := grahak.Event{ID: grahak.EventID("evt_later_" + now.ID[4:]), Type: grahak.EventCustomerUpdated, Subject: string(now.ID), Revision: now.Revision, At: now.UpdatedAt}
		if done, err := s.UpdateCustomer(t.Context(), acme, now, e, nil); err != nil || !done {
			t.Fatal(done, err)
		}
		MustOrderAll(t, s, acme, 8)
		for value, want := range map[grahak.ShortIndex]int{was.Mobile: 0, now.Mobile: 1} {
			if found, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: value}, grahak.CustomerRange{}, 9); err != nil || len(found) != want {
				t.Errorf("%d customers have the number of customer %d, want %d: %v", len(found), n, want, err)
			}
		}
		if done, err := s.EraseCustomer(t.Context(), acme, now.ID, now.Revision, grahak.Event{ID: "evt_gone_" + grahak.EventID(now.ID), Type: grahak.EventCustomerErased, Subject: string(now.ID), Revision: now.Revision + 1}, nil); err != nil || !done {
			t.Fatal(done, err)
		}
		MustOrderAll(t, s, acme, 8)
		if found, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: now.Mobile}, grahak.CustomerRange{}, 9); err != nil || len(found) != 0 {
			t.Errorf("%d customers have the number of one who was erased: %v", len(found), err)
		}
	}
}

// A store of the first schema that was just brought up to date has no chain and no
// indexes yet.
func copyOlderStore(t *testing.T, c copyTest) {
	path := MustMakeFirstSchema(t, 50)
	older, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: ""})
	if err == nil {
		_ = older.Close()
	}
	wantSentence(t, err, "schema version 1", "grahak serve", "grahak migrate")
	_, _, err = sqlstore.MigrateSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
	must(t, err)
	c.source = MustOpen(t, sqlstore.SQLiteConfig{Path: path})
	c.want = MustReadAll(t, c.source)
	url := c.MustDatabase(t)
	c.MustCopy(t, url)
	s := MustOpenCopied(t, url)
	MustOrderAll(t, s, acme, 16)
	if counted, recorded, err := s.CountCustomers(t.Context(), acme); err != nil || counted != 50 || recorded != 50 {
		t.Errorf("%d customers are counted and %d recorded, want 50: %v", counted, recorded, err)
	}
}

// A copy that is interrupted after any of its chunks goes on behind that one, and
// what is there until the end is no store.
func copyInterrupted(t *testing.T, c copyTest) {
	const chunk = 7
	url := c.MustDatabase(t)
	total := c.rows(t)
	var copied int64
	for runs := 1; copied < total; runs++ {
		report := c.interrupt(t, url, chunk, func(step string, _ int64) bool { return step == "Copying rows" })
		if report.Copied == 0 || report.Copied > chunk || report.Resumed != copied || report.Restarted {
			t.Fatalf("run %d copied %d rows after %d, of which %d were there", runs, report.Copied, copied, report.Resumed)
		}
		copied += report.Copied
		if copied == report.Copied || copied == total {
			wantUnfinished(t, url)
		}
	}
	// Before and while both sides are compared, too.
	c.interrupt(t, url, chunk, func(step string, _ int64) bool { return step == "Comparing rows" })
	c.interrupt(t, url, chunk, func(step string, rows int64) bool { return step == "Comparing rows" && rows >= total/2 })
	wantUnfinished(t, url)
	if report := c.MustCopy(t, url); report.Copied != 0 || report.Resumed != total || report.Restarted {
		t.Errorf("the last run copied %d rows, and found %d of %d", report.Copied, report.Resumed, total)
	}
}

// wantLost fails the test unless a copy failed of its connection, which was cut.
func wantLost(t testing.TB, gone <-chan postgres.Cut, err error) {
	t.Helper()
	select {
	case <-gone:
		if err == nil {
			t.Fatal("the copy succeeded although its connection was cut")
		}
	case <-time.After(10 * time.Second): // It was cut before the copy ended, or never.
		t.Fatalf("the copy failed of something else: %v", err)
	}
}

// The connection to the database is lost again and again, on either side of a
// commit and before the rows are sent. What was committed stays.
func copyCut(t *testing.T, c copyTest) {
	for name, cut := range map[string]func(*postgres.Proxy) <-chan postgres.Cut{
		"before": func(p *postgres.Proxy) <-chan postgres.Cut { return p.CutBefore("COMMIT") },
		"after":  func(p *postgres.Proxy) <-chan postgres.Cut { return p.CutAfter("COMMIT") },
		"rows":   func(p *postgres.Proxy) <-chan postgres.Cut { return p.CutBefore("FROM STDIN") },
	} {
		t.Run(name, func(t *testing.T) {
			made := c.MustDatabase(t)
			proxy := c.cluster.Proxy(t)
			gone := cut(proxy)
			report, err := c.copy(t.Context(), postgres.URL(made, proxy), sqlstore.CopyConfig{})
			wantLost(t, gone, err)
			if report.Copied != 0 {
				t.Fatalf("the copy wrote %d rows although its connection was cut at once", report.Copied)
			}
			var last sqlstore.CopyReport
			for lost := 0; ; lost++ {
				gone = nil
				// The transaction after the first chunk, or that which ends the copy.
				report, err := c.copy(t.Context(), postgres.URL(made, proxy), sqlstore.CopyConfig{ChunkRows: 25, Progress: func(step string, _, _ int64) {
					if gone == nil && step == "Copying rows" {
						gone = cut(proxy)
					}
				}})
				if err == nil || strings.Contains(err.Error(), "finished copy of this data folder") {
					if lost < 5 {
						t.Errorf("only %d connections were lost", lost)
					}
					break
				}
				wantLost(t, gone, err)
				switch more := report.Resumed - last.Resumed - last.Copied; {
				case name == "after" && lost > 0 && (more <= 0 || more > 25), name != "after" && more != 0:
					t.Errorf("attempt %d found %d rows, %d more than the one before had been told of", lost, report.Resumed, more)
				}
				last = report
			}
			wantContents(t, c.want, MustOpenCopied(t, made))
			_, err = c.copy(t.Context(), made, sqlstore.CopyConfig{})
			wantSentence(t, err, "finished copy of this data folder", "grahak serve")
		})
	}
}

// Whatever becomes of a row in the database is found, the copy is none then, and
// the next one starts over.
func copyAltered(t *testing.T, c copyTest) {
	alterations := map[string]string{
		"merchants":          `UPDATE merchants SET disabled_at = NULL`,
		"keysets":            `UPDATE keysets SET walking = 0 WHERE walking = 1`,
		"api_keys":           `UPDATE api_keys SET revoked_at = NULL`,
		"ip_list":            `UPDATE ip_list SET label = label || ' '`,
		"customers":          `UPDATE customers SET email_index = '' WHERE id = (SELECT id FROM customers WHERE email_index IS NULL LIMIT 1)`,
		"client_auth_tokens": `DELETE FROM client_auth_tokens WHERE hash = (SELECT hash FROM client_auth_tokens LIMIT 1)`,
		"idempotency_keys":   `UPDATE idempotency_keys SET expires_at = expires_at + 1 WHERE key_index = (SELECT key_index FROM idempotency_keys LIMIT 1)`,
		"events":             `UPDATE events SET at = at + 1 WHERE position = 20`,
		"pending_events":     `INSERT INTO pending_events SELECT merchant_id, 'evt_x'::bytea, type, subject, revision, changed, actor, request_id, at, reindex FROM pending_events LIMIT 1`,
		"imports":            `UPDATE imports SET done = 0`,
		"event_chain":        `UPDATE event_chain SET links = set_byte(links, 31, 255 - get_byte(links, 31))`,
		"lookup_runs":        `UPDATE lookup_runs SET level = level + 1`,
		"lookup_blocks":      `UPDATE lookup_blocks SET keys = keys || '\x00'`,
		"unordered":          `DELETE FROM unordered`,
		"webhooks":           `UPDATE webhooks SET cursor = cursor + 1`,
		"webhook_retries":    `UPDATE webhook_retries SET next_at = 1 WHERE next_at IS NULL`,
		"operators":          `UPDATE operators SET failures = 9`,
		"operator_grants":    `UPDATE operator_grants SET role = 'owner'`,
		"operator_sessions":  `UPDATE operator_sessions SET used_at = used_at + 1`,
		"operator_codes":     `UPDATE operator_codes SET expires_at = 1`,
		"webhook_attempts":   `UPDATE webhook_attempts SET took = took + 1`,
	}
	url := c.MustDatabase(t)
	c.interrupt(t, url, 1000, func(step string, _ int64) bool { return step == "Comparing rows" })
	for _, alteration := range alterations {
		c.cluster.Exec(t, url, alteration)
	}
	report, err := c.copy(t.Context(), url, sqlstore.CopyConfig{})
	if !errors.Is(err, sqlstore.ErrCopyDiffers) {
		t.Fatalf("the copy returned %v", err)
	}
	for _, table := range report.Tables {
		if table.Same() {
			t.Errorf("table %s was altered, which was not found", table.Name)
		}
		delete(alterations, table.Name)
	}
	if len(alterations) > 0 {
		t.Errorf("the report tells nothing of %q", slices.Sorted(maps.Keys(alterations)))
	}
	wantUnfinished(t, url)
	if again := c.MustCopy(t, url); !again.Restarted || again.Resumed != 0 {
		t.Errorf("the next copy went on with what was altered: %+v", again)
	}

	// One value of one row is enough, and no other table differs then.
	url = c.MustDatabase(t)
	c.interrupt(t, url, 1000, func(step string, _ int64) bool { return step == "Comparing rows" })
	c.cluster.Exec(t, url, `UPDATE customers SET sealed = set_byte(sealed, 0, 1) WHERE id = '`+string(record(1, 0).ID)+`'`)
	report, err = c.copy(t.Context(), url, sqlstore.CopyConfig{})
	if !errors.Is(err, sqlstore.ErrCopyDiffers) {
		t.Fatalf("the copy returned %v", err)
	}
	for _, table := range report.Tables {
		if table.Same() != (table.Name != "customers") || table.Source.Rows != table.Target.Rows {
			t.Errorf("after one byte of a customer was altered, table %s is %+v", table.Name, table)
		}
	}
}

// A store that was written after its copy was begun is copied anew.
func copyChanged(t *testing.T, c copyTest) {
	for name, change := range map[string]func(*testing.T, *sqlstore.SQLite){
		"a customer": func(t *testing.T, s *sqlstore.SQLite) {
			last, err := s.Customer(t.Context(), acme, record(1, 0).ID, grahak.Index{})
			must(t, err)
			last.Revision, last.Sealed = last.Revision+1, grahak.Sealed{Bytes: []byte("changed"), Version: 2}
			e := grahak.Event{ID: "evt_zzz", Type: grahak.EventCustomerUpdated, Subject: string(last.ID), Revision: last.Revision}
			if done, err := s.UpdateCustomer(t.Context(), acme, last, e, nil); err != nil || !done {
				t.Fatal(done, err)
			}
		},
		"a key": func(t *testing.T, s *sqlstore.SQLite) {
			must(t, s.RevokeKey(t.Context(), acme, "key_0", time.Now(), grahak.Event{ID: "evt_zzz", Type: grahak.EventKeyRevoked, Subject: "key_0"}))
		},
		"a key's use": func(t *testing.T, s *sqlstore.SQLite) {
			must(t, s.TouchKeys(t.Context(), map[grahak.KeyRef]grahak.KeyUse{{Merchant: acme, Key: "key_0"}: {At: time.Now()}}))
		},
		"the chain": func(t *testing.T, s *sqlstore.SQLite) { MustOrderAll(t, s, acme, 100) },
		"a re-sealing": func(t *testing.T, s *sqlstore.SQLite) {
			state, err := s.SealState(t.Context(), acme)
			must(t, err)
			some, err := s.CustomersAfter(t.Context(), acme, state.After, 1)
			must(t, err)
			before := state.After
			state.After, some[0].Sealed = some[0].ID, grahak.Sealed{Bytes: []byte("anew"), Version: 2}
			must(t, s.Reseal(t.Context(), state, before, some))
		},
		"a token": func(t *testing.T, s *sqlstore.SQLite) {
			must(t, s.PutToken(t.Context(), acme, grahak.TokenRecord{Merchant: acme, Customer: record(1, 0).ID, Hash: grahak.HashToken("x")}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			own := c
			own.source, _ = MustStore(t, filepath.Join(t.TempDir(), "grahak.db"))
			url := c.MustDatabase(t)
			own.interrupt(t, url, 50, func(_ string, rows int64) bool { return rows >= 100 })
			change(t, own.source)
			own.want = MustReadAll(t, own.source)
			if report := own.MustCopy(t, url); !report.Restarted || report.Resumed != 0 {
				t.Errorf("the copy of a store that had changed went on: %+v", report)
			}
		})
	}
}

// As many events were pruned as were written, and put into the chain as one segment:
// no table has another number of rows, and no small one other values.
func copyPruned(t *testing.T, c copyTest) {
	own := c
	own.source, _ = MustStore(t, filepath.Join(t.TempDir(), "grahak.db"))
	MustOrderAll(t, own.source, acme, 100)
	url := c.MustDatabase(t)
	own.interrupt(t, url, 50, func(_ string, rows int64) bool { return rows >= 100 })
	segments, err := own.source.Chain(t.Context(), acme, 0, 1)
	must(t, err)
	MustPrune(t, own.source, acme, 1)
	changed, err := own.source.Customer(t.Context(), acme, record(1, 0).ID, grahak.Index{})
	must(t, err)
	for n := range len(segments[0].Links) {
		changed.Revision, changed.Sealed = changed.Revision+1, grahak.Sealed{Bytes: []byte("changed"), Version: 2}
		e := grahak.Event{ID: grahak.EventID(fmt.Sprint("evt_zzz", n)), Type: grahak.EventCustomerUpdated, Subject: string(changed.ID), Revision: changed.Revision}
		if done, err := own.source.UpdateCustomer(t.Context(), acme, changed, e, nil); err != nil || !done {
			t.Fatal(done, err)
		}
	}
	MustOrderAll(t, own.source, acme, 100)
	own.want = MustReadAll(t, own.source)
	if report := own.MustCopy(t, url); !report.Restarted || report.Resumed != 0 {
		t.Errorf("the copy of a store that had changed went on: %+v", report)
	}
}

// What a copy does not do, and says so before it has changed anything.
func copyRefusals(t *testing.T, c copyTest) {
	opened := func(t *testing.T, environment grahak.Environment) string {
		url := c.MustDatabase(t)
		s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: environment, Migrate: true, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		must(t, s.Close())
		return url
	}
	for name, test := range map[string]struct {
		database func(*testing.T) string
		want     []string
	}{
		"another environment": {func(t *testing.T) string { return opened(t, grahak.Sandbox) }, []string{"sandbox", "production", "empty database"}},
		"another store":       {func(t *testing.T) string { return opened(t, grahak.Production) }, []string{"data of its own", "empty one"}},
		"rows of somebody": {func(t *testing.T) string {
			url := c.MustDatabase(t)
			c.cluster.Exec(t, url, `INSERT INTO unordered (merchant_id) VALUES ('x')`)
			return url
		}, []string{"rows in the table unordered", "empty database"}},
		"a copy of another store": {func(t *testing.T) string {
			url := c.MustDatabase(t)
			other := c
			other.source = MustOpen(t, sqlstore.SQLiteConfig{Environment: grahak.Production})
			other.interrupt(t, url, 10, func(string, int64) bool { return true })
			return url
		}, []string{"unfinished copy of another data folder", "empty database"}},
		"a newer schema": {func(t *testing.T) string {
			url := c.cluster.Database(t)
			_, _, err := sqlstore.MigratePostgres(t.Context(), url, sqlstore.MigrateOptions{Logger: slog.New(slog.DiscardHandler)})
			must(t, err)
			c.cluster.Exec(t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
			return url
		}, []string{"schema version 999", "newer grahak"}},
		"no server":   {func(*testing.T) string { return "postgres://grahak@127.0.0.1:1/grahak" }, []string{"127.0.0.1:1", "cannot be reached"}},
		"no database": {func(t *testing.T) string { return c.MustDatabase(t) + "_not" }, []string{"has no database", "createdb"}},
		"a bad URL":   {func(*testing.T) string { return "postgres://grahak:secret@host:port/grahak" }, []string{"postgres://user@host:5432/name"}},
	} {
		t.Run(name, func(t *testing.T) {
			url := test.database(t)
			report, err := c.copy(t.Context(), url, sqlstore.CopyConfig{})
			wantSentence(t, err, test.want...)
			if report.Begun || strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("the report is %+v, the error %v", report, err)
			}
		})
	}
}

// Nobody can write the store while it is copied, and everybody before and after.
func copyHolds(t *testing.T, c copyTest) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	c.source, _ = MustStore(t, path)
	c.want = MustReadAll(t, c.source)
	raw := MustOpenFile(t, path)
	MustExec(t, raw, `PRAGMA busy_timeout = 0`)
	const write = `UPDATE api_keys SET revoked_at = 1`
	steps := make(map[string]int)
	_, err := c.copy(t.Context(), c.MustDatabase(t), sqlstore.CopyConfig{ChunkRows: 20, Progress: func(step string, _, _ int64) {
		if _, err := raw.ExecContext(t.Context(), write); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("a write during the copy returned %v", err)
		}
		steps[step]++
	}})
	must(t, err)
	if diff := cmp.Diff([]string{"Comparing rows", "Copying rows"}, slices.Sorted(maps.Keys(steps))); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	MustExec(t, raw, write)

	MustExec(t, raw, `BEGIN IMMEDIATE`)
	_, err = c.copy(t.Context(), c.MustDatabase(t), sqlstore.CopyConfig{})
	wantSentence(t, err, "locked by another process")
	MustExec(t, raw, `ROLLBACK`)
}

// Two copies of one store, in two places, into one database do not mix: the first
// gives up when it sees what the second has done.
func copyTwice(t *testing.T, c copyTest) {
	path := filepath.Join(t.TempDir(), "again.db")
	must(t, c.source.CopyTo(t.Context(), path, func(int64, int64) {}))
	twin := c
	twin.source = MustOpen(t, sqlstore.SQLiteConfig{Path: path, Environment: grahak.Production})
	for name, second := range map[string]func(*testing.T, string) sqlstore.CopyReport{
		"to its end": func(t *testing.T, url string) sqlstore.CopyReport { return twin.MustCopy(t, url) },
		"not to its end": func(t *testing.T, url string) sqlstore.CopyReport {
			return twin.interrupt(t, url, 1, func(_ string, rows int64) bool { return rows >= 8 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := c.MustDatabase(t)
			var other sqlstore.CopyReport
			_, err := c.copy(t.Context(), url, sqlstore.CopyConfig{ChunkRows: 2, Progress: func(string, int64, int64) {
				if !other.Begun {
					other = second(t, url)
				}
			}})
			wantSentence(t, err, "another grahak copy")
			if other.Restarted || other.Resumed != 2 {
				t.Errorf("the second copy began with %d rows", other.Resumed)
			}
			if name == "not to its end" {
				c.MustCopy(t, url)
			}
		})
	}
}
