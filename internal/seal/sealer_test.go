package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak"
	"grahak/internal/seal"
)

const (
	acme  grahak.MerchantID = "acme"
	rival grahak.MerchantID = "rival"
	row   grahak.CustomerID = "cst_2i05py9fkmulr85n"
)

// rows are the wrapped keys of merchants, as a store keeps them.
type rows map[grahak.MerchantID]grahak.Keyset

func (r rows) Keyset(_ context.Context, m grahak.MerchantID) (grahak.Keyset, error) {
	k, ok := r[m]
	if !ok {
		return k, grahak.Errorf(grahak.CodeMerchantNotFound, "There is no merchant %q.", string(m))
	}
	return k, nil
}

// MasterKeyID names none.
func (rows) MasterKeyID(context.Context, string) (string, error) { return "", nil }

// MustMasterKey makes a master key and returns it with the text of its file.
func MustMasterKey(tb testing.TB) (*seal.MasterKey, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "master.key")
	master, err := seal.MakeMasterKey(path)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return master, string(text)
}

// MustKeyset makes keys of m.
func MustKeyset(tb testing.TB, master *seal.MasterKey, m grahak.MerchantID) grahak.Keyset {
	tb.Helper()
	k, err := seal.New(master, named{nil, master.ID()}).NewKeyset(tb.Context(), m)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// MustRows makes keys of acme and rival.
func MustRows(tb testing.TB, master *seal.MasterKey) rows {
	tb.Helper()
	return rows{acme: MustKeyset(tb, master, acme), rival: MustKeyset(tb, master, rival)}
}

// MustSealer returns a sealer with keys of acme and rival, and those.
func MustSealer(tb testing.TB) (*seal.Sealer, rows) {
	tb.Helper()
	master, _ := MustMasterKey(tb)
	keys := MustRows(tb, master)
	return seal.New(master, keys), keys
}

// MustSeal seals p.
func MustSeal(tb testing.TB, s *seal.Sealer, m grahak.MerchantID, id grahak.CustomerID, p grahak.Profile) []byte {
	tb.Helper()
	sealed, err := s.Seal(tb.Context(), m, id, p)
	if err != nil {
		tb.Fatal(err)
	}
	return sealed.Bytes
}

// MustIndex returns the blind index of value.
func MustIndex(tb testing.TB, s *seal.Sealer, m grahak.MerchantID, purpose grahak.IndexPurpose, value string) grahak.Index {
	tb.Helper()
	index, err := s.Index(tb.Context(), m, purpose, value)
	if err != nil {
		tb.Fatal(err)
	}
	return index
}

// wantFault fails the test unless err is an error that is nobody's outage and
// nothing a caller can act on.
func wantFault(tb testing.TB, what string, err error) {
	tb.Helper()
	var known *grahak.Error
	if err == nil || errors.As(err, &known) {
		tb.Errorf("%s: got %v, want an internal error", what, err)
	}
}

var john = grahak.Profile{
	Reference: "customer@example.com", MobileCountryCode: "91", MobileNumber: "9988776655",
	Email: "customer@example.com", FirstName: "John", LastName: "Smith",
}

// anyProfile draws a profile with any text at all in it; only the reference is
// always set.
func anyProfile() *rapid.Generator[grahak.Profile] {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringN(100, 300, -1),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	return rapid.Custom(func(t *rapid.T) grahak.Profile {
		return grahak.Profile{
			Reference:         text.Filter(func(s string) bool { return s != "" }).Draw(t, "reference"),
			MobileCountryCode: text.Draw(t, "country code"),
			MobileNumber:      text.Draw(t, "mobile number"),
			Email:             text.Draw(t, "e-mail"),
			FirstName:         text.Draw(t, "first name"),
			LastName:          text.Draw(t, "last name"),
		}
	})
}

func TestOpenIsTheInverseOfSeal(t *testing.T) {
	t.Parallel()
	s, _ := MustSealer(t)
	rapid.Check(t, func(rt *rapid.T) {
		want := anyProfile().Draw(rt, "profile")
		id := grahak.CustomerID(rapid.String().Draw(rt, "id"))
		sealed := MustSeal(t, s, acme, id, want)
		got, err := s.Open(t.Context(), acme, id, sealed)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			rt.Fatalf("Open of Seal: %v (-sealed +opened):\n%s", err, d)
		}
		if bytes.Equal(sealed, MustSeal(t, s, acme, id, want)) {
			rt.Fatal("the same profile is sealed the same way twice, which tells that it is the same")
		}
	})
}

