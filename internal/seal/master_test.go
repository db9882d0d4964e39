package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/seal"
)

// ids returns the ids of keys.
func ids(keys ...*seal.MasterKey) []string {
	var list []string
	for _, k := range keys {
		list = append(list, k.ID())
	}
	return list
}

// wantKeys fails the test unless the source has the keys with the given ids.
func wantKeys(tb testing.TB, what string, source seal.KeySource, want ...string) {
	tb.Helper()
	keys, err := source(tb.Context())
	if diff := cmp.Diff(want, ids(keys...)); diff != "" || err != nil {
		tb.Errorf("%s: the master keys, %v (-want +got):\n%s", what, err, diff)
	}
}

// read returns the content of a file.
func read(tb testing.TB, path string) string {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(content)
}

func TestMakeMasterKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	made, err := seal.MakeMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, want 0600 and nothing more", info.Mode())
	}
	content := read(t, path)
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(content, "\n")); err != nil || len(raw) != 32 {
		t.Errorf("the file is not the base64 of 32 bytes and a line end: %v", err)
	}
	wantKeys(t, "the file", seal.FileKeys(path), made.ID())

	// A key that exists is never written over: what is sealed under it would be lost.
	if _, err := seal.MakeMasterKey(path); err == nil {
		t.Error("a second key was made over the first")
	}
	if after := read(t, path); after != content {
		t.Error("the file changed")
	}
	if _, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "none", "master.key")); err == nil {
		t.Error("a key was made in a folder that does not exist")
	}

	other, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	if other.ID() == made.ID() {
		t.Error("two keys have one id")
	}
}

func TestFileKeys(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := seal.FileKeys(filepath.Join(folder, "none"))(t.Context()); !errors.Is(err, seal.ErrNoMasterKey) {
		t.Errorf("a file that does not exist: got %v, want ErrNoMasterKey", err)
	}
	key, text := MustMasterKey(t)
	for name, path := range map[string]string{
		"a folder":         folder,
		"an empty file":    file("empty", ""),
		"a very long file": file("long", strings.Repeat(text, 1000)),
	} {
		if _, err := seal.FileKeys(path)(t.Context()); err == nil || errors.Is(err, seal.ErrNoMasterKey) {
			t.Errorf("%s: got %v, want an error of its own", name, err)
		}
	}
	wantKeys(t, "a file", seal.FileKeys(file("one", text)), key.ID())
}

func TestParseMasterKeys(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0x01}, 8) // Its base64 has both + and /.
	text := base64.StdEncoding.EncodeToString(raw)
	other, otherText := MustMasterKey(t)
	one, err := seal.ParseMasterKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	id := one[0].ID()
	if strings.Contains(hex.EncodeToString(raw), id) {
		t.Errorf("the id %s is part of the key", id)
	}
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a line end":                {text + "\n", []string{id}},
		"a line end of Windows":     {text + "\r\n", []string{id}},
		"white space all around":    {" \t\n" + text + " \n\n", []string{id}},
		"two, the newest on top":    {text + "\n" + otherText, []string{id, other.ID()}},
		"two the other way":         {otherText + text, []string{other.ID(), id}},
		"two with blank lines":      {"\n\r\n  " + text + "\t\r\n \n\n" + otherText + "\n", []string{id, other.ID()}},
		"as many as anybody has":    {strings.Repeat(otherText, 50), slicesRepeat(other.ID(), 50)},
		"one without a line's end":  {otherText + text, []string{other.ID(), id}},
		"one that stands there two": {text + "\n" + text, []string{id, id}},
	} {
		wantKeys(t, name, seal.TextKeys(c.text), c.want...)
	}

	for name, form := range map[string]string{
		"nothing":              "",
		"white space":          " \n",
		"31 bytes":             base64.StdEncoding.EncodeToString(raw[:31]),
		"33 bytes":             base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), 0)),
		"64 bytes":             base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), raw...)),
		"hex":                  hex.EncodeToString(raw),
		"base64 for URLs":      base64.URLEncoding.EncodeToString(raw),
		"no padding":           base64.RawStdEncoding.EncodeToString(raw),
		"the bytes themselves": string(raw),
		"a space in it":        text[:20] + " " + text[20:],
		"a line end in it":     text[:20] + "\n" + text[20:],
		"something before it":  "key=" + text,
		"something after it":   text + "A",
		"two on a line":        text + " " + text,
		"a second that is bad": text + "\n" + strings.TrimSpace(otherText)[1:],
		"far too much":         strings.Repeat(otherText, 100),
		"a sentence":           "correct horse battery staple correct horse bat",
	} {
		keys, err := seal.ParseMasterKeys([]byte(form))
		if err == nil || keys != nil {
			t.Errorf("%s: it was taken for a key", name)
			continue
		}
		wantNothingOf(t, name, err, form)
	}
	if _, err := seal.ParseMasterKeys([]byte("\n" + text + "\nnonsense\n")); err == nil || !strings.Contains(err.Error(), "line 3 ") {
		t.Errorf("the error does not name the line: %v", err)
	}
}

