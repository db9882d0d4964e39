package grahak_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"grahak"
)

// row is a row of a file with a reference and a number.
func row(line int64, reference string) grahak.ImportRow {
	return grahak.ImportRow{Line: line, Customer: grahak.CustomerInput{Reference: given(reference), MobileNumber: given("9988776655")}}
}

// importer does the chunks of an import, one after the other.
type importer struct {
	*rig
	chunk grahak.ImportChunk
}

func (r *rig) importer(name string, rule grahak.OnDuplicate) *importer {
	return &importer{rig: r, chunk: grahak.ImportChunk{Import: name, OnDuplicate: rule}}
}

// MustImport does a chunk, which must be what a dry run has said before.
func (i *importer) MustImport(tb testing.TB, rows ...grahak.ImportRow) (grahak.ImportState, []grahak.ImportFault) {
	tb.Helper()
	check, err := i.NewImportCheck(operator(acme), i.chunk.OnDuplicate)
	if err != nil {
		tb.Fatal(err)
	}
	foreseen, err := check.Rows(tb.Context(), rows)
	if err != nil {
		tb.Fatal(err)
	}
	before, err := i.ImportState(tb.Context(), operator(acme), i.chunk.Import)
	if err != nil {
		tb.Fatal(err)
	}
	i.chunk.Rows = rows
	state, faults, err := i.ImportCustomers(tb.Context(), operator(acme), i.chunk)
	if err != nil {
		tb.Fatalf("import behind row %d: %v", i.chunk.After, err)
	}
	i.chunk.After += int64(len(rows))
	diff(tb, "the faults that a dry run foresaw", faults, foreseen)
	diff(tb, "the faults in the state", faults, state.LastFaults)
	if after := check.State(); before.Rows+after.Rows != state.Rows || before.Created+after.Created != state.Created ||
		before.Updated+after.Updated != state.Updated || before.Skipped+after.Skipped != state.Skipped || before.Rejected+after.Rejected != state.Rejected {
		tb.Errorf("after %+v a dry run foresaw %+v, and the state is %+v", before, after, state)
	}
	stored, err := i.ImportState(tb.Context(), operator(acme), i.chunk.Import)
	if err != nil {
		tb.Fatal(err)
	}
	diff(tb, "the stored state", state, stored)
	return state, faults
}

// counts are those of a state.
func counts(s grahak.ImportState) [5]int64 {
	return [5]int64{s.Rows, s.Created, s.Updated, s.Skipped, s.Rejected}
}

// reasons are the faults without what they are of.
func faultsOf(faults []grahak.ImportFault) (list []string) {
	for _, f := range faults {
		list = append(list, fmt.Sprintf("%d %s: %s", f.Line, f.Field, f.Reason))
	}
	return list
}

