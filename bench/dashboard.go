package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	domain "grahak"
	"grahak/internal/sqlstore"
)

// barPage is in ms, at most, and barPageSize in bytes, below.
const (
	barPage     = 100
	barPageSize = 100_000
)

// pageVisits is how often each page is asked for.
const pageVisits = 30

// shownPage is what was measured of one page.
type shownPage struct {
	Name  string  `json:"name"`
	Bytes int     `json:"bytes"`
	P50   float64 `json:"p50_ms"`
	Worst float64 `json:"worst_ms"`
}

// dashboardReport is everything that visits of the dashboard found.
type dashboardReport struct {
	*heading
	Store growthStore `json:"store"`
	Pages []shownPage `json:"pages"`
}

// measureDashboard measures the dashboard's pages beside many customers and a month of
// requests, and returns a report.
func (b *bench) measureDashboard(ctx context.Context, h *heading) (_ any, err error) {
	r := &dashboardReport{heading: h, Store: growthStore{Customers: b.large}}
	var flags []string
	openRequests := func() (domain.RequestStore, func() error, error) {
		file, err := sqlstore.OpenRequests(filepath.Join(b.dir, "data", "requests.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, nil, err
		}
		return file, file.Close, nil
	}
	if b.postgres {
		db, err := startDatabase(b.dir)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		url, err := db.NewDatabase(grahakDatabase, "")
		if err != nil {
			return nil, err
		}
		flags = []string{"--database-url", url}
		openRequests = func() (domain.RequestStore, func() error, error) {
			database, err := sqlstore.OpenPostgres(ctx, sqlstore.PostgresConfig{URL: url, Environment: domain.Sandbox})
			if err != nil {
				return nil, nil, err
			}
			return database.Requests(), database.Close, nil
		}
	}
	s := new(store)
	if s.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, "", flags...); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.fill(ctx, b.out, &r.Store); err != nil {
		return nil, err
	}
	if err := s.err400s(ctx); err != nil {
		return nil, err
	}
	if err := s.stop(); err != nil {
		return nil, err
	}
	requests, done, err := openRequests()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(repeatStats(ctx, requests), repeatRequests(ctx, requests), done()); err != nil {
		return nil, err
	}
	if s.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, s.key, flags...); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	v, err := s.logIn(ctx)
	if err != nil {
		return nil, err
	}
	pages, err := s.pages(ctx, v)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.out, "\n%-34s %9s %9s %9s\n", "page", "bytes", "p50 ms", "worst ms")
	for _, p := range pages {
		shown, err := v.measure(ctx, p)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(b.out, "%-34s %9d %9.1f %9.1f\n", shown.Name, shown.Bytes, shown.P50, shown.Worst)
		if !p.whole {
			r.Pages = append(r.Pages, shown)
		}
	}
	if b.profile != "" {
		if err := b.profileDashboard(ctx, s.grahak, v, pages); err != nil {
			return nil, err
		}
	}
	if r.Store.Memory, err = readMemory(s.pid()); err != nil {
		return nil, err
	}
	fmt.Fprintf(b.out, "\nMemory: peak %.1f MB.\n", r.Store.Memory.Peak)
	slowest := slices.MaxFunc(r.Pages, func(a, b shownPage) int { return int(1e3 * (a.P50 - b.P50)) })
	largest := slices.MaxFunc(r.Pages, func(a, b shownPage) int { return a.Bytes - b.Bytes })
	r.Bars = append(r.Bars,
		atMost("slowest page", slowest.P50, barPage, fmt.Sprintf("ms (%s)", slowest.Name)),
		atMost("largest page", float64(largest.Bytes), barPageSize, fmt.Sprintf("bytes (%s)", largest.Name)))
	return r, nil
}

// err400s sends requests that are refused, so that the request log has some.
func (s *store) err400s(ctx context.Context) error {
	for range 1_000 {
		for _, path := range []string{"/customers/cst_missing", "/customers?count=0"} {
			if _, err := send(ctx, http.MethodGet, s.url+path, s.key, ""); !errors.Is(err, errStatus) {
				return fmt.Errorf("%s was not refused: %w", path, err)
			}
		}
	}
	return nil
}

// logSize is how much of the request log is filled, in bytes: what is kept of it unless
// that is set.
const logSize = 1 << 30

