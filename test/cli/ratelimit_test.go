package cli_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"grahak/internal/testkit"
)

// TestRateLimits checks that the settings reach the limits, that they are generous by default, and that 0 switches each
// off.
func TestRateLimits(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for name, c := range map[string]struct {
		env    []string
		flags  []string
		policy string // of a request
		failed int    // authentications in a row before one is refused; 0 for any number
	}{
		"by default":  {nil, nil, `"key";q=50000;w=1`, 60},
		"off":         {nil, []string{"--rate-limit-key=0", "--rate-limit-merchant=0", "--rate-limit-failed=0"}, "", 0},
		"of a key":    {[]string{"GRAHAK_RATE_LIMIT_KEY=1", "GRAHAK_RATE_LIMIT_FAILED=1"}, nil, `"key";q=1;w=1`, 1},
		"of merchant": {[]string{"GRAHAK_RATE_LIMIT_KEY=1"}, []string{"--rate-limit-key=0", "--rate-limit-merchant=1", "--rate-limit-failed=2"}, `"merchant";q=1;w=1`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := testkit.StartEnv(t, data, c.env, c.flags...)
			defer s.Stop(t)
			good := caller{base: s.BaseURL, key: createKey(t, data, "demo").Key}
			first := good.send(t, http.MethodGet, "/customers", "")
			if got := first.header.Get("RateLimit-Policy"); first.status != http.StatusOK || got != c.policy {
				t.Errorf("the first request: %d, RateLimit-Policy: %s, want %s", first.status, got, c.policy)
			}
			// A limit of one a second is met sooner or later by who does not wait.
			if strings.Contains(c.policy, "q=1;") {
				met := false
				for range 100 {
					if a := good.send(t, http.MethodGet, "/customers", ""); a.status == http.StatusTooManyRequests {
						met = a.header.Get("Retry-After") == "1" && a.header.Get("RateLimit-Policy") == c.policy
						break
					}
				}
				if !met {
					t.Error("no request was refused, or not by the limit that is set")
				}
			}
			bad := caller{base: s.BaseURL, key: "0123456789abcdef"}
			refused := 0 // the first of the bad requests that is
			for n := 1; n <= 80 && refused == 0; n++ {
				a := bad.send(t, http.MethodGet, "/customers", "")
				wait, _ := strconv.Atoi(a.header.Get("Retry-After"))
				switch {
				case a.status == http.StatusTooManyRequests && wait >= 1 && wait <= 60:
					refused = n
				case a.status != http.StatusUnauthorized:
					t.Fatalf("a wrong key: %d, Retry-After: %d", a.status, wait)
				}
			}
			// One that a slow run gave back in the meantime may come besides.
			if c.failed == 0 && refused != 0 || c.failed != 0 && (refused <= c.failed || refused > c.failed+15) {
				t.Errorf("wrong key number %d was refused, want %d to be allowed", refused, c.failed)
			}
			if a := good.send(t, http.MethodGet, "/customers", ""); a.status == http.StatusUnauthorized || refused != 0 && a.header.Get("X-Jp-Merchant-Id") != "demo" {
				t.Errorf("the good key after that: %d", a.status)
			}
			if refused != 0 {
				ops := caller{base: s.OpsURL}
				if metrics := ops.send(t, http.MethodGet, "/metrics", "").body; !strings.Contains(metrics, `grahak_limited_requests_total{limit="failed"} 1`) {
					t.Error("the metrics do not count the refused request")
				}
			}
		})
	}
}
