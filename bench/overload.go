package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// normalConnections and overloadConnections are how many requests may be under way at
	// once.
	normalConnections, overloadConnections = 256, 2048
	// normalShare, moreShare and overloadShare are the offered rates, of what the server
	// can do.
	normalShare, moreShare, overloadShare = 0.7, 2.0, 5.0
	// recoveryWindow is what the time after an overload is judged in.
	recoveryWindow = 250 * time.Millisecond
)

// offered is what came of a load at a constant rate, whatever the answers took. The
// latencies are from the moment at which a request was due, not from when it was
// sent.
type offered struct {
	Rate     float64 `json:"offered_per_second"`
	Answered float64 `json:"answered_per_second"`
	Accepted int     `json:"accepted"`
	Refused  int     `json:"refused"`
	P50      float64 `json:"accepted_p50_ms"`
	P99      float64 `json:"accepted_p99_ms"`
	// SentP99 is counted from the moment of sending.
	SentP99    float64 `json:"accepted_p99_from_sending_ms"`
	RefusedP99 float64 `json:"refused_p99_from_sending_ms"`
	Late       float64 `json:"sent_late_p99_ms"` // how late requests were sent
	Resident   float64 `json:"peak_memory_mb"`

	shots []shot
}

// shot is one request.
type shot struct {
	due, late, took time.Duration // since the start, since due, since sending
	status          int
}

// overloadReport is everything that an overload showed.
type overloadReport struct {
	*heading
	Capacity   float64 `json:"capacity_per_second"`
	Normal     offered `json:"normal"`
	More       offered `json:"more"`
	Overload   offered `json:"overload"`
	After      offered `json:"after"`
	RecoveryMs float64 `json:"recovery_ms"`
}

// measureOverload offers creates at 70 % of what the server can do, at twice and five times
// that much, and at 70 % again, and returns a report. The server has one half of the
// processors, and what asks it the other.
func (b *bench) measureOverload(ctx context.Context, h *heading) (_ any, err error) {
	r := &overloadReport{heading: h}
	if err := b.startApart(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.grahak.stop()) }()
	length := time.Duration(b.seconds) * time.Second
	closed, err := b.measure(ctx, b.grahak.server, target{mode: "create"}, load{connections: b.connections, threads: threads, duration: max(warmUp, length/2)})
	if err != nil {
		return nil, err
	}
	if r.Capacity, err = b.openCapacity(ctx, b.creates(), closed.Rate, length, overloadConnections); err != nil {
		return nil, err
	}
	for _, phase := range []struct {
		name  string
		share float64
		into  *offered
	}{{"70 %", normalShare, &r.Normal}, {"twice", moreShare, &r.More}, {"5 times", overloadShare, &r.Overload}, {"70 % again", normalShare, &r.After}} {
		if *phase.into, err = b.offer(ctx, b.creates(), phase.share*r.Capacity, length, overloadConnections); err != nil {
			return nil, err
		}
		fmt.Fprintf(b.out, "%-10s %7.0f/s offered, %7.0f/s answered: %d accepted, %d refused; accepted p50 %.1f, p99 %.1f ms (from sending %.1f); refused p99 %.1f ms from sending; sent late by %.1f ms (p99); peak memory %.1f MB\n",
			phase.name, phase.into.Rate, phase.into.Answered, phase.into.Accepted, phase.into.Refused, phase.into.P50, phase.into.P99, phase.into.SentP99, phase.into.RefusedP99, phase.into.Late, phase.into.Resident)
	}
	r.RecoveryMs = r.After.recovery(3 * r.Normal.P99)
	for _, load := range []struct {
		name  string
		share float64
		offered
	}{{"twice", moreShare, r.More}, {"5 times", overloadShare, r.Overload}} {
		h.Bars = append(h.Bars,
			// Less than was offered is no overload of that size.
			atLeast("answered, "+load.name, load.Answered/r.Capacity, 0.9*load.share, "× what it can do"),
			atMost("accepted p99, "+load.name, load.P99/r.Normal.P99, 3, "× that at 70 %"),
			atMost("memory, "+load.name, load.Resident/r.Normal.Resident, 1.25, "× that at 70 %"))
	}
	h.Bars = append(h.Bars, atMost("back to normal", r.RecoveryMs, 2_000, "ms after it"))
	return r, nil
}

// startApart starts Grahak on one half of the processors. What is measured from then on
// has the other.
func (b *bench) startApart(ctx context.Context) error {
	servers, others, err := halves()
	if err == nil {
		err = pin(servers)
	}
	if err != nil {
		return err
	}
	b.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, "")
	if err != nil {
		return err
	}
	if err := pin(others); err != nil {
		return errors.Join(err, b.grahak.stop())
	}
	return nil
}

// openCapacity returns how many of what request makes the server can do a second: what it
// accepts of as many as it does of those that wait for one another, which cost less.
func (b *bench) openCapacity(ctx context.Context, request func(n int64) string, closed float64, length time.Duration, connections int) (float64, error) {
	o, err := b.offer(ctx, request, closed, length, connections)
	return float64(o.Accepted) / length.Seconds(), err
}

