package grahak

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// webhookFlights bounds how many events are under way to an endpoint at once.
	webhookFlights = 8
	// webhookWindow is how many events are read at once.
	webhookWindow = 256
	// webhookSettle is after how many attempts, and webhookSettleIn after how long,
	// what came of them is written.
	webhookSettle   = 64
	webhookSettleIn = 100 * time.Millisecond
	// webhookSlow is after how long an event that is under way no longer holds back
	// the cursor: it gets a row, by which it is tried again after webhookLost if this
	// process does not live to see what comes of it.
	webhookSlow = time.Second
	webhookLost = 30 * time.Second
	// webhookWaiting bounds how many customers may wait at an endpoint before it is
	// sent nothing new, so that one that takes nearly nothing costs little.
	webhookWaiting = 10_000
)

// webhookRun is the sending to one endpoint while there is something to send. But
// for latest, sure, stop, ended and what is read after that it belongs to one goroutine.
type webhookRun struct {
	*webhooks
	latest atomic.Pointer[WebhookWork] // the endpoint as it was seen last
	sure   context.Context             //nolint:containedctx // The certainty of the node that began it, with which it ends.
	stop   context.CancelFunc
	ended  chan struct{}
	// To be read after it ended: why it did, and whether the endpoint was claimed under
	// this certainty and is still held.
	fault   error
	claimed bool

	w    Webhook // as it was claimed, with the progress since
	read int64   // the position up to which events were read
	// window is the events behind the cursor that were read, in order, and retries
	// those before it that are due.
	window, retries []*webhookItem
	// busy is the customers of whom an event is under way, and waiting those of whom
	// one failed, with when that is to be tried again.
	busy    map[CustomerID]*webhookItem
	waiting map[CustomerID]time.Time
	again   int  // how many of those under way are retries
	rows    bool // whether this run has written rows
	results chan webhookResult

	settling WebhookSettlement
	changed  bool // whether there is something in it
}

// webhookItem is an event to be delivered.
type webhookItem struct {
	retry   WebhookRetry // Attempts is 0 before the first
	isRetry bool         // it does not come from the window
	stored  bool         // it has a row, or is about to have one
	state   itemState
	began   time.Time
}

func (i *webhookItem) customer() CustomerID { return CustomerID(i.retry.Event.Subject) }

type itemState int

const (
	itemReady   itemState = iota
	itemFlying            // under way
	itemSettled           // delivered, or stored, or not for this endpoint
)

type webhookResult struct {
	item    *webhookItem
	outcome WebhookOutcome
}

func newWebhookRun(h *webhooks, w *WebhookWork, stop context.CancelFunc) *webhookRun {
	key := webhookKey{w.Merchant, w.ID}
	r := &webhookRun{
		webhooks: h, sure: h.sure, stop: stop, claimed: h.claimed[key], ended: make(chan struct{}), w: w.Webhook, read: w.Cursor,
		busy: make(map[CustomerID]*webhookItem), waiting: make(map[CustomerID]time.Time), results: make(chan webhookResult, webhookFlights),
	}
	r.latest.Store(w)
	return r
}

// serve sends events until there are no more or ctx ends. Of what is under way then
// it notes what has an answer already.
func (r *webhookRun) serve(ctx context.Context) error {
	err := r.claim(ctx)
	claimed := r.claimed
	if claimed {
		err = r.send(ctx)
	}
	if ctx.Err() != nil {
		err = nil
	}
	if !claimed {
		return err
	}
	r.stop()
	for len(r.busy) > 0 {
		err = errors.Join(err, r.land(<-r.results))
	}
	if r.changed {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, fault := r.settle(last)
		err = errors.Join(err, fault)
	}
	return err
}

// claim makes the endpoint this node's, unless another was faster.
func (r *webhookRun) claim(ctx context.Context) error {
	if err := r.s.needKeys(ctx, r.w.Merchant); err != nil {
		r.claimed = false
		return err
	}
	if r.claimed && r.w.Holder == r.s.nodes.self {
		return nil
	}
	var err error
	r.claimed, err = r.s.store.ClaimWebhook(ctx, r.w.Merchant, r.w.ID, r.w.Term, r.s.nodes.self)
	if err != nil || !r.claimed {
		return err
	}
	// Until then the holder before may have written.
	if r.w, err = r.s.store.Webhook(ctx, r.w.Merchant, r.w.ID); err != nil {
		r.claimed = false
		return err
	}
	r.read, r.rows = r.w.Cursor, true
	return nil
}

