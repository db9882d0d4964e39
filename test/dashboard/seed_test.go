package dashboard_test

import (
	"net/http"
	"net/url"
	"testing"
)

// seeds are what there is to see.
type seeds struct {
	customers []string // ids
	request   string   // the id of a request
}

// mustSeed has the sandbox's merchant look as if it were in use for a while.
func mustSeed(t testing.TB, s *site) (seen seeds) {
	t.Helper()
	c := s.MustCaller(t, s.Key, "127.0.0.1")
	for n := range 100 {
		form := person(n)
		if n%10 == 3 {
			form.Set("metadata[plan]", "gold")
		}
		seen.customers = append(seen.customers, c.MustCreate(t, form))
	}
	for range 12 {
		c.Do(t, http.MethodPost, "/customers/"+seen.customers[0], url.Values{"first_name": {"Asha"}})
	}
	return seen
}
