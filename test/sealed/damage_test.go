package sealed_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// served is a server on a damaged database, which may have refused to start.
type served struct {
	cmd     *exec.Cmd
	baseURL string // empty if it did not start
	stderr  bytes.Buffer
}

// serve starts a server on a data folder and waits until it answers or has ended.
func serve(t *testing.T, data string) *served {
	t.Helper()
	s := &served{cmd: exec.Command(testkit.Program(t), "serve", "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")}
	s.cmd.Env = testkit.Env()
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(pollTimeout, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "Base URL"); ok {
			s.baseURL = strings.TrimSpace(url)
		}
		if lines.Text() == "" && s.baseURL != "" {
			return s
		}
	}
	_ = s.cmd.Wait()
	return s
}

// stop ends the server and returns what it has logged. It must have run until
// then, and end as it was asked to, or have refused to start.
func (s *served) stop(t *testing.T) string {
	t.Helper()
	if s.baseURL != "" {
		if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("the server has crashed: %v\n%s", err, s.stderr.String())
		}
		late := time.AfterFunc(pollTimeout, func() { _ = s.cmd.Process.Kill() })
		defer late.Stop()
		_ = s.cmd.Wait()
	}
	want := 0
	if s.baseURL == "" {
		want = 1
	}
	log := s.stderr.String()
	if got := s.cmd.ProcessState.ExitCode(); got != want || strings.Contains(log, "goroutine 1 [") {
		t.Errorf("the server has ended with %v:\n%s", s.cmd.ProcessState, log)
	}
	return log
}

