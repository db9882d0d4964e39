package grahak_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"grahak"
)

// silent is a store on which no look at a customer can be recorded.
type silent struct{ grahak.Store }

func (silent) RecordEvent(context.Context, grahak.MerchantID, grahak.Event) error {
	return errors.New("no disk")
}

// onBoth runs a test on both engines, with the merchants acme and rival.
func onBoth(t *testing.T, test func(t *testing.T, store grahak.Store, sealer grahak.Sealer)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		r := MustMerchantRig(t)
		test(t, r.store, r.sealer)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		store, sealer := MustPostgres(t)()
		test(t, store, sealer)
	})
}

// Whoever is shown a person is on record before, and without a record nobody is. The
// record is in the audit trail and nowhere else.
func TestReveal(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, store grahak.Store, sealer grahak.Sealer) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		hook := new(receivers)
		delivered := make(chan string, 100)
		hook.set(func(_ context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
			delivered <- string(m.Event.Type)
			return grahak.WebhookOutcome{Status: 200}
		})
		s := MustService(t, grahak.Config{Store: store, Sealer: sealer, Courier: hook})
		made, err := s.CreateCustomer(ctx, caller(acme, grahak.ScopeWrite), person("ref-1"), grahak.WriteOptions{})
		wantCode(t, err, "")
		id := made.Customer.ID
		admin := grahak.Caller{Merchant: acme, Actor: "operator:asha", Scope: grahak.Scope(grahak.RoleAdmin), RequestID: "req-7"}
		looks := func() (list []grahak.Event) {
			t.Helper()
			events, err := store.EventsOf(ctx, acme, string(id))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Type == grahak.EventCustomerRevealed {
					list = append(list, e)
				}
			}
			return list
		}
		for name, c := range map[string]struct {
			caller grahak.Caller
			id     grahak.CustomerID
			want   grahak.Code
		}{
			"a viewer":         {caller(acme, grahak.Scope(grahak.RoleViewer)), id, grahak.CodeInsufficientScope},
			"a key":            {caller(acme, grahak.ScopeWrite), id, grahak.CodeInsufficientScope},
			"another merchant": {caller(rival, grahak.Scope(grahak.RoleOwner)), id, grahak.CodeCustomerNotFound},
			"nobody's id":      {admin, "cst_unknown", grahak.CodeCustomerNotFound},
			"a reference":      {admin, "ref-1", grahak.CodeCustomerNotFound},
		} {
			got, err := s.RevealCustomer(ctx, c.caller, c.id)
			wantCode(t, err, c.want)
			diff(t, name+": what is shown", grahak.Customer{}, got)
		}
		deaf := MustService(t, grahak.Config{Store: silent{store}, Sealer: sealer})
		got, err := deaf.RevealCustomer(ctx, admin, id)
		if err == nil || got != (grahak.Customer{}) {
			t.Errorf("without a record: got %v and the error %v", got, err)
		}
		diff(t, "looks so far", 0, len(looks()))

		got, err = s.RevealCustomer(ctx, admin, id)
		wantCode(t, err, "")
		diff(t, "the customer", made.Customer, got)
		list := looks()
		if len(list) != 1 {
			t.Fatalf("%d looks are on record", len(list))
		}
		e := list[0]
		diff(t, "the record", grahak.Event{
			Position: e.Position, ID: e.ID, At: e.At,
			Type: grahak.EventCustomerRevealed, Subject: string(id), Actor: "operator:asha", RequestID: "req-7",
		}, e)

		// What follows is told to the merchant as if there had been no look.
		if _, _, err := s.CreateWebhook(ctx, operator(acme), grahak.WebhookSpec{URL: "https://hooks.example.com/"}); err != nil {
			t.Fatal(err)
		}
		_, err = s.RevealCustomer(ctx, admin, id)
		wantCode(t, err, "")
		_, err = s.UpdateCustomer(ctx, caller(acme, grahak.ScopeWrite), string(id), grahak.CustomerInput{LastName: given("Rao")}, grahak.WriteOptions{})
		wantCode(t, err, "")
		_, err = s.RevealCustomer(ctx, admin, id)
		wantCode(t, err, "")
		_, err = s.EraseCustomer(ctx, caller(acme, grahak.ScopeWrite), string(id), grahak.WriteOptions{})
		wantCode(t, err, "")
		stop := run(s)
		defer stop()
		for last := ""; last != string(grahak.EventCustomerErased); {
			select {
			case last = <-delivered:
				if last == string(grahak.EventCustomerRevealed) {
					t.Error("an endpoint is told of a look")
				}
			case <-ctx.Done():
				t.Fatal("the erase is not delivered")
			}
		}
		wantCode(t, s.OrderEvents(ctx, operator(acme)), "")
		page, err := s.CustomerEvents(ctx, caller(acme, grahak.ScopeRead), grahak.EventListQuery{Limit: 100})
		wantCode(t, err, "")
		var told []string
		for _, e := range page.Events {
			told = append(told, fmt.Sprint(e.Type, " ", e.Revision))
		}
		diff(t, "what the merchant is told", []string{"customer.erased 3", "customer.updated 2", "customer.created 1"}, told)
		diff(t, "looks in the end", 3, len(looks()))
		report, err := s.VerifyAudit(ctx, admin, nil, nil)
		wantCode(t, err, "")
		diff(t, "what is wrong with the chain", "", report.Fault)
	})
}

