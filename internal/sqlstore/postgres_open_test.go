package sqlstore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

func TestOpenPostgres(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	open := func(url string, environment grahak.Environment, migrate bool) (*sqlstore.Postgres, error) {
		return sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{
			URL: url, Environment: environment, Migrate: migrate, Connections: sqlstore.MinConnections, Logger: slog.New(slog.DiscardHandler),
		})
	}
	refused := func(what string, err error, parts ...string) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: it was opened", what)
			return
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %q, which does not say %q", what, err, part)
			}
		}
		if text := err.Error(); strings.ContainsAny(text, "\n") || strings.Contains(text, "secret") {
			t.Errorf("%s: got %q", what, text)
		}
	}
	tables := func() int {
		t.Helper()
		return len(cluster.QueryText(t, url, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`))
	}

	for _, environment := range []grahak.Environment{"", grahak.Sandbox} {
		if _, err := open(url, environment, false); !errors.Is(err, sqlstore.ErrNoStore) {
			t.Errorf("an empty database: got %v, want ErrNoStore", err)
		}
	}
	if n := tables(); n != 0 {
		t.Errorf("%d tables were made in a database that was not to be changed", n)
	}

	// Several servers that start at once make one store.
	var opening sync.WaitGroup
	for range 4 {
		opening.Go(func() {
			s, err := open(url, grahak.Sandbox, true)
			if err != nil {
				t.Errorf("one of several: %v", err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	diff(t, "rows about the store", []string{"1"}, cluster.QueryText(t, url, `SELECT count(*) FROM instance`))
	for _, environment := range []grahak.Environment{"", grahak.Sandbox} {
		s, err := open(url, environment, false)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "the environment", grahak.Sandbox, s.Environment())
		// It may be closed more than once, and then serves nobody.
		for range 2 {
			must(t, s.Close())
		}
		wantCode(t, "a read of a closed store", s.Ping(t.Context()), grahak.CodeUnavailable)
		wantCode(t, "a look-up in a closed store", second(s.Customer(t.Context(), acme, "cst_1", grahak.Index{})), grahak.CodeUnavailable)
		wantCode(t, "a write to a closed store", s.PutToken(t.Context(), acme, grahak.TokenRecord{Merchant: acme}), grahak.CodeUnavailable)
	}
	for _, migrate := range []bool{false, true} {
		refused("another environment", second(open(url, grahak.Production, migrate)), "sandbox", "production", "--env sandbox")
	}
	for name, bad := range map[string]string{
		"no URL":              "://secret",
		"a port that is none": "postgres://grahak:secret@127.0.0.1:port/grahak",
		"an escape":           "postgres://grahak:secret%zz@127.0.0.1/grahak",
	} {
		refused(name, second(open(bad, grahak.Sandbox, true)), "--database-url", "postgres://user@host:5432/name")
	}
	refused("nobody listens", second(open("postgres://grahak:secret@127.0.0.1:1/grahak", grahak.Sandbox, true)), "127.0.0.1:1", "cannot be reached")
	refused("no such database", second(open(strings.Replace(url, "/grahak_", "/other_", 1), grahak.Sandbox, true)), "no database", "createdb")

	cluster.Exec(t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
	for _, migrate := range []bool{false, true} {
		refused("a newer schema", second(open(url, grahak.Sandbox, migrate)), "999", "newer")
	}
}

// A migration goes both ways: what its way down leaves is what it began with.
func TestPostgresMigrationsGoDown(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	files, err := filepath.Glob("migrations/postgres/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	schema := func() []string {
		t.Helper()
		return cluster.QueryText(t, url, `SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2`)
	}
	for range 2 {
		for i, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			up, down, both := strings.Cut(string(text), "-- +goose Down")
			if !both {
				t.Fatalf("%s has no way down", file)
			}
			before := schema()
			cluster.Exec(t, url, up)
			after := schema()
			if len(after) <= len(before) && i == 0 {
				t.Fatalf("%s made nothing", file)
			}
			cluster.Exec(t, url, down)
			diff(t, file+": what is left on the way down", before, schema())
			cluster.Exec(t, url, up)
			diff(t, file+": what is made the second time", after, schema())
		}
		for i := range files {
			text, err := os.ReadFile(files[len(files)-1-i])
			must(t, err)
			_, down, _ := strings.Cut(string(text), "-- +goose Down")
			cluster.Exec(t, url, down)
		}
		diff(t, "what is left at last", 0, len(schema()))
	}
}

// The lag is that of the oldest event that waits, of whichever merchant.
func TestPostgresOrderLag(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{
		URL: postgres.Shared(t).Database(t), Environment: grahak.Sandbox, Migrate: true, Clock: clock, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	wantLag := func(what string, want time.Duration) {
		t.Helper()
		got, err := s.OrderLag(t.Context())
		// Times are stored in whole microseconds.
		if err != nil || got.Truncate(time.Millisecond) != want {
			t.Errorf("%s: the lag is %v, %v, want %v", what, got, err, want)
		}
	}
	wantLag("an empty store", 0)
	must(t, second(s.MasterKeyID(t.Context(), "mk_test")))
	merchants := []grahak.MerchantID{"first", "second"}
	for _, m := range merchants {
		must(t, s.CreateMerchant(t.Context(), grahak.Merchant{ID: m, IPMode: grahak.IPModeOff, CreatedAt: clock.Now()},
			grahak.Keyset{Merchant: m, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}},
			grahak.Event{ID: grahak.EventID("evt_" + m), Type: grahak.EventMerchantCreated, At: clock.Now()}))
		clock.Advance(2 * time.Second)
	}
	for i, want := range []time.Duration{4 * time.Second, 2 * time.Second, 0} {
		wantLag(fmt.Sprintf("%d in order", i), want)
		if i < len(merchants) {
			MustOrderAll(t, s, merchants[i], 512)
		}
	}
	// A clock that was set back makes no event younger than none.
	e := grahak.Event{ID: "evt_mode", Type: grahak.EventIPModeChanged, At: clock.Now()}
	must(t, s.SetIPMode(t.Context(), "first", grahak.IPModeReport, false, e))
	clock.Advance(-time.Hour)
	wantLag("an event of the future", 0)
}
