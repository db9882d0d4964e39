package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/http/httpguts"

	"grahak"
)

// PlainServer is a server of HTTP/1.1 without TLS, in about half the processor time
// of [http.Server]: it is on fasthttp, which reads and writes requests
// in memory that is used again. Handlers see an [http.Request] as from
// [http.Server], with its limits and its refusals, but for three things:
//
//   - What is of the request, its header and URL included, and the header of the
//     answer, is valid only until the handler returns. Strings may be kept.
//   - The context of a request ends with the server only, not when the client goes
//     away.
//   - An answer is sent when the handler returns, all of it at once.
type PlainServer struct {
	server   fasthttp.Server
	handler  http.Handler
	requests sync.Pool
	log      *slog.Logger
	ended    context.Context //nolint:containedctx // It is that of all requests.
	stop     context.CancelFunc

	mu     sync.Mutex
	open   map[*plainConn]struct{}
	closed bool
}

var _ Server = (*PlainServer)(nil)

// NewPlainServer returns a server for h with every limit set.
func NewPlainServer(h http.Handler, logger *slog.Logger) *PlainServer {
	ctx, stop := context.WithCancel(context.Background())
	s := &PlainServer{handler: h, log: logger, ended: ctx, stop: stop, open: make(map[*plainConn]struct{})}
	blank := new(http.Request).WithContext(ctx)
	s.requests.New = func() any {
		return &plainRequest{blank: blank, header: make(http.Header), answer: make(http.Header)}
	}
	s.server = fasthttp.Server{
		Handler:      s.serve,
		ErrorHandler: refuseMalformed,
		// The first is for the header alone: a body has its own time.
		ReadTimeout: readHeaderTimeout,
		HeaderReceived: func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
			if h.ContentLength() == 0 || h.ContentLength() == -2 {
				return fasthttp.RequestConfig{}
			}
			return fasthttp.RequestConfig{ReadTimeout: readTimeout}
		},
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		ReadBufferSize: maxHeaderBytes,
		// The handler reads the body, and bounds it; before that there is only a
		// byte of it.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		ConnState: func(c net.Conn, state fasthttp.ConnState) {
			// It has been read meanwhile.
			if known, ok := c.(*plainConn); ok && state == fasthttp.StateIdle {
				known.unread.Store(false)
			}
		},
		CloseOnShutdown: true,
		LazyRequestTime: true,
		// What clients do wrong at the level of connections is worth seeing only when
		// looking for it, and never with what they sent.
		SecureErrorLogMessage: true,
		Logger:                debugLogger{logger},
	}
	return s
}

// debugLogger implements [fasthttp.Logger].
type debugLogger struct{ log *slog.Logger }

// Printf implements [fasthttp.Logger]. The arguments may hold what a client sent, and are
// left out.
func (l debugLogger) Printf(format string, _ ...any) {
	l.log.Debug("a connection ended early", "reason", format)
}

// Serve implements [Server].
func (s *PlainServer) Serve(l net.Listener) error {
	err := s.server.Serve(plainListener{l, s})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return http.ErrServerClosed
	}
	return err
}

// Shutdown implements [Server].
func (s *PlainServer) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.server.ShutdownWithContext(ctx)
	if err == nil {
		s.stop()
	}
	return err
}

// Close implements [Server].
func (s *PlainServer) Close() error {
	s.stop()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Conn.Close()
	}
	s.mu.Unlock()
	if err := s.server.ShutdownWithContext(now); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// plainListener hands out connections that the server knows.
type plainListener struct {
	net.Listener
	server *PlainServer
}

// Accept implements [net.Listener]. Of errors that pass, no more open files say, fasthttp
// would make an end of the server; they are waited out, as in [http.Server.Serve].
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	for delay := 5 * time.Millisecond; err != nil; delay = min(2*delay, time.Second) {
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return nil, err
		}
		l.server.log.Warn("a connection cannot be accepted; it will be tried again", "error", err)
		select {
		case <-time.After(delay):
		case <-l.server.ended.Done():
		}
		c, err = l.Listener.Accept()
	}
	known := &plainConn{Conn: c, server: l.server, remote: c.RemoteAddr().String()}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	if l.server.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.server.open[known] = struct{}{}
	return known, nil
}

