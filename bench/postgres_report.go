package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// The bars on PostgreSQL, of pgbench's rate.
const (
	barPostgresCreate = 0.60
	barPostgresGet    = 0.45
)

// barPostgresDisk is what a customer may take on PostgreSQL's disk, all included, in
// bytes.
const barPostgresDisk = 1000

// half asks one side of a contest.
type half func(context.Context, load) (sample, error)

// contestPair is two sides, measured one right after the other.
type contestPair struct {
	SecondFirst bool      `json:"second_first"`
	Sides       [2]sample `json:"sides"`
	Ratio       float64   `json:"ratio"` // of the rates, the second to the first
}

// contest is the pairs of two ways to do the same.
type contest struct {
	Name  string        `json:"name"`
	Names [2]string     `json:"names"`
	Pairs []contestPair `json:"pairs"`
	// The medians of the pairs.
	Ratio float64 `json:"ratio_median"`
	ByCPU float64 `json:"ratio_by_cpu_median"` // see [contestPair.byCPU]

	halves [2]half
	bar    float64 // 0 for none
}

// postgresReport is everything that a comparison with pgbench found.
type postgresReport struct {
	*heading
	Server      []string          `json:"server"`
	Settings    map[string]string `json:"settings"`
	Customers   int               `json:"customers_before"` // as many are pgbench's
	SealedBytes int               `json:"sealed_bytes"`
	Relations   []relation        `json:"relations"`
	Contests    []*contest        `json:"contests"`
	Kinds       []kindOfRequest   `json:"kinds"`
	RoundTrips  roundTrips        `json:"round_trips"`
	Connections connectionCount   `json:"connections"`
	Memory      memory            `json:"memory"`
	Dead        []deadRows        `json:"dead"`
	Drain       drained           `json:"drain"`
	Large       *largeStore       `json:"large,omitempty"`
}

// relation is a table, without its indexes, or an index, vacuumed.
type relation struct {
	Name        string  `json:"name"`
	Bytes       int64   `json:"bytes"`
	PerCustomer float64 `json:"bytes_per_customer"`
}

// kindOfRequest is what one kind of request showed.
type kindOfRequest struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
	Sample      sample `json:"sample"`
}

// roundTrips is how often Grahak waits for an answer of the database: idle for each
// second, and what is more than that for each request. Those of the ordering pass
// are in it.
type roundTrips struct {
	Idle       float64 `json:"idle_per_second"`
	CreateOne  float64 `json:"create_on_one_connection"`
	CreateMany float64 `json:"create_on_many_connections"`
	GetOne     float64 `json:"get_on_one_connection"`
	GetMany    float64 `json:"get_on_many_connections"`
}

// connectionCount is Grahak's connections to the database.
type connectionCount struct {
	Max           int     `json:"max"`
	Open          int     `json:"open"`
	Waits         int     `json:"waits"`
	WaitedSeconds float64 `json:"waited_seconds"`
}

// deadRows is how much of a table is rows that were deleted or replaced.
type deadRows struct {
	Table      string `json:"table"`
	Bytes      int64  `json:"bytes"`
	IndexBytes int64  `json:"index_bytes"`
	Live       int64  `json:"live"`
	Dead       int64  `json:"dead"`
	Vacuums    int64  `json:"autovacuums"`
}

// drained is what it takes to put a backlog of events in order.
type drained struct {
	Events      int     `json:"events"`
	Rate        float64 `json:"events_per_second"`
	ServerCPU   float64 `json:"server_cpu_us_per_event"`
	DatabaseCPU float64 `json:"database_cpu_us_per_event"`
	Log         float64 `json:"log_bytes_per_event"`
}

// largeStore is requests to a store with many customers.
type largeStore struct {
	Customers           int64  `json:"customers"`
	ReferenceIndexBytes int64  `json:"reference_index_bytes"`
	Create              sample `json:"create"`
	Get                 sample `json:"get"`
}

// and returns what two servers that were asked at once showed together.
func (s sample) and(other sample) sample {
	n, m := float64(s.Requests), float64(other.Requests)
	mean := func(a, b float64) float64 { return (a*n + b*m) / (n + m) }
	seconds := n / s.Rate
	return sample{
		Requests:  s.Requests + other.Requests,
		Rate:      s.Rate + other.Rate,
		P50:       max(s.P50, other.P50),
		P99:       max(s.P99, other.P99),
		Max:       max(s.Max, other.Max),
		ServerCPU: mean(s.ServerCPU, other.ServerCPU),
		WrkCPU:    mean(s.WrkCPU, other.WrkCPU),
		OthersCPU: max(0, s.OthersCPU-(other.ServerCPU+other.WrkCPU)*m/1e6/seconds),
		Allocs:    mean(s.Allocs, other.Allocs),
		Bytes:     mean(s.Bytes, other.Bytes),
		Batch:     mean(s.Batch, other.Batch),
		CommitMs:  mean(s.CommitMs, other.CommitMs),
		Lag:       s.Lag.or(other.Lag),
	}
}

