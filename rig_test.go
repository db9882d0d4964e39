package grahak_test

import (
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// acme and rival are two merchants of one store.
const (
	acme  grahak.MerchantID = "acme"
	rival grahak.MerchantID = "rival"
)

// rig is a [grahak.Service] on a store of its own, at a time that stands still.
type rig struct {
	*grahak.Service
	store  *sqlstore.SQLite
	sealer *seal.Sealer
	clock  *testkit.Clock
	folder string
	master *seal.MasterKey
}

// MustRig returns a rig without merchants.
func MustRig(tb testing.TB) *rig {
	tb.Helper()
	folder := tb.TempDir()
	master, err := seal.MakeMasterKey(filepath.Join(tb.TempDir(), "master.key"))
	if err != nil {
		tb.Fatal(err)
	}
	return mustOpenRig(tb, folder, master, testkit.NewClock(), false)
}

// MustMerchantRig returns a rig with the merchants acme and rival.
func MustMerchantRig(tb testing.TB) *rig {
	tb.Helper()
	r := MustRig(tb)
	for _, m := range []grahak.MerchantID{acme, rival} {
		if _, err := r.CreateMerchant(tb.Context(), operator(m), ""); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

// MustJoin returns what another process has that opens r's store: a Service
// with a store handle and memory of its own.
func (r *rig) MustJoin(tb testing.TB) *rig {
	tb.Helper()
	return mustOpenRig(tb, r.folder, r.master, r.clock, true)
}

func mustOpenRig(tb testing.TB, folder string, master *seal.MasterKey, clock *testkit.Clock, beside bool) *rig {
	tb.Helper()
	r := &rig{clock: clock, folder: folder, master: master}
	var err error
	r.store, err = sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{
		Path:        filepath.Join(folder, "grahak.db"),
		Environment: grahak.Sandbox,
		Clock:       clock,
		// Two that write all the time share the lock by luck.
		LockWait: time.Minute,
		Beside:   beside,
		Logger:   discard,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.store.Close() })
	if _, err := r.store.MasterKeyID(tb.Context(), master.ID()); err != nil {
		tb.Fatal(err)
	}
	r.sealer = seal.New(master, r.store)
	r.Service = MustService(tb, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: clock})
	return r
}

// MustService returns a Service that logs nothing unless cfg says where.
func MustService(tb testing.TB, cfg grahak.Config) *grahak.Service {
	tb.Helper()
	if cfg.Logger == nil {
		cfg.Logger = discard
	}
	s, err := grahak.NewService(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// MustOpenRequests returns an empty request log.
func MustOpenRequests(tb testing.TB) *sqlstore.Requests {
	tb.Helper()
	requests, err := sqlstore.OpenRequests(filepath.Join(tb.TempDir(), "requests.db"), discard)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = requests.Close() })
	return requests
}

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// operator is who works on merchant m from the command line.
func operator(m grahak.MerchantID) grahak.Caller { return grahak.Operator(m, "cli:tester") }

// caller is a program of merchant m in the middle of a request.
func caller(m grahak.MerchantID, scope grahak.Scope) grahak.Caller {
	return grahak.Caller{Merchant: m, Actor: "key_of_" + string(m), Scope: scope, RequestID: "req-1"}
}

func given(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }

// person is a request to make a customer with every field set.
func person(reference string) grahak.CustomerInput {
	return grahak.CustomerInput{
		Reference:         given(reference),
		MobileNumber:      given("9988776655"),
		MobileCountryCode: given("91"),
		Email:             given("customer@example.com"),
		FirstName:         given("John"),
		LastName:          given("Smith"),
	}
}

// MustCreate makes a customer of merchant m.
func (r *rig) MustCreate(tb testing.TB, m grahak.MerchantID, in grahak.CustomerInput) grahak.Customer {
	tb.Helper()
	result, err := r.CreateCustomer(tb.Context(), caller(m, grahak.ScopeWrite), in, grahak.WriteOptions{})
	if err != nil {
		tb.Fatalf("create a customer of %s: %v", m, err)
	}
	return result.Customer
}

// MustCustomer reads a customer of merchant m.
func (r *rig) MustCustomer(tb testing.TB, m grahak.MerchantID, ref string) grahak.Customer {
	tb.Helper()
	result, err := r.Customer(tb.Context(), caller(m, grahak.ScopeRead), ref, false)
	if err != nil {
		tb.Fatalf("read customer %q of %s: %v", ref, m, err)
	}
	return result.Customer
}

// MustKey makes a key of merchant m and returns it with the key itself.
func (r *rig) MustKey(tb testing.TB, m grahak.MerchantID, spec grahak.KeySpec) (grahak.APIKey, string) {
	tb.Helper()
	if spec.Scope == "" {
		spec.Scope = grahak.ScopeWrite
	}
	key, secret, err := r.CreateKey(tb.Context(), operator(m), spec)
	if err != nil {
		tb.Fatalf("make a key of %s: %v", m, err)
	}
	return key, secret
}

// MustEvents returns all events of merchant m.
func (r *rig) MustEvents(tb testing.TB, m grahak.MerchantID) []grahak.Event {
	tb.Helper()
	events, err := r.store.Events(tb.Context(), m, 0, 100_000)
	if err != nil {
		tb.Fatal(err)
	}
	return events
}

// wantCode fails the test unless err has the code; an empty code is no error.
func wantCode(tb testing.TB, err error, want grahak.Code) {
	tb.Helper()
	if got := grahak.CodeOf(err); got != want {
		tb.Errorf("got the error %v with code %q, want code %q", err, got, want)
	}
}

// diff fails the test unless got equals want.
func diff(tb testing.TB, what string, want, got any) {
	tb.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		tb.Errorf("%s (-want +got):\n%s", what, d)
	}
}
