package grahak_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"grahak"
)

var idForm = regexp.MustCompile(`^(cst|evt|key)_[0-9a-z]{16}$`)

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	var ids []string
	// Each step carries into another digit of the time part.
	for _, step := range []time.Duration{0, time.Millisecond, time.Second, time.Minute, time.Hour, 24 * time.Hour, 366 * 24 * time.Hour, 30 * 366 * 24 * time.Hour} {
		r.clock.Advance(step)
		id := r.MustCreate(t, acme, person("after "+step.String())).ID
		if !idForm.MatchString(string(id)) {
			t.Errorf("the id %q does not have the form %s", id, idForm)
		}
		ids = append(ids, string(id))
	}
	if !slices.IsSorted(ids) {
		t.Errorf("ids do not sort by time of creation: %q", ids)
	}
	for _, e := range r.MustEvents(t, acme) {
		if !idForm.MatchString(string(e.ID)) {
			t.Errorf("the event id %q does not have the form %s", e.ID, idForm)
		}
	}
}

// idTick returns the time part of an id: its 16 base-36 digits are one number of
// which the lowest 40 bits are random.
func idTick(tb testing.TB, id string) int64 {
	tb.Helper()
	_, digits, _ := strings.Cut(id, "_")
	n, ok := new(big.Int).SetString(digits, 36)
	if !ok || !idForm.MatchString(id) {
		tb.Fatalf("the id %q does not have the form %s", id, idForm)
	}
	return n.Rsh(n, 40).Int64()
}

// tickOf returns the time part for a moment: quarter milliseconds since 2020.
func tickOf(t time.Time) int64 {
	return int64(t.Sub(time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)) / (250 * time.Microsecond))
}

// sameRandom is a Service on r's store whose ids differ by their time parts
// only: the one of its next id is that of the clock.
func (r *rig) sameRandom(tb testing.TB) *grahak.Service {
	tb.Helper()
	return MustService(tb, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Random: endless(0xff)})
}

// Time parts are those of the clock, but for what is made one after another: up
// to eight quarter milliseconds ahead of the clock it sorts in that order.
func TestTimePartsOfIDs(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const tick = 250 * time.Microsecond
	r.clock.Advance(r.clock.Now().Truncate(time.Millisecond).Add(time.Millisecond).Sub(r.clock.Now()))
	begin := tickOf(r.clock.Now())
	s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock})
	made := 0
	for _, step := range []struct {
		name    string
		advance time.Duration
		want    []int64 // of the ids made then, in ticks after the first
	}{
		{"at first", 0, []int64{0}},
		{"in the next tick", tick, []int64{1}},
		{"at its end", tick - time.Microsecond, []int64{2}}, // one ahead of the clock
		{"in the tick after it", time.Microsecond, []int64{3}},
		{"much later", 25 * time.Millisecond, []int64{102, 103, 104, 105, 106, 107, 108, 109, 110}},
		{"when eight ahead", 0, []int64{102, 102}},
		{"a tick later", tick, []int64{111, 103}},
		{"when the clock has caught up", 9 * tick, []int64{112, 113}},
		{"set back a little", -3 * tick, []int64{114, 115, 116, 117, 109}},
		{"set back an hour", -time.Hour, []int64{109 - 4*3_600_000, 109 - 4*3_600_000}},
		{"set right again", time.Hour + 9*tick, []int64{118}},
	} {
		r.clock.Advance(step.advance)
		var got []int64
		for range step.want {
			result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(made)), grahak.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			made++
			got = append(got, idTick(t, string(result.Customer.ID))-begin)
			// What customer.go says of the two.
			if apart := tickOf(result.Customer.CreatedAt) - begin - got[len(got)-1]; apart < -8 || apart > 0 {
				t.Errorf("%s: the time part of %s is %d quarter milliseconds after CreatedAt", step.name, result.Customer.ID, -apart)
			}
		}
		diff(t, step.name, step.want, got)
	}
}

// What is made one after another in one moment is listed in that order, and so
// are its events.
func TestIDsOfOneMomentAreInOrder(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const each = 9
	s := r.sameRandom(t)
	var customers, listed []grahak.CustomerID
	for i := range each {
		result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(i)), grahak.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		customers = append(customers, result.Customer.ID)
	}
	page, err := s.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Backward(page.Customers) {
		listed = append(listed, c.ID)
	}
	diff(t, "customers, oldest first", customers, listed)

	events := r.MustEvents(t, acme)[1:] // but for the merchant's own
	for i := range each {
		if want := idTick(t, string(customers[0])) + int64(i); idTick(t, string(customers[i])) != want || idTick(t, string(events[i].ID)) != want {
			t.Errorf("create %d gave the customer %s and the event %s", i, customers[i], events[i].ID)
		}
	}

	var keys []grahak.KeyID
	for range each {
		key, _ := r.MustKey(t, acme, grahak.KeySpec{})
		keys = append(keys, key.ID)
	}
	if !slices.IsSorted(keys) {
		t.Errorf("keys of one moment do not sort in the order they were made: %q", keys)
	}
}

