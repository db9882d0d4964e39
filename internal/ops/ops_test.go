package ops_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/ops"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/telemetry"
	"grahak/internal/testkit"
	"grahak/internal/web"
)

const demo grahak.MerchantID = "demo"

// server is both listeners over one real service.
type server struct {
	service  *grahak.Service
	store    *sqlstore.SQLite
	clock    *testkit.Clock
	metrics  *telemetry.Metrics
	fault    atomic.Pointer[error] // why the server does not take requests, if it does not
	log      chan []byte           // what the operations listener logs, a line each
	key      string
	ops, api string // base URLs
}

// Write takes a line of the log.
func (s *server) Write(line []byte) (int, error) {
	s.log <- bytes.Clone(line)
	return len(line), nil
}

// MustServe returns running listeners with the merchant demo.
func MustServe(tb testing.TB) *server {
	tb.Helper()
	// No test here makes more requests than the log has room for, or waits until
	// the metrics hold what they should for as long.
	s := &server{clock: testkit.NewClock(), metrics: telemetry.NewMetrics("v1.2.3"), log: make(chan []byte, 100_000)}
	logger := slog.New(slog.DiscardHandler)
	var err error
	s.store, err = sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{
		Path:        filepath.Join(tb.TempDir(), "grahak.db"),
		Environment: grahak.Sandbox,
		Clock:       s.clock,
		Observer:    s.metrics,
		Logger:      logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.store.Close() })
	s.metrics.Watch(s.store)
	master, err := seal.MakeMasterKey(filepath.Join(tb.TempDir(), "master.key"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.store.MasterKeyID(tb.Context(), master.ID()); err != nil {
		tb.Fatal(err)
	}
	s.service, err = grahak.NewService(grahak.Config{Store: s.store, Sealer: seal.New(master, s.store), Clock: s.clock, Logger: logger})
	if err != nil {
		tb.Fatal(err)
	}
	caller := grahak.Operator(demo, "test")
	if _, err := s.service.CreateMerchant(tb.Context(), caller, ""); err != nil {
		tb.Fatal(err)
	}
	if _, s.key, err = s.service.CreateKey(tb.Context(), caller, grahak.KeySpec{Scope: grahak.ScopeWrite}); err != nil {
		tb.Fatal(err)
	}
	handler := web.NewHandler(web.Config{Edge: api.New(s.service), Logger: logger, Observer: s.metrics, Clock: s.clock, Random: rand.Reader})
	s.ops, s.api = s.operations(tb, s.metrics.Handler()), listen(tb, handler)
	return s
}

// operations runs an operations listener that logs everything, and returns its
// base URL.
func (s *server) operations(tb testing.TB, metrics http.Handler) string {
	tb.Helper()
	return listen(tb, web.NewHandler(web.Config{
		Edge:     ops.New(ops.Config{Service: s.service, Ready: s.ready, Metrics: metrics}),
		Logger:   slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observer: s.metrics,
		Clock:    s.clock,
		Random:   rand.Reader,
	}))
}

// listen serves h until the test ends and returns its base URL.
func listen(tb testing.TB, h http.Handler) string {
	srv := httptest.NewServer(h)
	tb.Cleanup(srv.Close)
	return srv.URL
}

func (s *server) ready() error {
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// answer is the part of an answer that matters.
type answer struct {
	Status int
	Type   string
	Body   string
}

const requestTimeout = time.Minute

// MustDo sends a request and returns the answer with its header.
func MustDo(tb testing.TB, method, url, contentType, body string) (answer, http.Header) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{res.StatusCode, res.Header.Get("Content-Type"), string(text)}, res.Header
}

// jsonAnswer is an answer in JSON.
func jsonAnswer(status int, body string) answer {
	return answer{status, "application/json", body + "\n"}
}

func TestHealthAndReadiness(t *testing.T) {
	s := MustServe(t)
	check := func(what string, health, ready answer) {
		t.Helper()
		for path, want := range map[string]answer{"/healthz": health, "/readyz": ready} {
			got, header := MustDo(t, http.MethodGet, s.ops+path, "", "")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", what, path, diff)
			}
			if header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %s may be cached", what, path)
			}
		}
	}
	alive := jsonAnswer(200, `{"status":"ok"}`)
	check("running", alive, jsonAnswer(200, `{"status":"ready"}`))

	draining := errors.New("the server is shutting down")
	s.fault.Store(&draining)
	check("draining", alive, jsonAnswer(503, `{"reason":"the server is shutting down","status":"unavailable"}`))

	s.fault.Store(nil)
	check("running again", alive, jsonAnswer(200, `{"status":"ready"}`))

	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := MustDo(t, http.MethodGet, s.ops+"/readyz", "", "")
	var body struct{ Status, Reason string }
	if err := json.Unmarshal([]byte(got.Body), &body); err != nil {
		t.Fatal(err)
	}
	if got.Status != http.StatusServiceUnavailable || body.Status != "unavailable" || !strings.Contains(body.Reason, "the storage is closed") {
		t.Errorf("without storage /readyz answers %+v", got)
	}
	if got, _ := MustDo(t, http.MethodGet, s.ops+"/healthz", "", ""); got != alive {
		t.Errorf("without storage /healthz answers %+v", got)
	}
}

