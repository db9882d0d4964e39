package dashboard_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/cascadia"
	"golang.org/x/net/html"

	"grahak"
	"grahak/internal/dashboard"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/telemetry"
	"grahak/internal/testkit"
	"grahak/internal/web"
	"grahak/internal/webhook"
)

// acme and rival are the merchants that every site has.
const (
	acme  grahak.MerchantID = "acme"
	rival grahak.MerchantID = "rival"
)

// everywhere is where a role at all merchants is given.
const everywhere = grahak.OperatorsMerchant

// site is the dashboard over real HTTP on a real store, at a time that stands still.
type site struct {
	service *grahak.Service
	store   *sqlstore.SQLite
	clock   *testkit.Clock
	edge    *dashboard.Edge
	log     *testkit.Buffer
	url     string // without a path

	customers int // made by MustCustomer
}

// MustServe returns a running site.
func MustServe(tb testing.TB) *site {
	tb.Helper()
	requests, err := sqlstore.OpenRequests(filepath.Join(tb.TempDir(), "requests.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = requests.Close() })
	return mustServe(tb, requests)
}

// mustServe returns a running site whose request log is in requests, if that is not nil.
func mustServe(tb testing.TB, requests grahak.RequestStore) *site {
	tb.Helper()
	s := &site{clock: testkit.NewClock(), log: new(testkit.Buffer)}
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	metrics := telemetry.NewMetrics("test")
	var err error
	s.store, err = sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{
		Path:        filepath.Join(tb.TempDir(), "grahak.db"),
		Environment: grahak.Sandbox,
		Clock:       s.clock,
		Observer:    metrics,
		Logger:      logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.store.Close() })
	master, err := seal.MakeMasterKey(filepath.Join(tb.TempDir(), "master.key"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.store.MasterKeyID(tb.Context(), master.ID()); err != nil {
		tb.Fatal(err)
	}
	s.service, err = grahak.NewService(grahak.Config{
		Store: s.store, Sealer: seal.New(master, s.store), Clock: s.clock, Logger: logger,
		Courier:  webhook.New(webhook.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Version: "1.2.3"}),
		Requests: requests,
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range []grahak.MerchantID{acme, rival} {
		if _, err := s.service.CreateMerchant(tb.Context(), console(m), ""); err != nil {
			tb.Fatal(err)
		}
	}
	s.edge = dashboard.New(dashboard.Config{
		Service: s.service, Environment: grahak.Sandbox, Version: "1.2.3", Clock: s.clock,
		Facts: []dashboard.Fact{{Name: "Events are kept", Value: "396d"}},
	})
	srv := web.NewServer(web.NewHandler(web.Config{
		Edge: s.edge, Logger: logger, Observer: metrics, Clock: s.clock, Random: rand.Reader,
	}), nil, logger)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	tb.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("the server ended by itself: %v", err)
		}
	})
	s.url = "http://" + l.Addr().String()
	return s
}

// console is who works on merchant m from the command line.
func console(m grahak.MerchantID) grahak.Caller { return grahak.Operator(m, "cli:tester") }

// mustRun does the service's background work until the test ends.
func (s *site) mustRun(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.service.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
}

// MustOperator makes an operator with a role at a merchant, or at none if role is empty.
func (s *site) MustOperator(tb testing.TB, name grahak.OperatorName, m grahak.MerchantID, role grahak.Role) {
	tb.Helper()
	if _, err := s.service.CreateOperator(tb.Context(), console(everywhere), string(name)); err != nil {
		tb.Fatal(err)
	}
	if role == "" {
		return
	}
	if err := s.service.SetRole(tb.Context(), console(m), name, role); err != nil {
		tb.Fatal(err)
	}
}

// MustEnter makes an operator with a role at acme and returns the operator's browser,
// which is logged in.
func (s *site) MustEnter(tb testing.TB, name grahak.OperatorName, role grahak.Role) *browser {
	tb.Helper()
	s.MustOperator(tb, name, acme, role)
	return s.MustLogin(tb, name)
}

// MustLogin returns a browser in which an operator is logged in by a link.
func (s *site) MustLogin(tb testing.TB, name grahak.OperatorName) *browser {
	tb.Helper()
	link, err := s.service.LoginLink(tb.Context(), console(everywhere), name)
	if err != nil {
		tb.Fatal(err)
	}
	b := s.browser()
	b.Post(tb, "/dashboard/login/link", "link", link).want(tb, http.StatusSeeOther)
	if b.cookies["grahak_session"] == "" {
		tb.Fatal("the login sets no cookie")
	}
	return b
}

// browser keeps cookies and says where its requests come from, as browsers do. It does
// not follow redirects.
type browser struct {
	site    *site
	cookies map[string]string
	// from is the Sec-Fetch-Site of a POST; default same-origin.
	from string
	// host is what the browser takes the site's host for; default its address.
	host string
}

func (s *site) browser() *browser { return &browser{site: s, cookies: make(map[string]string)} }

// waitLimit is far more than any answer takes.
const waitLimit = 30 * time.Second

// Get asks for a page.
func (b *browser) Get(tb testing.TB, path string) *reply {
	tb.Helper()
	return b.send(tb, http.MethodGet, path, nil)
}

// Post sends a form: names and values by turns.
func (b *browser) Post(tb testing.TB, path string, fields ...string) *reply {
	tb.Helper()
	form := make(url.Values)
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return b.send(tb, http.MethodPost, path, form)
}

func (b *browser) send(tb testing.TB, method, path string, form url.Values) *reply {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.site.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if b.from != "" {
		req.Header.Set("Sec-Fetch-Site", b.from)
	}
	req.Host = b.host
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	doc, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	return &reply{status: res.StatusCode, header: res.Header, body: string(body), doc: doc, request: method + " " + path}
}

// reply is an answer and the page in it.
type reply struct {
	request string
	status  int
	header  http.Header
	body    string
	doc     *html.Node
}

// want ends the test unless the answer has this status.
func (r *reply) want(tb testing.TB, status int) *reply {
	tb.Helper()
	if r.status != status {
		tb.Fatalf("%s: got %d, want %d; the page says: %s", r.request, r.status, status, r.text("main"))
	}
	return r
}

// redirect ends the test unless the answer leads to this path.
func (r *reply) redirect(tb testing.TB, path string) {
	tb.Helper()
	r.want(tb, http.StatusSeeOther)
	if got := r.header.Get("Location"); got != path {
		tb.Fatalf("%s leads to %q, want %q", r.request, got, path)
	}
}

// all returns the text of all elements that fit a selector.
func (r *reply) all(selector string) []string {
	var texts []string
	for _, n := range cascadia.QueryAll(r.doc, cascadia.MustCompile(selector)) {
		texts = append(texts, text(n))
	}
	return texts
}

// text returns the text of the first element that fits a selector, empty if there is
// none.
func (r *reply) text(selector string) string {
	n := cascadia.Query(r.doc, cascadia.MustCompile(selector))
	if n == nil {
		return ""
	}
	return text(n)
}

// attr returns an attribute of the first element that fits a selector, empty if there is
// none.
func (r *reply) attr(selector, name string) string {
	n := cascadia.Query(r.doc, cascadia.MustCompile(selector))
	if n == nil {
		return ""
	}
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// text returns what an element says, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
