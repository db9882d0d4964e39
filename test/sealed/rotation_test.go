package sealed_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/testkit"
)

// merchants of the test of rotations.
const (
	demo  grahak.MerchantID = "demo"
	other grahak.MerchantID = "other"
)

// sealStates returns the state of each merchant's keys.
func sealStates(t *testing.T, data string) map[grahak.MerchantID]grahak.SealState {
	t.Helper()
	store := MustOpen(t, data)
	defer store.Close()
	list, err := store.SealStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[grahak.MerchantID]grahak.SealState)
	for _, s := range list {
		states[s.Merchant] = s
	}
	return states
}

// watch waits until the walks have seen that many customers more, all rotations
// are complete, or ended is closed. It holds no connection when it returns, so
// that what is killed next is the last to use the database.
func watch(t *testing.T, data string, more int64, ended <-chan struct{}) {
	t.Helper()
	store := MustOpen(t, data)
	defer store.Close()
	ctx, cancel := context.WithTimeout(t.Context(), pollTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for first := int64(-1); ; {
		states, err := store.SealStates(ctx)
		if err != nil {
			t.Fatal(err)
		}
		seen, complete := int64(0), true
		for _, s := range states {
			seen += s.Seen
			complete = complete && s.Complete()
		}
		if first < 0 {
			first = seen
		}
		if complete || seen-first >= more {
			return
		}
		select {
		case <-ended:
			return
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("for %v: the walks have come from %d to %d: %+v", pollTimeout, first, seen, states)
		}
	}
}

// killCommand rotates without a server, by a command that is killed when it has
// seen that many customers.
func killCommand(t *testing.T, data string, more int64) {
	t.Helper()
	cmd := exec.Command(testkit.Program(t), "seal", "rotate", "--all", "--data", data)
	cmd.Env = testkit.Env()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	watch(t, data, more, ended)
	_ = cmd.Process.Kill()
	<-ended
	if stderr.Len() > 0 {
		t.Errorf("seal rotate without a server says: %s", stderr.String())
	}
}

// TestRotationKilled rotates keys while customers are created, changed, erased
// and read, and kills who does it, again and again. Nobody ever sees anything
// but the customers as they were acknowledged.
func TestRotationKilled(t *testing.T) {
	t.Parallel()
	kills, people := 20, 3000
	if long() {
		kills, people = 100, 30_000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	key := server.Key
	otherKey := newMerchant(t, data, string(other))
	o := newOffice(4, seed, people, people/3,
		populate(t, server.BaseURL, key, 0, people),
		// The same values at another merchant.
		populate(t, server.BaseURL, otherKey, 0, people/10))

	midway, commands, reads := 0, 0, 0
	for kill := range kills {
		o.open(t, server.BaseURL, random.Uint64())
		testkit.Run(t, "seal", "rotate", "--all", "--no-wait", "--data", data)
		more := random.Int64N(int64(people) / 2)
		if kill%6 == 5 {
			more = 0 // Before a walk has begun or gone on.
		}
		before := o.reads.Load()
		watch(t, data, more, server.Exited())
		reads += int(o.reads.Load() - before)
		server.Kill(t)
		o.close()
		if kill%4 == 3 {
			killCommand(t, data, random.Int64N(int64(people)/2))
			commands++
		}
		server = testkit.Start(t, data)
		for _, s := range sealStates(t, data) {
			if s.Walking && s.Seen > 0 {
				midway++
			}
		}
		o.check(t, server.BaseURL, false)
		if t.Failed() {
			t.Fatalf("stopped after kill %d", kill)
		}
	}

	// One more, to its end.
	o.open(t, server.BaseURL, random.Uint64())
	testkit.Run(t, "seal", "rotate", "--all", "--data", data)
	testkit.Run(t, "seal", "rotate", "--all", "--data", data)
	o.close()
	o.check(t, server.BaseURL, true)
	for i, s := range o.settled {
		c := newClient(server.BaseURL, s.key)
		for _, want := range s.customers {
			for _, w := range waysTo(want) {
				if !c.look(t, w, &want) {
					t.Fatalf("GET %s is not answered", w.path)
				}
			}
		}
		want := s.customers
		if i == 0 {
			want = o.live()
		}
		checkList(t, c, want)
		c.close()
	}
	server.Stop(t)
	checkVersions(t, data, map[grahak.MerchantID]int{demo: len(o.live()), other: len(o.settled[1].customers)})
	checkAudit(t, data)
	if out := string(testkit.Run(t, "doctor", "--data", data)); !strings.Contains(out, "sound") {
		t.Errorf("the doctor does not say that the database is sound:\n%s", out)
	}

	versions := sealStates(t, data)[demo].Version
	t.Logf("%d versions, %d of %d kills found a merchant midway, %d of commands; %d reads during walks", versions, midway, kills, commands, reads)
	if midway < kills/5 || versions < 4 || reads == 0 {
		t.Error("too few rotations were interrupted, or ended: this test shows little")
	}
}

// checkList reads all pages: each customer is on them once, and no other.
func checkList(t *testing.T, c *client, want []customer) {
	t.Helper()
	var got []customer
	for after := ""; ; {
		w := "/customers?count=100&after=" + after
		a, err := c.do(t.Context(), "GET", w, nil)
		if err != nil || a.status != 200 {
			t.Fatalf("GET %s: %d %s (%v)", w, a.status, a.body, err)
		}
		p, err := a.page()
		if err != nil || p.Total != int64(len(want)) {
			t.Fatalf("GET %s: the total is %d (%v), want %d", w, p.Total, err, len(want))
		}
		got = append(got, p.List...)
		if p.Next == nil {
			break
		}
		after = *p.Next
	}
	want = slices.Clone(want)
	newestFirst := func(a, b customer) int { return strings.Compare(b.ID, a.ID) }
	slices.SortFunc(want, newestFirst)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the pages hold other customers (-want +got):\n%s", diff)
	}
}

// checkVersions fails the test unless every merchant has that many customers,
// all sealed under one key, which is the only one that is left.
func checkVersions(t *testing.T, data string, want map[grahak.MerchantID]int) {
	t.Helper()
	for m, s := range sealStates(t, data) {
		if !s.Complete() || s.Walking || s.Unopened != 0 {
			t.Errorf("merchant %s: the rotation has not ended: %+v", m, s)
		}
	}
	store := MustOpen(t, data)
	defer store.Close()
	for m, count := range want {
		state, err := store.SealState(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		records, err := store.CustomersAfter(t.Context(), m, "", 1<<30)
		if err != nil || len(records) != count {
			t.Errorf("merchant %s has %d customers (%v), want %d", m, len(records), err, count)
		}
		keys := make(map[string]int)
		for _, r := range records {
			// A version byte, Tink's mark of an id, and the id of the key.
			keys[string(r.Sealed.Bytes[:6])]++
			if r.Sealed.Version != state.Version {
				t.Errorf("customer %s of merchant %s is under version %d, want %d", r.ID, m, r.Sealed.Version, state.Version)
			}
		}
		if len(keys) != 1 {
			t.Errorf("the customers of merchant %s are sealed under %d keys, want 1", m, len(keys))
		}
	}
}

// checkAudit fails the test unless the events of all merchants are in order.
func checkAudit(t *testing.T, data string) {
	t.Helper()
	r := run(t, "audit", "verify", "--json", "--data", data)
	if r.status != 0 || r.stderr != "" {
		t.Errorf("audit verify: exit status %d, %s%s", r.status, r.out, r.stderr)
	}
	for line := range strings.Lines(r.out) {
		var report struct {
			Checked int64
			Keyless bool
			Fault   *string
		}
		if err := json.Unmarshal([]byte(line), &report); err != nil || report.Checked == 0 || report.Keyless || report.Fault != nil {
			t.Errorf("audit verify: %s (%v)", line, err)
		}
	}
}