// MustToken makes a customer and returns its id and a token of it.
func (s *server) MustToken(tb testing.TB, reference string) (grahak.CustomerID, string) {
	tb.Helper()
	in := grahak.CustomerInput{Reference: grahak.Input{Value: reference, Given: true}, MobileNumber: grahak.Input{Value: "1", Given: true}}
	result, err := s.service.CreateCustomer(tb.Context(), grahak.Operator(demo, "test"), in, grahak.WriteOptions{Token: true})
	if err != nil {
		tb.Fatal(err)
	}
	return result.Customer.ID, result.Token.Value
}

func TestVerifyToken(t *testing.T) {
	s := MustServe(t)
	id, token := s.MustToken(t, "customer@example.com")
	other, otherToken := s.MustToken(t, "other@example.com")
	found := func(id grahak.CustomerID) answer {
		return jsonAnswer(200, `{"merchant_id":"demo","customer_id":"`+string(id)+`","client_auth_token_expiry":"2026-03-17T14:28:37Z"}`)
	}
	unknown := jsonAnswer(404, `{"error_code":"token_not_found","error_message":"There is no such token, or it has expired."}`)
	malformed := jsonAnswer(400, `{"error_code":"malformed_body","error_message":"Send client_auth_token in a JSON object or a form."}`)
	const form, jsonType = "application/x-www-form-urlencoded", "application/json"
	for _, tt := range []struct {
		name, query, contentType, body string
		want                           answer
	}{
		{"a form", "", form, "client_auth_token=" + token, found(id)},
		{"a form with a parameter of its type", "", form + "; charset=utf-8", "x=y&client_auth_token=" + token, found(id)},
		{"JSON", "", jsonType, `{"client_auth_token":"` + token + `"}`, found(id)},
		{"JSON with a parameter of its type", "", jsonType + "; charset=utf-8", `{"x":[],"client_auth_token":"` + token + `"}`, found(id)},
		{"another customer's", "", form, "client_auth_token=" + otherToken, found(other)},
		{"a wrong one", "", form, "client_auth_token=tkn_00000000000000000000000000000000", unknown},
		{"a wrong one in JSON", "", jsonType, `{"client_auth_token":"x"}`, unknown},
		{"in capitals", "", form, "client_auth_token=" + strings.ToUpper(token), unknown},
		{"with a space behind it", "", form, "client_auth_token=" + token + "+", unknown},
		{"a customer's id", "", form, "client_auth_token=" + string(id), unknown},
		{"in the query only", "?client_auth_token=" + token, "", "", malformed},
		{"in the query, beside a form without it", "?client_auth_token=" + token, form, "x=y", malformed},
		{"in the query, beside another in the body", "?client_auth_token=" + token, form, "client_auth_token=" + otherToken, found(other)},
		{"beside a query that cannot be decoded", "?%zz", form, "client_auth_token=" + token, found(id)},
		{"nothing", "", "", "", malformed},
		{"an empty one", "", form, "client_auth_token=", malformed},
		{"an empty one in JSON", "", jsonType, `{"client_auth_token":""}`, malformed},
		{"a number", "", jsonType, `{"client_auth_token":1}`, malformed},
		{"no object", "", jsonType, `"` + token + `"`, malformed},
		{"JSON that is cut off", "", jsonType, `{"client_auth_token":"` + token, malformed},
		{"a form that cannot be decoded", "", form, "client_auth_token=%zz", malformed},
		{"another type", "", "text/plain", "client_auth_token=" + token, malformed},
		{"a body that is too large", "", form, "x=" + strings.Repeat("x", 5000) + "&client_auth_token=" + token, malformed},
		{"JSON that is too large", "", jsonType, `{"x":"` + strings.Repeat("x", 5000) + `","client_auth_token":"` + token + `"}`, malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, header := MustDo(t, http.MethodPost, s.ops+"/client-auth-tokens/verify"+tt.query, tt.contentType, tt.body)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
		})
	}

	verify := func() answer {
		t.Helper()
		got, _ := MustDo(t, http.MethodPost, s.ops+"/client-auth-tokens/verify", form, "client_auth_token="+token)
		return got
	}
	// The token's time is over after 900 seconds, not before.
	s.clock.Advance(grahak.TokenLifetime - time.Second)
	if diff := cmp.Diff(found(id), verify()); diff != "" {
		t.Errorf("in its last second (-want +got):\n%s", diff)
	}
	s.clock.Advance(time.Second)
	if diff := cmp.Diff(unknown, verify()); diff != "" {
		t.Errorf("expired (-want +got):\n%s", diff)
	}
	// An outage is no wrong token.
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	got, header := MustDo(t, http.MethodPost, s.ops+"/client-auth-tokens/verify", jsonType, `{"client_auth_token":"`+token+`"}`)
	if got.Status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(got.Body, `"error_code":"unavailable"`) {
		t.Errorf("in an outage: %+v %v", got, header)
	}
	if strings.Contains(got.Body, token) {
		t.Errorf("the answer repeats the token: %s", got.Body)
	}
}

