package dashboard_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

const password = "correct horse battery"

// totp returns what an authenticator shows at a time (RFC 6238).
func totp(tb testing.TB, secret string, at time.Time) string {
	tb.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(secret, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, at.Unix()/30)
	sum := mac.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[19]&15:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000)
}

// next returns the code of the next 30 seconds: each is taken once.
func (s *site) next(tb testing.TB, secret string) string {
	tb.Helper()
	s.clock.Advance(30 * time.Second)
	return totp(tb, secret, s.clock.Now())
}

// A person goes from a setup code to the first page, as they are told to.
func TestSetup(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	code, err := s.service.CreateOperator(t.Context(), console(everywhere), "asha")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.service.SetRole(t.Context(), console(acme), "asha", grahak.RoleOwner); err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	if got := b.Post(t, "/dashboard/setup", "code", "wrong").want(t, 422).text("[role=alert]"); !strings.Contains(got, "72 hours") {
		t.Errorf("a wrong code is answered %q", got)
	}
	step := b.Post(t, "/dashboard/setup", "code", code).want(t, 200)
	secret := step.text("#secret")
	if step.attr(".qr path", "d") == "" || !strings.HasPrefix(step.attr(`main a[href^="otpauth:"]`, "href"), "otpauth://totp/") {
		t.Errorf("there is no QR code or link for the authenticator:\n%s", step.body)
	}
	finish := func(password, totp string) *reply {
		return b.Post(t, "/dashboard/setup/finish", "code", code, "password", password, "totp", totp)
	}
	for at, wrong := range map[string]*reply{"password": finish("short", totp(t, secret, s.clock.Now())), "totp": finish(password, "000000")} {
		if wrong.want(t, 422).attr(".field.wrong input", "name") != at || wrong.text(".error") == "" || wrong.text("#secret") != secret {
			t.Errorf("a refused step is shown as\n%s", wrong.body)
		}
	}
	done := finish(password, totp(t, secret, s.clock.Now())).want(t, 200)
	recovery := done.all("ul.codes code")
	if len(recovery) < 8 {
		t.Errorf("the recovery codes are %q", recovery)
	}
	finish(password, s.next(t, secret)).want(t, 422) // The code is used up.

	next := "/dashboard/m/acme/team"
	enter := func(code string) *reply {
		return b.Post(t, "/dashboard/login", "name", "asha", "password", password, "code", code, "next", next)
	}
	refused := enter("000000").want(t, 422)
	got := []string{refused.attr("[name=name]", "value"), refused.attr("[name=password]", "value"), refused.attr("[name=code]", "value"), refused.attr("[name=next]", "value")}
	if d := cmp.Diff([]string{"asha", "", "", next}, got); d != "" {
		t.Errorf("a refused login is shown again as (-want +got):\n%s", d)
	}
	in := enter(s.next(t, secret))
	in.redirect(t, next)
	cookie := in.header.Get("Set-Cookie")
	for _, attribute := range []string{"; HttpOnly", "; Secure", "; SameSite=Strict", "; Path=/dashboard/"} {
		if !strings.Contains(cookie, attribute) || strings.Contains(cookie, "Domain") {
			t.Errorf("the cookie has no %s: %s", attribute, strings.Replace(cookie, b.cookies["grahak_session"], "TOKEN", 1))
		}
	}
	if got := b.Get(t, next).want(t, 200).text("h1"); got != "Team" {
		t.Errorf("the page is %q", got)
	}
	b.Get(t, "/dashboard/login").redirect(t, "/dashboard/")

	other := s.browser()
	other.Post(t, "/dashboard/login", "name", "asha", "password", password, "code", recovery[0]).redirect(t, "/dashboard/")
	s.browser().Post(t, "/dashboard/login", "name", "asha", "password", password, "code", recovery[0]).want(t, 422)

	// Settings: another password ends the other session, new recovery codes are shown once.
	wrong := b.Post(t, "/dashboard/settings/password", "password", "wrong", "code", s.next(t, secret), "new", "another horse battery")
	if got := wrong.want(t, 422).text("#f-password-password-error"); got == "" {
		t.Errorf("a wrong password is not told at its field:\n%s", wrong.body)
	}
	b.Post(t, "/dashboard/settings/password", "password", password, "code", s.next(t, secret), "new", "another horse battery").redirect(t, "/dashboard/settings")
	page := b.Get(t, "/dashboard/settings").want(t, 200)
	if got := page.all(".flash"); len(got) != 1 || !strings.Contains(got[0], "changed") {
		t.Errorf("the page says %q", got)
	}
	if got := b.Get(t, "/dashboard/settings").all(".flash"); got != nil {
		t.Errorf("the flash is there again: %q", got)
	}
	other.Get(t, "/dashboard/settings").redirect(t, "/dashboard/login?next=%2Fdashboard%2Fsettings")
	form := []string{"once", page.attr("[name=once]", "value"), "password", "another horse battery", "code", s.next(t, secret)}
	if codes := b.Post(t, "/dashboard/settings/recovery", form...).want(t, 200).all("ul.codes code"); len(codes) != len(recovery) || codes[0] == recovery[0] {
		t.Errorf("the new recovery codes are %q", codes)
	}
	b.Post(t, "/dashboard/settings/recovery", form...).want(t, http.StatusConflict)
	if facts := page.all("dl.facts dd"); !strings.Contains(strings.Join(facts, "|"), "sandbox|1.2.3|396d") {
		t.Errorf("the facts are %q", facts)
	}
	if log := s.log.String(); strings.Contains(log, password) || strings.Contains(log, code) || strings.Contains(log, recovery[0]) || strings.Contains(log, b.cookies["grahak_session"]) {
		t.Error("a secret is in the log")
	}
}

