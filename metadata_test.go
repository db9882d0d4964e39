package grahak_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak"
)

// anyMetadata draws what a request may say of metadata: often few keys out of
// few, so that requests meet; often so many that the limit is near; sometimes
// anything.
func anyMetadata() *rapid.Generator[grahak.MetadataInput] {
	bytes := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) })
	good := rapid.Custom(func(t *rapid.T) grahak.MetadataPair {
		return grahak.MetadataPair{
			Key:   rapid.StringMatching(`[a-cक\[\]]{1,2}`).Draw(t, "key"),
			Value: rapid.StringMatching(`[x-z \x{3000}]{0,3}`).Draw(t, "value"),
		}
	})
	anything := rapid.Custom(func(t *rapid.T) grahak.MetadataPair {
		return grahak.MetadataPair{
			Key:       rapid.OneOf(rapid.StringMatching(`[a-c ]{0,2}`), rapid.StringMatching(`[aक]{38,42}`), rapid.String(), bytes).Draw(t, "any key"),
			Value:     rapid.OneOf(rapid.StringMatching(`[aक]{498,502}`), rapid.String(), bytes).Draw(t, "any value"),
			Malformed: rapid.IntRange(0, 9).Draw(t, "malformed if 0") == 0,
		}
	})
	many := rapid.Map(rapid.IntRange(40, 55), func(n int) []grahak.MetadataPair {
		pairs := make([]grahak.MetadataPair, n)
		for i := range pairs {
			pairs[i] = grahak.MetadataPair{Key: fmt.Sprintf("k%02d", i), Value: "v"}
		}
		return pairs
	})
	return rapid.Custom(func(t *rapid.T) grahak.MetadataInput {
		var in grahak.MetadataInput
		switch rapid.IntRange(0, 8).Draw(t, "whole") {
		case 0:
			in.Whole = given(rapid.StringMatching(`[ \x{3000}]{0,2}`).Draw(t, "blank"))
		case 1:
			in.Whole = grahak.Input{Value: anyValue(grahak.FieldLastName).Draw(t, "whole value"), Given: true, Malformed: rapid.Bool().Draw(t, "whole is malformed")}
		}
		in.Pairs = rapid.OneOf(rapid.SliceOfN(good, 0, 9), rapid.SliceOfN(good, 0, 9), rapid.SliceOfN(anything, 0, 3), many).Draw(t, "pairs")
		return in
	})
}

// wantMetadata is what in makes of old, by the rules' words and with a map; nil if it is
// refused.
func wantMetadata(old map[string]string, in grahak.MetadataInput) map[string]string {
	blank := func(s string) bool { return strings.TrimSpace(s) == "" }
	text := func(s string, limit int) bool {
		return utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && !slices.ContainsFunc([]rune(s), unicode.IsControl)
	}
	next := maps.Clone(old)
	if in.Whole.Given {
		if in.Whole.Malformed || !blank(in.Whole.Value) {
			return nil
		}
		clear(next)
	}
	met := make(map[string]bool)
	for _, p := range in.Pairs {
		switch {
		case met[p.Key]:
		case p.Malformed, blank(p.Key), !text(p.Key, 40), !blank(p.Value) && !text(p.Value, 500):
			return nil
		case blank(p.Value):
			delete(next, p.Key)
		default:
			next[p.Key] = p.Value
		}
		met[p.Key] = true
	}
	if len(next) > 50 {
		return nil
	}
	return next
}

// A request puts its keys over those there are, as a map would, and what comes
// of it survives being written down.
func TestMetadata(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := anyProfile().Draw(t, "profile")
		in := anyMetadata().Draw(t, "metadata")
		old := maps.Collect(before.Metadata.All())
		want := wantMetadata(old, in)
		after, changed, err := before.Apply(grahak.CustomerInput{Metadata: in})
		if want == nil {
			if bad := refusedFields(t, err); len(bad) != 1 || bad[0] != grahak.FieldMetadata || after != before {
				t.Fatalf("refused %v, want metadata; the profile is %+v, was %+v", bad, after, before)
			}
			return
		}
		if err != nil {
			t.Fatalf("the request was refused: %v", err)
		}
		if d := cmp.Diff(want, maps.Collect(after.Metadata.All())); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		if (len(changed) == 1 && changed[0] == grahak.FieldMetadata) == maps.Equal(old, want) || len(changed) > 1 {
			t.Fatalf("%v became %v, and the changes are %v", old, want, changed)
		}
		var keys []string
		for key := range after.Metadata.All() {
			keys = append(keys, key)
		}
		if !slices.IsSorted(keys) {
			t.Fatalf("the keys are not in order: %q", keys)
		}
		if again, ok := grahak.ParseMetadata(after.Metadata.Text()); !ok || again != after.Metadata || !again.Equal(after.Metadata) {
			t.Fatalf("%q is read as %q, %t", after.Metadata.Text(), again.Text(), ok)
		}
	})
}

