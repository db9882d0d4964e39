package grahak_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
)

// receivers is the courier of a test: it carries messages to no further than here.
type receivers struct {
	mu       sync.Mutex
	messages []grahak.WebhookMessage
	times    []time.Time
	// answer is what comes of a message, after what may block.
	answer func(ctx context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome
	flying map[string]int // attempts under way to a customer at a URL
	most   int            // of those at once
}

// Deliver implements [grahak.Courier].
func (r *receivers) Deliver(ctx context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
	key := m.URL + " " + m.Event.Subject
	r.mu.Lock()
	if r.flying == nil {
		r.flying = make(map[string]int)
	}
	r.flying[key]++
	r.most = max(r.most, r.flying[key])
	r.messages, r.times = append(r.messages, m), append(r.times, time.Now())
	answer := r.answer
	r.mu.Unlock()
	outcome := grahak.WebhookOutcome{Status: 200}
	if answer != nil {
		outcome = answer(ctx, m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flying[key]--
	return outcome
}

// Request implements [grahak.Courier].
func (r *receivers) Request(m grahak.WebhookMessage) (grahak.WebhookRequest, error) {
	return grahak.WebhookRequest{URL: m.URL, Body: string(m.Event.ID)}, nil
}

func (r *receivers) set(answer func(context.Context, grahak.WebhookMessage) grahak.WebhookOutcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// take returns what has arrived since the last call, as "URL reference type" with
// the customer's place in ids, or its id.
func (r *receivers) take(ids ...grahak.CustomerID) (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		who := m.Event.Subject
		if i := slices.Index(ids, grahak.CustomerID(who)); i >= 0 {
			who = fmt.Sprint(i)
		}
		list = append(list, fmt.Sprintf("%s %s %s", strings.TrimPrefix(m.URL, "https://"), who, strings.TrimPrefix(string(m.Event.Type), "customer.")))
	}
	r.messages, r.times = nil, nil
	return list
}

func status(code int) func(context.Context, grahak.WebhookMessage) grahak.WebhookOutcome {
	return func(context.Context, grahak.WebhookMessage) grahak.WebhookOutcome {
		return grahak.WebhookOutcome{Status: code}
	}
}

// hooked is a service that sends events, in a bubble whose time is the service's.
type hooked struct {
	*rig
	receivers *receivers
	stop      func()
}

// MustHooked returns one that runs. It ends with the test.
func MustHooked(t *testing.T) *hooked {
	t.Helper()
	return MustHookedAt(t, MustRig(t), grahak.SystemClock{})
}

// MustHookedAt returns one that runs on the store of r, by another clock.
func MustHookedAt(t *testing.T, r *rig, clock grahak.Clock) *hooked {
	t.Helper()
	h := &hooked{rig: r, receivers: new(receivers)}
	h.Service = MustService(t, grahak.Config{Store: h.store, Sealer: h.sealer, Clock: clock, Courier: h.receivers})
	for _, m := range []grahak.MerchantID{acme, rival} {
		if _, err := h.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	h.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(h.stop)
	return h
}

// MustHook makes an endpoint.
func (h *hooked) MustHook(t *testing.T, m grahak.MerchantID, url string, types ...grahak.EventType) grahak.Webhook {
	t.Helper()
	w, _, err := h.CreateWebhook(t.Context(), operator(m), grahak.WebhookSpec{URL: "https://" + url, Types: types})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// MustRename changes a customer.
func (h *hooked) MustRename(t *testing.T, m grahak.MerchantID, id grahak.CustomerID, name string) {
	t.Helper()
	if _, err := h.UpdateCustomer(t.Context(), caller(m, grahak.ScopeWrite), string(id), grahak.CustomerInput{FirstName: given(name)}, grahak.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// MustWebhook reads an endpoint.
func (h *hooked) MustWebhook(t *testing.T, w grahak.Webhook) grahak.Webhook {
	t.Helper()
	got, err := h.store.Webhook(t.Context(), w.Merchant, w.ID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Each endpoint gets what its merchant's customers went through since it was made,
// of its types, and nothing of another merchant.
func TestWebhookEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		early := h.MustCreate(t, acme, person("early"))
		all := h.MustHook(t, acme, "all")
		h.MustHook(t, acme, "erased", grahak.EventCustomerErased)
		h.MustHook(t, rival, "rival")
		a, b := h.MustCreate(t, acme, person("a")), h.MustCreate(t, acme, person("b"))
		other := h.MustCreate(t, rival, person("a"))
		h.MustRename(t, acme, a.ID, "Asha")
		for _, id := range []grahak.CustomerID{b.ID, early.ID} {
			if _, err := h.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), string(id), grahak.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * time.Second)
		got := h.receivers.take(early.ID, a.ID, b.ID, other.ID)
		slices.Sort(got)
		diff(t, "what arrived", []string{"all 0 erased", "all 1 created", "all 1 updated", "all 2 created", "all 2 erased", "erased 0 erased", "erased 2 erased", "rival 3 created"}, got)
		head, err := h.store.ChainHead(t.Context(), acme)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "the cursor", head.Position, h.MustWebhook(t, all).Cursor)

		// What was sent is not sent again by the next process.
		h.stop()
		next := MustService(t, grahak.Config{Store: h.store, Sealer: h.sealer, Clock: grahak.SystemClock{}, Courier: h.receivers})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { next.Run(ctx) })
		h.MustRename(t, acme, a.ID, "Usha")
		pass(2 * time.Second)
		cancel()
		running.Wait()
		diff(t, "what the next process sent", []string{"all 1 updated"}, h.receivers.take(early.ID, a.ID))
	})
}

// An event that fails holds back its own customer at its own endpoint, and nothing
// else; what waited comes in order.
func TestWebhookOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		h.MustHook(t, acme, "one")
		h.MustHook(t, acme, "two")
		a, b := h.MustCreate(t, acme, person("a")), h.MustCreate(t, acme, person("b"))
		h.receivers.set(func(_ context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
			if m.URL == "https://one" && m.Event.Subject == string(a.ID) {
				return grahak.WebhookOutcome{Status: 500}
			}
			return grahak.WebhookOutcome{Status: 200}
		})
		pass(time.Second)
		for _, name := range []string{"Asha", "Usha"} {
			h.MustRename(t, acme, a.ID, name)
			h.MustRename(t, acme, b.ID, name)
			pass(time.Second)
		}
		got := h.receivers.take(a.ID, b.ID)
		slices.Sort(got)
		diff(t, "what was tried", []string{
			"one 0 created", "one 1 created", "one 1 updated", "one 1 updated",
			"two 0 created", "two 0 updated", "two 0 updated", "two 1 created", "two 1 updated", "two 1 updated",
		}, got)
		h.receivers.set(status(204))
		pass(5 * time.Second)
		diff(t, "what had waited", []string{"one 0 created", "one 0 updated", "one 0 updated"}, h.receivers.take(a.ID, b.ID))
		pass(time.Minute)
		diff(t, "what comes then", []string(nil), h.receivers.take(a.ID, b.ID))
		if h.receivers.most != 1 {
			t.Errorf("%d events of a customer were under way to an endpoint at once", h.receivers.most)
		}
	})
}

