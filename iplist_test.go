package grahak_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak"
)

func TestParseIPEntry(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"203.0.113.7":                  "203.0.113.7/32",
		" 203.0.113.7\n":               "203.0.113.7/32",
		"203.0.113.7/32":               "203.0.113.7/32",
		"203.0.113.77/24":              "203.0.113.0/24",
		"0.0.0.0/0":                    "0.0.0.0/0",
		"1.2.3.4/0":                    "0.0.0.0/0",
		"2001:db8::1":                  "2001:db8::1/128",
		"2001:DB8:0:0::1":              "2001:db8::1/128",
		"2001:db8:ffff::1/32":          "2001:db8::/32",
		"::/0":                         "::/0",
		"::1":                          "::1/128",
		"::ffff:203.0.113.7":           "203.0.113.7/32",
		"::ffff:cb00:7107":             "203.0.113.7/32",
		"::ffff:203.0.113.7/128":       "203.0.113.7/32",
		"::ffff:203.0.113.77/120":      "203.0.113.0/24",
		"::ffff:0:0/96":                "0.0.0.0/0",
		"0:0:0:0:0:ffff:203.0.113.7":   "203.0.113.7/32",
		"64:ff9b::203.0.113.7":         "64:ff9b::cb00:7107/128",
		"::203.0.113.7":                "::cb00:7107/128",
		"ffff:ffff:ffff::ffff:1.2.3.4": "ffff:ffff:ffff::ffff:102:304/128",
	} {
		got, err := grahak.ParseIPEntry(in)
		if err != nil || got.String() != want {
			t.Errorf("ParseIPEntry(%q) = %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", " ", "localhost", "example.com", "203.0.113", "203.0.113.7.1", "203.0.113.256", "203.0.113.07", "203.0.113.7:80", "203.0.113.*",
		"203.0.113.7-203.0.113.9", "203.0.113.7,203.0.113.8", "203.0.113.7 203.0.113.8",
		"203.0.113.0/33", "203.0.113.0/-1", "203.0.113.0/", "203.0.113.0/024", "203.0.113.0/24/24", "203.0.113.0/ 24", "203.0.113.0/255.255.255.0", "/24",
		"[2001:db8::1]", "2001:db8::1::2", "2001:db8::/129", "2001:db8::g",
		"fe80::1%eth0", "fe80::1%eth0/64", "fe80::%eth0/10", "::ffff:203.0.113.7%eth0",
		"::ffff:203.0.113.7/95", "::ffff:203.0.113.0/24", "::ffff:0:0/0",
		"203.0.113.7\x00", "\xff",
	} {
		got, err := grahak.ParseIPEntry(in)
		if grahak.CodeOf(err) != grahak.CodeInvalidIPEntry || got.IsValid() {
			t.Errorf("ParseIPEntry(%q) = %v, %v, want code %q", in, got, err, grahak.CodeInvalidIPEntry)
		}
	}
}

// FuzzParseIPEntry checks that an entry is refused with the right code, or has
// the one form that every notation of it has.
func FuzzParseIPEntry(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		p, err := grahak.ParseIPEntry(s)
		if err != nil {
			if grahak.CodeOf(err) != grahak.CodeInvalidIPEntry || p.IsValid() {
				t.Fatalf("ParseIPEntry(%q) = %v, %v, want code %q and no entry", s, p, err, grahak.CodeInvalidIPEntry)
			}
			return
		}
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			t.Fatalf("ParseIPEntry(%q) = %v, which is not canonical", s, p)
		}
		again, err := grahak.ParseIPEntry(p.String())
		if err != nil || again != p {
			t.Fatalf("ParseIPEntry(%q) = %v, whose own notation gives %v, %v", s, p, again, err)
		}
		// A single address is on a list that has it.
		if addr, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil && !p.Contains(addr.Unmap()) {
			t.Fatalf("ParseIPEntry(%q) = %v, which does not hold the address", s, p)
		}
	})
}

