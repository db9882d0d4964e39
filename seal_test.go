package grahak_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/testkit"
)

// MustRotate rotates acme's key, and fails the test unless made tells whether one
// was made.
func (r *rig) MustRotate(tb testing.TB, made bool) grahak.SealState {
	tb.Helper()
	state, got, err := r.RotateSeal(tb.Context(), operator(acme))
	if err != nil {
		tb.Fatalf("rotate: %v", err)
	}
	diff(tb, "a key was made", made, got)
	return state
}

// MustReseal seals acme's customers anew and returns the state after that.
func (r *rig) MustReseal(tb testing.TB) grahak.SealState {
	tb.Helper()
	state, err := r.Reseal(tb.Context(), operator(acme), func(grahak.SealState) {})
	if err != nil {
		tb.Fatalf("reseal: %v", err)
	}
	return state
}

// sealEvents returns the events of merchant m that are about its keys, without
// what differs each time.
func (r *rig) sealEvents(tb testing.TB, m grahak.MerchantID) (list []grahak.Event) {
	tb.Helper()
	for _, e := range r.MustEvents(tb, m) {
		if strings.HasPrefix(string(e.Type), "seal.") {
			list = append(list, grahak.Event{Type: e.Type, Subject: e.Subject, Actor: e.Actor})
		}
	}
	return list
}

// cantOpen fails the test if sealed opens with the keys that s has.
func cantOpen(tb testing.TB, s *rig, id grahak.CustomerID, sealed grahak.Sealed) {
	tb.Helper()
	_, err := s.sealer.Open(tb.Context(), acme, id, sealed.Bytes)
	var known *grahak.Error
	if err == nil || errors.As(err, &known) {
		tb.Errorf("what was sealed under version %d: got %v, want an error because it does not open", sealed.Version, err)
	}
}

// A rotation from its start to its end, beside another process that knows only
// the old key at first: everything can be read at every step, what is written is
// under the new key at once, and at the end the old one opens nothing.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	const customers = 2*grahak.ResealBatch + 20
	want := make([]grahak.Customer, customers)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := w; i < customers; i += 8 {
				want[i] = r.MustCreate(t, acme, person(fmt.Sprint(i)))
			}
		})
	}
	group.Wait()
	rivals := r.MustCreate(t, rival, person("ref"))
	blobs := make([]grahak.Sealed, customers)
	for i, c := range want {
		blobs[i] = r.MustRecord(t, acme, c.ID).Sealed
		diff(t, "the version it is sealed under", int64(1), blobs[i].Version)
	}
	readable := func(step string) {
		t.Helper()
		for _, s := range []*rig{r, other} {
			for i := 0; i < customers; i += 13 {
				diff(t, step+": a customer", want[i], s.MustCustomer(t, acme, fmt.Sprint(i)))
			}
			page := s.MustPage(t, acme, grahak.ListQuery{Limit: 100})
			diff(t, step+": the total", int64(customers), page.Total)
		}
	}
	readable("before")
	r.clock.Advance(time.Minute)
	state := r.MustRotate(t, true)
	diff(t, "the state", grahak.SealState{Keyset: state.Keyset, RotatedAt: r.clock.Now().Truncate(time.Microsecond), Oldest: 1, Walking: true}, state)
	diff(t, "the version", int64(2), state.Version)
	diff(t, "another rotation goes on with this one", state, r.MustRotate(t, false))
	readable("rotated")

	// The other process, which has the old key in memory, seals again.
	result, err := other.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "0", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
	wantCode(t, err, "")
	want[0] = result.Customer
	result, err = other.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("late"), grahak.WriteOptions{})
	wantCode(t, err, "")
	for _, c := range []grahak.Customer{want[0], result.Customer} {
		diff(t, "the version of what was written after the rotation", int64(2), r.MustRecord(t, acme, c.ID).Sealed.Version)
	}
	r.MustErase(t, acme, "late")
	diff(t, "a rotation by the other goes on with this one, too", state, other.MustRotate(t, false))

	// Step by step, by whichever process comes first.
	steps := 0
	for _, s := range []*rig{r, other, r, other, r, other, r} {
		before, took, err := s.ResealStep(t.Context(), acme)
		wantCode(t, err, "")
		if !took {
			break
		}
		steps++
		readable(fmt.Sprintf("after the step from customer %d on", before.Seen))
	}
	// Three batches of customers, and the end of the old key.
	diff(t, "steps", 4, steps)
	state, err = r.Reseal(t.Context(), operator(acme), nil)
	wantCode(t, err, "")
	if !state.Complete() || state.Version != 2 || state.Seen != customers || state.Unopened != 0 {
		t.Errorf("at the end the state is %+v", state)
	}
	readable("at the end")
	fresh := r.MustJoin(t)
	for i, c := range want {
		cantOpen(t, fresh, c.ID, blobs[i])
		record := r.MustRecord(t, acme, c.ID)
		diff(t, "the version it is sealed under at last", int64(2), record.Sealed.Version)
		if i > 0 {
			diff(t, "the revision", c.Revision, record.Revision)
		}
		diff(t, "a customer read by a fresh process", c, fresh.MustCustomer(t, acme, c.Reference))
	}
	diff(t, "the events", []grahak.Event{
		{Type: grahak.EventSealRotated, Subject: "version 2", Actor: "cli:tester"},
		{Type: grahak.EventSealRetired, Subject: "version 2", Actor: "reseal"},
	}, r.sealEvents(t, acme))
	diff(t, "the rival's customer", rivals, fresh.MustCustomer(t, rival, "ref"))
	diff(t, "the rival's events", 0, len(r.sealEvents(t, rival)))
	r.MustOrder(t)
	diff(t, "the audit", "", r.MustVerify(t, nil).Fault)
	// And once more.
	diff(t, "the next version", int64(3), r.MustRotate(t, true).Version)
	state = r.MustReseal(t)
	if !state.Complete() || state.Version != 3 {
		t.Errorf("after another rotation the state is %+v", state)
	}
	readable("after another rotation")
}

