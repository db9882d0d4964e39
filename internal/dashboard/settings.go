package dashboard

import (
	"errors"

	"grahak"
)

var settingsRoutes = []route{
	get(root+"settings", visitor, settings),
	post(root+"settings/password", visitor, changePassword),
	post(root+"settings/recovery", visitor, newRecoveryCodes),
	post(root+"settings/session", visitor, endSession),
	post(root+"settings/sessions", visitor, endSessions),
}

// settingsView is a visitor's own login, and what the server says of itself.
type settingsView struct {
	Account  grahak.Account
	Grants   []grantRow
	Sessions []sessionRow
	Password passwordForm
	Recovery recoveryForm
	Facts    []Fact
	FewCodes bool
}

// grantRow is a role of the visitor.
type grantRow struct {
	grahak.Grant
	Everywhere bool
	URL        string
}

type sessionRow struct {
	grahak.Session
	Current bool
}

// passwordForm changes the password.
type passwordForm struct{ Old, Code, New formField }

// recoveryForm makes new recovery codes.
type recoveryForm struct {
	Password, Code formField
	Once           hidden
}

func currentFields(key string) (password, code formField) {
	password = formField{
		Name: "password", Key: key, Label: "Current password", Type: "password",
		Required: true, Autocomplete: "current-password", MaxLength: 1024,
	}
	code = formField{
		Name: "code", Key: key, Label: "Code from the authenticator", InputMode: "numeric",
		Required: true, Autocomplete: "one-time-code", Mono: true, MaxLength: 64,
	}
	return password, code
}

func (p *page) settingsView() (settingsView, error) {
	v := settingsView{Account: p.Visitor.Account}
	for _, g := range p.Visitor.Grants {
		row := grantRow{Grant: g, Everywhere: g.Merchant == grahak.OperatorsMerchant}
		if !row.Everywhere {
			row.URL = merchantPath(g.Merchant) + "/"
		}
		v.Grants = append(v.Grants, row)
	}
	sessions, err := p.edge.service.Sessions(p.ctx(), p.Visitor)
	if err != nil {
		return v, err
	}
	for _, s := range sessions {
		v.Sessions = append(v.Sessions, sessionRow{Session: s, Current: s.ID == p.Visitor.Session.ID})
	}
	v.Password.Old, v.Password.Code = currentFields("password-")
	v.Password.New = newPasswordField("new")
	v.Recovery.Password, v.Recovery.Code = currentFields("recovery-")
	v.Recovery.Once, err = p.once()
	v.FewCodes = v.Account.RecoveryCodes < 3
	v.Facts = append([]Fact{
		{"Environment", string(p.edge.cfg.Environment)},
		{"Version", p.edge.cfg.Version},
	}, p.edge.cfg.Facts...)
	return v, err
}

func settings(p *page) error {
	view, err := p.settingsView()
	if err != nil {
		return err
	}
	return p.render("settings", "Settings", view)
}

// settingsRefused shows the settings again with the error at a form, which at says, or
// returns err if no form explains it.
func (p *page) settingsRefused(err error, at func(v *settingsView, field, message string)) error {
	message, ok := loginError(err)
	field := "password"
	if !ok {
		message, ok = formError(err)
		field = "new"
	}
	if !ok {
		return err
	}
	if grahak.CodeOf(err) == grahak.CodeLoginRefused {
		message = "The current password or the code is wrong. A code works once; wait for the next one."
	}
	p.noteRefusal(err)
	view, viewErr := p.settingsView()
	if viewErr != nil {
		return errors.Join(viewErr, err)
	}
	at(&view, field, message)
	return p.refuse("settings", "Settings", view)
}

func changePassword(p *page) error {
	err := p.edge.service.ChangePassword(p.ctx(), p.Visitor, p.form.Get("password"), p.field("code"), p.form.Get("new"))
	if err != nil {
		return p.settingsRefused(err, func(v *settingsView, field, message string) {
			if field == "new" {
				v.Password.New.Error = message
			} else {
				v.Password.Old.Error = message
			}
		})
	}
	return p.redirect(root+"settings", flash{Text: "The password is changed, and your other sessions have ended."})
}

func newRecoveryCodes(p *page) error {
	if err := p.claim(); err != nil {
		return err
	}
	codes, err := p.edge.service.NewRecoveryCodes(p.ctx(), p.Visitor, p.form.Get("password"), p.field("code"))
	if err != nil {
		return p.settingsRefused(err, func(v *settingsView, _, message string) { v.Recovery.Password.Error = message })
	}
	return p.render("recovery", "Recovery codes", newRecoveryView(codes, root+"settings", "Back to the settings"))
}

func endSession(p *page) error {
	id := grahak.SessionID(p.field("session"))
	if err := p.edge.service.EndSession(p.ctx(), p.Visitor, id); err != nil {
		return err
	}
	if id == p.Visitor.Session.ID {
		return p.toLogin()
	}
	return p.redirect(root+"settings", flash{Text: "The session has ended."})
}

func endSessions(p *page) error {
	if err := p.edge.service.EndSessions(p.ctx(), p.Visitor); err != nil {
		return err
	}
	return p.toLogin()
}
