package storetest

import (
	"net/netip"
	"slices"
	"time"

	"grahak"
)

var keyTests = []test{
	{"round trip", keyRoundTrip},
	{"hash is binary", keyHashIsBinary},
	{"revoke", keyRevoke},
	{"rotate", keyRotate},
	{"touch", keyTouch},
	{"touch together", keyTouchTogether},
	{"access", keyAccess},
}

func keyRoundTrip(r *rig) {
	r.MustMerchant(own)
	plain, bare, expiring, early := r.key(own), r.key(own), r.key(own), r.key(own)
	bare.Prefix, bare.Label, bare.Scope = "", "", grahak.ScopeRead
	expiring.ExpiresAt = start.Add(24*time.Hour + time.Microsecond)
	early.ExpiresAt = time.Unix(0, 0).UTC()
	keys := []grahak.APIKey{plain, bare, expiring, early}
	for _, k := range keys {
		r.must(r.store.CreateKey(r.Context(), own, k, r.event(grahak.EventKeyCreated, string(k.ID), 0)))
	}
	list, err := r.store.Keys(r.Context(), own)
	r.must(err)
	r.wantEqual("the keys, oldest first", list, keys)
	for _, k := range keys {
		got, err := r.store.Key(r.Context(), own, k.ID)
		r.must(err)
		r.wantEqual("the key", got, k)
	}
	none, err := r.store.Keys(r.Context(), nobody)
	r.must(err)
	r.wantEqual("nobody's keys", none, []grahak.APIKey(nil))
}

// keyHashIsBinary writes keys whose hashes would be one if they were read as
// text in any way.
func keyHashIsBinary(r *rig) {
	r.MustMerchant(own)
	var hashes []grahak.KeyHash
	for _, first := range []byte{0, 'a', 'A', 0x80, 0xff} {
		for _, last := range []byte{0, 1, ' ', 0xff} {
			var h grahak.KeyHash
			h[0], h[31] = first, last
			hashes = append(hashes, h)
		}
	}
	for _, h := range hashes {
		k := r.key(own)
		k.Hash = h
		r.must(r.store.CreateKey(r.Context(), own, k, r.event(grahak.EventKeyCreated, string(k.ID), 0)))
		access, err := r.store.Access(r.Context(), h)
		r.must(err)
		r.wantEqual("the key with the hash", access.Key, k)
	}
}

func keyRevoke(r *rig) {
	r.MustMerchant(own)
	k, bystander := r.MustKey(own), r.MustKey(own)
	k.RevokedAt = r.now()
	for _, at := range []time.Time{k.RevokedAt, r.now()} {
		r.must(r.store.RevokeKey(r.Context(), own, k.ID, at, r.event(grahak.EventKeyRevoked, string(k.ID), 0)))
		list, err := r.store.Keys(r.Context(), own)
		r.must(err)
		r.wantEqual("the keys", list, []grahak.APIKey{k, bystander})
		access, err := r.store.Access(r.Context(), k.Hash)
		r.must(err)
		r.wantEqual("the revoked key by hash", access.Key, k)
	}
}

func keyRotate(r *rig) {
	r.MustMerchant(own)
	end := start.Add(24 * time.Hour)
	for _, c := range []struct {
		name          string
		expires, want time.Time
	}{
		{"without expiry", time.Time{}, end},
		{"expires later", end.Add(time.Microsecond), end},
		{"expires at the same time", end, end},
		{"expires sooner", end.Add(-time.Microsecond), end.Add(-time.Microsecond)},
		{"has expired", start, start},
	} {
		old := r.key(own)
		old.ExpiresAt = c.expires
		r.must(r.store.CreateKey(r.Context(), own, old, r.event(grahak.EventKeyCreated, string(old.ID), 0)))
		bystander := r.MustKey(own)
		successor := r.key(own)
		event := r.event(grahak.EventKeyRotated, string(old.ID), 0)
		r.must(r.store.RotateKey(r.Context(), own, old.ID, end, successor, event))
		old.ExpiresAt = c.want
		for _, want := range []grahak.APIKey{old, bystander, successor} {
			got, err := r.store.Key(r.Context(), own, want.ID)
			r.must(err)
			r.wantEqual("a key that "+c.name, got, want)
			access, err := r.store.Access(r.Context(), want.Hash)
			r.must(err)
			r.wantEqual("a key by hash that "+c.name, access.Key, want)
		}
		events := r.MustEvents(own)
		r.wantEqual("the last event", events[len(events)-1], placed(event, len(events)))
	}
}

