package sqlstore_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"grahak"
	"grahak/internal/sqlstore"
)

// MustWork runs fn among the store's own writes.
func MustWork(t testing.TB, s *sqlstore.SQLite, fn func(tx sqlstore.Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// TestLookUpIndex compares the look-up index with a set: keys are added and
// removed between steps of merges of any size, and every search finds what the
// set has, whatever has been merged so far. Ids are long, so that blocks hold few.
func TestLookUpIndex(t *testing.T) {
	s := MustOpen(t, sqlstore.SQLiteConfig{})
	// The first is the start of the second, and the last is above all.
	values := []string{"\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x02", "\xff\xff\xff\xff\xff\xff\xff\xff"}
	id := func(n int) string { return fmt.Sprintf("%03d", n) + strings.Repeat("x", 200) }
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := grahak.MerchantID(fmt.Sprintf("m-%d", round))
		model := make(map[string]bool)
		drawKey := rapid.Custom(func(rt *rapid.T) string {
			return rapid.SampledFrom(values).Draw(rt, "value") + id(rapid.IntRange(0, 199).Draw(rt, "id"))
		})
		work := func(fn func(tx sqlstore.Tx) error) {
			rt.Helper()
			if err := s.Write(t.Context(), fn); err != nil {
				rt.Fatal(err)
			}
		}
		search := func(tx sqlstore.Tx, value, from, before string, limit int) error {
			var want []string
			for _, key := range slices.Backward(slices.Sorted(maps.Keys(model))) {
				if id, ok := strings.CutPrefix(key, value); ok && id >= from && id < before && len(want) < limit {
					want = append(want, id)
				}
			}
			got, err := tx.SearchKeys(m, []byte(value), from, before, limit)
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("a search from %.4q before %.4q for %d found %d: %.4q, want %d: %.4q", from, before, limit, len(got), got, len(want), want)
			}
			return err
		}
		check := func(rt *rapid.T) {
			work(func(tx sqlstore.Tx) error {
				_, err := tx.CheckIndex(m)
				for _, value := range values {
					err = errors.Join(err, search(tx, value, "", "\U0010FFFF", 1000))
				}
				return err
			})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				var keys [][]byte
				for _, key := range rapid.SliceOfN(drawKey, 0, 80).Draw(rt, "keys") {
					model[key] = true
					keys = append(keys, []byte(key))
				}
				level := rapid.Int64Range(0, 4).Draw(rt, "level")
				work(func(tx sqlstore.Tx) error {
					err := tx.AddKeys(m, keys)
					// No merge that has begun takes the newest run for one of its own.
					_, execErr := tx.Exec(`UPDATE lookup_runs SET level = max(level, $1) WHERE merchant_id = $2 AND whole = 1
						AND run = (SELECT max(run) FROM lookup_runs WHERE merchant_id = $2)`, level, string(m))
					return errors.Join(err, execErr)
				})
			},
			"add many in a row": func(rt *rapid.T) {
				value, first := rapid.SampledFrom(values).Draw(rt, "value"), rapid.IntRange(0, 150).Draw(rt, "first")
				var keys [][]byte
				for n := range rapid.IntRange(1, 50).Draw(rt, "how many") {
					key := value + id(first+n)
					model[key] = true
					keys = append(keys, []byte(key))
				}
				work(func(tx sqlstore.Tx) error { return tx.AddKeys(m, keys) })
			},
			"remove": func(rt *rapid.T) {
				keys := rapid.SliceOfN(drawKey, 1, 20).Draw(rt, "keys")
				work(func(tx sqlstore.Tx) (err error) {
					for _, key := range keys {
						delete(model, key)
						err = errors.Join(err, tx.RemoveKey(m, []byte(key)))
					}
					return err
				})
			},
			"remove all of a value": func(rt *rapid.T) {
				value := rapid.SampledFrom(values).Draw(rt, "value")
				work(func(tx sqlstore.Tx) error {
					for key := range model {
						if strings.HasPrefix(key, value) {
							if err := tx.RemoveKey(m, []byte(key)); err != nil {
								return err
							}
						}
					}
					return nil
				})
				maps.DeleteFunc(model, func(key string, _ bool) bool { return strings.HasPrefix(key, value) })
			},
			"merge": func(rt *rapid.T) {
				calm := rapid.Bool().Draw(rt, "calm")
				budget := rapid.IntRange(1, 4).Draw(rt, "blocks")
				work(func(tx sqlstore.Tx) error {
					_, err := tx.MergeRuns(m, calm, budget)
					return err
				})
			},
			"search": func(rt *rapid.T) {
				bound := func(name string) string { return id(rapid.IntRange(0, 199).Draw(rt, name)) }
				value, from, before, limit := rapid.SampledFrom(values).Draw(rt, "value"), bound("from"), bound("before"), rapid.IntRange(1, 30).Draw(rt, "limit")
				work(func(tx sqlstore.Tx) error { return search(tx, value, from, before, limit) })
			},
			"check": check,
		})
		// Merges end, and leave fewer runs on each level than would be merged.
		var levels map[int64]int
		calm := rapid.Bool().Draw(rt, "calm at last")
		for steps, more := 0, true; more; steps++ {
			if steps > 1000 {
				rt.Fatal("there is always more to merge")
			}
			work(func(tx sqlstore.Tx) (err error) {
				more, err = tx.MergeRuns(m, calm, 1)
				return err
			})
		}
		work(func(tx sqlstore.Tx) (err error) {
			levels, err = tx.CheckIndex(m)
			return err
		})
		for level, runs := range levels {
			if calm && (runs > 1 || level%2 == 1 && levels[level+1] > 0) || runs >= sqlstore.BusyFanIn {
				rt.Errorf("there are %d runs on level %d, and %d on the next, calm %t", runs, level, levels[level+1], calm)
			}
		}
		check(rt)
	})
}