// send is serve once the endpoint is this node's.
func (r *webhookRun) send(ctx context.Context) error {
	tick := time.NewTicker(webhookSettleIn)
	defer tick.Stop()
	for {
		if err := r.refresh(ctx); err != nil {
			return err
		}
		if err := r.round(ctx, tick.C); err != nil {
			return err
		}
		// If nothing has happened, nothing can be done now.
		idle := !r.changed && len(r.busy) == 0 && !r.advances()
		if idle {
			return nil
		}
		if settled, err := r.settleOn(ctx, tick.C); err != nil || !settled || r.w.DisabledFor != "" {
			return err
		}
	}
}

// round sends what was read, until there is enough to write.
func (r *webhookRun) round(ctx context.Context, tick <-chan time.Time) error {
	for {
		if err := r.start(ctx); err != nil {
			return err
		}
		if len(r.busy) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
			return nil
		case result := <-r.results:
			if err := r.land(result); err != nil {
				return err
			}
			if len(r.settling.Attempts) >= webhookSettle || r.settling.End != "" {
				return nil
			}
		}
	}
}

// settleOn settles, again and again while the store cannot be reached: what was
// written may be there, and may be written again.
func (r *webhookRun) settleOn(ctx context.Context, tick <-chan time.Time) (held bool, err error) {
	for told := false; ; told = true {
		held, err = r.settle(ctx)
		if err == nil {
			return held, nil
		}
		if !told {
			r.s.log.Warn("cannot note what was sent to a webhook; it will be tried again", "merchant", r.w.Merchant, "webhook", r.w.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick:
		}
	}
}

// refresh reads what there is to send.
func (r *webhookRun) refresh(ctx context.Context) error {
	latest := r.latest.Load()
	r.retries = nil
	if r.rows || !latest.RetryAt.IsZero() {
		if err := r.refreshRetries(ctx); err != nil {
			return err
		}
	}
	ready := 0
	for _, item := range r.window {
		if item.state == itemReady {
			ready++
		}
	}
	if r.read >= latest.Head || ready >= webhookFlights || len(r.window) > webhookWindow || len(r.waiting) >= webhookWaiting {
		return nil
	}
	events, err := r.s.store.Events(ctx, r.w.Merchant, r.read, webhookWindow)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		r.read = latest.Head // They are no longer kept.
	}
	for _, e := range events {
		if e.Position > latest.Head {
			break
		}
		r.read = e.Position
		item := &webhookItem{retry: WebhookRetry{Event: e}}
		if !slices.Contains(r.w.Types, e.Type) {
			item.state = itemSettled
		}
		r.window = append(r.window, item)
	}
	return nil
}

// refreshRetries reads which customers wait, and which of their events are due.
func (r *webhookRun) refreshRetries(ctx context.Context) (err error) {
	now := r.s.now()
	if r.waiting, err = r.s.store.WebhookWaiting(ctx, r.w.Merchant, r.w.ID); err != nil {
		return err
	}
	due, err := r.s.store.WebhookRetries(ctx, r.w.Merchant, r.w.ID, now, webhookSettle)
	if err != nil {
		return err
	}
	for _, retry := range due {
		item := &webhookItem{retry: retry, isRetry: true, stored: true}
		switch {
		case r.busy[item.customer()] != nil:
		case retry.Event.Type == "":
			r.done(item, now) // It is no longer kept.
		default:
			r.retries = append(r.retries, item)
		}
	}
	return nil
}

