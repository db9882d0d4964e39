package grahak_test

import (
	"strings"
	"testing"
	"time"

	"grahak"
)

func TestMerchantIDs(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	for _, c := range []struct {
		id   string
		want grahak.Code
	}{
		{"a", ""},
		{"A", ""}, // Case counts.
		{"0", ""},
		{"-", ""},
		{"_", ""},
		{"Shop_1-in", ""},
		{strings.Repeat("m", 64), ""},
		{strings.Repeat("m", 65), grahak.CodeInvalidMerchant},
		{"", grahak.CodeInvalidMerchant},
		{" ", grahak.CodeInvalidMerchant},
		{"a b", grahak.CodeInvalidMerchant},
		{"a ", grahak.CodeInvalidMerchant},
		{"a/b", grahak.CodeInvalidMerchant},
		{"a.b", grahak.CodeInvalidMerchant},
		{"a:b", grahak.CodeInvalidMerchant},
		{"a\n", grahak.CodeInvalidMerchant},
		{"a\x00", grahak.CodeInvalidMerchant},
		{"ü", grahak.CodeInvalidMerchant},
		{"क", grahak.CodeInvalidMerchant},
		{"\xff", grahak.CodeInvalidMerchant},
		{"a", grahak.CodeMerchantExists},
	} {
		id, parseErr := grahak.ParseMerchantID(c.id)
		if valid := c.want != grahak.CodeInvalidMerchant; valid != (parseErr == nil) || (valid && string(id) != c.id) {
			t.Errorf("ParseMerchantID(%q) = %q, %v", c.id, id, parseErr)
		}
		_, err := r.CreateMerchant(t.Context(), operator(grahak.MerchantID(c.id)), "")
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("make the merchant %q: got %v, want code %q", c.id, err, c.want)
		}
	}
}

func TestMerchantNames(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	for name, want := range map[string]grahak.Code{
		"":                       "",
		"कमला स्टोर":             "",
		strings.Repeat("ü", 128): "",
		strings.Repeat("ü", 129): grahak.CodeInvalidMerchant,
		"two\nlines":             grahak.CodeInvalidMerchant,
		"\xff":                   grahak.CodeInvalidMerchant,
	} {
		id := grahak.MerchantID("m" + string(rune('a'+len(name)%26)) + string(rune('a'+len(name)/26)))
		_, err := r.CreateMerchant(t.Context(), operator(id), name)
		if got := grahak.CodeOf(err); got != want {
			t.Errorf("the name %.20q: got %v, want code %q", name, err, want)
		}
	}
}

func TestMerchants(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	none, err := r.Merchants(t.Context())
	wantCode(t, err, "")
	diff(t, "merchants of a new store", 0, len(none))

	z, err := r.CreateMerchant(t.Context(), operator("z"), "Last")
	wantCode(t, err, "")
	r.clock.Advance(time.Second)
	a, err := r.CreateMerchant(t.Context(), operator("a"), "First")
	wantCode(t, err, "")
	diff(t, "a merchant", grahak.Merchant{ID: "z", Name: "Last", IPMode: grahak.IPModeOff, CreatedAt: time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC)}, z)

	_, err = r.CreateMerchant(t.Context(), operator("z"), "Other")
	wantCode(t, err, grahak.CodeMerchantExists)
	list, err := r.Merchants(t.Context())
	wantCode(t, err, "")
	diff(t, "merchants by id", []grahak.Merchant{a, z}, list)

	r.clock.Advance(time.Second)
	at := r.clock.Now().Truncate(time.Microsecond)
	wantCode(t, r.DisableMerchant(t.Context(), operator("z")), "")
	r.clock.Advance(time.Second)
	wantCode(t, r.DisableMerchant(t.Context(), operator("z")), "") // The second time nothing changes.
	wantCode(t, r.DisableMerchant(t.Context(), operator("nobody")), grahak.CodeMerchantNotFound)
	z.DisabledAt = at
	list, err = r.Merchants(t.Context())
	wantCode(t, err, "")
	diff(t, "merchants after one was disabled", []grahak.Merchant{a, z}, list)
}

