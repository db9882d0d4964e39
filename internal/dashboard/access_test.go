package dashboard_test

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// allowed is the status that a route answers each role with, for a form that is as good
// as the role that may send it needs it to be. Who is not logged in is led to the login
// page, and who has a role only at another merchant finds nothing, on every route but
// those for everybody.
type allowed struct {
	viewer, admin, owner int
	fields               []string // names and values by turns
}

// same is a route that answers every role alike.
func same(status int, fields ...string) allowed { return allowed{status, status, status, fields} }

// byAdmin is a route that admins may use, byOwner one that owners may.
func byAdmin(status int, fields ...string) allowed {
	return allowed{http.StatusForbidden, status, status, fields}
}

func byOwner(status int, fields ...string) allowed {
	return allowed{http.StatusForbidden, http.StatusForbidden, status, fields}
}

// The values of forms that differ each time.
const (
	once     = "{once}"     // of the form's once field
	operator = "{operator}" // a name that nobody has
	address  = "{address}"  // on no list
	listed   = "{listed}"   // on acme's
	named    = "{named}"    // what the path names last
)

// access says who may what, for every route but those for everybody.
var access = map[string]allowed{
	"GET /dashboard/":                          same(303), // All have a role at acme alone.
	"GET /dashboard/settings":                  same(200),
	"POST /dashboard/settings/password":        same(422, "password", "wrong", "code", "000000", "new", "correct horse battery"),
	"POST /dashboard/settings/recovery":        same(422, "once", once, "password", "wrong", "code", "000000"),
	"POST /dashboard/settings/session":         same(303, "session", "unknown"),
	"POST /dashboard/settings/sessions":        same(303),
	"POST /dashboard/logout":                   same(303),
	"GET /dashboard/m/{merchant}/":             same(200),
	"GET /dashboard/m/{merchant}/team":         same(200),
	"POST /dashboard/m/{merchant}/team/invite": byOwner(200, "once", once, "name", operator, "role", "viewer"),
	"POST /dashboard/m/{merchant}/team/role":   byOwner(303, "name", "member", "role", "viewer"),

	"GET /dashboard/m/{merchant}/customers":                    same(200),
	"POST /dashboard/m/{merchant}/customers":                   byAdmin(303, "reference", operator, "mobile_number", "9988776655"),
	"POST /dashboard/m/{merchant}/customers/search":            same(200, "q", "nobody@example.com"),
	"GET /dashboard/m/{merchant}/customers/new":                byAdmin(200),
	"GET /dashboard/m/{merchant}/customers/{customer}":         same(200),
	"POST /dashboard/m/{merchant}/customers/{customer}/reveal": byAdmin(200),
	"POST /dashboard/m/{merchant}/customers/{customer}/edit":   byAdmin(200),
	"POST /dashboard/m/{merchant}/customers/{customer}/save":   byAdmin(303, "revision", "1", "first_name", "Usha", "mobile_number", "9988776655"),
	"GET /dashboard/m/{merchant}/customers/{customer}/erase":   byAdmin(200),
	"POST /dashboard/m/{merchant}/customers/{customer}/erase":  byAdmin(303, "revision", "1", "confirm", named),
	"GET /dashboard/m/{merchant}/audit":                        same(200),
	"POST /dashboard/m/{merchant}/audit/check":                 byAdmin(200),

	"GET /dashboard/m/{merchant}/keys":               same(200),
	"POST /dashboard/m/{merchant}/keys":              byAdmin(200, "once", once, "label", "x", "scope", "read", "expires", ""),
	"GET /dashboard/m/{merchant}/keys/{key}/rotate":  same(200),
	"POST /dashboard/m/{merchant}/keys/{key}/rotate": byAdmin(200, "once", once, "overlap", "0", "expires", ""),
	"GET /dashboard/m/{merchant}/keys/{key}/revoke":  same(200),
	"POST /dashboard/m/{merchant}/keys/{key}/revoke": byAdmin(303),

	"GET /dashboard/m/{merchant}/ip":         same(200),
	"POST /dashboard/m/{merchant}/ip/add":    byAdmin(303, "address", address),
	"POST /dashboard/m/{merchant}/ip/remove": byAdmin(303, "address", listed),
	"POST /dashboard/m/{merchant}/ip/mode":   byAdmin(303, "mode", "report"),

	"GET /dashboard/m/{merchant}/webhooks":                             same(200),
	"POST /dashboard/m/{merchant}/webhooks":                            byAdmin(200, "once", once, "url", "http://127.0.0.1:1/a", "types", "customer.created"),
	"GET /dashboard/m/{merchant}/webhooks/{webhook}":                   same(200),
	"POST /dashboard/m/{merchant}/webhooks/{webhook}/enable":           byAdmin(303),
	"POST /dashboard/m/{merchant}/webhooks/{webhook}/disable":          byAdmin(303),
	"POST /dashboard/m/{merchant}/webhooks/{webhook}/test":             byAdmin(303),
	"POST /dashboard/m/{merchant}/webhooks/{webhook}/rotate":           byAdmin(200, "once", once, "overlap", "0"),
	"POST /dashboard/m/{merchant}/webhooks/{webhook}/replay":           byAdmin(303, "what", "failed"),
	"GET /dashboard/m/{merchant}/webhooks/{webhook}/events/{position}": same(200),

	"GET /dashboard/m/{merchant}/requests":           same(200),
	"GET /dashboard/m/{merchant}/requests/{request}": same(404),
}

