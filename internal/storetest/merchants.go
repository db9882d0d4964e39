package storetest

import (
	"slices"
	"time"

	"grahak"
)

var merchantTests = []test{
	{"round trip", merchantRoundTrip},
	{"order", merchantOrder},
	{"disable", merchantDisable},
}

func merchantRoundTrip(r *rig) {
	list, err := r.store.Merchants(r.Context())
	r.must(err)
	r.wantEqual("the merchants of an empty store", list, []grahak.Merchant(nil))
	for name, m := range map[string]grahak.Merchant{
		"plain":          {ID: own, Name: "Acme", IPMode: grahak.IPModeOff, CreatedAt: r.now()},
		"other case":     {ID: other, Name: "acme", IPMode: grahak.IPModeOff, CreatedAt: r.now()},
		"without a name": {ID: "quiet", IPMode: grahak.IPModeReport, CreatedAt: r.now()},
		"any script":     {ID: "-_-", Name: "दुकान 'n' \"Söhne\" 🛒", IPMode: grahak.IPModeOff, CreatedAt: r.now()},
		"first second":   {ID: "1970", IPMode: grahak.IPModeOff, CreatedAt: time.Unix(0, 0).UTC()},
	} {
		keys := r.keyset(m.ID, r.MustMasterKey())
		event := r.event(grahak.EventMerchantCreated, "", 0)
		r.must(r.store.CreateMerchant(r.Context(), m, keys, event))
		r.wantEqual(name, r.MustState(m.ID), state{
			Merchant:  m,
			Seal:      grahak.SealState{Keyset: keys, RotatedAt: m.CreatedAt, Oldest: 1},
			Events:    []grahak.Event{placed(event, 1)},
			Unordered: true,
		})
		got, err := r.store.Keyset(r.Context(), m.ID)
		r.must(err)
		r.wantEqual(name+": the keys", got, keys)
	}
}

// merchantOrder uses ids whose order by bytes is that of no dictionary.
func merchantOrder(r *rig) {
	ids := []grahak.MerchantID{"b", "B", "a", "A", "_", "-", "0", "ab", "aB", "a-b", "a_b", "Z", "z", "10", "9"}
	for _, id := range ids {
		r.MustMerchant(id)
	}
	list, err := r.store.Merchants(r.Context())
	r.must(err)
	got := make([]grahak.MerchantID, len(list))
	for i, m := range list {
		got[i] = m.ID
	}
	slices.Sort(ids)
	r.wantEqual("the merchants", got, ids)
}

func merchantDisable(r *rig) {
	r.MustMerchant(other)
	want, _ := r.MustMerchant(own)
	k := r.MustKey(own)
	want.DisabledAt = r.now()
	for _, at := range []time.Time{want.DisabledAt, r.now()} {
		r.must(r.store.DisableMerchant(r.Context(), own, at, r.event(grahak.EventMerchantDisabled, "", 0)))
		got, err := r.store.Merchant(r.Context(), own)
		r.must(err)
		r.wantEqual("the disabled merchant", got, want)
		access, err := r.store.Access(r.Context(), k.Hash)
		r.must(err)
		r.wantEqual("the disabled merchant of a key", access.Merchant, want)
	}
	bystander, err := r.store.Merchant(r.Context(), other)
	r.must(err)
	r.wantEqual("another merchant's time", bystander.DisabledAt, time.Time{})

	// The first second of 1970 is a time, not the absence of one.
	r.must(r.store.DisableMerchant(r.Context(), other, time.Unix(0, 0), r.event(grahak.EventMerchantDisabled, "", 0)))
	bystander, err = r.store.Merchant(r.Context(), other)
	r.must(err)
	r.wantEqual("disabled in 1970", bystander.DisabledAt, time.Unix(0, 0).UTC())
}
