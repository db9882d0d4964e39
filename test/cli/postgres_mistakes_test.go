package cli_test

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"grahak/internal/testkit/postgres"
)

// secret is a password with all that a URL has its own use for.
const secret = `hunter2:/?#[]@% hunter2`

// mustKeepSecret fails the test if a command shows any of the password.
func mustKeepSecret(tb testing.TB, r result) result {
	tb.Helper()
	if strings.Contains(r.stdout+r.stderr, "hunter2") {
		tb.Errorf("the password is shown:\n%s%s", r.stdout, r.stderr)
	}
	return r
}

// TestPostgresMistakes checks that each mistake in the URL of a database gives one sentence that says what is wrong and
// where, without the password.
func TestPostgresMistakes(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{Password: secret})
	database := cluster.Database(t)
	cluster.Exec(t, "", "CREATE ROLE weak LOGIN PASSWORD '"+secret+"'")
	cluster.Exec(t, database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := unused.Addr().String()
	unused.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close() // Nobody answers there.

	change := func(how func(*url.URL)) string {
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		how(u)
		return u.String()
	}
	host := func(address string) string { return change(func(u *url.URL) { u.Host = address }) }
	const (
		server    = `^the database server at 127\.0\.0\.1:\d+ `
		malformed = `^--database-url: this is not the URL of a database: write it like postgres://grahak@db\.example\.com:5432/grahak, .* \(from GRAHAK_DATABASE_URL\)\. See grahak .* --help\.$`
	)
	for name, c := range map[string]struct {
		url    string
		status int
		says   string
	}{
		"a wrong password": {
			change(func(u *url.URL) { u.User = url.UserPassword("grahak", "not-hunter2") }), 1,
			server + `does not let the user "grahak" in: check user and password in --database-url, and pg_hba\.conf there \(FATAL: password authentication failed for user "grahak" \(SQLSTATE 28P01\)\)$`,
		},
		"no password": {
			change(func(u *url.URL) { u.User = url.User("grahak") }), 1, server + `does not let the user "grahak" in: check user and password`,
		},
		"an unknown user": {
			change(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), 1, server + `does not let the user "nobody" in: check user and password`,
		},
		"an unknown database": {
			change(func(u *url.URL) { u.Path = "/none" }), 1,
			"^the server at 127\\.0\\.0\\.1:\\d+ has no database \"none\": make it with `createdb none`, or name another in --database-url$",
		},
		"a port where nobody listens": {
			host(closed), 1, server + `cannot be reached: start it, or give the right address with --database-url \(dial tcp 127\.0\.0\.1:\d+: connect: connection refused\)$`,
		},
		"a port where nobody answers": {
			host(mute.Addr().String()), 1, server + `cannot be reached: start it, or give the right address with --database-url \(no answer in time\)$`,
		},
		"an unknown host": {
			host("db.invalid"), 1, `^the database server at db\.invalid:5432 cannot be reached: start it, or give the right address with --database-url \(`,
		},
		"two hosts, neither of which answers": {
			host(closed + "," + closed), 1, server + `cannot be reached: start it`,
		},
		"TLS that the server has not": {
			change(func(u *url.URL) { u.RawQuery = "sslmode=require" }), 1, server + `speaks no TLS, which --database-url asks for: switch ssl on there, or give another sslmode$`,
		},
		"a parameter that the server does not know": {
			change(func(u *url.URL) { u.RawQuery = "statement_limit=8000" }), 1,
			server + `does not take a parameter of --database-url: correct it there \(FATAL: unrecognized configuration parameter "statement_limit" \(SQLSTATE 42704\)\)$`,
		},
		"a file that is not there": {
			change(func(u *url.URL) { u.RawQuery = "sslmode=verify-full&sslrootcert=/none" }), 1,
			`^a file that --database-url or a variable of PostgreSQL names cannot be used \(open /none: no such file or directory\): give the right one$`,
		},
		"a port that is none":             {host("127.0.0.1:65536"), 1, `^--database-url is not a database's address: write it like postgres://user@host:5432/name$`},
		"another kind of database":        {change(func(u *url.URL) { u.Scheme = "mysql" }), 2, malformed},
		"a password that is not encoded":  {"postgres://grahak:hunter2/@hunter2@127.0.0.1/grahak", 2, malformed},
		"the form of libpq without a URL": {"host=127.0.0.1 user=grahak password=hunter2", 2, malformed},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			commands := [][]string{serve(data)}
			if !strings.Contains(c.says, "no answer in time") {
				commands = append(commands, []string{"merchant", "list"}, []string{"migrate"})
			}
			for _, args := range commands {
				mustKeepSecret(t, runEnv(t, on(c.url), args...)).refused(t, c.status, c.says)
			}
			if r := mustKeepSecret(t, runEnv(t, on(c.url), "doctor")); c.status == 1 && !strings.Contains(r.stdout, "FAIL  database   ") {
				t.Errorf("doctor: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
		})
	}
	t.Run("a user who may not make tables", func(t *testing.T) {
		weak := change(func(u *url.URL) { u.User = url.UserPassword("weak", secret) })
		const says = `^the user "weak" may not do that in the database "grahak_\d+" at 127\.0\.0\.1:\d+: make it the owner \(ERROR: `
		mustKeepSecret(t, runEnv(t, on(weak), serve(filepath.Join(t.TempDir(), "data"))...)).refused(t, 1, says+`permission denied for schema public \(SQLSTATE 42501\)\)$`)
		cluster.Exec(t, database, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
		mustKeepSecret(t, runEnv(t, on(weak), "migrate")).refused(t, 1, says+`no schema has been selected to create in \(SQLSTATE 3F000\)\)$`)
	})
	t.Run("a time limit that is none", func(t *testing.T) {
		const says = server + `does not take a parameter of --database-url: correct it there \(FATAL: invalid value for parameter "statement_timeout": "soon" \(SQLSTATE 22023\)\)$`
		soon := change(func(u *url.URL) { u.RawQuery = "statement_timeout=soon" })
		mustKeepSecret(t, runEnv(t, on(soon), serve(filepath.Join(t.TempDir(), "data"))...)).refused(t, 1, says)
	})
	t.Run("the right one", func(t *testing.T) {
		p := start(t, on(database), serve(filepath.Join(t.TempDir(), "data"))...)
		banner := p.banner(t)
		mustMatch(t, "the banner", banner, `data in postgres://grahak:\*\*\*@127\.0\.0\.1:\d+/grahak_\d+\n`)
		// A password may come in other ways as well.
		bare := change(func(u *url.URL) { u.User = url.User("grahak") })
		mustMatch(t, "merchant list", runEnv(t, append(on(bare), "PGPASSWORD="+secret), "merchant", "list").done(t).stdout, `(?m)^demo `)

		// In a flag every user of the machine sees it.
		const seen = `the password in --database-url can be seen by every user of this machine while this runs: set GRAHAK_DATABASE_URL instead, or PGPASSWORD, or keep it in a password file (~/.pgpass)`
		r := mustKeepSecret(t, run(t, "key", "list", "-m", "demo", "--database-url", database))
		if r.status != 0 || r.stderr != "grahak: warning: "+seen+"\n" {
			t.Errorf("with the password in a flag: exit status %d, %q", r.status, r.stderr)
		}
		run(t, "key", "list", "-m", "demo", "--database-url", "nonsense").refused(t, 2, `^--database-url: this is not the URL of a database`)
		r = mustKeepSecret(t, run(t, "doctor", "--data", filepath.Join(t.TempDir(), "data"), "--database-url", database))
		if !strings.Contains(r.stdout, "warn  settings   "+seen+"\n") {
			t.Errorf("doctor does not warn of the flag:\n%s", r.stdout)
		}
		inFlag := start(t, nil, append(serve(filepath.Join(t.TempDir(), "data")), "--database-url", database)...)
		banner += inFlag.banner(t)
		eventually(t, startTimeout, "the log warns", func() bool { return strings.Contains(inFlag.err.String(), `"level":"WARN","msg":"`+seen+`"`) })
		if strings.Contains(p.err.String(), `"level":"WARN"`) {
			t.Errorf("the log warns of a password in the environment:\n%s", p.err.String())
		}
		mustKeepSecret(t, result{stdout: banner + p.out.String(), stderr: p.err.String() + inFlag.err.String()})
	})
	// Not even in the wrong place of the command line.
	for _, args := range [][]string{{"serve", database}, {"key", "list", "-m", "demo", database}, {"merchant", "list", "--database=" + database}} {
		mustKeepSecret(t, run(t, args...)).refused(t, 2, ``)
	}
}
