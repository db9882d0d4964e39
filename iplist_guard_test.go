package grahak_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"grahak"
)

// mustGuardRig returns a rig with a request log, of whose background work nothing runs:
// what it knows of addresses is pending.
func mustGuardRig(tb testing.TB) *rig {
	tb.Helper()
	r := MustMerchantRig(tb)
	r.Service = MustService(tb, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Requests: MustOpenRequests(tb)})
	return r
}

// call notes requests of a valid key of acme from addresses.
func (r *rig) call(addrs ...string) {
	for _, a := range addrs {
		r.NoteRequest(grahak.RequestRecord{
			At: r.clock.Now(), RequestID: "req-1", Merchant: acme, Key: "key_1", Method: "GET", Route: "/customers/{id}", Status: 200, Addr: netip.MustParseAddr(a),
		})
	}
}

// Before a change of an IP list it is known whom it shuts out, and it is done only by
// those who have confirmed as much as that asks for.
func TestIPGuard(t *testing.T) {
	t.Parallel()
	enforce := grahak.IPChange{Mode: grahak.IPModeEnforce}
	remove := func(entry string) grahak.IPChange { return grahak.IPChange{Remove: entry} }
	for name, c := range map[string]struct {
		mode   grahak.IPMode
		list   []string
		seen   []string
		change grahak.IPChange
		// What is wanted: how many go on, who is shut out, and what must be given.
		letIn   int
		shutOut []string
		needed  grahak.IPConfirmation
	}{
		"enforce from off, all are listed":         {grahak.IPModeOff, []string{"203.0.113.0/24"}, []string{"203.0.113.7", "203.0.113.8"}, enforce, 2, nil, grahak.IPConfirmNone},
		"enforce from report, all are listed":      {grahak.IPModeReport, []string{"203.0.113.0/24"}, []string{"203.0.113.7"}, enforce, 1, nil, grahak.IPConfirmNone},
		"enforce from off, some are listed":        {grahak.IPModeOff, []string{"203.0.113.7"}, []string{"203.0.113.7", "198.51.100.1"}, enforce, 1, []string{"198.51.100.1"}, grahak.IPConfirmSeen},
		"enforce from report, some are listed":     {grahak.IPModeReport, []string{"203.0.113.7"}, []string{"203.0.113.7", "198.51.100.1"}, enforce, 1, []string{"198.51.100.1"}, grahak.IPConfirmSeen},
		"enforce from off, none is listed":         {grahak.IPModeOff, []string{"203.0.113.7"}, []string{"198.51.100.1"}, enforce, 0, []string{"198.51.100.1"}, grahak.IPConfirmTyped},
		"enforce from report, none is listed":      {grahak.IPModeReport, []string{"203.0.113.7"}, []string{"198.51.100.1"}, enforce, 0, []string{"198.51.100.1"}, grahak.IPConfirmTyped},
		"enforce, nobody has called":               {grahak.IPModeOff, []string{"203.0.113.7"}, nil, enforce, 0, nil, grahak.IPConfirmNone},
		"enforce an empty list, nobody has called": {grahak.IPModeOff, nil, nil, enforce, 0, nil, grahak.IPConfirmTyped},
		"enforce an empty list":                    {grahak.IPModeReport, nil, []string{"203.0.113.7"}, enforce, 0, []string{"203.0.113.7"}, grahak.IPConfirmTyped},
		"enforce what is enforced":                 {grahak.IPModeEnforce, []string{"203.0.113.7"}, []string{"203.0.113.7", "198.51.100.1"}, enforce, 1, nil, grahak.IPConfirmNone},
		"report, none is listed":                   {grahak.IPModeEnforce, []string{"203.0.113.7"}, []string{"198.51.100.1"}, grahak.IPChange{Mode: grahak.IPModeReport}, 0, nil, grahak.IPConfirmNone},
		"off, none is listed":                      {grahak.IPModeReport, []string{"203.0.113.7"}, []string{"198.51.100.1"}, grahak.IPChange{Mode: grahak.IPModeOff}, 0, nil, grahak.IPConfirmNone},
		"remove while reporting":                   {grahak.IPModeReport, []string{"203.0.113.7"}, []string{"203.0.113.7"}, remove("203.0.113.7"), 0, nil, grahak.IPConfirmNone},
		"remove while off":                         {grahak.IPModeOff, []string{"203.0.113.7"}, []string{"203.0.113.7"}, remove("203.0.113.7"), 0, nil, grahak.IPConfirmNone},
		"remove what nobody calls from":            {grahak.IPModeEnforce, []string{"203.0.113.7", "192.0.2.1"}, []string{"203.0.113.7"}, remove("192.0.2.1"), 1, nil, grahak.IPConfirmNone},
		"remove what a wider entry holds":          {grahak.IPModeEnforce, []string{"203.0.113.7", "203.0.113.0/24"}, []string{"203.0.113.7"}, remove("203.0.113.7"), 1, nil, grahak.IPConfirmNone},
		"remove what some call from":               {grahak.IPModeEnforce, []string{"203.0.113.7", "192.0.2.1"}, []string{"203.0.113.7", "192.0.2.1"}, remove("192.0.2.1"), 1, []string{"192.0.2.1"}, grahak.IPConfirmSeen},
		"remove the last that anybody calls from":  {grahak.IPModeEnforce, []string{"203.0.113.7", "192.0.2.1"}, []string{"203.0.113.7"}, remove("203.0.113.7"), 0, []string{"203.0.113.7"}, grahak.IPConfirmTyped},
		"remove it, others are refused already":    {grahak.IPModeEnforce, []string{"203.0.113.7", "192.0.2.1"}, []string{"203.0.113.7", "198.51.100.1"}, remove("203.0.113.7"), 0, []string{"203.0.113.7"}, grahak.IPConfirmTyped},
		"remove one, all who call are refused":     {grahak.IPModeEnforce, []string{"203.0.113.7", "192.0.2.1"}, []string{"198.51.100.1"}, remove("203.0.113.7"), 0, nil, grahak.IPConfirmNone},
		"remove the last entry":                    {grahak.IPModeEnforce, []string{"203.0.113.7"}, nil, remove("203.0.113.7"), 0, nil, grahak.IPConfirmTyped},
		"remove in other words":                    {grahak.IPModeEnforce, []string{"203.0.113.0/24", "192.0.2.1"}, []string{"203.0.113.7"}, remove("::ffff:203.0.113.9/120"), 0, []string{"203.0.113.7"}, grahak.IPConfirmTyped},
		"IPv6 is listed":                           {grahak.IPModeOff, []string{"2001:db8::/32"}, []string{"2001:db8::1", "2001:db9::1"}, enforce, 1, []string{"2001:db9::1"}, grahak.IPConfirmSeen},
		"IPv4 in IPv6 is the IPv4 address":         {grahak.IPModeOff, []string{"203.0.113.0/24"}, []string{"::ffff:203.0.113.7", "::ffff:192.0.2.1"}, enforce, 1, []string{"192.0.2.1"}, grahak.IPConfirmSeen},
		"an IPv6 list does not hold IPv4":          {grahak.IPModeOff, []string{"::/0"}, []string{"203.0.113.7"}, enforce, 0, []string{"203.0.113.7"}, grahak.IPConfirmTyped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustGuardRig(t)
			for _, entry := range c.list {
				if _, err := r.AddIPEntry(t.Context(), operator(acme), entry, ""); err != nil {
					t.Fatal(err)
				}
			}
			if c.mode != grahak.IPModeOff {
				wantCode(t, r.SetIPMode(t.Context(), operator(acme), c.mode), "")
			}
			r.call(c.seen...)
			// What others call from does not matter.
			r.NoteRequest(grahak.RequestRecord{At: r.clock.Now(), Merchant: rival, Key: "key_2", Status: 200, Addr: netip.MustParseAddr("203.0.113.250")})
			before := r.mustIPList(t)

			plan, err := r.PlanIPChange(t.Context(), operator(acme), c.change)
			wantCode(t, err, "")
			var shutOut []string
			for _, use := range plan.ShutOut {
				shutOut = append(shutOut, use.Addr.String())
			}
			diff(t, "who is shut out", c.shutOut, shutOut)
			diff(t, "how many go on, if anything is refused", c.letIn, plan.LetIn)
			diff(t, "what is to be given", c.needed, plan.Confirmation())
			diff(t, "the list after the plan", before, r.mustIPList(t))

			for given := grahak.IPConfirmNone; given <= grahak.IPConfirmTyped; given++ {
				typed := "rival"
				if given == grahak.IPConfirmTyped {
					typed = string(acme)
				}
				_, err := r.ChangeIPList(t.Context(), operator(acme), c.change, given == grahak.IPConfirmSeen, typed)
				if given < c.needed {
					wantCode(t, err, grahak.CodeNotConfirmed)
					diff(t, fmt.Sprintf("the list after confirmation %d", given), before, r.mustIPList(t))
					continue
				}
				wantCode(t, err, "")
				break
			}
			after := r.mustIPList(t)
			wantMode, wantEntries := before.mode, len(before.list)
			if c.change.Remove != "" {
				wantEntries--
			} else {
				wantMode = c.change.Mode
			}
			diff(t, "the mode after", wantMode, after.mode)
			diff(t, "entries after", wantEntries, len(after.list))
		})
	}
}

