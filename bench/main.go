// Command bench compares Grahak with an empty net/http handler or, on PostgreSQL,
// with pgbench, side by side on one machine, and measures its storage, its memory
// and its start. See
// README.md beside it for what is measured and how.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/pprof/profile"
)

type options struct {
	pairs, seconds, connections, customers int
	small, large                           int

	growth    bool
	store     string
	publish   bool
	postgres  bool
	dashboard bool
	peers     bool
	overload  bool
	mixed     bool
	minutes   int
	profile   string
	pgo       bool
	strict    bool
	keep      bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == handlerCommand {
		fail(serveHandler(os.Args[2]))
	}
	var o options
	flag.IntVar(&o.pairs, "pairs", 5, "how many `pairs` to run of each kind of request; 0 for none")
	flag.IntVar(&o.seconds, "seconds", 8, "how many `seconds` one half of a pair takes")
	flag.IntVar(&o.connections, "connections", 64, "how many `connections` wrk opens")
	flag.IntVar(&o.customers, "customers", 100_000, "how many `customers` to make before, for the reads")
	flag.BoolVar(&o.growth, "growth", false, "compare a small with a large store instead, by lists, searches and reads")
	flag.BoolVar(&o.postgres, "postgres", false, "compare with pgbench on a throw-away PostgreSQL instead")
	flag.BoolVar(&o.peers, "peers", false, "compare with PocketBase and stripe-mock instead")
	flag.BoolVar(&o.overload, "overload", false, "offer five times as many creates as can be done instead")
	flag.BoolVar(&o.mixed, "mixed", false, "offer a mixed load at 70 % of what can be done instead")
	flag.IntVar(&o.minutes, "minutes", 15, "how many `minutes` the mixed load takes, from 3 on")
	flag.BoolVar(&o.dashboard, "dashboard", false, "measure the dashboard's pages on the large store instead; with -postgres, on a throw-away PostgreSQL")
	flag.StringVar(&o.store, "store", "", "with -growth, keep the large store in this `folder`, or use the one that an earlier run has left there")
	flag.BoolVar(&o.publish, "publish", false, "also put the table and the plots into README.md, bench/README.md and docs/images")
	flag.IntVar(&o.small, "small", 10_000, "how many `customers` the small store has")
	flag.IntVar(&o.large, "large", 0, "how many `customers` the large store has, 10,000,000 with -growth unless given, otherwise 1,000,000; with -postgres, how many the table has at last")
	flag.StringVar(&o.profile, "profile", "", "keep the profiles of Grahak under each kind of request in this `folder`; take them with -growth and -postgres, too")
	flag.BoolVar(&o.pgo, "pgo", false, "profile Grahak under each kind of request instead, into "+pgoFile+", which it is built with")
	flag.BoolVar(&o.strict, "strict", false, "fail if a bar is not met")
	plotFile := flag.String("scale", "", "only calculate: print the table of docs/scale.md, and write its plot into this `file`")
	flag.BoolVar(&o.keep, "keep", false, "keep the data folder and the log")
	flag.Parse()
	if o.large == 0 {
		o.large = 1_000_000
		if o.growth {
			o.large = 10_000_000
		}
	}
	if flag.NArg() > 0 || o.pairs < 0 || o.seconds < 1 || o.seconds > 60 || o.connections < threads || o.customers < 1 || o.small < 2*pageSize || o.large < o.small || o.growth && (o.postgres || o.dashboard) || o.peers && (o.growth || o.postgres || o.dashboard || o.pairs == 0) || o.minutes < 3 {
		flag.Usage()
		os.Exit(2)
	}
	if *plotFile != "" {
		fail(writeScale(os.Stdout, *plotFile))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(run(ctx, o, os.Stdout))
}

// fail ends the program if there is an error.
func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const (
	// threads are wrk's. A thread has at least one connection.
	threads = 2
	// warmUp goes before the pairs of a kind of request.
	warmUp = 2 * time.Second
	starts = 10
)

// bench is one run.
type bench struct {
	options
	out     io.Writer
	dir     string
	program string
	grahak  *grahak
	handler *server
	wrk     *wrk
	created int64 // customers that Grahak said it made
	runs    int64 // of creates on Grahak
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	b := &bench{options: o, out: out}
	if b.wrk, err = newWrk(root); err != nil {
		return err
	}
	outDir := filepath.Join(root, "bench", "out")
	if err := os.MkdirAll(outDir, 0o700); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(outDir, "run-"); err != nil {
		return err
	}
	defer func() {
		if o.keep {
			fmt.Fprintln(out, "Kept:", b.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	h := &heading{Started: time.Now(), Pairs: o.pairs, Seconds: o.seconds, Connections: o.connections}
	if h.Machine, err = describeMachine(b.dir); err != nil {
		return err
	}
	h.Machine.print(out)
	b.program = filepath.Join(b.dir, "grahak")
	if err := buildGrahak(ctx, root, b.program); err != nil {
		return err
	}
	if o.pgo {
		return b.writePGO(ctx, root)
	}
	measure, kind := b.measureAll, ""
	switch {
	case o.growth:
		measure, kind = b.measureGrowth, "-growth"
	case o.peers:
		measure, kind = b.measurePeers, "-peers"
	case o.mixed:
		measure, kind = b.measureMixed, "-mixed"
	case o.overload:
		measure, kind = b.measureOverload, "-overload"
	case o.dashboard:
		measure, kind = b.measureDashboard, "-dashboard"
	case o.postgres:
		measure, kind = b.measurePostgres, "-postgres"
	}
	figures, err := measure(ctx, h)
	if err != nil {
		return err
	}
	h.print(out)
	file, err := h.save(outDir, kind, figures)
	if err != nil {
		return err
	}
	if shown, ok := figures.(shown); ok {
		if err := h.show(root, strings.TrimSuffix(file, ".json"), shown, o.publish); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\nAll figures:", file)
	if o.strict {
		return h.strict()
	}
	return nil
}

// measureAll compares Grahak with the empty handler, and returns a report.
func (b *bench) measureAll(ctx context.Context, h *heading) (any, error) {
	r := &report{heading: h, Customers: b.customers}
	if err := b.measureServers(ctx, r); err != nil {
		return nil, err
	}
	var err error
	if r.Floor, err = measureFloor(ctx, b.dir, b.connections, time.Duration(b.seconds)*time.Second); err != nil {
		return nil, err
	}
	r.judge()
	r.print(b.out)
	return r, nil
}

// measureServers measures all that needs a running server.
func (b *bench) measureServers(ctx context.Context, r *report) (err error) {
	if b.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.grahak.stop()) }()
	id, err := b.startHandler(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.handler.stop()) }()
	fmt.Fprintf(b.out, "Making %d customers …\n", b.customers)
	made, err := b.grahak.populate(ctx, b.customers)
	if err != nil {
		return err
	}
	b.created += int64(b.customers)
	get, create := target{mode: "get", path: "/customers/", file: made.ids}, target{mode: "create"}
	// Updates come last but for creates: they make answers longer.
	update := target{mode: "update", path: get.path, file: made.ids}
	for _, kind := range []struct {
		name string
		target
	}{{"get", get}, {"get, ref", target{mode: "get", path: get.path, file: made.references}}, {"update", update}, {"create", create}} {
		if b.pairs == 0 {
			break
		}
		c, err := b.compare(ctx, kind.name, kind.target)
		if err != nil {
			return err
		}
		r.Comparisons = append(r.Comparisons, c)
	}
	if b.pairs > 0 {
		if r.Keyed, err = b.compareKeyed(ctx, create); err != nil {
			return err
		}
		if r.Alone, err = b.compareAlone(ctx, create); err != nil {
			return err
		}
	}
	if err := b.checkTotal(ctx); err != nil {
		return err
	}
	if r.Memory, err = readMemory(b.grahak.pid()); err != nil {
		return err
	}
	if err := b.measureSteps(ctx, r, get, create, update); err != nil {
		return err
	}
	if r.Disk, err = b.grahak.stopAndWeigh(ctx); err != nil {
		return err
	}
	r.StartMs, err = b.grahak.firstAnswers(ctx, id, starts)
	return err
}

// measureSteps profiles Grahak under each kind of request.
func (b *bench) measureSteps(ctx context.Context, r *report, kinds ...target) error {
	for _, t := range kinds {
		p, s, err := b.profiled(ctx, b.grahak, t.mode, t)
		if err != nil {
			return err
		}
		r.Steps = append(r.Steps, request{Kind: t.mode, Steps: stepsOf(p, s.ServerCPU)})
	}
	fmt.Fprintf(b.out, "\n%s", stepTable(r.Steps))
	return nil
}

// startHandler starts the empty handler with an answer of Grahak's, makes sure
// that the answers of both are of one size, and returns the id of the customer
// that it made for that.
func (b *bench) startHandler(ctx context.Context, r *report) (id string, err error) {
	// As long as those of load.lua.
	const reference, mobile = "constant000-0-000000000%40example.com", "9999999999"
	id, answer, err := createCustomer(ctx, b.grahak.server, reference, mobile)
	if err != nil {
		return "", err
	}
	b.created++
	if b.handler, err = startHandler(ctx, b.dir, b.grahak.key, answer); err != nil {
		return "", err
	}
	r.AnswerBytes = answer.size
	for _, s := range []*server{b.grahak.server, b.handler} {
		read, err := send(ctx, http.MethodGet, s.url+"/customers/"+id, b.grahak.key, "")
		if err == nil && read.size != answer.size {
			err = fmt.Errorf("%s answers a read with %d bytes, and grahak a create with %d", s.name, read.size, answer.size)
		}
		if err != nil {
			return "", errors.Join(err, b.handler.stop())
		}
	}
	return id, nil
}

// measure runs wrk against one of the servers.
func (b *bench) measure(ctx context.Context, s *server, t target, l load) (sample, error) {
	if s != b.grahak.server {
		return b.wrk.run(ctx, s, t, l)
	}
	result, err := b.wrk.measure(ctx, b.grahak, t, l)
	if err == nil && t.creates() {
		b.created += result.Requests
		b.runs++
	}
	return result, err
}

// pair measures both servers, one right after the other.
func (b *bench) pair(ctx context.Context, t target, l load, grahakFirst bool) (*pair, error) {
	p := &pair{GrahakFirst: grahakFirst}
	for i := range 2 {
		var err error
		if (i == 0) == grahakFirst {
			p.Grahak, err = b.measure(ctx, b.grahak.server, t, l)
		} else {
			p.Empty, err = b.measure(ctx, b.handler, t, l)
		}
		if err != nil {
			return nil, err
		}
	}
	p.Ratio = p.Grahak.Rate / p.Empty.Rate
	return p, nil
}

// compare runs the pairs of one kind of request, each in the other order than
// the one before.
func (b *bench) compare(ctx context.Context, name string, t target) (*comparison, error) {
	c := &comparison{Name: name}
	l := load{connections: b.connections, threads: threads, duration: warmUp}
	if _, err := b.pair(ctx, t, l, false); err != nil {
		return nil, err
	}
	l.duration = time.Duration(b.seconds) * time.Second
	c.printTitle(b.out)
	for i := range b.pairs {
		p, err := b.pair(ctx, t, l, i%2 == 1)
		if err != nil {
			return nil, err
		}
		p.print(b.out, i+1)
		c.Pairs = append(c.Pairs, *p)
	}
	c.finish(b.out)
	return c, nil
}

// compareKeyed compares creates with those that have an idempotency key, both on
// Grahak.
func (b *bench) compareKeyed(ctx context.Context, create target) (*keyedComparison, error) {
	c := new(keyedComparison)
	l := load{connections: b.connections, threads: threads, duration: warmUp}
	keyed := target{mode: "keyed"}
	if _, err := b.measure(ctx, b.grahak.server, keyed, l); err != nil {
		return nil, err
	}
	l.duration = time.Duration(b.seconds) * time.Second
	for i := range b.pairs {
		var p keyedPair
		for half := range 2 {
			var err error
			if (half == 0) == (i%2 == 0) {
				p.Plain, err = b.measure(ctx, b.grahak.server, create, l)
			} else {
				p.Keyed, err = b.measure(ctx, b.grahak.server, keyed, l)
			}
			if err != nil {
				return nil, err
			}
		}
		c.Pairs = append(c.Pairs, p)
	}
	c.finish(b.out)
	return c, nil
}

// checkTotal makes sure that every create that was answered with 200 is there,
// and no more than wrk may have hung up on.
func (b *bench) checkTotal(ctx context.Context) error {
	total, err := b.grahak.total(ctx)
	if err != nil {
		return err
	}
	if most := b.created + b.runs*int64(b.connections); total < b.created || total > most {
		return fmt.Errorf("grahak has %d customers after it said that it made %d", total, b.created)
	}
	return nil
}

// profiled takes a CPU profile of g under load, which is left in the folder for
// profiles, or else in that of the run.
func (b *bench) profiled(ctx context.Context, g *grahak, name string, t target) (*profile.Profile, sample, error) {
	folder := cmp.Or(b.profile, b.dir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, sample{}, err
	}
	l := load{connections: b.connections, threads: threads, duration: time.Duration(b.seconds) * time.Second}
	file := filepath.Join(folder, strings.NewReplacer(",", "", " ", "-").Replace(name)+".pprof")
	var p *profile.Profile
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		p, failed = g.profile(ctx, file, l.duration)
	}()
	s, err := b.wrk.measure(ctx, g, t, l)
	<-done
	return p, s, errors.Join(err, failed)
}

// moduleRoot returns the folder of the go.mod above the working folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the module's folder")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
