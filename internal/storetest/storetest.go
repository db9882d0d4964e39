// Package storetest is what every engine that implements [grahak.Store] must
// do, as one suite of tests. It knows no engine: it sees a store only through
// its methods.
package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
)

// Opener returns a new, empty store that nobody else uses, and a function that
// opens the same store once more, as another process does. What they open is
// closed when the test ends.
type Opener func(t testing.TB) (store grahak.Store, again func() grahak.Store)

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, group := range []struct {
		name   string
		tests  []test
		others int // processes beside the first
	}{
		{"customer", customerTests, 0},
		{"search", searchTests, 0},
		{"erase", eraseTests, 0},
		{"total", totalTests, 0},
		{"token", tokenTests, 0},
		{"idempotency", idempotencyTests, 0},
		{"merchant", merchantTests, 0},
		{"master key", masterKeyTests, 0},
		{"key", keyTests, 0},
		{"iplist", ipListTests, 0},
		{"event", eventTests, 0},
		{"chain", chainTests, 0},
		{"prune", pruneTests, 0},
		{"webhook", webhookTests, 0},
		{"form", formTests, 0},
		{"operator", operatorTests, 0},
		{"session", sessionTests, 0},
		{"seal", sealTests, 0},
		{"rewrap", rewrapTests, 0},
		{"refusal", refusalTests, 0},
		{"import", importTests, 0},
		{"isolation", isolationTests, 0},
		{"text", textTests, 0},
		{"time", timeTests, 0},
		{"concurrency", concurrencyTests, 0},
		{"several processes", severalTests, 2},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					store, again := open(t)
					r := &rig{TB: t, store: store, processes: []grahak.Store{store}, serial: new(atomic.Int64)}
					for range group.others {
						r.processes = append(r.processes, again())
					}
					test.run(r)
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(*rig)
}

// rig is a test with its store, and a source of data for it. Everything that
// it makes differs from everything it made before, and ids sort in the order
// in which they were made.
type rig struct {
	testing.TB
	store     grahak.Store
	processes []grahak.Store // store, as each of those has it that share it
	serial    *atomic.Int64
}

// process returns r as the i-th of the processes that share the store has it,
// counted in a circle.
func (r *rig) process(i int) *rig {
	p := *r
	p.store = r.processes[i%len(r.processes)]
	return &p
}

// The tenants of the tests. Their ids differ in letter case only, which makes
// them different merchants.
const (
	own   grahak.MerchantID = "acme"
	other grahak.MerchantID = "Acme"
	// nobody is never created.
	nobody grahak.MerchantID = "ACME"
)

// start is when the tests' time begins. It has microseconds, all of which must
// survive.
var start = time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC)

// now returns a later time at each call.
func (r *rig) now() time.Time {
	return start.Add(time.Duration(r.serial.Add(1)) * (time.Second + time.Microsecond))
}

func (r *rig) id(prefix string) string { return fmt.Sprintf("%s_%016d", prefix, r.serial.Add(1)) }

// event returns a new event of an access change or, with a revision, of a
// customer's.
func (r *rig) event(t grahak.EventType, subject string, revision int64, changed ...grahak.Field) grahak.Event {
	return grahak.Event{
		ID:        grahak.EventID(r.id("evt")),
		Type:      t,
		Subject:   subject,
		Revision:  revision,
		Changed:   changed,
		Actor:     "key_0000000000000001",
		RequestID: r.id("req"),
		At:        r.now(),
	}
}

func (r *rig) created(c grahak.CustomerRecord) grahak.Event {
	return r.event(grahak.EventCustomerCreated, string(c.ID), c.Revision)
}

func (r *rig) updated(c grahak.CustomerRecord) grahak.Event {
	return r.event(grahak.EventCustomerUpdated, string(c.ID), c.Revision, grahak.FieldEmail)
}

// erased returns the event of an erasure of c as it is.
func (r *rig) erased(c grahak.CustomerRecord) grahak.Event {
	return r.event(grahak.EventCustomerErased, string(c.ID), c.Revision+1)
}

// index returns a new blind index. Its bytes are not text, and some are zero.
func (r *rig) index() (i grahak.Index) {
	binary.BigEndian.PutUint64(i[4:], uint64(r.serial.Add(1)))
	i[15] = 0xff
	return i
}

// short returns a new short index, of bytes that are not text either.
func (r *rig) short() (i grahak.ShortIndex) {
	binary.BigEndian.PutUint64(i[:], uint64(r.serial.Add(1))<<8|0xff)
	return i
}

// customer returns a new customer that is not written yet.
func (r *rig) customer() grahak.CustomerRecord {
	at := r.now()
	id := r.id("cst")
	return grahak.CustomerRecord{
		ID:        grahak.CustomerID(id),
		Reference: r.index(),
		Email:     r.short(),
		Mobile:    r.short(),
		Sealed:    grahak.Sealed{Bytes: append([]byte{1, 0, 0xff, 0x80, '\''}, id...), Version: 1},
		Revision:  1,
		CreatedAt: at,
		UpdatedAt: at,
	}
}

