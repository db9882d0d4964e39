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

	t.Run("a customer is found, revealed, edited and erased", func(t *testing.T) {
		b.on(t)
		form := person(2)
		id, email := c.MustCreate(t, form), form.Get("email_address")
		b.MustOpen(m+"customers", http.StatusOK)
		b.MustNotSee(email, form.Get("mobile_number"), form.Get("object_reference_id"))
		b.Fill("Find somebody", email)
		b.MustPress("Find")
		if b.Path() != m+"customers/"+id {
			t.Fatalf("the search by e-mail address leads to %s, want the customer %s:\n%s", b.Path(), id, b.whole())
		}
		b.MustNotSee(email, form.Get("mobile_number"), form.Get("object_reference_id"))
		b.MustPress("Reveal")
		b.MustSee(email, form.Get("mobile_number"), "sandbox")

		b.MustPress("Edit")
		b.Fill("First name", "Ananya")
		b.Fill("E-mail address", "no address")
		if status := b.Press("Save"); status != http.StatusUnprocessableEntity {
			t.Errorf("what is no e-mail address is answered %d:\n%s", status, b.whole())
		}
		if first := value[string](b, string(control("First name"))+".value"); first != "Ananya" {
			t.Errorf("the refused form has %q for what was entered", first)
		}
		b.Fill("E-mail address", "ananya@example.com")
		b.MustPress("Save")
		if a := c.Do(t, http.MethodGet, "/customers/"+id, nil); !strings.Contains(a.Body, `"Ananya"`) || !strings.Contains(a.Body, "ananya@example.com") {
			t.Errorf("after the edit the API answers %s", a.Body)
		}

		b.MustOpen(m+"customers/"+id, http.StatusOK)
		b.MustPress("Erase")
		b.Fill("Type", "something else")
		if status := b.Press("Erase this customer"); status != http.StatusUnprocessableEntity {
			t.Errorf("an erase without the id is answered %d:\n%s", status, b.whole())
		}
		b.Fill("Type", id)
		b.MustPress("Erase this customer")
		if a := c.Do(t, http.MethodGet, "/customers/"+id, nil); a.Status != http.StatusNotFound {
			t.Errorf("after the erase the API answers %d", a.Status)
		}
		b.MustOpen(m+"customers/"+id, http.StatusOK)
		b.MustSee("Erased customer")

		b.MustOpen(m+"audit", http.StatusOK)
		b.MustSee("operator:sandbox")
		for _, what := range []string{"customer.revealed", "customer.updated", "customer.erased"} {
			b.MustOpen(m+"audit?type="+what+"&subject="+id, http.StatusOK)
			if got := b.Text("tbody"); !strings.Contains(got, "sandbox") {
				t.Errorf("the event %s does not name the operator: %s", what, got)
			}
		}
		b.MustOpen(m+"audit", http.StatusOK)
		b.MustPress("Check the chain")
		b.MustSee("events fit the chain")
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
