package grahak_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"grahak"
)

// MustOrder puts all events into their chains.
func (r *rig) MustOrder(tb testing.TB) {
	tb.Helper()
	if err := r.Order(tb.Context()); err != nil {
		tb.Fatalf("order: %v", err)
	}
}

// book is what a merchant's customers should be: a model of the service, kept by
// whoever makes the changes.
type book map[grahak.CustomerID]grahak.Customer

// page returns what a page should hold, and whether there should be another.
func (b book) page(q grahak.ListQuery, after grahak.CustomerID) (want []grahak.Customer, more bool) {
	want = []grahak.Customer{}
	for _, c := range slices.SortedFunc(maps.Values(b), func(x, y grahak.Customer) int { return cmp.Compare(y.ID, x.ID) }) {
		if (after == "" || c.ID < after) && fits(q.Filter, c) {
			want = append(want, c)
		}
	}
	want = want[min(q.Offset, len(want)):]
	more = len(want) > q.Limit
	return want[:min(q.Limit, len(want))], more
}

// fits says whether a valid filter chooses c.
func fits(f grahak.CustomerFilter, c grahak.Customer) bool {
	at := func(in grahak.Input) time.Time {
		t, err := time.Parse(time.RFC3339Nano, in.Value)
		if err != nil {
			panic(err)
		}
		return t
	}
	return (!f.Reference.Given || f.Reference.Value == c.Reference) &&
		(!f.Email.Given || strings.EqualFold(f.Email.Value, c.Email)) &&
		(!f.MobileNumber.Given || f.MobileNumber.Value == c.MobileNumber) &&
		(!f.MobileCountryCode.Given || strings.TrimLeft(f.MobileCountryCode.Value, "+ ") == c.MobileCountryCode) &&
		(!f.CreatedFrom.Given || !c.CreatedAt.Before(at(f.CreatedFrom))) &&
		(!f.CreatedBefore.Given || c.CreatedAt.Before(at(f.CreatedBefore)))
}

// Addresses that are equal but for letter case stand together. The K of the third
// is the sign of the unit, which lower case makes an ASCII letter.
var addresses = []string{"k@example.com", "K@Example.COM", "\u212a@example.com", "é@example.com", "É@EXAMPLE.com", "kk@example.com"}

var numbers = []string{"100", "0100", "200"}

// drawPerson returns what a request says of a customer's searchable fields. Every
// one is given.
func drawPerson(rt *rapid.T) grahak.CustomerInput {
	return grahak.CustomerInput{
		MobileNumber:      given(rapid.SampledFrom(numbers).Draw(rt, "number")),
		MobileCountryCode: given(rapid.SampledFrom([]string{"91", "1"}).Draw(rt, "code")),
		Email:             given(rapid.SampledFrom(append([]string{""}, addresses...)).Draw(rt, "address")),
	}
}

// drawFilter returns a filter that is often satisfied by some of b.
func (b book) drawFilter(rt *rapid.T) (f grahak.CustomerFilter) {
	some := func(name string, of ...string) grahak.Input {
		if rapid.IntRange(0, 2).Draw(rt, name+" is given") > 0 {
			return grahak.Input{}
		}
		return given(rapid.SampledFrom(of).Draw(rt, name))
	}
	f.Email = some("address", addresses...)
	f.MobileNumber = some("number", numbers...)
	if f.MobileNumber.Given {
		f.MobileCountryCode = some("code", "91", "+91", " 1", "44")
	}
	references, times := []string{"nobody"}, []string{"2026-03-17T14:13:37Z"}
	for _, c := range slices.SortedFunc(maps.Values(b), func(x, y grahak.Customer) int { return cmp.Compare(x.ID, y.ID) }) {
		references = append(references, c.Reference)
		for _, apart := range []time.Duration{0, time.Microsecond, -time.Microsecond, time.Nanosecond, -time.Nanosecond} {
			at := c.CreatedAt.Add(apart)
			times = append(times, at.Format(time.RFC3339Nano), at.In(time.FixedZone("", 19800)).Format(time.RFC3339Nano))
		}
	}
	if rapid.IntRange(0, 3).Draw(rt, "reference is given") == 0 {
		f.Reference = some("reference", references...)
	}
	f.CreatedFrom, f.CreatedBefore = some("from", times...), some("before", times...)
	return f
}