// A receiver that hangs holds back what is under way to it, and no other endpoint;
// one customer's event that hangs holds back no other's.
func TestWebhookHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		h.MustHook(t, acme, "slow")
		h.MustHook(t, acme, "some")
		h.MustHook(t, rival, "rival")
		first := h.MustCreate(t, acme, person("first"))
		hang := func(ctx context.Context) grahak.WebhookOutcome {
			select {
			case <-ctx.Done():
				return grahak.WebhookOutcome{Failure: grahak.WebhookAborted}
			case <-time.After(15 * time.Second):
				return grahak.WebhookOutcome{Failure: grahak.WebhookTimeout}
			}
		}
		h.receivers.set(func(ctx context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
			if m.URL == "https://slow" || m.URL == "https://some" && m.Event.Subject == string(first.ID) {
				return hang(ctx)
			}
			return grahak.WebhookOutcome{Status: 200}
		})
		for i := range 600 {
			h.MustCreate(t, acme, person(fmt.Sprint("a", i)))
		}
		h.MustCreate(t, rival, person("b"))
		pass(10 * time.Second)
		count := make(map[string]int)
		for _, line := range h.receivers.take() {
			count[strings.Fields(line)[0]]++
		}
		diff(t, "what was sent while it hung", map[string]int{"slow": 8, "some": 601, "rival": 1}, count)
		h.receivers.set(nil)
		pass(2 * time.Minute)
		for _, line := range h.receivers.take() {
			count[strings.Fields(line)[0]]++
		}
		diff(t, "what was sent in the end", map[string]int{"slow": 601 + 8, "some": 601 + 1, "rival": 1}, count)
	})
}