// ipState is a merchant's IP list.
type ipState struct {
	mode grahak.IPMode
	list []string
}

// Equal lets states be compared.
func (s ipState) Equal(other ipState) bool { return fmt.Sprint(s) == fmt.Sprint(other) }

func (r *rig) mustIPList(tb testing.TB) (s ipState) {
	tb.Helper()
	m, entries, err := r.IPList(tb.Context(), operator(acme))
	if err != nil {
		tb.Fatal(err)
	}
	s.mode = m.IPMode
	for _, e := range entries {
		s.list = append(s.list, e.Prefix.String())
	}
	return s
}

// What was seen more than a day ago does not hold a change up, and what is not a change
// is refused.
func TestIPGuardLooksBackADay(t *testing.T) {
	t.Parallel()
	r := mustGuardRig(t)
	_, err := r.AddIPEntry(t.Context(), operator(acme), "203.0.113.7", "")
	wantCode(t, err, "")
	r.call("198.51.100.1")
	confirmation := func() grahak.IPConfirmation {
		t.Helper()
		plan, err := r.PlanIPChange(t.Context(), operator(acme), grahak.IPChange{Mode: grahak.IPModeEnforce})
		wantCode(t, err, "")
		return plan.Confirmation()
	}
	r.clock.Advance(23*time.Hour + 45*time.Minute)
	diff(t, "within a day", grahak.IPConfirmTyped, confirmation())
	r.clock.Advance(time.Hour)
	diff(t, "after a day", grahak.IPConfirmNone, confirmation())

	for name, c := range map[string]struct {
		change grahak.IPChange
		want   grahak.Code
	}{
		"nothing":            {grahak.IPChange{}, grahak.CodeInvalidIPEntry},
		"an unknown mode":    {grahak.IPChange{Mode: "strict"}, grahak.CodeInvalidIPEntry},
		"no address":         {grahak.IPChange{Remove: "nonsense"}, grahak.CodeInvalidIPEntry},
		"what is not listed": {grahak.IPChange{Remove: "192.0.2.1"}, grahak.CodeIPEntryNotFound},
		"part of what is":    {grahak.IPChange{Remove: "203.0.113.0/24"}, grahak.CodeIPEntryNotFound},
	} {
		_, err := r.ChangeIPList(t.Context(), operator(acme), c.change, true, string(acme))
		if got := grahak.CodeOf(err); got != c.want {
			t.Errorf("%s: got %v, want code %q", name, err, c.want)
		}
	}
	_, err = r.ChangeIPList(t.Context(), operator("nobody"), grahak.IPChange{Mode: grahak.IPModeOff}, true, "nobody")
	wantCode(t, err, grahak.CodeMerchantNotFound)
}