// The metrics that the documentation names are there, with labels of few values.
func TestMetrics(t *testing.T) {
	s := MustServe(t)
	s.MustToken(t, "customer@example.com")
	for _, path := range []string{"/customers/customer@example.com", "/customers/nobody", "/nowhere", "/elsewhere/customer@example.com", "/healthz"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.api+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(s.key, "")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	text := s.mustScrape(t, `grahak_http_requests_total{code="not_found",method="GET",route="unmatched",status="404"} 3`)
	values := make(map[string]map[string]bool) // of each label, of our metrics
	names := make(map[string]bool)
	label := regexp.MustCompile(`([a-z]+)="([^"]*)"`)
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, " ")
		name, labels, _ := strings.Cut(name, "{")
		if !strings.HasPrefix(name, "grahak_") {
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		names[name] = true
		for _, m := range label.FindAllStringSubmatch(labels, -1) {
			if m[1] == "le" {
				continue
			}
			if values[m[1]] == nil {
				values[m[1]] = make(map[string]bool)
			}
			values[m[1]][m[2]] = true
		}
	}
	wantNames := []string{
		"grahak_build_info",
		"grahak_http_request_duration_seconds",
		"grahak_http_requests_total",
		"grahak_store_batch_writes",
		"grahak_store_commit_duration_seconds",
		"grahak_store_database_bytes",
		"grahak_store_order_lag_seconds",
		"grahak_store_queue_capacity_writes",
		"grahak_store_queue_writes",
		"grahak_store_wal_bytes",
		"grahak_webhook_attempt_duration_seconds",
		"grahak_webhook_lag_seconds",
	}
	if diff := cmp.Diff(wantNames, slices.Sorted(maps.Keys(names))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	wantValues := map[string][]string{
		"version": {"v1.2.3"},
		"route":   {"/customers/{id}", "unmatched"},
		"method":  {"GET"},
		"status":  {"200", "404"},
		"code":    {"", "customer_not_found", "not_found"},
	}
	// Looking at the metrics may have been counted by then.
	delete(values["route"], "/metrics")
	gotValues := make(map[string][]string)
	for name, of := range values {
		gotValues[name] = slices.Sorted(maps.Keys(of))
	}
	if diff := cmp.Diff(wantValues, gotValues); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	for _, want := range []string{"grahak_store_queue_writes 0\n", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
	for _, zero := range []string{"grahak_store_database_bytes 0\n", "grahak_store_batch_writes_count 0\n", "grahak_store_queue_capacity_writes 0\n"} {
		if strings.Contains(text, zero) {
			t.Errorf("the metrics say %q", zero)
		}
	}
}

// mustScrape returns the metrics once they hold a line: a client may have its
// answer before that is counted.
func (s *server) mustScrape(tb testing.TB, line string) string {
	tb.Helper()
	deadline := time.After(requestTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, _ := MustDo(tb, http.MethodGet, s.ops+"/metrics", "", "")
		if got.Status != http.StatusOK || !strings.HasPrefix(got.Type, "text/plain") {
			tb.Fatalf("/metrics answers %d %s", got.Status, got.Type)
		}
		if strings.Contains(got.Body, line+"\n") {
			return got.Body
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the metrics never hold %s:\n%s", line, got.Body)
		}
	}
}

// The operations listener has its paths and the public one has none of them.
func TestListenersAreApart(t *testing.T) {
	s := MustServe(t)
	for _, tt := range []struct {
		method, path string
		ops          int // status there
	}{
		{http.MethodGet, "/healthz", 200},
		{http.MethodGet, "/readyz", 200},
		{http.MethodGet, "/metrics", 200},
		{http.MethodPost, "/client-auth-tokens/verify", 400},
		{http.MethodGet, "/debug/pprof/", 200},
		{http.MethodGet, "/debug/pprof/cmdline", 200},
		{http.MethodGet, "/debug/pprof/symbol", 200},
		{http.MethodGet, "/debug/pprof/heap?debug=1", 200},
		{http.MethodGet, "/debug/pprof/goroutine?debug=1", 200},
		{http.MethodGet, "/debug/pprof/profile?seconds=1", 200},
		{http.MethodGet, "/debug/pprof/trace?seconds=0.1", 200},
	} {
		if got, _ := MustDo(t, tt.method, s.ops+tt.path, "", ""); got.Status != tt.ops {
			t.Errorf("operations: %s %s answers %d, want %d", tt.method, tt.path, got.Status, tt.ops)
		}
		got, _ := MustDo(t, tt.method, s.api+tt.path, "", "")
		if got.Status != http.StatusNotFound || got.Type != "application/json" || !strings.Contains(got.Body, `"error_code":"not_found"`) {
			t.Errorf("public: %s %s answers %+v", tt.method, tt.path, got)
		}
	}
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/healthz", http.StatusMethodNotAllowed},
		{http.MethodGet, "/client-auth-tokens/verify", http.StatusMethodNotAllowed},
		{http.MethodGet, "/customers", http.StatusNotFound},
		{http.MethodPost, "/customers", http.StatusNotFound},
		{http.MethodGet, "/customers/x", http.StatusNotFound},
		{http.MethodGet, "/openapi.yaml", http.StatusNotFound},
		{http.MethodGet, "/", http.StatusNotFound},
	} {
		if got, _ := MustDo(t, tt.method, s.ops+tt.path, "", ""); got.Status != tt.want {
			t.Errorf("operations: %s %s answers %d, want %d", tt.method, tt.path, got.Status, tt.want)
		}
	}
}
