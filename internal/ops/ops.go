// Package ops is the operations listener: health, metrics, profiles, and the
// check of client auth tokens for the platform's own services. It must never
// be reachable by merchants; it asks nobody who they are.
package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"
	"time"

	"grahak"
	"grahak/internal/web"
)

// Service is what the listener asks of the domain; [grahak.Service] is one.
type Service interface {
	Ready(ctx context.Context) error
	VerifyToken(ctx context.Context, token string) (grahak.TokenRecord, error)
}

// Config is what an [Edge] is made of; all are required.
type Config struct {
	Service Service
	// Ready reports why the server does not take requests now, nil if it does;
	// it is asked besides the service.
	Ready   func() error
	Metrics http.Handler
}

// Edge answers the operations listener. It implements [web.Edge] and is safe for
// concurrent use.
type Edge struct {
	cfg Config
	mux *http.ServeMux
	own map[string]func(*web.Exchange) error // by pattern; the mux serves the rest
}

// New returns the operations edge.
func New(cfg Config) *Edge {
	e := &Edge{cfg: cfg, mux: http.NewServeMux()}
	e.own = map[string]func(*web.Exchange) error{
		"GET /healthz":        e.health,
		"GET /readyz":         e.ready,
		"POST " + verifyRoute: e.verifyToken,
	}
	for pattern := range e.own {
		// The mux only finds them; Serve calls them.
		e.mux.Handle(pattern, http.NotFoundHandler())
	}
	e.mux.Handle("GET /metrics", cfg.Metrics)
	e.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	e.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	e.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	e.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	e.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return e
}

var _ web.Edge = (*Edge)(nil)

// verifyRoute is the one route that is not a matter of routine.
const verifyRoute = "/client-auth-tokens/verify"

// Serve implements [web.Edge].
func (e *Edge) Serve(x *web.Exchange) error {
	_, pattern := e.mux.Handler(x.Request)
	_, x.Route, _ = strings.Cut(pattern, " ")
	x.Quiet = x.Route != verifyRoute
	if answer := e.own[pattern]; answer != nil {
		return answer(x)
	}
	x.Delegate(e.mux)
	return nil
}

// Fail implements [web.Edge].
func (e *Edge) Fail(x *web.Exchange, err error) {
	code := grahak.CodeOf(err)
	x.Code = string(code)
	switch code {
	case codeMalformedBody:
		sendError(x, http.StatusBadRequest, code, "Send client_auth_token in a JSON object or a form.")
	case grahak.CodeTokenNotFound:
		sendError(x, http.StatusNotFound, code, "There is no such token, or it has expired.")
	case grahak.CodeUnavailable:
		x.RetryAfter(time.Second)
		sendError(x, http.StatusServiceUnavailable, code, "Temporarily unavailable.")
	default:
		sendError(x, http.StatusInternalServerError, grahak.CodeInternal, "Internal error; quote the x-request-id header to the operator.")
	}
}

// health answers that the process lives, whatever the state of its storage.
func (e *Edge) health(x *web.Exchange) error {
	return sendJSON(x, http.StatusOK, map[string]string{"status": "ok"})
}

const readyTimeout = 2 * time.Second

var errNoAnswer = fmt.Errorf("the storage has not answered for %v", readyTimeout)

// ready answers whether requests would be served now.
func (e *Edge) ready(x *web.Exchange) error {
	ctx, cancel := context.WithTimeout(x.Request.Context(), readyTimeout)
	defer cancel()
	err := e.cfg.Ready()
	if err == nil {
		// A store may take longer to give up on a database that does not answer.
		answered := make(chan error, 1)
		go func() { answered <- e.cfg.Service.Ready(ctx) }()
		select {
		case err = <-answered:
		case <-ctx.Done():
			err = errNoAnswer
		}
	}
	if err != nil {
		return sendJSON(x, http.StatusServiceUnavailable, map[string]string{"status": "unavailable", "reason": err.Error()})
	}
	return sendJSON(x, http.StatusOK, map[string]string{"status": "ready"})
}

const codeMalformedBody grahak.Code = "malformed_body"

// verifyToken answers what a client auth token names. The token comes as
// client_auth_token in a JSON object or a form, never in the URL, where it
// would be logged on the way.
func (e *Edge) verifyToken(x *web.Exchange) error {
	token, err := bodyToken(x)
	if err != nil {
		return err
	}
	record, err := e.cfg.Service.VerifyToken(x.Request.Context(), token)
	if err != nil {
		return err
	}
	x.Merchant, x.Customer = record.Merchant, record.Customer
	return sendJSON(x, http.StatusOK, struct {
		Merchant  grahak.MerchantID `json:"merchant_id"`
		Customer  grahak.CustomerID `json:"customer_id"`
		ExpiresAt string            `json:"client_auth_token_expiry"`
	}{record.Merchant, record.Customer, record.ExpiresAt.UTC().Format(time.RFC3339)})
}

// maxTokenBody bounds the body of a token check, in bytes.
const maxTokenBody = 4 << 10

// bodyToken returns the token in the body.
func bodyToken(x *web.Exchange) (string, error) {
	malformed := &grahak.Error{Code: codeMalformedBody}
	raw, err := x.ReadBody(maxTokenBody)
	if err != nil {
		return "", malformed
	}
	var body struct {
		Token string `json:"client_auth_token"`
	}
	media := "application/x-www-form-urlencoded"
	if given := x.Request.Header.Get("Content-Type"); given != "" {
		if media, _, err = mime.ParseMediaType(given); err != nil {
			return "", malformed
		}
	}
	switch media {
	case "application/json":
		err = json.Unmarshal(raw, &body)
	case "application/x-www-form-urlencoded":
		var form url.Values
		form, err = url.ParseQuery(string(raw))
		body.Token = form.Get("client_auth_token")
	}
	if err != nil || body.Token == "" {
		return "", malformed
	}
	return body.Token, nil
}

func sendJSON(x *web.Exchange, status int, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	x.JSON(status, append(raw, '\n'))
	return nil
}

func sendError(x *web.Exchange, status int, code grahak.Code, message string) {
	// A map of strings always has a JSON form.
	_ = sendJSON(x, status, map[string]string{"error_code": string(code), "error_message": message})
}

var _ Service = (*grahak.Service)(nil)
