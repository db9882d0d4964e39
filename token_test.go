package grahak_test

import (
	"regexp"
	"testing"
	"time"

	"grahak"
)

var tokenForm = regexp.MustCompile(`^tkn_[0-9a-f]{32}$`)

func TestTokens(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	c := caller(acme, grahak.ScopeWrite)
	issued := make(map[string]grahak.CustomerID)
	issue := func(name string, result grahak.CustomerResult, err error) {
		t.Helper()
		if err != nil || result.Token == nil {
			t.Fatalf("%s: got the token %v and the error %v", name, result.Token, err)
		}
		if !tokenForm.MatchString(result.Token.Value) {
			t.Errorf("%s: the token %q does not have the form %s", name, result.Token.Value, tokenForm)
		}
		diff(t, name+": expiry", r.clock.Now().Add(900*time.Second), result.Token.ExpiresAt)
		if _, again := issued[result.Token.Value]; again {
			t.Errorf("%s: the token was issued before", name)
		}
		issued[result.Token.Value] = result.Customer.ID
	}
	created, err := r.CreateCustomer(t.Context(), c, person("ref"), grahak.WriteOptions{Token: true})
	issue("create", created, err)
	before, events := r.MustCustomer(t, acme, "ref"), r.MustEvents(t, acme)
	r.clock.Advance(time.Second)
	for range 2 {
		result, err := r.Customer(t.Context(), c, "ref", true)
		issue("read", result, err)
		result, err = r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{}, grahak.WriteOptions{Token: true})
		issue("update of nothing", result, err)
	}
	diff(t, "the customer after four tokens", before, r.MustCustomer(t, acme, "ref"))
	diff(t, "events after four tokens", events, r.MustEvents(t, acme))
	result, err := r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{Token: true})
	issue("update", result, err)
	other, err := r.CreateCustomer(t.Context(), caller(rival, grahak.ScopeWrite), person("ref"), grahak.WriteOptions{Token: true})
	issue("the rival's create", other, err)

	// None is issued unasked.
	for name, call := range map[string]func() (grahak.CustomerResult, error){
		"create": func() (grahak.CustomerResult, error) {
			return r.CreateCustomer(t.Context(), c, person("plain"), grahak.WriteOptions{})
		},
		"read": func() (grahak.CustomerResult, error) { return r.Customer(t.Context(), c, "ref", false) },
		"update": func() (grahak.CustomerResult, error) {
			return r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{}, grahak.WriteOptions{})
		},
	} {
		if result, err := call(); err != nil || result.Token != nil {
			t.Errorf("%s without asking for a token: got %v, %v", name, result.Token, err)
		}
	}

	for token, id := range issued {
		record, err := r.VerifyToken(t.Context(), token)
		if err != nil {
			t.Errorf("verify %s: %v", token, err)
			continue
		}
		want := acme
		if id == other.Customer.ID {
			want = rival
		}
		if record.Merchant != want || record.Customer != id {
			t.Errorf("the token of %s's customer %s names %s's %s", want, id, record.Merchant, record.Customer)
		}
	}
}

func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	result, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), person("ref"), grahak.WriteOptions{Token: true})
	if err != nil {
		t.Fatal(err)
	}
	token := result.Token.Value
	at := time.Date(2026, time.March, 17, 14, 28, 37, 123456000, time.UTC)
	want := grahak.TokenRecord{Merchant: acme, Customer: result.Customer.ID, Hash: grahak.HashToken(token), ExpiresAt: at}
	got, err := r.VerifyToken(t.Context(), token)
	wantCode(t, err, "")
	diff(t, "what the token names", want, got)

	r.clock.Advance(900*time.Second - time.Microsecond)
	got, err = r.VerifyToken(t.Context(), token)
	wantCode(t, err, "")
	diff(t, "what it names at its end", want, got)
	r.clock.Advance(time.Microsecond)
	_, err = r.VerifyToken(t.Context(), token)
	wantCode(t, err, grahak.CodeTokenNotFound)

	for _, unknown := range []string{"", "tkn_", "tkn_00000000000000000000000000000000", token[4:], "TKN" + token[3:], token + " ", string(result.Customer.ID)} {
		_, err := r.VerifyToken(t.Context(), unknown)
		if grahak.CodeOf(err) != grahak.CodeTokenNotFound {
			t.Errorf("verify %q: got %v, want code %q", unknown, err, grahak.CodeTokenNotFound)
		}
	}
}

// A refused request issues nothing.
func TestNoTokenWithoutCustomer(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	c := caller(acme, grahak.ScopeWrite)
	for name, call := range map[string]func() (grahak.CustomerResult, error){
		"a duplicate": func() (grahak.CustomerResult, error) {
			return r.CreateCustomer(t.Context(), c, person("ref"), grahak.WriteOptions{Token: true})
		},
		"an unknown customer": func() (grahak.CustomerResult, error) { return r.Customer(t.Context(), c, "unknown", true) },
		"another's customer": func() (grahak.CustomerResult, error) {
			return r.Customer(t.Context(), caller(rival, grahak.ScopeWrite), "ref", true)
		},
		"an update that is none": func() (grahak.CustomerResult, error) {
			return r.UpdateCustomer(t.Context(), c, "unknown", grahak.CustomerInput{}, grahak.WriteOptions{Token: true})
		},
		"a bad update": func() (grahak.CustomerResult, error) {
			return r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{MobileNumber: given("x")}, grahak.WriteOptions{Token: true})
		},
	} {
		result, err := call()
		if err == nil || result.Token != nil {
			t.Errorf("%s: got the token %v and the error %v", name, result.Token, err)
		}
	}
	// Nothing was written, so there is nothing to prune even at the end of time.
	n, err := r.store.PruneTokens(t.Context(), r.clock.Now().Add(1000*time.Hour), 100)
	if n != 0 || err != nil {
		t.Errorf("%d tokens were stored: %v", n, err)
	}
}