// repeatRequests writes the demo merchant's requests again, each time as if they were
// from some hours before, until they fill the log.
func repeatRequests(ctx context.Context, requests domain.RequestStore) error {
	const merchant = "demo"
	var blocks []domain.RequestBlock
	for full := true; full; {
		var behind domain.RequestBlockID
		if len(blocks) > 0 {
			behind = blocks[len(blocks)-1].ID
		}
		page, err := requests.RequestBlocks(ctx, merchant, time.Now(), behind, 64)
		if err != nil {
			return err
		}
		blocks, full = append(blocks, page...), len(page) == 64
	}
	rows, size := make(map[domain.RequestBlockID][]byte), 0
	for ids := range slices.Chunk(blocks, 64) {
		var some []domain.RequestBlockID
		for _, b := range ids {
			some = append(some, b.ID)
		}
		read, err := requests.RequestRows(ctx, merchant, some)
		if err != nil {
			return err
		}
		maps.Copy(rows, read)
	}
	for _, b := range blocks {
		size += len(b.Filter) + len(rows[b.ID])
	}
	times := logSize / size
	for n := 1; n < times; n++ {
		back := time.Duration(n) * 20 * 24 * time.Hour / time.Duration(times)
		for some := range slices.Chunk(blocks, 64) {
			var copies []domain.RequestBlock
			for _, b := range some {
				b.Rows, b.From, b.To = rows[b.ID], b.From.Add(-back), b.To.Add(-back)
				binary.BigEndian.PutUint64(b.ID[:8], uint64(b.To.UnixMicro()))
				copies = append(copies, b)
			}
			if err := requests.PutRequests(ctx, copies, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// repeatStats writes the demo merchant's statistics of the fullest quarter of an hour
// into all those of the last 30 days, as if each had been as busy.
func repeatStats(ctx context.Context, requests domain.RequestStore) error {
	const merchant, quarter = "demo", 15 * time.Minute
	now := time.Now()
	seen, err := requests.RequestStats(ctx, merchant, now.Add(-time.Hour))
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		return errors.New("the request log has no statistics")
	}
	fullest := slices.MaxFunc(seen, func(a, b domain.RequestStats) int { return len(a.Data) - len(b.Data) })
	var month []domain.RequestStats
	for at := fullest.At.Add(-quarter); at.After(now.Add(-30 * 24 * time.Hour)); at = at.Add(-quarter) {
		month = append(month, domain.RequestStats{Merchant: merchant, At: at, Node: fullest.Node, Data: fullest.Data})
	}
	return requests.PutRequests(ctx, nil, month)
}

// visitor is somebody who is logged in.
type visitor struct {
	client *http.Client
	base   string // of all pages
}

// visit is one page, or one form that leads to one.
type visit struct {
	name, path string
	form       url.Values // nil for a GET
	want       string     // what the page says
	whole      bool       // reads everything that the merchant has, so that no bar is set
}

// loginLink finds the link of the banner's line.
var loginLink = regexp.MustCompile(`/dashboard/login\?link=(\S+)`)

// logIn uses the login link that g prints.
func (g *grahak) logIn(ctx context.Context) (*visitor, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	v := &visitor{client: &http.Client{Jar: jar, Timeout: time.Minute}, base: g.url + "/dashboard"}
	link := loginLink.FindStringSubmatch(g.banner)
	if link == nil {
		return nil, errors.New("grahak printed no login link")
	}
	_, err = v.open(ctx, visit{path: "/login/link", form: url.Values{"link": {link[1]}}, want: "demo"})
	return v, err
}

// open asks for a page and follows redirects.
func (v *visitor) open(ctx context.Context, p visit) ([]byte, error) {
	method := http.MethodGet
	if p.form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, v.base+p.path, strings.NewReader(p.form.Encode()))
	if err != nil {
		return nil, err
	}
	if p.form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), p.want) {
		return nil, fmt.Errorf("%s %s: %s, or nothing says %q there", method, p.path, resp.Status, p.want)
	}
	return body, nil
}

// measure opens a page many times, one after the other, after one time that does not
// count.
func (v *visitor) measure(ctx context.Context, p visit) (shown shownPage, err error) {
	var took []float64
	for i := range pageVisits + 1 {
		start := time.Now()
		body, err := v.open(ctx, p)
		if err != nil {
			return shown, err
		}
		if i > 0 {
			took = append(took, float64(time.Since(start).Microseconds())/1e3)
		}
		shown.Bytes = max(shown.Bytes, len(body))
	}
	shown.Name, shown.P50, shown.Worst = p.name, median(took), slices.Max(took)
	return shown, nil
}

// demo is the path of the demo merchant's pages, without a slash behind.
const demo = "/m/demo"

// requestLink finds a request in the page of requests, nextLink the next page.
var (
	requestLink = regexp.MustCompile(`href="/dashboard/m/demo/requests/([0-9A-Za-z_-]+)"`)
	nextLink    = regexp.MustCompile(`href="/dashboard/m/demo([^"]*(?:after|before)=[^"]*)"`)
)

