package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// freshness is within what time a server sees what the command line changed.
const freshness = 2 * time.Second

// seen waits until the wire shows what a command that has just ended changed, and fails the test if it takes longer than
// freshness. A request that shows it counts with the time at which it was sent.
func seen(t *testing.T, what string, changed func() bool) {
	t.Helper()
	begin, standstill := time.Now(), testkit.Standstill()
	var sent time.Time
	eventually(t, answerTimeout, what, func() bool {
		sent = time.Now()
		return changed()
	})
	lag := sent.Sub(begin)
	t.Logf("%s: seen after %d ms", what, lag.Milliseconds())
	if lost := standstill(); lag > freshness+lost {
		t.Errorf("%s: seen after %v, of which nothing ran for %v, want at most %v", what, lag, lost, freshness)
	}
}

// TestServerSees checks that a running server sees what the command line changes on its data folder.
func TestServerSees(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	demo := caller{base: s.BaseURL, key: s.Key}
	// All keys and merchants are remembered by the server before they change.
	demo.create(t, "before")
	status := func(c caller, want int) func() bool {
		return func() bool { return c.list(t) == want }
	}
	do := func(args ...string) result {
		t.Helper()
		return run(t, append(args, "--data", s.Data)...).done(t)
	}

	do("merchant", "create", "acme")
	key := createKey(t, s.Data, "acme")
	acme := caller{base: s.BaseURL, key: key.Key}
	seen(t, "key create", status(acme, http.StatusOK))
	acme.create(t, "acme-1")
	if r := do("customer", "get", "acme-1", "--merchant", "acme"); !strings.Contains(r.stdout, "acme-1") {
		t.Errorf("customer get prints %q", r.stdout)
	}

	reader := caller{base: s.BaseURL, key: createKey(t, s.Data, "acme", "--scope", "read").Key}
	seen(t, "key create --scope read", status(reader, http.StatusOK))
	if a := reader.send(t, http.MethodPost, "/customers", newCustomer("acme-2")); a.status != http.StatusForbidden {
		t.Errorf("a key that may read creates: %d %s", a.status, a.body)
	}

	cmd := exec.Command(testkit.Program(t), "key", "import", "--merchant", "acme", "--data", s.Data)
	cmd.Env, cmd.Stdin = testkit.Env(), strings.NewReader("brought-from-juspay\n")
	runCommand(t, cmd).done(t)
	seen(t, "key import", status(caller{base: s.BaseURL, key: "brought-from-juspay"}, http.StatusOK))

	brief := caller{base: s.BaseURL, key: createKey(t, s.Data, "acme", "--expires-in", "5s").Key}
	seen(t, "key create --expires-in", status(brief, http.StatusOK))
	eventually(t, answerTimeout, "the key has expired", status(brief, http.StatusUnauthorized))

	rotated := rotate(t, s.Data, "acme", key.ID, "24h")
	next := caller{base: s.BaseURL, key: rotated.Key}
	seen(t, "key rotate --overlap 24h", status(next, http.StatusOK))
	if got := acme.list(t); got != http.StatusOK {
		t.Errorf("the old key within the overlap: %d", got)
	}
	last := rotate(t, s.Data, "acme", rotated.ID, "0s")
	seen(t, "key rotate --overlap 0s", status(next, http.StatusUnauthorized))
	if got := (caller{base: s.BaseURL, key: last.Key}).list(t); got != http.StatusOK {
		t.Errorf("the successor: %d", got)
	}

	do("key", "revoke", key.ID, "--merchant", "acme")
	seen(t, "key revoke", status(acme, http.StatusUnauthorized))
	acme.key = last.Key

	do("iplist", "add", "192.0.2.1", "--merchant", "acme")
	do("iplist", "mode", "enforce", "--merchant", "acme")
	seen(t, "iplist mode enforce", status(acme, http.StatusForbidden))
	if got := demo.list(t); got != http.StatusOK {
		t.Errorf("another merchant with that list: %d", got)
	}
	do("iplist", "add", "127.0.0.0/8", "--merchant", "acme")
	seen(t, "iplist add", status(acme, http.StatusOK))
	do("iplist", "remove", "127.0.0.0/8", "--merchant", "acme")
	seen(t, "iplist remove", status(acme, http.StatusForbidden))
	do("iplist", "mode", "report", "--merchant", "acme")
	seen(t, "iplist mode report", status(acme, http.StatusOK))
	do("iplist", "mode", "off", "--merchant", "acme")

	do("merchant", "disable", "acme")
	seen(t, "merchant disable", status(acme, http.StatusUnauthorized))
	if got := demo.list(t); got != http.StatusOK {
		t.Errorf("another merchant: %d", got)
	}
	s.Stop(t)

	// When a key was last used is written at the latest when the server stops.
	used := 0
	for line := range strings.Lines(do("key", "list", "--merchant", "acme", "--json").stdout) {
		var k struct {
			ID   string  `json:"id"`
			Used *string `json:"last_used_at"`
		}
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			t.Fatal(err)
		}
		if k.Used != nil {
			used++
		} else {
			t.Errorf("key %s was used, but key list knows no time of it", k.ID)
		}
	}
	if used != 6 {
		t.Errorf("%d keys were used, want 6", used)
	}
}

// rotate rotates a key with the command line.
func rotate(t *testing.T, data, merchant, id, overlap string) newKey {
	t.Helper()
	r := run(t, "key", "rotate", id, "--overlap", overlap, "--merchant", merchant, "--json", "--data", data).done(t)
	k, err := parseKey(r.stdout)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestCommandsUnderLoad checks that the command line gets its turn beside a server under load, and takes nothing from it.
func TestCommandsUnderLoad(t *testing.T) {
	const (
		writers = 8
		keys    = 5
		patient = 10 * time.Second
	)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	var (
		load    sync.WaitGroup
		over    atomic.Bool
		created atomic.Int64
	)
	for w := range writers {
		load.Go(func() {
			demo := caller{base: s.BaseURL, key: s.Key, client: &http.Client{Transport: &http.Transport{}}}
			defer demo.client.CloseIdleConnections()
			for i := 0; !over.Load(); i++ {
				a, err := demo.try(t.Context(), http.MethodPost, "/customers", newCustomer(fmt.Sprintf("load-%d-%d", w, i)))
				if err != nil || a.status != http.StatusOK {
					t.Errorf("create under load: %v %d %s", err, a.status, a.body)
					return
				}
				created.Add(1)
			}
		})
	}
	for range keys {
		eventually(t, answerTimeout, "the writers are at work", func() bool { return created.Load() > 100 || t.Failed() })
		begin, before := time.Now(), created.Load()
		key := createKey(t, s.Data, "demo")
		took := time.Since(begin)
		t.Logf("key create took %d ms, beside %d creates", took.Milliseconds(), created.Load()-before)
		if took >= patient {
			t.Errorf("key create took %v under load, want less than %v", took, patient)
		}
		seen(t, "key create", func() bool { return caller{base: s.BaseURL, key: key.Key}.list(t) == http.StatusOK })
	}
	over.Store(true)
	load.Wait()
	total := fmt.Sprintf("of %d customers.", created.Load())
	if r := run(t, "customer", "list", "--merchant", "demo", "--data", s.Data).done(t); !strings.Contains(r.stdout, total) {
		t.Errorf("customer list does not end in %q:\n%s", total, r.stdout)
	}
	s.Stop(t)
}
