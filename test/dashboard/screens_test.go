package dashboard_test

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// screen is a page to be looked at.
type screen struct {
	name string
	path string
	// to does what shows the screen, once its path is open.
	to func(b *tab)
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
	seen := mustSeed(t, s)
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
	for _, c := range screens(seen) {
		c.check(t, b, axe)
	}
}

// screens returns all screens for those who are logged in.
func screens(seen seeds) []screen {
	m := "/dashboard/m/demo/"
	return []screen{
		{name: "merchants", path: "/dashboard/?all=1"},
		{name: "settings", path: "/dashboard/settings"},
		{name: "keys", path: m + "keys"},
		{name: "team", path: m + "team"},
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
			b.mustBeUsable(what, axe)
			if width == wide || scheme == "light" {
				b.picture(what)
			}
		}
	}
	b.window(wide, "light")
}

// weight returns how many bytes the page and what belongs to it have, not compressed,
// whether it was in the browser's cache or not.
func (b *tab) weight() int {
	b.t.Helper()
	return value[int](b, `performance.getEntries().reduce((sum, e) => sum + (e.decodedBodySize ?? 0), 0)`)
}
