package grahak_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
)

func TestCreateCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	created := r.MustCreate(t, acme, person("customer@example.com"))
	at := time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC)
	diff(t, "the new customer", grahak.Customer{
		ID: created.ID,
		Profile: grahak.Profile{
			Reference: "customer@example.com", MobileCountryCode: "91", MobileNumber: "9988776655",
			Email: "customer@example.com", FirstName: "John", LastName: "Smith",
		},
		Revision: 1, CreatedAt: at, UpdatedAt: at,
	}, created)
	diff(t, "read by id", created, r.MustCustomer(t, acme, string(created.ID)))
	diff(t, "read by reference", created, r.MustCustomer(t, acme, "customer@example.com"))
	diff(t, "read by another process", created, r.MustJoin(t).MustCustomer(t, acme, "customer@example.com"))

	bare := r.MustCreate(t, acme, grahak.CustomerInput{Reference: given("Ref"), MobileNumber: given("007")})
	diff(t, "a customer with required fields only", grahak.Profile{Reference: "Ref", MobileCountryCode: "91", MobileNumber: "007"}, bare.Profile)
	diff(t, "read again", bare, r.MustCustomer(t, acme, "Ref"))
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	first := r.MustCreate(t, acme, person("ref"))
	before := r.MustEvents(t, acme)
	create := func(m grahak.MerchantID, in grahak.CustomerInput) error {
		_, err := r.CreateCustomer(t.Context(), caller(m, grahak.ScopeWrite), in, grahak.WriteOptions{Token: true})
		return err
	}
	wantCode(t, create(acme, person("ref")), grahak.CodeDuplicateReference)
	diff(t, "the first customer", first, r.MustCustomer(t, acme, "ref"))
	// A duplicate with a bad field is a bad field.
	in := person("ref")
	in.MobileNumber = given("+91")
	diff(t, "refused fields", []grahak.Field{grahak.FieldMobileNumber}, refusedFields(t, create(acme, in)))
	wantCode(t, create("nobody", person("ref")), grahak.CodeMerchantNotFound)
	diff(t, "events of refusals", before, r.MustEvents(t, acme))
	page, err := r.Customers(t.Context(), caller(acme, grahak.ScopeRead), grahak.ListQuery{Limit: 100})
	wantCode(t, err, "")
	diff(t, "the customers", []grahak.Customer{first}, page.Customers)

	// References differ by case, by white space, and by merchant.
	for _, c := range []struct {
		m   grahak.MerchantID
		ref string
	}{{acme, "Ref"}, {acme, "REF"}, {acme, "ref "}, {acme, " ref"}, {rival, "ref"}} {
		wantCode(t, create(c.m, person(c.ref)), "")
	}
}

// Of many creates of one reference exactly one makes it.
func TestParallelCreatesOfOneReference(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	services := []*grahak.Service{r.Service, r.MustJoin(t).Service}
	const rivals = 24
	var outcomes [rivals]grahak.Code
	var group sync.WaitGroup
	for i := range rivals {
		group.Go(func() {
			_, err := services[i%2].CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("ref"), grahak.WriteOptions{})
			outcomes[i] = grahak.CodeOf(err)
		})
	}
	group.Wait()
	count := make(map[grahak.Code]int)
	for _, code := range outcomes {
		count[code]++
	}
	diff(t, "outcomes", map[grahak.Code]int{"": 1, grahak.CodeDuplicateReference: rivals - 1}, count)
	diff(t, "events, the merchant's own with them", 2, len(r.MustEvents(t, acme)))
}

