package dashboard_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"grahak"
)

// The log tells every change in words, with the way to what it was about, and is read
// page by page.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "vera", grahak.RoleViewer)
	id := s.MustCustomer(t)
	key, _ := s.mustKey(t, grahak.KeySpec{})
	page := b.Get(t, "/dashboard/m/acme/audit").want(t, http.StatusOK)
	wantEqual(t, "what happened", []string{
		"API key made " + string(key.ID), "Customer created " + string(id), "Role given: vera:viewer", "Merchant created",
	}, page.all("table.events td[data-label=What]"))
	wantEqual(t, "the key's page", "/dashboard/m/acme/keys#"+string(key.ID), page.attr("table.events a", "href"))
	wantEqual(t, "a button to check", 0, len(page.all("form[action$=check]")))
	for query, want := range map[string]int{
		"type=customer.":                 1,
		"type=customer.created":          1,
		"type=customer.erased":           0,
		"actor=cli:tester":               3,
		"actor=nobody":                   0,
		"subject=" + string(id):          1,
		"type=api_key.&actor=cli:tester": 1,
		"type=%3Cscript%3E":              0,
		"before=2":                       1,
	} {
		page := b.Get(t, "/dashboard/m/acme/audit?"+query).want(t, http.StatusOK)
		wantEqual(t, query, want, len(page.all("table.events tbody tr")))
	}
	b.Get(t, "/dashboard/m/acme/audit?before=x").want(t, http.StatusNotFound)
	for range 50 {
		s.MustCustomer(t)
	}
	first := b.Get(t, "/dashboard/m/acme/audit").want(t, http.StatusOK)
	rest := b.Get(t, first.attr(".pager a[rel=next]", "href")).want(t, http.StatusOK)
	wantEqual(t, "the pages", []int{50, 4}, []int{len(first.all("table.events tbody tr")), len(rest.all("table.events tbody tr"))})
	wantEqual(t, "the number of the last", "54", first.text("table.events td"))
}

// An admin has the chain checked, with or without a head that was noted.
func TestChainCheck(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "anil", grahak.RoleAdmin)
	s.MustCustomer(t)
	if err := s.service.OrderEvents(t.Context(), console(acme)); err != nil {
		t.Fatal(err)
	}
	head := b.Get(t, "/dashboard/m/acme/audit").want(t, http.StatusOK).text("section[aria-labelledby=chain] code")
	if _, err := grahak.ParseAnchor(head); err != nil {
		t.Fatal(err)
	}
	check := func(anchor string, status int) *reply {
		t.Helper()
		return b.Post(t, "/dashboard/m/acme/audit/check", "anchor", anchor).want(t, status)
	}
	for _, anchor := range []string{"", head} {
		wantEqual(t, "the check", "All 3 events fit the chain.", check(anchor, http.StatusOK).text("#check .flash"))
	}
	forged := "1:" + strings.Repeat("0", 64)
	if got := check(forged, http.StatusOK).text("#check .flash.trouble"); !strings.Contains(got, "does not agree with the anchor") {
		t.Errorf("with another head the page says %q", got)
	}
	wantEqual(t, "what was entered", "3", check("3", http.StatusUnprocessableEntity).attr("[name=anchor]", "value"))
}

// A filter stays through the pages of what it chooses.
func TestAuditFilterIsKept(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "vera", grahak.RoleViewer)
	for range 51 {
		s.MustCustomer(t)
	}
	next := b.Get(t, "/dashboard/m/acme/audit?type=customer.&actor=test").want(t, http.StatusOK).attr(".pager a[rel=next]", "href")
	u, err := url.Parse(next)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the next page", []string{"customer.", "test"}, []string{u.Query().Get("type"), u.Query().Get("actor")})
	wantEqual(t, "how many are left", 1, len(b.Get(t, next).want(t, http.StatusOK).all("table.events tbody tr")))
}