// An endpoint that takes nothing is asked less and less, gets no row for each event,
// and everything in order once it is back.
func TestWebhookDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		w := h.MustHook(t, acme, "down")
		h.receivers.set(status(503))
		var want []string
		for i := range 500 {
			c := h.MustCreate(t, acme, person(fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("down %s created", c.ID))
		}
		pass(10 * time.Minute)
		tried := len(h.receivers.take())
		if tried < 15 || tried > 40 {
			t.Errorf("in ten minutes it was tried %d times", tried)
		}
		if got := h.MustWebhook(t, w); got.Cursor > 60 || got.FailingSince.IsZero() {
			t.Errorf("the endpoint is at position %d, failing since %v", got.Cursor, got.FailingSince)
		}
		h.receivers.set(nil)
		pass(80 * time.Second)
		got := h.receivers.take()
		if len(got) < 450 {
			t.Errorf("some seconds after it was back it had %d events", len(got))
		}
		pass(10 * time.Minute)
		got = append(got, h.receivers.take()...)
		slices.Sort(got)
		slices.Sort(want)
		diff(t, "what arrived", want, got)
		diff(t, "failing since", time.Time{}, h.MustWebhook(t, w).FailingSince)
	})
}

// What a receiver asks for: to be left alone for a while, or for good.
func TestWebhookWishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		w := h.MustHook(t, acme, "busy")
		h.receivers.set(func(context.Context, grahak.WebhookMessage) grahak.WebhookOutcome {
			return grahak.WebhookOutcome{Status: 429, RetryAfter: time.Hour}
		})
		a := h.MustCreate(t, acme, person("a"))
		pass(time.Second)
		b := h.MustCreate(t, acme, person("b"))
		pass(59 * time.Minute)
		diff(t, "within the hour", []string{"busy 0 created"}, h.receivers.take(a.ID, b.ID))
		h.receivers.set(nil)
		pass(2 * time.Minute)
		got := h.receivers.take(a.ID, b.ID)
		slices.Sort(got)
		diff(t, "after it", []string{"busy 0 created", "busy 1 created"}, got)

		h.receivers.set(status(410))
		h.MustRename(t, acme, a.ID, "Asha")
		pass(time.Second)
		h.MustRename(t, acme, a.ID, "Usha")
		pass(time.Minute)
		diff(t, "410", []string{"busy 0 updated"}, h.receivers.take(a.ID, b.ID))
		gone := h.MustWebhook(t, w)
		events := h.MustEvents(t, acme)
		last := events[len(events)-2]
		diff(t, "why it is disabled, and the event", []any{grahak.WebhookEndGone, grahak.EventWebhookDisabled, string(w.ID), "grahak"}, []any{gone.DisabledFor, last.Type, last.Subject, last.Actor})

		// When it is enabled again it gets what it did not take.
		h.receivers.set(nil)
		if err := h.EnableWebhook(t.Context(), operator(acme), w.ID); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		diff(t, "enabled again", []string{"busy 0 updated", "busy 0 updated"}, h.receivers.take(a.ID, b.ID))
	})
}

