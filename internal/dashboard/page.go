package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"grahak"
	"grahak/internal/web"
)

// page is one request for a page and its answer.
type page struct {
	// Visitor is who asks, except on open pages.
	Visitor grahak.Visitor
	// Caller and Merchant are set on the pages of a merchant.
	Caller   grahak.Caller
	Merchant grahak.Merchant

	edge   *Edge
	x      *web.Exchange
	values map[string]string
	form   url.Values
}

// place is what the view of a merchant's page begins with.
type place struct {
	// Base is the path of the merchant's pages, without a slash at the end.
	Base     string
	Merchant grahak.Merchant
	// Role is the visitor's at the merchant.
	Role grahak.Role
}

// Admin reports whether the visitor may change what admins change.
func (p place) Admin() bool { return p.Role == grahak.RoleAdmin || p.Owner() }

// Owner reports whether the visitor may change the team.
func (p place) Owner() bool { return p.Role == grahak.RoleOwner }

// place returns where the page is.
func (p *page) place() place {
	return place{Base: p.base(), Merchant: p.Merchant, Role: p.Visitor.Role(p.Merchant.ID)}
}

// base is the path of the merchant's pages, without a slash at the end.
func (p *page) base() string { return merchantPath(p.Merchant.ID) }

func merchantPath(m grahak.MerchantID) string { return root + "m/" + string(m) }

func (p *page) ctx() context.Context { return p.x.Request.Context() }

// value returns what stands in the path for a name in braces.
func (p *page) value(name string) string { return p.values[name] }

// field returns what was entered in a field of the form that was sent, without the
// spaces around it.
func (p *page) field(name string) string { return strings.TrimSpace(p.form.Get(name)) }

// query returns a parameter of the URL. Personal data and secrets never come this way.
func (p *page) query(name string) string { return p.x.Request.URL.Query().Get(name) }

// client returns what is known of the browser.
func (p *page) client() grahak.Client {
	return grahak.Client{Addr: p.x.Addr, UserAgent: p.x.Request.UserAgent()}
}

// visit finds out who asks. Code: [grahak.CodeNoSession].
func (p *page) visit() (err error) {
	token := cookie(p.x.Request, sessionCookie)
	if token == "" {
		return errNoSession
	}
	p.Visitor, err = p.edge.service.Visit(p.ctx(), token)
	return err
}

// enter lets a visitor in as far as a says. Codes: [grahak.CodeNoSession];
// [grahak.CodeMerchantNotFound] also without a role there.
func (p *page) enter(a access) (err error) {
	if err := p.visit(); err != nil || a == visitor {
		return err
	}
	p.Caller, p.Merchant, err = p.edge.service.VisitorCaller(p.ctx(), p.Visitor, grahak.MerchantID(p.value("merchant")))
	if err != nil {
		return err
	}
	p.Caller.RequestID = p.x.RequestID
	p.x.Merchant = p.Merchant.ID
	return nil
}

// toLogin answers somebody without a session with the way to the login page, and from
// there to where the request was for.
func (p *page) toLogin() error {
	to := root + "login"
	if p.x.Request.Method != http.MethodPost && p.x.Request.URL.Path != root {
		to += "?next=" + url.QueryEscape(p.x.Request.URL.RequestURI())
	}
	if cookie(p.x.Request, sessionCookie) != "" {
		dropCookie(p.x, sessionCookie)
	}
	return p.redirect(to, flash{})
}

var htmlType = []string{"text/html; charset=utf-8"}

// render answers with a page of status 200: the template of that name with its view.
func (p *page) render(name, title string, view any) error {
	return p.send(http.StatusOK, name, title, view)
}

// refuse answers with a page of status 422, or 429 if too many tries were noted: a form
// with its errors.
func (p *page) refuse(name, title string, view any) error {
	status := http.StatusUnprocessableEntity
	if p.x.Code == string(grahak.CodeTooManyRequests) {
		status = http.StatusTooManyRequests
	}
	return p.send(status, name, title, view)
}

func (p *page) send(status int, name, title string, view any) error {
	main, err := renderMain(name, view)
	if err != nil {
		return err
	}
	s := p.edge.shell(title)
	s.Main = main
	s.Flash = p.takeFlash()
	if p.Visitor.Account.Name != "" {
		s.Operator = string(p.Visitor.Account.Name)
	}
	if p.Merchant.ID != "" {
		s.Place = p.place()
		s.Nav = navigation(s.Place, p.x.Route)
	}
	body, err := renderShell(s)
	if err != nil {
		return err
	}
	p.x.Send(status, htmlType, body)
	return nil
}

// redirect answers 303 with the way to a page here, which shows the flash, if it says
// anything.
func (p *page) redirect(to string, f flash) error {
	if f.Text != "" {
		setFlash(p.x, f)
	}
	p.x.Header()["Location"] = []string{to}
	p.x.Send(http.StatusSeeOther, htmlType, nil)
	return nil
}

// localPath returns next if it is the path of a page here, with a query or without, and
// otherwise the path of the first page.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, root) ||
		strings.ContainsAny(next, "\\\r\n") || strings.Contains(u.Path, "..") || strings.HasPrefix(u.Path, root+"log") {
		return root
	}
	return next
}
