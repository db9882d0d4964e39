package cli_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// TestPostgresDoctor checks what the doctor says of a database and of its server.
func TestPostgresDoctor(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{})
	database := cluster.Database(t)
	find := func(flags []string, findings ...string) {
		t.Helper()
		mustFindOn(t, database, flags, findings...)
	}
	healthy := func() []string {
		return []string{
			finding("ok", "settings", `fit together \(sandbox\)`),
			finding("ok", "database", `PostgreSQL \d+.* at `+regexp.QuoteMeta(database)+` \([\d.]+ MiB\)`),
			finding("ok", "pool", `the database allows 57 connections, enough for 3 servers with up to 16 each`),
			finding("ok", "durability", `a write is on the database's disk when it is acknowledged`),
		}
	}
	find(nil, append(healthy(), finding("FAIL", "database", "there is no data in .*: run `grahak serve` on it first, or give the right database with --database-url"))...)

	s := testkit.StartEnv(t, filepath.Join(t.TempDir(), "data"), on(database))
	caller{base: s.BaseURL, key: s.Key}.create(t, "asha")
	data := []string{"--data", s.Data}
	key, clock := finding("ok", "master key", `opens the keys of every merchant \(1\)`), finding("ok", "clock", `\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`)
	find(data, append(healthy(), key, clock)...)
	s.Stop(t)
	find(data, append(healthy(), key, clock)...)

	find(append(data, "--database-connections", "57"), finding("warn", "pool", `the database allows 57 connections, which is enough for one server with up to 57 and no second one: raise max_connections, or lower --database-connections`))
	find(append(data, "--database-connections", "58"), finding("FAIL", "pool", `the database allows 57 connections, and this server takes up to 58: raise max_connections or the limit of the user, or lower --database-connections`))
	find(append(data, "--env", "production", "--master-key-file", filepath.Join(s.Data, "master.key")),
		finding("FAIL", "settings", `the database is of the sandbox environment: use --env sandbox or other data`))
	find([]string{"--data", "elsewhere"}, finding("FAIL", "master key", `1 of 1 merchant cannot be served, demo among them: .*there is no master key in elsewhere/master\.key: .*`))

	name := database[strings.LastIndex(database, "/")+1:]
	for _, c := range []struct{ change, back, finding string }{
		{"SET synchronous_commit = off", "RESET synchronous_commit", finding("FAIL", "durability", `synchronous_commit is off: a crash of the database loses writes that were acknowledged; set it to on`)},
		{"SET default_transaction_read_only = on", "RESET default_transaction_read_only", finding("FAIL", "database", `it takes no writes: set default_transaction_read_only to off for this user and database`)},
		{"CONNECTION LIMIT 12", "CONNECTION LIMIT -1", finding("FAIL", "pool", `the database allows 12 connections, and this server takes up to 16: .*`)},
	} {
		cluster.Exec(t, "", "ALTER DATABASE "+name+" "+c.change)
		find(data, c.finding)
		cluster.Exec(t, "", "ALTER DATABASE "+name+" "+c.back)
	}
	cluster.Exec(t, "", "ALTER ROLE grahak CONNECTION LIMIT 13")
	find(data, finding("FAIL", "pool", `the database allows 13 connections, and this server takes up to 16: .*`))
	cluster.Exec(t, "", "ALTER ROLE grahak CONNECTION LIMIT -1")

	cluster.Configure(t, map[string]string{"fsync": "off", "full_page_writes": "off"})
	find(data, finding("FAIL", "durability", `fsync is off: a crash of its machine loses writes that were acknowledged, and may damage the whole database; set it to on`),
		finding("FAIL", "durability", `full_page_writes is off: a crash of its machine may damage the database; set it to on`))
	cluster.Configure(t, map[string]string{"fsync": "on", "full_page_writes": "on"})

	standby := cluster.Standby(t, postgres.Options{})
	mustFindOn(t, postgres.URL(database, standby), data,
		finding("FAIL", "database", `it is a standby, which takes no writes: name the primary in --database-url, or all hosts with target_session_attrs=read-write`))
	mustFindOn(t, postgres.URL(database, standby, cluster), data, key)
	runEnv(t, on(postgres.URL(database, standby)), serve(s.Data)...).refused(t, 1,
		`^the database server at 127\.0\.0\.1:\d+ is a standby, which cannot be written: name the primary, or all hosts, in --database-url$`)

	cluster.Exec(t, database, `UPDATE keysets SET indexing = '\x00' WHERE merchant_id = '@operators'`)
	find(data, finding("FAIL", "master key", `nobody can log in to the dashboard: .+`))
	cluster.Exec(t, database, `UPDATE goose_db_version SET version_id = 99 WHERE version_id > 0`)
	find(data, finding("FAIL", "database", `the database has schema version 99, but this grahak knows only up to \d+: use the newer grahak that made it`))
	cluster.Stop(t)
	find(data, finding("FAIL", "database", `the database server at 127\.0\.0\.1:\d+ cannot be reached: start it, or give the right address with --database-url \(.*\)`))
}

// mustFindOn runs the doctor on a database and checks its exit status, its findings, and that nothing else is wrong.
func mustFindOn(t *testing.T, database string, flags []string, findings ...string) {
	t.Helper()
	r := runEnv(t, on(database), append([]string{"doctor"}, flags...)...)
	checkFindings(t, r, findings)
	if slices.ContainsFunc(findings, func(f string) bool { return strings.Contains(f, `ok +settings`) }) && strings.Count(r.stdout, "\n") != len(findings) {
		t.Errorf("doctor says more than it should:\n%s", r.stdout)
	}
}
