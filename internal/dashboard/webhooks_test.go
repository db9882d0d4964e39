package dashboard_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"grahak"
)

// receiver is an endpoint that tells what it gets.
type receiver struct {
	url    string
	status atomic.Int32
	got    chan message
}

type message struct {
	header http.Header
	body   string
}

// MustReceive returns a running receiver, which answers 200 until status says otherwise.
func MustReceive(tb testing.TB) *receiver {
	tb.Helper()
	r := &receiver{got: make(chan message, 100)}
	r.status.Store(http.StatusOK)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			tb.Error(err)
		}
		r.got <- message{req.Header, string(body)}
		w.WriteHeader(int(r.status.Load()))
		_, _ = io.WriteString(w, "<b>thanks</b>")
	}))
	tb.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// must returns what the receiver gets next.
func (r *receiver) must(tb testing.TB) message {
	tb.Helper()
	select {
	case m := <-r.got:
		return m
	case <-time.After(waitLimit):
		tb.Fatal("nothing arrives")
		return message{}
	}
}

// until asks for a page until it is as it should be.
func (b *browser) until(tb testing.TB, path string, done func(*reply) bool) *reply {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		page := b.Get(tb, path).want(tb, http.StatusOK)
		if done(page) {
			return page
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("%s stays like this: %s", path, page.text("main"))
		case <-tick.C:
		}
	}
}

