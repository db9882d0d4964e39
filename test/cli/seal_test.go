package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// sealState is what `seal status --json` prints of a merchant.
type sealState struct {
	Merchant  string `json:"merchant"`
	Version   int    `json:"version"`
	Oldest    int    `json:"oldest_version"`
	MasterKey string `json:"master_key"`
	State     string `json:"state"`
	Unopened  int    `json:"unopened"`
	Customers int    `json:"customers"`
}

// sealStateOf returns the state of demo's keys.
func sealStateOf(t *testing.T, data string) (s sealState) {
	t.Helper()
	r := run(t, "seal", "status", "--merchant", "demo", "--json", "--data", data).done(t)
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	return s
}

// mustBeSealed fails the test unless everything of demo is sealed under the version.
func mustBeSealed(t *testing.T, data string, version int) {
	t.Helper()
	got := sealStateOf(t, data)
	want := sealState{Merchant: "demo", Version: version, Oldest: version, MasterKey: got.MasterKey, State: "complete", Customers: got.Customers}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seal status (-want +got):\n%s", diff)
	}
}

// TestKeysChangeUnderLoad checks that customers are made, read, changed, found and erased while their keys and the
// master key change, by the wire and by the command line, and that nobody notices.
func TestKeysChangeUnderLoad(t *testing.T) {
	const writers = 6
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	demo := caller{base: s.BaseURL, key: s.Key}
	var (
		load   sync.WaitGroup
		over   atomic.Bool
		rounds atomic.Int64
		made   [writers]int
	)
	for w := range writers {
		load.Go(func() {
			c := caller{base: s.BaseURL, key: s.Key, client: &http.Client{Transport: &http.Transport{}}}
			defer c.client.CloseIdleConnections()
			do := func(method, path, body, says string) bool {
				a, err := c.try(t.Context(), method, path, body)
				if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, says) {
					t.Errorf("%s %s: %v %d %s, want %s", method, path, err, a.status, a.body, says)
					return false
				}
				return true
			}
			for i := 0; !over.Load(); i++ {
				stays, goes := fmt.Sprintf("stays-%d-%d@example.com", w, i), fmt.Sprintf("goes-%d-%d@example.com", w, i)
				ok := do(http.MethodPost, "/customers", newCustomer(stays)+"&email_address="+stays, stays) &&
					do(http.MethodPost, "/customers", newCustomer(goes), goes) &&
					do(http.MethodGet, fmt.Sprintf("/customers/stays-%d-%d@example.com", w, i/2), "", `"object":"customer"`) &&
					do(http.MethodPost, "/customers/"+stays, "first_name=Asha", "Asha") &&
					do(http.MethodGet, "/customers?email_address="+stays, "", `"count":1`) &&
					do(http.MethodDelete, "/customers/"+goes, "", `"deleted":true`)
				if !ok {
					return
				}
				made[w]++
				rounds.Add(1)
			}
		})
	}
	demo.create(t, "doomed")
	for round, command := range []string{"seal rotate --merchant demo", "seal rewrap", "customer erase doomed --merchant demo --yes", "seal rotate --all", "seal rewrap", "audit verify", "seal rotate --all --no-wait"} {
		before := rounds.Load()
		eventually(t, answerTimeout, "the writers are at work", func() bool { return rounds.Load() > before+20 || t.Failed() })
		r := run(t, append(strings.Fields(command), "--data", s.Data)...).done(t)
		t.Logf("%d: %s, beside %d rounds: %s", round, command, rounds.Load()-before, r.stdout)
	}
	over.Store(true)
	load.Wait()
	if t.Failed() {
		return
	}
	eventually(t, answerTimeout, "the server ends the rotation that nobody waited for", func() bool { return sealStateOf(t, s.Data).State == "complete" })
	total := 0
	for w, n := range made {
		total += n
		for i := range n {
			if a := demo.send(t, http.MethodGet, fmt.Sprintf("/customers/stays-%d-%d@example.com", w, i), ""); a.status != http.StatusOK || !strings.Contains(a.body, "Asha") {
				t.Errorf("customer %d-%d: %d %s", w, i, a.status, a.body)
			}
		}
	}
	if a := demo.send(t, http.MethodGet, "/customers/doomed", ""); a.status != http.StatusNotFound {
		t.Errorf("an erased customer: %d %s", a.status, a.body)
	}
	mustBeSealed(t, s.Data, 4)
	if got := sealStateOf(t, s.Data).Customers; got != total {
		t.Errorf("there are %d customers, want %d", got, total)
	}
	s.Stop(t)
	run(t, "audit", "verify", "--data", s.Data).done(t)
}

