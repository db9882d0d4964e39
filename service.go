package grahak

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Caller is who asks: an authenticated API key, or an operator. Every use case
// takes one and decides by it, so no edge can forget to.
type Caller struct {
	// Merchant is whose data the caller may touch.
	Merchant MerchantID
	// Actor is written into events: a key's id, or "cli:" and a user name.
	Actor string
	// Scope is what the caller may do.
	Scope Scope
	// RequestID joins the caller's events to the request log; may be empty.
	RequestID string
}

// may returns a [CodeInsufficientScope] error unless the caller's scope covers
// scope; and a [CodeMerchantNotFound] error where that is about the customers of
// [OperatorsMerchant].
func (c Caller) may(scope Scope) error {
	if c.Scope != scope && !c.Scope.covers(scope) {
		return &Error{Code: CodeInsufficientScope, Message: "The caller's scope does not cover this."}
	}
	if scope == ScopeRead || scope == ScopeWrite {
		return c.ofMerchant()
	}
	return nil
}

// ofMerchant returns a [CodeMerchantNotFound] error for a caller at
// [OperatorsMerchant], who has neither customers nor keys.
func (c Caller) ofMerchant() error {
	if c.Merchant == OperatorsMerchant {
		return Errorf(CodeMerchantNotFound, "%s is no merchant: operators are kept there.", OperatorsMerchant)
	}
	return nil
}

// mayAdminister returns an error unless the caller may change how its merchant is
// reached: keys, the IP list, webhooks.
func (c Caller) mayAdminister() error {
	if err := c.may(scopeAdmin); err != nil {
		return err
	}
	return c.ofMerchant()
}

// mayManageOperators returns an error unless the caller is the command line at work on
// all merchants.
func (c Caller) mayManageOperators() error {
	if c.Merchant != OperatorsMerchant {
		return &Error{Code: CodeInsufficientScope, Message: "Operators are managed at all merchants or not at all."}
	}
	return c.may(scopeOperator)
}

// mayManageTeam returns an error unless the caller may give roles at its merchant:
// owners may, and at all merchants the command line.
func (c Caller) mayManageTeam() error {
	if c.Merchant == OperatorsMerchant {
		return c.may(scopeOperator)
	}
	return c.may(scopeOwner)
}

// Config is what a [Service] is made of. Store and Sealer are required.
type Config struct {
	Store  Store
	Sealer Sealer
	// Environment marks the API keys that the service makes; default Sandbox.
	Environment Environment
	// CountryCode is the mobile country code of customers made without one,
	// 1–4 digits; default "91" (wire.md §3).
	CountryCode string
	// IdempotencyKeep is how long an idempotency key has an effect; default
	// [DefaultIdempotencyKeep].
	IdempotencyKeep time.Duration
	// Clock tells the time; default [SystemClock].
	Clock Clock
	// Random is a cryptographic source of ids, keys and tokens, safe for
	// concurrent use; default [rand.Reader].
	Random io.Reader
	// EventsCatchUp is how old an event may be for a merchant to read it; default
	// [DefaultEventsCatchUp].
	EventsCatchUp time.Duration
	// EventsKeep is how old an event may get before it is pruned, at least
	// [MinEventsKeep] and EventsCatchUp; default [DefaultEventsKeep].
	EventsKeep time.Duration
	// Logger receives the faults of background work; default [slog.Default].
	Logger *slog.Logger
	// Limits bounds what is answered; the zero value bounds nothing.
	Limits Limits
	// Limited is called for every request that a limit refuses, by the
	// request's goroutine; default nothing.
	Limited func(LimitKind)
	// Courier carries events to the merchants' endpoints; without one [Service.Run]
	// sends none.
	Courier Courier
	// Requests keeps the request log; without it there is none. RequestsKeep is for how
	// long, default [DefaultRequestsKeep], and RequestsSize how much of it in bytes,
	// default [DefaultRequestsSize].
	Requests     RequestStore
	RequestsKeep time.Duration
	RequestsSize int64
	// Deliveries is told of each attempt to deliver an event; may be nil.
	Deliveries DeliveryObserver
}