// Callers at the same moment never share a time part while there are some left.
func TestTimePartsUnderLoad(t *testing.T) {
	t.Parallel()
	const callers = 9
	for range 10 {
		r := MustMerchantRig(t)
		s := r.sameRandom(t)
		ids := make([]string, callers)
		start := make(chan struct{})
		var group sync.WaitGroup
		for i := range callers {
			group.Go(func() {
				<-start
				result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(i)), grahak.WriteOptions{})
				if err != nil {
					t.Error(err)
				}
				ids[i] = string(result.Customer.ID)
			})
		}
		close(start)
		group.Wait()
		slices.Sort(ids)
		if t.Failed() || len(slices.Compact(ids)) != callers {
			t.Fatalf("got the ids %q", ids)
		}
	}
}

// All 40 random bits are in the id as they came, and the time above them up to
// the last year of ids.
func TestBitsOfIDs(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	low := new(big.Int).SetInt64(1<<40 - 1)
	for _, years := range []int{0, 20, 50} {
		r.clock.Advance(time.Date(2026+years, time.March, 17, 0, 0, 0, 0, time.UTC).Sub(r.clock.Now()))
		for _, fill := range []byte{0, 1, 0x80, 0xff} {
			s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Random: endless(fill)})
			result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(fmt.Sprint(years, fill)), grahak.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			id := string(result.Customer.ID)
			diff(t, "the time part of "+id, tickOf(r.clock.Now()), idTick(t, id))
			n, _ := new(big.Int).SetString(strings.TrimPrefix(id, "cst_"), 36)
			diff(t, "the random part of "+id, int64(fill)*0x0101010101, n.And(n, low).Int64())
		}
	}
}

// An id is looked up before references, though somebody's reference is the same
// text, whichever came first.
func TestIDBeforeReference(t *testing.T) {
	t.Parallel()
	for _, idFirst := range []bool{true, false} {
		// The id that the first customer of such a service has at this moment.
		r := MustMerchantRig(t)
		foreseen, err := r.sameRandom(t).CreateCustomer(t.Context(), caller(rival, grahak.ScopeWrite), person("x"), grahak.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		id := string(foreseen.Customer.ID)
		byReference := func() { r.MustCreate(t, acme, person(id)) }
		if !idFirst {
			byReference()
		}
		owner, err := r.sameRandom(t).CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("owner of the id"), grahak.WriteOptions{})
		if err != nil || string(owner.Customer.ID) != id {
			t.Fatalf("got %v, %v, want the id %s", owner, err, id)
		}
		if idFirst {
			byReference()
		}
		diff(t, fmt.Sprintf("id first: %t", idFirst), owner.Customer, r.MustCustomer(t, acme, id))
		_, err = r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), id, grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
		wantCode(t, err, "")
		diff(t, "who was updated", "New", r.MustCustomer(t, acme, "owner of the id").FirstName)
	}
}

// A clock before the epoch of ids, a machine without a battery's say, still
// makes ids of the right form.
func TestIDsOfAWrongClock(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	r.clock.Advance(-50 * 366 * 24 * time.Hour)
	if _, err := r.CreateMerchant(t.Context(), operator(acme), ""); err != nil {
		t.Fatal(err)
	}
	a, b := r.MustCreate(t, acme, person("a")).ID, r.MustCreate(t, acme, person("b")).ID
	if !idForm.MatchString(string(a)) || !idForm.MatchString(string(b)) || a == b {
		t.Errorf("got the ids %q and %q", a, b)
	}
}

// Ticks and the lowest ids of them are in order, from the epoch up to the last
// tick that ids hold, and no time is outside of them.
func TestTicksOfIDs(t *testing.T) {
	t.Parallel()
	epoch := time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Time{}, 0},
		{time.Unix(0, 0), 0},
		{epoch.Add(-time.Microsecond), 0},
		{epoch, 0},
		{epoch.Add(249 * time.Microsecond), 0},
		{epoch.Add(250 * time.Microsecond), 1},
		{epoch.Add(time.Millisecond), 4},
		{epoch.AddDate(57, 0, 0), 57*365*4*86_400_000 + 15*4*86_400_000}, // 2077 has 15 leap days behind it.
		{epoch.AddDate(58, 0, 0), grahak.LastTick},
		{time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), grahak.LastTick},
	} {
		diff(t, "the tick of "+c.at.String(), c.want, grahak.TickOf(c.at))
	}
	form := regexp.MustCompile(`^cst_[0-9a-z]{16}$`)
	last := ""
	for _, tick := range []int64{0, 1, 2, 35, 36, 1 << 20, 1<<24 - 1, 1 << 24, 1<<24 + 1, 1 << 40, grahak.LastTick - 1, grahak.LastTick, grahak.LastTick + 1, grahak.LastTick + grahak.MaxAhead, grahak.LastTick + grahak.MaxAhead + 1} {
		id := grahak.LowestID(tick)
		if !form.MatchString(id) || id <= last {
			t.Errorf("the lowest id of tick %d is %q, after %q", tick, id, last)
		}
		diff(t, "the tick of "+id, tick, idTick(t, id))
		last = id
	}
}

