package ops_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/ops"
	"grahak/internal/telemetry"
	"grahak/internal/web"
)

// stuckService is a service whose storage does not answer before it is released, whatever its callers do.
type stuckService struct{ released chan struct{} }

func (s stuckService) Ready(context.Context) error {
	<-s.released
	return nil
}

func (s stuckService) VerifyToken(context.Context, string) (grahak.TokenRecord, error) {
	return grahak.TokenRecord{}, nil
}

// A load balancer gets its answer in time although the storage gives none, and the process is alive all the while.
func TestReadyOfStuckStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := stuckService{released: make(chan struct{})}
		handler := web.NewHandler(web.Config{
			Edge:     ops.New(ops.Config{Service: service, Ready: func() error { return nil }, Metrics: http.NotFoundHandler()}),
			Logger:   slog.New(slog.DiscardHandler),
			Observer: telemetry.NewMetrics("v1"),
			Clock:    grahak.SystemClock{},
			Random:   rand.Reader,
		})
		ask := func(path string) (answer, time.Duration) {
			t.Helper()
			began := time.Now()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return answer{w.Code, w.Header().Get("Content-Type"), w.Body.String()}, time.Since(began)
		}
		check := func(path string, want answer, in time.Duration) {
			t.Helper()
			got, took := ask(path)
			if diff := cmp.Diff(want, got); diff != "" || took != in {
				t.Errorf("%s answers after %v, want %v (-want +got):\n%s", path, took, in, diff)
			}
		}
		check("/readyz", jsonAnswer(503, `{"reason":"the storage has not answered for 2s","status":"unavailable"}`), 2*time.Second)
		check("/healthz", jsonAnswer(200, `{"status":"ok"}`), 0)
		close(service.released)
		check("/readyz", jsonAnswer(200, `{"status":"ready"}`), 0)
	})
}
