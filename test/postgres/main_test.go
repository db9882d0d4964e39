// Package postgres_test runs nodes of the real server on PostgreSQL, takes nodes
// and databases away from them, and looks at what clients and the database see of
// it.
package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

func TestMain(m *testing.M) {
	os.Exit(postgres.Main(func() int { return testkit.Main(m) }))
}

// long is how many times as much is done when GRAHAK_LONG is set.
func long(factor int) int {
	if os.Getenv("GRAHAK_LONG") != "" {
		return factor
	}
	return 1
}

const (
	// answerBound is when a request must have been answered, whatever the database
	// does.
	answerBound = 10 * time.Second
	// recoveryBound is when everything must work again after the database does.
	recoveryBound = time.Minute
)

// deployment is what the nodes on a database share.
type deployment struct {
	cluster   *postgres.Cluster
	database  string // its URL on the cluster itself
	masterKey string // the file
}

// MustDeploy makes an empty database of the cluster ready for nodes.
func MustDeploy(t testing.TB, c *postgres.Cluster) *deployment {
	t.Helper()
	d := &deployment{cluster: c, database: c.Database(t), masterKey: filepath.Join(t.TempDir(), "master.key")}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.masterKey, []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, "migrate", "--database-url", d.database)
	return d
}

// MustRun runs a command of the operator on the database, and returns what it
// printed.
func (d *deployment) MustRun(t testing.TB, args ...string) []byte {
	t.Helper()
	return testkit.Run(t, append(args, "--database-url", d.database, "--master-key-file", d.masterKey)...)
}

// apiKey is a merchant's key.
type apiKey struct {
	ID, Key  string
	Merchant string
}

// MustMerchant makes a merchant and a key for it.
func (d *deployment) MustMerchant(t testing.TB, id string) apiKey {
	t.Helper()
	d.MustRun(t, "merchant", "create", id)
	return d.MustKey(t, id)
}

// MustKey makes a key of a merchant.
func (d *deployment) MustKey(t testing.TB, merchant string) (key apiKey) {
	t.Helper()
	out := d.MustRun(t, "key", "create", "--merchant", merchant, "--json")
	if err := json.Unmarshal(out, &key); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return key
}

// node starts a server on the database, by way of url unless that is empty. What
// asks it with wrong keys again and again is not to have others refused.
func (d *deployment) node(t testing.TB, url string, args ...string) *testkit.Server {
	t.Helper()
	if url == "" {
		url = d.database
	}
	return testkit.Start(t, t.TempDir(), append([]string{"--env", "production", "--database-url", url, "--master-key-file", d.masterKey, "--rate-limit-failed", "0"}, args...)...)
}

// query returns the rows of a query of the database.
func (d *deployment) query(t testing.TB, sql string) []string {
	t.Helper()
	return d.cluster.QueryText(t, d.database, sql)
}

// client speaks to a node with a key.
type client struct {
	http *http.Client
	base string
	key  string
}

// newClient returns a client that is closed when the test ends. It gives up on a
// request only long after a node should have answered.
func newClient(t testing.TB, base, key string) *client {
	c := &client{base: base, key: key, http: &http.Client{Timeout: 3 * answerBound, Transport: &http.Transport{DisableCompression: true}}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// answer is what a node said.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration // less the time in which nothing ran
}

// is reports whether the answer has a status and a body.
func (a answer) is(w wireCase) bool { return a.status == w.Status && a.body == string(w.Body) }

// customer decodes the answer's body.
func (a answer) customer() (c customer, err error) {
	err = json.Unmarshal([]byte(a.body), &c)
	return c, err
}

// do sends a request, with form as its body unless that is nil, and under an id
// unless that is empty.
func (c *client) do(ctx context.Context, method, path string, form url.Values, id string) (answer, error) {
	header := http.Header{}
	if id != "" {
		header.Set("X-Request-Id", id)
	}
	return c.send(ctx, method, path, form, header)
}

// send is do with other headers.
func (c *client) send(ctx context.Context, method, path string, form url.Values, header http.Header) (answer, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, header)
	if c.key != "" {
		req.SetBasicAuth(c.key, "")
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	begin, standstill := time.Now(), testkit.Standstill()
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text), time.Since(begin) - standstill()}, err
}

// create sends a new customer.
func (c *client) create(ctx context.Context, form url.Values) (answer, error) {
	return c.do(ctx, http.MethodPost, "/customers", form, "")
}

// get reads one customer by id or reference.
func (c *client) get(ctx context.Context, id string) (answer, error) {
	return c.do(ctx, http.MethodGet, "/customers/"+url.PathEscape(id), nil, "")
}

// customer is the object of the wire.
type customer struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Reference   string  `json:"object_reference_id"`
	CountryCode string  `json:"mobile_country_code"`
	Mobile      string  `json:"mobile_number"`
	Email       *string `json:"email_address"`
	FirstName   *string `json:"first_name"`
	LastName    *string `json:"last_name"`
	Created     string  `json:"date_created"`
	Updated     string  `json:"last_updated"`
}

// form returns the fields of the n-th new customer of a test.
func form(n int64) url.Values {
	return url.Values{
		"object_reference_id": {fmt.Sprintf("person+%d@example.com", n)},
		"mobile_number":       {fmt.Sprintf("98%08d", n)},
		"email_address":       {fmt.Sprintf("person.%d@example.com", n)},
		"first_name":          {"Asha"},
		"last_name":           {fmt.Sprintf("Rao %d", n)},
	}
}