// next returns c as an update of it leaves it.
func (r *rig) next(c grahak.CustomerRecord) grahak.CustomerRecord {
	c.Revision++
	c.Sealed.Bytes = fmt.Appendf(nil, "\x01 revision %d of %s", c.Revision, c.ID)
	c.Email = r.short()
	c.UpdatedAt = r.now()
	return c
}

// token returns a new token that is not written yet. It is valid for an hour
// after the tests' time begins.
func (r *rig) token(m grahak.MerchantID, c grahak.CustomerID) grahak.TokenRecord {
	return grahak.TokenRecord{Merchant: m, Customer: c, Hash: grahak.HashToken(r.id("tkn")), ExpiresAt: start.Add(time.Hour)}
}

// key returns a new key that is not written yet.
func (r *rig) key(m grahak.MerchantID) grahak.APIKey {
	id := r.id("key")
	return grahak.APIKey{
		ID:        grahak.KeyID(id),
		Merchant:  m,
		Hash:      grahak.HashKey(id),
		Prefix:    "gk_sandbox_abcd",
		Label:     "till 7",
		Scope:     grahak.ScopeWrite,
		CreatedAt: r.now(),
	}
}

func (r *rig) entry(prefix string) grahak.IPEntry {
	return grahak.IPEntry{Prefix: netip.MustParsePrefix(prefix), Label: "office", AddedBy: "cli:asha", CreatedAt: r.now()}
}

// firstMaster is the master key that the tests name if none is named.
const firstMaster = "mk_first"

// MustMasterKey returns the master key that the store names, after naming
// firstMaster if there is none.
func (r *rig) MustMasterKey() string {
	r.Helper()
	named, err := r.store.MasterKeyID(r.Context(), "")
	if err == nil && named == "" {
		named, err = r.store.MasterKeyID(r.Context(), firstMaster)
	}
	r.must(err)
	return named
}

// MustMerchant writes a merchant with keys of its own and returns both as they
// are stored.
func (r *rig) MustMerchant(id grahak.MerchantID) (grahak.Merchant, grahak.Keyset) {
	r.Helper()
	m := grahak.Merchant{ID: id, Name: "Merchant " + string(id), IPMode: grahak.IPModeOff, CreatedAt: r.now()}
	keys := r.keyset(id, r.MustMasterKey())
	r.must(r.store.CreateMerchant(r.Context(), m, keys, r.event(grahak.EventMerchantCreated, "", 0)))
	return m, keys
}

// keyset returns the keys of a new merchant. The revision is the one that the
// store gives them.
func (r *rig) keyset(m grahak.MerchantID, master string) grahak.Keyset {
	return grahak.Keyset{
		Merchant:    m,
		Revision:    1,
		MasterKeyID: master,
		Version:     1,
		Sealing:     []byte("\x00sealing " + m),
		Indexing:    []byte("\xffindexing " + m),
	}
}

// MustCustomer writes a customer.
func (r *rig) MustCustomer(m grahak.MerchantID) grahak.CustomerRecord {
	r.Helper()
	c := r.customer()
	r.must(r.store.CreateCustomer(r.Context(), m, c, r.created(c), nil))
	return c
}

// erase erases the customer with the given id, of whatever revision it is then.
func (r *rig) erase(m grahak.MerchantID, id grahak.CustomerID) error {
	for range 10 * parallel {
		c, err := r.store.Customer(r.Context(), m, id, grahak.Index{})
		if err != nil {
			return err
		}
		done, err := r.store.EraseCustomer(r.Context(), m, id, c.Revision, r.erased(c), nil)
		if done || err != nil {
			return err
		}
	}
	return errors.New("an erasure never was the first")
}

// MustErase erases a customer.
func (r *rig) MustErase(m grahak.MerchantID, id grahak.CustomerID) {
	r.Helper()
	r.must(r.erase(m, id))
}

// MustKey writes a key.
func (r *rig) MustKey(m grahak.MerchantID) grahak.APIKey {
	r.Helper()
	k := r.key(m)
	r.must(r.store.CreateKey(r.Context(), m, k, r.event(grahak.EventKeyCreated, string(k.ID), 0)))
	return k
}

// MustEntry writes an entry of the merchant's IP list.
func (r *rig) MustEntry(m grahak.MerchantID, prefix string) grahak.IPEntry {
	r.Helper()
	entry := r.entry(prefix)
	r.must(r.store.AddIPEntry(r.Context(), m, entry, r.event(grahak.EventIPEntryAdded, prefix, 0)))
	return entry
}

// MustMode sets what the merchant's IP list does.
func (r *rig) MustMode(m grahak.MerchantID, mode grahak.IPMode) {
	r.Helper()
	r.must(r.store.SetIPMode(r.Context(), m, mode, false, r.event(grahak.EventIPModeChanged, string(mode), 0)))
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// wantCode fails the test unless err has the code.
func (r *rig) wantCode(what string, err error, want grahak.Code) {
	r.Helper()
	if got := grahak.CodeOf(err); got != want {
		r.Errorf("%s: code %q (%v), want %q", what, got, err, want)
	}
}

// asStored compares what a store returns with what was given to it: empty and
// absent lists are the same, and times agree only if both are in UTC.
var asStored = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}),
	cmp.Comparer(func(a, b time.Time) bool { return a.Format(time.RFC3339Nano) == b.Format(time.RFC3339Nano) }),
}

