package dashboard_test

import (
	"net/http"
	"strings"
	"testing"
)

// In production somebody is let in by the command line, sets up a login, and from then on
// works with the pages.
func TestProduction(t *testing.T) {
	t.Parallel()
	s := mustStart(t)
	key := s.MustKey(t, "acme")
	c := s.MustCaller(t, key, "127.0.0.1")
	const m = "/dashboard/m/acme/"
	b := s.MustTab(t)
	asha := b.MustSetUp(setupCode(t, s.MustRun(t, "operator", "create", "asha", "--all-merchants", "--role", "owner")), "asha")

	t.Run("a wrong password is refused", func(t *testing.T) {
		b.on(t)
		b.MustOpen("/dashboard/login", http.StatusOK)
		if status := b.LogIn(asha, "a wrong password", "123456"); status != http.StatusUnprocessableEntity {
			t.Errorf("a wrong password is answered %d:\n%s", status, b.whole())
		}
		b.MustSee("That is not right")
	})
	b.MustLogIn(asha, m)

	// The second browser stays logged in until the last part.
	other := s.MustTab(t)
	t.Run("with the keyboard alone", func(t *testing.T) {
		other.on(t)
		other.MustOpen(m+"keys", http.StatusOK)
		for _, c := range []struct{ label, text string }{{"Name", asha.name}, {"Password", password}, {"Code", asha.recovery[0]}} {
			other.MustFocus(c.label, control(c.label))
			other.Type(c.text)
		}
		if status := other.Enter(); status != http.StatusOK || other.Path() != m+"keys" {
			t.Fatalf("the login leads to %s with status %d:\n%s", other.Path(), status, other.whole())
		}
		other.MustFocus("the skip link", button("Skip to the page"))
		other.MustFocus("Label", control("Label"))
		other.Type("nightly export")
		other.MustFocus("Make key", button("Make key"))
		if status := other.Enter(); status != http.StatusOK {
			t.Fatalf("making a key is answered %d:\n%s", status, other.whole())
		}
		made := s.MustCaller(t, other.MustSecret(), "127.0.0.1")
		if a := made.Do(t, http.MethodGet, "/customers?count=1", nil); a.Status != http.StatusOK {
			t.Errorf("the new key is answered %d: %s", a.Status, a.Body)
		}
	})

	t.Run("the API is put behind the IP list", func(t *testing.T) {
		b.on(t)
		const inside, outside = "127.0.0.1", "127.80.90.100"
		b.MustOpen(m+"ip", http.StatusOK)
		b.Fill("Address or network", inside)
		b.Fill("Label", "checkout")
		b.MustPress("Add")
		b.Tick("Enforce")
		b.MustPress("Set")
		b.MustSee("enforced")
		stranger := s.MustCaller(t, key, outside)
		var refused answer
		await(t, "the address is refused", func() bool {
			refused = stranger.Do(t, http.MethodGet, "/customers?count=1", nil)
			return refused.Status == http.StatusForbidden
		})
		if a := c.Do(t, http.MethodGet, "/customers?count=1", nil); a.Status != http.StatusOK {
			t.Errorf("an address on the list is answered %d: %s", a.Status, a.Body)
		}
		b.MustBecome(outside)
		b.MustPress("Add " + outside)
		await(t, "the address is let in", func() bool {
			return stranger.Do(t, http.MethodGet, "/customers?count=1", nil).Status == http.StatusOK
		})

		b.MustOpen(m+"requests?status=403", http.StatusOK)
		b.MustBecome(refused.RequestID)
		b.MustPress(refused.RequestID)
		if b.Path() != m+"requests/"+refused.RequestID {
			t.Errorf("the request's page is %s", b.Path())
		}
		b.MustSee(outside, "GET /customers")
		b.MustNotSee(key)
	})

	form := person(7)
	id := c.MustCreate(t, form)
	var ravi *operator
	t.Run("a viewer sees masked data and changes nothing", func(t *testing.T) {
		b.on(t)
		b.MustOpen(m+"team", http.StatusOK)
		b.Fill("Name", "ravi")
		b.Choose("Role", "viewer")
		b.MustPress("Invite")
		code := b.MustSecret()
		viewer := s.MustTab(t)
		ravi = viewer.MustSetUp(code, "ravi")
		viewer.MustLogIn(ravi, m+"customers/"+id)
		viewer.MustNotSee(form.Get("email_address"), form.Get("mobile_number"), form.Get("object_reference_id"))
		for path, names := range map[string][]string{
			"customers/" + id: {"Reveal", "Edit", "Erase"}, "customers": {"Add a customer"}, "keys": {"Make key", "Rotate nightly export"},
			"ip": {"Add", "Set"}, "webhooks": {"Add webhook"}, "audit": {"Check the chain"}, "team": {"Invite"},
		} {
			viewer.MustOpen(m+path, http.StatusOK)
			for _, name := range names {
				if viewer.has(button(name)) {
					t.Errorf("a viewer has the button %q at %s", name, path)
				}
			}
		}
	})

	t.Run("who fails too often is locked out", func(t *testing.T) {
		guesser := s.MustTab(t)
		guesser.MustOpen("/dashboard/login", http.StatusOK)
		for range 10 {
			if guesser.LogIn(ravi, "a wrong password", "123456"); strings.Contains(guesser.whole(), "Too many tries") {
				return
			}
		}
		t.Errorf("after ten wrong passwords there is another try:\n%s", guesser.whole())
	})

	t.Run("log out everywhere", func(t *testing.T) {
		b.on(t)
		b.MustOpen("/dashboard/settings", http.StatusOK)
		if n := b.Count("section[aria-labelledby=sessions] tbody tr"); n != 2 {
			t.Errorf("%d sessions are shown, want 2:\n%s", n, b.whole())
		}
		b.Press("Log out everywhere")
		for _, tab := range []*tab{b, other} {
			tab.MustOpen(m, http.StatusOK)
			if tab.Path() != "/dashboard/login" {
				t.Errorf("after logging out everywhere %s is shown", tab.Path())
			}
		}
	})
}
