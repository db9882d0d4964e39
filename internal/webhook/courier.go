// Package webhook carries events to the endpoints of merchants: as Standard
// Webhooks has it (https://www.standardwebhooks.com), and to no address that lies
// inside a network unless that was allowed by name.
package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"grahak"
)

const (
	// timeout bounds an attempt, from the look-up of the name to the answer's header.
	timeout = 15 * time.Second
	// maxAnswer is how much of an answer is read, and of its header, in bytes.
	maxAnswer = 16 << 10
	// maxRetryAfter bounds for how long a receiver can ask to be left alone.
	maxRetryAfter = 24 * time.Hour
)

// Config is what a [Courier] is made of.
type Config struct {
	// Names and Networks may be sent to although they are private. Names are in small
	// letters.
	Names    []string
	Networks []netip.Prefix
	// Version is shown to receivers.
	Version string
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// Resolver looks up names; default [net.DefaultResolver].
	Resolver *net.Resolver
	// RootCAs are who may sign the receivers' certificates; default the system's.
	RootCAs *x509.CertPool
}

// Courier implements [grahak.Courier] over HTTP. It uses no proxy, follows no
// redirect, and keeps few connections. Safe for concurrent use.
type Courier struct {
	client *http.Client
	clock  grahak.Clock
	agent  string
}

var _ grahak.Courier = (*Courier)(nil)

// New returns a Courier.
func New(cfg Config) *Courier {
	g := newGuard(cfg.Names, cfg.Networks, cfg.Resolver)
	if cfg.Clock == nil {
		cfg.Clock = grahak.SystemClock{}
	}
	return &Courier{
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				DialContext:            g.dial,
				ForceAttemptHTTP2:      true,
				DisableCompression:     true,
				MaxIdleConns:           256,
				MaxIdleConnsPerHost:    8,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: maxAnswer,
				TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		clock: cfg.Clock,
		agent: "grahak/" + cfg.Version,
	}
}

// Deliver implements [grahak.Courier]. An answer counts once its header is there,
// whatever becomes of its body.
func (c *Courier) Deliver(ctx context.Context, m grahak.WebhookMessage) (outcome grahak.WebhookOutcome) {
	// A duration needs a clock that nobody sets.
	began := c.clock.Now()
	defer func() { outcome.Took = max(0, c.clock.Now().Sub(began)) }()
	message, err := c.Request(m)
	if err != nil {
		return grahak.WebhookOutcome{Failure: grahak.WebhookBroken}
	}
	request, err := http.NewRequestWithContext(ctx, message.Method, message.URL, strings.NewReader(message.Body))
	if err != nil {
		return grahak.WebhookOutcome{Failure: grahak.WebhookNoName}
	}
	for _, h := range message.Header {
		request.Header[h.Name] = []string{h.Value}
	}
	request.Header["Webhook-Signature"] = []string{signatures(m.Secrets, string(m.Event.ID), timestamp(m), []byte(message.Body))}
	answer, err := c.client.Do(request)
	if err != nil {
		return grahak.WebhookOutcome{Failure: failure(ctx, err)}
	}
	defer func() { _ = answer.Body.Close() }()
	return grahak.WebhookOutcome{
		Status: answer.StatusCode, RetryAfter: c.retryAfter(answer.Header.Get("Retry-After")), Answer: beginning(answer.Body),
	}
}

// beginning reads a body up to maxAnswer and returns the beginning of it that is shown.
func beginning(body io.Reader) string {
	raw := make([]byte, grahak.MaxWebhookAnswer)
	n, err := io.ReadFull(body, raw)
	if err == nil {
		_, _ = io.CopyN(io.Discard, body, maxAnswer-grahak.MaxWebhookAnswer)
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, string(raw[:n]))
}

// Request implements [grahak.Courier].
func (c *Courier) Request(m grahak.WebhookMessage) (grahak.WebhookRequest, error) {
	body, err := appendBody(nil, m.Event)
	return grahak.WebhookRequest{
		Method: http.MethodPost,
		URL:    m.URL,
		Header: []grahak.WebhookHeader{
			{Name: "Webhook-Id", Value: string(m.Event.ID)},
			{Name: "Webhook-Timestamp", Value: timestamp(m)},
			{Name: "Content-Type", Value: "application/json"},
			{Name: "User-Agent", Value: c.agent},
		},
		Body: string(body),
	}, err
}

// timestamp is when a message is sent, as its header has it.
func timestamp(m grahak.WebhookMessage) string { return strconv.FormatInt(m.At.Unix(), 10) }

// retryAfter is the header of that name, in seconds or as a date; 0 for what is
// neither, or lies in the past.
func (c *Courier) retryAfter(value string) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(c.clock.Now())), maxRetryAfter)
}

// failure is err in a word. Its text may show the URL.
func failure(ctx context.Context, err error) grahak.WebhookFailure {
	var (
		noName *net.DNSError
		dial   *net.OpError
		record tls.RecordHeaderError
		alert  tls.AlertError
		cert   *tls.CertificateVerificationError
		wait   interface{ Timeout() bool }
	)
	switch {
	case ctx.Err() != nil:
		return grahak.WebhookAborted
	case errors.Is(err, errForbidden):
		return grahak.WebhookForbidden
	case errors.As(err, &wait) && wait.Timeout():
		return grahak.WebhookTimeout
	case errors.As(err, &noName):
		return grahak.WebhookNoName
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &cert), errors.Is(err, http.ErrSchemeMismatch):
		return grahak.WebhookTLS
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		return grahak.WebhookNoConn
	}
	return grahak.WebhookBroken
}
