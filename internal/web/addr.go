package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr returns the address of the client behind r: the peer of the
// connection, or, while that is a trusted proxy, the address before it in
// X-Forwarded-For, read from the right. It stops at the first address that is
// not trusted, and at one that cannot be read it answers the trusted hop that
// reported it. The zero value means that the peer's own address cannot be read.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 {
		return addr
	}
	hops := r.Header["X-Forwarded-For"]
	for i := len(hops) - 1; i >= 0; i-- {
		rest := hops[i]
		for more := true; more; {
			if !contains(trusted, addr) {
				return addr
			}
			var hop string
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, hop = rest[:cut], rest[cut+1:]
			} else {
				hop, more = rest, false
			}
			next, ok := parseHop(hop)
			if !ok {
				return addr
			}
			addr = next
		}
	}
	return addr
}

// parseHop reads one address of X-Forwarded-For, with or without a port, a
// bracketed IPv6 address included.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); ok && err == nil {
			return addr.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
