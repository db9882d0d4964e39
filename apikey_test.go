package grahak_test

import (
	"bytes"
	"crypto/sha256"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"grahak"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checksum returns the six characters that end a key of ours: the CRC-32 of
// what comes before, in base 62.
func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	var digits [6]byte
	for i := range digits {
		digits[len(digits)-1-i] = base62[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

// mistype returns key with one character exchanged for another of the alphabet.
func mistype(key string, at int) string {
	c := byte('a')
	if key[at] == c {
		c = 'b'
	}
	return key[:at] + string(c) + key[at+1:]
}

func TestKeyForm(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	for env, form := range map[grahak.Environment]string{
		"":                `^(gk_sandbox_[0-9A-Za-z]{30})([0-9A-Za-z]{6})$`,
		grahak.Sandbox:    `^(gk_sandbox_[0-9A-Za-z]{30})([0-9A-Za-z]{6})$`,
		grahak.Production: `^(gk_production_[0-9A-Za-z]{30})([0-9A-Za-z]{6})$`,
	} {
		s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Environment: env})
		seen := make(map[string]bool)
		for range 5 {
			key, secret, err := s.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeWrite})
			if err != nil {
				t.Fatal(err)
			}
			parts := regexp.MustCompile(form).FindStringSubmatch(secret)
			if parts == nil {
				t.Fatalf("the key %q does not have the form %s", secret, form)
			}
			if parts[2] != checksum(parts[1]) {
				t.Errorf("the key %q ends with %q, want the checksum %q", secret, parts[2], checksum(parts[1]))
			}
			if !strings.HasPrefix(secret, key.Prefix) || len(key.Prefix) != strings.LastIndexByte(secret, '_')+1+4 {
				t.Errorf("the prefix of %q is %q, want it with four of the random characters", secret, key.Prefix)
			}
			if seen[secret] {
				t.Errorf("the key %q was made twice", secret)
			}
			seen[secret] = true
		}
	}
}

func TestKeyListing(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	expiry := r.clock.Now().Add(time.Hour)
	first, firstSecret := r.MustKey(t, acme, grahak.KeySpec{Label: "shop", Scope: grahak.ScopeRead, ExpiresAt: expiry})
	r.clock.Advance(time.Second)
	second, _ := r.MustKey(t, acme, grahak.KeySpec{})
	r.MustKey(t, rival, grahak.KeySpec{})

	keys, err := r.Keys(t.Context(), operator(acme))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "the keys, oldest first", []grahak.APIKey{first, second}, keys)
	diff(t, "the first key", grahak.APIKey{
		ID: first.ID, Merchant: acme, Hash: sha256.Sum256([]byte(firstSecret)), Prefix: first.Prefix, Label: "shop", Scope: grahak.ScopeRead,
		CreatedAt: time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC),
		ExpiresAt: time.Date(2026, time.March, 17, 15, 13, 37, 123456000, time.UTC),
	}, keys[0])

	_, err = r.Keys(t.Context(), operator("nobody"))
	wantCode(t, err, grahak.CodeMerchantNotFound)
	_, _, err = r.CreateKey(t.Context(), operator("nobody"), grahak.KeySpec{Scope: grahak.ScopeRead})
	wantCode(t, err, grahak.CodeMerchantNotFound)
}