// Of many who rotate at once, through two processes, one is told that it made a
// key, and the others go on with that.
func TestOneRotationOfMany(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	services := []*rig{r, r.MustJoin(t)}
	for round := range 5 {
		var made atomic.Int64
		var group sync.WaitGroup
		for i := range 12 {
			group.Go(func() {
				state, one, err := services[i%2].RotateSeal(t.Context(), operator(acme))
				if err != nil || state.Version != int64(2+round) || !state.Walking {
					t.Errorf("got %+v, %v", state, err)
				}
				if one {
					made.Add(1)
				}
			})
		}
		group.Wait()
		diff(t, "keys made", int64(1), made.Load())
		r.MustReseal(t)
	}
}

// What the other process has in memory of the old key is gone as soon as it looks
// at what changed.
func TestRetiredKeyIsForgotten(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	customer := r.MustCreate(t, acme, person("ref"))
	blob := r.MustRecord(t, acme, customer.ID).Sealed
	other := r.MustJoin(t)
	_, secret := other.MustKey(t, acme, grahak.KeySpec{})
	other.MustCustomer(t, acme, "ref")
	r.MustRotate(t, true)
	r.MustReseal(t)
	r.clock.Advance(3 * time.Second)
	_, err := other.Authenticate(t.Context(), grahak.Credential{Key: secret})
	wantCode(t, err, "")
	cantOpen(t, other, customer.ID, blob)
	diff(t, "the customer", customer, other.MustCustomer(t, acme, "ref"))
}

// interrupted is a sealer to which something happens just before it opens what
// was read.
type interrupted struct {
	grahak.Sealer
	before func() // called once
}

func (i *interrupted) Open(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, sealed []byte) (grahak.Profile, error) {
	if before := i.before; before != nil {
		i.before = nil
		before()
	}
	return i.Sealer.Open(ctx, m, id, sealed)
}

