package dashboard

import (
	"html/template"
	"strconv"
	"strings"

	"rsc.io/qr"

	"grahak"
)

var setupRoutes = []route{
	get(root+"setup", open, showSetup),
	post(root+"setup", open, setup),
	post(root+"setup/finish", open, finishSetup),
}

// setupView asks for a setup code.
type setupView struct {
	Code  formField
	Error string
}

// authenticatorView is the second step: the authenticator and the password.
type authenticatorView struct {
	Operator grahak.OperatorName
	// Code is the setup code, which the last step needs once more.
	Code string
	QR   template.HTML
	// URL opens an authenticator on the same device.
	URL      template.URL
	Secret   string
	Password formField
	TOTP     formField
}

// recoveryView shows recovery codes, once.
type recoveryView struct {
	Codes []string
	// All is the codes for the button that copies them.
	All copyable
	// Next is where to go when they are kept, and what that is called.
	Next, NextText string
}

func setupCodeView(message string) setupView {
	return setupView{
		Code:  formField{Name: "code", Label: "Setup code", Required: true, Focus: true, Autocomplete: "off", Mono: true, MaxLength: 128, Hint: "From the person who invited you."},
		Error: message,
	}
}

func showSetup(p *page) error { return p.render("setup", "Set up your login", setupCodeView("")) }

// setupRefused shows the first step again, or returns err if no form explains it.
func (p *page) setupRefused(err error) error {
	message, ok := loginError(err)
	if !ok {
		return err
	}
	if grahak.CodeOf(err) == grahak.CodeLoginRefused {
		message = "This setup code has been used, is older than 72 hours, or has a typing mistake. Who runs this server can make another with grahak operator reset NAME."
	}
	p.noteRefusal(err)
	return p.refuse("setup", "Set up your login", setupCodeView(message))
}

func setup(p *page) error {
	code := p.field("code")
	s, err := p.edge.service.Setup(p.ctx(), code, p.client())
	if err != nil {
		return p.setupRefused(err)
	}
	view, err := newAuthenticatorView(s, code)
	if err != nil {
		return err
	}
	return p.render("authenticator", "Set up your login", view)
}

func newAuthenticatorView(s grahak.OperatorSetup, code string) (authenticatorView, error) {
	drawn, err := drawQR(s.URL)
	return authenticatorView{
		Operator: s.Operator, Code: code, QR: drawn, Secret: groups(s.Secret),
		URL:      template.URL(s.URL), //nolint:gosec // The domain made it, and it begins with otpauth:.
		Password: newPasswordField("password"),
		TOTP: formField{
			Name: "totp", Label: "Code from the authenticator", Required: true, Autocomplete: "one-time-code", InputMode: "numeric", Mono: true, MaxLength: 16,
			Hint: "The six digits that it shows now.",
		},
	}, err
}

func newPasswordField(name string) formField {
	return formField{
		Name: name, Label: "New password", Type: "password", Required: true, Autocomplete: "new-password", MaxLength: 1024,
		Hint: "At least " + strconv.Itoa(grahak.MinPassword) + " characters; a sentence is good.",
	}
}

func finishSetup(p *page) error {
	code := p.field("code")
	codes, err := p.edge.service.FinishSetup(p.ctx(), code, p.form.Get("password"), p.field("totp"), p.client())
	if grahak.CodeOf(err) == grahak.CodeInvalidOperator {
		message, _ := formError(err)
		p.noteRefusal(err)
		s, err := p.edge.service.Setup(p.ctx(), code, p.client())
		if err != nil {
			return p.setupRefused(err)
		}
		view, err := newAuthenticatorView(s, code)
		if err != nil {
			return err
		}
		if grahak.CheckPassword(p.form.Get("password")) != nil {
			view.Password.Error = message
		} else {
			view.TOTP.Error = message
		}
		return p.refuse("authenticator", "Set up your login", view)
	}
	if err != nil {
		return p.setupRefused(err)
	}
	return p.render("recovery", "Recovery codes", newRecoveryView(codes, root+"login", "Log in"))
}

func newRecoveryView(codes []string, next, text string) recoveryView {
	return recoveryView{Codes: codes, All: copyable{"all codes", strings.Join(codes, "\n")}, Next: next, NextText: text}
}

// groups returns s with a space after each four characters, to be read and typed.
func groups(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// drawQR returns text as a QR code: an SVG with a run of dark squares per step of its
// path, dark on light whatever the page is, as cameras want it.
func drawQR(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	const quiet = 4 // squares around it, which the standard asks for
	var b strings.Builder
	size := strconv.Itoa(code.Size + 2*quiet)
	b.WriteString(`<svg viewBox="0 0 ` + size + ` ` + size + `" role="img" aria-label="QR code for the authenticator" shape-rendering="crispEdges"><rect width="` + size + `" height="` + size + `" fill="#fff"/><path fill="#000" d="`)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			run := 0
			for x+run < code.Size && code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				n := strconv.Itoa(run)
				b.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h" + n + "v1h-" + n + "z")
				x += run
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String()), nil //nolint:gosec // It is made of numbers.
}
