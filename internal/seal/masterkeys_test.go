package seal_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grahak/internal/seal"
)

// keySource is a source of master keys that a test changes. It is safe for
// concurrent use.
type keySource struct {
	mu    sync.Mutex
	keys  []*seal.MasterKey
	err   error
	takes time.Duration // how long a reading takes
	reads int
}

func (s *keySource) read(ctx context.Context) ([]*seal.MasterKey, error) {
	s.mu.Lock()
	s.reads++
	keys, err, takes := s.keys, s.err, s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
		return keys, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// set changes what the source has from the next reading on.
func (s *keySource) set(err error, takes time.Duration, keys ...*seal.MasterKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.err, s.takes = keys, err, takes
}

// takeReads returns how often it was read since the last call.
func (s *keySource) takeReads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.reads
	s.reads = 0
	return n
}

// MustKeys makes n master keys.
func MustKeys(tb testing.TB, n int) []*seal.MasterKey {
	tb.Helper()
	keys := make([]*seal.MasterKey, n)
	for i := range keys {
		keys[i], _ = MustMasterKey(tb)
	}
	return keys
}

// wantKnown fails the test unless the keys are known.
func wantKnown(tb testing.TB, what string, m *seal.MasterKeys, keys ...*seal.MasterKey) {
	tb.Helper()
	for i, k := range keys {
		if got, err := m.Key(tb.Context(), k.ID()); err != nil || got != k {
			tb.Errorf("%s: key %d of those that should be known: %v", what, i, err)
		}
	}
}

// wantUnknown fails the test unless the key is not known, for a reason that says
// all of words.
func wantUnknown(tb testing.TB, what string, m *seal.MasterKeys, id string, words ...string) {
	tb.Helper()
	_, err := m.Key(tb.Context(), id)
	if err == nil {
		tb.Errorf("%s: the key is known", what)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			tb.Errorf("%s: the error %q does not say %q", what, err, word)
		}
	}
}

// wantReads fails the test unless the source was read n times since the last call.
func wantReads(tb testing.TB, what string, s *keySource, n int) {
	tb.Helper()
	if got := s.takeReads(); got != n {
		tb.Errorf("%s: the source was read %d times, want %d", what, got, n)
	}
}

// The source is read when a key is needed that is not known, and then not again
// for five seconds if it was not there.
func TestSourceIsReadAgain(t *testing.T) {
	t.Parallel()
	keys := MustKeys(t, 3)
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		source.set(nil, 0, keys[1], keys[0])
		m := seal.NewMasterKeys(source.read, 0)
		defer m.Close()
		wantReads(t, "nothing was needed", source, 0)
		for range 3 {
			wantKnown(t, "at first", m, keys[:2]...)
		}
		wantReads(t, "at first", source, 1)
		wantUnknown(t, "at first", m, keys[2].ID(), keys[2].ID(), keys[1].ID()+" and "+keys[0].ID(), "configure the right one")
		wantReads(t, "for a key that is new", source, 1)
		for range 3 {
			wantUnknown(t, "just after", m, keys[2].ID())
		}
		wantReads(t, "just after", source, 0)

		source.set(nil, 0, keys[2], keys[1])
		time.Sleep(4900 * time.Millisecond)
		wantUnknown(t, "before five seconds", m, keys[2].ID())
		wantReads(t, "before five seconds", source, 0)
		time.Sleep(200 * time.Millisecond)
		wantKnown(t, "after five seconds", m, keys[2], keys[1])
		wantReads(t, "after five seconds", source, 1)

		// The key that was removed is no longer there.
		time.Sleep(time.Hour)
		for range 20 {
			wantUnknown(t, "after its removal", m, keys[0].ID())
			time.Sleep(time.Second)
		}
		wantReads(t, "in 20 seconds", source, 4)
		wantKnown(t, "after that", m, keys[2], keys[1])
	})
}

// An outage of the source ends by itself, and what is known stays so meanwhile.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	keys := MustKeys(t, 2)
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		source.set(errors.New("the vault is sealed: unseal it"), 0)
		m := seal.NewMasterKeys(source.read, 0)
		defer m.Close()
		for range 3 {
			wantUnknown(t, "without the source", m, keys[0].ID(), "the vault is sealed: unseal it")
		}
		wantReads(t, "without the source", source, 1)
		source.set(nil, 0, keys[0])
		time.Sleep(5100 * time.Millisecond)
		wantKnown(t, "after the outage", m, keys[0])

		source.set(errors.New("a line of the file is half written"), 0)
		time.Sleep(5100 * time.Millisecond)
		wantUnknown(t, "in a second outage", m, keys[1].ID(), "half written")
		wantKnown(t, "in a second outage", m, keys[0])
		if _, err := m.Newest(t.Context()); err == nil {
			t.Error("the newest key is known although the source cannot be read")
		}
		source.set(nil, 0, keys[1], keys[0])
		time.Sleep(5100 * time.Millisecond)
		wantKnown(t, "after both outages", m, keys[1], keys[0])
	})
}