func keyTouch(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	a, b, foreign, unused := r.MustKey(own), r.MustKey(own), r.MustKey(other), r.MustKey(own)
	events, version := r.MustEvents(own), r.MustVersion()
	touch := func(used map[grahak.KeyRef]grahak.KeyUse) {
		r.Helper()
		r.must(r.store.TouchKeys(r.Context(), used))
		mine, err := r.store.Keys(r.Context(), own)
		r.must(err)
		r.wantEqual("the keys", mine, []grahak.APIKey{a, b, unused})
		theirs, err := r.store.Keys(r.Context(), other)
		r.must(err)
		r.wantEqual("the other merchant's keys", theirs, []grahak.APIKey{foreign})
	}
	touch(nil)
	a.LastUsedAt, foreign.LastUsedAt = r.now(), r.now()
	a.LastUsedAddr, foreign.LastUsedAddr = netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")
	touch(map[grahak.KeyRef]grahak.KeyUse{
		{Merchant: own, Key: a.ID}:           {At: a.LastUsedAt, Addr: netip.MustParseAddr("::ffff:203.0.113.7")},
		{Merchant: other, Key: foreign.ID}:   {At: foreign.LastUsedAt, Addr: foreign.LastUsedAddr},
		{Merchant: own, Key: "key_unknown"}:  {At: r.now()},
		{Merchant: nobody, Key: "key_other"}: {At: r.now()},
	})
	earlier := a.LastUsedAt
	a.LastUsedAt, b.LastUsedAt = r.now(), r.now()
	a.LastUsedAddr, b.LastUsedAddr = netip.Addr{}, netip.MustParseAddr("fe80::1")
	touch(map[grahak.KeyRef]grahak.KeyUse{{Merchant: own, Key: a.ID}: {At: a.LastUsedAt}, {Merchant: own, Key: b.ID}: {At: b.LastUsedAt, Addr: b.LastUsedAddr.WithZone("eth0")}})
	// A note that comes late does not turn the time back.
	touch(map[grahak.KeyRef]grahak.KeyUse{{Merchant: own, Key: a.ID}: {At: earlier, Addr: foreign.LastUsedAddr}})
	r.wantEqual("the events", r.MustEvents(own), events)
	r.wantEqual("the access version", r.MustVersion(), version)
}

// keyTouchTogether has many note the same keys, of two merchants: all notes are
// taken, and of each key the last time stands.
func keyTouchTogether(r *rig) {
	const each = 5
	r.MustMerchant(own)
	r.MustMerchant(other)
	var keys []grahak.APIKey
	for i := range 12 {
		keys = append(keys, r.MustKey([]grahak.MerchantID{own, other}[i%2]))
	}
	r.wantOutcomes(r.together(parallel, func(r *rig, i int) error {
		for n := range each {
			used := make(map[grahak.KeyRef]grahak.KeyUse)
			for j, k := range keys {
				// Not all of them, and not the same.
				if (i+j)%3 > 0 {
					used[grahak.KeyRef{Merchant: k.Merchant, Key: k.ID}] = grahak.KeyUse{At: start.Add(time.Duration(i*each+n+1) * time.Second)}
				}
			}
			if err := r.store.TouchKeys(r.Context(), used); err != nil {
				return err
			}
		}
		return nil
	}), map[grahak.Code]int{"": parallel})
	for j, k := range keys {
		last := parallel - 1
		for (last+j)%3 == 0 {
			last--
		}
		k.LastUsedAt = start.Add(time.Duration(last*each+each) * time.Second)
		got, err := r.store.Key(r.Context(), k.Merchant, k.ID)
		r.must(err)
		r.wantEqual("the key", got, k)
	}
}

func keyAccess(r *rig) {
	m, _ := r.MustMerchant(own)
	r.MustMerchant(other)
	k := r.MustKey(own)
	r.MustEntry(other, "198.51.100.0/24")
	want := grahak.AccessRecord{Key: k, Merchant: m}
	check := func(what string) {
		r.Helper()
		got, err := r.store.Access(r.Context(), k.Hash)
		r.must(err)
		slices.SortFunc(got.IPList, netip.Prefix.Compare)
		r.wantEqual(what, got, want)
	}
	check("without a list")
	for _, prefix := range []string{"203.0.113.7/32", "203.0.113.8/29", "2001:db8::/32"} {
		want.IPList = append(want.IPList, r.MustEntry(own, prefix).Prefix)
	}
	check("with a list")
	want.Merchant.IPMode = grahak.IPModeEnforce
	r.MustMode(own, grahak.IPModeEnforce)
	check("with an enforced list")
	want.Merchant.DisabledAt = r.now()
	r.must(r.store.DisableMerchant(r.Context(), own, want.Merchant.DisabledAt, r.event(grahak.EventMerchantDisabled, "", 0)))
	check("of a disabled merchant")
}
