package cli_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// instance is a place of its own that keeps customers of demo.
type instance struct {
	data string
	env  []string
	key  string
}

// newInstance starts a sandbox on a data folder, or on PostgreSQL, and stops it.
func newInstance(tb testing.TB, onPostgres bool) instance {
	tb.Helper()
	i := instance{data: filepath.Join(tb.TempDir(), "data")}
	if onPostgres {
		i.env = on(postgres.Shared(tb).Database(tb))
	}
	s := testkit.StartEnv(tb, i.data, i.env)
	i.key = s.Key
	s.Stop(tb)
	return i
}

// run runs a command on the merchant demo of the instance.
func (i instance) run(tb testing.TB, args ...string) result {
	tb.Helper()
	return runEnv(tb, i.env, append(args, "--merchant", "demo", "--data", i.data)...)
}

// TestMove moves customers from one empty instance to another, over both databases and in both formats: ids, times and
// metadata stay, and customers that were brought are found and listed as others are.
func TestMove(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var brought strings.Builder
	brought.WriteString("id,object_reference_id,mobile_number,first_name,date_created,last_updated,metadata.note\n")
	for n := range 1200 {
		id := ""
		if n%3 > 0 {
			id = fmt.Sprintf("%s%dX", []string{"", "cst_", "cth_"}[n%3], n)
		}
		fmt.Fprintf(&brought, "%s,person+%d@example.com,98%08d,\"Asha \"\"%d\"\", née\",2019-03-17T14:%02d:%02d.%06dZ,2021-01-01T00:00:00.000001Z,\"<%d>\"\n", id, n, n, n, n/60%60, n%60, n, n)
	}
	first := newInstance(t, false)
	s := testkit.Start(t, first.data)
	demo := caller{base: s.BaseURL, key: first.key}
	demo.create(t, "made@example.com")
	first.run(t, "import", file("brought.csv", brought.String())).done(t)
	s.Stop(t)
	want := first.run(t, "export").done(t).stdout
	if n := strings.Count(want, "\n"); n != 1202 {
		t.Fatalf("the export has %d lines, want 1202", n)
	}
	page := first.run(t, "customer", "list", "--count", "100", "--json").stdout
	from := first
	for n, onPostgres := range []bool{true, true, false} {
		format := []string{"ndjson", "csv"}[n%2]
		path := filepath.Join(dir, fmt.Sprint("moved", n))
		from.run(t, "export", "--format", format, "--gzip", "--output", path).done(t)
		to := newInstance(t, onPostgres)
		mustMatch(t, "import", to.run(t, "import", path).done(t).stdout, `: 1201 created, 0 updated, 0 skipped, 0 rejected\.\n$`)
		if diff := cmp.Diff(want, to.run(t, "export").done(t).stdout); diff != "" {
			t.Fatalf("move %d: customers (-want +got):\n%s", n, diff)
		}
		// They come in the same order, newest first, and are found by what they have.
		again := to.run(t, "customer", "list", "--count", "100", "--json").stdout
		revisions := regexp.MustCompile(`"revision":\d+`)
		if diff := cmp.Diff(revisions.ReplaceAllString(page, ""), revisions.ReplaceAllString(again, "")); diff != "" {
			t.Errorf("move %d: the first page (-want +got):\n%s", n, diff)
		}
		mustMatch(t, "the customer that was found", to.run(t, "customer", "list", "--mobile", "9800000700", "--json").stdout, `^\{"id":"cst_700X","object_reference_id":"person\+700@example\.com",[^\n]*\n$`)
		from = to
	}
}

