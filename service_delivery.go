package grahak

import (
	"context"
	"errors"
	"slices"
)

// WebhookHeader is a header of a message to an endpoint.
type WebhookHeader struct{ Name, Value string }

// WebhookRequest is a message as it is sent, but for its signature.
type WebhookRequest struct {
	Method string
	URL    string
	Header []WebhookHeader
	Body   string
}

// WebhookDelivery is what is known of an event's delivery to an endpoint.
type WebhookDelivery struct {
	Webhook Webhook
	Event   Event
	// Request is made again, as it was sent at the last attempt. It has the endpoint's
	// URL of now.
	Request WebhookRequest
	// Attempts is those among the endpoint's newest lines of the log that are of the
	// event, newest first. Of those that this process made lately they have the answer.
	Attempts []WebhookAttempt
}

// deliveryLines is how many lines of the log are searched for the attempts of an event.
const deliveryLines = 2_000

// WebhookDelivery returns how the event at a position was delivered to an endpoint. What
// receivers answered is not stored but for its status, because it may hold personal data;
// those who may see that are shown what this process remembers. Viewers may. Codes:
// [CodeWebhookNotFound]; [CodeInvalidWebhook] if there is no such event any more, or it is
// none that the endpoint is sent; [CodeUnavailable] for a service without a [Courier].
func (s *Service) WebhookDelivery(ctx context.Context, c Caller, id WebhookID, position int64) (WebhookDelivery, error) {
	if err := c.may(scopeViewer); err != nil {
		return WebhookDelivery{}, err
	}
	w, err := s.store.Webhook(ctx, c.Merchant, id)
	if err != nil {
		return WebhookDelivery{}, err
	}
	events, err := s.store.Events(ctx, c.Merchant, position-1, 1)
	if err != nil {
		return WebhookDelivery{}, err
	}
	if len(events) == 0 || events[0].Position != position {
		return WebhookDelivery{}, Errorf(CodeInvalidWebhook, "The merchant has no event at the position %d, or it is no longer kept.", position)
	}
	if !slices.Contains(w.Types, events[0].Type) {
		return WebhookDelivery{}, Errorf(CodeInvalidWebhook, "The event at the position %d is of the type %s, which this webhook is never sent.", position, events[0].Type)
	}
	d := WebhookDelivery{Webhook: w, Event: events[0]}
	log, err := s.store.WebhookLog(ctx, c.Merchant, id, false, deliveryLines)
	if err != nil {
		return WebhookDelivery{}, err
	}
	for _, a := range log {
		if a.Position == position {
			d.Attempts = append(d.Attempts, a)
		}
	}
	if c.may(ScopeRead) == nil {
		s.webhooks.answers.fill(webhookKey{c.Merchant, id}, d.Attempts)
	}
	courier, err := s.courier(nil)
	if err != nil {
		return WebhookDelivery{}, err
	}
	m := WebhookMessage{URL: w.URL, Event: d.Event, At: s.now()}
	if len(d.Attempts) > 0 {
		m.At = d.Attempts[0].At
	}
	d.Request, err = courier.Request(m)
	return d, err
}

// courier returns given, or else the service's own.
func (s *Service) courier(given Courier) (Courier, error) {
	if given == nil {
		given = s.webhooks.courier
	}
	if given == nil {
		return nil, Unavailable("This process sends nothing to webhooks.", 0, errors.New("the service has no courier"))
	}
	return given, nil
}

// ChainPosition returns the position of the merchant's newest event that has one.
// Viewers may. Code: [CodeMerchantNotFound].
func (s *Service) ChainPosition(ctx context.Context, c Caller) (int64, error) {
	if err := c.may(scopeViewer); err != nil {
		return 0, err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return 0, err
	}
	head, err := s.store.ChainHead(ctx, c.Merchant)
	return head.Position, err
}