func TestSealedProfileTellsNothing(t *testing.T) {
	t.Parallel()
	s, _ := MustSealer(t)
	sealed := MustSeal(t, s, acme, row, john)
	for _, text := range []string{john.Reference, john.MobileNumber, john.FirstName, john.LastName, string(acme), string(row), "example"} {
		if bytes.Contains(sealed, []byte(text)) {
			t.Errorf("the sealed profile holds %q", text)
		}
	}
}

// A ciphertext opens in its own row only.
func TestMovedProfileDoesNotOpen(t *testing.T) {
	t.Parallel()
	s, keys := MustSealer(t)
	sealed := MustSeal(t, s, acme, row, john)
	if _, err := s.Open(t.Context(), acme, row, sealed); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		m    grahak.MerchantID
		id   grahak.CustomerID
	}{
		{"moved to another customer", acme, "cst_2i05py9fkmulr85o"},
		{"moved to a customer without an id", acme, ""},
		{"moved to a customer with a longer id", acme, row + "0"},
		{"moved to a customer with a shorter id", acme, row[:len(row)-1]},
		{"moved to a customer in capitals", acme, grahak.CustomerID(strings.ToUpper(string(row)))},
		{"moved to another merchant", rival, row},
	} {
		p, err := s.Open(t.Context(), c.m, c.id, sealed)
		wantFault(t, c.what, err)
		if p != (grahak.Profile{}) {
			t.Errorf("%s: something was opened: %+v", c.what, p)
		}
	}
	// Moving the keys with it does not help.
	keys["thief"] = keys[acme]
	_, err := s.Open(t.Context(), "thief", row, sealed)
	wantFault(t, "moved with its keys", err)
}

func TestAlteredProfileDoesNotOpen(t *testing.T) {
	t.Parallel()
	s, _ := MustSealer(t)
	sealed := MustSeal(t, s, acme, row, john)
	open := func(what string, b []byte) {
		t.Helper()
		p, err := s.Open(t.Context(), acme, row, b)
		wantFault(t, what, err)
		if p != (grahak.Profile{}) {
			t.Errorf("%s: something was opened: %+v", what, p)
		}
	}
	for bit := range 8 * len(sealed) {
		altered := bytes.Clone(sealed)
		altered[bit/8] ^= 1 << (bit % 8)
		open("a flipped bit", altered)
	}
	for n := range len(sealed) {
		open("a truncation", sealed[:n])
		open("a missing start", sealed[n+1:])
	}
	open("an extension", append(bytes.Clone(sealed), 0))
	open("nothing", nil)
	open("two at once", append(bytes.Clone(sealed), sealed...))
}

func TestWrongMasterKey(t *testing.T) {
	t.Parallel()
	master, text := MustMasterKey(t)
	other, otherText := MustMasterKey(t)
	keys := MustRows(t, master)
	s := seal.New(master, keys)
	sealed := MustSeal(t, s, acme, row, john)
	if master.ID() == other.ID() || master.ID() == "" {
		t.Fatalf("two master keys have the ids %q and %q", master.ID(), other.ID())
	}

	wrong := seal.New(other, keys)
	for name, err := range calls(t, wrong, sealed) {
		if grahak.CodeOf(err) != grahak.CodeUnavailable {
			t.Errorf("%s under the wrong master key: got %v, want code %q", name, err, grahak.CodeUnavailable)
			continue
		}
		for _, id := range []string{master.ID(), other.ID()} {
			if !strings.Contains(err.Error(), id) {
				t.Errorf("%s: the error %q does not name the key %s", name, err, id)
			}
		}
		for _, secret := range []string{text, otherText} {
			if strings.Contains(err.Error(), secret[:8]) {
				t.Errorf("%s: the error %q shows a master key", name, err)
			}
		}
	}
	// The right one still opens it.
	if p, err := seal.New(master, keys).Open(t.Context(), acme, row, sealed); err != nil || p != john {
		t.Errorf("a new process with the right master key: got %+v, %v", p, err)
	}
}

