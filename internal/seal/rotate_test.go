package seal_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"grahak"
	"grahak/internal/seal"
)

// store keeps keysets for several sealers, as processes on one database. It is
// safe for concurrent use.
type store struct {
	mu    sync.Mutex
	keys  rows
	reads int
	// meanwhile, if set, is called once, between the next reading and its answer.
	meanwhile func()
}

func (s *store) Keyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error) {
	s.mu.Lock()
	s.reads++
	k, err := s.keys.Keyset(ctx, m)
	meanwhile := s.meanwhile
	s.meanwhile = nil
	s.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
	return k, err
}

func (*store) MasterKeyID(context.Context, string) (string, error) { return "", nil }

func (s *store) put(k grahak.Keyset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.Merchant] = k
}

// takeReads returns how often a keyset was read since the last call.
func (s *store) takeReads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.reads
	s.reads = 0
	return n
}

// get is Keyset without being counted.
func (s *store) get(m grahak.MerchantID) grahak.Keyset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[m]
}

// MustStore returns a store with keys of acme and rival, and their master key.
func MustStore(tb testing.TB) (*store, *seal.MasterKey) {
	tb.Helper()
	master, _ := MustMasterKey(tb)
	return &store{keys: MustRows(tb, master)}, master
}

// MustRotate gives m a new key.
func (s *store) MustRotate(tb testing.TB, by *seal.Sealer, m grahak.MerchantID) {
	tb.Helper()
	k, err := by.Rotate(tb.Context(), s.get(m))
	if err != nil {
		tb.Fatal(err)
	}
	s.put(k)
}

// MustRetire destroys all keys of m but the newest.
func (s *store) MustRetire(tb testing.TB, by *seal.Sealer, m grahak.MerchantID) {
	tb.Helper()
	k, err := by.Retire(tb.Context(), s.get(m))
	if err != nil {
		tb.Fatal(err)
	}
	s.put(k)
}

// wantOpen fails the test unless sealed opens as john of acme.
func wantOpen(tb testing.TB, what string, s *seal.Sealer, sealed []byte) {
	tb.Helper()
	if p, err := s.Open(tb.Context(), acme, row, sealed); err != nil || p != john {
		tb.Errorf("%s: got %+v, %v, want what was sealed", what, p, err)
	}
}

// wantSealsUnder fails the test unless s seals for acme under the version. It
// returns what was sealed.
func wantSealsUnder(tb testing.TB, what string, s *seal.Sealer, version int64) []byte {
	tb.Helper()
	sealed, err := s.Seal(tb.Context(), acme, row, john)
	if err != nil || sealed.Version != version {
		tb.Errorf("%s: sealed under version %d, %v, want %d", what, sealed.Version, err, version)
	}
	return sealed.Bytes
}

func TestRotate(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	s := seal.New(master, db)
	before := db.get(acme)
	first := wantSealsUnder(t, "a new merchant", s, 1)
	index := MustIndex(t, s, acme, grahak.IndexEmail, john.Email)

	db.MustRotate(t, s, acme)
	s.Forget()
	second := wantSealsUnder(t, "after a rotation", s, 2)
	wantOpen(t, "sealed before the rotation", s, first)
	wantOpen(t, "sealed after the rotation", s, second)
	if again := MustIndex(t, s, acme, grahak.IndexEmail, john.Email); again != index {
		t.Error("after a rotation nothing is found by its index")
	}
	// Who has the old keyset does not open what is sealed under the new key.
	_, err := seal.New(master, rows{acme: before}).Open(t.Context(), acme, row, second)
	wantFault(t, "the new profile under the old keyset", err)

	db.MustRetire(t, s, acme)
	s.Forget()
	third := wantSealsUnder(t, "after the end of the old key", s, 2)
	wantOpen(t, "sealed under the newest key", s, second)
	wantOpen(t, "sealed at last", s, third)
	_, err = s.Open(t.Context(), acme, row, first)
	wantFault(t, "sealed under a key that is gone", err)
	if again := MustIndex(t, s, acme, grahak.IndexEmail, john.Email); again != index {
		t.Error("after the end of a key nothing is found by its index")
	}
	db.MustRetire(t, s, acme)
	s.Forget()
	wantOpen(t, "after a second end", s, third)
}

