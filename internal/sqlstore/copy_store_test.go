package sqlstore_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/sqlstore"
)

// Merchants besides acme, which sort differently by bytes and by language; so do
// some of their networks.
const (
	lower    grahak.MerchantID = "bank"
	upper    grahak.MerchantID = "Bank"
	disabled grahak.MerchantID = "a_disabled"
)

// copyRows is how many customers acme has in the store that is copied: those
// before copyOrdered are in the chain, the others are not yet.
const (
	copyRows    = 60
	copyOrdered = 40
)

// MustStore makes a store with something in every table and every column, and
// returns it with its merchants.
func MustStore(t testing.TB, path string) (*sqlstore.SQLite, []grahak.MerchantID) {
	t.Helper()
	s := MustOpen(t, sqlstore.SQLiteConfig{Path: path, Environment: grahak.Production})
	merchants := []grahak.MerchantID{upper, disabled, acme, lower}
	at := record(0, 0).CreatedAt
	events := 0
	event := func(kind grahak.EventType, subject string) grahak.Event {
		events++
		return grahak.Event{ID: grahak.EventID(fmt.Sprintf("evt_access%06d", events)), Type: kind, Subject: subject, Actor: "cli:आशा", At: at}
	}
	for _, m := range merchants {
		must(t, createMerchant(t.Context(), s, m))
		for i, prefix := range []string{"10::/16", "10.0.0.0/16", "10.0.0.0/8", "9.1.2.3/32"} {
			entry := grahak.IPEntry{Prefix: netip.MustParsePrefix(prefix), Label: "कार्यालय " + string(m), AddedBy: "cli:आशा", CreatedAt: at.Add(time.Duration(-i))}
			must(t, s.AddIPEntry(t.Context(), m, entry, event(grahak.EventIPEntryAdded, prefix)))
		}
		for i := range 4 {
			key := grahak.APIKey{
				ID: grahak.KeyID(fmt.Sprintf("key_%d", i)), Merchant: m, Hash: grahak.HashKey(fmt.Sprint(m, i)),
				Prefix: "gk_production_abcd", Label: "till", Scope: grahak.ScopeRead, CreatedAt: at.Add(time.Duration(i) * time.Microsecond),
			}
			must(t, s.CreateKey(t.Context(), m, key, event(grahak.EventKeyCreated, string(key.ID))))
		}
		must(t, s.RevokeKey(t.Context(), m, "key_1", at.Add(time.Hour), event(grahak.EventKeyRevoked, "key_1")))
		next := grahak.APIKey{ID: "key_next", Merchant: m, Hash: grahak.HashKey("next" + string(m)), Scope: grahak.ScopeWrite, CreatedAt: at, ExpiresAt: at.Add(48 * time.Hour)}
		must(t, s.RotateKey(t.Context(), m, "key_2", at.Add(24*time.Hour), next, event(grahak.EventKeyRotated, "key_2")))
		must(t, s.TouchKeys(t.Context(), map[grahak.KeyRef]grahak.KeyUse{
			{Merchant: m, Key: "key_2"}: {At: at.Add(time.Second)},
			{Merchant: m, Key: "key_3"}: {At: at.Add(time.Minute), Addr: netip.MustParseAddr("2001:db8::7")},
		}))
	}
	must(t, s.SetIPMode(t.Context(), acme, grahak.IPModeReport, false, event(grahak.EventIPModeChanged, "report")))
	must(t, s.DisableMerchant(t.Context(), disabled, at.Add(time.Hour), event(grahak.EventMerchantDisabled, "")))

	MustFill(t, s, 0, copyOrdered)
	MustImport(t, s)
	MustOrderAll(t, s, acme, 16)
	MustOrderAll(t, s, upper, 16)
	// Events that were pruned: of one merchant the first, of another all.
	MustPrune(t, s, acme, 1)
	MustPrune(t, s, upper, 1000)
	MustFill(t, s, copyOrdered, copyRows)

	// An endpoint that was sent some events, of which one is to be tried again and
	// one was given up.
	hook := grahak.Webhook{ID: "whe_1", URL: "https://hooks.example.com/ग्राहक", Types: grahak.WebhookTypes(), Label: "कार्यालय", CreatedAt: at, SecretVersion: 1}
	must(t, s.CreateWebhook(t.Context(), acme, hook, event(grahak.EventWebhookCreated, "whe_1")))
	_, err := s.RotateWebhookSecret(t.Context(), acme, hook.ID, 1, at.Add(time.Hour), event(grahak.EventWebhookSecretRotated, "whe_1"))
	must(t, err)
	held, err := s.ClaimWebhook(t.Context(), acme, hook.ID, 0, "node_1")
	must(t, err)
	first := grahak.Event{Position: 12, ID: "evt_one", Subject: "cst_one"}
	settled, err := s.SettleWebhook(t.Context(), acme, hook.ID, "node_1", 1, grahak.WebhookSettlement{
		WebhookProgress: grahak.WebhookProgress{Cursor: 100, Failures: 2, FailingSince: at, ResumeAt: at.Add(time.Minute)},
		Retries: []grahak.WebhookRetry{
			{Event: first, Attempts: 1, FirstAt: at, NextAt: at.Add(time.Second)},
			{Event: grahak.Event{Position: 13, ID: "evt_two", Subject: "cst_two"}, Attempts: 9, FirstAt: at},
		},
		Attempts: []grahak.WebhookAttempt{{At: at, EventID: first.ID, Position: 12, Attempt: 1, WebhookOutcome: grahak.WebhookOutcome{Status: 500, Took: time.Second}}},
	})
	must(t, err)
	if !held || !settled {
		t.Fatalf("the endpoint was claimed: %t, and settled: %t", held, settled)
	}

	// An operator with a role, a session and a code.
	must(t, createMerchant(t.Context(), s, grahak.OperatorsMerchant))
	grant := grahak.Grant{Merchant: acme, Operator: "asha", Role: grahak.RoleViewer, GrantedBy: "cli:आशा", GrantedAt: at}
	must(t, s.CreateOperator(t.Context(), "asha", at, grahak.OperatorCode{Hash: grahak.SecretHash{1}, ExpiresAt: at.Add(time.Hour)}, event(grahak.EventOperatorCreated, "asha"), grant, event(grahak.EventRoleSet, "asha:viewer")))
	must(t, s.PutLoginLink(t.Context(), "asha", grahak.OperatorCode{Hash: grahak.SecretHash{2}, ExpiresAt: at.Add(time.Hour)}))
	session := grahak.SessionRecord{Hash: grahak.SecretHash{3, 0xff}, Session: grahak.Session{CreatedAt: at, UsedAt: at, ExpiresAt: at.Add(time.Hour), Browser: "Firefox"}}
	proof := grahak.LoginProof{Operator: "asha", At: at, Kind: grahak.CodeKindLink, Code: grahak.SecretHash{2}}
	must(t, s.BeginSession(t.Context(), proof, session, at.Add(-time.Hour), 2, []grahak.Event{event(grahak.EventOperatorLoggedIn, "asha")}))

	// A re-sealing that has come half-way.
	state, err := s.SealState(t.Context(), acme)
	must(t, err)
	keys := state.Keyset
	keys.Version, keys.Sealing = 2, []byte("two keys\x00\xff")
	must(t, s.RotateKeyset(t.Context(), keys, at.Add(time.Hour), event(grahak.EventSealRotated, "2")))
	state, err = s.SealState(t.Context(), acme)
	must(t, err)
	some, err := s.CustomersAfter(t.Context(), acme, "", 10)
	must(t, err)
	for i := range some {
		some[i].Sealed = grahak.Sealed{Bytes: append([]byte("again "), some[i].Sealed.Bytes...), Version: 2}
	}
	state.After, state.Seen, state.Unopened = some[9].ID, 10, 1
	must(t, s.Reseal(t.Context(), state, "", some))
	return s, merchants
}

