package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/testkit"
	"grahak/internal/web"
)

// edge is an edge made of functions.
type edge struct {
	serve func(*web.Exchange) error
	fail  func(*web.Exchange, error)
}

func (e edge) Serve(x *web.Exchange) error { return e.serve(x) }

func (e edge) Fail(x *web.Exchange, err error) {
	if e.fail != nil {
		e.fail(x, err)
		return
	}
	x.Code = "broken"
	x.JSON(http.StatusInternalServerError, []byte(`{"error":true}`))
}

// measurement is one call of an observer.
type measurement struct {
	Route, Method string
	Status        int
	Code          string
	Took          time.Duration
}

// waitLimit bounds how long a test waits for what should come at once.
const waitLimit = 30 * time.Second

// server runs a handler and hands out what it logs and measures.
type server struct {
	URL      string
	clock    *testkit.Clock
	lines    chan []byte
	measured chan measurement
}

func (s *server) Write(line []byte) (int, error) {
	s.lines <- bytes.Clone(line)
	return len(line), nil
}

func (s *server) Request(route, method string, status int, code string, took time.Duration) {
	s.measured <- measurement{route, method, status, code, took}
}

// starter starts a server of e over real HTTP. The changes are to its settings.
type starter func(tb testing.TB, e web.Edge, changes ...func(*web.Config)) *server

// onBoth runs test on each kind of server.
func onBoth(t *testing.T, test func(t *testing.T, start starter)) {
	t.Helper()
	for name, start := range map[string]starter{"plain": MustServe, "net": MustServeNet} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start)
		})
	}
}

// MustServe starts a server of e as the API has it without TLS.
func MustServe(tb testing.TB, e web.Edge, changes ...func(*web.Config)) *server {
	tb.Helper()
	return mustServe(tb, e, func(h http.Handler) web.Server { return web.NewPlainServer(h, slog.New(slog.DiscardHandler)) }, changes)
}

// MustServeNet starts a server of e on net/http.
func MustServeNet(tb testing.TB, e web.Edge, changes ...func(*web.Config)) *server {
	tb.Helper()
	return mustServe(tb, e, func(h http.Handler) web.Server { return web.NewServer(h, nil, slog.New(slog.DiscardHandler)) }, changes)
}

