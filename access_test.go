package grahak_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/seal"
)

// authenticate returns the code of a request with key from addr.
func (r *rig) authenticate(tb testing.TB, key, addr string) grahak.Code {
	tb.Helper()
	cred := grahak.Credential{Key: key}
	if addr != "" {
		cred.Addr = netip.MustParseAddr(addr)
	}
	_, err := r.Authenticate(tb.Context(), cred)
	return grahak.CodeOf(err)
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, secret := r.MustKey(t, acme, grahak.KeySpec{Scope: grahak.ScopeRead})
	rivalKey, rivalSecret := r.MustKey(t, rival, grahak.KeySpec{})
	known := grahak.Access{
		Caller: grahak.Caller{Merchant: acme, Actor: string(key.ID), Scope: grahak.ScopeRead},
		KeyID:  key.ID, KeyMerchant: acme,
		IP: grahak.IPVerdict{Mode: grahak.IPModeOff},
	}
	refused := func(id grahak.KeyID, why grahak.Refusal) grahak.Access {
		access := grahak.Access{KeyID: id, Refusal: why}
		if id != "" {
			access.KeyMerchant = acme
		}
		return access
	}
	for _, c := range []struct {
		name string
		cred grahak.Credential
		want grahak.Access
		code grahak.Code
	}{
		{"the key alone", grahak.Credential{Key: secret}, known, ""},
		{"the key and its merchant", grahak.Credential{Key: secret, Merchant: "acme"}, known, ""},
		{"another merchant's key", grahak.Credential{Key: rivalSecret}, grahak.Access{
			Caller: grahak.Caller{Merchant: rival, Actor: string(rivalKey.ID), Scope: grahak.ScopeWrite},
			KeyID:  rivalKey.ID, KeyMerchant: rival,
			IP: grahak.IPVerdict{Mode: grahak.IPModeOff},
		}, ""},
		{"the key and another merchant", grahak.Credential{Key: secret, Merchant: "rival"}, refused(key.ID, grahak.RefusalOtherMerchant), grahak.CodeInvalidAPIKey},
		{"the key and an unknown merchant", grahak.Credential{Key: secret, Merchant: "nobody"}, refused(key.ID, grahak.RefusalOtherMerchant), grahak.CodeInvalidAPIKey},
		{"the key and its merchant in capitals", grahak.Credential{Key: secret, Merchant: "Acme"}, refused(key.ID, grahak.RefusalOtherMerchant), grahak.CodeInvalidAPIKey},
		{"the key and its merchant with a space", grahak.Credential{Key: secret, Merchant: "acme "}, refused(key.ID, grahak.RefusalOtherMerchant), grahak.CodeInvalidAPIKey},
		{"nothing", grahak.Credential{}, refused("", grahak.RefusalMalformed), grahak.CodeInvalidAPIKey},
		{"a merchant without a key", grahak.Credential{Merchant: "acme"}, refused("", grahak.RefusalMalformed), grahak.CodeInvalidAPIKey},
		{"an unknown key", grahak.Credential{Key: "0123456789abcdef"}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key in capitals", grahak.Credential{Key: strings.ToUpper(secret)}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key and a space", grahak.Credential{Key: secret + " "}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key's prefix", grahak.Credential{Key: key.Prefix}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key's id", grahak.Credential{Key: string(key.ID)}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key's hash", grahak.Credential{Key: string(key.Hash[:])}, refused("", grahak.RefusalUnknown), grahak.CodeInvalidAPIKey},
		{"the key, mistyped", grahak.Credential{Key: mistype(secret, len(secret)-1)}, refused("", grahak.RefusalMalformed), grahak.CodeInvalidAPIKey},
		{"far too much", grahak.Credential{Key: strings.Repeat("a", 1<<20)}, refused("", grahak.RefusalMalformed), grahak.CodeInvalidAPIKey},
	} {
		access, err := r.Authenticate(t.Context(), c.cred)
		if got := grahak.CodeOf(err); got != c.code {
			t.Errorf("%s: got %v, want code %q", c.name, err, c.code)
		}
		diff(t, c.name, c.want, access)
	}
}

