// Package webhook_test has the real server send events to receivers that behave
// well and badly, ends and stops the server meanwhile, and compares what arrives
// with the events in the database.
package webhook_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql" //nolint:depguard // It looks into the database file beside the server.
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" //nolint:depguard // As above.

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

func TestMain(m *testing.M) {
	// The tests mostly wait for what takes its time, however many processors there are.
	flag.Parse()
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	os.Exit(postgres.Main(func() int { return testkit.Main(m) }))
}

// long is how many times as much is done when GRAHAK_LONG is set.
func long(factor int) int {
	if os.Getenv("GRAHAK_LONG") != "" {
		return factor
	}
	return 1
}

// bound is when what is waited for must have happened, however busy the machine.
const bound = 4 * time.Minute

// instance is a database with the servers on it.
type instance struct {
	flags []string // of every command
	serve []string // of servers besides
	data  string   // the data folder of the one server on SQLite, else empty
	// query runs SQL on the database and returns the rows as text, the columns of each
	// parted by "|".
	query func(t testing.TB, sql string) []string
}

// engines is what an instance can be made on: a sandbox on SQLite, and production
// on PostgreSQL.
var engines = map[string]func(t *testing.T) *instance{
	"sqlite": func(t *testing.T) *instance {
		data := filepath.Join(t.TempDir(), "data")
		return &instance{flags: []string{"--data", data}, data: data, query: func(t testing.TB, query string) []string {
			t.Helper()
			return mustQuery(t, filepath.Join(data, "grahak.db"), query)
		}}
	},
	"postgres": func(t *testing.T) *instance {
		c := postgres.Shared(t)
		database, masterKey := c.Database(t), filepath.Join(t.TempDir(), "master.key")
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		if err := os.WriteFile(masterKey, []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			t.Fatal(err)
		}
		i := &instance{
			flags: []string{"--database-url", database, "--master-key-file", masterKey},
			// Many instances share the cluster.
			serve: []string{"--env", "production", "--webhook-allow", "127.0.0.1", "--database-connections", "8"},
			query: func(t testing.TB, query string) []string {
				t.Helper()
				return c.QueryText(t, database, query)
			},
		}
		testkit.Run(t, "migrate", "--database-url", database)
		return i
	},
}

// onEngines runs a test on each engine, beside each other.
func onEngines(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Parallel()
	for name, make := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

// mustQuery runs SQL on a SQLite file that servers may be using.
func mustQuery(t testing.TB, file, query string) (list []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%v in: %s", err, query)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = v.String
		}
		list = append(list, strings.Join(texts, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%v in: %s", err, query)
	}
	return list
}

// MustStart starts a server that trusts the receivers' certificates.
func (i *instance) MustStart(t testing.TB, rs ...*receiver) *testkit.Server {
	t.Helper()
	var env []string
	if len(rs) > 0 && rs[0].certificate != "" {
		env = append(env, "SSL_CERT_FILE="+rs[0].certificate)
	}
	data := i.data
	if data == "" {
		data = t.TempDir()
	}
	return testkit.StartEnv(t, data, env, append(append([]string{}, i.serve...), i.flags...)...)
}

// MustRun runs a command of the operator and returns what it printed.
func (i *instance) MustRun(t testing.TB, args ...string) []byte {
	t.Helper()
	return testkit.Run(t, append(args, i.flags...)...)
}

// run is MustRun for a command that may fail. It returns what it printed on
// standard error, too.
func (i *instance) run(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, testkit.Program(t), append(args, i.flags...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = testkit.Env(), &out, &complaint
	err = cmd.Run()
	return out.String(), complaint.String(), err
}

// merchant is one with a key.
type merchant struct{ Merchant, Key string }

// MustMerchant makes a merchant and a key for it.
func (i *instance) MustMerchant(t testing.TB, id string) merchant {
	t.Helper()
	i.MustRun(t, "merchant", "create", id)
	return mustDecode[merchant](t, i.MustRun(t, "key", "create", "--merchant", id, "--json"))[0]
}

// mustDecode decodes JSON, one object a line.
func mustDecode[T any](t testing.TB, text []byte) (list []T) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, v)
	}
	return list
}

