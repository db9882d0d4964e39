package dashboard_test

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// screen is a page to be looked at.
type screen struct {
	name string
	path string
	// to does what shows the screen, once its path is open.
	to func(b *tab)
	// shown has a smaller picture be made for the documentation.
	shown bool
	// status is of the path; 200 if it is not said.
	status int
}

// maxWeight is how many bytes a page may have with its style and script, not compressed.
const maxWeight = 100_000

// Every screen can be used by everybody, wide and narrow, in light and dark, is light
// enough, and a picture of it is kept.
func TestScreens(t *testing.T) {
	t.Parallel()
	s := mustStartSandbox(t)
	customers := mustSeed(t, s)
	b := s.MustTab(t)
	axe := axeCore(t)

	before := []screen{
		{name: "login", path: "/dashboard/login"},
		{name: "login-refused", path: "/dashboard/login", to: func(b *tab) {
			b.Fill("Name", "somebody")
			b.Fill("Password", password)
			b.Fill("Code", "123456")
			b.Press("Log in")
		}},
		{name: "setup", path: "/dashboard/setup"},
		{name: "loginlink", path: strings.TrimPrefix(s.DashboardURL, b.base)},
	}
	for _, c := range before {
		c.check(t, b, axe)
	}
	b.MustFollow(s)
	for _, c := range screens(customers[0]) {
		c.check(t, b, axe)
	}
}

// screens returns all screens for those who are logged in, some of them of a customer.
func screens(id string) []screen {
	m := "/dashboard/m/demo/"
	customer := m + "customers/" + id
	press := func(name string) func(*tab) {
		return func(b *tab) { b.Press(name) }
	}
	return []screen{
		{name: "merchants", path: "/dashboard/?all=1"},
		{name: "settings", path: "/dashboard/settings"},
		{name: "home", path: m, shown: true},
		{name: "customers", path: m + "customers"},
		{name: "customers-none", path: m + "customers?until=2020-01-01"},
		{name: "customer", path: customer, shown: true},
		{name: "customer-revealed", path: customer, to: press("Reveal")},
		{name: "customer-edit", path: customer, to: press("Edit")},
		{name: "customer-new", path: m + "customers/new"},
		{name: "customer-refused", path: m + "customers/new", to: func(b *tab) {
			b.Fill("Reference", "shop-000001")
			b.Fill("Mobile number", "12")
			b.Fill("E-mail address", "nobody")
			b.Press("Add customer")
		}},
		{name: "customer-erase", path: customer + "/erase"},
		{name: "keys", path: m + "keys"},
		{name: "key-made", path: m + "keys", to: func(b *tab) { b.MustMakeKey(m, "a key with a label that is as long as labels of keys are at times") }},
		{name: "key-rotate", path: m + "keys", to: press("Rotate first start")},
		{name: "key-revoke", path: m + "keys", to: press("Revoke first start")},
		{name: "iplist", path: m + "ip?test=2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", shown: true},
		{name: "iplist-shutout", path: m + "ip", to: func(b *tab) {
			b.Tick("Enforce")
			b.Press("Set")
		}},
		{name: "webhooks", path: m + "webhooks"},
		{name: "webhook", path: m + "webhooks", to: press("accounting")},
		{name: "delivery", path: m + "webhooks", to: func(b *tab) {
			b.Press("accounting")
			b.load("an event", chromedp.Click(chromedp.CSS("td[data-label=Event] a")))
		}},
		{name: "requests", path: m + "requests", shown: true},
		{name: "requests-filtered", path: m + "requests?status=4xx&method=POST"},
		{name: "audit", path: m + "audit"},
		{name: "audit-checked", path: m + "audit", to: press("Check the chain")},
		{name: "team", path: m + "team"},
		{name: "invited", path: m + "team", to: func(b *tab) {
			b.Fill("Name", "a-person-with-a-name-that-is-as-long-as-names-may-be-at-the-most")
			b.Press("Invite")
		}},
		{name: "missing", path: m + "customers/cst_0000000000000000", status: http.StatusNotFound},
	}
}

// check looks at a screen.
func (c screen) check(t *testing.T, b *tab, axe string) {
	t.Helper()
	b.window(wide, "light")
	b.MustOpen(c.path, cmp.Or(c.status, http.StatusOK))
	if c.to != nil {
		c.to(b)
	}
	if weight := b.weight(); weight > maxWeight || weight < 10_000 {
		t.Errorf("%s weighs %d bytes with its style and script, want at most %d", c.name, weight, maxWeight)
	}
	for _, width := range []int64{wide, narrow} {
		for _, scheme := range []string{"light", "dark"} {
			b.window(width, scheme)
			what := fmt.Sprintf("%s-%s-%d", c.name, scheme, width)
			b.mustBeUsable(what, axe, scheme == "light")
			if width == wide || scheme == "light" {
				b.picture(what, true)
			}
		}
	}
	b.window(wide, "light")
	if c.shown {
		b.do(chromedp.EmulateViewport(1280, 800))
		b.picture(c.name, false)
		b.window(wide, "light")
	}
}

// weight returns how many bytes the page and what belongs to it have, not compressed,
// whether it was in the browser's cache or not.
func (b *tab) weight() int {
	b.t.Helper()
	return value[int](b, `performance.getEntries().reduce((sum, e) => sum + (e.decodedBodySize ?? 0), 0)`)
}
