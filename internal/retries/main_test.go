// Package retries_test repeats writes in every way that a client may, over real
// HTTP on both engines, and looks that each took effect once.
package retries_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/ops"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
	"grahak/internal/web"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m.Run)) }

// keep is how long keys are kept, as it is without a setting.
const keep = 24 * time.Hour

// The merchants that every deployment has.
const (
	acme  grahak.MerchantID = "acme"
	other grahak.MerchantID = "other"
)

// deployment is a database with the keys of its merchants, and the nodes on it.
type deployment struct {
	open   func(tb testing.TB) sqlstore.Store
	clock  *testkit.Clock
	master *seal.MasterKey
	keys   map[grahak.MerchantID]string
	nodes  []*node
}

// node is the service on a store of its own, behind both of its listeners.
type node struct {
	store   sqlstore.Store
	service *grahak.Service
	api     *httptest.Server
	ops     *httptest.Server
	close   func()
}

// MustDeploy returns a new deployment of one node on a store that open opens.
func MustDeploy(tb testing.TB, open func(testing.TB, *testkit.Clock) sqlstore.Store) *deployment {
	tb.Helper()
	d := &deployment{clock: testkit.NewClock(), keys: make(map[grahak.MerchantID]string)}
	d.open = func(tb testing.TB) sqlstore.Store { return open(tb, d.clock) }
	var err error
	if d.master, err = seal.MakeMasterKey(filepath.Join(tb.TempDir(), "master.key")); err != nil {
		tb.Fatal(err)
	}
	n := d.MustJoin(tb)
	if _, err := n.store.MasterKeyID(tb.Context(), d.master.ID()); err != nil {
		tb.Fatal(err)
	}
	for _, m := range []grahak.MerchantID{acme, other} {
		operator := grahak.Operator(m, "test")
		if _, err := n.service.CreateMerchant(tb.Context(), operator, ""); err != nil {
			tb.Fatal(err)
		}
		if _, d.keys[m], err = n.service.CreateKey(tb.Context(), operator, grahak.KeySpec{Scope: grahak.ScopeWrite}); err != nil {
			tb.Fatal(err)
		}
	}
	return d
}

// MustJoin starts one more node on the database.
func (d *deployment) MustJoin(tb testing.TB) *node {
	tb.Helper()
	n := &node{store: d.open(tb)}
	logger := slog.New(slog.DiscardHandler)
	var err error
	n.service, err = grahak.NewService(grahak.Config{
		Store: n.store, Sealer: seal.New(d.master, n.store), Clock: d.clock, Logger: logger, IdempotencyKeep: keep,
	})
	if err != nil {
		tb.Fatal(err)
	}
	serve := func(edge web.Edge) *httptest.Server {
		return httptest.NewServer(web.NewHandler(web.Config{Edge: edge, Logger: logger, Observer: nobody{}, Clock: d.clock, Random: rand.Reader}))
	}
	n.api = serve(api.New(n.service))
	n.ops = serve(ops.New(ops.Config{Service: n.service, Ready: func() error { return nil }, Metrics: http.NotFoundHandler()}))
	closed := false
	n.close = func() {
		if closed {
			return
		}
		closed = true
		n.api.Close()
		n.ops.Close()
		if err := n.store.Close(); err != nil {
			tb.Errorf("close the store: %v", err)
		}
	}
	tb.Cleanup(n.close)
	d.nodes = append(d.nodes, n)
	return n
}

type nobody struct{}

func (nobody) Request(string, string, int, string, time.Duration) {}

// onEachEngine runs a test on SQLite and on PostgreSQL.
func onEachEngine(t *testing.T, test func(t *testing.T, d *deployment)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, MustDeploySQLite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, MustDeployPostgres(t, postgres.Shared(t).Database(t)))
	})
}

// MustDeploySQLite returns a new deployment on SQLite.
func MustDeploySQLite(tb testing.TB) *deployment {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "grahak.db")
	return MustDeploy(tb, func(tb testing.TB, clock *testkit.Clock) sqlstore.Store {
		tb.Helper()
		store, err := sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{
			Path: path, Environment: grahak.Sandbox, Clock: clock, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			tb.Fatal(err)
		}
		return store
	})
}