// After three days an event that fails alone is given up, and kept to be replayed;
// an endpoint that takes nothing is disabled, and has lost nothing.
func TestWebhookPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := MustRig(t)
		h := MustHookedAt(t, r, r.clock)
		w := h.MustHook(t, acme, "days")
		a, b := h.MustCreate(t, acme, person("a")), h.MustCreate(t, acme, person("b"))
		h.receivers.set(func(_ context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
			if m.Event.Subject == string(a.ID) {
				return grahak.WebhookOutcome{Status: 500}
			}
			return grahak.WebhookOutcome{Status: 200}
		})
		pass(2 * time.Second)
		// Another customer's event succeeds now and then.
		for day := range 3 {
			r.clock.Advance(24*time.Hour - time.Minute)
			h.MustRename(t, acme, b.ID, fmt.Sprint("Asha", day))
			pass(2 * time.Second)
		}
		h.MustRename(t, acme, a.ID, "Usha")
		pass(2 * time.Second)
		h.receivers.take()
		r.clock.Advance(3 * time.Minute)
		pass(2 * time.Second)
		// The last attempt of the first event, and the first of the one that waited.
		diff(t, "when three days are over", []string{"days 0 created", "days 0 updated"}, h.receivers.take(a.ID, b.ID))
		diff(t, "the endpoint", grahak.WebhookEnd(""), h.MustWebhook(t, w).DisabledFor)
		h.receivers.set(nil)
		n, err := h.ReplayWebhook(t.Context(), operator(acme), w.ID, grahak.WebhookReplay{GivenUp: true})
		if err != nil || n != 1 {
			t.Errorf("%d events were given up (%v)", n, err)
		}
		pass(2 * time.Second)
		diff(t, "the replay, and what waited", []string{"days 0 created", "days 0 updated"}, h.receivers.take(a.ID, b.ID))

		h.receivers.set(status(500))
		h.MustRename(t, acme, b.ID, "Maya")
		pass(2 * time.Second)
		r.clock.Advance(72*time.Hour - time.Minute)
		pass(2 * time.Second)
		diff(t, "before three days are over", grahak.WebhookEnd(""), h.MustWebhook(t, w).DisabledFor)
		r.clock.Advance(7 * time.Hour)
		pass(2 * time.Second)
		diff(t, "after three days", grahak.WebhookEndFailing, h.MustWebhook(t, w).DisabledFor)
		h.MustRename(t, acme, a.ID, "Maya")
		h.receivers.take()
		pass(2 * time.Second)
		h.receivers.set(nil)
		if err := h.EnableWebhook(t.Context(), operator(acme), w.ID); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		got := h.receivers.take(a.ID, b.ID)
		slices.Sort(got)
		diff(t, "once it is enabled", []string{"days 0 updated", "days 1 updated"}, got)
	})
}