func TestIPVerdicts(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	key, secret := r.MustKey(t, acme, grahak.KeySpec{})
	for _, entry := range []string{"203.0.113.0/24", "198.51.100.7", "2001:db8::/32", "fe80::/10"} {
		if _, err := r.AddIPEntry(t.Context(), operator(acme), entry, ""); err != nil {
			t.Fatal(err)
		}
	}
	// A rival's list must not help, nor harm.
	if _, err := r.AddIPEntry(t.Context(), operator(rival), "0.0.0.0/0", ""); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []grahak.IPMode{grahak.IPModeOff, grahak.IPModeReport, grahak.IPModeEnforce} {
		if err := r.SetIPMode(t.Context(), operator(acme), mode); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ addr, matched string }{
			{"203.0.113.0", "203.0.113.0/24"},
			{"203.0.113.255", "203.0.113.0/24"},
			{"203.0.114.0", ""},
			{"203.0.112.255", ""},
			{"198.51.100.7", "198.51.100.7/32"},
			{"198.51.100.8", ""},
			{"::ffff:203.0.113.7", "203.0.113.0/24"},
			{"::ffff:198.51.100.8", ""},
			{"::203.0.113.7", ""},
			{"2001:db8:ffff::1", "2001:db8::/32"},
			{"2001:db9::1", ""},
			{"fe80::1%eth0", "fe80::/10"},
			{"fe80::1", "fe80::/10"},
			{"::1", ""},
			{"", ""},
		} {
			name := fmt.Sprintf("%q in mode %s", c.addr, mode)
			var cred grahak.Credential
			cred.Key = secret
			want := grahak.IPVerdict{Mode: mode}
			if c.matched != "" {
				want.Listed, want.Matched = true, netip.MustParsePrefix(c.matched)
			}
			if c.addr != "" {
				cred.Addr = netip.MustParseAddr(c.addr)
				got, err := r.TestIP(t.Context(), operator(acme), c.addr)
				wantCode(t, err, "")
				diff(t, "the test of "+name, want, got)
			}
			if mode == grahak.IPModeOff {
				want = grahak.IPVerdict{Mode: mode} // Nothing is compared then.
			}
			access, err := r.Authenticate(t.Context(), cred)
			refused := mode == grahak.IPModeEnforce && c.matched == ""
			code := grahak.Code("")
			if refused {
				code = grahak.CodeIPNotWhitelisted
			}
			if grahak.CodeOf(err) != code {
				t.Errorf("%s: got %v, want code %q", name, err, code)
			}
			// Who was refused is told too, for the log.
			diff(t, name, grahak.Access{
				Caller: grahak.Caller{Merchant: acme, Actor: string(key.ID), Scope: grahak.ScopeWrite}, KeyID: key.ID, KeyMerchant: acme, IP: want,
			}, access)
			diff(t, name+": would be refused", mode == grahak.IPModeReport && c.matched == "", access.IP.WouldRefuse())
			diff(t, name+": is refused", refused, access.IP.Refused())
		}
	}
}

func TestIPListEditing(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	first, err := r.AddIPEntry(t.Context(), operator(acme), "203.0.113.77/24", strings.Repeat("क", 64))
	wantCode(t, err, "")
	r.clock.Advance(time.Second)
	// A later entry that sorts before the first shows which order is kept.
	second, err := r.AddIPEntry(t.Context(), grahak.Operator(acme, "cli:other"), "::ffff:192.0.2.1", "")
	wantCode(t, err, "")
	_, err = r.AddIPEntry(t.Context(), operator(rival), "203.0.113.0/24", "rival's own")
	wantCode(t, err, "")

	m, list, err := r.IPList(t.Context(), operator(acme))
	wantCode(t, err, "")
	diff(t, "mode", grahak.IPModeOff, m.IPMode)
	diff(t, "the list in order of adding", []grahak.IPEntry{first, second}, list)
	diff(t, "the entries", []grahak.IPEntry{
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Label: strings.Repeat("क", 64), AddedBy: "cli:tester", CreatedAt: time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC)},
		{Prefix: netip.MustParsePrefix("192.0.2.1/32"), AddedBy: "cli:other", CreatedAt: time.Date(2026, time.March, 17, 14, 13, 38, 123456000, time.UTC)},
	}, list)

	add := func(m grahak.MerchantID, address, label string) error {
		_, err := r.AddIPEntry(t.Context(), operator(m), address, label)
		return err
	}
	remove := func(m grahak.MerchantID, address string) error {
		return r.RemoveIPEntry(t.Context(), operator(m), address)
	}
	for _, c := range []struct {
		name string
		err  error
		want grahak.Code
	}{
		{"add what is there", add(acme, "203.0.113.0/24", ""), grahak.CodeIPEntryExists},
		{"add what is there in other words", add(acme, "::ffff:203.0.113.1/120", ""), grahak.CodeIPEntryExists},
		{"add part of what is there", add(acme, "203.0.113.7", ""), ""},
		{"add nonsense", add(acme, "nonsense", ""), grahak.CodeInvalidIPEntry},
		{"add with a label that is too long", add(acme, "192.0.2.9", strings.Repeat("a", 65)), grahak.CodeInvalidIPEntry},
		{"add with a control character in the label", add(acme, "192.0.2.9", "a\nb"), grahak.CodeInvalidIPEntry},
		{"add to nobody's", add("nobody", "192.0.2.9", ""), grahak.CodeMerchantNotFound},
		{"remove what is not there", remove(acme, "192.0.2.9"), grahak.CodeIPEntryNotFound},
		{"remove part of an entry", remove(acme, "203.0.113.0/25"), grahak.CodeIPEntryNotFound},
		{"remove nonsense", remove(acme, "nonsense"), grahak.CodeInvalidIPEntry},
		{"remove from nobody's", remove("nobody", "192.0.2.9"), grahak.CodeMerchantNotFound},
		{"remove in other words", remove(acme, "::ffff:203.0.113.99/120"), ""},
		{"remove twice", remove(acme, "203.0.113.0/24"), grahak.CodeIPEntryNotFound},
		{"an unknown mode", r.SetIPMode(t.Context(), operator(acme), "strict"), grahak.CodeInvalidIPEntry},
		{"no mode", r.SetIPMode(t.Context(), operator(acme), ""), grahak.CodeInvalidIPEntry},
		{"the mode of nobody's", r.SetIPMode(t.Context(), operator("nobody"), grahak.IPModeReport), grahak.CodeMerchantNotFound},
	} {
		if got := grahak.CodeOf(c.err); got != c.want {
			t.Errorf("%s: got %v, want code %q", c.name, c.err, c.want)
		}
	}
	_, list, _ = r.IPList(t.Context(), operator(acme))
	diff(t, "entries left", 2, len(list))
	_, list, _ = r.IPList(t.Context(), operator(rival))
	diff(t, "the rival's entries", 1, len(list))

	_, _, err = r.IPList(t.Context(), operator("nobody"))
	wantCode(t, err, grahak.CodeMerchantNotFound)
	_, err = r.TestIP(t.Context(), operator("nobody"), "192.0.2.1")
	wantCode(t, err, grahak.CodeMerchantNotFound)
	_, err = r.TestIP(t.Context(), operator(acme), "192.0.2.0/24")
	wantCode(t, err, grahak.CodeInvalidIPEntry)
}