// What opens after any sequence of rotations, ends of keys and changes of the
// master key is what was sealed since the last key that was ended.
func TestKeysetModel(t *testing.T) {
	t.Parallel()
	var masters []*seal.MasterKey
	for range 3 {
		master, _ := MustMasterKey(t)
		masters = append(masters, master)
	}
	all := func(context.Context) ([]*seal.MasterKey, error) { return masters, nil }
	rapid.Check(t, func(rt *rapid.T) {
		db := &store{keys: make(rows)}
		current := 0
		keys := seal.NewMasterKeys(all, 0)
		defer keys.Close()
		s := seal.NewSealer(keys, db)
		db.put(MustKeyset(t, masters[current], acme))
		blobs := make(map[int64][]byte)
		version, oldest := int64(1), int64(1)
		change := func(k grahak.Keyset, err error) {
			if err != nil {
				rt.Fatal(err)
			}
			if k.Merchant != acme || k.Version != version || k.MasterKeyID != masters[current].ID() {
				rt.Fatalf("the keyset is version %d of %s under %s, want version %d of %s under %s",
					k.Version, k.Merchant, k.MasterKeyID, version, acme, masters[current].ID())
			}
			db.put(k)
			s.Forget()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"rotate": func(*rapid.T) {
				version++
				change(s.Rotate(t.Context(), db.get(acme)))
			},
			"retire": func(*rapid.T) {
				oldest = version
				change(s.Retire(t.Context(), db.get(acme)))
			},
			"rewrap": func(rt *rapid.T) {
				current = rapid.IntRange(0, len(masters)-1).Draw(rt, "master key")
				change(s.Rewrap(t.Context(), db.get(acme), masters[current].ID()))
			},
			"": func(rt *rapid.T) {
				sealed, err := s.Seal(t.Context(), acme, row, john)
				if err != nil || sealed.Version != version {
					rt.Fatalf("sealed under version %d, %v, want %d", sealed.Version, err, version)
				}
				blobs[version] = sealed.Bytes
				// A process that starts with that master key alone opens the same.
				alone := seal.New(masters[current], db)
				for _, v := range slices.Sorted(maps.Keys(blobs)) {
					for _, s := range []*seal.Sealer{s, alone} {
						if p, err := s.Open(t.Context(), acme, row, blobs[v]); (err == nil) != (v >= oldest) || err == nil && p != john {
							rt.Fatalf("version %d, where the oldest is %d: got %+v, %v", v, oldest, p, err)
						}
					}
				}
			},
		})
	})
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	db, old := MustStore(t)
	fresh, _ := MustMasterKey(t)
	masters := seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) { return []*seal.MasterKey{fresh, old}, nil }, 0)
	t.Cleanup(masters.Close)
	s := seal.NewSealer(masters, db)
	before := db.get(acme)
	sealed := wantSealsUnder(t, "before", s, 1)
	after, err := s.Rewrap(t.Context(), before, fresh.ID())
	if err != nil {
		t.Fatal(err)
	}
	wantOpen(t, "under the new master key alone", seal.New(fresh, rows{acme: after}), sealed)
	open := func(master *seal.MasterKey, k grahak.Keyset) error {
		_, err := seal.New(master, rows{acme: k}).Open(t.Context(), acme, row, sealed)
		return err
	}
	wantCode(t, open(old, after), grahak.CodeUnavailable)
	wantCode(t, open(fresh, before), grahak.CodeUnavailable)
	// Who writes another name into the row gains nothing.
	after.MasterKeyID, before.MasterKeyID = old.ID(), fresh.ID()
	wantFault(t, "the new keyset under the old master key", open(old, after))
	wantFault(t, "the old keyset under the new master key", open(fresh, before))

	_, err = s.Rewrap(t.Context(), db.get(acme), "0123456789abcdef")
	wantCode(t, err, grahak.CodeUnavailable)
}

// The old master key may go as soon as the keys are wrapped under the new one, even
// while it is looked for.
func TestRewrapWhileMasterKeyIsRead(t *testing.T) {
	t.Parallel()
	db, old := MustStore(t)
	fresh, _ := MustMasterKey(t)
	sealed := wantSealsUnder(t, "before", seal.New(old, db), 1)
	masters := seal.NewMasterKeys(func(ctx context.Context) ([]*seal.MasterKey, error) {
		both := seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) { return []*seal.MasterKey{fresh, old}, nil }, 0)
		defer both.Close()
		k, err := seal.NewSealer(both, db).Rewrap(ctx, db.get(acme), fresh.ID())
		if err == nil {
			db.put(k)
		}
		return []*seal.MasterKey{fresh}, err
	}, 0)
	t.Cleanup(masters.Close)
	wantOpen(t, "after the change", seal.NewSealer(masters, db), sealed)
}