// Whatever the clock says, a filter for the microsecond in which customers were
// made finds them, and those for the microseconds beside it do not: a range of
// time is one of ids as well, even where many ids are made at once, or the clock
// is outside of what ids hold.
func TestCreatedFiltersFindIDs(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	services := []*rig{r, r.MustJoin(t)}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := grahak.MerchantID(fmt.Sprint("m-", round))
		if _, err := r.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			rt.Fatal(err)
		}
		year := rapid.SampledFrom([]int{1970, 2019, 2020, 2026, 2077, 2078, 2200}).Draw(rt, "year")
		at := time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.Int64Range(0, int64(200*24*time.Hour)).Draw(rt, "moment")))
		made := make(map[int64][]string) // by microsecond
		for range rapid.IntRange(1, 2).Draw(rt, "moments") {
			r.clock.Advance(at.Sub(r.clock.Now()))
			us := at.UnixMicro()
			// The ids of each process run ahead of the clock by themselves.
			for i := range rapid.IntRange(1, 14).Draw(rt, "customers") {
				by := services[min(i%4, 1)]
				ref := fmt.Sprint(us, " ", len(made[us]))
				if _, err := by.CreateCustomer(t.Context(), caller(m, grahak.ScopeWrite), person(ref), grahak.WriteOptions{}); err != nil {
					rt.Fatal(err)
				}
				made[us] = append(made[us], ref)
			}
			at = at.Add(time.Duration(rapid.SampledFrom([]int{1, 2, 249, 250, 251, 2000, 2251}).Draw(rt, "later")) * time.Microsecond)
		}
		for us, want := range made {
			for apart, want := range map[int64][]string{0: want, -1: made[us-1], 1: made[us+1]} {
				from := time.UnixMicro(us + apart).UTC()
				page, err := r.Customers(t.Context(), caller(m, grahak.ScopeRead), grahak.ListQuery{Limit: 100, Filter: grahak.CustomerFilter{
					CreatedFrom:   given(from.Format(time.RFC3339Nano)),
					CreatedBefore: given(from.Add(time.Microsecond).Format(time.RFC3339Nano)),
				}})
				if err != nil {
					rt.Fatal(err)
				}
				got := references(page)
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
					rt.Fatalf("in the microsecond from %v on there are %q, want %q", from, got, want)
				}
			}
		}
	})
}

// Ids of one moment are still all different.
func TestIDsAreUnique(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const workers, each = 8, 25
	var ids [workers][]string
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				in := person(fmt.Sprintf("%d of %d", i, w))
				result, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), in, grahak.WriteOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				ids[w] = append(ids[w], string(result.Customer.ID))
			}
		})
	}
	group.Wait()
	all := slices.Concat(ids[:]...)
	for _, e := range r.MustEvents(t, acme) {
		all = append(all, string(e.ID))
	}
	slices.Sort(all)
	// The merchant's own event is the odd one.
	if distinct := len(slices.Compact(all)); distinct != 2*workers*each+1 {
		t.Errorf("got %d different ids, want %d", distinct, 2*workers*each+1)
	}
}

// Everything that must not be guessed comes from the given source: when it
// fails nothing is made, and when it repeats itself so do the secrets.
func TestRandomSource(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, _ := r.MustKey(t, acme, grahak.KeySpec{})
	before := r.MustEvents(t, acme)

	broken := errors.New("no entropy")
	if _, err := grahak.NewService(grahak.Config{Store: r.store, Sealer: r.sealer, Random: iotest.ErrReader(broken)}); !errors.Is(err, broken) {
		t.Errorf("a service without entropy: got %v, want the source's error", err)
	}
	random := &struct{ io.Reader }{rand.Reader}
	s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Random: random})
	random.Reader = iotest.ErrReader(broken)
	for name, call := range map[string]func() error{
		"create": func() error {
			_, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("a"), grahak.WriteOptions{})
			return err
		},
		"key": func() error {
			_, _, err := s.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
			return err
		},
		"rotate": func() error {
			_, _, err := s.RotateKey(t.Context(), operator(acme), key.ID, 0, time.Time{})
			return err
		},
	} {
		if err := call(); !errors.Is(err, broken) || grahak.CodeOf(err) != grahak.CodeInternal {
			t.Errorf("%s without entropy: got %v, want the source's error as an internal one", name, err)
		}
	}
	diff(t, "events of that", before, r.MustEvents(t, acme))

	var secrets []string
	for _, fill := range []byte{7, 7, 8} {
		s := MustService(t, grahak.Config{Store: MustMerchantRig(t).store, Sealer: r.sealer, Clock: r.clock, Random: endless(fill)})
		_, secret, err := s.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	if secrets[0] != secrets[1] || secrets[0] == secrets[2] {
		t.Errorf("got the keys %q from the sources 7, 7 and 8", secrets)
	}
}

// endless is a source of one byte.
func endless(b byte) io.Reader { return repeat(b) }

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{byte(r)}, len(p)))
	return len(p), nil
}
