package cli_test

import (
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// surf asks for a page, or sends a form if there is one, and does not follow where the answer leads. The cookies are sent
// along.
func surf(t *testing.T, target string, form url.Values, cookies ...*http.Cookie) (status int, header http.Header, body string) {
	t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		req.AddCookie(c)
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// mustHavePages checks whether there is a dashboard at a base URL, and the API.
func mustHavePages(t *testing.T, base string, pages, api bool) {
	t.Helper()
	status, header, body := surf(t, base+"/dashboard/login", nil)
	if got := status == http.StatusOK && strings.HasPrefix(header.Get("Content-Type"), "text/html") && strings.Contains(body, "<h1>Log in</h1>"); got != pages {
		t.Errorf("%s has pages: %t, want %t; it answers %d", base, got, pages, status)
	}
	if status, header, _ = surf(t, base+"/dashboard/", nil); (status == http.StatusSeeOther && header.Get("Location") == "/dashboard/login") != pages {
		t.Errorf("%s/dashboard/ is answered %d and leads to %q", base, status, header.Get("Location"))
	}
	if status, _, _ = surf(t, base+"/customers", nil); (status == http.StatusUnauthorized) != api {
		t.Errorf("%s has the API: %t; it answers %d", base, !api, status)
	}
}

// TestDashboardListen checks where there are pages: in a sandbox at the API, with --dashboard-listen at that address only, and
// in production nowhere without it.
func TestDashboardListen(t *testing.T) {
	production := []string{"--env", "production", "--master-key-file", masterKeyFile(t)}
	apart := []string{"--dashboard-listen", "127.0.0.1:0"}

	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"), production...)
	if s.DashboardURL != "" || strings.Contains(s.Banner, "operator") {
		t.Errorf("the banner of production without a dashboard names one:\n%s", s.Banner)
	}
	mustHavePages(t, s.BaseURL, false, true)
	s.Stop(t)

	s = testkit.Start(t, filepath.Join(t.TempDir(), "data"), append(production, apart...)...)
	base, found := strings.CutSuffix(s.DashboardURL, "/dashboard/")
	if !found || base == s.BaseURL || strings.Contains(s.Banner, "link=") {
		t.Errorf("the banner of production says:\n%s", s.Banner)
	}
	mustHavePages(t, s.BaseURL, false, true)
	mustHavePages(t, base, true, false)
	s.Stop(t)

	s = testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	mustHavePages(t, s.BaseURL, true, true)
	mustHaveCommands(t, s.DashboardURL, s.BaseURL)
	s.Stop(t)
}

// TestDashboardNamesTheAPI checks that the commands that pages show go to the API, and not to the dashboard.
func TestDashboardNamesTheAPI(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := testkit.Start(t, data, "--dashboard-listen", "127.0.0.1:0")
	mustHavePages(t, s.BaseURL, false, true)
	mustHaveCommands(t, s.DashboardURL, s.BaseURL)
	s.Stop(t)
	s = testkit.Start(t, data, "--dashboard-listen", "127.0.0.1:0", "--public-url", "https://api.example.com/grahak/")
	mustHaveCommands(t, s.DashboardURL, "https://api.example.com/grahak")
	s.Stop(t)
}

// mustLogIn uses a login link and returns what asks for pages with the session.
func mustLogIn(t *testing.T, link string) (page func(path string) string) {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	base := u.Scheme + "://" + u.Host
	status, header, _ := surf(t, base+"/dashboard/login/link", url.Values{"link": {u.Query().Get("link")}})
	cookies := (&http.Response{Header: header}).Cookies()
	if status != http.StatusSeeOther || len(cookies) != 1 {
		t.Fatalf("the link is answered %d with %d cookies", status, len(cookies))
	}
	return func(path string) string {
		t.Helper()
		status, _, body := surf(t, base+path, nil, cookies...)
		if status != http.StatusOK {
			t.Fatalf("%s is answered %d", path, status)
		}
		return body
	}
}

// mustHaveCommands logs in by a link and checks that the commands of the demo merchant's home are for an API.
func mustHaveCommands(t *testing.T, link, api string) {
	t.Helper()
	body := mustLogIn(t, link)("/dashboard/m/demo/")
	if want := "<code>curl " + api + "/customers -u YOUR_KEY: "; !strings.Contains(body, want) {
		t.Errorf("the page has no %q:\n%s", want, body)
	}
}

// TestDashboardSettings checks that the settings of the server are told in words.
func TestDashboardSettings(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"), "--requests-size", "64MiB", "--events-keep", "400d", "--rate-limit-merchant", "0")
	body := mustLogIn(t, s.DashboardURL)("/dashboard/settings")
	_, facts, _ := strings.Cut(body, `id="server"`)
	for _, fact := range []string{
		"Environment</dt><dd>sandbox", "Events are kept</dt><dd>400 days", "The request log is kept</dt><dd>30 days, and at most 64 MiB", "Idempotency keys are kept</dt><dd>24 hours",
		"Requests of a key</dt><dd>50,000 a second", "Requests of a merchant</dt><dd>any number",
	} {
		if !strings.Contains(facts, fact+"</dd>") {
			t.Errorf("%s is not among the facts:\n%s", fact, facts)
		}
	}
	s.Stop(t)
}