// made returns the customer that the form makes, with what only the server knows
// taken from got.
func made(form url.Values, got customer) customer {
	field := func(name string) *string {
		value := form.Get(name)
		return &value
	}
	return customer{
		ID: got.ID, Object: "customer", Reference: form.Get("object_reference_id"), CountryCode: "91",
		Mobile: form.Get("mobile_number"), Email: field("email_address"), FirstName: field("first_name"), LastName: field("last_name"),
		Created: got.Created, Updated: got.Created,
	}
}

// wireCase is a decided answer of the wire contract.
type wireCase struct {
	Status int
	Body   json.RawMessage
}

// MustWireCases returns the decided answers by name.
func MustWireCases(t testing.TB) map[string]wireCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testkit.ModuleRoot(t), "internal", "api", "testdata", "wire-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Literal, Ours map[string]wireCase }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for name, c := range file.Ours {
		file.Literal[name] = c
	}
	return file.Literal
}

// await returns when done returns true, and fails the test when it has not within
// bound.
func await(t testing.TB, what string, bound time.Duration, done func() bool) {
	t.Helper()
	testkit.Await(t, what, bound, done)
}

// MustScrape returns the metrics of a node by name, their labels being part of it.
func MustScrape(t testing.TB, node *testkit.Server) map[string]float64 {
	t.Helper()
	c := newClient(t, node.OpsURL, "")
	defer c.http.CloseIdleConnections()
	a, err := c.do(t.Context(), http.MethodGet, "/metrics", nil, "")
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("the metrics are answered %d (%v)", a.status, err)
	}
	metrics := make(map[string]float64)
	for line := range strings.Lines(a.body) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			metrics[name] = value
		}
	}
	for _, name := range []string{goroutines, queued, queueCapacity, inUse, idle, maxConnections, orderLag, resident} {
		if _, ok := metrics[name]; !ok {
			t.Fatalf("there is no metric %s", name)
		}
	}
	return metrics
}

// The metrics that tests look at.
const (
	goroutines     = "go_goroutines"
	resident       = "process_resident_memory_bytes"
	queued         = "grahak_store_queue_writes"
	queueCapacity  = "grahak_store_queue_capacity_writes"
	inUse          = `grahak_store_connections{state="in_use"}`
	idle           = `grahak_store_connections{state="idle"}`
	maxConnections = "grahak_store_connections_max"
	orderLag       = "grahak_store_order_lag_seconds"
)

// MustBeWhole waits until every event has its place in its merchant's chain, by the
// work of the nodes alone, and fails the test unless the database then is as it
// must be: whole chains, each event once, one event that made each customer, and
// as many customers of each merchant as references were made.
func (d *deployment) MustBeWhole(t testing.TB, customers map[string]int) {
	t.Helper()
	await(t, "the nodes give every event its place", recoveryBound, func() bool {
		return d.query(t, "SELECT count(*) FROM pending_events")[0] == "0"
	})
	for merchant, want := range customers {
		got := d.query(t, "SELECT count(*) FROM customers WHERE merchant_id = '"+merchant+"'")[0]
		if got != strconv.Itoa(want) {
			t.Errorf("merchant %s has %s customers in the database, want %d", merchant, got, want)
		}
	}
	for what, sql := range map[string]string{
		"customers without one event that made them": `SELECT convert_from(id, 'UTF8') FROM customers AS c WHERE 1 <>
			(SELECT count(*) FROM events AS e WHERE e.merchant_id = c.merchant_id AND e.subject = c.id AND e.type = 'customer.created' AND e.revision = 1)`,
		"customers without one event for each revision": `SELECT convert_from(id, 'UTF8') FROM customers AS c WHERE c.revision <>
			(SELECT count(DISTINCT e.revision) FROM events AS e WHERE e.merchant_id = c.merchant_id AND e.subject = c.id)`,
		"events of customers that do not exist and were not erased": `SELECT convert_from(subject, 'UTF8') FROM events AS e WHERE e.type LIKE 'customer.%'
			AND NOT EXISTS (SELECT 1 FROM customers AS c WHERE c.merchant_id = e.merchant_id AND c.id = e.subject)
			AND NOT EXISTS (SELECT 1 FROM events AS g WHERE g.merchant_id = e.merchant_id AND g.subject = e.subject AND g.type = 'customer.erased')`,
		"events that are there twice":    `SELECT convert_from(id, 'UTF8') FROM events GROUP BY id HAVING count(*) > 1`,
		"revisions that are there twice": `SELECT convert_from(subject, 'UTF8') FROM events WHERE type LIKE 'customer.%' GROUP BY merchant_id, subject, revision HAVING count(*) > 1`,
	} {
		if found := d.query(t, sql); len(found) > 0 {
			t.Errorf("%s: %d, the first %s", what, len(found), found[0])
		}
	}
	events := d.query(t, "SELECT count(*) FROM events")[0]
	out := d.MustRun(t, "audit", "verify", "--json")
	checked := int64(0)
	for line := range bytes.Lines(out) {
		var report struct {
			Merchant         string
			Checked, Pending int64
			Keyless          bool
			Fault            *string
		}
		if err := json.Unmarshal(line, &report); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if report.Fault != nil || report.Keyless || report.Pending != 0 {
			t.Errorf("the chain is not whole: %s", line)
		}
		checked += report.Checked
	}
	if strconv.FormatInt(checked, 10) != events {
		t.Errorf("%d events are in the chains, and there are %s", checked, events)
	}
}
