// Package config is what an operator sets: the flags that commands share and
// the settings of the server. Every setting is a flag and a GRAHAK_*
// environment variable; the flag wins.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"grahak"
)

// DefaultDir is the data folder of a user who names none.
const DefaultDir = "./grahak-data"

// Data says where everything is kept.
type Data struct {
	Dir         string      `name:"data" default:"./grahak-data" env:"GRAHAK_DATA" placeholder:"DIR" help:"Folder that holds the database and, in sandbox, the secrets made for it."`
	DatabaseURL DatabaseURL `name:"database-url" env:"GRAHAK_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database in place of the one in the data folder, which any number of servers may share: postgres://USER@HOST:PORT/NAME. A password belongs in the variable, in PGPASSWORD or in a password file, because other users of a machine can read flags."`
}

// Folder returns the path of the data folder. With PostgreSQL there need be none:
// then it holds nothing but what a sandbox makes for itself.
func (d Data) Folder() string {
	if d.DatabaseURL.folder != "" {
		return d.DatabaseURL.folder
	}
	return d.Dir
}

// Postgres reports whether the data is in a PostgreSQL database.
func (d Data) Postgres() bool { return d.DatabaseURL.Postgres() }

// Check returns an error if the flags contradict each other.
func (d Data) Check() error {
	if d.DatabaseURL.folder != "" && d.Dir != "" && d.Dir != DefaultDir && d.Dir != d.DatabaseURL.folder {
		return errors.New("--data and --database-url name two data folders: give one of them")
	}
	return nil
}

// Database is the path of the database file.
func (d Data) Database() string { return filepath.Join(d.Folder(), "grahak.db") }

// LockFile is the path of the file that a running server locks.
func (d Data) LockFile() string { return filepath.Join(d.Folder(), "server.lock") }

// RequestLog is the path of the file of the request log.
func (d Data) RequestLog() string { return filepath.Join(d.Folder(), "requests.db") }

// ControlSocket is the path of the socket on which a running server takes work
// from commands.
func (d Data) ControlSocket() string { return filepath.Join(d.Folder(), "control.sock") }

// GeneratedMasterKey is the path of the master key that a sandbox makes.
func (d Data) GeneratedMasterKey() string { return filepath.Join(d.Folder(), "master.key") }

// TLSDir is the folder of a generated certificate.
func (d Data) TLSDir() string { return filepath.Join(d.Folder(), "tls") }

// MasterKey says where the master key comes from. Each source may hold several
// keys, one a line: the newest first, and below it those that the data may still
// be under.
type MasterKey struct {
	File    string `name:"master-key-file" env:"GRAHAK_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key, under which personal data is sealed: the base64 of 32 random bytes, from openssl rand -base64 32. GRAHAK_MASTER_KEY may hold the key itself instead. Production needs one of these or a command; a sandbox makes a key in its data folder."`
	Command string `name:"master-key-command" env:"GRAHAK_MASTER_KEY_COMMAND" placeholder:"CMD" help:"Command that prints the master key, run by sh -c, such as one of Vault or of a cloud's key service. It has 30 seconds and nothing on its standard input."`
	// Text is the key itself. It comes from the environment only, because other
	// users of a machine can read the arguments of a process: the command line
	// refuses the flag.
	Text string `name:"master-key" env:"GRAHAK_MASTER_KEY" hidden:""`
}

// Given reports whether the operator gave a master key.
func (k MasterKey) Given() bool { return k.File != "" || k.Command != "" || k.Text != "" }

// Check returns an error if the key comes from more than one place.
func (k MasterKey) Check() error {
	var given []string
	for _, source := range []struct{ name, value string }{{"--master-key-file", k.File}, {"--master-key-command", k.Command}, {"GRAHAK_MASTER_KEY", k.Text}} {
		if source.value != "" {
			given = append(given, source.name)
		}
	}
	if len(given) > 1 {
		return fmt.Errorf("%s exclude each other", strings.Join(given, " and "))
	}
	return nil
}

// MinConnections is how many connections to PostgreSQL a process needs, so that
// none of its duties waits for another's.
const MinConnections = 8