// calls makes every call that needs acme's keys.
func calls(t *testing.T, s *seal.Sealer, sealed []byte) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	_, errs["seal"] = s.Seal(t.Context(), acme, row, john)
	_, errs["open"] = s.Open(t.Context(), acme, row, sealed)
	_, errs["index"] = s.Index(t.Context(), acme, grahak.IndexReference, "x")
	errs["check"] = s.Check(t.Context(), acme)
	return errs
}

// Where the master key cannot be had, customers are out of reach and not gone.
func TestNoMasterKey(t *testing.T) {
	t.Parallel()
	sealer, keys := MustSealer(t)
	sealed := MustSeal(t, sealer, acme, row, john)
	cause := errors.New("the key went swimming")
	masters := seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) { return nil, cause }, 0)
	t.Cleanup(masters.Close)
	s := seal.NewSealer(masters, named{keys, "0123456789abcdef"})
	errs := calls(t, s, sealed)
	ctx := t.Context()
	_, errs["new keyset"] = s.NewKeyset(ctx, "new")
	_, errs["rotate"] = s.Rotate(ctx, keys[acme])
	_, errs["retire"] = s.Retire(ctx, keys[acme])
	_, errs["rewrap"] = s.Rewrap(ctx, keys[acme], "0123456789abcdef")
	_, errs["new master key id"] = s.NewMasterKeyID(ctx)
	for name, err := range errs {
		if grahak.CodeOf(err) != grahak.CodeUnavailable || !errors.Is(err, cause) {
			t.Errorf("%s: got %v, want code %q and the cause", name, err, grahak.CodeUnavailable)
		}
	}
}

// named is rows that name a master key.
type named struct {
	rows
	id string
}

func (n named) MasterKeyID(context.Context, string) (string, error) { return n.id, nil }

// A merchant's keys are made under the master key that the store names, although
// there is a newer one, so that no merchant is made under a key of its own.
func TestNewKeysetUnderNamedKey(t *testing.T) {
	t.Parallel()
	older, _ := MustMasterKey(t)
	newer, _ := MustMasterKey(t)
	masters := seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) {
		return []*seal.MasterKey{newer, older}, nil
	}, 0)
	t.Cleanup(masters.Close)
	for _, id := range []string{older.ID(), newer.ID()} {
		k, err := seal.NewSealer(masters, named{nil, id}).NewKeyset(t.Context(), acme)
		if err != nil {
			t.Fatal(err)
		}
		if k.Merchant != acme || k.MasterKeyID != id || k.Version != 1 {
			t.Errorf("the keyset is version %d of %s under %s, want version 1 of %s under %s", k.Version, k.Merchant, k.MasterKeyID, acme, id)
		}
	}
	_, err := seal.NewSealer(masters, named{nil, ""}).NewKeyset(t.Context(), acme)
	wantCode(t, err, grahak.CodeUnavailable)
	if id, err := seal.NewSealer(masters, rows{}).NewMasterKeyID(t.Context()); err != nil || id != newer.ID() {
		t.Errorf("the newest master key is %s, %v, want %s", id, err, newer.ID())
	}
}

func TestUnknownMerchant(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	for name, err := range calls(t, seal.New(master, rows{}), nil) {
		if grahak.CodeOf(err) != grahak.CodeMerchantNotFound {
			t.Errorf("%s: got %v, want code %q", name, err, grahak.CodeMerchantNotFound)
		}
	}
}

