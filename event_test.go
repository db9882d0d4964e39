package grahak_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
)

// Every change leaves one event that says who did what, when and for which
// request, and nothing else leaves any.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	ctx, op, c := t.Context(), operator(acme), caller(acme, grahak.ScopeWrite)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var want []grahak.Event
	note := func(e grahak.Event, by grahak.Caller) {
		e.Actor, e.RequestID, e.At = by.Actor, by.RequestID, r.clock.Now().Truncate(time.Microsecond)
		want = append(want, e)
		r.clock.Advance(time.Second)
	}
	_, err := r.CreateMerchant(ctx, op, "Acme")
	must(err)
	note(grahak.Event{Type: grahak.EventMerchantCreated}, op)

	key, _, err := r.CreateKey(ctx, op, grahak.KeySpec{Scope: grahak.ScopeWrite})
	must(err)
	note(grahak.Event{Type: grahak.EventKeyCreated, Subject: string(key.ID)}, op)

	imported, err := r.ImportKey(ctx, op, "0123456789abcdef", grahak.KeySpec{Scope: grahak.ScopeWrite})
	must(err)
	note(grahak.Event{Type: grahak.EventKeyImported, Subject: string(imported.ID)}, op)

	_, _, err = r.RotateKey(ctx, op, key.ID, time.Hour, time.Time{})
	must(err)
	note(grahak.Event{Type: grahak.EventKeyRotated, Subject: string(key.ID)}, op)

	must(r.RevokeKey(ctx, op, imported.ID))
	note(grahak.Event{Type: grahak.EventKeyRevoked, Subject: string(imported.ID)}, op)

	_, err = r.AddIPEntry(ctx, op, "::ffff:192.0.2.7/120", "office")
	must(err)
	note(grahak.Event{Type: grahak.EventIPEntryAdded, Subject: "192.0.2.0/24"}, op)

	must(r.SetIPMode(ctx, op, grahak.IPModeReport))
	note(grahak.Event{Type: grahak.EventIPModeChanged, Subject: "report"}, op)

	must(r.RemoveIPEntry(ctx, op, "192.0.2.0/24"))
	note(grahak.Event{Type: grahak.EventIPEntryRemoved, Subject: "192.0.2.0/24"}, op)

	created, err := r.CreateCustomer(ctx, c, person("ref"), grahak.WriteOptions{Token: true})
	must(err)
	id := string(created.Customer.ID)
	note(grahak.Event{Type: grahak.EventCustomerCreated, Subject: id, Revision: 1}, c)

	c.RequestID = "req-2"
	_, err = r.UpdateCustomer(ctx, c, "ref", grahak.CustomerInput{LastName: given("New"), FirstName: given("John"), MobileNumber: given("7")}, grahak.WriteOptions{Token: true})
	must(err)
	note(grahak.Event{Type: grahak.EventCustomerUpdated, Subject: id, Revision: 2, Changed: []grahak.Field{grahak.FieldMobileNumber, grahak.FieldLastName}}, c)

	c.RequestID = ""
	_, err = r.UpdateCustomer(ctx, c, id, grahak.CustomerInput{MobileCountryCode: given("1"), Email: given(""), FirstName: given("")}, grahak.WriteOptions{})
	must(err)
	note(grahak.Event{Type: grahak.EventCustomerUpdated, Subject: id, Revision: 3, Changed: []grahak.Field{grahak.FieldMobileCountryCode, grahak.FieldEmail, grahak.FieldFirstName}}, c)

	must(r.DisableMerchant(ctx, op))
	note(grahak.Event{Type: grahak.EventMerchantDisabled}, op)

	// None of these changes anything.
	_, err = r.Customer(ctx, c, "ref", true)
	must(err)
	_, err = r.UpdateCustomer(ctx, c, "ref", grahak.CustomerInput{LastName: given("New")}, grahak.WriteOptions{Token: true})
	must(err)
	must(r.DisableMerchant(ctx, op))
	must(r.RevokeKey(ctx, op, imported.ID))
	must(r.SetIPMode(ctx, op, grahak.IPModeReport))
	for _, err := range []error{
		second(r.CreateCustomer(ctx, c, person("ref"), grahak.WriteOptions{})),
		second(r.CreateMerchant(ctx, op, "again")),
		second(r.ImportKey(ctx, op, "0123456789abcdef", grahak.KeySpec{Scope: grahak.ScopeWrite})),
		r.RemoveIPEntry(ctx, op, "192.0.2.0/24"),
		r.SetIPMode(ctx, op, grahak.IPModeEnforce),
		r.RevokeKey(ctx, op, "key_0"),
	} {
		if err == nil {
			t.Error("a change that should be refused was made")
		}
	}

	got := r.MustEvents(t, acme)
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(grahak.Event{}, "ID", "Position")); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if !slices.IsSortedFunc(got, func(a, b grahak.Event) int { return a.At.Compare(b.At) }) {
		t.Error("the events are not in order of time")
	}
	rest, err := r.store.Events(ctx, acme, got[3].Position, 2)
	must(err)
	diff(t, "two events after the fourth", got[4:6], rest)
	diff(t, "another merchant's events", 0, len(r.MustEvents(t, rival)))
}

// second drops what a call returns beside its error.
func second[T any](_ T, err error) error { return err }