// mustCreate makes a customer of acme.
func (s *site) mustCreate(tb testing.TB, reference string) grahak.Customer {
	tb.Helper()
	c := console(acme)
	given := func(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }
	result, err := s.service.CreateCustomer(tb.Context(), c, grahak.CustomerInput{
		Reference: given(reference), MobileNumber: given("9988776655"), Email: given("asha@example.com"), FirstName: given("Asha"), LastName: given("Rao"),
	}, grahak.WriteOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return result.Customer
}

// An endpoint is made, tested, sent an event that shows in its log, and sent it again.
func TestWebhook(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.mustRun(t)
	receiver := MustReceive(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	page := b.Get(t, "/dashboard/m/acme/webhooks").want(t, http.StatusOK)
	wantEqual(t, "the empty list", "No webhooks yet", page.text(".empty h2"))
	form := []string{"once", page.attr("input[name=once]", "value"), "url", receiver.url + "/hook", "label", "shop", "types", "customer.created", "types", "customer.erased"}
	made := b.Post(t, "/dashboard/m/acme/webhooks", form...).want(t, http.StatusOK)
	b.Post(t, "/dashboard/m/acme/webhooks", form...).want(t, http.StatusConflict)
	secret := made.text(".secret code")
	path := made.attr("a.primary", "href")

	// The test is signed with the secret that was shown.
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	b.Post(t, path+"/test").redirect(t, path)
	got := receiver.must(t)
	if err := wh.VerifyIgnoringTimestamp([]byte(got.body), got.header); err != nil {
		t.Errorf("the signature: %v", err)
	}
	page = b.Get(t, path).want(t, http.StatusOK)
	if flash := page.text("p.flash"); !strings.HasPrefix(flash, "The test was delivered in ") || !strings.HasSuffix(flash, "Answered 200.") {
		t.Errorf("the page says %q of the test", flash)
	}
	wantEqual(t, "what is sent", 1, strings.Count(page.text("dl"), "customer.created, customer.erased"))
	if strings.Contains(page.body, secret) {
		t.Error("the secret is shown again")
	}

	// An event is shown as the receiver has got it.
	customer := s.mustCreate(t, "asha@example.com")
	got = receiver.must(t)
	page = b.until(t, path, func(r *reply) bool { return len(r.all("tbody tr")) == 1 })
	wantEqual(t, "the outcome", []string{"delivered"}, page.all("tbody .badge"))
	delivery := page.attr("tbody a", "href")
	page = b.Get(t, delivery).want(t, http.StatusOK)
	shown := page.text("pre")
	for _, part := range []string{"POST " + receiver.url + "/hook", "Webhook-Id: " + got.header.Get("Webhook-Id"), "Webhook-Timestamp: " + got.header.Get("Webhook-Timestamp"), "User-Agent: grahak/1.2.3", got.body} {
		if !strings.Contains(shown, part) {
			t.Errorf("the request is shown as %q, without %q", shown, part)
		}
	}
	if signature := got.header.Get("Webhook-Signature"); strings.Contains(page.body, signature) || strings.Contains(page.body, "asha@example.com") {
		t.Error("the page shows the signature or the customer")
	}
	// What the receiver says may be personal data.
	wantEqual(t, "the answer", "<b>thanks</b>", page.text("pre.answered"))
	viewer := s.MustEnter(t, "vera", grahak.RoleViewer).Get(t, delivery).want(t, http.StatusOK)
	wantEqual(t, "the answer to a viewer", 0, len(viewer.all("pre.answered")))
	wantEqual(t, "the customer's link", "/dashboard/m/acme/customers/"+string(customer.ID), page.attr("main p a:nth-of-type(2)", "href"))

	// Resent, it arrives again.
	s.clock.Advance(time.Second)
	b.Post(t, path+"/replay", "what", "event", "event", got.header.Get("Webhook-Id")).redirect(t, path)
	again := receiver.must(t)
	wantEqual(t, "the event that is resent", got.header.Get("Webhook-Id"), again.header.Get("Webhook-Id"))
	b.until(t, path, func(r *reply) bool { return len(r.all("tbody tr")) == 2 })
	b.Get(t, path+"/events/99999").want(t, http.StatusNotFound)
	// Events that are never sent to it have no page there.
	for _, e := range s.mustEvents(t) {
		status := http.StatusNotFound
		if e.Type == grahak.EventCustomerCreated {
			status = http.StatusOK
		}
		b.Get(t, path+"/events/"+strconv.FormatInt(e.Position, 10)).want(t, status)
	}
	b.Get(t, path+"/events/zero").want(t, http.StatusNotFound)
	b.Get(t, "/dashboard/m/acme/webhooks/whe_unknown").want(t, http.StatusNotFound)
}

// What fails is told in words, and a disabled endpoint can be enabled.
func TestWebhookTroubles(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	receiver := MustReceive(t)
	w, secret, err := s.service.CreateWebhook(t.Context(), console(acme), grahak.WebhookSpec{URL: receiver.url})
	if err != nil {
		t.Fatal(err)
	}
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	path := "/dashboard/m/acme/webhooks/" + string(w.ID)
	after := func(action string, fields ...string) (flash string, states []string) {
		t.Helper()
		b.Post(t, path+action, fields...).redirect(t, path)
		page := b.Get(t, path).want(t, http.StatusOK)
		return page.text("p.flash"), page.all("header .badge")
	}
	receiver.status.Store(http.StatusFound)
	flash, _ := after("/test")
	if !strings.HasSuffix(flash, "Answered 302, a redirect, which is not followed.") {
		t.Errorf("the page says %q of a redirect", flash)
	}
	_, states := after("/disable")
	wantEqual(t, "the state", []string{"disabled"}, states)
	flash, _ = after("/replay", "what", "range", "from", "1", "to", "1")
	if !strings.Contains(flash, "disabled") {
		t.Errorf("the page says %q of a replay to a disabled webhook", flash)
	}
	_, states = after("/enable")
	wantEqual(t, "the state", []string{"active"}, states)
	flash, _ = after("/replay", "what", "failed")
	if !strings.HasPrefix(flash, "No event was given up") {
		t.Errorf("the page says %q", flash)
	}
	flash, _ = after("/replay", "what", "range", "from", "five", "to", "1")
	if !strings.Contains(flash, "no range") {
		t.Errorf("the page says %q", flash)
	}
	b.Post(t, path+"/replay", "what", "all").want(t, http.StatusBadRequest)

	once := b.Get(t, path).attr("input[name=once]", "value")
	form := []string{"once", once, "overlap", "24h"}
	made := b.Post(t, path+"/rotate", form...).want(t, http.StatusOK)
	if next := made.text(".secret code"); next == secret || !strings.HasPrefix(next, "whsec_") {
		t.Errorf("the new secret is %q", next)
	}
	b.Post(t, path+"/rotate", form...).want(t, http.StatusConflict)
	events := s.mustEvents(t)
	rotations := slices.DeleteFunc(events, func(e grahak.Event) bool { return e.Type != grahak.EventWebhookSecretRotated })
	wantEqual(t, "rotations", 1, len(rotations))

	page := b.Post(t, "/dashboard/m/acme/webhooks", "once", "0123456789012345678901", "url", "ftp://example.com", "types", "customer.erased").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "the URL", "ftp://example.com", page.attr("input[name=url]", "value"))
	wantEqual(t, "the types", 1, len(page.all("input[name=types][checked] + label")))
}
