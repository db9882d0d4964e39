package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections is what connections to a database server are doing.
type Connections struct {
	InUse, Idle, Max int
	// Opened counts connections that were made since the start.
	Opened int64
	// Waits counts the operations that had to wait for a connection, and Waited is
	// how long they did together.
	Waits  int64
	Waited time.Duration
}

// WatchConnections adds figures of a store's connections, read from now when
// metrics are scraped. It is called once at most.
func (m *Metrics) WatchConnections(now func() Connections) {
	m.registry.MustRegister(connectionCollector(now))
}

var (
	connectionsOpen = prometheus.NewDesc("grahak_store_connections",
		"Connections to the database that are open, by whether they are in use.", []string{"state"}, nil)
	connectionsMax = prometheus.NewDesc("grahak_store_connections_max",
		"Connections to the database that may be open.", nil, nil)
	connectionsOpened = prometheus.NewDesc("grahak_store_connections_opened_total",
		"Connections to the database that were made.", nil, nil)
	connectionWaits = prometheus.NewDesc("grahak_store_connection_waits_total",
		"Operations that had to wait for a connection.", nil, nil)
	connectionWaited = prometheus.NewDesc("grahak_store_connection_wait_seconds_total",
		"Time that operations have waited for a connection, together.", nil, nil)
)

// connectionCollector reports all figures as of one moment.
type connectionCollector func() Connections

// Describe implements [prometheus.Collector].
func (c connectionCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsOpen, connectionsMax, connectionsOpened, connectionWaits, connectionWaited} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c connectionCollector) Collect(out chan<- prometheus.Metric) {
	now := c()
	figure := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	figure(connectionsOpen, prometheus.GaugeValue, float64(now.InUse), "in_use")
	figure(connectionsOpen, prometheus.GaugeValue, float64(now.Idle), "idle")
	figure(connectionsMax, prometheus.GaugeValue, float64(now.Max))
	figure(connectionsOpened, prometheus.CounterValue, float64(now.Opened))
	figure(connectionWaits, prometheus.CounterValue, float64(now.Waits))
	figure(connectionWaited, prometheus.CounterValue, now.Waited.Seconds())
}
