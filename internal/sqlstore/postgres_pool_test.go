package sqlstore_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// TestEndedConnection holds that a write whose connection the server has ended is an
// outage, whatever the server gives as its reason.
func TestEndedConnection(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url+"?idle_in_transaction_session_timeout=10")
	err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
		pid, err := tx.QueryInt("SELECT pg_backend_pid()")
		if err != nil {
			return err
		}
		await(t, "the server ends the idle transaction", func() bool {
			return cluster.QueryText(t, url, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+strconv.Itoa(pid))[0] == "0"
		})
		_, err = tx.Exec("SELECT 1")
		return err
	})
	if grahak.CodeOf(err) != grahak.CodeUnavailable {
		t.Errorf("the write ends with %v", err)
	}
}

// TestCallerGoneBeforeConnection holds that who waits for a connection, and goes
// away, gets an answer then, and that nothing is done.
func TestCallerGoneBeforeConnection(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url+"?lock_timeout=60000&statement_timeout=60000")
	MustMerchants(t, s, acme)
	release := MustHold(t, cluster, url, "SELECT 1 FROM instance FOR UPDATE")
	change := func(ctx context.Context, at time.Time) error {
		return s.DisableMerchant(ctx, acme, at, grahak.Event{ID: grahak.EventID("evt_" + at.String()), Type: grahak.EventMerchantDisabled, At: at})
	}
	first := make(chan error, 1)
	at := record(0, 0).CreatedAt
	go func() { first <- change(t.Context(), at) }()
	MustWaiters(t, cluster, url, 1)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	second := make(chan error, 1)
	go func() { second <- change(ctx, at.Add(time.Hour)) }()
	select {
	case err := <-second:
		if grahak.CodeOf(err) != grahak.CodeUnavailable {
			t.Errorf("who has gone away is told %v", err)
		}
	case err := <-first:
		t.Errorf("who has gone away still waits when the first change ends (%v)", err)
		first <- err
	}
	release()
	must(t, <-first)
	if events, err := s.EventsOf(t.Context(), acme, ""); err != nil || len(events) != 2 {
		t.Errorf("the events are %v (%v)", events, err)
	}
}

// TestLongReads holds that reads that take minutes, however many, leave connections
// to those that are short.
func TestLongReads(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url+"?lock_timeout=60000")
	MustMerchants(t, s, acme)
	release := MustHold(t, cluster, url, "LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
	var counts sync.WaitGroup
	for range sqlstore.MinConnections {
		counts.Go(func() {
			if _, _, err := s.CountCustomers(t.Context(), acme); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "a count waits", func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'grahak' AND wait_event_type = 'Lock'`)[0] == "t"
	})
	if _, err := s.Merchants(t.Context()); err != nil {
		t.Errorf("a short read beside long ones: %v", err)
	}
	release()
	counts.Wait()
}

// TestTouchKeysTogether holds that processes that note when the same keys were used
// do not wait for each other in a circle, which the server would have to break.
func TestTouchKeysTogether(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	const processes, keys, rounds = 4, 60, 5
	stores := make([]*sqlstore.Postgres, processes)
	for i := range stores {
		stores[i] = MustOpenPostgres(t, url)
	}
	MustMerchants(t, stores[0], acme)
	cluster.Exec(t, url, fmt.Sprintf(`INSERT INTO api_keys (merchant_id, id, hash, prefix, label, scope, created_at)
		SELECT 'acme', convert_to('key_' || n, 'UTF8'), int8send(n), '', '', 'read', 0 FROM generate_series(1, %d) AS n`, keys))
	start := record(0, 0).CreatedAt
	var calls sync.WaitGroup
	for i, s := range stores {
		calls.Go(func() {
			for round := range rounds {
				used := make(map[grahak.KeyRef]grahak.KeyUse)
				for n := range keys {
					used[grahak.KeyRef{Merchant: acme, Key: grahak.KeyID(fmt.Sprintf("key_%d", n+1))}] = grahak.KeyUse{At: start.Add(time.Duration(round*processes+i) * time.Second)}
				}
				if err := s.TouchKeys(t.Context(), used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	list, err := stores[0].Keys(t.Context(), acme)
	must(t, err)
	last := start.Add((rounds*processes - 1) * time.Second)
	for _, k := range list {
		if !k.LastUsedAt.Equal(last) {
			t.Errorf("%s was used last at %v, want %v", k.ID, k.LastUsedAt, last)
		}
	}
	if found := cluster.QueryText(t, url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0]; found != "0" {
		t.Errorf("the server had to break %s circles", found)
	}
}