// start sends what may be sent now.
func (r *webhookRun) start(ctx context.Context) error {
	now := r.s.now()
	if r.w.ResumeAt.After(now) {
		return nil
	}
	flights := webhookFlights
	if r.isDown() {
		flights = 1
	}
	for len(r.busy) < flights {
		item := r.pick(now)
		if item == nil {
			return nil
		}
		secrets, err := r.s.webhookSecrets(ctx, r.latest.Load().Webhook, now)
		if err != nil {
			return err
		}
		// After a process stood still another may be the sender, and ctx ends a moment late.
		if r.s.nodes.certain(); r.sure.Err() != nil {
			r.stop()
			return r.sure.Err()
		}
		item.state, item.began = itemFlying, now
		if item.retry.Attempts == 0 {
			item.retry.FirstAt = now
		}
		r.busy[item.customer()] = item
		if item.isRetry {
			r.again++
		}
		m := WebhookMessage{URL: r.w.URL, Event: item.retry.Event, At: now, Secrets: secrets}
		go func() { r.results <- webhookResult{item, r.courier.Deliver(ctx, m)} }()
	}
	return nil
}

// isDown reports whether the endpoint seems to take nothing: then it gets one event
// at a time.
func (r *webhookRun) isDown() bool { return r.w.Failures >= webhookDown }

// pick returns what to send next, nil for nothing. Neither new events nor retries
// can keep the others from being sent.
func (r *webhookRun) pick(now time.Time) *webhookItem {
	fresh := r.pickNew(now)
	again := slices.IndexFunc(r.retries, func(i *webhookItem) bool { return i.state == itemReady && r.busy[i.customer()] == nil })
	switch {
	case again < 0:
		return fresh
	// What is down gets them by turns.
	case fresh == nil, r.isDown() && r.w.Failures%2 == 0, !r.isDown() && r.again < webhookFlights/2:
		return r.retries[again]
	}
	return fresh
}

// pickNew returns the first new event that may be sent, nil for none. Those of
// customers of whom an earlier one failed come to wait behind that.
func (r *webhookRun) pickNew(now time.Time) *webhookItem {
	for _, item := range r.window {
		if item.state != itemReady {
			continue
		}
		if next, waits := r.waiting[item.customer()]; waits {
			item.state = itemSettled
			item.retry.FirstAt, item.retry.NextAt = now, next
			r.store(item)
			continue
		}
		if r.busy[item.customer()] == nil {
			return item
		}
	}
	return nil
}

// store has a row written.
func (r *webhookRun) store(item *webhookItem) {
	item.stored, r.rows, r.changed = true, true, true
	r.settling.Retries = append(r.settling.Retries, item.retry)
}

// done has a row deleted, and what waits behind its event sent.
func (r *webhookRun) done(item *webhookItem, now time.Time) {
	r.settling.Done = append(r.settling.Done, item.retry.Event.Position)
	r.next(item.customer(), now)
}

// next has a customer's events that wait tried again at a time.
func (r *webhookRun) next(c CustomerID, at time.Time) {
	if r.settling.NextAt == nil {
		r.settling.NextAt = make(map[CustomerID]time.Time)
	}
	r.settling.NextAt[c], r.changed = at, true
}

// land takes note of what came of an attempt.
func (r *webhookRun) land(result webhookResult) error {
	item, outcome := result.item, result.outcome
	delete(r.busy, item.customer())
	if item.isRetry {
		r.again--
	}
	if outcome.Failure == WebhookAborted {
		item.state = itemReady
		return nil
	}
	item.state = itemSettled
	item.retry.Attempts++
	r.changed = true
	r.answers.keep(webhookAnswer{webhook: webhookKey{r.w.Merchant, r.w.ID}, event: item.retry.Event.ID, at: item.began, text: outcome.Answer})
	outcome.Answer = ""
	r.settling.Attempts = append(r.settling.Attempts, WebhookAttempt{
		At: item.began, EventID: item.retry.Event.ID, Position: item.retry.Event.Position, Attempt: item.retry.Attempts, WebhookOutcome: outcome,
	})
	if r.observe != nil {
		r.observe.Delivery(outcome.String(), outcome.Took)
	}
	now := r.s.now()
	if !outcome.Delivered() {
		return r.failed(item, outcome, now)
	}
	if item.stored {
		r.done(item, now)
	}
	if r.isDown() {
		r.tell("a webhook takes events again")
		r.w.ResumeAt = time.Time{}
	}
	r.w.Failures, r.w.FailingSince = 0, time.Time{}
	return nil
}

