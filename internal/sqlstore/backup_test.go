package sqlstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/sqlstore"
)

// MustOpenWith opens a store that has merchants with keys.
func MustOpenWith(t testing.TB, merchants ...grahak.MerchantID) *sqlstore.SQLite {
	t.Helper()
	s := MustOpen(t, sqlstore.SQLiteConfig{})
	at := time.Date(2026, time.March, 17, 14, 13, 37, 0, time.UTC)
	if _, err := s.MasterKeyID(t.Context(), "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	for _, m := range merchants {
		keys := grahak.Keyset{Merchant: m, MasterKeyID: "0123456789abcdef", Version: 1, Sealing: []byte("sealing"), Indexing: []byte("indexing")}
		e := grahak.Event{ID: grahak.EventID("evt_" + m), Type: grahak.EventMerchantCreated, Actor: "cli:test", At: at}
		if err := s.CreateMerchant(t.Context(), grahak.Merchant{ID: m, Name: string(m), CreatedAt: at}, keys, e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// sealedOf is what is sealed in the n-th customer of a copy's tests.
func sealedOf(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "sealed-%08d.", n), 20) }

// put writes the n-th customer of a copy's tests.
func put(ctx context.Context, s *sqlstore.SQLite, m grahak.MerchantID, n int) error {
	c := grahak.CustomerRecord{
		ID: grahak.CustomerID(fmt.Sprintf("cst_%016d", n)), Sealed: grahak.Sealed{Bytes: sealedOf(n), Version: 1},
		Revision: 1, CreatedAt: time.UnixMicro(int64(n)), UpdatedAt: time.UnixMicro(int64(n)),
	}
	binary.BigEndian.PutUint64(c.Reference[:], uint64(n+1)*0x9e3779b97f4a7c15)
	return s.CreateCustomer(ctx, m, c, grahak.Event{
		ID: grahak.EventID("evt_" + c.ID[4:]), Type: grahak.EventCustomerCreated, Subject: string(c.ID), Revision: 1, Actor: "key_0", At: c.CreatedAt,
	}, nil)
}

func silent(_, _ int64) {}

// MustCopy copies the store into a new file of mode 0600.
func MustCopy(t testing.TB, s *sqlstore.SQLite) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	MustWrite(t, path, nil)
	if err := s.CopyTo(t.Context(), path, silent); err != nil {
		t.Fatal(err)
	}
	return path
}

// MustOpenCopy opens a copy and closes it when the test ends.
func MustOpenCopy(t testing.TB, path string) *sqlstore.SQLite {
	t.Helper()
	s, err := sqlstore.OpenCopy(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { MustClose(t, s) })
	return s
}

// TestCopyUnderWrites takes copies while eight goroutines write, and looks in
// each for all that was acknowledged before it began, whole.
func TestCopyUnderWrites(t *testing.T) {
	s := MustOpenWith(t, acme)
	var serial atomic.Int64
	var mu sync.Mutex
	var acknowledged []int
	written := func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(acknowledged)
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := int(serial.Add(1))
				if err := put(t.Context(), s, acme, n); err != nil {
					t.Errorf("create beside a copy: %v", err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, n)
				mu.Unlock()
			}
		})
	}
	var copies []string
	var before [][]int
	for i := range 5 {
		await(t, "writes", func() bool { return len(written()) >= 200*(i+1) || t.Failed() })
		before = append(before, written())
		copies = append(copies, MustCopy(t, s))
	}
	after := len(written())
	await(t, "writes after the last copy", func() bool { return len(written()) > after || t.Failed() })
	close(stop)
	writing.Wait()

	for i, path := range copies {
		c := MustOpenCopy(t, path)
		for _, n := range before[i] {
			got, err := c.Customer(t.Context(), acme, grahak.CustomerID(fmt.Sprintf("cst_%016d", n)), grahak.Index{})
			if err != nil || !bytes.Equal(got.Sealed.Bytes, sealedOf(n)) {
				t.Fatalf("copy %d: customer %d, acknowledged before it began, is %q (%v)", i, n, got.Sealed.Bytes, err)
			}
		}
		sum, err := c.Summarize(t.Context())
		if err != nil || len(sum.Merchants) != 1 {
			t.Fatalf("copy %d holds %+v (%v)", i, sum, err)
		}
		// The merchant's creation is an event, too.
		if m := sum.Merchants[0]; m.Customers < int64(len(before[i])) || m.Events != m.Customers+1 {
			t.Errorf("copy %d has %d customers and %d events, of which %d were there before", i, m.Customers, m.Events, len(before[i]))
		}
		events, err := c.Events(t.Context(), acme, 0, 1<<20)
		if err != nil || int64(len(events)) != sum.Merchants[0].Events || events[len(events)-1].Position != int64(len(events)) {
			t.Errorf("copy %d: the events have gaps (%v)", i, err)
		}
		if found, err := c.Check(t.Context()); err != nil || len(found) > 0 {
			t.Errorf("copy %d is not sound: %v (%v)", i, found, err)
		}
		if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
			t.Errorf("copy %d has files beside it: %v (%v)", i, files, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("copy %d has mode %v (%v), want that of the file that was given", i, info.Mode(), err)
		}
	}
}