func mustServe(tb testing.TB, e web.Edge, of func(http.Handler) web.Server, changes []func(*web.Config)) *server {
	tb.Helper()
	s := &server{clock: testkit.NewClock(), lines: make(chan []byte, 1000), measured: make(chan measurement, 1000)}
	cfg := web.Config{
		Edge: e, Logger: slog.New(slog.NewJSONHandler(s, nil)), Observer: s, Clock: s.clock,
		Random: strings.NewReader(strings.Repeat("any old bytes will do here; ", 10_000)),
	}
	for _, change := range changes {
		change(&cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := of(web.NewHandler(cfg))
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	tb.Cleanup(func() {
		// The clients of this process keep connections that are idle.
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			tb.Errorf("shutdown: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("the server ended by itself: %v", err)
		}
	})
	s.URL = "http://" + l.Addr().String()
	return s
}

// next returns what comes next out of c, and fails the test if nothing does.
func next[T any](tb testing.TB, what string, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(waitLimit):
		tb.Fatalf("no %s came", what)
		panic("unreachable")
	}
}

// event returns the next line of the log.
func (s *server) event(tb testing.TB) map[string]any {
	tb.Helper()
	var e map[string]any
	if line := next(tb, "line of the log", s.lines); json.Unmarshal(line, &e) != nil {
		tb.Fatalf("the log is not JSON: %q", line)
	}
	return e
}

// quiet fails the test if the log holds a line that was not asked for.
func (s *server) quiet(tb testing.TB) {
	tb.Helper()
	select {
	case line := <-s.lines:
		tb.Errorf("one more line of the log: %s", line)
	default:
	}
}

// MustDo sends a request and returns the answer with its body read.
func MustDo(tb testing.TB, method, url string, body io.Reader, header http.Header) (*http.Response, string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp, string(content)
}

// ok answers with an empty object.
func ok(x *web.Exchange) error {
	x.JSON(http.StatusOK, []byte("{}"))
	return nil
}

var newID = regexp.MustCompile(`^[a-z2-7]{20}$`)

func TestAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, edge{serve: func(x *web.Exchange) error {
			x.RetryAfter(1500 * time.Millisecond)
			x.Send(http.StatusTeapot, []string{"text/x-test"}, []byte("some body"))
			return nil
		}})
		for _, c := range []struct{ method, body string }{{"GET", "some body"}, {"HEAD", ""}, {"POST", "some body"}} {
			resp, body := MustDo(t, c.method, s.URL, nil, nil)
			if resp.StatusCode != http.StatusTeapot || body != c.body || resp.ContentLength != int64(len("some body")) {
				t.Errorf("%s: got %d with %q and the length %d", c.method, resp.StatusCode, body, resp.ContentLength)
			}
			for name, want := range map[string]string{"Content-Type": "text/x-test", "Cache-Control": "no-store", "Retry-After": "2"} {
				if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: the header %s is %q, want %q", c.method, name, got, want)
				}
			}
			next(t, "event", s.lines)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		for wait, want := range map[time.Duration]string{
			-time.Second: "1", 0: "1", time.Nanosecond: "1", time.Second: "1", time.Second + 1: "2", 2 * time.Second: "2", time.Hour: "3600",
		} {
			s := start(t, edge{serve: func(x *web.Exchange) error {
				x.RetryAfter(wait)
				return ok(x)
			}})
			resp, _ := MustDo(t, "GET", s.URL, nil, nil)
			if got := resp.Header.Get("Retry-After"); got != want {
				t.Errorf("RetryAfter(%v) answers %q, want %q", wait, got, want)
			}
		}
	})
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		var seen string
		s := start(t, edge{serve: func(x *web.Exchange) error {
			seen = x.RequestID
			return ok(x)
		}})
		for _, c := range []struct {
			name   string
			values []string
			echo   bool
		}{
			{"none", nil, false},
			{"empty", []string{""}, false},
			{"one character", []string{"a"}, true},
			{"every character", []string{"ABCXYZabcxyz0189._-"}, true},
			{"64 characters", []string{strings.Repeat("a", 64)}, true},
			{"65 characters", []string{strings.Repeat("a", 65)}, false},
			{"a space inside", []string{"a b"}, false},
			{"a slash", []string{"a/b"}, false},
			{"an address", []string{"customer@example.com"}, false},
			{"a plus", []string{"+919988776655"}, false},
			{"a colon", []string{"a:b"}, false},
			{"a letter outside ASCII", []string{"ü"}, false},
			{"a quote", []string{`a"b`}, false},
			{"two of them", []string{"first", "second"}, true},
			{"a bad one and a good one", []string{"a b", "second"}, false},
		} {
			resp, _ := MustDo(t, "GET", s.URL, nil, http.Header{"X-Request-Id": c.values})
			got := resp.Header.Values("X-Request-Id")
			switch {
			case len(got) != 1:
				t.Errorf("%s: the answer has the ids %q", c.name, got)
			case c.echo && got[0] != c.values[0]:
				t.Errorf("%s: the id is %q, want it echoed", c.name, got[0])
			case !c.echo && !newID.MatchString(got[0]):
				t.Errorf("%s: the id is %q, want a new one", c.name, got[0])
			}
			response := resp.Header.Values("X-Response-Id")
			if len(response) != 1 || !newID.MatchString(response[0]) || response[0] == got[0] {
				t.Errorf("%s: the response ids are %q beside the request id %q", c.name, response, got)
			}
			if e := s.event(t); e["request_id"] != got[0] || seen != got[0] {
				t.Errorf("%s: the answer says %q, the log %q and the edge saw %q", c.name, got[0], e["request_id"], seen)
			}
		}
	})
}

