// Package web is the HTTP plumbing that the edges share: one structured event
// and one measurement per request, request ids, recovery from panics, bounded
// bodies, the client's real address, and servers with every limit set.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"grahak"
)

// Edge answers the requests of one listener in its own vocabulary.
type Edge interface {
	// Serve answers x, or returns an error having written nothing.
	Serve(x *Exchange) error
	// Fail answers x for an error of Serve, and notes x.Code.
	Fail(x *Exchange, err error)
}

// Observer measures requests. It must be safe for concurrent use.
type Observer interface {
	// Request reports one answered request. All labels are of bounded variety:
	// route is a pattern, method a known one or "other", code empty or an error
	// code.
	Request(route, method string, status int, code string, took time.Duration)
}

// Config is what a [Handler] is made of. Edge, Logger and Observer are
// required.
type Config struct {
	Edge     Edge
	Logger   *slog.Logger
	Observer Observer
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// Random makes request ids; required.
	Random io.Reader
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Requests takes each answered request for the request log; may be nil. It is called
	// by the request's goroutine and must not wait.
	Requests func(grahak.RequestRecord)
	// Admission bounds the requests whose edge calls [Exchange.Admit]; nil does not.
	Admission *Admission
}

// Handler is an [http.Handler] for one edge.
type Handler struct {
	cfg       Config
	exchanges sync.Pool
}

// NewHandler returns a handler that serves cfg.Edge.
func NewHandler(cfg Config) *Handler {
	if cfg.Clock == nil {
		cfg.Clock = grahak.SystemClock{}
	}
	return &Handler{cfg: cfg, exchanges: sync.Pool{New: func() any { return new(Exchange) }}}
}

// Exchange is one request and its answer. It is used by one goroutine and must
// not be kept after the answer.
type Exchange struct {
	Request *http.Request
	// RequestID is the caller's x-request-id if that is well formed, else new.
	RequestID string
	// Addr is the client's address, behind trusted proxies if there are any;
	// the zero value if it cannot be told.
	Addr netip.Addr

	// The edge notes these for the log. None may hold personal data.
	Route    string // the route's pattern; empty means none matched
	Merchant grahak.MerchantID
	Key      grahak.KeyID
	Customer grahak.CustomerID
	// KeyMerchant is whose the key is, also where the key is refused.
	KeyMerchant grahak.MerchantID
	Code        string // the error code answered
	Version     string // the API version the client names
	IPReport    bool   // the merchant's IP list would refuse the address
	Refusal     string // why the credential was refused; clients are not told
	Limit       string // the limit that refused the request
	Quiet       bool   // an exchange of routine, logged for debugging only
	Created     bool   // the request made a customer
	Page        bool   // a page for people, which the request log does not have

	// Buf is scratch space for the edge, kept from one request to the next.
	Buf []byte

	writer    http.ResponseWriter
	admission *Admission
	admitted  admissionKey // the zero value unless x is in progress
	status    int
	cause     error
	panicked  bool
	body      []byte
}

// Header returns the header of the answer.
func (x *Exchange) Header() http.Header { return x.writer.Header() }

// JSON answers with the given status and body, which must be JSON.
func (x *Exchange) JSON(status int, body []byte) { x.Send(status, jsonType, body) }

// Header values that are the same for every answer are shared slices, which
// net/http only reads.
var (
	jsonType  = []string{"application/json"}
	noStore   = []string{"no-store"}
	closeConn = []string{"close"}
)

// Send answers with the given status, content type and body.
func (x *Exchange) Send(status int, contentType []string, body []byte) {
	h := x.writer.Header()
	h["Content-Type"] = contentType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.status = status
	x.writer.WriteHeader(status)
	// An error here means that the client has gone; there is nobody to tell.
	_, _ = x.writer.Write(body)
}

// Delegate has h answer.
func (x *Exchange) Delegate(h http.Handler) {
	h.ServeHTTP(&statusRecorder{ResponseWriter: x.writer, x: x}, x.Request)
	if x.status == 0 {
		// net/http answers so for a handler that writes nothing.
		x.status = http.StatusOK
	}
}

// statusRecorder notes the status of an answer in its exchange.
type statusRecorder struct {
	http.ResponseWriter
	x *Exchange
}

