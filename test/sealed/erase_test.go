package sealed_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak"
	"grahak/internal/testkit"
)

// deed is one request of a race for a reference, from when it was sent until it
// was answered, in ticks that count both.
type deed struct {
	from, to int64
	what     string // create, update, erase, read
	id       string // which was asked for; empty if it was the reference
	got      string // the id that was answered; empty for a refusal
	name     string // that an update gave
}

// race is what is known of one reference.
type race struct {
	reference string
	mu        sync.Mutex
	ids       []string // that were ever seen
	deeds     []deed
}

func (r *race) note(d deed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deeds = append(r.deeds, d)
	if d.got != "" && !slices.Contains(r.ids, d.got) {
		r.ids = append(r.ids, d.got)
	}
}

// anyID returns an id that the reference has or had, empty if none is known.
func (r *race) anyID(random *rand.Rand) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) == 0 {
		return ""
	}
	return r.ids[max(0, len(r.ids)-1-random.IntN(3))]
}

// life is from when to when a customer exists: surely between the inner two, and
// perhaps between the outer ones.
type life struct{ sent, made, asked, gone int64 }

// lives returns the life of each customer, and fails the test unless each began
// once and ended once at most.
func (r *race) lives(t *testing.T) map[string]life {
	t.Helper()
	lives := make(map[string]life)
	for _, d := range r.deeds {
		if d.what == "create" && d.got != "" {
			if _, known := lives[d.got]; known {
				t.Errorf("%s was created twice", d.got)
			}
			lives[d.got] = life{d.from, d.to, math.MaxInt64, math.MaxInt64}
		}
	}
	for _, d := range r.deeds {
		if d.what != "erase" || d.got == "" {
			continue
		}
		l, known := lives[d.got]
		if !known || l.gone != math.MaxInt64 {
			t.Errorf("%s was erased twice, or never created", d.got)
		}
		l.asked, l.gone = d.from, d.to
		lives[d.got] = l
	}
	return lives
}

// check fails the test unless all answers fit together.
func (r *race) check(t *testing.T) map[string]life {
	t.Helper()
	lives := r.lives(t)
	// One at a time.
	for id, a := range lives {
		for other, b := range lives {
			if id < other && a.made < b.asked && b.made < a.asked {
				t.Errorf("%s: %s and %s existed at once", r.reference, id, other)
			}
		}
	}
	for _, d := range r.deeds {
		// Of the customers that d is about: was one there throughout, was one there
		// perhaps?
		surely, perhaps := false, false
		for id, l := range lives {
			if d.id == "" || d.id == id {
				surely = surely || l.made <= d.from && d.to <= l.asked
				perhaps = perhaps || l.sent < d.to && d.from < l.gone
			}
		}
		switch l := lives[d.got]; {
		case d.what == "create" && d.got == "" && !perhaps:
			t.Errorf("%s: a create was refused, and there was nobody: %+v", r.reference, d)
		case d.what == "create" && d.got != "" && surely:
			t.Errorf("%s: a second one was created: %+v", r.reference, d)
		case d.what == "create":
		case d.got == "" && surely:
			t.Errorf("%s: somebody was not found who was there: %+v", r.reference, d)
		case d.got == "":
		case d.id != "" && d.got != d.id:
			t.Errorf("%s: another was answered: %+v", r.reference, d)
		case d.to < l.sent || l.gone < d.from:
			t.Errorf("%s: somebody was found who was not there: %+v, who lived %+v", r.reference, d, l)
		}
	}
	return lives
}

// lastNames returns what a customer may be called at last.
func (r *race) lastNames(id string) (names []string) {
	for _, d := range r.deeds {
		later := func(e deed) bool {
			return e.got == id && e.name != "" && e.from > d.to
		}
		if d.got == id && d.name != "" && !slices.ContainsFunc(r.deeds, later) {
			names = append(names, d.name)
		}
	}
	return names
}