func TestImportKeepsWhatIsBrought(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	now := r.clock.Now().UTC().Truncate(time.Microsecond)
	full := grahak.ImportRow{
		Line: 2, ID: given("cth_Ab1"), Customer: person("full@example.com"),
		CreatedAt: given("2015-03-17T19:43:37.1234569+05:30"), UpdatedAt: given("2016-02-29T00:00:00Z"),
	}
	full.Customer.Metadata.Pairs = []grahak.MetadataPair{{Key: "tier", Value: "gold"}}
	at := func(line int64, reference, created, updated string) grahak.ImportRow {
		row := row(line, reference)
		row.CreatedAt, row.UpdatedAt = given(created), given(updated)
		return row
	}
	state, faults := r.importer("a", grahak.DuplicateFail).MustImport(
		t, full, row(3, "bare"), at(4, "created", "2024-01-01T00:00:00Z", ""), at(5, "updated", " ", "2023-01-01T00:00:00.5Z"), at(6, "ahead", now.Add(23*time.Hour).Format(time.RFC3339), ""),
		at(7, "old", "2000-01-01T00:00:00Z", ""),
	)
	diff(t, "faults", 0, len(faults))
	diff(t, "counts", [5]int64{6, 6, 0, 0, 0}, counts(state))
	for reference, want := range map[string]struct {
		id               string
		created, updated time.Time
	}{
		"full@example.com": {"cth_Ab1", time.Date(2015, 3, 17, 14, 13, 37, 123456000, time.UTC), time.Date(2016, 2, 29, 0, 0, 0, 0, time.UTC)},
		"bare":             {"", now, now},
		"created":          {"", time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)},
		"updated":          {"", time.Date(2023, 1, 1, 0, 0, 0, 500_000_000, time.UTC), time.Date(2023, 1, 1, 0, 0, 0, 500_000_000, time.UTC)},
		"ahead":            {"", now.Add(23 * time.Hour).Truncate(time.Second), now.Add(23 * time.Hour).Truncate(time.Second)},
		"old":              {"", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		got := r.MustCustomer(t, acme, reference)
		if !got.CreatedAt.Equal(want.created) || !got.UpdatedAt.Equal(want.updated) || want.id != "" && string(got.ID) != want.id || got.Revision != 1 {
			t.Errorf("%s: got %+v, want %+v", reference, got, want)
		}
		diff(t, "found by its id", got, r.MustCustomer(t, acme, string(got.ID)))
	}
	got := r.MustCustomer(t, acme, "cth_Ab1")
	diff(t, "metadata", map[string]string{"tier": "gold"}, maps.Collect(got.Metadata.All()))
	events := r.MustEvents(t, acme)
	for _, e := range events[1:] {
		if e.Type != grahak.EventCustomerCreated || e.Actor != "cli:tester" || !e.At.Equal(now) {
			t.Errorf("an event of the import is %+v", e)
		}
	}
	if len(events) != 7 {
		t.Errorf("there are %d events", len(events))
	}

	// A list has first those whose ids tell when they were made.
	var listed []string
	for after := ""; ; {
		page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 2, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Customers {
			listed = append(listed, c.Reference)
		}
		if page.Total != 6 {
			t.Errorf("the total is %d", page.Total)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	diff(t, "the list", []string{"ahead", "bare", "created", "updated", "full@example.com", "old"}, listed)
	page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 9, Filter: grahak.CustomerFilter{
		CreatedFrom: given("2014-01-01T00:00:00Z"), CreatedBefore: given("2024-01-01T00:00:00Z"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "a range of times", 2, len(page.Customers))
	for _, filter := range []grahak.CustomerFilter{
		{Email: given("Customer@example.com")},
		{MobileNumber: given("9988776655"), CreatedBefore: given("2016-01-01T00:00:00Z"), CreatedFrom: given("2015-01-01T00:00:00Z")},
	} {
		page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 9, Filter: filter})
		if err != nil || len(page.Customers) != 1 || page.Customers[0].ID != "cth_Ab1" {
			t.Errorf("found %+v, %v", page.Customers, err)
		}
	}
	if _, err := r.EraseCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "cth_Ab1", grahak.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = r.Customer(t.Context(), caller(acme, grahak.ScopeRead), "full@example.com", false)
	wantCode(t, err, grahak.CodeCustomerNotFound)
}

func TestImportRejects(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("there"))
	ahead := r.clock.Now().Add(24*time.Hour + time.Second).Format(time.RFC3339)
	long := strings.Repeat("a", 60)
	with := func(change func(*grahak.ImportRow)) grahak.ImportRow {
		row := row(0, "")
		row.Customer = person("someone@example.com")
		change(&row)
		return row
	}
	id := func(id string) grahak.ImportRow { return with(func(r *grahak.ImportRow) { r.ID = given(id) }) }
	times := func(created, updated string) grahak.ImportRow {
		return with(func(r *grahak.ImportRow) { r.CreatedAt, r.UpdatedAt = given(created), given(updated) })
	}
	const (
		badID    = `id: It is not "cst_" or "cth_" and 1 to 59 letters and digits behind that.`
		badTime  = "It is not a time such as 2020-03-17T14:13:37Z."
		farTime  = "It is before the year 2000, or more than a day ahead."
		badName  = "It has more than 64 characters, or such as cannot be printed."
		backward = "updated_at: It is before the time of creation."
	)
	var rows []grahak.ImportRow
	var want []string
	for i, c := range []struct {
		row  grahak.ImportRow
		want []string
	}{
		{grahak.ImportRow{Broken: "It has too few columns."}, []string{"row: It has too few columns."}},
		{with(func(r *grahak.ImportRow) { r.Customer.Reference = grahak.Input{} }), []string{"reference: It is missing."}},
		{with(func(r *grahak.ImportRow) { r.Customer.Reference.Malformed = true }), []string{"reference: It has more than 128 characters, or such as cannot be printed."}},
		{with(func(r *grahak.ImportRow) { r.Customer.MobileNumber = given(" ") }), []string{"mobile_number: It is missing."}},
		{with(func(r *grahak.ImportRow) {
			r.Customer.MobileNumber, r.Customer.Email, r.Customer.FirstName = given("+1"), given("x"), given(long+long)
		}), []string{"mobile_number: It is not 1 to 16 digits.", "email_address: It is not an e-mail address of at most 128 characters.", "first_name: " + badName}},
		{with(func(r *grahak.ImportRow) {
			r.Customer.MobileCountryCode, r.Customer.LastName = given("x"), given("\x00")
		}), []string{"mobile_country_code: It is not 1 to 4 digits.", "last_name: " + badName}},
		{with(func(r *grahak.ImportRow) { r.Customer.Reference = given("there") }), []string{"reference: A customer with this reference exists."}},
		{id("cst_"), []string{badID}},
		{id("cst_" + long), []string{badID}},
		{id("cus_abc"), []string{badID}},
		{id("cth_a b"), []string{badID}},
		{id("cth_é"), []string{badID}},
		{with(func(r *grahak.ImportRow) { r.ID.Malformed = true }), []string{badID}},
		{with(func(r *grahak.ImportRow) {
			r.ID, r.CreatedAt, r.Customer.Reference, r.Customer.MobileNumber, r.Customer.Email = given("x"), given("y"), given(""), given("z"), given("@")
		}), []string{
			badID, "created_at: " + badTime, "reference: It is missing.", "mobile_number: It is not 1 to 16 digits.",
			"email_address: It is not an e-mail address of at most 128 characters.",
		}},
		{times("yesterday", ""), []string{"created_at: " + badTime}},
		{times("2020-01-01 00:00:00", "2020-01-01"), []string{"created_at: " + badTime, "updated_at: " + badTime}},
		{times("1999-12-31T23:59:59.999999Z", ahead), []string{"created_at: " + farTime, "updated_at: " + farTime}},
		{times("2020-01-01T00:00:00Z", "2019-12-31T23:59:59Z"), []string{backward}},
		{id("cst_" + long[1:]), nil},
		{with(func(r *grahak.ImportRow) { r.ID, r.Customer.Reference = given("cst_"+long[1:]), given("another") }), []string{"id: Another customer has this id."}},
		{with(func(r *grahak.ImportRow) {
			r.ID, r.Customer.Reference = given("cst_"+strings.ToUpper(long[1:])), given("another")
		}), nil},
		{row(0, "someone@example.com"), []string{"reference: A customer with this reference exists."}},
	} {
		line := int64(i + 100)
		c.row.Line = line
		rows = append(rows, c.row)
		for _, fault := range c.want {
			want = append(want, fmt.Sprintf("%d %s", line, fault))
		}
	}
	state, faults := r.importer("a", grahak.DuplicateFail).MustImport(t, rows...)
	diff(t, "faults", want, faultsOf(faults))
	diff(t, "counts", [5]int64{22, 2, 0, 0, 20}, counts(state))
	if events := r.MustEvents(t, acme); len(events) != 1+1+2 {
		t.Errorf("there are %d events", len(events))
	}
}