// plainConn is an open connection. Like those of [net.Conn] its methods may be called by
// several goroutines, but for Read, Write and what sets their deadlines, each of which is
// one goroutine's.
type plainConn struct {
	net.Conn
	server *PlainServer
	remote string
	unread atomic.Bool // the body of the request that is answered was not read to its end

	reads, writes lazyDeadline
}

// lazyDeadline is a deadline that is set when it is needed: a request has three, and for
// most of them nobody ever waits.
type lazyDeadline struct{ wanted, set time.Time }

// deadlineStep is how much earlier than it was asked for a deadline may be.
const deadlineStep = time.Second

// apply has set set the deadline, unless the one that is set will do.
func (d *lazyDeadline) apply(set func(time.Time) error) error {
	if later := d.wanted.Sub(d.set); later >= 0 && later < deadlineStep {
		return nil
	}
	if err := set(d.wanted); err != nil {
		return err
	}
	d.set = d.wanted
	return nil
}

// SetReadDeadline implements [net.Conn], for reads that begin later.
func (c *plainConn) SetReadDeadline(t time.Time) error {
	c.reads.wanted = t
	return nil
}

// SetWriteDeadline implements [net.Conn], for writes that begin later.
func (c *plainConn) SetWriteDeadline(t time.Time) error {
	c.writes.wanted = t
	return nil
}

// SetDeadline implements [net.Conn], for reads and writes that begin later.
func (c *plainConn) SetDeadline(t time.Time) error {
	c.reads.wanted, c.writes.wanted = t, t
	return nil
}