// TestEraseRaces lets many clients create, change, read and erase customers of
// the same few references, while keys are rotated and commands erase, too.
func TestEraseRaces(t *testing.T) {
	t.Parallel()
	clients, deeds := 12, 400
	if long() {
		deeds = 10_000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cases := MustWireCases(t)
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	races := make([]*race, 5)
	for i := range races {
		races[i] = &race{reference: form(i).Get("object_reference_id")}
	}
	var clock, serial atomic.Int64
	var racing, watching sync.WaitGroup
	for i := range clients {
		racing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			c := newClient(server.BaseURL, server.Key)
			defer c.close()
			for range deeds {
				n := random.IntN(len(races))
				r := races[n]
				d := deed{what: "read"}
				method, fields := http.MethodGet, url.Values(nil)
				path := byReference(customer{Reference: r.reference}).path
				if id := r.anyID(random); id != "" && random.IntN(2) == 0 {
					d.id, path = id, byID(customer{ID: id}).path
				}
				switch random.IntN(8) {
				case 0, 1, 2:
					d.what, d.id, method, path = "create", "", http.MethodPost, "/customers"
					fields = form(int(serial.Add(1)) + len(races))
					fields.Set("object_reference_id", r.reference)
					d.name = fields.Get("first_name")
				case 3:
					d.what, d.name, method = "update", fmt.Sprintf("Updated %d", serial.Add(1)), http.MethodPost
					fields = url.Values{"first_name": {d.name}}
				case 4, 5:
					d.what, method = "erase", http.MethodDelete
				}
				d.from = clock.Add(1)
				a, err := c.do(t.Context(), method, path, fields)
				d.to = clock.Add(1)
				if err != nil {
					t.Errorf("%s %s: %v", method, path, err)
					return
				}
				var body struct {
					ID        string
					Reference string `json:"object_reference_id"`
					Deleted   bool
				}
				refused := cases["customer_not_found"]
				if d.what == "create" {
					refused = cases["duplicate_reference"]
				}
				if !a.is(refused) {
					if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != http.StatusOK || body.Deleted != (d.what == "erase") || !body.Deleted && body.Reference != r.reference {
						t.Errorf("%s %s %q: %d %s (%v)", method, path, fields, a.status, a.body, err)
						return
					}
					d.got = body.ID
				}
				r.note(d)
			}
		})
	}
	// Commands erase, in a process of their own, and rotate.
	racing.Go(func() {
		erased := regexp.MustCompile(`^Erased customer (cst_\w+) of merchant demo\.`)
		for i := range 12 {
			r := races[i%len(races)]
			d := deed{what: "erase", from: clock.Add(1)}
			got := run(t, "customer", "erase", "--merchant", "demo", "--yes", r.reference, "--data", data)
			d.to = clock.Add(1)
			if m := erased.FindStringSubmatch(got.out); m != nil {
				d.got = m[1]
			} else if got.status != 1 || !strings.Contains(got.stderr, "no such customer") {
				t.Errorf("customer erase: exit status %d, %s%s", got.status, got.out, got.stderr)
			}
			r.note(d)
			if i%4 == 1 {
				run(t, "seal", "rotate", "--all", "--no-wait", "--data", data)
			}
		}
	})
	// At no moment are there two of a reference.
	raced := make(chan struct{})
	pages := 0
	watching.Go(func() {
		c := newClient(server.BaseURL, server.Key)
		defer c.close()
		random := rand.New(rand.NewPCG(seed, math.MaxUint64))
		for {
			select {
			case <-raced:
				return
			default:
			}
			path := "/customers?count=100"
			if random.IntN(2) == 0 {
				path = find(url.Values{"object_reference_id": {races[random.IntN(len(races))].reference}}).path
			}
			a, err := c.do(t.Context(), http.MethodGet, path, nil)
			var p page
			if err == nil {
				p, err = a.page()
			}
			seen := make(map[string]bool)
			for _, c := range p.List {
				if seen[c.Reference] {
					t.Errorf("GET %s: two of a reference: %s", path, a.body)
				}
				seen[c.Reference] = true
			}
			if err != nil || a.status != http.StatusOK || p.Total > int64(len(races)) || p.Total < int64(len(p.List)) {
				t.Errorf("GET %s: %d %s (%v)", path, a.status, a.body, err)
				return
			}
			pages++
		}
	})
	racing.Wait()
	close(raced)
	watching.Wait()
	if t.Failed() {
		return
	}

	// What is left is what was acknowledged.
	c := newClient(server.BaseURL, server.Key)
	defer c.close()
	lives, alive := make(map[string]life), []customer(nil)
	for _, r := range races {
		var is *customer
		for id, l := range r.check(t) {
			lives[id] = l
			if l.gone != math.MaxInt64 {
				c.look(t, byID(customer{ID: id}), nil)
				continue
			}
			a, err := c.get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.customer()
			if names := r.lastNames(id); err != nil || got.FirstName == nil || !slices.Contains(names, *got.FirstName) {
				t.Errorf("%s is %d %s at last (%v), want one of %q", id, a.status, a.body, err, names)
			}
			is, alive = &got, append(alive, got)
		}
		ways := []way{byReference(customer{Reference: r.reference}), find(url.Values{"object_reference_id": {r.reference}})}
		if is != nil {
			ways = waysTo(*is)
		}
		for _, w := range ways {
			c.look(t, w, is)
		}
	}
	checkList(t, c, alive)
	testkit.Run(t, "seal", "rotate", "--all", "--data", data)
	server.Stop(t)
	checkVersions(t, data, map[grahak.MerchantID]int{demo: len(alive)})
	checkAudit(t, data)
	checkEvents(t, data, lives)
	t.Logf("%d customers lived, %d are left; %d pages were seen meanwhile", len(lives), len(alive), pages)
	if len(lives) < 20 || pages == 0 {
		t.Error("too little has happened")
	}
}

// checkEvents fails the test unless the events tell of the same lives: one for
// each revision, and none after the end.
func checkEvents(t *testing.T, data string, lives map[string]life) {
	t.Helper()
	store := MustOpen(t, data)
	defer store.Close()
	events, err := store.Events(t.Context(), demo, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	revisions, ended := make(map[string]int64), make(map[string]bool)
	for _, e := range events {
		if !strings.HasPrefix(string(e.Type), "customer.") {
			continue
		}
		revisions[e.Subject]++
		if e.Revision != revisions[e.Subject] || (e.Revision == 1) != (e.Type == grahak.EventCustomerCreated) || ended[e.Subject] {
			t.Errorf("the event at position %d does not follow on what was before it: %+v", e.Position, e)
		}
		ended[e.Subject] = e.Type == grahak.EventCustomerErased
	}
	if len(revisions) != len(lives) {
		t.Errorf("the events tell of %d customers, want %d", len(revisions), len(lives))
	}
	for id, l := range lives {
		if revisions[id] == 0 || ended[id] != (l.gone != math.MaxInt64) {
			t.Errorf("customer %s: %d events, erased: %v", id, revisions[id], ended[id])
		}
	}
}
