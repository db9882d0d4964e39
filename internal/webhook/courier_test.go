package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"grahak"
	"grahak/internal/webhook"
)

// here is where the receivers of the tests are.
var here = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// event is one that is sent in the tests.
var event = grahak.Event{
	ID: "evt_4bsyg68hdlxadtf3", Type: grahak.EventCustomerUpdated, Position: 12, Subject: "cst_4bsyg660xy2tp153", Revision: 2,
	Changed: []grahak.Field{grahak.FieldEmail, grahak.FieldFirstName}, Actor: "key_1", RequestID: "req-1",
	At: time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC),
}

// received is a request as a receiver has it.
type received struct {
	header http.Header
	body   []byte
}

// MustReceive starts a receiver that answers as answer does, and returns its URL and
// where its requests go.
func MustReceive(t *testing.T, answer http.HandlerFunc) (string, <-chan received) {
	t.Helper()
	requests := make(chan received, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests <- received{r.Header, body}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

func secretOf(text string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text)) }

// The specification's own library takes what is sent, with each of the secrets and
// with no other, and nothing that was changed.
func TestSignature(t *testing.T) {
	t.Parallel()
	url, requests := MustReceive(t, func(http.ResponseWriter, *http.Request) {})
	courier := webhook.New(webhook.Config{Networks: here, Version: "1.2.3"})
	newest, before := "the newest secret, of 32 bytes !", "the one before, of 32 bytes too!"
	outcome := courier.Deliver(t.Context(), grahak.WebhookMessage{URL: url + "/path?query", Event: event, At: time.Now(), Secrets: [][]byte{[]byte(newest), []byte(before)}})
	if !outcome.Delivered() || outcome.Status != http.StatusOK {
		t.Fatalf("the outcome is %+v", outcome)
	}
	got := <-requests
	for name, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "grahak/1.2.3", "Webhook-Id": string(event.ID)} {
		if got.header.Get(name) != want {
			t.Errorf("the header %s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	const want = `{"type":"customer.updated","timestamp":"2026-03-17T14:13:37Z","data":{"event_id":"evt_4bsyg68hdlxadtf3","position":12,"customer_id":"cst_4bsyg660xy2tp153","changed":["email_address","first_name"]}}`
	if diff := cmp.Diff(want, string(got.body)); diff != "" {
		t.Errorf("the body (-want +got):\n%s", diff)
	}
	later := got.header.Clone()
	later.Set("Webhook-Timestamp", "1"+later.Get("Webhook-Timestamp"))
	for name, c := range map[string]struct {
		secret string
		header http.Header
		body   []byte
		valid  bool
	}{
		"the newest secret":     {newest, got.header, got.body, true},
		"the one before":        {before, got.header, got.body, true},
		"another secret":        {"another secret, of 32 bytes, too", got.header, got.body, false},
		"a changed body":        {newest, got.header, append([]byte(" "), got.body...), false},
		"a changed time":        {newest, later, got.body, false},
		"neither header nor so": {newest, http.Header{}, got.body, false},
	} {
		oracle, err := standardwebhooks.NewWebhook(secretOf(c.secret))
		if err != nil {
			t.Fatal(err)
		}
		if err := oracle.Verify(c.body, c.header); (err == nil) != c.valid {
			t.Errorf("%s: %v, want that it is valid: %t", name, err, c.valid)
		}
	}
}

// Of other events there is only what there is to say.
func TestBodies(t *testing.T) {
	t.Parallel()
	url, requests := MustReceive(t, func(http.ResponseWriter, *http.Request) {})
	courier := webhook.New(webhook.Config{Networks: here})
	created, test := event, grahak.Event{ID: "evt_1", Type: grahak.EventWebhookTest, Subject: "whe_1", At: event.At}
	created.Type, created.Changed = grahak.EventCustomerCreated, nil
	for _, c := range []struct {
		event grahak.Event
		want  string
	}{
		{created, `{"event_id":"evt_4bsyg68hdlxadtf3","position":12,"customer_id":"cst_4bsyg660xy2tp153"}`},
		{test, `{"event_id":"evt_1","webhook_id":"whe_1"}`},
	} {
		courier.Deliver(t.Context(), grahak.WebhookMessage{URL: url, Event: c.event, At: event.At})
		var body struct {
			Type grahak.EventType
			Data json.RawMessage
		}
		if err := json.Unmarshal((<-requests).body, &body); err != nil || body.Type != c.event.Type || string(body.Data) != c.want {
			t.Errorf("the body of %s is %s %s (%v), want %s", c.event.Type, body.Type, body.Data, err, c.want)
		}
	}
}

// What a receiver may do, and what comes of it.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	hang := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}
	var followed atomic.Int64
	elsewhere, _ := MustReceive(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	in := time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		want      grahak.WebhookOutcome
		delivered bool
	}{
		"200":               {status(200), grahak.WebhookOutcome{Status: 200}, true},
		"204":               {status(204), grahak.WebhookOutcome{Status: 204}, true},
		"299":               {status(299), grahak.WebhookOutcome{Status: 299}, true},
		"300":               {status(300), grahak.WebhookOutcome{Status: 300}, false},
		"302":               {status(302, "Location", elsewhere), grahak.WebhookOutcome{Status: 302}, false},
		"307":               {status(307, "Location", elsewhere), grahak.WebhookOutcome{Status: 307}, false},
		"410":               {status(410), grahak.WebhookOutcome{Status: 410}, false},
		"500":               {status(500), grahak.WebhookOutcome{Status: 500}, false},
		"seconds":           {status(503, "Retry-After", "90"), grahak.WebhookOutcome{Status: 503, RetryAfter: 90 * time.Second}, false},
		"more than a day":   {status(503, "Retry-After", "99999999999999999999999"), grahak.WebhookOutcome{Status: 503, RetryAfter: 24 * time.Hour}, false},
		"two days":          {status(503, "Retry-After", "172800"), grahak.WebhookOutcome{Status: 503, RetryAfter: 24 * time.Hour}, false},
		"a date":            {status(429, "Retry-After", in), grahak.WebhookOutcome{Status: 429, RetryAfter: 2 * time.Hour}, false},
		"a date before now": {status(429, "Retry-After", "Tue, 17 Mar 2020 14:13:37 GMT"), grahak.WebhookOutcome{Status: 429}, false},
		"nonsense":          {status(429, "Retry-After", "-5 soon"), grahak.WebhookOutcome{Status: 429}, false},
		"an answer":         {says("{\"ok\":\r\ttrue}\n"), grahak.WebhookOutcome{Status: 200, Answer: "{\"ok\":\ttrue}\n"}, true},
		"a long answer":     {says(strings.Repeat("ab", 4000)), grahak.WebhookOutcome{Status: 200, Answer: strings.Repeat("ab", grahak.MaxWebhookAnswer/2)}, true},
		"an answer that is cut inside of a letter": {says("a" + strings.Repeat("ä", 4000)), grahak.WebhookOutcome{Status: 200, Answer: "a" + strings.Repeat("ä", grahak.MaxWebhookAnswer/2-1)}, true},
		"a lost connection":                        {hang, grahak.WebhookOutcome{Failure: grahak.WebhookBroken}, false},
		"a lost answer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		}, grahak.WebhookOutcome{Status: 200}, true},
		"a large answer": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			t.Error("all of a large answer was read")
		}, grahak.WebhookOutcome{Status: 200}, true},
		"a large header": {status(200, "X-Large", strings.Repeat("x", 1<<20)), grahak.WebhookOutcome{Failure: grahak.WebhookBroken}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := MustReceive(t, c.answer)
			got := webhook.New(webhook.Config{Networks: here}).Deliver(t.Context(), grahak.WebhookMessage{URL: url, Event: event, At: event.At})
			<-requests
			if got.Took <= 0 {
				t.Errorf("it took %v", got.Took)
			}
			got.Took = 0
			// A date has no parts of a second, and time passes.
			if short := c.want.RetryAfter - got.RetryAfter; short > 0 && short < time.Minute && name == "a date" {
				got.RetryAfter = c.want.RetryAfter
			}
			if diff := cmp.Diff(c.want, got); diff != "" || got.Delivered() != c.delivered {
				t.Errorf("delivered: %t, want %t; the outcome (-want +got):\n%s", got.Delivered(), c.delivered, diff)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() > 0 {
			t.Error("a redirect was followed")
		}
	})
}

// Without a receiver there is a reason that says nothing of the URL.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	plain, _ := MustReceive(t, func(http.ResponseWriter, *http.Request) {})
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	courier := webhook.New(webhook.Config{Networks: here, Resolver: MustResolver(t, map[string][]string{"none.example.com.": nil})})
	for url, want := range map[string]grahak.WebhookFailure{
		"http://" + free: grahak.WebhookNoConn,
		strings.Replace(plain, "http:", "https:", 1): grahak.WebhookTLS,
		secure.URL:                 grahak.WebhookTLS,
		"http://none.example.com/": grahak.WebhookNoName,
	} {
		if got := courier.Deliver(t.Context(), grahak.WebhookMessage{URL: url, Event: event, At: event.At}); got.Failure != want {
			t.Errorf("%s: %q, want %q", url, got.Failure, want)
		}
	}
}
