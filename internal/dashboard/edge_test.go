package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/dashboard"
)

// Every answer has the headers that keep a page to itself, whatever its status.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.browser()
	for path, status := range map[string]int{
		"/dashboard/login":        http.StatusOK,
		"/dashboard/m/acme/team":  http.StatusSeeOther,
		"/dashboard/nothing":      http.StatusNotFound,
		"/dashboard/logout":       http.StatusMethodNotAllowed,
		"/dashboard/static/a.css": http.StatusNotFound,
	} {
		r := b.Get(t, path).want(t, status)
		got := make(map[string][]string)
		for name := range dashboard.Headers {
			got[name] = r.header.Values(name)
		}
		if d := cmp.Diff(dashboard.Headers, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
		if got := r.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q", path, got)
		}
	}
	if got := b.Get(t, "/dashboard/logout").header.Get("Allow"); got != "POST" {
		t.Errorf("Allow is %q", got)
	}
}

// Files may be kept by browsers for as long as they like, because their names change with
// what is in them.
func TestStatic(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.browser()
	page := b.Get(t, "/dashboard/login").want(t, http.StatusOK)
	size := len(page.body)
	for selector, want := range map[string]string{"link[rel=stylesheet]": "text/css", "link[rel=icon]": "image/svg+xml", "script": "text/javascript"} {
		path := page.attr(selector, "href") + page.attr(selector, "src")
		r := b.Get(t, path).want(t, http.StatusOK)
		if got := r.header.Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q", path, got)
		}
		if got := r.header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control is %q", path, got)
		}
		size += len(r.body)
	}
	if size > 100<<10 {
		t.Errorf("the smallest page has %d bytes with what it needs", size)
	}
}

// What is sent from another site is refused before anything else is looked at.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	for route := range s.edge.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodPost {
			continue
		}
		for _, from := range []string{"cross-site", "same-site"} {
			b := s.browser()
			b.from = from
			r := b.Post(t, strings.NewReplacer("{merchant}", "acme", "{", "", "}", "").Replace(path)).want(t, http.StatusForbidden)
			if got := r.text("h1"); got != "This form came from another site" {
				t.Errorf("%s: the page is %q", route, got)
			}
		}
	}
}

// Forms are bounded.
func TestLargeForm(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.browser().Post(t, "/dashboard/login", "name", strings.Repeat("a", 65<<10)).want(t, http.StatusRequestEntityTooLarge)
}

// What stands in a URL is not logged: a link that logs in is a secret.
func TestLog(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.browser()
	b.Get(t, "/dashboard/login?link=canary-in-query").want(t, http.StatusOK)
	b.Get(t, "/dashboard/canary-in-path").want(t, http.StatusNotFound)
	b.Get(t, "/dashboard/m/canary-in-merchant/team").want(t, http.StatusSeeOther)
	if log := s.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, `"route":"/dashboard/login"`) {
		t.Errorf("the log says %s", log)
	}
}

// On a host of its own a browser keeps cookies that other hosts of the domain can neither
// set nor hide, and addresses that are shown are as safe as the one that is open.
func TestOwnHost(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustOperator(t, "asha", acme, grahak.RoleOwner)
	link, err := s.service.LoginLink(t.Context(), console(everywhere), "asha")
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	b.host = "pages.example.com"
	// What others have put beside it is not looked at.
	b.cookies["grahak_session"], b.cookies["grahak_flash"] = "planted", "K3BsYW50ZWQ"
	in := b.Post(t, "/dashboard/login/link", "link", link).want(t, http.StatusSeeOther).header.Get("Set-Cookie")
	if !strings.HasPrefix(in, "__Host-grahak_session=") || !strings.Contains(in, "; Path=/; HttpOnly; Secure; SameSite=Strict") {
		t.Errorf("the cookie is %q", strings.Replace(in, b.cookies["__Host-grahak_session"], "TOKEN", 1))
	}
	const path = "/dashboard/m/acme/team"
	page := b.Get(t, path).want(t, http.StatusOK)
	if got := page.all(".flash"); got != nil {
		t.Errorf("the page says %q", got)
	}
	shown := b.Post(t, path+"/invite", "once", page.attr("[name=once]", "value"), "name", "ravi", "role", "viewer").want(t, http.StatusOK)
	if got := shown.all("main code"); len(got) != 2 || got[1] != "https://pages.example.com/dashboard/setup" {
		t.Errorf("the page shows %q", got)
	}
	b.Post(t, path+"/role", "name", "ravi", "remove", "1").redirect(t, path)
	if got := b.Get(t, path).want(t, http.StatusOK).all(".flash"); len(got) != 1 {
		t.Errorf("the page says %q", got)
	}
	b.Post(t, "/dashboard/logout").redirect(t, "/dashboard/login")
	if b.cookies["__Host-grahak_session"] != "" {
		t.Error("the cookie is kept after the logout")
	}
}