// There is one reading at a time. It holds up nobody whose key is known, and
// others no longer than the patience that it was given.
func TestSlowSource(t *testing.T) {
	t.Parallel()
	keys := MustKeys(t, 2)
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		source.set(nil, 0, keys[0])
		m := seal.NewMasterKeys(source.read, 5*time.Second)
		defer m.Close()
		wantKnown(t, "at first", m, keys[0])
		time.Sleep(time.Minute)
		source.takeReads()

		source.set(nil, 3*time.Second, keys[1], keys[0])
		begin := time.Now()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { wantKnown(t, "after a wait", m, keys[1]) })
		}
		synctest.Wait()
		wantKnown(t, "while it is read", m, keys[0])
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("who needed a key that is known waited %v", waited)
		}
		group.Wait()
		if waited := time.Since(begin); waited != 3*time.Second {
			t.Errorf("the reading took %v, want 3s", waited)
		}
		wantReads(t, "for ten at once", source, 1)

		time.Sleep(time.Minute)
		source.set(nil, 30*time.Second, keys[1], keys[0])
		begin = time.Now()
		const none = "0123456789abcdef"
		wantUnknown(t, "a reading that takes long", m, none, "takes long")
		if waited := time.Since(begin); waited != 5*time.Second {
			t.Errorf("who needed an unknown key waited %v, want 5s", waited)
		}
		wantUnknown(t, "a reading that has taken long", m, none, "takes long")
		wantKnown(t, "while it takes long", m, keys...)
		if waited := time.Since(begin); waited != 5*time.Second {
			t.Errorf("who came later waited %v more", waited-5*time.Second)
		}
		time.Sleep(26 * time.Second)
		wantUnknown(t, "after the long reading", m, none, none, "configure the right one")
		wantReads(t, "all that time", source, 1)
	})
}

// Who leaves ends his own wait and nobody else's.
func TestLeaving(t *testing.T) {
	t.Parallel()
	keys := MustKeys(t, 1)
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		source.set(nil, 10*time.Second, keys[0])
		m := seal.NewMasterKeys(source.read, 0)
		defer m.Close()
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 2)
		go func() { _, err := m.Key(ctx, keys[0].ID()); left <- err }()
		go func() { _, err := m.Newest(ctx); left <- err }()
		synctest.Wait()
		leave()
		for range 2 {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v, want %v", err, context.Canceled)
			}
		}
		wantKnown(t, "who stayed", m, keys[0])
		wantReads(t, "for all of them", source, 1)
	})
}

// Newest sees a change that was made before the call, although the source was just
// read or is being read.
func TestNewest(t *testing.T) {
	t.Parallel()
	keys := MustKeys(t, 3)
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		m := seal.NewMasterKeys(source.read, time.Second)
		defer m.Close()
		want := func(what string, want *seal.MasterKey) {
			t.Helper()
			if got, err := m.Newest(t.Context()); err != nil || got != want {
				t.Errorf("%s: the newest key is not the expected one (%v)", what, err)
			}
		}
		source.set(nil, 0, keys[0])
		want("at first", keys[0])
		source.set(nil, 0, keys[1], keys[0])
		want("right after that", keys[1])
		wantKnown(t, "then", m, keys[:2]...)

		time.Sleep(time.Minute)
		source.set(nil, 20*time.Second, keys[1], keys[0])
		var group sync.WaitGroup
		group.Go(func() { wantUnknown(t, "while it is read", m, "0123456789abcdef", "takes long") })
		synctest.Wait()
		source.set(nil, 20*time.Second, keys[2])
		want("while it is read", keys[2])
		group.Wait()
	})
}

// Close ends a reading, and with it the wait for it.
func TestCloseEndsReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(keySource)
		source.set(nil, time.Hour)
		m := seal.NewMasterKeys(source.read, 0)
		begin := time.Now()
		var group sync.WaitGroup
		group.Go(func() { wantUnknown(t, "closed", m, "0123456789abcdef") })
		synctest.Wait()
		m.Close()
		group.Wait()
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("Close took %v", waited)
		}
	})
}

// The end of a reading is never taken for its taking long, however late those who wait
// for it come to run.
func TestReadingThatEnds(t *testing.T) {
	t.Parallel()
	key := MustKeys(t, 1)[0]
	for range 300 {
		source := new(keySource)
		source.set(nil, 0, key)
		m := seal.NewMasterKeys(source.read, time.Hour)
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() { wantKnown(t, "of a quick source", m, key) })
		}
		group.Wait()
		m.Close()
	}
}
