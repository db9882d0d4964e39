package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"grahak/internal/testkit/postgres"
)

// The names of databases: what each measurement begins with, and its copies for
// Grahak and for pgbench.
const (
	baseDatabase    = "base"
	grahakDatabase  = "of_grahak"
	pgbenchDatabase = "of_pgbench"
)

// merchants is how many share the load where it is not one's alone.
const merchants = 64

// postgresBench is a run on PostgreSQL.
type postgresBench struct {
	*bench
	db     *database
	report *postgresReport

	key      string // the demo merchant's
	made     population
	urls     map[string]string // of the databases, by name
	create   string            // pgbench's scripts
	get      string
	creates  int64 // customers that Grahak said it made in its database
	unsure   int64 // customers that wrk may have hung up on
	existing int64 // customers that were there before
}

// measurePostgres compares Grahak with pgbench on one PostgreSQL, and returns a
// report.
func (b *bench) measurePostgres(ctx context.Context, h *heading) (_ any, err error) {
	p := &postgresBench{bench: b, report: &postgresReport{heading: h, Customers: b.customers, Settings: databaseSettings}, urls: map[string]string{}}
	if p.db, err = startDatabase(b.dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.db.Close()) }()
	if p.report.Server, err = p.db.Query("", "SELECT version()"); err != nil {
		return nil, err
	}
	defer func() {
		if b.grahak != nil {
			err = errors.Join(err, b.grahak.stop())
		}
	}()
	for _, step := range []func(context.Context) error{p.makeBase, p.compareAll, p.measureKinds, p.spread, p.countRoundTrips, p.drain, p.grow} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	p.report.judge()
	p.report.print(b.out)
	return p.report, nil
}

// start starts Grahak, in place of the one that runs, on a database.
func (p *postgresBench) start(ctx context.Context, url string) (err error) {
	if p.grahak != nil {
		if err := p.grahak.stop(); err != nil {
			return err
		}
	}
	p.grahak, err = startGrahak(ctx, "grahak", p.program, p.dir, p.key, "--database-url", url)
	return err
}

// makeBase fills the database that all others are copies of, with customers of
// Grahak's and as many of pgbench's.
func (p *postgresBench) makeBase(ctx context.Context) (err error) {
	if p.urls[baseDatabase], err = p.db.NewDatabase(baseDatabase, ""); err != nil {
		return err
	}
	url := p.urls[baseDatabase]
	if err := p.start(ctx, url); err != nil {
		return err
	}
	p.key = p.grahak.key
	s := &store{grahak: p.grahak}
	filled := growthStore{Customers: p.customers}
	if err := s.fill(ctx, p.out, &filled); err != nil {
		return err
	}
	p.made = s.made
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := p.grahak.stop(); err != nil {
		return err
	}
	if err := p.weigh(url); err != nil {
		return err
	}
	if err := p.script(url); err != nil {
		return err
	}
	if err := p.insertMany(ctx, url, pgbenchMerchant, p.customers); err != nil {
		return err
	}
	p.existing = int64(p.customers)
	_, err = p.db.Query(url, "VACUUM (ANALYZE)")
	return err
}

// weigh notes what tables and indexes take on disk.
func (p *postgresBench) weigh(url string) error {
	if _, err := p.db.Query(url, "VACUUM (ANALYZE)"); err != nil {
		return err
	}
	rows, err := p.db.Query(url, `SELECT c.relname, pg_table_size(c.oid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind IN ('r', 'i') ORDER BY 2 DESC`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		name, text, _ := strings.Cut(row, "|")
		bytes, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		if perCustomer := float64(bytes) / float64(p.customers); perCustomer >= 0.05 {
			p.report.Relations = append(p.report.Relations, relation{name, bytes, perCustomer})
		}
	}
	return nil
}