// Between the moment that a customer is read and the one that it is opened, it may
// be sealed anew, and the key that it was read under be destroyed; or it may be
// erased besides. Then it is read as it is by then.
func TestReadsInTheMiddleOfARotation(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	sealer := &interrupted{Sealer: r.sealer}
	s := MustService(t, grahak.Config{Store: r.store, Sealer: sealer, Clock: r.clock})
	other := r.MustJoin(t)
	rotate := func() {
		other.MustRotate(t, true)
		if state := other.MustReseal(t); !state.Complete() {
			t.Errorf("the rotation ended with %+v", state)
		}
		r.sealer.Forget()
	}
	c := caller(acme, grahak.ScopeWrite)
	address := grahak.CustomerFilter{Email: given("customer@example.com")}
	list := func(f grahak.CustomerFilter) ([]string, error) {
		page, err := s.Customers(t.Context(), c, grahak.ListQuery{Limit: 10, Filter: f})
		return references(page), err
	}
	for name, call := range map[string]func() ([]string, error){
		"read": func() ([]string, error) {
			result, err := s.Customer(t.Context(), c, "b", false)
			return []string{result.Customer.Reference}, err
		},
		"update": func() ([]string, error) {
			result, err := s.UpdateCustomer(t.Context(), c, "b", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			return []string{result.Customer.Reference}, err
		},
		"erase": func() ([]string, error) {
			_, err := s.EraseCustomer(t.Context(), c, "b", grahak.WriteOptions{})
			return []string{"b"}, err
		},
		"list":   func() ([]string, error) { return list(grahak.CustomerFilter{}) },
		"search": func() ([]string, error) { return list(address) },
	} {
		for _, erased := range []bool{false, true} {
			for _, ref := range []string{"a", "b", "c"} {
				r.MustCreate(t, acme, person(ref))
				r.clock.Advance(time.Second)
			}
			sealer.before = func() {
				if erased {
					other.MustErase(t, acme, "b")
				}
				rotate()
			}
			got, err := call()
			want, code := []string{"b"}, grahak.Code("")
			switch {
			case name == "list" || name == "search":
				if want = []string{"c", "b", "a"}; erased {
					want = []string{"c", "a"}
				}
			case erased:
				want, code = nil, grahak.CodeCustomerNotFound
			}
			what := fmt.Sprintf("%s, erased in between: %t", name, erased)
			if grahak.CodeOf(err) != code {
				t.Errorf("%s: got %v, want code %q", what, err, code)
			}
			if code == "" {
				diff(t, what, want, got)
			}
			if sealer.before != nil {
				t.Errorf("%s: nothing was opened", what)
			}
			for _, ref := range references(r.MustPage(t, acme, grahak.ListQuery{Limit: 10})) {
				r.MustErase(t, acme, ref)
			}
		}
	}

	// A walk that reads a customer who is gone when it is opened goes on without.
	a, b := r.MustCreate(t, acme, person("a")), r.MustCreate(t, acme, person("b"))
	r.MustDamage(t, acme, b.ID, a.ID)
	r.MustRotate(t, true)
	opened := 0
	var next func()
	next = func() {
		// The second that is opened does not open, and is erased by then.
		if opened++; opened < 2 {
			sealer.before = next
			return
		}
		other.MustErase(t, acme, string(b.ID))
	}
	sealer.before = next
	state, err := s.Reseal(t.Context(), operator(acme), func(grahak.SealState) {})
	if err != nil || !state.Complete() || state.Unopened != 0 {
		t.Errorf("a walk past a damaged row that was erased ended with %+v (%v)", state, err)
	}
}

func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	before := r.MustEvents(t, acme)
	for _, c := range []grahak.Caller{caller(acme, grahak.ScopeRead), caller(acme, grahak.ScopeWrite), {Merchant: acme}} {
		_, _, err := r.RotateSeal(t.Context(), c)
		wantCode(t, err, grahak.CodeInsufficientScope)
		_, err = r.Reseal(t.Context(), c, func(grahak.SealState) {})
		wantCode(t, err, grahak.CodeInsufficientScope)
	}
	_, made, err := r.RotateSeal(t.Context(), operator("nobody"))
	wantCode(t, err, grahak.CodeMerchantNotFound)
	diff(t, "a key was made for nobody", false, made)
	_, err = r.Reseal(t.Context(), operator("nobody"), func(grahak.SealState) {})
	wantCode(t, err, grahak.CodeMerchantNotFound)
	diff(t, "the events", before, r.MustEvents(t, acme))
	// Where nothing was rotated there is nothing to do.
	state := r.MustReseal(t)
	if !state.Complete() || state.Version != 1 {
		t.Errorf("the state is %+v", state)
	}
}