// Without a request log nobody knows who calls, so a list is not enforced unasked.
func TestIPGuardWithoutLog(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	_, err := r.AddIPEntry(t.Context(), operator(acme), "203.0.113.7", "")
	wantCode(t, err, "")
	for _, mode := range []grahak.IPMode{grahak.IPModeReport, grahak.IPModeOff} {
		_, err = r.ChangeIPList(t.Context(), operator(acme), grahak.IPChange{Mode: mode}, false, "")
		wantCode(t, err, "")
	}
	enforce := grahak.IPChange{Mode: grahak.IPModeEnforce}
	plan, err := r.ChangeIPList(t.Context(), operator(acme), enforce, false, "")
	wantCode(t, err, grahak.CodeNotConfirmed)
	diff(t, "the plan", grahak.IPPlan{Entries: 1, Enforced: true, Blind: true}, plan)
	_, err = r.ChangeIPList(t.Context(), operator(acme), enforce, true, "")
	wantCode(t, err, "")
	// The last entry of what is enforced takes more than that.
	_, err = r.ChangeIPList(t.Context(), operator(acme), grahak.IPChange{Remove: "203.0.113.7"}, true, "")
	wantCode(t, err, grahak.CodeNotConfirmed)
}

// With many addresses in use the plan names all that would be shut out.
func TestIPGuardManyAddresses(t *testing.T) {
	t.Parallel()
	r := mustGuardRig(t)
	_, err := r.AddIPEntry(t.Context(), operator(acme), "10.0.0.0/25", "")
	wantCode(t, err, "")
	for i := range 256 {
		r.call(fmt.Sprintf("10.0.0.%d", i))
	}
	plan, err := r.PlanIPChange(t.Context(), operator(acme), grahak.IPChange{Mode: grahak.IPModeEnforce})
	wantCode(t, err, "")
	diff(t, "shut out, let in", [2]int{128, 128}, [2]int{len(plan.ShutOut), plan.LetIn})
}
