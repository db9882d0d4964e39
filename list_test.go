package grahak_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"grahak"
)

// MustCrowd makes n customers of merchant m, a millisecond apart, and returns
// their references, newest first.
func (r *rig) MustCrowd(tb testing.TB, m grahak.MerchantID, n int) []string {
	tb.Helper()
	refs := make([]string, n)
	for i := range n {
		refs[n-1-i] = fmt.Sprintf("%s %03d", m, i)
		r.MustCreate(tb, m, person(refs[n-1-i]))
		r.clock.Advance(time.Millisecond)
	}
	return refs
}

// MustPage asks for a page of merchant m's customers.
func (r *rig) MustPage(tb testing.TB, m grahak.MerchantID, q grahak.ListQuery) grahak.CustomerPage {
	tb.Helper()
	page, err := r.Customers(tb.Context(), caller(m, grahak.ScopeRead), q)
	if err != nil {
		tb.Fatalf("list %+v: %v", q, err)
	}
	return page
}

func references(page grahak.CustomerPage) []string {
	var refs []string
	for _, c := range page.Customers {
		refs = append(refs, c.Reference)
	}
	return refs
}

func TestListPages(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	refs := r.MustCrowd(t, acme, 105)
	r.MustCrowd(t, rival, 3)
	for _, c := range []struct {
		limit, offset int
		want          []string
		more          bool
	}{
		{1, 0, refs[:1], true},
		{10, 0, refs[:10], true},
		{10, 7, refs[7:17], true},
		{10, 95, refs[95:], false},
		{10, 94, refs[94:104], true},
		{10, 100, refs[100:], false},
		{10, 104, refs[104:], false},
		{10, 105, nil, false},
		{10, 10_000, nil, false},
		{100, 0, refs[:100], true},
		{101, 0, refs[:100], true}, // More than 100 is 100.
		{1 << 30, 5, refs[5:], false},
	} {
		page := r.MustPage(t, acme, grahak.ListQuery{Limit: c.limit, Offset: c.offset})
		name := fmt.Sprintf("count %d, offset %d", c.limit, c.offset)
		diff(t, name, c.want, references(page))
		diff(t, name+": total", int64(105), page.Total)
		diff(t, name+": there is a next page", c.more, page.Next != "")
	}
	diff(t, "the rival's total", int64(3), r.MustPage(t, rival, grahak.ListQuery{Limit: 1}).Total)
	page := r.MustPage(t, acme, grahak.ListQuery{Limit: 1})
	diff(t, "a listed customer", r.MustCustomer(t, acme, refs[0]), page.Customers[0])

	empty := MustMerchantRig(t).MustPage(t, acme, grahak.ListQuery{Limit: 10})
	diff(t, "an empty list", grahak.CustomerPage{Customers: []grahak.Customer{}}, empty)
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCrowd(t, acme, 3)
	r.MustCrowd(t, rival, 3)
	own := r.MustPage(t, acme, grahak.ListQuery{Limit: 1}).Next
	foreign := r.MustPage(t, rival, grahak.ListQuery{Limit: 1}).Next
	if own == "" || foreign == "" {
		t.Fatal("there are no cursors to try")
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(own, "p"))
	if err != nil {
		t.Fatalf("the cursor %q is not base64 for URLs: %v", own, err)
	}
	// The letter in front keeps a command line from taking a cursor for a flag.
	encode := func(raw []byte) string { return "p" + base64.RawURLEncoding.EncodeToString(raw) }
	for _, c := range []struct {
		name  string
		query grahak.ListQuery
		want  []grahak.Field
	}{
		{"count 0", grahak.ListQuery{}, []grahak.Field{grahak.FieldCount}},
		{"count -1", grahak.ListQuery{Limit: -1}, []grahak.Field{grahak.FieldCount}},
		{"offset -1", grahak.ListQuery{Limit: 1, Offset: -1}, []grahak.Field{grahak.FieldOffset}},
		{"offset 10,001", grahak.ListQuery{Limit: 1, Offset: 10_001}, []grahak.Field{grahak.FieldOffset}},
		{"all wrong", grahak.ListQuery{Offset: -1, After: "x"}, []grahak.Field{grahak.FieldCount, grahak.FieldOffset, grahak.FieldCursor}},
		{"another merchant's cursor", grahak.ListQuery{Limit: 1, After: foreign}, []grahak.Field{grahak.FieldCursor}},
		{"an id as a cursor", grahak.ListQuery{Limit: 1, After: "cst_0000000000000000"}, []grahak.Field{grahak.FieldCursor}},
		{"an id without its proof", grahak.ListQuery{Limit: 1, After: encode(raw[8:])}, []grahak.Field{grahak.FieldCursor}},
		{"a proof without an id", grahak.ListQuery{Limit: 1, After: encode(raw[:8])}, []grahak.Field{grahak.FieldCursor}},
		{"an id that was cut short", grahak.ListQuery{Limit: 1, After: encode(raw[:len(raw)-1])}, []grahak.Field{grahak.FieldCursor}},
		{"an id that was made longer", grahak.ListQuery{Limit: 1, After: encode(append(raw[:len(raw):len(raw)], 'x'))}, []grahak.Field{grahak.FieldCursor}},
		{"a cursor without its letter", grahak.ListQuery{Limit: 1, After: own[1:]}, []grahak.Field{grahak.FieldCursor}},
		{"a space before the cursor", grahak.ListQuery{Limit: 1, After: " " + own}, []grahak.Field{grahak.FieldCursor}},
		{"a cursor of an older kind of base64", grahak.ListQuery{Limit: 1, After: own + "="}, []grahak.Field{grahak.FieldCursor}},
		{"far too much", grahak.ListQuery{Limit: 1, After: strings.Repeat("A", 1<<20)}, []grahak.Field{grahak.FieldCursor}},
		{"no text", grahak.ListQuery{Limit: 1, After: "\xff\x00"}, []grahak.Field{grahak.FieldCursor}},
	} {
		_, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), c.query)
		diff(t, "fields refused of "+c.name, c.want, refusedFields(t, err))
	}
	// Every bit of a cursor counts.
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		_, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 1, After: encode(raw)})
		if grahak.CodeOf(err) != grahak.CodeInvalidField {
			t.Errorf("a cursor whose bit %d was flipped: got %v", bit, err)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
}

