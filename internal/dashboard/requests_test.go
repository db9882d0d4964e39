package dashboard_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"grahak"
)

const requestsPage = "/dashboard/m/acme/requests"

// mustNote notes n requests of a kind, a second apart, and returns the id of the last.
func (s *site) mustNote(n int, r grahak.RequestRecord) string {
	for range n {
		s.clock.Advance(time.Second)
		r.At = s.clock.Now()
		r.RequestID = "req-" + r.At.Format("150405")
		s.service.NoteRequest(r)
	}
	return r.RequestID
}

// What was asked of the API shows in the log, with a page of its own for each request and
// a command that repeats it without secrets.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	backend := s.MustServeAPI(t)
	b := s.MustEnter(t, "vik", grahak.RoleViewer)
	page := b.Get(t, requestsPage).want(t, http.StatusOK)
	wantEqual(t, "the empty log", "No requests yet", page.text(".empty h2"))

	customer := s.mustCreate(t, "asha@example.com")
	if status, _ := backend.call(t, "203.0.113.7", "/customers/asha@example.com"); status != http.StatusOK {
		t.Fatalf("the call is answered %d", status)
	}
	s.clock.Advance(time.Second)
	_, missing := backend.call(t, "198.51.100.9", "/customers/nobody@example.com")
	page = b.Get(t, requestsPage).want(t, http.StatusOK)
	wantEqual(t, "the statuses, newest first", []string{"404", "200"}, page.all("tbody .badge"))
	wantEqual(t, "the request", "GET /customers/{id}", page.text("tbody .mono"))
	wantEqual(t, "the key", "checkout", page.text("td[data-label=Key]"))
	wantEqual(t, "the permalink", requestsPage+"/"+missing, page.attr("td[data-label=Request] a", "href"))
	found := page.attr("tbody tr:nth-of-type(2) td[data-label=Request] a", "href")

	page = b.Get(t, requestsPage+"/"+missing).want(t, http.StatusOK)
	wantEqual(t, "the error's code", "customer_not_found", page.text("dd a code"))
	wantEqual(t, "the test of the address", ipPage+"?test=198.51.100.9", page.attr("dd a[href*='ip?test']", "href"))
	page = b.Get(t, found).want(t, http.StatusOK)
	wantEqual(t, "the customer", "/dashboard/m/acme/customers/"+string(customer.ID), page.attr("dd a[href*=customers]", "href"))
	wantEqual(t, "the command", "curl -u YOUR_KEY: -H 'x-merchantid: acme' '"+s.url+"/customers/"+string(customer.ID)+"'", page.text("pre"))
	for _, path := range []string{requestsPage, found} {
		body := b.Get(t, path).body
		if strings.Contains(body, "asha@example.com") || strings.Contains(body, backend.key) {
			t.Errorf("%s shows the customer or the key", path)
		}
	}
	// Whatever the log has for an id, it is a part of the command's last word.
	odd := s.mustNote(1, grahak.RequestRecord{Merchant: acme, Method: "GET", Route: "/customers/{id}", Customer: "a'; echo $(id) '", Status: 200})
	page = b.Get(t, requestsPage+"/"+odd).want(t, http.StatusOK)
	wantEqual(t, "the command", "curl -u YOUR_KEY: -H 'x-merchantid: acme' '"+s.url+"/customers/a%27%3B%20echo%20$%28id%29%20%27'", page.text("pre"))
	b.Get(t, requestsPage+"/no-such-id").want(t, http.StatusNotFound)
	// Another merchant's log is another one.
	s.MustOperator(t, "ria", rival, grahak.RoleViewer)
	ria := s.MustLogin(t, "ria")
	wantEqual(t, "the rival's log", 0, len(ria.Get(t, "/dashboard/m/rival/requests").want(t, http.StatusOK).all("tbody tr")))
	ria.Get(t, "/dashboard/m/rival/requests/"+missing).want(t, http.StatusNotFound)
	ria.Get(t, requestsPage).want(t, http.StatusNotFound)
}

