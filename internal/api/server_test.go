package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/telemetry"
	"grahak/internal/testkit"
	"grahak/internal/web"
)

// demo is the merchant that every test server has, with a key of write scope
// that is named after it.
const demo = "demo"

// server is the API over real HTTP on a real store, at a time that stands
// still.
type server struct {
	service *grahak.Service
	store   *sqlstore.SQLite
	kept    *sqlstore.Requests // the request log
	clock   *testkit.Clock
	random  *source
	metrics *telemetry.Metrics
	log     *testkit.Buffer
	logger  *slog.Logger
	folder  string // the data folder
	sealer  grahak.Sealer

	addr string
	keys map[string]keyRef // by the name that a test gave them
}

// keyRef is an API key that a test made.
type keyRef struct {
	text     string
	id       grahak.KeyID
	merchant grahak.MerchantID
}

// MustServe returns a running server with the merchant demo.
func MustServe(tb testing.TB) *server {
	tb.Helper()
	s := &server{
		clock:   testkit.NewClock(),
		random:  new(source),
		metrics: telemetry.NewMetrics("test"),
		log:     new(testkit.Buffer),
		folder:  tb.TempDir(),
		keys:    make(map[string]keyRef),
	}
	s.logger = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	s.store, err = sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{
		Path:        filepath.Join(s.folder, "grahak.db"),
		Environment: grahak.Sandbox,
		Clock:       s.clock,
		Observer:    s.metrics,
		Logger:      s.logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.store.Close() })
	s.metrics.Watch(s.store)
	s.kept, err = sqlstore.OpenRequests(s.requestsPath(), s.logger)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.kept.Close() })
	master, err := seal.MakeMasterKey(filepath.Join(tb.TempDir(), "master.key"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.store.MasterKeyID(tb.Context(), master.ID()); err != nil {
		tb.Fatal(err)
	}
	s.sealer = seal.New(master, s.store)
	s.mustLimit(tb, grahak.Limits{})
	s.MustMerchant(tb, demo)
	return s
}

// mustLimit runs the server anew, with the given limits, on the same store.
func (s *server) mustLimit(tb testing.TB, limits grahak.Limits) {
	tb.Helper()
	var err error
	s.service, err = grahak.NewService(grahak.Config{
		Store:    s.store,
		Requests: s.kept,
		Sealer:   s.sealer,
		Clock:    s.clock,
		Random:   s.random,
		Logger:   s.logger,
		Limits:   limits,
		Limited:  func(kind grahak.LimitKind) { s.metrics.Limited(string(kind)) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = serve(tb, web.NewAPIServer(web.NewHandler(web.Config{
		Edge:     api.New(s.service),
		Requests: s.service.NoteRequest,
		Logger:   s.logger,
		Observer: s.metrics,
		Clock:    s.clock,
		Random:   rand.Reader,
	}), nil, s.logger))
}

// serve runs srv on a free port until the test ends and returns its address.
func serve(tb testing.TB, srv web.Server) string {
	tb.Helper()
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
	return l.Addr().String()
}

func operator(merchant string) grahak.Caller {
	return grahak.Operator(grahak.MerchantID(merchant), "test")
}

// MustMerchant makes a merchant, and a key of write scope that is named after
// it.
func (s *server) MustMerchant(tb testing.TB, merchant string) {
	tb.Helper()
	if _, err := s.service.CreateMerchant(tb.Context(), operator(merchant), ""); err != nil {
		tb.Fatal(err)
	}
	s.MustKey(tb, merchant, merchant, grahak.KeySpec{Scope: grahak.ScopeWrite})
}

// MustKey makes a key of merchant and remembers it by name.
func (s *server) MustKey(tb testing.TB, merchant, name string, spec grahak.KeySpec) {
	tb.Helper()
	k, text, err := s.service.CreateKey(tb.Context(), operator(merchant), spec)
	if err != nil {
		tb.Fatal(err)
	}
	s.keys[name] = keyRef{text: text, id: k.ID, merchant: k.Merchant}
}

// basic returns the value of an Authorization header for a key that a test
// named.
func (s *server) basic(name string) string { return basicAuth(s.keys[name].text + ":") }

// mustRun does the service's background work until the test ends, or until the
// returned function is called.
func (s *server) mustRun(tb testing.TB) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.service.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	tb.Cleanup(stop)
	return stop
}

// mustOrder returns when the background work has put all events into their
// chains and all customers into the search index.
func (s *server) mustOrder(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), exchangeTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		merchants, err := s.store.Unordered(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		if len(merchants) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("events of %v are not in their chains", merchants)
		}
	}
}

// exchange is one request as it was sent and its answer.
type exchange struct {
	raw     []byte // the whole request
	request *http.Request
	body    string // of the request
	status  int
	header  http.Header
	answer  string
}

// exchangeTimeout is far more than any answer takes.
const exchangeTimeout = 30 * time.Second

// MustSend sends raw, which is a whole HTTP/1.1 request, on a connection of its
// own and returns the answer.
func (s *server) MustSend(tb testing.TB, raw []byte) exchange {
	tb.Helper()
	x, err := s.send(tb.Context(), raw)
	if err != nil {
		tb.Fatalf("%v; the request was:\n%q", err, raw)
	}
	return x
}

func (s *server) send(ctx context.Context, raw []byte) (exchange, error) {
	x := exchange{raw: raw}
	var err error
	if x.request, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(raw))); err != nil {
		return x, fmt.Errorf("not a request: %w", err)
	}
	body, err := io.ReadAll(x.request.Body)
	if err != nil {
		return x, fmt.Errorf("not a request: %w", err)
	}
	x.body = string(body)
	answer, err := s.sendRaw(ctx, raw, x.request.Method)
	if err != nil {
		return x, err
	}
	x.status, x.header, x.answer = answer.status, answer.header, answer.answer
	return x, nil
}