// A customer that does not open keeps its key, and the rotation from its end,
// until it is erased. The log names it; the others are under the new key.
func TestRotationStuck(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	var log testkit.Buffer
	r.Service = MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	a, b, c := r.MustCreate(t, acme, person("a")), r.MustCreate(t, acme, person("b")), r.MustCreate(t, acme, person("c"))
	r.MustDamage(t, acme, b.ID, a.ID)
	damaged := r.MustRecord(t, acme, b.ID)
	blob := r.MustRecord(t, acme, a.ID).Sealed
	stuck := func(what string) {
		t.Helper()
		for range 2 {
			state := r.MustReseal(t)
			if state.Complete() || state.Walking || state.Unopened != 1 || state.Seen != 3 || state.Oldest != 1 || state.Version != 2 {
				t.Errorf("%s: the state is %+v", what, state)
			}
		}
		diff(t, what+": the damaged row", damaged, r.MustRecord(t, acme, b.ID))
		for _, whole := range []grahak.Customer{a, c} {
			diff(t, what+": a customer", whole, r.MustCustomer(t, acme, whole.Reference))
			diff(t, what+": the version it is sealed under", int64(2), r.MustRecord(t, acme, whole.ID).Sealed.Version)
		}
		if !strings.Contains(log.String(), string(b.ID)) || strings.Contains(log.String(), string(a.ID)) {
			t.Errorf("%s: the log does not name the damaged row, or names another:\n%s", what, log.String())
		}
		// The old key is still there.
		if _, err := r.sealer.Open(t.Context(), acme, a.ID, blob.Bytes); err != nil {
			t.Errorf("%s: what was sealed under the old key: %v", what, err)
		}
	}
	r.MustRotate(t, true)
	stuck("the first time")
	wantCode(t, r.ResealAll(t.Context()), "")
	state := r.MustRotate(t, false)
	if !state.Walking || state.After != "" || state.Seen != 0 || state.Unopened != 0 || state.Version != 2 {
		t.Errorf("the rotation does not start again: %+v", state)
	}
	stuck("the second time")
	r.MustErase(t, acme, string(b.ID))
	r.MustRotate(t, false)
	if err := r.ResealAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	state = r.MustReseal(t)
	if !state.Complete() || state.Version != 2 {
		t.Errorf("after the damaged row was erased the state is %+v", state)
	}
	cantOpen(t, r.MustJoin(t), a.ID, blob)
	diff(t, "the next one makes a key again", int64(3), r.MustRotate(t, true).Version)
}

