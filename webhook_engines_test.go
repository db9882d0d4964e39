package grahak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
	"grahak/internal/webhook"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// MustPostgres returns a function that opens a database with the merchants acme and
// rival, each time as another process does, and a sealer for it.
func MustPostgres(t *testing.T) func() (*sqlstore.Postgres, grahak.Sealer) {
	t.Helper()
	url := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off"}}).Database(t)
	master, err := seal.MakeMasterKey(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*sqlstore.Postgres, grahak.Sealer) {
		store, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Connections: sqlstore.MinConnections, Logger: discard})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store, seal.New(master, store)
	}
	store, sealer := open()
	if _, err := store.MasterKeyID(t.Context(), master.ID()); err != nil {
		t.Fatal(err)
	}
	for _, m := range []grahak.MerchantID{acme, rival} {
		if _, err := MustService(t, grahak.Config{Store: store, Sealer: sealer}).CreateMerchant(t.Context(), operator(m), ""); err != nil {
			t.Fatal(err)
		}
	}
	return open
}

// run runs s until the returned function is called, which waits for it.
func run(s *grahak.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// On both engines what arrives over HTTP is what happened, signed, in order for each
// customer, and without a word of who they are.
func TestWebhooksOverHTTP(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var store grahak.Store
			var sealer grahak.Sealer
			if engine == "SQLite" {
				r := MustMerchantRig(t)
				store, sealer = r.store, r.sealer
			} else {
				store, sealer = MustPostgres(t)()
			}
			type message struct {
				Type grahak.EventType
				Data struct {
					ID       grahak.EventID `json:"event_id"`
					Position int64
					Customer string `json:"customer_id"`
				}
			}
			var oracle *standardwebhooks.Webhook
			arrived := make(chan message, 1000)
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				var m message
				if err = errors.Join(err, oracle.Verify(body, r.Header), json.Unmarshal(body, &m)); err != nil {
					t.Errorf("%s: %v", body, err)
				}
				for _, personal := range []string{"ref-", "9988776655", "customer@example.com", "John", "Smith"} {
					if bytes.Contains(body, []byte(personal)) {
						t.Errorf("%s tells of %s", body, personal)
					}
				}
				arrived <- m
				w.WriteHeader(http.StatusAccepted)
			}))
			t.Cleanup(receiver.Close)
			s := MustService(t, grahak.Config{
				Store: store, Sealer: sealer, Courier: webhook.New(webhook.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}),
			})
			hook, secret, err := s.CreateWebhook(t.Context(), operator(acme), grahak.WebhookSpec{URL: receiver.URL})
			if err != nil {
				t.Fatal(err)
			}
			if oracle, err = standardwebhooks.NewWebhook(secret); err != nil {
				t.Fatal(err)
			}
			defer run(s)()
			const customers, changes = 12, 3
			var writers sync.WaitGroup
			for i := range customers {
				writers.Go(func() {
					who := caller(acme, grahak.ScopeWrite)
					c, err := s.CreateCustomer(t.Context(), who, person(fmt.Sprint("ref-", i)), grahak.WriteOptions{})
					for n := range changes {
						if err == nil {
							_, err = s.UpdateCustomer(t.Context(), who, string(c.Customer.ID), grahak.CustomerInput{FirstName: given(fmt.Sprint("John", n))}, grahak.WriteOptions{})
						}
					}
					if err == nil {
						_, err = s.EraseCustomer(t.Context(), who, string(c.Customer.ID), grahak.WriteOptions{})
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			got := make(map[string][]grahak.EventID)
			last := make(map[string]int64)
			timeout := time.After(patience)
			for range customers * (changes + 2) {
				select {
				case m := <-arrived:
					if m.Data.Position <= last[m.Data.Customer] {
						t.Errorf("position %d of %s comes after %d", m.Data.Position, m.Data.Customer, last[m.Data.Customer])
					}
					last[m.Data.Customer] = m.Data.Position
					got[m.Data.Customer] = append(got[m.Data.Customer], m.Data.ID)
				case <-timeout:
					t.Fatalf("only %d customers' events arrived: %v", len(got), got)
				}
			}
			want := make(map[string][]grahak.EventID)
			events, err := store.Events(t.Context(), acme, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if slices.Contains(grahak.WebhookTypes(), e.Type) {
					want[e.Subject] = append(want[e.Subject], e.ID)
				}
			}
			diff(t, "what arrived", want, got)
			for lines := 0; lines != len(events)-2; { // All but those of the merchant and the endpoint.
				log, err := s.WebhookLog(t.Context(), operator(acme), hook.ID, false, 1000)
				if err != nil {
					t.Fatal(err)
				}
				lines = len(log)
				select {
				case <-timeout:
					t.Fatalf("the log has %d lines", lines)
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
}

// ledger is what the couriers of several nodes have under way, and what arrived.
type ledger struct {
	mu      sync.Mutex
	flying  map[grahak.EventID]flight
	arrived map[string][]int64 // positions by customer
	seen    map[grahak.EventID]int
	by      map[string]int // arrivals by node
	faults  []string
	changed chan struct{} // gets a value when something has arrived
}

// flight is an event that a node has under way.
type flight struct{ node, customer string }

func newLedger() *ledger {
	return &ledger{
		flying: make(map[grahak.EventID]flight), arrived: make(map[string][]int64), seen: make(map[grahak.EventID]int), by: make(map[string]int), changed: make(chan struct{}, 1),
	}
}

// of returns the customers of whom a node has events under way.
func (l *ledger) of(node string) (customers []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flying {
		if f.node == node {
			customers = append(customers, f.customer)
		}
	}
	return customers
}

// nodeCourier is the courier of a node. While it hangs, nothing arrives until the
// attempt is called off.
type nodeCourier struct {
	*ledger
	name  string
	hangs atomic.Bool
}

// Request implements [grahak.Courier].
func (c *nodeCourier) Request(m grahak.WebhookMessage) (grahak.WebhookRequest, error) {
	return grahak.WebhookRequest{URL: m.URL}, nil
}

// Deliver implements [grahak.Courier].
func (c *nodeCourier) Deliver(ctx context.Context, m grahak.WebhookMessage) grahak.WebhookOutcome {
	c.mu.Lock()
	if other, twice := c.flying[m.Event.ID]; twice {
		c.faults = append(c.faults, fmt.Sprintf("%s sends %s while %s does", c.name, m.Event.ID, other.node))
	}
	c.flying[m.Event.ID] = flight{c.name, m.Event.Subject}
	c.mu.Unlock()
	wait := 2 * time.Millisecond
	if c.hangs.Load() {
		wait = patience
	}
	outcome := grahak.WebhookOutcome{Status: 200}
	select {
	case <-ctx.Done():
		outcome = grahak.WebhookOutcome{Failure: grahak.WebhookAborted}
	case <-time.After(wait):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flying, m.Event.ID)
	if !outcome.Delivered() {
		return outcome
	}
	c.by[c.name]++
	if c.seen[m.Event.ID]++; c.seen[m.Event.ID] == 1 {
		positions := c.arrived[m.Event.Subject]
		if len(positions) > 0 && positions[len(positions)-1] > m.Event.Position {
			c.faults = append(c.faults, fmt.Sprintf("%s: %d after %v", m.Event.Subject, m.Event.Position, positions))
		}
		c.arrived[m.Event.Subject] = append(positions, m.Event.Position)
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return outcome
}

// count returns how many events have arrived.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// wait waits until so many events have arrived.
func (l *ledger) wait(t *testing.T, what string, n int) {
	t.Helper()
	timeout := time.After(patience)
	for l.count() < n {
		select {
		case <-l.changed:
		case <-timeout:
			t.Fatalf("%s: %d events of %d arrived", what, l.count(), n)
		}
	}
}

// deafStore is a store in which a node cannot beat while it is deaf.
type deafStore struct {
	grahak.Store
	deaf atomic.Bool
}

func (s *deafStore) Beat(ctx context.Context, self grahak.NodeID, gone []grahak.NodeID) (map[grahak.NodeID]int64, error) {
	if s.deaf.Load() {
		return nil, errors.New("no beat is heard")
	}
	return s.Store.Beat(ctx, self, gone)
}

// lateStore is a store in which a node's claims of endpoints take until late is closed.
type lateStore struct {
	grahak.Store
	late    chan struct{}
	changed chan struct{} // gets a value when one of these has changed:
	mu      sync.Mutex
	waiting int                        // claims that have not come back
	claims  map[grahak.MerchantID]bool // what came of the others
}

func (s *lateStore) ClaimWebhook(ctx context.Context, m grahak.MerchantID, id grahak.WebhookID, term int64, holder grahak.NodeID) (bool, error) {
	s.note(func() { s.waiting++ })
	<-s.late
	// The database has had it for long: nobody can call it off.
	claimed, err := s.Store.ClaimWebhook(context.WithoutCancel(ctx), m, id, term, holder)
	s.note(func() {
		s.waiting--
		s.claims[m] = claimed
	})
	return claimed, err
}

func (s *lateStore) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// wait waits until so many claims have not come back.
func (s *lateStore) wait(t *testing.T, reached func(waiting int) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		done := reached(s.waiting)
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-s.changed:
		case <-timeout:
			t.Fatal("the claims of the other node did not come to this")
		}
	}
}

// A node that was silent for so long that another is about to take over its endpoints,
// and is back before it has, keeps those that it serves: the late claims come to nothing.
func TestWebhookClaimedLate(t *testing.T) {
	t.Parallel()
	open := MustPostgres(t)
	book := newLedger()
	store, sealer := open()
	silent, courier := &deafStore{Store: store}, &nodeCourier{ledger: book, name: "b"}
	b := MustService(t, grahak.Config{Store: silent, Sealer: sealer, Courier: courier})
	t.Cleanup(run(b))
	// Whose the work of a merchant is, is chance: of so many, some are each node's.
	var merchants []grahak.MerchantID
	for i := range 16 {
		m := grahak.MerchantID(fmt.Sprint("shop-", i))
		if _, err := b.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.CreateWebhook(t.Context(), operator(m), grahak.WebhookSpec{URL: "https://hooks.example.com/"}); err != nil {
			t.Fatal(err)
		}
		merchants = append(merchants, m)
	}
	merchantOf := make(map[string]grahak.MerchantID)
	register := func(reference string) {
		t.Helper()
		for _, m := range merchants {
			made, err := b.CreateCustomer(t.Context(), caller(m, grahak.ScopeWrite), person(reference), grahak.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			merchantOf[string(made.Customer.ID)] = m
		}
	}
	register("first")
	book.wait(t, "one node", len(merchants))

	courier.hangs.Store(true)
	silent.deaf.Store(true)
	store, sealer = open()
	other := &lateStore{Store: store, late: make(chan struct{}), changed: make(chan struct{}, 1), claims: make(map[grahak.MerchantID]bool)}
	a := MustService(t, grahak.Config{Store: other, Sealer: sealer, Courier: &nodeCourier{ledger: book, name: "a"}})
	t.Cleanup(run(a))
	register("second")
	other.wait(t, func(waiting int) bool { return waiting == len(merchants) })
	silent.deaf.Store(false)
	timeout := time.After(patience)
	var serves []string
	for ; len(serves) == 0; serves = book.of("b") {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-timeout:
			t.Fatal("the node that is back serves nothing")
		}
	}
	close(other.late)
	other.wait(t, func(waiting int) bool { return waiting == 0 })
	other.mu.Lock()
	defer other.mu.Unlock()
	for _, customer := range serves {
		if m := merchantOf[customer]; other.claims[m] {
			t.Errorf("the endpoint of %s was taken while the node that is back serves it", m)
		}
	}
}

// Of two nodes on a database one sends an event at a time, whichever of them comes,
// goes, or falls silent with events under way; and all arrive in order.
func TestWebhooksOfTwoNodes(t *testing.T) {
	t.Parallel()
	open := MustPostgres(t)
	book := newLedger()
	type member struct {
		*grahak.Service
		courier *nodeCourier
		store   *deafStore
		stop    func()
	}
	join := func(name string) *member {
		store, sealer := open()
		m := &member{courier: &nodeCourier{ledger: book, name: name}, store: &deafStore{Store: store}}
		m.Service = MustService(t, grahak.Config{Store: m.store, Sealer: sealer, Courier: m.courier})
		m.stop = run(m.Service)
		t.Cleanup(m.stop)
		return m
	}
	a, b := join("a"), join("b")
	merchants := []grahak.MerchantID{acme, rival}
	for i := range 10 {
		m := grahak.MerchantID(fmt.Sprint("shop-", i))
		if _, err := a.CreateMerchant(t.Context(), operator(m), ""); err != nil {
			t.Fatal(err)
		}
		merchants = append(merchants, m)
	}
	ids := make(map[grahak.MerchantID]grahak.CustomerID)
	expected := 0
	for _, m := range merchants {
		if _, _, err := a.CreateWebhook(t.Context(), operator(m), grahak.WebhookSpec{URL: "https://hooks.example.com/" + string(m)}); err != nil {
			t.Fatal(err)
		}
	}
	change := func(n int) {
		t.Helper()
		for _, m := range merchants {
			for range n {
				var err error
				if ids[m] == "" {
					var made grahak.CustomerResult
					made, err = a.CreateCustomer(t.Context(), caller(m, grahak.ScopeWrite), person("ref"), grahak.WriteOptions{})
					ids[m] = made.Customer.ID
				} else {
					_, err = a.UpdateCustomer(t.Context(), caller(m, grahak.ScopeWrite), string(ids[m]), grahak.CustomerInput{FirstName: given(fmt.Sprint("John ", expected))}, grahak.WriteOptions{})
				}
				if err != nil {
					t.Fatal(err)
				}
				expected++
			}
		}
	}
	change(10)
	book.wait(t, "two nodes", expected)
	// Both take part once each knows of the other.
	deadline := time.Now().Add(patience)
	both := func() bool {
		book.mu.Lock()
		defer book.mu.Unlock()
		return book.by["a"] > 0 && book.by["b"] > 0
	}
	for !both() && time.Now().Before(deadline) {
		change(1)
		book.wait(t, "two nodes", expected)
	}
	if !both() {
		t.Fatalf("the nodes sent %v", book.by)
	}

	// One falls silent with events under way: it calls them off before the other sends
	// them.
	b.courier.hangs.Store(true)
	change(5)
	for len(book.of("b")) == 0 && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
	}
	b.store.deaf.Store(true)
	book.wait(t, "after one fell silent", expected)
	if n := len(book.of("b")); n > 0 {
		t.Errorf("the silent node still has %d events under way", n)
	}
	// It is back, and then leaves as it should.
	b.courier.hangs.Store(false)
	b.store.deaf.Store(false)
	change(5)
	book.wait(t, "after it was back", expected)
	b.stop()
	change(5)
	book.wait(t, "after it left", expected)
	a.stop()
	book.mu.Lock()
	defer book.mu.Unlock()
	for _, fault := range book.faults {
		t.Error(fault)
	}
	for _, m := range merchants {
		if got := book.arrived[string(ids[m])]; !slices.IsSorted(got) || len(got) != expected/len(merchants) {
			t.Errorf("%s got the positions %v", m, got)
		}
	}
}
