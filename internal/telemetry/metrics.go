package telemetry

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the service's Prometheus metrics. No label holds anything of a
// customer or a merchant, and every label has few values. It is safe for
// concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	batches   prometheus.Histogram
	commits   prometheus.Histogram
	limited   *prometheus.CounterVec

	deliveries *prometheus.CounterVec
	delivery   prometheus.Histogram

	// series remembers the two series of a request's labels, because finding
	// them anew costs more than counting.
	mu     sync.RWMutex
	series map[requestLabels]requestSeries
}

type requestLabels struct {
	route, method, code string
	status              int
}

type requestSeries struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

// StoreStats is what metrics ask of every store.
type StoreStats interface {
	QueueLen() int
	QueueCap() int
	// OrderLag returns how old the oldest event is that is not in its merchant's
	// chain, 0 if all are.
	OrderLag(ctx context.Context) (time.Duration, error)
}

// WebhookStats is what metrics ask of a store that keeps webhooks.
type WebhookStats interface {
	// WebhookLag returns how old the oldest event is that an endpoint waits for, 0 if
	// none does.
	WebhookLag(ctx context.Context) (time.Duration, error)
}

// FileStats is what metrics ask of a store in a file besides.
type FileStats interface {
	// Size returns the bytes of the database and of its write-ahead log.
	Size() (database, log int64)
}

// lagTimeout bounds how long a scrape waits for a database that does not answer.
const lagTimeout = 2 * time.Second

// NewMetrics returns metrics that also report on the process, as build version
// labelled.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grahak_http_requests_total",
			Help: "Requests answered, by route pattern, method, status and error code.",
		}, []string{"route", "method", "status", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "grahak_http_request_duration_seconds",
			Help:    "Time from the request's header to its answer, by route pattern and method.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "grahak_store_batch_writes",
			Help:    "Writes that shared a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "grahak_store_commit_duration_seconds",
			Help:    "Time that a commit took to be on disk.",
			Buckets: prometheus.ExponentialBuckets(.0001, 2, 16),
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grahak_limited_requests_total",
			Help: "Requests that a limit refused, by limit: key, merchant, failed (authentications of an address), lookup (of unknown keys), in_progress.",
		}, []string{"limit"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grahak_webhook_attempts_total",
			Help: "Attempts to deliver an event to an endpoint, by outcome.",
		}, []string{"outcome"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "grahak_webhook_attempt_duration_seconds",
			Help:    "Time that an attempt to deliver an event took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}),
		series: make(map[requestLabels]requestSeries),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "grahak_build_info", Help: "Always 1; the version is the label.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.batches, m.commits, m.limited, m.deliveries, m.delivery, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch adds the store's own figures, read when metrics are scraped, with those
// of [FileStats] where it has them. It is called once.
func (m *Metrics) Watch(store StoreStats) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("grahak_store_queue_writes", "Writes that wait for the writer.", func() float64 { return float64(store.QueueLen()) })
	gauge("grahak_store_queue_capacity_writes", "Writes that may wait before more are refused.", func() float64 { return float64(store.QueueCap()) })
	gauge("grahak_store_order_lag_seconds", "Age of the oldest event that is not in its merchant's hash chain yet; 0 when all are.", func() float64 { return lag(store.OrderLag) })
	if hooks, ok := store.(WebhookStats); ok {
		gauge("grahak_webhook_lag_seconds", "Age of the oldest event that an endpoint waits for; 0 when none does.", func() float64 { return lag(hooks.WebhookLag) })
	}
	if file, ok := store.(FileStats); ok {
		gauge("grahak_store_database_bytes", "Size of the database file.", func() float64 {
			size, _ := file.Size()
			return float64(size)
		})
		gauge("grahak_store_wal_bytes", "Size of the write-ahead log file.", func() float64 {
			_, size := file.Size()
			return float64(size)
		})
	}
}

// WatchAdmission adds how many requests of the API are in progress, read when metrics
// are scraped. It is called once.
func (m *Metrics) WatchAdmission(inProgress func() (reads, writes int)) {
	gauge := func(kind string, value func() int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "grahak_http_requests_in_progress", Help: "Requests that the API is working on, by kind: read, write.", ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(value()) }))
	}
	gauge("read", func() int { reads, _ := inProgress(); return reads })
	gauge("write", func() int { _, writes := inProgress(); return writes })
}

// WatchEvents adds how many events were pruned, read when metrics are scraped. It is
// called once.
func (m *Metrics) WatchEvents(pruned func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "grahak_events_pruned_total", Help: "Events that this process has deleted because of their age.",
	}, func() float64 { return float64(pruned()) }))
}

// WatchRequests adds how many requests are missing from the request log, read when
// metrics are scraped. It is called once.
func (m *Metrics) WatchRequests(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "grahak_request_log_dropped_total", Help: "Requests that this process has not written to the request log, because it could not be written fast enough.",
	}, func() float64 { return float64(dropped()) }))
}

// lag returns what ask does in seconds, and NaN if that cannot be had in time. A
// store may take longer than its caller to give up.
func lag(ask func(context.Context) (time.Duration, error)) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	answer := make(chan float64, 1)
	go func() {
		age, err := ask(ctx)
		if err != nil {
			answer <- math.NaN()
			return
		}
		answer <- age.Seconds()
	}()
	select {
	case age := <-answer:
		return age
	case <-ctx.Done():
		return math.NaN()
	}
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Request implements the observer of package web.
func (m *Metrics) Request(route, method string, status int, code string, took time.Duration) {
	labels := requestLabels{route: route, method: method, code: code, status: status}
	m.mu.RLock()
	s, ok := m.series[labels]
	m.mu.RUnlock()
	if !ok {
		s = requestSeries{
			count:    m.requests.WithLabelValues(route, method, strconv.Itoa(status), code),
			duration: m.durations.WithLabelValues(route, method),
		}
		m.mu.Lock()
		m.series[labels] = s
		m.mu.Unlock()
	}
	s.count.Inc()
	s.duration.Observe(took.Seconds())
}

// Limited counts a request that a limit of the given kind refused.
func (m *Metrics) Limited(kind string) { m.limited.WithLabelValues(kind).Inc() }

// Delivery implements the observer of attempts to deliver events.
func (m *Metrics) Delivery(outcome string, took time.Duration) {
	m.deliveries.WithLabelValues(outcome).Inc()
	m.delivery.Observe(took.Seconds())
}

// Committed implements the observer of package sqlstore.
func (m *Metrics) Committed(writes int, commit time.Duration) {
	m.batches.Observe(float64(writes))
	m.commits.Observe(commit.Seconds())
}