func slicesRepeat(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

// wantNothingOf fails the test if err shows any of the secret.
func wantNothingOf(tb testing.TB, what string, err error, secret string) {
	tb.Helper()
	for n := 0; n+6 <= len(secret); n++ {
		if part := secret[n : n+6]; strings.TrimSpace(part) == part && strings.Contains(err.Error(), part) {
			tb.Fatalf("%s: the error %q shows %q of the key", what, err, part)
		}
	}
}

// The generated file takes a new key above the old ones, and lets go of those, and
// is whole at any time.
func TestChangeKeyFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	real := filepath.Join(folder, "real.key")
	first, err := seal.MakeMasterKey(real)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "master.key")
	if err := os.Symlink("real.key", path); err != nil {
		t.Fatal(err)
	}
	source := seal.FileKeys(path)
	second, err := seal.AddMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "after one more", source, second.ID(), first.ID())
	third, err := seal.AddMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "after one more", source, third.ID(), second.ID(), first.ID())

	before := read(t, path)
	stranger, strangerText := MustMasterKey(t)
	if err := seal.KeepMasterKey(path, stranger.ID()); err == nil {
		t.Error("a key was kept that is not there")
	}
	if after := read(t, path); after != before {
		t.Error("the file changed although nothing was kept")
	}
	if err := seal.KeepMasterKey(path, second.ID()); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "after the second was kept", source, second.ID())
	if err := seal.KeepMasterKey(path, second.ID()); err != nil {
		t.Errorf("the only key was kept: %v", err)
	}
	wantKeys(t, "after the only one was kept", source, second.ID())

	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"master.key", "real.key"}, names); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
	wantKeys(t, "behind the link", seal.FileKeys(real), second.ID())
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v, want 0600", info, err)
	}

	// A file that cannot be read as keys is left for the operator to look at.
	if err := os.WriteFile(path, []byte(strangerText+"nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.AddMasterKey(path); err == nil {
		t.Error("a key was put above nonsense")
	}
	if err := seal.KeepMasterKey(path, stranger.ID()); err == nil {
		t.Error("a key was kept of a file with nonsense")
	}
	if got := read(t, path); got != strangerText+"nonsense\n" {
		t.Error("the file with nonsense was changed")
	}
	for name, change := range map[string]func(string) error{
		"add":  func(path string) error { _, err := seal.AddMasterKey(path); return err },
		"keep": func(path string) error { return seal.KeepMasterKey(path, first.ID()) },
	} {
		none := filepath.Join(folder, "none.key")
		if err := change(none); !errors.Is(err, seal.ErrNoMasterKey) {
			t.Errorf("%s without a file: got %v, want ErrNoMasterKey", name, err)
		}
		if _, err := os.Stat(none); err == nil {
			t.Errorf("%s made a file", name)
		}
	}
}

// Whoever reads the file while it changes sees all of the old keys or all of the
// new ones.
func TestKeyFileIsNeverHalf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	first, err := seal.MakeMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		var seen error
		for seen == nil && ctx.Err() == nil {
			_, seen = seal.FileKeys(path)(ctx)
		}
		watched <- seen
	}()
	last := first
	for range 20 {
		if last, err = seal.AddMasterKey(path); err == nil {
			err = seal.KeepMasterKey(path, last.ID())
		}
		if err != nil {
			t.Error(err)
			break
		}
	}
	cancel()
	if err := <-watched; err != nil {
		t.Errorf("while it changed, the file was not one of keys: %v", err)
	}
	wantKeys(t, "at the end", seal.FileKeys(path), last.ID())
}