func TestKeySpecRules(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	now := r.clock.Now()
	for _, c := range []struct {
		name string
		spec grahak.KeySpec
		want grahak.Code
	}{
		{"a full label", grahak.KeySpec{Scope: grahak.ScopeRead, Label: strings.Repeat("क", 64)}, ""},
		{"a label that is too long", grahak.KeySpec{Scope: grahak.ScopeRead, Label: strings.Repeat("a", 65)}, grahak.CodeInvalidKey},
		{"a label with a line break", grahak.KeySpec{Scope: grahak.ScopeRead, Label: "a\nb"}, grahak.CodeInvalidKey},
		{"no scope", grahak.KeySpec{}, grahak.CodeInvalidKey},
		{"an unknown scope", grahak.KeySpec{Scope: "admin"}, grahak.CodeInvalidKey},
		{"an expiry in the past", grahak.KeySpec{Scope: grahak.ScopeRead, ExpiresAt: now.Add(-time.Second)}, grahak.CodeInvalidKey},
		{"an expiry now", grahak.KeySpec{Scope: grahak.ScopeRead, ExpiresAt: now.Truncate(time.Microsecond)}, grahak.CodeInvalidKey},
		{"an expiry soon", grahak.KeySpec{Scope: grahak.ScopeRead, ExpiresAt: now.Add(time.Millisecond)}, ""},
	} {
		_, _, err := r.CreateKey(t.Context(), operator(acme), c.spec)
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("%s: got %v, want code %q", c.name, err, c.want)
		}
	}
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, ours := r.MustKey(t, rival, grahak.KeySpec{})
	body := "gk_sandbox_" + strings.Repeat("A", 30)
	for _, c := range []struct {
		name, key string
		want      grahak.Code
	}{
		{"15 characters", strings.Repeat("a", 15), grahak.CodeInvalidKey},
		{"16 characters", strings.Repeat("b", 16), ""},
		{"256 characters", strings.Repeat("c", 256), ""},
		{"257 characters", strings.Repeat("d", 257), grahak.CodeInvalidKey},
		{"nothing", "", grahak.CodeInvalidKey},
		{"the shape of Juspay's", "0123456789ABCDEF0123456789ABCDEF", ""},
		{"every printable character but the colon", "!\"#$%&'()*+,-./0123456789;<=>?@ABCXYZ[\\]^_`abcxyz{|}~", ""},
		{"a colon", "aaaaaaaa:aaaaaaaaa", grahak.CodeInvalidKey},
		{"a colon at the end", "aaaaaaaaaaaaaaaaa:", grahak.CodeInvalidKey},
		{"a space", "aaaaaaaa aaaaaaaaa", grahak.CodeInvalidKey},
		{"a line break at the end", "aaaaaaaaaaaaaaaaaa\n", grahak.CodeInvalidKey},
		{"a tab", "aaaaaaaa\taaaaaaaaa", grahak.CodeInvalidKey},
		{"NUL", "aaaaaaaa\x00aaaaaaaaa", grahak.CodeInvalidKey},
		{"DEL", "aaaaaaaa\x7faaaaaaaaa", grahak.CodeInvalidKey},
		{"a letter outside ASCII", "aaaaaaaaaüaaaaaaaa", grahak.CodeInvalidKey},
		{"a key of ours that is not ours", body + checksum(body), ""},
		{"a key of ours, mistyped", mistype(ours, 20), grahak.CodeInvalidKey},
		{"a key of ours, one character short", ours[:len(ours)-1], ""},
		{"a key that exists at another merchant", ours, grahak.CodeKeyExists},
		{"a key that was imported before", strings.Repeat("b", 16), grahak.CodeKeyExists},
	} {
		key, err := r.ImportKey(t.Context(), operator(acme), c.key, grahak.KeySpec{Label: "moved", Scope: grahak.ScopeWrite})
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("import of %s: got %v, want code %q", c.name, err, c.want)
		}
		if err != nil && len(c.key) > 2 && strings.Contains(err.Error(), c.key) {
			t.Errorf("import of %s: the error %q shows the key", c.name, err)
		}
		access, authErr := r.Authenticate(t.Context(), grahak.Credential{Key: c.key})
		switch {
		case c.want == "":
			diff(t, c.name, grahak.Access{Caller: grahak.Caller{Merchant: acme, Actor: string(key.ID), Scope: grahak.ScopeWrite}, KeyID: key.ID, KeyMerchant: acme, IP: grahak.IPVerdict{Mode: grahak.IPModeOff}}, access)
			if strings.HasPrefix(c.key, "gk_sandbox_") {
				diff(t, c.name+": prefix", "gk_sandbox_"+c.key[11:15], key.Prefix)
			} else {
				diff(t, c.name+": prefix", c.key[:4], key.Prefix)
			}
		case c.want == grahak.CodeInvalidKey:
			wantCode(t, authErr, grahak.CodeInvalidAPIKey)
		}
	}
	_, err := r.ImportKey(t.Context(), operator("nobody"), strings.Repeat("n", 20), grahak.KeySpec{Scope: grahak.ScopeWrite})
	wantCode(t, err, grahak.CodeMerchantNotFound)
}

