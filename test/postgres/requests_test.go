package postgres_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// Requests to all nodes are in the request log, also of those that ended, and it has
// nothing of what they carried.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	d := MustDeploy(t, postgres.Shared(t))
	nodes := []*testkit.Server{d.node(t, ""), d.node(t, "")}
	acme := d.MustMerchant(t, "acme")
	const canary = "canary" // in everything that is not to be there
	header := http.Header{
		"X-Request-Id": {canary + "@example.com"}, "X-Customerid": {canary}, "X-Routing-Id": {canary}, "User-Agent": {canary},
		"Referer": {"https://example.com/" + canary}, "Cookie": {"a=" + canary}, "X-Anything": {canary},
	}
	key := func(text string) http.Header {
		with := header.Clone()
		with.Set("Idempotency-Key", text)
		return with
	}
	person := url.Values{
		"object_reference_id": {canary + "@example.com"}, "mobile_number": {"9876543210"}, "email_address": {canary + "@example.com"},
		"first_name": {canary}, "last_name": {canary}, "metadata[" + canary + "]": {canary}, canary: {canary},
	}
	customer := ""
	for _, node := range nodes {
		c := newClient(t, node.BaseURL, acme.Key)
		for _, r := range []struct {
			method, path string
			form         url.Values
			status       int
		}{
			{http.MethodPost, "/customers?" + canary + "=" + canary, person, 200},
			{http.MethodGet, "/customers/" + canary + "@example.com", nil, 200},
			{http.MethodGet, "/customers?email_address=" + canary + "@example.com", nil, 200},
			{http.MethodPost, "/customers", url.Values{"first_name": {canary + "\x00"}}, 400},
			{http.MethodGet, "/customers/nobody-" + canary, nil, 404},
			{http.MethodGet, "/" + canary, nil, 404},
			{canary, "/customers/" + canary, nil, 405},
		} {
			a, err := c.send(t.Context(), r.method, r.path, r.form, key(canary+r.method+r.path))
			if err != nil || a.status != r.status {
				t.Fatalf("%s %s is answered %d %s (%v), want %d", r.method, r.path, a.status, a.body, err, r.status)
			}
			if made, err := a.customer(); customer == "" && err == nil {
				customer = made.ID
			}
		}
		nobody := newClient(t, node.BaseURL, "canary-has-no-key")
		if a, err := nobody.send(t.Context(), http.MethodGet, "/customers/"+canary, nil, header); err != nil || a.status != http.StatusUnauthorized {
			t.Fatalf("a wrong key is answered %d %s (%v)", a.status, a.body, err)
		}
		node.Stop(t)
	}
	// What has no path is nobody's: it is answered before its key is looked at.
	for of, want := range map[string]string{"acme": "12", "@unknown": "4"} {
		if got := d.query(t, "SELECT sum(requests) FROM request_blocks WHERE merchant_id = '"+of+"'"); got[0] != want {
			t.Errorf("the request log has %s requests of %s, want %s", got[0], of, want)
		}
	}
	rows := d.query(t, `SELECT encode(content, 'escape') || encode(filter, 'escape') FROM request_blocks UNION ALL SELECT node || encode(data, 'escape') FROM request_stats`)
	all := strings.Join(rows, "\n")
	if strings.Contains(strings.ToLower(all), canary) || strings.Contains(all, "9876543210") {
		t.Errorf("the request log has what the requests carried: %q", all)
	}
	if customer == "" || !strings.Contains(all, customer) || !strings.Contains(all, acme.ID) {
		t.Errorf("the customer %s and the key %s, which may be there, are not found in the request log: %q", customer, acme.ID, all)
	}
}
