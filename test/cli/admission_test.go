package cli_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"grahak/internal/testkit"
)

// TestMaxInProgress checks that what is more than may be in progress is refused before
// anything is done, that operators can see so meanwhile, and that it passes.
func TestMaxInProgress(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"), "--max-in-progress", "2")
	demo, ops := caller{base: s.BaseURL, key: s.Key}, caller{base: s.OpsURL}
	ctx, stop := context.WithTimeout(t.Context(), answerTimeout)
	defer stop()
	var serial, made, refused atomic.Int64
	met := make(chan struct{})
	var once sync.Once
	var crowd sync.WaitGroup
	for range 16 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				// What is sent is answered, also at the end of the crowd.
				a, err := demo.try(t.Context(), http.MethodPost, "/customers", newCustomer(fmt.Sprintf("crowd%d", serial.Add(1))))
				switch {
				case err != nil:
					t.Error(err)
					return
				case a.status == http.StatusOK:
					made.Add(1)
				case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "1":
					refused.Add(1)
				default:
					t.Errorf("a create: %d %s", a.status, a.body)
					return
				}
				if made.Load() > 0 && refused.Load() > 0 {
					once.Do(func() { close(met) })
				}
			}
		})
	}
	select {
	case <-met:
	case <-ctx.Done():
		t.Error("nothing was refused, or all")
	}
	for path, c := range map[string]caller{"/readyz": ops, "/metrics": ops, "/dashboard/login": {base: s.BaseURL}} {
		if a := c.send(t, http.MethodGet, path, ""); a.status != http.StatusOK {
			t.Errorf("%s beside a crowd: %d %s", path, a.status, a.body)
		}
	}
	stop()
	crowd.Wait()
	if a := demo.send(t, http.MethodPost, "/customers", newCustomer("afterwards")); a.status != http.StatusOK {
		t.Errorf("a create after the crowd: %d %s", a.status, a.body)
	}
	if list, want := demo.send(t, http.MethodGet, "/customers?count=1", "").body, fmt.Sprintf(`"total":%d`, made.Load()+1); !strings.Contains(list, want) {
		t.Errorf("a list has not %s: %s", want, list)
	}
	metrics := ops.send(t, http.MethodGet, "/metrics", "").body
	for _, line := range []string{
		fmt.Sprintf("grahak_limited_requests_total{limit=\"in_progress\"} %d\n", refused.Load()),
		fmt.Sprintf("grahak_http_requests_total{code=\"unavailable\",method=\"POST\",route=\"/customers\",status=\"503\"} %d\n", refused.Load()),
		"grahak_http_requests_in_progress{kind=\"write\"} 0\n", "grahak_http_requests_in_progress{kind=\"read\"} 0\n",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	s.Stop(t)
	log := s.Log(t)
	if !strings.Contains(log, "too many were in progress") || strings.Contains(log, `"status":503`) {
		t.Error("the log does not tell of the refused requests together")
	}
}
