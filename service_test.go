package grahak_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

func TestNewService(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	for name, c := range map[string]struct {
		change func(*grahak.Config)
		want   bool
	}{
		"complete":                      {func(*grahak.Config) {}, true},
		"no store":                      {func(c *grahak.Config) { c.Store = nil }, false},
		"no sealer":                     {func(c *grahak.Config) { c.Sealer = nil }, false},
		"a country code":                {func(c *grahak.Config) { c.CountryCode = "1234" }, true},
		"a country code with a plus":    {func(c *grahak.Config) { c.CountryCode = "+91" }, false},
		"a country code that is long":   {func(c *grahak.Config) { c.CountryCode = "12345" }, false},
		"a country code that is a name": {func(c *grahak.Config) { c.CountryCode = "IN" }, false},
	} {
		cfg := grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Logger: discard}
		c.change(&cfg)
		s, err := grahak.NewService(cfg)
		if (err == nil) != c.want || (s != nil) != c.want {
			t.Errorf("%s: got %v, %v", name, s, err)
		}
	}
	s := MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, CountryCode: "977"})
	result, err := s.CreateCustomer(t.Context(), caller(acme, grahak.ScopeWrite), grahak.CustomerInput{Reference: given("r"), MobileNumber: given("1")}, grahak.WriteOptions{})
	wantCode(t, err, "")
	diff(t, "the country code by default", "977", result.Customer.MobileCountryCode)
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	wantCode(t, r.Ready(t.Context()), "")
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Ready(t.Context()), grahak.CodeUnavailable)
}

// background is a Service whose Run runs, inside a bubble of synctest where
// time passes as soon as there is nothing else to do.
type background struct {
	*grahak.Service
	store *sqlstore.SQLite
	log   *testkit.Buffer
	end   func() // stops Run and waits for it
}

// MustBackground starts a Service with the merchant acme. It is called inside
// the bubble and everything is ended there.
func MustBackground(t *testing.T) *background {
	t.Helper()
	folder := t.TempDir()
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(folder, "grahak.db"), Environment: grahak.Sandbox, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	master, err := seal.MakeMasterKey(filepath.Join(folder, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.MasterKeyID(t.Context(), master.ID()); err != nil {
		t.Fatal(err)
	}
	b := &background{store: store, log: new(testkit.Buffer)}
	b.Service = MustService(t, grahak.Config{Store: store, Sealer: seal.New(master, store), Logger: slog.New(slog.NewTextHandler(b.log, nil))})
	if _, err := b.CreateMerchant(t.Context(), operator(acme), ""); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx)
	}()
	b.end = sync.OnceFunc(func() {
		stop()
		<-ended
	})
	t.Cleanup(func() {
		b.end()
		_ = store.Close()
	})
	return b
}

// lastUsed returns when the only key of acme was last used.
func (b *background) lastUsed(t *testing.T) time.Time {
	t.Helper()
	keys, err := b.Keys(t.Context(), operator(acme))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return keys[0].LastUsedAt
}

func TestRunWritesWhenKeysWereUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		_, secret, err := b.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
		if err != nil {
			t.Fatal(err)
		}
		events, err := b.store.Events(t.Context(), acme, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if used := b.lastUsed(t); !used.IsZero() {
			t.Errorf("a key that was never used says %v", used)
		}
		use := func() time.Time {
			t.Helper()
			if _, err := b.Authenticate(t.Context(), grahak.Credential{Key: secret}); err != nil {
				t.Fatal(err)
			}
			return time.Now().UTC().Truncate(time.Microsecond)
		}
		first := use()
		// It lags by up to a minute, and a request does not wait for it.
		if used := b.lastUsed(t); !used.IsZero() {
			t.Errorf("the request itself wrote when the key was used")
		}
		// The second keeps the end apart from the moments at which Run works.
		time.Sleep(time.Minute + time.Second)
		diff(t, "last use", first, b.lastUsed(t))
		last := use()
		b.end()
		diff(t, "last use after the end", last, b.lastUsed(t))
		after, err := b.store.Events(t.Context(), acme, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "events of that", events, after)
		diff(t, "faults logged", "", b.log.String())
	})
}

// Only a request that goes through is a use of its key.
func TestRefusedKeysAreNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		_, secret, err := b.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.AddIPEntry(t.Context(), operator(acme), "198.51.100.0/24", ""); err != nil {
			t.Fatal(err)
		}
		listed, unlisted := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("192.0.2.1")
		for _, step := range []struct {
			name string
			mode grahak.IPMode
			cred grahak.Credential
			want grahak.Code
		}{
			{"an unlisted address, enforced", grahak.IPModeEnforce, grahak.Credential{Key: secret, Addr: unlisted}, grahak.CodeIPNotWhitelisted},
			{"no address, enforced", grahak.IPModeEnforce, grahak.Credential{Key: secret}, grahak.CodeIPNotWhitelisted},
			{"another merchant", grahak.IPModeEnforce, grahak.Credential{Key: secret, Merchant: "rival", Addr: listed}, grahak.CodeInvalidAPIKey},
			{"a listed address, enforced", grahak.IPModeEnforce, grahak.Credential{Key: secret, Addr: listed}, ""},
			{"an unlisted address, reported", grahak.IPModeReport, grahak.Credential{Key: secret, Addr: unlisted}, ""},
			{"an unlisted address, list off", grahak.IPModeOff, grahak.Credential{Key: secret, Addr: unlisted}, ""},
		} {
			wantCode(t, b.SetIPMode(t.Context(), operator(acme), step.mode), "")
			want := b.lastUsed(t)
			_, err := b.Authenticate(t.Context(), step.cred)
			wantCode(t, err, step.want)
			if step.want == "" {
				want = time.Now().UTC().Truncate(time.Microsecond)
			}
			// Run writes when keys were used every ten seconds.
			time.Sleep(11 * time.Second)
			diff(t, "last use after "+step.name, want, b.lastUsed(t))
		}
	})
}