// The page of a customer tells what happened, of one who was erased as well.
func TestTimeline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, store grahak.Store, sealer grahak.Sealer) {
		s := MustService(t, grahak.Config{Store: store, Sealer: sealer})
		viewer := caller(acme, grahak.Scope(grahak.RoleViewer))
		write := caller(acme, grahak.ScopeWrite)
		made, err := s.CreateCustomer(t.Context(), write, person("ref-1"), grahak.WriteOptions{Token: true})
		wantCode(t, err, "")
		id := made.Customer.ID
		summary := func(limit int) (types []string, timeline grahak.Timeline) {
			t.Helper()
			timeline, err := s.CustomerTimeline(t.Context(), viewer, id, limit)
			wantCode(t, err, "")
			for _, e := range timeline.Entries {
				types = append(types, string(e.Event.Type))
			}
			return types, timeline
		}
		types, timeline := summary(10)
		diff(t, "at first", []string{"customer.created"}, types)
		diff(t, "the tokens", []grahak.TokenTimes{{IssuedAt: made.Token.ExpiresAt.Add(-grahak.TokenLifetime).Truncate(time.Microsecond), ExpiresAt: made.Token.ExpiresAt.Truncate(time.Microsecond)}}, timeline.Tokens)
		_, err = s.UpdateCustomer(t.Context(), write, string(id), grahak.CustomerInput{LastName: given("Rao")}, grahak.WriteOptions{})
		wantCode(t, err, "")
		_, err = s.EraseCustomer(t.Context(), write, string(id), grahak.WriteOptions{})
		wantCode(t, err, "")
		for _, name := range []string{"pending", "in order"} {
			types, timeline = summary(10)
			diff(t, name, []string{"customer.erased", "customer.updated", "customer.created"}, types)
			if timeline.Erased.IsZero() || timeline.More || len(timeline.Tokens) > 0 {
				t.Errorf("%s: %+v", name, timeline)
			}
			types, timeline = summary(2)
			diff(t, name+", the latest two", []string{"customer.erased", "customer.updated"}, types)
			diff(t, name+": there are more", true, timeline.More)
			wantCode(t, s.OrderEvents(t.Context(), operator(acme)), "")
		}
		for _, id := range []grahak.CustomerID{"cst_unknown", "ref-1", ""} {
			_, err := s.CustomerTimeline(t.Context(), viewer, id, 10)
			wantCode(t, err, grahak.CodeCustomerNotFound)
		}
		_, err = s.CustomerTimeline(t.Context(), caller(rival, grahak.Scope(grahak.RoleOwner)), id, 10)
		wantCode(t, err, grahak.CodeCustomerNotFound)
	})
}

// Pages of events hold each event once, newest first, whatever they are asked for, and
// before the events are in order as well.
func TestAuditPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, store grahak.Store, sealer grahak.Sealer) {
		s := MustService(t, grahak.Config{Store: store, Sealer: sealer})
		s.SetMaxScan(3)
		viewer := caller(acme, grahak.Scope(grahak.RoleViewer))
		var ids []string
		for i := range 4 {
			c := caller(acme, grahak.ScopeWrite)
			c.Actor = fmt.Sprint("key_", i%2)
			made, err := s.CreateCustomer(t.Context(), c, person(fmt.Sprint("ref-", i)), grahak.WriteOptions{})
			wantCode(t, err, "")
			ids = append(ids, string(made.Customer.ID))
			_, err = s.EraseCustomer(t.Context(), c, ids[i], grahak.WriteOptions{})
			wantCode(t, err, "")
		}
		read := func(q grahak.AuditQuery) (got []string) {
			t.Helper()
			for range 100 {
				page, err := s.AuditEvents(t.Context(), viewer, q)
				wantCode(t, err, "")
				for _, e := range page.Events {
					got = append(got, fmt.Sprint(e.Type, " ", e.Subject))
				}
				if q.Before = page.Next; q.Before == 0 {
					return got
				}
			}
			t.Fatal("there is always one more page")
			return nil
		}
		whole := []string{"merchant.created "}
		for _, id := range ids {
			whole = append([]string{"customer.erased " + id, "customer.created " + id}, whole...)
		}
		pending, err := s.AuditEvents(t.Context(), viewer, grahak.AuditQuery{Limit: 9})
		wantCode(t, err, "")
		var got []string
		for _, e := range pending.Events {
			got = append(got, fmt.Sprint(e.Type, " ", e.Subject))
		}
		diff(t, "before they are in order", whole, got)
		wantCode(t, s.OrderEvents(t.Context(), operator(acme)), "")
		for _, limit := range []int{1, 2, 5, 9, 100} {
			diff(t, fmt.Sprint("all, by ", limit), whole, read(grahak.AuditQuery{Limit: limit}))
			diff(t, fmt.Sprint("of a type, by ", limit), []string{whole[0], whole[2], whole[4], whole[6]}, read(grahak.AuditQuery{Limit: limit, Type: grahak.EventCustomerErased}))
			diff(t, fmt.Sprint("of types, by ", limit), whole[8:], read(grahak.AuditQuery{Limit: limit, Type: "merchant."}))
			diff(t, fmt.Sprint("about one, by ", limit), whole[2:4], read(grahak.AuditQuery{Limit: limit, Subject: ids[2]}))
			diff(t, fmt.Sprint("by one, by ", limit), append(whole[:2:2], whole[4:6]...), read(grahak.AuditQuery{Limit: limit, Actor: "key_1"}))
		}
		page, err := s.AuditEvents(t.Context(), viewer, grahak.AuditQuery{Limit: 1})
		wantCode(t, err, "")
		report, err := s.VerifyAudit(t.Context(), operator(acme), &page.Head, nil)
		wantCode(t, err, "")
		diff(t, "what is wrong with the head as an anchor", "", report.Fault)
		for _, q := range []grahak.AuditQuery{{}, {Limit: 1, Before: -1}} {
			_, err := s.AuditEvents(t.Context(), viewer, q)
			wantCode(t, err, grahak.CodeInvalidField)
		}
		_, err = s.AuditEvents(t.Context(), caller(acme, grahak.ScopeWrite), grahak.AuditQuery{Limit: 1})
		wantCode(t, err, grahak.CodeInsufficientScope)
	})
}

