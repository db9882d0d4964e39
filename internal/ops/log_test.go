package ops_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// event returns what the operations listener logs next, and fails the test if
// that never comes.
func (s *server) event(tb testing.TB) map[string]any {
	tb.Helper()
	select {
	case line := <-s.log:
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			tb.Fatalf("the log is not JSON: %q", line)
		}
		return e
	case <-time.After(requestTimeout):
		tb.Fatal("no line of the log came")
		return nil
	}
}

// wantEvent fails the test unless the next event is want, but for what every
// event has.
func (s *server) wantEvent(tb testing.TB, what string, want map[string]any) {
	tb.Helper()
	got := s.event(tb)
	for _, name := range []string{"time", "msg", "request_id", "duration_us", "addr"} {
		if got[name] == nil {
			tb.Errorf("%s: the event has no %s", what, name)
		}
		delete(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s: the event (-want +got):\n%s", what, diff)
	}
}

// The check of a token is an event like an API request: it says whose token it
// was, and never the token.
func TestVerificationsAreLogged(t *testing.T) {
	s := MustServe(t)
	id, token := s.MustToken(t, "customer@example.com")
	const route = "/client-auth-tokens/verify"
	verify := func(body string) {
		t.Helper()
		MustDo(t, http.MethodPost, s.ops+route, "application/x-www-form-urlencoded", body)
	}
	type event = map[string]any
	verify("client_auth_token=" + token)
	found := s.event(t)
	for name, want := range (event{"level": "INFO", "msg": "request", "method": "POST", "route": route, "status": 200.0, "merchant": string(demo), "customer": string(id)}) {
		if found[name] != want {
			t.Errorf("a token that is found: %s is %v, want %v", name, found[name], want)
		}
	}
	for _, value := range found {
		if text, ok := value.(string); ok && strings.Contains(text, strings.TrimPrefix(token, "tkn_")) {
			t.Errorf("the log holds the token: %v", found)
		}
	}
	verify("client_auth_token=tkn_00000000000000000000000000000000")
	s.wantEvent(t, "an unknown token", event{"level": "INFO", "method": "POST", "route": route, "status": 404.0, "code": "token_not_found"})
	verify("")
	s.wantEvent(t, "no token", event{"level": "INFO", "method": "POST", "route": route, "status": 400.0, "code": "malformed_body"})

	if err := s.service.DisableMerchant(t.Context(), grahak.Operator(demo, "test")); err != nil {
		t.Fatal(err)
	}
	verify("client_auth_token=" + token)
	s.wantEvent(t, "a disabled merchant's token", event{"level": "INFO", "method": "POST", "route": route, "status": 404.0, "code": "token_not_found"})

	for _, line := range []string{
		`grahak_http_requests_total{code="",method="POST",route="/client-auth-tokens/verify",status="200"} 1`,
		`grahak_http_requests_total{code="malformed_body",method="POST",route="/client-auth-tokens/verify",status="400"} 1`,
		`grahak_http_requests_total{code="token_not_found",method="POST",route="/client-auth-tokens/verify",status="404"} 2`,
	} {
		s.mustScrape(t, line)
	}
	// An outage is a fault, and its cause is in the log.
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for len(s.log) > 0 { // of looking at the metrics
		<-s.log
	}
	verify("client_auth_token=" + token)
	for e := s.event(t); ; e = s.event(t) {
		if e["route"] != route {
			continue // the last look at the metrics
		}
		if cause, _ := e["error"].(string); e["level"] != "ERROR" || e["status"] != 503.0 || !strings.Contains(cause, "closed") || strings.Contains(cause, token) {
			t.Errorf("in an outage the log says %v", e)
		}
		return
	}
}

// What monitoring asks all the time is logged for debugging only, and counted.
func TestRoutineIsQuiet(t *testing.T) {
	s := MustServe(t)
	type event = map[string]any
	for _, tt := range []struct {
		method, path string
		want         event
	}{
		{"GET", "/healthz", event{"level": "DEBUG", "method": "GET", "route": "/healthz", "status": 200.0}},
		{"HEAD", "/healthz", event{"level": "DEBUG", "method": "HEAD", "route": "/healthz", "status": 200.0}},
		{"GET", "/readyz", event{"level": "DEBUG", "method": "GET", "route": "/readyz", "status": 200.0}},
		{"GET", "/metrics", event{"level": "DEBUG", "method": "GET", "route": "/metrics", "status": 200.0}},
		{"GET", "/debug/pprof/", event{"level": "DEBUG", "method": "GET", "route": "/debug/pprof/", "status": 200.0}},
		{"GET", "/debug/pprof/heap?debug=1", event{"level": "DEBUG", "method": "GET", "route": "/debug/pprof/", "status": 200.0}},
		{"GET", "/debug/pprof/cmdline", event{"level": "DEBUG", "method": "GET", "route": "/debug/pprof/cmdline", "status": 200.0}},
		{"GET", "/nowhere/customer@example.com", event{"level": "DEBUG", "method": "GET", "route": "unmatched", "status": 404.0}},
		{"POST", "/healthz", event{"level": "DEBUG", "method": "POST", "route": "unmatched", "status": 405.0}},
		{"GET", "/client-auth-tokens/verify?client_auth_token=x", event{"level": "DEBUG", "method": "GET", "route": "unmatched", "status": 405.0}},
		{"BREW", "/readyz", event{"level": "DEBUG", "method": "other", "route": "unmatched", "status": 405.0}},
	} {
		MustDo(t, tt.method, s.ops+tt.path, "", "")
		s.wantEvent(t, tt.method+" "+tt.path, tt.want)
	}
	s.mustScrape(t, `grahak_http_requests_total{code="",method="GET",route="/healthz",status="200"} 1`)
	s.mustScrape(t, `grahak_http_requests_total{code="",method="GET",route="/debug/pprof/",status="200"} 2`)
}

// A server that is not ready is worth a line, with no more in it than there is.
func TestNotReadyIsLogged(t *testing.T) {
	s := MustServe(t)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	MustDo(t, http.MethodGet, s.ops+"/readyz", "", "")
	s.wantEvent(t, "not ready", map[string]any{"level": "ERROR", "method": "GET", "route": "/readyz", "status": 503.0})
}

// A fault of a handler costs its request and nothing else.
func TestPanicOfAHandler(t *testing.T) {
	s := MustServe(t)
	url := s.operations(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("overboard") }))
	want := jsonAnswer(500, `{"error_code":"internal_error","error_message":"Internal error; quote the x-request-id header to the operator."}`)
	for range 2 {
		got, header := MustDo(t, http.MethodGet, url+"/metrics", "", "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		e := s.event(t)
		cause, _ := e["error"].(string)
		if e["level"] != "ERROR" || e["status"] != 500.0 || e["route"] != "/metrics" || e["code"] != "internal_error" ||
			e["request_id"] != header.Get("X-Request-Id") || !strings.Contains(cause, "overboard") || !strings.Contains(cause, "log_test.go") {
			t.Errorf("the log says %v", e)
		}
	}
	if got, _ := MustDo(t, http.MethodGet, url+"/healthz", "", ""); got.Status != http.StatusOK {
		t.Errorf("after a panic /healthz answers %+v", got)
	}
}