// cpu is the processor time of everything that took part in a request.
func (s sample) cpu() float64 { return s.ServerCPU + s.DatabaseCPU + s.WrkCPU }

// byCPU is what Ratio would be if nothing else ran and the processors were the
// only limit.
func (p *contestPair) byCPU() float64 { return p.Sides[0].cpu() / p.Sides[1].cpu() }

// contestRow is one line of a contest. The processor times are those of client,
// server and database.
const contestRow = "%-17s %8.0f %8.0f %7.3f %7.3f   %4.0f %4.0f %4.0f  %4.0f %4.0f %4.0f   %6.1f %7.1f   %6.0f %6.0f   %5.2f %5.2f   %s\n"

func (c *contest) printTitle(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s, %s\n%-17s %8s %8s %7s %7s   %-30s  %14s   %13s   %11s\n", c.Name, c.Names[0], c.Names[1],
		"", "first/s", "second/s", "ratio", "by CPU", "CPU µs client server database", "second p50 p99", "log bytes", "other CPUs")
}

func (p *contestPair) print(out io.Writer, name string) {
	order := "first first"
	if p.SecondFirst {
		order = "second first"
	}
	a, b := p.Sides[0], p.Sides[1]
	fmt.Fprintf(out, contestRow, name, a.Rate, b.Rate, p.Ratio, p.byCPU(), a.WrkCPU, a.ServerCPU, a.DatabaseCPU, b.WrkCPU, b.ServerCPU, b.DatabaseCPU,
		b.P50, b.P99, a.Log, b.Log, a.OthersCPU, b.OthersCPU, order)
}

// finish computes the medians and ends the table.
func (c *contest) finish(out io.Writer) {
	of := func(side int, get func(sample) float64) float64 {
		return medianOf(c.Pairs, func(p contestPair) float64 { return get(p.Sides[side]) })
	}
	c.Ratio = medianOf(c.Pairs, func(p contestPair) float64 { return p.Ratio })
	c.ByCPU = medianOf(c.Pairs, func(p contestPair) float64 { return p.byCPU() })
	cells := []any{"median"}
	both := func(get func(sample) float64) { cells = append(cells, of(0, get), of(1, get)) }
	both(func(s sample) float64 { return s.Rate })
	cells = append(cells, c.Ratio, c.ByCPU)
	for side := range 2 {
		for _, get := range []func(sample) float64{
			func(s sample) float64 { return s.WrkCPU },
			func(s sample) float64 { return s.ServerCPU },
			func(s sample) float64 { return s.DatabaseCPU },
		} {
			cells = append(cells, of(side, get))
		}
	}
	cells = append(cells, of(1, func(s sample) float64 { return s.P50 }), of(1, func(s sample) float64 { return s.P99 }))
	both(func(s sample) float64 { return s.Log })
	both(func(s sample) float64 { return s.OthersCPU })
	fmt.Fprintf(out, contestRow, append(cells, "")...)
}

// judge holds the figures against the bars.
func (r *postgresReport) judge() {
	for _, c := range r.Contests {
		if c.bar > 0 && len(c.Pairs) > 0 {
			r.Bars = append(r.Bars, atLeast(c.Name, c.Ratio, c.bar, "of "+c.Names[0]))
		}
	}
	r.Bars = append(r.Bars, atMost("disk, all included", r.disk(), barPostgresDisk, "bytes a customer"))
	if l := r.worstLag(); l != nil {
		r.Bars = append(r.Bars, atMost("order, behind by", l.worst(), barLag, "ms"))
	}
}

// disk is what a customer takes with its indexes and event, vacuumed, in bytes.
func (r *postgresReport) disk() (sum float64) {
	for _, t := range r.Relations {
		sum += t.PerCustomer
	}
	return sum
}

func (*postgresReport) kind() string { return "postgres" }

func (r *postgresReport) plots() map[string]string {
	return map[string]string{"": barPlot("Grahak on PostgreSQL beside pgbench", r.Bars)}
}

