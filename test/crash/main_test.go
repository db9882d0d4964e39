// Package crash_test ends the real server in the middle of its work, takes its
// disk away, and looks whether anything that it acknowledged is lost.
package crash_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

var cycles = flag.Int("cycles", 0, "how often the server is killed; 20, or 200 when GRAHAK_LONG is set")

func TestMain(m *testing.M) {
	flag.Parse()
	if *cycles == 0 {
		*cycles = 20
		if os.Getenv("GRAHAK_LONG") != "" {
			*cycles = 200
		}
	}
	os.Exit(postgres.Main(func() int { return testkit.Main(m) }))
}

// answerTimeout bounds one request; a server that has not answered by then
// hangs.
const answerTimeout = 30 * time.Second

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

// customer decodes the answer's body.
func (a answer) customer() (c customer, err error) {
	err = json.Unmarshal([]byte(a.body), &c)
	return c, err
}

// do sends a request, with form as its body unless that is nil.
func (c *client) do(ctx context.Context, method, path string, form url.Values) (answer, error) {
	return c.doOnce(ctx, method, path, form, "")
}

// doOnce is do with an Idempotency-Key, unless that is empty.
func (c *client) doOnce(ctx context.Context, method, path string, form url.Values, key string) (answer, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth(c.key, "")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
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
func form(n int) url.Values {
	return url.Values{
		"object_reference_id": {fmt.Sprintf("person+%d@example.com", n)},
		"mobile_number":       {fmt.Sprintf("98%08d", n)},
		"email_address":       {fmt.Sprintf("person.%d@example.com", n)},
		"first_name":          {"Asha"},
		"last_name":           {fmt.Sprintf("Rao %d", n)},
	}
}

// made returns the customer that the form makes, with what only the server
// knows taken from got.
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

// is reports whether a is the decided answer.
func (w wireCase) is(a answer) bool { return a.status == w.Status && a.body == string(w.Body) }

// MustBeSound runs the doctor over the data folder, which also checks the whole
// database, and fails the test unless it finds nothing.
func MustBeSound(t testing.TB, data string) {
	t.Helper()
	out := string(testkit.Run(t, "doctor", "--data", data))
	if !strings.Contains(out, "sound") {
		t.Errorf("the doctor does not say that the database is sound:\n%s", out)
	}
}
