package crash_test

import (
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

// step is one write of a customer, with an Idempotency-Key of its own.
type step struct {
	method, path, key string
	form              url.Values
	event             grahak.EventType
}

// life is what is done to one customer, one step after the other.
type life struct {
	steps []step
	done  int    // how many steps were answered
	id    string // of the customer, once it is known
}

// newLife returns the life of the n-th customer: it is made, in either way, and
// changed, and every second one is erased.
func newLife(n int) *life {
	form := form(n)
	reference := form.Get("object_reference_id")
	key := func(what string) string { return fmt.Sprintf("%s %s", what, reference) }
	l := &life{steps: []step{
		{http.MethodPost, "/customers", key("make"), form, grahak.EventCustomerCreated},
		{http.MethodPost, "/v2/customers/" + url.PathEscape(reference), key("change"), url.Values{"first_name": {"Meera"}, "update": {"true"}}, grahak.EventCustomerUpdated},
	}}
	if n%3 == 0 {
		l.steps[0].path = "/v2/customers/" + url.PathEscape(reference)
	}
	if n%2 == 0 {
		l.steps = append(l.steps, step{http.MethodDelete, "/customers/" + url.PathEscape(reference), key("erase"), nil, grahak.EventCustomerErased})
	}
	return l
}

// take takes the next step, and reports whether it was answered as it must be. A
// step may have taken effect before only if again is set.
func (l *life) take(t *testing.T, c *client, again bool) (answered, replayed bool) {
	t.Helper()
	s := l.steps[l.done]
	a, err := c.doOnce(t.Context(), s.method, s.path, s.form, s.key)
	if err != nil {
		return false, false
	}
	replayed = a.header.Get("Idempotent-Replayed") == "true"
	got, err := a.customer()
	if a.status != http.StatusOK || err != nil || replayed && !again || l.id != "" && l.id != got.ID {
		t.Errorf("%s is answered %d %s %v (%v)", s.key, a.status, a.body, a.header, err)
		return false, false
	}
	l.id = got.ID
	l.done++
	return true, replayed
}

// repeat takes all steps again that were taken: each is answered as one that took
// effect before, or, if the customer was erased since, as one of nobody.
func (l *life) repeat(t *testing.T, c *client, notFound wireCase) {
	t.Helper()
	erased := l.steps[l.done-1].method == http.MethodDelete
	for _, s := range l.steps[:l.done] {
		a, err := c.doOnce(t.Context(), s.method, s.path, s.form, s.key)
		switch got, _ := a.customer(); {
		case err != nil:
			t.Error(err)
		case erased && s.method != http.MethodDelete:
			if !notFound.is(a) {
				t.Errorf("%s of one who was erased is answered %d %s", s.key, a.status, a.body)
			}
		case a.status != http.StatusOK || a.header.Get("Idempotent-Replayed") != "true" || got.ID != l.id:
			t.Errorf("%s, again, is answered %d %s %v", s.key, a.status, a.body, a.header)
		}
	}
}

// Writes with keys are repeated after the server was killed under them, at any
// point between their change and their answer. Each took effect once, answered or
// not, and nobody comes back who was erased.
func TestKillRepeated(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	notFound := MustWireCases(t)["customer_not_found"]
	server := testkit.Start(t, data)
	key := server.Key
	var serial, lost atomic.Int64
	var lives []*life
	for range max(3, *cycles/4) {
		left := int64(random.IntN(300))
		kill := make(chan struct{})
		var answered atomic.Int64
		var once sync.Once
		var writing sync.WaitGroup
		clients, last := make([]*client, writers), make([]*life, writers)
		for i := range writers {
			clients[i] = newClient(server.BaseURL, key)
			writing.Go(func() {
				for t.Context().Err() == nil {
					last[i] = newLife(int(serial.Add(1)))
					for last[i].done < len(last[i].steps) {
						if ok, _ := last[i].take(t, clients[i], false); !ok {
							return
						}
						if answered.Add(1) > left {
							once.Do(func() { close(kill) })
						}
					}
				}
			})
		}
		select {
		case <-kill:
		case <-time.After(5 * time.Minute):
			t.Fatalf("only %d requests were answered in five minutes", answered.Load())
		}
		server.Kill(t)
		writing.Wait()
		server = testkit.Start(t, data)
		for i, l := range last {
			clients[i].close()
			clients[i] = newClient(server.BaseURL, key)
			writing.Go(func() {
				defer clients[i].close()
				for l.done < len(l.steps) {
					// Only the first of them may have been under way.
					ok, replayed := l.take(t, clients[i], true)
					if !ok {
						t.Errorf("%s is not answered", l.steps[l.done].key)
						return
					}
					if replayed {
						lost.Add(1)
					}
					l.repeat(t, clients[i], notFound)
				}
				l.repeat(t, clients[i], notFound)
			})
		}
		writing.Wait()
		lives = append(lives, last...)
		if t.Failed() {
			return
		}
	}
	server.Kill(t)
	MustBeSound(t, data)
	t.Logf("%d of %d requests that were not answered took effect", lost.Load(), len(lives))
	checkLives(t, data, lives)
}

// checkLives compares the events in the store with what was done.
func checkLives(t *testing.T, data string, lives []*life) {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(data, "grahak.db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, l := range lives {
		events, err := store.EventsOf(t.Context(), "demo", l.id)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(events, func(a, b grahak.Event) int { return int(a.Revision - b.Revision) })
		var got, want []grahak.EventType
		for _, e := range events {
			got = append(got, e.Type)
		}
		for _, s := range l.steps {
			want = append(want, s.event)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events of %s (-want +got):\n%s", l.id, diff)
		}
	}
}
