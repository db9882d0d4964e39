package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"grahak/internal/seal"
)

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
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(content), "\n")); err != nil || len(raw) != 32 {
		t.Errorf("the file is not the base64 of 32 bytes and a line end: %v", err)
	}
	read, err := seal.ReadMasterKey(path)
	if err != nil || read.ID() != made.ID() {
		t.Errorf("reading the key gives another one: %v", err)
	}

	// A key that exists is never written over: what is sealed under it would be lost.
	if _, err := seal.MakeMasterKey(path); err == nil {
		t.Error("a second key was made over the first")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the file changed: %v", err)
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

func TestReadMasterKey(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if _, err := seal.ReadMasterKey(filepath.Join(folder, "master.key")); !errors.Is(err, seal.ErrNoMasterKey) {
		t.Errorf("a file that does not exist: got %v, want ErrNoMasterKey", err)
	}
	if _, err := seal.ReadMasterKey(folder); err == nil || errors.Is(err, seal.ErrNoMasterKey) {
		t.Errorf("a folder: got %v, want an error of its own", err)
	}
	empty := filepath.Join(folder, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadMasterKey(empty); err == nil || errors.Is(err, seal.ErrNoMasterKey) {
		t.Errorf("an empty file: got %v, want an error of its own", err)
	}
}

func TestParseMasterKey(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0x01}, 8) // Its base64 has both + and /.
	text := base64.StdEncoding.EncodeToString(raw)
	want, err := seal.ParseMasterKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"a line end":             text + "\n",
		"a line end of Windows":  text + "\r\n",
		"white space all around": " \t\n" + text + " \n\n",
	} {
		k, err := seal.ParseMasterKey([]byte(form))
		if err != nil || k.ID() != want.ID() {
			t.Errorf("with %s: got %v, want the same key", name, err)
		}
	}
	if strings.Contains(hex.EncodeToString(raw), want.ID()) {
		t.Errorf("the id %s is part of the key", want.ID())
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
		"something before it":  "key=" + text,
		"something after it":   text + "A",
		"two keys":             text + "\n" + text,
		"a sentence":           "correct horse battery staple correct horse bat",
	} {
		k, err := seal.ParseMasterKey([]byte(form))
		if err == nil || k != nil {
			t.Errorf("%s: it was taken for a key", name)
			continue
		}
		for n := 0; n+6 <= len(form); n++ {
			if part := form[n : n+6]; strings.TrimSpace(part) == part && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error %q shows %q of it", name, err, part)
			}
		}
	}
}
