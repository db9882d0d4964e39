package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What Grahak is compared with. Newer versions of PocketBase demand a newer Go.
const (
	pocketBasePackage = "github.com/pocketbase/pocketbase/examples/base@v0.36.8"
	stripeMockPackage = "github.com/stripe/stripe-mock@v0.203.0"
)

// peerPair is Grahak and a peer, measured one right after the other.
type peerPair struct {
	GrahakFirst bool   `json:"grahak_first"`
	Peer        sample `json:"peer"`
	Grahak      sample `json:"grahak"`
}

// peerComparison is the pairs of one kind of request, and their medians: the ratio of
// the rates, and Grahak's p99 as a share of the peer's.
type peerComparison struct {
	Peer  string     `json:"peer"`
	Name  string     `json:"name"`
	Pairs []peerPair `json:"pairs"`
	Ratio float64    `json:"ratio_median"`
	P99   float64    `json:"p99_ratio_median"`
}

// peersReport is everything that a comparison with the peers found.
type peersReport struct {
	*heading
	Packages    []string          `json:"packages"`
	Customers   int               `json:"customers_before"`
	Comparisons []*peerComparison `json:"comparisons"`
}

// measurePeers compares Grahak with what a developer would take instead, and returns
// a report.
func (b *bench) measurePeers(ctx context.Context, h *heading) (_ any, err error) {
	r := &peersReport{heading: h, Packages: []string{pocketBasePackage, stripeMockPackage}, Customers: b.customers}
	bin := filepath.Join(filepath.Dir(b.dir), "peers")
	for _, pkg := range r.Packages {
		fmt.Fprintf(b.out, "Building %s …\n", pkg)
		if err := installPeer(ctx, bin, pkg); err != nil {
			return nil, err
		}
	}
	if b.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, ""); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.grahak.stop()) }()
	pocketBase, err := startPocketBase(ctx, filepath.Join(bin, "base"), b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pocketBase.stop()) }()
	stripe, err := startStripeMock(ctx, filepath.Join(bin, "stripe-mock"), b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stripe.stop()) }()
	fmt.Fprintf(b.out, "Making %d customers in each store …\n", b.customers)
	made, err := b.grahak.populate(ctx, b.customers)
	if err != nil {
		return nil, err
	}
	b.created += int64(b.customers)
	records, err := populatePocketBase(ctx, pocketBase, b.customers, filepath.Join(b.dir, "records"))
	if err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		name   string
		peer   *server
		theirs target
		ours   target
		least  float64
		most   float64 // of the p99; 0 for no bar
	}{
		{"get", pocketBase, target{mode: "get", path: recordsPath + "/", file: records}, target{mode: "get", path: "/customers/", file: made.ids}, 3, 0.5},
		{"create", pocketBase, target{mode: "pocketbase", path: recordsPath}, target{mode: "create"}, 3, 0.5},
		{"create", stripe, target{mode: "stripe", path: "/v1/customers"}, target{mode: "create"}, 1, 0},
	} {
		c, err := b.comparePeer(ctx, kind.peer, kind.name, kind.theirs, kind.ours)
		if err != nil {
			return nil, err
		}
		r.Comparisons = append(r.Comparisons, c)
		h.Bars = append(h.Bars, atLeast(kind.name+", "+c.Peer, c.Ratio, kind.least, "× its rate"))
		if kind.most > 0 {
			h.Bars = append(h.Bars, atMost(kind.name+" p99, "+c.Peer, c.P99, kind.most, "of its p99"))
		}
	}
	return r, b.checkTotal(ctx)
}

// comparePeer runs the pairs of one kind of request, each in the other order than the
// one before.
func (b *bench) comparePeer(ctx context.Context, peer *server, name string, theirs, ours target) (*peerComparison, error) {
	c := &peerComparison{Peer: peer.name, Name: name}
	other := &wrk{program: b.wrk.program, script: filepath.Join(filepath.Dir(b.wrk.script), "peers.lua"), started: time.Now()}
	if theirs.mode == "get" {
		other = b.wrk
	}
	l := load{connections: b.connections, threads: threads, duration: warmUp}
	fmt.Fprintf(b.out, "\n%s: %s and Grahak\n", name, peer.name)
	for i := -1; i < b.pairs; i++ {
		p := peerPair{GrahakFirst: i%2 != 0}
		for half := range 2 {
			var err error
			if (half == 0) == p.GrahakFirst {
				p.Grahak, err = b.measure(ctx, b.grahak.server, ours, l)
			} else {
				p.Peer, err = other.run(ctx, peer, theirs, l)
			}
			if err != nil {
				return nil, err
			}
		}
		if i >= 0 {
			c.Pairs = append(c.Pairs, p)
			fmt.Fprintf(b.out, "pair %d: %.0f and %.0f/s, %.2f times; p99 %.1f and %.1f ms; server CPU %.0f and %.0f µs a request; other CPUs %.2f and %.2f\n", i+1,
				p.Peer.Rate, p.Grahak.Rate, p.Grahak.Rate/p.Peer.Rate, p.Peer.P99, p.Grahak.P99, p.Peer.ServerCPU, p.Grahak.ServerCPU, p.Peer.OthersCPU, p.Grahak.OthersCPU)
		}
		l.duration = time.Duration(b.seconds) * time.Second
	}
	c.Ratio = medianOf(c.Pairs, func(p peerPair) float64 { return p.Grahak.Rate / p.Peer.Rate })
	c.P99 = medianOf(c.Pairs, func(p peerPair) float64 { return p.Grahak.P99 / p.Peer.P99 })
	return c, nil
}

