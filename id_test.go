package grahak_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

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
				result, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), in, false)
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
	s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Random: iotest.ErrReader(broken)})
	for name, call := range map[string]func() error{
		"create": func() error {
			_, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("a"), false)
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
