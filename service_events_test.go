package grahak_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// MustNodes returns two services that run on one PostgreSQL database, with the
// merchant acme.
func MustNodes(t *testing.T) []*grahak.Service {
	t.Helper()
	url := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off"}}).Database(t)
	master, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*grahak.Service
	for range 2 {
		store, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Logger: discard})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		if _, err := store.MasterKeyID(t.Context(), master.ID()); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, MustService(t, grahak.Config{Store: store, Sealer: seal.New(master, store)}))
	}
	if _, err := nodes[0].CreateMerchant(t.Context(), operator(acme), ""); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// Whoever follows positions while many write sees each event once, none is missed,
// and each customer's are in the order of its changes; however few are looked at
// for a page, and whatever is asked for.
func TestFollowEventsBesideWriters(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) []*grahak.Service{
		"sqlite": func(t *testing.T) []*grahak.Service {
			r := MustMerchantRig(t)
			return []*grahak.Service{r.Service, r.MustJoin(t).Service}
		},
		"postgres": MustNodes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var running sync.WaitGroup
			defer running.Wait()
			run, stop := context.WithCancel(ctx)
			defer stop()
			for _, s := range nodes {
				running.Go(func() { s.Run(run) })
			}
			const writers, each, updates = 6, 8, 3
			ids := make(chan grahak.CustomerID, writers*each)
			var writing sync.WaitGroup
			for w := range writers {
				writing.Go(func() {
					s, c := nodes[w%len(nodes)], caller(acme, grahak.ScopeWrite)
					for i := range each {
						ref := fmt.Sprint(w, "-", i)
						made, err := s.CreateCustomer(ctx, c, person(ref), grahak.WriteOptions{})
						for u := 0; u < updates && err == nil; u++ {
							_, err = s.UpdateCustomer(ctx, c, ref, grahak.CustomerInput{FirstName: given(fmt.Sprint("name", u))}, grahak.WriteOptions{})
						}
						if err != nil {
							t.Error(err)
						}
						ids <- made.Customer.ID
					}
				})
			}
			nodes[0].SetMaxScan(3)
			follow := func(s *grahak.Service, types string, want int) (list []grahak.Event) {
				q := grahak.EventListQuery{Limit: 7, Follow: true}
				if types != "" {
					q.Types = given(types)
				}
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for len(list) < want {
					page, err := s.CustomerEvents(ctx, caller(acme, grahak.ScopeRead), q)
					if err != nil {
						t.Errorf("after %d: %v", q.After, err)
						return list
					}
					if page.Next < q.After || len(page.Events) > 0 && (page.Events[0].Position <= q.After || page.Next < page.Events[len(page.Events)-1].Position) {
						t.Errorf("after %d came %+v", q.After, page)
						return list
					}
					list = append(list, page.Events...)
					q.After = page.Next
					select {
					case <-tick.C:
					case <-ctx.Done():
						t.Errorf("%d events of %q came, want %d", len(list), types, want)
						return list
					}
				}
				return list
			}
			const all = writers * each * (1 + updates)
			var following sync.WaitGroup
			var seen []grahak.Event
			following.Go(func() { seen = follow(nodes[1], "", all) })
			following.Go(func() { follow(nodes[0], "customer.updated", writers*each*updates) })
			following.Go(func() { follow(nodes[0], "", all) })
			writing.Wait()
			following.Wait()
			close(ids)
			revisions := make(map[string][]int64)
			for i, e := range seen {
				if i > 0 && e.Position <= seen[i-1].Position {
					t.Errorf("position %d came after %d", e.Position, seen[i-1].Position)
				}
				revisions[e.Subject] = append(revisions[e.Subject], e.Revision)
			}
			diff(t, "the number of customers", writers*each, len(revisions))
			for id := range ids {
				diff(t, "the revisions of one customer", []int64{1, 2, 3, 4}, revisions[string(id)])
			}
		})
	}
}

// What is looked at for a page is bounded: a page may be empty and have a next one,
// and who goes on gets everything.
func TestEventsInSteps(t *testing.T) {
	t.Parallel()
	a := MustAudited(t)
	a.MustOrder(t)
	a.SetMaxScan(2)
	var want []int64
	for _, e := range a.MustEvents(t, acme) {
		if e.Type == grahak.EventCustomerErased {
			want = append(want, e.Position)
		}
	}
	id := string(a.MustCustomer(t, acme, "a").ID)
	for name, c := range map[string]struct {
		types, customer string
		want            []int64
	}{
		"a type that few are of":     {"customer.erased", "", want},
		"a type that none is of":     {"customer.erased", id, nil},
		"a customer":                 {"", "a", []int64{2, 5}},
		"a customer, and two types":  {"customer.created,customer.erased", id, []int64{2}},
		"a customer that is unknown": {"", "nobody", nil},
	} {
		q := grahak.EventListQuery{Limit: 1}
		if c.types != "" {
			q.Types = given(c.types)
		}
		if c.customer != "" {
			q.Customer = given(c.customer)
		}
		var got []int64
		pages := 0
		for more := true; more && pages < 50; pages++ {
			page, err := a.CustomerEvents(t.Context(), caller(acme, grahak.ScopeRead), q)
			wantCode(t, err, "")
			for _, e := range page.Events {
				got = append(got, e.Position)
			}
			q.Before, more = page.Next, page.Next > 0
		}
		slices.Reverse(got)
		diff(t, name+", newest first", c.want, got)
		if c.customer == "" && pages < (lastOrdered+pending)/2 {
			t.Errorf("%s, newest first: there were %d pages", name, pages)
		}
		q.Follow, q.Before, got = true, 0, nil
		for pages = 0; pages < 50; pages++ {
			page, err := a.CustomerEvents(t.Context(), caller(acme, grahak.ScopeRead), q)
			wantCode(t, err, "")
			for _, e := range page.Events {
				got = append(got, e.Position)
			}
			if page.Next == q.After {
				break
			}
			q.After = page.Next
		}
		diff(t, name, c.want, got)
		diff(t, name+": the last position", int64(lastOrdered+pending), q.After)
	}
	_, err := a.CustomerEvents(t.Context(), grahak.Caller{Merchant: acme}, grahak.EventListQuery{Limit: 1})
	wantCode(t, err, grahak.CodeInsufficientScope)
}