// Paging by cursor sees every customer that was there at the start exactly
// once, whatever is made meanwhile, and any process can go on with it.
func TestPagingWhileOthersCreate(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	refs := r.MustCrowd(t, acme, 20)
	readers := []*rig{r, r.MustJoin(t)}
	rapid.Check(t, func(rt *rapid.T) {
		want := slices.Clone(refs)
		var seen []string
		var q grahak.ListQuery
		for page := 0; ; page++ {
			q.Limit = rapid.IntRange(1, 12).Draw(rt, "count")
			got := readers[page%2].MustPage(t, acme, q)
			seen = append(seen, references(got)...)
			if got.Total != int64(len(refs)) {
				t.Errorf("the total is %d, want %d", got.Total, len(refs))
			}
			if got.Next == "" {
				break
			}
			q.After = got.Next
			// Forty are enough to page through.
			if len(refs) < 40 && rapid.Bool().Draw(rt, "a customer is made") {
				ref := fmt.Sprint("new ", len(refs))
				r.MustCreate(t, acme, person(ref))
				r.clock.Advance(time.Millisecond)
				refs = append([]string{ref}, refs...)
			}
		}
		if !slices.Equal(want, seen) {
			rt.Fatalf("paging sees %q, want %q", seen, want)
		}
	})
}

// An offset counts from the cursor.
func TestOffsetAfterCursor(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	refs := r.MustCrowd(t, acme, 10)
	next := r.MustPage(t, acme, grahak.ListQuery{Limit: 3}).Next
	diff(t, "after three, skipping two", refs[5:9], references(r.MustPage(t, acme, grahak.ListQuery{Limit: 4, Offset: 2, After: next})))
}