// What another process sealed under a key that it has just made opens at once,
// and a damaged row costs one reading of the keys and not one each time.
func TestRotationElsewhere(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	ours, theirs := seal.New(master, db), seal.New(master, db)
	wantSealsUnder(t, "ours", ours, 1)
	for version := int64(2); version <= 5; version++ {
		db.MustRotate(t, theirs, acme)
		theirs.Forget()
		sealed := wantSealsUnder(t, "theirs", theirs, version)
		db.takeReads()
		wantOpen(t, "sealed elsewhere", ours, sealed)
		wantOpen(t, "sealed elsewhere, again", ours, sealed)
		wantSealsUnder(t, "ours, which have learnt of it", ours, version)
		if n := db.takeReads(); n != 1 {
			t.Errorf("a rotation elsewhere costs %d readings of the keys, want 1", n)
		}

		var damaged [2][]byte
		for i := range damaged {
			damaged[i] = slices.Clone(sealed)
			damaged[i][2+i] ^= 0x40 // in the key's id
		}
		for range 3 {
			for i := range damaged {
				_, err := ours.Open(t.Context(), acme, row, damaged[i])
				wantFault(t, "a damaged row", err)
			}
		}
		if n := db.takeReads(); n != 2 {
			t.Errorf("two damaged rows cost %d readings of the keys, want 2", n)
		}
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	s := seal.New(master, db)
	wantSealsUnder(t, "at first", s, 1)
	db.MustRotate(t, s, acme)
	wantSealsUnder(t, "from memory", s, 1)
	s.Forget()
	wantSealsUnder(t, "after Forget", s, 2)
	db.takeReads()
	wantSealsUnder(t, "from memory", s, 2)
	if n := db.takeReads(); n != 0 {
		t.Errorf("the keys were read %d times more", n)
	}
}

// Keys that were read before a change must not be remembered after Forget was
// called for it.
func TestForgetWhileReading(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	s := seal.New(master, db)
	db.meanwhile = func() {
		db.MustRotate(t, seal.New(master, db), acme)
		s.Forget()
	}
	wantSealsUnder(t, "with what was read before", s, 1)
	wantSealsUnder(t, "after the change", s, 2)
}

// Nor may they replace newer ones that were read in between.
func TestSlowReading(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	s := seal.New(master, db)
	db.meanwhile = func() {
		other := seal.New(master, db)
		db.MustRotate(t, other, acme)
		wantOpen(t, "sealed under the new key", s, wantSealsUnder(t, "elsewhere", other, 2))
	}
	MustSeal(t, s, acme, row, john)
	wantSealsUnder(t, "after both readings", s, 2)
}

// While keys are rotated, ended and forgotten in turn, what is stored opens.
func TestForgetRaces(t *testing.T) {
	t.Parallel()
	db, master := MustStore(t)
	s, elsewhere := seal.New(master, db), seal.New(master, db)
	index := MustIndex(t, s, acme, grahak.IndexReference, "x")
	ctx, done := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				sealed, err := s.Seal(ctx, acme, row, john)
				if err != nil {
					t.Error(err)
					return
				}
				if sealed.Version > 1 {
					// None of these is ended.
					for _, by := range []*seal.Sealer{s, elsewhere} {
						wantOpen(t, "while keys change", by, sealed.Bytes)
					}
				}
				if got := MustIndex(t, s, acme, grahak.IndexReference, "x"); got != index {
					t.Error("the index changed")
				}
			}
		})
	}
	group.Go(func() {
		for ctx.Err() == nil {
			s.Forget()
		}
	})
	db.MustRotate(t, elsewhere, acme)
	db.MustRetire(t, elsewhere, acme)
	elsewhere.Forget()
	for range 30 {
		db.MustRotate(t, elsewhere, acme)
		elsewhere.Forget()
	}
	done()
	group.Wait()
	s.Forget()
	wantSealsUnder(t, "at the end", s, 32)
}