// Pages are compared with a model, one after the other, while customers are made,
// changed and erased and events are put in order in between: each holds exactly
// what it should, so a walk neither skips nor repeats a customer that exists
// throughout, and every total is exact. Two processes serve the pages in turn.
func TestPagesAgainstModel(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	services := []*rig{r, r.MustJoin(t)}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := grahak.MerchantID(fmt.Sprint("m-", round))
		if _, err := r.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			rt.Fatal(err)
		}
		b, made := make(book), 0
		writer := func() *rig { return services[rapid.IntRange(0, 1).Draw(rt, "process")] }
		pick := func() grahak.Customer {
			ids := slices.Sorted(maps.Keys(b))
			return b[ids[rapid.IntRange(0, len(ids)-1).Draw(rt, "customer")]]
		}
		mutate := func() {
			kind := rapid.SampledFrom([]string{"create", "create", "update", "update", "erase", "order"}).Draw(rt, "change")
			switch {
			case kind == "order":
				if err := writer().Order(t.Context()); err != nil {
					rt.Fatal(err)
				}
			case kind == "create" || len(b) == 0:
				in := drawPerson(rt)
				made++
				in.Reference = given(fmt.Sprint("ref ", made))
				r.clock.Advance(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 400}).Draw(rt, "microseconds")) * time.Microsecond)
				result, err := writer().CreateCustomer(t.Context(), caller(m, grahak.ScopeWrite), in, grahak.WriteOptions{})
				if err != nil {
					rt.Fatal(err)
				}
				b[result.Customer.ID] = result.Customer
			case kind == "update":
				result, err := writer().UpdateCustomer(t.Context(), caller(m, grahak.ScopeWrite), pick().Reference, drawPerson(rt), grahak.WriteOptions{})
				if err != nil {
					rt.Fatal(err)
				}
				b[result.Customer.ID] = result.Customer
			default:
				erased, err := writer().EraseCustomer(t.Context(), caller(m, grahak.ScopeWrite), pick().Reference, grahak.WriteOptions{})
				if err != nil {
					rt.Fatal(err)
				}
				delete(b, erased.Customer)
			}
		}
		for range rapid.IntRange(0, 14).Draw(rt, "changes before") {
			mutate()
		}
		before, touched := maps.Clone(b), make(map[grahak.CustomerID]bool)
		q := grahak.ListQuery{Filter: b.drawFilter(rt), Limit: rapid.IntRange(1, 5).Draw(rt, "count"), Offset: rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(rt, "offset")}
		skipped := q.Offset
		seen := make(map[grahak.CustomerID]int)
		var after grahak.CustomerID
		for number := 0; ; number++ {
			if number > 100 {
				rt.Fatal("there is always another page")
			}
			want, more := b.page(q, after)
			got, err := services[number%2].Customers(t.Context(), caller(m, grahak.ScopeRead), q)
			if err != nil {
				rt.Fatalf("page %d of %+v: %v", number, q, err)
			}
			if d := gocmp.Diff(want, got.Customers); d != "" {
				rt.Fatalf("page %d of %+v (-want +got):\n%s", number, q, d)
			}
			if got.Total != int64(len(b)) || (got.Next != "") != more {
				rt.Fatalf("page %d of %+v has a total of %d and the next page %q, want %d, and a next one: %t", number, q, got.Total, got.Next, len(b), more)
			}
			for _, c := range got.Customers {
				seen[c.ID]++
				after = c.ID
			}
			if !more {
				break
			}
			q.After, q.Offset = got.Next, 0
			for range rapid.IntRange(0, 3).Draw(rt, "changes between") {
				mutate()
			}
			for id, c := range before {
				touched[id] = touched[id] || b[id] != c
			}
		}
		for id, c := range before {
			if want := fits(q.Filter, c); !touched[id] && skipped == 0 && (seen[id] == 1) != want || seen[id] > 1 {
				rt.Errorf("customer %s, which the filter chooses: %t, was seen %d times", id, want, seen[id])
			}
		}
	})
}

