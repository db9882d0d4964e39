package dashboard

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"reflect"
	"strconv"
	"strings"
	"time"

	"grahak"
)

//go:embed templates/*.html
var templateFiles embed.FS

// views names every template of a page with the type that it is executed with.
var views = map[string]any{
	"error":         errorView{},
	"home":          homeView{},
	"login":         loginView{},
	"loginlink":     loginLinkView{},
	"setup":         setupView{},
	"authenticator": authenticatorView{},
	"recovery":      recoveryView{},
	"choose":        chooseView{},
	"settings":      settingsView{},
	"team":          teamView{},
	"invited":       invitedView{},

	"customers":     customersView{},
	"found":         foundView{},
	"customer":      customerView{},
	"customerform":  customerForm{},
	"customererase": eraseView{},
	"audit":         auditView{},

	"keys":      keysView{},
	"keymade":   keyMadeView{},
	"keyrotate": keyChangeView{},
	"keyrevoke": keyChangeView{},
	"ip":        ipView{},
	"ipplan":    ipPlanView{},

	"webhooks":      webhooksView{},
	"webhooksecret": webhookSecretView{},
	"webhook":       webhookView{},
	"delivery":      deliveryView{},
	"requests":      requestsView{},
	"request":       requestView{},
}

// functions are what templates may call.
var functions = template.FuncMap{
	"when":   when,
	"minute": minute,
	"day":    day,
	"num":    num,
	"took":   took,
	"badge":  func(kind, text string) badge { return badge{kind, text} },
	"icon":   icon,
}

var (
	layout = parseLayout()
	pages  = parsePages()
)

func parseLayout() *template.Template {
	return template.Must(template.New("layout").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/components.html"))
}

func parsePages() map[string]*template.Template {
	all := make(map[string]*template.Template, len(views))
	for name := range views {
		t := template.New(name).Funcs(functions)
		all[name] = template.Must(t.ParseFS(templateFiles, "templates/components.html", "templates/"+name+".html"))
	}
	return all
}

// renderMain returns what the template of a page makes of its view.
func renderMain(name string, view any) (template.HTML, error) {
	var b strings.Builder
	if err := pages[name].ExecuteTemplate(&b, "main", view); err != nil {
		return "", fmt.Errorf("page %s: %w", name, err)
	}
	return template.HTML(b.String()), nil //nolint:gosec // It was escaped as it was made.
}

// shell is what is around every page.
type shell struct {
	Title       string
	Environment grahak.Environment
	Style       string
	Script      string
	Icon        string
	// Operator is empty for a page before the login.
	Operator string
	// Place is the zero value outside of a merchant.
	Place place
	Nav   []navItem
	Flash flash
	Main  template.HTML
}

// Production reports whether real customers are here.
func (s shell) Production() bool { return s.Environment == grahak.Production }

func (e *Edge) shell(title string) shell {
	return shell{
		Title: title, Environment: e.cfg.Environment,
		Style: assetURL("app.css"), Script: assetURL("app.js"), Icon: assetURL("icon.svg"),
	}
}

func renderShell(s shell) ([]byte, error) {
	var b bytes.Buffer
	err := layout.ExecuteTemplate(&b, "layout", s)
	return b.Bytes(), err
}

// navItem is a place in the menu of a merchant.
type navItem struct {
	Label, URL, Icon string
	// Key goes there after g.
	Key     string
	Current bool
}

// sections are the pages in a merchant's menu, by the segment of their path.
var sections = []struct{ label, segment, icon, key string }{
	{"Home", "", "home", "h"},
	{"Customers", "customers", "people", "c"},
	{"API keys", "keys", "key", "k"},
	{"IP whitelist", "ip", "shield", "i"},
	{"Webhooks", "webhooks", "send", "w"},
	{"Requests", "requests", "list", "r"},
	{"Audit log", "audit", "book", "a"},
	{"Team", "team", "team", "t"},
}

// navigation returns the menu of a merchant on the page of a route.
func navigation(at place, route string) []navItem {
	segment, below := strings.CutPrefix(route, atMerchant)
	segment, _, _ = strings.Cut(segment, "/")
	items := make([]navItem, len(sections))
	for i, s := range sections {
		items[i] = navItem{s.label, at.Base + "/" + s.segment, s.icon, s.key, below && s.segment == segment}
	}
	return items
}

// The forms of times, which are shown in UTC.
const (
	dayForm    = "2006-01-02"
	minuteForm = "2006-01-02 15:04"
	secondForm = "2006-01-02 15:04:05"
)

// when shows a time to the second, and nothing as a dash.
func when(t time.Time) template.HTML { return timeElement(t, secondForm+" UTC") }

// minute writes a time to the minute.
func minute(t time.Time) string { return t.UTC().Format(minuteForm) }

// day shows the date of a time.
func day(t time.Time) template.HTML { return timeElement(t, dayForm) }

func timeElement(t time.Time, form string) template.HTML {
	if t.IsZero() {
		return `<span class="muted">–</span>`
	}
	t = t.UTC()
	//nolint:gosec // It is made of digits.
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339Nano) + `" title="` + t.Format(secondForm) + ` UTC">` + t.Format(form) + `</time>`)
}