func TestSummarize(t *testing.T) {
	s := MustOpenWith(t, "beta", acme, "empty")
	for n := range 7 {
		if err := put(t.Context(), s, acme, n); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		if err := put(t.Context(), s, "beta", 100+n); err != nil {
			t.Fatal(err)
		}
	}
	MustErase(t, s, record(2, 0))
	segment := grahak.ChainSegment{First: 1, Links: []grahak.Link{{1}, {2}, {3}}, Customers: 2, Proof: grahak.Index{9}}
	if _, err := s.Order(t.Context(), acme, segment, nil); err != nil {
		t.Fatal(err)
	}
	newest, err := sqlstore.NewestSchema()
	if err != nil || newest < 2 {
		t.Fatalf("the newest schema is %d (%v)", newest, err)
	}
	want := sqlstore.Summary{Schema: newest, Environment: grahak.Sandbox, MasterKeyID: "0123456789abcdef", Merchants: []sqlstore.MerchantSummary{
		{ID: acme, Customers: 6, Events: 9, Head: segment.Head()},
		{ID: "beta", Customers: 3, Events: 4},
		{ID: "empty", Events: 1},
	}}
	for what, store := range map[string]*sqlstore.SQLite{"store": s, "copy": MustOpenCopy(t, MustCopy(t, s))} {
		if got, err := store.Summarize(t.Context()); err != nil || !cmp.Equal(want, got) {
			t.Errorf("the %s (%v) (-want +got):\n%s", what, err, cmp.Diff(want, got))
		}
	}
}

// TestCopyLeavesOutWhatIsGone looks for a deleted row whose bytes are still in
// the database.
func TestCopyLeavesOutWhatIsGone(t *testing.T) {
	s := MustOpenWith(t, acme)
	for n := range 200 {
		if err := put(t.Context(), s, acme, n); err != nil {
			t.Fatal(err)
		}
	}
	db := MustOpenRaw(t, s)
	MustExec(t, db, `PRAGMA secure_delete = 0`)
	MustExec(t, db, `DELETE FROM customers WHERE id = 'cst_0000000000000077'`)
	MustExec(t, db, `PRAGMA wal_checkpoint(TRUNCATE)`)
	if !bytes.Contains(MustRead(t, s.Path()), sealedOf(77)) {
		t.Fatal("nothing is left of the deleted row, so this test proves nothing")
	}
	copied := MustRead(t, MustCopy(t, s))
	if bytes.Contains(copied, sealedOf(77)[:100]) {
		t.Error("the copy holds a row that was deleted")
	}
	if !bytes.Contains(copied, sealedOf(78)) {
		t.Error("the copy does not hold a row that is there")
	}
}