// Keys that were altered in the store are a fault to look into, not an outage
// to wait for.
func TestTamperedKeyset(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	good := MustRows(t, master)
	s := seal.New(master, good)
	sealed := MustSeal(t, s, acme, row, john)
	try := func(what string, k grahak.Keyset) {
		t.Helper()
		tampered := seal.New(master, rows{acme: k})
		errs := calls(t, tampered, sealed)
		k.Merchant = acme
		_, errs["rotate"] = tampered.Rotate(t.Context(), k)
		_, errs["retire"] = tampered.Retire(t.Context(), k)
		_, errs["rewrap"] = tampered.Rewrap(t.Context(), k, master.ID())
		for name, err := range errs {
			wantFault(t, what+": "+name, err)
		}
	}
	flip := func(b []byte, bit int) []byte {
		b = bytes.Clone(b)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	k := good[acme]
	for bit := range 8 * len(k.Sealing) {
		try("an altered sealing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: flip(k.Sealing, bit), Indexing: k.Indexing})
	}
	for bit := range 8 * len(k.Indexing) {
		try("an altered indexing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Sealing, Indexing: flip(k.Indexing, bit)})
	}
	for n := range len(k.Sealing) {
		try("a truncated sealing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Sealing[:n], Indexing: k.Indexing})
	}
	for n := range len(k.Indexing) {
		try("a truncated indexing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Sealing, Indexing: k.Indexing[:n]})
	}
	try("keys that changed places", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Indexing, Indexing: k.Sealing})
	try("a sealing key twice", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Sealing, Indexing: k.Sealing})
	try("no keys", grahak.Keyset{MasterKeyID: k.MasterKeyID})
	try("another merchant's keys", good[rival])
	try("another merchant's sealing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: good[rival].Sealing, Indexing: k.Indexing})
	try("another merchant's indexing key", grahak.Keyset{MasterKeyID: k.MasterKeyID, Sealing: k.Sealing, Indexing: good[rival].Indexing})
}

// The wrapped keys hold no key in clear, and no two merchants' are the same.
func TestKeysetsDiffer(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	a, b := MustKeyset(t, master, acme), MustKeyset(t, master, acme)
	if bytes.Equal(a.Sealing, b.Sealing) || bytes.Equal(a.Indexing, b.Indexing) || bytes.Equal(a.Sealing, a.Indexing) {
		t.Error("two new keysets are equal")
	}
	if a.MasterKeyID != master.ID() {
		t.Errorf("the keyset names the master key %q, want %q", a.MasterKeyID, master.ID())
	}
	// Two keysets of one merchant index and seal differently.
	first, second := seal.New(master, rows{acme: a}), seal.New(master, rows{acme: b})
	if MustIndex(t, first, acme, grahak.IndexReference, "x") == MustIndex(t, second, acme, grahak.IndexReference, "x") {
		t.Error("two keysets give one index")
	}
	_, err := second.Open(t.Context(), acme, row, MustSeal(t, first, acme, row, john))
	wantFault(t, "opened under another keyset", err)
}

func TestIndex(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	keys := MustRows(t, master)
	s := seal.New(master, keys)
	restarted := seal.New(master, keys)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := rapid.String().Draw(rt, "a"), rapid.String().Draw(rt, "b")
		index := MustIndex(t, s, acme, grahak.IndexReference, a)
		if again := MustIndex(t, restarted, acme, grahak.IndexReference, a); again != index {
			rt.Errorf("%q has the indexes %x and %x", a, index, again)
		}
		if a != b && MustIndex(t, s, acme, grahak.IndexReference, b) == index {
			rt.Errorf("%q and %q have one index", a, b)
		}
		if MustIndex(t, s, rival, grahak.IndexReference, a) == index {
			rt.Errorf("%q has one index at two merchants", a)
		}
		if MustIndex(t, s, acme, grahak.IndexCursor, a) == index {
			rt.Errorf("%q has one index for two purposes", a)
		}
	})
	// Purpose and value cannot run into each other, however long the value.
	if MustIndex(t, s, acme, "ab", "c") == MustIndex(t, s, acme, "a", "bc") {
		t.Error("a purpose and a value run into each other")
	}
	long := strings.Repeat("a", 1000)
	if MustIndex(t, s, acme, grahak.IndexReference, long) == MustIndex(t, s, acme, grahak.IndexReference, long+"b") {
		t.Error("only the start of a value is indexed")
	}
}

// counted counts how often keys are read.
type counted struct {
	rows
	reads *int
}

func (c counted) Keyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error) {
	*c.reads++
	return c.rows.Keyset(ctx, m)
}

// Opened keys are kept, so that a customer costs no second look at the store;
// a merchant that is not found is looked for again.
func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	source := counted{make(rows), new(int)}
	s := seal.New(master, source)
	for want := 1; want <= 2; want++ {
		wantCode(t, s.Check(t.Context(), acme), grahak.CodeMerchantNotFound)
		if *source.reads != want {
			t.Errorf("an unknown merchant was looked for %d times, want %d", *source.reads, want)
		}
	}
	source.rows[acme] = MustKeyset(t, master, acme)
	*source.reads = 0
	for range 3 {
		if _, err := s.Open(t.Context(), acme, row, MustSeal(t, s, acme, row, john)); err != nil {
			t.Fatal(err)
		}
		MustIndex(t, s, acme, grahak.IndexReference, "x")
	}
	if *source.reads != 1 {
		t.Errorf("the keys were read %d times, want once", *source.reads)
	}
}