func TestImportDuplicates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule                       grahak.OnDuplicate
		counts                     [5]int64
		faults                     []string
		names                      map[string]string // first names by reference
		revisions                  map[string]int64
		created, updated, rejected int
	}{
		{
			rule: grahak.DuplicateSkip, counts: [5]int64{8, 1, 0, 6, 1},
			faults:    []string{"8 mobile_number: It is missing."},
			names:     map[string]string{"old": "John", "new": "One"},
			revisions: map[string]int64{"old": 1, "new": 1},
		},
		{
			rule: grahak.DuplicateFail, counts: [5]int64{8, 1, 0, 0, 7},
			faults: []string{
				"1 reference: A customer with this reference exists.", "3 reference: A customer with this reference exists.", "4 reference: A customer with this reference exists.",
				"5 reference: A customer with this reference exists.", "6 reference: A customer with this reference exists.", "7 reference: A customer with this reference exists.",
				"8 mobile_number: It is missing.",
			},
			names:     map[string]string{"old": "John", "new": "One"},
			revisions: map[string]int64{"old": 1, "new": 1},
		},
		{
			rule: grahak.DuplicateUpdate, counts: [5]int64{8, 1, 3, 1, 3},
			faults: []string{
				"6 id: The customer with this reference has another id.", "7 email_address: It is not an e-mail address of at most 128 characters.", "8 mobile_number: It is missing.",
			},
			names:     map[string]string{"old": "Again", "new": "Two"},
			revisions: map[string]int64{"old": 3, "new": 2},
		},
	} {
		t.Run(string(c.rule), func(t *testing.T) {
			t.Parallel()
			r := MustMerchantRig(t)
			old := r.MustCreate(t, acme, person("old"))
			r.clock.Advance(time.Hour)
			named := func(line int64, reference, name string) grahak.ImportRow {
				return grahak.ImportRow{Line: line, Customer: grahak.CustomerInput{Reference: given(reference), FirstName: given(name)}}
			}
			first := row(2, "new")
			first.ID, first.Customer.FirstName = given("cth_new"), given("One")
			same := named(4, "new", "Two")
			same.ID = given("cth_new")
			otherID := named(6, "old", "Other")
			otherID.ID = given("cth_old")
			wrong := named(7, "old", "Wrong")
			wrong.Customer.Email = given("wrong")
			state, faults := r.importer("a", c.rule).MustImport(
				t, named(1, "old", "First"), first, named(3, "new", "Two"), same, named(5, "old", "Again"), otherID, wrong, named(8, "nobody", "Nobody"),
			)
			diff(t, "faults", c.faults, faultsOf(faults))
			diff(t, "counts", c.counts, counts(state))
			events := r.MustEvents(t, acme)
			for reference, name := range c.names {
				got := r.MustCustomer(t, acme, reference)
				if got.FirstName != name || got.Revision != c.revisions[reference] || got.MobileNumber != "9988776655" {
					t.Errorf("%s is %+v", reference, got)
				}
				// Every revision has its event.
				var revisions []int64
				for _, e := range events {
					if e.Subject == string(got.ID) {
						revisions = append(revisions, e.Revision)
						if e.Revision > 1 && (e.Type != grahak.EventCustomerUpdated || !slices.Equal(e.Changed, []grahak.Field{grahak.FieldFirstName})) {
							t.Errorf("an event of a change is %+v", e)
						}
					}
				}
				want := make([]int64, got.Revision)
				for i := range want {
					want[i] = int64(i + 1)
				}
				diff(t, "revisions of events", want, revisions)
			}
			if got := r.MustCustomer(t, acme, "old"); got.ID != old.ID || !got.CreatedAt.Equal(old.CreatedAt) || (got.Revision > 1) != got.UpdatedAt.After(old.UpdatedAt) {
				t.Errorf("the customer that was there is %+v", got)
			}
			// Once more: what was done is there.
			again, _ := r.importer("b", c.rule).MustImport(t, named(1, "old", "Again"))
			if again.Created != 0 || again.Rejected != 0 && c.rule != grahak.DuplicateFail {
				t.Errorf("the same once more: %+v", again)
			}
		})
	}
}

