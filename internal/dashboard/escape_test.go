package dashboard_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"grahak"
)

// hostile is text that ends what it stands in, for whoever does not escape it, and turns
// around what follows it, for whoever does not set it apart. It has 38 code points.
const hostile = `"'></b><script>alert(1)</script>` + "\u202e\u05d0" + `{{&lt`

// wantHarmless checks that nothing on a page but its own script is one: no element, and
// no attribute.
func (r *reply) wantHarmless(tb testing.TB) {
	tb.Helper()
	for n := range r.doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(value, "javascript:") ||
				n.Data == "script" && a.Key == "src" && !strings.HasPrefix(value, "/dashboard/static/") {
				tb.Errorf("%s has <%s %s=%q>", r.request, n.Data, a.Key, a.Val)
			}
		}
		if n.Data == "script" && n.FirstChild != nil {
			tb.Errorf("%s has a script: %s", r.request, n.FirstChild.Data)
		}
	}
}

// wantShown checks that the page is harmless and says the text, in an element that a
// selector finds.
func (r *reply) wantShown(tb testing.TB, selector, want string) *reply {
	tb.Helper()
	r.wantHarmless(tb)
	for _, got := range r.all(selector) {
		if strings.Contains(got, want) {
			return r
		}
	}
	tb.Errorf("%s: %q do not say %q", r.request, r.all(selector), want)
	return r
}