// wantEqual fails the test unless got is want.
func (r *rig) wantEqual(what string, got, want any) {
	r.Helper()
	if diff := cmp.Diff(want, got, asStored); diff != "" {
		r.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wantCustomer fails the test unless the store has c, found by id and by
// reference.
func (r *rig) wantCustomer(m grahak.MerchantID, c grahak.CustomerRecord) {
	r.Helper()
	byID, err := r.store.Customer(r.Context(), m, c.ID, grahak.Index{})
	r.must(err)
	r.wantEqual("the customer by id", byID, c)
	byReference, err := r.store.Customer(r.Context(), m, "", c.Reference)
	r.must(err)
	r.wantEqual("the customer by reference", byReference, c)
}

// wantToken fails the test unless the store has the token.
func (r *rig) wantToken(want grahak.TokenRecord) {
	r.Helper()
	got, err := r.store.Token(r.Context(), want.Hash, start)
	r.must(err)
	r.wantEqual("the token", got, want)
}

// wantNoToken fails the test if the store has the token.
func (r *rig) wantNoToken(what string, token grahak.TokenRecord) {
	r.Helper()
	_, err := r.store.Token(r.Context(), token.Hash, start)
	r.wantCode(what, err, grahak.CodeTokenNotFound)
}

// all is more than any test writes.
const all = 1 << 20

// MustEvents returns all events of the merchant that were not pruned: those in its
// chain, and then those that are to follow. It changes nothing, and nothing may be put in order
// meanwhile.
func (r *rig) MustEvents(m grahak.MerchantID) []grahak.Event {
	r.Helper()
	head := r.MustHead(m)
	checkpoint, err := r.store.ChainCheckpoint(r.Context(), m)
	r.must(err)
	events, err := r.store.Events(r.Context(), m, 0, int(head.Position-checkpoint.Position))
	r.must(err)
	r.wantEqual("events in the chain of "+string(m), int64(len(events)), head.Position-checkpoint.Position)
	pending, err := r.store.Pending(r.Context(), m, head.Position, all)
	r.must(err)
	n, err := r.store.CountPending(r.Context(), m)
	r.must(err)
	r.wantEqual("events of "+string(m)+" that are not in its chain", n, int64(len(pending)))
	return append(events, pending...)
}

// MustVersion returns the access version.
func (r *rig) MustVersion() int64 {
	r.Helper()
	version, err := r.store.AccessVersion(r.Context())
	r.must(err)
	return version
}

// state is everything that a merchant has, but for its tokens.
type state struct {
	Merchant  grahak.Merchant
	Seal      grahak.SealState
	Customers []grahak.CustomerRecord
	Total     int64
	Keys      []grahak.APIKey
	IPList    []grahak.IPEntry
	Events    []grahak.Event
	Chain     []grahak.ChainSegment
	Pruned    grahak.Checkpoint
	Unordered bool // has events that are not in the chain
}

// MustState reads everything that an existing merchant has.
func (r *rig) MustState(m grahak.MerchantID) (s state) {
	r.Helper()
	ctx := r.Context()
	var err error
	s.Merchant, err = r.store.Merchant(ctx, m)
	r.must(err)
	s.Seal, err = r.store.SealState(ctx, m)
	r.must(err)
	s.Customers, s.Total, err = r.store.Customers(ctx, m, grahak.CustomerRange{}, all, 0)
	r.must(err)
	s.Keys, err = r.store.Keys(ctx, m)
	r.must(err)
	s.IPList, err = r.store.IPList(ctx, m)
	r.must(err)
	s.Events = r.MustEvents(m)
	s.Chain, err = r.store.Chain(ctx, m, 0, all)
	r.must(err)
	s.Pruned, err = r.store.ChainCheckpoint(ctx, m)
	r.must(err)
	unordered, err := r.store.Unordered(ctx)
	r.must(err)
	s.Unordered = slices.Contains(unordered, m)
	return s
}

// together calls fn n times at the same moment, with 0 to n-1, as one process after
// the other, and returns what each call returned.
func (r *rig) together(n int, fn func(r *rig, i int) error) []error {
	errs := make([]error, n)
	ready := make(chan struct{})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			<-ready
			errs[i] = fn(r.process(i), i)
		})
	}
	close(ready)
	calls.Wait()
	return errs
}

// wantOutcomes fails the test unless as many errors as want says have each
// code; "" is the code of nil.
func (r *rig) wantOutcomes(errs []error, want map[grahak.Code]int) {
	r.Helper()
	got := make(map[grahak.Code]int)
	for _, err := range errs {
		code := grahak.CodeOf(err)
		if got[code]++; want[code] == 0 {
			r.Errorf("unexpected outcome: %v", err)
		}
	}
	r.wantEqual("the number of each outcome", got, want)
}

// ended returns a context that has ended.
func (r *rig) ended() context.Context {
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	return ctx
}