// TestImportBesideServer checks that an import beside a server is the server's work: the command needs no master key, the
// customers are found at once, and a server that stops takes its socket away.
func TestImportBesideServer(t *testing.T) {
	dir := t.TempDir()
	rows := filepath.Join(dir, "rows.csv")
	if err := os.WriteFile(rows, []byte("object_reference_id,mobile_number\nasha@example.com,9988776655\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// No system takes a path of this length for a socket.
	data := filepath.Join(dir, strings.Repeat("deep/", 30), "data")
	key := masterKeyFile(t)
	s := testkit.Start(t, data, "--env", "production", "--master-key-file", key, "--default-country-code", "44")
	run(t, "merchant", "create", "acme", "--data", data, "--master-key-file", key).done(t)
	acme := caller{base: s.BaseURL, key: createKey(t, data, "acme").Key}
	mustMatch(t, "a dry run", run(t, "import", rows, "-m", "acme", "--data", data, "--dry-run").done(t).stdout, `^A dry run of 1 row in .*: 1 would be created, 0 updated, 0 skipped, 0 rejected\. Nothing was written\.\n$`)
	mustMatch(t, "an import", run(t, "import", rows, "-m", "acme", "--data", data).done(t).stdout, `^Imported 1 row in .*: 1 created, 0 updated, 0 skipped, 0 rejected\.\n$`)
	mustMatch(t, "the customer", acme.send(t, http.MethodGet, "/customers/asha@example.com", "").body, `"mobile_country_code":"44","mobile_number":"9988776655"`)
	mustMatch(t, "the event", run(t, "audit", "events", "-m", "acme", "--type", "customer.created", "--data", data).stdout, ` cli:\S+`)
	done := regexp.MustCompile(`"msg":"import done","merchant":"acme","actor":"cli:[^"]+","created":1,"updated":0,"skipped":0,"rejected":0\}`)
	eventually(t, answerTimeout, "the log tells of the import", func() bool { return done.MatchString(s.Log(t)) })

	// A socket that a server left behind is replaced, and one that stops leaves none.
	socket := filepath.Join(data, "control.sock")
	s.Kill(t)
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("a server that was killed has taken its socket away (%v): then this test shows nothing", err)
	}
	run(t, "import", rows, "-m", "acme", "--data", data).refused(t, 1, "the data is of production, which keeps no master key itself, and none was given")
	mustMatch(t, "an import without a server", run(t, "import", rows, "-m", "acme", "--data", data, "--master-key-file", key).done(t).stdout, `^The file was imported before, `)
	s = testkit.Start(t, data, "--env", "production", "--master-key-file", key)
	mustMatch(t, "an import beside the next server", run(t, "import", rows, "-m", "acme", "--data", data).done(t).stdout, `^The file was imported before, `)
	run(t, "import", rows, "-m", "nobody", "--data", data).refused(t, 1, `^there is no merchant "nobody"`)
	s.Stop(t)
	mustNotExist(t, socket)
	mustNotExist(t, socket+".new")
}

// TestImportFindsFolderInUse checks what an import says of a folder that another command works on, which is no server.
func TestImportFindsFolderInUse(t *testing.T) {
	data := newInstance(t, false).data
	lock, err := os.OpenFile(filepath.Join(data, "server.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	run(t, "import", "rows.csv", "-m", "demo", "--data", data).refused(t, 1, "^the data folder "+regexp.QuoteMeta(data)+" is in use, by a command that works alone, or by a server that takes no work from commands")
	run(t, "import", "rows.csv", "-m", "demo", "--data", filepath.Join(data, "none")).refused(t, 1, "^there is no data in ")
}

// TestImportLosesServer checks that a server which is gone is told from one that has refused something.
func TestImportLosesServer(t *testing.T) {
	i := newInstance(t, false)
	rows := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(rows, []byte("object_reference_id,mobile_number\nasha@example.com,9988776655\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(i.data, "server.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// This one hangs up on everybody.
	l, err := net.Listen("unix", filepath.Join(i.data, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	i.run(t, "import", rows).refused(t, 1, "^the server has stopped, or does not answer")
}

// TestImportInterrupted ends an import in the middle, or the server that does it, as an operator does. What is done is told,
// and how to go on.
func TestImportInterrupted(t *testing.T) {
	var text strings.Builder
	text.WriteString("object_reference_id,mobile_number\nbad,x\n")
	for n := range 100_000 {
		fmt.Fprintf(&text, "person+%d@example.com,98%08d\n", n, n)
	}
	rows := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(rows, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, served := range map[string]bool{"the command": false, "the server": true} {
		t.Run(name, func(t *testing.T) {
			data, rejected := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "rejected.csv")
			s := testkit.Start(t, data)
			if !served {
				s.Stop(t)
			}
			p := start(t, nil, "import", rows, "-m", "demo", "--data", data, "--rejected", rejected)
			eventually(t, startTimeout, "the first rows are done", func() bool {
				info, err := os.Stat(rejected)
				return err == nil && info.Size() > 0
			})
			why := "interrupted"
			if served {
				why = `the server has stopped, or does not answer \(.*\)`
				s.Stop(t)
			} else if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			status := p.wait(t)
			r := result{status, "", p.err.String()}
			r.refused(t, 1, `^`+why+`; \d+ rows are done: run the same command again, which goes on behind them$`)
			mustMatch(t, "what was printed", p.out.String(), `^line 2, mobile_number \(1 character\): It is not 1 to 16 digits\.\n$`)
		})
	}
}

// TestImportWide imports rows of few bytes by a server, with a header so long that a dozen of them together would be more
// than it takes at once: each row has all keys of the header.
func TestImportWide(t *testing.T) {
	i := newInstance(t, false)
	testkit.Start(t, i.data)
	const columns, rows = 100, 12
	var file strings.Builder
	file.WriteString("object_reference_id,mobile_number")
	for n := range columns {
		fmt.Fprintf(&file, ",metadata.%d%s", n, strings.Repeat("\x01", 10_000))
	}
	for n := range rows {
		fmt.Fprintf(&file, "\nwide%d@example.com,98%08d%s", n, n, strings.Repeat(",", columns))
	}
	path := filepath.Join(t.TempDir(), "wide.csv")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got := i.run(t, "import", path)
	if want := fmt.Sprintf("0 created, 0 updated, 0 skipped, %d rejected.", rows); got.status != 1 || !strings.Contains(got.stdout, want) {
		t.Errorf("import: exit status %d, stdout %q, stderr %q; want 1 and %q", got.status, got.stdout, got.stderr, want)
	}
}