// A secret that is shown is the one that signs, and the one before does so until
// its time is over.
func TestWebhookSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		w, first, err := h.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: "https://x"})
		if err != nil {
			t.Fatal(err)
		}
		foreign, elsewhere, err := h.CreateWebhook(t.Context(), operator(rival), grahak.WebhookSpec{URL: "https://y"})
		if err != nil || elsewhere == first || foreign.ID == w.ID {
			t.Fatalf("another endpoint has the secret %t (%v)", elsewhere == first, err)
		}
		signed := func(what string, want ...string) {
			t.Helper()
			if _, err := h.TestWebhook(t.Context(), operator(acme), w.ID, h.receivers); err != nil {
				t.Fatal(err)
			}
			h.receivers.mu.Lock()
			m := h.receivers.messages[len(h.receivers.messages)-1]
			h.receivers.mu.Unlock()
			var got []string
			for _, secret := range m.Secrets {
				got = append(got, grahak.SecretText(secret))
			}
			diff(t, "the secrets that sign, "+what, want, got)
			diff(t, "what is sent", []string{string(grahak.EventWebhookTest), string(w.ID)}, []string{string(m.Event.Type), m.Event.Subject})
		}
		signed("at first", first)
		rotate := func(overlap time.Duration) string {
			t.Helper()
			_, secret, err := h.RotateWebhookSecret(t.Context(), operator(acme), w.ID, overlap)
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
		second := rotate(time.Hour)
		signed("after a rotation", second, first)
		pass(time.Hour - time.Second)
		signed("before the overlap is over", second, first)
		pass(time.Second)
		signed("after the overlap", second)
		third := rotate(0)
		signed("without an overlap", third)
		if first == second || second == third || first == third {
			t.Error("a secret came again")
		}
		_, _, err = h.RotateWebhookSecret(t.Context(), operator(acme), w.ID, -time.Second)
		wantCode(t, err, grahak.CodeInvalidWebhook)
		_, _, err = h.RotateWebhookSecret(t.Context(), operator(acme), foreign.ID, 0)
		wantCode(t, err, grahak.CodeWebhookNotFound)
	})
}

// What was sent is sent again on demand: one, a range, what was given up.
func TestWebhookReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := MustHooked(t)
		early := h.MustCreate(t, acme, person("early"))
		w := h.MustHook(t, acme, "again")
		a := h.MustCreate(t, acme, person("a"))
		h.MustRename(t, acme, a.ID, "Asha")
		pass(2 * time.Second)
		h.receivers.take()
		events := h.MustEvents(t, acme)
		made := events[slices.IndexFunc(events, func(e grahak.Event) bool { return e.Subject == string(early.ID) })]
		for _, c := range []struct {
			what   string
			replay grahak.WebhookReplay
			n      int
			code   grahak.Code
			want   []string
		}{
			{"one from before", grahak.WebhookReplay{Event: made.ID}, 1, "", []string{"again 0 created"}},
			{"all", grahak.WebhookReplay{From: 1, To: 1000}, 3, "", []string{"again 0 created", "again 1 created", "again 1 updated"}},
			{"nothing given up", grahak.WebhookReplay{GivenUp: true}, 0, "", nil},
			{"none", grahak.WebhookReplay{}, 0, grahak.CodeInvalidWebhook, nil},
			{"backwards", grahak.WebhookReplay{From: 2, To: 1}, 0, grahak.CodeInvalidWebhook, nil},
			{"too many", grahak.WebhookReplay{From: 1, To: grahak.MaxReplay + 1}, 0, grahak.CodeInvalidWebhook, nil},
			{"no such event", grahak.WebhookReplay{Event: "evt_none"}, 0, grahak.CodeInvalidWebhook, nil},
		} {
			n, err := h.ReplayWebhook(t.Context(), operator(acme), w.ID, c.replay)
			wantCode(t, err, c.code)
			pass(2 * time.Second)
			got := h.receivers.take(early.ID, a.ID)
			slices.Sort(got)
			diff(t, c.what, append([]string{fmt.Sprint(c.n)}, c.want...), append([]string{fmt.Sprint(n)}, got...))
		}
	})
}