// One box finds a customer by whatever is at hand.
func TestFindCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	create := func(ref, code, number, email string) grahak.CustomerID {
		in := person(ref)
		in.MobileCountryCode, in.MobileNumber, in.Email = given(code), given(number), given(email)
		return r.MustCreate(t, acme, in).ID
	}
	asha := create("user-1", "91", "9988776655", "asha@example.com")
	ravi := create("asha@example.com", "91", "9000000001", "ravi@example.com")
	john := create("9988776655", "1", "2025550123", "")
	gone := create("user-4", "44", "7700900123", "gone@example.com")
	r.MustErase(t, acme, string(gone))
	r.MustCreate(t, rival, person("theirs"))
	viewer := caller(acme, grahak.Scope(grahak.RoleViewer))
	for _, c := range []struct {
		text string
		kind grahak.FoundKind
		want []grahak.CustomerID
	}{
		{string(asha), grahak.FoundID, []grahak.CustomerID{asha}},
		{"  " + string(asha) + "\t", grahak.FoundID, []grahak.CustomerID{asha}},
		{"user-1", grahak.FoundReference, []grahak.CustomerID{asha}},
		{"User-1", grahak.FoundNothing, nil},
		{"user", grahak.FoundNothing, nil},
		{"ravi@example.com", grahak.FoundEmail, []grahak.CustomerID{ravi}},
		{"RAVI@Example.COM", grahak.FoundEmail, []grahak.CustomerID{ravi}},
		{"asha@example.com", grahak.FoundReference, []grahak.CustomerID{ravi, asha}},
		{"9000000001", grahak.FoundMobile, []grahak.CustomerID{ravi}},
		{"+91 90000 00001", grahak.FoundMobile, []grahak.CustomerID{ravi}},
		{"919000000001", grahak.FoundMobile, []grahak.CustomerID{ravi}},
		{"0091-9000000001", grahak.FoundMobile, []grahak.CustomerID{ravi}},
		{"09000000001", grahak.FoundMobile, []grahak.CustomerID{ravi}},
		{"+44 9000000001", grahak.FoundNothing, nil},
		{"+1 (202) 555-0123", grahak.FoundMobile, []grahak.CustomerID{john}},
		{"9988776655", grahak.FoundReference, []grahak.CustomerID{john, asha}},
		{string(gone), grahak.FoundErased, nil},
		{"gone@example.com", grahak.FoundNothing, nil},
		{"theirs", grahak.FoundNothing, nil},
		{"customer@example.com", grahak.FoundNothing, nil},
		{"", grahak.FoundNothing, nil},
		{"\x00", grahak.FoundNothing, nil},
		{"203.0.113.0/24", grahak.FoundNothing, nil},
	} {
		for range 2 {
			found, err := r.FindCustomer(t.Context(), viewer, c.text)
			wantCode(t, err, "")
			var got []grahak.CustomerID
			for _, customer := range found.Customers {
				got = append(got, customer.ID)
			}
			diff(t, fmt.Sprintf("%q is a", c.text), c.kind, found.Kind)
			diff(t, fmt.Sprintf("%q finds", c.text), c.want, got)
			r.MustOrder(t)
		}
	}
	for i := range 51 {
		in := person(fmt.Sprint("same-", i))
		in.Email = given("same@example.com")
		r.MustCreate(t, acme, in)
	}
	found, err := r.FindCustomer(t.Context(), viewer, "same@example.com")
	wantCode(t, err, "")
	if len(found.Customers) != 50 || !found.More {
		t.Errorf("of 51 with the same address %d are found, and more: %t", len(found.Customers), found.More)
	}
	_, err = r.FindCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "user-1")
	wantCode(t, err, grahak.CodeInsufficientScope)
}
