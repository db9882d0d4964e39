package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The shares of the kinds of requests in a mixed load; the rest are lists and searches.
const getShare, createShare, updateShare = 0.60, 0.25, 0.10

// minute is what one minute of a mixed load showed.
type minute struct {
	offered
	Memory float64 `json:"resident_mb"` // at its end: heap, stacks and mapped
	Log    float64 `json:"log_mb"`      // at its end: SQLite's write-ahead log
	Lag    *lag    `json:"order_lag"`
}

// mixedReport is everything that a mixed load showed.
type mixedReport struct {
	*heading
	Capacity float64  `json:"capacity_per_second"`
	Minutes  []minute `json:"minutes"`
}

// measureMixed offers a mixture of requests at 70 % of what the server can do, and
// returns a report. The server has one half of the processors, and what asks it the other.
func (b *bench) measureMixed(ctx context.Context, h *heading) (_ any, err error) {
	r := &mixedReport{heading: h}
	if err := b.startApart(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.grahak.stop()) }()
	made, err := b.grahak.populate(ctx, b.customers)
	if err != nil {
		return nil, err
	}
	// What a request of the mixture takes is the mean of what each kind takes.
	var takes float64
	for _, kind := range []struct {
		share float64
		target
	}{
		{getShare, target{mode: "get", path: "/customers/", file: made.ids}},
		{createShare, target{mode: "create"}},
		{updateShare, target{mode: "update", path: "/customers/", file: made.ids}},
		{(1 - getShare - createShare - updateShare) / 2, target{mode: "get", path: "/customers?count=10"}},
		{(1 - getShare - createShare - updateShare) / 2, target{mode: "get", path: "/customers?email_address=", file: made.references}},
	} {
		s, err := b.measure(ctx, b.grahak.server, kind.target, load{connections: b.connections, threads: threads, duration: time.Duration(b.seconds) * time.Second})
		if err != nil {
			return nil, err
		}
		takes += kind.share / s.Rate
	}
	request, err := b.mixture(made)
	if err != nil {
		return nil, err
	}
	if r.Capacity, err = b.openCapacity(ctx, request, 1/takes, time.Minute, normalConnections); err != nil {
		return nil, err
	}
	for i := range b.minutes {
		m, err := b.oneMinute(ctx, request, normalShare*r.Capacity)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(b.out, "minute %d: %.0f/s offered, %.0f/s answered, %d refused; p50 %.2f, p99 %.2f ms; %.1f MB resident, log %.1f MB; %s\n", i+1,
			m.Rate, m.Answered, m.Refused, m.P50, m.P99, m.Memory, m.Log, m.Lag)
		r.Minutes = append(r.Minutes, m)
	}
	third := len(r.Minutes) / 3
	first, last := r.Minutes[:third], r.Minutes[len(r.Minutes)-third:]
	drift := func(of func(minute) float64) float64 { return medianOf(last, of) / medianOf(first, of) }
	var log float64
	for _, m := range r.Minutes {
		log = max(log, m.Log)
	}
	h.Bars = append(h.Bars,
		atMost("p50, last third", drift(func(m minute) float64 { return m.P50 }), 1.25, "× the first third's"),
		atMost("p99, last third", drift(func(m minute) float64 { return m.P99 }), 1.5, "× the first third's"),
		atMost("memory, last third", drift(func(m minute) float64 { return m.Memory }), 1.25, "× the first third's"),
		// Four times that at which a checkpoint begins.
		atMost("write-ahead log", log, 256, "MB"))
	return r, nil
}

// oneMinute offers one minute of requests.
func (b *bench) oneMinute(ctx context.Context, request func(n int64) string, rate float64) (m minute, err error) {
	lag := b.grahak.watchLag(ctx)
	m.offered, err = b.offer(ctx, request, rate, time.Minute, normalConnections)
	m.shots = nil
	var lagErr error
	m.Lag, lagErr = lag()
	if err := errors.Join(err, lagErr); err != nil {
		return m, err
	}
	used, err := readMemory(b.grahak.pid())
	if err != nil {
		return m, err
	}
	m.Memory = used.Anonymous + used.File + used.Shared
	figures, err := b.grahak.metrics(ctx)
	m.Log = figures["grahak_store_wal_bytes"] / 1e6
	return m, err
}

// mixture returns what makes the n-th request of the mixture, of a minute, on
// customers that were made before.
func (b *bench) mixture(made population) (func(n int64) string, error) {
	var lines [2][]string
	for i, file := range []string{made.ids, made.references} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		lines[i] = strings.Fields(string(raw))
	}
	ids, references := lines[0], lines[1]
	head := b.formHead()
	bare, _, _ := cutLast(head, "\r\nContent-Type")
	read := func(path string) string { return "GET " + path + bare + "\r\n\r\n" }
	return func(n int64) string {
		// The kinds are spread evenly, and customers are chosen in no order.
		at := int(uint64(n) * 0x9E3779B97F4A7C15 >> 33)
		switch share := float64(n*61%100) / 100; {
		case share < getShare:
			return read("/customers/" + ids[at%len(ids)])
		case share < getShare+createShare:
			reference := fmt.Sprintf("%x-%d%%40example.com", time.Now().UnixNano(), n)
			form := "object_reference_id=" + reference + "&email_address=" + reference + "&mobile_number=" + fmt.Sprintf("%010d", n) + "&first_name=Asha&last_name=Rao"
			return "POST /customers" + head + strconv.Itoa(len(form)) + "\r\n\r\n" + form
		case share < getShare+createShare+updateShare:
			form := "first_name=A" + strconv.FormatInt(time.Now().UnixNano(), 36)
			return "POST /customers/" + ids[at%len(ids)] + head + strconv.Itoa(len(form)) + "\r\n\r\n" + form
		case n%2 == 0:
			return read("/customers?count=10")
		default:
			return read("/customers?email_address=" + references[at%len(references)])
		}
	}, nil
}

func (*mixedReport) kind() string { return "mixed" }

func (r *mixedReport) plots() map[string]string {
	plots := map[string]string{"": barPlot("A mixed load: the last third against the first", r.Bars)}
	for name, of := range map[string]func(minute) float64{"p99 in ms": func(m minute) float64 { return m.P99 }, "memory in MB": func(m minute) float64 { return m.Memory }} {
		var points []point
		for i, m := range r.Minutes {
			points = append(points, point{float64(i + 1), of(m)})
		}
		word, _, _ := strings.Cut(name, " ")
		plots["-"+word] = curvePlot("A mixed load at 70 % of what Grahak can do", "minutes", name, points)
	}
	return plots
}

func (r *mixedReport) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "70 %% of %.0f requests a second.\n\n| minute | answered | refused | p50, p99 | resident | log | behind with order |\n|---:|---:|---:|---:|---:|---:|---:|\n", r.Capacity)
	for i, m := range r.Minutes {
		fmt.Fprintf(&b, "| %d | %.0f/s | %d | %.1f, %.1f ms | %.0f MB | %.0f MB | %.0f ms |\n", i+1, m.Answered, m.Refused, m.P50, m.P99, m.Memory, m.Log, m.Lag.worst())
	}
	return b.String() + "\n" + r.barTable()
}