// event is one of the database.
type event struct {
	Merchant, Subject, ID, Type string
	Position                    int64
	Changed                     []string
	At                          string
}

// MustEvents returns a merchant's events in order.
func (i *instance) MustEvents(t testing.TB, merchant string) []event {
	t.Helper()
	return mustDecode[event](t, i.MustRun(t, "audit", "events", "--merchant", merchant, "--json"))
}

// endpoint is what is shown of a webhook.
type endpoint struct {
	ID       string
	State    string
	Types    []string
	Position int64
	Secret   string
}

// MustWebhook returns an endpoint as it is listed.
func (i *instance) MustWebhook(t testing.TB, h *hook) endpoint {
	t.Helper()
	for _, e := range mustDecode[endpoint](t, i.MustRun(t, "webhook", "list", "--merchant", h.merchant.Merchant, "--json")) {
		if e.ID == h.id {
			return e
		}
	}
	t.Fatalf("webhook %s is not listed", h.id)
	return endpoint{}
}

// attempt is a line of the delivery log.
type attempt struct {
	Event     string
	Attempt   int64
	Delivered bool
	Status    int
	Failure   string
	Millis    int64 `json:"duration_ms"`
}

// MustLog returns an endpoint's delivery log, the newest first.
func (i *instance) MustLog(t testing.TB, h *hook, args ...string) []attempt {
	t.Helper()
	return mustDecode[attempt](t, i.MustRun(t, append([]string{"webhook", "log", h.id, "--merchant", h.merchant.Merchant, "--json"}, args...)...))
}

// client speaks to servers as a merchant: to one until it does not answer, then to
// the next.
type client struct {
	http *http.Client
	key  string

	mu    sync.Mutex
	bases []string
}

// newClient returns a client that is closed when the test ends.
func newClient(t testing.TB, m merchant, servers ...*testkit.Server) *client {
	c := &client{key: m.Key, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
	c.join(servers...)
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// join makes known to the client where else it may ask.
func (c *client) join(servers ...*testkit.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range servers {
		c.bases = append(c.bases, s.BaseURL)
	}
}

// base returns where the client asks now, after giving up another place if that is
// still the one.
func (c *client) base(given string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bases[0] == given {
		c.bases = append(c.bases[1:], given)
	}
	return c.bases[0]
}

// do sends a form and returns the answer's status and the id that is in it.
func (c *client) do(ctx context.Context, method, path string, form url.Values) (status int, id string, err error) {
	base := c.base("")
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth(c.key, "")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.http.Do(req)
	if err != nil {
		c.base(base)
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", err
	}
	var customer struct{ ID string }
	_ = json.Unmarshal(text, &customer) // Erases have no body.
	return res.StatusCode, customer.ID, nil
}

// MustCreate makes the n-th customer and returns its id.
func (c *client) MustCreate(t testing.TB, n int) string {
	t.Helper()
	status, id, err := c.do(t.Context(), http.MethodPost, "/customers", form(n))
	if status != http.StatusOK || id == "" || err != nil {
		t.Fatalf("a create is answered %d (%v)", status, err)
	}
	return id
}

// MustUpdate gives a customer another name.
func (c *client) MustUpdate(t testing.TB, id, name string) {
	t.Helper()
	if status, _, err := c.do(t.Context(), http.MethodPost, "/customers/"+id, url.Values{"first_name": {name}}); status != http.StatusOK || err != nil {
		t.Fatalf("an update is answered %d (%v)", status, err)
	}
}

// form returns the fields of the n-th customer of a test.
func form(n int) url.Values {
	return url.Values{
		"object_reference_id": {fmt.Sprintf("person+%d@example.com", n)},
		"mobile_number":       {fmt.Sprintf("98%08d", n)},
		"first_name":          {"Asha"},
	}
}

// await returns when done returns true, and fails the test when that takes too
// long.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	testkit.Await(t, what, bound, done)
}