// MinIdempotencyKeep is the shortest time that idempotency keys can be kept for: a
// client must have the time to try again.
const MinIdempotencyKeep = time.Minute

// MinRequestsSize is the smallest request log.
const MinRequestsSize ByteSize = 1 << 20

// WebhookFlags says where events may be sent.
type WebhookFlags struct {
	WebhookAllow []string `name:"webhook-allow" env:"GRAHAK_WEBHOOK_ALLOW" placeholder:"HOST" help:"Host names, addresses or networks that webhooks may be sent to although they are private, such as hooks.internal or 10.1.2.0/24; by default none, and in a sandbox this machine."`
}

var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

// Allowed returns what webhooks may be sent to besides the public internet: host
// names in small letters, and networks.
func (f WebhookFlags) Allowed(env grahak.Environment) (names []string, networks []netip.Prefix, err error) {
	list := f.WebhookAllow
	if len(list) == 0 && env != grahak.Production {
		list = []string{"localhost", "127.0.0.1", "::1"}
	}
	for _, text := range list {
		if network, err := grahak.ParseIPEntry(text); err == nil {
			networks = append(networks, network)
		} else if name := strings.ToLower(text); hostName.MatchString(name) && strings.Trim(name, "0123456789.") != "" {
			names = append(names, name)
		} else {
			return nil, nil, fmt.Errorf("--webhook-allow: %q is neither a host name, an address nor a network: write it like hooks.internal, 10.1.2.3 or 10.0.0.0/8", text)
		}
	}
	return names, networks, nil
}