// DeliveryObserver is told of attempts to deliver events. Safe for concurrent use.
type DeliveryObserver interface {
	// Delivery is called with [WebhookOutcome.String] and how long it took.
	Delivery(outcome string, took time.Duration)
}

// Service is the use cases. It is safe for concurrent use. Unless a method
// says otherwise it returns *[Error] for what a caller can act on and any other
// error for a fault of ours.
type Service struct {
	store       Store
	sealer      Sealer
	environment Environment
	countryCode string
	clock       Clock
	random      io.Reader
	log         *slog.Logger
	access      *accessCache
	limits      *limits
	nodes       *nodes
	running     running
	webhooks    *webhooks
	requests    *requestLog
	logins      *logins
	maxScan     int // but for tests the constant
	catchUp     time.Duration
	keep        time.Duration
	pruned      atomic.Int64 // events, by this process

	idempotencyKeep time.Duration
	imports         importTurns

	customerTicks, keyTicks, eventTicks, webhookTicks ticks
}

// NewService returns a Service, or an error that says what cfg lacks.
func NewService(cfg Config) (_ *Service, err error) {
	if cfg.Store == nil || cfg.Sealer == nil {
		return nil, errors.New("grahak: a service needs a Store and a Sealer")
	}
	s := &Service{
		store:       cfg.Store,
		sealer:      cfg.Sealer,
		environment: cfg.Environment,
		countryCode: cfg.CountryCode,
		clock:       cfg.Clock,
		random:      cfg.Random,
		log:         cfg.Logger,
		maxScan:     maxScan,
		catchUp:     cmp.Or(cfg.EventsCatchUp, DefaultEventsCatchUp),
		keep:        cmp.Or(cfg.EventsKeep, DefaultEventsKeep),

		idempotencyKeep: cfg.IdempotencyKeep,
	}
	if s.idempotencyKeep == 0 {
		s.idempotencyKeep = DefaultIdempotencyKeep
	}
	if s.environment == "" {
		s.environment = Sandbox
	}
	if s.countryCode == "" {
		s.countryCode = "91"
	}
	if !validDigits(s.countryCode, MaxCountryCode) {
		return nil, Errorf(CodeInvalidField, "The default country code %q is not valid: it has 1 to %d digits.", s.countryCode, MaxCountryCode)
	}
	if s.catchUp < 0 || s.keep < max(MinEventsKeep, s.catchUp) {
		return nil, fmt.Errorf("grahak: events cannot be shown for %s and kept for %s", s.catchUp, s.keep)
	}
	if s.clock == nil {
		s.clock = SystemClock{}
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.nodes, err = newNodes(s.store, s.random); err != nil {
		return nil, err
	}
	if s.limits, err = newLimits(cfg.Limits, cfg.Limited, s.clock.Now()); err != nil {
		return nil, err
	}
	s.access = newAccessCache(s.store, s.clock, s.sealer.Forget)
	s.logins = newLogins()
	s.webhooks = newWebhooks(s, cfg.Courier, cfg.Deliveries)
	s.requests = newRequestLog(s, cfg)
	return s, nil
}

const (
	versionPoll   = 500 * time.Millisecond
	touchInterval = 10 * time.Second
	pruneInterval = 10 * time.Second
	pruneBatch    = 500
)

// Run does the service's background work until ctx ends: it notices changes
// that other processes make to keys, IP lists, merchants and keysets, writes when
// keys were last used, deletes expired tokens, puts events into their chains, seals
// customers anew after a rotation, prunes old events and sends events to endpoints;
// the last five are shared among the nodes on a store. It flushes before it
// returns.
func (s *Service) Run(ctx context.Context) {
	var beating, work sync.WaitGroup
	defer beating.Wait()
	// Other nodes are told that this one leaves once it does nothing any more.
	alive, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	defer work.Wait()
	beating.Go(func() { s.nodes.run(alive, s.log, s.needKeys) })
	work.Go(func() { s.webhooks.run(ctx) })
	work.Go(func() { s.requests.run(ctx) })
	work.Go(func() { s.housekeeping(ctx) })
	work.Go(func() { s.repeat(ctx, orderInterval, "cannot put events in order; it will be tried again", s.order) })
	work.Go(func() {
		s.repeat(ctx, resealInterval, "cannot seal customers under the new key; it will be tried again", s.reseal)
	})
	work.Go(func() {
		s.repeat(ctx, pruneEventsInterval, "cannot prune old events; it will be tried again", s.pruneEvents)
	})
	work.Go(func() {
		s.repeat(ctx, requestPruneInterval, "cannot prune the request log; it will be tried again", s.pruneRequests)
	})
}

// repeat does work at intervals until ctx ends, and at once where there is more
// of it. A fault that lasts is logged once, and then once a minute.
func (s *Service) repeat(ctx context.Context, interval time.Duration, trouble string, work func(context.Context) (more bool, err error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var told time.Time
	for more := false; ; {
		if !more {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		var err error
		more, err = work(ctx)
		more = more && ctx.Err() == nil
		now := s.clock.Now()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			told = time.Time{}
		case told.IsZero() || now.Sub(told) >= time.Minute:
			s.log.Error(trouble, "error", err)
			told = now
		}
	}
}

// needKeys returns an error if the merchant's keys cannot be had, without which work
// in the background would be in vain.
func (s *Service) needKeys(ctx context.Context, m MerchantID) error {
	_, err := s.sealer.Index(ctx, m, IndexChain, "")
	if CodeOf(err) == CodeUnavailable {
		s.nodes.lack(m)
	}
	return err
}

func (s *Service) housekeeping(ctx context.Context) {
	poll := time.NewTicker(versionPoll)
	defer poll.Stop()
	touch := time.NewTicker(touchInterval)
	defer touch.Stop()
	prune := time.NewTicker(pruneInterval)
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			s.flushTouches(flush)
			return
		case <-poll.C:
			if err := s.access.refresh(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("cannot read the store's access version", "error", err)
			}
		case <-touch.C:
			// If the write were given up because ctx ends, what it took from
			// memory would be lost.
			s.flushTouches(context.WithoutCancel(ctx))
		case <-prune.C:
			if s.nodes.owns("tokens") {
				s.prune(ctx, "tokens", s.store.PruneTokens)
			}
			if s.nodes.owns("idempotency keys") {
				s.prune(ctx, "idempotency keys", s.store.PruneIdempotency)
			}
			if s.nodes.owns("sessions") {
				s.prune(ctx, "sessions", s.store.PruneOperators)
			}
		}
	}
}

func (s *Service) flushTouches(ctx context.Context) {
	used := s.access.takeTouched()
	if len(used) == 0 {
		return
	}
	if err := s.store.TouchKeys(ctx, used); err != nil {
		s.log.Error("cannot write when keys were last used", "error", err)
	}
}

// prune deletes what has expired in batches, so that the deletion of many never
// holds the store's writer for long.
func (s *Service) prune(ctx context.Context, what string, batch func(context.Context, time.Time, int) (int, error)) {
	for ctx.Err() == nil {
		n, err := batch(ctx, s.clock.Now(), pruneBatch)
		if err != nil {
			s.log.Error("cannot delete expired "+what, "error", err)
			return
		}
		if n < pruneBatch {
			return
		}
	}
}

// Ready returns nil if the service can answer requests now.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ping(ctx) }

// event returns an event of the given type, made now by c.
func (s *Service) event(c Caller, t EventType, subject string, at time.Time) (Event, error) {
	id, err := newID("evt_", s.eventTicks.at(at), s.random)
	return Event{ID: EventID(id), Type: t, Subject: subject, Actor: c.Actor, RequestID: c.RequestID, At: at}, err
}