// TestImportChunks holds that chunks are done in their order and once, whatever
// order they are asked for in.
func TestImportChunks(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const chunks, size = 8, 25
	chunk := func(n int) grahak.ImportChunk {
		c := grahak.ImportChunk{Import: "many", After: int64(n * size), OnDuplicate: grahak.DuplicateFail, Last: n == chunks-1}
		for i := range size {
			c.Rows = append(c.Rows, row(int64(n*size+i+2), fmt.Sprintf("customer-%d@example.com", n*size+i)))
		}
		return c
	}
	errs := make(chan error, chunks)
	states := make([]grahak.ImportState, chunks)
	for n := chunks - 1; n >= 0; n-- {
		go func() {
			var err error
			states[n], _, err = r.ImportCustomers(t.Context(), operator(acme), chunk(n))
			errs <- err
		}()
	}
	for range chunks {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for n, state := range states {
		if state.Rows != int64((n+1)*size) || state.Created != state.Rows || state.Done != (n == chunks-1) {
			t.Errorf("after chunk %d the state is %+v", n, state)
		}
	}
	for name, c := range map[string]grahak.ImportChunk{
		"the first again": chunk(0), "the last again": chunk(chunks - 1), "one behind the end": {Import: "many", After: chunks * size, Last: true, OnDuplicate: grahak.DuplicateSkip},
	} {
		if _, _, err := r.ImportCustomers(t.Context(), operator(acme), c); grahak.CodeOf(err) != grahak.CodeImportConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := chunk(0)
	again.Restart, again.OnDuplicate = true, grahak.DuplicateSkip
	state, _, err := r.ImportCustomers(t.Context(), operator(acme), again)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "counts of the import that began anew", [5]int64{size, 0, 0, size, 0}, counts(state))
	page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 1})
	if err != nil || page.Total != chunks*size {
		t.Errorf("there are %d customers (%v)", page.Total, err)
	}
	// Another merchant's import of this name has not begun.
	other, err := r.ImportState(t.Context(), operator(rival), "many")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "the other merchant's", grahak.ImportState{ID: "many"}, other)
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	good := grahak.ImportChunk{Import: "a", Rows: []grahak.ImportRow{row(2, "one")}, OnDuplicate: grahak.DuplicateFail}
	for name, c := range map[string]struct {
		caller grahak.Caller
		change func(*grahak.ImportChunk)
		want   grahak.Code
	}{
		"a program":          {caller(acme, grahak.ScopeWrite), func(*grahak.ImportChunk) {}, grahak.CodeInsufficientScope},
		"an unknown one":     {operator("nobody"), func(*grahak.ImportChunk) {}, grahak.CodeMerchantNotFound},
		"no name":            {operator(acme), func(c *grahak.ImportChunk) { c.Import = "" }, grahak.CodeInvalidImport},
		"a long name":        {operator(acme), func(c *grahak.ImportChunk) { c.Import = strings.Repeat("x", 513) }, grahak.CodeInvalidImport},
		"no rule":            {operator(acme), func(c *grahak.ImportChunk) { c.OnDuplicate = "" }, grahak.CodeInvalidImport},
		"no rows":            {operator(acme), func(c *grahak.ImportChunk) { c.Rows = nil }, grahak.CodeInvalidImport},
		"too many rows":      {operator(acme), func(c *grahak.ImportChunk) { c.Rows = make([]grahak.ImportRow, grahak.MaxImportChunk+1) }, grahak.CodeInvalidImport},
		"before the first":   {operator(acme), func(c *grahak.ImportChunk) { c.After = -1 }, grahak.CodeInvalidImport},
		"anew in the middle": {operator(acme), func(c *grahak.ImportChunk) { c.After, c.Restart = 1, true }, grahak.CodeInvalidImport},
	} {
		chunk := good
		c.change(&chunk)
		_, _, err := r.ImportCustomers(t.Context(), c.caller, chunk)
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("%s: code %q (%v), want %q", name, got, err, c.want)
		}
	}
	_, err := r.ImportState(t.Context(), caller(acme, grahak.ScopeWrite), "a")
	wantCode(t, err, grahak.CodeInsufficientScope)
	_, err = r.NewImportCheck(caller(acme, grahak.ScopeWrite), grahak.DuplicateFail)
	wantCode(t, err, grahak.CodeInsufficientScope)
	_, err = r.NewImportCheck(operator(acme), "all")
	wantCode(t, err, grahak.CodeInvalidImport)
	if events := r.MustEvents(t, acme); len(events) != 1 {
		t.Errorf("what was refused left events: %+v", events[1:])
	}
}

