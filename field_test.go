package grahak_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"grahak"
)

// profileFields are the fields that a request may name, in the order in which
// problems with them are reported.
var profileFields = []grahak.Field{
	grahak.FieldReference, grahak.FieldMobileNumber, grahak.FieldMobileCountryCode,
	grahak.FieldEmail, grahak.FieldFirstName, grahak.FieldLastName,
}

// allFields are those, and the one that is not a text.
var allFields = append(slices.Clone(profileFields), grahak.FieldMetadata)

// put copies what src says of f to dst.
func put(dst *grahak.CustomerInput, src grahak.CustomerInput, f grahak.Field) {
	if f == grahak.FieldMetadata {
		dst.Metadata = src.Metadata
		return
	}
	*input(dst, f) = *input(&src, f)
}

// isGiven reports whether in says anything of f.
func isGiven(in grahak.CustomerInput, f grahak.Field) bool {
	if f == grahak.FieldMetadata {
		return in.Metadata.Whole.Given || len(in.Metadata.Pairs) > 0
	}
	return input(&in, f).Given
}

// input returns the place of a field in a request.
func input(in *grahak.CustomerInput, f grahak.Field) *grahak.Input {
	switch f {
	case grahak.FieldReference:
		return &in.Reference
	case grahak.FieldMobileNumber:
		return &in.MobileNumber
	case grahak.FieldMobileCountryCode:
		return &in.MobileCountryCode
	case grahak.FieldEmail:
		return &in.Email
	case grahak.FieldFirstName:
		return &in.FirstName
	case grahak.FieldLastName:
		return &in.LastName
	}
	panic("a profile has no field " + f.String())
}

// value returns a field of a profile; equal values are equal fields.
func value(p grahak.Profile, f grahak.Field) string {
	switch f {
	case grahak.FieldReference:
		return p.Reference
	case grahak.FieldMobileNumber:
		return p.MobileNumber
	case grahak.FieldMobileCountryCode:
		return p.MobileCountryCode
	case grahak.FieldEmail:
		return p.Email
	case grahak.FieldFirstName:
		return p.FirstName
	case grahak.FieldLastName:
		return p.LastName
	case grahak.FieldMetadata:
		return p.Metadata.Text()
	}
	panic("a profile has no field " + f.String())
}

// failer is a test of any kind.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// refusedFields returns the fields that err refuses, none for nil; any other
// error fails the test.
func refusedFields(tb failer, err error) []grahak.Field {
	tb.Helper()
	if err == nil {
		return nil
	}
	var e *grahak.Error
	if !errors.As(err, &e) || e.Code != grahak.CodeInvalidField || len(e.Fields) == 0 {
		tb.Fatalf("got the error %v, want one that names refused fields", err)
	}
	return e.Fields
}

// minimal is a request with the required fields only.
func minimal() grahak.CustomerInput {
	return grahak.CustomerInput{Reference: given("ref"), MobileNumber: given("1")}
}

// stored is what an update starts from in these tests.
var stored = grahak.Profile{
	Reference: "ref", MobileNumber: "1", MobileCountryCode: "44",
	Email: "old@example.com", FirstName: "Old", LastName: "Older",
}

// fieldCase is a value of a field, what is kept of it, and whether it is refused.
type fieldCase struct {
	value   string
	want    string
	refused bool
}

func keeps(values ...string) (cases []fieldCase) {
	for _, v := range values {
		cases = append(cases, fieldCase{value: v, want: v})
	}
	return cases
}

func refuses(values ...string) (cases []fieldCase) {
	for _, v := range values {
		cases = append(cases, fieldCase{value: v, refused: true})
	}
	return cases
}

func join(lists ...[]fieldCase) (all []fieldCase) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// unprintable are texts that no field may hold: control characters of all
// kinds, and bytes that are not UTF-8.
var unprintable = []string{
	"a\x00b", "\x00", "a\x00", "a\nb", "a\tb", "a\r", "a\x1b", "a\x7fb", "\x7f", "a\u0080b", "a\u0085b", "a\u009f",
	"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "a\xf8b",
}

