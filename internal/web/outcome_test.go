package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/web"
)

// atDebug lets a server log everything.
func atDebug(c *web.Config) {
	c.Logger = slog.New(slog.NewJSONHandler(c.Observer.(*server), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// outcome is what the log and the metrics say of a request.
type outcome struct {
	Level    any
	Status   int
	Error    string // the cause in the log, if it is there
	Measured int
}

// outcome returns what is said of the next request.
func (s *server) outcome(tb testing.TB) outcome {
	tb.Helper()
	e, m := s.event(tb), next(tb, "measurement", s.measured)
	status, _ := e["status"].(float64)
	cause, _ := e["error"].(string)
	return outcome{Level: e["level"], Status: int(status), Error: cause, Measured: m.Status}
}

// MustDial opens a connection to the server and sends a request.
func (s *server) MustDial(tb testing.TB) *net.TCPConn {
	tb.Helper()
	addr := strings.TrimPrefix(s.URL, "http://")
	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: grahak.example\r\n\r\n"); err != nil {
		tb.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// A request counts as one whose client went away only if that is why it got no
// answer. Whatever else became of it is logged as it was.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	fault := errors.New("the disk sings")
	for _, c := range []struct {
		name   string
		status int
		cause  func(ended error) error // of the answer, nil for none
		want   outcome
	}{
		{"unavailable because it left", 503, func(ended error) error { return ended }, outcome{"INFO", 499, "", 499}},
		{"unavailable because it left, wrapped", 503, func(ended error) error { return fmt.Errorf("a write: %w", ended) }, outcome{"INFO", 499, "", 499}},
		{"unavailable for another reason", 503, func(error) error { return fault }, outcome{"ERROR", 503, "the disk sings", 503}},
		{"unavailable in time", 503, func(error) error { return context.DeadlineExceeded }, outcome{"ERROR", 503, "context deadline exceeded", 503}},
		{"unavailable for no reason", 503, nil, outcome{"ERROR", 503, "", 503}},
		{"a fault", 500, func(error) error { return fault }, outcome{"ERROR", 500, "the disk sings", 500}},
		{"a fault because it left", 500, func(ended error) error { return fmt.Errorf("a bug: %w", ended) }, outcome{"ERROR", 500, "a bug: context canceled", 500}},
		{"answered", 200, nil, outcome{"INFO", 200, "", 200}},
		{"refused", 400, func(ended error) error { return ended }, outcome{"INFO", 400, "", 400}},
	} {
		t.Run(c.name, func(t *testing.T) {
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
					if c.cause != nil {
						return c.cause(x.Request.Context().Err())
					}
					x.JSON(c.status, nil)
					return nil
				},
				fail: func(x *web.Exchange, _ error) { x.JSON(c.status, nil) },
			}, atDebug)
			conn := s.MustDial(t)
			next(t, "request", entered)
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, s.outcome(t)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			s.quiet(t)
		})
	}
}

// An edge that answers by itself may note the cause beside its answer, which
// counts as one that Serve returned.
func TestCauseBesideAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		for status, want := range map[int]outcome{
			http.StatusServiceUnavailable:  {"INFO", 499, "", 499},
			http.StatusInternalServerError: {"ERROR", 500, "context canceled", 500},
			http.StatusOK:                  {"INFO", 200, "", 200},
		} {
			s := start(t, edge{serve: func(x *web.Exchange) error {
				x.Cause(context.Canceled)
				x.JSON(status, nil)
				return nil
			}})
			MustDo(t, "GET", s.URL, nil, nil)
			if d := cmp.Diff(want, s.outcome(t)); d != "" {
				t.Errorf("%d (-want +got):\n%s", status, d)
			}
		}
	})
}

// A client may say that it sends no more and still read the answer. net/http
// ends the request's context then, which does not make the answer a failure.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := MustServeNet(t, edge{serve: func(x *web.Exchange) error {
		close(entered)
		select {
		case <-x.Request.Context().Done():
		case <-time.After(waitLimit):
			t.Error("the request does not notice that its client sends no more")
		}
		return ok(x)
	}})
	conn := s.MustDial(t)
	next(t, "request", entered)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "{}" {
		t.Errorf("got %d with %q, %v", resp.StatusCode, body, err)
	}
	if d := cmp.Diff(outcome{"INFO", 200, "", 200}, s.outcome(t)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What is routine is logged for debugging only, unless it goes wrong; it is
// measured all the same.
func TestQuiet(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		var serve func(*web.Exchange) error
		e := edge{serve: func(x *web.Exchange) error {
			x.Quiet, x.Route = true, "/routine"
			return serve(x)
		}}
		all, important := start(t, e, atDebug), start(t, e)
		answer := func(status int) func(*web.Exchange) error {
			return func(x *web.Exchange) error {
				x.JSON(status, nil)
				return nil
			}
		}
		for _, c := range []struct {
			name   string
			serve  func(*web.Exchange) error
			level  string
			status int
		}{
			{"answered", answer(200), "DEBUG", 200},
			{"refused", answer(404), "DEBUG", 404},
			{"left by its client", func(x *web.Exchange) error {
				x.Cause(context.Canceled)
				x.JSON(http.StatusServiceUnavailable, nil)
				return nil
			}, "DEBUG", 499},
			{"an outage", answer(503), "ERROR", 503},
			{"a fault", func(*web.Exchange) error { return errors.New("the disk sings") }, "ERROR", 500},
			{"a panic", func(*web.Exchange) error { panic("overboard") }, "ERROR", 500},
			{"a panic after the answer", func(x *web.Exchange) error {
				_ = ok(x)
				panic("overboard")
			}, "ERROR", 200},
		} {
			serve = c.serve
			for _, s := range []*server{all, important} {
				MustDo(t, "GET", s.URL, nil, nil)
				if s == all || c.level == "ERROR" {
					if e := s.event(t); e["level"] != c.level || e["status"] != float64(c.status) || e["route"] != "/routine" {
						t.Errorf("%s: the log says %v", c.name, e)
					}
				}
				// It is measured before it is logged.
				if m := next(t, "measurement", s.measured); m.Status != c.status || m.Route != "/routine" {
					t.Errorf("%s: measured %+v", c.name, m)
				}
				s.quiet(t)
			}
		}
		// The next exchange is not quiet because the one before was.
		first := true
		s := start(t, edge{serve: func(x *web.Exchange) error {
			x.Quiet, first = first, false
			return ok(x)
		}}, atDebug)
		for _, level := range []string{"DEBUG", "INFO", "INFO"} {
			MustDo(t, "GET", s.URL, nil, nil)
			if e := s.event(t); e["level"] != level {
				t.Errorf("the log says %v, want the level %s", e, level)
			}
		}
	})
}