// The log is read by pages, and by filters that stand in the URL.
func TestRequestFilters(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	key, _ := s.mustKey(t, grahak.KeySpec{Label: "checkout"})
	record := func(method string, status int, code, addr string) grahak.RequestRecord {
		return grahak.RequestRecord{
			Merchant: acme, Key: key.ID, Method: method, Route: "/customers", Status: status, Code: code, Addr: mustAddr(addr), Took: time.Millisecond,
		}
	}
	s.mustNote(60, record("GET", 200, "", "203.0.113.7"))
	s.mustNote(3, record("POST", 400, "invalid_field", "203.0.113.8"))
	s.mustNote(1, record("POST", 503, "unavailable", "2001:db8::1"))
	b := s.MustEnter(t, "vik", grahak.RoleViewer)
	rows := func(query string) int {
		t.Helper()
		return len(b.Get(t, requestsPage+"?"+query).want(t, http.StatusOK).all("tbody tr"))
	}
	for query, want := range map[string]int{
		"status=400": 3, "status=4xx": 3, "status=5": 1, "status=404": 0,
		"method=POST": 4, "method=post": 4, "code=unavailable": 1, "route=/customers&status=4xx": 3, "route=/orders": 0,
		"key=" + string(key.ID) + "&status=503": 1, "key=key_other": 0,
		"addr=203.0.113.8": 3, "addr=203.0.113.0/24&method=POST": 3, "addr=2001:db8::/32": 1, "customer=cst_nobody": 0,
		"from=" + url.QueryEscape(s.clock.Now().UTC().Add(-2500*time.Millisecond).Format(time.RFC3339Nano)): 3,
	} {
		if got := rows(query); got != want {
			t.Errorf("%s: %d rows, want %d", query, got, want)
		}
	}

	page := b.Get(t, requestsPage+"?method=GET").want(t, http.StatusOK)
	wantEqual(t, "rows of the first page", 50, len(page.all("tbody tr")))
	wantEqual(t, "the filter", "GET", page.attr("select[name=method] option[selected]", "value"))
	page = b.Get(t, page.attr("a[rel=next]", "href")).want(t, http.StatusOK)
	wantEqual(t, "rows of the second page", 10, len(page.all("tbody tr")))
	wantEqual(t, "the way back", requestsPage+"?method=GET", page.attr("a[rel=first]", "href"))
	wantEqual(t, "nothing behind", "", page.attr("a[rel=next]", "href"))

	for query, field := range map[string]string{"status=many": "status", "addr=here": "addr", "from=yesterday": "from", "until=never": "until"} {
		page := b.Get(t, requestsPage+"?"+query).want(t, http.StatusUnprocessableEntity)
		if page.text("#f-"+field+"-error") == "" {
			t.Errorf("%s: the field says nothing", query)
		}
	}
	b.Get(t, requestsPage+"?before=nonsense").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "nothing fits", "Nothing fits", b.Get(t, requestsPage+"?status=404").text(".empty h2"))
}

// Requests with keys that are none are nobody's, and for those with a role everywhere.
func TestUnknownRequests(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.mustNote(2, grahak.RequestRecord{Method: "GET", Route: "/customers", Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalUnknown, Addr: mustAddr("198.51.100.9")})
	b := s.MustEnter(t, "vik", grahak.RoleOwner)
	wantEqual(t, "tabs of a member", 0, len(b.Get(t, requestsPage).want(t, http.StatusOK).all(".tabs a")))
	b.Get(t, requestsPage+"?unknown=1").want(t, http.StatusForbidden)
	s.MustOperator(t, "root", everywhere, grahak.RoleViewer)
	root := s.MustLogin(t, "root")
	page := root.Get(t, requestsPage).want(t, http.StatusOK)
	wantEqual(t, "the merchant's own", 0, len(page.all("tbody tr")))
	page = root.Get(t, page.attr(".tabs li:nth-of-type(2) a", "href")).want(t, http.StatusOK)
	wantEqual(t, "statuses", []string{"401", "401"}, page.all("tbody .badge"))
	wantEqual(t, "the filters stay in the log", "1", page.attr("form input[name=unknown]", "value"))
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
