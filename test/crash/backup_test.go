package crash_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// person is a customer through all that was sent about it, in order, by one
// clerk.
type person struct {
	id, reference string
	states        []state
	acknowledged  int // how many of states the server has answered
}

// state is a customer after one request; nil is one that is erased. Of a request
// that was not answered only the first name is known.
type state *customer

// clerks create, update and erase customers, each their own, while a test takes
// backups.
type clerks struct {
	base, key string
	serial    atomic.Int64
	answered  atomic.Int64
	working   sync.WaitGroup

	mu      sync.Mutex
	persons []*person
}

// work is one clerk's, until a request is not answered.
func (c *clerks) work(t *testing.T, random *rand.Rand) {
	client := newClient(c.base, c.key)
	defer client.close()
	var own []*person
	for t.Context().Err() == nil {
		var ok bool
		switch n := random.IntN(10); {
		case len(own) == 0 || n < 5:
			var p *person
			if p, ok = c.create(t, client); p != nil {
				own = append(own, p)
			}
		case n < 8:
			ok = c.update(t, client, own[random.IntN(len(own))])
		default:
			i := random.IntN(len(own))
			ok = c.erase(t, client, own[i])
			own = slices.Delete(own, i, i+1)
		}
		if !ok {
			return
		}
		c.answered.Add(1)
	}
}