func (r *postgresReport) table() string {
	var b strings.Builder
	b.WriteString("| | the one | the other | ratio | by CPU | p50, p99 of the other |\n|---|---:|---:|---:|---:|---:|\n")
	for _, c := range r.Contests {
		if len(c.Pairs) == 0 {
			continue
		}
		of := func(side int, get func(sample) float64) float64 {
			return medianOf(c.Pairs, func(p contestPair) float64 { return get(p.Sides[side]) })
		}
		rate := func(s sample) float64 { return s.Rate }
		fmt.Fprintf(&b, "| %s | %s %.0f/s | %s %.0f/s | **%.2f** | %.2f | %.1f, %.1f ms |\n", c.Name, c.Names[0], of(0, rate), c.Names[1], of(1, rate), c.Ratio, c.ByCPU,
			of(1, func(s sample) float64 { return s.P50 }), of(1, func(s sample) float64 { return s.P99 }))
	}
	return b.String() + "\n" + r.barTable()
}

// worstLag returns the most that the ordering pass was behind in any run of
// writes, nil if there was none.
func (r *postgresReport) worstLag() *lag {
	var worst *lag
	for _, c := range r.Contests {
		for _, p := range c.Pairs {
			worst = worst.or(p.Sides[0].Lag).or(p.Sides[1].Lag)
		}
	}
	for _, k := range r.Kinds {
		worst = worst.or(k.Sample.Lag)
	}
	return worst
}

const kindRow = "%-17s %5d %8.0f   %7.2f %7.2f   %5.0f %5.0f %5.0f   %6.0f %7.4f %7.4f %6.1f %6.2f   %5.0f %5.2f\n"

func printKinds(out io.Writer) {
	fmt.Fprintf(out, "\n%-17s %5s %8s   %7s %7s   %-17s   %6s %7s %7s %6s %6s   %5s %5s\n", "", "conns", "/s", "p50 ms", "p99 ms", "CPU µs wrk node db", "log B", "xids", "mxids", "batch", "commit", "lag", "other")
}

func (k *kindOfRequest) print(out io.Writer) {
	s := k.Sample
	fmt.Fprintf(out, kindRow, k.Name, k.Connections, s.Rate, s.P50, s.P99, s.WrkCPU, s.ServerCPU, s.DatabaseCPU, s.Log, s.Transactions, s.Multixacts, s.Batch, s.CommitMs, s.Lag.worst(), s.OthersCPU)
}

// print writes what is no comparison.
func (r *postgresReport) print(out io.Writer) {
	fmt.Fprintf(out, "\nBytes for each of %d customers, vacuumed (sealed profiles of %d bytes):\n", r.Customers, r.SealedBytes)
	for _, t := range r.Relations {
		if t.PerCustomer >= 1 {
			fmt.Fprintf(out, "  %-32s %8.1f\n", t.Name, t.PerCustomer)
		}
	}
	fmt.Fprintf(out, "  %-32s %8.1f\n", "all", r.disk())
	t := r.RoundTrips
	fmt.Fprintf(out, "Round trips, the ordering pass included: %.2f for each create on one connection and %.3f on %d, %.2f and %.3f for each get; %.1f a second when idle.\n",
		t.CreateOne, t.CreateMany, r.heading.Connections, t.GetOne, t.GetMany, t.Idle)
	c := r.Connections
	fmt.Fprintf(out, "Connections to the database: %d of %d; %d operations waited for one, %.1f s together.\n", c.Open, c.Max, c.Waits, c.WaitedSeconds)
	fmt.Fprintf(out, "Memory of grahak: peak %.1f MB; at the end %.1f MB heap and stacks.\n", r.Memory.Peak, r.Memory.Anonymous)
	for _, d := range r.Dead {
		fmt.Fprintf(out, "Table %s: %d live rows, %d dead, %.1f MB and %.1f MB of indexes; vacuumed %d times.\n", d.Table, d.Live, d.Dead, float64(d.Bytes)/1e6, float64(d.IndexBytes)/1e6, d.Vacuums)
	}
	if l := r.worstLag(); l != nil {
		fmt.Fprintf(out, "Order: during writes %s.\n", l)
	}
	d := r.Drain
	fmt.Fprintf(out, "A backlog of %d events of one merchant was put in order at %.0f events/s (%.1f CPU µs each in grahak, %.1f in PostgreSQL, %.0f bytes of log).\n",
		d.Events, d.Rate, d.ServerCPU, d.DatabaseCPU, d.Log)
	if l := r.Large; l != nil {
		fmt.Fprintf(out, "With %d customers in the table (index of references %.0f MB), right after a checkpoint:\n", l.Customers, float64(l.ReferenceIndexBytes)/1e6)
		printKinds(out)
		(&kindOfRequest{"create", r.heading.Connections, l.Create}).print(out)
		(&kindOfRequest{"get by own id", r.heading.Connections, l.Get}).print(out)
	}
}