// copyImport is the name of an import of acme.
var copyImport = grahak.Index{0, 0xff, 'i'}

// MustImport imports customers of acme, one of them with an id of its own.
func MustImport(t testing.TB, s *sqlstore.SQLite) {
	t.Helper()
	one, two := record(copyRows, copyRows), record(copyRows+1, copyRows+1)
	one.ID, one.Brought = "cth_Brought", true
	done, err := s.ImportCustomers(t.Context(), acme, grahak.ImportStep{
		Import: copyImport,
		State: grahak.ImportState{
			Rows: 10, Created: 2, Updated: 3, Skipped: 4, Rejected: 1, Done: true, StartedAt: one.CreatedAt, UpdatedAt: two.CreatedAt,
			LastFaults: []grahak.ImportFault{{Line: 3, Field: grahak.FieldEmail, Reason: "कारण"}},
		},
		Created: []grahak.ImportWrite{{Customer: one, Event: created(one)}, {Customer: two, Event: created(two)}},
	})
	if must(t, err); !done {
		t.Fatal("the customers could not be imported")
	}
}

// MustFill writes the customers of acme with the numbers from first up to but not
// last. Every second has a token; every third no e-mail address, and every fifth no
// number; of every ten the third gets another number, the fourth another name, and
// the sixth is erased.
func MustFill(t testing.TB, s *sqlstore.SQLite, first, last int) {
	t.Helper()
	for n := first; n < last; n++ {
		c := record(n, n)
		if n%3 == 0 {
			c.Email = grahak.ShortIndex{}
		}
		if n%5 == 0 {
			c.Mobile = grahak.ShortIndex{}
		}
		var token *grahak.TokenRecord
		if n%2 == 0 {
			token = &grahak.TokenRecord{Merchant: acme, Customer: c.ID, Hash: tokenOf(n), ExpiresAt: c.CreatedAt.Add(time.Hour)}
		}
		b := &grahak.Besides{Token: token}
		if n%4 == 0 {
			b.Key = &grahak.IdempotencyRecord{Key: c.Reference, Request: c.Reference, Outcome: grahak.OutcomeCreated, Customer: c.ID, At: c.CreatedAt, ExpiresAt: c.CreatedAt.Add(time.Hour)}
		}
		must(t, s.CreateCustomer(t.Context(), acme, c, created(c), b))
		change := func(number bool, field grahak.Field) {
			c.Revision, c.UpdatedAt, c.Sealed.Bytes = 2, c.UpdatedAt.Add(time.Second), []byte("another")
			if number {
				c.Mobile = newNumber(n)
			}
			e := grahak.Event{
				ID: grahak.EventID("evt_updated_" + c.ID[4:]), Type: grahak.EventCustomerUpdated, Subject: string(c.ID), Revision: 2,
				Changed: []grahak.Field{field}, Actor: "key_0", RequestID: "req-" + string(c.ID), At: c.UpdatedAt,
			}
			done, err := s.UpdateCustomer(t.Context(), acme, c, e, nil)
			if err != nil || !done {
				t.Fatalf("update customer %d: %t, %v", n, done, err)
			}
		}
		switch n % 10 {
		case 3:
			change(true, grahak.FieldMobileNumber)
		case 4:
			change(false, grahak.FieldFirstName)
		case 6:
			MustErase(t, s, c)
		}
	}
}

