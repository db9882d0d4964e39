package webhook_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// outcome is what a line of the delivery log says of an attempt.
type outcome struct {
	Delivered bool
	Status    int
	Failure   string
}

// status answers with a status.
func status(code int) answering {
	return func(http.ResponseWriter, *http.Request, delivery) int { return code }
}

// raw answers with bytes in place of what the server would send, and ends the
// connection.
func raw(text string, result int) answering {
	return func(w http.ResponseWriter, _ *http.Request, _ delivery) int {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = conn.Write([]byte(text))
		_ = conn.Close()
		return result
	}
}

// slow takes the event after a while.
func slow(_ http.ResponseWriter, r *http.Request, _ delivery) int {
	return hold(r, 1500*time.Millisecond)
}

// hold takes the event after d, and does not if the sender is gone before.
func hold(r *http.Request, d time.Duration) int {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
		return http.StatusOK
	case <-r.Context().Done():
		return silent
	}
}

// endless takes the event with an answer that goes on until the sender has had
// enough of it.
func endless(w http.ResponseWriter, _ *http.Request, _ delivery) int {
	for part := []byte(strings.Repeat("x", 4096)); ; {
		if _, err := w.Write(part); err != nil {
			return sent
		}
	}
}

// hang holds a request until the sender gives up.
func hang(_ http.ResponseWriter, r *http.Request, _ delivery) int {
	<-r.Context().Done()
	return silent
}

// redirect sends on to where nobody may be sent.
func redirect(code int) answering {
	return func(w http.ResponseWriter, r *http.Request, _ delivery) int {
		w.Header().Set("Location", "//"+r.Host+followed)
		return code
	}
}

const followed = "/followed"

// apart is for how long receivers ask to be left alone: longer than an event would
// wait for its first retry, jitter included.
const apart = 8 * time.Second

// busy answers with a status and when to come again.
func busy(code int, again func() string) answering {
	return func(w http.ResponseWriter, _ *http.Request, _ delivery) int {
		w.Header().Set("Retry-After", again())
		return code
	}
}

// behaviours are receivers that do more or less than take an event, what is logged
// of their first attempts, and the state in which that leaves the endpoint.
var behaviours = map[string]struct {
	answer answering // nil for one that does not even listen
	log    outcome
	state  string
	apart  time.Duration // of the first attempt and the second
}{
	"slow":         {slow, outcome{true, 200, ""}, "active", 0},
	"created":      {status(201), outcome{true, 201, ""}, "active", 0},
	"drops-body":   {raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", sent), outcome{true, 200, ""}, "active", 0},
	"endless-body": {endless, outcome{true, 200, ""}, "active", 0},

	"not-found":      {status(404), outcome{false, 404, ""}, "failing", 0},
	"broken":         {status(500), outcome{false, 500, ""}, "failing", 0},
	"busy":           {busy(429, func() string { return strconv.Itoa(int(apart / time.Second)) }), outcome{false, 429, ""}, "failing", apart},
	"unavailable":    {busy(503, func() string { return time.Now().Add(apart + time.Second).UTC().Format(http.TimeFormat) }), outcome{false, 503, ""}, "failing", apart},
	"redirect":       {redirect(302), outcome{false, 302, ""}, "failing", 0},
	"redirect-post":  {redirect(307), outcome{false, 307, ""}, "failing", 0},
	"drops":          {raw("", silent), outcome{false, 0, "connection_lost"}, "failing", 0},
	"endless-header": {raw("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", 64<<10)+"\r\n\r\n", silent), outcome{false, 0, "connection_lost"}, "failing", 0},
	"refuses":        {nil, outcome{false, 0, "no_connection"}, "failing", 0},

	gone:  {status(410), outcome{false, 410, ""}, "disabled: answered 410", 0},
	hangs: {hang, outcome{false, 0, "timeout"}, "failing", 0},
}

const (
	gone  = "gone"
	hangs = "hangs"
)

// MustHaveLogged waits until the first attempts at so many events are logged, and
// returns what came of them and how the endpoint is then.
func (i *instance) MustHaveLogged(t *testing.T, h *hook, events int) (outcomes []outcome, state string) {
	t.Helper()
	await(t, fmt.Sprintf("%d first attempts to webhook %s are logged", events, h.id), func() bool {
		outcomes = nil
		for _, a := range i.MustLog(t, h) {
			if a.Attempt == 1 {
				outcomes = append(outcomes, outcome{a.Delivered, a.Status, a.Failure})
			}
		}
		return len(outcomes) >= events
	})
	return outcomes, i.MustWebhook(t, h).State
}