// A source of randomness that fails costs unique ids, not answers.
func TestNoRandomness(t *testing.T) {
	t.Parallel()
	s := MustServe(t, edge{serve: ok}, func(c *web.Config) { c.Random = iotest.ErrReader(errors.New("no entropy")) })
	resp, _ := MustDo(t, "GET", s.URL, nil, nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("X-Response-Id") == "" {
		t.Errorf("got %d with the headers %v", resp.StatusCode, resp.Header)
	}
}

func TestErrorOfServe(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		fault := errors.New("the disk sings")
		var failed []error
		s := start(t, edge{
			serve: func(x *web.Exchange) error { x.Route = "/a"; return fault },
			fail: func(x *web.Exchange, err error) {
				failed = append(failed, err)
				x.Code = "internal_error"
				x.JSON(http.StatusInternalServerError, []byte("{}"))
			},
		})
		resp, body := MustDo(t, "GET", s.URL, nil, nil)
		if resp.StatusCode != http.StatusInternalServerError || strings.Contains(body, "sings") {
			t.Errorf("got %d with %q", resp.StatusCode, body)
		}
		if len(failed) != 1 || !errors.Is(failed[0], fault) {
			t.Errorf("Fail was called with %v", failed)
		}
		if e := s.event(t); e["level"] != "ERROR" || e["error"] != "the disk sings" || e["code"] != "internal_error" {
			t.Errorf("the log says %v", e)
		}
		s.quiet(t)
	})
}

func TestPanic(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		var failed []error
		s := start(t, edge{
			serve: func(x *web.Exchange) error {
				x.Route, x.Merchant = "/a", "acme"
				panic("overboard")
			},
			fail: func(x *web.Exchange, err error) {
				failed = append(failed, err)
				x.Code = "internal_error"
				x.JSON(http.StatusInternalServerError, []byte(`{"error":true}`))
			},
		})
		for range 2 { // The server lives on.
			resp, body := MustDo(t, "GET", s.URL, nil, nil)
			if resp.StatusCode != http.StatusInternalServerError || body != `{"error":true}` {
				t.Errorf("got %d with %q", resp.StatusCode, body)
			}
			e := s.event(t)
			text, _ := e["error"].(string)
			if e["level"] != "ERROR" || e["status"] != 500.0 || e["merchant"] != "acme" || !strings.Contains(text, "overboard") || !strings.Contains(text, "web_test.go") {
				t.Errorf("the log does not say what happened and where: %v", e)
			}
			if m := next(t, "measurement", s.measured); m.Status != 500 || m.Code != "internal_error" {
				t.Errorf("measured %+v", m)
			}
			s.quiet(t)
		}
		if len(failed) != 2 {
			t.Errorf("Fail was called with %v", failed)
		}
	})
}

// A panic after the answer cannot change the answer, but is no less a fault.
func TestPanicAfterAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, edge{
			serve: func(x *web.Exchange) error {
				_ = ok(x)
				panic("overboard")
			},
			fail: func(*web.Exchange, error) { t.Error("Fail was called for what is answered") },
		})
		resp, body := MustDo(t, "GET", s.URL, nil, nil)
		if resp.StatusCode != http.StatusOK || body != "{}" {
			t.Errorf("got %d with %q", resp.StatusCode, body)
		}
		e := s.event(t)
		if text, _ := e["error"].(string); e["level"] != "ERROR" || e["status"] != 200.0 || !strings.Contains(text, "overboard") {
			t.Errorf("the log says %v", e)
		}
		s.quiet(t)
	})
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		const limit = 1000
		s := start(t, edge{
			serve: func(x *web.Exchange) error {
				body, err := x.ReadBody(limit)
				if err != nil {
					return err
				}
				x.Send(http.StatusOK, []string{"text/plain"}, body)
				return nil
			},
			fail: func(x *web.Exchange, err error) {
				status := http.StatusBadRequest
				if errors.Is(err, web.ErrBodyTooLarge) {
					status = http.StatusRequestEntityTooLarge
				}
				x.JSON(status, nil)
			},
		})
		// chunked hides how long a body is.
		chunked := func(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }
		// trickled comes in many small pieces.
		trickled := func(body string) io.Reader { return iotest.OneByteReader(strings.NewReader(body)) }
		for _, size := range []int{0, 1, limit - 1, limit, limit + 1, 2 * limit, 100 * limit, 0, limit} {
			body := strings.Repeat("x", size)
			forms := map[string]io.Reader{"with its length": strings.NewReader(body), "in chunks": chunked(body)}
			if size <= 2*limit {
				forms["in a trickle"] = trickled(body)
			}
			for form, reader := range forms {
				resp, got := MustDo(t, "POST", s.URL, reader, nil)
				if size <= limit {
					if resp.StatusCode != http.StatusOK || got != body {
						t.Errorf("%d bytes %s: got %d with %d bytes", size, form, resp.StatusCode, len(got))
					}
					continue
				}
				if resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("%d bytes %s: got %d, want 413", size, form, resp.StatusCode)
				}
			}
		}
	})
}

