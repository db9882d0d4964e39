package webhook

import "net/netip"

// Allows reports whether an address may be sent to where these networks are allowed.
func Allows(networks []netip.Prefix, addr netip.Addr) bool {
	return newGuard(nil, networks, nil).allows(addr)
}