// pages returns what is measured.
func (s *store) pages(ctx context.Context, v *visitor) ([]visit, error) {
	line := func(file string) (string, error) {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		lines := strings.Fields(string(raw))
		return url.QueryUnescape(lines[len(lines)/2])
	}
	id, err1 := line(s.made.ids)
	reference, err2 := line(s.made.references)
	mobile, err3 := line(s.made.mobiles)
	cursor, err4 := line(s.cursors)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	log, err := v.open(ctx, visit{path: demo + "/requests", want: "Requests"})
	if err != nil {
		return nil, err
	}
	request, older := requestLink.FindSubmatch(log), nextLink.FindSubmatch(log)
	if request == nil || older == nil {
		return nil, errors.New("the page of requests has no request, or no next page")
	}
	events, err := v.open(ctx, visit{path: demo + "/audit", want: "Audit"})
	if err != nil {
		return nil, err
	}
	earlier := nextLink.FindSubmatch(events)
	if earlier == nil {
		return nil, errors.New("the audit log has no next page")
	}
	find := func(text string) url.Values { return url.Values{"q": {text}} }
	return []visit{
		{name: "home, 24 hours", path: demo + "/", want: "Requests"},
		{name: "home, 7 days", path: demo + "/?span=7d", want: "Requests"},
		{name: "home, 30 days", path: demo + "/?span=30d", want: "Requests"},
		{name: "customers", path: demo + "/customers", want: "/customers/cst_"},
		{name: "customers, by cursor", path: demo + "/customers?after=" + url.QueryEscape(cursor), want: "/customers/cst_"},
		{name: "customers of a time", path: demo + "/customers?from=2020-01-01&until=2020-02-01", want: "Customers"},
		{name: "customer", path: demo + "/customers/" + id, want: id},
		{name: "customer, to be erased", path: demo + "/customers/" + id + "/erase", want: id},
		{name: "reveal a customer", path: demo + "/customers/" + id + "/reveal", form: url.Values{}, want: mobile},
		{name: "find by id", path: demo + "/customers/search", form: find(id), want: id},
		{name: "find by reference", path: demo + "/customers/search", form: find(reference), want: id},
		{name: "find by number", path: demo + "/customers/search", form: find(mobile), want: id},
		{name: "find by request id", path: demo + "/customers/search", form: find(string(request[1])), want: string(request[1])},
		{name: "find nothing, e-mail address", path: demo + "/customers/search", form: find("nobody@example.com"), want: "nobody@example.com"},
		{name: "find nothing, a word", path: demo + "/customers/search", form: find("nobody-at-all"), want: "nobody-at-all"},
		{name: "find nothing, a request id", path: demo + "/customers/search", form: find("req_00000000000000000000000000"), want: "req_0000"},
		{name: "API keys", path: demo + "/keys", want: "keys"},
		{name: "IP whitelist", path: demo + "/ip", want: "127.0.0.1"},
		{name: "webhooks", path: demo + "/webhooks", want: "ebhook"},
		{name: "requests", path: demo + "/requests", want: "/requests/"},
		{name: "requests, older", path: demo + html.UnescapeString(string(older[1])), want: "/requests/"},
		{name: "requests, one status", path: demo + "/requests?status=404", want: "404"},
		{name: "requests, one customer", path: demo + "/requests?customer=" + id, want: "Requests"},
		{name: "requests, filter without a hit", path: demo + "/requests?addr=192.0.2.1", want: "Requests"},
		{name: "request", path: demo + "/requests/" + string(request[1]), want: string(request[1])},
		{name: "audit log", path: demo + "/audit", want: "customer.created"},
		{name: "audit log, older", path: demo + html.UnescapeString(string(earlier[1])), want: "customer.created"},
		{name: "audit log, one type", path: demo + "/audit?type=ip_list.mode_changed", want: "Audit"},
		{name: "audit log, one customer", path: demo + "/audit?subject=" + id, want: "Audit"},
		{name: "audit log, one actor", path: demo + "/audit?actor=nobody", want: "Audit"},
		{name: "audit log, the chain checked", path: demo + "/audit/check", form: url.Values{}, want: "Chain check", whole: true},
		{name: "team", path: demo + "/team", want: "Team"},
		{name: "settings", path: "/settings", want: "Settings"},
	}, nil
}

// profileDashboard takes a CPU profile while all pages are opened in turn.
func (b *bench) profileDashboard(ctx context.Context, g *grahak, v *visitor, pages []visit) error {
	if err := os.MkdirAll(b.profile, 0o700); err != nil {
		return err
	}
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, failed = g.profile(ctx, filepath.Join(b.profile, "dashboard.pprof"), time.Duration(b.seconds)*time.Second)
	}()
	var err error
	for i := 0; err == nil; i++ {
		select {
		case <-done:
			return failed
		default:
			_, err = v.open(ctx, pages[i%len(pages)])
		}
	}
	<-done
	return err
}
