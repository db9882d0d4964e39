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
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url)
	ctx := t.Context()
	MustMerchants(t, s, acme)
	c := record(1, 0)
	must(t, s.CreateCustomer(ctx, acme, c, created(c), nil))

	updated := c
	updated.Revision, updated.Email, updated.Sealed.Bytes = 2, newNumber(1), []byte("as the update has it")
	event := created(c)
	event.ID, event.Type, event.Revision = "evt_updated", grahak.EventCustomerUpdated, 2

	// Somebody holds the customer, so that the update, which has looked at the version
	// already, waits, and behind it the walk.
	release := MustHold(t, cluster, url, "SELECT 1 FROM customers FOR UPDATE")
	var calls sync.WaitGroup
	calls.Go(func() {
		if done, err := s.UpdateCustomer(ctx, acme, updated, event, nil); err != nil || !done {
			t.Errorf("the update under the version that was the newest when it began: %v, %v", done, err)
		}
	})
	MustWaiters(t, cluster, url, 1)
	keys, err := s.Keyset(ctx, acme)
	must(t, err)
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
	MustWaiters(t, cluster, url, 2)
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

// MustHold takes locks by a query, and holds them until release is called.
func MustHold(t testing.TB, cluster *postgres.Cluster, url, query string) (release func()) {
	t.Helper()
	const holder = "datname = current_database() AND application_name = 'holder'"
	released := make(chan struct{})
	go func() {
		defer close(released)
		// It ends with an error, because it is ended.
		_, _ = cluster.Query(url, "SET application_name = 'holder'; BEGIN; "+query+"; SELECT pg_sleep(600)")
	}()
	await(t, "the locks are held", func() bool {
		return cluster.QueryText(t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND "+holder)[0] == "1"
	})
	release = sync.OnceFunc(func() {
		cluster.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+holder)
		<-released
	})
	t.Cleanup(release)
	return release
}

// MustWaiters waits until so many of a store's connections wait for a lock.
func MustWaiters(t testing.TB, cluster *postgres.Cluster, url string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d wait for a lock", n), func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'grahak' AND wait_event_type = 'Lock'`)[0] == strconv.Itoa(n)
	})
}

// TestFenceOfLateStatement holds that a write which begins to look at the keys before
// a rotation, and gets to lock them only after the end of it has waited for all that
// had, is refused. PostgreSQL would let it have a lock of the old version's row.
func TestFenceOfLateStatement(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url)
	ctx := t.Context()
	MustMerchants(t, s, acme)
	at := record(1, 0).CreatedAt
	release := MustHold(t, cluster, url, "SELECT pg_advisory_xact_lock(7)")
	// It is the fence of a write, but for that it waits between its two steps.
	fenced := make(chan error)
	go func() {
		_, err := cluster.Query(url, `SELECT 1 / count(*) FROM (SELECT 1 FROM keysets
			WHERE version = 1 AND pg_advisory_xact_lock(7) IS NOT NULL FOR KEY SHARE) AS newest`)
		fenced <- err
	}()
	await(t, "the fence waits", func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`)[0] == "1"
	})
	keys, err := s.Keyset(ctx, acme)
	must(t, err)
	keys.Version, keys.Sealing = 2, []byte{2}
	must(t, s.RotateKeyset(ctx, keys, at, grahak.Event{ID: "evt_rotated", Type: grahak.EventSealRotated, At: at}))
	state, err := s.SealState(ctx, acme)
	must(t, err)
	before := state.After
	state.Walking = false
	must(t, s.Reseal(ctx, state, before, nil))
	keys.Revision = state.Revision
	must(t, s.RetireKeyset(ctx, keys, grahak.Event{ID: "evt_retired", Type: grahak.EventSealRetired, At: at}))
	release()
	if err := <-fenced; err == nil {
		t.Error("a write under the old version goes on after that was retired")
	}
}
