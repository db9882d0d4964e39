package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The bars, and what they are of.
const (
	barCreate = 0.45  // of the empty handler's rate
	barGet    = 0.65  // of the empty handler's rate
	barUpdate = 0.40  // of the empty handler's rate
	barTail   = 4     // p99 of a create in p50s, at most
	barAlone  = 2     // p50 of a create on one connection in p50s of the storage, at most
	barMemory = 192   // MB, at most
	barStart  = 200   // ms, at most
	barLag    = 1_000 // ms, at most
	barKeyed  = 1.5   // of the time of a create without an idempotency key, at most
)

// pair is Grahak and the empty handler, measured one right after the other.
type pair struct {
	GrahakFirst bool    `json:"grahak_first"`
	Empty       sample  `json:"empty"`
	Grahak      sample  `json:"grahak"`
	Ratio       float64 `json:"ratio"` // of the rates
}

// comparison is the pairs of one kind of request.
type comparison struct {
	Name   string  `json:"name"`
	Pairs  []pair  `json:"pairs"`
	Empty  float64 `json:"empty_median_rate"`
	Grahak float64 `json:"grahak_median_rate"`
	Ratio  float64 `json:"ratio_median"`        // of the pairs' ratios
	ByCPU  float64 `json:"ratio_by_cpu_median"` // see [pair.byCPU]
}

// keyedPair is creates without and with an idempotency key, measured one right
// after the other.
type keyedPair struct {
	Plain sample `json:"plain"`
	Keyed sample `json:"keyed"`
}

// keyedComparison is the pairs, and the medians of what a create with a key takes
// of one without: by rates, and by the processor time of server and wrk.
type keyedComparison struct {
	Pairs []keyedPair `json:"pairs"`
	Cost  float64     `json:"cost_median"`
	ByCPU float64     `json:"cost_by_cpu_median"`
}

// finish computes the medians and prints them.
func (c *keyedComparison) finish(out io.Writer) {
	c.Cost = medianOf(c.Pairs, func(p keyedPair) float64 { return p.Plain.Rate / p.Keyed.Rate })
	c.ByCPU = medianOf(c.Pairs, func(p keyedPair) float64 {
		return (p.Keyed.ServerCPU + p.Keyed.WrkCPU) / (p.Plain.ServerCPU + p.Plain.WrkCPU)
	})
	rate := func(get func(keyedPair) float64) float64 { return medianOf(c.Pairs, get) }
	fmt.Fprintf(out, "\nA create with an idempotency key: %.0f/s against %.0f/s without, %.2f times the time (%.2f by CPU).\n",
		rate(func(p keyedPair) float64 { return p.Keyed.Rate }), rate(func(p keyedPair) float64 { return p.Plain.Rate }), c.Cost, c.ByCPU)
}