func tokenOf(n int) grahak.TokenHash { return grahak.HashToken(fmt.Sprint("token of ", n)) }

func newNumber(n int) grahak.ShortIndex { return grahak.ShortIndex{0xff, 0, byte(n)} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// MustOrderAll puts the merchant's events into its chain, limit at a time.
func MustOrderAll(t testing.TB, s grahak.Store, m grahak.MerchantID, limit int) {
	t.Helper()
	for {
		head, err := s.ChainHead(t.Context(), m)
		must(t, err)
		events, err := s.Pending(t.Context(), m, head.Position, limit)
		must(t, err)
		if len(events) == 0 {
			for more := true; more; {
				more, err = s.Tidy(t.Context(), m)
				must(t, err)
			}
			return
		}
		segment := grahak.ChainSegment{First: head.Position + 1, Customers: head.Customers, Proof: grahak.Index{1, 0, byte(head.Position)}}
		for _, e := range events {
			head.Link = e.Link(m, head.Link)
			segment.Links = append(segment.Links, head.Link)
			switch e.Type {
			case grahak.EventCustomerCreated:
				segment.Customers++
			case grahak.EventCustomerErased:
				segment.Customers--
			}
		}
		_, err = s.Order(t.Context(), m, segment, events)
		must(t, err)
	}
}

// MustPrune prunes the merchant's events up to the end of a segment of its chain.
func MustPrune(t testing.TB, s *sqlstore.SQLite, m grahak.MerchantID, segment int) {
	t.Helper()
	segments, err := s.Chain(t.Context(), m, 0, segment)
	must(t, err)
	c := grahak.Checkpoint{ChainHead: segments[len(segments)-1].Head(), Proof: grahak.Index{2, 0, 0xff}}
	if n, err := s.PruneEvents(t.Context(), m, c); err != nil || n == 0 {
		t.Fatalf("%d events of %s were pruned: %v", n, m, err)
	}
}

// contents is all that a store tells of itself.
type contents struct {
	Environment grahak.Environment
	MasterKey   string
	Access      int64
	Seals       []grahak.SealState
	Merchants   []merchantContents
}

type merchantContents struct {
	Merchant  grahak.Merchant
	Keys      []grahak.APIKey
	IPList    []grahak.IPEntry
	Customers []grahak.CustomerRecord
	Total     int64
	Counted   [2]int64
	Tokens    []grahak.TokenRecord
	Events    []grahak.Event // in the chain
	Pending   []grahak.EventID
	Chain     []grahak.ChainSegment
	Pruned    grahak.Checkpoint
	Import    grahak.ImportState
	Webhooks  []grahak.Webhook
	Attempts  []grahak.WebhookAttempt
	Waiting   map[grahak.CustomerID]time.Time
	// Found are the customers that each value leads to.
	Found map[grahak.CustomerIndex][]grahak.CustomerID
}

// MustReadAll reads a whole store.
func MustReadAll(t testing.TB, s sqlstore.Store) (all contents) {
	t.Helper()
	ctx := t.Context()
	var err error
	all.Environment = s.Environment()
	all.MasterKey, err = s.MasterKeyID(ctx, "")
	must(t, err)
	all.Access, err = s.AccessVersion(ctx)
	must(t, err)
	all.Seals, err = s.SealStates(ctx)
	must(t, err)
	merchants, err := s.Merchants(ctx)
	must(t, err)
	for _, m := range merchants {
		all.Merchants = append(all.Merchants, mustReadMerchant(t, s, m))
	}
	return all
}

func mustReadMerchant(t testing.TB, s sqlstore.Store, m grahak.Merchant) merchantContents {
	t.Helper()
	ctx := t.Context()
	const every = 1 << 20
	all := merchantContents{Merchant: m, Found: make(map[grahak.CustomerIndex][]grahak.CustomerID)}
	var err error
	all.Keys, err = s.Keys(ctx, m.ID)
	must(t, err)
	all.IPList, err = s.IPList(ctx, m.ID)
	must(t, err)
	all.Customers, all.Total, err = s.Customers(ctx, m.ID, grahak.CustomerRange{}, every, 0)
	must(t, err)
	all.Counted[0], all.Counted[1], err = s.CountCustomers(ctx, m.ID)
	must(t, err)
	head, err := s.ChainHead(ctx, m.ID)
	must(t, err)
	all.Pruned, err = s.ChainCheckpoint(ctx, m.ID)
	must(t, err)
	all.Events, err = s.Events(ctx, m.ID, 0, int(head.Position-all.Pruned.Position))
	must(t, err)
	pending, err := s.Pending(ctx, m.ID, head.Position, every)
	must(t, err)
	for _, e := range pending {
		all.Pending = append(all.Pending, e.ID)
	}
	slices.Sort(all.Pending)
	all.Chain, err = s.Chain(ctx, m.ID, 0, every)
	must(t, err)
	all.Import, err = s.Import(ctx, m.ID, copyImport)
	must(t, err)
	all.Webhooks, err = s.Webhooks(ctx, m.ID)
	must(t, err)
	for _, w := range all.Webhooks {
		all.Attempts, err = s.WebhookLog(ctx, m.ID, w.ID, false, every)
		must(t, err)
		all.Waiting, err = s.WebhookWaiting(ctx, m.ID, w.ID)
		must(t, err)
	}
	find := func(by grahak.CustomerIndex) {
		list, _, err := s.FindCustomers(ctx, m.ID, by, grahak.CustomerRange{}, 10)
		must(t, err)
		all.Found[by] = []grahak.CustomerID{}
		for _, c := range list {
			all.Found[by] = append(all.Found[by], c.ID)
		}
	}
	// What customers had once must lead nowhere.
	for n := range copyRows {
		c := record(n, 0)
		find(grahak.CustomerIndex{Email: c.Email})
		find(grahak.CustomerIndex{Mobile: c.Mobile})
		find(grahak.CustomerIndex{Mobile: newNumber(n)})
		find(grahak.CustomerIndex{Reference: c.Reference})
		if token, err := s.Token(ctx, tokenOf(n), record(0, 0).CreatedAt); err == nil && token.Merchant == m.ID {
			all.Tokens = append(all.Tokens, token)
		} else if err != nil && grahak.CodeOf(err) != grahak.CodeTokenNotFound {
			t.Fatal(err)
		}
	}
	return all
}

// wantContents fails the test unless the store has that in it.
func wantContents(t testing.TB, want contents, s sqlstore.Store) {
	t.Helper()
	if diff := cmp.Diff(want, MustReadAll(t, s), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("the store (-want +got):\n%s", diff)
	}
}