func TestKeyExpiry(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, forever := r.MustKey(t, acme, grahak.KeySpec{})
	// A whole second keeps the comparison exact, since times are stored in microseconds.
	expiry := r.clock.Now().Truncate(time.Second).Add(time.Hour)
	_, secret := r.MustKey(t, acme, grahak.KeySpec{ExpiresAt: expiry})

	r.clock.Advance(expiry.Add(-time.Nanosecond).Sub(r.clock.Now()))
	_, err := r.Authenticate(t.Context(), grahak.Credential{Key: secret})
	wantCode(t, err, "")
	r.clock.Advance(time.Nanosecond)
	_, err = r.Authenticate(t.Context(), grahak.Credential{Key: secret})
	wantCode(t, err, grahak.CodeInvalidAPIKey)
	_, err = r.Authenticate(t.Context(), grahak.Credential{Key: forever})
	wantCode(t, err, "")
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	works := func(what, secret string, want bool) {
		t.Helper()
		_, err := r.Authenticate(t.Context(), grahak.Credential{Key: secret})
		if code := grahak.CodeOf(err); (code == "") != want || (err != nil && code != grahak.CodeInvalidAPIKey) {
			t.Errorf("%s: got %v, want it to work: %v", what, err, want)
		}
	}
	old, oldSecret := r.MustKey(t, acme, grahak.KeySpec{Label: "shop", Scope: grahak.ScopeRead})
	next, nextSecret, err := r.RotateKey(t.Context(), operator(acme), old.ID, 24*time.Hour, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if next.ID == old.ID || nextSecret == oldSecret || next.Label != "shop" || next.Scope != grahak.ScopeRead || !next.ExpiresAt.IsZero() {
		t.Errorf("the successor of %+v is %+v", old, next)
	}
	works("the old key in the overlap", oldSecret, true)
	works("the successor in the overlap", nextSecret, true)
	r.clock.Advance(24*time.Hour - time.Microsecond)
	works("the old key at the end of the overlap", oldSecret, true)
	r.clock.Advance(time.Microsecond)
	works("the old key after the overlap", oldSecret, false)
	works("the successor after the overlap", nextSecret, true)

	_, _, err = r.RotateKey(t.Context(), operator(acme), old.ID, time.Hour, time.Time{})
	wantCode(t, err, grahak.CodeKeyNotFound) // It has expired.

	// Without an overlap the old key dies at once.
	_, lastSecret, err := r.RotateKey(t.Context(), operator(acme), next.ID, 0, time.Time{})
	wantCode(t, err, "")
	works("the old key without an overlap", nextSecret, false)
	works("its successor", lastSecret, true)

	// An overlap never makes a key live longer.
	soon := r.clock.Now().Add(time.Hour)
	brief, briefSecret := r.MustKey(t, acme, grahak.KeySpec{ExpiresAt: soon})
	_, _, err = r.RotateKey(t.Context(), operator(acme), brief.ID, 24*time.Hour, time.Time{})
	wantCode(t, err, "")
	r.clock.Advance(time.Hour)
	works("a key past its own expiry", briefSecret, false)

	revoked, _ := r.MustKey(t, acme, grahak.KeySpec{})
	wantCode(t, r.RevokeKey(t.Context(), operator(acme), revoked.ID), "")
	for name, c := range map[string]struct {
		caller  grahak.Caller
		key     grahak.KeyID
		overlap time.Duration
		want    grahak.Code
	}{
		"a revoked key":          {operator(acme), revoked.ID, time.Hour, grahak.CodeKeyNotFound},
		"an unknown key":         {operator(acme), "key_0000000000000000", time.Hour, grahak.CodeKeyNotFound},
		"another merchant's key": {operator(rival), brief.ID, time.Hour, grahak.CodeKeyNotFound},
		"the past as its end":    {operator(acme), old.ID, -time.Second, grahak.CodeInvalidKey},
		"an unknown merchant's":  {operator("nobody"), brief.ID, time.Hour, grahak.CodeKeyNotFound},
	} {
		keys, _ := r.Keys(t.Context(), operator(acme))
		_, _, err := r.RotateKey(t.Context(), c.caller, c.key, c.overlap, time.Time{})
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("rotating %s: got %v, want code %q", name, err, c.want)
		}
		after, _ := r.Keys(t.Context(), operator(acme))
		diff(t, "keys after rotating "+name, keys, after)
	}
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, _ := r.MustKey(t, acme, grahak.KeySpec{})
	at := r.clock.Now().Truncate(time.Microsecond)
	wantCode(t, r.RevokeKey(t.Context(), operator(acme), key.ID), "")
	r.clock.Advance(time.Hour)
	// The second time nothing changes, the time least of all.
	wantCode(t, r.RevokeKey(t.Context(), operator(acme), key.ID), "")
	keys, err := r.Keys(t.Context(), operator(acme))
	if err != nil {
		t.Fatal(err)
	}
	key.RevokedAt = at
	diff(t, "the revoked key", []grahak.APIKey{key}, keys)
	wantCode(t, r.RevokeKey(t.Context(), operator(acme), "key_0000000000000000"), grahak.CodeKeyNotFound)
	wantCode(t, r.RevokeKey(t.Context(), operator(rival), key.ID), grahak.CodeKeyNotFound)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	key, _ := r.MustKey(t, acme, grahak.KeySpec{})
	before := r.MustEvents(t, acme)
	// No key may do what is an operator's.
	const asOperator = grahak.Scope("an operator's")
	for _, c := range []struct {
		name  string
		scope grahak.Scope
		call  func(grahak.Caller) error
	}{
		{"create", grahak.ScopeWrite, func(c grahak.Caller) error {
			_, err := r.CreateCustomer(t.Context(), c, person("new"), grahak.WriteOptions{})
			return err
		}},
		{"read", grahak.ScopeRead, func(c grahak.Caller) error { _, err := r.Customer(t.Context(), c, "ref", false); return err }},
		{"read with a token", grahak.ScopeWrite, func(c grahak.Caller) error { _, err := r.Customer(t.Context(), c, "ref", true); return err }},
		{"update", grahak.ScopeWrite, func(c grahak.Caller) error {
			_, err := r.UpdateCustomer(t.Context(), c, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			return err
		}},
		{"list", grahak.ScopeRead, func(c grahak.Caller) error {
			_, err := r.Customers(t.Context(), c, grahak.ListQuery{Limit: 1})
			return err
		}},
		{"make a key", asOperator, func(c grahak.Caller) error {
			_, _, err := r.CreateKey(t.Context(), c, grahak.KeySpec{Scope: grahak.ScopeRead})
			return err
		}},
		{"import a key", asOperator, func(c grahak.Caller) error {
			_, err := r.ImportKey(t.Context(), c, "0123456789abcdef", grahak.KeySpec{Scope: grahak.ScopeRead})
			return err
		}},
		{"rotate a key", asOperator, func(c grahak.Caller) error {
			_, _, err := r.RotateKey(t.Context(), c, key.ID, 0, time.Time{})
			return err
		}},
		{"revoke a key", asOperator, func(c grahak.Caller) error { return r.RevokeKey(t.Context(), c, key.ID) }},
		{"list an address", asOperator, func(c grahak.Caller) error { _, err := r.AddIPEntry(t.Context(), c, "192.0.2.1", ""); return err }},
		{"unlist an address", asOperator, func(c grahak.Caller) error { return r.RemoveIPEntry(t.Context(), c, "192.0.2.1") }},
		{"set the list's mode", asOperator, func(c grahak.Caller) error { return r.SetIPMode(t.Context(), c, grahak.IPModeReport) }},
		{"plan a change of the list", asOperator, func(c grahak.Caller) error {
			_, err := r.PlanIPChange(t.Context(), c, grahak.IPChange{Mode: grahak.IPModeEnforce})
			return err
		}},
		{"change the list", asOperator, func(c grahak.Caller) error {
			_, err := r.ChangeIPList(t.Context(), c, grahak.IPChange{Mode: grahak.IPModeEnforce}, true, string(acme))
			return err
		}},
		{"see a delivery", asOperator, func(c grahak.Caller) error {
			_, err := r.WebhookDelivery(t.Context(), c, "whe_none", 1)
			return err
		}},
		{"see how far the chain is", asOperator, func(c grahak.Caller) error { _, err := r.ChainPosition(t.Context(), c); return err }},
		{"disable the merchant", asOperator, func(c grahak.Caller) error { return r.DisableMerchant(t.Context(), c) }},
		{"list keys", asOperator, func(c grahak.Caller) error { _, err := r.Keys(t.Context(), c); return err }},
		{"list addresses", asOperator, func(c grahak.Caller) error { _, _, err := r.IPList(t.Context(), c); return err }},
		{"test an address", asOperator, func(c grahak.Caller) error { _, err := r.TestIP(t.Context(), c, "192.0.2.1"); return err }},
		{"make a merchant", asOperator, func(c grahak.Caller) error {
			c.Merchant = "new"
			_, err := r.CreateMerchant(t.Context(), c, "")
			return err
		}},
	} {
		for _, scope := range []grahak.Scope{grahak.ScopeRead, grahak.ScopeWrite, "", "other"} {
			// Writers may do what a merchant's backend does, with which other
			// tests are concerned.
			if scope == grahak.ScopeWrite && c.scope != asOperator {
				continue
			}
			want := grahak.CodeInsufficientScope
			if c.scope == scope {
				want = ""
			}
			if err := c.call(caller(acme, scope)); grahak.CodeOf(err) != want {
				t.Errorf("%s with scope %q: got %v, want code %q", c.name, scope, err, want)
			}
		}
	}
	diff(t, "the events of callers who may not write", before, r.MustEvents(t, acme))
}

// An operator may do what keys may, but no key has an operator's scope.
func TestOperatorScope(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	ctx, c := t.Context(), operator(acme)
	result, err := r.CreateCustomer(ctx, c, person("ref"), grahak.WriteOptions{Token: true})
	wantCode(t, err, "")
	id := string(result.Customer.ID)
	_, err = r.Customer(ctx, c, id, true)
	wantCode(t, err, "")
	_, err = r.UpdateCustomer(ctx, c, id, grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{Token: true})
	wantCode(t, err, "")
	page, err := r.Customers(ctx, c, grahak.ListQuery{Limit: 1})
	wantCode(t, err, "")
	diff(t, "customers", int64(1), page.Total)
	// Of another merchant's an operator's caller sees no more than a key's.
	_, err = r.Customer(ctx, operator(rival), id, false)
	wantCode(t, err, grahak.CodeCustomerNotFound)

	before := r.MustEvents(t, acme)
	for _, scope := range []grahak.Scope{c.Scope, "Write", "read,write", "*"} {
		_, _, err = r.CreateKey(ctx, c, grahak.KeySpec{Scope: scope})
		wantCode(t, err, grahak.CodeInvalidKey)
		_, err = r.ImportKey(ctx, c, "0123456789abcdef", grahak.KeySpec{Scope: scope})
		wantCode(t, err, grahak.CodeInvalidKey)
	}
	diff(t, "events of keys that were not made", before, r.MustEvents(t, acme))
}

// A key of write scope may all that one of read scope may, and the successor of
// a key no more than the key.
func TestScopesOfKeys(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	for _, scope := range []grahak.Scope{grahak.ScopeRead, grahak.ScopeWrite} {
		key, secret := r.MustKey(t, acme, grahak.KeySpec{Scope: scope})
		next, nextSecret, err := r.RotateKey(t.Context(), operator(acme), key.ID, time.Hour, time.Time{})
		wantCode(t, err, "")
		diff(t, "the successor's scope", scope, next.Scope)
		for _, text := range []string{secret, nextSecret} {
			access, err := r.Authenticate(t.Context(), grahak.Credential{Key: text})
			wantCode(t, err, "")
			_, err = r.Customer(t.Context(), access.Caller, "ref", false)
			wantCode(t, err, "")
			_, err = r.Customers(t.Context(), access.Caller, grahak.ListQuery{Limit: 1})
			wantCode(t, err, "")
			_, err = r.UpdateCustomer(t.Context(), access.Caller, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			want := grahak.CodeInsufficientScope
			if scope == grahak.ScopeWrite {
				want = ""
			}
			wantCode(t, err, want)
			_, err = r.Keys(t.Context(), access.Caller)
			wantCode(t, err, grahak.CodeInsufficientScope)
		}
	}
}

// The successor of a rotated key expires when it is asked to, not in the past.
func TestRotateKeyToOneThatExpires(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, _ := r.MustKey(t, acme, grahak.KeySpec{})
	expiry := r.clock.Now().Truncate(time.Second).Add(2 * time.Hour)
	_, _, err := r.RotateKey(t.Context(), operator(acme), key.ID, time.Hour, r.clock.Now().Add(-time.Second))
	wantCode(t, err, grahak.CodeInvalidKey)
	next, secret, err := r.RotateKey(t.Context(), operator(acme), key.ID, time.Hour, expiry)
	wantCode(t, err, "")
	diff(t, "the successor's expiry", expiry, next.ExpiresAt)
	r.clock.Advance(expiry.Sub(r.clock.Now()) - time.Nanosecond)
	_, err = r.Authenticate(t.Context(), grahak.Credential{Key: secret})
	wantCode(t, err, "")
	r.clock.Advance(time.Nanosecond)
	access, err := r.Authenticate(t.Context(), grahak.Credential{Key: secret})
	wantCode(t, err, grahak.CodeInvalidAPIKey)
	diff(t, "the refusal", grahak.RefusalExpired, access.Refusal)
}

// Neither a key, nor a token, nor anything personal is in any file.
func TestNothingToReadOnDisk(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, secret := r.MustKey(t, acme, grahak.KeySpec{})
	const imported = "imported-canary-0123456789"
	if _, err := r.ImportKey(t.Context(), operator(acme), imported, grahak.KeySpec{Label: "seen on disk", Scope: grahak.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	in := grahak.CustomerInput{
		Reference: given("reference-canary"), MobileNumber: given("9191919191"), MobileCountryCode: given("9797"),
		Email: given("email-canary@example.com"), FirstName: given("first-canary"), LastName: given("last-canary"),
	}
	result, err := r.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), in, grahak.WriteOptions{Token: true})
	if err != nil {
		t.Fatal(err)
	}
	in = grahak.CustomerInput{MobileNumber: given("9292929292"), LastName: given("changed-canary")}
	if _, err := r.UpdateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), "reference-canary", in, grahak.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(r.folder)
	if err != nil || len(entries) == 0 {
		t.Fatalf("the folder has %d files: %v", len(entries), err)
	}
	var all strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	found := func(text string) bool {
		return strings.Contains(strings.ToLower(all.String()), strings.ToLower(text))
	}
	if !found("seen on disk") || !found(string(result.Customer.ID)) {
		t.Fatal("the files do not hold what they should: the test looks at the wrong ones")
	}
	for _, text := range []string{
		"canary", "9191919191", "9292929292", secret, secret[len("gk_sandbox_")+4:],
		result.Token.Value, strings.TrimPrefix(result.Token.Value, "tkn_"),
	} {
		if found(text) {
			t.Errorf("%q stands in the data folder", text)
		}
	}
}

// Bytes that would favour some characters of a key are passed over.
func TestKeysAreUnbiased(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	random := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{255, 248}, 15)), bytes.NewReader(bytes.Repeat([]byte{247, 62}, 15)), endless(0))
	s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Random: random})
	_, secret, err := s.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	body := "gk_sandbox_" + strings.Repeat("z0", 15)
	diff(t, "the key", body+checksum(body), secret)
}