// bar is a figure and what it is held against.
type bar struct {
	Name  string  `json:"name"`
	Want  string  `json:"want"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	Met   bool    `json:"met"`
}

// atLeast returns the bar for a value that limit is the least of. what is what
// both are counted in.
func atLeast(name string, value, limit float64, what string) bar {
	return bar{Name: name, Want: fmt.Sprintf("≥ %g %s", limit, what), Value: value, Limit: limit, Met: value >= limit}
}

// atMost returns the bar for a value that limit is the most of. what is what both
// are counted in.
func atMost(name string, value, limit float64, what string) bar {
	return bar{Name: name, Want: fmt.Sprintf("≤ %g %s", limit, what), Value: value, Limit: limit, Met: value <= limit}
}

// heading is what every run says.
type heading struct {
	Started     time.Time `json:"started"`
	Machine     machine   `json:"machine"`
	Pairs       int       `json:"pairs"`
	Seconds     int       `json:"seconds"`
	Connections int       `json:"connections"`
	Bars        []bar     `json:"bars"`
}

// report is everything that a comparison with the empty handler found.
type report struct {
	*heading
	Customers   int              `json:"customers_before"`
	AnswerBytes int              `json:"answer_bytes"`
	Comparisons []*comparison    `json:"comparisons"`
	Keyed       *keyedComparison `json:"create_with_idempotency_key,omitempty"`
	Alone       *aloneComparison `json:"create_one_connection,omitempty"`
	// Steps are what the parts of each kind of request cost.
	Steps   []request   `json:"steps"`
	Floor   floorResult `json:"storage_floor"`
	Memory  memory      `json:"memory"`
	StartMs []float64   `json:"start_ms"`
	Disk    disk        `json:"disk"`
}

// strict returns an error that names the bars that were not met.
func (h *heading) strict() error {
	var missed []string
	for _, b := range h.Bars {
		if !b.Met {
			missed = append(missed, b.Name)
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return fmt.Errorf("not met: %s", strings.Join(missed, ", "))
}

// print writes the verdicts.
func (h *heading) print(out io.Writer) {
	fmt.Fprintln(out)
	for _, b := range h.Bars {
		verdict := "NOT MET"
		if b.Met {
			verdict = "met"
		}
		fmt.Fprintf(out, "%-7s  %-22s %8.3g, wanted %s\n", verdict, b.Name, b.Value, b.Want)
	}
}

// save writes figures as JSON into dir and returns the file's path.
func (h *heading) save(dir, kind string, figures any) (string, error) {
	raw, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, h.Started.UTC().Format("20060102-150405")+kind+".json")
	return file, os.WriteFile(file, append(raw, '\n'), 0o600)
}

// judge holds the figures against the bars.
func (r *report) judge() {
	limits := map[string]float64{"create": barCreate, "get": barGet, "get, ref": barGet, "update": barUpdate}
	for _, c := range r.Comparisons {
		r.Bars = append(r.Bars, atLeast(c.Name, c.Ratio, limits[c.Name], "of the empty handler"))
		if c.Name == "create" {
			r.Bars = append(r.Bars, atMost("create, p99", c.tail(), barTail, "× its p50"))
		}
	}
	if r.Alone != nil {
		r.Bars = append(r.Bars, atMost("create, one connection", r.Alone.Ratio, barAlone, "× the storage's p50"))
	}
	if k := r.Keyed; k != nil {
		r.Bars = append(r.Bars, atMost("idempotency key", k.Cost, barKeyed, "times a create"))
	}
	if l := r.worstLag(); l != nil {
		r.Bars = append(r.Bars, atMost("order, behind by", l.worst(), barLag, "ms"))
	}
	r.Bars = append(r.Bars,
		atMost("peak memory", r.Memory.Peak, barMemory, "MB"),
		atMost("start to first answer", median(r.StartMs), barStart, "ms"),
	)
}

// worstLag returns the most that the ordering pass was behind in any run of
// creates, nil if there was none.
func (r *report) worstLag() *lag {
	var worst *lag
	for _, c := range r.Comparisons {
		for _, p := range c.Pairs {
			worst = worst.or(p.Grahak.Lag)
		}
	}
	return worst
}

func (m machine) print(out io.Writer) {
	fmt.Fprintf(out, "Machine: %d CPUs (%s), Linux %s, %s, %s on %s (rotational: %s), load %s\n", m.CPUs, m.Model, m.Kernel, m.Go, m.Filesystem, m.Device, m.Rotational, m.Load)
	fmt.Fprintf(out, "Appending 4 KiB and syncing it takes %.2f ms (median of 200).\n", m.FsyncMs)
}

// row is one line of a comparison's table. Of two figures the first is the empty
// handler's.
const row = "%-9s %9.0f %9.0f %7.3f %7.3f   %7.1f %7.1f  %7.1f %7.1f   %5.2f %5.2f   %s\n"

// printTitle starts the table of a comparison.
func (c *comparison) printTitle(out io.Writer) {
	fmt.Fprintf(out, "\n%-9s %9s %9s %7s %7s   %15s  %15s   %11s\n", c.Name, "empty/s", "grahak/s", "ratio", "by CPU", "CPU µs/request", "p99 ms", "other CPUs")
}

// tail returns the median of Grahak's p99 in its p50s.
func (c *comparison) tail() float64 {
	return medianOf(c.Pairs, func(p pair) float64 { return p.Grahak.P99 / p.Grahak.P50 })
}

// print writes one row of the table.
func (p *pair) print(out io.Writer, n int) {
	order := "empty first"
	if p.GrahakFirst {
		order = "grahak first"
	}
	fmt.Fprintf(out, row, fmt.Sprint("pair ", n), p.Empty.Rate, p.Grahak.Rate, p.Ratio, p.byCPU(),
		p.Empty.ServerCPU, p.Grahak.ServerCPU, p.Empty.P99, p.Grahak.P99, p.Empty.OthersCPU, p.Grahak.OthersCPU, order)
}

// byCPU is what Ratio would be if nothing else ran and the processors were the
// only limit: the ratio of the processor time of server and wrk together.
func (p *pair) byCPU() float64 {
	return (p.Empty.ServerCPU + p.Empty.WrkCPU) / (p.Grahak.ServerCPU + p.Grahak.WrkCPU)
}

// finish computes the medians and ends the table.
func (c *comparison) finish(out io.Writer) {
	of := func(get func(pair) float64) float64 { return medianOf(c.Pairs, get) }
	c.Empty = of(func(p pair) float64 { return p.Empty.Rate })
	c.Grahak = of(func(p pair) float64 { return p.Grahak.Rate })
	c.Ratio = of(func(p pair) float64 { return p.Ratio })
	c.ByCPU = of(func(p pair) float64 { return p.byCPU() })
	fmt.Fprintf(out, row, "median", c.Empty, c.Grahak, c.Ratio, c.ByCPU,
		of(func(p pair) float64 { return p.Empty.ServerCPU }), of(func(p pair) float64 { return p.Grahak.ServerCPU }),
		of(func(p pair) float64 { return p.Empty.P99 }), of(func(p pair) float64 { return p.Grahak.P99 }),
		of(func(p pair) float64 { return p.Empty.OthersCPU }), of(func(p pair) float64 { return p.Grahak.OthersCPU }), "")
	fmt.Fprintf(out, "Grahak: %.1f allocations and %.0f bytes for each request", of(func(p pair) float64 { return p.Grahak.Allocs }), of(func(p pair) float64 { return p.Grahak.Bytes }))
	if batch := of(func(p pair) float64 { return p.Grahak.Batch }); batch > 0 {
		fmt.Fprintf(out, "; %.1f writes for each commit, which takes %.2f ms", batch, of(func(p pair) float64 { return p.Grahak.CommitMs }))
	}
	fmt.Fprintln(out, ".")
}

// print writes what is no comparison.
func (r *report) print(out io.Writer) {
	if f := r.Floor; f.Rate > 0 {
		fmt.Fprintf(out, "\nStorage floor: %.0f creates/s by %d goroutines without HTTP (%.1f writes for each commit, which takes %.2f ms; %.1f CPU µs for each create, %.2f CPUs busy).\n",
			f.Rate, r.Connections, f.Batch, f.CommitMs, f.CPU, f.Utilisation)
	}
	if a := r.Alone; a != nil {
		fmt.Fprintf(out, "Create on one connection: p50 %.2f ms, and %.2f ms in the storage alone; %.2f times that.\n", a.Grahak, a.Floor, a.Ratio)
	}
	m := r.Memory
	fmt.Fprintf(out, "Memory: peak %.1f MB; at the end %.1f MB heap and stacks, %.1f MB of the program file, %.1f MB mapped.\n", m.Peak, m.Anonymous, m.File, m.Shared)
	fmt.Fprintf(out, "Start to first answer, ms:")
	for _, ms := range r.StartMs {
		fmt.Fprintf(out, " %.0f", ms)
	}
	fmt.Fprintln(out)
	fmt.Fprintf(out, "Disk: %s.\n", r.Disk)
	if l := r.worstLag(); l != nil {
		fmt.Fprintf(out, "Order: during creates %s.\n", l)
	}
}
