package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// mustSeed has the sandbox's merchant look as if it were in use for a while, and returns
// the ids of its customers.
func mustSeed(t testing.TB, s *site) (customers []string) {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(receiver.Close)
	s.MustRun(t, "webhook", "create", "--merchant", s.Merchant, "--url", receiver.URL+"/hooks/customers", "--label", "accounting")
	s.MustRun(t, "webhook", "create", "--merchant", s.Merchant, "--url", receiver.URL+"/down", "--label", "a-label-without-any-break-that-is-as-long-as-labels-of-webhooks")
	for _, entry := range []string{"203.0.113.0/24", "2001:db8:85a3:8d3:1319:8a2e:370:7348", "198.51.100.7"} {
		s.MustRun(t, "iplist", "add", "--merchant", s.Merchant, entry, "--label", "Mumbai data centre, the second of three halls")
	}
	s.MustRun(t, "iplist", "mode", "--merchant", s.Merchant, "report")

	for n := range 100 {
		form := person(n)
		if n%10 == 0 {
			form.Set("metadata[plan]", "gold")
			form.Set("metadata[a_key_of_a_program_at_full_length]", "a-value-without-a-break-of-which-nobody-knows-how-long-it-may-be-and-what-it-is-for")
		}
		if n == 0 {
			form.Set("options.get_client_auth_token", "true")
		}
		customers = append(customers, s.MustCaller(t, s.Key, "127.0.0.1").MustCreate(t, form))
	}
	// Most of what follows is refused, in ways that people ask about.
	callers := []*caller{s.MustCaller(t, s.Key, "127.0.0.1"), s.MustCaller(t, s.Key, "127.80.90.100"), s.MustCaller(t, "gk_sandbox_0", "127.0.0.1")}
	for n := range 900 {
		c := callers[n%7%3]
		switch {
		case n%5 == 0:
			c.Do(t, http.MethodPost, "/customers", person(n%10))
		case n%9 == 0:
			callers[0].Do(t, http.MethodPost, "/customers/"+customers[0], url.Values{"first_name": {person(n).Get("first_name")}})
		case n%11 == 0:
			c.Do(t, http.MethodGet, "/customers/nobody", nil)
		case n < 700:
			c.Do(t, http.MethodGet, "/customers/"+customers[n%100], nil)
		}
	}
	return customers
}
