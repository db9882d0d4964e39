package storetest

import (
	"fmt"
	"slices"
	"time"

	"grahak"
)

var webhookTests = []test{
	{"round trip", webhookRoundTrip},
	{"full", webhookFull},
	{"disable and enable", webhookDisable},
	{"secret", webhookSecret},
	{"claim", webhookClaim},
	{"settle", webhookSettle},
	{"order", webhookOrder},
	{"replay", webhookReplay},
	{"log", webhookLog},
}

// webhook returns a new endpoint that is not written yet.
func (r *rig) webhook(m grahak.MerchantID) grahak.Webhook {
	return grahak.Webhook{
		ID: grahak.WebhookID(r.id("whe")), Merchant: m, URL: "https://hooks.example.com/" + r.id("hook"), Types: grahak.WebhookTypes(),
		Label: "कार्यालय", CreatedAt: r.now(), SecretVersion: 1,
	}
}

// MustWebhook writes an endpoint and returns it as it is stored.
func (r *rig) MustWebhook(m grahak.MerchantID) grahak.Webhook {
	r.Helper()
	w := r.webhook(m)
	r.must(r.store.CreateWebhook(r.Context(), m, w, r.event(grahak.EventWebhookCreated, string(w.ID), 0)))
	w, err := r.store.Webhook(r.Context(), m, w.ID)
	r.must(err)
	return w
}

// MustHold writes an endpoint and makes a node its holder.
func (r *rig) MustHold(m grahak.MerchantID, node grahak.NodeID) grahak.Webhook {
	r.Helper()
	w := r.MustWebhook(m)
	claimed, err := r.store.ClaimWebhook(r.Context(), m, w.ID, w.Term, node)
	r.must(err)
	r.wantEqual("claimed", claimed, true)
	w, err = r.store.Webhook(r.Context(), m, w.ID)
	r.must(err)
	return w
}

// MustSettle settles for the holder of the endpoint.
func (r *rig) MustSettle(w grahak.Webhook, s grahak.WebhookSettlement) {
	r.Helper()
	held, err := r.store.SettleWebhook(r.Context(), w.Merchant, w.ID, w.Holder, w.Term, s)
	r.must(err)
	r.wantEqual("settled", held, true)
}

// wantLast fails the test unless the last event of own is of a type and about
// the endpoint, and there are n events.
func (r *rig) wantLast(n int, t grahak.EventType, id grahak.WebhookID) {
	r.Helper()
	events := r.MustEvents(own)
	last := events[len(events)-1]
	r.wantEqual("the number of events and the last one", []any{len(events), last.Type, last.Subject}, []any{n, t, string(id)})
}

func webhookRoundTrip(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	_, err := r.store.Webhook(r.Context(), own, "whe_none")
	r.wantCode("no endpoint", err, grahak.CodeWebhookNotFound)
	r.wantCode("nobody's", r.store.CreateWebhook(r.Context(), nobody, r.webhook(nobody), r.event(grahak.EventWebhookCreated, "x", 0)), grahak.CodeMerchantNotFound)

	r.MustCustomer(own)
	r.MustOrder(own, all)
	head := r.MustHead(own)
	var want []grahak.Webhook
	for _, types := range [][]grahak.EventType{grahak.WebhookTypes(), {grahak.EventCustomerErased}} {
		w := r.webhook(own)
		w.Types = types
		r.must(r.store.CreateWebhook(r.Context(), own, w, r.event(grahak.EventWebhookCreated, string(w.ID), 0)))
		w.Cursor = head.Position
		want = append(want, w)
	}
	r.wantLast(int(head.Position)+2, grahak.EventWebhookCreated, want[1].ID)
	foreign := r.MustWebhook(other)
	list, err := r.store.Webhooks(r.Context(), own)
	r.must(err)
	r.wantEqual("the endpoints", list, want)
	one, err := r.store.Webhook(r.Context(), own, want[1].ID)
	r.must(err)
	r.wantEqual("one endpoint", one, want[1])
	_, err = r.store.Webhook(r.Context(), own, foreign.ID)
	r.wantCode("another's endpoint", err, grahak.CodeWebhookNotFound)

	r.MustOrder(own, all)
	work, err := r.store.WebhookWork(r.Context())
	r.must(err)
	wantWork := []grahak.WebhookWork{{Webhook: foreign}}
	for _, w := range want {
		wantWork = append(wantWork, grahak.WebhookWork{Webhook: w, Head: head.Position + 2})
	}
	slices.SortFunc(work, func(a, b grahak.WebhookWork) int { return byMerchant(a.Webhook, b.Webhook) })
	r.wantEqual("the work", work, wantWork)
}