// recovery returns after how many milliseconds a second began in which nothing was refused
// and the p99 stayed within limit, which is in milliseconds too.
func (o *offered) recovery(limit float64) float64 {
	const second = int64(time.Second / recoveryWindow)
	windows := make(map[int64][]float64)
	bad := make(map[int64]bool)
	last := int64(0)
	for _, s := range o.shots {
		w := int64(s.due / recoveryWindow)
		last = max(last, w)
		windows[w] = append(windows[w], millis(s.late+s.took))
		bad[w] = bad[w] || s.status != 200
	}
	good := int64(0)
	for w := range last + 1 {
		good++
		if bad[w] || percentile(windows[w], 99) > limit {
			good = 0
		}
		if good == second {
			return float64(w+1-second) * millis(recoveryWindow)
		}
	}
	return float64(last+1) * millis(recoveryWindow)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// percentile sorts values and returns the one that that many per cent are not above.
func percentile(values []float64, percent int) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)-1)*percent/100]
}

// formHead is what the header of a form has besides its first line.
func (b *bench) formHead() string {
	return " HTTP/1.1\r\nHost: " + strings.TrimPrefix(b.grahak.url, "http://") + "\r\nAuthorization: " + basicAuth(b.grahak.key) +
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
}

// creates returns what makes the n-th request, each for another customer.
func (b *bench) creates() func(n int64) string {
	tag, head := strconv.FormatInt(time.Now().UnixMilli(), 36), "POST /customers"+b.formHead()
	return func(n int64) string {
		reference := fmt.Sprintf("%s-%d%%40example.com", tag, n)
		form := "object_reference_id=" + reference + "&email_address=" + reference + "&mobile_number=" + fmt.Sprintf("%010d", n) + "&first_name=Asha&last_name=Rao"
		return head + strconv.Itoa(len(form)) + "\r\n\r\n" + form
	}
}

// offer sends what request makes at a constant rate for that long, over so many connections
// that stay open: each sends what is due next. request must be safe for concurrent
// use.
func (b *bench) offer(ctx context.Context, request func(n int64) string, rate float64, d time.Duration, connections int) (offered, error) {
	o := offered{Rate: rate}
	address := strings.TrimPrefix(b.grahak.url, "http://")
	conns := make([]net.Conn, 0, connections)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range connections {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return o, err
		}
		conns = append(conns, c)
	}
	shots := make([][]shot, len(conns))
	failures := make([]error, len(conns))
	var next atomic.Int64
	var wait sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		wait.Go(func() {
			// An answer that takes longer than this is an error.
			failures[i] = c.SetDeadline(start.Add(d + stopTimeout))
			in := bufio.NewReaderSize(c, 4096)
			for failures[i] == nil {
				n := next.Add(1)
				due := time.Duration(float64(n) / rate * float64(time.Second))
				if due > d || ctx.Err() != nil {
					return
				}
				time.Sleep(time.Until(start.Add(due)))
				sent := time.Since(start)
				if sent > 2*d {
					// What is so late is not sent any more, and Answered shows it.
					return
				}
				var status int
				if _, failures[i] = io.WriteString(c, request(n)); failures[i] == nil {
					status, failures[i] = readStatus(in)
				}
				shots[i] = append(shots[i], shot{due, sent - due, time.Since(start) - sent, status})
			}
		})
	}
	wait.Wait()
	took := time.Since(start)
	for _, err := range append(failures, ctx.Err()) {
		if err != nil {
			return o, err
		}
	}
	o.shots = slices.Concat(shots...)
	var accepted, sent, refused, late []float64
	for _, s := range o.shots {
		late = append(late, millis(s.late))
		switch s.status {
		case 200:
			accepted, sent = append(accepted, millis(s.late+s.took)), append(sent, millis(s.took))
		case 503:
			refused = append(refused, millis(s.took))
		default:
			return o, fmt.Errorf("a create was answered %d", s.status)
		}
	}
	o.Answered = float64(len(o.shots)) / took.Seconds()
	o.Accepted, o.Refused = len(accepted), len(refused)
	o.P50, o.P99 = percentile(accepted, 50), percentile(accepted, 99)
	o.SentP99, o.RefusedP99, o.Late = percentile(sent, 99), percentile(refused, 99), percentile(late, 99)
	m, err := readMemory(b.grahak.pid())
	o.Resident = m.Peak
	return o, err
}

// readStatus reads an answer and returns its status.
func readStatus(in *bufio.Reader) (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimSpace(string(line))
		if text == "" {
			_, err := in.Discard(length)
			return status, err
		}
		if first {
			_, text, _ = strings.Cut(text, " ")
			text, _, _ = strings.Cut(text, " ")
			if status, err = strconv.Atoi(text); err != nil {
				return 0, err
			}
			continue
		}
		if name, value, _ := strings.Cut(text, ": "); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(value); err != nil {
				return 0, err
			}
		}
	}
}

func (*overloadReport) kind() string { return "overload" }

func (r *overloadReport) plots() map[string]string {
	return map[string]string{"": barPlot("Twice and five times as many creates as Grahak can do", r.Bars)}
}

func (r *overloadReport) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Creates; it could do %.0f a second.\n\n", r.Capacity)
	b.WriteString("| offered | answered | accepted | refused | accepted p50, p99 | p99 from sending | refused p99 from sending | sent late, p99 |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, o := range []offered{r.Normal, r.More, r.Overload, r.After} {
		fmt.Fprintf(&b, "| %.0f/s | %.0f/s | %d | %d | %.1f, %.1f ms | %.1f ms | %.1f ms | %.1f ms |\n", o.Rate, o.Answered, o.Accepted, o.Refused, o.P50, o.P99, o.SentP99, o.RefusedP99, o.Late)
	}
	return b.String() + "\n" + r.barTable()
}
