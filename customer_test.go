package grahak_test

import (
	"slices"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak"
)

// anyValue draws a field's value: often a good one, often nearly one, sometimes
// anything.
func anyValue(f grahak.Field) *rapid.Generator[string] {
	good := map[grahak.Field]string{
		grahak.FieldReference:         `.{1,130}`,
		grahak.FieldMobileNumber:      `[0-9]{1,16}`,
		grahak.FieldMobileCountryCode: `[+ ]?[0-9]{1,4}`,
		grahak.FieldEmail:             `[a-zअ-ह0-9+._-]{1,8}@[a-z.]{1,8}`,
		grahak.FieldFirstName:         `[\p{L}\p{M} ]{1,66}`,
		grahak.FieldLastName:          `[\p{L}\p{M} ]{1,66}`,
	}[f]
	bytes := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) })
	return rapid.OneOf(
		rapid.StringMatching(good),
		rapid.StringMatching(good),
		rapid.StringMatching(`[ \t+@._a0-]{0,5}`),
		rapid.String(),
		bytes,
	)
}

// anyInput draws a request in which each field may be absent, given or
// malformed.
func anyInput() *rapid.Generator[grahak.CustomerInput] {
	return rapid.Custom(func(t *rapid.T) grahak.CustomerInput {
		var in grahak.CustomerInput
		for _, f := range profileFields {
			if !rapid.Bool().Draw(t, f.String()+" is given") {
				continue
			}
			*input(&in, f) = grahak.Input{
				Value:     anyValue(f).Draw(t, f.String()),
				Given:     true,
				Malformed: rapid.IntRange(0, 9).Draw(t, f.String()+" is malformed if 0") == 0,
			}
		}
		if rapid.Bool().Draw(t, "metadata is given") {
			in.Metadata = anyMetadata().Draw(t, "metadata")
		}
		return in
	})
}

// anyProfile draws a profile that a create made.
func anyProfile() *rapid.Generator[grahak.Profile] {
	return rapid.Custom(func(t *rapid.T) grahak.Profile {
		in := anyInput().Filter(func(in grahak.CustomerInput) bool {
			_, err := grahak.NewProfile(withRequired(in), "91")
			return err == nil
		}).Draw(t, "request")
		p, _ := grahak.NewProfile(withRequired(in), "91")
		return p
	})
}

// withRequired sets the required fields of in that are absent.
func withRequired(in grahak.CustomerInput) grahak.CustomerInput {
	if !in.Reference.Given {
		in.Reference = given("ref")
	}
	if !in.MobileNumber.Given {
		in.MobileNumber = given("1")
	}
	return in
}

// asInput is the request that says what p holds.
func asInput(p grahak.Profile) grahak.CustomerInput {
	var in grahak.CustomerInput
	for _, f := range profileFields {
		*input(&in, f) = given(value(p, f))
	}
	for key, text := range p.Metadata.All() {
		in.Metadata.Pairs = append(in.Metadata.Pairs, grahak.MetadataPair{Key: key, Value: text})
	}
	return in
}

// What a create accepts has the promised form, and is accepted again as it is.
func TestNewProfileAcceptsItsResult(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyProfile().Draw(t, "profile")
		limits := map[grahak.Field]int{
			grahak.FieldReference: 128, grahak.FieldMobileNumber: 16, grahak.FieldMobileCountryCode: 4,
			grahak.FieldEmail: 128, grahak.FieldFirstName: 64, grahak.FieldLastName: 64,
		}
		for f, limit := range limits {
			v := value(p, f)
			if !utf8.ValidString(v) || utf8.RuneCountInString(v) > limit || slices.ContainsFunc([]rune(v), unicode.IsControl) {
				t.Fatalf("%s is %q", f, v)
			}
		}
		if p.Reference == "" || p.MobileNumber == "" || p.MobileCountryCode == "" {
			t.Fatalf("a field that is always set is not: %+v", p)
		}
		again, err := grahak.NewProfile(asInput(p), "977")
		if d := cmp.Diff(p, again); d != "" || err != nil {
			t.Fatalf("the profile is not its own request (-first +again): %v\n%s", err, d)
		}
		same, changed, err := p.Apply(asInput(p))
		if d := cmp.Diff(p, same); d != "" || err != nil || changed != nil {
			t.Fatalf("an update with what is stored changes %v: %v\n%s", changed, err, d)
		}
	})
}

// Both ways refuse a field for itself alone, whatever the other fields hold.
func TestFieldsAreJudgedAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput().Draw(t, "request")
		base := anyProfile().Draw(t, "profile")
		var badCreate, badUpdate []grahak.Field
		for _, f := range allFields {
			alone := minimal()
			put(&alone, in, f)
			if _, err := grahak.NewProfile(alone, "91"); err != nil {
				badCreate = append(badCreate, f)
			}
			var update grahak.CustomerInput
			put(&update, in, f)
			if _, _, err := base.Apply(update); err != nil {
				badUpdate = append(badUpdate, f)
			}
		}
		_, err := grahak.NewProfile(in, "91")
		if d := cmp.Diff(badCreate, refusedFields(t, err)); d != "" {
			t.Errorf("create refuses other fields together than alone (-alone +together):\n%s", d)
		}
		_, _, err = base.Apply(in)
		if d := cmp.Diff(badUpdate, refusedFields(t, err)); d != "" {
			t.Errorf("update refuses other fields together than alone (-alone +together):\n%s", d)
		}
	})
}

// An update changes what is given and nothing else, reports exactly that, and
// changes nothing the second time.
func TestApply(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := anyProfile().Draw(t, "profile")
		in := anyInput().Draw(t, "request")
		after, changed, err := before.Apply(in)
		if err != nil {
			if d := cmp.Diff(before, after); d != "" || changed != nil {
				t.Fatalf("a refused update changes %v (-before +after):\n%s", changed, d)
			}
			return
		}
		var differ []grahak.Field
		for _, f := range allFields {
			if value(before, f) == value(after, f) {
				continue
			}
			differ = append(differ, f)
			if f == grahak.FieldReference || !isGiven(in, f) {
				t.Errorf("the update changes %s from %q to %q", f, value(before, f), value(after, f))
			}
		}
		if d := cmp.Diff(differ, changed); d != "" {
			t.Errorf("the changed fields are reported wrongly (-differ +reported):\n%s", d)
		}
		again, changed, err := after.Apply(in)
		if d := cmp.Diff(after, again); d != "" || changed != nil || err != nil {
			t.Errorf("the second time the update changes %v: %v\n%s", changed, err, d)
		}
		if again, err := grahak.NewProfile(asInput(after), "91"); err != nil || again != after {
			t.Errorf("a create refuses what an update made: %v\n%s", err, cmp.Diff(after, again))
		}
	})
}