// num shows a whole number, of any type of integer, with a comma between each three
// digits.
func num(n any) string {
	digits := strconv.FormatInt(reflect.ValueOf(n).Int(), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "−", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Number is a whole number for people: 50,000.
func Number(n int64) string { return num(n) }

// Lasting is a time for people: 24 hours, 90 days. One of two days and more that is whole
// days is in days, and one that is not whole minutes is as Go writes it.
func Lasting(d time.Duration) string {
	for _, u := range []struct {
		name  string
		time  time.Duration
		least time.Duration
	}{{"day", 24 * time.Hour, 48 * time.Hour}, {"hour", time.Hour, time.Hour}, {"minute", time.Minute, time.Minute}} {
		n := d / u.time
		switch {
		case d < u.least || d%u.time != 0:
		case n == 1:
			return "1 " + u.name
		default:
			return num(int64(n)) + " " + u.name + "s"
		}
	}
	return d.String()
}

// took shows a duration with the unit that suits it.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d.Microseconds())/1e3, 'f', 1, 64) + " ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}

// icons are drawn in a square of 20, by stroke.
var icons = map[string]string{
	"home":   "M3 9.5 10 3l7 6.5V17h-5v-4.5H8V17H3z",
	"people": "M10 10a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4M3.6 17c.4-3.4 3-5 6.4-5s6 1.6 6.4 5",
	"key":    "M12.5 11.5a4 4 0 1 0-3.8-2.8L3 14.4V17h2.6v-2h2v-2h1.8l1.3-1.7c.6.1 1.2.2 1.8.2M13.6 6.4v.1",
	"shield": "M10 2.8 16.5 5v4.5c0 3.7-2.6 6.6-6.5 7.9-3.9-1.3-6.5-4.2-6.5-7.9V5zM7.2 10l2 2 3.7-3.8",
	"send":   "M17 3 8.8 11.2M17 3l-5 14-3.2-5.8L3 8z",
	"list":   "M3 5h14M3 10h14M3 15h9",
	"book":   "M4 3.5h9.5a2 2 0 0 1 2 2V17H6a2 2 0 0 1-2-2zM4 15a2 2 0 0 1 2-2h9.5M7.5 7H12",
	"team":   "M7.5 9.5a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6M2.5 16.5c.3-3 2.3-4.5 5-4.5s4.7 1.5 5 4.5M13.5 4.2a2.8 2.8 0 0 1 0 5.1M14.7 12.2c1.7.6 2.7 2 2.9 4.3",
	"gear":   "M10 12.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6M10 2.5v2.2M10 15.3v2.2M2.5 10h2.2M15.3 10h2.2M4.7 4.7l1.6 1.6M13.7 13.7l1.6 1.6M15.3 4.7l-1.6 1.6M6.3 13.7l-1.6 1.6",
	"search": "M8.8 14.1a5.3 5.3 0 1 0 0-10.6 5.3 5.3 0 0 0 0 10.6M12.7 12.7 17 17",
	"out":    "M8 3H4v14h4M12.5 6.5 16 10l-3.5 3.5M16 10H7.5",
	"menu":   "M3 5.5h14M3 10h14M3 14.5h14",
	"swap":   "M6 8l4-4 4 4M6 12l4 4 4-4",
}

// icon draws beside a text that says the same, so that readers of the page aloud pass it.
func icon(name string) template.HTML {
	//nolint:gosec // It is made of constants.
	return template.HTML(`<svg class="icon" viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d="` + icons[name] + `"/></svg>`)
}

// span shows a time to wait in whole seconds or minutes, never less than it is.
func span(d time.Duration) string {
	seconds := int64((d + time.Second - 1) / time.Second)
	if seconds <= 90 {
		return strconv.FormatInt(max(1, seconds), 10) + " s"
	}
	return strconv.FormatInt((seconds+59)/60, 10) + " min"
}