// A key that is known but not valid is refused with the first reason that holds,
// and the log may name it; the caller is nobody.
func TestRefusals(t *testing.T) {
	t.Parallel()
	revoke := func(t *testing.T, r *rig, key grahak.KeyID) {
		t.Helper()
		wantCode(t, r.RevokeKey(t.Context(), operator(acme), key), "")
	}
	expire := func(_ *testing.T, r *rig, _ grahak.KeyID) { r.clock.Advance(time.Hour) }
	disable := func(t *testing.T, r *rig, _ grahak.KeyID) {
		t.Helper()
		wantCode(t, r.DisableMerchant(t.Context(), operator(acme)), "")
	}
	type change func(*testing.T, *rig, grahak.KeyID)
	for _, c := range []struct {
		name     string
		changes  []change
		merchant string
		want     grahak.Refusal
	}{
		{"revoked", []change{revoke}, "", grahak.RefusalRevoked},
		{"expired", []change{expire}, "", grahak.RefusalExpired},
		{"of a disabled merchant", []change{disable}, "", grahak.RefusalMerchantDisabled},
		{"of another merchant", nil, string(rival), grahak.RefusalOtherMerchant},
		{"revoked, expired, disabled, another's", []change{revoke, expire, disable}, string(rival), grahak.RefusalRevoked},
		{"expired, disabled, another's", []change{expire, disable}, string(rival), grahak.RefusalExpired},
		{"disabled, another's", []change{disable}, string(rival), grahak.RefusalMerchantDisabled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := MustMerchantRig(t)
			// The expiry is that of a whole second, since times are stored in
			// microseconds.
			key, secret := r.MustKey(t, acme, grahak.KeySpec{ExpiresAt: r.clock.Now().Truncate(time.Second).Add(time.Hour)})
			cred := grahak.Credential{Key: secret, Merchant: string(acme), Addr: netip.MustParseAddr("192.0.2.1")}
			access, err := r.Authenticate(t.Context(), cred)
			wantCode(t, err, "")
			diff(t, "the refusal of a valid key", grahak.Refusal(""), access.Refusal)
			// A list that would refuse the address as well says nothing more.
			if _, err := r.AddIPEntry(t.Context(), operator(acme), "198.51.100.1", ""); err != nil {
				t.Fatal(err)
			}
			wantCode(t, r.SetIPMode(t.Context(), operator(acme), grahak.IPModeEnforce), "")
			for _, change := range c.changes {
				change(t, r, key.ID)
			}
			if c.merchant != "" {
				cred.Merchant = c.merchant
			}
			access, err = r.Authenticate(t.Context(), cred)
			wantCode(t, err, grahak.CodeInvalidAPIKey)
			diff(t, "the outcome", grahak.Access{KeyID: key.ID, KeyMerchant: acme, Refusal: c.want}, access)
			// Clients are not told which of the reasons it was.
			diff(t, "what the client is told", "The API key is not valid.", err.Error())
		})
	}
}

// Who is refused for the address is known, and not refused for the key.
func TestRefusedAddress(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, secret := r.MustKey(t, acme, grahak.KeySpec{})
	if _, err := r.AddIPEntry(t.Context(), operator(acme), "198.51.100.0/24", ""); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.SetIPMode(t.Context(), operator(acme), grahak.IPModeEnforce), "")
	access, err := r.Authenticate(t.Context(), grahak.Credential{Key: secret, Addr: netip.MustParseAddr("192.0.2.1")})
	wantCode(t, err, grahak.CodeIPNotWhitelisted)
	if !access.IP.Refused() {
		t.Errorf("the list says %+v", access.IP)
	}
	access.IP = grahak.IPVerdict{}
	diff(t, "who was refused", grahak.Access{
		Caller: grahak.Caller{Merchant: acme, Actor: string(key.ID), Scope: grahak.ScopeWrite},
		KeyID:  key.ID, KeyMerchant: acme,
	}, access)
}