// settle waits until all events of demo are in the chain, so that the server has nothing to do in the background.
func settle(t *testing.T, data string) {
	t.Helper()
	eventually(t, answerTimeout, "all events are in the chain", func() bool {
		return strings.Contains(run(t, "audit", "verify", "--merchant", "demo", "--data", data).done(t).stdout, ", 0 pending, ")
	})
}

// pause lets the server hold its data folder and do nothing.
func pause(t *testing.T, s *testkit.Server) {
	t.Helper()
	settle(t, s.Data)
	stopped := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid()))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	}
	eventually(t, stopTimeout, "the server is paused, and not in the middle of a write", func() bool {
		s.Signal(t, syscall.SIGSTOP)
		eventually(t, stopTimeout, "the server is paused", stopped)
		if writes(t, s.Data) {
			s.Signal(t, syscall.SIGCONT)
			return false
		}
		return true
	})
}

// writes reports whether a process holds the lock of SQLite under which it writes.
func writes(t *testing.T, data string) bool {
	t.Helper()
	shared, err := os.OpenFile(filepath.Join(data, "grahak.db-shm"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	// The locks of a writer, of a checkpoint and of a recovery are the bytes from 120 on: see SQLite's walformat.html.
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: 120, Len: 3}
	if err := syscall.FcntlFlock(shared.Fd(), syscall.F_GETLK, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Type != syscall.F_UNLCK
}

// customers makes n customers of demo, c0 and so on.
func customers(t *testing.T, s *testkit.Server, n int) {
	t.Helper()
	demo := caller{base: s.BaseURL, key: s.Key}
	for i := range n {
		demo.create(t, fmt.Sprintf("c%d", i))
	}
}

// TestRotationIsTakenOver checks that a rotation that waits for a server goes on by itself when the server is gone.
func TestRotationIsTakenOver(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 300)
	pause(t, s)
	p := start(t, nil, "seal", "rotate", "--merchant", "demo", "--data", s.Data)
	eventually(t, commandTimeout, "the new key is made", func() bool { return strings.HasPrefix(p.out.String(), "Made version 2 of merchant demo") })
	if state := sealStateOf(t, s.Data); state.State != "resealing" || state.Version != 2 || state.Oldest != 1 {
		t.Errorf("while the server does nothing: %+v", state)
	}
	s.Kill(t)
	if status := p.wait(t); status != 0 || p.err.String() != "" || !strings.Contains(p.out.String(), "All customers of merchant demo are sealed under version 2,") {
		t.Errorf("exit status %d\n%s%s", status, p.out.String(), p.err.String())
	}
	mustBeSealed(t, s.Data, 2)
	next := testkit.Start(t, s.Data)
	demo := caller{base: next.BaseURL, key: s.Key}
	for i := range 300 {
		if a := demo.send(t, http.MethodGet, fmt.Sprintf("/customers/c%d", i), ""); a.status != http.StatusOK {
			t.Fatalf("customer c%d: %d %s", i, a.status, a.body)
		}
	}
	next.Stop(t)
}

// TestRotationIsInterrupted checks that whoever does not want to wait any more need not, and what then becomes of the
// rotation.
func TestRotationIsInterrupted(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 20)
	pause(t, s)
	p := start(t, nil, "seal", "rotate", "--all", "--data", s.Data)
	eventually(t, commandTimeout, "the new key is made", func() bool { return strings.HasPrefix(p.out.String(), "Made version 2 of merchant demo") })
	status := p.stop(t, os.Interrupt)
	if got, want := p.err.String(), "grahak: interrupted: what was begun goes on while a server runs, or when this command is run again\n"; status != 1 || got != want {
		t.Errorf("exit status %d, %q, want %q", status, got, want)
	}
	s.Signal(t, syscall.SIGCONT)
	eventually(t, answerTimeout, "the server ends the rotation", func() bool { return sealStateOf(t, s.Data).State == "complete" })
	mustBeSealed(t, s.Data, 2)
	s.Stop(t)
}