// Whatever stands in a field that people or programs fill, pages show it as it is and do
// nothing else with it.
func TestEscaping(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.mustRun(t)
	const shop grahak.MerchantID = "shop"
	if _, err := s.service.CreateMerchant(t.Context(), console(shop), hostile); err != nil {
		t.Fatal(err)
	}
	const email = `a@'"><script>1</script>` + "\u202e"
	given := func(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }
	made, err := s.service.CreateCustomer(t.Context(), grahak.Caller{Merchant: shop, Actor: hostile, Scope: grahak.ScopeWrite, RequestID: hostile}, grahak.CustomerInput{
		Reference: given(hostile), MobileNumber: given("9988776655"), Email: given(email),
		FirstName: given(hostile + "first"), LastName: given(hostile + "last"),
		Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: hostile, Value: hostile + "value"}}},
	}, grahak.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := s.service.CreateKey(t.Context(), console(shop), grahak.KeySpec{Label: hostile, Scope: grahak.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.service.AddIPEntry(t.Context(), console(shop), "192.0.2.0/24", hostile); err != nil {
		t.Fatal(err)
	}
	const address = "https://hooks.example.com/'><script>alert(1)</script>?{{"
	hook, _, err := s.service.CreateWebhook(t.Context(), console(shop), grahak.WebhookSpec{URL: address, Label: hostile})
	if err != nil {
		t.Fatal(err)
	}
	s.service.NoteRequest(grahak.RequestRecord{
		At: s.clock.Now(), RequestID: "request-1", Merchant: shop, Key: key.ID, Method: http.MethodPost, Route: "/customers", Status: 400, Code: hostile,
		Addr: netip.MustParseAddr("2001:db8::1"), Customer: made.Customer.ID,
	})
	s.MustOperator(t, "asha", everywhere, "")
	if err := s.service.SetRole(t.Context(), console(shop), "asha", grahak.RoleOwner); err != nil {
		t.Fatal(err)
	}
	b := s.MustLogin(t, "asha")
	m := "/dashboard/m/shop/"
	customer := m + "customers/" + string(made.Customer.ID)

	b.until(t, m+"requests", func(r *reply) bool { return len(r.all("tbody tr")) == 1 }).
		wantShown(t, "td[data-label='Error code']", hostile).wantShown(t, "td[data-label=Key]", hostile)
	link := b.Get(t, m+"requests").attr("td[data-label=Request] a", "href")
	b.Get(t, link).want(t, http.StatusOK).wantShown(t, "dd a code", hostile)
	b.Get(t, m).want(t, http.StatusOK).wantShown(t, "h1", hostile).wantShown(t, "section[aria-labelledby=codes] a", hostile)
	b.Get(t, "/dashboard/?all=1").want(t, http.StatusOK).wantShown(t, "td", hostile)

	b.Get(t, m+"customers").want(t, http.StatusOK).wantHarmless(t)
	b.Get(t, customer).want(t, http.StatusOK).wantShown(t, "dt", hostile).wantHarmless(t)
	clear := b.Post(t, customer+"/reveal").want(t, http.StatusOK)
	for _, value := range []string{hostile, hostile + "first", hostile + "last", hostile + "value", email} {
		clear.wantShown(t, "dd", value)
	}
	form := b.Post(t, customer+"/edit").want(t, http.StatusOK)
	form.wantHarmless(t)
	wantEqual(t, "the name to edit", hostile+"first", form.attr("[name=first_name]", "value"))
	b.Get(t, m+"audit").want(t, http.StatusOK).wantShown(t, "td", hostile)
	b.Get(t, m+"audit?actor="+hostileQuery+"&subject="+hostileQuery).want(t, http.StatusOK).wantHarmless(t)

	b.Get(t, m+"keys").want(t, http.StatusOK).wantShown(t, "td b", hostile)
	for _, change := range []string{"rotate", "revoke"} {
		b.Get(t, m+"keys/"+string(key.ID)+"/"+change).want(t, http.StatusOK).wantShown(t, "main", hostile)
	}
	b.Get(t, m+"ip").want(t, http.StatusOK).wantShown(t, "td", hostile)
	b.Get(t, m+"ip?test="+hostileQuery).wantHarmless(t)
	b.Get(t, m+"webhooks").want(t, http.StatusOK).wantShown(t, "td a", hostile).wantShown(t, "td", address)
	b.Get(t, m+"webhooks/"+string(hook.ID)).want(t, http.StatusOK).wantShown(t, "h1", hostile).wantShown(t, "dd", address)
	b.Get(t, m+"team").want(t, http.StatusOK).wantHarmless(t)
	b.Get(t, "/dashboard/settings").want(t, http.StatusOK).wantHarmless(t)
	b.Get(t, m+"requests?code="+hostileQuery+"&from="+hostileQuery+"&key="+hostileQuery+"&addr="+hostileQuery).want(t, http.StatusUnprocessableEntity).wantHarmless(t)

	// What is refused is shown again as it was entered, and a newline ends nothing.
	lines := "a\r\nSet-Cookie: a=b\n" + hostile
	for path, c := range map[string]struct {
		page   string // that has the form
		fields []string
		shown  string // a field that shows again what was entered
	}{
		m + "keys":         {m + "keys", []string{"label", lines, "scope", "read", "expires", ""}, "label"},
		m + "ip/add":       {m + "ip", []string{"address", hostile, "label", lines}, "address"},
		m + "webhooks":     {m + "webhooks", []string{"url", lines, "label", lines, "types", hostile}, "url"},
		m + "customers":    {m + "customers/new", []string{"reference", lines, "first_name", lines, "mobile_number", hostile}, "mobile_number"},
		m + "team/invite":  {m + "team", []string{"name", lines, "role", hostile}, "name"},
		"/dashboard/login": {"/dashboard/login", []string{"name", lines, "password", lines, "code", lines, "next", lines}, "name"},
		"/dashboard/setup": {"/dashboard/setup", []string{"code", lines}, ""},
	} {
		who := b
		if !strings.HasPrefix(path, m) {
			who = s.browser()
		}
		once := who.Get(t, c.page).attr("[name=once]", "value")
		r := who.Post(t, path, append(c.fields, "once", once)...).want(t, http.StatusUnprocessableEntity)
		r.wantHarmless(t)
		if got := r.header.Get("Set-Cookie"); got != "" {
			t.Errorf("%s sets a cookie: %s", path, got)
		}
		if got := r.attr("input:not([type=hidden])[name='"+c.shown+"']", "value"); c.shown != "" && !strings.Contains(got, hostile) {
			t.Errorf("%s shows %q again", path, got)
		}
	}
	b.Post(t, m+"customers/search", "q", hostile).wantHarmless(t)
	b.Get(t, "/dashboard/login?next="+hostileQuery+"&link="+hostileQuery).wantHarmless(t)
}

// hostileQuery is hostile as a parameter of a URL.
const hostileQuery = `%22%27%3E%3C%2Fb%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%E2%80%AE%D7%90%7B%7B%26lt`
