package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net/url"
	"strings"
	"time"
	"unicode"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/dashboard"
	"grahak/internal/telemetry"
	"grahak/internal/web"
)

// DashboardPath is the path that the dashboard's pages are below.
const DashboardPath = "/dashboard/"

// maxDashboardConnections bounds how many browsers' connections are open at once on a
// listener of its own; further ones wait.
const maxDashboardConnections = 512

// HasDashboard reports whether there is one: always in a sandbox, in production only at
// an address of its own.
func (s *Server) HasDashboard() bool { return !s.cfg.Production() || s.cfg.DashboardListen != "" }

// edges returns what answers on the API's listener, and the dashboard if it has a
// listener of its own, else nil.
func (s *Server) edges(opts Options) (onAPI, apart web.Edge) {
	onAPI = api.New(s.Service)
	if !s.HasDashboard() {
		return onAPI, nil
	}
	public := strings.TrimSuffix(s.cfg.PublicURL, "/")
	if public == "" && s.cfg.DashboardListen != "" {
		public = s.URL(s.APIAddr())
	}
	pages := dashboard.New(dashboard.Config{
		API:         public,
		Service:     s.Service,
		Environment: s.store.Environment(),
		Version:     opts.Version,
		Clock:       opts.Clock,
		Facts:       s.facts(),
	})
	if s.cfg.DashboardListen != "" {
		return onAPI, pages
	}
	return besides{api: onAPI, pages: pages}, nil
}

// facts are the settings that people at the dashboard ask for.
func (s *Server) facts() []dashboard.Fact {
	rate := func(n int, per string) string {
		if n == 0 {
			return "any number"
		}
		return dashboard.Number(int64(n)) + " " + per
	}
	engine := "SQLite, in the data folder"
	if s.cfg.Postgres() {
		engine = "PostgreSQL"
	}
	requests, size := "not at all", s.cfg.RequestsSize.String()
	if unit := strings.IndexFunc(size, unicode.IsLetter); unit > 0 {
		size = size[:unit] + " " + size[unit:]
	}
	if s.cfg.RequestsKeep > 0 {
		requests = dashboard.Lasting(time.Duration(s.cfg.RequestsKeep)) + ", and at most " + size
	}
	return []dashboard.Fact{
		{Name: "Database", Value: engine},
		{Name: "Events are kept", Value: dashboard.Lasting(time.Duration(s.cfg.EventsKeep))},
		{Name: "GET /events shows them", Value: dashboard.Lasting(time.Duration(s.cfg.EventsCatchUp))},
		{Name: "The request log is kept", Value: requests},
		{Name: "Idempotency keys are kept", Value: dashboard.Lasting(s.cfg.IdempotencyKeep)},
		{Name: "Requests of a key", Value: rate(s.cfg.RateLimitKey, "a second")},
		{Name: "Requests of a merchant", Value: rate(s.cfg.RateLimitMerchant, "a second")},
		{Name: "Failed authentications of an address", Value: rate(s.cfg.RateLimitFailed, "a minute")},
		{Name: "Country code of customers without one", Value: "+" + s.cfg.DefaultCountryCode},
	}
}

// startDashboard makes the server of a dashboard that has a listener of its own.
func (s *Server) startDashboard(pages web.Edge, tlsConfig *tls.Config, opts Options, metrics *telemetry.Metrics) error {
	proxies, err := s.cfg.Proxies()
	if err != nil || pages == nil {
		return err
	}
	s.dashboard = web.NewServer(web.NewHandler(web.Config{
		Edge:           pages,
		Logger:         s.log,
		Observer:       metrics,
		Clock:          opts.Clock,
		Random:         rand.Reader,
		TrustedProxies: proxies,
	}), tlsConfig, s.log)
	return nil
}

// makeLoginLink sets LoginPath, in a sandbox whose master key is there. A sandbox whose
// operator was disabled has none, and without the link the server does all else.
func (s *Server) makeLoginLink(ctx context.Context) {
	if s.cfg.Production() || s.Fault() != nil {
		return
	}
	name, err := s.Service.SandboxOperator(ctx)
	if err == nil {
		var code string
		code, err = s.Service.LoginLink(ctx, grahak.Operator(grahak.OperatorsMerchant, "serve"), name)
		s.LoginPath = DashboardPath + "login?link=" + url.QueryEscape(code)
	}
	if err != nil {
		s.LoginPath = ""
		s.log.Warn("there is no login link for the dashboard: make one with grahak operator link "+string(grahak.SandboxOperatorName), "error", err)
	}
}

// besides is the API with the dashboard below its path.
type besides struct{ api, pages web.Edge }

func (b besides) of(x *web.Exchange) web.Edge {
	// To write the path as it was escaped costs more than to see that it is another.
	if !strings.HasPrefix(x.Request.URL.Path, strings.TrimSuffix(DashboardPath, "/")) {
		return b.api
	}
	if path := x.Request.URL.EscapedPath(); strings.HasPrefix(path, DashboardPath) || path+"/" == DashboardPath {
		return b.pages
	}
	return b.api
}

// Serve implements [web.Edge].
func (b besides) Serve(x *web.Exchange) error { return b.of(x).Serve(x) }

// Fail implements [web.Edge].
func (b besides) Fail(x *web.Exchange, err error) { b.of(x).Fail(x, err) }