// TestRotationUnderWay checks that a rotation that was begun before is ended first and then another made, because only
// that destroys the key of those who were erased in between; and that who does not wait is told.
func TestRotationUnderWay(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 20)
	run(t, "merchant", "create", "empty", "--data", s.Data).done(t)
	pause(t, s)
	run(t, "seal", "rotate", "--merchant", "empty", "--no-wait", "--data", s.Data).done(t)
	mustMatch(t, "seal status", run(t, "seal", "status", "--merchant", "empty", "--data", s.Data).done(t).stdout, `(?m)^empty +2 .* no customers to re-seal$`)
	rotate := []string{"seal", "rotate", "--merchant", "demo", "--data", s.Data}
	noWait := append(slices.Clone(rotate), "--no-wait")
	const again = "If customers were erased since that key was made, run this again once it has ended"
	if r := run(t, noWait...).done(t); !strings.HasPrefix(r.stdout, "Made version 2 ") || strings.Contains(r.stdout, again) {
		t.Errorf("at first: %s", r.stdout)
	}
	if r := run(t, noWait...).done(t); !strings.HasPrefix(r.stdout, "Version 2 of merchant demo's sealing key was made at ") || !strings.Contains(r.stdout, again) {
		t.Errorf("once more: %s", r.stdout)
	}
	if got := sealStateOf(t, s.Data).Version; got != 2 {
		t.Errorf("version %d was made while another was under way", got)
	}
	s.Kill(t)
	r := run(t, rotate...).done(t)
	mustMatch(t, "who waits", r.stdout, `^Version 2 of merchant demo's sealing key was made at .* already, and the re-sealing goes on; the next key is made after it\.\n`+
		`Made version 3 of .*\nAll customers of merchant demo are sealed under version 3, and no older key is kept\.\n$`)
	mustBeSealed(t, s.Data, 3)
}

// TestStuckRotation checks what becomes of a rotation when a customer does not open: the old key is kept, the operator
// is told, and can mend it.
func TestStuckRotation(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 150)
	a := caller{base: s.BaseURL, key: s.Key}.send(t, http.MethodGet, "/customers/c7", "")
	var damaged struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &damaged); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.Stop(t)
	damage(t, s.Data, func(content []byte) int {
		// In the customer's row the blind index of its reference, of 16 bytes, and what is sealed, beginning with two
		// versions, come after the keys.
		row := []byte("demo" + damaged.ID)
		count := 0
		for at := 0; ; {
			next := bytes.Index(content[at:], row)
			if next < 0 {
				return count
			}
			at += next + len(row)
			if sealed := content[at+16:]; sealed[0] == 1 && sealed[1] == 1 {
				sealed[40] ^= 1
				count++
			}
		}
	})
	rotate := []string{"seal", "rotate", "--merchant", "demo", "--data", s.Data}
	mustBeStuck := func(what, printed string, r result) {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
		if r.status != 1 || !strings.HasPrefix(r.stdout, printed) || strings.Contains(r.stdout, "All customers") {
			t.Errorf("%s: exit status %d\n%s%s", what, r.status, r.stdout, r.stderr)
		}
		if got := lines[0]; len(lines) != 2 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, damaged.ID) {
			t.Errorf("%s: the log does not name the customer once: %s", what, r.stderr)
		}
		if got, want := lines[len(lines)-1], "grahak: 1 customer of merchant demo does not open under any key, so the old key is kept: restore it from a backup or erase it by id (the log names it), then run "; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s\nwant %s", what, got, want)
		}
	}
	mustBeStuck("at first", "Made version 2 ", run(t, rotate...))
	mustBeStuck("once more", "Version 2 of merchant demo's sealing key was made at ", run(t, rotate...))
	want := sealState{Merchant: "demo", Version: 2, Oldest: 1, State: "stuck", Unopened: 1, Customers: 150}
	got := sealStateOf(t, s.Data)
	got.MasterKey = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seal status (-want +got):\n%s", diff)
	}
	if r := run(t, "seal", "status", "--data", s.Data).done(t); !strings.Contains(r.stdout, "stuck: 1 do not open\n\n1 customer of merchant demo does not open under any key, so the old key is kept") {
		t.Errorf("seal status prints %s", r.stdout)
	}

	// The same beside a server, which does not work on it for ever.
	next := testkit.Start(t, s.Data)
	beside := run(t, rotate...)
	if beside.status != 1 || !strings.Contains(beside.stderr, "does not open under any key") {
		t.Errorf("beside a server: exit status %d\n%s%s", beside.status, beside.stdout, beside.stderr)
	}
	if log := next.Log(t); !strings.Contains(log, damaged.ID) {
		t.Errorf("the server's log does not name the customer:\n%s", log)
	}
	demo := caller{base: next.BaseURL, key: s.Key}
	if a := demo.send(t, http.MethodGet, "/customers/c8", ""); a.status != http.StatusOK {
		t.Errorf("another customer: %d %s", a.status, a.body)
	}
	if a := demo.send(t, http.MethodGet, "/customers/c7", ""); a.status != http.StatusInternalServerError {
		t.Errorf("the customer that does not open: %d %s", a.status, a.body)
	}
	next.Stop(t)

	for _, command := range []string{"customer get " + damaged.ID, "customer list --count 100 --offset 100", "customer export c7", "export"} {
		run(t, append(strings.Fields(command), "-m", "demo", "--data", s.Data)...).refused(t, 1,
			`customer `+damaged.ID+` of merchant demo: .* does not open.*; erase the customer by its own id \(cst_…\) and have it created again, or restore a backup$`)
	}

	// Erased, it is in nobody's way, and the next key can be made.
	run(t, "customer", "erase", damaged.ID, "--merchant", "demo", "--yes", "--data", s.Data).done(t)
	run(t, rotate...).done(t)
	mustBeSealed(t, s.Data, 3)
}

