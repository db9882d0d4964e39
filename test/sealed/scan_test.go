package sealed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// scanner looks for planted values in bytes, in whatever way they may have been
// written there. Letter case never counts.
type scanner struct {
	// byStart has the needles by their first bytes.
	byStart map[[needleStart]byte][]needle
	values  int
}

// needle is a planted value in one encoding.
type needle struct {
	bytes    []byte
	encoding string
	what     string // was planted
}

// needleStart is the length of the shortest needle.
const needleStart = 8

func newScanner() *scanner { return &scanner{byStart: make(map[[needleStart]byte][]needle)} }

// plant makes the scanner look for a value.
func (s *scanner) plant(what, value string) string {
	s.values++
	// Only where letters become other bytes does their case change more than the
	// case of those.
	for _, spelling := range []string{value, strings.ToLower(value), strings.ToUpper(value)} {
		for encoding, text := range encodings(spelling) {
			s.add(needle{lower([]byte(text)), encoding, what})
		}
	}
	return value
}

func (s *scanner) add(n needle) {
	if len(n.bytes) < needleStart {
		panic(fmt.Sprintf("%s in %s is too short to be told from chance", n.what, n.encoding))
	}
	start := [needleStart]byte(n.bytes)
	if !slices.ContainsFunc(s.byStart[start], func(known needle) bool { return bytes.Equal(known.bytes, n.bytes) }) {
		s.byStart[start] = append(s.byStart[start], n)
	}
}

// encodings returns all that a value may look like.
func encodings(value string) map[string]string {
	var percent, little, big strings.Builder
	for _, b := range []byte(value) {
		fmt.Fprintf(&percent, "%%%02x", b)
	}
	for _, unit := range utf16.Encode([]rune(value)) {
		little.WriteByte(byte(unit))
		little.WriteByte(byte(unit >> 8))
		big.WriteByte(byte(unit >> 8))
		big.WriteByte(byte(unit))
	}
	inJSON, _ := json.Marshal(value)
	quoted := strconv.QuoteToASCII(value)
	all := map[string]string{
		"UTF-8":                    value,
		"a query":                  url.QueryEscape(value),
		"a path":                   url.PathEscape(value),
		"percent escapes":          percent.String(),
		"JSON":                     string(inJSON[1 : len(inJSON)-1]),
		"ASCII escapes":            quoted[1 : len(quoted)-1],
		"hexadecimal digits":       hex.EncodeToString([]byte(value)),
		"UTF-16, the low byte 1st": little.String(),
		"UTF-16":                   big.String(),
	}
	for shift := range 3 {
		// The characters at either end also depend on what stands beside the value.
		padded := append(make([]byte, shift, shift+len(value)), value...)
		from, to := (8*shift+5)/6, 8*len(padded)/6
		all[fmt.Sprintf("base64, %d bytes in", shift)] = base64.RawStdEncoding.EncodeToString(padded)[from:to]
		all[fmt.Sprintf("base64 for URLs, %d bytes in", shift)] = base64.RawURLEncoding.EncodeToString(padded)[from:to]
	}
	return all
}

// lower returns b with the capital letters of ASCII made small.
func lower(b []byte) []byte {
	low := bytes.Clone(b)
	for i, c := range low {
		if 'A' <= c && c <= 'Z' {
			low[i] = c + 'a' - 'A'
		}
	}
	return low
}

// scan returns what of the planted values is in content, each once.
func (s *scanner) scan(content []byte) (found []string) {
	low := lower(content)
	for i := 0; i+needleStart <= len(low); i++ {
		for _, n := range s.byStart[[needleStart]byte(low[i:])] {
			if bytes.HasPrefix(low[i:], n.bytes) {
				found = append(found, n.what+", in "+n.encoding)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// wantNothing fails the test if anything planted is in content.
func (s *scanner) wantNothing(t *testing.T, where string, content []byte) {
	t.Helper()
	for _, found := range s.scan(content) {
		t.Errorf("%s holds %s", where, found)
	}
}

// MustReadFolder returns the content of every file in a folder and below, by
// its path in there. A socket has none.
func MustReadFolder(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Type() == fs.ModeSocket {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("the folder %s has %d files (%v)", dir, len(files), err)
	}
	return files
}

// The scanner finds what is there, however it is written and whatever stands
// beside it.
func TestScanner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	surrounded := map[string]func(before, value, after string) string{
		"as it is":      func(b, v, a string) string { return b + v + a },
		"big letters":   func(b, v, a string) string { return b + strings.ToUpper(v) + a },
		"small letters": func(b, v, a string) string { return b + strings.ToLower(v) + a },
		"query":         func(b, v, a string) string { return url.QueryEscape(b + v + a) },
		"path":          func(b, v, a string) string { return url.PathEscape(b + v + a) },
		"JSON": func(b, v, a string) string {
			text, _ := json.Marshal(b + v + a)
			return string(text)
		},
		"Go":      func(b, v, a string) string { return fmt.Sprintf("%+q", b+v+a) },
		"hex":     func(b, v, a string) string { return fmt.Sprintf("%x", b+v+a) },
		"big hex": func(b, v, a string) string { return fmt.Sprintf("%X", b+v+a) },
		"base64":  func(b, v, a string) string { return base64.StdEncoding.EncodeToString([]byte(b + v + a)) },
		"base64 of big": func(b, v, a string) string {
			return base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(b + v + a)))
		},
		"base64 in URLs": func(b, v, a string) string { return base64.RawURLEncoding.EncodeToString([]byte(b + v + a)) },
		"UTF-16 LE": func(b, v, a string) string {
			text, _ := binary.Append(nil, binary.LittleEndian, utf16.Encode([]rune(b+v+a)))
			return string(text)
		},
		"UTF-16 BE": func(b, v, a string) string {
			text, _ := binary.Append(nil, binary.BigEndian, utf16.Encode([]rune(b+v+a)))
			return string(text)
		},
	}
	for _, value := range []string{"canary0001z", "731000000042", "Cänary <0002> & Söhne", "канарейка+0003/x@example.com", "gk_sandbox_AbCdEfGhIjKlMnOp", "金丝雀0004"} {
		s, others := newScanner(), newScanner()
		s.plant("the value", value)
		others.plant("the value", value[1:]+"?")
		for name, write := range surrounded {
			for _, beside := range []string{"", "x", "yy", "zzz", "Name: "} {
				path := filepath.Join(dir, "scratch")
				text := write(beside, value, beside)
				content := slices.Concat(noise, []byte(text), noise[:len(beside)])
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if found := s.scan(MustReadFolder(t, dir)["scratch"]); len(found) == 0 {
					t.Errorf("%q is not found in %s, where it stands as %q", value, name, text)
				}
				if found := others.scan(content); len(found) != 0 {
					t.Errorf("in %q something else is found: %q", text, found)
				}
			}
		}
		if found := s.scan(noise); len(found) != 0 {
			t.Errorf("in noise something is found: %q", found)
		}
	}
}
