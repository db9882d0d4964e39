package sqlstore_test

import (
	"log/slog"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// TestBacklog holds that a backlog is put in order in steps that do not become
// longer with it, also if PostgreSQL takes it for a few events: there were few
// whenever it looked, because they are moved at once.
func TestBacklog(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off", "autovacuum": "off"}})
	url := cluster.Database(t)
	s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	// To compare each with the ids of a step would take longer than a statement may.
	cluster.Exec(t, url, `INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
		SELECT 'acme', convert_to('evt_' || lpad(n::text, 16, '0'), 'UTF8'), 'key.created', 'key', 0, '', '', 1, 0 FROM generate_series(1, 100000) AS n`)
	cluster.Exec(t, url, "UPDATE pg_class SET relpages = 1000, reltuples = 10 WHERE relname = 'pending_events'")
	MustOrderAll(t, s, acme, 512)
}

// TestVacuum holds that what was ordered does not lie in the way of what is to be
// ordered, nor make the look-up index large: the store has both tables vacuumed,
// whatever autovacuum does.
func TestVacuum(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off", "autovacuum": "off"}})
	url := cluster.Database(t)
	s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	cluster.Exec(t, url, `INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
		SELECT 'acme', convert_to('evt_' || lpad(n::text, 16, '0'), 'UTF8'), 'key.created', 'key', 0, '', '', 1, 0 FROM generate_series(1, 12000) AS n`)
	MustOrderAll(t, s, acme, 2000)
	await(t, "the pending events to be vacuumed", func() bool {
		return cluster.QueryText(t, url, `SELECT vacuum_count > 0 AND n_dead_tup < 12000 FROM pg_stat_user_tables WHERE relname = 'pending_events'`)[0] == "t"
	})
	await(t, "the look-up index to be vacuumed", func() bool {
		return cluster.QueryText(t, url, `SELECT vacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'lookup_blocks'`)[0] == "t"
	})
}