// script writes pgbench's scripts, with values as large as Grahak's.
func (p *postgresBench) script(url string) error {
	rows, err := p.db.Query(url, `SELECT (SELECT round(avg(length(sealed))) FROM customers), length(actor), length(request_id)
		FROM events WHERE type = 'customer.created' LIMIT 1`)
	if err != nil {
		return err
	}
	var sealed, actor, request int
	if len(rows) != 1 {
		return errors.New("there are no events to take as an example")
	}
	if _, err := fmt.Sscanf(rows[0], "%d|%d|%d", &sealed, &actor, &request); err != nil {
		return err
	}
	text := func(length int) string { return "'" + strings.Repeat("x", length) + "'" }
	values := strings.NewReplacer("SEALED", `'\x`+strings.Repeat("5a", sealed)+`'::bytea`, "ACTOR", text(actor), "REQUEST", text(request), "CUSTOMERS", strconv.Itoa(p.customers))
	p.create, p.get = values.Replace(pgbenchCreate), values.Replace(pgbenchGet)
	p.report.SealedBytes = sealed
	return nil
}

// insertMany inserts customers of a merchant, which nobody can open, with ids
// like those of pgbench.
func (p *postgresBench) insertMany(ctx context.Context, url, merchant string, customers int) error {
	const atOnce = 200_000 // that takes less than a minute
	for from := 1; from <= customers; from += atOnce {
		_, err := p.db.Query(url, fmt.Sprintf(`INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at)
			SELECT '%s', %s, decode(md5('%s' || id), 'hex'), int8send(id), int8send(id), convert_to(repeat('x', %d), 'UTF8'), 1, 1, 1, 1 FROM generate_series(%d::bigint, %d) AS id`,
			merchant, strings.ReplaceAll(pgbenchID, ":id", "id"), merchant, p.report.SealedBytes, from, min(from+atOnce-1, customers)))
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes the databases of Grahak and pgbench anew, and starts Grahak on its.
func (p *postgresBench) fresh(ctx context.Context) (err error) {
	if err := p.grahak.stop(); err != nil {
		return err
	}
	for _, name := range []string{grahakDatabase, pgbenchDatabase} {
		if p.urls[name], err = p.db.NewDatabase(name, baseDatabase); err != nil {
			return err
		}
	}
	p.creates, p.unsure = 0, 0
	return p.start(ctx, p.urls[grahakDatabase])
}

// checkpoint has what follows begin with the same work for the log: the first
// change of each page after a checkpoint writes all of it.
func (p *postgresBench) checkpoint() error {
	_, err := p.db.Query("", "CHECKPOINT")
	return err
}

// ask runs wrk against a node.
func (p *postgresBench) ask(ctx context.Context, g *grahak, t target, l load) (sample, error) {
	return p.db.watch(func() (sample, error) {
		s, err := p.wrk.measure(ctx, g, t, l)
		if err == nil && t.mode == "create" {
			p.creates += s.Requests
			p.unsure += int64(l.connections)
		}
		return s, err
	})
}

// warmed is a half that runs for a short while before it is measured, after a
// checkpoint.
func (p *postgresBench) warmed(run half) half {
	return func(ctx context.Context, l load) (sample, error) {
		if err := p.checkpoint(); err != nil {
			return sample{}, err
		}
		short := l
		short.duration = warmUp
		if _, err := run(ctx, short); err != nil {
			return sample{}, err
		}
		return run(ctx, l)
	}
}

// asks is a half that asks Grahak.
func (p *postgresBench) asks(t target) half {
	return func(ctx context.Context, l load) (sample, error) { return p.ask(ctx, p.grahak, t, l) }
}

// benches is a half that runs a script of pgbench in a database, with as many
// connections as Grahak has at most.
func (p *postgresBench) benches(script *string, name string) half {
	return func(ctx context.Context, l load) (sample, error) {
		return p.db.runPgbench(ctx, p.urls[name], *script, p.report.Connections.Max, l.duration)
	}
}

// target is what customers that were made before are asked for.
func (p *postgresBench) target(mode, path, file string) target {
	return target{mode: mode, path: path, file: file}
}

// compareAll compares Grahak and pgbench.
func (p *postgresBench) compareAll(ctx context.Context) error {
	if err := p.fresh(ctx); err != nil {
		return err
	}
	if err := p.connections(ctx); err != nil {
		return err
	}
	names := [2]string{"pgbench", "grahak"}
	create := contest{Name: "create", Names: names, bar: barPostgresCreate, halves: [2]half{p.warmed(p.benches(&p.create, pgbenchDatabase)), p.warmed(p.asks(target{mode: "create"}))}}
	get := contest{Name: "get", Names: names, bar: barPostgresGet, halves: [2]half{p.warmed(p.benches(&p.get, grahakDatabase)), p.warmed(p.asks(p.target("get", "/customers/", p.made.ids)))}}
	if err := p.run(ctx, &get, nil); err != nil {
		return err
	}
	return p.run(ctx, &create, func(ctx context.Context) error {
		if err := p.check(); err != nil {
			return err
		}
		return p.fresh(ctx)
	})
}

// connections notes what Grahak's connections are doing.
func (p *postgresBench) connections(ctx context.Context) error {
	m, err := p.grahak.metrics(ctx)
	if err != nil {
		return err
	}
	c := &p.report.Connections
	c.Max = int(m["grahak_store_connections_max"])
	c.Open = int(m[`grahak_store_connections{state="idle"}`] + m[`grahak_store_connections{state="in_use"}`])
	c.Waits, c.WaitedSeconds = int(m["grahak_store_connection_waits_total"]), m["grahak_store_connection_wait_seconds_total"]
	if c.Max == 0 {
		return errors.New("grahak does not tell how many connections it may have")
	}
	return nil
}

// run runs the pairs of a contest; before is run before each and may be nil.
func (p *postgresBench) run(ctx context.Context, c *contest, before func(context.Context) error) error {
	c.printTitle(p.out)
	l := load{connections: p.bench.connections, threads: threads, duration: time.Duration(p.seconds) * time.Second}
	for i := range p.pairs {
		if before != nil {
			if err := before(ctx); err != nil {
				return err
			}
		}
		pair := contestPair{SecondFirst: i%2 == 1}
		for turn := range 2 {
			which := turn
			if pair.SecondFirst {
				which = 1 - turn
			}
			var err error
			if pair.Sides[which], err = c.halves[which](ctx, l); err != nil {
				return err
			}
		}
		pair.Ratio = pair.Sides[1].Rate / pair.Sides[0].Rate
		c.Pairs = append(c.Pairs, pair)
		pair.print(p.out, fmt.Sprint("pair ", i+1))
	}
	c.finish(p.out)
	p.report.Contests = append(p.report.Contests, c)
	return nil
}

// check makes sure that every create that was answered with 200 is there, and no
// more than wrk may have hung up on.
func (p *postgresBench) check() error {
	rows, err := p.db.number(p.urls[grahakDatabase], "SELECT count(*) FROM customers WHERE merchant_id <> '"+pgbenchMerchant+"'")
	if err != nil {
		return err
	}
	made := int64(rows) - p.existing
	if made < p.creates || made > p.creates+p.unsure {
		return fmt.Errorf("the database has %d new customers after grahak said that it made %d", made, p.creates)
	}
	return nil
}

// measureKinds measures each kind of request on many connections and on one.
func (p *postgresBench) measureKinds(ctx context.Context) error {
	kinds := []struct {
		name   string
		list   int
		target target
	}{
		{"create", 0, target{mode: "create"}},
		{"update", 0, p.target("update", "/customers/", p.made.ids)},
		{"get by own id", 0, p.target("get", "/customers/", p.made.ids)},
		{"get by reference", 0, p.target("get", "/customers/", p.made.references)},
		{"by e-mail address", 1, p.target("get", "/customers?email_address=", p.made.references)},
		{"list, first page", pageSize, p.target("get", fmt.Sprintf("/customers?count=%d", pageSize), "")},
	}
	printKinds(p.out)
	for _, kind := range kinds {
		if kind.list > 0 {
			if err := p.grahak.wantCount(ctx, kind.target, kind.list); err != nil {
				return err
			}
		}
		for _, l := range []load{{connections: p.bench.connections, threads: threads}, {connections: 1, threads: 1}} {
			l.duration = time.Duration(p.seconds) * time.Second
			s, err := p.warmed(p.asks(kind.target))(ctx, l)
			if err != nil {
				return err
			}
			k := kindOfRequest{kind.name, l.connections, s}
			k.print(p.out)
			p.report.Kinds = append(p.report.Kinds, k)
		}
		if p.profile != "" {
			if _, _, err := p.profiled(ctx, p.grahak, "postgres "+kind.name, kind.target); err != nil {
				return err
			}
		}
	}
	return p.connections(ctx)
}

// spread compares one merchant with many, and one node with two.
func (p *postgresBench) spread(ctx context.Context) error {
	keys, err := p.makeMerchants(ctx)
	if err != nil {
		return err
	}
	create := target{mode: "create"}
	many := contest{
		Name: "creates of many", Names: [2]string{"1 merchant", fmt.Sprintf("%d merchants", merchants)},
		halves: [2]half{p.warmed(p.asks(create)), p.warmed(p.asks(target{mode: "create", file: keys}))},
	}
	if err := p.run(ctx, &many, nil); err != nil {
		return err
	}
	if p.report.Memory, err = readMemory(p.grahak.pid()); err != nil {
		return err
	}
	dir := filepath.Join(p.dir, "second")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	second, err := startGrahak(ctx, "second node", p.program, dir, p.key,
		"--database-url", p.urls[grahakDatabase], "--master-key-file", filepath.Join(p.grahak.data(), "master.key"))
	if err != nil {
		return err
	}
	nodes := contest{Name: "creates by nodes", Names: [2]string{"1 node", "2 nodes"}, halves: [2]half{p.warmed(p.asks(create)), p.warmed(p.both(second))}}
	if err := errors.Join(p.run(ctx, &nodes, nil), second.stop()); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	return p.dead()
}

// makeMerchants makes merchants by the command line and returns a file of what
// their requests authorize themselves with.
func (p *postgresBench) makeMerchants(ctx context.Context) (file string, err error) {
	var lines []string
	for i := range merchants {
		name := fmt.Sprintf("bench%02d", i)
		for _, args := range [][]string{{"merchant", "create", name}, {"key", "create", "--json", "--merchant", name}} {
			cmd := exec.CommandContext(ctx, p.program, append(args, "--data", p.grahak.data(), "--database-url", p.urls[grahakDatabase])...)
			out, err := cmd.Output()
			if err != nil {
				return "", fmt.Errorf("grahak %s: %w", strings.Join(args, " "), err)
			}
			if args[0] != "key" {
				continue
			}
			var made struct{ Key string }
			if err := json.Unmarshal(out, &made); err != nil {
				return "", err
			}
			lines = append(lines, basicAuth(made.Key))
		}
	}
	file = filepath.Join(p.dir, "keys")
	return file, writeLines(file, lines)
}

// both is a half of creates on two nodes at once, which share the connections.
func (p *postgresBench) both(second *grahak) half {
	return func(ctx context.Context, l load) (sample, error) {
		l.connections /= 2
		l.threads = 1
		return p.db.watch(func() (sample, error) {
			var samples [2]sample
			var failed [2]error
			done := make(chan struct{})
			go func() {
				defer close(done)
				samples[1], failed[1] = p.wrk.measure(ctx, second, target{mode: "create"}, l)
			}()
			samples[0], failed[0] = p.wrk.measure(ctx, p.grahak, target{mode: "create"}, l)
			<-done
			sum := samples[0].and(samples[1])
			p.creates += sum.Requests
			p.unsure += 2 * int64(l.connections)
			return sum, errors.Join(failed[:]...)
		})
	}
}

// dead notes how much of the tables that rows are deleted from is dead.
func (p *postgresBench) dead() error {
	rows, err := p.db.Query(p.urls[grahakDatabase], `SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, autovacuum_count
		FROM pg_stat_user_tables WHERE relname IN ('pending_events', 'lookup_blocks', 'lookup_runs', 'keysets') ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		c := strings.Split(row, "|")
		d := deadRows{Table: c[0]}
		for i, to := range []*int64{&d.Bytes, &d.IndexBytes, &d.Live, &d.Dead, &d.Vacuums} {
			if *to, err = strconv.ParseInt(c[i+1], 10, 64); err != nil {
				return err
			}
		}
		p.report.Dead = append(p.report.Dead, d)
	}
	return nil
}

// countRoundTrips counts how often Grahak waits for an answer of the database.
func (p *postgresBench) countRoundTrips(ctx context.Context) error {
	proxy, err := p.db.NewProxy()
	if err != nil {
		return err
	}
	if err := p.start(ctx, postgres.URL(p.urls[grahakDatabase], proxy)); err != nil {
		return err
	}
	if err := (&store{grahak: p.grahak}).settle(ctx); err != nil {
		return err
	}
	count := func(fn func() error) (perSecond float64, took time.Duration, err error) {
		before, start := proxy.RoundTrips(), time.Now()
		err = fn()
		took = time.Since(start)
		return float64(proxy.RoundTrips()-before) / took.Seconds(), took, err
	}
	r := &p.report.RoundTrips
	r.Idle, _, err = count(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(4 * time.Second):
			return nil
		}
	})
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		target      target
		connections int
		result      *float64
	}{
		{target{mode: "create"}, 1, &r.CreateOne},
		{target{mode: "create"}, p.bench.connections, &r.CreateMany},
		{p.target("get", "/customers/", p.made.ids), 1, &r.GetOne},
		{p.target("get", "/customers/", p.made.ids), p.bench.connections, &r.GetMany},
	} {
		var s sample
		rate, took, err := count(func() (err error) {
			s, err = p.ask(ctx, p.grahak, kind.target, load{connections: kind.connections, threads: min(threads, kind.connections), duration: time.Duration(p.seconds) * time.Second})
			return err
		})
		if err != nil {
			return err
		}
		*kind.result = (rate - r.Idle) * took.Seconds() / float64(s.Requests)
	}
	return nil
}

// grow measures creates and gets in a database with many more customers, which
// are another merchant's.
func (p *postgresBench) grow(ctx context.Context) error {
	more := p.large - 2*p.customers
	if more <= 0 {
		return nil
	}
	fmt.Fprintf(p.out, "\nInserting %d more customers …\n", more)
	if err := p.fresh(ctx); err != nil {
		return err
	}
	url := p.urls[grahakDatabase]
	start := time.Now()
	if err := p.insertMany(ctx, url, "filler", more); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "That took %.1f s.\n", time.Since(start).Seconds())
	p.existing += int64(more)
	if _, err := p.db.Query(url, "VACUUM (ANALYZE) customers"); err != nil {
		return err
	}
	bytes, err := p.db.number(url, "SELECT pg_relation_size('customers_reference')")
	if err != nil {
		return err
	}
	large := &largeStore{Customers: int64(p.large), ReferenceIndexBytes: int64(bytes)}
	l := load{connections: p.bench.connections, threads: threads, duration: time.Duration(p.seconds) * time.Second}
	get := p.asks(p.target("get", "/customers/", p.made.ids))
	if large.Get, err = p.warmed(get)(ctx, l); err != nil {
		return err
	}
	// Here what a checkpoint costs those who come after it is of interest.
	if err := p.checkpoint(); err != nil {
		return err
	}
	if large.Create, err = p.asks(target{mode: "create"})(ctx, l); err != nil {
		return err
	}
	p.report.Large = large
	return p.check()
}

// drain measures how fast one node puts the events of one merchant in order, when
// it has nothing else to do: one event of each customer, as creates leave them.
func (p *postgresBench) drain(ctx context.Context) error {
	if err := p.fresh(ctx); err != nil {
		return err
	}
	url := p.urls[grahakDatabase]
	if err := p.grahak.stop(); err != nil {
		return err
	}
	_, err := p.db.Query(url, `INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
		SELECT c.merchant_id, convert_to('evt_' || substr(convert_from(c.id, 'UTF8'), 5), 'UTF8'), 'customer.updated', c.id, 1, e.actor, e.request_id, e.at, 1
		FROM customers AS c JOIN events AS e ON e.merchant_id = c.merchant_id AND e.subject = c.id WHERE c.merchant_id <> '`+pgbenchMerchant+`'`)
	if err != nil {
		return err
	}
	d := &p.report.Drain
	var elapsed time.Duration
	s, err := p.db.watch(func() (sample, error) {
		if err := p.start(ctx, url); err != nil {
			return sample{}, err
		}
		start := time.Now()
		err := p.grahak.catchUp(ctx)
		elapsed = time.Since(start)
		return sample{Requests: int64(p.customers)}, err
	})
	if err != nil {
		return err
	}
	cpu, err := processCPU(p.grahak.pid())
	if err != nil {
		return err
	}
	n := float64(p.customers)
	*d = drained{Events: p.customers, Rate: n / elapsed.Seconds(), ServerCPU: float64(cpu.Microseconds()) / n, DatabaseCPU: s.DatabaseCPU, Log: s.Log}
	return nil
}