// Everybody who lists sees each refused filter named, in the order of fields.
func TestFiltersRefused(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	malformed := grahak.Input{Given: true, Malformed: true}
	number := given("9988776655")
	wrong := grahak.CustomerFilter{
		Reference: malformed, Email: malformed, MobileNumber: malformed,
		MobileCountryCode: malformed, CreatedFrom: malformed, CreatedBefore: malformed,
	}
	for name, c := range map[string]struct {
		filter grahak.CustomerFilter
		want   []grahak.Field
	}{
		"an empty reference":            {grahak.CustomerFilter{Reference: given("")}, []grahak.Field{grahak.FieldReference}},
		"a blank reference":             {grahak.CustomerFilter{Reference: given(" \t")}, []grahak.Field{grahak.FieldReference}},
		"a long reference":              {grahak.CustomerFilter{Reference: given(strings.Repeat("a", 129))}, []grahak.Field{grahak.FieldReference}},
		"a reference that is no text":   {grahak.CustomerFilter{Reference: given("\xff")}, []grahak.Field{grahak.FieldReference}},
		"a malformed reference":         {grahak.CustomerFilter{Reference: malformed}, []grahak.Field{grahak.FieldReference}},
		"an empty address":              {grahak.CustomerFilter{Email: given("")}, []grahak.Field{grahak.FieldEmail}},
		"an address without a domain":   {grahak.CustomerFilter{Email: given("asha")}, []grahak.Field{grahak.FieldEmail}},
		"a malformed address":           {grahak.CustomerFilter{Email: malformed}, []grahak.Field{grahak.FieldEmail}},
		"an empty number":               {grahak.CustomerFilter{MobileNumber: given("")}, []grahak.Field{grahak.FieldMobileNumber}},
		"a number with a plus":          {grahak.CustomerFilter{MobileNumber: given("+91998877")}, []grahak.Field{grahak.FieldMobileNumber}},
		"a long number":                 {grahak.CustomerFilter{MobileNumber: given("12345678901234567")}, []grahak.Field{grahak.FieldMobileNumber}},
		"a malformed number":            {grahak.CustomerFilter{MobileNumber: malformed}, []grahak.Field{grahak.FieldMobileNumber}},
		"a country code alone":          {grahak.CustomerFilter{MobileCountryCode: given("91")}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"a country code and an address": {grahak.CustomerFilter{MobileCountryCode: given("91"), Email: given("a@example.com")}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"a long country code":           {grahak.CustomerFilter{MobileNumber: number, MobileCountryCode: given("12345")}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"an empty country code":         {grahak.CustomerFilter{MobileNumber: number, MobileCountryCode: given("")}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"a country code that is a plus": {grahak.CustomerFilter{MobileNumber: number, MobileCountryCode: given("+")}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"a malformed country code":      {grahak.CustomerFilter{MobileNumber: number, MobileCountryCode: malformed}, []grahak.Field{grahak.FieldMobileCountryCode}},
		"a code with a bad number":      {grahak.CustomerFilter{MobileNumber: given("x"), MobileCountryCode: given("91")}, []grahak.Field{grahak.FieldMobileNumber}},
		"an empty time":                 {grahak.CustomerFilter{CreatedFrom: given("")}, []grahak.Field{grahak.FieldCreatedAfter}},
		"a date":                        {grahak.CustomerFilter{CreatedFrom: given("2026-03-17")}, []grahak.Field{grahak.FieldCreatedAfter}},
		"a time without an offset":      {grahak.CustomerFilter{CreatedBefore: given("2026-03-17T14:13:37")}, []grahak.Field{grahak.FieldCreatedBefore}},
		"a number of seconds":           {grahak.CustomerFilter{CreatedBefore: given("1773756817")}, []grahak.Field{grahak.FieldCreatedBefore}},
		"the 30th of February":          {grahak.CustomerFilter{CreatedBefore: given("2026-02-30T00:00:00Z")}, []grahak.Field{grahak.FieldCreatedBefore}},
		"a malformed time":              {grahak.CustomerFilter{CreatedFrom: malformed}, []grahak.Field{grahak.FieldCreatedAfter}},
		"a space in the middle":         {grahak.CustomerFilter{CreatedFrom: given("2026-03-17 14:13:37Z")}, []grahak.Field{grahak.FieldCreatedAfter}},
		"a plus that became two spaces": {grahak.CustomerFilter{CreatedFrom: given("2026-03-17T14:13:37  05:30")}, []grahak.Field{grahak.FieldCreatedAfter}},
		"all wrong":                     {wrong, []grahak.Field{grahak.FieldReference, grahak.FieldMobileNumber, grahak.FieldMobileCountryCode, grahak.FieldEmail, grahak.FieldCreatedAfter, grahak.FieldCreatedBefore}},
		"what no value may hold":        {grahak.CustomerFilter{Reference: given("a\x00b"), Email: given("a b@example.com")}, []grahak.Field{grahak.FieldReference, grahak.FieldEmail}},
	} {
		_, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 1, Filter: c.filter})
		diff(t, "fields refused of "+name, c.want, refusedFields(t, err))
	}
	everything := grahak.ListQuery{Offset: -1, After: "x", Filter: wrong}
	_, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), everything)
	diff(t, "fields refused of everything at once", []grahak.Field{
		grahak.FieldReference, grahak.FieldMobileNumber, grahak.FieldMobileCountryCode, grahak.FieldEmail,
		grahak.FieldCount, grahak.FieldOffset, grahak.FieldCursor, grahak.FieldCreatedAfter, grahak.FieldCreatedBefore,
	}, refusedFields(t, err))
	_, err = r.Customers(t.Context(), grahak.Caller{Merchant: acme}, everything)
	wantCode(t, err, grahak.CodeInsufficientScope)
}

// A filter finds one customer in the many forms in which people write a value,
// and only at its own merchant; what was changed or erased is found no more.
func TestFilters(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	asha := person("asha")
	asha.Email, asha.MobileNumber, asha.MobileCountryCode = given("Asha.K@Example.com"), given("5550100"), given("+44")
	want := r.MustCreate(t, acme, asha)
	r.clock.Advance(time.Second)
	others := r.MustCrowd(t, acme, 3)
	r.MustCreate(t, rival, asha)
	filters := func() map[string]grahak.CustomerFilter {
		at := want.CreatedAt
		return map[string]grahak.CustomerFilter{
			"its reference":             {Reference: given("asha")},
			"its address":               {Email: given("Asha.K@Example.com")},
			"its address in upper case": {Email: given("ASHA.K@EXAMPLE.COM")},
			"its address in lower case": {Email: given("asha.k@example.com")},
			"its address with another K": {
				Email: given("asha.\u212a@example.com"),
			},
			"its number":                          {MobileNumber: given("5550100")},
			"its number and country code":         {MobileNumber: given("5550100"), MobileCountryCode: given("44")},
			"a country code with a plus":          {MobileNumber: given("5550100"), MobileCountryCode: given("+44")},
			"a country code with a space":         {MobileNumber: given("5550100"), MobileCountryCode: given(" 44")},
			"everything":                          {Reference: given("asha"), Email: given("asha.k@example.com"), MobileNumber: given("5550100"), MobileCountryCode: given("44"), CreatedFrom: given(at.Format(time.RFC3339Nano))},
			"the microsecond it was made in":      {CreatedFrom: given(at.Format(time.RFC3339Nano)), CreatedBefore: given(at.Add(time.Microsecond).Format(time.RFC3339Nano))},
			"a time in another zone":              {CreatedBefore: given(at.Add(time.Second).In(time.FixedZone("", 19800)).Format(time.RFC3339))},
			"a zone whose plus became a space":    {CreatedBefore: given(strings.Replace(at.Add(time.Second).In(time.FixedZone("", 19800)).Format(time.RFC3339), "+", " ", 1))},
			"a nanosecond after it":               {CreatedBefore: given(at.Add(time.Nanosecond).Format(time.RFC3339Nano))},
			"the first year and the last of time": {CreatedFrom: given("0001-01-01T00:00:00Z"), CreatedBefore: given("9999-12-31T23:59:59Z"), Reference: given("asha")},
		}
	}
	list := func(f grahak.CustomerFilter) []string {
		t.Helper()
		page := r.MustPage(t, acme, grahak.ListQuery{Limit: 100, Filter: f})
		diff(t, "the total, whatever the filter", int64(4), page.Total)
		return references(page)
	}
	for _, state := range []string{"before it is in order", "in order"} {
		for name, f := range filters() {
			diff(t, name+", "+state, []string{"asha"}, list(f))
		}
		for name, f := range map[string]grahak.CustomerFilter{
			"a reference in other case":      {Reference: given("Asha")},
			"a reference and a blank":        {Reference: given("asha ")},
			"a part of its address":          {Email: given("asha@example.com")},
			"another country code":           {MobileNumber: given("5550100"), MobileCountryCode: given("91")},
			"a number with its country code": {MobileNumber: given("445550100")},
			"a part of its number":           {MobileNumber: given("555010")},
			"its reference and a number":     {Reference: given("asha"), MobileNumber: given("9988776655")},
			"its address and a time":         {Email: given("asha.k@example.com"), CreatedFrom: given(want.CreatedAt.Add(time.Microsecond).Format(time.RFC3339Nano))},
			"the nanosecond after it":        {Email: given("asha.k@example.com"), CreatedFrom: given(want.CreatedAt.Add(time.Nanosecond).Format(time.RFC3339Nano))},
			"the moment it was made":         {CreatedBefore: given(want.CreatedAt.Format(time.RFC3339Nano))},
			"no time at all":                 {CreatedFrom: given("2026-03-18T00:00:00Z"), CreatedBefore: given("2026-03-17T00:00:00Z")},
			"the first moment of time":       {CreatedBefore: given("0001-01-01T00:00:00Z")},
			"the moment before that":         {CreatedBefore: given("0000-12-31T23:59:59Z")},
			"its id":                         {Reference: given(string(want.ID))},
		} {
			diff(t, name+", "+state, []string(nil), list(f))
		}
		diff(t, "since the first year, "+state, append(slices.Clone(others), "asha"), list(grahak.CustomerFilter{CreatedFrom: given("0001-01-01T00:00:00Z")}))
		diff(t, "after it, "+state, others, list(grahak.CustomerFilter{CreatedFrom: given(want.CreatedAt.Add(time.Second).Format(time.RFC3339Nano))}))
		r.MustOrder(t)
	}

	// Every customer has the number of others; those who have it before the
	// change are found by the new one after it.
	_, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "asha", grahak.CustomerInput{Email: given("new@example.com"), MobileNumber: given("777")}, grahak.WriteOptions{})
	wantCode(t, err, "")
	for _, state := range []string{"before it is in order", "in order"} {
		diff(t, "its old address, "+state, []string(nil), list(grahak.CustomerFilter{Email: given("asha.k@example.com")}))
		diff(t, "its old number, "+state, []string(nil), list(grahak.CustomerFilter{MobileNumber: given("5550100")}))
		diff(t, "its new address, "+state, []string{"asha"}, list(grahak.CustomerFilter{Email: given("NEW@example.com")}))
		diff(t, "its new number, "+state, []string{"asha"}, list(grahak.CustomerFilter{MobileNumber: given("777")}))
		r.MustOrder(t)
	}
	diff(t, "the rival's, with the same values", "asha", r.MustPage(t, rival, grahak.ListQuery{Limit: 1, Filter: grahak.CustomerFilter{Email: given("asha.k@example.com")}}).Customers[0].Reference)
}