// MustDeployPostgres returns a new deployment on the database that url names.
func MustDeployPostgres(tb testing.TB, url string) *deployment {
	tb.Helper()
	return MustDeploy(tb, func(tb testing.TB, clock *testkit.Clock) sqlstore.Store {
		tb.Helper()
		store, err := sqlstore.OpenPostgres(tb.Context(), sqlstore.PostgresConfig{
			URL: url, Environment: grahak.Sandbox, Migrate: true, Connections: sqlstore.MinConnections, Clock: clock, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			tb.Fatal(err)
		}
		return store
	})
}

// pair is one field of a request.
type pair struct{ key, value string }

// The encodings of a request's fields. Those of no fields are an empty body.
var encodings = map[string]func([]pair) (contentType, body string){
	"form": func(pairs []pair) (contentType, body string) {
		values := url.Values{}
		for _, p := range pairs {
			values.Set(p.key, p.value)
		}
		return "application/x-www-form-urlencoded", values.Encode()
	},
	"json": func(pairs []pair) (contentType, body string) {
		object := make(map[string]string)
		for _, p := range pairs {
			object[p.key] = p.value
		}
		text, _ := json.Marshal(object)
		return "application/json", string(text)
	},
	"multipart": func(pairs []pair) (contentType, body string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, p := range pairs {
			_ = w.WriteField(p.key, p.value)
		}
		_ = w.Close()
		return w.FormDataContentType(), b.String()
	},
}

// request is a write as a test sends it.
type request struct {
	method, path string
	pairs        []pair
	encoding     string
	merchant     grahak.MerchantID // acme if it is empty
	key          string            // none if it is empty
	ifMatch      string            // none if it is empty
}

// with returns the request after a change.
func (r request) with(change func(*request)) request {
	r.pairs = slices.Clone(r.pairs)
	change(&r)
	return r
}

// answer is what a client sees that may not differ between a request and the same
// again.
type answer struct {
	Status   int
	Body     string // without a token
	ETag     string
	Created  string // x-customer-created
	Existing string // x-existing-customer-id
	Replayed string // Idempotent-Replayed

	token string
	retry string // Retry-After
}

// is fails the test unless the answers are the same but for the token.
func (a answer) is(tb testing.TB, what string, want answer) {
	tb.Helper()
	a.token, a.retry, want.token, want.retry = "", "", "", ""
	if diff := cmp.Diff(want, a, cmp.AllowUnexported(answer{})); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// id returns the id of the customer in the answer.
func (a answer) id(tb testing.TB) string {
	tb.Helper()
	var c struct{ ID string }
	if err := json.Unmarshal([]byte(a.Body), &c); err != nil || c.ID == "" || a.Status != http.StatusOK {
		tb.Fatalf("no customer in %d %s", a.Status, a.Body)
	}
	return c.ID
}

// replayed returns a as the answer to the same request again.
func replayed(a answer) answer {
	a.Replayed = "true"
	return a
}

// send sends a request to a node.
func (d *deployment) send(ctx context.Context, n *node, r request) (answer, error) {
	encoding := r.encoding
	if encoding == "" {
		encoding = "form"
	}
	contentType, body := encodings[encoding](r.pairs)
	req, err := http.NewRequestWithContext(ctx, r.method, n.api.URL+r.path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if len(r.pairs) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	merchant := r.merchant
	if merchant == "" {
		merchant = acme
	}
	req.SetBasicAuth(d.keys[merchant], "")
	for name, value := range map[string]string{"Idempotency-Key": r.key, "If-Match": r.ifMatch} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	res, err := n.api.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	h := res.Header
	a := answer{
		Status: res.StatusCode, ETag: h.Get("ETag"), Created: h.Get("x-customer-created"),
		Existing: h.Get("x-existing-customer-id"), Replayed: h.Get("Idempotent-Replayed"), retry: h.Get("Retry-After"),
	}
	before, after, ok := strings.Cut(string(text), `,"juspay":{"client_auth_token":"`)
	if ok {
		a.token, _, _ = strings.Cut(after, `"`)
		before += "}"
	}
	a.Body = before
	return a, nil
}

// MustSend sends a request to the first node.
func (d *deployment) MustSend(tb testing.TB, r request) answer {
	tb.Helper()
	a, err := d.send(tb.Context(), d.nodes[0], r)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// MustBeToken fails the test unless the ops listener knows a token of a customer.
func (d *deployment) MustBeToken(tb testing.TB, token, customer string) {
	tb.Helper()
	res, err := d.nodes[0].ops.Client().PostForm(d.nodes[0].ops.URL+"/client-auth-tokens/verify", url.Values{"client_auth_token": {token}})
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), customer) {
		tb.Errorf("the token %q of %s is answered %d %s (%v)", token, customer, res.StatusCode, text, err)
	}
}

// MustHave fails the test unless the events of a customer are just these, with one
// for each revision.
func (d *deployment) MustHave(tb testing.TB, what, customer string, want ...grahak.EventType) {
	tb.Helper()
	events, err := d.nodes[0].store.EventsOf(tb.Context(), acme, customer)
	if err != nil {
		tb.Fatal(err)
	}
	slices.SortFunc(events, func(a, b grahak.Event) int { return int(a.Revision - b.Revision) })
	var got []grahak.EventType
	for i, e := range events {
		got = append(got, e.Type)
		if e.Revision != int64(i+1) {
			tb.Errorf("%s: event %d of %s is of revision %d", what, i, customer, e.Revision)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s: events of %s (-want +got):\n%s", what, customer, diff)
	}
}

// MustCount fails the test unless acme has so many customers, by a count of them
// and by their events.
func (d *deployment) MustCount(tb testing.TB, want int) {
	tb.Helper()
	counted, recorded, err := d.nodes[0].store.CountCustomers(tb.Context(), acme)
	if err != nil || counted != int64(want) || recorded != int64(want) {
		tb.Errorf("there are %d customers and events of %d (%v), want %d", counted, recorded, err, want)
	}
}

// MustBodies returns the decided bodies of the wire contract by name.
func MustBodies(tb testing.TB) map[string]answer {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(testkit.ModuleRoot(tb), "internal", "api", "testdata", "wire-cases.json"))
	if err != nil {
		tb.Fatal(err)
	}
	type wireCase struct {
		Status int
		Body   json.RawMessage
	}
	var file struct{ Literal, Ours map[string]wireCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
	}
	bodies := make(map[string]answer)
	for _, list := range []map[string]wireCase{file.Literal, file.Ours} {
		for name, c := range list {
			var compact bytes.Buffer
			if err := json.Compact(&compact, c.Body); err != nil {
				tb.Fatal(err)
			}
			bodies[name] = answer{Status: c.Status, Body: compact.String()}
		}
	}
	return bodies
}

// person is the reference of the n-th customer of a test.
func person(test string, n int) string { return fmt.Sprintf("%s.%d@example.com", test, n) }
