package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pageSize is how many customers a page has.
const pageSize = 10

// store is a Grahak with a number of customers.
type store struct {
	*grahak
	made    population
	cursors string // a file, as population's
}

// growthPair is a small and a large store, measured one right after the other.
type growthPair struct {
	SmallFirst bool    `json:"small_first"`
	Small      sample  `json:"small"`
	Large      sample  `json:"large"`
	Ratio      float64 `json:"ratio"` // of the rates, small to large: how much slower the large one is
}

// growth is the pairs of one kind of request.
type growth struct {
	Name  string       `json:"name"`
	Pairs []growthPair `json:"pairs"`
	// The medians of the pairs.
	Small growthSide `json:"small_median"`
	Large growthSide `json:"large_median"`
	Ratio float64    `json:"ratio_median"`
	ByCPU float64    `json:"ratio_by_cpu_median"` // see [growthPair.byCPU]
	P99   float64    `json:"p99_ratio_median"`    // large to small
	judge func(*growth) bar
}

type growthSide struct {
	Rate float64 `json:"requests_per_second"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}

// growthReport is everything that a comparison of two sizes found.
type growthReport struct {
	*heading
	Small   growthStore `json:"small"`
	Large   growthStore `json:"large"`
	Growths []*growth   `json:"growths"`
	Import  imported    `json:"import"`   // of the large store
	StartMs []float64   `json:"start_ms"` // of the large store
}

// growthStore is what is known of one of the stores.
type growthStore struct {
	Customers int `json:"customers"`
	// Creates is of a store that was made through the API, and of that time.
	Creates float64 `json:"creates_per_second,omitempty"`
	Lag     *lag    `json:"order_lag"` // meanwhile, or at creates that were measured
	Memory  memory  `json:"memory"`    // at the end
	Disk    disk    `json:"disk"`
}

// measureGrowth compares creates, lists, searches and reads of a small and a large
// store, and returns a report.
func (b *bench) measureGrowth(ctx context.Context, h *heading) (_ any, err error) {
	r := &growthReport{heading: h, Small: growthStore{Customers: b.small}, Large: growthStore{Customers: b.large}}
	largeDir := filepath.Join(b.dir, "large")
	if b.store != "" {
		if largeDir, err = filepath.Abs(b.store); err != nil {
			return nil, err
		}
	}
	var small, large store
	if r.Import, err = large.open(ctx, b, "large", largeDir, b.large); err != nil {
		return nil, errors.Join(err, large.end())
	}
	defer func() { err = errors.Join(err, large.end()) }()
	if _, err = small.open(ctx, b, "small", filepath.Join(b.dir, "small"), b.small); err != nil {
		return nil, errors.Join(err, small.end())
	}
	defer func() { err = errors.Join(err, small.end()) }()
	for _, kind := range growthKinds {
		if b.pairs > 0 {
			g, err := b.compareGrowth(ctx, kind, &small, &large)
			if err != nil {
				return nil, err
			}
			r.Growths = append(r.Growths, g)
			for _, p := range g.Pairs {
				r.Small.Lag, r.Large.Lag = r.Small.Lag.or(p.Small.Lag), r.Large.Lag.or(p.Large.Lag)
			}
		}
		if b.profile != "" {
			if _, _, err := b.profiled(ctx, large.grahak, kind.name, kind.target(&large)); err != nil {
				return nil, err
			}
		}
	}
	id, err := large.firstID()
	if err != nil {
		return nil, err
	}
	for s, report := range map[*store]*growthStore{&small: &r.Small, &large: &r.Large} {
		if report.Memory, err = readMemory(s.pid()); err != nil {
			return nil, err
		}
		if report.Disk, err = s.stopAndWeigh(ctx); err != nil {
			return nil, err
		}
	}
	if r.StartMs, err = large.firstAnswers(ctx, id, starts); err != nil {
		return nil, err
	}
	r.judge()
	r.print(b.out)
	return r, nil
}

// end stops the store's server, if it was started.
func (s *store) end() error {
	if s.grahak == nil || s.server == nil {
		return nil
	}
	return s.stop()
}

// firstID returns one of the sample's ids.
func (s *store) firstID() (string, error) {
	raw, err := os.ReadFile(s.made.ids)
	id, _, _ := strings.Cut(string(raw), "\n")
	return id, err
}

// fill makes the store's customers.
func (s *store) fill(ctx context.Context, out io.Writer, r *growthStore) (err error) {
	fmt.Fprintf(out, "Making %d customers …\n", r.Customers)
	caughtUp := s.watchLag(ctx)
	s.made, err = s.populate(ctx, r.Customers)
	behind, lagErr := caughtUp()
	if err := errors.Join(err, lagErr); err != nil {
		return err
	}
	r.Lag, r.Creates = behind, float64(r.Customers)/s.made.took.Seconds()
	fmt.Fprintf(out, "That took %.1f s (%.0f/s); %s.\n", s.made.took.Seconds(), r.Creates, r.Lag)
	s.cursors, err = s.grahak.cursors(ctx, r.Customers, pageSize)
	return err
}

// settleTimeout bounds how long a store may be busy with nothing asked of it.
const settleTimeout = 2 * time.Minute

// settle waits until the server has nothing to do: after its events are in order
// it still has runs of its look-up index to merge and its log to copy.
func (s *store) settle(ctx context.Context) error {
	const idle = 2 * tick // in a second
	end := time.Now().Add(settleTimeout)
	for time.Now().Before(end) {
		before, err := readCPU(s.pid())
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		after, err := readCPU(s.pid())
		if err != nil || after.server-before.server <= idle {
			return err
		}
	}
	return fmt.Errorf("%s is still busy %s after the last request", s.name, settleTimeout)
}

// growthKind is a kind of request that both stores are asked.
type growthKind struct {
	name  string
	judge func(*growth) bar
	list  int // how many customers its answer lists; 0 for no list
	path  string
	file  func(*store) string // of what comes behind the path
}

// What a large store may cost.
const (
	barGrown       = 0.60 // of the small store's creates, at least
	barGrowth      = 1.5  // of the small store's time, or p99, at most
	barGrownMemory = 192  // MB, at most
	barGrownStart  = 300  // ms, at most
	barDisk        = 600  // bytes a customer, at most
	barImport      = 12   // minutes for ten million customers, at most
)

func judgeCreates(g *growth) bar {
	return atLeast(g.Name, 1/g.Ratio, barGrown, "of the small store's rate")
}

func judgeTime(g *growth) bar {
	return atMost(g.Name, g.Ratio, barGrowth, "× the small store's time")
}

func judgeP99(g *growth) bar {
	return atMost(g.Name+", p99", g.P99, barGrowth, "× the small store's")
}

// Creates come last, because the small store grows by them.
var growthKinds = []growthKind{
	{"list, first page", judgeTime, pageSize, fmt.Sprintf("/customers?count=%d", pageSize), func(*store) string { return "" }},
	{"list, any page", judgeTime, pageSize, fmt.Sprintf("/customers?count=%d&after=", pageSize), func(s *store) string { return s.cursors }},
	{"by e-mail address", judgeP99, 1, "/customers?email_address=", func(s *store) string { return s.made.references }},
	{"by mobile number", judgeP99, 1, "/customers?mobile_number=", func(s *store) string { return s.made.mobiles }},
	{"by reference", judgeP99, 1, "/customers?object_reference_id=", func(s *store) string { return s.made.references }},
	{"get by own id", judgeP99, 0, "/customers/", func(s *store) string { return s.made.ids }},
	{"create", judgeCreates, 0, "", nil},
}

// target is what s is asked.
func (k growthKind) target(s *store) target {
	if k.file == nil {
		return target{mode: "create"}
	}
	return target{mode: "get", path: k.path, file: k.file(s)}
}

// compareGrowth runs the pairs of one kind of request, each in the other order
// than the one before.
func (b *bench) compareGrowth(ctx context.Context, kind growthKind, small, large *store) (*growth, error) {
	l := load{connections: b.connections, threads: threads, duration: warmUp}
	for _, s := range []*store{small, large} {
		if kind.list > 0 {
			if err := s.wantCount(ctx, kind.target(s), kind.list); err != nil {
				return nil, err
			}
		}
		if _, err := b.wrk.measure(ctx, s.grahak, kind.target(s), l); err != nil {
			return nil, err
		}
	}
	g := &growth{Name: kind.name, judge: kind.judge}
	g.printTitle(b.out)
	l.duration = time.Duration(b.seconds) * time.Second
	for i := range b.pairs {
		p := growthPair{SmallFirst: i%2 == 0}
		for half := range 2 {
			s, result := large, &p.Large
			if (half == 0) == p.SmallFirst {
				s, result = small, &p.Small
			}
			var err error
			if *result, err = b.wrk.measure(ctx, s.grahak, kind.target(s), l); err != nil {
				return nil, err
			}
		}
		p.Ratio = p.Small.Rate / p.Large.Rate
		p.print(b.out, i+1)
		g.Pairs = append(g.Pairs, p)
	}
	g.finish(b.out)
	return g, nil
}

// judge holds the figures against the bars.
func (r *growthReport) judge() {
	for _, g := range r.Growths {
		r.Bars = append(r.Bars, g.judge(g))
	}
	if r.Large.Lag != nil {
		r.Bars = append(r.Bars, atMost("order, behind by", r.Large.Lag.worst(), barLag, "ms"))
	}
	r.Bars = append(r.Bars,
		atMost("start to first answer", median(r.StartMs), barGrownStart, "ms"),
		atMost("peak memory", r.Large.Memory.Peak, barGrownMemory, "MB"),
		atMost("disk for each", r.Import.Disk.each(), barDisk, "bytes"),
		atMost("import of 10 million", r.Import.Seconds/60*1e7/float64(r.Import.Customers), barImport, "minutes"))
}

// print writes what is no comparison.
func (r *growthReport) print(out io.Writer) {
	fmt.Fprintln(out)
	for _, s := range []growthStore{r.Small, r.Large} {
		fmt.Fprintf(out, "Disk: %s; memory: peak %.1f MB.\n", s.Disk, s.Memory.Peak)
	}
	fmt.Fprintf(out, "Disk after the import: %s.\n", r.Import.Disk)
	fmt.Fprintf(out, "Import: %.0f s, %.0f rows/s, memory: peak %.1f MB.\n", r.Import.Seconds, float64(r.Import.Customers)/r.Import.Seconds, r.Import.Memory.Peak)
}

func (*growthReport) kind() string { return "growth" }

func (r *growthReport) plots() map[string]string {
	return map[string]string{
		"":        barPlot(fmt.Sprintf("A store of %d customers against one of %d", r.Large.Customers, r.Small.Customers), r.Bars),
		"-import": curvePlot(fmt.Sprintf("Import of %d customers into an empty instance", r.Import.Customers), "seconds", "rows a second", r.Import.Rates),
	}
}

func (r *growthReport) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %d | %d | slower by rate | by CPU | p99 of both | p99, ratio |\n|---|---:|---:|---:|---:|---:|---:|\n", r.Small.Customers, r.Large.Customers)
	for _, g := range r.Growths {
		fmt.Fprintf(&b, "| %s | %.0f/s | %.0f/s | %.2f | %.2f | %.1f, %.1f ms | %.2f |\n", g.Name, g.Small.Rate, g.Large.Rate, g.Ratio, g.ByCPU, g.Small.P99, g.Large.P99, g.P99)
	}
	return b.String() + "\n" + r.barTable()
}

// growthRow is one line of a table. Of two figures the first is the small
// store's.
const growthRow = "%-18s %9.0f %9.0f %7.3f %7.3f   %7.2f %7.2f  %7.2f %7.2f   %5.2f %5.2f   %s\n"

func (g *growth) printTitle(out io.Writer) {
	fmt.Fprintf(out, "\n%-18s %9s %9s %7s %7s   %15s  %15s   %11s\n", g.Name, "small/s", "large/s", "ratio", "by CPU", "p50 ms", "p99 ms", "other CPUs")
}

func (p *growthPair) print(out io.Writer, n int) {
	order := "large first"
	if p.SmallFirst {
		order = "small first"
	}
	fmt.Fprintf(out, growthRow, fmt.Sprint("pair ", n), p.Small.Rate, p.Large.Rate, p.Ratio, p.byCPU(),
		p.Small.P50, p.Large.P50, p.Small.P99, p.Large.P99, p.Small.OthersCPU, p.Large.OthersCPU, order)
}

// byCPU is what Ratio would be if nothing else ran and the processors were the
// only limit: the ratio of the processor time of server and wrk together.
func (p *growthPair) byCPU() float64 {
	return (p.Large.ServerCPU + p.Large.WrkCPU) / (p.Small.ServerCPU + p.Small.WrkCPU)
}

// finish computes the medians and ends the table.
func (g *growth) finish(out io.Writer) {
	of := func(get func(growthPair) float64) float64 { return medianOf(g.Pairs, get) }
	g.Ratio = of(func(p growthPair) float64 { return p.Ratio })
	g.ByCPU = of(func(p growthPair) float64 { return p.byCPU() })
	g.P99 = of(func(p growthPair) float64 { return p.Large.P99 / p.Small.P99 })
	side := func(of func(func(sample) float64) float64) growthSide {
		return growthSide{
			Rate: of(func(s sample) float64 { return s.Rate }),
			P50:  of(func(s sample) float64 { return s.P50 }),
			P99:  of(func(s sample) float64 { return s.P99 }),
		}
	}
	g.Small = side(func(get func(sample) float64) float64 {
		return of(func(p growthPair) float64 { return get(p.Small) })
	})
	g.Large = side(func(get func(sample) float64) float64 {
		return of(func(p growthPair) float64 { return get(p.Large) })
	})
	fmt.Fprintf(out, growthRow, "median", g.Small.Rate, g.Large.Rate, g.Ratio, g.ByCPU, g.Small.P50, g.Large.P50, g.Small.P99, g.Large.P99,
		of(func(p growthPair) float64 { return p.Small.OthersCPU }), of(func(p growthPair) float64 { return p.Large.OthersCPU }), "")
}