// wantCode fails the test unless err has the code.
func wantCode(tb testing.TB, err error, want grahak.Code) {
	tb.Helper()
	if got := grahak.CodeOf(err); got != want {
		tb.Errorf("got the error %v with code %q, want code %q", err, got, want)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	master, _ := MustMasterKey(t)
	keys := MustRows(t, master)
	fresh := seal.New(master, keys)
	want := MustIndex(t, seal.New(master, keys), acme, grahak.IndexReference, "x")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			m := []grahak.MerchantID{acme, rival}[i%2]
			sealed, err := fresh.Seal(t.Context(), m, row, john)
			if err != nil {
				t.Error(err)
				return
			}
			if p, err := fresh.Open(t.Context(), m, row, sealed.Bytes); err != nil || p != john {
				t.Errorf("got %+v, %v", p, err)
			}
			if index, err := fresh.Index(t.Context(), acme, grahak.IndexReference, "x"); err != nil || index != want {
				t.Errorf("got the index %x, %v, want %x", index, err, want)
			}
		})
	}
	group.Wait()
}

var update = flag.Bool("update", false, "write the golden file anew: only when no data of the old form exists anywhere")

// golden is what a released program has written to disk.
type golden struct {
	MasterKey string
	Keyset    grahak.Keyset
	Sealed    []byte
	Index     []byte
}

// What an earlier program sealed opens, and is found, for good.
func TestOldDataOpens(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "v1.json")
	if *update {
		master, text := MustMasterKey(t)
		keys := MustRows(t, master)
		s := seal.New(master, keys)
		index := MustIndex(t, s, acme, grahak.IndexReference, john.Reference)
		raw, err := json.MarshalIndent(golden{strings.TrimSpace(text), keys[acme], MustSeal(t, s, acme, row, john), index[:]}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var old golden
	if err := json.Unmarshal(raw, &old); err != nil {
		t.Fatal(err)
	}
	masters, err := seal.ParseMasterKeys([]byte(old.MasterKey))
	if err != nil {
		t.Fatal(err)
	}
	s := seal.New(masters[0], rows{acme: old.Keyset})
	p, err := s.Open(t.Context(), acme, row, old.Sealed)
	if d := cmp.Diff(john, p); d != "" || err != nil {
		t.Errorf("opening old data: %v (-want +got):\n%s", err, d)
	}
	index := MustIndex(t, s, acme, grahak.IndexReference, john.Reference)
	if !bytes.Equal(index[:], old.Index) {
		t.Errorf("the index of an old reference is %s, want %s", base64.StdEncoding.EncodeToString(index[:]), base64.StdEncoding.EncodeToString(old.Index))
	}
}
