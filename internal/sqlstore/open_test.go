package sqlstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
)

// MustMake makes a store with that many customers, closes it and returns its
// file.
func MustMake(t testing.TB, customers int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	MustCreateConcurrently(t, s, 0, customers)
	MustClose(t, s)
	return path
}

func MustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func MustWrite(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantSentence fails the test unless err is one line that holds the words.
func wantSentence(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there was no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not name %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error %q is more than a line", err)
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	MustCreate(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), 0, 10)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("an open store has the files %v (%v), want the database and two beside it", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(file), info.Mode().Perm())
		}
	}
}

func TestAnyPath(t *testing.T) {
	for _, name := range []string{"50% & more", "%41", "what?mode=memory", "x#y", "दुकान", "_pragma=query_only(1)"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(path, name+".db")
			s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
			MustCreate(t, s, 0, 3)
			MustClose(t, s)
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
			wantWritten(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), 0, 1, 2)
		})
	}
}

func TestOpenWithoutAStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "grahak.db")
	if _, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path}); !errors.Is(err, sqlstore.ErrNoStore) {
		t.Errorf("open where there is none: %v, want ErrNoStore", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("it left %v (%v)", files, err)
	}
	// So does a first start leave the file that was killed early.
	MustWrite(t, path, nil)
	if _, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path}); !errors.Is(err, sqlstore.ErrNoStore) {
		t.Errorf("open an empty file: %v, want ErrNoStore", err)
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 || len(MustRead(t, path)) > 0 {
		t.Errorf("the empty file was filled, or there are files beside it: %v (%v)", files, err)
	}
	MustCreate(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), 0, 1)

	missing := filepath.Join(dir, "missing")
	for _, env := range []grahak.Environment{"", grahak.Sandbox} {
		_, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(missing, "grahak.db"), Environment: env})
		if env == "" && errors.Is(err, sqlstore.ErrNoStore) {
			continue
		}
		wantSentence(t, err, missing)
	}
	_, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: dir, Environment: grahak.Sandbox})
	wantSentence(t, err, dir)
}

func TestEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path, Environment: grahak.Production})
	MustCreate(t, s, 0, 1)
	MustClose(t, s)
	before := MustRead(t, path)
	_, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: grahak.Sandbox})
	wantSentence(t, err, filepath.Dir(path), "production", "sandbox")
	if !bytes.Equal(MustRead(t, path), before) {
		t.Error("the refused opening changed the file")
	}
	for _, env := range []grahak.Environment{"", grahak.Production} {
		s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: env})
		if err != nil {
			t.Fatalf("open as %q: %v", env, err)
		}
		if s.Environment() != grahak.Production {
			t.Errorf("opened as %q it says %q", env, s.Environment())
		}
		wantWritten(t, s, 0)
		MustClose(t, s)
	}
}

func TestNewerSchema(t *testing.T) {
	path := MustMake(t, 500)
	db := MustOpenFile(t, path)
	MustExec(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, 1)`)
	db.Close()
	before := MustRead(t, path)
	for _, env := range []grahak.Environment{"", grahak.Sandbox} {
		_, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: env})
		wantSentence(t, err, filepath.Dir(path), "9000", "newer")
	}
	if !bytes.Equal(MustRead(t, path), before) {
		t.Error("the refused opening changed the file")
	}
}

func TestOpenDamagedFile(t *testing.T) {
	whole := MustRead(t, MustMake(t, 500))
	alter := func(fn func([]byte) []byte) []byte { return fn(bytes.Clone(whole)) }
	for name, data := range map[string][]byte{
		"not a database":  []byte(strings.Repeat("Dear diary, nothing happened today. ", 500)),
		"a short text":    []byte("hello\n"),
		"header of zeros": alter(func(b []byte) []byte { clear(b[:100]); return b }),
		"magic changed":   alter(func(b []byte) []byte { b[0] ^= 1; return b }),
		"first page gone": alter(func(b []byte) []byte { clear(b[100:4096]); return b }),
		"first page of noise": alter(func(b []byte) []byte {
			copy(b[100:4096], bytes.Repeat([]byte{0xa5, 0x5a, 0x17}, 4096))
			return b
		}),
		"cut off": alter(func(b []byte) []byte { return b[:4096] }),
	} {
		t.Run(name, func(t *testing.T) {
			for _, env := range []grahak.Environment{"", grahak.Sandbox} {
				path := filepath.Join(t.TempDir(), "grahak.db")
				MustWrite(t, path, data)
				s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: env})
				if err == nil {
					MustClose(t, s)
				}
				wantSentence(t, err, path, "damaged", "restore it from a backup")
				if !bytes.Equal(MustRead(t, path), data) {
					t.Error("the file was changed")
				}
			}
		})
	}
}

// TestOpenBesideALockHolder opens while another process is writing.
func TestOpenBesideALockHolder(t *testing.T) {
	path := MustMake(t, 500)
	db := MustOpenFile(t, path)
	MustExec(t, db, `BEGIN IMMEDIATE`)
	const wait = 50 * time.Millisecond
	// A command writes nothing to open, so it can read at once.
	s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, LockWait: wait})
	if err != nil {
		t.Fatalf("open for a command: %v", err)
	}
	defer s.Close()
	wantWritten(t, s, count(0, 500)...)
	if _, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Environment: grahak.Sandbox, LockWait: wait}); err != nil {
		wantSentence(t, err, path, "locked by another process")
	}
	MustExec(t, db, `ROLLBACK`)
	MustCreate(t, s, 500, 501)
}