// damage changes the database of a server that was stopped, and fails the test unless something was there to change.
func damage(t *testing.T, data string, change func(content []byte) int) {
	t.Helper()
	path := filepath.Join(data, "grahak.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if change(content) == 0 {
		t.Fatal("the database does not hold what is to be changed")
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAuditFindsAlteredEvent checks that an event that was altered in the database is named, and a head that was noted
// before is known.
func TestAuditFindsAlteredEvent(t *testing.T) {
	type auditReport struct {
		Merchant string  `json:"merchant"`
		Checked  int     `json:"checked"`
		Pending  int     `json:"pending"`
		Head     string  `json:"head"`
		Fault    *string `json:"fault"`
	}
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	run(t, "merchant", "create", "acme", "--data", s.Data).done(t)
	demo := caller{base: s.BaseURL, key: s.Key}
	demo.create(t, "before")
	if a := demo.send(t, http.MethodPost, "/customers", newCustomer("altered"), "X-Request-Id", "request-of-asha"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	demo.create(t, "after")
	// The merchant, its key and three customers: within a second or so they are in the chain.
	verify := func(args ...string) (auditReport, result) {
		t.Helper()
		r := run(t, append([]string{"audit", "verify", "--merchant", "demo", "--json", "--data", s.Data}, args...)...)
		var report auditReport
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
			t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
		}
		return report, r
	}
	var sound auditReport
	begin := time.Now()
	eventually(t, answerTimeout, "all events are in the chain", func() bool {
		sound, _ = verify()
		return sound.Pending == 0
	})
	t.Logf("in the chain after %v", time.Since(begin))
	if want := (auditReport{Merchant: "demo", Checked: 5, Head: sound.Head}); sound != want {
		t.Errorf("%+v, want %+v", sound, want)
	}
	if !strings.HasPrefix(sound.Head, "5:") {
		t.Errorf("the head is %s", sound.Head)
	}
	demo.create(t, "later")
	if report, r := verify("--anchor", sound.Head); r.status != 0 || report.Fault != nil {
		t.Errorf("against its own head of before: %+v\n%s", report, r.stderr)
	}
	report, r := verify("--anchor", "3:"+strings.TrimPrefix(sound.Head, "5:"))
	if r.status != 1 || report.Fault == nil || *report.Fault != "the chain does not agree with the anchor at position 3: it was made anew, or the anchor is of another merchant, mistyped, or from before a restore" {
		t.Errorf("against another head: exit status %d, %s", r.status, r.stdout)
	}
	s.Stop(t)

	damage(t, s.Data, func(content []byte) int {
		n := bytes.Count(content, []byte("request-of-asha"))
		copy(content, bytes.ReplaceAll(content, []byte("request-of-asha"), []byte("request-of-meer")))
		return n
	})
	r = run(t, "audit", "verify", "--data", s.Data)
	lines := strings.Split(r.stdout, "\n")
	if r.status != 1 || len(lines) != 4 || !strings.HasPrefix(lines[0], "ok    acme: ") || !strings.HasPrefix(lines[2], "ok    @operators: ") ||
		!strings.HasPrefix(lines[1], "FAIL  demo: the event at position 4 (evt_") || !strings.HasSuffix(lines[1], ") was altered, or stood elsewhere") {
		t.Errorf("exit status %d\n%s", r.status, r.stdout)
	}
	if want := "grahak: the events of 1 of 3 merchants are not what they were; see above\n"; r.stderr != want {
		t.Errorf("%q, want %q", r.stderr, want)
	}
	run(t, "audit", "verify", "--merchant", "acme", "--data", s.Data).done(t)
}