// TestImportCheckRemembers holds that a dry run knows what its own rows would have
// made, chunks before, and that it makes nothing.
func TestImportCheckRemembers(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	for rule, want := range map[grahak.OnDuplicate][5]int64{
		grahak.DuplicateSkip:   {4, 1, 0, 2, 1},
		grahak.DuplicateFail:   {4, 1, 0, 0, 3},
		grahak.DuplicateUpdate: {4, 1, 2, 0, 1},
	} {
		check, err := r.NewImportCheck(operator(acme), rule)
		if err != nil {
			t.Fatal(err)
		}
		first, taken := row(2, "one"), row(4, "two")
		first.ID, taken.ID = given("cth_1"), given("cth_1")
		for _, row := range []grahak.ImportRow{first, row(3, "one"), taken, row(5, "one")} {
			if _, err := check.Rows(t.Context(), []grahak.ImportRow{row}); err != nil {
				t.Fatal(err)
			}
		}
		diff(t, string(rule), want, counts(check.State()))
	}
	if events := r.MustEvents(t, acme); len(events) != 1 {
		t.Errorf("a dry run left events: %+v", events[1:])
	}
}

// TestImportUnderRotation holds that chunks go on while the merchant's key changes
// in another process.
func TestImportUnderRotation(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	i := r.importer("a", grahak.DuplicateUpdate)
	i.MustImport(t, row(2, "one"))
	if _, _, err := other.RotateSeal(t.Context(), operator(acme)); err != nil {
		t.Fatal(err)
	}
	next := row(3, "one")
	next.Customer.FirstName = given("Asha")
	state, _ := i.MustImport(t, next, row(4, "two"))
	diff(t, "counts", [5]int64{3, 2, 1, 0, 0}, counts(state))
	records, err := r.store.CustomersAfter(t.Context(), acme, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if record.Sealed.Version != 2 {
			t.Errorf("%s is sealed under version %d", record.ID, record.Sealed.Version)
		}
	}
	if got := r.MustCustomer(t, acme, "one"); got.FirstName != "Asha" {
		t.Errorf("got %+v", got)
	}
}

