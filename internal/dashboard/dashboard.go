// Package dashboard is the edge for people: HTML pages about merchants, for operators
// with a session. Pages are made on the server and work without script.
//
// A page is three things with the name of its noun, say team:
//
//   - team.go: its routes, a `var teamRoutes = []route{…}` that [routes] joins; a
//     handler for each, `func team(p *page) error`; and a view struct, which a page of
//     a merchant begins with an embedded [place].
//   - templates/team.html: `{{define "main"}}…{{end}}`, executed with the view struct
//     inside templates/layout.html. The components of templates/components.html take the
//     structs of component.go; functions are in template.go. No style or event
//     attributes: the policy of content forbids them. Cells have a data-label, which
//     names them when the table becomes cards on a narrow screen.
//   - a line in `views` of template.go, by which tests check the template's types, and
//     lines for its routes in the table of access_test.go.
//
// A handler asks use cases with p.ctx() and p.Caller: they decide what the visitor may,
// the view only hides what would be refused. It ends with one of
//
//	p.render("team", "Team", view)          // 200
//	p.refuse("team", "Team", view)          // 422 or 429: the form again, with its errors
//	p.redirect(url, flash{Text: "Saved."})  // 303 after a POST that did its work
//	err                                     // an error page, by the table of error.go
//
// [formError] tells the errors of use cases that belong at a form from those that have a
// page of their own. A form whose answer shows a secret has a `once` field
// ([page.once]) and its handler begins with [page.claim], so that sending it again
// does not make a second secret.
package dashboard

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"grahak"
	"grahak/internal/web"
)

// root is the path that everything here is below.
const root = "/dashboard/"

// Config is what an [Edge] is made of. Service and Environment are required.
type Config struct {
	Service     *grahak.Service
	Environment grahak.Environment
	// Version is that of the program, shown on the settings page.
	Version string
	// Facts are settings of the server that the settings page shows.
	Facts []Fact
	// API is the address of the API that commands to try it name, such as
	// https://api.example.com; empty for that of the pages.
	API string
	// Random makes the tokens of forms; default [rand.Reader].
	Random io.Reader
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
}

// Fact is a setting and its value, for people: see [Number] and [Lasting].
type Fact struct{ Name, Value string }

// Edge answers requests for pages. It implements [web.Edge] and is safe for concurrent
// use.
type Edge struct {
	cfg         Config
	service     *grahak.Service
	routes      []route
	crossOrigin *http.CrossOriginProtection
	checking    sync.Mutex // held while a chain of events is checked
}

var _ web.Edge = (*Edge)(nil)

// New returns the pages of cfg.Service.
func New(cfg Config) *Edge {
	cfg.Random = cmp.Or[io.Reader](cfg.Random, rand.Reader)
	cfg.Clock = cmp.Or[grahak.Clock](cfg.Clock, grahak.SystemClock{})
	return &Edge{cfg: cfg, service: cfg.Service, routes: routes(), crossOrigin: http.NewCrossOriginProtection()}
}

// headers are on every answer.
var headers = map[string][]string{
	"Content-Security-Policy": {"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; " +
		"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Permissions-Policy":           {"camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
	// Browsers that send no Sec-Fetch-Site would else call the origin of forms "null".
	"Referrer-Policy":        {"same-origin"},
	"X-Content-Type-Options": {"nosniff"},
	"X-Frame-Options":        {"DENY"},
}

// Serve implements [web.Edge].
func (e *Edge) Serve(x *web.Exchange) error {
	x.Page = true
	for name, value := range headers {
		x.Header()[name] = value
	}
	r, values, err := e.match(x)
	if err != nil {
		return err
	}
	x.Route = r.path
	if err := e.crossOrigin.Check(x.Request); err != nil {
		return &grahak.Error{Code: codeCrossOrigin, Err: err}
	}
	p := &page{edge: e, x: x, values: values}
	if x.Request.Method == http.MethodPost {
		if err := p.readForm(); err != nil {
			return err
		}
	}
	if r.access != open {
		err := p.enter(r.access)
		if grahak.CodeOf(err) == grahak.CodeNoSession {
			return p.toLogin()
		}
		if err != nil {
			return err
		}
	}
	return r.page(p)
}

// match finds the route of a request and the values of its path.
func (e *Edge) match(x *web.Exchange) (found route, values map[string]string, err error) {
	path := x.Request.URL.EscapedPath()
	method := x.Request.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allow []string
	for _, r := range e.routes {
		v, ok := r.match(path)
		switch {
		case !ok:
		case r.method == method:
			return r, v, nil
		default:
			x.Route = r.path
			allow = append(allow, r.method)
		}
	}
	if allow != nil {
		x.Header()["Allow"] = []string{strings.Join(allow, ", ")}
		return route{}, nil, errMethodNotAllowed
	}
	return route{}, nil, errNotFound
}

// maxForm bounds the body of a form, in bytes.
const maxForm = 64 << 10

// readForm reads the form of a POST, once for all who ask.
func (p *page) readForm() error {
	body, err := p.x.ReadBody(maxForm)
	if errors.Is(err, web.ErrBodyTooLarge) {
		return errBodyTooLarge
	}
	if err != nil {
		return &grahak.Error{Code: codeMalformedForm, Err: err}
	}
	if p.form, err = url.ParseQuery(string(body)); err != nil {
		// The cause would repeat what was entered.
		return errMalformedForm
	}
	return nil
}
