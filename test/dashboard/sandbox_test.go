package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A sandbox is used with the link that it prints, in a browser that runs no script.
func TestWithoutScript(t *testing.T) {
	t.Parallel()
	s := mustStartSandbox(t)
	c := s.MustCaller(t, s.Key, "127.0.0.1")
	b := s.MustTab(t)
	b.noScript()
	b.MustFollow(s)
	const m = "/dashboard/m/demo/"

	t.Run("the link logs in once", func(t *testing.T) {
		other := s.MustTab(t)
		other.MustOpen(strings.TrimPrefix(s.DashboardURL, other.base), http.StatusOK)
		if status := other.Press("Log in"); status/100 != 4 {
			t.Errorf("the second use is answered %d:\n%s", status, other.whole())
		}
		other.MustOpen(m+"keys", http.StatusOK)
		if other.Path() != "/dashboard/login" {
			t.Errorf("the second use leads to %s", other.Path())
		}
	})

	t.Run("a key is made, rotated and revoked", func(t *testing.T) {
		b.on(t)
		made := s.MustCaller(t, b.MustMakeKey(m, "checkout"), "127.0.0.1")
		if a := made.Do(t, http.MethodGet, "/customers?count=1", nil); a.Status != http.StatusOK {
			t.Fatalf("the new key is answered %d: %s", a.Status, a.Body)
		}
		b.MustPress("I have put it away")
		b.MustNotSee(made.key)
		b.MustSee("checkout")

		b.MustPress("Rotate checkout")
		b.MustPress("Rotate")
		next := s.MustCaller(t, b.MustSecret(), "127.0.0.1")
		for name, c := range map[string]*caller{"old": made, "new": next} {
			if a := c.Do(t, http.MethodGet, "/customers?count=1", nil); a.Status != http.StatusOK {
				t.Errorf("during the overlap the %s key is answered %d: %s", name, a.Status, a.Body)
			}
		}
	})

	t.Run("an event is resent to a webhook", func(t *testing.T) {
		b.on(t)
		got := make(chan string, 100)
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got <- r.Header.Get("Webhook-Id")
		}))
		t.Cleanup(receiver.Close)
		b.MustOpen(m+"webhooks", http.StatusOK)
		b.Fill("URL", receiver.URL+"/hook")
		b.Fill("Label", "crm")
		b.MustPress("Add webhook")
		if secret := b.MustSecret(); !strings.HasPrefix(secret, "whsec_") {
			t.Errorf("the signing secret is %q", secret)
		}
		b.MustPress("I have put it away")
		c.MustCreate(t, person(1))
		event := mustGet(t, got)
		b.MustBecome(event)
		b.MustPress("Resend " + event)
		if again := mustGet(t, got); again != event {
			t.Errorf("%s was resent, want %s", again, event)
		}
		b.MustPress("Rotate")
		b.MustSecret()
		b.MustPress("I have put it away")
	})

}

// mustGet returns what comes next.
func mustGet(t testing.TB, from <-chan string) (text string) {
	t.Helper()
	await(t, "the receiver gets something", func() bool {
		select {
		case text = <-from:
			return true
		default:
			return false
		}
	})
	return text
}

// on has the tab report to a subtest.
func (b *tab) on(t *testing.T) {
	before := b.t
	b.t = t
	t.Cleanup(func() { b.t = before })
}

// MustSecret returns the secret that is shown once.
func (b *tab) MustSecret() string {
	b.t.Helper()
	b.MustSee("shown only this once")
	return b.Text(".secret .value code")
}

// MustMakeKey makes a key on the page of keys and returns it.
func (b *tab) MustMakeKey(m, label string) string {
	b.t.Helper()
	b.MustOpen(m+"keys", http.StatusOK)
	b.Fill("Label", label)
	b.Choose("It expires", "In 90 days")
	b.MustPress("Make key")
	return b.MustSecret()
}
