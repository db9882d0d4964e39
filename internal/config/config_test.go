package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/config"
)

const day = config.Span(24 * time.Hour)

// server returns settings with nothing wrong in them, those of a sandbox that
// is started without flags.
func server() config.Server {
	return config.Server{
		Data:               config.Data{Dir: config.DefaultDir},
		Environment:        "sandbox",
		Listen:             "127.0.0.1:8080",
		OpsListen:          "127.0.0.1:8081",
		DefaultCountryCode: "91",
		IdempotencyKeep:    24 * time.Hour,
		RequestsSize:       1 << 30,
		EventsCatchUp:      90 * day,
		EventsKeep:         396 * day,
		MaxConnections:     1,
	}
}

func TestMasterKeySources(t *testing.T) {
	t.Parallel()
	const none = "production needs a master key: give --master-key-file FILE or --master-key-command CMD, or set GRAHAK_MASTER_KEY (make one with: openssl rand -base64 32)"
	for name, c := range map[string]struct {
		key        config.MasterKey
		production string // what is wrong in production; nothing else is
		sandbox    string
	}{
		"none":                 {config.MasterKey{}, none, ""},
		"a file":               {config.MasterKey{File: "f"}, "", ""},
		"a command":            {config.MasterKey{Command: "c"}, "", ""},
		"the key itself":       {config.MasterKey{Text: "secret"}, "", ""},
		"a file and a command": {config.MasterKey{File: "f", Command: "c"}, "--master-key-file and --master-key-command exclude each other", "--master-key-file and --master-key-command exclude each other"},
		"a file and the key":   {config.MasterKey{File: "f", Text: "secret"}, "--master-key-file and GRAHAK_MASTER_KEY exclude each other", "--master-key-file and GRAHAK_MASTER_KEY exclude each other"},
		"a command and the key": {
			config.MasterKey{Command: "c", Text: "secret"},
			"--master-key-command and GRAHAK_MASTER_KEY exclude each other", "--master-key-command and GRAHAK_MASTER_KEY exclude each other",
		},
		"all three": {
			config.MasterKey{File: "f", Command: "c", Text: "secret"},
			"--master-key-file and --master-key-command and GRAHAK_MASTER_KEY exclude each other", "--master-key-file and --master-key-command and GRAHAK_MASTER_KEY exclude each other",
		},
	} {
		s := server()
		s.MasterKey = c.key
		if diff := cmp.Diff(c.sandbox, errorText(s.Check())); diff != "" {
			t.Errorf("%s in a sandbox (-want +got):\n%s", name, diff)
		}
		s.Environment = "production"
		if diff := cmp.Diff(c.production, errorText(s.Check())); diff != "" {
			t.Errorf("%s in production (-want +got):\n%s", name, diff)
		}
		if given := c.key != (config.MasterKey{}); c.key.Given() != given {
			t.Errorf("%s: Given is %v, want %v", name, c.key.Given(), given)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Every setting that does not fit is named, and all of them at once.
func TestCheck(t *testing.T) {
	t.Parallel()
	var all []string
	bad := server()
	for _, c := range []struct {
		change func(*config.Server)
		want   string
	}{
		{func(s *config.Server) { s.Dir = "" }, `--data is empty: give a folder`},
		{func(s *config.Server) { s.Listen = "here" }, `--listen "here" is not an address and a port: write it like 127.0.0.1:8080`},
		{func(s *config.Server) { s.OpsListen = "127.0.0.1:65536" }, `--ops-listen "127.0.0.1:65536" is not an address and a port: write it like 127.0.0.1:8080`},
		{func(s *config.Server) { s.TLSCert = "c" }, `--tls-cert and --tls-key go together, but only one is given`},
		{func(s *config.Server) { s.TLSSelfSigned, s.TLSCert, s.TLSKey = true, "c", "k" }, `--tls-self-signed and --tls-cert exclude each other`},
		{func(s *config.Server) { s.MaxConnections = 0 }, `--max-connections is at least 1`},
		{func(s *config.Server) { s.MaxInProgress = 1 }, `--max-in-progress is 0 or at least 2`},
		{func(s *config.Server) { s.EventsCatchUp = 0 }, `--events-catch-up is more than 0: write it like 90d`},
		{func(s *config.Server) { s.EventsKeep = 90*day - 1 }, `--events-keep (2159h59m59.999999999s) is at least as long as --events-catch-up (90d)`},
		{func(s *config.Server) { s.EventsKeep = 30*day - 1 }, `--events-keep is at least 30d`},
		{func(s *config.Server) { s.RequestsSize = 1<<20 - 1 }, `--requests-size is at least 1MiB`},
		{func(s *config.Server) { s.IdempotencyKeep = time.Second }, `--idempotency-keep is at least 1m0s`},
		{func(s *config.Server) { s.RateLimitKey = -1 }, `--rate-limit-key is from 0 to 1000000`},
		{func(s *config.Server) { s.RateLimitMerchant = 1_000_001 }, `--rate-limit-merchant is from 0 to 1000000`},
		{func(s *config.Server) { s.RateLimitFailed = -60 }, `--rate-limit-failed is from 0 to 1000000`},
		{func(s *config.Server) { s.DefaultCountryCode = "+91" }, `--default-country-code has 1 to 4 digits`},
	} {
		s := server()
		c.change(&s)
		if diff := cmp.Diff(c.want, errorText(s.Check())); diff != "" {
			t.Errorf("one thing wrong (-want +got):\n%s", diff)
		}
		if strings.HasPrefix(c.want, "--tls-cert") || strings.HasPrefix(c.want, "--events-keep (") {
			continue // The next one mends it.
		}
		c.change(&bad)
		all = append(all, c.want)
	}
	if diff := cmp.Diff(strings.Join(all, "; "), errorText(bad.Check())); diff != "" {
		t.Errorf("everything wrong (-want +got):\n%s", diff)
	}
	good := server()
	if err := good.Check(); err != nil {
		t.Errorf("nothing wrong: %v", err)
	}
}
