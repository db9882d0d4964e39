package sqlstore_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"grahak"
	"grahak/internal/sqlstore"
)

// TestSearchBehindTheChain searches and counts, in a random order, among writes of
// one or two stores on one file and passes that put some of the events in order. One of
// the stores may remember next to nothing.
func TestSearchBehindTheChain(t *testing.T) {
	t.Parallel()
	s := MustOpen(t, sqlstore.SQLiteConfig{})
	other := MustOpen(t, sqlstore.SQLiteConfig{Path: s.Path()})
	other.SetMostTailKeys(5)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		stores := rapid.SampledFrom([][]*sqlstore.SQLite{{s}, {other}, {s, other}}).Draw(rt, "stores")
		drawStore := func(rt *rapid.T) *sqlstore.SQLite { return rapid.SampledFrom(stores).Draw(rt, "store") }
		m := grahak.MerchantID(fmt.Sprintf("m-%d", round))
		if err := createMerchant(t.Context(), s, m); err != nil {
			rt.Fatal(err)
		}
		n, ordered, last := 0, 0, 1
		model := make(map[int]grahak.CustomerRecord)
		// No value is one of e-mail addresses and of mobile numbers.
		drawValue := func(rt *rapid.T, what string, from, upto int) (v grahak.ShortIndex) {
			binary.BigEndian.PutUint64(v[:], uint64(1+rapid.IntRange(from, upto).Draw(rt, what)))
			return v
		}
		drawEmail := func(rt *rapid.T) grahak.ShortIndex { return drawValue(rt, "email", 0, 1) }
		drawMobile := func(rt *rapid.T) grahak.ShortIndex { return drawValue(rt, "mobile", 2, 3) }
		drawCustomer := func(rt *rapid.T) int {
			if len(model) == 0 {
				rt.Skip("there is no customer")
			}
			return rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(rt, "customer")
		}
		check := func(rt *rapid.T) {
			s, v := drawStore(rt), drawValue(rt, "searched", 0, 3)
			var want []grahak.CustomerID
			for _, n := range slices.Backward(slices.Sorted(maps.Keys(model))) {
				if c := model[n]; c.Email == v || c.Mobile == v {
					want = append(want, c.ID)
				}
			}
			found, total, err := s.FindCustomers(t.Context(), m, grahak.CustomerIndex{Email: v}, grahak.CustomerRange{}, 1000)
			var got []grahak.CustomerID
			for _, c := range found {
				got = append(got, c.ID)
			}
			if err != nil || !slices.Equal(got, want) {
				rt.Fatalf("found %q (%v), want %q", got, err, want)
			}
			if counted, recorded, err := s.CountCustomers(t.Context(), m); err != nil || total != counted || recorded != counted {
				rt.Fatalf("there are %d customers (%v), but a search tells of %d and a count of %d", counted, err, total, recorded)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				c := record(n, 10)
				c.Email, c.Mobile = drawEmail(rt), drawMobile(rt)
				if err := drawStore(rt).CreateCustomer(t.Context(), m, c, created(c), nil); err != nil {
					rt.Fatal(err)
				}
				model[n] = c
				n++
				last++
			},
			"update": func(rt *rapid.T) {
				i := drawCustomer(rt)
				c := model[i]
				c.Revision++
				e := grahak.Event{ID: grahak.EventID(fmt.Sprintf("evt_%d_%d", i, c.Revision)), Type: grahak.EventCustomerUpdated, Subject: string(c.ID), Revision: c.Revision, Actor: "key_0", At: c.UpdatedAt}
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					e.Changed = []grahak.Field{grahak.FieldFirstName}
				case 1:
					// As after a change of how values are folded.
					c.Email = drawEmail(rt)
				default:
					e.Changed = []grahak.Field{grahak.FieldEmail, grahak.FieldMobileNumber}
					c.Email, c.Mobile = drawEmail(rt), drawMobile(rt)
				}
				if done, err := drawStore(rt).UpdateCustomer(t.Context(), m, c, e, nil); err != nil || !done {
					rt.Fatal(done, err)
				}
				model[i] = c
				last++
			},
			"erase": func(rt *rapid.T) {
				i := drawCustomer(rt)
				c := model[i]
				e := grahak.Event{ID: grahak.EventID(fmt.Sprintf("evt_erased_%d", i)), Type: grahak.EventCustomerErased, Subject: string(c.ID), Revision: c.Revision + 1, Actor: "key_0", At: c.UpdatedAt}
				if done, err := drawStore(rt).EraseCustomer(t.Context(), m, c.ID, c.Revision, e, nil); err != nil || !done {
					rt.Fatal(done, err)
				}
				delete(model, i)
				last++
			},
			"order": func(rt *rapid.T) {
				if ordered == last {
					rt.Skip("all is in order")
				}
				upto := rapid.IntRange(ordered+1, last).Draw(rt, "position")
				MustOrder(t, drawStore(rt), m, ordered+1, upto)
				ordered = upto
			},
			"": check,
		})
		// What is behind the chain's head is known to both from here on.
		check(rt)
	})
}

// TestOrderLooksNobodyUp puts events of a store's own in order without a look at their
// customers.
func TestOrderLooksNobodyUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "grahak.db")
	before := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	MustOrderAll(t, before, acme, 10)
	MustClose(t, before)
	s := MustOpen(t, sqlstore.SQLiteConfig{Path: path})
	MustCreate(t, s, 0, 20)
	c := record(7, 100)
	c.Revision, c.Mobile[0] = 2, 0xff
	e := grahak.Event{ID: "evt_update", Type: grahak.EventCustomerUpdated, Subject: string(c.ID), Revision: 2, Changed: []grahak.Field{grahak.FieldMobileNumber}, Actor: "key_0", At: c.UpdatedAt}
	if done, err := s.UpdateCustomer(t.Context(), acme, c, e, nil); err != nil || !done {
		t.Fatal(done, err)
	}
	MustOrderAll(t, s, acme, 10)
	for _, query := range s.Statements() {
		if strings.Contains(query, "JOIN customers") {
			t.Errorf("customers were looked up: %s", query)
		}
	}
	for value, want := range map[grahak.ShortIndex]int{c.Mobile: 1, record(7, 100).Mobile: 0, record(8, 100).Mobile: 1} {
		list, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: value}, grahak.CustomerRange{}, 2)
		if err != nil || len(list) != want {
			t.Errorf("%d are found under %x (%v), want %d", len(list), value, err, want)
		}
	}
}

// TestSearchAmongWrites searches from several callers for customers that they make,
// while events are put in order: who was there when a search began is found.
func TestSearchAmongWrites(t *testing.T) {
	t.Parallel()
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	const customers = 1000
	created := make(chan struct{})
	go func() {
		defer close(created)
		MustConcurrently(t, customers, func(n int) error {
			if err := create(t.Context(), s, n); err != nil {
				return err
			}
			c := record(n, 100)
			list, total, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: c.Mobile}, grahak.CustomerRange{}, 2)
			if err != nil || len(list) != 1 || list[0].ID != c.ID || total < 1 {
				return fmt.Errorf("%d found, of %d (%w), want one", len(list), total, err)
			}
			return nil
		})
	}()
	for ordered, done := 0, false; ordered < customers+1; {
		select {
		case <-created:
			done = true
		default:
		}
		events, err := s.Events(t.Context(), acme, int64(ordered), 40)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) > 0 {
			MustOrder(t, s, acme, ordered+1, ordered+len(events))
			ordered += len(events)
		} else if done {
			t.Fatalf("there are %d events, want %d", ordered, customers+1)
		}
	}
	<-created
}
