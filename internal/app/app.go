// Package app puts the parts together: it opens what the settings name and
// runs the servers. The command line and every end-to-end test start here.
package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"grahak"
	"grahak/internal/config"
	"grahak/internal/control"
	"grahak/internal/disk"
	"grahak/internal/ops"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/telemetry"
	"grahak/internal/tlscert"
	"grahak/internal/web"
	"grahak/internal/webhook"
)

// DemoMerchant is the merchant that a sandbox makes at its first start.
const DemoMerchant grahak.MerchantID = "demo"

// Server is a running instance. Use [Start].
type Server struct {
	Service *grahak.Service
	// DemoKey is the API key of the demo merchant when this start made it, and
	// empty otherwise.
	DemoKey string
	// LoginPath is the path and query of the dashboard that logs a browser in, once and
	// soon; empty in production, and without the master key.
	LoginPath string
	// MasterKeys is the master keys that the server knows.
	MasterKeys *seal.MasterKeys

	cfg      config.Server
	version  string
	log      *slog.Logger
	lock     *flock.Flock
	store    sqlstore.Store
	requests *sqlstore.Requests // nil on PostgreSQL, or for none
	api      web.Server
	ops      *web.NetServer
	control  *http.Server
	// dashboard is nil unless it has a listener of its own.
	dashboard *web.NetServer
	listener  struct{ api, ops, control, dashboard net.Listener }
	draining  atomic.Bool
	fault     atomic.Pointer[error]
}

// Options are what a test may put in place of the real thing.
type Options struct {
	// Logger takes the log; required.
	Logger *slog.Logger
	// Clock tells the time; default [grahak.SystemClock].
	Clock grahak.Clock
	// Version is shown in the log and in metrics.
	Version string
}

// Start opens everything that cfg names and binds the listeners, in that order
// that a failed first start leaves no key behind that nobody was shown. The
// server answers once [Server.Run] is called. Errors are one sentence that says
// how to mend it.
func Start(ctx context.Context, cfg config.Server, opts Options) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if opts.Clock == nil {
		opts.Clock = grahak.SystemClock{}
	}
	s := &Server{cfg: cfg, version: opts.Version, log: opts.Logger}
	if err := s.start(ctx, opts); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, opts Options) error {
	if s.cfg.NeedsFolder() {
		started, err := s.takeFolder(ctx)
		if err != nil {
			return err
		}
		defer started()
	}
	tlsConfig, err := s.tls(opts.Clock)
	if err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	metrics := telemetry.NewMetrics(opts.Version)
	if err := s.openStore(ctx, opts.Clock, metrics); err != nil {
		return err
	}
	sealer, err := s.sealer(ctx)
	if err != nil {
		return err
	}
	requests := s.openRequests()
	courier, err := newCourier(s.cfg.WebhookFlags, s.store.Environment(), opts.Version)
	if err != nil {
		return err
	}
	s.Service, err = grahak.NewService(grahak.Config{
		Store:           s.store,
		Sealer:          sealer,
		Environment:     s.store.Environment(),
		CountryCode:     s.cfg.DefaultCountryCode,
		IdempotencyKeep: s.cfg.IdempotencyKeep,
		EventsCatchUp:   time.Duration(s.cfg.EventsCatchUp),
		EventsKeep:      time.Duration(s.cfg.EventsKeep),
		Clock:           opts.Clock,
		Logger:          s.log,
		Limits:          grahak.Limits{Key: s.cfg.RateLimitKey, Merchant: s.cfg.RateLimitMerchant, Failed: s.cfg.RateLimitFailed},
		Limited:         func(kind grahak.LimitKind) { metrics.Limited(string(kind)) },
		Requests:        requests,
		RequestsKeep:    time.Duration(s.cfg.RequestsKeep),
		RequestsSize:    int64(s.cfg.RequestsSize),
		Courier:         courier,
		Deliveries:      metrics,
	})
	if err != nil {
		return err
	}
	metrics.WatchEvents(s.Service.PrunedEvents)
	metrics.WatchRequests(s.Service.DroppedRequests)
	if !s.cfg.Production() && s.Fault() == nil {
		if err := s.provision(ctx); err != nil {
			return err
		}
	}
	proxies, err := s.cfg.Proxies()
	if err != nil {
		return err
	}
	admission := web.NewAdmission(s.cfg.InProgress(), func() { metrics.Limited(web.LimitInProgress) }, s.log, opts.Clock)
	metrics.WatchAdmission(admission.InProgress)
	onAPI, pages := s.edges(opts)
	s.api = web.NewAPIServer(web.NewHandler(web.Config{
		Edge:           onAPI,
		Requests:       s.Service.NoteRequest,
		Admission:      admission,
		Logger:         s.log,
		Observer:       metrics,
		Clock:          opts.Clock,
		Random:         rand.Reader,
		TrustedProxies: proxies,
	}), tlsConfig, s.log)
	s.ops = web.NewServer(web.NewHandler(web.Config{
		Edge:     ops.New(ops.Config{Service: s.Service, Ready: s.ready, Metrics: metrics.Handler()}),
		Logger:   s.log,
		Observer: metrics,
		Clock:    opts.Clock,
		Random:   rand.Reader,
	}), nil, s.log)
	// A profile takes as long as it is asked to.
	s.ops.WriteTimeout = 0
	if err := s.startDashboard(pages, tlsConfig, opts, metrics); err != nil {
		return err
	}
	s.listenForCommands(ctx)
	s.makeLoginLink(ctx)
	return nil
}

