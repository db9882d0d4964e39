package grahak

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"
)

// WebhookID names an endpoint that events are sent to.
type WebhookID string

// Bounds of webhooks.
const (
	// MaxWebhooks is how many endpoints that are not disabled a merchant may have.
	MaxWebhooks = 16
	// MaxWebhookURL is how many bytes the URL of one may have.
	MaxWebhookURL = 2048
	// MaxReplay is how many events can be asked for again at once.
	MaxReplay = 10_000
)

// WebhookTypes is the types of events that are sent to endpoints. No other is.
func WebhookTypes() []EventType {
	return []EventType{EventCustomerCreated, EventCustomerUpdated, EventCustomerErased}
}

// Webhook is an endpoint of a merchant: where events are sent, and how far that
// has come.
type Webhook struct {
	ID       WebhookID
	Merchant MerchantID
	URL      string
	// Types is what is sent, some of [WebhookTypes].
	Types     []EventType
	Label     string
	CreatedAt time.Time
	// DisabledAt is zero for an endpoint that events are sent to, and then
	// DisabledFor is empty.
	DisabledAt  time.Time
	DisabledFor WebhookEnd
	// SecretVersion counts the secrets that the endpoint has had, from 1. The one
	// before signs as well until PreviousUntil.
	SecretVersion int64
	PreviousUntil time.Time
	WebhookProgress

	// Holder is the node that sends to the endpoint, or was the last to, empty for
	// none; Term counts how often that has changed.
	Holder NodeID
	Term   int64
}

// WebhookProgress is how far the sending to an endpoint has come.
type WebhookProgress struct {
	// Cursor is the position up to which all events were handed out: what is not
	// delivered of them is among the endpoint's [WebhookRetry] rows.
	Cursor int64
	// Failures counts the new events, one after the other, whose delivery failed
	// since the last that succeeded, and from webhookDown on all attempts that did;
	// FailingSince is when the first did, zero for none.
	Failures     int64
	FailingSince time.Time
	// ResumeAt is when the next event may be sent, zero for at once.
	ResumeAt time.Time
}

// WebhookEnd says why an endpoint is disabled. The values are stored.
type WebhookEnd string

// Why endpoints are disabled.
const (
	WebhookEndOperator WebhookEnd = "operator" // by command
	WebhookEndGone     WebhookEnd = "gone"     // it answered 410
	WebhookEndFailing  WebhookEnd = "failing"  // for webhookPatience without any success
)

// WebhookWork is an endpoint that is not disabled, and what there may be to do.
type WebhookWork struct {
	Webhook
	// Head is the position that the merchant's chain has come to.
	Head int64
	// RetryAt is when the next failed delivery is due, zero for none.
	RetryAt time.Time
}

// WebhookRetry is an event that the cursor of an endpoint is past, or about to be,
// and that is not delivered there.
type WebhookRetry struct {
	// Event is without its Subject's revision, actor and request id, and has no Type
	// if there is no such event any more.
	Event Event
	// Attempts counts those that failed. It is 0 for an event that waits behind an
	// earlier one of the same customer, or whose first attempt takes long.
	Attempts int64
	// FirstAt is when the first attempt began, or the event came to wait.
	FirstAt time.Time
	// NextAt is when the customer's earliest event is to be tried again, zero for an
	// event that was given up.
	NextAt time.Time
}

// WebhookAttempt is one line of an endpoint's delivery log.
type WebhookAttempt struct {
	At       time.Time
	EventID  EventID
	Position int64
	Attempt  int64 // from 1
	WebhookOutcome
}

// WebhookOutcome is what came of an attempt to deliver an event.
type WebhookOutcome struct {
	// Status is the HTTP status of the answer, 0 for none.
	Status int
	// Failure is why there is none, or empty.
	Failure WebhookFailure
	Took    time.Duration
	// RetryAfter is for how long the receiver asked to be left alone, at most a
	// day; 0 for no such wish. It is not kept.
	RetryAfter time.Duration
	// Answer is the beginning of the answer's body, at most [MaxWebhookAnswer] bytes of
	// UTF-8 without control characters. It may hold personal data, and no store keeps it.
	Answer string
}

// Delivered reports whether the receiver took the event.
func (o WebhookOutcome) Delivered() bool { return o.Failure == "" && o.Status/100 == 2 }

