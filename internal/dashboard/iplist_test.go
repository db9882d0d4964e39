package dashboard_test

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/telemetry"
	"grahak/internal/web"
)

// backend calls the API beside a site.
type backend struct {
	url, key string
}

// MustServeAPI returns a caller of the API of the site's service, with a key of acme. The
// API believes callers which address they have, and notes requests in the log.
func (s *site) MustServeAPI(tb testing.TB) *backend {
	tb.Helper()
	srv := httptest.NewServer(web.NewHandler(web.Config{
		Edge: api.New(s.service), Requests: s.service.NoteRequest, Logger: slog.New(slog.DiscardHandler), Observer: telemetry.NewMetrics("test"),
		Clock: s.clock, Random: rand.Reader, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}))
	tb.Cleanup(srv.Close)
	_, key := s.mustKey(tb, grahak.KeySpec{Label: "checkout"})
	return &backend{url: srv.URL, key: key}
}

// call asks for a path from an address and returns the status and the request's id.
func (c *backend) call(tb testing.TB, from, path string) (status int, id string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.SetBasicAuth(c.key, "")
	req.Header.Set("X-Forwarded-For", from)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get("X-Request-Id")
}

const ipPage = "/dashboard/m/acme/ip"

// The API is put behind the list from the page; a call from an address that is not on it
// is refused, and the page offers to add the address, after which the call works.
func TestIPListStory(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	backend := s.MustServeAPI(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	status := func(from string) int {
		t.Helper()
		status, _ := backend.call(t, from, "/customers?count=1")
		return status
	}
	wantEqual(t, "before", http.StatusOK, status("203.0.113.7"))
	page := b.Get(t, ipPage).want(t, http.StatusOK)
	wantEqual(t, "callers", []string{"203.0.113.7"}, page.all("#callers tbody code"))
	wantEqual(t, "the visitor", "Your address is 127.0.0.1, which is not on the list.", page.text("#you"))
	if !strings.Contains(page.text("main"), "grahak iplist mode off --merchant acme") {
		t.Error("the page does not name the way out on the command line")
	}

	// One click adds the caller; then enforcing shuts out nobody and asks nothing.
	b.Post(t, ipPage+"/add", "address", page.attr("#callers input[name=address]", "value"), "label", page.attr("#callers input[name=label]", "value")).redirect(t, ipPage)
	b.Post(t, ipPage+"/mode", "mode", "enforce").redirect(t, ipPage)
	page = b.Get(t, ipPage).want(t, http.StatusOK)
	wantEqual(t, "the state", "enforced", page.text("header .badge"))
	wantEqual(t, "an address on the list", http.StatusOK, status("203.0.113.7"))
	wantEqual(t, "another address", http.StatusForbidden, status("198.51.100.9"))
	wantEqual(t, "this page", http.StatusOK, b.Get(t, ipPage).status)

	page = b.Get(t, ipPage).want(t, http.StatusOK)
	wantEqual(t, "callers", []string{"198.51.100.9"}, page.all("#callers tbody code"))
	wantEqual(t, "calls, refused, would be refused", []string{"1", "1", "0"}, page.all("#callers tbody td.num"))
	b.Post(t, ipPage+"/add", "address", page.attr("#callers input[name=address]", "value")).redirect(t, ipPage)
	wantEqual(t, "the address after one click", http.StatusOK, status("198.51.100.9"))

	// To remove one of two that are in use is shown first, and done after that.
	remove := []string{"address", "198.51.100.9/32"}
	page = b.Post(t, ipPage+"/remove", remove...).want(t, http.StatusOK)
	wantEqual(t, "who would be shut out", []string{"198.51.100.9"}, page.all("#shutout code"))
	wantEqual(t, "nothing is done yet", http.StatusOK, status("198.51.100.9"))
	b.Post(t, page.attr("main form", "action"), "address", page.attr("main input[name=address]", "value"), "seen", page.attr("main input[name=seen]", "value")).redirect(t, ipPage)
	wantEqual(t, "the address that was removed", http.StatusForbidden, status("198.51.100.9"))

	// To shut out everybody takes the merchant's id.
	remove = []string{"address", "203.0.113.7/32"}
	page = b.Post(t, ipPage+"/remove", append(remove, "seen", "1")...).want(t, http.StatusOK)
	wantEqual(t, "what is to be typed", "Type acme to confirm", page.text("label[for=f-typed-confirm]"))
	page = b.Post(t, ipPage+"/remove", append(remove, "confirm", "Acme")...).want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "what is wrong", "This is not the merchant's id.", page.text(".error"))
	wantEqual(t, "nothing is done yet", http.StatusOK, status("203.0.113.7"))
	b.Post(t, ipPage+"/remove", append(remove, "confirm", "acme")...).redirect(t, ipPage)
	wantEqual(t, "the last address", http.StatusForbidden, status("203.0.113.7"))
	page = b.Get(t, ipPage).want(t, http.StatusOK)
	wantEqual(t, "the alarm", "The list is enforced and empty: every call is refused.", page.text("main p[role=alert]"))
	b.Post(t, ipPage+"/mode", "mode", "off").redirect(t, ipPage)
	wantEqual(t, "without the list", http.StatusOK, status("203.0.113.7"))

	var actors []string
	for _, e := range s.mustEvents(t) {
		if strings.HasPrefix(string(e.Type), "ip_") || strings.HasPrefix(string(e.Type), "iplist") {
			actors = append(actors, e.Actor)
		}
	}
	wantEqual(t, "who changed the list", []string{"operator:asha"}, slices.Compact(actors))
}