// A merchant that exists keeps its sealing keys, whoever tries to make it anew.
func TestMerchantKeepsItsKeys(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	want := r.MustCreate(t, acme, person("ref"))
	_, err := r.CreateMerchant(t.Context(), operator(acme), "again")
	wantCode(t, err, grahak.CodeMerchantExists)
	diff(t, "a customer after that", want, r.MustJoin(t).MustCustomer(t, acme, "ref"))
}

// One merchant's callers find another's customers as little as ones that never
// were, by id and by reference, and can change nothing of the other's.
func TestMerchantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	customer := r.MustCreate(t, acme, person("ref"))
	key, _ := r.MustKey(t, acme, grahak.KeySpec{})
	if _, err := r.AddIPEntry(t.Context(), operator(acme), "192.0.2.1", ""); err != nil {
		t.Fatal(err)
	}
	events := r.MustEvents(t, acme)
	in := grahak.CustomerInput{FirstName: given("New")}
	for _, stranger := range []grahak.Caller{caller(rival, grahak.ScopeWrite), operator(rival)} {
		for _, token := range []bool{false, true} {
			for _, c := range []struct {
				ref    string
				stands string // an unknown name of the same kind
			}{{"ref", "unknown"}, {string(customer.ID), "cst_0000000000000000"}} {
				read := func(ref string) (grahak.CustomerResult, error) {
					return r.Customer(t.Context(), stranger, ref, token)
				}
				update := func(ref string) (grahak.CustomerResult, error) {
					return r.UpdateCustomer(t.Context(), stranger, ref, in, grahak.WriteOptions{Token: token})
				}
				for name, call := range map[string]func(string) (grahak.CustomerResult, error){"read": read, "update": update} {
					got, err := call(c.ref)
					wantCode(t, err, grahak.CodeCustomerNotFound)
					unknown, unknownErr := call(c.stands)
					diff(t, name+" compared with one that never was", unknown, got)
					diff(t, name+": the error compared", unknownErr.Error(), err.Error())
				}
			}
		}
		page, err := r.Customers(t.Context(), stranger, grahak.ListQuery{Limit: 100})
		wantCode(t, err, "")
		diff(t, "the stranger's list", grahak.CustomerPage{Customers: []grahak.Customer{}}, page)
		theirs := operator(stranger.Merchant)
		keys, err := r.Keys(t.Context(), theirs)
		wantCode(t, err, "")
		diff(t, "the stranger's keys", 0, len(keys))
		_, entries, err := r.IPList(t.Context(), theirs)
		wantCode(t, err, "")
		diff(t, "the stranger's IP list", 0, len(entries))
		wantCode(t, r.RevokeKey(t.Context(), theirs, key.ID), grahak.CodeKeyNotFound)
		_, _, err = r.RotateKey(t.Context(), theirs, key.ID, 0, time.Time{})
		wantCode(t, err, grahak.CodeKeyNotFound)
		wantCode(t, r.RemoveIPEntry(t.Context(), theirs, "192.0.2.1"), grahak.CodeIPEntryNotFound)
		wantCode(t, r.SetIPMode(t.Context(), theirs, grahak.IPModeReport), "")
		wantCode(t, r.SetIPMode(t.Context(), theirs, grahak.IPModeOff), "")
	}
	wantCode(t, r.DisableMerchant(t.Context(), operator(rival)), "")
	diff(t, "the customer after all that", customer, r.MustCustomer(t, acme, "ref"))
	diff(t, "the events after all that", events, r.MustEvents(t, acme))
	keys, err := r.Keys(t.Context(), operator(acme))
	wantCode(t, err, "")
	diff(t, "the keys after all that", []grahak.APIKey{key}, keys)

	// The reference is free to the other.
	other := r.MustCreate(t, rival, person("ref"))
	if other.ID == customer.ID {
		t.Error("two merchants' customers have one id")
	}
	diff(t, "the first one's customer after that", customer, r.MustCustomer(t, acme, "ref"))
}