// A link is used up by its button and not by looking at it, as previews of links do.
func TestLoginLink(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustOperator(t, "asha", acme, grahak.RoleViewer)
	link, err := s.service.LoginLink(t.Context(), console(everywhere), "asha")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := s.browser().Get(t, "/dashboard/login?link="+link).want(t, 200)
		if r.attr("form [name=link]", "value") != link || r.header.Get("Set-Cookie") != "" {
			t.Errorf("the page is %s", r.body)
		}
	}
	s.browser().Post(t, "/dashboard/login/link", "link", link).redirect(t, "/dashboard/")
	if got := s.browser().Post(t, "/dashboard/login/link", "link", link).want(t, 422).text("[role=alert]"); !strings.Contains(got, "has been used") {
		t.Errorf("a used link is answered %q", got)
	}
	if got := s.browser().Get(t, "/dashboard/login").want(t, 200).text("main"); !strings.Contains(got, "grahak operator link sandbox") {
		t.Errorf("the login page of a sandbox does not say how to get a link: %s", got)
	}
}

// After five failures in a row the form says how long to wait, and so does the answer.
func TestLockOut(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustOperator(t, "asha", acme, grahak.RoleViewer)
	try := func() *reply {
		return s.browser().Post(t, "/dashboard/login", "name", "asha", "password", "wrong", "code", "000000")
	}
	for range 5 {
		r := try().want(t, http.StatusUnprocessableEntity)
		if got := r.header.Get("Retry-After"); got != "" {
			t.Errorf("Retry-After is %q", got)
		}
	}
	r := try().want(t, http.StatusTooManyRequests)
	got := []string{r.header.Get("Retry-After"), r.text("[role=alert]"), r.attr("[name=name]", "value")}
	if d := cmp.Diff([]string{"30", "Too many tries have failed. Wait 30 s and try again.", "asha"}, got); d != "" {
		t.Errorf("a locked login is answered (-want +got):\n%s", d)
	}
	if !strings.Contains(s.log.String(), `"status":429,`) {
		t.Errorf("the log says %s", s.log)
	}
}

// Who comes from another site is not known to be logged in, and is offered to go on.
func TestFromElsewhere(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.browser()
	b.from = "cross-site"
	const path = "/dashboard/login?next=%2Fdashboard%2Fm%2Facme%2Fkeys"
	if got := b.Get(t, path).want(t, 200).attr("main .flash a", "href"); got != "/dashboard/m/acme/keys" {
		t.Errorf("the page offers %q", got)
	}
	b.from = "none"
	if got := b.Get(t, path).want(t, 200).attr("main .flash a", "href"); got != "" {
		t.Errorf("the page offers %q", got)
	}
	if got := b.Get(t, "/dashboard/login?next=https://evil.example/").want(t, 200).attr("[name=next]", "value"); got != "/dashboard/" {
		t.Errorf("next is %q", got)
	}
}

