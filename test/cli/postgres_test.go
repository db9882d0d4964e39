package cli_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// on is the environment in which the program finds a database.
func on(database string) []string { return []string{"GRAHAK_DATABASE_URL=" + database} }

// createKeyOn makes a key of a merchant in a database.
func createKeyOn(tb testing.TB, database, merchant string) newKey {
	tb.Helper()
	k, err := parseKey(runEnv(tb, on(database), "key", "create", "--json", "--merchant", merchant).done(tb).stdout)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// mustNotExist fails the test if there is something at path.
func mustNotExist(tb testing.TB, path string) {
	tb.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		tb.Errorf("%s was made (%v)", path, err)
	}
}

// files returns the names of what is in a folder.
func files(tb testing.TB, dir string) (names []string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestPostgresSandbox is what a new user sees who has nothing but an empty database.
func TestPostgresSandbox(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p := start(t, on(database), serve(data)...)
	banner := p.banner(t)
	mustMatch(t, "the banner", banner, `^Grahak \S+, sandbox, data in `+regexp.QuoteMeta(database)+`\n`)
	checkKey(t, field(t, banner, "API key"), "sandbox")
	mustMatch(t, "what the pasted curl prints", paste(t, dir, block(t, banner, "curl")), createdCustomer)
	demo := caller{base: field(t, banner, "Base URL"), key: field(t, banner, "API key")}
	if diff := cmp.Diff([]string{"master.key"}, files(t, data)); diff != "" {
		t.Errorf("files in the data folder (-want +got):\n%s", diff)
	}
	metrics := caller{base: field(t, banner, "Operations")}.send(t, http.MethodGet, "/metrics", "").body
	mustMatch(t, "the metrics", metrics, `(?m)^grahak_store_connections_max 16$`)
	mustMatch(t, "the metrics", metrics, `(?m)^grahak_store_queue_writes 0$`)
	if strings.Contains(metrics, "grahak_store_wal_bytes") {
		t.Error("the metrics tell of files that there are none of")
	}
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}

	p = start(t, on(database), serve(data, "--database-connections", "9")...)
	banner = p.banner(t)
	if strings.Contains(banner, "gk_") {
		t.Errorf("the second start shows a key:\n%s", banner)
	}
	demo.base = field(t, banner, "Base URL")
	if a := demo.send(t, http.MethodGet, "/customers/customer@example.com", ""); a.status != http.StatusOK {
		t.Errorf("after a restart: %d %s", a.status, a.body)
	}
	metrics = caller{base: field(t, banner, "Operations")}.send(t, http.MethodGet, "/metrics", "").body
	mustMatch(t, "the metrics", metrics, `(?m)^grahak_store_connections_max 9$`)
}