// A customer is found by its own id first, even when that is another's
// reference, and nothing that no reference can be is looked for.
func TestFind(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	first := r.MustCreate(t, acme, person("first"))
	second := r.MustCreate(t, acme, person(string(first.ID)))
	diff(t, "an id that is also a reference", first, r.MustCustomer(t, acme, string(first.ID)))
	diff(t, "the one with that reference, by its own id", second, r.MustCustomer(t, acme, string(second.ID)))
	// At another merchant only the reference counts.
	third := r.MustCreate(t, rival, person(string(first.ID)))
	diff(t, "a reference that is another merchant's id", third, r.MustCustomer(t, rival, string(first.ID)))

	for _, ref := range []string{
		"", " ", "firs", "first ", "First", "fırst", strings.ToUpper(string(first.ID)), "cst_0000000000000000",
		"a\x00b", "\xff", strings.Repeat("a", 129), strings.Repeat("a", 1<<20), "%", "_____", "first%", "' OR 1=1 --",
	} {
		_, err := r.Customer(t.Context(), caller(acme, grahak.ScopeRead), ref, false)
		if grahak.CodeOf(err) != grahak.CodeCustomerNotFound {
			t.Errorf("read %.40q: got %v, want code %q", ref, err, grahak.CodeCustomerNotFound)
		}
		_, err = r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
		if grahak.CodeOf(err) != grahak.CodeCustomerNotFound {
			t.Errorf("update %.40q: got %v, want code %q", ref, err, grahak.CodeCustomerNotFound)
		}
	}
	long := strings.Repeat("क", 128)
	diff(t, "a reference of full length", r.MustCreate(t, acme, person(long)), r.MustCustomer(t, acme, long))
}

func TestUpdateCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	created := r.MustCreate(t, acme, person("ref"))
	update := func(in grahak.CustomerInput) grahak.Customer {
		t.Helper()
		r.clock.Advance(time.Second)
		result, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", in, grahak.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "what is stored after an update", result.Customer, r.MustCustomer(t, acme, "ref"))
		return result.Customer
	}
	want := created
	moved := func() { want.Revision++; want.UpdatedAt = r.clock.Now().Truncate(time.Microsecond) }

	got := update(grahak.CustomerInput{FirstName: given("Jon")})
	want.FirstName = "Jon"
	moved()
	diff(t, "one field", want, got)

	got = update(grahak.CustomerInput{MobileNumber: given("007"), MobileCountryCode: given("+44"), Email: given(" "), LastName: given("")})
	want.MobileNumber, want.MobileCountryCode, want.Email, want.LastName = "007", "44", "", ""
	moved()
	diff(t, "four fields, two of them cleared", want, got)

	events := r.MustEvents(t, acme)
	for name, in := range map[string]grahak.CustomerInput{
		"nothing":               {},
		"a new reference":       {Reference: given("other")},
		"a bad reference":       {Reference: given("\x00")},
		"what is stored":        {FirstName: given("Jon"), MobileNumber: given("007"), Email: given(""), LastName: given("\t")},
		"a plus before what is": {MobileCountryCode: given("+44")},
		"no country code":       {MobileCountryCode: given("")},
		"a reference as it is":  {Reference: given("ref")},
	} {
		diff(t, "an update with "+name, want, update(in))
	}
	diff(t, "events of updates that change nothing", events, r.MustEvents(t, acme))

	for name, in := range map[string]grahak.CustomerInput{
		"an empty number": {MobileNumber: given(""), FirstName: given("X")},
		"a bad number":    {MobileNumber: given("-1"), FirstName: given("X")},
		"a bad name":      {FirstName: given("X\n")},
	} {
		for _, ref := range []string{"ref", "unknown"} {
			_, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), ref, in, grahak.WriteOptions{Token: true})
			if grahak.CodeOf(err) != grahak.CodeInvalidField {
				t.Errorf("an update of %s with %s: got %v, want code %q", ref, name, err, grahak.CodeInvalidField)
			}
		}
	}
	diff(t, "the customer after refusals", want, r.MustCustomer(t, acme, "ref"))
	diff(t, "events of refusals", events, r.MustEvents(t, acme))
}