// Events before an hour of the day that they are shown from are found by halves: from
// whichever of them on, the oldest that is shown comes first.
func TestOldestEventShown(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const customers = 20
	for i := range customers {
		r.MustCreate(t, acme, person(fmt.Sprint(i)))
		r.clock.Advance(24 * time.Hour)
	}
	r.MustOrder(t)
	events := r.MustEvents(t, acme)
	r.clock.Advance(events[1].At.Add(grahak.DefaultEventsCatchUp).Sub(r.clock.Now()))
	for i := range customers + 1 {
		page, err := r.CustomerEvents(t.Context(), caller(acme, grahak.ScopeRead), grahak.EventListQuery{Limit: 100, Follow: true})
		wantCode(t, err, "")
		diff(t, "the number of events that are shown", customers-i, len(page.Events))
		if i < customers {
			diff(t, "the first that is shown", int64(2+i), page.Events[0].Position)
		}
		diff(t, "the next position", int64(1+customers), page.Next)
		page, err = r.CustomerEvents(t.Context(), caller(acme, grahak.ScopeRead), grahak.EventListQuery{Limit: 100})
		wantCode(t, err, "")
		diff(t, "the number of events that are shown, newest first", customers-i, len(page.Events))
		diff(t, "the next page", int64(0), page.Next)
		r.clock.Advance(24 * time.Hour)
	}
}

// readPruned is a store in which all that is old is pruned just before events are
// read for the n-th time.
type readPruned struct {
	grahak.Store
	n     int
	prune func()
}

func (p *readPruned) EventsIn(ctx context.Context, m grahak.MerchantID, r grahak.EventRange, limit int) ([]grahak.Event, error) {
	if p.n--; p.n == 0 {
		p.prune()
	}
	return p.Store.EventsIn(ctx, m, r, limit)
}

// Events that were pruned are not passed over, whenever that was.
func TestFollowWhatWasPruned(t *testing.T) {
	t.Parallel()
	follow := func(s *grahak.Service, after int64, customer string) ([]int64, error) {
		q := grahak.EventListQuery{Limit: 100, Follow: true, After: after}
		if customer != "" {
			q.Customer = given(customer)
		}
		page, err := s.CustomerEvents(t.Context(), caller(acme, grahak.ScopeRead), q)
		var positions []int64
		for _, e := range page.Events {
			positions = append(positions, e.Position)
		}
		return positions, err
	}
	for read, customers := range [][]string{{"", "a"}, {"", "e"}, {"", "a"}, {"a", "e"}} { // at 0 it never is
		for _, customer := range customers {
			a := MustAudited(t)
			a.mustAge(t, lastPruned+1)
			if customer == "e" { // who was erased
				customer = a.MustEvents(t, acme)[lastOrdered-1].Subject
			}
			prune := func() {
				if err := a.PruneEvents(t.Context()); err != nil {
					t.Error(err)
				}
			}
			s := MustService(t, grahak.Config{
				Store: &readPruned{a.store, read, prune}, Sealer: a.sealer, Clock: a.clock,
				EventsCatchUp: grahak.DefaultEventsKeep, // so that all that is there is shown
			})
			// They are there at first, and shown for an hour longer.
			got, err := follow(s, 1, customer)
			want := map[string][]int64{"": {2, 3, 4, 5, 6, 7, 10}, "a": {2, 5}}[customer]
			if want == nil {
				want = []int64{10}
			}
			if code := grahak.CodeOf(err); code != grahak.CodeEventsExpired && (err != nil || !slices.Equal(got, want)) {
				t.Errorf("pruned at read %d: %v came of %q, want %v (%v)", read, got, customer, want, err)
			} else if read == 0 && code != "" {
				t.Errorf("nothing was pruned, and yet: %v", err)
			}
			prune()
			for after := range int64(lastPruned - 1) {
				_, err := follow(s, after+1, customer)
				wantCode(t, err, grahak.CodeEventsExpired)
			}
			for _, after := range []int64{0, lastPruned} {
				got, err = follow(s, after, customer)
				wantCode(t, err, "")
				if customer == "a" {
					want = nil
				} else {
					want = []int64{10}
				}
				diff(t, "what is left", want, got)
			}
		}
	}
}
