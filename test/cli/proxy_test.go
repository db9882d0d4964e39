package cli_test

import (
	"net/http"
	"path/filepath"
	"testing"

	"grahak/internal/testkit"
)

// TestForwardedFor checks that X-Forwarded-For counts only when a trusted proxy wrote it, and then from the right. The
// IP list of the merchant tells which address the server took for the client's.
func TestForwardedFor(t *testing.T) {
	const listed, other = "203.0.113.7", "198.51.100.1"
	type request struct {
		name    string
		headers []string
		allowed bool
	}
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	run(t, "iplist", "add", listed, "--merchant", "demo", "--data", data).done(t)
	run(t, "iplist", "mode", "enforce", "--merchant", "demo", "--data", data).done(t)
	key := createKey(t, data, "demo").Key
	for _, server := range []struct {
		trusted  string
		requests []request
	}{
		{"", []request{{"nobody is trusted", []string{listed}, false}}},
		{"10.0.0.0/8", []request{{"the peer is not trusted", []string{listed}, false}}},
		{"127.0.0.1", []request{
			{"no header", nil, false},
			{"the client", []string{listed}, true},
			{"another client", []string{other}, false},
			{"a client that pretends", []string{listed + ", " + other}, false},
			{"what stands before the client", []string{other + ", " + listed}, true},
			{"two headers", []string{other, listed}, true},
			{"two headers of a client that pretends", []string{listed, other}, false},
			{"a client that pretends to be behind a proxy", []string{listed + ", 10.1.2.3"}, false},
			{"IPv4-mapped", []string{"::ffff:" + listed}, true},
			{"with a port", []string{listed + ":4711"}, true},
			{"what is no address", []string{listed + ", unknown"}, false},
			{"empty", []string{""}, false},
		}},
		{"::ffff:127.0.0.0/104,10.0.0.0/8,2001:db8::1", []request{
			{"a network of proxies", []string{listed}, true},
			{"a chain of trusted proxies", []string{other + ", " + listed + ", 10.1.2.3,2001:db8::1"}, true},
			{"a chain in two headers", []string{listed, "10.1.2.3"}, true},
			{"an untrusted proxy in the chain", []string{listed + ", " + other + ", 10.1.2.3"}, false},
			{"nothing but trusted proxies", []string{"10.1.2.3, 10.1.2.4"}, false},
		}},
	} {
		var flags []string
		if server.trusted != "" {
			flags = []string{"--trusted-proxies", server.trusted}
		}
		s := testkit.Start(t, data, flags...)
		for _, r := range server.requests {
			t.Run(r.name, func(t *testing.T) {
				var headers []string
				for _, h := range r.headers {
					headers = append(headers, "X-Forwarded-For", h)
				}
				want := http.StatusForbidden
				if r.allowed {
					want = http.StatusOK
				}
				if got := (caller{base: s.BaseURL, key: key}).list(t, headers...); got != want {
					t.Errorf("%d, want %d", got, want)
				}
			})
		}
		s.Stop(t)
	}
}
