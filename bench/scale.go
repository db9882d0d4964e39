package main

import (
	"fmt"
	"io"
	"math"
	"os"
)

// What docs/scale.md calculates with: medians that `-postgres` printed on two
// processors, with one merchant and 64 connections. Processor time is in µs, the log
// and what is kept in bytes.
const (
	createNode, createDatabase = 91.0, 73.0
	// aloneNode and aloneDatabase are of a create that shares no commit, as with 64
	// merchants of which each has few at a time.
	aloneNode, aloneDatabase = 405.0, 517.0
	createLog                = 1_663.0
	createTransactions       = 0.06 // a create's share of one
	customerBytes            = 1_020.0
	referenceBytes           = 52.0 // of those, the index on references
	// used is how much of its processors a machine may use in the middle of a busy
	// hour.
	used = 0.6
	// nodeCores and shardCores are the processors of the machines.
	nodeCores, shardCores = 8.0, 16.0
	// What one shard is to hold and to write, in bytes and in bytes a second: limits
	// that were chosen, not measured.
	shardData, shardLog = 250e9, 50e6
)

// scale is what a number of customers and a rate of creates take.
type scale struct {
	customers, rate float64
}

// The rows of the table.
var scales = []scale{{1e6, 100}, {1e7, 1_000}, {1e8, 10_000}, {1e9, 30_000}, {1e9, 100_000}}

// machines returns how many machines with that many processors the work of a create
// takes.
func (s scale) machines(micros, cores float64) int {
	return int(math.Ceil(s.rate * micros / 1e6 / (cores * used)))
}

// shards returns how many shards carry it, if the work of a create on the database
// takes that many µs.
func (s scale) shards(micros float64) int {
	return max(s.machines(micros, shardCores), int(math.Ceil(s.customers*customerBytes/shardData)), int(math.Ceil(s.rate*createLog/shardLog)))
}

// writeScale prints the table of docs/scale.md, and writes its plot to path.
func writeScale(w io.Writer, path string) error {
	fmt.Fprintln(w, "| customers | creates/s | nodes | shards | nodes, alone | shards, alone | data | index on references | log of writes | transactions/s | 200 million last |")
	fmt.Fprintln(w, "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, s := range scales {
		transactions := s.rate * createTransactions
		fmt.Fprintf(w, "| %.0f million | %.0f | %d | %d | %d | %d | %.0f GB | %.1f GB | %.1f MB/s | %.0f | %.0f h |\n",
			s.customers/1e6, s.rate, s.machines(createNode, nodeCores), s.shards(createDatabase), s.machines(aloneNode, nodeCores), s.shards(aloneDatabase),
			s.customers*customerBytes/1e9, s.customers*referenceBytes/1e9, s.rate*createLog/1e6, transactions, 200e6/transactions/3600)
	}
	return os.WriteFile(path, []byte(plot()), 0o644)
}

// The plot's area, in pixels, and what its axes span, in powers of ten.
const (
	left, top, width, height = 70.0, 20.0, 520.0, 300.0
	mostShards               = 64.0
	leastRate, mostRate      = 3.0, 6.0
)

// plot returns creates a second over the number of shards, as a drawing.
func plot() string {
	x := func(shards float64) float64 { return left + width*math.Log2(shards)/math.Log2(mostShards) }
	y := func(rate float64) float64 { return top + height*(mostRate-math.Log10(rate))/(mostRate-leastRate) }
	d := newDrawing(720, 370)
	for power := leastRate; power <= mostRate; power++ {
		rate := math.Pow(10, power)
		d.line(left, y(rate), left+width, y(rate), "grid")
		d.text(left-8, y(rate)+4, "end", fmt.Sprintf("%.0f", rate))
	}
	for shards := 1.0; shards <= mostShards; shards *= 2 {
		d.line(x(shards), top, x(shards), top+height, "grid")
		d.text(x(shards), top+height+18, "middle", fmt.Sprintf("%.0f", shards))
	}
	d.text(left+width/2, top+height+38, "middle", "shards (one is a single primary)")
	d.text(left, top-6, "start", "creates a second")
	for i, cores := range []float64{4, 8, 16, 32} {
		color := []string{"#888", "#4a86e8", "#2a9d5c", "#e0662b"}[i]
		carried := func(shards float64) float64 { return min(shards*cores*used*1e6/createDatabase, math.Pow(10, mostRate)) }
		var points []string
		for step := 0.0; step <= 60; step++ {
			shards := math.Pow(mostShards, step/60)
			points = append(points, fmt.Sprintf("%.0f,%.0f", x(shards), y(carried(shards))))
		}
		d.curve(points, color)
		d.text(left+width+8, top+14+18*float64(i), "start", fmt.Sprintf(`<tspan fill="%s">%.0f processors</tspan>`, color, cores))
	}
	return d.end()
}