// What this process changes holds for the very next request, with no time
// passing and the key in memory.
func TestOwnChangesHoldAtOnce(t *testing.T) {
	t.Parallel()
	const here = "192.0.2.1"
	enforce := func(r *rig, t *testing.T, entry string) {
		t.Helper()
		if _, err := r.AddIPEntry(t.Context(), operator(acme), entry, ""); err != nil {
			t.Fatal(err)
		}
		if err := r.SetIPMode(t.Context(), operator(acme), grahak.IPModeEnforce); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		before func(r *rig, t *testing.T)
		change func(r *rig, t *testing.T, key grahak.KeyID) error
		was    grahak.Code
		is     grahak.Code
	}{
		{name: "revoke", is: grahak.CodeInvalidAPIKey, change: func(r *rig, t *testing.T, key grahak.KeyID) error {
			return r.RevokeKey(t.Context(), operator(acme), key)
		}},
		{name: "rotate without overlap", is: grahak.CodeInvalidAPIKey, change: func(r *rig, t *testing.T, key grahak.KeyID) error {
			_, _, err := r.RotateKey(t.Context(), operator(acme), key, 0, time.Time{})
			return err
		}},
		{name: "disable the merchant", is: grahak.CodeInvalidAPIKey, change: func(r *rig, t *testing.T, _ grahak.KeyID) error {
			return r.DisableMerchant(t.Context(), operator(acme))
		}},
		{name: "disable another merchant", change: func(r *rig, t *testing.T, _ grahak.KeyID) error {
			return r.DisableMerchant(t.Context(), operator(rival))
		}},
		{
			name:   "enforce",
			is:     grahak.CodeIPNotWhitelisted,
			change: func(r *rig, t *testing.T, _ grahak.KeyID) error { enforce(r, t, "198.51.100.0/24"); return nil },
		},
		{
			name: "add the address", was: grahak.CodeIPNotWhitelisted,
			before: func(r *rig, t *testing.T) { enforce(r, t, "198.51.100.0/24") },
			change: func(r *rig, t *testing.T, _ grahak.KeyID) error {
				_, err := r.AddIPEntry(t.Context(), operator(acme), here, "")
				return err
			},
		},
		{
			name: "remove the address", is: grahak.CodeIPNotWhitelisted,
			before: func(r *rig, t *testing.T) { enforce(r, t, here); enforce(r, t, "198.51.100.0/24") },
			change: func(r *rig, t *testing.T, _ grahak.KeyID) error {
				return r.RemoveIPEntry(t.Context(), operator(acme), here)
			},
		},
		{
			name: "switch the list off", was: grahak.CodeIPNotWhitelisted,
			before: func(r *rig, t *testing.T) { enforce(r, t, "198.51.100.0/24") },
			change: func(r *rig, t *testing.T, _ grahak.KeyID) error {
				return r.SetIPMode(t.Context(), operator(acme), grahak.IPModeOff)
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := MustMerchantRig(t)
			if c.before != nil {
				c.before(r, t)
			}
			key, secret := r.MustKey(t, acme, grahak.KeySpec{})
			for range 2 {
				if got := r.authenticate(t, secret, here); got != c.was {
					t.Fatalf("before the change: got code %q, want %q", got, c.was)
				}
			}
			if err := c.change(r, t, key.ID); err != nil {
				t.Fatal(err)
			}
			if got := r.authenticate(t, secret, here); got != c.is {
				t.Errorf("after the change: got code %q, want %q", got, c.is)
			}
		})
	}
}

