package crash_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

const (
	writers = 8
	// restartBar is how long the median restart may take, from the start of the
	// process to its first answer, and restartFactor how many times as long as the
	// program takes for nothing where the machine has much else to do.
	restartBar    = 300 * time.Millisecond
	restartFactor = 20
)

// tracked is a customer as the server last acknowledged it.
type tracked struct {
	last customer
	// sent is the first name of an update that was sent after that and not
	// answered; empty if there is none.
	sent string
}

// writer creates and updates customers of its own, one request after the other.
type writer struct {
	client    *client
	random    *rand.Rand
	serial    *atomic.Int64
	customers []*tracked
	// unanswered are the forms of creates that were sent and not answered.
	unanswered []url.Values
	touched    map[*tracked]bool // in this cycle
}

// run writes until a request is not answered, and counts those that are.
func (w *writer) run(t *testing.T, acknowledged func()) {
	for t.Context().Err() == nil {
		var again bool
		if len(w.customers) > 0 && w.random.IntN(3) == 0 {
			again = w.update(t, w.customers[w.random.IntN(len(w.customers))])
		} else {
			again = w.create(t)
		}
		if !again {
			return
		}
		acknowledged()
	}
}

// create reports whether the server answered as it must.
func (w *writer) create(t *testing.T) bool {
	form := form(int(w.serial.Add(1)))
	a, err := w.client.do(t.Context(), http.MethodPost, "/customers", form)
	if err != nil {
		w.unanswered = append(w.unanswered, form)
		return false
	}
	got, err := a.customer()
	if want := made(form, got); a.status != http.StatusOK || err != nil || !cmp.Equal(got, want) {
		t.Errorf("create %q was answered %d %s (%v)", form, a.status, a.body, err)
		return false
	}
	c := &tracked{last: got}
	w.customers = append(w.customers, c)
	w.touched[c] = true
	return true
}

// update reports whether the server answered as it must.
func (w *writer) update(t *testing.T, c *tracked) bool {
	w.touched[c] = true
	c.sent = fmt.Sprintf("Asha %d", w.serial.Add(1))
	// Merchants use either id.
	id := c.last.ID
	if w.random.IntN(2) == 0 {
		id = c.last.Reference
	}
	a, err := w.client.do(t.Context(), http.MethodPost, "/customers/"+url.PathEscape(id), url.Values{"first_name": {c.sent}})
	if err != nil {
		return false
	}
	got, err := a.customer()
	want := c.last
	want.FirstName, want.Updated = &c.sent, got.Updated
	if a.status != http.StatusOK || err != nil || !cmp.Equal(got, want) {
		t.Errorf("update of %s was answered %d %s (%v)", c.last.ID, a.status, a.body, err)
		return false
	}
	c.last, c.sent = got, ""
	return true
}

// verify compares the customers with what the server has after a crash, and
// learns which of the unanswered requests took effect: each wholly or not.
func (w *writer) verify(t *testing.T, customers []*tracked) {
	for _, c := range customers {
		for _, id := range []string{c.last.ID, c.last.Reference} {
			a, err := w.client.get(t.Context(), id)
			if err != nil {
				t.Errorf("read of an acknowledged customer: %v", err)
				return
			}
			got, err := a.customer()
			if a.status != http.StatusOK || err != nil {
				t.Errorf("acknowledged customer %s is lost: read by %q it is %d %s (%v)", c.last.ID, id, a.status, a.body, err)
				continue
			}
			if c.sent != "" && got.FirstName != nil && *got.FirstName == c.sent {
				// The update was done, though its answer was not seen.
				c.last.FirstName, c.last.Updated, c.sent = got.FirstName, got.Updated, ""
			}
			if diff := cmp.Diff(c.last, got); diff != "" {
				t.Errorf("acknowledged customer %s has changed (-acknowledged +read by %q):\n%s", c.last.ID, id, diff)
			}
		}
		c.sent = ""
	}
	for _, form := range w.unanswered {
		a, err := w.client.get(t.Context(), form.Get("object_reference_id"))
		if err != nil {
			t.Errorf("read of an unanswered create: %v", err)
			return
		}
		if a.status == http.StatusNotFound {
			continue
		}
		got, err := a.customer()
		if a.status != http.StatusOK || err != nil {
			t.Errorf("unanswered create %q: read as %d %s (%v)", form, a.status, a.body, err)
			continue
		}
		if diff := cmp.Diff(made(form, got), got); diff != "" {
			t.Errorf("an unanswered create was done in part (-sent +read):\n%s", diff)
		}
		w.customers = append(w.customers, &tracked{last: got})
	}
	w.unanswered = nil
}