// Only operators have to do with endpoints, and what is wrong with one is said.
func TestWebhookRefusals(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	for url, ok := range map[string]bool{
		"https://hooks.example.com": true, "http://localhost:8080/x?y": true, "https://[2001:db8::1]:443/": true,
		"": false, "hooks.example.com": false, "ftp://hooks.example.com": false, "https://": false, "https:///x": false, "https://user@hooks.example.com": false,
		"https://user:secret@hooks.example.com": false, "https://hooks.example.com/#part": false, "https://hooks.example.com/#": false, "https://hooks.example.com:x/": false,
		"https://hooks.example.com/\x00": false, "https://hooks.example.com/" + strings.Repeat("x", 2048): false,
	} {
		_, _, err := r.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: url})
		if (err == nil) != ok || err != nil && (grahak.CodeOf(err) != grahak.CodeInvalidWebhook || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v", url, err)
		}
	}
	production := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Environment: grahak.Production})
	_, _, err := production.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: "http://hooks.example.com"})
	wantCode(t, err, grahak.CodeInvalidWebhook)
	_, _, err = r.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: "https://x", Types: []grahak.EventType{grahak.EventKeyCreated}})
	wantCode(t, err, grahak.CodeInvalidWebhook)
	_, _, err = r.CreateWebhook(t.Context(), operator("nobody"), grahak.WebhookSpec{URL: "https://x"})
	wantCode(t, err, grahak.CodeMerchantNotFound)
	w, _, err := r.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: "https://x"})
	if err != nil {
		t.Fatal(err)
	}
	c := caller(acme, grahak.ScopeWrite)
	for name, use := range map[string]func() error{
		"create": func() error {
			_, _, err := r.CreateWebhook(t.Context(), c, grahak.WebhookSpec{URL: "https://x"})
			return err
		},
		"list": func() error { _, err := r.Webhooks(t.Context(), c); return err },
		"log":  func() error { _, err := r.WebhookLog(t.Context(), c, w.ID, false, 1); return err },
		"test": func() error { _, err := r.TestWebhook(t.Context(), c, w.ID, new(receivers)); return err },
		"replay": func() error {
			_, err := r.ReplayWebhook(t.Context(), c, w.ID, grahak.WebhookReplay{GivenUp: true})
			return err
		},
		"disable": func() error { return r.DisableWebhook(t.Context(), c, w.ID) },
		"enable":  func() error { return r.EnableWebhook(t.Context(), c, w.ID) },
		"rotate":  func() error { _, _, err := r.RotateWebhookSecret(t.Context(), c, w.ID, 0); return err },
	} {
		if err := use(); grahak.CodeOf(err) != grahak.CodeInsufficientScope {
			t.Errorf("%s by an API key: %v", name, err)
		}
	}
}

// evenly is a source of no randomness: every byte is the same.
type evenly byte

// Read implements [io.Reader].
func (e evenly) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// An event is tried again with longer and longer pauses, for the last time when
// three days are over, and no sooner than the receiver asked for.
func TestWebhookSchedule(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, time.March, 17, 14, 13, 37, 0, time.UTC)
	for _, random := range []io.Reader{evenly(0), evenly(128), evenly(255)} {
		now, pause := begin, time.Duration(0)
		attempts := int64(0)
		for {
			attempts++
			next := grahak.NextAttempt(begin, attempts, now, 0, random)
			if next.IsZero() {
				break
			}
			if attempts > 100 || next.Sub(now) < pause && next != begin.Add(72*time.Hour) || next.Sub(now) > 7*time.Hour+30*time.Minute {
				t.Fatalf("attempt %d is %v after the one before, and that was so after %v", attempts+1, next.Sub(now), pause)
			}
			pause, now = next.Sub(now), next
		}
		if now != begin.Add(72*time.Hour) || attempts < 15 {
			t.Errorf("the last of %d attempts is after %v", attempts, now.Sub(begin))
		}
	}
	for _, c := range []struct{ after, retryAfter, want time.Duration }{
		{0, 0, 5 * time.Second},
		{0, time.Hour, time.Hour},
		{0, time.Second, 5 * time.Second},
		{71 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{72*time.Hour - time.Second, 0, time.Second},
		{72 * time.Hour, 0, 0},
		{72 * time.Hour, time.Hour, 0},
	} {
		now, want := begin.Add(c.after), time.Time{}
		if c.want > 0 {
			want = now.Add(c.want)
		}
		if got := grahak.NextAttempt(begin, 1, now, c.retryAfter, evenly(0)); !got.Equal(want) {
			t.Errorf("failed after %v and asked to wait for %v: the next is at %v, want %v", c.after, c.retryAfter, got, want)
		}
	}
}
