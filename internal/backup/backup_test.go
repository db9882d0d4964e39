package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/backup"
)

var manifest = backup.Manifest{
	Program: "1.2.3", Schema: 2, Environment: "production", MasterKeyID: "0123456789abcdef",
	MadeAt:    time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC),
	Merchants: []backup.Merchant{{ID: "acme", Customers: 3, Events: 5, Chain: "4:" + strings.Repeat("ab", 32)}, {ID: "beta", Customers: 4}},
}

// database is what the tests back up.
var database = []byte("SQLite format 3\x00" + strings.Repeat("rows and rows ", 10))

func silent(_, _ int64) {}

// MustMake makes a backup of data and returns its path.
func MustMake(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup")
	MustWrite(t, path, data)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := backup.Finish(t.Context(), f, manifest, silent); err != nil {
		t.Fatal(err)
	}
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

// readAll reads the backup that open opens to its end.
func readAll(t testing.TB, open func() (*backup.File, error)) (m backup.Manifest, data []byte, whole [sha256.Size]byte, err error) {
	t.Helper()
	f, err := open()
	if err != nil {
		return m, nil, whole, err
	}
	var buf bytes.Buffer
	whole, err = f.CopyTo(t.Context(), &buf, silent)
	return f.Manifest, buf.Bytes(), whole, errors.Join(err, f.Close())
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, data := range [][]byte{database, {}, bytes.Repeat([]byte("0123456789abcdef"), 200_000)} {
		path := MustMake(t, data)
		got, copied, whole, err := readAll(t, func() (*backup.File, error) { return backup.Open(path) })
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		want := manifest
		want.Format, want.Database = 1, backup.Database{Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the manifest (-want +got):\n%s", diff)
		}
		if !bytes.Equal(copied, data) {
			t.Errorf("%d bytes came back as %d others", len(data), len(copied))
		}
		if whole != sha256.Sum256(MustRead(t, path)) {
			t.Error("the sum is not that of the whole file")
		}
		if got.Customers() != 7 {
			t.Errorf("it has %d customers, want 7", got.Customers())
		}
	}
}

// The form of the file never changes, or old backups could not be read.
func TestForm(t *testing.T) {
	t.Parallel()
	file := MustRead(t, MustMake(t, database))
	rest, found := bytes.CutPrefix(file, database)
	if !found {
		t.Fatal("the file does not begin with the database")
	}
	text, end := rest[:len(rest)-56], rest[len(rest)-56:]
	sum, databaseSum := sha256.Sum256(text), sha256.Sum256(database)
	want := append(binary.BigEndian.AppendUint64(bytes.Clone(sum[:]), uint64(len(text))), "grahak's backup\n"...)
	if !bytes.Equal(end, want) {
		t.Errorf("it ends with %q, want %q", end, want)
	}
	wantText := fmt.Sprintf(`{"format":1,"program":"1.2.3","schema_version":2,"environment":"production","master_key_id":"0123456789abcdef",`+
		`"made_at":"2026-03-17T14:13:37.123456Z","merchants":[{"id":"acme","customers":3,"events":5,"chain":"4:%s"},{"id":"beta","customers":4,"events":0}],`+
		`"database":{"bytes":%d,"sha256":"%x"}}`, strings.Repeat("ab", 32), len(database), databaseSum)
	if diff := cmp.Diff(wantText, string(text)); diff != "" {
		t.Errorf("the manifest (-want +got):\n%s", diff)
	}
}

// wantRefused fails the test unless the backup that open opens is refused with
// one sentence that holds the words.
func wantRefused(t *testing.T, what string, open func() (*backup.File, error), words ...string) {
	t.Helper()
	_, _, _, err := readAll(t, open)
	if err == nil {
		t.Errorf("%s: the file is taken for a good backup", what)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error %q does not name %q", what, err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: the error %q is more than a line", what, err)
	}
}

// TestEveryBit changes each bit of a backup, one at a time, and cuts it off
// after each byte.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	file := MustRead(t, MustMake(t, database))
	open := func() (*backup.File, error) { return backup.OpenBytes("the file", file) }
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			wantRefused(t, fmt.Sprintf("bit %d of byte %d of %d", bit, i, len(file)), open, "the file")
			file[i] ^= 1 << bit
		}
		cut := func() (*backup.File, error) { return backup.OpenBytes("the file", file[:i]) }
		wantRefused(t, fmt.Sprintf("the first %d bytes of %d", i, len(file)), cut, "the file")
	}
	if _, _, _, err := readAll(t, open); err != nil {
		t.Errorf("the file as it was: %v", err)
	}
}