func byMerchant(a, b grahak.Webhook) int {
	return slices.Compare([]string{string(a.Merchant), string(a.ID)}, []string{string(b.Merchant), string(b.ID)})
}

func webhookFull(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	var last grahak.Webhook
	for range grahak.MaxWebhooks {
		last = r.MustWebhook(own)
	}
	create := func() error {
		w := r.webhook(own)
		return r.store.CreateWebhook(r.Context(), own, w, r.event(grahak.EventWebhookCreated, string(w.ID), 0))
	}
	before := len(r.MustEvents(own))
	r.wantCode("one more", create(), grahak.CodeWebhooksFull)
	r.wantEqual("events", len(r.MustEvents(own)), before)
	r.MustWebhook(other)
	r.must(r.store.DisableWebhook(r.Context(), own, last.ID, r.now(), r.event(grahak.EventWebhookDisabled, string(last.ID), 0)))
	r.must(create())
	r.wantCode("enabling one more", r.store.EnableWebhook(r.Context(), own, last.ID, r.event(grahak.EventWebhookEnabled, string(last.ID), 0)), grahak.CodeWebhooksFull)
}

func webhookDisable(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	w := r.MustHold(own, "node_1")
	since := r.now()
	r.MustSettle(w, grahak.WebhookSettlement{
		WebhookProgress: grahak.WebhookProgress{Cursor: 1, Failures: 7, FailingSince: since, ResumeAt: since.Add(time.Minute)},
		Retries:         []grahak.WebhookRetry{{Event: grahak.Event{Position: 1, ID: "evt_1", Subject: "cst_1"}, Attempts: 3, FirstAt: since, NextAt: since.Add(time.Hour)}},
	})
	disable := func(m grahak.MerchantID, at time.Time) error {
		return r.store.DisableWebhook(r.Context(), m, w.ID, at, r.event(grahak.EventWebhookDisabled, string(w.ID), 0))
	}
	enable := func(m grahak.MerchantID) error {
		return r.store.EnableWebhook(r.Context(), m, w.ID, r.event(grahak.EventWebhookEnabled, string(w.ID), 0))
	}
	r.wantCode("another's", disable(other, r.now()), grahak.CodeWebhookNotFound)
	r.wantCode("another's", enable(other), grahak.CodeWebhookNotFound)
	events := len(r.MustEvents(own))
	r.must(enable(own))
	r.wantEqual("events after an enabling of nothing", len(r.MustEvents(own)), events)

	at := r.now()
	r.must(disable(own, at))
	r.must(disable(own, r.now()))
	r.wantLast(events+1, grahak.EventWebhookDisabled, w.ID)
	got, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("it is disabled", []any{got.DisabledAt, got.DisabledFor, got.Holder, got.Cursor}, []any{at, grahak.WebhookEndOperator, grahak.NodeID(""), int64(1)})
	work, err := r.store.WebhookWork(r.Context())
	r.must(err)
	r.wantEqual("the work", len(work), 0)
	held, err := r.store.SettleWebhook(r.Context(), own, w.ID, w.Holder, w.Term, grahak.WebhookSettlement{WebhookProgress: grahak.WebhookProgress{Cursor: 9}})
	r.must(err)
	r.wantEqual("settled after that", held, false)
	claimed, err := r.store.ClaimWebhook(r.Context(), own, w.ID, got.Term, "node_1")
	r.must(err)
	r.wantEqual("claimed after that", claimed, false)
	_, err = r.store.ReplayWebhook(r.Context(), own, w.ID, 1, 1, true, r.event(grahak.EventWebhookReplayed, string(w.ID), 0))
	r.wantCode("a replay", err, grahak.CodeWebhookDisabled)

	r.must(enable(own))
	r.wantLast(events+2, grahak.EventWebhookEnabled, w.ID)
	again, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	want := w
	want.Cursor, want.Holder, want.Term = 1, "", again.Term
	r.wantEqual("it is enabled", again, want)
	r.wantEqual("the term has moved", again.Term > w.Term, true)
	due, err := r.store.WebhookRetries(r.Context(), own, w.ID, r.now(), 10)
	r.must(err)
	r.wantEqual("what is due at once", len(due), 1)
}