// listenForCommands makes the socket over which commands have work in bulk done,
// where no other process can do it beside the server. Without it the server does
// all that it is for.
func (s *Server) listenForCommands(ctx context.Context) {
	if s.cfg.Postgres() {
		return
	}
	l, err := control.Listen(ctx, s.cfg.ControlSocket())
	if err != nil {
		s.log.Warn("commands cannot have work done by this server: grahak import needs it stopped", "error", err)
		return
	}
	s.listener.control, s.control = l, control.NewServer(s.Service, s.log)
}

// newCourier returns what carries events to endpoints.
func newCourier(flags config.WebhookFlags, env grahak.Environment, version string) (*webhook.Courier, error) {
	names, networks, err := flags.Allowed(env)
	if err != nil {
		return nil, err
	}
	return webhook.New(webhook.Config{Names: names, Networks: networks, Version: version}), nil
}

// makeDataDir makes the data folder, for this user only, if it does not exist,
// and the folders above it. It returns those that it made, the deepest first.
func makeDataDir(dir string) (made []string, err error) {
	for up := filepath.Clean(dir); ; up = filepath.Dir(up) {
		if _, err := os.Stat(up); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, up)
	}
	err = os.MkdirAll(dir, 0o700)
	switch {
	case err == nil:
		for _, dir := range made {
			err = errors.Join(err, disk.SyncDir(filepath.Dir(dir)))
		}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		err = fmt.Errorf("the data folder %s cannot be made: make it writable for this user, or give another with --data (%w)", dir, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("the data folder %s is a file: give a folder with --data (%w)", dir, err)
	}
	return made, err
}

// takeFolder makes the data folder, if there is none, and makes sure that no other
// server uses the database in it. With PostgreSQL the servers on a folder share
// what a sandbox makes there: they start one after the other, each until it calls
// started.
func (s *Server) takeFolder(ctx context.Context) (started func(), err error) {
	if _, err := makeDataDir(s.cfg.Folder()); err != nil {
		return nil, err
	}
	if s.cfg.Postgres() {
		lock := secretsLock(s.cfg.Data)
		if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("the data folder %s cannot be locked: %w", s.cfg.Folder(), err)
		}
		return func() { _ = lock.Unlock() }, nil
	}
	s.lock, err = tryLock(s.cfg.Data)
	if err == nil && s.lock == nil {
		err = fmt.Errorf("another grahak serve, or a seal rotate, is using the data folder %s: stop it, or give another folder with --data", s.cfg.Folder())
	}
	return func() {}, err
}