// Rotations while two processes write, read and search: nothing is refused,
// nothing is lost, and each ends.
func TestRotationUnderTraffic(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	services := []*rig{r, r.MustJoin(t)}
	const workers, rotations = 6, 4
	ended := make(chan struct{})
	var made [workers]atomic.Int64
	var group, walking sync.WaitGroup
	for w := range workers {
		s, c := services[w%2], caller(acme, grahak.ScopeWrite)
		group.Go(func() {
			for i := 0; ; i++ {
				ref, in := fmt.Sprintf("%d of %d", i, w), person("")
				in.Reference, in.Email = given(ref), given(fmt.Sprintf("c%d.%d@example.com", i, w))
				if _, err := s.CreateCustomer(t.Context(), c, in, grahak.WriteOptions{Token: true}); err != nil {
					t.Errorf("create: %v", err)
					return
				}
				made[w].Add(1)
				// An older one, so that it is under any version.
				old := fmt.Sprintf("%d of %d", i/2, w)
				if _, err := s.UpdateCustomer(t.Context(), c, old, grahak.CustomerInput{FirstName: given(fmt.Sprint("name ", i))}, grahak.WriteOptions{}); err != nil {
					t.Errorf("update: %v", err)
				}
				if got := s.MustCustomer(t, acme, old); got.FirstName != fmt.Sprint("name ", i) {
					t.Errorf("customer %s has the name %q, want %d", old, got.FirstName, i)
				}
				page := s.MustPage(t, acme, grahak.ListQuery{Limit: 5, Filter: grahak.CustomerFilter{Email: in.Email}})
				if len(page.Customers) != 1 || page.Customers[0].Reference != ref {
					t.Errorf("a search finds %q, want %q", references(page), ref)
				}
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	// Both processes walk and put events in order, as their background work does.
	for _, s := range services {
		walking.Go(func() {
			for {
				if err := s.Order(t.Context()); err != nil {
					t.Errorf("order: %v", err)
				}
				if err := s.ResealAll(t.Context()); err != nil {
					t.Errorf("reseal: %v", err)
				}
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	for i := range rotations {
		if _, _, err := services[i%2].RotateSeal(t.Context(), operator(acme)); err != nil {
			t.Errorf("rotate: %v", err)
		}
		if state := r.MustReseal(t); !state.Complete() && !state.Walking {
			t.Errorf("rotation %d ended with %+v", i, state)
		}
	}
	close(ended)
	group.Wait()
	walking.Wait()
	state := r.MustReseal(t)
	if !state.Complete() || state.Unopened > 0 || state.Version < 2 {
		t.Errorf("the state at last is %+v", state)
	}
	t.Logf("%d versions", state.Version)
	fresh := r.MustJoin(t)
	for w := range workers {
		for i := range made[w].Load() {
			fresh.MustCustomer(t, acme, fmt.Sprintf("%d of %d", i, w))
		}
	}
	records, total, err := r.store.Customers(t.Context(), acme, grahak.CustomerRange{}, 1<<20, 0)
	wantCode(t, err, "")
	var want int64
	for w := range workers {
		want += made[w].Load()
	}
	diff(t, "the total", want, total)
	for _, record := range records {
		diff(t, "the version of "+string(record.ID), state.Version, record.Sealed.Version)
	}
	r.MustOrder(t)
	diff(t, "the audit", "", r.MustVerify(t, nil).Fault)
}

// The background work of whichever process runs ends a rotation.
func TestRunEndsRotations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		for i := range 5 {
			if _, err := b.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(i)), grahak.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		state, made, err := b.RotateSeal(t.Context(), operator(acme))
		if err != nil || !made || state.Complete() {
			t.Fatal(state, made, err)
		}
		time.Sleep(5 * time.Second)
		state, err = b.store.SealState(t.Context(), acme)
		if err != nil || !state.Complete() || state.Version != 2 || state.Seen != 5 {
			t.Errorf("five seconds later the state is %+v (%v)", state, err)
		}
		b.end()
		diff(t, "faults logged", "", b.log.String())
	})
}

// MustProcess is a process on r's store with master keys of its own, the newest
// first.
func (r *rig) MustProcess(tb testing.TB, keys ...*seal.MasterKey) *rig {
	tb.Helper()
	masters := seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) { return keys, nil }, 0)
	tb.Cleanup(masters.Close)
	s := *r
	s.sealer = seal.NewSealer(masters, r.store)
	s.Service = MustService(tb, grahak.Config{Store: r.store, Sealer: s.sealer, Clock: r.clock})
	return &s
}

// The keys of all merchants change over to a new master key, after which the old
// one opens nothing.
func TestRewrap(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	old := r.master
	next, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "next.key"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[grahak.MerchantID]grahak.Customer{acme: r.MustCreate(t, acme, person("ref")), rival: r.MustCreate(t, rival, person("ref"))}
	r.MustRotate(t, true) // One of them is in the middle of a rotation.
	rewrap := func(s *rig, from, to string) {
		t.Helper()
		gotFrom, gotTo, err := s.RewrapKeysets(t.Context(), "cli:tester")
		wantCode(t, err, "")
		diff(t, "the master key before", from, gotFrom)
		diff(t, "the master key", to, gotTo)
	}
	readable := func(what string, s *rig) {
		t.Helper()
		for m, c := range want {
			diff(t, what+": a customer of "+string(m), c, s.MustCustomer(t, m, "ref"))
		}
	}
	rewrap(r, old.ID(), old.ID())
	diff(t, "events of a rewrap with nothing to do", 0, len(r.sealEvents(t, rival)))

	both := r.MustProcess(t, next, old)
	readable("before the rewrap", both)
	rewrap(both, old.ID(), next.ID())
	rewrap(both, next.ID(), next.ID())
	readable("after the rewrap", both)
	for m := range want {
		diff(t, "the master key of "+string(m), next.ID(), r.mustKeyset(t, m).MasterKeyID)
		events := r.sealEvents(t, m)
		diff(t, "the last event of "+string(m), grahak.Event{Type: grahak.EventSealRewrapped, Subject: next.ID(), Actor: "cli:tester"}, events[len(events)-1])
	}
	newOnly := r.MustProcess(t, next)
	readable("with the new key only", newOnly)
	newOnly.MustCreate(t, acme, person("late"))
	if state := newOnly.MustReseal(t); !state.Complete() || state.Version != 2 {
		t.Errorf("the rotation ended with %+v", state)
	}
	if _, err := newOnly.CreateMerchant(t.Context(), operator("new"), ""); err != nil {
		t.Errorf("a new merchant: %v", err)
	}
	readable("with the rotation at its end", newOnly)

	// Who has the old key only is told of an outage.
	oldOnly := r.MustProcess(t, old)
	for name, err := range map[string]error{
		"read":            second(oldOnly.Customer(t.Context(), caller(acme, grahak.ScopeRead), "ref", false)),
		"list":            second(oldOnly.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 1})),
		"create":          second(oldOnly.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("x"), grahak.WriteOptions{})),
		"erase":           second(oldOnly.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", grahak.WriteOptions{})),
		"make a merchant": second(oldOnly.CreateMerchant(t.Context(), operator("other"), "")),
	} {
		if got := grahak.CodeOf(err); got != grahak.CodeUnavailable {
			t.Errorf("%s with the old key only: got %v, want code %q", name, err, grahak.CodeUnavailable)
		}
	}
	_, made, err := oldOnly.RotateSeal(t.Context(), operator(rival))
	wantCode(t, err, grahak.CodeUnavailable)
	diff(t, "a key was made with the old key only", false, made)
	readable("after all that", both)
	report, err := r.MustJoin(t).VerifyAudit(t.Context(), operator(acme), nil, nil)
	wantCode(t, err, "")
	if !report.Keyless || report.Fault != "" {
		t.Errorf("an audit with the old key only: %+v", report)
	}
}

// A rewrap meets merchants that are made and rotated meanwhile: at the end all are
// under the new master key and readable with it alone.
func TestRewrapUnderTraffic(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	next, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "next.key"))
	if err != nil {
		t.Fatal(err)
	}
	process := r.MustProcess(t, next, r.master)
	beside := r.MustProcess(t, next, r.master)
	const merchants = 12
	var group sync.WaitGroup
	for w := range 3 {
		group.Go(func() {
			for i := w; i < merchants; i += 3 {
				m := grahak.MerchantID(fmt.Sprint("m-", i))
				if _, err := beside.CreateMerchant(t.Context(), operator(m), ""); err != nil {
					t.Errorf("make a merchant: %v", err)
					continue
				}
				beside.MustCreate(t, m, person("ref"))
				if _, _, err := beside.RotateSeal(t.Context(), operator(m)); err != nil {
					t.Errorf("rotate: %v", err)
				}
				if _, err := beside.Reseal(t.Context(), operator(m), func(grahak.SealState) {}); err != nil {
					t.Errorf("reseal: %v", err)
				}
			}
		})
	}
	// So many changes in a row may come between that it gives up, and says so.
	for range 100 {
		_, _, err = process.RewrapKeysets(t.Context(), "cli:tester")
		if grahak.CodeOf(err) != grahak.CodeUnavailable {
			break
		}
	}
	wantCode(t, err, "")
	group.Wait()
	alone := r.MustProcess(t, next)
	for i := range merchants {
		m := grahak.MerchantID(fmt.Sprint("m-", i))
		alone.MustCustomer(t, m, "ref")
		diff(t, "the master key of "+string(m), next.ID(), r.mustKeyset(t, m).MasterKeyID)
	}
}
