package webhook_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// message is the body of what is sent.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      struct {
		Event    string   `json:"event_id"`
		Position int64    `json:"position"`
		Customer string   `json:"customer_id"`
		Changed  []string `json:"changed"`
	} `json:"data"`
}

// delivery is a request that a receiver got.
type delivery struct {
	message
	try        int // of this event at this endpoint, from 1
	signatures int
	signers    int  // how many of the known secrets signed it
	newest     bool // the newest is among those
	began      time.Time
	accepted   bool
	ended      time.Time
	again      bool // the same event came before it ended
}

// answering answers a delivery. The status that it returns is sent, unless it is
// silent, or it is sent already and the event is taken.
type answering func(w http.ResponseWriter, r *http.Request, d delivery) int

const (
	silent = 0
	sent   = 1
)

// take accepts.
func take(http.ResponseWriter, *http.Request, delivery) int { return http.StatusNoContent }

// receiver is a program that events are sent to. Each of its paths is an endpoint.
type receiver struct {
	*httptest.Server
	certificate string // a file with its certificate, empty without TLS

	mu    sync.Mutex
	hooks map[string]*hook
	// strays counts requests that no endpoint was made for, by path.
	strays map[string]int
}

// newReceiver starts a receiver as the instance needs it: with TLS in production.
func newReceiver(t testing.TB, i *instance) *receiver {
	t.Helper()
	r := &receiver{hooks: make(map[string]*hook), strays: make(map[string]int)}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	if i.data != "" {
		r.Start()
	} else {
		r.StartTLS()
		r.certificate = filepath.Join(t.TempDir(), "certificate.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
		if err := os.WriteFile(r.certificate, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// hook is an endpoint as its receiver sees it.
type hook struct {
	t        testing.TB
	merchant merchant
	id       string
	types    []string
	start    int64         // the position from which on events are sent to it
	ready    chan struct{} // closed when the fields above are set

	mu      sync.Mutex
	answer  answering
	secrets []*standardwebhooks.Webhook // the newest first
	all     []*delivery                 // in the order in which they began
	tries   map[string]int              // by event
	taken   map[string]bool             // events
	flying  map[string]*delivery        // by event
	twice   []string                    // events that came while they were under way
}

// MustHook makes an endpoint of a merchant at a path of the receiver.
func (r *receiver) MustHook(t testing.TB, i *instance, m merchant, name string, answer answering, args ...string) *hook {
	t.Helper()
	return r.MustHookAt(t, i, m, r.URL, name, answer, args...)
}

// MustHookAt is MustHook for a base URL that leads to the receiver, or will.
func (r *receiver) MustHookAt(t testing.TB, i *instance, m merchant, base, name string, answer answering, args ...string) *hook {
	t.Helper()
	path := "/" + m.Merchant + "/" + name
	h := &hook{t: t, merchant: m, answer: answer, ready: make(chan struct{}), tries: make(map[string]int), taken: make(map[string]bool), flying: make(map[string]*delivery)}
	r.mu.Lock()
	r.hooks[path] = h
	r.mu.Unlock()
	made := mustDecode[endpoint](t, i.MustRun(t, append([]string{"webhook", "create", "--url", base + path, "--merchant", m.Merchant, "--json"}, args...)...))[0]
	h.id, h.types, h.start = made.ID, made.Types, made.Position
	h.learn(made.Secret)
	close(h.ready)
	return h
}

// learn has deliveries verified with another secret as well.
func (h *hook) learn(secret string) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets = slices.Insert(h.secrets, 0, verifier)
}

// become has the endpoint answer differently from now on.
func (h *hook) become(answer answering) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	h := r.hooks[req.URL.Path]
	if h == nil {
		r.strays[req.URL.Path]++
	}
	r.mu.Unlock()
	if h == nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // The sender is gone.
	}
	select {
	case <-h.ready:
	case <-req.Context().Done():
		return
	}
	d, answer := h.arrive(req, body)
	if d == nil {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	// What is noted of an answer is noted before the sender can know of it.
	status := answer(w, req, *d)
	h.mu.Lock()
	d.accepted, d.ended = status/100 == 2 || status == sent, time.Now()
	if d.accepted {
		h.taken[d.Data.Event] = true
	}
	if h.flying[d.Data.Event] == d {
		delete(h.flying, d.Data.Event)
	}
	// What its sender has called off was not under way any more.
	if d.again && req.Context().Err() == nil {
		h.twice = append(h.twice, d.Data.Event)
	}
	h.mu.Unlock()
	if status != silent && status != sent {
		w.WriteHeader(status)
	}
}

// arrive checks a request and notes it. It returns nil for one that is not as it
// must be.
func (h *hook) arrive(req *http.Request, body []byte) (*delivery, answering) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &delivery{began: time.Now(), signatures: len(strings.Fields(req.Header.Get("Webhook-Signature")))}
	for i, secret := range h.secrets {
		if secret.Verify(body, req.Header) == nil {
			d.signers++
			d.newest = d.newest || i == 0
		}
	}
	if err := json.Unmarshal(body, &d.message); err != nil || d.signers == 0 {
		h.t.Errorf("webhook %s got what no secret has signed (%v): %v %s", h.id, err, req.Header, body)
		return nil, nil
	}
	if id := req.Header.Get("Webhook-Id"); id != d.Data.Event || req.Method != http.MethodPost ||
		req.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(req.UserAgent(), "grahak/") {
		h.t.Errorf("webhook %s got a %s with the headers %v and the body %s", h.id, req.Method, req.Header, body)
	}
	h.tries[d.Data.Event]++
	d.try = h.tries[d.Data.Event]
	if before := h.flying[d.Data.Event]; before != nil {
		before.again = true
	}
	h.flying[d.Data.Event] = d
	h.all = append(h.all, d)
	return d, h.answer
}

// deliveries returns what has arrived so far, in the order in which it did.
func (h *hook) deliveries() []delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]delivery, len(h.all))
	for i, d := range h.all {
		list[i] = *d
	}
	return list
}