// ended returns data with an end for it, whose manifest is text.
func ended(data []byte, text string, length uint64) []byte {
	sum := sha256.Sum256([]byte(text))
	file := append(append(bytes.Clone(data), text...), sum[:]...)
	return append(binary.BigEndian.AppendUint64(file, length), "grahak's backup\n"...)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	good := MustRead(t, MustMake(t, database))
	text := func(m map[string]any) string {
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	newer := text(map[string]any{"format": 2, "database": "in the next file"})
	short := text(map[string]any{"format": 1, "database": map[string]any{"bytes": len(database) - 1}})
	for name, c := range map[string]struct {
		file  []byte
		words []string
	}{
		"empty":                  {nil, []string{"is empty"}},
		"a database":             {append(bytes.Clone(database), make([]byte, 4096)...), []string{"is not a backup", "or its end is missing"}},
		"a text":                 {[]byte("Dear diary."), []string{"is not a backup"}},
		"a byte more":            {append(bytes.Clone(good), 0), []string{"is not a backup"}},
		"two of them":            {append(bytes.Clone(good), good...), []string{"is damaged", "another length"}},
		"something before it":    {append([]byte("x"), good...), []string{"is damaged", "another length"}},
		"a newer format":         {ended(database, newer, uint64(len(newer))), []string{"has format 2", "only up to 1", "newer grahak"}},
		"a length beyond":        {ended(database, newer, uint64(len(database)+len(newer)+1)), []string{"is damaged", "impossible length"}},
		"a length beyond memory": {ended(database, newer, 1<<40), []string{"is damaged", "impossible length"}},
		"a length below zero":    {ended(database, newer, 1<<63+5), []string{"is damaged", "impossible length"}},
		"another sum":            {ended(database, newer, uint64(len(newer)-1)), []string{"is damaged", "checksum of its manifest"}},
		"a database cut short":   {ended(database, short, uint64(len(short))), []string{"is damaged", "another length"}},
		"no manifest":            {ended(database, "", 0), []string{"is damaged", "manifest cannot be read"}},
		"no object":              {ended(database, "[1]", 3), []string{"is damaged", "manifest cannot be read"}},
	} {
		path := filepath.Join(t.TempDir(), "it's a file")
		MustWrite(t, path, c.file)
		wantRefused(t, name, func() (*backup.File, error) { return backup.Open(path) }, append(c.words, path)...)
	}
	dir := t.TempDir()
	wantRefused(t, "a folder", func() (*backup.File, error) { return backup.Open(dir) }, dir, "is not a file")
	none := filepath.Join(dir, "none")
	wantRefused(t, "nothing", func() (*backup.File, error) { return backup.Open(none) }, "there is no file "+none)
}

// The database may change between the opening and the reading.
func TestCutShortMeanwhile(t *testing.T) {
	t.Parallel()
	path := MustMake(t, database)
	f, err := backup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CopyTo(t.Context(), io.Discard, silent); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a file that was cut short while it was open: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	path := MustMake(t, make([]byte, 5<<20))
	ctx, cancel := context.WithCancel(t.Context())
	f, err := backup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen []int64
	_, err = f.CopyTo(ctx, io.Discard, func(done, total int64) {
		seen = append(seen, done, total)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || !cmp.Equal(seen, []int64{1 << 20, 5 << 20}) {
		t.Errorf("a copy that is stopped after its first step returns %v, and told of %v", err, seen)
	}
	raw, err := os.OpenFile(filepath.Join(t.TempDir(), "new"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := backup.Finish(ctx, raw, manifest, silent); !errors.Is(err, context.Canceled) {
		t.Errorf("to finish a backup when it was stopped: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	good := MustRead(f, MustMake(f, database))
	f.Add(good)
	f.Add(good[1:])
	f.Add(ended(database, `{"format":1,"database":{"bytes":-1}}`, 36))
	f.Add(ended(nil, `{"format":1}`, 12))
	f.Fuzz(func(t *testing.T, file []byte) {
		m, data, whole, err := readAll(t, func() (*backup.File, error) { return backup.OpenBytes("the file", file) })
		if err != nil {
			return
		}
		sum := sha256.Sum256(data)
		if m.Database.SHA256 != hex.EncodeToString(sum[:]) || whole != sha256.Sum256(file) || !bytes.HasPrefix(file, data) {
			t.Errorf("a backup of %d bytes has a database of %d with another sum", len(file), len(data))
		}
	})
}