// A search that would have to open very many customers for a page gives up on it
// and says where to go on. Whatever it opens at once, nobody is skipped or seen
// twice.
func TestSearchIsBounded(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const customers, scan = 320, 150
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := w; i < customers; i += 8 {
				in := person(fmt.Sprint(i))
				in.MobileCountryCode = given("1")
				if _, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), in, grahak.WriteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	// Some of the newer half and the oldest are of the country that is asked for.
	var all, want []string
	for q := (grahak.ListQuery{Limit: 100}); ; {
		page := r.MustPage(t, acme, q)
		all = append(all, references(page)...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	for i, ref := range all {
		if i < customers/2 && i%7 == 3 || i == customers-1 {
			want = append(want, ref)
			_, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, grahak.CustomerInput{MobileCountryCode: given("91")}, grahak.WriteOptions{})
			wantCode(t, err, "")
		}
	}
	filter := grahak.CustomerFilter{MobileNumber: given("9988776655"), MobileCountryCode: given("91")}
	for _, state := range []string{"before they are in order", "in order"} {
		for _, limit := range []int{1, 3, 4, 100} {
			var seen []string
			q := grahak.ListQuery{Limit: limit, Filter: filter}
			r.SetMaxScan(scan)
			pages, short := 0, 0
			for more := true; more; pages++ {
				page := r.MustPage(t, acme, q)
				diff(t, "the total", int64(customers), page.Total)
				seen = append(seen, references(page)...)
				q.After, more = page.Next, page.Next != ""
				if more && len(page.Customers) < limit {
					short++
				}
				if pages > customers {
					t.Fatal("there is always another page")
				}
			}
			name := fmt.Sprintf("%d a page, %s", limit, state)
			diff(t, "the customers found, "+name, want, seen)
			// A page that begins with the newest and wants all comes to the bound.
			if limit == 100 && short == 0 || short > 1+customers/scan {
				t.Errorf("%s: %d of %d pages were given up early", name, short, pages)
			}
		}
		// With enough patience it is one page, from wherever it begins.
		r.SetMaxScan(customers + 2*grahak.MaxPage)
		for _, offset := range []int{0, 1, 3, 20} {
			page := r.MustPage(t, acme, grahak.ListQuery{Limit: 100, Offset: offset, Filter: filter})
			diff(t, fmt.Sprintf("one page from %d, %s", offset, state), want[offset:], references(page))
			diff(t, "the page after it", "", page.Next)
		}
		r.MustOrder(t)
	}
}

// FoldCase is to texts what equality but for letter case is to pairs of them.
func TestFoldCase(t *testing.T) {
	t.Parallel()
	// Every letter there is, with all its forms.
	for letter := rune(0); letter <= unicode.MaxRune; letter++ {
		if !utf8.ValidRune(letter) {
			continue
		}
		folded := grahak.FoldCase(string(letter))
		if other := string(unicode.SimpleFold(letter)); grahak.FoldCase(other) != folded || !strings.EqualFold(folded, string(letter)) || grahak.FoldCase(folded) != folded {
			t.Errorf("%U folds to %+q, and %+q to %+q", letter, folded, other, grahak.FoldCase(other))
		}
	}
	letters := rapid.OneOf(
		rapid.SampledFrom([]rune("aAkKsS\u212aſéÉßẞσςΣiİıI1@.\u007f")),
		rapid.RuneFrom(nil, unicode.Letter),
		rapid.Rune(),
	)
	rapid.Check(t, func(rt *rapid.T) {
		a := []rune(rapid.StringOfN(letters, 0, 8, -1).Draw(rt, "a"))
		b := slices.Clone(a)
		for i := range b {
			for range rapid.IntRange(0, 3).Draw(rt, "turns") {
				b[i] = unicode.SimpleFold(b[i])
			}
		}
		if len(b) > 0 && rapid.Bool().Draw(rt, "another letter") {
			b[rapid.IntRange(0, len(b)-1).Draw(rt, "which")] = letters.Draw(rt, "letter")
		}
		x, y := string(a), string(b)
		if got, want := grahak.FoldCase(x) == grahak.FoldCase(y), strings.EqualFold(x, y); got != want {
			rt.Fatalf("%+q and %+q fold alike: %t, and are equal but for letter case: %t", x, y, got, want)
		}
	})
}