// A key that was refused because it did not exist is accepted as soon as it
// does: at once if this process makes it, within two seconds if another does.
func TestRefusalIsNotRemembered(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	const secret, own = "brought-along-0123456789", "brought-along-9876543210"
	if got := r.authenticate(t, own, ""); got != grahak.CodeInvalidAPIKey {
		t.Fatalf("before the import: got code %q", got)
	}
	if _, err := r.ImportKey(t.Context(), operator(acme), own, grahak.KeySpec{Scope: grahak.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	// Somebody else finds first that there was a change.
	_, busy := r.MustKey(t, rival, grahak.KeySpec{})
	if got := r.authenticate(t, busy, ""); got != "" {
		t.Errorf("another key: got code %q", got)
	}
	if got := r.authenticate(t, own, ""); got != "" {
		t.Errorf("after this process imported the key: got code %q", got)
	}
	if got := r.authenticate(t, secret, ""); got != grahak.CodeInvalidAPIKey {
		t.Fatalf("before the import: got code %q", got)
	}
	// Another process imports it.
	if _, err := r.MustJoin(t).ImportKey(t.Context(), operator(acme), secret, grahak.KeySpec{Scope: grahak.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	// It comes often meanwhile, which must not prolong the refusal.
	for range 20 {
		r.authenticate(t, secret, "")
		r.clock.Advance(100 * time.Millisecond)
	}
	if got := r.authenticate(t, secret, ""); got != "" {
		t.Errorf("two seconds after another process imported the key: got code %q", got)
	}
}

// What another process changes holds within two seconds.
func TestOthersChangesHoldSoon(t *testing.T) {
	t.Parallel()
	const here = "192.0.2.1"
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	key, secret := r.MustKey(t, acme, grahak.KeySpec{})
	_, second := r.MustKey(t, acme, grahak.KeySpec{})

	step := func(name string, change func() error, secret string, want grahak.Code) {
		t.Helper()
		r.authenticate(t, secret, here) // Now it is in memory, fresh.
		if err := change(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.clock.Advance(2 * time.Second)
		if got := r.authenticate(t, secret, here); got != want {
			t.Errorf("two seconds after another process did %s: got code %q, want %q", name, got, want)
		}
	}
	step("add an entry", func() error {
		_, err := other.AddIPEntry(t.Context(), operator(acme), "198.51.100.0/24", "")
		return err
	}, secret, "")
	step("enforce", func() error { return other.SetIPMode(t.Context(), operator(acme), grahak.IPModeEnforce) }, secret, grahak.CodeIPNotWhitelisted)
	step("add the address", func() error {
		_, err := other.AddIPEntry(t.Context(), operator(acme), here, "")
		return err
	}, secret, "")
	step("remove the address", func() error { return other.RemoveIPEntry(t.Context(), operator(acme), here) }, secret, grahak.CodeIPNotWhitelisted)
	step("switch the list off", func() error { return other.SetIPMode(t.Context(), operator(acme), grahak.IPModeOff) }, secret, "")
	step("rotate", func() error {
		_, _, err := other.RotateKey(t.Context(), operator(acme), key.ID, time.Second, time.Time{})
		return err
	}, secret, grahak.CodeInvalidAPIKey)
	step("disable", func() error { return other.DisableMerchant(t.Context(), operator(acme)) }, second, grahak.CodeInvalidAPIKey)
}

// Requests that keep coming must not keep an old record alive.
func TestBusyKeyDoesNotStayStale(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, secret := r.MustKey(t, acme, grahak.KeySpec{})
	r.authenticate(t, secret, "")
	if err := r.MustJoin(t).RevokeKey(t.Context(), operator(acme), key.ID); err != nil {
		t.Fatal(err)
	}
	for range 19 {
		r.clock.Advance(100 * time.Millisecond)
		r.authenticate(t, secret, "")
	}
	r.clock.Advance(100 * time.Millisecond)
	if got := r.authenticate(t, secret, ""); got != grahak.CodeInvalidAPIKey {
		t.Errorf("two seconds of requests after the key was revoked: got code %q", got)
	}
}

// paused is a store whose next Access, once it has read, lets something else
// happen before it returns.
type paused struct {
	grahak.Store
	meanwhile func()
}

func (p *paused) Access(ctx context.Context, hash grahak.KeyHash) (grahak.AccessRecord, error) {
	record, err := p.Store.Access(ctx, hash)
	if do := p.meanwhile; do != nil {
		p.meanwhile = nil
		do()
	}
	return record, err
}

// A record that was read before a change is not remembered after it, even when
// the change was noticed before the record came.
func TestRecordThatComesLate(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	other := r.MustJoin(t)
	_, busy := r.MustKey(t, rival, grahak.KeySpec{})
	for name, noticed := range map[string]bool{"noticed": true, "not noticed": false} {
		key, secret := r.MustKey(t, acme, grahak.KeySpec{})
		store := &paused{Store: r.store}
		s := MustService(t, grahak.Config{Store: store, Sealer: r.sealer, Clock: r.clock})
		_, err := s.Authenticate(t.Context(), grahak.Credential{Key: busy})
		wantCode(t, err, "")
		store.meanwhile = func() {
			if err := other.RevokeKey(t.Context(), operator(acme), key.ID); err != nil {
				t.Error(err)
			}
			if noticed {
				r.clock.Advance(2 * time.Second)
				_, err := s.Authenticate(t.Context(), grahak.Credential{Key: busy})
				wantCode(t, err, "")
			}
		}
		// This request began before the change, so it may be answered either way.
		_, _ = s.Authenticate(t.Context(), grahak.Credential{Key: secret})
		r.clock.Advance(2 * time.Second)
		_, err = s.Authenticate(t.Context(), grahak.Credential{Key: secret})
		if grahak.CodeOf(err) != grahak.CodeInvalidAPIKey {
			t.Errorf("two seconds after a change that was %s: got %v", name, err)
		}
	}
}

// Changes and requests at once: when a change has returned, no later request
// may see what was before it.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, busy := r.MustKey(t, rival, grahak.KeySpec{})
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var current sync.Map
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				r.authenticate(t, busy, "")
				if key, ok := current.Load("key"); ok {
					r.authenticate(t, key.(string), "")
				}
			}
		})
	}
	for range 20 {
		key, secret := r.MustKey(t, acme, grahak.KeySpec{})
		current.Store("key", secret)
		if got := r.authenticate(t, secret, ""); got != "" {
			t.Errorf("a new key: got code %q", got)
		}
		if err := r.RevokeKey(t.Context(), operator(acme), key.ID); err != nil {
			t.Fatal(err)
		}
		if got := r.authenticate(t, secret, ""); got != grahak.CodeInvalidAPIKey {
			t.Errorf("a revoked key: got code %q", got)
		}
	}
	stop()
	group.Wait()
}

