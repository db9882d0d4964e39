package grahak_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak"
)

// Requests have the same canonical form if they say the same, and only then:
// what tells them apart is any value, whether it is given, and to which field it
// belongs.
func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	pairs := func(p ...grahak.MetadataPair) grahak.CustomerInput {
		return grahak.CustomerInput{Metadata: grahak.MetadataInput{Pairs: p}}
	}
	var forms []string
	for _, in := range []grahak.CustomerInput{
		{},
		{Reference: given("")},
		{Reference: given("a")},
		{Reference: given("ab")},
		{Reference: given("a"), MobileNumber: given("b")},
		{Reference: grahak.Input{Given: true, Malformed: true}},
		{Reference: grahak.Input{Value: "a", Given: true, Malformed: true}},
		{Reference: given("\x01\x01a")},
		{MobileNumber: given("a")},
		{MobileCountryCode: given("a")},
		{Email: given("a")},
		{FirstName: given("a")},
		{LastName: given("a")},
		{Metadata: grahak.MetadataInput{Whole: given("a")}},
		{Metadata: grahak.MetadataInput{Whole: given("")}},
		{Metadata: grahak.MetadataInput{Whole: given(""), Pairs: []grahak.MetadataPair{{Key: "a", Value: "b"}}}},
		pairs(grahak.MetadataPair{Key: "a", Value: "b"}),
		pairs(grahak.MetadataPair{Key: "a", Value: "bc"}),
		pairs(grahak.MetadataPair{Key: "ab", Value: "c"}),
		pairs(grahak.MetadataPair{Key: "a"}),
		pairs(grahak.MetadataPair{Key: "a", Malformed: true}),
		pairs(grahak.MetadataPair{Key: "a", Value: "b"}, grahak.MetadataPair{Key: "b", Value: "a"}),
		pairs(grahak.MetadataPair{Key: "a", Value: "a"}, grahak.MetadataPair{Key: "b", Value: "b"}),
	} {
		form := string(in.AppendCanonical(nil))
		if i := slices.Index(forms, form); i >= 0 {
			t.Errorf("%+v has the same form as request %d", in, i)
		}
		forms = append(forms, form)
	}

	same := [][]grahak.MetadataPair{
		{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}},
		{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}},
		{{Key: "b", Value: "2"}, {Key: "b", Value: "3"}, {Key: "a", Value: "1"}, {Key: "a", Malformed: true}},
	}
	want := pairs(same[0]...).AppendCanonical([]byte("before"))
	for _, p := range same[1:] {
		before := slices.Clone(p)
		diff(t, "the form of the same pairs in another order", string(want), string(pairs(p...).AppendCanonical([]byte("before"))))
		diff(t, "the pairs afterwards", before, p)
	}
}

// Requests of one canonical form have one effect.
func TestCanonicalFormDecides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := anyProfile().Draw(t, "profile")
		in := anyInput().Draw(t, "request")
		shuffled := in
		shuffled.Metadata.Pairs = rapid.Permutation(in.Metadata.Pairs).Draw(t, "order")
		if string(in.AppendCanonical(nil)) != string(shuffled.AppendCanonical(nil)) {
			return // The first of equal keys is another one now.
		}
		a, _, errA := base.Apply(in)
		b, _, errB := base.Apply(shuffled)
		if d := cmp.Diff(a, b); d != "" || (errA == nil) != (errB == nil) {
			t.Fatalf("requests of one form do different things: %v, %v\n%s", errA, errB, d)
		}
	})
}