func (*peersReport) kind() string { return "peers" }

func (r *peersReport) plots() map[string]string {
	return map[string]string{"": barPlot("Grahak beside PocketBase and stripe-mock", r.Bars)}
}

func (r *peersReport) table() string {
	var b strings.Builder
	b.WriteString("| | beside | it | Grahak | ratio | p50, p99 of it | of Grahak | server CPU for each |\n|---|---|---:|---:|---:|---:|---:|---:|\n")
	for _, c := range r.Comparisons {
		of := func(get func(peerPair) float64) float64 { return medianOf(c.Pairs, get) }
		fmt.Fprintf(&b, "| %s | %s | %.0f/s | %.0f/s | **%.1f** | %.1f, %.1f ms | %.1f, %.1f ms | %.0f and %.0f µs |\n", c.Name, c.Peer,
			of(func(p peerPair) float64 { return p.Peer.Rate }), of(func(p peerPair) float64 { return p.Grahak.Rate }), c.Ratio,
			of(func(p peerPair) float64 { return p.Peer.P50 }), of(func(p peerPair) float64 { return p.Peer.P99 }),
			of(func(p peerPair) float64 { return p.Grahak.P50 }), of(func(p peerPair) float64 { return p.Grahak.P99 }),
			of(func(p peerPair) float64 { return p.Peer.ServerCPU }), of(func(p peerPair) float64 { return p.Grahak.ServerCPU }))
	}
	return b.String() + "\n" + r.barTable()
}

// installPeer builds the program of a package at a version into bin, as it is
// released: without cgo.
func installPeer(ctx context.Context, bin, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "install", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// startStripeMock starts stripe-mock with its defaults but for free ports.
func startStripeMock(ctx context.Context, program, dir string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := startServer(ctx, "stripe-mock", filepath.Join(dir, "stripe-mock.log"), func(line string) bool {
		return strings.HasPrefix(line, "Listening for HTTP at")
	}, program, "-http-addr", addr, "-https-addr", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.url, s.key = "http://"+addr, "sk_test_123"
	return s, nil
}

// recordsPath is where PocketBase has the customers.
const recordsPath = "/api/collections/customers/records"

// customersCollection is a collection of what Grahak keeps of load.lua's customers.
const customersCollection = `{"name":"customers","type":"base","fields":[
{"name":"reference","type":"text","required":true},{"name":"email","type":"email"},{"name":"mobile","type":"text"},
{"name":"first_name","type":"text"},{"name":"last_name","type":"text"},
{"name":"created","type":"autodate","onCreate":true},{"name":"updated","type":"autodate","onCreate":true,"onUpdate":true}],
"indexes":["CREATE UNIQUE INDEX idx_reference ON customers (reference)","CREATE INDEX idx_email ON customers (email)","CREATE INDEX idx_mobile ON customers (mobile)"]}`

// startPocketBase starts PocketBase with its defaults but for a free port, and with a
// collection of customers, to which requests are sent with a superuser's token:
// that is what a back end has, and it asks for no rules of access.
func startPocketBase(ctx context.Context, program, dir string) (_ *server, err error) {
	const name, password = "bench@example.com", "of-a-benchmark-only"
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "pocketbase")
	if out, err := exec.CommandContext(ctx, program, "superuser", "upsert", name, password, "--dir", data).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("PocketBase made no superuser: %w\n%s", err, out)
	}
	s, err := startServer(ctx, "PocketBase", filepath.Join(dir, "pocketbase.log"), func(line string) bool {
		return strings.Contains(line, "REST API")
	}, program, "serve", "--http", addr, "--dir", data)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	s.url = "http://" + addr
	login, err := json.Marshal(map[string]string{"identity": name, "password": password})
	if err != nil {
		return nil, err
	}
	var session struct{ Token string }
	if err := sendJSON(ctx, s, "/api/collections/_superusers/auth-with-password", login, &session); err != nil {
		return nil, err
	}
	s.authorization = session.Token
	var collection struct{ ID string }
	return s, sendJSON(ctx, s, "/api/collections", []byte(customersCollection), &collection)
}

// sendJSON posts body to s and reads the answer into result.
func sendJSON(ctx context.Context, s *server, path string, body []byte, result any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", s.authorization)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s%s: %s: %s", errStatus, s.name, path, resp.Status, answer)
	}
	return json.Unmarshal(answer, result)
}

// populatePocketBase makes customers like [grahak.populate], and writes a line with the
// id of each of at most maxSample of them into file, which it returns.
func populatePocketBase(ctx context.Context, s *server, customers int, file string) (string, error) {
	const writers = 16
	ids := make([]string, customers)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := w; i < customers; i += writers {
				address := strings.ReplaceAll(populated(i), "%40", "@")
				var made struct{ ID string }
				body := fmt.Sprintf(`{"reference":%q,"mobile":%q,"email":%q,"first_name":"Asha","last_name":"Rao"}`, address, populatedMobile(i), address)
				if err := sendJSON(ctx, s, recordsPath, []byte(body), &made); err != nil {
					fail(err)
					return
				}
				ids[i] = made.ID
			}
		})
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	step := (customers + maxSample - 1) / maxSample
	var lines []string
	for i := 0; i < customers; i += step {
		lines = append(lines, ids[i])
	}
	return file, writeLines(file, lines)
}