// openStore opens the database that the settings name. A production on PostgreSQL
// does not change its schema, which other servers may be using.
func (s *Server) openStore(ctx context.Context, clock grahak.Clock, metrics *telemetry.Metrics) error {
	if s.cfg.Postgres() {
		store, err := sqlstore.OpenPostgres(ctx, sqlstore.PostgresConfig{
			URL:         s.cfg.DatabaseURL.Secret(),
			Environment: grahak.Environment(s.cfg.Environment),
			Migrate:     !s.cfg.Production(),
			Connections: s.cfg.Connections,
			Clock:       clock,
			Observer:    metrics,
			Logger:      s.log,
		})
		if errors.Is(err, sqlstore.ErrNoStore) {
			return fmt.Errorf("the database %s has no schema yet: run `grahak migrate` with the same --database-url, and start again", s.cfg.DatabaseURL)
		}
		if err != nil {
			return err
		}
		s.store = store
		metrics.WatchConnections(func() telemetry.Connections { return telemetry.Connections(store.Connections()) })
	} else {
		store, err := sqlstore.OpenSQLite(ctx, sqlstore.SQLiteConfig{
			Path:        s.cfg.Database(),
			Environment: grahak.Environment(s.cfg.Environment),
			Clock:       clock,
			Observer:    metrics,
			Logger:      s.log,
		})
		if err != nil {
			return err
		}
		s.store = store
	}
	metrics.Watch(s.store)
	return nil
}

// openRequests opens the request log; nil for none. Whatever is wrong with a file of it
// does not keep the server from what it is for.
func (s *Server) openRequests() grahak.RequestStore {
	if s.cfg.RequestsKeep == 0 {
		return nil
	}
	if store, ok := s.store.(*sqlstore.Postgres); ok {
		return store.Requests()
	}
	requests, err := sqlstore.OpenRequests(s.cfg.RequestLog(), s.log)
	if err != nil {
		s.log.Warn("requests are not logged for the dashboard", "error", err)
		return nil
	}
	s.requests = requests
	return requests
}

// tls returns the configuration of the API's listener, nil for plain HTTP.
func (s *Server) tls(clock grahak.Clock) (*tls.Config, error) {
	cert, key := s.cfg.TLSCert, s.cfg.TLSKey
	if s.cfg.TLSSelfSigned {
		var err error
		if cert, key, err = tlscert.SelfSigned(s.cfg.TLSDir(), clock.Now()); err != nil {
			return nil, fmt.Errorf("cannot make a certificate in %s: %w", s.cfg.TLSDir(), err)
		}
	}
	if cert == "" {
		return nil, nil
	}
	reloader, err := tlscert.NewReloader(cert, key, clock, func(err error) { s.log.Error("TLS", "error", err) })
	if err != nil {
		return nil, err
	}
	return reloader.Config(), nil
}

func (s *Server) listen(ctx context.Context) (err error) {
	if s.listener.api, err = listen(ctx, s.cfg.Listen, "--listen"); err != nil {
		return err
	}
	if s.listener.ops, err = listen(ctx, s.cfg.OpsListen, "--ops-listen"); err != nil || s.cfg.DashboardListen == "" {
		return err
	}
	s.listener.dashboard, err = listen(ctx, s.cfg.DashboardListen, "--dashboard-listen")
	return err
}

func listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use: stop the program that uses it, or give another with %s", addr, flag)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("this user may not listen on %s: give a port above 1023 with %s, or allow it (on Linux, as root: sysctl net.ipv4.ip_unprivileged_port_start=443)", addr, flag)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s (%s): %w", addr, flag, err)
	}
	return l, nil
}

// provision makes the demo merchant in a store without merchants, with a key that
// DemoKey then is. Of several servers that start at once on one database, the one
// that makes the merchant makes the key, and the others go on without.
func (s *Server) provision(ctx context.Context) error {
	merchants, err := s.Service.Merchants(ctx)
	if err != nil {
		return err
	}
	caller := grahak.Operator(DemoMerchant, "serve")
	if len(merchants) == 0 {
		_, err := s.Service.CreateMerchant(ctx, caller, "Demo merchant")
		if grahak.CodeOf(err) == grahak.CodeMerchantExists {
			return nil
		}
		if err != nil {
			// Another server may have named its own master key meanwhile.
			if s.checkMasterKey(ctx); s.Fault() != nil {
				return nil //nolint:nilerr // The server starts with that fault, which says more.
			}
			return err
		}
	} else if s.cfg.Postgres() {
		return nil
	}
	keys, err := s.Service.Keys(ctx, caller)
	if grahak.CodeOf(err) == grahak.CodeMerchantNotFound || len(keys) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	_, s.DemoKey, err = s.Service.CreateKey(ctx, caller, grahak.KeySpec{Label: "first start", Scope: grahak.ScopeWrite})
	return err
}