// WriteHeader implements [http.ResponseWriter].
func (r *statusRecorder) WriteHeader(status int) {
	if r.x.status == 0 {
		r.x.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *statusRecorder) Write(b []byte) (int, error) {
	if r.x.status == 0 {
		r.x.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach what is behind.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// RetryAfter sets the Retry-After header, rounded up to whole seconds, at
// least one.
func (x *Exchange) RetryAfter(d time.Duration) {
	seconds := max(1, int64((d+time.Second-1)/time.Second))
	x.Header()["Retry-After"] = []string{strconv.FormatInt(seconds, 10)}
}

// Cause notes the error behind an answer, for the log.
func (x *Exchange) Cause(err error) { x.cause = err }

// ErrBodyTooLarge is returned by [Exchange.ReadBody].
var ErrBodyTooLarge = errors.New("the request body is too large")

// ReadBody reads the body, of at most limit bytes. The result is valid until
// the answer. It returns [ErrBodyTooLarge] for a longer body, and otherwise the
// error of reading, or of [Exchange.Admit], which is asked again.
func (x *Exchange) ReadBody(limit int) ([]byte, error) {
	// A client that is slow takes nobody's place.
	admitted := x.leave()
	body, err := x.readBody(limit)
	if err == nil && admitted {
		err = x.Admit()
	}
	return body, err
}

func (x *Exchange) readBody(limit int) ([]byte, error) {
	if x.Request.ContentLength > int64(limit) {
		x.Header()["Connection"] = closeConn
		return nil, ErrBodyTooLarge
	}
	buf := x.body[:0]
	for {
		if len(buf) > limit {
			x.Header()["Connection"] = closeConn
			return nil, ErrBodyTooLarge
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := x.Request.Body.Read(buf[len(buf):min(cap(buf), limit+1)])
		buf = buf[:len(buf)+n]
		x.body = buf
		if errors.Is(err, io.EOF) {
			if len(buf) > limit {
				return nil, ErrBodyTooLarge
			}
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// maxKeptBuffer bounds the buffers kept for later requests, in bytes.
const maxKeptBuffer = 16 << 10

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.cfg.Clock.Now()
	x, _ := h.exchanges.Get().(*Exchange)
	buf, body := x.Buf[:0], x.body[:0]
	if cap(buf) > maxKeptBuffer {
		buf = nil
	}
	if cap(body) > maxKeptBuffer {
		body = nil
	}
	*x = Exchange{Request: r, writer: w, Buf: buf, body: body, admission: h.cfg.Admission}
	defer h.exchanges.Put(x)

	header := w.Header()
	requestID, responseID := h.newIDs()
	x.RequestID = requestID
	if id := r.Header.Get("X-Request-Id"); grahak.ValidRequestID(id) {
		x.RequestID = id
	}
	ids := []string{x.RequestID, responseID}
	header["X-Request-Id"], header["X-Response-Id"] = ids[:1:1], ids[1:]
	x.Addr = clientAddr(r, h.cfg.TrustedProxies)

	h.serve(x)
	x.leave()
	h.report(x, start, h.cfg.Clock.Now().Sub(start))
}

// serve answers x, whatever happens.
func (h *Handler) serve(x *Exchange) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			x.cause, x.panicked = err, true
			if x.status == 0 {
				h.cfg.Edge.Fail(x, err)
			}
		}
	}()
	if err := h.cfg.Edge.Serve(x); err != nil {
		x.cause = err
		h.cfg.Edge.Fail(x, err)
	}
}

// statusClientGone is what a request is logged as whose client went away
// before it was answered.
const statusClientGone = 499

// report writes the one event of a request.
func (h *Handler) report(x *Exchange, start time.Time, took time.Duration) {
	status := x.status
	if status == http.StatusServiceUnavailable && errors.Is(x.cause, context.Canceled) {
		status = statusClientGone
	}
	route := x.Route
	if route == "" {
		route = "unmatched"
	}
	method := knownMethod(x.Request.Method)
	h.cfg.Observer.Request(route, method, status, x.Code, took)
	if h.cfg.Requests != nil && !x.Page {
		h.cfg.Requests(grahak.RequestRecord{
			At: start, RequestID: x.RequestID, Merchant: x.KeyMerchant, Key: x.Key, Customer: x.Customer,
			Method: method, Route: route, Status: status, Code: x.Code, Took: took, Addr: x.Addr,
			Refusal: grahak.Refusal(x.Refusal), Limit: grahak.LimitKind(x.Limit), IPReport: x.IPReport, Created: x.Created,
		})
	}

	if x.Limit == LimitInProgress && !x.panicked {
		// There may be a flood of these; the admission tells of them together.
		return
	}

	// A panic is a fault even when the answer had been given, or the client had
	// gone.
	fault := status >= 500 || x.panicked
	level := slog.LevelInfo
	switch {
	case fault:
		level = slog.LevelError
	case x.Quiet:
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !h.cfg.Logger.Enabled(ctx, level) {
		return
	}
	var space [15]slog.Attr
	attrs := append(space[:0],
		slog.String("request_id", x.RequestID),
		slog.String("method", method),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Int64("duration_us", took.Microseconds()),
	)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("merchant", string(x.Merchant))
	text("key", string(x.Key))
	text("customer", string(x.Customer))
	if x.Addr.IsValid() {
		attrs = append(attrs, slog.String("addr", x.Addr.String()))
	}
	text("code", x.Code)
	text("refusal", x.Refusal)
	text("limit", x.Limit)
	text("version", x.Version)
	if x.IPReport {
		attrs = append(attrs, slog.String("ip_list", "would refuse"))
	}
	if x.cause != nil && fault {
		attrs = append(attrs, slog.String("error", x.cause.Error()))
	}
	// The logger would look for its caller, and read the clock again.
	line := slog.NewRecord(start.Add(took).Local(), level, "request", 0)
	line.AddAttrs(attrs...)
	_ = h.cfg.Logger.Handler().Handle(ctx, line)
}

func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// newIDs returns two ids, each of 20 random characters of [a-z2-7]: 100 bits.
func (h *Handler) newIDs() (request, response string) {
	const digits, size = "abcdefghijklmnopqrstuvwxyz234567", 20
	b := make([]byte, 2*size)
	if _, err := io.ReadFull(h.cfg.Random, b); err != nil {
		// An id that is not unique harms nothing but the joining of logs.
		return "unidentified", "unidentified"
	}
	for i := range b {
		b[i] = digits[b[i]&31]
	}
	both := string(b)
	return both[:size], both[size:]
}