// Server is the settings of `grahak serve`.
type Server struct {
	Data
	MasterKey

	Environment        string        `name:"env" default:"sandbox" enum:"sandbox,production" env:"GRAHAK_ENV" placeholder:"sandbox|production" help:"A sandbox makes a demo merchant, a key and its own secrets; production makes nothing by itself and demands them. The two never share data."`
	Listen             string        `name:"listen" default:"127.0.0.1:8080" env:"GRAHAK_LISTEN" placeholder:"ADDR" help:"Address and port of the API; 0.0.0.0:8080 takes calls from other machines."`
	OpsListen          string        `name:"ops-listen" default:"127.0.0.1:8081" env:"GRAHAK_OPS_LISTEN" placeholder:"ADDR" help:"Address and port of health, metrics, profiles and token checks; it asks nobody who they are, so keep it private."`
	DashboardListen    string        `name:"dashboard-listen" env:"GRAHAK_DASHBOARD_LISTEN" placeholder:"ADDR" help:"Address and port of the dashboard, which speaks TLS if the API does. Without it a sandbox has the dashboard below /dashboard/ of the API, and production has none."`
	PublicURL          string        `name:"public-url" env:"GRAHAK_PUBLIC_URL" placeholder:"URL" help:"Where clients reach the API, such as https://api.example.com, for the commands that the dashboard shows. Without it they name the address at which the page was opened, or with --dashboard-listen the one that the API listens on."`
	TLSCert            string        `name:"tls-cert" env:"GRAHAK_TLS_CERT" placeholder:"FILE" help:"Certificate chain in PEM, which makes the API speak TLS; read again when the file changes."`
	TLSKey             string        `name:"tls-key" env:"GRAHAK_TLS_KEY" placeholder:"FILE" help:"Private key of the certificate, in PEM; read again when the file changes."`
	TLSSelfSigned      bool          `name:"tls-self-signed" env:"GRAHAK_TLS_SELF_SIGNED" help:"Make a CA and a certificate for localhost in the data folder, once, and speak TLS with it; sandbox only."`
	TrustedProxies     []string      `name:"trusted-proxies" env:"GRAHAK_TRUSTED_PROXIES" placeholder:"CIDR" help:"Addresses or networks of the proxies in front, such as 10.0.0.0/8. Only what these write in X-Forwarded-For is believed; without any the header is not read."`
	DefaultCountryCode string        `name:"default-country-code" default:"91" env:"GRAHAK_DEFAULT_COUNTRY_CODE" placeholder:"DIGITS" help:"Mobile country code of customers that are created without one."`
	IdempotencyKeep    time.Duration `name:"idempotency-keep" default:"24h" env:"GRAHAK_IDEMPOTENCY_KEEP" placeholder:"DURATION" help:"How long an Idempotency-Key is remembered: a request that is repeated within it takes effect once."`
	EventsCatchUp      Span          `name:"events-catch-up" default:"90d" env:"GRAHAK_EVENTS_CATCH_UP" placeholder:"SPAN" help:"How old an event may be for GET /events to show it, such as 90d."`
	EventsKeep         Span          `name:"events-keep" default:"396d" env:"GRAHAK_EVENTS_KEEP" placeholder:"SPAN" help:"How long events are kept, from 30d on. What is older is deleted within about an hour, and the audit trail then begins behind it."`
	RequestsKeep       Span          `name:"requests-keep" default:"30d" env:"GRAHAK_REQUESTS_KEEP" placeholder:"SPAN" help:"How long the request log, which the dashboard shows, is kept; 0d has none written."`
	RequestsSize       ByteSize      `name:"requests-size" default:"1GiB" env:"GRAHAK_REQUESTS_SIZE" placeholder:"SIZE" help:"How large the request log may get, from 1MiB on: beyond that the oldest requests are deleted, however old they are."`
	MaxConnections     int           `name:"max-connections" default:"4096" env:"GRAHAK_MAX_CONNECTIONS" placeholder:"N" help:"Connections to the API that may be open at once; further ones wait."`
	MaxInProgress      int           `name:"max-in-progress" default:"0" env:"GRAHAK_MAX_IN_PROGRESS" placeholder:"N" help:"Reads, and as many writes, that the API works on at once, of which a merchant may have half; further ones are answered with 503 at once. 0 is 256 for each processor."`
	Connections        int           `name:"database-connections" default:"16" env:"GRAHAK_DATABASE_CONNECTIONS" placeholder:"N" help:"Connections to PostgreSQL that this server has open at most, from 8 on."`

	WebhookFlags

	RateLimitKey      int `name:"rate-limit-key" default:"50000" env:"GRAHAK_RATE_LIMIT_KEY" placeholder:"N" help:"Requests a second that this server answers to an API key, further ones with 429; 0 is any number."`
	RateLimitMerchant int `name:"rate-limit-merchant" default:"100000" env:"GRAHAK_RATE_LIMIT_MERCHANT" placeholder:"N" help:"Requests a second that this server answers to a merchant, further ones with 429; 0 is any number."`
	RateLimitFailed   int `name:"rate-limit-failed" default:"60" env:"GRAHAK_RATE_LIMIT_FAILED" placeholder:"N" help:"Failed authentications a minute that this server answers to an address (IPv6: a /64), further ones with 429; after as many unknown API keys from there it looks up none that is new to it. 0 is any number. Behind a proxy it needs --trusted-proxies, or all clients are one address."`

	LogFormat string `name:"log-format" default:"auto" enum:"auto,text,json" env:"GRAHAK_LOG_FORMAT" placeholder:"auto|text|json" help:"Form of the log on standard error; auto is text on a terminal and JSON otherwise."`
	LogLevel  string `name:"log-level" default:"info" enum:"debug,info,warn,error" env:"GRAHAK_LOG_LEVEL" placeholder:"debug|info|warn|error" help:"Least level that is logged. A request is logged at info, or at error when it failed through a fault of the server."`
}

// perProcessor is how many reads, and how many writes, may be in progress for each
// processor: enough to keep it and the disk busy, and few enough that none
// waits for long.
const perProcessor = 256

// InProgress returns how many reads, and how many writes, may be in progress at once.
func (s *Server) InProgress() int {
	return cmp.Or(s.MaxInProgress, perProcessor*runtime.GOMAXPROCS(0))
}

// Proxies returns TrustedProxies as networks.
func (s *Server) Proxies() ([]netip.Prefix, error) {
	list := make([]netip.Prefix, 0, len(s.TrustedProxies))
	for _, text := range s.TrustedProxies {
		p, err := grahak.ParseIPEntry(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies: %w", err)
		}
		list = append(list, p)
	}
	return list, nil
}

