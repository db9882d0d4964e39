package sqlstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"grahak/internal/sqlstore"
)

// MustCountWrites returns how often this process has asked the system to write.
func MustCountWrites(t testing.TB) (n int64) {
	t.Helper()
	f, err := os.Open("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var field string
	for field != "syscw:" {
		if _, err := fmt.Fscan(f, &field, &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestCommitIsFewWrites counts the calls that write a large commit, of which there
// would be two a page.
func TestCommitIsFewWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	MustCreate(t, s, 0, 1)
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	release := MustBlock(t, s)
	var writes sync.WaitGroup
	for i := range sqlstore.MaxBatch {
		writes.Go(func() {
			c := record(1+i, 3000)
			if err := s.CreateCustomer(t.Context(), acme, c, created(c), nil); err != nil {
				t.Errorf("create customer %d: %v", 1+i, err)
			}
		})
	}
	await(t, "all writes to wait", func() bool { return s.QueueLen() == sqlstore.MaxBatch })
	before, calls := size(), MustCountWrites(t)
	release()
	writes.Wait()
	calls = MustCountWrites(t) - calls
	frames := (size() - before) / (24 + 4096)
	if frames < sqlstore.MaxBatch {
		t.Fatalf("the commit wrote %d pages to the log", frames)
	}
	if calls > frames/4 {
		t.Errorf("%d pages of the log took %d writes", frames, calls)
	}
}
