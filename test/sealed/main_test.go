// Package sealed_test looks at personal data through the real program: nothing
// of it is in clear on the disk, what was altered there is refused, keys change
// under load and under kill -9 without a loss, and who was erased is gone.
package sealed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

const (
	// answerTimeout bounds one request; a server that has not answered by then
	// hangs.
	answerTimeout = time.Minute
	// commandTimeout bounds one command.
	commandTimeout = 5 * time.Minute
	// pollInterval is how often it is looked whether something has happened, and
	// pollTimeout how long that may take.
	pollInterval = 2 * time.Millisecond
	pollTimeout  = 5 * time.Minute
)

// long reports whether the tests may take long.
func long() bool { return os.Getenv("GRAHAK_LONG") != "" }

// eventually waits until done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	testkit.Await(t, what, pollTimeout, done)
}

// result is what a command did.
type result struct {
	status      int
	out, stderr string
}

// run runs a command to its end.
func run(t testing.TB, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, testkit.Program(t), args...)
	cmd.Env = testkit.Env()
	cmd.Stdout, cmd.Stderr = &out, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("grahak %s: %v", strings.Join(args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// newMerchant makes a merchant, and returns a key of it.
func newMerchant(t testing.TB, data, id string) string {
	t.Helper()
	testkit.Run(t, "merchant", "create", id, "--data", data)
	var key struct{ Key string }
	out := testkit.Run(t, "key", "create", "--merchant", id, "--data", data, "--json")
	if err := json.Unmarshal(out, &key); err != nil || key.Key == "" {
		t.Fatalf("no key in %s (%v)", out, err)
	}
	return key.Key
}

// database returns the path of the database in a data folder.
func database(data string) string { return filepath.Join(data, "grahak.db") }

// MustOpen opens the store in a data folder, as commands do, beside a server or
// without one. The caller closes it.
func MustOpen(t testing.TB, data string) *sqlstore.SQLite {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: database(data), Beside: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// client speaks to a server over one kept-alive connection.
type client struct {
	http *http.Client
	base string
	key  string
}

func newClient(base, key string) *client {
	return &client{
		base: base,
		key:  key,
		http: &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   string
}

// is reports whether a is the decided answer.
func (a answer) is(w wireCase) bool { return a.status == w.Status && a.body == string(w.Body) }

// do sends a request, with form as its body unless that is nil.
func (c *client) do(ctx context.Context, method, path string, form url.Values) (answer, error) {
	if form == nil {
		return c.send(ctx, method, path, "")
	}
	return c.send(ctx, method, path, form.Encode(), "Content-Type: application/x-www-form-urlencoded")
}

// send sends a request with a body and header lines.
func (c *client) send(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth(c.key, "")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}

// get reads one customer by id or reference.
func (c *client) get(ctx context.Context, id string) (answer, error) {
	return c.do(ctx, http.MethodGet, "/customers/"+url.PathEscape(id), nil)
}

// customer is the object of the wire.
type customer struct {
	ID          string            `json:"id"`
	Object      string            `json:"object"`
	Reference   string            `json:"object_reference_id"`
	CountryCode string            `json:"mobile_country_code"`
	Mobile      string            `json:"mobile_number"`
	Email       *string           `json:"email_address"`
	FirstName   *string           `json:"first_name"`
	LastName    *string           `json:"last_name"`
	Created     string            `json:"date_created"`
	Updated     string            `json:"last_updated"`
	Metadata    map[string]string `json:"metadata"`
}

// customer decodes the answer's body, which is one customer.
func (a answer) customer() (c customer, err error) {
	err = json.Unmarshal([]byte(a.body), &c)
	return c, err
}

// page is a list on the wire.
type page struct {
	List  []customer
	Total int64
	Next  *string
}

// page decodes the answer's body, which is a list.
func (a answer) page() (p page, err error) {
	err = json.Unmarshal([]byte(a.body), &p)
	return p, err
}

// form returns the fields of the n-th customer of a test. No two share a value.
func form(n int) url.Values {
	return url.Values{
		"object_reference_id": {fmt.Sprintf("person+%d@example.com", n)},
		"mobile_number":       {fmt.Sprintf("98%08d", n)},
		"email_address":       {fmt.Sprintf("Person.%d@example.com", n)},
		"first_name":          {fmt.Sprintf("Ashapurna %d", n)},
		"last_name":           {fmt.Sprintf("Raychaudhuri %d", n)},
		"metadata[plan]":      {fmt.Sprintf("Swarnamudra %d", n)},
	}
}

// made returns c with the fields of a form put over it.
func made(c customer, form url.Values) customer {
	c.Object = "customer"
	set := func(name string, field *string) {
		if form.Has(name) {
			*field = form.Get(name)
		}
	}
	set("object_reference_id", &c.Reference)
	set("mobile_number", &c.Mobile)
	if c.CountryCode == "" {
		c.CountryCode = "91"
	}
	for name, field := range map[string]**string{"email_address": &c.Email, "first_name": &c.FirstName, "last_name": &c.LastName} {
		if form.Has(name) {
			value := form.Get(name)
			*field = &value
		}
	}
	for name := range form {
		if key, ok := strings.CutPrefix(name, "metadata["); ok {
			c.Metadata = maps.Clone(c.Metadata)
			if c.Metadata == nil {
				c.Metadata = make(map[string]string)
			}
			c.Metadata[strings.TrimSuffix(key, "]")] = form.Get(name)
		}
	}
	return c
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
