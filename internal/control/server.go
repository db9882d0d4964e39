package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"grahak"
)

// The limits of a connection. A chunk may wait for those before it.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = time.Minute
	writeTimeout  = 2 * time.Minute
	idleTimeout   = 10 * time.Minute
)

// maxAtOnce is how many requests are answered at once; further ones wait.
const maxAtOnce = 8

// NewServer returns a server that does with s what commands ask for. It logs the
// beginning and the end of imports, and what fails.
func NewServer(s *grahak.Service, log *slog.Logger) *http.Server {
	h := &handler{service: s, log: log, turn: make(chan struct{}, maxAtOnce)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+version+"/import/state", handle(h, h.state))
	mux.HandleFunc("POST "+version+"/import/chunk", handle(h, h.chunk))
	mux.HandleFunc("POST "+version+"/import/check", handle(h, h.check))
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, checkKey{}, &check{})
		},
	}
}

type handler struct {
	service *grahak.Service
	log     *slog.Logger
	turn    chan struct{}
}

// checkKey is the key of a connection's check in the contexts of its requests.
type checkKey struct{}

// check is the dry run that goes on over a connection.
type check struct {
	mu   sync.Mutex
	who  who
	rule grahak.OnDuplicate
	run  *grahak.ImportCheck // nil before the first rows
}

// handle answers with what do makes of a request.
func handle[T interface{ valid() bool }](h *handler, do func(context.Context, T) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.turn <- struct{}{}:
			defer func() { <-h.turn }()
		case <-r.Context().Done():
			return
		}
		var request T
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request)
		if err != nil || !request.valid() {
			http.Error(w, "The request does not have the form that was agreed.", http.StatusBadRequest)
			return
		}
		a, err := do(r.Context(), request)
		status := http.StatusOK
		if err != nil {
			f, log := packError(err)
			if log {
				h.log.Error("a command's work failed", "path", r.URL.Path, "error", err)
			}
			a, status = answer{Error: &f}, http.StatusUnprocessableEntity
		}
		body, err := json.Marshal(a)
		if err != nil {
			h.log.Error("a command's answer cannot be written", "path", r.URL.Path, "error", err)
			http.Error(w, "The server failed; its log says of what.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func (h *handler) state(ctx context.Context, r stateRequest) (answer, error) {
	s, err := h.service.ImportState(ctx, r.caller(), r.Import)
	return answer{State: packState(s)}, err
}

func (h *handler) chunk(ctx context.Context, r chunkRequest) (answer, error) {
	rows, err := unpackRows(r.Rows)
	if err != nil {
		return answer{}, grahak.Errorf(grahak.CodeInvalidImport, "%s", err)
	}
	s, faults, err := h.service.ImportCustomers(ctx, r.caller(), grahak.ImportChunk{
		Import: r.Import, After: r.After, Rows: rows, OnDuplicate: r.OnDuplicate, Last: r.Last, Restart: r.Restart, Unnoted: r.Unnoted,
	})
	if err != nil {
		return answer{}, err
	}
	if r.After == 0 {
		h.log.Info("import begun", "merchant", r.Merchant, "actor", r.Actor)
	}
	if s.Done {
		h.log.Info("import done", "merchant", r.Merchant, "actor", r.Actor, "created", s.Created, "updated", s.Updated, "skipped", s.Skipped, "rejected", s.Rejected)
	}
	return answer{State: packState(s), Faults: packFaults(faults)}, nil
}

func (h *handler) check(ctx context.Context, r checkRequest) (answer, error) {
	c, _ := ctx.Value(checkKey{}).(*check)
	c.mu.Lock()
	defer c.mu.Unlock()
	rows, err := unpackRows(r.Rows)
	if err != nil {
		return answer{}, grahak.Errorf(grahak.CodeInvalidImport, "%s", err)
	}
	if c.run == nil || c.who != r.who || c.rule != r.OnDuplicate {
		run, err := h.service.NewImportCheck(r.caller(), r.OnDuplicate)
		if err != nil {
			return answer{}, err
		}
		c.who, c.rule, c.run = r.who, r.OnDuplicate, run
	}
	if r.After != c.run.State().Rows {
		return answer{}, grahak.Errorf(grahak.CodeImportConflict, "The dry run was cut off: run the command again.")
	}
	faults, err := c.run.Rows(ctx, rows)
	return answer{State: packState(c.run.State()), Faults: packFaults(faults)}, err
}
