package dashboard

import (
	"grahak"
)

var teamRoutes = []route{
	get(atMerchant+"team", member, team),
	post(atMerchant+"team/invite", member, invite),
	post(atMerchant+"team/role", member, setRole),
}

// teamView is who has a role at a merchant.
type teamView struct {
	place
	Members []memberRow
	Invite  inviteForm
}

// memberRow is a person of the team.
type memberRow struct {
	grahak.TeamMember
	// Everywhere is set for a role at all merchants, which is not changed here.
	Everywhere bool
	You        bool
	State      badge
	Roles      formField
}

// inviteForm is the form that brings somebody into the team.
type inviteForm struct {
	Name, Role formField
	Once       hidden
}

// invitedView shows a setup code, once.
type invitedView struct {
	place
	Name string
	Role grahak.Role
	Code secretBox
	URL  string
}

func roleChoices(current grahak.Role) []option {
	return choices(string(current),
		option{Value: string(grahak.RoleViewer), Label: "Viewer: sees everything, personal data masked"},
		option{Value: string(grahak.RoleAdmin), Label: "Admin: customers, keys, IP list, webhooks"},
		option{Value: string(grahak.RoleOwner), Label: "Owner: the team as well"})
}

func (p *page) teamView() (teamView, error) {
	members, err := p.edge.service.Team(p.ctx(), p.Caller)
	if err != nil {
		return teamView{}, err
	}
	view := teamView{place: p.place()}
	now := p.edge.cfg.Clock.Now()
	for _, m := range members {
		row := memberRow{
			TeamMember: m, Everywhere: m.Grant.Merchant == grahak.OperatorsMerchant, You: m.Account.Name == p.Visitor.Account.Name,
			State: badge{"ok", "active"},
			Roles: formField{Name: "role", Label: "Role", Key: string(m.Account.Name) + "-", Options: roleChoices(m.Grant.Role)},
		}
		switch {
		case !m.Account.DisabledAt.IsZero():
			row.State = badge{"bad", "disabled"}
		case m.Account.SetUpAt.IsZero() && m.Account.LastLoginAt.IsZero():
			row.State = badge{"info", "invited"}
		case m.Account.SetUpAt.IsZero():
			row.State = badge{"info", "no password"}
		case m.Account.LockedUntil.After(now):
			row.State = badge{"warn", "locked"}
		}
		view.Members = append(view.Members, row)
	}
	role := grahak.Role(p.field("role"))
	if role == "" {
		role = grahak.RoleViewer
	}
	once, err := p.once()
	view.Invite = inviteForm{
		Once: once,
		Name: formField{
			Name: "name", Label: "Name", Value: p.field("name"), Required: true, Autocomplete: "off", MaxLength: 64, Mono: true,
			Hint: "What the person logs in with, such as asha.rao: small letters, digits, dots, - and _. No e-mail address, because it stands in the audit log.",
		},
		Role: formField{Name: "role", Label: "Role", Options: roleChoices(role)},
	}
	return view, err
}

func team(p *page) error {
	view, err := p.teamView()
	if err != nil {
		return err
	}
	return p.render("team", "Team", view)
}

func invite(p *page) error {
	if err := p.claim(); err != nil {
		return err
	}
	name, role := p.field("name"), grahak.Role(p.field("role"))
	code, err := p.edge.service.Invite(p.ctx(), p.Caller, name, role)
	if message, ok := formError(err); ok {
		return p.teamRefused(err, message)
	}
	if err != nil {
		return err
	}
	if code == "" {
		return p.redirect(p.base()+"/team", flash{Text: "There was an operator " + name + " already, who is " + string(role) + " here now. Take the role away if it is not who you mean."})
	}
	return p.render("invited", "Invited", invitedView{
		place: p.place(), Name: name, Role: role, URL: p.ownURL(root + "setup"),
		Code: secretBox{Label: "Setup code", Value: code, Note: "It works once, within 72 hours."},
	})
}

// teamRefused shows the team again with what is wrong at the form to invite.
func (p *page) teamRefused(err error, message string) error {
	p.noteRefusal(err)
	view, err := p.teamView()
	if err != nil {
		return err
	}
	view.Invite.Name.Error = message
	return p.refuse("team", "Team", view)
}

func setRole(p *page) error {
	name, role := p.field("name"), grahak.Role(p.field("role"))
	if p.form.Has("remove") {
		role = ""
	}
	err := p.edge.service.SetRole(p.ctx(), p.Caller, grahak.OperatorName(name), role)
	back := p.base() + "/team"
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		return p.redirect(back, flash{Text: message, Trouble: true})
	}
	switch {
	case err != nil:
		return err
	case role == "":
		return p.redirect(back, flash{Text: name + " has no role here any more."})
	}
	return p.redirect(back, flash{Text: name + " is " + string(role) + " now."})
}

// ownURL returns the address of a path here as the browser knows it. What a proxy has made
// plain HTTP of was HTTPS if the browser trusts it: see [page.insecure].
func (p *page) ownURL(path string) string {
	scheme := "http://"
	r := p.x.Request
	if r.TLS != nil || r.Header.Get("Sec-Fetch-Site") != "" && !onThisMachine(r) {
		scheme = "https://"
	}
	return scheme + r.Host + path
}
