package cli_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// TestAuditEvents checks that an operator finds out whom to erase again after a restore, by the wire or by the command
// line, without any personal data.
func TestAuditEvents(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	run(t, "merchant", "create", "acme", "--data", s.Data).done(t)
	demo := caller{base: s.BaseURL, key: s.Key}
	id := func(reference string) string {
		t.Helper()
		var made struct{ ID string }
		a := demo.send(t, http.MethodPost, "/customers", newCustomer(reference))
		if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return made.ID
	}
	before, wire, line := id("before@example.com"), id("wire@example.com"), id("line@example.com")
	erase := func(reference string) {
		t.Helper()
		r := run(t, "customer", "erase", reference, "-m", "demo", "--yes", "--data", s.Data).done(t)
		mustMatch(t, "what is left to do", r.stdout, `stays readable with the old keys, until three things are done: .* seal rotate --merchant demo .*; then .* seal rewrap .*; and then the old master key is destroyed`)
	}
	erase("before@example.com")
	if a := demo.send(t, http.MethodDelete, "/customers/wire@example.com", "", "X-Request-Id", "request-1"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	erase("line@example.com")

	type event struct {
		Merchant  string
		Position  int
		Type      string
		Subject   string
		Revision  int
		RequestID string `json:"request_id"`
	}
	list := func(args ...string) (events []event) {
		t.Helper()
		r := run(t, append([]string{"audit", "events", "--json", "--data", s.Data}, args...)...).done(t)
		if strings.Contains(r.stdout, "@example.com") {
			t.Errorf("personal data in %s", r.stdout)
		}
		for text := range strings.Lines(r.stdout) {
			var e event
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			events = append(events, e)
		}
		return events
	}
	erased := func(position int, subject, request string) event {
		return event{"demo", position, "customer.erased", subject, 2, request}
	}
	// The merchant, its key, three customers, and then the erasures.
	want := []event{erased(6, before, ""), erased(7, wire, "request-1"), erased(8, line, "")}
	if diff := cmp.Diff(want, list("--merchant", "demo", "--type", "customer.erased")); diff != "" {
		t.Errorf("erased (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:], list("--type", "customer.erased", "--after", "6", "--since", "2026-01-01")); diff != "" {
		t.Errorf("erased since (-want +got):\n%s", diff)
	}
	if got := list("--since", "2999-01-01"); got != nil {
		t.Errorf("from a day to come: %v", got)
	}
	if diff := cmp.Diff([]event{{Merchant: "acme", Position: 1, Type: "merchant.created"}}, list("-m", "acme")); diff != "" {
		t.Errorf("another merchant's (-want +got):\n%s", diff)
	}
	// What happens to operators has a chain of its own, which is listed after all others'.
	run(t, "operator", "create", "asha", "--all-merchants", "--data", s.Data).done(t)
	made := list("--type", "operator.created")
	if len(made) == 0 || made[len(made)-1].Merchant != "@operators" || made[len(made)-1].Subject != "asha" {
		t.Errorf("operators that were made: %v", made)
	}
	run(t, "export", "-m", "demo", "--data", s.Data).done(t)
	if diff := cmp.Diff([]event{{Merchant: "demo", Position: 9, Type: "customers.exported"}}, list("--type", "customers.exported")); diff != "" {
		t.Errorf("exports (-want +got):\n%s", diff)
	}
	r := run(t, "audit", "events", "--after", "6", "-m", "demo", "--data", s.Data).done(t)
	mustMatch(t, "for people", r.stdout, `^demo +7  \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  customer\.erased +`+wire+` +key_[0-9a-z]+ +request-1 .*\ndemo +8  .*  customer\.erased +`+line+` +cli:.*\ndemo +9  .*  customers\.exported .*\n$`)
	run(t, "audit", "events", "--type", "customer.erasd", "--data", s.Data).refused(t, 2, `^--type must be one of .*"customer\.erased".* but got "customer\.erasd"`)
	run(t, "audit", "events", "-m", "nobody", "--data", s.Data).refused(t, 1, `^there is no merchant "nobody"`)
	s.Stop(t)
}