// APIAddr returns the address that the API listens on.
func (s *Server) APIAddr() net.Addr { return s.listener.api.Addr() }

// OpsAddr returns the address that the operations listener listens on.
func (s *Server) OpsAddr() net.Addr { return s.listener.ops.Addr() }

// DashboardAddr returns the address that the dashboard listens on: the API's unless it
// has its own.
func (s *Server) DashboardAddr() net.Addr {
	if s.listener.dashboard != nil {
		return s.listener.dashboard.Addr()
	}
	return s.APIAddr()
}

// URL returns the URL under which a client on this machine reaches a listener of the API
// or the dashboard.
func (s *Server) URL(addr net.Addr) string {
	scheme, defaultPort := "http", 80
	if s.cfg.TLSSelfSigned || s.cfg.TLSCert != "" {
		scheme, defaultPort = "https", 443
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return scheme + "://" + addr.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() || s.cfg.TLSSelfSigned {
		host = "localhost"
	}
	if tcp.Port == defaultPort {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

var errDraining = errors.New("the server is shutting down")

// ready returns why the server does not take requests now.
func (s *Server) ready() error {
	if s.draining.Load() {
		return errDraining
	}
	return s.Fault()
}

// drainTimeout bounds how long requests in flight may take after a stop was
// asked for.
const drainTimeout = 10 * time.Second

// Run answers requests until ctx ends, then stops accepting, finishes what is
// in flight (bounded by drainTimeout), and closes everything. It returns nil
// after such a stop, and otherwise what made it end.
func (s *Server) Run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var work sync.WaitGroup
	work.Go(func() { s.Service.Run(background) })
	work.Go(func() { s.watchMasterKey(background) })
	failed := make(chan error, 4)
	serve := func(srv web.Server, l net.Listener) {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	started := []any{"environment", s.cfg.Environment, "version", s.version, "api", s.APIAddr().String(), "operations", s.OpsAddr().String()}
	if s.dashboard != nil {
		started = append(started, "dashboard", s.DashboardAddr().String())
	}
	s.log.Info("started", started...)
	defer s.log.Info("stopped")
	go serve(s.api, web.Limit(s.listener.api, s.cfg.MaxConnections))
	go serve(s.ops, s.listener.ops)
	if s.dashboard != nil {
		go serve(s.dashboard, web.Limit(s.listener.dashboard, maxDashboardConnections))
	}
	if s.control != nil {
		go serve(s.control, s.listener.control)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if shutdownErr := s.api.Shutdown(drain); shutdownErr != nil {
		s.log.Warn("requests were still in flight after the time for them was over", "seconds", drainTimeout.Seconds())
		_ = s.api.Close()
	}
	_ = s.ops.Close()
	if s.dashboard != nil {
		if s.dashboard.Shutdown(drain) != nil {
			_ = s.dashboard.Close()
		}
	}
	if s.control != nil {
		if s.control.Shutdown(drain) != nil {
			_ = s.control.Close()
		}
	}
	stopBackground()
	work.Wait()
	return errors.Join(err, s.close())
}

// close closes what is open. Listeners that a server has closed are closed
// again without harm.
func (s *Server) close() error {
	for _, l := range []net.Listener{s.listener.api, s.listener.ops, s.listener.control, s.listener.dashboard} {
		if l != nil {
			_ = l.Close()
		}
	}
	if s.MasterKeys != nil {
		s.MasterKeys.Close()
	}
	var err error
	if s.store != nil {
		err = s.store.Close()
	}
	if s.requests != nil {
		err = errors.Join(err, s.requests.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	return err
}