// An outage of the storage must not look like a refusal, nor a refusal that
// needs no storage like an outage.
func TestStorageOutage(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, used := r.MustKey(t, acme, grahak.KeySpec{})
	_, unused := r.MustKey(t, acme, grahak.KeySpec{})
	r.MustCreate(t, acme, person("ref"))
	r.authenticate(t, used, "")
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  string
		want grahak.Code
	}{
		"a key that is not in memory": {unused, grahak.CodeUnavailable},
		"an unknown key":              {"0123456789abcdef", grahak.CodeUnavailable},
		"a mistyped key":              {mistype(used, 15), grahak.CodeInvalidAPIKey},
		"a key that is too long":      {strings.Repeat("a", 257), grahak.CodeInvalidAPIKey},
		"no key":                      {"", grahak.CodeInvalidAPIKey},
	} {
		if got := r.authenticate(t, c.key, ""); got != c.want {
			t.Errorf("%s: got code %q, want %q", name, got, c.want)
		}
	}
	r.clock.Advance(2 * time.Second)
	if got := r.authenticate(t, used, ""); got != grahak.CodeUnavailable {
		t.Errorf("a key that was in memory two seconds ago: got code %q, want %q", got, grahak.CodeUnavailable)
	}
	ctx, c := t.Context(), caller(acme, grahak.ScopeWrite)
	for name, call := range map[string]func() error{
		"create": func() error { _, err := r.CreateCustomer(ctx, c, person("new"), grahak.WriteOptions{}); return err },
		"read":   func() error { _, err := r.Customer(ctx, c, "ref", false); return err },
		"update": func() error {
			_, err := r.UpdateCustomer(ctx, c, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			return err
		},
		"list":   func() error { _, err := r.Customers(ctx, c, grahak.ListQuery{Limit: 1}); return err },
		"verify": func() error { _, err := r.VerifyToken(ctx, "tkn_0"); return err },
		"ready":  func() error { return r.Ready(ctx) },
		"keys":   func() error { _, err := r.Keys(ctx, operator(acme)); return err },
		"revoke": func() error { return r.RevokeKey(ctx, operator(acme), "key_0") },
	} {
		if err := call(); grahak.CodeOf(err) != grahak.CodeUnavailable {
			t.Errorf("%s without storage: got %v, want code %q", name, err, grahak.CodeUnavailable)
		}
	}
}

// Without the sealing keys the customers are out of reach, not gone.
func TestSealingOutage(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	r.MustCreate(t, acme, person("ref"))
	_, secret := r.MustKey(t, acme, grahak.KeySpec{})
	none := func(context.Context) ([]*seal.MasterKey, error) { return nil, context.DeadlineExceeded }
	s := MustService(t, grahak.Config{Store: r.store, Sealer: seal.NewSealer(seal.NewMasterKeys(none, 0), r.store), Clock: r.clock})
	if _, err := s.Authenticate(t.Context(), grahak.Credential{Key: secret}); err != nil {
		t.Errorf("authentication needs no sealing keys, but got %v", err)
	}
	ctx, c := t.Context(), caller(acme, grahak.ScopeWrite)
	before := r.MustEvents(t, acme)
	for name, call := range map[string]func() error{
		"create": func() error { _, err := s.CreateCustomer(ctx, c, person("new"), grahak.WriteOptions{}); return err },
		"read":   func() error { _, err := s.Customer(ctx, c, "ref", false); return err },
		"update": func() error {
			_, err := s.UpdateCustomer(ctx, c, "ref", grahak.CustomerInput{FirstName: given("New")}, grahak.WriteOptions{})
			return err
		},
		"list":            func() error { _, err := s.Customers(ctx, c, grahak.ListQuery{Limit: 1}); return err },
		"make a merchant": func() error { _, err := s.CreateMerchant(ctx, operator("new"), ""); return err },
	} {
		if err := call(); grahak.CodeOf(err) != grahak.CodeUnavailable {
			t.Errorf("%s without sealing keys: got %v, want code %q", name, err, grahak.CodeUnavailable)
		}
	}
	diff(t, "events of that", before, r.MustEvents(t, acme))
}
