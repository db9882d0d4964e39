package sqlstore_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/storetest"
)

// MustOpenRequests opens a request log, and closes it when the test ends.
func MustOpenRequests(t testing.TB, path string, log *slog.Logger) *sqlstore.Requests {
	t.Helper()
	s, err := sqlstore.OpenRequests(path, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the request log: %v", err)
		}
	})
	return s
}

// TestRequests runs the suite of every request log on a SQLite file.
func TestRequests(t *testing.T) {
	t.Parallel()
	storetest.RunRequests(t, func(t testing.TB) grahak.RequestStore {
		return MustOpenRequests(t, filepath.Join(t.TempDir(), "requests.db"), slog.New(slog.DiscardHandler))
	})
}

// countBlocks returns how many blocks the merchant has.
func countBlocks(t *testing.T, s grahak.RequestStore, m grahak.MerchantID) int {
	t.Helper()
	list, err := s.RequestBlocks(t.Context(), m, time.Unix(1<<40, 0), grahak.RequestBlockID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// putBlocks writes n blocks of 10 kB, whose last request came in at at.
func putBlocks(t *testing.T, s grahak.RequestStore, m grahak.MerchantID, at time.Time, n int) {
	t.Helper()
	for i := range n {
		b := grahak.RequestBlock{Merchant: m, From: at, To: at, Count: 1, Filter: []byte{1}, Rows: bytes.Repeat([]byte{byte(i)}, 10_000)}
		b.ID[0], b.ID[1] = byte(i>>8), byte(i)
		if err := s.PutRequests(t.Context(), []grahak.RequestBlock{b}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRequestsAgain opens a log once more, and is found to be its user's alone.
func TestRequestsAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.db")
	var log bytes.Buffer
	s, err := sqlstore.OpenRequests(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	putBlocks(t, s, "acme", time.Now(), 3)
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), mode)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := countBlocks(t, MustOpenRequests(t, path, slog.New(slog.NewTextHandler(&log, nil))), "acme"); n != 3 || log.Len() > 0 {
		t.Errorf("opened again, it has %d blocks, want 3, and says %q", n, &log)
	}
}

// TestRequestsDamaged opens files that are no request logs, or none any more: each is
// begun anew, with one warning.
func TestRequestsDamaged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"garbage", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"another database", func(t *testing.T, path string) {
			s := MustOpen(t, sqlstore.SQLiteConfig{Path: path})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"a schema without its page", func(t *testing.T, path string) {
			s, err := sqlstore.OpenRequests(path, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			putBlocks(t, s, "acme", time.Now(), 5)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 3996), 100); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "requests.db")
			test.damage(t, path)
			var log bytes.Buffer
			s := MustOpenRequests(t, path, slog.New(slog.NewTextHandler(&log, nil)))
			if n := countBlocks(t, s, "acme"); n != 0 {
				t.Errorf("it has %d blocks", n)
			}
			putBlocks(t, s, "acme", time.Now(), 2)
			if n := countBlocks(t, s, "acme"); n != 2 {
				t.Errorf("begun anew, it has %d blocks, want 2", n)
			}
			if warnings := strings.Count(log.String(), "level=WARN"); warnings != 1 {
				t.Errorf("%d warnings, want 1: %s", warnings, &log)
			}
		})
	}
}

// TestRequestsDamagedLater damages the pages of a log that is open: it errs at most
// once, and is then begun anew.
func TestRequestsDamagedLater(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.db")
	s, err := sqlstore.OpenRequests(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	putBlocks(t, s, "acme", time.Now(), 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// All but the schema.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size())-4096), 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := MustOpenRequests(t, path, slog.New(slog.DiscardHandler))
	_, err = again.RequestBlocks(t.Context(), "acme", time.Now(), grahak.RequestBlockID{}, 10)
	if grahak.CodeOf(err) != grahak.CodeUnavailable {
		t.Errorf("blocks of a damaged file: %v", err)
	}
	putBlocks(t, again, "acme", time.Now(), 2)
	if n := countBlocks(t, again, "acme"); n != 2 {
		t.Errorf("begun anew, it has %d blocks, want 2", n)
	}
}

// TestRequestsSize prunes a log that is written all the time: its file stops to grow.
func TestRequestsSize(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	path := filepath.Join(t.TempDir(), "requests.db")
	s, err := sqlstore.OpenRequests(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	for round := range 8 {
		blocks := make([]grahak.RequestBlock, 100)
		for i := range blocks {
			at = at.Add(time.Second)
			blocks[i] = grahak.RequestBlock{Merchant: "acme", From: at, To: at, Count: 1, Filter: []byte{1}, Rows: make([]byte, 10_000)}
			blocks[i].ID[0], blocks[i].ID[1] = byte(round), byte(i)
		}
		if err := s.PutRequests(t.Context(), blocks, nil); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			var err error
			if more, err = s.PruneRequests(t.Context(), time.Time{}, size, 50); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := countBlocks(t, s, "acme"); n < 95 || n > 105 {
		t.Errorf("%d blocks of 10 kB are in 1 MiB", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 3*size {
		t.Errorf("the file has %d bytes, for 1 MiB", info.Size())
	}
}

// TestRequestsFolder opens a log where none can be made.
func TestRequestsFolder(t *testing.T) {
	t.Parallel()
	_, err := sqlstore.OpenRequests(filepath.Join(t.TempDir(), "missing", "requests.db"), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--requests-keep 0d") {
		t.Errorf("a folder that is missing: %v", err)
	}
}