// A list that would refuse everybody cannot come to be.
func TestEmptyListIsNeverEnforced(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	mode := func(m grahak.IPMode) error { return r.SetIPMode(t.Context(), operator(acme), m) }
	remove := func(address string) error { return r.RemoveIPEntry(t.Context(), operator(acme), address) }
	add := func(address string) {
		t.Helper()
		if _, err := r.AddIPEntry(t.Context(), operator(acme), address, ""); err != nil {
			t.Fatal(err)
		}
	}
	// The rival's entries do not count.
	if _, err := r.AddIPEntry(t.Context(), operator(rival), "192.0.2.9", ""); err != nil {
		t.Fatal(err)
	}
	wantCode(t, mode(grahak.IPModeEnforce), grahak.CodeIPListEmpty)
	wantCode(t, mode(grahak.IPModeReport), "")
	add("192.0.2.1")
	wantCode(t, remove("192.0.2.1"), "") // The last entry may go while nothing is enforced.
	wantCode(t, mode(grahak.IPModeEnforce), grahak.CodeIPListEmpty)
	m, _, err := r.IPList(t.Context(), operator(acme))
	wantCode(t, err, "")
	diff(t, "mode after refusals", grahak.IPModeReport, m.IPMode)

	add("192.0.2.1")
	add("192.0.2.2")
	wantCode(t, mode(grahak.IPModeEnforce), "")
	wantCode(t, remove("192.0.2.1"), "")
	wantCode(t, remove("192.0.2.2"), grahak.CodeIPListEmpty)
	_, list, err := r.IPList(t.Context(), operator(acme))
	wantCode(t, err, "")
	diff(t, "entries after the refusal", 1, len(list))

	// Not even by two who each leave the other's entry.
	add("192.0.2.3")
	other := r.MustJoin(t)
	var group sync.WaitGroup
	var refused atomic.Int32
	for s, address := range map[*grahak.Service]string{r.Service: "192.0.2.2", other.Service: "192.0.2.3"} {
		group.Go(func() {
			switch err := s.RemoveIPEntry(t.Context(), operator(acme), address); grahak.CodeOf(err) {
			case "":
			case grahak.CodeIPListEmpty:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	diff(t, "removals refused", int32(1), refused.Load())
}

func TestIPListIsBounded(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	address := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250) }
	var full atomic.Int32
	var group sync.WaitGroup
	// Many at once share a commit, and see that the bound holds between them.
	const workers, tries = 50, grahak.MaxIPEntries + 50
	for w := range workers {
		group.Go(func() {
			for i := w; i < tries; i += workers {
				switch _, err := r.AddIPEntry(t.Context(), operator(acme), address(i), ""); grahak.CodeOf(err) {
				case "":
				case grahak.CodeIPListFull:
					full.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	diff(t, "entries refused", int32(tries-grahak.MaxIPEntries), full.Load())
	_, list, err := r.IPList(t.Context(), operator(acme))
	wantCode(t, err, "")
	diff(t, "entries on the list", 1000, len(list))
	_, err = r.AddIPEntry(t.Context(), operator(rival), "192.0.2.1", "")
	wantCode(t, err, "")

	wantCode(t, r.RemoveIPEntry(t.Context(), operator(acme), list[0].Prefix.String()), "")
	_, err = r.AddIPEntry(t.Context(), operator(acme), "192.0.2.1", "")
	wantCode(t, err, "")
	_, err = r.AddIPEntry(t.Context(), operator(acme), "192.0.2.2", "")
	wantCode(t, err, grahak.CodeIPListFull)
}