func webhookSecret(r *rig) {
	r.MustMerchant(own)
	w := r.MustWebhook(own)
	until := r.now()
	rotate := func(version int64) bool {
		r.Helper()
		done, err := r.store.RotateWebhookSecret(r.Context(), own, w.ID, version, until, r.event(grahak.EventWebhookSecretRotated, string(w.ID), 0))
		r.must(err)
		return done
	}
	events := len(r.MustEvents(own))
	r.wantEqual("the first, of another version, and the second time", []bool{rotate(1), rotate(3), rotate(1)}, []bool{true, false, false})
	r.wantLast(events+1, grahak.EventWebhookSecretRotated, w.ID)
	got, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	w.SecretVersion, w.PreviousUntil = 2, until
	r.wantEqual("the endpoint", got, w)
	_, err = r.store.RotateWebhookSecret(r.Context(), other, w.ID, 2, until, r.event(grahak.EventWebhookSecretRotated, string(w.ID), 0))
	r.wantCode("another's", err, grahak.CodeWebhookNotFound)
}

// Of those that claim an endpoint at once, one gets it; what another has held before
// counts no more.
func webhookClaim(r *rig) {
	r.MustMerchant(own)
	w := r.MustHold(own, "node_1")
	claimed := make([]bool, parallel)
	errs := r.together(parallel, func(r *rig, i int) (err error) {
		claimed[i], err = r.store.ClaimWebhook(r.Context(), own, w.ID, w.Term, grahak.NodeID(fmt.Sprintf("node_x%d", i)))
		return err
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	winner := slices.Index(claimed, true)
	r.wantEqual("claims", slices.Contains(claimed[winner+1:], true), false)
	got, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("the holder", []any{got.Holder, got.Term}, []any{grahak.NodeID(fmt.Sprintf("node_x%d", winner)), w.Term + 1})

	settle := func(holder grahak.NodeID, term int64) bool {
		r.Helper()
		held, err := r.store.SettleWebhook(r.Context(), own, w.ID, holder, term, grahak.WebhookSettlement{
			WebhookProgress: grahak.WebhookProgress{Cursor: 5},
			Attempts:        []grahak.WebhookAttempt{{At: start, EventID: "evt_1"}},
		})
		r.must(err)
		return held
	}
	r.wantEqual("settled by the one before, and at another term", []bool{settle("node_1", w.Term), settle(got.Holder, w.Term), settle("node_1", got.Term)}, []bool{false, false, false})
	log, err := r.store.WebhookLog(r.Context(), own, w.ID, false, 10)
	r.must(err)
	r.wantEqual("the log", len(log), 0)
	r.wantEqual("settled by the holder", settle(got.Holder, got.Term), true)

	r.must(r.store.ReleaseWebhook(r.Context(), own, w.ID, "node_1"))
	r.wantEqual("settled after another's release", settle(got.Holder, got.Term), true)
	r.must(r.store.ReleaseWebhook(r.Context(), own, w.ID, got.Holder))
	r.wantEqual("settled after the release", settle(got.Holder, got.Term), false)
	released, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("the holder", released.Holder, grahak.NodeID(""))
}

func webhookSettle(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	w, foreign := r.MustHold(own, "node_1"), r.MustHold(other, "node_1")
	retry := func(position int64, customer string, attempts int64, next time.Time) grahak.WebhookRetry {
		return grahak.WebhookRetry{
			Event: grahak.Event{Position: position, ID: grahak.EventID(fmt.Sprint("evt_", position)), Subject: customer}, Attempts: attempts, FirstAt: start, NextAt: next,
		}
	}
	waiting := func(w grahak.Webhook) map[grahak.CustomerID]time.Time {
		r.Helper()
		got, err := r.store.WebhookWaiting(r.Context(), w.Merchant, w.ID)
		r.must(err)
		return got
	}
	soon, late := r.now(), r.now()
	for _, w := range []grahak.Webhook{w, foreign} {
		r.MustSettle(w, grahak.WebhookSettlement{
			WebhookProgress: grahak.WebhookProgress{Cursor: 7, Failures: 2, FailingSince: start, ResumeAt: late},
			Retries:         []grahak.WebhookRetry{retry(2, "cst_a", 1, soon), retry(3, "cst_b", 1, soon), retry(5, "cst_a", 0, soon), retry(6, "cst_c", 4, time.Time{})},
		})
	}
	r.wantEqual("who waits", waiting(w), map[grahak.CustomerID]time.Time{"cst_a": soon, "cst_b": soon})
	got, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("the progress", got.WebhookProgress, grahak.WebhookProgress{Cursor: 7, Failures: 2, FailingSince: start, ResumeAt: late})

	// One is delivered, one fails again, and the cursor stays where it is.
	r.MustSettle(w, grahak.WebhookSettlement{
		WebhookProgress: grahak.WebhookProgress{Cursor: 6},
		Done:            []int64{3, 99},
		Retries:         []grahak.WebhookRetry{retry(2, "cst_a", 2, late)},
		NextAt:          map[grahak.CustomerID]time.Time{"cst_a": late, "cst_c": late, "cst_d": late},
	})
	r.wantEqual("who waits", waiting(w), map[grahak.CustomerID]time.Time{"cst_a": late})
	r.wantEqual("who waits at another's", waiting(foreign), map[grahak.CustomerID]time.Time{"cst_a": soon, "cst_b": soon})
	got, err = r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("the progress", got.WebhookProgress, grahak.WebhookProgress{Cursor: 7})
	work, err := r.store.WebhookWork(r.Context())
	r.must(err)
	for _, work := range work {
		want := late
		if work.Merchant == other {
			want = soon
		}
		r.wantEqual("the next retry of "+string(work.Merchant), work.RetryAt, want)
	}

	// The end of an endpoint is one with what led to it.
	events := len(r.MustEvents(own))
	r.MustSettle(w, grahak.WebhookSettlement{
		WebhookProgress: grahak.WebhookProgress{Cursor: 8},
		Retries:         []grahak.WebhookRetry{retry(8, "cst_e", 1, late)},
		End:             grahak.WebhookEndGone, EndAt: late, EndEvent: r.event(grahak.EventWebhookDisabled, string(w.ID), 0),
	})
	r.wantLast(events+1, grahak.EventWebhookDisabled, w.ID)
	got, err = r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("the end", []any{got.Cursor, got.DisabledAt, got.DisabledFor, got.Holder}, []any{int64(8), late, grahak.WebhookEndGone, grahak.NodeID("")})
	r.wantEqual("who waits", len(waiting(w)), 2)
}

// What is due is the earliest event of each customer, with what happened.
func webhookOrder(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	w := r.MustHold(own, "node_1")
	a, b := r.MustCustomer(own), r.MustCustomer(own)
	next := r.next(a)
	updated := r.event(grahak.EventCustomerUpdated, string(a.ID), 2, grahak.FieldEmail, grahak.FieldLastName)
	done, err := r.store.UpdateCustomer(r.Context(), own, next, updated, nil)
	r.must(err)
	r.wantEqual("updated", done, true)
	r.MustOrder(own, all)
	var retries []grahak.WebhookRetry
	var want []grahak.Event
	soon := r.now()
	for _, e := range r.MustEvents(own) {
		if e.Revision == 0 {
			continue
		}
		want = append(want, grahak.Event{Position: e.Position, ID: e.ID, Type: e.Type, Subject: e.Subject, Changed: e.Changed, At: e.At})
		retries = append(retries, grahak.WebhookRetry{Event: e, FirstAt: start, NextAt: soon})
	}
	// There is no such event, and it is b's first.
	gone := grahak.Event{Position: 1000, ID: "evt_gone", Subject: "cst_gone"}
	retries = append(retries, grahak.WebhookRetry{Event: gone, Attempts: 2, FirstAt: start, NextAt: soon.Add(-time.Second)})
	r.MustSettle(w, grahak.WebhookSettlement{Retries: retries})
	due := func(at time.Time, limit int) (events []grahak.Event) {
		r.Helper()
		list, err := r.store.WebhookRetries(r.Context(), own, w.ID, at, limit)
		r.must(err)
		for _, retry := range list {
			if retry.Event.Type == "" {
				retry.Event.At = time.Time{}
			}
			events = append(events, retry.Event)
		}
		slices.SortFunc(events, func(a, b grahak.Event) int { return int(a.Position - b.Position) })
		return events
	}
	r.wantEqual("before the time", due(soon.Add(-time.Minute), 10), []grahak.Event(nil))
	r.wantEqual("the first", due(soon, 1), []grahak.Event{gone})
	r.wantEqual("the earliest of each", due(soon, 10), []grahak.Event{want[0], want[1], gone})
	r.MustSettle(w, grahak.WebhookSettlement{Done: []int64{want[0].Position, 1000}})
	r.wantEqual("after that", due(soon, 10), []grahak.Event{want[1], want[2]})
	r.wantEqual("subjects", []string{want[0].Subject, want[1].Subject, want[2].Subject}, []string{string(a.ID), string(b.ID), string(a.ID)})
	foreign, err := r.store.WebhookRetries(r.Context(), other, w.ID, soon, 10)
	r.must(err)
	r.wantEqual("another's", len(foreign), 0)
}

func webhookReplay(r *rig) {
	r.MustMerchant(own)
	for range 3 {
		r.MustErase(own, r.MustCustomer(own).ID)
	}
	r.MustOrder(own, all)
	events := r.MustEvents(own)
	w := r.webhook(own)
	w.Types = []grahak.EventType{grahak.EventCustomerCreated, grahak.EventCustomerUpdated}
	r.must(r.store.CreateWebhook(r.Context(), own, w, r.event(grahak.EventWebhookCreated, string(w.ID), 0)))
	r.MustCustomer(own)
	r.MustOrder(own, all)
	w, err := r.store.Webhook(r.Context(), own, w.ID)
	r.must(err)
	_, err = r.store.ClaimWebhook(r.Context(), own, w.ID, w.Term, "node_1")
	r.must(err)
	w.Holder, w.Term = "node_1", w.Term+1
	replay := func(from, to int64, givenUp bool) int {
		r.Helper()
		before := len(r.MustEvents(own))
		n, err := r.store.ReplayWebhook(r.Context(), own, w.ID, from, to, givenUp, r.event(grahak.EventWebhookReplayed, string(w.ID), 0))
		r.must(err)
		if n > 0 {
			r.wantLast(before+1, grahak.EventWebhookReplayed, w.ID)
		} else {
			r.wantEqual("events", len(r.MustEvents(own)), before)
		}
		return n
	}
	due := func() (positions []int64) {
		r.Helper()
		list, err := r.store.WebhookRetries(r.Context(), own, w.ID, r.now(), 100)
		r.must(err)
		for _, retry := range list {
			positions = append(positions, retry.Event.Position)
		}
		slices.Sort(positions)
		return positions
	}
	var made []int64
	for _, e := range events {
		if e.Type == grahak.EventCustomerCreated {
			made = append(made, e.Position)
		}
	}
	r.wantEqual("nothing was given up", replay(1, 1000, true), 0)
	r.wantEqual("the middle one", replay(made[1], made[1], false), 1)
	r.wantEqual("what is due", due(), made[1:2])
	// Beyond the cursor it is sent anyway.
	r.wantEqual("all", replay(1, 1000, false), len(made))
	r.wantEqual("what is due", due(), made)

	// What was given up, with what waits behind it.
	late := r.now().Add(time.Hour)
	r.MustSettle(w, grahak.WebhookSettlement{Done: made[1:], Retries: []grahak.WebhookRetry{
		{Event: events[made[0]-1], Attempts: 9, FirstAt: start},
		{Event: grahak.Event{Position: 900, ID: "evt_900", Subject: events[made[0]-1].Subject}, FirstAt: start, NextAt: late},
	}})
	r.wantEqual("what is due", due(), []int64(nil))
	r.wantEqual("those in a range", replay(made[0]+1, 1000, true), 0)
	r.wantEqual("those that were given up", replay(1, 1000, true), 1)
	r.wantEqual("what is due", due(), made[:1])
	waiting, err := r.store.WebhookWaiting(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("what waits is no longer late", waiting[grahak.CustomerID(events[made[0]-1].Subject)].Before(late), true)
	_, err = r.store.ReplayWebhook(r.Context(), own, "whe_none", 1, 1, false, r.event(grahak.EventWebhookReplayed, "whe_none", 0))
	r.wantCode("no endpoint", err, grahak.CodeWebhookNotFound)
}

func webhookLog(r *rig) {
	r.MustMerchant(own)
	w := r.MustHold(own, "node_1")
	var want, failed []grahak.WebhookAttempt
	for i, outcome := range []grahak.WebhookOutcome{{Status: 200}, {Status: 199}, {Status: 299}, {Status: 300}, {Failure: grahak.WebhookTimeout}, {Status: 204, Took: time.Hour}} {
		outcome.Took += 1500 * time.Microsecond
		a := grahak.WebhookAttempt{At: r.now(), EventID: grahak.EventID(r.id("evt")), Position: int64(i), Attempt: int64(i) + 1, WebhookOutcome: outcome}
		want = append(want, a)
		if !outcome.Delivered() {
			failed = append(failed, a)
		}
	}
	for range 2 { // What is written twice stands there once.
		r.MustSettle(w, grahak.WebhookSettlement{Attempts: want})
	}
	read := func(onlyFailed bool, limit int) []grahak.WebhookAttempt {
		r.Helper()
		list, err := r.store.WebhookLog(r.Context(), own, w.ID, onlyFailed, limit)
		r.must(err)
		slices.Reverse(list)
		return list
	}
	r.wantEqual("the log", read(false, 100), want)
	r.wantEqual("its end", read(false, 2), want[4:])
	r.wantEqual("what failed", read(true, 100), failed)

	prune := func(before time.Time, keep, limit int) bool {
		r.Helper()
		more, err := r.store.PruneWebhook(r.Context(), own, w.ID, before, keep, start, limit)
		r.must(err)
		return more
	}
	r.wantEqual("more", prune(want[0].At, 100, 10), false)
	r.wantEqual("the log", read(false, 100), want)
	r.wantEqual("more", prune(want[3].At, 100, 1), true)
	r.wantEqual("the log", read(false, 100), want[1:])
	r.wantEqual("more", prune(want[3].At, 100, 10), false)
	r.wantEqual("the log", read(false, 100), want[3:])
	r.wantEqual("more", prune(start, 2, 10), false)
	r.wantEqual("the log", read(false, 100), want[4:])

	// Of the events that wait or were given up, only old ones of the latter go.
	old, young := start.Add(-time.Microsecond), start
	r.MustSettle(w, grahak.WebhookSettlement{Retries: []grahak.WebhookRetry{
		{Event: grahak.Event{Position: 1, ID: "evt_1", Subject: "cst_1"}, FirstAt: old, NextAt: start},
		{Event: grahak.Event{Position: 2, ID: "evt_2", Subject: "cst_2"}, FirstAt: young},
		{Event: grahak.Event{Position: 3, ID: "evt_3", Subject: "cst_3"}, FirstAt: old},
	}})
	r.wantEqual("more", prune(start, 100, 10), false)
	n, err := r.store.ReplayWebhook(r.Context(), own, w.ID, 1, 10, true, r.event(grahak.EventWebhookReplayed, string(w.ID), 0))
	r.must(err)
	r.wantEqual("what was given up and is kept", n, 1)
	waiting, err := r.store.WebhookWaiting(r.Context(), own, w.ID)
	r.must(err)
	r.wantEqual("customers that wait", len(waiting), 2)
}