// Why a credential was refused is in the log and nowhere in the answer.
func TestRefusal(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		refusal := "key of another merchant"
		s := start(t, edge{serve: func(x *web.Exchange) error {
			x.Refusal = refusal
			x.JSON(http.StatusUnauthorized, []byte("{}"))
			return nil
		}})
		resp, body := MustDo(t, "GET", s.URL, nil, nil)
		if e := s.event(t); e["refusal"] != refusal || e["level"] != "INFO" {
			t.Errorf("the log says %v", e)
		}
		if body != "{}" || strings.Contains(fmt.Sprint(resp.Header), "merchant") {
			t.Errorf("the answer is %v with %q", resp.Header, body)
		}
		refusal = ""
		MustDo(t, "GET", s.URL, nil, nil)
		if e := s.event(t); e["refusal"] != nil {
			t.Errorf("the log says %v of what was not refused", e)
		}
	})
}

// What another handler answers is logged and measured with its status.
func TestDelegate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		for _, c := range []struct {
			name    string
			handler http.HandlerFunc
			status  int
			body    string
			want    outcome
		}{
			{"a status and a body", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
			}, 418, "short and stout", outcome{"INFO", 418, "", 418}},
			{"a status alone", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNoContent)
			}, 204, "", outcome{"INFO", 204, "", 204}},
			{"a body alone", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "a ")
				_, _ = io.WriteString(w, "body")
			}, 200, "a body", outcome{"INFO", 200, "", 200}},
			{"nothing", func(http.ResponseWriter, *http.Request) {}, 200, "", outcome{"INFO", 200, "", 200}},
			{"two statuses", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNotFound)
				w.WriteHeader(http.StatusOK)
			}, 404, "", outcome{"INFO", 404, "", 404}},
			{"a status after a body", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "body")
				w.WriteHeader(http.StatusInternalServerError)
			}, 200, "body", outcome{"INFO", 200, "", 200}},
			{"an outage", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}, 503, "", outcome{"ERROR", 503, "", 503}},
		} {
			s := start(t, edge{serve: func(x *web.Exchange) error {
				x.Delegate(c.handler)
				return nil
			}})
			resp, body := MustDo(t, "GET", s.URL, nil, nil)
			if resp.StatusCode != c.status || body != c.body || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s: got %d with %q and %v", c.name, resp.StatusCode, body, resp.Header)
			}
			if d := cmp.Diff(c.want, s.outcome(t)); d != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, d)
			}
		}
	})
}

// A panic of another handler is answered if that is still possible, and logged.
func TestDelegatePanics(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		for _, answered := range []bool{false, true} {
			s := start(t, edge{serve: func(x *web.Exchange) error {
				x.Quiet = true
				x.Delegate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if answered {
						_, _ = io.WriteString(w, "{}")
					}
					panic("overboard")
				}))
				return nil
			}})
			want, wantBody := http.StatusInternalServerError, `{"error":true}`
			if answered {
				want, wantBody = http.StatusOK, "{}"
			}
			resp, body := MustDo(t, "GET", s.URL, nil, nil)
			if resp.StatusCode != want || body != wantBody {
				t.Errorf("answered: %t: got %d with %q", answered, resp.StatusCode, body)
			}
			got := s.outcome(t)
			if !strings.Contains(got.Error, "overboard") {
				t.Errorf("answered: %t: the log does not say what happened: %+v", answered, got)
			}
			got.Error = ""
			if d := cmp.Diff(outcome{"ERROR", want, "", want}, got); d != "" {
				t.Errorf("answered: %t (-want +got):\n%s", answered, d)
			}
		}
	})
}

// What another handler flushes is sent at once, on a server of net/http: profiles are
// read while they are made.
func TestDelegateFlush(t *testing.T) {
	t.Parallel()
	sent := make(chan struct{})
	s := MustServeNet(t, edge{serve: func(x *web.Exchange) error {
		x.Delegate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "bo")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("an answer that is delegated cannot be flushed: %v", err)
			}
			next(t, "beginning", sent)
			_, _ = io.WriteString(w, "dy")
		}))
		return nil
	}})
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	beginning := make([]byte, 2)
	if _, err := io.ReadFull(resp.Body, beginning); err != nil {
		t.Fatal(err)
	}
	close(sent)
	rest, err := io.ReadAll(resp.Body)
	if got := string(beginning) + string(rest); err != nil || got != "body" {
		t.Errorf("got %q, %v", got, err)
	}
}