// failed takes note of an attempt that failed.
func (r *webhookRun) failed(item *webhookItem, outcome WebhookOutcome, now time.Time) error {
	const tooMany, gone = 429, 410
	if r.w.FailingSince.IsZero() {
		r.w.FailingSince = now
	}
	// What was under way when the endpoint was left alone says nothing more of it.
	known := r.isDown() && item.began.Before(r.w.ResumeAt)
	if !known && (!item.isRetry || r.isDown()) {
		if r.w.Failures++; r.w.Failures == webhookDown {
			r.tell("a webhook takes no events; they wait for it", "outcome", outcome.String(), "status", outcome.Status)
		}
	}
	var pause time.Duration
	switch {
	case known:
		pause = outcome.RetryAfter
	case r.isDown():
		pause = max(jitter(endpointPause(r.w.Failures), r.s.random), outcome.RetryAfter)
	case outcome.Status == tooMany:
		pause = outcome.RetryAfter
	}
	if resume := now.Add(pause).Truncate(time.Microsecond); pause > 0 && resume.After(r.w.ResumeAt) {
		r.w.ResumeAt = resume
	}
	item.retry.NextAt = item.retry.next(now, outcome.RetryAfter, r.s.random)
	switch {
	case outcome.Status == gone:
		r.settling.End = WebhookEndGone
	case now.Sub(r.w.FailingSince) >= webhookPatience:
		r.settling.End = WebhookEndFailing
	case item.retry.NextAt.IsZero():
		r.tell("an event was given up for a webhook", "event", item.retry.Event.ID, "position", item.retry.Event.Position, "attempts", item.retry.Attempts)
	}
	next := item.retry.NextAt
	if next.IsZero() {
		next = now
	}
	if r.settling.End != "" {
		// What waits when the endpoint is enabled again is sent then.
		item.retry.NextAt = next
	}
	r.store(item)
	r.next(item.customer(), next)
	r.waiting[item.customer()] = next
	if r.settling.End == "" || r.settling.EndEvent.ID != "" || r.w.DisabledFor != "" {
		return nil
	}
	r.tell("a webhook was disabled", "reason", string(r.settling.End))
	e, err := r.s.event(Operator(r.w.Merchant, "grahak"), EventWebhookDisabled, string(r.w.ID), now)
	r.settling.EndAt, r.settling.EndEvent = now, e
	return err
}

// tell logs what an operator should know of the endpoint. Of its URL it shows the
// host only: the rest may be a secret.
func (r *webhookRun) tell(what string, args ...any) {
	host := ""
	if u, err := url.Parse(r.w.URL); err == nil {
		host = u.Host
	}
	r.s.log.Warn(what, append([]any{"merchant", r.w.Merchant, "webhook", r.w.ID, "host", host}, args...)...)
}

// advances reports whether the cursor can move.
func (r *webhookRun) advances() bool {
	if len(r.window) == 0 {
		return r.read > r.w.Cursor
	}
	return r.window[0].state == itemSettled || r.window[0].stored
}

// settle writes what has happened since the last time. It reports false if the
// endpoint is no longer this node's to serve.
func (r *webhookRun) settle(ctx context.Context) (held bool, err error) {
	now := r.s.now()
	for customer, item := range r.busy {
		if !item.stored && now.Sub(item.began) >= webhookSlow {
			item.retry.NextAt = now.Add(webhookLost)
			r.store(item)
			r.waiting[customer] = item.retry.NextAt
		}
	}
	for r.advances() {
		if len(r.window) == 0 {
			r.w.Cursor = r.read
		} else {
			r.w.Cursor = r.window[0].retry.Event.Position
			r.window = r.window[1:]
		}
		r.changed = true
	}
	if !r.changed {
		return true, nil
	}
	r.settling.WebhookProgress = r.w.WebhookProgress
	held, err = r.s.store.SettleWebhook(ctx, r.w.Merchant, r.w.ID, r.w.Holder, r.w.Term, r.settling)
	if err != nil {
		return false, err
	}
	r.w.DisabledFor = r.settling.End
	r.settling, r.changed = WebhookSettlement{}, false
	return held, nil
}