// String is the outcome in a word or a number, as metrics and logs have it.
func (o WebhookOutcome) String() string {
	switch {
	case o.Failure != "":
		return string(o.Failure)
	case o.Delivered():
		return "delivered"
	case o.Status/100 == 3:
		return "redirect"
	}
	return "status"
}

// WebhookFailure says why an attempt got no answer. The values are stored.
type WebhookFailure string

// Why there is no answer.
const (
	WebhookForbidden WebhookFailure = "forbidden_address" // private, loopback and the like
	WebhookNoName    WebhookFailure = "no_such_host"
	WebhookNoConn    WebhookFailure = "no_connection"
	WebhookTLS       WebhookFailure = "tls"
	WebhookTimeout   WebhookFailure = "timeout"
	WebhookBroken    WebhookFailure = "connection_lost"
	WebhookAborted   WebhookFailure = "aborted" // by this process, and so no attempt
)

// WebhookMessage is what is sent to an endpoint.
type WebhookMessage struct {
	URL   string
	Event Event // [EventWebhookTest] or one of [WebhookTypes]
	At    time.Time
	// Secrets sign it, the newest first.
	Secrets [][]byte
}

// Courier carries messages to endpoints.
type Courier interface {
	// Deliver sends m and returns what came of it, after a bounded time. It follows
	// no redirect. If ctx ends before there is an answer, the outcome is
	// [WebhookAborted]. Safe for concurrent use.
	Deliver(ctx context.Context, m WebhookMessage) WebhookOutcome
	// Request returns m as Deliver sends it, without a signature.
	Request(m WebhookMessage) (WebhookRequest, error)
}

// WebhookSettlement is what came of deliveries to an endpoint since the last one.
type WebhookSettlement struct {
	WebhookProgress
	// Done is the events that have rows and need none any more.
	Done []int64
	// Retries is the rows to write, over what is there of them.
	Retries []WebhookRetry
	// NextAt is when the earliest event of a customer is to be tried again, whose
	// rows it is written into but for those that were given up.
	NextAt map[CustomerID]time.Time
	// Attempts is lines for the log.
	Attempts []WebhookAttempt
	// End disables the endpoint at EndAt, with EndEvent, unless it is empty.
	End      WebhookEnd
	EndAt    time.Time
	EndEvent Event
}

// WebhookSpec describes an endpoint to make.
type WebhookSpec struct {
	// URL begins with https:// or, in a sandbox, with http://.
	URL string
	// Types is what to send; none for all of [WebhookTypes].
	Types []EventType
	Label string
}

// check returns a [CodeInvalidWebhook] error for what is wrong with the endpoint.
func (spec WebhookSpec) check(env Environment) error {
	invalid := func(format string, args ...any) error { return Errorf(CodeInvalidWebhook, format, args...) }
	if !validText(spec.Label, MaxName) {
		return invalid("A webhook's label has at most %d characters and no control characters.", MaxName)
	}
	for _, t := range spec.Types {
		if !slices.Contains(WebhookTypes(), t) {
			return invalid("Events of the type %q are not sent: give customer.created, customer.updated or customer.erased.", string(t))
		}
	}
	if len(spec.URL) > MaxWebhookURL {
		return invalid("The URL has more than %d characters.", MaxWebhookURL)
	}
	u, err := url.Parse(spec.URL)
	switch {
	// What is wrong with it may be a password, so it is not repeated.
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return invalid("The URL is not one that events can be sent to: write it like https://hooks.example.com/grahak.")
	case u.User != nil:
		return invalid("The URL holds a user name or password, which would be sent nowhere: leave it out, and check the signature instead.")
	case strings.Contains(spec.URL, "#"):
		return invalid("The URL has a fragment, which is never sent: leave out what begins with #.")
	case u.Scheme == "http" && env == Production:
		return invalid("The URL begins with http://, so that anybody on the way could read and change what is sent: production needs https://.")
	}
	return nil
}

// webhookTypes returns types without repetitions and in a set order, all for none.
func webhookTypes(types []EventType) (list []EventType) {
	for _, t := range WebhookTypes() {
		if len(types) == 0 || slices.Contains(types, t) {
			list = append(list, t)
		}
	}
	return list
}