// What one request left behind is not seen by the next, in its buffers or in
// its event.
func TestExchangesAreFresh(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		first := true
		s := start(t, edge{serve: func(x *web.Exchange) error {
			body, err := x.ReadBody(100)
			if err != nil || len(x.Buf) != 0 {
				t.Errorf("got the buffer %q and the error %v", x.Buf, err)
			}
			if first {
				first = false
				x.Route, x.Merchant, x.Key, x.Customer = "/a", "acme", "key_1", "cst_1"
				x.Code, x.Version, x.IPReport = "code", "2024-01-01", true
				x.Buf = append(x.Buf, "left behind"...)
				x.Cause(errors.New("cause"))
				x.JSON(http.StatusInternalServerError, nil)
				return nil
			}
			if len(body) != 0 {
				t.Errorf("got the body %q", body)
			}
			return ok(x)
		}})
		MustDo(t, "POST", s.URL, strings.NewReader("left behind"), nil)
		next(t, "event", s.lines)
		for range 20 {
			MustDo(t, "GET", s.URL, nil, http.Header{"X-Request-Id": {"r"}})
			want := map[string]any{"level": "INFO", "msg": "request", "request_id": "r", "method": "GET", "route": "unmatched", "status": 200.0, "duration_us": 0.0, "addr": "127.0.0.1"}
			e := s.event(t)
			delete(e, "time")
			if d := cmp.Diff(want, e); d != "" {
				t.Fatalf("a later event (-want +got):\n%s", d)
			}
		}
	})
}

func TestEvent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		var serve func(*web.Exchange) error
		var clock *testkit.Clock
		s := start(t, edge{
			serve: func(x *web.Exchange) error { return serve(x) },
			fail: func(x *web.Exchange, err error) {
				status := http.StatusBadRequest
				if grahak.CodeOf(err) == grahak.CodeUnavailable {
					status = http.StatusServiceUnavailable
				}
				x.Code = string(grahak.CodeOf(err))
				x.JSON(status, nil)
			},
		}, func(c *web.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
		clock = s.clock
		for _, c := range []struct {
			name    string
			method  string
			serve   func(*web.Exchange) error
			want    map[string]any
			measure measurement
		}{
			{
				name: "everything", method: "POST",
				serve: func(x *web.Exchange) error {
					x.Route, x.Merchant, x.Key, x.Customer = "/customers/{id}", "acme", "key_1", "cst_1"
					x.Version, x.IPReport = "2024-01-01", true
					clock.Advance(1234567 * time.Nanosecond)
					return ok(x)
				},
				want: map[string]any{
					"level": "INFO", "method": "POST", "route": "/customers/{id}", "status": 200.0, "duration_us": 1234.0, "merchant": "acme",
					"key": "key_1", "customer": "cst_1", "version": "2024-01-01", "ip_list": "would refuse",
				},
				measure: measurement{"/customers/{id}", "POST", 200, "", 1234567 * time.Nanosecond},
			},
			{
				name: "nothing known", method: "GET", serve: ok,
				want:    map[string]any{"level": "INFO", "method": "GET", "route": "unmatched", "status": 200.0, "duration_us": 0.0},
				measure: measurement{"unmatched", "GET", 200, "", 0},
			},
			{
				name: "a caller's mistake", method: "DELETE",
				serve: func(x *web.Exchange) error {
					x.Route = "/a"
					return grahak.Errorf(grahak.CodeInvalidField, "not for the log")
				},
				want:    map[string]any{"level": "INFO", "method": "DELETE", "route": "/a", "status": 400.0, "duration_us": 0.0, "code": "invalid_field"},
				measure: measurement{"/a", "DELETE", 400, "invalid_field", 0},
			},
			{
				name: "an outage", method: "PUT",
				serve: func(*web.Exchange) error {
					return grahak.Unavailable("the storage is away", 0, errors.New("the disk sings"))
				},
				want: map[string]any{
					"level": "ERROR", "method": "PUT", "route": "unmatched", "status": 503.0, "duration_us": 0.0, "code": "unavailable",
					"error": "the storage is away: the disk sings",
				},
				measure: measurement{"unmatched", "PUT", 503, "unavailable", 0},
			},
			{
				name: "a method of the client's own", method: "BREW", serve: ok,
				want:    map[string]any{"level": "INFO", "method": "other", "route": "unmatched", "status": 200.0, "duration_us": 0.0},
				measure: measurement{"unmatched", "other", 200, "", 0},
			},
		} {
			serve = c.serve
			MustDo(t, c.method, s.URL, nil, http.Header{"X-Request-Id": {"req-1"}, "X-Forwarded-For": {"192.0.2.66, 203.0.113.7"}})
			c.want["msg"], c.want["request_id"], c.want["addr"] = "request", "req-1", "203.0.113.7"
			e := s.event(t)
			delete(e, "time")
			if d := cmp.Diff(c.want, e); d != "" {
				t.Errorf("%s: the event (-want +got):\n%s", c.name, d)
			}
			if d := cmp.Diff(c.measure, next(t, "measurement", s.measured)); d != "" {
				t.Errorf("%s: the measurement (-want +got):\n%s", c.name, d)
			}
			s.quiet(t)
		}
	})
}

