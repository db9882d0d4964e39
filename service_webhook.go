package grahak

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"time"
)

// CreateWebhook makes an endpoint, to which the events from now on are sent, and
// returns it with its secret, which is not stored and not shown again. Codes:
// [CodeInvalidWebhook], [CodeWebhooksFull], [CodeMerchantNotFound].
func (s *Service) CreateWebhook(ctx context.Context, c Caller, spec WebhookSpec) (Webhook, string, error) {
	if err := c.mayAdminister(); err != nil {
		return Webhook{}, "", err
	}
	if err := spec.check(s.environment); err != nil {
		return Webhook{}, "", err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return Webhook{}, "", err
	}
	now := s.now()
	id, err := newID("whe_", s.webhookTicks.at(now), s.random)
	if err != nil {
		return Webhook{}, "", err
	}
	w := Webhook{
		ID: WebhookID(id), Merchant: c.Merchant, URL: spec.URL, Types: webhookTypes(spec.Types), Label: spec.Label, CreatedAt: now, SecretVersion: 1,
	}
	secret, err := s.webhookSecret(ctx, c.Merchant, w.ID, w.SecretVersion)
	if err != nil {
		return Webhook{}, "", err
	}
	// What happened until now has its position before the endpoint's.
	if err := s.orderEvents(ctx, c.Merchant); err != nil {
		return Webhook{}, "", err
	}
	return w, secretText(secret), s.change(c, EventWebhookCreated, id, now, func(e Event) error {
		return s.store.CreateWebhook(ctx, c.Merchant, w, e)
	})
}

// Webhooks returns the merchant's endpoints, oldest first. Code:
// [CodeMerchantNotFound].
func (s *Service) Webhooks(ctx context.Context, c Caller) ([]Webhook, error) {
	if err := c.may(scopeViewer); err != nil {
		return nil, err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return nil, err
	}
	return s.store.Webhooks(ctx, c.Merchant)
}

// DisableWebhook lets nothing be sent to an endpoint any more. It does nothing to
// one that is disabled. Code: [CodeWebhookNotFound].
func (s *Service) DisableWebhook(ctx context.Context, c Caller, id WebhookID) error {
	now := s.now()
	return s.change(c, EventWebhookDisabled, string(id), now, func(e Event) error {
		return s.store.DisableWebhook(ctx, c.Merchant, id, now, e)
	})
}

// EnableWebhook lets events be sent to a disabled endpoint again, from the first
// that was not delivered before. It does nothing to one that is not disabled.
// Codes: [CodeWebhookNotFound], [CodeWebhooksFull].
func (s *Service) EnableWebhook(ctx context.Context, c Caller, id WebhookID) error {
	return s.change(c, EventWebhookEnabled, string(id), s.now(), func(e Event) error {
		return s.store.EnableWebhook(ctx, c.Merchant, id, e)
	})
}

// RotateWebhookSecret gives an endpoint a new secret and returns it. The one before
// signs as well until overlap is over; an older one stops at once. Codes:
// [CodeInvalidWebhook] for a negative overlap, [CodeWebhookNotFound].
func (s *Service) RotateWebhookSecret(ctx context.Context, c Caller, id WebhookID, overlap time.Duration) (Webhook, string, error) {
	if overlap < 0 {
		return Webhook{}, "", Errorf(CodeInvalidWebhook, "The overlap cannot be negative.")
	}
	for {
		w, err := s.webhook(ctx, c, id)
		if err != nil {
			return w, "", err
		}
		secret, err := s.webhookSecret(ctx, c.Merchant, id, w.SecretVersion+1)
		if err != nil {
			return w, "", err
		}
		now := s.now()
		rotated := false
		err = s.change(c, EventWebhookSecretRotated, string(id), now, func(e Event) error {
			rotated, err = s.store.RotateWebhookSecret(ctx, c.Merchant, id, w.SecretVersion, now.Add(overlap), e)
			return err
		})
		if err != nil {
			return w, "", err
		}
		// Somebody else may have rotated it meanwhile, who was shown this secret.
		if rotated {
			w.SecretVersion, w.PreviousUntil = w.SecretVersion+1, now.Add(overlap)
			return w, secretText(secret), nil
		}
	}
}

// TestWebhook sends an event of the type [EventWebhookTest] to an endpoint, be it
// disabled, and returns what came of it, which is not noted: only that it was asked
// for, before it is sent. A nil courier is the service's own. Code:
// [CodeWebhookNotFound].
func (s *Service) TestWebhook(ctx context.Context, c Caller, id WebhookID, courier Courier) (WebhookOutcome, error) {
	w, err := s.webhook(ctx, c, id)
	if err != nil {
		return WebhookOutcome{}, err
	}
	now := s.now()
	secrets, err := s.webhookSecrets(ctx, w, now)
	if err != nil {
		return WebhookOutcome{}, err
	}
	e, err := s.event(c, EventWebhookTest, string(id), now)
	if err != nil {
		return WebhookOutcome{}, err
	}
	if courier, err = s.courier(courier); err != nil {
		return WebhookOutcome{}, err
	}
	tested, err := s.event(c, EventWebhookTested, string(id), now)
	if err != nil {
		return WebhookOutcome{}, err
	}
	if err := s.store.RecordEvent(ctx, c.Merchant, tested); err != nil {
		return WebhookOutcome{}, err
	}
	outcome := courier.Deliver(ctx, WebhookMessage{URL: w.URL, Event: e, At: now, Secrets: secrets})
	return outcome, ctx.Err()
}