func TestFieldRules(t *testing.T) {
	t.Parallel()
	rep := strings.Repeat
	// text is what the rule of free text says with the given limit.
	text := func(limit int) []fieldCase {
		return join(
			keeps("a", "0", "-", " a", "a ", "  a b  ", "a/b?c=d&e#f%20", "O'Neil \"Bob\" <b>", "José", "कमला देवी", "李小龍", "אבג", "👩‍👩‍👧", "null", "undefined", "Null", "\u200b",
				rep("a", limit), rep("ü", limit), rep("क", limit), rep("𝔸", limit), " "+rep("a", limit-1)),
			refuses(rep("a", limit+1), rep("ü", limit+1), rep("क", limit+1), rep("𝔸", limit+1), rep("a", limit)+" ", rep("a", 100_000), rep("a", limit-1)+"\x00"),
			refuses(unprintable...),
		)
	}
	rules := map[grahak.Field][]fieldCase{
		grahak.FieldReference: join(text(128), keeps("customer@example.com", "+919988776655", "cst_om2l6ctlptxwxuzj")),
		grahak.FieldMobileNumber: join(
			keeps("0", "00", "0012", "9988776655", rep("9", 16)),
			refuses(rep("9", 17), "-9988776655", "+919988776655", " 9988776655", "9988776655 ", "99887 76655", "99887-76655", "12a", "1e5", "1.0", "0x1", "undefined", "null",
				"٠١٢", "९९", "９", "²"),
			refuses(unprintable...),
		),
		grahak.FieldMobileCountryCode: join(
			keeps("1", "91", "0091", "1234"),
			[]fieldCase{{value: "+91", want: "91"}, {value: " 91", want: "91"}, {value: "+1234", want: "1234"}, {value: " 1234", want: "1234"}},
			refuses("12345", "+12345", " 12345", "+", "++91", "+ 91", " +91", "  91", "91+", "91 ", "-91", "\t91", "\u00a091", "९१", "IN", "undefined", "null"),
			refuses(unprintable...),
		),
		grahak.FieldEmail: join(
			keeps("a@b", "customer@example.com", "a.b@example.com", "a_b@example.com", "a..b@example.com", "a__b@example.com", "A@B", "1@1",
				"-a-@example.com", "+@example.com", "a!#$%&'*+-/=?^_.{|}~`@example.com", "`a@example.com", "!a@example.com",
				"नाम@उदाहरण.भारत", "कमलादेवी@example.com", "用户@例子.广告", "квиточка@пошта.укр", "ü@ü.de", "e\u0301@example.com", "๑@example.com", "９@example.com",
				"a@-", "a@.", "a@[127.0.0.1]", "a@😀.example", "a@b_",
				rep("a", 126)+"@b", rep("क", 126)+"@b", "a@"+rep("𝔸", 126)),
			refuses(rep("a", 127)+"@b", rep("क", 127)+"@b", "a@"+rep("𝔸", 127),
				"a", "@", "@b", "a@", "a@@b", "a@b@c", "@a@b",
				"_a@b", "a_@b", ".a@b", "a.@b", "_@b", ".@b", "_a_@b", ".a.@b",
				"a b@c", " a@b", "a @b", "a@b ", "a@ b", "a@b c", "a@b\u00a0c", "a@b\u3000", "a\u00a0b@c",
				`"a"@b`, `a\b@c`, "a(b@c", "a)b@c", "a,b@c", "a:b@c", "a;b@c", "a<b@c", "a>b@c", "a[b@c", "a]b@c",
				"😀@b", "²@b", "€@b", "a\u200bb@c", "undefined", "null",
				"a\x00@b", "a@b\x00", "a@b\n", "a@\u0085b", "a\xff@b", "a@\xff"),
		),
		grahak.FieldFirstName: text(64),
		grahak.FieldLastName:  text(64),
	}
	for _, f := range profileFields {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			if len(rules[f]) == 0 {
				t.Fatal("there are no cases")
			}
			for _, c := range rules[f] {
				in := minimal()
				*input(&in, f) = given(c.value)
				p, err := grahak.NewProfile(in, "91")
				check(t, "create", f, c, p, err)
				if f == grahak.FieldReference {
					continue
				}
				var update grahak.CustomerInput
				*input(&update, f) = given(c.value)
				p, _, err = stored.Apply(update)
				check(t, "update", f, c, p, err)
			}
		})
	}
}

// check compares what became of one value.
func check(t *testing.T, action string, f grahak.Field, c fieldCase, p grahak.Profile, err error) {
	t.Helper()
	switch bad := refusedFields(t, err); {
	case c.refused:
		if len(bad) != 1 || bad[0] != f {
			t.Errorf("%s with %s %.50q: refused %v, want it refused", action, f, c.value, bad)
		}
	case bad != nil:
		t.Errorf("%s with %s %.50q: refused %v, want it kept", action, f, c.value, bad)
	case value(p, f) != c.want:
		t.Errorf("%s with %s %.50q: kept %.50q, want %.50q", action, f, c.value, value(p, f), c.want)
	}
}

