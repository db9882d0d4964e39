package sqlstore_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/storetest"
	"grahak/internal/testkit/postgres"
)

// TestPostgres runs the suite of every engine on PostgreSQL, and then looks at the
// statements that the suite made the store run, and at how PostgreSQL finds the
// rows for them.
func TestPostgres(t *testing.T) {
	t.Parallel()
	databases := MustDatabases(t)
	statements := make(map[string]bool)
	storetest.Run(t, func(t testing.TB) (grahak.Store, func() grahak.Store) {
		url := databases.MustTake(t)
		open := func() grahak.Store {
			s := MustOpenPostgres(t, url)
			t.Cleanup(func() {
				// The suite knows nothing of this one.
				if _, err := s.OrderLag(context.Background()); err != nil {
					t.Error(err)
				}
				if _, err := s.WebhookLag(context.Background()); err != nil {
					t.Error(err)
				}
				for _, query := range s.Statements() {
					statements[query] = true
				}
			})
			return s
		}
		return open(), open
	})
	t.Run("requests", func(t *testing.T) {
		storetest.RunRequests(t, func(t testing.TB) grahak.RequestStore {
			s := MustOpenPostgres(t, databases.MustTake(t))
			t.Cleanup(func() {
				for _, query := range s.Statements() {
					statements[query] = true
				}
			})
			return s.Requests()
		})
	})
	t.Run("query plans", func(t *testing.T) { checkPostgresPlans(t, databases, statements) })
	t.Run("one merchant", func(t *testing.T) { checkMerchants(t, statements) })
	t.Run("portable", func(t *testing.T) { checkPortable(t, statements) })
}

func TestMain(m *testing.M) { os.Exit(postgres.Main(m.Run)) }

// databases are those of the shared cluster that have an empty store in them. To
// empty one takes a fraction of the time of making one.
type databases struct {
	cluster *postgres.Cluster
	owner   testing.TB
	free    []string
}

// MustDatabases returns databases that end with the test.
func MustDatabases(t testing.TB) *databases {
	t.Helper()
	return &databases{cluster: postgres.Shared(t), owner: t}
}

// MustTake returns the URL of a database with an empty store that nobody else
// uses until the test ends.
func (d *databases) MustTake(t testing.TB) string {
	t.Helper()
	if len(d.free) == 0 {
		d.free = append(d.free, d.cluster.Database(d.owner))
	}
	url := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	t.Cleanup(func() {
		tables := d.cluster.QueryText(t, url, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version'`)
		d.cluster.Exec(t, url, "TRUNCATE "+strings.Join(tables, ", "))
		d.free = append(d.free, url)
	})
	return url
}

// MustOpenPostgres opens the store in a database, after making it if there is
// none, and closes it when the test ends.
func MustOpenPostgres(t testing.TB, url string) *sqlstore.Postgres {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{
		URL: url, Environment: grahak.Sandbox, Migrate: true, Connections: sqlstore.MinConnections, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}