// TestKill kills the server under eight writers, again and again, and after
// each restart looks for everything that was acknowledged.
func TestKill(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	duplicate := MustWireCases(t)["duplicate_reference"]

	server := testkit.Start(t, data)
	key := server.Key
	var serial atomic.Int64
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{random: rand.New(rand.NewPCG(seed, uint64(i+1))), serial: &serial}
	}
	connect := func() {
		for _, w := range all {
			if w.client != nil {
				w.client.close()
			}
			w.client, w.touched = newClient(server.BaseURL, key), make(map[*tracked]bool)
		}
	}
	var restarts, idle []time.Duration
	for cycle := range *cycles {
		connect()
		// The kill comes at any point, also right at the beginning.
		left := int64(random.IntN(500))
		if cycle%5 == 4 {
			left = int64(random.IntN(8))
		}
		var acknowledged atomic.Int64
		now := make(chan struct{})
		var once sync.Once
		var writing sync.WaitGroup
		for _, w := range all {
			writing.Go(func() {
				w.run(t, func() {
					if acknowledged.Add(1) > left {
						once.Do(func() { close(now) })
					}
				})
			})
		}
		// Writers that all ended by themselves have reported why.
		go func() {
			writing.Wait()
			once.Do(func() { close(now) })
		}()
		select {
		case <-now:
		case <-time.After(5 * time.Minute):
			t.Fatalf("cycle %d: only %d requests were answered in five minutes", cycle, acknowledged.Load())
		}
		server.Kill(t)
		writing.Wait()

		begin := time.Now()
		testkit.Run(t, "version")
		idle = append(idle, time.Since(begin))
		begin = time.Now()
		server = testkit.Start(t, data)
		connecting := newClient(server.BaseURL, key)
		a, err := connecting.do(t.Context(), http.MethodGet, "/customers?count=1", nil)
		restarts = append(restarts, time.Since(begin))
		connecting.close()
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("cycle %d: the first answer after a restart is %d %s (%v)", cycle, a.status, a.body, err)
		}
		var verifying sync.WaitGroup
		for _, w := range all {
			touched := make([]*tracked, 0, len(w.touched))
			for c := range w.touched {
				touched = append(touched, c)
			}
			w.client.close()
			w.client = newClient(server.BaseURL, key)
			verifying.Go(func() {
				w.verify(t, touched)
				if len(touched) == 0 {
					return
				}
				// What was acknowledged also stands in the way of another.
				again := form(0)
				again.Set("object_reference_id", touched[0].last.Reference)
				if a, err := w.client.do(t.Context(), http.MethodPost, "/customers", again); err != nil || !duplicate.is(a) {
					t.Errorf("create with an acknowledged reference: %d %s (%v)", a.status, a.body, err)
				}
			})
		}
		verifying.Wait()
		if t.Failed() {
			t.Fatalf("stopped after cycle %d", cycle)
		}
	}

	var customers []*tracked
	var verifying sync.WaitGroup
	for _, w := range all {
		verifying.Go(func() { w.verify(t, w.customers) })
	}
	verifying.Wait()
	for _, w := range all {
		customers = append(customers, w.customers...)
	}
	checkList(t, all[0].client, customers)
	for _, w := range all {
		w.client.close()
	}
	server.Kill(t)
	MustBeSound(t, data)
	if updates := checkEvents(t, data, customers); updates == 0 {
		t.Error("no customer was updated")
	}

	slices.Sort(restarts)
	t.Logf("%d customers, %d restarts from %v to %v: %v", len(customers), len(restarts), restarts[0], restarts[len(restarts)-1], restarts)
	slices.Sort(idle)
	if median, nothing := restarts[len(restarts)/2], idle[len(idle)/2]; median > max(restartBar, restartFactor*nothing) {
		t.Errorf("the median time from a start to the first answer is %v, want less than %v; to do nothing takes %v", median, restartBar, nothing)
	}
}