// White space of every kind counts as empty: refused in a required field, and
// otherwise unset on create, cleared or unchanged in an update.
func TestBlankValues(t *testing.T) {
	t.Parallel()
	for _, blank := range []string{"", " ", "   ", "\t", "\r\n", "\u00a0", "\u3000\u2028 "} {
		for _, f := range profileFields {
			in := minimal()
			*input(&in, f) = given(blank)
			p, err := grahak.NewProfile(in, "91")
			bad := refusedFields(t, err)
			switch f {
			case grahak.FieldReference, grahak.FieldMobileNumber:
				diff(t, "create with blank "+f.String(), []grahak.Field{f}, bad)
			case grahak.FieldMobileCountryCode:
				diff(t, "create with blank "+f.String(), grahak.Profile{Reference: "ref", MobileNumber: "1", MobileCountryCode: "91"}, p)
			default:
				diff(t, "create with blank "+f.String(), "", value(p, f))
			}
			if bad != nil && f != grahak.FieldReference && f != grahak.FieldMobileNumber {
				t.Errorf("create with %s %q was refused: %v", f, blank, bad)
			}

			var update grahak.CustomerInput
			*input(&update, f) = given(blank)
			p, changed, err := stored.Apply(update)
			bad = refusedFields(t, err)
			switch f {
			case grahak.FieldReference, grahak.FieldMobileCountryCode:
				diff(t, "update with blank "+f.String(), stored, p)
				diff(t, "changes of an update with blank "+f.String(), []grahak.Field(nil), changed)
			case grahak.FieldMobileNumber:
				diff(t, "update with blank "+f.String(), []grahak.Field{f}, bad)
			default:
				diff(t, "update with blank "+f.String(), "", value(p, f))
				diff(t, "changes of an update with blank "+f.String(), []grahak.Field{f}, changed)
			}
		}
	}
}

// Fields that are not there are like empty ones on create, and leave an update
// alone.
func TestAbsentFields(t *testing.T) {
	t.Parallel()
	_, err := grahak.NewProfile(grahak.CustomerInput{}, "91")
	diff(t, "refused fields of an empty request", []grahak.Field{grahak.FieldReference, grahak.FieldMobileNumber}, refusedFields(t, err))

	p, err := grahak.NewProfile(minimal(), "977")
	diff(t, "a minimal profile", grahak.Profile{Reference: "ref", MobileNumber: "1", MobileCountryCode: "977"}, p)
	wantCode(t, err, "")

	p, changed, err := stored.Apply(grahak.CustomerInput{})
	diff(t, "an update of nothing", stored, p)
	diff(t, "changes of an update of nothing", []grahak.Field(nil), changed)
	wantCode(t, err, "")
}

// A malformed field is refused whatever its value, but a reference in an update
// is not looked at.
func TestMalformedFields(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "1"} {
		bad := grahak.Input{Value: text, Given: true, Malformed: true}
		for _, f := range profileFields {
			in := minimal()
			*input(&in, f) = bad
			_, err := grahak.NewProfile(in, "91")
			diff(t, "create with a malformed "+f.String(), []grahak.Field{f}, refusedFields(t, err))

			var want []grahak.Field
			if f != grahak.FieldReference {
				want = []grahak.Field{f}
			}
			var update grahak.CustomerInput
			*input(&update, f) = bad
			p, _, err := stored.Apply(update)
			diff(t, "update with a malformed "+f.String(), want, refusedFields(t, err))
			diff(t, "profile after that", stored, p)
		}
	}
}

// Several bad fields are named in the order of definition, and the error tells
// nothing of what they held.
func TestSeveralBadFields(t *testing.T) {
	t.Parallel()
	const canary = "canary\x00"
	all := grahak.CustomerInput{
		Reference: given(canary), MobileNumber: given(canary), MobileCountryCode: given(canary),
		Email: given(canary), FirstName: given(canary), LastName: given(canary),
		Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: canary, Value: canary}}},
	}
	_, err := grahak.NewProfile(all, "91")
	diff(t, "refused by create", allFields, refusedFields(t, err))
	if !strings.Contains(err.Error(), "reference") || strings.Contains(err.Error(), "canary") {
		t.Errorf("create says %q, want the first field's name and no value", err)
	}
	p, changed, err := stored.Apply(all)
	diff(t, "refused by update", allFields[1:], refusedFields(t, err))
	diff(t, "profile after that", stored, p)
	diff(t, "changes after that", []grahak.Field(nil), changed)
	if !strings.Contains(err.Error(), "mobile_number") || strings.Contains(err.Error(), "canary") {
		t.Errorf("update says %q, want the first field's name and no value", err)
	}

	// One bad field spoils the others' changes.
	p, _, err = stored.Apply(grahak.CustomerInput{MobileNumber: given("2"), Email: given("no address")})
	diff(t, "refused by an update that is half good", []grahak.Field{grahak.FieldEmail}, refusedFields(t, err))
	diff(t, "profile after that", stored, p)
}

func TestFieldNames(t *testing.T) {
	t.Parallel()
	for f := grahak.FieldReference; f <= grahak.FieldCreatedBefore; f++ {
		got, ok := grahak.ParseField(f.String())
		if !ok || got != f {
			t.Errorf("ParseField(%q) = %v, %v, want the field back", f, got, ok)
		}
	}
	for _, name := range []string{"", "Reference", "reference ", "unknown"} {
		if f, ok := grahak.ParseField(name); ok {
			t.Errorf("ParseField(%q) = %v, want none", name, f)
		}
	}
}
