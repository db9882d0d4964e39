// Command bench compares Grahak with an empty net/http handler, side by side
// on one machine, and measures its storage, its memory and its start. See
// README.md beside it for what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	pairs, seconds, connections, customers int

	profile string
	strict  bool
	keep    bool
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
	flag.StringVar(&o.profile, "profile", "", "also profile creates and reads, into this `folder`")
	flag.BoolVar(&o.strict, "strict", false, "fail if a bar is not met")
	flag.BoolVar(&o.keep, "keep", false, "keep the data folder and the log")
	flag.Parse()
	if flag.NArg() > 0 || o.pairs < 0 || o.seconds < 1 || o.seconds > 60 || o.connections < threads || o.customers < 1 {
		flag.Usage()
		os.Exit(2)
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
	dir, err := os.MkdirTemp(outDir, "run-")
	if err != nil {
		return err
	}
	b.dir = dir
	defer func() {
		if o.keep {
			fmt.Fprintln(out, "Kept:", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	r := &report{Started: time.Now(), Seconds: o.seconds, Connections: o.connections, Customers: o.customers}
	if r.Machine, err = describeMachine(dir); err != nil {
		return err
	}
	r.Machine.print(out)
	program := filepath.Join(dir, "grahak")
	if err := buildGrahak(ctx, root, program); err != nil {
		return err
	}
	if err := b.measureServers(ctx, program, r); err != nil {
		return err
	}
	if r.Floor, err = measureFloor(ctx, dir, o.connections, time.Duration(o.seconds)*time.Second); err != nil {
		return err
	}
	r.judge()
	r.print(out)
	file, err := r.save(outDir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nAll figures:", file)
	if o.strict {
		return r.strict()
	}
	return nil
}

// measureServers measures all that needs a running server.
func (b *bench) measureServers(ctx context.Context, program string, r *report) (err error) {
	if b.grahak, err = startGrahak(ctx, program, b.dir); err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			err = errors.Join(err, b.grahak.stop())
		}
	}()
	b.wrk.authorization = basicAuth(b.grahak.key)
	id, err := b.startHandler(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.handler.stop()) }()
	fmt.Fprintf(b.out, "Making %d customers …\n", b.customers)
	ids, references, err := b.grahak.populate(ctx, b.customers)
	if err != nil {
		return err
	}
	b.created += int64(b.customers)
	get, create := target{mode: "get", file: ids}, target{mode: "create"}
	for _, kind := range []struct {
		name string
		target
	}{{"get", get}, {"get, ref", target{mode: "get", file: references}}, {"create", create}} {
		if b.pairs == 0 {
			break
		}
		c, err := b.compare(ctx, kind.name, kind.target)
		if err != nil {
			return err
		}
		r.Comparisons = append(r.Comparisons, c)
	}
	one := load{connections: 1, threads: 1, duration: time.Duration(b.seconds) * time.Second}
	if r.Latency, err = b.pair(ctx, create, one, false); err != nil {
		return err
	}
	if err := b.checkTotal(ctx); err != nil {
		return err
	}
	if r.Memory, err = readMemory(b.grahak.pid()); err != nil {
		return err
	}
	if b.profile != "" {
		for _, t := range []target{create, get} {
			if err := b.profiled(ctx, t); err != nil {
				return err
			}
		}
	}
	running = false
	if err := b.grahak.stop(); err != nil {
		return err
	}
	r.StartMs, err = b.grahak.firstAnswers(ctx, id, starts)
	return err
}

// startHandler starts the empty handler with an answer of Grahak's, makes sure
// that the answers of both are of one size, and returns the id of the customer
// that it made for that.
func (b *bench) startHandler(ctx context.Context, r *report) (id string, err error) {
	// As long as the references of load.lua.
	const reference = "constant000-0-000000000%40example.com"
	id, answer, err := createCustomer(ctx, b.grahak.server, b.grahak.key, reference)
	if err != nil {
		return "", err
	}
	b.created++
	if b.handler, err = startHandler(ctx, b.dir, answer); err != nil {
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

// measure runs wrk against one of the servers and makes sure that all answers
// were 200.
func (b *bench) measure(ctx context.Context, s *server, t target, l load) (sample, error) {
	if s != b.grahak.server {
		return b.wrk.run(ctx, s, t, l)
	}
	before, err := b.grahak.metrics(ctx)
	if err != nil {
		return sample{}, err
	}
	result, err := b.wrk.run(ctx, s, t, l)
	if err != nil {
		return sample{}, err
	}
	after, err := b.grahak.metrics(ctx)
	if err != nil {
		return sample{}, err
	}
	grown, n := after.since(before), float64(result.Requests)
	if failures := grown.failures(); failures > 0 {
		return sample{}, fmt.Errorf("grahak answered %.0f requests with another status than 200; see its metrics or log with -keep", failures)
	}
	result.Allocs = grown["go_memstats_mallocs_total"] / n
	result.Bytes = grown["go_memstats_alloc_bytes_total"] / n
	if t.mode == "create" {
		b.created += result.Requests
		b.runs++
		commits := grown["grahak_store_batch_writes_count"]
		result.Batch = grown["grahak_store_batch_writes_sum"] / commits
		result.CommitMs = grown["grahak_store_commit_duration_seconds_sum"] / commits * 1e3
	}
	return result, nil
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

// profiled takes a CPU profile of Grahak under load.
func (b *bench) profiled(ctx context.Context, t target) error {
	if err := os.MkdirAll(b.profile, 0o700); err != nil {
		return err
	}
	l := load{connections: b.connections, threads: threads, duration: time.Duration(b.seconds) * time.Second}
	var top string
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		top, failed = b.grahak.profile(ctx, filepath.Join(b.profile, t.mode+".pprof"), l.duration)
	}()
	_, err := b.measure(ctx, b.grahak.server, t, l)
	<-done
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nProfile of %s:\n%s", t.mode, top)
	return nil
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
