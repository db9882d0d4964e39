package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// errNoWrk is returned when the load generator is missing.
var errNoWrk = errors.New("wrk is not installed: install it with `apt-get install wrk`, or put a wrk in the PATH")

// target is what a server is asked.
type target struct {
	mode string // of load.lua: create, keyed, update or get
	path string // for update and get
	file string // of what comes behind the path, for create of keys; empty for nothing
}

// creates reports whether t makes customers.
func (t target) creates() bool { return t.mode == "create" || t.mode == "keyed" }

// name is what t is called in messages.
func (t target) name() string { return t.mode + " " + t.path }

// load is how hard a server is asked.
type load struct {
	connections, threads int
	duration             time.Duration
}

// sample is what one run of wrk against one server showed.
type sample struct {
	Requests int64   `json:"requests"`
	Rate     float64 `json:"requests_per_second"`
	P50      float64 `json:"p50_ms"` // pgbench tells none but Mean
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	Mean     float64 `json:"mean_ms,omitempty"`
	// ServerCPU and WrkCPU are the processor time for each request.
	ServerCPU float64 `json:"server_cpu_us_per_request"`
	WrkCPU    float64 `json:"wrk_cpu_us_per_request"`
	// OthersCPU is how many processors programs other than the server and wrk,
	// and the kernel's own threads, kept busy meanwhile: the noise.
	OthersCPU float64 `json:"others_cpu"`

	// What it has cost a PostgreSQL server for each request, if there is one:
	// processor time, bytes of the write-ahead log, numbers of transactions and of
	// groups of them that share a row's lock.
	DatabaseCPU  float64 `json:"database_cpu_us_per_request,omitempty"`
	Log          float64 `json:"log_bytes_per_request,omitempty"`
	Transactions float64 `json:"transactions_per_request,omitempty"`
	Multixacts   float64 `json:"multixacts_per_request,omitempty"`

	// What Grahak counts of itself; 0 for the empty handler and pgbench.
	Allocs   float64 `json:"allocs_per_request,omitempty"`
	Bytes    float64 `json:"bytes_per_request,omitempty"`
	Batch    float64 `json:"writes_per_commit,omitempty"`
	CommitMs float64 `json:"commit_ms,omitempty"`
	// Lag is of writes.
	Lag *lag `json:"order_lag,omitempty"`
}

// wrk runs the load generator.
type wrk struct {
	program, script string
	runs            atomic.Int64
	started         time.Time
}

// newWrk finds the load generator, or returns [errNoWrk].
func newWrk(root string) (*wrk, error) {
	program, err := exec.LookPath("wrk")
	if err != nil {
		return nil, errNoWrk
	}
	return &wrk{program: program, script: filepath.Join(root, "bench", "load.lua"), started: time.Now()}, nil
}

// run asks s for t. Any error of a socket and any status of 400 or more is an
// error.
func (w *wrk) run(ctx context.Context, s *server, t target, l load) (sample, error) {
	// The tag makes references unique over all runs on a data folder, and its last
	// three digits do the same for mobile numbers.
	tag := fmt.Sprintf("%08x%03d", w.started.Unix(), w.runs.Add(1))
	ctx, cancel := context.WithTimeout(ctx, l.duration+time.Minute)
	defer cancel()
	args := []string{
		"--connections", strconv.Itoa(l.connections), "--threads", strconv.Itoa(l.threads),
		"--duration", strconv.Itoa(int(l.duration.Seconds())) + "s",
		// A slow answer is slow, not an error; wrk's own limit is 2 s.
		"--timeout", "15s",
		"--script", w.script, s.url, "--", t.mode, cmp.Or(s.authorization, basicAuth(s.key)), tag, t.path,
	}
	if t.file != "" {
		args = append(args, t.file)
	}
	cmd := exec.CommandContext(ctx, w.program, args...)
	before, err := readCPU(s.pid())
	if err != nil {
		return sample{}, err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	after, err := readCPU(s.pid())
	if err != nil {
		return sample{}, err
	}
	_, line, ok := bytes.Cut(out, []byte("\nRESULT "))
	if !ok {
		return sample{}, fmt.Errorf("wrk printed no figures:\n%s", out)
	}
	var r struct {
		Requests, Micros, P50, P99, Max       int64
		Connect, Read, Write, Timeout, Status int64
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return sample{}, fmt.Errorf("wrk printed %q: %w", line, err)
	}
	if r.Connect+r.Read+r.Write+r.Timeout+r.Status > 0 || r.Requests == 0 {
		return sample{}, fmt.Errorf("%s, %s: %d answers, and errors: connect %d, read %d, write %d, timeout %d, status %d",
			t.name(), s.name, r.Requests, r.Connect, r.Read, r.Write, r.Timeout, r.Status)
	}
	serverCPU, wrkCPU := after.server-before.server, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	others := max(0, after.busy-before.busy-serverCPU-wrkCPU)
	return sample{
		Requests:  r.Requests,
		Rate:      float64(r.Requests) / (float64(r.Micros) / 1e6),
		P50:       float64(r.P50) / 1e3,
		P99:       float64(r.P99) / 1e3,
		Max:       float64(r.Max) / 1e3,
		ServerCPU: float64(serverCPU.Microseconds()) / float64(r.Requests),
		WrkCPU:    float64(wrkCPU.Microseconds()) / float64(r.Requests),
		OthersCPU: others.Seconds() / after.at.Sub(before.at).Seconds(),
	}, nil
}

// measure runs wrk against g and makes sure that all answers were 200. After
// writes it waits until all events are in order.
func (w *wrk) measure(ctx context.Context, g *grahak, t target, l load) (sample, error) {
	before, err := g.metrics(ctx)
	if err != nil {
		return sample{}, err
	}
	lag := func() (*lag, error) { return nil, nil }
	if t.mode != "get" {
		lag = g.watchLag(ctx)
	}
	result, err := w.run(ctx, g.server, t, l)
	behind, lagErr := lag()
	if err := errors.Join(err, lagErr); err != nil {
		return sample{}, err
	}
	result.Lag = behind
	after, err := g.metrics(ctx)
	if err != nil {
		return sample{}, err
	}
	grown, n := after.since(before), float64(result.Requests)
	if failures := grown.failures(); failures > 0 {
		return sample{}, fmt.Errorf("%s answered %.0f requests with another status than 200; see its metrics or log with -keep", g.name, failures)
	}
	result.Allocs = grown["go_memstats_mallocs_total"] / n
	result.Bytes = grown["go_memstats_alloc_bytes_total"] / n
	if commits := grown["grahak_store_batch_writes_count"]; commits > 0 {
		result.Batch = grown["grahak_store_batch_writes_sum"] / commits
		result.CommitMs = grown["grahak_store_commit_duration_seconds_sum"] / commits * 1e3
	}
	return result, nil
}
