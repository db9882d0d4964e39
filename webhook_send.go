package grahak

import (
	"context"
	"time"
)

const (
	webhookPoll  = 250 * time.Millisecond
	webhookPrune = time.Minute
	// webhookRuns bounds how many endpoints are served at once.
	webhookRuns = 256
	// How long the delivery log and events that were given up are kept, and how many
	// lines of the log.
	webhookLogKept   = 7 * 24 * time.Hour
	webhookLogLines  = 20_000
	webhookGivenKept = 30 * 24 * time.Hour
)

// webhookKey names an endpoint.
type webhookKey struct {
	merchant MerchantID
	id       WebhookID
}

// webhooks sends events to the merchants' endpoints. Each endpoint with something
// to do has a goroutine, so that none waits for another. One node sends to an
// endpoint at a time: its holder, whose term fences what it writes.
type webhooks struct {
	s       *Service
	courier Courier
	observe DeliveryObserver
	kick    chan struct{}
	answers webhookAnswers

	// What follows belongs to the goroutine of run.
	runs map[webhookKey]*webhookRun
	// sure is the certainty of this node at the last look at the endpoints, and claimed
	// those which it has claimed since that began. Of others that it held before
	// somebody may be the holder by now.
	sure    context.Context //nolint:containedctx // It is a state of the node.
	claimed map[webhookKey]bool
	turn    int                // where the next look at the endpoints begins
	served  map[webhookKey]int // since the log was pruned
	ticking int                // polls since then
	minutes int                // prunings since all endpoints were looked at
	// told is when a fault was logged last, that of no endpoint being of all.
	told map[webhookKey]time.Time
}

func newWebhooks(s *Service, courier Courier, observe DeliveryObserver) *webhooks {
	return &webhooks{
		s: s, courier: courier, observe: observe, kick: make(chan struct{}, 1),
		runs: make(map[webhookKey]*webhookRun), claimed: make(map[webhookKey]bool), served: make(map[webhookKey]int), told: make(map[webhookKey]time.Time),
	}
}

// wake has run look at once for something to do.
func (h *webhooks) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// run sends events until ctx ends.
func (h *webhooks) run(ctx context.Context) {
	if h.courier == nil {
		return
	}
	tick := time.NewTicker(webhookPoll)
	defer tick.Stop()
	defer func() {
		for _, r := range h.runs {
			<-r.ended
		}
	}()
	for {
		ticked := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ticked = true
		case <-h.kick:
		}
		// A node that others may take for gone neither begins nor goes on.
		sure := h.s.nodes.certain()
		if sure.Err() != nil {
			continue
		}
		if sure != h.sure {
			h.sure = sure
			clear(h.claimed)
		}
		h.reap()
		work, err := h.s.store.WebhookWork(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			h.share(ctx, work)
		}
		h.complain(webhookKey{}, err, "cannot look for events to send to webhooks; it will be tried again")
		if ticked {
			h.prune(ctx)
		}
	}
}

// reap forgets what has ended. A look at the endpoints begins only then, so that
// nothing begins where an earlier run was when it had not ended.
func (h *webhooks) reap() {
	for key, r := range h.runs {
		select {
		case <-r.ended:
			delete(h.runs, key)
			if r.claimed && r.sure == h.sure {
				h.claimed[key] = true
			} else {
				delete(h.claimed, key)
			}
			h.complain(key, r.fault, "cannot serve a webhook; it will be tried again")
		default:
		}
	}
}

// complain logs a fault that lasts once, and then once a minute.
func (h *webhooks) complain(key webhookKey, err error, trouble string) {
	if err == nil {
		delete(h.told, key)
		return
	}
	now := h.s.clock.Now()
	if last, told := h.told[key]; told && now.Sub(last) < time.Minute {
		return
	}
	h.told[key] = now
	h.s.log.Error(trouble, "merchant", key.merchant, "webhook", key.id, "error", err)
}

// share begins and ends runs, so that those are served whose merchants are this
// node's.
func (h *webhooks) share(ctx context.Context, work []WebhookWork) {
	active := make(map[webhookKey]bool, len(work))
	if h.turn >= len(work) {
		h.turn = 0
	}
	full := false
	for i := range work {
		at := (h.turn + i) % len(work)
		w := &work[at]
		key := webhookKey{w.Merchant, w.ID}
		active[key] = true
		mine, held := h.s.nodes.owns(string(w.Merchant)), w.Holder == h.s.nodes.self
		r := h.runs[key]
		switch {
		case r != nil && mine:
			r.latest.Store(w)
		case r != nil:
			r.stop()
		case mine && (!w.due(h.s.clock.Now()) || !held && w.Holder != "" && h.s.nodes.isAlive(w.Holder)):
		case !mine && !held:
		case len(h.runs) >= webhookRuns:
			if !full {
				// Who had to wait is first the next time.
				h.turn, full = at, true
			}
		default:
			h.runs[key] = h.begin(ctx, w, mine)
			h.served[key]++
		}
	}
	for key, r := range h.runs {
		if !active[key] {
			r.stop()
		}
	}
}

// due reports whether there may be something to send.
func (w WebhookWork) due(now time.Time) bool {
	if w.ResumeAt.After(now) {
		return false
	}
	return w.Head > w.Cursor || !w.RetryAt.IsZero() && !w.RetryAt.After(now)
}

// begin starts a run that serves an endpoint, or else gives it up to other nodes.
func (h *webhooks) begin(ctx context.Context, w *WebhookWork, serve bool) *webhookRun {
	ctx, stop := context.WithCancel(ctx)
	forget := context.AfterFunc(h.sure, stop)
	r := newWebhookRun(h, w, stop)
	go func() {
		defer close(r.ended)
		defer stop()
		defer forget()
		if serve {
			r.fault = r.serve(ctx)
		} else if err := h.s.store.ReleaseWebhook(ctx, w.Merchant, w.ID, h.s.nodes.self); ctx.Err() == nil {
			r.fault = err
		}
	}()
	return r
}

// prune keeps the logs of endpoints short: those that were served every minute, and
// those of all this node's merchants every hour.
func (h *webhooks) prune(ctx context.Context) {
	if h.ticking++; time.Duration(h.ticking)*webhookPoll < webhookPrune {
		return
	}
	h.ticking = 0
	if h.minutes++; time.Duration(h.minutes)*webhookPrune >= time.Hour {
		h.minutes = 0
		merchants, err := h.s.store.Merchants(ctx)
		if err != nil {
			return // The next hour will do.
		}
		for _, m := range merchants {
			if !h.s.nodes.owns(string(m.ID)) {
				continue
			}
			list, err := h.s.store.Webhooks(ctx, m.ID)
			if err != nil {
				return
			}
			for _, w := range list {
				h.served[webhookKey{m.ID, w.ID}]++
			}
		}
	}
	now := h.s.now()
	for key := range h.served {
		for more := true; more && ctx.Err() == nil; {
			var err error
			more, err = h.s.store.PruneWebhook(ctx, key.merchant, key.id, now.Add(-webhookLogKept), webhookLogLines, now.Add(-webhookGivenKept), pruneBatch)
			if ctx.Err() == nil {
				h.complain(key, err, "cannot prune the log of a webhook")
			}
		}
	}
	clear(h.served)
}