// TestImportBesideCreates holds that a reference that others make at the same time is
// made once, and counted as what it is.
func TestImportBesideCreates(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const size, chunks = 20, 20
	reference := func(n int) string { return fmt.Sprintf("customer-%d@example.com", n) }
	made := make(chan int64)
	go func() {
		var n int64
		for i := size*chunks - 1; i >= 0; i-- {
			_, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person(reference(i)), grahak.WriteOptions{})
			switch grahak.CodeOf(err) {
			case "":
				n++
			case grahak.CodeDuplicateReference:
			default:
				t.Error(err)
			}
		}
		made <- n
	}()
	var state grahak.ImportState
	for n := range chunks {
		chunk := grahak.ImportChunk{Import: "a", After: int64(n * size), OnDuplicate: grahak.DuplicateUpdate}
		for i := range size {
			next := row(int64(n*size+i+2), reference(n*size+i))
			next.Customer.FirstName = given("Asha")
			chunk.Rows = append(chunk.Rows, next)
		}
		var err error
		if state, _, err = r.ImportCustomers(t.Context(), operator(acme), chunk); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, "counts", [5]int64{size * chunks, size*chunks - <-made, state.Updated, 0, 0}, counts(state))
	diff(t, "created and updated", int64(size*chunks), state.Created+state.Updated)
	for n := range size * chunks {
		if got := r.MustCustomer(t, acme, reference(n)); got.FirstName != "Asha" {
			t.Errorf("customer %d is %+v", n, got)
		}
	}
}

