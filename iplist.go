package grahak

import (
	"net/netip"
	"strings"
	"time"
)

// IPMode says what a merchant's IP list does.
type IPMode string

// The modes of an IP list. Report logs what enforce would refuse.
const (
	IPModeOff     IPMode = "off"
	IPModeReport  IPMode = "report"
	IPModeEnforce IPMode = "enforce"
)

// MaxIPEntries bounds a merchant's IP list: every request of the merchant may
// be compared with each entry.
const MaxIPEntries = 1000

// IPEntry is one address or network from which a merchant's backends call.
type IPEntry struct {
	Prefix    netip.Prefix // canonical: masked, IPv4-mapped IPv6 as IPv4
	Label     string
	AddedBy   string // the actor who added it
	CreatedAt time.Time
}

// ParseIPEntry reads an IPv4 or IPv6 address or a network in CIDR notation.
// IPv4-mapped IPv6 addresses become IPv4, host bits of a network are cleared.
// It returns a [CodeInvalidIPEntry] error for anything else, zones included.
func ParseIPEntry(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "/") {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			return netip.PrefixFrom(addr, addr.BitLen()), nil
		}
	} else if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return netip.Prefix{}, Errorf(CodeInvalidIPEntry, "%q spans more than the IPv4-mapped addresses: write the IPv4 network instead.", s)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	return netip.Prefix{}, Errorf(CodeInvalidIPEntry, "%q is not an IP address or network: write it like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32.", s)
}

// IPVerdict is what a merchant's IP list says of an address.
type IPVerdict struct {
	Mode IPMode
	// Matched is the first entry that holds the address; the zero value when
	// none does.
	Matched netip.Prefix
	// Listed reports whether an entry holds the address.
	Listed bool
}

// Refused reports whether a request from the address is answered with
// [CodeIPNotWhitelisted].
func (v IPVerdict) Refused() bool { return v.Mode == IPModeEnforce && !v.Listed }

// WouldRefuse reports whether enforcing the list would refuse the address, in
// report mode.
func (v IPVerdict) WouldRefuse() bool { return v.Mode == IPModeReport && !v.Listed }

// judgeIP compares addr with the prefixes of a list in the given mode. An
// invalid addr is on no list.
func judgeIP(mode IPMode, list []netip.Prefix, addr netip.Addr) IPVerdict {
	v := IPVerdict{Mode: mode}
	addr = addr.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(addr) {
			v.Matched, v.Listed = p, true
			break
		}
	}
	return v
}