// A clock that is set back never makes a change look older than the last.
func TestUpdateAfterClockWasSetBack(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	created := r.MustCreate(t, acme, person("ref"))
	r.clock.Advance(-time.Hour)
	result, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", grahak.CustomerInput{FirstName: given("Jon")}, grahak.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "time of update", created.UpdatedAt, result.Customer.UpdatedAt)
	diff(t, "revision", int64(2), result.Customer.Revision)
}

// Updates of different fields at the same time all land, whichever process
// makes them, and every change is counted once.
func TestConcurrentUpdatesAllLand(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	services := []*grahak.Service{r.Service, r.MustJoin(t).Service}
	const rounds = 8
	// What each field holds after the last round.
	last := map[grahak.Field]func(i int) string{
		grahak.FieldMobileNumber:      func(i int) string { return fmt.Sprint(100 + i) },
		grahak.FieldMobileCountryCode: func(i int) string { return fmt.Sprint(200 + i) },
		grahak.FieldEmail:             func(i int) string { return fmt.Sprintf("e%d@example.com", i) },
		grahak.FieldFirstName:         func(i int) string { return fmt.Sprint("first ", i) },
		grahak.FieldLastName:          func(i int) string { return fmt.Sprint("last ", i) },
	}
	var group sync.WaitGroup
	for f, text := range last {
		group.Go(func() {
			for i := range rounds {
				var in grahak.CustomerInput
				*input(&in, f) = given(text(i))
				result, err := services[i%2].UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", in, grahak.WriteOptions{})
				if err != nil {
					t.Errorf("update of %s: %v", f, err)
					return
				}
				if got := value(result.Customer.Profile, f); got != text(i) {
					t.Errorf("the answer to an update of %s to %q says %q", f, text(i), got)
				}
			}
		})
	}
	group.Wait()
	got := r.MustCustomer(t, acme, "ref")
	for f, text := range last {
		diff(t, f.String(), text(rounds-1), value(got.Profile, f))
	}
	changes := rounds * len(last)
	diff(t, "revision", int64(1+changes), got.Revision)
	revisions := make(map[int64]bool)
	for _, e := range r.MustEvents(t, acme) {
		if e.Type != grahak.EventCustomerUpdated {
			continue
		}
		if revisions[e.Revision] || len(e.Changed) != 1 {
			t.Errorf("revision %d: an event that is one too many or of several changes: %v", e.Revision, e.Changed)
		}
		revisions[e.Revision] = true
	}
	diff(t, "events of updates", changes, len(revisions))
}

// Many updates that say the same change the customer once.
func TestConcurrentEqualUpdates(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	var group sync.WaitGroup
	for range 24 {
		group.Go(func() {
			in := grahak.CustomerInput{FirstName: given("Same")}
			if _, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "ref", in, grahak.WriteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	diff(t, "revision", int64(2), r.MustCustomer(t, acme, "ref").Revision)
}

// A sealed blob that was altered or moved is a fault of ours to look into, not
// an outage and not a missing customer.
func TestAlteredRecordIsAFault(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	a, b := r.MustCreate(t, acme, person("a")), r.MustCreate(t, acme, person("b"))
	index, err := r.sealer.Index(t.Context(), acme, grahak.IndexReference, "a")
	if err != nil {
		t.Fatal(err)
	}
	record, err := r.store.Customer(t.Context(), acme, a.ID, index)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody with access to the file puts a's data into b's row.
	record.ID, record.Revision = b.ID, b.Revision+1
	done, err := r.store.UpdateCustomer(t.Context(), acme, record, grahak.Event{ID: "evt_0", Type: grahak.EventCustomerUpdated}, nil)
	if err != nil || !done {
		t.Fatal(done, err)
	}
	_, err = r.Customer(t.Context(), caller(acme, grahak.ScopeRead), "b", false)
	var known *grahak.Error
	if err == nil || errors.As(err, &known) {
		t.Errorf("reading a row with another's data: got %v, want an internal error", err)
	}
	diff(t, "the other customer", a, r.MustCustomer(t, acme, "a"))
}
