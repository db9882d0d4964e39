package telemetry_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grahak/internal/telemetry"
)

// scrape returns the samples of m: what stands before the value, and the value.
func scrape(tb testing.TB, m *telemetry.Metrics) map[string]string {
	tb.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("got %d: %s", w.Code, w.Body)
	}
	samples := make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		line = strings.TrimSpace(line)
		if cut := strings.LastIndexByte(line, ' '); cut > 0 && !strings.HasPrefix(line, "#") {
			samples[line[:cut]] = line[cut+1:]
		}
	}
	return samples
}

// want compares some samples.
func want(tb testing.TB, got, want map[string]string) {
	tb.Helper()
	for name, value := range want {
		if got[name] != value {
			tb.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

func TestRequestMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("v1.2.3")
	m.Request("/customers", "POST", 200, "", 3*time.Millisecond)
	m.Request("/customers", "POST", 200, "", 30*time.Millisecond)
	m.Request("/customers", "POST", 400, "duplicate_reference", time.Millisecond)
	m.Request("/customers", "POST", 400, "invalid_field", 0)
	m.Request("/customers/{id}", "GET", 404, "customer_not_found", time.Minute)
	want(t, scrape(t, m), map[string]string{
		`grahak_http_requests_total{code="",method="POST",route="/customers",status="200"}`:                       "2",
		`grahak_http_requests_total{code="duplicate_reference",method="POST",route="/customers",status="400"}`:    "1",
		`grahak_http_requests_total{code="invalid_field",method="POST",route="/customers",status="400"}`:          "1",
		`grahak_http_requests_total{code="customer_not_found",method="GET",route="/customers/{id}",status="404"}`: "1",
		`grahak_http_request_duration_seconds_count{method="POST",route="/customers"}`:                            "4",
		`grahak_http_request_duration_seconds_sum{method="POST",route="/customers"}`:                              "0.034",
		`grahak_http_request_duration_seconds_bucket{method="POST",route="/customers",le="0.005"}`:                "3",
		`grahak_http_request_duration_seconds_bucket{method="POST",route="/customers",le="0.05"}`:                 "4",
		`grahak_http_request_duration_seconds_bucket{method="GET",route="/customers/{id}",le="10"}`:               "0",
		`grahak_http_request_duration_seconds_bucket{method="GET",route="/customers/{id}",le="+Inf"}`:             "1",
		`grahak_build_info{version="v1.2.3"}`:                                                                     "1",
	})
}

func TestLimitMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("")
	for _, kind := range []string{"key", "failed", "key"} {
		m.Limited(kind)
	}
	want(t, scrape(t, m), map[string]string{
		`grahak_limited_requests_total{limit="key"}`:      "2",
		`grahak_limited_requests_total{limit="failed"}`:   "1",
		`grahak_limited_requests_total{limit="merchant"}`: "",
	})
}

func TestStoreMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("")
	stats := new(store)
	m.Watch(stats)
	m.Committed(1, time.Millisecond)
	m.Committed(64, 3*time.Millisecond)
	want(t, scrape(t, m), map[string]string{
		"grahak_store_batch_writes_sum":              "65",
		"grahak_store_batch_writes_count":            "2",
		`grahak_store_batch_writes_bucket{le="1"}`:   "1",
		`grahak_store_batch_writes_bucket{le="64"}`:  "2",
		"grahak_store_commit_duration_seconds_count": "2",
		"grahak_store_commit_duration_seconds_sum":   "0.004",
		"grahak_store_queue_writes":                  "0",
		"grahak_store_queue_capacity_writes":         "1024",
		"grahak_store_database_bytes":                "0",
		"grahak_store_wal_bytes":                     "0",
		"grahak_store_order_lag_seconds":             "0",
	})
	// The figures are those of the moment.
	*stats = store{anyStore{queue: 7, lag: 1250 * time.Millisecond}, 4096, 8192}
	want(t, scrape(t, m), map[string]string{
		"grahak_store_queue_writes":      "7",
		"grahak_store_database_bytes":    "4096",
		"grahak_store_wal_bytes":         "8192",
		"grahak_store_order_lag_seconds": "1.25",
	})
	// What cannot be read is no figure.
	*stats = store{anyStore: anyStore{err: errors.New("disk I/O error")}}
	want(t, scrape(t, m), map[string]string{"grahak_store_order_lag_seconds": "NaN"})
}

func TestEventMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("")
	var pruned int64
	m.WatchEvents(func() int64 { return pruned })
	want(t, scrape(t, m), map[string]string{"grahak_events_pruned_total": "0"})
	pruned = 1_234
	want(t, scrape(t, m), map[string]string{"grahak_events_pruned_total": "1234"})
	m.WatchRequests(func() int64 { return 5 })
	want(t, scrape(t, m), map[string]string{"grahak_request_log_dropped_total": "5"})
}

// store is what metrics ask of a store in a file.
type store struct {
	anyStore
	database, log int64
}

func (s *store) Size() (int64, int64) { return s.database, s.log }

// anyStore is what metrics ask of every store.
type anyStore struct {
	queue int
	lag   time.Duration
	err   error
}

func (s *anyStore) QueueLen() int { return s.queue }
func (s *anyStore) QueueCap() int { return 1024 }

func (s *anyStore) OrderLag(context.Context) (time.Duration, error) { return s.lag, s.err }

// stuckStore is a store whose database does not answer before it is released, whatever its callers do.
type stuckStore struct {
	anyStore
	released chan struct{}
}

func (s *stuckStore) OrderLag(context.Context) (time.Duration, error) {
	<-s.released
	return time.Second, nil
}

// A store on a database server has no files, but connections.
func TestConnectionMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("v1")
	m.Watch(new(anyStore))
	now := telemetry.Connections{InUse: 3, Idle: 4, Max: 16, Opened: 9, Waits: 5, Waited: 1500 * time.Millisecond}
	m.WatchConnections(func() telemetry.Connections { return now })
	got := scrape(t, m)
	want(t, got, map[string]string{
		`grahak_store_connections{state="in_use"}`:   "3",
		`grahak_store_connections{state="idle"}`:     "4",
		"grahak_store_connections_max":               "16",
		"grahak_store_connections_opened_total":      "9",
		"grahak_store_connection_waits_total":        "5",
		"grahak_store_connection_wait_seconds_total": "1.5",
		"grahak_store_order_lag_seconds":             "0",
	})
	for _, name := range []string{"grahak_store_database_bytes", "grahak_store_wal_bytes"} {
		if value, there := got[name]; there {
			t.Errorf("%s is %s, but there is no file", name, value)
		}
	}
	now.InUse, now.Idle = 7, 0
	want(t, scrape(t, m), map[string]string{
		`grahak_store_connections{state="in_use"}`: "7",
		`grahak_store_connections{state="idle"}`:   "0",
	})
}

// A scrape does not wait for long for a database that does not answer.
func TestStuckStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := telemetry.NewMetrics("v1")
		stuck := &stuckStore{released: make(chan struct{})}
		m.Watch(stuck)
		began := time.Now()
		want(t, scrape(t, m), map[string]string{"grahak_store_order_lag_seconds": "NaN", "grahak_store_queue_writes": "0"})
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("a scrape took %v, want 2s", took)
		}
		close(stuck.released)
		want(t, scrape(t, m), map[string]string{"grahak_store_order_lag_seconds": "1"})
	})
}

// Every label of ours is one of few that have few values.
func TestLabels(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("v1")
	m.Watch(new(store))
	m.WatchConnections(func() telemetry.Connections { return telemetry.Connections{} })
	m.Request("/customers", "POST", 200, "", time.Millisecond)
	m.Committed(1, time.Millisecond)
	label := regexp.MustCompile(`([a-z_]+)="`)
	ours, process := 0, false
	for name := range scrape(t, m) {
		process = process || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
		if !strings.HasPrefix(name, "grahak_") {
			continue
		}
		ours++
		for _, l := range label.FindAllStringSubmatch(name, -1) {
			if !slices.Contains([]string{"route", "method", "status", "code", "version", "le", "state"}, l[1]) {
				t.Errorf("%s has the label %s", name, l[1])
			}
		}
	}
	if ours == 0 || !process {
		t.Errorf("there are %d samples of ours, and of the process: %v", ours, process)
	}
}

func TestConcurrentMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 100 {
				m.Request([]string{"/a", "/b"}[i%2], "GET", 200, "", time.Millisecond)
				m.Committed(1, time.Millisecond)
			}
		})
	}
	group.Wait()
	want(t, scrape(t, m), map[string]string{
		`grahak_http_requests_total{code="",method="GET",route="/a",status="200"}`: "400",
		`grahak_http_requests_total{code="",method="GET",route="/b",status="200"}`: "400",
		"grahak_store_batch_writes_count":                                          "800",
	})
}