// Report mode shows who would be refused, and a test says what the list makes of an
// address.
func TestIPReport(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	backend := s.MustServeAPI(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	b.Post(t, ipPage+"/add", "address", "2001:db8::/32", "label", "Mumbai").redirect(t, ipPage)
	b.Post(t, ipPage+"/mode", "mode", "report").redirect(t, ipPage)
	for _, from := range []string{"2001:db8::7", "198.51.100.9", "198.51.100.9"} {
		if status, _ := backend.call(t, from, "/customers?count=1"); status != http.StatusOK {
			t.Errorf("a call from %s is answered %d", from, status)
		}
	}
	page := b.Get(t, ipPage).want(t, http.StatusOK)
	wantEqual(t, "callers", []string{"198.51.100.9"}, page.all("#callers tbody code"))
	wantEqual(t, "calls, refused, would be refused", []string{"2", "0", "2"}, page.all("#callers tbody td.num"))
	wantEqual(t, "the entry", []string{"2001:db8::/32", "Mumbai", "operator:asha"}, page.all("section[aria-labelledby=entries] tbody td")[:3])

	verdict := func(address, want string) {
		t.Helper()
		wantEqual(t, address, want, b.Get(t, ipPage+"?test="+address).want(t, http.StatusOK).text("#verdict"))
	}
	verdict("2001:db8:1::1", "2001:db8:1::1 let in The entry 2001:db8::/32 holds it.")
	verdict("203.0.113.1", "203.0.113.1 let in No entry holds it: it would be refused if the list were enforced.")
	page = b.Get(t, ipPage+"?test=nonsense").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "a test of nonsense", `"nonsense" is not an IP address.`, page.text(".error"))
	// The only one on the list that has called goes on, the other one does not.
	page = b.Post(t, ipPage+"/mode", "mode", "enforce").want(t, http.StatusOK)
	wantEqual(t, "who would be shut out", []string{"198.51.100.9"}, page.all("#shutout code"))
	b.Post(t, ipPage+"/mode", "mode", "enforce", "seen", "1").redirect(t, ipPage)
	verdict("203.0.113.1", "203.0.113.1 refused No entry holds it, and the list is enforced.")

	page = b.Post(t, ipPage+"/add", "address", "203.0.113", "label", "typo").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "the address", "203.0.113", page.attr("input[name=address][required]", "value"))
	wantEqual(t, "the label", "typo", page.attr("form.inline input[name=label]", "value"))
	b.Post(t, ipPage+"/add", "address", "2001:db8::/32").want(t, http.StatusUnprocessableEntity)
	b.Post(t, ipPage+"/mode", "mode", "strict").redirect(t, ipPage)
	b.Post(t, ipPage+"/remove", "address", "192.0.2.1").want(t, http.StatusNotFound)
}

// A viewer sees the pages of admins without what a viewer may not press.
func TestViewersPages(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	key, _ := s.mustKey(t, grahak.KeySpec{Label: "checkout"})
	w, _, err := s.service.CreateWebhook(t.Context(), console(acme), grahak.WebhookSpec{URL: "https://hooks.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.service.AddIPEntry(t.Context(), console(acme), "203.0.113.7", ""); err != nil {
		t.Fatal(err)
	}
	b := s.MustEnter(t, "vik", grahak.RoleViewer)
	at := "/dashboard/m/acme/"
	for _, path := range []string{"keys", "keys/" + string(key.ID) + "/rotate", "keys/" + string(key.ID) + "/revoke", "ip", "webhooks", "webhooks/" + string(w.ID), "requests"} {
		page := b.Get(t, at+path).want(t, http.StatusOK)
		wantEqual(t, path+": forms to send", 0, len(page.all("main form[method=post]")))
	}
}
