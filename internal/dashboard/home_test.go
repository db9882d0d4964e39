package dashboard_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"grahak"
)

// A new merchant's home shows how to make the first customer, and what is missing.
func TestHomeEmpty(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	page := s.MustEnter(t, "asha", grahak.RoleAdmin).Get(t, "/dashboard/m/acme/").want(t, 200)
	if got := page.text("pre"); !strings.HasPrefix(got, "curl "+s.url+"/customers -u YOUR_KEY:") {
		t.Errorf("the page shows %q", got)
	}
	if got := page.all(".notes li"); len(got) != 1 || !strings.Contains(got[0], "No key works") {
		t.Errorf("what needs attention is %q", got)
	}
	if page.text(".chart") != "" {
		t.Error("charts are drawn of nothing")
	}
	for _, want := range []string{".environment.sandbox", `a[aria-current=page][href="/dashboard/m/acme/"]`, `form[role=search][action="/dashboard/m/acme/customers/search"]`} {
		if len(page.all(want)) == 0 {
			t.Errorf("the page has no %s", want)
		}
	}
}

// Without a request log the home does not say that there were no requests.
func TestHomeWithoutRequestLog(t *testing.T) {
	t.Parallel()
	s := mustServe(t, nil)
	b := s.MustEnter(t, "asha", grahak.RoleViewer)
	s.MustCustomer(t)
	page := b.Get(t, "/dashboard/m/acme/").want(t, 200)
	if got := page.all(".stat"); len(got) != 1 || page.text("#customers") != "1" {
		t.Errorf("the figures are %q", got)
	}
	if got := page.text("main p.muted"); !strings.Contains(got, "no request log") {
		t.Errorf("the page says %q", got)
	}
	if got := b.Get(t, "/dashboard/m/acme/requests").want(t, 200).text(".empty"); !strings.Contains(got, "--requests-keep") {
		t.Errorf("the list of requests says %q", got)
	}
}

// Charts tell what the request log tells, to those who see them and to those who do not.
func TestHomeCharts(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	if _, _, err := s.service.CreateKey(t.Context(), console(acme), grahak.KeySpec{Label: "billing", Scope: grahak.ScopeRead, ExpiresAt: s.clock.Now().Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	s.MustCustomer(t)
	for i := range 12 {
		r := grahak.RequestRecord{
			At: s.clock.Now().Add(-time.Duration(i) * time.Minute), RequestID: "r", Merchant: acme, Key: "key_1", Method: "POST", Route: "/customers",
			Status: 200, Took: 3 * time.Millisecond, Addr: netip.MustParseAddr("192.0.2.1"), Created: true,
		}
		if i%4 == 0 {
			r.Status, r.Code, r.Created = 400, "duplicate_reference", false
		}
		s.service.NoteRequest(r)
	}
	page := s.MustEnter(t, "asha", grahak.RoleViewer).Get(t, "/dashboard/m/acme/?span=7d").want(t, 200)
	wantEqual(t, "the figures", []string{"1", "9", "12", "3"}, page.all(".stat dd")[:4])
	if got := page.attr(".chart [role=img]", "aria-label"); got != "Requests. 12 requests, 3 of them with a client's error and 0 with a server's." {
		t.Errorf("the chart is called %q", got)
	}
	if got := page.all(".chart [role=img]:has(svg.scale):has(svg.plot)"); len(got) != 3 {
		t.Errorf("%d charts are drawn", len(got))
	}
	if len(page.all(".chart g rect.c1")) == 0 || len(page.all(".chart g rect.c3")) == 0 || page.attr(".chart path.line", "d") == "" {
		t.Error("there are no bars or lines")
	}
	// A step without neighbours is a dot, as is the newest.
	if got := page.all(".chart circle[r='3.5']"); len(got) != 3 {
		t.Errorf("%d dots are drawn", len(got))
	}
	if len(page.all(".chart details tbody tr")) == 0 {
		t.Error("there are no figures")
	}
	if got := page.text("section[aria-labelledby=codes] tbody tr"); !strings.HasPrefix(got, "duplicate_reference") || !strings.HasSuffix(got, "3") {
		t.Errorf("the errors are %q", got)
	}
	if got := page.text(".tabs [aria-current]"); got != "7 days" {
		t.Errorf("the span is %q", got)
	}
	if got := page.text(".notes"); !strings.Contains(got, "billing expires on") {
		t.Errorf("what needs attention is %q", got)
	}
	if len(page.body) > 60<<10 {
		t.Errorf("the page has %d bytes", len(page.body))
	}
}

// However many merchants there are, a page lists a hundred of them, and a part of an id or
// a name finds the others.
func TestManyMerchants(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	for i := range 100 {
		if _, err := s.service.CreateMerchant(t.Context(), console(grahak.MerchantID(fmt.Sprintf("shop%03d", i))), fmt.Sprintf("Shop of %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.MustOperator(t, "asha", everywhere, grahak.RoleViewer)
	b := s.MustLogin(t, "asha")
	page := b.Get(t, "/dashboard/").want(t, 200)
	wantEqual(t, "how many are listed", 100, len(page.all("tbody tr")))
	wantEqual(t, "the hint", "And 2 more.", page.text("p.hint"))
	if len(page.body) > 100<<10 {
		t.Errorf("the page has %d bytes", len(page.body))
	}
	for find, want := range map[string][]string{"SHOP099": {"shop099"}, "of+42": {"shop042"}, "rival": {"rival"}, "nobody": nil, "acme%0A": {"acme"}} {
		wantEqual(t, find, want, b.Get(t, "/dashboard/?all=1&find="+find).want(t, 200).all("td[data-label=Id]"))
	}
}