func (c *clerks) create(t *testing.T, client *client) (*person, bool) {
	form := form(int(c.serial.Add(1)))
	a, err := client.do(t.Context(), http.MethodPost, "/customers", form)
	if err != nil {
		return nil, false
	}
	got, err := a.customer()
	if want := made(form, got); a.status != http.StatusOK || err != nil || !cmp.Equal(got, want) {
		t.Errorf("create %q was answered %d %s (%v)", form, a.status, a.body, err)
		return nil, false
	}
	p := &person{id: got.ID, reference: got.Reference, states: []state{&got}, acknowledged: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.persons = append(c.persons, p)
	return p, true
}

// send sends a request that brings p into a state, and reports whether it was
// answered as it must be. settle is told the answer.
func (c *clerks) send(t *testing.T, p *person, next state, request func() (answer, error), settle func(answer) (state, error)) bool {
	c.mu.Lock()
	p.states = append(p.states, next)
	c.mu.Unlock()
	a, err := request()
	if err != nil {
		return false
	}
	settled, err := settle(a)
	if err != nil || a.status != http.StatusOK {
		t.Errorf("a change of %s was answered %d %s (%v)", p.id, a.status, a.body, err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.states[len(p.states)-1] = settled
	p.acknowledged = len(p.states)
	return true
}

func (c *clerks) update(t *testing.T, client *client, p *person) bool {
	name := fmt.Sprintf("Planted %d", c.serial.Add(1))
	return c.send(t, p, &customer{FirstName: &name}, func() (answer, error) {
		return client.do(t.Context(), http.MethodPost, "/customers/"+p.id, url.Values{"first_name": {name}})
	}, func(a answer) (state, error) {
		got, err := a.customer()
		return &got, err
	})
}

func (c *clerks) erase(t *testing.T, client *client, p *person) bool {
	return c.send(t, p, nil, func() (answer, error) {
		return client.do(t.Context(), http.MethodDelete, "/customers/"+url.PathEscape(p.reference), nil)
	}, func(a answer) (state, error) {
		if want := fmt.Sprintf(`{"id":%q,"object":"customer","deleted":true}`, p.id); a.body != want {
			return nil, errors.New("want " + want)
		}
		return nil, nil
	})
}

// acknowledged returns how many states of each person the server has answered.
func (c *clerks) acknowledged() map[*person]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[*person]int, len(c.persons))
	for _, p := range c.persons {
		counts[p] = p.acknowledged
	}
	return counts
}

// await waits until as many more requests have been answered.
func (c *clerks) await(t *testing.T, more int64) {
	t.Helper()
	until := c.answered.Load() + more
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.answered.Load() < until {
		select {
		case <-ctx.Done():
			t.Fatalf("only %d requests were answered in two minutes, want %d", c.answered.Load(), until)
		case <-tick.C:
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// backupInfo is what `grahak backup --json` and `grahak restore --json` print,
// as far as the tests look at it.
type backupInfo struct {
	Bytes     int64
	SHA256    string
	Customers int64
	Merchants []struct {
		ID        string
		Customers int64
		Events    int64
		Chain     string
	}
	Restored  bool
	MasterKey bool `json:"master_key_checked"`
	Chains    bool `json:"chains_checked"`
}

// MustJSON runs a command that prints a backup in JSON.
func MustJSON(t testing.TB, args ...string) (info backupInfo) {
	t.Helper()
	out := testkit.Run(t, append(args, "--json")...)
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return info
}

// TestBackupDrill takes backups of a server under load, kills it, restores the
// last backup elsewhere, and goes on there.
func TestBackupDrill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	server := testkit.Start(t, old)
	c := &clerks{base: server.BaseURL, key: server.Key}
	for i := range writers {
		c.working.Go(func() { c.work(t, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	var last string
	var before map[*person]int
	var info backupInfo
	for i := range 4 {
		c.await(t, 300)
		before = c.acknowledged()
		last = filepath.Join(dir, fmt.Sprintf("backup-%d", i))
		info = MustJSON(t, "backup", last, "--data", old)
		checked := MustJSON(t, "restore", "--verify-only", last, "--data", old)
		if !checked.MasterKey || !checked.Chains || checked.Restored || checked.SHA256 != info.SHA256 {
			t.Errorf("backup %d was made as %+v and checked as %+v", i, info, checked)
		}
	}
	c.await(t, 300)
	server.Kill(t)
	c.working.Wait()
	if t.Failed() {
		t.FailNow()
	}
	key, err := os.ReadFile(filepath.Join(old, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	scanBackup(t, last, key, server.Key, c.persons)

	// The old folder is lost; its master key was kept elsewhere.
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "new")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "master.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	restored := MustJSON(t, "restore", last, "--data", data)
	if !restored.Restored || !restored.MasterKey || !restored.Chains || restored.Customers != info.Customers {
		t.Errorf("%+v was restored as %+v", info, restored)
	}
	testkit.Run(t, "audit", "verify", "--data", data)
	MustBeSound(t, data)
	server = testkit.Start(t, data)
	restoredClient := newClient(server.BaseURL, c.key)
	defer restoredClient.close()
	present := checkPersons(t, restoredClient, c.persons, before)
	// All customers are the demo merchant's: operators have none.
	if want := info.Customers; int64(len(present)) > want || len(present) == 0 {
		t.Errorf("%d customers are there, and the backup has %d", len(present), want)
	}
	checkTotal(t, restoredClient, info.Customers)

	// Life goes on there.
	anew := &clerks{base: server.BaseURL, key: c.key}
	anew.serial.Store(c.serial.Load())
	now, ok := anew.create(t, restoredClient)
	if !ok {
		t.Fatal("no customer can be created after a restore")
	}
	for _, p := range []*person{now, present[0]} {
		if !anew.update(t, restoredClient, p) || !anew.erase(t, restoredClient, p) {
			t.Errorf("customer %s cannot be changed after a restore", p.id)
		}
	}
	again := form(int(anew.serial.Add(1)))
	again.Set("object_reference_id", present[0].reference)
	if a, err := restoredClient.do(t.Context(), http.MethodPost, "/customers", again); err != nil || a.status != http.StatusOK {
		t.Errorf("the reference of a customer who was erased: %d %s (%v)", a.status, a.body, err)
	}
	checkTotal(t, restoredClient, info.Customers)
	server.Stop(t)
	testkit.Run(t, "audit", "verify", "--data", data)
	MustBeSound(t, data)
}

// checkPersons compares all persons with what a restored server has. Each must
// be in the state that it had before the backup began, or a later one. It
// returns those that are there.
func checkPersons(t *testing.T, client *client, persons []*person, before map[*person]int) (present []*person) {
	t.Helper()
	erased, updated := 0, 0
	for _, p := range persons {
		// Who was created after the backup began may not be in it.
		known := before[p]
		possible := append([]state{nil}, p.states...)
		if known > 0 {
			possible = p.states[known-1:]
		}
		var seen [2]string
		for i, id := range []string{p.id, p.reference} {
			a, err := client.get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			seen[i] = a.body
			got, err := a.customer()
			fits := slices.ContainsFunc(possible, func(s state) bool {
				switch {
				case s == nil:
					return a.status == http.StatusNotFound
				case s.ID == "": // It was not answered.
					return a.status == http.StatusOK && err == nil && got.ID == p.id && got.Reference == p.reference && cmp.Equal(s.FirstName, got.FirstName)
				}
				return a.status == http.StatusOK && err == nil && cmp.Equal((*customer)(s), &got)
			})
			if !fits {
				t.Errorf("customer %s was in state %d of %d before the backup began; read by %q it is %d %s", p.id, known, len(p.states), id, a.status, a.body)
			}
			if i == 0 && a.status == http.StatusOK {
				present = append(present, p)
				if known > 1 {
					updated++
				}
			}
			if i == 0 && known > 0 && p.states[known-1] == nil {
				erased++
			}
		}
		if seen[0] != seen[1] {
			t.Errorf("customer %s is not the same by both ids: %s and %s", p.id, seen[0], seen[1])
		}
	}
	t.Logf("%d customers: %d in the backup, %d of them updated before, and %d erased before", len(persons), len(present), updated, erased)
	if erased == 0 || updated == 0 {
		t.Error("no customer was updated, or none erased, before the last backup")
	}
	return present
}

// checkTotal fails the test unless the list has so many customers.
func checkTotal(t *testing.T, client *client, want int64) {
	t.Helper()
	a, err := client.do(t.Context(), http.MethodGet, "/customers?count=1", nil)
	var page struct{ Total int64 }
	if err == nil {
		err = json.Unmarshal([]byte(a.body), &page)
	}
	if err != nil || page.Total != want {
		t.Errorf("the list has a total of %d (%v), want %d", page.Total, err, want)
	}
}

// scanBackup looks at every byte of a backup for what must not be in it.
func scanBackup(t *testing.T, path string, masterKey []byte, apiKey string, persons []*person) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.TrimSpace(masterKey)
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) != 32 {
		t.Fatalf("the master key is no base64 of 32 bytes (%v)", err)
	}
	for what, value := range map[string][]byte{
		"the master key": raw, "the master key's text": text, "an API key": []byte(apiKey),
		"a part of an address": []byte("@example.com"), "a first name": []byte("Planted "), "a last name": []byte("Rao "),
	} {
		if bytes.Contains(file, value) {
			t.Errorf("%s is in the backup", what)
		}
	}
	found := 0
	for _, p := range persons {
		first := p.states[0]
		for _, value := range []string{first.Reference, first.Mobile, *first.Email, *first.LastName} {
			if bytes.Contains(file, []byte(value)) {
				t.Errorf("%q is in the backup", value)
			}
		}
		if bytes.Contains(file, []byte(p.id)) {
			found++
		}
	}
	if found == 0 {
		t.Error("no customer's id is found in the backup, so nothing would be")
	}
}

// run runs a command to its end and returns its exit status and what it printed.
func run(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Program(t), args...)
	cmd.Env = testkit.Env()
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaint.String()
}

// parts is a backup file, taken apart as its form is documented.
type parts struct {
	database []byte
	manifest map[string]any
}

// MustTakeApart reads a backup.
func MustTakeApart(t testing.TB, file []byte) (p parts) {
	t.Helper()
	length := binary.BigEndian.Uint64(file[len(file)-24:])
	manifest := file[len(file)-56-int(length) : len(file)-56]
	if err := json.Unmarshal(manifest, &p.manifest); err != nil {
		t.Fatal(err)
	}
	p.database = bytes.Clone(file[:len(file)-56-int(length)])
	return p
}

// file returns the backup with all its sums right.
func (p parts) file(t testing.TB) []byte {
	t.Helper()
	m := maps.Clone(p.manifest)
	m["database"] = map[string]any{"bytes": len(p.database), "sha256": fmt.Sprintf("%x", sha256.Sum256(p.database))}
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(manifest)
	file := slices.Concat(p.database, manifest, sum[:])
	return append(binary.BigEndian.AppendUint64(file, uint64(len(manifest))), "grahak's backup\n"...)
}

// TestDamagedBackups refuses every backup with something wrong in it, and leaves
// nothing behind.
func TestDamagedBackups(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	data, good := filepath.Join(dir, "data"), filepath.Join(dir, "good")
	server := testkit.Start(t, data)
	c := newClient(server.BaseURL, server.Key)
	defer c.close()
	for n := range 20 {
		if a, err := c.do(t.Context(), http.MethodPost, "/customers", form(n)); err != nil || a.status != http.StatusOK {
			t.Fatalf("create: %d %s (%v)", a.status, a.body, err)
		}
	}
	// What is not in the chain yet cannot be checked.
	ordered := func() bool {
		out := string(testkit.Run(t, "audit", "verify", "--data", data))
		return strings.Contains(out, ", 0 pending")
	}
	for deadline := time.Now().Add(5 * time.Minute); !ordered(); {
		if time.Now().After(deadline) {
			t.Fatal("events are not put in order")
		}
	}
	server.Stop(t)
	testkit.Run(t, "backup", good, "--data", data)
	file, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	whole := MustTakeApart(t, file)
	if again := whole.file(t); len(again) != len(file) || MustTakeApart(t, again).manifest["schema_version"] != whole.manifest["schema_version"] {
		t.Fatal("the test cannot put a backup together")
	}

	type damage struct {
		file    []byte
		pattern string // of what is said, with FILE for its name
	}
	cases := map[string]damage{
		"empty":            {nil, `^FILE is empty$`},
		"a plain database": {whole.database, `^FILE is not a backup that grahak backup has made, or its end is missing$`},
		"a text":           {[]byte("Dear diary, nothing happened today.\n"), `^FILE is not a backup`},
		"a byte more":      {append(bytes.Clone(file), 0), `^FILE is not a backup`},
		"a page more":      {append(bytes.Clone(file), make([]byte, 4096)...), `^FILE is not a backup`},
		"twice":            {append(bytes.Clone(file), file...), `^the backup FILE is damaged: its database has another length; use another backup$`},
		"zeros":            {make([]byte, len(file)), `^FILE is not a backup`},
	}
	flip := func(name string, from, to int) {
		for range 12 {
			at, bit := from+random.IntN(to-from), random.IntN(8)
			changed := bytes.Clone(file)
			changed[at] ^= 1 << bit
			cases[fmt.Sprintf("bit %d of byte %d, in the %s", bit, at, name)] = damage{changed, `FILE`}
		}
	}
	flip("database", 0, len(whole.database))
	flip("manifest", len(whole.database), len(file)-56)
	flip("end", len(file)-56, len(file))
	for range 8 {
		n := random.IntN(len(file))
		cases[fmt.Sprintf("the first %d bytes", n)] = damage{file[:n], `FILE`}
	}
	// Here all sums are right, as if somebody had made them so.
	with := func(change func(p *parts)) []byte {
		p := parts{bytes.Clone(whole.database), maps.Clone(whole.manifest)}
		change(&p)
		return p.file(t)
	}
	cases["a newer form"] = damage{with(func(p *parts) { p.manifest["format"] = 2 }), `^the backup FILE has format 2, but this grahak knows only up to 1: use the newer grahak that made it$`}
	cases["a newer schema"] = damage{with(func(p *parts) { p.manifest["schema_version"] = 9000 }), `^the backup FILE has schema version 9000, but this grahak knows only up to \d+: use the newer grahak that made it$`}
	otherThan := `^the backup FILE does not hold what its manifest says: 20 customers of 2 merchants where it says \d+ of \d+; use another backup$`
	cases["another environment"] = damage{with(func(p *parts) { p.manifest["environment"] = "production" }), otherThan}
	cases["no merchants"] = damage{with(func(p *parts) { p.manifest["merchants"] = nil }), otherThan}
	cases["more customers"] = damage{with(func(p *parts) {
		p.manifest["merchants"] = []any{map[string]any{"id": "demo", "customers": 21, "events": 22}}
	}), otherThan}
	cases["half a page of another time"] = damage{with(func(p *parts) { clear(p.database[len(p.database)-2048:]) }), `the backup FILE`}
	// An actor of an event, and the wrapped keys, altered.
	cases["an altered event"] = damage{with(func(p *parts) {
		at := bytes.Index(p.database, []byte("customer.created"))
		copy(p.database[at:], "customer.creates")
	}), `^the events of merchant demo in the backup FILE are not what they were: the event at position \d+ .*; use an older backup$`}
	var keyset string
	if keyset, _ = whole.manifest["master_key_id"].(string); keyset == "" {
		t.Fatal("the manifest names no master key")
	}
	// The id stands in two rows; in that of the keyset the wrapped keys follow it.
	row := bytes.LastIndex(whole.database, []byte("demo"+keyset))
	if row < 0 {
		t.Fatal("the keyset is not found")
	}
	cases["an altered keyset"] = damage{with(func(p *parts) { p.database[row+len("demo"+keyset)+40] ^= 1 }), `^the keys of merchant demo do not open`}
	cases["a keyset under another master key"] = damage{with(func(p *parts) {
		copy(p.database[row:], "demo"+strings.Repeat("0", len(keyset)))
	}), `the data is sealed under master key 0000000000000000, but the configured master key is ` + keyset}

	for name, d := range cases {
		path, target := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "above", "new")
		if err := os.WriteFile(path, d.file, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"restore", path, "--data", target},
			{"restore", "--verify-only", path, "--data", target},
		} {
			args = append(args, "--master-key-file", filepath.Join(data, "master.key"))
			status, stdout, stderr := run(t, args...)
			sentence, ended := strings.CutSuffix(stderr, "\n")
			if status != 1 || stdout != "" || !ended || strings.Contains(sentence, "\n") || !strings.HasPrefix(sentence, "grahak: ") {
				t.Errorf("%s: exit status %d, %q, %q: want 1 and one sentence on standard error", name, status, stdout, stderr)
			}
			pattern := strings.ReplaceAll(d.pattern, "FILE", regexp.QuoteMeta(path))
			if said := strings.TrimPrefix(sentence, "grahak: "); !regexp.MustCompile(pattern).MatchString(said) {
				t.Errorf("%s: it says %q, which does not match %s", name, said, pattern)
			}
			if _, err := os.Stat(filepath.Dir(target)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the target folder is left behind (%v)", name, err)
			}
		}
	}
	// The one that all were made from is good.
	restored := MustJSON(t, "restore", good, "--data", filepath.Join(dir, "restored"), "--master-key-file", filepath.Join(data, "master.key"))
	if !restored.Restored || !restored.MasterKey || restored.Customers != 20 {
		t.Errorf("the backup itself is restored as %+v", restored)
	}
}