// TestCalmWithinAMerge becomes calm while a merge is under way, next to whose level
// is an older run. That waits, and nothing of it is lost.
func TestCalmWithinAMerge(t *testing.T) {
	s := MustOpen(t, sqlstore.SQLiteConfig{})
	const runs, each = sqlstore.BusyFanIn + 1, 40
	value, id := "\x00\x00\x00\x00\x00\x00\x00\x01", func(n int) string { return fmt.Sprintf("%03d", n) + strings.Repeat("x", 200) }
	MustWork(t, s, func(tx sqlstore.Tx) error {
		for r := range runs {
			var keys [][]byte
			for n := range each {
				keys = append(keys, []byte(value+id(n*runs+r)))
			}
			if err := tx.AddKeys(acme, keys); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE lookup_runs SET level = CASE run WHEN 1 THEN 1 ELSE 2 END`)
		return err
	})
	more := false
	MustWork(t, s, func(tx sqlstore.Tx) (err error) {
		more, err = tx.MergeRuns(acme, false, 1)
		return err
	})
	if !more {
		t.Fatal("the merge took one step")
	}
	for more {
		MustWork(t, s, func(tx sqlstore.Tx) (err error) {
			more, err = tx.MergeRuns(acme, true, 1)
			return err
		})
	}
	MustWork(t, s, func(tx sqlstore.Tx) error {
		levels, err := tx.CheckIndex(acme)
		found, findErr := tx.SearchKeys(acme, []byte(value), "", "\U0010FFFF", 2*runs*each)
		if len(found) != runs*each {
			t.Errorf("%d of %d keys are found", len(found), runs*each)
		}
		if len(levels) == 0 || levels[2] > 0 {
			t.Errorf("there are %v runs on the levels", levels)
		}
		return errors.Join(err, findErr)
	})
}

// TestTidyInSteps makes a merge that is too long for one step. While it is under
// way the merchant is listed as one with something to do, and everything is
// found that is there; what is erased meanwhile does not come back.
func TestTidyInSteps(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	// Two keys of each customer, in blocks of which each holds few of such ids.
	const customers, segments = 1100, 4
	long := func(n int) grahak.CustomerRecord {
		c := record(n, 10)
		c.ID += grahak.CustomerID(strings.Repeat("x", 200))
		return c
	}
	MustConcurrently(t, customers, func(n int) error {
		c := long(n)
		return s.CreateCustomer(t.Context(), acme, c, created(c), nil)
	})
	more := false
	for i := range segments {
		if more {
			t.Fatal("there is more to tidy before a merge is due")
		}
		more = MustOrder(t, s, acme, i*(customers+1)/segments+1, (i+1)*(customers+1)/segments)
	}
	wantUnordered(t, s, acme)
	gone := make(map[int]bool)
	wantAll := func(what string) {
		t.Helper()
		// Some of both kinds.
		for n := 0; n < customers; n += 5 {
			c := long(n)
			for name, by := range map[string]grahak.CustomerIndex{"e-mail": {Email: c.Email}, "mobile": {Mobile: c.Mobile}} {
				list, _, err := s.FindCustomers(t.Context(), acme, by, grahak.CustomerRange{}, 2)
				if err != nil {
					t.Fatal(err)
				}
				if found := len(list) == 1 && list[0].ID == c.ID; found == gone[n] || len(list) > 1 {
					t.Errorf("%s: customer %d, erased %t, is found by %s as %d", what, n, gone[n], name, len(list))
				}
			}
		}
	}
	steps := 0
	for more {
		steps++
		if steps == 1 {
			wantAll("in the middle of a merge")
			for n := 0; n < customers; n += 7 {
				c := long(n)
				MustErase(t, s, c)
				gone[n] = true
			}
		}
		wantUnordered(t, s, acme)
		var err error
		if more, err = s.Tidy(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
	}
	if steps == 0 {
		t.Error("all was merged in one step")
	}
	wantAll("after the merge")
	MustOrder(t, s, acme, customers+2, customers+1+len(gone))
	wantUnordered(t, s)
	wantAll("with all in order")
	MustWork(t, s, func(tx sqlstore.Tx) error {
		levels, err := tx.CheckIndex(acme)
		if len(levels) != 1 || levels[1] != 1 {
			t.Errorf("there are %v runs on the levels, want one on the first", levels)
		}
		return err
	})
}

// MustTidy takes all steps of the merges that are due.
func MustTidy(t testing.TB, s *sqlstore.SQLite, m grahak.MerchantID) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Tidy(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// MustOrder puts the events from one position to another in order, as one
// segment, and reports whether there is more to tidy.
func MustOrder(t testing.TB, s *sqlstore.SQLite, m grahak.MerchantID, first, last int) bool {
	t.Helper()
	head, err := s.ChainHead(t.Context(), m)
	if err != nil || head.Position != int64(first-1) {
		t.Fatalf("the chain's head is at position %d (%v), want %d", head.Position, err, first-1)
	}
	events, err := s.Events(t.Context(), m, head.Position, last-first+1)
	if err != nil || len(events) != last-first+1 {
		t.Fatalf("there are %d events (%v), want %d", len(events), err, last-first+1)
	}
	segment := grahak.ChainSegment{First: int64(first), Customers: head.Customers}
	for _, e := range events {
		head.Link = e.Link(m, head.Link)
		segment.Links = append(segment.Links, head.Link)
		switch e.Type {
		case grahak.EventCustomerCreated:
			segment.Customers++
		case grahak.EventCustomerErased:
			segment.Customers--
		}
	}
	more, err := s.Order(t.Context(), m, segment, events)
	if err != nil {
		t.Fatal(err)
	}
	return more
}

// wantUnordered fails the test unless exactly the given merchants have something
// to put in order or to tidy.
func wantUnordered(t testing.TB, s *sqlstore.SQLite, want ...grahak.MerchantID) {
	t.Helper()
	got, err := s.Unordered(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("merchants with something to do: %q (%v), want %q", got, err, want)
	}
}

// TestDamagedBlock alters a block of the look-up index. A search that meets it is
// told so, but events are put in order, and customers erased, as ever.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][]byte{"cut off": {0xff, 0}, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
			MustCreate(t, s, 0, 4)
			MustOrder(t, s, acme, 1, 5)
			MustTidy(t, s, acme)
			MustWork(t, s, func(tx sqlstore.Tx) error {
				n, err := tx.Exec(`UPDATE lookup_blocks SET keys = $1`, keys)
				if n != 1 {
					t.Errorf("%d blocks were altered, want 1", n)
				}
				return err
			})
			c := record(2, 20)
			if _, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: c.Mobile}, grahak.CustomerRange{}, 2); err == nil || !strings.Contains(err.Error(), "acme") {
				t.Errorf("a search in the damaged block: %v, want an error that names the merchant", err)
			}
			MustErase(t, s, c)
			MustCreate(t, s, 10, 12)
			MustOrder(t, s, acme, 6, 8)
			if head, err := s.ChainHead(t.Context(), acme); err != nil || head.Position != 8 {
				t.Errorf("the chain is at %d (%v), want 8", head.Position, err)
			}
			if _, err := s.Tidy(t.Context(), acme); err == nil {
				t.Error("a merge of the damaged block says nothing")
			}
		})
	}
}