// sendRaw sends raw, which need not be a request that net/http can read.
func (s *server) sendRaw(ctx context.Context, raw []byte, method string) (exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return exchange{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return exchange{}, err
	}
	// A server that has read enough may answer and hang up before it has read
	// all, so only the answer counts.
	_, writeErr := conn.Write(raw)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return exchange{}, errors.Join(err, writeErr)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return exchange{raw: raw, status: res.StatusCode, header: res.Header, answer: string(answer)}, err
}

// request builds a whole request from its first line, its headers, a line
// each, and its body. What HTTP needs beyond that is added. A body under
// "Transfer-Encoding: chunked" is sent in two chunks.
func request(line string, headers []string, body string) []byte {
	var b bytes.Buffer
	line = strings.TrimSuffix(line, " HTTP/1.1")
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: grahak.example\r\nConnection: close\r\n", line)
	chunked := false
	for _, h := range headers {
		chunked = chunked || strings.EqualFold(h, "Transfer-Encoding: chunked")
		b.WriteString(h + "\r\n")
	}
	switch {
	case chunked:
		b.WriteString("\r\n")
		half := len(body) / 2
		for _, chunk := range []string{body[:half], body[half:]} {
			if chunk != "" {
				fmt.Fprintf(&b, "%x\r\n%s\r\n", len(chunk), chunk)
			}
		}
		b.WriteString("0\r\n\r\n")
	case body != "":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// source is a source of randomness that a test can make fail, or wait.
type source struct {
	broken atomic.Bool
	held   atomic.Pointer[hold]
}

// hold keeps who reads from a [source] waiting.
type hold struct {
	reached chan struct{} // has a value as soon as somebody waits
	ended   chan struct{} // closed when all may go on
}

// hold lets everybody who reads wait from now on.
func (s *source) hold() *hold {
	h := &hold{reached: make(chan struct{}, 1), ended: make(chan struct{})}
	s.held.Store(h)
	return h
}

// release ends the hold.
func (s *source) release() {
	if h := s.held.Swap(nil); h != nil {
		close(h.ended)
	}
}

var errBroken = errors.New("the source of randomness has failed")

func (s *source) Read(p []byte) (int, error) {
	if h := s.held.Load(); h != nil {
		select {
		case h.reached <- struct{}{}:
		default:
		}
		<-h.ended
	}
	if s.broken.Load() {
		return 0, errBroken
	}
	return rand.Read(p)
}