// Production reports whether the server runs in production.
func (s *Server) Production() bool { return s.Environment == string(grahak.Production) }

// NeedsFolder reports whether the server keeps anything in the data folder: on
// PostgreSQL only what a sandbox makes for itself.
func (s *Server) NeedsFolder() bool {
	return !s.Postgres() || !s.Production() && (s.TLSSelfSigned || !s.MasterKey.Given())
}

// IsBaseURL reports whether s is a URL that paths can be put behind: of HTTP or HTTPS, with
// a host, and without a password, a query or a fragment.
func IsBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// Check returns an error that names everything that is missing or does not fit
// together.
func (s *Server) Check() error {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if err := s.Data.Check(); err != nil {
		add("%s", err)
	}
	if s.NeedsFolder() && s.Folder() == "" {
		add("--data is empty: give a folder")
	}
	if s.Postgres() && s.Connections < MinConnections {
		add("--database-connections is at least %d", MinConnections)
	}
	listeners := []struct{ flag, addr string }{{"--listen", s.Listen}, {"--ops-listen", s.OpsListen}}
	if s.DashboardListen != "" {
		listeners = append(listeners, struct{ flag, addr string }{"--dashboard-listen", s.DashboardListen})
	}
	for _, l := range listeners {
		_, port, err := net.SplitHostPort(l.addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			add("%s %q is not an address and a port: write it like 127.0.0.1:8080", l.flag, l.addr)
		}
	}
	if s.PublicURL != "" && !IsBaseURL(s.PublicURL) {
		// It may hold a password.
		add("--public-url is not where an API can be: write it like https://api.example.com")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		add("--tls-cert and --tls-key go together, but only one is given")
	}
	if s.TLSSelfSigned && s.TLSCert != "" {
		add("--tls-self-signed and --tls-cert exclude each other")
	}
	if s.Production() {
		if s.TLSSelfSigned {
			add("--tls-self-signed is for sandbox; give --tls-cert and --tls-key, or end TLS at a proxy")
		}
		if !s.MasterKey.Given() {
			add("production needs a master key: give --master-key-file FILE or --master-key-command CMD, or set GRAHAK_MASTER_KEY (make one with: openssl rand -base64 32)")
		}
	}
	if err := s.MasterKey.Check(); err != nil {
		add("%s", err)
	}
	if s.MaxConnections < 1 {
		add("--max-connections is at least 1")
	}
	if s.MaxInProgress < 0 || s.MaxInProgress == 1 {
		add("--max-in-progress is 0 or at least 2")
	}
	if s.EventsCatchUp == 0 {
		add("--events-catch-up is more than 0: write it like 90d")
	}
	if minimum := Span(grahak.MinEventsKeep); s.EventsKeep < minimum {
		add("--events-keep is at least %s", minimum)
	} else if s.EventsKeep < s.EventsCatchUp {
		add("--events-keep (%s) is at least as long as --events-catch-up (%s)", s.EventsKeep, s.EventsCatchUp)
	}
	if s.RequestsSize < MinRequestsSize {
		add("--requests-size is at least %s", MinRequestsSize)
	}
	if s.IdempotencyKeep < MinIdempotencyKeep {
		add("--idempotency-keep is at least %s", MinIdempotencyKeep)
	}
	for _, l := range []struct {
		flag string
		n    int
	}{{"--rate-limit-key", s.RateLimitKey}, {"--rate-limit-merchant", s.RateLimitMerchant}, {"--rate-limit-failed", s.RateLimitFailed}} {
		if l.n < 0 || l.n > grahak.MaxLimit {
			add("%s is from 0 to %d", l.flag, grahak.MaxLimit)
		}
	}
	if code := s.DefaultCountryCode; len(code) < 1 || len(code) > grahak.MaxCountryCode || strings.Trim(code, "0123456789") != "" {
		add("--default-country-code has 1 to %d digits", grahak.MaxCountryCode)
	}
	if _, err := s.Proxies(); err != nil {
		add("%s", err)
	}
	if _, _, err := s.Allowed(grahak.Environment(s.Environment)); err != nil {
		add("%s", err)
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}
