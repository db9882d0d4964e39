package webhook

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// errForbidden is the error for an address that may not be sent to.
var errForbidden = errors.New("the address is not one of the public internet")

// guard lets connections be made to addresses of the public internet, and to what
// is allowed besides.
type guard struct {
	names    map[string]bool // small letters
	networks []netip.Prefix
	dialer   net.Dialer
}

func newGuard(names []string, networks []netip.Prefix, resolver *net.Resolver) *guard {
	g := &guard{names: make(map[string]bool), networks: networks, dialer: net.Dialer{Resolver: resolver}}
	for _, name := range names {
		g.names[name] = true
	}
	return g
}

// dial connects to a host. What is checked is each address that is about to be
// connected to, so that it does not matter what a name leads to at another time.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := g.dialer
	if !g.names[strings.TrimSuffix(strings.ToLower(host), ".")] {
		dialer.Control = g.control
	}
	return dialer.DialContext(ctx, network, address)
}

// control refuses to connect to an address that may not be sent to.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !g.allows(at.Addr()) {
		return errForbidden
	}
	return nil
}

func (g *guard) allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, network := range g.networks {
		if network.Contains(addr) {
			return true
		}
	}
	return public(addr)
}

// special is what no receiver on the public internet has: networks that are
// private, shared, local, for documentation and tests, for several receivers or
// reserved, and those of IPv6 in which an IPv4 address is hidden.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
	"192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	// Beside 2000::/3 and nat64 all of IPv6 is reserved, private, local or for several receivers.
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48",
)

// globalIPv6 is what receivers have on IPv6.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, text := range list {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}

// nat64 is where networks without IPv4 have the addresses of IPv4.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// public reports whether an address is one of the public internet.
func public(addr netip.Addr) bool {
	if nat64.Contains(addr) {
		bytes := addr.As16()
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if !addr.IsValid() || addr.Is6() && !globalIPv6.Contains(addr) {
		return false
	}
	for _, network := range special {
		if network.Contains(addr) {
			return false
		}
	}
	return true
}
