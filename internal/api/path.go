package api

import (
	"net/url"
	"strings"

	"grahak"
)

// route is one of the paths below /customers and /v2/customers, or /events.
type route uint8

const (
	routeUnknown route = iota
	routeCustomers
	routeCustomer
	routeCustomersV2
	routeEnsure
	routeEvents
)

// pattern is the route's name in logs and metrics.
func (r route) pattern() string {
	switch r {
	case routeCustomers:
		return "/customers"
	case routeCustomer:
		return "/customers/{id}"
	case routeCustomersV2:
		return "/v2/customers"
	case routeEnsure:
		return "/v2/customers/{object_reference_id}"
	case routeEvents:
		return "/events"
	}
	return ""
}

// target is where a request goes.
type target struct {
	route route
	id    string // of routeCustomer, or the reference of routeEnsure; decoded
}

// rawPath returns the path of u as the client wrote it. [url.URL.EscapedPath]
// is not that: it escapes anew a path with characters that ought to have been
// escaped, and loses which others were.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	// Without a RawPath the client's escapes are the usual ones.
	return u.EscapedPath()
}

// parsePath finds the target of an escaped path and reports whether the path
// is inside the API, where a caller must authenticate before anything else is
// said. The path is taken as it is: nothing is cleaned and nobody redirected.
// One trailing slash is ignored. What follows /customers/ is an id, slashes
// and all, unless its last raw segment names a sub-resource (wire.md §1); so is what
// follows /v2/customers/ a reference.
func parsePath(escaped string) (target, bool) {
	path := strings.TrimSuffix(escaped, "/")
	switch {
	case path == "/customers":
		return target{route: routeCustomers}, true
	case path == "/v2/customers":
		return target{route: routeCustomersV2}, true
	case path == "/events":
		return target{route: routeEvents}, true
	}
	to := routeCustomer
	rest, ok := strings.CutPrefix(escaped, "/customers/")
	if !ok {
		to = routeEnsure
		if rest, ok = strings.CutPrefix(escaped, "/v2/customers/"); !ok {
			return target{}, false
		}
	}
	rest = strings.TrimSuffix(rest, "/")
	if reserved(rest[strings.LastIndexByte(rest, '/')+1:]) {
		return target{}, true
	}
	id, err := url.PathUnescape(rest)
	if err != nil || id == "" {
		return target{}, true
	}
	return target{route: to, id: id}, true
}

// customerPath is the path of a customer.
func customerPath(id grahak.CustomerID) string { return "/customers/" + string(id) }

// reserved reports whether a path segment names a sub-resource of a customer,
// existing or to come.
func reserved(segment string) bool {
	switch segment {
	case "wallets", "mandates", "cards", "bank-accounts", "customer-accounts",
		"payment_methods", "eligibility", "virtual-accounts", "events":
		return true
	}
	return false
}
