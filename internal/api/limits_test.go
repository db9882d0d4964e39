package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// A flood of bad keys is refused without more than a line of the log and a count each,
// which say by which limit; a good key from the same address goes through it.
func TestFloodOfBadKeys(t *testing.T) {
	t.Parallel()
	const burst, flood = 10, 100
	s := MustServe(t)
	s.mustLimit(t, grahak.Limits{Key: 1000, Merchant: 1000, Failed: burst})
	get := func(key string) exchange {
		return s.MustSend(t, request("GET /customers", []string{"Authorization: " + basicAuth(key+":")}, ""))
	}
	if x := get(s.keys[demo].text); x.status != http.StatusOK {
		t.Fatalf("the good key: %d %s", x.status, x.answer)
	}
	got := make(map[string]int)
	for n := range flood {
		x := get(fmt.Sprintf("nobody-has-this-key-%d", n))
		got[fmt.Sprint(x.status, " ", x.header.Get("Retry-After"))]++
		if n%10 == 0 {
			if x := get(s.keys[demo].text); x.status != http.StatusOK {
				t.Errorf("the good key, after %d bad ones: %d %s", n, x.status, x.answer)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"401 ": burst, "429 6": flood - burst}, got); diff != "" {
		t.Errorf("answers to the flood (-want +got):\n%s", diff)
	}
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if line := fmt.Sprintf(`grahak_limited_requests_total{limit="failed"} %d`, flood-burst); !strings.Contains(w.Body.String(), line) {
		t.Errorf("the metrics have no %s", line)
	}
	lines := 0
	for _, event := range s.mustSettle(t, 1+flood+flood/10) {
		if event["status"] != 429.0 {
			if event["limit"] != nil {
				t.Errorf("the log tells of a limit that refused nothing: %v", event)
			}
			continue
		}
		lines++
		if event["limit"] != "failed" || event["code"] != "too_many_requests" || event["level"] != "INFO" || event["key"] != nil || event["merchant"] != nil {
			t.Errorf("the log says of a refused request: %v", event)
		}
	}
	if lines != flood-burst {
		t.Errorf("%d lines of the log tell of refused requests, want %d", lines, flood-burst)
	}
}

// The log says which of a merchant's limits was met, and by whom.
func TestLimitsAreLogged(t *testing.T) {
	t.Parallel()
	for limits, want := range map[grahak.Limits]string{{Key: 1}: "key", {Merchant: 1}: "merchant", {Key: 1, Merchant: 1}: "key"} {
		s := MustServe(t)
		s.mustLimit(t, limits)
		for range 2 {
			s.MustSend(t, request("GET /customers", []string{"Authorization: " + s.basic(demo)}, ""))
		}
		event := s.mustSettle(t, 2)[1]
		got := map[string]any{}
		for _, name := range []string{"status", "limit", "code", "merchant", "key", "route"} {
			got[name] = event[name]
		}
		if diff := cmp.Diff(map[string]any{
			"status": 429.0, "limit": want, "code": "too_many_requests", "merchant": demo, "key": string(s.keys[demo].id), "route": "/customers",
		}, got); diff != "" {
			t.Errorf("%+v: the second request (-want +got):\n%s", limits, diff)
		}
	}
}