// TestPostgresProduction checks that a production takes a schema that it was given, makes and changes none by itself, and
// keeps nothing on its machine.
func TestPostgresProduction(t *testing.T) {
	cluster := postgres.Shared(t)
	database := cluster.Database(t)
	key, data := masterKeyFile(t), filepath.Join(t.TempDir(), "data")
	production := serve(data, "--env", "production", "--master-key-file", key)
	noData := "^there is no data in " + regexp.QuoteMeta(database) + ": run `grahak serve` on it first, or give the right database with --database-url$"

	for range 2 {
		runEnv(t, on(database), production...).refused(t, 1,
			"^the database "+regexp.QuoteMeta(database)+" has no schema yet: run `grahak migrate` with the same --database-url, and start again$")
	}
	runEnv(t, on(database), "merchant", "list").refused(t, 1, noData)
	if tables := cluster.QueryText(t, database, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`); tables != nil {
		t.Errorf("a production that was refused made %v", tables)
	}
	mustMatch(t, "migrate", runEnv(t, on(database), "migrate").done(t).stdout, `^Made the schema, of version \d+\.\n$`)
	mustMatch(t, "migrate", runEnv(t, on(database), "migrate").done(t).stdout, `^The schema is of version \d+ already; there was nothing to do\.\n$`)
	runEnv(t, on(database), "merchant", "list").refused(t, 1, noData)

	p := start(t, on(database), production...)
	banner := p.banner(t)
	mustMatch(t, "the banner", banner, `^Grahak \S+, production, data in `+regexp.QuoteMeta(database)+`\n`)
	if strings.Contains(banner, "gk_") || strings.Contains(banner, "demo") {
		t.Errorf("the banner of production shows a key or a demo merchant:\n%s", banner)
	}
	runEnv(t, on(database), "merchant", "create", "acme", "--data", data, "--master-key-file", key).done(t)
	runEnv(t, on(database), "merchant", "create", "other", "--data", data).refused(t, 1, noMasterKey)
	acme := caller{base: field(t, banner, "Base URL"), key: createKeyOn(t, database, "acme").Key}
	checkKey(t, acme.key, "production")
	acme.create(t, "acme-1")
	// Migrating again while it serves changes nothing.
	runEnv(t, on(database), "migrate").done(t)
	acme.create(t, "acme-2")
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	mustNotExist(t, data)

	runEnv(t, on(database), serve(data)...).refused(t, 1, `^the database was made for the production environment, not sandbox: use another database, or --env production$`)
	const another = `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`
	cluster.Exec(t, database, another)
	tooNew := `^the database has schema version 99, but this grahak knows only up to \d+: use the newer grahak that made it$`
	for _, args := range [][]string{production, {"merchant", "list"}, {"migrate"}} {
		runEnv(t, on(database), args...).refused(t, 1, tooNew)
	}
}

// TestMigrateFolder checks that a data folder is migrated only while no server uses it, and never made.
func TestMigrateFolder(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	run(t, "migrate", "--data", none).refused(t, 1, "^there is no data in \""+regexp.QuoteMeta(none)+"\": run `grahak serve` first, or give the right folder with --data$")
	mustNotExist(t, none)
	s := testkit.Start(t, filepath.Join(dir, "data"))
	run(t, "migrate", "--data", s.Data).refused(t, 1, `^a grahak serve, or .*, is using the data folder `+regexp.QuoteMeta(s.Data)+`: stop it first$`)
	s.Stop(t)
	for _, args := range [][]string{{"--data", s.Data}, {"--database-url", "sqlite://" + s.Data}} {
		mustMatch(t, "migrate", run(t, append([]string{"migrate"}, args...)...).done(t).stdout, `^The schema is of version \d+ already; there was nothing to do\.\n$`)
	}
	for _, flag := range []string{"--no-lock", "--distribute=citus"} {
		run(t, "migrate", "--data", s.Data, flag).refused(t, 2, `^--no-lock and --distribute are for PostgreSQL: give --database-url as well\. See grahak migrate --help\.$`)
	}
	testkit.Start(t, s.Data).Stop(t)
}

// TestMigrateWithoutLock checks the way for databases that have no advisory locks, and what is said of one without Citus.
func TestMigrateWithoutLock(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	mustMatch(t, "migrate", runEnv(t, on(database), "migrate", "--no-lock").done(t).stdout, `^Made the schema, of version \d+\.\n$`)
	r := runEnv(t, on(database), "migrate", "--distribute", "citus")
	if r.status != 1 || r.stderr != "grahak: the database has no Citus: run CREATE EXTENSION citus in it, on every node, or leave out --distribute\n" {
		t.Errorf("without Citus: exit status %d, %s", r.status, r.stderr)
	}
}

// TestSQLiteURL checks that a URL may name a data folder.
func TestSQLiteURL(t *testing.T) {
	data := filepath.Join(t.TempDir(), "my data")
	url := "sqlite://" + strings.ReplaceAll(data, " ", "%20")
	p := start(t, on(url), append([]string{"serve"}, anyPorts...)...)
	mustMatch(t, "the banner", p.banner(t), `, data in `+regexp.QuoteMeta(data)+`\n`)
	mustMatch(t, "merchant list", run(t, "merchant", "list", "--data", data).done(t).stdout, `(?m)^demo `)
	mustMatch(t, "merchant create", run(t, "merchant", "create", "acme", "--database-url", url).done(t).stdout, `key create --merchant acme --database-url `+regexp.QuoteMeta(url)+`\n$`)
	runEnv(t, on(url), "merchant", "list", "--data", "elsewhere").refused(t, 2, `^--data and --database-url name two data folders: give one of them\. See grahak merchant list --help\.$`)
}

// TestPostgresNodes checks that two servers on a database see what the command line changes in it.
func TestPostgresNodes(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	key := masterKeyFile(t)
	var nodes []*testkit.Server
	for range 2 {
		nodes = append(nodes, testkit.StartEnv(t, filepath.Join(t.TempDir(), "data"), on(database), "--master-key-file", key))
	}
	do := func(args ...string) {
		t.Helper()
		runEnv(t, on(database), append(args, "--master-key-file", key)...).done(t)
	}
	everywhere := func(what, key string, want int) {
		t.Helper()
		seen(t, what, func() bool {
			for _, n := range nodes {
				if (caller{base: n.BaseURL, key: key}).list(t) != want {
					return false
				}
			}
			return true
		})
	}
	do("merchant", "create", "acme")
	first, second := createKeyOn(t, database, "acme"), createKeyOn(t, database, "acme")
	everywhere("key create", second.Key, http.StatusOK)
	everywhere("the key before it", first.Key, http.StatusOK)
	for i, n := range nodes {
		caller{base: n.BaseURL, key: first.Key}.create(t, fmt.Sprintf("made-on-%d", i))
	}
	for _, n := range nodes {
		for i := range nodes {
			if a := (caller{base: n.BaseURL, key: first.Key}).send(t, http.MethodGet, fmt.Sprintf("/customers/made-on-%d", i), ""); a.status != http.StatusOK {
				t.Errorf("%s of the customer made on node %d: %d %s", n.BaseURL, i, a.status, a.body)
			}
		}
	}
	do("key", "revoke", first.ID, "--merchant", "acme")
	everywhere("key revoke", first.Key, http.StatusUnauthorized)
	do("iplist", "add", "192.0.2.1", "--merchant", "acme")
	do("iplist", "mode", "enforce", "--merchant", "acme")
	everywhere("iplist mode enforce", second.Key, http.StatusForbidden)
	do("iplist", "mode", "off", "--merchant", "acme")
	everywhere("iplist mode off", second.Key, http.StatusOK)
	do("merchant", "disable", "acme")
	everywhere("merchant disable", second.Key, http.StatusUnauthorized)
	everywhere("another merchant", nodes[0].Key, http.StatusOK)
	for _, n := range nodes {
		n.Stop(t)
		mustNotExist(t, n.Data)
	}
}

// TestPostgresServersAtOnce checks that servers which start at once on one empty database all come to serve it, and that
// one merchant and one key come of it.
func TestPostgresServersAtOnce(t *testing.T) {
	const servers = 3
	startAll := func(t *testing.T, database string, args func() []string) (all []*program) {
		t.Helper()
		for range servers {
			all = append(all, start(t, on(database), args()...))
		}
		return all
	}
	mustBeOne := func(t *testing.T, database string, banners []string) (demo string) {
		t.Helper()
		for _, banner := range banners {
			if strings.Contains(banner, "API key") {
				if demo != "" {
					t.Error("two servers show a key")
				}
				demo = field(t, banner, "API key")
			}
		}
		for command, want := range map[string]int{"merchant list --json": 1, "key list --json --merchant demo": 1} {
			if got := strings.Count(runEnv(t, on(database), strings.Fields(command)...).done(t).stdout, "\n"); got != want {
				t.Errorf("%s lists %d, want %d", command, got, want)
			}
		}
		if demo == "" {
			t.Fatal("no server shows a key")
		}
		return demo
	}
	mustServe := func(t *testing.T, database string, all []*program) {
		t.Helper()
		var banners []string
		for _, p := range all {
			banners = append(banners, p.banner(t))
		}
		demo := mustBeOne(t, database, banners)
		for i, banner := range banners {
			c := caller{base: field(t, banner, "Base URL"), key: demo}
			seen(t, "the key", func() bool { return c.list(t) == http.StatusOK })
			c.create(t, fmt.Sprint("customer-", i))
		}
	}
	t.Run("with one data folder", func(t *testing.T) {
		database, data := postgres.Shared(t).Database(t), filepath.Join(t.TempDir(), "data")
		mustServe(t, database, startAll(t, database, func() []string { return serve(data) }))
	})
	t.Run("with one master key file", func(t *testing.T) {
		database, key := postgres.Shared(t).Database(t), masterKeyFile(t)
		mustServe(t, database, startAll(t, database, func() []string {
			return serve(filepath.Join(t.TempDir(), "data"), "--master-key-file", key)
		}))
	})
	// All see a database without merchants, and all make one.
	t.Run("at the same step", func(t *testing.T) {
		cluster, key := postgres.Shared(t), masterKeyFile(t)
		database := cluster.Database(t)
		runEnv(t, on(database), "migrate").done(t)
		var gates sync.WaitGroup
		defer gates.Wait()
		// hold lets nobody write to a table until enough is true, or for ten seconds; waited is in steps of one
		// hundredth of a second.
		hold := func(table, enough string) {
			gates.Go(func() {
				if _, err := cluster.Query(database, fmt.Sprintf(`DO $$ DECLARE waited int := 0; BEGIN
					LOCK TABLE %s IN EXCLUSIVE MODE;
					FOR i IN 1..1000 LOOP
						EXIT WHEN %s;
						IF EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = '%s'::regclass) THEN waited := waited + 1; END IF;
						PERFORM pg_sleep(0.01);
					END LOOP;
				END $$`, table, enough, table)); err != nil {
					t.Error(err)
				}
			})
			eventually(t, startTimeout, "nobody writes to "+table, func() bool {
				return cluster.QueryText(t, database, `SELECT count(*) FROM pg_locks WHERE relation = '`+table+`'::regclass AND mode = 'ExclusiveLock' AND granted`)[0] == "1"
			})
		}
		hold("merchants", fmt.Sprintf("(SELECT count(*) FROM pg_locks WHERE NOT granted) >= %d", servers))
		// By the time that the first key is there, the others have seen none.
		hold("api_keys", "waited >= 100")
		mustServe(t, database, startAll(t, database, func() []string {
			return serve(filepath.Join(t.TempDir(), "data"), "--master-key-file", key)
		}))
	})
	t.Run("with a master key each", func(t *testing.T) {
		database := postgres.Shared(t).Database(t)
		all := startAll(t, database, func() []string { return serve(filepath.Join(t.TempDir(), "data")) })
		var banners []string
		for _, p := range all {
			banners = append(banners, p.banner(t))
		}
		demo := mustBeOne(t, database, banners)
		const says = `(` + otherMasterKey + `|there is no master key in \S+: put the file back, .*); all servers of one database need the same master key, as from one --master-key-file that each of them has`
		for i, banner := range banners {
			c, operations := caller{base: field(t, banner, "Base URL"), key: demo}, caller{base: field(t, banner, "Operations")}
			ready := operations.send(t, http.MethodGet, "/readyz", "")
			if strings.Contains(banner, demo) {
				c.create(t, "asha")
				if ready.status != http.StatusOK {
					t.Errorf("/readyz of the server that has the key: %d %s", ready.status, ready.body)
				}
				continue
			}
			mustMatch(t, "the banner", banner, `CUSTOMERS CANNOT BE SERVED, every such request is answered 503: `+says)
			if ready.status != http.StatusServiceUnavailable {
				t.Errorf("/readyz of a server with another master key: %d %s", ready.status, ready.body)
			}
			mustMatch(t, "/readyz", ready.body, says)
			eventually(t, answerTimeout, "customers are answered 503", func() bool {
				status := c.send(t, http.MethodGet, "/customers/asha", "").status
				if status != http.StatusServiceUnavailable && status != http.StatusUnauthorized {
					t.Fatalf("server %d answers %d", i, status)
				}
				return status == http.StatusServiceUnavailable
			})
		}
	})
}

// TestPostgresEventsInOrder checks that the audit sees all events that there are when it begins, with a server or without
// one, and says of which it knows nothing.
func TestPostgresEventsInOrder(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	s := testkit.StartEnv(t, filepath.Join(t.TempDir(), "data"), on(database))
	demo := caller{base: s.BaseURL, key: s.Key}
	last := func(kind string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(runEnv(t, on(database), "audit", "events", "-m", "demo", "--data", s.Data).done(t).stdout), "\n")
		if !strings.Contains(lines[len(lines)-1], " "+kind+" ") {
			t.Errorf("the last event is %q, want %s", lines[len(lines)-1], kind)
		}
	}
	for i := range 5 {
		demo.create(t, fmt.Sprint("c", i))
		last("customer.created")
	}
	s.Stop(t)
	createKeyOn(t, database, "demo")
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	r := runEnv(t, on(database), "audit", "events", "-m", "demo", "--data", nowhere)
	if want := "Merchant demo has 1 event without a position yet, not listed here: a server that runs gives them one, and so does this command with the master key.\n"; r.status != 0 || r.stderr != want {
		t.Errorf("without the master key: exit status %d, %q, want %q", r.status, r.stderr, want)
	}
	if n := strings.Count(r.stdout, "\n"); n != 7 {
		t.Errorf("without the master key %d events are listed, want 7:\n%s", n, r.stdout)
	}
	mustMatch(t, "audit verify without the master key", runEnv(t, on(database), "audit", "verify", "--data", nowhere).stdout, `^ok    demo: 7 events checked, 1 pending, head 7:`)
	last("api_key.created")
	mustMatch(t, "audit verify", runEnv(t, on(database), "audit", "verify", "--data", s.Data).done(t).stdout, `^ok    demo: 8 events checked, 0 pending, head 8:`)
}

// TestPostgresKeysChangeUnderLoad checks that keys change while two servers take requests and take part in it, and that
// nobody notices.
func TestPostgresKeysChangeUnderLoad(t *testing.T) {
	const writers = 4
	database := postgres.Shared(t).Database(t)
	data := filepath.Join(t.TempDir(), "data")
	first := testkit.StartEnv(t, data, on(database))
	nodes := []*testkit.Server{first, testkit.StartEnv(t, data, on(database))}
	var (
		load   sync.WaitGroup
		over   atomic.Bool
		rounds atomic.Int64
		made   [writers]int
	)
	for w := range writers {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := 0; !over.Load(); i++ {
				for _, step := range []struct{ method, path, body, says string }{
					{http.MethodPost, "/customers", newCustomer(fmt.Sprintf("stays-%d-%d", w, i)), `"object":"customer"`},
					{http.MethodGet, fmt.Sprintf("/customers/stays-%d-%d", w, i/2), "", `"object":"customer"`},
					{http.MethodPost, fmt.Sprintf("/customers/stays-%d-%d", w, i), "first_name=Asha", "Asha"},
				} {
					c := caller{base: nodes[(w+i)%len(nodes)].BaseURL, key: first.Key, client: client}
					a, err := c.try(t.Context(), step.method, step.path, step.body)
					if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, step.says) {
						t.Errorf("%s %s: %v %d %s, want %s", step.method, step.path, err, a.status, a.body, step.says)
						return
					}
				}
				made[w]++
				rounds.Add(1)
			}
		})
	}
	for _, command := range []string{"seal rotate --merchant demo", "seal rewrap", "seal rotate --all", "audit verify", "seal rotate --all --no-wait"} {
		before := rounds.Load()
		eventually(t, answerTimeout, "the writers are at work", func() bool { return rounds.Load() > before+100 || t.Failed() })
		r := runEnv(t, on(database), append(strings.Fields(command), "--data", data)...).done(t)
		t.Logf("%s, beside %d rounds: %s", command, rounds.Load()-before, r.stdout)
		if strings.HasPrefix(command, "seal rotate") && !strings.Contains(command, "no-wait") {
			mustMatch(t, command, r.stdout, `(?m)^All customers of merchant demo are sealed under version \d, and no older key is kept\.$`)
		}
	}
	over.Store(true)
	load.Wait()
	if t.Failed() {
		return
	}
	eventually(t, answerTimeout, "the servers end the rotation that nobody waited for", func() bool {
		return strings.Contains(runEnv(t, on(database), "seal", "status", "--json").done(t).stdout, `"version":4,"oldest_version":4,`)
	})
	total := 0
	for w, n := range made {
		total += n
		for i := 0; i < n; i += 1 + n/50 {
			for _, node := range nodes {
				a := (caller{base: node.BaseURL, key: first.Key}).send(t, http.MethodGet, fmt.Sprintf("/customers/stays-%d-%d", w, i), "")
				if a.status != http.StatusOK || !strings.Contains(a.body, "Asha") {
					t.Errorf("customer %d-%d: %d %s", w, i, a.status, a.body)
				}
			}
		}
	}
	mustMatch(t, "customer list", runEnv(t, on(database), "customer", "list", "-m", "demo", "--data", data).done(t).stdout, fmt.Sprintf(`(?m)^10 of %d customers\.$`, total))
}

// TestPostgresReadiness checks that a server tells a load balancer in time that its database does not answer, that it is
// alive all the while, and that it serves again by itself.
func TestPostgresReadiness(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{})
	s := testkit.StartEnv(t, filepath.Join(t.TempDir(), "data"), on(cluster.Database(t)))
	operations, demo := caller{base: s.OpsURL}, caller{base: s.BaseURL, key: s.Key}
	demo.create(t, "before")
	for what, fault := range map[string][2]func(){
		"paused":  {func() { cluster.Pause(t) }, func() { cluster.Resume(t) }},
		"stopped": {func() { cluster.Stop(t) }, func() { cluster.Restart(t) }},
	} {
		fault[0]()
		began, standstill := time.Now(), testkit.Standstill()
		a := operations.send(t, http.MethodGet, "/readyz", "")
		if took := time.Since(began) - standstill(); a.status != http.StatusServiceUnavailable || took > 10*time.Second {
			t.Errorf("%s: /readyz answers %d %s after %v", what, a.status, a.body, took)
		}
		if a := operations.send(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
			t.Errorf("%s: /healthz answers %d %s", what, a.status, a.body)
		}
		if a := demo.send(t, http.MethodPost, "/customers", newCustomer("meanwhile-"+what)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: a create is answered %d %v %s", what, a.status, a.header, a.body)
		}
		fault[1]()
		eventually(t, answerTimeout, "the server is ready again", func() bool {
			return operations.send(t, http.MethodGet, "/readyz", "").status == http.StatusOK
		})
		demo.create(t, "after-"+what)
	}
}

// TestPostgresStop checks that a database that does not answer does not keep a server from stopping, which has requests to
// put into its log there.
func TestPostgresStop(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{})
	s := testkit.StartEnv(t, filepath.Join(t.TempDir(), "data"), on(cluster.Database(t)))
	demo := caller{base: s.BaseURL, key: s.Key}
	demo.create(t, "before")
	cluster.Pause(t)
	if a := demo.send(t, http.MethodGet, "/customers", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("a list is answered %d %s", a.status, a.body)
	}
	s.Stop(t)
	cluster.Resume(t)
}