// A client that goes away is no alert.
func TestClientGone(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := MustServeNet(t, edge{
		serve: func(x *web.Exchange) error {
			close(entered)
			select {
			case <-x.Request.Context().Done():
			case <-time.After(waitLimit):
				t.Error("the request does not end with its client")
			}
			return grahak.Unavailable("the caller went away", 0, x.Request.Context().Err())
		},
		fail: func(x *web.Exchange, _ error) {
			x.Code = "unavailable"
			x.JSON(http.StatusServiceUnavailable, nil)
		},
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	next(t, "request", entered)
	leave()
	if err := next(t, "end of the request", gone); err == nil {
		t.Error("the client that left was answered")
	}
	if e := s.event(t); e["level"] != "INFO" || e["status"] != 499.0 {
		t.Errorf("the log says %v", e)
	}
	if m := next(t, "measurement", s.measured); m.Status != 499 {
		t.Errorf("measured %+v", m)
	}
}

// Nothing that a client sends comes into the log, but a request id of the
// allowed form.
func TestLogHoldsNothingOfTheClient(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		const canary = "canary"
		for _, asText := range []bool{false, true} {
			for _, fails := range []bool{false, true} {
				seen := make(chan string, 1)
				s := start(t, edge{
					serve: func(x *web.Exchange) error {
						body, err := x.ReadBody(1 << 16)
						if err != nil {
							return err
						}
						x.Route = "/customers/{id}"
						x.Buf = append(x.Buf, body...)
						seen <- x.Request.URL.String() + x.Request.Header.Get("Authorization") + string(x.Buf)
						if fails {
							return grahak.Errorf(grahak.CodeInvalidField, "The value %s is not valid.", body)
						}
						x.JSON(http.StatusOK, body)
						return nil
					},
					fail: func(x *web.Exchange, _ error) { x.JSON(http.StatusBadRequest, nil) },
				}, func(c *web.Config) {
					if asText {
						c.Logger = slog.New(slog.NewTextHandler(c.Observer.(*server), nil))
					}
				})
				header := http.Header{"X-Request-Id": {canary + "@example.com"}, "Content-Type": {"text/" + canary}}
				for _, name := range []string{
					"Authorization", "Cookie", "User-Agent", "Referer", "Origin", "Accept", "X-Merchantid", "X-Routing-Id", "X-Customerid", "Version",
					"Idempotency-Key", "If-Match", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "X-Response-Id", "Traceparent", "X-" + canary,
				} {
					header.Set(name, canary)
				}
				MustDo(t, strings.ToUpper(canary), s.URL+"/customers/"+canary+"?"+canary+"="+canary, strings.NewReader(canary), header)
				if strings.Count(next(t, "request", seen), canary) != 5 {
					t.Fatal("the canaries did not arrive")
				}
				line := string(next(t, "line of the log", s.lines))
				if !strings.Contains(line, "/customers/{id}") || strings.Contains(line, "{\"") == asText {
					t.Fatalf("the log does not hold the request in the right form: %s", line)
				}
				if strings.Contains(strings.ToLower(line), canary) {
					t.Errorf("the log holds what the client sent: %s", line)
				}
				s.quiet(t)
			}
		}
	})
}
