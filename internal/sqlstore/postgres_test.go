package sqlstore_test

import (
	"log/slog"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/storetest"
	"grahak/internal/testkit/postgres"
)

// TestPostgres runs the suite of every engine on PostgreSQL.
func TestPostgres(t *testing.T) {
	databases := MustDatabases(t)
	storetest.Run(t, func(t testing.TB) (grahak.Store, func() grahak.Store) {
		url := databases.MustTake(t)
		open := func() grahak.Store { return MustOpenPostgres(t, url) }
		return open(), open
	})
}

// databases are the databases of one cluster that have an empty store in them. To
// empty one takes a fraction of the time of making one.
type databases struct {
	cluster *postgres.Cluster
	owner   testing.TB
	free    []string
}

// MustDatabases starts a cluster that ends with the test. Nothing of it needs to
// outlive a crash, which makes it faster.
func MustDatabases(t testing.TB) *databases {
	t.Helper()
	return &databases{
		cluster: postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off", "full_page_writes": "off"}}),
		owner:   t,
	}
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
