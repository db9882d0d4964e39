package dashboard_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// site is a server with a dashboard.
type site struct {
	*testkit.Server
	flags []string // of every command on its data
}

// mustStart starts a server as in production, with the dashboard at an address of its
// own.
func mustStart(t testing.TB) *site {
	t.Helper()
	var key [32]byte
	_, _ = rand.Read(key[:])
	file := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	s := &site{flags: []string{"--data", data, "--master-key-file", file}}
	s.Server = testkit.Start(t, data, "--env", "production", "--master-key-file", file, "--dashboard-listen", "127.0.0.1:0")
	return s
}

// mustStartSandbox starts a sandbox, whose dashboard is beside the API.
func mustStartSandbox(t testing.TB) *site {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	return &site{Server: testkit.Start(t, data), flags: []string{"--data", data}}
}

// MustRun runs a command on the server's data and returns what it printed.
func (s *site) MustRun(t testing.TB, args ...string) string {
	t.Helper()
	return string(testkit.Run(t, append(args, s.flags...)...))
}

// MustKey makes a merchant and returns a key of it.
func (s *site) MustKey(t testing.TB, merchant string) (key string) {
	t.Helper()
	s.MustRun(t, "merchant", "create", merchant)
	var made struct{ Key string }
	if err := json.Unmarshal([]byte(s.MustRun(t, "key", "create", "--merchant", merchant, "--json")), &made); err != nil {
		t.Fatal(err)
	}
	return made.Key
}

// MustTab opens a browser at the dashboard.
func (s *site) MustTab(t testing.TB) *tab {
	t.Helper()
	base, _, found := strings.Cut(s.DashboardURL, "/dashboard/")
	if !found {
		t.Fatalf("the server does not say where its dashboard is:\n%s", s.Banner)
	}
	return newTab(t, base)
}

// MustFollow logs in to a sandbox with the link that the server printed.
func (b *tab) MustFollow(s *site) {
	b.t.Helper()
	b.MustOpen(strings.TrimPrefix(s.DashboardURL, b.base), http.StatusOK)
	b.Press("Log in")
}

// caller is a program that calls the API from an address of this machine.
type caller struct {
	base, key string
	http      *http.Client
}

// MustCaller returns a caller whose requests come from an address of 127.0.0.0/8.
func (s *site) MustCaller(t testing.TB, key, from string) *caller {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := &caller{base: s.BaseURL, key: key, http: &http.Client{Timeout: bound, Transport: &http.Transport{DialContext: dialer.DialContext}}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// answer is what the API said.
type answer struct {
	Status    int
	RequestID string
	Body      string
	ID        string `json:"id"`
}

// Do sends a form.
func (c *caller) Do(t testing.TB, method, path string, form url.Values) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(c.key, "")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: res.StatusCode, RequestID: res.Header.Get("X-Request-Id"), Body: string(body)}
	_ = json.Unmarshal(body, &a) // Erases have no body.
	return a
}

// MustCreate makes a customer and returns its id.
func (c *caller) MustCreate(t testing.TB, form url.Values) string {
	t.Helper()
	a := c.Do(t, http.MethodPost, "/customers", form)
	if a.Status != http.StatusOK || a.ID == "" {
		t.Fatalf("a create is answered %d: %s", a.Status, a.Body)
	}
	return a.ID
}

// person returns the n-th invented customer.
func person(n int) url.Values {
	first := []string{"Asha", "Rohan", "Meera", "Kabir", "Ishita", "Arjun", "Zoya", "Dev"}
	last := []string{"Rao", "Iyer", "Khan", "Sen", "Nair", "Gill"}
	f, l := first[n%len(first)], last[n%len(last)]
	return url.Values{
		"object_reference_id": {fmt.Sprintf("shop-%06d", n)},
		"email_address":       {fmt.Sprintf("%s.%s.%d@example.com", strings.ToLower(f), strings.ToLower(l), n)},
		"mobile_number":       {fmt.Sprintf("98%08d", n)},
		"mobile_country_code": {"91"},
		"first_name":          {f},
		"last_name":           {l},
	}
}

// Operators: their logins are set up in the browser, by what the command line prints.

const password = "correct horse battery staple"

// operator is a person with an authenticator.
type operator struct {
	name   string
	secret string // of the authenticator, in base 32
	// step is that of the last code, which the server takes once.
	step     int64
	recovery []string
}

// Code returns what the authenticator shows. The server takes each code once, and that of
// the next half minute too: so the third within a minute has to wait.
func (o *operator) Code(t testing.TB) string {
	t.Helper()
	await(t, "the authenticator shows another code", func() bool { return time.Now().Unix()/30+1 > o.step })
	o.step = max(o.step+1, time.Now().Unix()/30)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(o.secret, " ", ""))
	if err != nil {
		t.Fatalf("the secret %q: %v", o.secret, err)
	}
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, o.step)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&(1<<31-1)%1_000_000)
}

// setupCode finds the code in what the command line or a page says.
func setupCode(t testing.TB, text string) string {
	t.Helper()
	code := regexp.MustCompile(`\b[a-z0-9]{4}(-[a-z0-9]{4}){3,}\b`).FindString(text)
	if code == "" {
		t.Fatalf("there is no setup code in:\n%s", text)
	}
	return code
}

// MustSetUp sets up a login in the browser.
func (b *tab) MustSetUp(code, name string) *operator {
	b.t.Helper()
	b.MustOpen("/dashboard/setup", http.StatusOK)
	b.Fill("Setup code", code)
	b.MustPress("Go on")
	b.MustSee("Hello "+name, "Connect an authenticator")
	if b.Count(".qr svg") != 1 {
		b.t.Error("there is no QR code")
	}
	o := &operator{name: name, secret: b.Text("#secret")}
	b.Fill("New password", password)
	b.Fill("Code from the authenticator", o.Code(b.t))
	b.MustPress("Finish")
	b.MustSee("Your recovery codes")
	o.recovery = strings.Fields(b.Text("ul.codes"))
	if len(o.recovery) < 8 {
		b.t.Errorf("there are %d recovery codes: %q", len(o.recovery), o.recovery)
	}
	return o
}

// LogIn logs in on the login page, and returns the status of the page that follows.
func (b *tab) LogIn(o *operator, password, code string) int {
	b.t.Helper()
	b.Fill("Name", o.name)
	b.Fill("Password", password)
	b.Fill("Code", code)
	return b.Press("Log in")
}

// MustLogIn logs in at a path, which is then open.
func (b *tab) MustLogIn(o *operator, path string) {
	b.t.Helper()
	b.MustOpen(path, http.StatusOK)
	if b.Path() != "/dashboard/login" {
		b.t.Fatalf("%s shows %s to nobody", path, b.Path())
	}
	if status := b.LogIn(o, password, o.Code(b.t)); status != http.StatusOK || b.Path() != path {
		b.t.Fatalf("the login leads to %s with status %d:\n%s", b.Path(), status, b.whole())
	}
}
