package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// fromTo is the flags of a copy.
func fromTo(data, database string) []string {
	return []string{"copy", "--from", "sqlite://" + data, "--to", database}
}

// auditOf is what `audit verify --json` prints of a merchant.
type auditOf struct {
	Pending int     `json:"pending"`
	Head    string  `json:"head"`
	Fault   *string `json:"fault"`
}

func mustVerifyAudit(t *testing.T, env []string, args ...string) (a auditOf) {
	t.Helper()
	r := runEnv(t, env, append([]string{"audit", "verify", "--json"}, args...)...).done(t)
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil || a.Fault != nil {
		t.Fatalf("audit verify %v: %v in %s", args, err, r.stdout)
	}
	return a
}

// TestCopyToPostgres moves a production with all that may be under way in it, and checks that merchants and operators
// see no difference.
func TestCopyToPostgres(t *testing.T) {
	const each = 30
	database := postgres.Shared(t).Database(t)
	data, key := filepath.Join(t.TempDir(), "it's my data"), masterKeyFile(t)
	master := []string{"--master-key-file", key}
	production := append([]string{"--env", "production"}, master...)
	folder := append([]string{"--data", data}, master...)

	s := testkit.Start(t, data, production...)
	keys := map[string]string{}
	for _, merchant := range []string{"acme", "Acme"} {
		run(t, append([]string{"merchant", "create", merchant, "--name", "दुकान " + merchant}, folder...)...).done(t)
		keys[merchant] = createKey(t, data, merchant, "--label", "till").Key
	}
	run(t, "iplist", "add", "127.0.0.0/8", "--merchant", "acme", "--label", "कार्यालय", "--data", data).done(t)
	run(t, "iplist", "mode", "enforce", "--merchant", "acme", "--data", data).done(t)
	revoked, rotated := createKey(t, data, "acme"), createKey(t, data, "acme")
	next := rotate(t, data, "acme", rotated.ID, "24h")
	acme, other := caller{base: s.BaseURL, key: keys["acme"]}, caller{base: s.BaseURL, key: keys["Acme"]}
	var token string
	for i := range each {
		for _, c := range []caller{acme, other} {
			a := c.send(t, http.MethodPost, "/customers", fmt.Sprintf("object_reference_id=c%d%%40example.com&email_address=c%d%%40example.com&mobile_number=99887766%02d&first_name=आशा&options.get_client_auth_token=true", i, i%7, i%10))
			if a.status != http.StatusOK {
				t.Fatalf("create: %d %s", a.status, a.body)
			}
			token = field(t, strings.ReplaceAll(strings.ReplaceAll(a.body, `"client_auth_token":"`, "\ntoken "), `"`, " "), "token")
		}
		switch i % 5 {
		case 1:
			acme.send(t, http.MethodPost, fmt.Sprintf("/customers/c%d@example.com", i), "email_address=another%40example.com&mobile_number=8887776665")
		case 2:
			acme.send(t, http.MethodDelete, fmt.Sprintf("/customers/c%d@example.com", i), "")
		}
	}
	ask := func(base string) map[string]string {
		answers := map[string]string{}
		for merchant, key := range keys {
			c := caller{base: base, key: key}
			paths := []string{"?count=100", "?count=7&offset=5", "?email_address=c3%40example.com", "?email_address=another%40example.com", "?mobile_number=9988776604", "?mobile_number=8887776665&count=3"}
			for i := range each {
				paths = append(paths, fmt.Sprintf("/c%d@example.com", i), fmt.Sprintf("?object_reference_id=c%d%%40example.com", i))
			}
			for _, path := range paths {
				a := c.send(t, http.MethodGet, "/customers"+path, "")
				answers[merchant+path] = fmt.Sprintf("%d %s", a.status, a.body)
			}
		}
		for name, key := range map[string]string{"revoked": revoked.Key, "rotated": rotated.Key, "next": next.Key} {
			answers[name] = fmt.Sprint(caller{base: base, key: key}.list(t))
		}
		return answers
	}
	before := ask(s.BaseURL)
	anchors := map[string]auditOf{}
	eventually(t, answerTimeout, "the chain has begun", func() bool {
		anchors["acme"], anchors["Acme"] = mustVerifyAudit(t, nil, append([]string{"--merchant", "acme"}, folder...)...), mustVerifyAudit(t, nil, append([]string{"--merchant", "Acme"}, folder...)...)
		return anchors["acme"].Head != "" && anchors["Acme"].Head != ""
	})
	s.Kill(t)
	// No server is there to do any of this: it is under way while everything moves.
	run(t, "seal", "rotate", "--merchant", "acme", "--no-wait", "--data", data, "--master-key-file", key).done(t)
	run(t, "key", "revoke", revoked.ID, "--merchant", "acme", "--data", data).done(t)
	run(t, append([]string{"customer", "erase", "c0@example.com", "--merchant", "acme", "--yes"}, folder...)...).done(t)
	if pending := mustVerifyAudit(t, nil, append([]string{"--merchant", "acme"}, folder...)...).Pending; pending < 3 {
		t.Fatalf("%d events are pending, want those of a rotation, of a revocation and of an erasure", pending)
	}

	r := run(t, fromTo(data, database)...).done(t)
	mustMatch(t, "what copy prints", r.stdout, `^TABLE +ROWS +SHA-256 +COPY
merchants +2 +[0-9a-f]{64} +same
(?:[a-z_]+ +\d+ +[0-9a-f]{64} +same
)+instance +1 +[0-9a-f]{64} +same

Copied \d+ rows in \d+\.\d seconds, \d+ a second\. Both sides were read again, and are the same\.

Start the server on `+regexp.QuoteMeta(database)+` with the same master key, [0-9a-f]{16}:

  \S+ serve --env production --database-url `+regexp.QuoteMeta(database)+`

Merchants, API keys and customers are as they were\. Start none on `+regexp.QuoteMeta(data)+` any more: what is written there from now on is not in the database\.
$`)
	run(t, fromTo(data, database)...).refused(t, 1, `^the database holds a finished copy of this data folder already: start grahak serve on it, or copy into an empty database$`)

	p := start(t, nil, append(append([]string{"serve", "--database-url", database}, anyPorts...), production...)...)
	banner := p.banner(t)
	acme.base = field(t, banner, "Base URL")
	after := ask(acme.base)
	for _, answers := range []map[string]string{before, after} {
		// This customer was erased, and so is in no list; that one's key is revoked.
		delete(answers, "acme/c0@example.com")
		delete(answers, "acme?object_reference_id=c0%40example.com")
		delete(answers, "acme?count=100")
		delete(answers, "acme?count=7&offset=5")
		delete(answers, "revoked")
	}
	total := regexp.MustCompile(`"total":\d+`)
	for path, answer := range before {
		if strings.HasPrefix(path, "acme?") {
			before[path], after[path] = total.ReplaceAllString(answer, ""), total.ReplaceAllString(after[path], "")
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("answers (-before +after):\n%s", diff)
	}
	if got := (caller{base: acme.base, key: revoked.Key}).list(t); got != http.StatusUnauthorized {
		t.Errorf("the revoked key: %d", got)
	}
	if a := acme.send(t, http.MethodGet, "/customers/c0@example.com", ""); a.status != http.StatusNotFound {
		t.Errorf("the erased customer: %d %s", a.status, a.body)
	}
	left := each - each/5 - 1
	mustMatch(t, "the list", acme.send(t, http.MethodGet, "/customers?count=100", "").body, fmt.Sprintf(`"count":%d,.*"total":%d`, left, left))
	if a := acme.send(t, http.MethodPost, "/customers", newCustomer("c1%40example.com")); a.status != http.StatusBadRequest {
		t.Errorf("a reference that is taken: %d %s", a.status, a.body)
	}
	acme.create(t, "new")
	ops := caller{base: field(t, banner, "Operations")}
	if a := ops.send(t, http.MethodPost, "/client-auth-tokens/verify", "client_auth_token="+url.QueryEscape(token)); a.status != http.StatusOK {
		t.Errorf("a token from before: %d %s", a.status, a.body)
	}

	// The rotation ends, the events that were pending are ordered, and the chain goes on from where it was.
	eventually(t, answerTimeout, "everything is sealed under the new key, and in order", func() bool {
		status := runEnv(t, on(database), "seal", "status", "--merchant", "acme", "--json").done(t).stdout
		return strings.Contains(status, `"version":2,"oldest_version":2,`) && strings.Contains(status, `"state":"complete"`) &&
			mustVerifyAudit(t, on(database), append([]string{"--merchant", "acme"}, master...)...).Pending == 0
	})
	for merchant, anchor := range anchors {
		a := mustVerifyAudit(t, on(database), append([]string{"--merchant", merchant, "--anchor", anchor.Head}, master...)...)
		if merchant == "acme" && a.Head == anchor.Head {
			t.Errorf("the chain of %s has not gone on from %s", merchant, anchor.Head)
		}
	}
	again := ask(acme.base)
	for path := range before {
		if got := total.ReplaceAllString(again[path], ""); strings.HasPrefix(path, "acme?email") && got != before[path] {
			t.Errorf("%s after everything was sealed anew: %s, want %s", path, got, before[path])
		}
	}
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
}

// stallAt has whoever writes rows into a table of the database wait until the test lets go.
func stallAt(t *testing.T, cluster *postgres.Cluster, database, table string) (stalled func() bool, release func()) {
	t.Helper()
	cluster.Exec(t, database, `CREATE OR REPLACE FUNCTION stall() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END' LANGUAGE plpgsql;
		CREATE TRIGGER stall BEFORE INSERT ON `+table+` FOR EACH ROW EXECUTE FUNCTION stall()`)
	const waiting = `FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
	return func() bool { return len(cluster.QueryText(t, database, `SELECT 1 `+waiting)) > 0 }, func() {
		cluster.Exec(t, database, `SELECT pg_terminate_backend(pid) `+waiting)
		cluster.Exec(t, database, `DROP TRIGGER stall ON `+table)
	}
}

// TestCopyEndsAnywhere checks that a copy that is killed or interrupted goes on where it was, that nothing is served from
// what it has left, and that no server starts on the folder while it works.
func TestCopyEndsAnywhere(t *testing.T) {
	cluster := postgres.Shared(t)
	database := cluster.Database(t)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 20)
	settle(t, s.Data)
	s.Stop(t)
	runEnv(t, on(database), "migrate").done(t)

	const unfinished = "^the database holds a copy that is not finished: run the same `grahak copy` again, which goes on where it has ended$"
	copied := func() string {
		return cluster.QueryText(t, database, `SELECT coalesce(sum(row_count), 0) FROM copy_progress`)[0]
	}
	last := "0"
	for _, end := range []struct {
		table string
		sig   os.Signal // nil for an end by the database
	}{{"customers", syscall.SIGKILL}, {"events", os.Interrupt}, {"events", nil}, {"event_chain", syscall.SIGKILL}} {
		table, sig := end.table, end.sig
		stalled, release := stallAt(t, cluster, database, table)
		p := start(t, nil, fromTo(s.Data, database)...)
		eventually(t, answerTimeout, "the copy writes "+table, stalled)
		run(t, serve(s.Data)...).refused(t, 1, `^another grahak serve, or a seal rotate, is using the data folder .*: stop it, or give another folder with --data$`)
		run(t, fromTo(s.Data, database)...).refused(t, 1, `^a grahak serve, or another command that works alone, is using the data folder .*: stop it first$`)
		if sig != nil {
			p.stop(t, sig)
			release()
		} else {
			release()
			p.wait(t)
		}
		says := map[os.Signal]string{
			syscall.SIGKILL: `^$`,
			os.Interrupt:    `^grahak: interrupted: run the same command again, which goes on where it has ended\n$`,
			nil:             `^grahak: the database is not available: .* \(SQLSTATE 57P01\).*; run the same command again, which goes on where it has ended\n$`,
		}[sig]
		mustMatch(t, "what the copy says at its end", p.err.String(), says)
		if status := p.cmd.ProcessState.ExitCode(); (status == 1) != (sig != syscall.SIGKILL) {
			t.Errorf("exit status %d after %v", status, sig)
		}
		runEnv(t, on(database), serve(s.Data)...).refused(t, 1, unfinished)
		runEnv(t, on(database), "merchant", "list").refused(t, 1, unfinished)
		last = copied()
	}

	r := run(t, append(fromTo(s.Data, database), "--json")...).done(t)
	var report struct {
		Resumed   int64 `json:"resumed_rows"`
		Copied    int64 `json:"copied_rows"`
		Restarted bool  `json:"restarted"`
		Same      bool  `json:"same"`
		Tables    []struct {
			Table, SHA256 string
			Rows          int64
			CopyRows      int64  `json:"copy_rows"`
			CopySHA256    string `json:"copy_sha256"`
			Same          bool
		} `json:"tables"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	if fmt.Sprint(report.Resumed) != last || last == "0" || report.Restarted || !report.Same || report.Copied == 0 {
		t.Errorf("of %s rows that were there, the last copy went on with %d: %s", last, report.Resumed, r.stdout)
	}
	for _, table := range report.Tables {
		if !table.Same || table.Rows != table.CopyRows || table.SHA256 != table.CopySHA256 || len(table.SHA256) != 64 {
			t.Errorf("the report of a table is %+v", table)
		}
	}

	// A sandbox keeps its master key in the folder.
	p := start(t, on(database), serve(s.Data)...)
	demo := caller{base: field(t, p.banner(t), "Base URL"), key: s.Key}
	for i := range 20 {
		if a := demo.send(t, http.MethodGet, fmt.Sprintf("/customers/c%d", i), ""); a.status != http.StatusOK {
			t.Errorf("customer %d: %d %s", i, a.status, a.body)
		}
	}
}

// TestCopyNextStep checks that what copy prints at the end can be pasted, and works, in a sandbox.
func TestCopyNextStep(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "it's my data"))
	customers(t, s, 3)
	s.Stop(t)
	out := run(t, fromTo(s.Data, database)...).done(t).stdout
	mustMatch(t, "what copy prints", out, `(?m)^Start the server on .* with the same master key, [0-9a-f]{16}, which this sandbox keeps in .*/it's my data/master\.key:$`)
	p := startCommand(t, exec.Command("bash", "-c", "exec "+strings.TrimSpace(block(t, out, " serve "))+" "+strings.Join(anyPorts, " ")))
	demo := caller{base: field(t, p.banner(t), "Base URL"), key: s.Key}
	if a := demo.send(t, http.MethodGet, "/customers/c2", ""); a.status != http.StatusOK {
		t.Errorf("a customer from before: %d %s", a.status, a.body)
	}
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
}

