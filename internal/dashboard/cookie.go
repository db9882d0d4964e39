package dashboard

import (
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"grahak/internal/web"
)

// The cookies.
const (
	sessionCookie = "grahak_session"
	flashCookie   = "grahak_flash"
)

// onlyHost is what the name of a cookie begins with that browsers take from this very
// host only, over HTTPS: another host of the same domain can neither put one of its own in
// its place nor beside it.
const onlyHost = "__Host-"

// cookieName returns the name that a cookie has in the browser. Browsers disagree about
// the prefix on plain HTTP, where they keep what is secure on their own machine alone.
func cookieName(r *http.Request, name string) string {
	if r.TLS == nil && onThisMachine(r) {
		return name
	}
	return onlyHost + name
}

// onThisMachine reports whether the browser runs on the machine that it asks.
func onThisMachine(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// cookie returns the value of a cookie, empty if there is none.
func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(cookieName(r, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie has the browser keep a value: seconds long, until it is closed if that is
// 0, and no more if it is below.
func setCookie(x *web.Exchange, name, value string, seconds int) {
	name, path := cookieName(x.Request, name), root
	if strings.HasPrefix(name, onlyHost) {
		path = "/" // The prefix demands it.
	}
	c := http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: seconds,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	}
	x.Header().Add("Set-Cookie", c.String())
}

func dropCookie(x *web.Exchange, name string) { setCookie(x, name, "", -1) }

// flash is what the next page says of the action before it. It holds no personal data
// and no secret, because it travels in a cookie.
type flash struct {
	Text string
	// Trouble marks what did not work.
	Trouble bool
}

// flashTime is for how many seconds a flash waits to be shown.
const flashTime = 60

// maxFlash bounds what is shown of a flash, in bytes of its cookie.
const maxFlash = 1 << 10

func setFlash(x *web.Exchange, f flash) {
	kind := "+"
	if f.Trouble {
		kind = "-"
	}
	setCookie(x, flashCookie, base64.RawURLEncoding.EncodeToString([]byte(kind+f.Text)), flashTime)
}

// takeFlash returns the flash that waits to be shown, which then does no more.
func (p *page) takeFlash() flash {
	value := cookie(p.x.Request, flashCookie)
	if value == "" {
		return flash{}
	}
	dropCookie(p.x, flashCookie)
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(value) > maxFlash || len(text) == 0 {
		return flash{}
	}
	return flash{Text: strings.ToValidUTF8(string(text[1:]), ""), Trouble: text[0] == '-'}
}
