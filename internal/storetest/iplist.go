package storetest

import (
	"fmt"
	"net/netip"

	"grahak"
)

var ipListTests = []test{
	{"round trip", ipListRoundTrip},
	{"remove", ipListRemove},
	{"mode", ipListMode},
	{"empty", ipListEmpty},
	{"full", ipListFull},
}

func ipListRoundTrip(r *rig) {
	r.MustMerchant(own)
	list, err := r.store.IPList(r.Context(), own)
	r.must(err)
	r.wantEqual("a new list", list, []grahak.IPEntry(nil))
	var want []grahak.IPEntry
	// The order is that of no comparison of addresses or of their text.
	for _, prefix := range []string{"203.0.113.7/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "10.0.0.0/8", "2001:db8::1/128", "9.0.0.0/8", "203.0.113.6/32"} {
		entry := r.entry(prefix)
		if len(want)%2 == 0 {
			entry.Label, entry.AddedBy = "", ""
		}
		event := r.event(grahak.EventIPEntryAdded, prefix, 0)
		r.must(r.store.AddIPEntry(r.Context(), own, entry, event))
		want = append(want, entry)
		events := r.MustEvents(own)
		r.wantEqual("the last event", events[len(events)-1], placed(event, len(events)))
	}
	list, err = r.store.IPList(r.Context(), own)
	r.must(err)
	r.wantEqual("the list in the order of adding", list, want)
	none, err := r.store.IPList(r.Context(), nobody)
	r.must(err)
	r.wantEqual("nobody's list", none, []grahak.IPEntry(nil))
}

func ipListRemove(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	narrow, wide := r.MustEntry(own, "203.0.113.0/25"), r.MustEntry(own, "203.0.113.0/24")
	foreign := r.MustEntry(other, "203.0.113.0/24")
	remove := func(entry grahak.IPEntry, want ...grahak.IPEntry) {
		r.Helper()
		event := r.event(grahak.EventIPEntryRemoved, entry.Prefix.String(), 0)
		r.must(r.store.RemoveIPEntry(r.Context(), own, entry.Prefix, false, event))
		list, err := r.store.IPList(r.Context(), own)
		r.must(err)
		r.wantEqual("the list", list, want)
		events := r.MustEvents(own)
		r.wantEqual("the last event", events[len(events)-1], placed(event, len(events)))
	}
	remove(wide, narrow)
	// The last entry may go while nothing is enforced.
	r.MustMode(own, grahak.IPModeReport)
	remove(narrow)
	list, err := r.store.IPList(r.Context(), other)
	r.must(err)
	r.wantEqual("the other merchant's list", list, []grahak.IPEntry{foreign})
	// What was removed may come back.
	again := r.MustEntry(own, "203.0.113.0/24")
	list, err = r.store.IPList(r.Context(), own)
	r.must(err)
	r.wantEqual("the list", list, []grahak.IPEntry{again})
}

func ipListMode(r *rig) {
	want, _ := r.MustMerchant(own)
	r.MustEntry(own, "203.0.113.7/32")
	for _, mode := range []grahak.IPMode{grahak.IPModeReport, grahak.IPModeEnforce, grahak.IPModeOff} {
		want.IPMode = mode
		event := r.event(grahak.EventIPModeChanged, string(mode), 0)
		r.must(r.store.SetIPMode(r.Context(), own, mode, false, event))
		got, err := r.store.Merchant(r.Context(), own)
		r.must(err)
		r.wantEqual("the merchant", got, want)
		events := r.MustEvents(own)
		r.wantEqual("the last event", events[len(events)-1], placed(event, len(events)))
	}
	// Report is not enforce: an empty list is allowed.
	r.MustMerchant(other)
	r.MustMode(other, grahak.IPModeReport)
}

// ipListEmpty has an empty list enforced by those who know what they do.
func ipListEmpty(r *rig) {
	want, _ := r.MustMerchant(own)
	entry := r.MustEntry(own, "203.0.113.7/32")
	r.MustMode(own, grahak.IPModeEnforce)
	r.must(r.store.RemoveIPEntry(r.Context(), own, entry.Prefix, true, r.event(grahak.EventIPEntryRemoved, entry.Prefix.String(), 0)))
	want.IPMode = grahak.IPModeEnforce
	got := r.MustState(own)
	r.wantEqual("the merchant", got.Merchant, want)
	r.wantEqual("the list", got.IPList, []grahak.IPEntry(nil))
	r.wantEqual("events", len(got.Events), 4)
	r.MustMode(own, grahak.IPModeOff)
	r.must(r.store.SetIPMode(r.Context(), own, grahak.IPModeEnforce, true, r.event(grahak.EventIPModeChanged, "enforce", 0)))
	r.wantEqual("the mode", r.MustState(own).Merchant.IPMode, grahak.IPModeEnforce)
}

// ipListFull adds more entries than fit, from several callers at once.
func ipListFull(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	const callers, each, over = 8, 126, 8*126 - grahak.MaxIPEntries
	prefix := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i/256, i%256) }
	errs := make([]error, callers*each)
	r.together(callers, func(r *rig, caller int) error {
		for i := caller; i < len(errs); i += callers {
			errs[i] = r.store.AddIPEntry(r.Context(), own, r.entry(prefix(i)), r.event(grahak.EventIPEntryAdded, prefix(i), 0))
		}
		return nil
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": grahak.MaxIPEntries, grahak.CodeIPListFull: over})
	full := r.MustState(own)
	r.wantEqual("entries", len(full.IPList), grahak.MaxIPEntries)
	r.wantEqual("events", len(full.Events), 1+grahak.MaxIPEntries)
	err := r.store.AddIPEntry(r.Context(), own, r.entry("192.0.2.0/24"), r.event(grahak.EventIPEntryAdded, "192.0.2.0/24", 0))
	r.wantCode("one more", err, grahak.CodeIPListFull)
	r.wantEqual("the full list", r.MustState(own), full)
	// A full list is one merchant's.
	r.MustEntry(other, "192.0.2.0/24")
	// There is room again after one has gone.
	gone := full.IPList[0].Prefix
	r.must(r.store.RemoveIPEntry(r.Context(), own, gone, false, r.event(grahak.EventIPEntryRemoved, gone.String(), 0)))
	r.MustEntry(own, netip.MustParsePrefix("192.0.2.0/24").String())
}
