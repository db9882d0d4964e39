package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// An owner invites somebody, changes the role and takes it away; the last owner stays.
func TestTeam(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "asha", grahak.RoleOwner)
	const path = "/dashboard/m/acme/team"
	once := func() string { return b.Get(t, path).want(t, 200).attr("[name=once]", "value") }
	form := []string{"once", once(), "name", "ravi", "role", "viewer"}
	shown := b.Post(t, path+"/invite", form...).want(t, 200)
	code := shown.text(".secret code")
	s.browser().Post(t, "/dashboard/setup", "code", code).want(t, 200)
	if got := shown.all("main code"); len(got) != 2 || got[1] != s.url+"/dashboard/setup" {
		t.Errorf("the page shows %q", got)
	}
	// Sent again, it neither makes a second code nor shows the first.
	if again := b.Post(t, path+"/invite", form...).want(t, http.StatusConflict); strings.Contains(again.body, code) {
		t.Error("the code is shown again")
	}
	if got := b.Post(t, path+"/invite", "once", once(), "name", "Ravi Kumar", "role", "viewer").want(t, 422); got.attr("#f-name", "value") != "Ravi Kumar" || got.text("#f-name-error") == "" {
		t.Errorf("a refused name is shown as\n%s", got.body)
	}
	rows := func() (rows []string) {
		page := b.Get(t, path).want(t, 200)
		names, roles, states := page.all("tbody td[data-label=Name]"), page.all("tbody td[data-label=Role]"), page.all("tbody td[data-label=State]")
		for i := range names {
			rows = append(rows, names[i]+" "+roles[i]+" "+states[i])
		}
		return rows
	}
	if d := cmp.Diff([]string{"asha (you) owner no password", "ravi viewer invited"}, rows()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b.Post(t, path+"/role", "name", "ravi", "role", "admin").redirect(t, path)
	if d := cmp.Diff([]string{"asha (you) owner no password", "ravi admin invited"}, rows()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b.Post(t, path+"/role", "name", "ravi", "role", "admin", "remove", "1").redirect(t, path)
	if d := cmp.Diff([]string{"asha (you) owner no password"}, rows()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b.Post(t, path+"/role", "name", "asha", "remove", "1").redirect(t, path)
	if got := b.Get(t, path).want(t, 200).text(".flash.trouble"); got == "" {
		t.Error("the last owner is gone without a word")
	}
	// Who has a login gets a role without a code.
	s.MustOperator(t, "usha", rival, grahak.RoleViewer)
	b.Post(t, path+"/invite", "once", once(), "name", "usha", "role", "admin").redirect(t, path)
	if got := b.Get(t, path).want(t, 200).text(".flash"); !strings.Contains(got, "already") {
		t.Errorf("that somebody was there already is told as %q", got)
	}
	viewer := s.MustEnter(t, "meera", grahak.RoleViewer).Get(t, path).want(t, 200)
	if got := viewer.all("main form"); got != nil {
		t.Errorf("a viewer sees forms: %q", got)
	}
}

// Somebody with several merchants chooses one; with one they are there at once.
func TestChoose(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustEnter(t, "asha", grahak.RoleViewer).Get(t, "/dashboard/").redirect(t, "/dashboard/m/acme/")
	s.MustOperator(t, "ravi", everywhere, grahak.RoleAdmin)
	page := s.MustLogin(t, "ravi").Get(t, "/dashboard/").want(t, 200)
	if d := cmp.Diff([]string{"acme", "rival"}, page.all("tbody a")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	s.MustOperator(t, "usha", "", "")
	if got := s.MustLogin(t, "usha").Get(t, "/dashboard/").want(t, 200).text(".empty h2"); got != "You have no role at any merchant" {
		t.Errorf("the page says %q", got)
	}
}