// TestCopyRefuses checks what copy does not do, and that it says so.
func TestCopyRefuses(t *testing.T) {
	database := postgres.Shared(t).Database(t)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	from, to := "sqlite://"+s.Data, "postgres://grahak@127.0.0.1:1/grahak"
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"beside a server":        {[]string{"--from", from, "--to", database}, 1, `^a grahak serve, or another command that works alone, is using the data folder .*/data: stop it first$`},
		"PostgreSQL twice":       {[]string{"--from", to, "--to", database}, 2, `^grahak copy moves a data folder to PostgreSQL; to copy one PostgreSQL database into another, use pg_dump and pg_restore\. See `},
		"SQLite twice":           {[]string{"--from", from, "--to", from}, 2, `^grahak copy moves a data folder to PostgreSQL; to copy a folder, use grahak backup and grahak restore\. See `},
		"backwards":              {[]string{"--from", database, "--to", from}, 2, `^--from is the data folder, .* and --to the PostgreSQL database: `},
		"nothing to copy to":     {[]string{"--from", from}, 2, `^missing --to=URL\. See grahak copy --help\.$`},
		"nothing in the flag":    {[]string{"--from", "", "--to", database}, 2, `^--from and --to are needed: `},
		"no folder":              {[]string{"--from", from + "-not", "--to", database}, 1, `^there is no data in ".*/data-not": run .grahak serve. first, or give the right folder with --from$`},
		"a folder that is empty": {[]string{"--from", "sqlite://" + t.TempDir(), "--to", database}, 1, `^there is no data in `},
		"no URL":                 {[]string{"--from", s.Data, "--to", database}, 2, `^--from: this is not the URL of a database`},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, append([]string{"copy"}, c.args...)...).refused(t, c.status, c.says)
		})
	}
	s.Stop(t)
	run(t, "copy", "--from", from, "--to", to).refused(t, 1, `^the database server at 127\.0\.0\.1:1 cannot be reached: start it, or give the right address with --to \(`)
	r := mustKeepSecret(t, run(t, "copy", "--from", from, "--to", "postgres://grahak:hunter2@127.0.0.1:1/grahak"))
	mustMatch(t, "the warning", r.stderr, `^grahak: warning: the password in --to can be seen by every user of this machine while this runs: set GRAHAK_TO instead, `)
	mustKeepSecret(t, runEnv(t, []string{"GRAHAK_TO=postgres://grahak:hunter2@127.0.0.1:1/grahak"}, "copy", "--from", from)).refused(t, 1, `cannot be reached`)

	// A database in which a sandbox was started is no place for a copy.
	p := start(t, on(database), serve(filepath.Join(t.TempDir(), "other"))...)
	p.banner(t)
	run(t, fromTo(s.Data, database)...).refused(t, 1, `^the database holds data of its own: copy into an empty one$`)
}
