package seal

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// The layout of a profile is stored, so it is written down here byte by byte.
func TestProfileLayout(t *testing.T) {
	t.Parallel()
	full := grahak.Profile{Reference: "r", MobileCountryCode: "91", MobileNumber: "7", Email: "e@e", FirstName: "ü", LastName: "l", Metadata: MustMetadata(t, "k", "v", "ü", "v ü")}
	for name, c := range map[string]struct {
		profile grahak.Profile
		want    string
	}{
		"every field":                         {full, "\x01\x01r\x02\x0291\x03\x017\x04\x03e@e\x05\x02ü\x06\x01l\x07\x10\x00\x01k\x00\x01v\x00\x02ü\x00\x04v ü"},
		"every field that there was at first": {grahak.Profile{Reference: "r", MobileCountryCode: "91", MobileNumber: "7", Email: "e@e", FirstName: "ü", LastName: "l"}, "\x01\x01r\x02\x0291\x03\x017\x04\x03e@e\x05\x02ü\x06\x01l"},
		"the reference alone":                 {grahak.Profile{Reference: "r"}, "\x01\x01r"},
		"unset fields left out":               {grahak.Profile{Reference: "r", LastName: "l"}, "\x01\x01r\x06\x01l"},
		"a length of two bytes":               {grahak.Profile{Reference: string(bytes.Repeat([]byte{'a'}, 200))}, "\x01\xc8\x01" + string(bytes.Repeat([]byte{'a'}, 200))},
		"a length of 128":                     {grahak.Profile{Reference: string(bytes.Repeat([]byte{'a'}, 128))}, "\x01\x80\x01" + string(bytes.Repeat([]byte{'a'}, 128))},
		"nothing but the prefix":              {grahak.Profile{}, ""},
	} {
		if got := appendProfile([]byte("before"), c.profile); string(got) != "before"+c.want {
			t.Errorf("%s: got %q, want %q", name, got, "before"+c.want)
		}
		if c.want == "" {
			continue
		}
		got, err := parseProfile([]byte(c.want))
		if d := cmp.Diff(c.profile, got); d != "" || err != nil {
			t.Errorf("%s: parsed with %v (-want +got):\n%s", name, err, d)
		}
	}
}

// MustMetadata returns metadata of keys and their values, one after another.
func MustMetadata(tb testing.TB, pairs ...string) grahak.Metadata {
	tb.Helper()
	in := grahak.CustomerInput{}
	for i := 0; i < len(pairs); i += 2 {
		in.Metadata.Pairs = append(in.Metadata.Pairs, grahak.MetadataPair{Key: pairs[i], Value: pairs[i+1]})
	}
	p, _, err := grahak.Profile{}.Apply(in)
	if err != nil {
		tb.Fatal(err)
	}
	return p.Metadata
}

func TestParseProfileRefuses(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"nothing":                    "",
		"no reference":               "\x04\x03e@e",
		"an empty reference":         "\x01\x00",
		"a field of a newer version": "\x01\x01r\x08\x01x",
		"tag 0":                      "\x01\x01r\x00\x01x",
		"a tag without a length":     "\x01\x01r\x02",
		"a length without an end":    "\x01\xff",
		"a length without a value":   "\x01\x01",
		"a value that is cut short":  "\x01\x05ref",
		"a length of more than fits": "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01r",
		"a length of eleven bytes":   "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01r",
		"a length that overflows":    "\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7fr",
		"a byte too many":            "\x01\x01rx",
		"metadata that is none":      "\x01\x01r\x07\x01x",
		"metadata out of order":      "\x01\x01r\x07\x0c\x00\x01b\x00\x01v\x00\x01a\x00\x01v",
	} {
		if p, err := parseProfile([]byte(raw)); err == nil || p != (grahak.Profile{}) {
			t.Errorf("%s: got %+v, %v, want an error", name, p, err)
		}
	}
}

// FuzzParseProfile checks that any bytes are refused, or are a profile that is
// written and read again as the same.
func FuzzParseProfile(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		p, err := parseProfile(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("parsing changed its input")
		}
		if err != nil {
			if p != (grahak.Profile{}) {
				t.Fatalf("parseProfile(%q) = %+v, %v", raw, p, err)
			}
			return
		}
		if p.Reference == "" {
			t.Fatalf("parseProfile(%q) has no reference", raw)
		}
		written := appendProfile(nil, p)
		if len(written) > len(raw) {
			t.Fatalf("parseProfile(%q) = %+v, which is longer when written: %q", raw, p, written)
		}
		again, err := parseProfile(written)
		if err != nil || again != p {
			t.Fatalf("parseProfile(%q) = %+v, which reads again as %+v, %v", raw, p, again, err)
		}
	})
}
