package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"grahak/internal/testkit/postgres"
)

// database is a throw-away PostgreSQL server.
type database struct {
	*postgres.Cluster
	pgbench string
	dir     string // for scripts
}

// databaseSettings are what an operator would set. All else is as PostgreSQL has
// it, so what is committed is on disk.
var databaseSettings = map[string]string{
	"fsync":              "on",
	"synchronous_commit": "on",
	"full_page_writes":   "on",
	"shared_buffers":     "256MB",
	"max_wal_size":       "4GB",
	"max_connections":    "100",
}

// startDatabase starts a server, on a real disk.
func startDatabase(dir string) (_ *database, err error) {
	cluster, err := postgres.New(postgres.Options{Settings: databaseSettings})
	if err != nil {
		return nil, err
	}
	d := &database{Cluster: cluster, pgbench: cluster.ProgramPath("pgbench"), dir: dir}
	fstype, _, err := mountOf(cluster.Data())
	if err == nil && (fstype == "tmpfs" || fstype == "ramfs") {
		err = fmt.Errorf("%s is in memory (%s), where nothing is durable: set TMPDIR to a folder on a disk", cluster.Data(), fstype)
	}
	if err == nil {
		_, err = os.Stat(d.pgbench)
	}
	if err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	return d, nil
}

// number returns the result of a query with one.
func (d *database) number(url, query string) (float64, error) {
	rows, err := d.Query(url, query)
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 {
		return 0, fmt.Errorf("%d rows in place of one number, for: %s", len(rows), query)
	}
	return strconv.ParseFloat(rows[0], 64)
}

// use is what a server has used up since it was started.
type use struct {
	cpu   time.Duration // of all its processes
	log   float64       // bytes of its write-ahead log
	xids  float64       // numbers of transactions
	mxids float64       // numbers of groups of transactions that share a row's lock
}

// use reads what the server has used up.
func (d *database) use() (u use, err error) {
	pids, err := d.Processes()
	if err != nil {
		return u, err
	}
	for _, pid := range pids {
		// One that has ended meanwhile is counted with its parent, which comes last.
		if cpu, err := processCPU(pid); err == nil {
			u.cpu += cpu
		}
	}
	if u.log, err = d.number("", "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"); err != nil {
		return u, err
	}
	if u.xids, err = d.number("", "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"); err != nil {
		return u, err
	}
	u.mxids, err = d.number("", "SELECT mxid_age('1')")
	return u, err
}

// watch runs fn, which does a number of requests, and adds to the sample that it
// returns what each has cost the server.
func (d *database) watch(fn func() (sample, error)) (sample, error) {
	start := time.Now()
	before, err := d.use()
	if err != nil {
		return sample{}, err
	}
	s, err := fn()
	if err != nil {
		return sample{}, err
	}
	after, err := d.use()
	if err != nil {
		return sample{}, err
	}
	n := float64(s.Requests)
	s.DatabaseCPU = float64((after.cpu - before.cpu).Microseconds()) / n
	s.Log = (after.log - before.log) / n
	s.Transactions, s.Multixacts = (after.xids-before.xids)/n, (after.mxids-before.mxids)/n
	s.OthersCPU = max(0, s.OthersCPU-(after.cpu-before.cpu).Seconds()/time.Since(start).Seconds())
	return s, nil
}

var (
	pgbenchDone = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchRate = regexp.MustCompile(`tps = ([0-9.]+) \(without`)
	pgbenchMean = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

// runPgbench has pgbench run a script for that long, prepared, over TCP and on
// that many connections. Its variable start is a number that grows from run to
// run. Any failed transaction is an error.
func (d *database) runPgbench(ctx context.Context, url, script string, connections int, duration time.Duration) (sample, error) {
	file := filepath.Join(d.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return sample{}, err
	}
	return d.watch(func() (s sample, err error) {
		ctx, cancel := context.WithTimeout(ctx, duration+time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, d.pgbench, "--no-vacuum", "--protocol=prepared",
			"--client="+strconv.Itoa(connections), "--jobs="+strconv.Itoa(threads), "--time="+strconv.Itoa(int(duration.Seconds())),
			"--define=start="+strconv.FormatInt(time.Now().UnixMicro()*1000, 10), "--define=n=0", "--file="+file, url)
		before, err := readCPU(0)
		if err != nil {
			return s, err
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return s, fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		after, err := readCPU(0)
		if err != nil {
			return s, err
		}
		figure := func(r *regexp.Regexp) (value float64) {
			found := r.FindSubmatch(out)
			if found == nil {
				err = fmt.Errorf("pgbench printed no figures:\n%s", out)
				return 0
			}
			value, err = strconv.ParseFloat(string(found[1]), 64)
			return value
		}
		s.Requests = int64(figure(pgbenchDone))
		s.Rate, s.Mean = figure(pgbenchRate), figure(pgbenchMean)
		if err == nil && (s.Requests == 0 || strings.Contains(string(out), "failed transactions: ") && !strings.Contains(string(out), "failed transactions: 0 ")) {
			err = fmt.Errorf("pgbench failed:\n%s", out)
		}
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		s.WrkCPU = float64(cpu.Microseconds()) / float64(s.Requests)
		s.OthersCPU = max(0, after.busy-before.busy-cpu).Seconds() / after.at.Sub(before.at).Seconds()
		return s, err
	})
}

// The customers of pgbench, which are of the same tables, indexes and sizes as
// Grahak's. Their ids and references are made by the server of numbers, because
// pgbench has no others; the ids ascend over all connections, more or less.
const (
	pgbenchMerchant = "pgbench"
	pgbenchID       = `'cst_'::bytea || int8send(:id) || '\x0000000000000000'::bytea`

	pgbenchCreate = `\set id :start + 16 * :n + :client_id
\set n :n + 1
\set a random(0, 9223372036854775806)
\set b random(0, 9223372036854775806)
\set c random(0, 9223372036854775806)
\set d random(0, 9223372036854775806)
WITH made AS (INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at)
	VALUES ('` + pgbenchMerchant + `', ` + pgbenchID + `, int8send(:a) || int8send(:b), int8send(:c), int8send(:d), SEALED, 1, 1, :start, :start)
	ON CONFLICT (merchant_id, reference_index) DO NOTHING RETURNING merchant_id, id)
INSERT INTO pending_events (merchant_id, id, type, subject, revision, changed, actor, request_id, at, reindex)
	SELECT merchant_id, 'evt_'::bytea || int8send(:id) || '\x0000000000000000'::bytea, 'customer.created', id, 1, NULL, ACTOR, REQUEST, :start, 1 FROM made;
`
	pgbenchGet = `\set id random(1, CUSTOMERS)
SELECT id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at
	FROM customers WHERE merchant_id = '` + pgbenchMerchant + `' AND id = ` + pgbenchID + `;
`
)
