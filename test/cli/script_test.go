package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// scene is where the scripts in testdata run: without a server or beside one, and on a database in a data folder or on
// PostgreSQL.
type scene struct{ beside, postgres bool }

// TestScripts runs the scripts in testdata in every scene, each on a sandbox of its own.
func TestScripts(t *testing.T) {
	for name, s := range map[string]scene{
		"alone":                         {},
		"beside a server":               {beside: true},
		"PostgreSQL":                    {postgres: true},
		"PostgreSQL, beside the server": {postgres: true, beside: true},
	} {
		t.Run(name, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata",
				RequireUniqueNames:  true,
				RequireExplicitExec: true,
				Setup:               func(env *testscript.Env) error { return setUp(env, s) },
				Condition: func(cond string) (bool, error) {
					switch cond {
					case "beside":
						return s.beside, nil
					case "postgres":
						return s.postgres, nil
					}
					return false, fmt.Errorf("unknown condition %q", cond)
				},
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"refuse":  cmdRefuse,
					"keyjson": cmdKeyJSON,
					"equal":   cmdEqual,
					"after":   cmdAfter,

					"stdoutid": cmdStdoutID,
				},
			})
		})
	}
}

// scriptCustomers is how many customers the demo merchant of a script has.
const scriptCustomers = 11

// setUp makes the sandbox in $WORK/data, where commands look, or on a database that the environment names, with its
// customers, and puts the program on the path.
func setUp(env *testscript.Env, s scene) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the scripts do not run under go test")
	}
	data := filepath.Join(env.WorkDir, "data")
	var database []string
	if s.postgres {
		url := postgres.Shared(tb).Database(tb)
		database = []string{"GRAHAK_DATABASE_URL=" + url}
		env.Setenv("GRAHAK_DATABASE_URL", url)
	}
	server := testkit.StartEnv(tb, data, database)
	demo := caller{base: server.BaseURL, key: server.Key}
	first := demo.send(tb, http.MethodPost, "/customers", newCustomer("c01@example.com")+"&email_address=asha@example.com&first_name=Asha&last_name=Rao&metadata[plan]=gold&metadata[crm+id]=<7>")
	var customer struct{ ID string }
	if err := json.Unmarshal([]byte(first.body), &customer); err != nil || first.status != http.StatusOK {
		return fmt.Errorf("create a customer: %d %s (%w)", first.status, first.body, err)
	}
	for i := 2; i <= scriptCustomers; i++ {
		demo.create(tb, fmt.Sprintf("c%02d@example.com", i))
	}
	if !s.beside {
		server.Stop(tb)
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	env.Defer(hook.Close)
	env.Setenv("HOOK", hook.URL)
	env.Setenv("CUSTOMER_ID", customer.ID)
	env.Setenv("GRAHAK_DATA", data)
	env.Setenv("PATH", filepath.Dir(testkit.Program(tb))+string(os.PathListSeparator)+env.Getenv("PATH"))
	return nil
}

// cmdRefuse runs "refuse STATUS PATTERN COMMAND…" and checks that the command ends with the status, prints nothing on
// standard output and one sentence that matches the pattern on standard error.
func cmdRefuse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refuse STATUS PATTERN COMMAND…")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	r := result{}
	err = ts.Exec(args[2], args[3:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	r.stdout, r.stderr = ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if why := r.notRefused(status, args[1]); why != "" {
		ts.Fatalf("%s: exit status %d\nstdout: %s\nstderr: %s", why, r.status, r.stdout, r.stderr)
	}
}

// cmdKeyJSON runs "keyjson MERCHANT NAME": it checks that the last command printed a new key of the merchant in JSON,
// and sets $NAME to the key and $NAME_ID to its id.
func cmdKeyJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keyjson MERCHANT NAME")
	}
	k, err := parseKey(ts.ReadFile("stdout"))
	ts.Check(err)
	if k.Merchant != args[0] {
		ts.Fatalf("the key is of merchant %s", k.Merchant)
	}
	if why := notKey(k.Key, "sandbox"); why != "" {
		ts.Fatalf("%q is no key: %s", k.Key, why)
	}
	ts.Setenv(args[1], k.Key)
	ts.Setenv(args[1]+"_ID", k.ID)
}

// newKey is what `key create --json` prints.
type newKey struct {
	ID        string `json:"id"`
	Key       string `json:"key"`
	Merchant  string `json:"merchant"`
	Prefix    string `json:"prefix"`
	CreatedAt string `json:"created_at"`
}

// parseKey reads a key that was printed as JSON, which has exactly the fields of newKey.
func parseKey(text string) (newKey, error) {
	var fields map[string]string
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return newKey{}, fmt.Errorf("%w in %q", err, text)
	}
	if diff := cmp.Diff([]string{"created_at", "id", "key", "merchant", "prefix"}, slices.Sorted(maps.Keys(fields))); diff != "" {
		return newKey{}, fmt.Errorf("fields of a new key (-want +got):\n%s", diff)
	}
	k := newKey{fields["id"], fields["key"], fields["merchant"], fields["prefix"], fields["created_at"]}
	for _, check := range []struct{ value, pattern string }{
		{k.ID, `^key_[0-9a-z]{16}$`},
		{k.CreatedAt, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`},
		{k.Key, `^` + regexp.QuoteMeta(k.Prefix)},
		{k.Prefix, `^gk_(sandbox|production)_[0-9A-Za-z]{4}$`},
	} {
		if !regexp.MustCompile(check.pattern).MatchString(check.value) {
			return newKey{}, fmt.Errorf("%q does not match %s", check.value, check.pattern)
		}
	}
	return k, nil
}

// createKey makes a key with the command line.
func createKey(tb testing.TB, data, merchant string, flags ...string) newKey {
	tb.Helper()
	r := run(tb, append([]string{"key", "create", "--json", "--merchant", merchant, "--data", data}, flags...)...).done(tb)
	k, err := parseKey(r.stdout)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// cmdEqual runs "equal A B".
func cmdEqual(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: equal A B")
	}
	if (args[0] == args[1]) == neg {
		ts.Fatalf("%q and %q", args[0], args[1])
	}
}

// cmdAfter sets $AFTER to the cursor that the last command told of on standard error.
func cmdAfter(ts *testscript.TestScript, neg bool, args []string) {
	found := regexp.MustCompile(`--after (\S+)`).FindStringSubmatch(ts.ReadFile("stderr"))
	if neg || len(args) != 0 || found == nil {
		ts.Fatalf("usage: after; there is no cursor in %q", ts.ReadFile("stderr"))
	}
	ts.Setenv("AFTER", found[1])
}

// cmdStdoutID runs "stdoutid NAME" and sets $NAME to the id of the first object that the last command printed in JSON.
func cmdStdoutID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stdoutid NAME")
	}
	var object struct{ ID string }
	ts.Check(json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))).Decode(&object))
	ts.Setenv(args[0], object.ID)
}