// TestDamagedPages damages the database file itself. What is answered 200 is
// right; what cannot be read is an outage or a fault.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cases := MustWireCases(t)
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	key := server.Key
	people := populate(t, server.BaseURL, key, 0, 300).customers
	store := MustOpen(t, data)
	eventually(t, "events are in order", func() bool {
		pending, err := store.Unordered(t.Context())
		return err == nil && len(pending) == 0
	})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	whole := MustReadFolder(t, data)
	secret := newScanner()
	for n := range people {
		for name, values := range form(n) {
			secret.plant(fmt.Sprintf("the %s of person %d", name, n), values[0])
		}
	}
	const pageSize = 4096
	pages := len(whole["grahak.db"]) / pageSize
	// Page 1 is the schema, without which it is no database.
	chosen := random.Perm(pages)
	if !long() {
		chosen = chosen[:min(8, len(chosen))]
	}

	counts := make(map[outcome]int)
	for _, kind := range []string{"zeros", "noise", "a flipped bit"} {
		for _, page := range append([]int{0}, chosen...) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			file := bytes.Clone(whole["grahak.db"])
			content := file[page*pageSize : (page+1)*pageSize]
			for i := range content {
				switch kind {
				case "zeros":
					content[i] = 0
				case "noise":
					content[i] = byte(random.Uint32())
				}
			}
			switch kind {
			case "noise":
				content[0] = 0xff // So that it is no page by chance.
			case "a flipped bit":
				content[random.IntN(pageSize)] ^= 1 << random.IntN(8)
			}
			for name, bytes := range map[string][]byte{"grahak.db": file, keyFile: whole[keyFile]} {
				if err := os.WriteFile(filepath.Join(dir, name), bytes, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			where := fmt.Sprintf("%s in page %d of %d", kind, page+1, pages)
			s := serve(t, dir)
			if s.baseURL != "" {
				w := &town{name: where, client: newClient(s.baseURL, key)}
				for range 25 {
					want := people[random.IntN(len(people))]
					for _, way := range waysTo(want) {
						got := w.glance(t, cases, way, want)
						counts[got]++
						if kind != "a flipped bit" && got == missing {
							t.Errorf("%s: GET %s: it looks as if the customer did not exist", where, way.path)
						}
					}
				}
				w.client.close()
			} else {
				counts["refused to start"]++
			}
			log := s.stop(t)
			if found := secret.scan([]byte(log)); len(found) > 0 {
				t.Errorf("%s: the log holds %q", where, found)
			}
			if s.baseURL == "" && !strings.Contains(log, "grahak: ") {
				t.Errorf("%s: the server refuses to start and does not say why: %s", where, log)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Log(counts)
	if counts[right] == 0 || counts[down]+counts[fault] == 0 {
		t.Error("nothing was damaged, or everything")
	}
}

// glance asks for one customer of a damaged database, where times may be others,
// and access may be refused. It fails the test if anybody else, or nobody's
// data, is answered.
func (w *town) glance(t *testing.T, cases map[string]wireCase, way way, want customer) outcome {
	t.Helper()
	a, got := w.ask(t, cases, http.MethodGet, way.path, nil)
	switch {
	case slices.Contains([]outcome{fault, down}, got):
		return got
	case got != "":
		t.Errorf("%s: GET %s: %s: %d %s", w.name, way.path, got, a.status, a.body)
		return got
	case a.is(cases["invalid_api_key"]):
		return "a stranger"
	}
	found, err := a.found(way)
	switch {
	case err != nil:
		t.Errorf("%s: GET %s: %v: %s", w.name, way.path, err, a.body)
		return "wrong"
	case found == nil:
		return missing
	}
	found.Created, found.Updated = want.Created, want.Updated
	if !want.same(*found) {
		t.Errorf("%s: GET %s: %s, want %+v", w.name, way.path, a.body, want)
		return "wrong"
	}
	return right
}

// TestAnotherMasterKey puts another master key in the place of the right one, and
// another name of it into the database.
func TestAnotherMasterKey(t *testing.T) {
	t.Parallel()
	cases := MustWireCases(t)
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	key := server.Key
	people := populate(t, server.BaseURL, key, 0, 5).customers
	server.Stop(t)
	path := filepath.Join(data, keyFile)
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := newScanner()
	secret.plant("the master key", strings.TrimSpace(string(own)))
	for n := range people {
		for name, values := range form(n) {
			secret.plant("a "+name, values[0])
		}
	}
	see := func(when string, allowed ...outcome) {
		t.Helper()
		server := testkit.Start(t, data)
		w := &town{name: when, client: newClient(server.BaseURL, key), altered: altered{rules: []rule{get(`.*`, allowed...)}}}
		defer w.client.close()
		for i, want := range people {
			for _, way := range waysTo(want) {
				a, got := w.seek(t, cases, way, want)
				w.judge(t, "served", names[i], got, a)
			}
		}
		w.client.key = "gk_sandbox_nobodys"
		if a, err := w.client.get(t.Context(), people[0].ID); err != nil || !a.is(cases["invalid_api_key"]) {
			t.Errorf("%s: a wrong API key: %d %s (%v)", when, a.status, a.body, err)
		}
		server.Stop(t)
		secret.wantNothing(t, "the log, "+when, []byte(server.Log(t)))
	}
	another := filepath.Join(t.TempDir(), "another")
	testkit.Start(t, another).Stop(t)
	foreign, err := os.ReadFile(filepath.Join(another, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	see("under another master key", down)

	// With the other's name in every row it is a key that opens nothing.
	db := MustOpenDatabase(t, data)
	x := &alteration{t: t, db: db}
	read := func() string {
		return string(x.column(`SELECT master_key_id FROM instance`))
	}
	before := read()
	masters, _ := MustMasterKeys(t, path)
	x.exec(`UPDATE instance SET master_key_id = $1`, masters[0].ID())
	x.exec(`UPDATE keysets SET master_key_id = $1`, masters[0].ID())
	see("under another master key that is said to be the right one", fault)
	if err := os.WriteFile(path, own, 0o600); err != nil {
		t.Fatal(err)
	}
	see("under the right master key that is said to be another", down)
	x.exec(`UPDATE keysets SET master_key_id = $1`, before)
	see("with the keys under the right one, and the database not", right, down)
	x.exec(`UPDATE instance SET master_key_id = $1`, before)
	see("as it was", right)
}