// accepted returns how many different events the endpoint has taken so far.
func (h *hook) accepted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.taken)
}

// wants returns those of the merchant's events that are to be sent to the endpoint.
func (h *hook) wants(events []event) (list []event) {
	for _, e := range events {
		if e.Position > h.start && slices.Contains(h.types, e.Type) {
			list = append(list, e)
		}
	}
	return list
}

// MustGetAll waits until the endpoint has taken every event that it is to be sent,
// and fails the test if it is not true that nothing else came, that each customer's
// events were first taken in order, and that no event was under way twice at a time.
// The events are all that there are.
func (h *hook) MustGetAll(t testing.TB, events []event) {
	t.Helper()
	h.mustTake(t, events)
	h.check(t, events, h.deliveries())
}

// mustTake waits until the endpoint has taken those of the events that it is to be
// sent.
func (h *hook) mustTake(t testing.TB, events []event) {
	t.Helper()
	wanted := h.wants(events)
	await(t, fmt.Sprintf("webhook %s of %s takes %d events", h.id, h.merchant.Merchant, len(wanted)), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !slices.ContainsFunc(wanted, func(e event) bool { return !h.taken[e.ID] })
	})
}

// check fails the test unless what was delivered is of these events and as it must
// be.
func (h *hook) check(t testing.TB, events []event, got []delivery) {
	t.Helper()
	byID := make(map[string]event)
	for _, e := range h.wants(events) {
		byID[e.ID] = e
	}
	taken, last := make(map[string]bool), make(map[string]int64) // by event, and by customer
	for _, d := range got {
		e, known := byID[d.Data.Event]
		if !known {
			t.Errorf("webhook %s of %s got %+v, which is no event for it", h.id, h.merchant.Merchant, d.message)
			continue
		}
		var want message
		want.Type, want.Timestamp = e.Type, e.At
		want.Data.Event, want.Data.Position, want.Data.Customer = e.ID, e.Position, e.Subject
		if len(e.Changed) > 0 {
			want.Data.Changed = e.Changed
		}
		if diff := cmp.Diff(want, d.message); diff != "" {
			t.Errorf("webhook %s got an event that the database has not (-database +message):\n%s", h.id, diff)
		}
		if !d.accepted || taken[e.ID] {
			continue
		}
		taken[e.ID] = true
		if e.Position < last[e.Subject] {
			t.Errorf("webhook %s took %s of customer %s at position %d only after position %d", h.id, e.ID, e.Subject, e.Position, last[e.Subject])
		}
		last[e.Subject] = e.Position
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.twice) > 0 {
		t.Errorf("webhook %s got %d events while they were under way to it already, the first %s", h.id, len(h.twice), h.twice[0])
	}
}

// MustBeLate returns a URL at which connections are refused until open is called,
// from when on it leads to the receiver.
func (r *receiver) MustBeLate(t testing.TB) (base string, open func()) {
	t.Helper()
	// What is bound but does not listen keeps the port, and refuses connections.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "late")
	t.Cleanup(func() { _ = socket.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	scheme, _, _ := strings.Cut(r.URL, ":")
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, address.(*syscall.SockaddrInet4).Port), func() {
		if err := syscall.Listen(fd, 128); err != nil {
			t.Fatal(err)
		}
		listener, err := net.FileListener(socket)
		if err != nil {
			t.Fatal(err)
		}
		if r.TLS != nil {
			listener = tls.NewListener(listener, r.TLS)
		}
		server := &http.Server{Handler: r, ReadHeaderTimeout: bound}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
}
