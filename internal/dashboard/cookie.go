package dashboard

import (
	"encoding/base64"
	"net/http"
	"strings"

	"grahak/internal/web"
)

// The cookies.
const (
	sessionCookie = "grahak_session"
	flashCookie   = "grahak_flash"
)

// cookie returns the value of a cookie, empty if there is none.
func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie has the browser keep a value: seconds long, until it is closed if that is
// 0, and no more if it is below.
func setCookie(x *web.Exchange, name, value string, seconds int) {
	c := http.Cookie{
		Name: name, Value: value, Path: root, MaxAge: seconds,
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
