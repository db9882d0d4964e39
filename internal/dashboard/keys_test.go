package dashboard_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// wantEqual fails the test unless got equals want.
func wantEqual(tb testing.TB, what string, want, got any) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// mustKey makes a key of acme and returns it with the key itself.
func (s *site) mustKey(tb testing.TB, spec grahak.KeySpec) (grahak.APIKey, string) {
	tb.Helper()
	if spec.Scope == "" {
		spec.Scope = grahak.ScopeWrite
	}
	k, secret, err := s.service.CreateKey(tb.Context(), console(acme), spec)
	if err != nil {
		tb.Fatal(err)
	}
	return k, secret
}

// opens reports whether a key is valid.
func (s *site) opens(tb testing.TB, key string) bool {
	tb.Helper()
	_, err := s.service.Authenticate(tb.Context(), grahak.Credential{Key: key})
	if code := grahak.CodeOf(err); code != "" && code != grahak.CodeInvalidAPIKey {
		tb.Fatal(err)
	}
	return err == nil
}

// A key is made once, shown once, opens the API with the rights that were chosen, and is
// nobody's secret in any page after that.
func TestMakeKey(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	page := b.Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	wantEqual(t, "the empty list", "No API keys yet", page.text(".empty h2"))
	once := page.attr("input[name=once]", "value")
	form := []string{"once", once, "label", "checkout", "scope", "read", "expires", "90d"}
	made := b.Post(t, "/dashboard/m/acme/keys", form...).want(t, http.StatusOK)
	secret := made.text(".secret code")
	access, err := s.service.Authenticate(t.Context(), grahak.Credential{Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the scope", grahak.ScopeRead, access.Caller.Scope)
	wantEqual(t, "what is copied", secret, made.attr(".secret [data-copy]", "data-copy"))
	wantEqual(t, "the command to try it", "curl -u "+secret+": '"+s.url+"/customers?count=1'", made.text("pre"))
	wantEqual(t, "caching", "no-store", made.header.Get("Cache-Control"))

	// Sent again, by a reload or a second click, the form makes no second key.
	again := b.Post(t, "/dashboard/m/acme/keys", form...).want(t, http.StatusConflict)
	wantEqual(t, "the page after a reload", "This form was sent already", again.text("h1"))
	b.Post(t, "/dashboard/m/acme/keys", "once", "", "scope", "read").want(t, http.StatusBadRequest)
	keys, err := s.service.Keys(t.Context(), console(acme))
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "keys", 1, len(keys))
	wantEqual(t, "the end", s.clock.Now().Add(90*24*time.Hour).Truncate(time.Microsecond).UTC(), keys[0].ExpiresAt)

	page = b.Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	wantEqual(t, "the row", []string{"checkout"}, page.all("tbody b"))
	if strings.Contains(page.body, secret) || strings.Contains(s.log.String(), secret) {
		t.Error("the key is shown again, or logged")
	}
	events := s.mustEvents(t)
	wantEqual(t, "who made it", "operator:asha", events[len(events)-1].Actor)
}

// mustEvents returns all events of acme.
func (s *site) mustEvents(tb testing.TB) (events []grahak.Event) {
	tb.Helper()
	events, err := s.store.Events(tb.Context(), acme, 0, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	return events
}

// A form that is refused is shown again with what was entered, and can then be sent.
func TestMakeKeyRefused(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	once := b.Get(t, "/dashboard/m/acme/keys").attr("input[name=once]", "value")
	long := strings.Repeat("a", grahak.MaxName+1)
	page := b.Post(t, "/dashboard/m/acme/keys", "once", once, "label", long, "scope", "read", "expires", "30d").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "the label", long, page.attr("input[name=label]", "value"))
	wantEqual(t, "the error's field", "f-label-error", strings.Fields(page.attr("input[name=label]", "aria-describedby"))[0])
	wantEqual(t, "the scope", "read", page.attr("select[name=scope] option[selected]", "value"))
	wantEqual(t, "the end", "30d", page.attr("select[name=expires] option[selected]", "value"))
	next := page.attr("input[name=once]", "value")
	b.Post(t, "/dashboard/m/acme/keys", "once", next, "label", "shorter", "scope", "read", "expires", "30d").want(t, http.StatusOK)
	b.Post(t, "/dashboard/m/acme/keys", "once", "0123456789012345678901", "scope", "owner", "expires", "").want(t, http.StatusUnprocessableEntity)
	b.Post(t, "/dashboard/m/acme/keys", "once", "0123456789012345678902", "scope", "read", "expires", "tomorrow").want(t, http.StatusBadRequest)
}

// A rotation leaves both keys valid for as long as was chosen; a revocation asks first.
func TestRotateAndRevokeKey(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	old, secret := s.mustKey(t, grahak.KeySpec{Label: "checkout"})
	b := s.MustEnter(t, "asha", grahak.RoleAdmin)
	rotate := b.Get(t, "/dashboard/m/acme/keys").attr("td.end a", "href")
	page := b.Get(t, rotate).want(t, http.StatusOK)
	form := []string{"once", page.attr("input[name=once]", "value"), "overlap", "1h", "expires", ""}
	made := b.Post(t, rotate, form...).want(t, http.StatusOK)
	next := made.text(".secret code")
	b.Post(t, rotate, form...).want(t, http.StatusConflict)
	wantEqual(t, "the old key, the new key", []bool{true, true}, []bool{s.opens(t, secret), s.opens(t, next)})
	s.clock.Advance(time.Hour + time.Second)
	wantEqual(t, "the old key, the new key, later", []bool{false, true}, []bool{s.opens(t, secret), s.opens(t, next)})

	page = b.Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	wantEqual(t, "the states", []string{"active", "expired"}, page.all("tbody .badge"))
	wantEqual(t, "the ended key's form", 0, len(b.Get(t, "/dashboard/m/acme/keys/"+string(old.ID)+"/rotate").all("select")))
	revoke := page.attr("td.end a.danger", "href")
	page = b.Get(t, revoke).want(t, http.StatusOK)
	if facts := page.all("dd"); !slices.Contains(facts, "never") {
		t.Errorf("when it was last used is not among %q", facts)
	}
	wantEqual(t, "the new key before", true, s.opens(t, next))
	b.Post(t, revoke).redirect(t, "/dashboard/m/acme/keys")
	wantEqual(t, "the new key after", false, s.opens(t, next))
	b.Get(t, "/dashboard/m/acme/keys/key_unknown/revoke").want(t, http.StatusNotFound)
	b.Post(t, "/dashboard/m/acme/keys/key_unknown/revoke").want(t, http.StatusNotFound)
}

// When a key was last used shows with the address that it was used from, if that is known.
func TestKeyUse(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	at := s.clock.Now()
	far, _ := s.mustKey(t, grahak.KeySpec{Label: "far"})
	near, _ := s.mustKey(t, grahak.KeySpec{Label: "near"})
	s.mustKey(t, grahak.KeySpec{Label: "never"})
	err := s.store.TouchKeys(t.Context(), map[grahak.KeyRef]grahak.KeyUse{
		{Merchant: acme, Key: far.ID}:  {At: at, Addr: netip.MustParseAddr("2001:db8::7")},
		{Merchant: acme, Key: near.ID}: {At: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	page := s.MustEnter(t, "vik", grahak.RoleViewer).Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	when := at.UTC().Format(time.DateTime) + " UTC"
	wantEqual(t, "the last uses", []string{"–", when, when + " from 2001:db8::7"}, page.all("td[data-label='Last used']"))
}

// Keys that end soon and those that nobody uses are told of.
func TestKeyWarnings(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	now := s.clock.Now()
	s.mustKey(t, grahak.KeySpec{Label: "ends", ExpiresAt: now.Add(104 * 24 * time.Hour)})
	s.mustKey(t, grahak.KeySpec{Label: "idle"})
	s.clock.Advance(90*24*time.Hour - time.Minute)
	s.mustKey(t, grahak.KeySpec{Label: "young", ExpiresAt: s.clock.Now().Add(30 * 24 * time.Hour)})
	s.MustOperator(t, "vik", acme, grahak.RoleViewer)
	b := s.MustLogin(t, "vik")
	page := b.Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	wantEqual(t, "a minute before", []string{"active", "active", "active"}, page.all("tbody .badge"))
	s.clock.Advance(time.Minute)
	b = s.MustLogin(t, "vik")
	page = b.Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	wantEqual(t, "the keys", []string{"young", "idle", "ends"}, page.all("tbody b"))
	wantEqual(t, "the states", []string{"active", "unused", "expires soon"}, page.all("tbody .badge"))
	wantEqual(t, "what a viewer may press", 0, len(page.all("main form, main td .button")))
}

// Keys that have ended are listed behind the others, the newest fifty of them.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	for i := range 60 {
		s.mustKey(t, grahak.KeySpec{Label: fmt.Sprintf("ended %d", i), ExpiresAt: s.clock.Now().Add(time.Minute)})
		s.clock.Advance(time.Second)
	}
	s.mustKey(t, grahak.KeySpec{Label: "checkout"})
	s.clock.Advance(time.Hour)
	page := s.MustEnter(t, "asha", grahak.RoleViewer).Get(t, "/dashboard/m/acme/keys").want(t, http.StatusOK)
	labels := page.all("tbody b")
	wantEqual(t, "how many are listed", 51, len(labels))
	wantEqual(t, "the first and the last", []string{"checkout", "ended 59", "ended 10"}, []string{labels[0], labels[1], labels[50]})
	wantEqual(t, "the hint", "10 more have ended: grahak key list --merchant acme lists all.", page.text("p.hint"))
}