// TestImportOfAnExport holds that a customer made by a Grahak keeps its place in lists
// when it moves to another one, and that one whose id tells another time comes last.
func TestImportOfAnExport(t *testing.T) {
	t.Parallel()
	from, to := MustMerchantRig(t), MustMerchantRig(t)
	var want []string
	var rows []grahak.ImportRow
	for n := range 40 {
		// Ids of one moment run ahead of the clock.
		if n%10 == 0 {
			from.clock.Advance(time.Duration(n)*time.Hour + 777*time.Microsecond)
		}
		c := from.MustCreate(t, acme, person(fmt.Sprint(n)))
		next := grahak.ImportRow{
			Line: int64(n + 2), ID: given(string(c.ID)), Customer: person(c.Reference),
			CreatedAt: given(c.CreatedAt.Format(time.RFC3339Nano)), UpdatedAt: given(c.UpdatedAt.Format(time.RFC3339Nano)),
		}
		rows = append(rows, next)
	}
	to.clock.Advance(100 * time.Hour)
	// The fourth digit counts a quarter of an hour and more.
	earlier, later := rows[39], rows[39]
	earlier.Customer, later.Customer = person("earlier"), person("later")
	digit := len("cst_") + 3
	earlier.ID.Value = earlier.ID.Value[:digit] + "0" + earlier.ID.Value[digit+1:]
	later.ID.Value = later.ID.Value[:digit] + "z" + later.ID.Value[digit+1:]
	state, faults := to.importer("a", grahak.DuplicateFail).MustImport(t, append(slices.Clone(rows), earlier, later)...)
	if state.Created != 42 || len(faults) > 0 {
		t.Fatalf("the import came to %+v, %v", state, faults)
	}
	want = append(want, string(to.MustCreate(t, acme, person("new")).ID))
	list := func(r *rig, filter grahak.CustomerFilter) (ids []string) {
		for after := ""; ; {
			page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 7, After: after, Filter: filter})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Customers {
				ids = append(ids, string(c.ID))
			}
			if after = page.Next; after == "" {
				return ids
			}
		}
	}
	want = append(append(want, list(from, grahak.CustomerFilter{})...), later.ID.Value, earlier.ID.Value)
	diff(t, "the list", want, list(to, grahak.CustomerFilter{}))
	for _, i := range []int{5, 25} {
		filter := grahak.CustomerFilter{CreatedFrom: rows[i].CreatedAt, CreatedBefore: rows[30].CreatedAt}
		diff(t, "a range", list(from, filter), list(to, filter))
	}
}

// TestImportOfRepeatedRequests brings the id of a customer who was erased for somebody else. Who repeats a request that was
// about the first with its idempotency key is not shown the second.
func TestImportOfRepeatedRequests(t *testing.T) {
	t.Parallel()
	r, c := MustMerchantRig(t), caller(acme, grahak.ScopeWrite)
	keyed := func(key string) grahak.WriteOptions { return grahak.WriteOptions{IdempotencyKey: key} }
	anna := person("anna@example.com")
	requests := map[string]func() (grahak.CustomerResult, error){
		"create": func() (grahak.CustomerResult, error) { return r.CreateCustomer(t.Context(), c, anna, keyed("create")) },
		"ensure": func() (grahak.CustomerResult, error) {
			return r.EnsureCustomer(t.Context(), c, anna.Reference.Value, anna, false, keyed("ensure"))
		},
		"update": func() (grahak.CustomerResult, error) {
			return r.UpdateCustomer(t.Context(), c, anna.Reference.Value, grahak.CustomerInput{FirstName: given("Anna")}, keyed("update"))
		},
	}
	var id grahak.CustomerID
	for _, name := range []string{"create", "ensure", "update"} {
		for range 2 {
			result, err := requests[name]()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			id = result.Customer.ID
		}
	}
	if _, err := r.EraseCustomer(t.Context(), c, string(id), grahak.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	state, _ := r.importer("brought", grahak.DuplicateFail).MustImport(t, grahak.ImportRow{Line: 1, ID: given(string(id)), Customer: person("bert@example.com")})
	if state.Created != 1 {
		t.Fatalf("the import has made %d customers, want 1", state.Created)
	}
	for name, again := range requests {
		if result, err := again(); grahak.CodeOf(err) != grahak.CodeCustomerNotFound {
			t.Errorf("%s, repeated: %q, %v, want no customer", name, result.Customer.Reference, err)
		}
	}
}