// Read implements [net.Conn].
func (c *plainConn) Read(p []byte) (int, error) {
	if err := c.reads.apply(c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements [net.Conn].
func (c *plainConn) Write(p []byte) (int, error) {
	if err := c.writes.apply(c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// How long, and for how many bytes, the end of a connection waits for a client that is
// still sending a body: otherwise the client's kernel would drop the answer.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// Close implements [net.Conn].
func (c *plainConn) Close() error {
	if c.unread.Load() && c.Conn.SetReadDeadline(grahak.SystemClock{}.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	c.server.mu.Lock()
	delete(c.server.open, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// plainRequest is a request and its answer, in memory that the next one uses. It
// implements [http.ResponseWriter] for the answer, and [io.ReadCloser] for the body.
type plainRequest struct {
	blank   *http.Request // of no request but with its context
	request http.Request
	url     url.URL
	header  http.Header
	text    []byte // all values of the header, one behind the other
	fields  []field
	values  []string // what the header's lists are made of

	ctx    *fasthttp.RequestCtx
	body   io.Reader // nil for none, and at its end
	left   int64     // bytes of body that are to come, where the header tells
	answer http.Header
	sent   bool // the answer's status is set
}

// field is a field of a header.
type field struct {
	name string
	end  int // of the value in text
}

// serve has the handler answer ctx.
func (s *PlainServer) serve(ctx *fasthttp.RequestCtx) {
	r, _ := s.requests.Get().(*plainRequest)
	r.ctx = ctx
	defer func() {
		if p := recover(); p != nil {
			// As net/http does: the other connections go on.
			if p != http.ErrAbortHandler { //nolint:errorlint // It is compared as net/http does.
				s.log.Error("a request was given up", "error", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			}
			ctx.Response.Reset()
			ctx.SetStatusCode(http.StatusInternalServerError)
			ctx.SetConnectionClose()
		}
		if c, ok := ctx.Conn().(*plainConn); ok {
			c.unread.Store(r.body != nil)
		}
		r.ctx, r.body = nil, nil
		s.requests.Put(r)
	}()
	if status := r.read(); status != 0 {
		r.body = ctx.RequestBodyStream()
		refuse(ctx, status)
		return
	}
	s.handler.ServeHTTP(r, &r.request)
	r.WriteHeader(http.StatusOK) // which does nothing unless nothing was written
}

// refuse answers a request that is not HTTP as the handlers may see it.
func refuse(ctx *fasthttp.RequestCtx, status int) {
	ctx.Response.Reset()
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(fmt.Sprintf("%d %s", status, http.StatusText(status)))
	ctx.SetConnectionClose()
}

// refuseMalformed answers a request that could not be read.
func refuseMalformed(ctx *fasthttp.RequestCtx, err error) {
	var long *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &long):
		refuse(ctx, http.StatusRequestHeaderFieldsTooLarge)
	case errors.As(err, &network) && network.Timeout():
		refuse(ctx, http.StatusRequestTimeout)
	case errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding):
		refuse(ctx, http.StatusNotImplemented)
	default:
		refuse(ctx, http.StatusBadRequest)
	}
}

// read makes the request, and returns the status to refuse it with, 0 for none: what
// [http.Server] refuses, and fasthttp does not.
func (r *plainRequest) read() int {
	h := &r.ctx.Request.Header
	protocol := h.Protocol()
	if len(protocol) != len("HTTP/1.1") || string(protocol[:7]) != "HTTP/1." {
		return http.StatusHTTPVersionNotSupported
	}
	r.request = *r.blank
	req := &r.request
	req.Method = methodName(h.Method())
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, int(protocol[7]-'0')
	if req.ProtoMinor != 1 {
		req.Proto = string(protocol)
	}
	if status := r.readHeader(h); status != 0 {
		return status
	}
	req.Header = r.header
	req.Close = h.ConnectionClose()
	req.RequestURI = string(h.RequestURI())
	if !r.readURL(req) {
		return http.StatusBadRequest
	}
	if c, ok := r.ctx.Conn().(*plainConn); ok {
		req.RemoteAddr = c.remote
	}
	r.sent = false
	req.Body = http.NoBody
	switch n := h.ContentLength(); {
	case n == -1:
		req.ContentLength, req.TransferEncoding = -1, chunked
		req.Body, r.body = r, r.ctx.RequestBodyStream()
	case n > 0:
		req.ContentLength, r.left = int64(n), int64(n)
		req.Body, r.body = r, r.ctx.RequestBodyStream()
	}
	clear(r.answer)
	return 0
}

var chunked = []string{"chunked"}

// readHeader fills the header, whose values share one string. It returns the status
// to refuse it with, 0 for none.
func (r *plainRequest) readHeader(h *fasthttp.RequestHeader) int {
	clear(r.header)
	r.text, r.fields = r.text[:0], r.fields[:0]
	for key, value := range h.All() {
		if !httpguts.ValidHeaderFieldName(string(key)) {
			return http.StatusBadRequest
		}
		r.text = append(r.text, value...)
		r.fields = append(r.fields, field{name: headerName(key), end: len(r.text)})
	}
	all, start := string(r.text), 0
	if cap(r.values) < len(r.fields) {
		r.values = make([]string, max(24, len(r.fields)))
	}
	r.values = r.values[:cap(r.values)]
	for i, f := range r.fields {
		value := all[start:f.end]
		start = f.end
		switch f.name {
		case "Host":
			r.request.Host = value
			continue
		case "Content-Length", "Transfer-Encoding":
			// The request has them in fields of its own.
			continue
		}
		if list := r.header[f.name]; list != nil {
			r.header[f.name] = append(list, value)
			continue
		}
		list := r.values[i : i+1 : i+1]
		list[0] = value
		r.header[f.name] = list
	}
	// RFC 9112, section 3.2.
	if r.request.Host == "" && r.request.ProtoMinor > 0 && r.request.Method != http.MethodConnect || !httpguts.ValidHostHeader(r.request.Host) {
		return http.StatusBadRequest
	}
	// fasthttp has the last of several, net/http the first: a filter before us might have
	// read the body as something else.
	if r.header["Content-Type"] != nil && countFields(h.RawHeaders(), "content-type") > 1 {
		return http.StatusBadRequest
	}
	if expect := r.header["Expect"]; expect != nil && (len(expect) > 1 || !strings.EqualFold(expect[0], "100-continue")) {
		return http.StatusExpectationFailed
	}
	return 0
}

// countFields returns how many fields of a raw header have the name, which is in small
// letters.
func countFields(raw []byte, name string) (n int) {
	for line := range bytes.SplitSeq(raw, []byte{'\n'}) {
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			n++
		}
	}
	return n
}

// headerNames are the names of usual fields, which need no memory.
var headerNames = func() map[string]string {
	names := make(map[string]string)
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Length", "Content-Type",
		"Cookie", "Expect", "Forwarded", "Host", "Idempotency-Key", "If-Match", "Origin", "Referer", "Transfer-Encoding", "User-Agent",
		"Version", "X-Customerid", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Jp-Merchant-Id", "X-Merchant-Id",
		"X-Merchantid", "X-Real-Ip", "X-Request-Id", "X-Routing-Id",
	} {
		names[name] = name
	}
	return names
}()

// headerName returns the canonical name of a field.
func headerName(key []byte) string {
	if name, ok := headerNames[string(key)]; ok {
		return name
	}
	return http.CanonicalHeaderKey(string(key))
}

// methodName returns the method as a string.
func methodName(method []byte) string {
	switch string(method) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	case http.MethodDelete:
		return http.MethodDelete
	}
	return string(method)
}

// readURL makes the request's URL, and reports whether there is one. It is that of
// [url.ParseRequestURI], which a target of plain and escaped characters need not pass.
func (r *plainRequest) readURL(req *http.Request) bool {
	target := req.RequestURI
	if plain, escaped := plainTarget(target); plain {
		path, query, more := strings.Cut(target, "?")
		r.url = url.URL{Path: path, RawQuery: query, ForceQuery: more && query == ""}
		if escaped {
			var err error
			if r.url.Path, err = url.PathUnescape(path); err != nil {
				return false
			}
			if r.url.EscapedPath() != path {
				r.url.RawPath = path
			}
		}
		req.URL = &r.url
		return true
	}
	authority := req.Method == http.MethodConnect && !strings.HasPrefix(target, "/")
	if authority {
		target = "http://" + target
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	if authority {
		u.Scheme = ""
	}
	if u.Host != "" {
		// RFC 9112, section 3.2.2.
		req.Host = u.Host
	}
	req.URL = u
	return true
}

// plainTarget reports whether target is a path, and perhaps a query, of characters that
// stand for themselves, and whether there are escaped ones in the path.
func plainTarget(target string) (plain, escaped bool) {
	if len(target) < 2 || target[0] != '/' || target[1] == '/' {
		return false, false
	}
	for i := range len(target) {
		switch c := target[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '-', c == '_', c == '.', c == '~':
		case c == '%':
			escaped = true
		case c == '?':
			return true, escaped
		default:
			return false, false
		}
	}
	return true, escaped
}

// Read implements [io.Reader] for the body of the request.
func (r *plainRequest) Read(p []byte) (int, error) {
	if r.body == nil {
		return 0, io.EOF
	}
	n, err := r.body.Read(p)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		if r.request.ContentLength > 0 && r.left > 0 {
			return n, io.ErrUnexpectedEOF
		}
		r.body = nil
	}
	return n, err
}

// Close implements [io.Closer] for the body of the request.
func (*plainRequest) Close() error { return nil }

// Header implements [http.ResponseWriter].
func (r *plainRequest) Header() http.Header { return r.answer }

// WriteHeader implements [http.ResponseWriter].
func (r *plainRequest) WriteHeader(status int) {
	if r.sent || status < http.StatusOK {
		return
	}
	r.sent = true
	r.ctx.Response.SetStatusCode(status)
	h := &r.ctx.Response.Header
	h.DisableNormalizing()
	left := len(r.answer)
	for _, name := range answerNames {
		if values, ok := r.answer[name]; ok {
			left--
			addField(h, name, values)
		}
	}
	if left == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.answer)) {
		if !slices.Contains(answerNames[:], name) {
			addField(h, name, r.answer[name])
		}
	}
}

// answerNames are the fields of most answers, in the order in which they are sent.
var answerNames = [...]string{
	"Content-Type", "Content-Length", "Cache-Control", "Etag", "Ratelimit", "Ratelimit-Policy", "X-Jp-Merchant-Id", "X-Request-Id", "X-Response-Id",
}

// addField adds a field to the header of the answer, whose length is fasthttp's to
// say.
func addField(h *fasthttp.ResponseHeader, name string, values []string) {
	if name == "Content-Length" {
		return
	}
	for _, value := range values {
		h.Add(name, value)
	}
}

// Write implements [http.ResponseWriter].
func (r *plainRequest) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.ctx.Response.AppendBody(b)
	return len(b), nil
}