// checkList reads all pages: each customer is on them once, and no other.
func checkList(t *testing.T, c *client, want []*tracked) {
	t.Helper()
	seen := make(map[string]int)
	for after := ""; ; {
		a, err := c.do(t.Context(), http.MethodGet, "/customers?count=100&after="+url.QueryEscape(after), nil)
		var page struct {
			List  []customer
			Total int
			Next  *string
		}
		if err == nil {
			err = json.Unmarshal([]byte(a.body), &page)
		}
		if err != nil || a.status != http.StatusOK || page.Total != len(want) {
			t.Fatalf("a page is answered with %d and a total of %d (%v), want 200 and %d", a.status, page.Total, err, len(want))
		}
		for _, c := range page.List {
			seen[c.Reference]++
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
	}
	for reference, n := range seen {
		if n > 1 {
			t.Errorf("there are %d customers with the reference %s", n, reference)
		}
	}
	for _, c := range want {
		if seen[c.last.Reference] == 0 {
			t.Errorf("customer %s is on no page", c.last.ID)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("the pages have %d references, want %d", len(seen), len(want))
	}
}

// checkEvents opens the store that the last crash left behind and compares
// customers with their events: one for every revision. It returns how many
// updates there were.
func checkEvents(t *testing.T, data string, want []*tracked) (updates int) {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(data, "grahak.db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const merchant, most = grahak.MerchantID("demo"), 1 << 30
	records, total, err := store.Customers(t.Context(), merchant, grahak.CustomerRange{}, most, 0)
	if err != nil || len(records) != len(want) || total != int64(len(want)) {
		t.Fatalf("the store has %d customers, total %d (%v), want %d", len(records), total, err, len(want))
	}
	events, err := store.Events(t.Context(), merchant, 0, most)
	if err != nil {
		t.Fatal(err)
	}
	revisions := make(map[string][]int64)
	for _, e := range events {
		switch {
		case e.Type == grahak.EventCustomerCreated && e.Revision == 1,
			e.Type == grahak.EventCustomerUpdated && e.Revision > 1:
			revisions[e.Subject] = append(revisions[e.Subject], e.Revision)
		case e.Type == grahak.EventCustomerCreated, e.Type == grahak.EventCustomerUpdated:
			t.Errorf("event %s is a %s with revision %d", e.ID, e.Type, e.Revision)
		}
	}
	references := make(map[grahak.Index]bool)
	for _, r := range records {
		references[r.Reference] = true
		updates += int(r.Revision) - 1
		expected := make([]int64, r.Revision)
		for i := range expected {
			expected[i] = int64(i + 1)
		}
		got := revisions[string(r.ID)]
		slices.Sort(got)
		if !slices.Equal(got, expected) {
			t.Errorf("customer %s is at revision %d and has events of %v", r.ID, r.Revision, got)
		}
		delete(revisions, string(r.ID))
	}
	if len(revisions) > 0 {
		t.Errorf("there are events of customers that do not exist: %v", revisions)
	}
	if len(references) != len(records) {
		t.Errorf("%d customers have %d references", len(records), len(references))
	}
	return updates
}