// openRoutes is what everybody may ask for, and the status of the answer to nothing more.
var openRoutes = map[string]int{
	"GET /":                        303,
	"GET /dashboard":               303,
	"GET /dashboard/login":         200,
	"POST /dashboard/login":        422,
	"POST /dashboard/login/link":   422,
	"GET /dashboard/setup":         200,
	"POST /dashboard/setup":        422,
	"POST /dashboard/setup/finish": 422,
	"GET /dashboard/static/{file}": 404,
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// TestAccess asks for every route as everybody.
func TestAccess(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustOperator(t, "member", acme, grahak.RoleViewer)
	s.MustOperator(t, "stranger", rival, grahak.RoleOwner)
	roles := []grahak.Role{grahak.RoleViewer, grahak.RoleAdmin, grahak.RoleOwner}
	for _, role := range roles {
		s.MustOperator(t, grahak.OperatorName(role), acme, role)
	}
	covered := slices.Sorted(maps.Keys(access))
	var guarded []string
	for route, open := range s.edge.Routes() {
		if !open {
			guarded = append(guarded, route)
		} else if _, ok := openRoutes[route]; !ok {
			t.Errorf("%s is for everybody, but not among openRoutes", route)
		}
	}
	slices.Sort(guarded)
	if d := cmp.Diff(guarded, covered); d != "" {
		t.Errorf("routes that are not in the table, and lines of the table that are no route (-routes +table):\n%s", d)
	}
	n := 0
	ask := func(b *browser, route string, fields []string) *reply {
		method, path, _ := strings.Cut(route, " ")
		last := ""
		path = placeholder.ReplaceAllStringFunc(path, func(name string) string {
			last = s.fresh(t, name)
			return last
		})
		if method == http.MethodGet {
			return b.Get(t, path)
		}
		fields = slices.Clone(fields)
		for i, v := range fields {
			n++
			switch v {
			case once:
				fields[i] = fmt.Sprintf("%022d", n)
			case operator:
				fields[i] = fmt.Sprintf("operator%d", n)
			case named:
				fields[i] = last
			case address:
				fields[i] = fmt.Sprintf("2001:db8::%x", n)
			case listed:
				fields[i] = fmt.Sprintf("2001:db8:1::%x", n)
				if _, err := s.service.AddIPEntry(t.Context(), console(acme), fields[i], ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		return b.Post(t, path, fields...)
	}
	for route, want := range openRoutes {
		if got := ask(s.browser(), route, nil).status; got != want {
			t.Errorf("%s for everybody: got %d, want %d", route, got, want)
		}
	}
	for _, route := range covered {
		want := access[route]
		method, path, _ := strings.Cut(route, " ")
		r := ask(s.browser(), route, want.fields)
		if to := r.header.Get("Location"); r.status != http.StatusSeeOther || !strings.HasPrefix(to, "/dashboard/login") {
			t.Errorf("%s without a session: got %d to %q", route, r.status, to)
		}
		if method == http.MethodGet && path != "/dashboard/" && !strings.HasPrefix(r.header.Get("Location"), "/dashboard/login?next=%2Fdashboard%2F") {
			t.Errorf("%s without a session leads to %q, not back", route, r.header.Get("Location"))
		}
		if strings.Contains(route, "{merchant}") {
			if got := ask(s.MustLogin(t, "stranger"), route, want.fields).status; got != http.StatusNotFound {
				t.Errorf("%s for the owner of another merchant: got %d, want 404", route, got)
			}
		}
		for i, status := range []int{want.viewer, want.admin, want.owner} {
			r := ask(s.MustLogin(t, grahak.OperatorName(roles[i])), route, want.fields)
			if r.status != status {
				t.Errorf("%s for %s: got %d, want %d; the page says: %s", route, roles[i], r.status, status, r.text("main"))
			}
		}
		// The limit of logins from an address is about another matter.
		s.clock.Advance(time.Minute)
	}
}

// fresh returns what stands in a path for a name in braces: something of acme's that no
// request has been about.
func (s *site) fresh(tb testing.TB, name string) string {
	tb.Helper()
	switch name {
	case "{merchant}":
		return string(acme)
	case "{key}":
		key, _, err := s.service.CreateKey(tb.Context(), console(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
		if err != nil {
			tb.Fatal(err)
		}
		return string(key.ID)
	case "{webhook}":
		all, err := s.service.Webhooks(tb.Context(), console(acme))
		if err != nil {
			tb.Fatal(err)
		}
		for _, w := range all {
			if err := s.service.DisableWebhook(tb.Context(), console(acme), w.ID); err != nil {
				tb.Fatal(err)
			}
		}
		hook, _, err := s.service.CreateWebhook(tb.Context(), console(acme), grahak.WebhookSpec{URL: "http://127.0.0.1:1/fresh"})
		if err != nil {
			tb.Fatal(err)
		}
		return string(hook.ID)
	case "{customer}":
		return string(s.MustCustomer(tb))
	case "{position}":
		s.MustCustomer(tb)
		events, err := s.store.Events(tb.Context(), acme, 0, 100_000)
		if err != nil {
			tb.Fatal(err)
		}
		return strconv.FormatInt(events[len(events)-1].Position, 10)
	}
	return "unknown"
}

// MustCustomer makes a customer of acme's.
func (s *site) MustCustomer(tb testing.TB) grahak.CustomerID {
	tb.Helper()
	given := func(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }
	s.customers++
	made, err := s.service.CreateCustomer(tb.Context(), grahak.Caller{Merchant: acme, Actor: "test", Scope: grahak.ScopeWrite}, grahak.CustomerInput{
		Reference:    given(fmt.Sprintf("customer-%d", s.customers)),
		MobileNumber: given("9988776655"), Email: given("customer@example.com"), FirstName: given("Asha"), LastName: given("Rao"),
	}, grahak.WriteOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return made.Customer.ID
}
