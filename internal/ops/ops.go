// Package ops is the operations listener: health, metrics, profiles, and the
// check of client auth tokens for the platform's own services. It must never
// be reachable by merchants; it asks nobody who they are.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/http/pprof"
	"net/url"
	"time"

	"grahak"
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
	// Logger is told of faults of ours.
	Logger *slog.Logger
}

// Edge answers the operations listener. It implements [http.Handler] and is
// safe for concurrent use.
type Edge struct {
	cfg Config
	mux *http.ServeMux
}

// New returns the operations edge.
func New(cfg Config) *Edge {
	e := &Edge{cfg: cfg, mux: http.NewServeMux()}
	e.mux.HandleFunc("GET /healthz", e.health)
	e.mux.HandleFunc("GET /readyz", e.ready)
	e.mux.Handle("GET /metrics", cfg.Metrics)
	e.mux.HandleFunc("POST /client-auth-tokens/verify", e.verifyToken)
	e.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	e.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	e.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	e.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	e.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return e
}

// ServeHTTP implements [http.Handler].
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// health answers that the process lives, whatever the state of its storage.
func (e *Edge) health(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, map[string]string{"status": "ok"})
}

const readyTimeout = 2 * time.Second

// ready answers whether requests would be served now.
func (e *Edge) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	err := e.cfg.Ready()
	if err == nil {
		err = e.cfg.Service.Ready(ctx)
	}
	if err != nil {
		send(w, http.StatusServiceUnavailable, map[string]string{"status": "unavailable", "reason": err.Error()})
		return
	}
	send(w, http.StatusOK, map[string]string{"status": "ready"})
}

// maxTokenBody bounds the body of a token check, in bytes.
const maxTokenBody = 4 << 10

// verifyToken answers what a client auth token names. The token comes as
// client_auth_token in a JSON object or a form, never in the URL, where it
// would be logged on the way.
func (e *Edge) verifyToken(w http.ResponseWriter, r *http.Request) {
	token, ok := bodyToken(w, r)
	if !ok {
		sendError(w, http.StatusBadRequest, "malformed_body", "Send client_auth_token in a JSON object or a form.")
		return
	}
	record, err := e.cfg.Service.VerifyToken(r.Context(), token)
	var known *grahak.Error
	switch {
	case err == nil:
		send(w, http.StatusOK, struct {
			Merchant  grahak.MerchantID `json:"merchant_id"`
			Customer  grahak.CustomerID `json:"customer_id"`
			ExpiresAt string            `json:"client_auth_token_expiry"`
		}{record.Merchant, record.Customer, record.ExpiresAt.UTC().Format(time.RFC3339)})
	case !errors.As(err, &known):
		e.cfg.Logger.Error("cannot verify a client auth token", "error", err)
		sendError(w, http.StatusInternalServerError, string(grahak.CodeInternal), "Internal error; see the server's log.")
	case known.Code.Kind() == grahak.KindNotFound:
		sendError(w, http.StatusNotFound, string(known.Code), known.Message)
	default:
		w.Header().Set("Retry-After", "1")
		sendError(w, http.StatusServiceUnavailable, string(known.Code), known.Message)
	}
}

func bodyToken(w http.ResponseWriter, r *http.Request) (string, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenBody)
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && media == "application/json" {
		var body struct {
			Token string `json:"client_auth_token"`
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		return body.Token, err == nil && body.Token != ""
	}
	// Only the body counts: a token in the query has been logged already.
	r.URL.RawQuery = url.Values{}.Encode()
	if err := r.ParseForm(); err != nil {
		return "", false
	}
	token := r.PostForm.Get("client_auth_token")
	return token, token != ""
}

func sendError(w http.ResponseWriter, status int, code, message string) {
	send(w, status, map[string]string{"error_code": code, "error_message": message})
}

func send(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		http.Error(w, `{"error_code":"internal_error"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n'))
}

var _ Service = (*grahak.Service)(nil)