// Somebody sees the own sessions and ends one, and all.
func TestSessions(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "asha", grahak.RoleViewer)
	other, third := s.MustLogin(t, "asha"), s.MustLogin(t, "asha")
	page := b.Get(t, "/dashboard/settings").want(t, 200)
	if rows := page.all("tbody tr"); len(rows) != 3 {
		t.Fatalf("the sessions are %q", rows)
	}
	// Who came by a link and has no password is not asked for one.
	if got := page.all("main [type=password]"); got != nil || !strings.Contains(page.text("dl.facts"), "grahak operator reset asha") {
		t.Errorf("the page is\n%s", page.body)
	}
	if strings.Contains(page.body, b.cookies["grahak_session"]) {
		t.Error("the page has the session's token")
	}
	// The session of other, by where it says which one it is.
	id := other.Get(t, "/dashboard/settings").attr("tr:has(.badge.ok) [name=session]", "value")
	b.Post(t, "/dashboard/settings/session", "session", id).redirect(t, "/dashboard/settings")
	other.Get(t, "/dashboard/settings").want(t, 303)
	third.Get(t, "/dashboard/settings").want(t, 200)
	b.Post(t, "/dashboard/settings/sessions").redirect(t, "/dashboard/login")
	if b.cookies["grahak_session"] != "" {
		t.Error("the cookie stays")
	}
	third.Get(t, "/dashboard/settings").want(t, 303)

	again := s.MustLogin(t, "asha")
	token := again.cookies["grahak_session"]
	again.Post(t, "/dashboard/logout").redirect(t, "/dashboard/login")
	again.cookies["grahak_session"] = token
	again.Get(t, "/dashboard/settings").want(t, 303)
}

// Whatever ends a session, its browser forgets the cookie and is led to the login, and
// from there to where it wanted to go.
func TestEndedSession(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*testing.T, *site) error{
		"not used": func(_ *testing.T, s *site) error {
			s.clock.Advance(24 * time.Hour)
			return nil
		},
		"disabled": func(t *testing.T, s *site) error {
			t.Helper()
			return s.service.DisableOperator(t.Context(), console(everywhere), "asha")
		},
		"reset": func(t *testing.T, s *site) error {
			t.Helper()
			_, err := s.service.ResetOperator(t.Context(), console(everywhere), "asha")
			return err
		},
		"ended elsewhere": func(t *testing.T, s *site) error {
			t.Helper()
			s.MustLogin(t, "asha").Post(t, "/dashboard/settings/sessions").redirect(t, "/dashboard/login")
			return nil
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := MustServe(t)
			b := s.MustEnter(t, "asha", grahak.RoleAdmin)
			token := b.cookies["grahak_session"]
			const path = "/dashboard/m/acme/requests?status=403"
			b.Get(t, path).want(t, http.StatusOK)
			if err := end(t, s); err != nil {
				t.Fatal(err)
			}
			// A form that was sent too late does nothing, and is not sent again by the login.
			b.Post(t, "/dashboard/m/acme/ip/add", "address", "192.0.2.1").redirect(t, "/dashboard/login")
			if got := s.addresses(t); len(got) != 0 {
				t.Errorf("the IP list has %v", got)
			}
			b.cookies["grahak_session"] = token
			to := b.Get(t, path)
			to.redirect(t, "/dashboard/login?next="+url.QueryEscape(path))
			if got := b.cookies["grahak_session"]; got != "" {
				t.Error("the cookie stays")
			}
			if got := b.Get(t, to.header.Get("Location")).want(t, http.StatusOK).attr("[name=next]", "value"); got != path {
				t.Errorf("the login leads to %q", got)
			}
		})
	}
}

// Another role holds from the next page on, without another login.
func TestRoleOfSession(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	s.MustOperator(t, "ravi", acme, grahak.RoleOwner)
	const path = "/dashboard/m/acme/ip"
	page := func() *reply { return b.Get(t, path) }
	add := func(entry string) *reply { return b.Post(t, path+"/add", "address", entry) }
	if got := page().want(t, http.StatusOK).all(`form[action$="/ip/add"]`); len(got) == 0 {
		t.Error("an admin cannot add an address")
	}
	add("192.0.2.1").redirect(t, path)
	set := func(role grahak.Role) {
		t.Helper()
		if err := s.service.SetRole(t.Context(), console(acme), "asha", role); err != nil {
			t.Fatal(err)
		}
	}
	set(grahak.RoleViewer)
	if got := page().want(t, http.StatusOK).all(`form[action$="/ip/add"]`); len(got) != 0 {
		t.Errorf("a viewer is offered %q", got)
	}
	add("192.0.2.2").want(t, http.StatusForbidden)
	set("")
	page().want(t, http.StatusNotFound)
	add("192.0.2.3").want(t, http.StatusNotFound)
	set(grahak.RoleAdmin)
	add("192.0.2.4").redirect(t, path)
	if d := cmp.Diff([]string{"192.0.2.1/32", "192.0.2.4/32"}, s.addresses(t)); d != "" {
		t.Errorf("the IP list has (-want +got):\n%s", d)
	}
}

// addresses returns what stands on the IP list of acme.
func (s *site) addresses(t *testing.T) (list []string) {
	t.Helper()
	_, entries, err := s.service.IPList(t.Context(), console(acme))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Prefix.String())
	}
	return list
}
