package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// MustPrefixes reads networks that stand in one text, with commas between.
func MustPrefixes(tb testing.TB, text string) (list []netip.Prefix) {
	tb.Helper()
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestClientAddr(t *testing.T) {
	t.Parallel()
	const proxies = "10.0.0.0/8,2001:db8:1::/48"
	for _, c := range []struct {
		name    string
		trusted string
		remote  string
		hops    []string // X-Forwarded-For, a line each
		want    string   // empty for none
	}{
		{name: "nobody is trusted", remote: "203.0.113.7:5000", want: "203.0.113.7"},
		{name: "nobody is trusted, so nobody is believed", remote: "203.0.113.7:5000", hops: []string{"198.51.100.1"}, want: "203.0.113.7"},
		{name: "the peer is no proxy", trusted: proxies, remote: "203.0.113.7:5000", hops: []string{"198.51.100.1"}, want: "203.0.113.7"},
		{name: "the peer is a proxy that says nothing", trusted: proxies, remote: "10.0.0.1:5000", want: "10.0.0.1"},
		{name: "one proxy", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"203.0.113.7"}, want: "203.0.113.7"},
		{name: "two proxies", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"203.0.113.7, 10.0.0.2"}, want: "203.0.113.7"},
		{name: "two lines", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"203.0.113.7", "10.0.0.2"}, want: "203.0.113.7"},
		{name: "lines are in order", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"198.51.100.1", "203.0.113.7, 10.0.0.2", "10.0.0.3"}, want: "203.0.113.7"},
		{name: "what the client itself claims", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"198.51.100.1, 203.0.113.7"}, want: "203.0.113.7"},
		{name: "a proxy's address that the client claims", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"10.0.0.9, 203.0.113.7"}, want: "203.0.113.7"},
		{name: "nothing but proxies", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"10.0.0.3, 10.0.0.2"}, want: "10.0.0.3"},
		{name: "everybody is trusted", trusted: "0.0.0.0/0,::/0", remote: "10.0.0.1:5000", hops: []string{"198.51.100.1, 203.0.113.7"}, want: "198.51.100.1"},
		{name: "IPv6", trusted: proxies, remote: "[2001:db8:1::1]:5000", hops: []string{"2001:db8:2::7"}, want: "2001:db8:2::7"},
		{name: "an IPv4 peer on an IPv6 socket", trusted: proxies, remote: "[::ffff:10.0.0.1]:5000", hops: []string{"203.0.113.7"}, want: "203.0.113.7"},
		{name: "an IPv4 hop written as IPv6", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"203.0.113.7, ::ffff:10.0.0.2"}, want: "203.0.113.7"},
		{name: "an IPv4 client written as IPv6", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"::ffff:203.0.113.7"}, want: "203.0.113.7"},
		{name: "a zone of the peer", remote: "[fe80::1%eth0]:5000", want: "fe80::1"},
		{name: "a zone of a trusted peer", trusted: "fe80::/10", remote: "[fe80::1%eth0]:5000", hops: []string{"203.0.113.7"}, want: "203.0.113.7"},
		{name: "a hop that cannot be read", trusted: proxies, remote: "10.0.0.1:5000", hops: []string{"203.0.113.7, unknown, 10.0.0.2"}, want: "10.0.0.2"},
		{name: "a peer that cannot be read", trusted: proxies, remote: "@", hops: []string{"203.0.113.7"}},
		{name: "no peer", trusted: proxies, hops: []string{"203.0.113.7"}},
		{name: "a peer without a port", remote: "203.0.113.7"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		for _, line := range c.hops {
			r.Header.Add("X-Forwarded-For", line)
		}
		// Others' headers are not read, whatever they claim.
		r.Header.Set("X-Real-Ip", "192.0.2.66")
		r.Header.Set("Forwarded", "for=192.0.2.66")
		r.Header.Set("True-Client-Ip", "192.0.2.66")
		var want netip.Addr
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if got := clientAddr(r, MustPrefixes(t, c.trusted)); got != want {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
	}
}

// The forms that a hop comes in.
func TestHopForms(t *testing.T) {
	t.Parallel()
	trusted := MustPrefixes(t, "10.0.0.1/32")
	for hop, want := range map[string]string{
		"203.0.113.7":                    "203.0.113.7",
		"  203.0.113.7\t":                "203.0.113.7",
		"203.0.113.7:65535":              "203.0.113.7",
		"2001:db8::7":                    "2001:db8::7",
		"[2001:db8::7]":                  "2001:db8::7",
		"[2001:db8::7]:443":              "2001:db8::7",
		"2001:DB8:0::7":                  "2001:db8::7",
		"fe80::7%eth0":                   "fe80::7",
		"[fe80::7%eth0]:1":               "fe80::7",
		"[::ffff:203.0.113.7]:1":         "203.0.113.7",
		"":                               "",
		" ":                              "",
		"unknown":                        "",
		"_hidden":                        "",
		"example.com":                    "",
		"203.0.113":                      "",
		"203.0.113.07":                   "",
		"203.0.113.256":                  "",
		"203.0.113.7:":                   "",
		"203.0.113.7:http":               "",
		"203.0.113.7:65536":              "",
		"203.0.113.0/24":                 "",
		"203.0.113.7 203.0.113.8":        "",
		"[2001:db8::7":                   "",
		"2001:db8::7]":                   "",
		"[[2001:db8::7]]":                "",
		"[]":                             "",
		"\"203.0.113.7\"":                "",
		"for=203.0.113.7":                "",
		"203.0.113.7\x00":                "",
		strings.Repeat("1", 1<<16):       "",
		strings.Repeat("[", 1<<16) + "]": "",
	} {
		// A hop that cannot be read leaves the one that reported it.
		addr := netip.MustParseAddr("10.0.0.1")
		if want != "" {
			addr = netip.MustParseAddr(want)
		}
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {hop}}}
		if got := clientAddr(r, trusted); got != addr {
			t.Errorf("hop %.40q: got %v, want %v", hop, got, addr)
		}
	}
}

// FuzzClientAddr compares clientAddr with the plainest way to say the same, for
// any peer and header. Lines of the header are split at "|".
func FuzzClientAddr(f *testing.F) {
	trusted := MustPrefixes(f, "10.0.0.0/8,2001:db8:1::/48,203.0.113.7/32")
	f.Fuzz(func(t *testing.T, remote, header string) {
		lines := strings.Split(header, "|")
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": lines}}
		got := clientAddr(r, trusted)
		if alone := clientAddr(r, nil); alone != clientAddr(&http.Request{RemoteAddr: remote}, trusted) {
			t.Fatalf("the header counts although nobody is trusted: %v", alone)
		}
		peer, err := netip.ParseAddrPort(remote)
		if err != nil {
			if got.IsValid() {
				t.Fatalf("the peer %q cannot be read, but got %v", remote, got)
			}
			return
		}
		want := peer.Addr().Unmap().WithZone("")
		var hops []string
		for _, line := range lines {
			hops = append(hops, strings.Split(line, ",")...)
		}
		for _, hop := range slices.Backward(hops) {
			next, ok := parseHop(hop)
			if !ok || !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(want) }) {
				break
			}
			want = next
		}
		if got != want {
			t.Fatalf("behind %q with %q: got %v, want %v", remote, lines, got, want)
		}
		if got.Is4In6() || got.Zone() != "" {
			t.Fatalf("behind %q with %q: %v is not in its plain form", remote, lines, got)
		}
	})
}