// The rules at both of their sides.
func TestMetadataRules(t *testing.T) {
	t.Parallel()
	rep := strings.Repeat
	pair := func(key, value string) grahak.MetadataInput {
		return grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: key, Value: value}}}
	}
	numbered := func(from, to int, value string) (in grahak.MetadataInput) {
		for i := from; i < to; i++ {
			in.Pairs = append(in.Pairs, grahak.MetadataPair{Key: fmt.Sprintf("key %d", i), Value: value})
		}
		return in
	}
	good := map[string]grahak.MetadataInput{
		"a key of 40 letters":              pair(rep("k", 40), "v"),
		"a key of 40 code points":          pair(rep("क", 40), "v"),
		"a value of 500 letters":           pair("k", rep("v", 500)),
		"a value of 500 large code points": pair("k", rep("😀", 500)),
		"any script and sign":              pair(`"k" [a].b/c\`, `क "v" <b> 😀\`),
		"spaces around them":               pair(" k ", " v "),
		"50 keys":                          numbered(0, 50, "v"),
	}
	bad := map[string]grahak.MetadataInput{
		"a key of 41 letters":              pair(rep("k", 41), "v"),
		"a key of 41 code points":          pair(rep("क", 41), "v"),
		"an empty key":                     pair("", "v"),
		"a blank key":                      pair(" \u3000", "v"),
		"a value of 501 letters":           pair("k", rep("v", 501)),
		"a value of 501 large code points": pair("k", rep("😀", 501)),
		"51 keys":                          numbered(0, 51, "v"),
		"a text for the whole":             {Whole: given("{}")},
		"no text for the whole":            {Whole: grahak.Input{Given: true, Malformed: true}},
		"a value that is none":             {Pairs: []grahak.MetadataPair{{Key: "k", Malformed: true}}},
		// It could not be there.
		"a long key to remove": pair(rep("k", 41), ""),
	}
	for _, text := range unprintable {
		bad[fmt.Sprintf("the key %q", text)] = pair(text, "v")
		if strings.TrimSpace(text) != "" {
			bad[fmt.Sprintf("the value %q", text)] = pair("k", text)
		}
	}
	for name, in := range good {
		request := minimal()
		request.Metadata = in
		p, err := grahak.NewProfile(request, "91")
		wantCode(t, err, "")
		want := wantMetadata(map[string]string{}, in)
		diff(t, "create with "+name, want, maps.Collect(p.Metadata.All()))
		if len(want) == 0 {
			t.Errorf("%s: nothing is expected, so this shows nothing", name)
		}
	}
	for name, in := range bad {
		request := minimal()
		request.Metadata = in
		_, err := grahak.NewProfile(request, "91")
		diff(t, "create with "+name, []grahak.Field{grahak.FieldMetadata}, refusedFields(t, err))
		_, _, err = stored.Apply(grahak.CustomerInput{Metadata: in})
		diff(t, "update with "+name, []grahak.Field{grahak.FieldMetadata}, refusedFields(t, err))
	}

	// Of many equal keys, too, the first counts.
	var often grahak.MetadataInput
	for i := range 400 {
		often.Pairs = append(often.Pairs, grahak.MetadataPair{Key: fmt.Sprintf("key %d", i%40), Value: fmt.Sprint(i)})
	}
	p, _, err := stored.Apply(grahak.CustomerInput{Metadata: often})
	wantCode(t, err, "")
	diff(t, "400 pairs of 40 keys", wantMetadata(map[string]string{}, often), maps.Collect(p.Metadata.All()))

	// The limit is on what is there afterwards.
	full, _, err := stored.Apply(grahak.CustomerInput{Metadata: numbered(0, 50, "v")})
	wantCode(t, err, "")
	for _, tt := range []struct {
		name    string
		in      grahak.MetadataInput
		refused bool
	}{
		{"one more", numbered(50, 51, "v"), true},
		{"another value", numbered(0, 50, "w"), false},
		{"a removal of one that is not there", numbered(50, 51, ""), false},
		{"one more for one", grahak.MetadataInput{Pairs: append(numbered(50, 51, "v").Pairs, numbered(0, 1, "").Pairs...)}, false},
		{"50 others after all were cleared", grahak.MetadataInput{Whole: given(""), Pairs: numbered(50, 100, "v").Pairs}, false},
		{"removals of more than there are", numbered(0, 200, ""), false},
	} {
		p, _, err := full.Apply(grahak.CustomerInput{Metadata: tt.in})
		if bad := refusedFields(t, err); (len(bad) > 0) != tt.refused || tt.refused && p != full {
			t.Errorf("%s over 50 keys: refused %v, want it refused: %t", tt.name, bad, tt.refused)
		}
	}
}

// Only what Text returns is read.
func TestParseMetadata(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"":                                      true,
		"\x00\x01k\x00\x01v":                    true,
		"\x00\x01a\x00\x01v\x00\x02ab\x00\x01v": true,
		"\x00":                                  false,
		"\x00\x01":                              false,
		"\x00\x01k":                             false,
		"\x00\x01k\x00":                         false,
		"\x00\x01k\x00\x00":                     false,
		"\x00\x01k\x00\x02v":                    false,
		"\x00\x00\x00\x01v":                     false,
		"\xff\xffk\x00\x01v":                    false,
		"\x00\x01k\x00\x01v\x00":                false,
		"\x00\x01k\x00\x01v\x00\x01k\x00\x01v":  false,
		"\x00\x01b\x00\x01v\x00\x01a\x00\x01v":  false,
		"\x00\x01a\x00\x01v\x00\x00\x00\x01v":   false,
		"\x00\x01a\x00\x01v\x00\x01b\x00\x00":   false,
		"\x00\x01a\x00\x01v\x00\x01b\x01\x00tooshort": false,
	} {
		m, got := grahak.ParseMetadata(text)
		if got != ok || ok && m.Text() != text || !ok && m != (grahak.Metadata{}) {
			t.Errorf("ParseMetadata(%q) = %q, %t, want %t", text, m.Text(), got, ok)
		}
	}
}

// An update of metadata is one change with one event, or none if all is there
// already; and metadata is in lists, in what is found, and gone with the customer.
func TestMetadataOfCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	c := caller(acme, grahak.ScopeWrite)
	pairs := func(p ...string) (in grahak.MetadataInput) {
		for i := 0; i < len(p); i += 2 {
			in.Pairs = append(in.Pairs, grahak.MetadataPair{Key: p[i], Value: p[i+1]})
		}
		return in
	}
	in := person("ref")
	in.Metadata = pairs("plan", "gold", "note", "", "crm", "7")
	created := r.MustCreate(t, acme, in)
	diff(t, "created", map[string]string{"plan": "gold", "crm": "7"}, maps.Collect(created.Metadata.All()))
	diff(t, "read", created, r.MustCustomer(t, acme, "ref"))

	update := func(in grahak.CustomerInput) grahak.Customer {
		t.Helper()
		result, err := r.UpdateCustomer(t.Context(), c, "ref", in, grahak.WriteOptions{})
		wantCode(t, err, "")
		return result.Customer
	}
	events := r.MustEvents(t, acme)
	for name, in := range map[string]grahak.MetadataInput{
		"what is stored":      pairs("crm", "7", "plan", "gold"),
		"a part of it":        pairs("plan", "gold"),
		"all of it anew":      {Whole: given(" "), Pairs: pairs("plan", "gold", "crm", "7").Pairs},
		"a removal of nobody": pairs("note", "", "other", " "),
	} {
		diff(t, "an update with "+name, created, update(grahak.CustomerInput{Metadata: in}))
	}
	diff(t, "events of updates that change nothing", events, r.MustEvents(t, acme))

	changed := update(grahak.CustomerInput{Metadata: pairs("plan", "", "a", "1", "b", "2")})
	diff(t, "updated", map[string]string{"a": "1", "b": "2", "crm": "7"}, maps.Collect(changed.Metadata.All()))
	cleared := update(grahak.CustomerInput{Metadata: grahak.MetadataInput{Whole: given("")}, Email: given("new@example.com")})
	diff(t, "cleared", grahak.Metadata{}, cleared.Metadata)
	var fields [][]grahak.Field
	for _, e := range r.MustEvents(t, acme)[len(events):] {
		fields = append(fields, e.Changed)
	}
	diff(t, "the changes", [][]grahak.Field{{grahak.FieldMetadata}, {grahak.FieldEmail, grahak.FieldMetadata}}, fields)

	again := update(grahak.CustomerInput{Metadata: pairs("a", "1")})
	for name, q := range map[string]grahak.ListQuery{
		"listed": {Limit: 10},
		"found":  {Limit: 10, Filter: grahak.CustomerFilter{Email: given("new@example.com")}},
	} {
		page, err := r.Customers(t.Context(), c, q)
		wantCode(t, err, "")
		diff(t, name, []grahak.Customer{again}, page.Customers)
	}
	_, err := r.EraseCustomer(t.Context(), c, "ref", grahak.WriteOptions{})
	wantCode(t, err, "")
	diff(t, "made again", grahak.Metadata{}, r.MustCreate(t, acme, person("ref")).Metadata)
}

// Updates of different keys at the same time all land, until there are as many as
// there may be: then the others are refused, whichever process they are in.
func TestConcurrentMetadata(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	services := []*grahak.Service{r.Service, r.MustJoin(t).Service}
	errs := make([]error, 60)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			in := grahak.CustomerInput{Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: fmt.Sprint(i), Value: "v"}}}}
			_, errs[i] = services[i%2].UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", in, grahak.WriteOptions{})
		})
	}
	group.Wait()
	want := make(map[string]string)
	for i, err := range errs {
		if err == nil {
			want[fmt.Sprint(i)] = "v"
			continue
		}
		diff(t, "refused", []grahak.Field{grahak.FieldMetadata}, refusedFields(t, err))
	}
	diff(t, "how many landed", 50, len(want))
	diff(t, "what landed", want, maps.Collect(r.MustCustomer(t, acme, "ref").Metadata.All()))
}
