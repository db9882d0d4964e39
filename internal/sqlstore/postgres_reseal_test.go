package sqlstore_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/testkit/postgres"
)

// TestResealAgainstWrite holds that a write under the old version that commits after
// the walk has read its customer is not undone by the walk: the write was
// acknowledged, and what the walk has sealed is the customer as it was before.
func TestResealAgainstWrite(t *testing.T) {
	databases := MustDatabases(t)
	url := databases.MustTake(t)
	s := MustOpenPostgres(t, url)
	ctx := t.Context()
	_, err := s.MasterKeyID(ctx, "mk_test")
	must(t, err)
	c := record(1, 0)
	keys := grahak.Keyset{Merchant: acme, Revision: 1, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}}
	must(t, s.CreateMerchant(ctx, grahak.Merchant{ID: acme, IPMode: grahak.IPModeOff, CreatedAt: c.CreatedAt}, keys,
		grahak.Event{ID: "evt_made", Type: grahak.EventMerchantCreated, At: c.CreatedAt}))
	must(t, s.CreateCustomer(ctx, acme, c, created(c), nil))

	updated := c
	updated.Revision, updated.Email, updated.Sealed.Bytes = 2, newNumber(1), []byte("as the update has it")
	event := created(c)
	event.ID, event.Type, event.Revision = "evt_updated", grahak.EventCustomerUpdated, 2

	// Somebody holds the customer, so that the update, which has looked at the version
	// already, waits, and behind it the walk.
	release := mustHold(t, databases.cluster, url, "SELECT 1 FROM customers FOR UPDATE")
	var calls sync.WaitGroup
	calls.Go(func() {
		if done, err := s.UpdateCustomer(ctx, acme, updated, event, nil); err != nil || !done {
			t.Errorf("the update under the version that was the newest when it began: %v, %v", done, err)
		}
	})
	mustWaiters(t, databases.cluster, url, 1)
	keys.Version, keys.Sealing = 2, []byte{2}
	must(t, s.RotateKeyset(ctx, keys, c.CreatedAt, grahak.Event{ID: "evt_rotated", Type: grahak.EventSealRotated, At: c.CreatedAt}))
	state, err := s.SealState(ctx, acme)
	must(t, err)
	anew := c
	anew.Sealed = grahak.Sealed{Bytes: []byte("as the walk has read it"), Version: 2}
	before := state.After
	state.After, state.Seen, state.Walking = c.ID, 1, false
	calls.Go(func() {
		if err := s.Reseal(ctx, state, before, []grahak.CustomerRecord{anew}); err != nil {
			t.Errorf("the step of the walk: %v", err)
		}
	})
	mustWaiters(t, databases.cluster, url, 2)
	release()
	calls.Wait()

	got, err := s.Customer(ctx, acme, c.ID, grahak.Index{})
	must(t, err)
	if diff := cmp.Diff(updated, got); diff != "" {
		t.Errorf("the customer after the walk (-want +got):\n%s", diff)
	}
	keys.Revision = state.Revision
	if err := s.RetireKeyset(ctx, keys, grahak.Event{ID: "evt_retired", Type: grahak.EventSealRetired, At: c.CreatedAt}); grahak.CodeOf(err) != grahak.CodeKeyRotated {
		t.Errorf("the end of the rotation, with a customer under the old version: %v", err)
	}
	again, err := s.SealState(ctx, acme)
	must(t, err)
	if !again.Walking || again.After != "" {
		t.Errorf("the walk does not begin again: %+v", again)
	}
}

// mustHold takes locks by a query, and holds them until release is called.
func mustHold(t testing.TB, cluster *postgres.Cluster, url, query string) (release func()) {
	t.Helper()
	held := make(chan struct{})
	go func() {
		defer close(held)
		_, _ = cluster.Query(url, "SET application_name = 'holder'; BEGIN; "+query+"; SELECT pg_sleep(600)")
	}()
	await(t, "the locks are held", func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND wait_event = 'PgSleep'`)[0] == "1"
	})
	return sync.OnceFunc(func() {
		cluster.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'`)
		<-held
	})
}

// mustWaiters waits until so many of the store's connections wait for a lock.
func mustWaiters(t testing.TB, cluster *postgres.Cluster, url string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d wait for a lock", n), func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'grahak' AND wait_event_type = 'Lock'`)[0] == strconv.Itoa(n)
	})
}
