package dashboard

import (
	"errors"

	"grahak"
)

var loginRoutes = []route{
	get(root+"login", open, showLogin),
	post(root+"login", open, login),
	post(root+"login/link", open, loginByLink),
	post(root+"logout", visitor, logout),
}

// loginView is the form with which an operator logs in.
type loginView struct {
	Name, Password, Code formField
	Next                 string
	Error                string
	// Continue is set if somebody may be logged in although the browser did not say so,
	// because it came from another site.
	Continue bool
	// Insecure is set if the browser would not keep the session.
	Insecure bool
	// Links is set if this server makes login links.
	Links bool
}

// loginLinkView is the page behind a login link, whose button uses it up.
type loginLinkView struct {
	Link  string
	Error string
}

func (p *page) loginView() loginView {
	return loginView{
		Name: formField{
			Name: "name", Label: "Name", Value: p.field("name"), Autocomplete: "username", Required: true, Focus: p.field("name") == "", MaxLength: 64,
		},
		Password: formField{
			Name: "password", Label: "Password", Type: "password", Autocomplete: "current-password", Required: true, Focus: p.field("name") != "", MaxLength: 1024,
		},
		Code: formField{
			Name: "code", Label: "Code", Autocomplete: "one-time-code", InputMode: "numeric", Required: true, Mono: true, MaxLength: 64,
			Hint: "Six digits from your authenticator, or one of your recovery codes.",
		},
		Insecure: p.insecure(),
		Links:    p.edge.cfg.Environment == grahak.Sandbox,
	}
}

// insecure reports whether the browser takes the way to here for one on which it must not
// send a session: plain HTTP to another machine. Browsers say where a request comes from
// only on a way that they trust.
func (p *page) insecure() bool {
	r := p.x.Request
	return r.TLS == nil && r.Header.Get("Sec-Fetch-Site") == "" && !onThisMachine(r)
}

func showLogin(p *page) error {
	next := localPath(p.query("next"))
	if link := p.query("link"); link != "" {
		return p.render("loginlink", "Log in", loginLinkView{Link: link})
	}
	switch err := p.visit(); grahak.CodeOf(err) {
	case "":
		return p.redirect(next, flash{})
	case grahak.CodeNoSession:
	default:
		return err
	}
	view := p.loginView()
	view.Next = next
	view.Continue = next != root && p.x.Request.Header.Get("Sec-Fetch-Site") == "cross-site"
	return p.render("login", "Log in", view)
}

func login(p *page) error {
	token, err := p.edge.service.Login(p.ctx(), grahak.LoginAttempt{
		Name: p.field("name"), Password: p.form.Get("password"), Code: p.field("code"), Client: p.client(),
	})
	next := localPath(p.field("next"))
	if message, ok := loginError(err); ok {
		view := p.loginView()
		view.Next, view.Error = next, message
		p.noteRefusal(err)
		return p.refuse("login", "Log in", view)
	}
	if err != nil {
		return err
	}
	setCookie(p.x, sessionCookie, token, 0)
	return p.redirect(next, flash{})
}

func loginByLink(p *page) error {
	token, err := p.edge.service.LoginByLink(p.ctx(), p.field("link"), p.client())
	if message, ok := loginError(err); ok {
		if grahak.CodeOf(err) == grahak.CodeLoginRefused {
			message = "This link has been used, or is older than 15 minutes. Make another with grahak operator link NAME, or restart grahak serve, which prints one."
		}
		p.noteRefusal(err)
		return p.refuse("loginlink", "Log in", loginLinkView{Error: message})
	}
	if err != nil {
		return err
	}
	setCookie(p.x, sessionCookie, token, 0)
	return p.redirect(root, flash{})
}

// loginError returns what somebody is told who could not log in, and whether that is for
// the form to say.
func loginError(err error) (string, bool) {
	switch grahak.CodeOf(err) {
	case grahak.CodeLoginRefused:
		return "That is not right. Check the name, the password and the code: each works once, and a new one comes every 30 seconds.", true
	case grahak.CodeTooManyRequests:
		known := new(grahak.Error)
		if errors.As(err, &known) && known.RetryIn > 0 {
			return "Too many tries have failed. Wait " + span(known.RetryIn) + " and try again.", true
		}
		return "Too many tries have failed. Wait a while and try again.", true
	}
	return "", false
}

// noteRefusal notes for the log that a form was refused, and for the browser how long to
// wait, if that is why.
func (p *page) noteRefusal(err error) {
	p.x.Code = string(grahak.CodeOf(err))
	if known := new(grahak.Error); errors.As(err, &known) && known.Code == grahak.CodeTooManyRequests {
		p.x.RetryAfter(known.RetryIn)
	}
}

func logout(p *page) error {
	if err := p.edge.service.Logout(p.ctx(), p.Visitor); err != nil {
		return err
	}
	dropCookie(p.x, sessionCookie)
	return p.redirect(root+"login", flash{})
}