// Each kind of receiver gets what it deserves, and none keeps the others waiting.
func TestOutcomes(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		acme, other := i.MustMerchant(t, "acme"), i.MustMerchant(t, "other")
		hooks := make(map[string]*hook)
		base, open := r.MustBeLate(t)
		for name, b := range behaviours {
			at, answer := r.URL, b.answer
			if answer == nil {
				at, answer = base, take
			}
			hooks[name] = r.MustHookAt(t, i, acme, at, name, answer)
		}
		healthy := []*hook{r.MustHook(t, i, acme, "healthy", take), r.MustHook(t, i, other, "healthy", take)}

		const customers = 2
		for _, m := range []merchant{acme, other} {
			c := newClient(t, m, server)
			var ids []string
			for n := range customers {
				ids = append(ids, c.MustCreate(t, n))
			}
			for _, id := range ids {
				c.MustUpdate(t, id, "Meera")
			}
		}
		events := map[string][]event{"acme": i.MustEvents(t, "acme"), "other": i.MustEvents(t, "other")}
		for _, h := range healthy {
			h.MustGetAll(t, events[h.merchant.Merchant])
		}
		in := time.Now()

		check := func(name string) {
			want, firsts := behaviours[name], customers
			switch {
			case want.log.Delivered:
				firsts = 2 * customers
			case name == gone:
				firsts = 1 // Of the others nothing need be known any more.
			}
			outcomes, state := i.MustHaveLogged(t, hooks[name], firsts)
			if diff := cmp.Diff(slices.Repeat([]outcome{want.log}, len(outcomes)), outcomes); diff != "" {
				t.Errorf("%s: the delivery log is not right (-want +got):\n%s", name, diff)
			}
			if state != want.state {
				t.Errorf("%s: the endpoint is %q, want %q", name, state, want.state)
			}
		}
		for name := range behaviours {
			if name != hangs {
				check(name)
			}
		}
		// When they have come to their senses they get what they missed.
		for name, h := range hooks {
			if want := behaviours[name]; !want.log.Delivered && name != gone && name != hangs {
				h.become(take)
			}
		}
		open()
		for name, h := range hooks {
			if name != gone && name != hangs {
				h.MustGetAll(t, events["acme"])
			}
		}
		check(hangs)

		for name, h := range hooks {
			var first delivery
			for _, d := range h.deliveries() {
				switch {
				case name == gone && d.try > 1:
					t.Errorf("%s: an event was sent again", name)
				case name == hangs && d.try == 1 && !d.ended.After(in):
					t.Errorf("%s: the request ended before the other endpoints had their events", name)
				case d.Data.Event == first.Data.Event && d.try == 2 && d.began.Sub(first.began) < behaviours[name].apart:
					t.Errorf("%s: the event was sent again after %v, want %v", name, d.began.Sub(first.began), behaviours[name].apart)
				case first.try == 0:
					first = d
				}
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.strays) > 0 {
			t.Errorf("requests to where no webhook leads: %v", r.strays)
		}
	})
}

// Nothing is sent to an address inside a network, however it is written, and
// nothing over a connection that others can read.
func TestAddresses(t *testing.T) {
	t.Parallel()
	i := engines["postgres"](t)
	i.serve = []string{"--env", "production"} // nothing is allowed
	r := newReceiver(t, i)
	port := r.Listener.Addr().(*net.TCPAddr).Port
	server := i.MustStart(t, r)
	acme := i.MustMerchant(t, "acme")

	if _, complaint, err := i.run(t, "webhook", "create", "--merchant", "acme", "--url", "http://hooks.example.com/"); err == nil || !strings.Contains(complaint, "https://") {
		t.Errorf("http:// in production is answered %q (%v)", complaint, err)
	}

	// What Go's resolver does not take for an address is looked up as a name, and leads
	// nowhere.
	forbidden, anyFailure := []string{"forbidden_address"}, []string{"forbidden_address", "no_such_host", "timeout"}
	var hooks []*hook
	want := make(map[*hook][]string)
	for host, failures := range map[string][]string{
		"127.0.0.1": forbidden, "localhost": forbidden, "[::1]": forbidden, "[::ffff:127.0.0.1]": forbidden, "[::ffff:7f00:1]": forbidden, "0.0.0.0": forbidden, "[::]": forbidden,
		"10.0.0.1": forbidden, "[::ffff:10.0.0.1]": forbidden, "169.254.169.254": forbidden, "100.64.0.1": forbidden, "[fd00::1]": forbidden, "[64:ff9b::7f00:1]": forbidden,
		"2130706433": anyFailure, "0x7f.1": anyFailure,
	} {
		h := r.MustHookAt(t, i, acme, fmt.Sprintf("https://%s:%d", host, port), host, take)
		hooks, want[h] = append(hooks, h), failures
	}
	newClient(t, acme, server).MustCreate(t, 1)
	for _, h := range hooks {
		outcomes, state := i.MustHaveLogged(t, h, 1)
		if state != "failing" || !slices.Contains(want[h], outcomes[0].Failure) {
			t.Errorf("webhook %s is %s after %+v, want one of %q", h.id, state, outcomes, want[h])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, h := range r.hooks {
		if len(h.all) > 0 {
			t.Errorf("%s got events", path)
		}
	}
}