// What is being written when the end comes is not lost.
func TestRunEndsWhileItWrites(t *testing.T) {
	t.Parallel()
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			b := MustBackground(t)
			_, secret, err := b.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Authenticate(t.Context(), grahak.Credential{Key: secret}); err != nil {
				t.Fatal(err)
			}
			used := time.Now().UTC().Truncate(time.Microsecond)
			// Run notes the use of keys every ten seconds, so both wake at once.
			time.Sleep(10 * time.Second)
			b.end()
			diff(t, "last use", used, b.lastUsed(t))
			diff(t, "faults logged", "", b.log.String())
		})
	}
}

func TestRunPrunesTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		issued := time.Now()
		c := caller(acme, grahak.ScopeWrite)
		if _, err := b.CreateCustomer(t.Context(), c, person("ref"), grahak.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		// More than one batch expires at once.
		const tokens = 600
		hashes := make([]grahak.TokenHash, tokens)
		var group sync.WaitGroup
		for w := range 60 {
			group.Go(func() {
				for i := w; i < tokens; i += 60 {
					result, err := b.Customer(t.Context(), c, "ref", true)
					if err != nil {
						t.Error(err)
						return
					}
					hashes[i] = grahak.HashToken(result.Token.Value)
				}
			})
		}
		group.Wait()
		// kept counts the tokens that are stored, expired or not.
		kept := func() (n int) {
			t.Helper()
			for _, hash := range hashes {
				switch _, err := b.store.Token(t.Context(), hash, issued); grahak.CodeOf(err) {
				case "":
					n++
				case grahak.CodeTokenNotFound:
				default:
					t.Fatal(err)
				}
			}
			return n
		}
		time.Sleep(grahak.TokenLifetime - time.Second)
		diff(t, "tokens kept while they are valid", tokens, kept())
		late, err := b.Customer(t.Context(), c, "ref", true)
		if err != nil {
			t.Fatal(err)
		}
		// All go at the first look after they expired, which is now.
		time.Sleep(2 * time.Second)
		diff(t, "tokens kept after they expired", 0, kept())
		time.Sleep(time.Minute)
		if _, err := b.VerifyToken(t.Context(), late.Token.Value); err != nil {
			t.Errorf("a token that is still valid: %v", err)
		}
		diff(t, "faults logged", "", b.log.String())
	})
}

// Sessions and codes that have expired are deleted, whether or not anybody logs in.
func TestRunPrunesOperators(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		name, err := b.SandboxOperator(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		ends := at.Add(time.Minute)
		for _, code := range []byte{1, 2} {
			if err := b.store.PutLoginLink(t.Context(), name, grahak.OperatorCode{Hash: grahak.SecretHash{code}, ExpiresAt: ends}); err != nil {
				t.Fatal(err)
			}
		}
		session := grahak.SessionRecord{Hash: grahak.SecretHash{3}, Session: grahak.Session{Operator: name, CreatedAt: at, UsedAt: at, ExpiresAt: ends}}
		proof := grahak.LoginProof{Operator: name, At: at, Kind: grahak.CodeKindLink, Code: grahak.SecretHash{1}}
		if err := b.store.BeginSession(t.Context(), proof, session, at.Add(-time.Hour), 2, nil); err != nil {
			t.Fatal(err)
		}
		kept := func() int {
			t.Helper()
			sessions, err := b.store.Sessions(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return len(sessions)
		}
		time.Sleep(time.Minute - time.Second)
		diff(t, "sessions kept before they expire", 1, kept())
		// A look is due every ten seconds.
		time.Sleep(12 * time.Second)
		diff(t, "sessions kept after they expired", 0, kept())
		// Of an expired code nothing but the deletion can be seen.
		n, err := b.store.PruneOperators(t.Context(), time.Now(), 10)
		if n != 0 || err != nil {
			t.Errorf("%d expired codes were kept (%v)", n, err)
		}
		diff(t, "faults logged", "", b.log.String())
	})
}

// An outage ends nothing and is told of without flooding the log with more than
// the failures there were.
func TestRunSurvivesOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		if err := b.store.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if lines := strings.Count(b.log.String(), "\n"); lines == 0 || lines > 25 {
			t.Errorf("ten seconds of outage gave %d lines:\n%s", lines, b.log)
		}
		b.end()
	})
}

// While the storage is away, a key that was in memory is not used longer than
// it may be out of date.
func TestRunDoesNotTrustMemoryInOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := MustBackground(t)
		_, secret, err := b.CreateKey(t.Context(), operator(acme), grahak.KeySpec{Scope: grahak.ScopeRead})
		if err != nil {
			t.Fatal(err)
		}
		authenticate := func() error {
			_, err := b.Authenticate(t.Context(), grahak.Credential{Key: secret})
			return err
		}
		wantCode(t, authenticate(), "")
		if err := b.store.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		wantCode(t, authenticate(), grahak.CodeUnavailable)
	})
}