// WebhookReplay says which events to send again: one, those between two positions,
// both included, or those that were given up.
type WebhookReplay struct {
	Event    EventID
	From, To int64
	GivenUp  bool
}

// ReplayWebhook has events sent to an endpoint again that it was sent before, or
// that are older than it is, and returns how many. Events that it does not
// subscribe to are passed over. Codes: [CodeInvalidWebhook] for a range that is
// empty or of more than [MaxReplay] positions, and for an event that there is not or
// that has yet to be sent; [CodeWebhookNotFound]; [CodeWebhookDisabled].
func (s *Service) ReplayWebhook(ctx context.Context, c Caller, id WebhookID, r WebhookReplay) (int, error) {
	w, err := s.webhook(ctx, c, id)
	if err != nil {
		return 0, err
	}
	switch {
	case r.GivenUp:
		r.From, r.To = 1, w.Cursor
	case r.Event != "":
		if r.From, err = s.findEvent(ctx, c.Merchant, r.Event); err != nil {
			return 0, err
		}
		r.To = r.From
		if r.From > w.Cursor {
			return 0, Errorf(CodeInvalidWebhook, "The event %s has yet to be sent to this webhook for the first time.", r.Event)
		}
	case r.From < 1 || r.To < r.From:
		return 0, Errorf(CodeInvalidWebhook, "The positions %d to %d are no range: the first position is 1, and the last is not before the first.", r.From, r.To)
	case r.To-r.From >= MaxReplay:
		return 0, Errorf(CodeInvalidWebhook, "The positions %d to %d are too many at once: replay at most %d, and the next when those are delivered.", r.From, r.To, MaxReplay)
	}
	e, err := s.event(c, EventWebhookReplayed, string(id), s.now())
	if err != nil {
		return 0, err
	}
	return s.store.ReplayWebhook(ctx, c.Merchant, id, r.From, r.To, r.GivenUp, e)
}

// findEvent returns the position of an event in the merchant's chain. Events are
// nearly in the order of their ids, so that one is near where a search for it ends.
func (s *Service) findEvent(ctx context.Context, m MerchantID, id EventID) (int64, error) {
	const near = 4096
	head, err := s.store.ChainHead(ctx, m)
	if err != nil {
		return 0, err
	}
	low, high := int64(0), head.Position
	for low < high {
		middle := low + (high-low)/2
		next, err := s.store.Events(ctx, m, middle, 1)
		if err != nil {
			return 0, err
		}
		if len(next) > 0 && next[0].ID < id {
			low = middle + 1
		} else {
			high = middle
		}
	}
	around, err := s.store.Events(ctx, m, max(0, low-near), 2*near)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(around, func(e Event) bool { return e.ID == id && e.Position <= head.Position })
	if i < 0 {
		return 0, Errorf(CodeInvalidWebhook, "The merchant has no event %s, or it is too new or no longer kept: see `grahak audit events`.", id)
	}
	return around[i].Position, nil
}

// WebhookLog returns at most limit attempts to deliver events to an endpoint, or
// only those that failed, newest first. Code: [CodeWebhookNotFound].
func (s *Service) WebhookLog(ctx context.Context, c Caller, id WebhookID, failed bool, limit int) ([]WebhookAttempt, error) {
	if err := c.may(scopeViewer); err != nil {
		return nil, err
	}
	if _, err := s.store.Webhook(ctx, c.Merchant, id); err != nil {
		return nil, err
	}
	return s.store.WebhookLog(ctx, c.Merchant, id, failed, limit)
}

// webhook returns an endpoint that the caller may change.
func (s *Service) webhook(ctx context.Context, c Caller, id WebhookID) (Webhook, error) {
	if err := c.mayAdminister(); err != nil {
		return Webhook{}, err
	}
	return s.store.Webhook(ctx, c.Merchant, id)
}

// secretText is how receivers know a secret, as the specification has it.
func secretText(secret []byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(secret)
}

// webhookSecret returns a version of an endpoint's secret, 32 bytes that only the
// merchant's key makes, so that none need be stored.
func (s *Service) webhookSecret(ctx context.Context, m MerchantID, id WebhookID, version int64) (secret []byte, err error) {
	for _, half := range []string{"/1", "/2"} {
		index, err := s.sealer.Index(ctx, m, IndexWebhook, string(id)+"/"+strconv.FormatInt(version, 10)+half)
		if err != nil {
			return nil, err
		}
		secret = append(secret, index[:]...)
	}
	return secret, nil
}

// webhookSecrets returns what signs messages to an endpoint now, the newest first.
func (s *Service) webhookSecrets(ctx context.Context, w Webhook, now time.Time) (list [][]byte, err error) {
	versions := []int64{w.SecretVersion}
	if w.PreviousUntil.After(now) {
		versions = append(versions, w.SecretVersion-1)
	}
	for _, version := range versions {
		secret, err := s.webhookSecret(ctx, w.Merchant, w.ID, version)
		if err != nil {
			return nil, err
		}
		list = append(list, secret)
	}
	return list, nil
}
