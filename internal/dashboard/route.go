package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// access is who a route is for, before use cases decide the rest.
type access int

const (
	open    access = iota // everybody
	visitor               // operators with a session
	member                // operators with a role at the path's {merchant}
)

// route is a page or an action. A segment of its path in braces stands for any one.
type route struct {
	method string
	path   string
	access access
	page   func(*page) error
}

func get(path string, a access, h func(*page) error) route {
	return route{http.MethodGet, path, a, h}
}

func post(path string, a access, h func(*page) error) route {
	return route{http.MethodPost, path, a, h}
}

// atMerchant is the path of a merchant's home, which those of its pages begin with.
const atMerchant = root + "m/{merchant}/"

// routes returns all routes. Of two that fit a path the first one is taken.
func routes() []route {
	return slices.Concat(
		staticRoutes,
		loginRoutes,
		setupRoutes,
		chooseRoutes,
		settingsRoutes,
		customerRoutes,
		auditRoutes,
		homeRoutes,
		teamRoutes,
		keyRoutes,
		ipRoutes,
		webhookRoutes,
		requestRoutes,
	)
}

// match returns the values of the segments in braces, by name, if the route fits an
// escaped path.
func (r route) match(path string) (values map[string]string, ok bool) {
	want, given := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(want) != len(given) {
		return nil, false
	}
	for i, w := range want {
		name, variable := strings.CutPrefix(w, "{")
		if !variable {
			if w != given[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(given[i])
		if err != nil || value == "" {
			return nil, false
		}
		if values == nil {
			values = make(map[string]string)
		}
		values[strings.TrimSuffix(name, "}")] = value
	}
	return values, true
}