func TestOpenCopyWritesNothing(t *testing.T) {
	s := MustOpenWith(t, acme)
	if err := put(t.Context(), s, acme, 1); err != nil {
		t.Fatal(err)
	}
	path := MustCopy(t, s)
	// A backup has more than the database in its file.
	MustWrite(t, path, append(MustRead(t, path), bytes.Repeat([]byte("manifest "), 1000)...))
	before := MustRead(t, path)
	c := MustOpenCopy(t, path)
	wantCode(t, "a write to a copy", put(t.Context(), c, acme, 2), grahak.CodeUnavailable)
	if got, err := c.Customer(t.Context(), acme, "cst_0000000000000001", grahak.Index{}); err != nil || !bytes.Equal(got.Sealed.Bytes, sealedOf(1)) {
		t.Errorf("a customer of a copy is %q (%v)", got.Sealed.Bytes, err)
	}
	if found, err := c.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("the copy is not sound: %v (%v)", found, err)
	}
	if c.Environment() != grahak.Sandbox {
		t.Errorf("the copy is of the environment %q", c.Environment())
	}
	MustClose(t, c)
	if !bytes.Equal(MustRead(t, path), before) {
		t.Error("to open the copy changed it")
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
		t.Errorf("there are files beside the copy: %v (%v)", files, err)
	}

	for name, data := range map[string][]byte{
		"an empty file":         {},
		"another database":      MustRead(t, MustOther(t)),
		"a text":                []byte("Dear diary, nothing happened today.\n"),
		"half a copy":           before[:len(before)/2],
		"a copy without a page": append(bytes.Clone(before[:4096]), make([]byte, len(before)-4096)...),
	} {
		MustWrite(t, path, data)
		c, err := sqlstore.OpenCopy(t.Context(), path)
		if err == nil {
			var found []string
			if found, err = c.Check(t.Context()); err == nil && len(found) > 0 {
				err = errors.New(found[0])
			}
			MustClose(t, c)
		}
		if err == nil {
			t.Errorf("%s is opened and found to be sound", name)
		}
	}
}

// MustOther makes a database that is not a store.
func MustOther(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	db := MustOpenFile(t, path)
	MustExec(t, db, `CREATE TABLE notes (text TEXT)`)
	db.Close()
	return path
}

// TestCopyEnds stops a copy of 30 MiB in the middle.
func TestCopyEnds(t *testing.T) {
	s := MustOpenWith(t, acme)
	MustExec(t, MustOpenRaw(t, s), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
		INSERT INTO keysets (merchant_id, master_key_id, sealing, indexing) SELECT 'm' || i, '', zeroblob(4000), x'' FROM n`)
	path := filepath.Join(t.TempDir(), "copy.db")
	MustWrite(t, path, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last int64
	told := false
	copied := make(chan error, 1)
	go func() {
		copied <- s.CopyTo(ctx, path, func(done, total int64) {
			if done < last || done > total || total < 30<<20 {
				t.Errorf("%d bytes of %d, after %d", done, total, last)
			}
			last, told = done, true
		})
	}()
	await(t, "the beginning of a copy", func() bool {
		info, err := os.Stat(path)
		return err != nil || info.Size() > 0
	})
	cancel()
	if err := <-copied; !errors.Is(err, context.Canceled) {
		t.Errorf("the copy was not stopped: %v", err)
	}
	if !told {
		t.Error("no progress was told")
	}
	if _, err := s.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the check was not stopped: %v", err)
	}
	if _, err := s.Summarize(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the count was not stopped: %v", err)
	}
	// The store works on.
	if found, err := s.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("the store is not sound: %v (%v)", found, err)
	}
	if err := put(t.Context(), s, acme, 1); err != nil {
		t.Error(err)
	}
	size, err := s.CopySize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(MustCopy(t, s))
	if err != nil || info.Size() > size || info.Size() < size*9/10 {
		t.Errorf("a copy has %d bytes (%v), and %d were expected", info.Size(), err, size)
	}
}

// TestCopyToAnyPath copies to where SQLite would see more than a path.
func TestCopyToAnyPath(t *testing.T) {
	s := MustOpenWith(t, acme)
	t.Chdir(t.TempDir())
	for _, name := range []string{"file:copy.db?mode=memory", "it's", "a%41", "दुकान"} {
		MustWrite(t, name, nil)
		if err := s.CopyTo(t.Context(), name, silent); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum, err := MustOpenCopy(t, name).Summarize(t.Context()); err != nil || len(sum.Merchants) != 1 {
			t.Errorf("%s holds %+v (%v)", name, sum, err)
		}
	}
}
