package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/sqlstore"
)

// commits is an Observer that remembers the size of each batch.
type commits struct {
	mu    sync.Mutex
	sizes []int
}

func (c *commits) Committed(writes int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, writes)
}

func (c *commits) all() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int(nil), c.sizes...)
}

// MustBlock keeps the writer inside a transaction until the function that it
// returns is called, so that the writes that come meanwhile share a batch.
func MustBlock(t testing.TB, s *sqlstore.SQLite) (release func()) {
	t.Helper()
	started, gate, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- s.Write(context.WithoutCancel(t.Context()), func(sqlstore.Tx) error {
			once.Do(func() { close(started) })
			<-gate
			return nil
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("the blocking write ended: %v", err)
	}
	release = sync.OnceFunc(func() {
		close(gate)
		if err := <-ended; err != nil {
			t.Errorf("the blocking write: %v", err)
		}
	})
	t.Cleanup(release)
	return release
}

// MustQueue starts a write behind a blocked writer and returns, when it waits
// in the queue, a channel with its later outcome.
func MustQueue(t testing.TB, s *sqlstore.SQLite, write func() error) <-chan error {
	t.Helper()
	before := s.QueueLen()
	outcome := make(chan error, 1)
	go func() { outcome <- write() }()
	await(t, "the write to wait in the queue", func() bool { return s.QueueLen() == before+1 })
	return outcome
}

// TestCommitsReachTheDisk looks at the settings that make SQLite wait for the
// disk: nothing that a test can do to a process shows whether they are right.
func TestCommitsReachTheDisk(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
		for pragma, want := range map[string]int{
			"PRAGMA synchronous":        2, // FULL
			"PRAGMA wal_autocheckpoint": 0, // the store does it
		} {
			if got, err := tx.QueryInt(pragma); err != nil || got != want {
				t.Errorf("%s is %d (%v), want %d", pragma, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWritesThatWaitShareACommit(t *testing.T) {
	var seen commits
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Observer: &seen})
	const n = sqlstore.MaxBatch + 44
	release := MustBlock(t, s)
	var writes sync.WaitGroup
	for i := range n {
		writes.Go(func() {
			if err := create(t.Context(), s, i); err != nil {
				t.Errorf("create customer %d: %v", i, err)
			}
		})
	}
	await(t, "all writes to wait", func() bool { return s.QueueLen() == n })
	release()
	writes.Wait()
	if diff := cmp.Diff([]int{1, sqlstore.MaxBatch, 44}, seen.all()); diff != "" {
		t.Errorf("writes per commit (-want +got):\n%s", diff)
	}
	wantWritten(t, s, count(0, n)...)
}

// TestWriterWaitsForNoMore runs on a clock that moves only while everything
// waits: if the writer gave others time to join a lone write, it would move.
func TestWriterWaitsForNoMore(t *testing.T) {
	path := MustMake(t, 0)
	synctest.Test(t, func(t *testing.T) {
		var seen commits
		s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, Observer: &seen})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		start := time.Now()
		MustCreate(t, s, 0, 10)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("ten writes, one after the other, waited %v in total, want 0", waited)
		}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, seen.all()); diff != "" {
			t.Errorf("writes per commit (-want +got):\n%s", diff)
		}
	})
}

// TestWaitForTheWriterIsBounded blocks the writer for an hour of a clock that
// moves only while everything waits.
func TestWaitForTheWriterIsBounded(t *testing.T) {
	path := MustMake(t, 0)
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		started := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- s.Write(t.Context(), func(sqlstore.Tx) error {
				close(started)
				time.Sleep(time.Hour)
				return nil
			})
		}()
		<-started
		start := time.Now()
		wantCode(t, "a write behind a blocked writer", create(t.Context(), s, 1), grahak.CodeUnavailable)
		wantCode(t, "the blocked write", <-ended, grahak.CodeUnavailable)
		if waited := time.Since(start); waited > 30*time.Second {
			t.Errorf("the write was given up after %v", waited)
		}
		// Reads never wait for the writer.
		start = time.Now()
		wantWritten(t, s)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("reads waited %v for the writer", waited)
		}
		// A write that was given up while it waited does not happen later.
		time.Sleep(2 * time.Hour)
		MustCreate(t, s, 2, 3)
		wantWritten(t, s, 2)
	})
}

// TestCallersOutwaitTheLock has a write take as long as the lock may, and some
// seconds more, of a clock that moves only while everything waits: a caller who
// gave up before would take a change that happens for one that failed. The
// write sleeps in place of the lock, whose waits are on the real clock.
func TestCallersOutwaitTheLock(t *testing.T) {
	for _, lockWait := range []time.Duration{0, 5 * time.Second, 30 * time.Second, 10 * time.Minute} {
		for _, beside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, beside a server %t", lockWait, beside), func(t *testing.T) {
				path := MustMake(t, 0)
				synctest.Test(t, func(t *testing.T) {
					s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path, LockWait: lockWait, Beside: beside})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					long := max(lockWait, 5*time.Second) + 4*time.Second // 5 seconds are the default
					err = s.Write(t.Context(), func(tx sqlstore.Tx) error {
						time.Sleep(long)
						_, err := tx.Exec(`UPDATE instance SET access_version = 4711`)
						return err
					})
					wantCode(t, "the write that took long", err, "")
					if version, err := s.AccessVersion(t.Context()); err != nil || version != 4711 {
						t.Errorf("the access version is %d (%v), want what the write made it", version, err)
					}
				})
			})
		}
	}
}

func TestContextThatEndsBeforeTheWriteBegins(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	release := MustBlock(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := MustQueue(t, s, func() error {
		c := record(1, 100)
		token := grahak.TokenRecord{Merchant: acme, Customer: c.ID, Hash: grahak.HashToken("tkn"), ExpiresAt: c.CreatedAt}
		return s.CreateCustomer(ctx, acme, c, created(c), &grahak.Besides{Token: &token})
	})
	beside := MustQueue(t, s, func() error { return create(t.Context(), s, 2) })
	cancel()
	// The writer is still blocked, so this is the answer of a write that waits.
	wantCode(t, "the cancelled write", <-cancelled, grahak.CodeUnavailable)
	release()
	if err := <-beside; err != nil {
		t.Errorf("the write beside it: %v", err)
	}
	wantWritten(t, s, 2)
	_, err := s.Token(t.Context(), grahak.HashToken("tkn"), record(0, 0).CreatedAt)
	wantCode(t, "its token", err, grahak.CodeTokenNotFound)
}

// TestContextThatEndsAfterTheWriteBegan ends the context of a write while its
// batch runs.
func TestContextThatEndsAfterTheWriteBegan(t *testing.T) {
	var seen commits
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Observer: &seen})
	release := MustBlock(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := []<-chan error{
		MustQueue(t, s, func() error { return create(t.Context(), s, 1) }),
		MustQueue(t, s, func() error {
			return s.Write(t.Context(), func(sqlstore.Tx) error {
				cancel()
				return nil
			})
		}),
		MustQueue(t, s, func() error { return create(ctx, s, 2) }),
		MustQueue(t, s, func() error {
			return s.Write(ctx, func(tx sqlstore.Tx) error {
				_, err := tx.Exec(`UPDATE instance SET access_version = access_version + 1`)
				return err
			})
		}),
		MustQueue(t, s, func() error { return create(t.Context(), s, 3) }),
	}
	release()
	for i, outcome := range outcomes {
		if err := <-outcome; err != nil {
			t.Errorf("write %d of the batch: %v", i, err)
		}
	}
	if diff := cmp.Diff([]int{1, len(outcomes)}, seen.all()); diff != "" {
		t.Errorf("writes per commit (-want +got):\n%s", diff)
	}
	wantWritten(t, s, 1, 2, 3)
}

// TestFaultInOneWrite puts a write that goes wrong between good ones. Only it
// may fail, and the good ones must be written exactly once.
func TestFaultInOneWrite(t *testing.T) {
	duplicate := record(1, 100)
	duplicate.ID = "cst_duplicate"
	insert := func(tx sqlstore.Tx, verb, id string) error {
		_, err := tx.Exec(verb+` INTO customers (merchant_id, id, reference_index, sealed, revision, created_at, updated_at) VALUES ($1, $2, $3, $4, 1, 0, 0)`,
			string(acme), id, duplicate.Reference[:], []byte("half"))
		return err
	}
	half := func(tx sqlstore.Tx) error {
		_, err := tx.Exec(`INSERT INTO events (merchant_id, id, type, subject, revision, changed, actor, request_id, at) VALUES ($1, 'evt_half', '', '', 0, NULL, '', '', 0)`, string(acme))
		return err
	}
	for _, c := range []struct {
		name string
		run  func(sqlstore.Tx) error
	}{
		{"a statement fails", func(tx sqlstore.Tx) error {
			return errors.Join(half(tx), insert(tx, "INSERT", "cst_half"))
		}},
		{"the engine undoes the transaction", func(tx sqlstore.Tx) error {
			return errors.Join(half(tx), insert(tx, "INSERT OR ROLLBACK", "cst_half"))
		}},
		{"a statement does not parse", func(tx sqlstore.Tx) error {
			_, err := tx.Exec(`INSERT INTO nowhere VALUES (1)`)
			return errors.Join(half(tx), err)
		}},
		{"an error that is not the engine's", func(tx sqlstore.Tx) error {
			return errors.Join(half(tx), errors.New("a fault of ours"))
		}},
		{"a panic", func(tx sqlstore.Tx) error {
			if err := half(tx); err != nil {
				return err
			}
			panic("a fault of ours")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
			MustCreate(t, s, 1, 2)
			release := MustBlock(t, s)
			before := MustQueue(t, s, func() error { return create(t.Context(), s, 2) })
			refused := MustQueue(t, s, func() error {
				return s.CreateCustomer(t.Context(), acme, duplicate, created(duplicate), nil)
			})
			faulty := MustQueue(t, s, func() error { return s.Write(t.Context(), c.run) })
			after := MustQueue(t, s, func() error { return create(t.Context(), s, 3) })
			release()
			wantCode(t, "the faulty write", <-faulty, grahak.CodeInternal)
			wantCode(t, "the duplicate", <-refused, grahak.CodeDuplicateReference)
			wantCode(t, "the write before", <-before, "")
			wantCode(t, "the write after", <-after, "")
			wantWritten(t, s, 1, 2, 3)
			MustCreate(t, s, 4, 5)
			wantWritten(t, s, 1, 2, 3, 4)
		})
	}
}

// TestRotationWithinABatch rotates a merchant's key between writes that share a
// transaction: those after it need the new version, and those before it the old.
func TestRotationWithinABatch(t *testing.T) {
	var seen commits
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Observer: &seen})
	k, err := s.Keyset(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	k.Version, k.Sealing = 2, []byte{2}
	under := func(n int, version int64) func() error {
		return func() error {
			c := record(n, 100)
			c.Sealed.Version = version
			return s.CreateCustomer(t.Context(), acme, c, created(c), nil)
		}
	}
	rotate := func() error {
		return s.RotateKeyset(t.Context(), k, record(0, 0).CreatedAt, grahak.Event{ID: "evt_rotated", Type: grahak.EventSealRotated})
	}
	release := MustBlock(t, s)
	batch := []struct {
		name    string
		write   func() error
		want    grahak.Code
		outcome <-chan error
	}{
		{"under the old version", under(1, 1), "", nil},
		{"under the new version, too early", under(2, 2), grahak.CodeKeyRotated, nil},
		{"the rotation", rotate, "", nil},
		{"under the old version, too late", under(3, 1), grahak.CodeKeyRotated, nil},
		{"the rotation again", rotate, grahak.CodeKeyRotated, nil},
		{"under the new version", under(4, 2), "", nil},
	}
	for i := range batch {
		batch[i].outcome = MustQueue(t, s, batch[i].write)
	}
	release()
	for _, write := range batch {
		wantCode(t, write.name, <-write.outcome, write.want)
	}
	if diff := cmp.Diff([]int{1, len(batch)}, seen.all()); diff != "" {
		t.Errorf("writes per commit (-want +got):\n%s", diff)
	}
	list, total, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 10, 0)
	if err != nil || total != 2 || len(list) != 2 || list[0].ID != record(4, 0).ID || list[1].ID != record(1, 0).ID {
		t.Errorf("there are the customers %v, and a total of %d (%v)", list, total, err)
	}
}

// TestOrderWithinABatch puts events in order in a transaction with writes of later
// ones: the merchant still has something to do.
func TestOrderWithinABatch(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	MustCreate(t, s, 0, 3)
	release := MustBlock(t, s)
	events, err := s.Events(t.Context(), acme, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	segment := grahak.ChainSegment{First: 1, Customers: 3}
	for range events {
		segment.Links = append(segment.Links, grahak.Link{1})
	}
	outcomes := []<-chan error{
		MustQueue(t, s, func() error {
			_, err := s.Order(t.Context(), acme, segment, events)
			return err
		}),
		MustQueue(t, s, func() error { return create(t.Context(), s, 3) }),
	}
	release()
	for _, outcome := range outcomes {
		wantCode(t, "a write of the batch", <-outcome, "")
	}
	wantUnordered(t, s, acme)
	wantWritten(t, s, 0, 1, 2, 3)
	MustOrder(t, s, acme, 5, 5)
	MustTidy(t, s, acme)
	wantUnordered(t, s)
	wantWritten(t, s, 0, 1, 2, 3)
}

func TestFullQueue(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	release := MustBlock(t, s)
	var waiting sync.WaitGroup
	for i := range s.QueueCap() {
		waiting.Go(func() {
			if err := create(t.Context(), s, i); err != nil {
				t.Errorf("a write that had a place in the queue: %v", err)
			}
		})
	}
	await(t, "the queue to be full", func() bool { return s.QueueLen() == s.QueueCap() })

	outcome := make(chan error, 1)
	go func() { outcome <- create(t.Context(), s, s.QueueCap()) }()
	var err error
	select {
	case err = <-outcome:
	case <-time.After(5 * time.Second):
		// A write that waits is given up after ten seconds.
		t.Fatal("a write at a full queue waits, want an answer at once")
	}
	wantCode(t, "a write at a full queue", err, grahak.CodeUnavailable)
	var refused *grahak.Error
	if !errors.As(err, &refused) || refused.RetryIn <= 0 {
		t.Errorf("the error %v does not say when to try again", err)
	}
	if _, err := s.AccessVersion(t.Context()); err != nil {
		t.Errorf("a read at a full queue: %v", err)
	}
	release()
	waiting.Wait()
	wantWritten(t, s, count(0, s.QueueCap())...)
	MustCreate(t, s, s.QueueCap(), s.QueueCap()+1)
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	release := MustBlock(t, s)
	const n = 20
	outcomes := make([]<-chan error, n)
	for i := range outcomes {
		outcomes[i] = MustQueue(t, s, func() error { return create(t.Context(), s, i) })
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-s.Closing()
	wantCode(t, "a write while the store closes", create(t.Context(), s, n), grahak.CodeUnavailable)
	select {
	case err := <-closed:
		t.Fatalf("Close returned (%v) before the writes that wait were finished", err)
	default:
	}
	release()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	for i, outcome := range outcomes {
		if err := <-outcome; err != nil {
			t.Errorf("write %d, which waited: %v", i, err)
		}
	}

	for name, call := range map[string]func() error{
		"CreateCustomer": func() error { return create(t.Context(), s, n) },
		"Ping":           func() error { return s.Ping(t.Context()) },
		"Customer": func() error {
			_, err := s.Customer(t.Context(), acme, record(0, 0).ID, grahak.Index{})
			return err
		},
		"Customers": func() error {
			_, _, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1, 0)
			return err
		},
		"PruneTokens": func() error {
			_, err := s.PruneTokens(t.Context(), record(0, 0).CreatedAt, 1)
			return err
		},
		"Check": func() error {
			_, err := s.Check(t.Context())
			return err
		},
	} {
		wantCode(t, name+" after Close", call(), grahak.CodeUnavailable)
	}
	MustClose(t, s)
	// A store that was closed leaves one file.
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("after Close there are %v (%v), want the database alone", left, err)
	}
	wantWritten(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), count(0, n)...)
}

// TestCloseAmongWrites closes a store that is being written: what was
// acknowledged is there afterwards, and the rest was refused as an outage.
func TestCloseAmongWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	const writers, most = 8, 100_000
	var mu sync.Mutex
	var acknowledged []int
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := w; n < most; n += writers {
				if err := create(t.Context(), s, n); err != nil {
					wantCode(t, "a write among which the store closed", err, grahak.CodeUnavailable)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, n)
				mu.Unlock()
			}
			t.Error("the store was not closed")
		})
	}
	await(t, "some writes", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged) > 200
	})
	MustClose(t, s)
	writing.Wait()
	wantWritten(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), acknowledged...)
}

// TestTwoStoresOnOneFile is a command beside a server: both write, and each
// sees what the other wrote.
func TestTwoStoresOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	stores := []*sqlstore.SQLite{MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})}
	const each = 100
	var writing sync.WaitGroup
	for i, s := range stores {
		writing.Go(func() { MustCreateConcurrently(t, s, i*each, (i+1)*each) })
	}
	writing.Wait()
	for _, s := range stores {
		wantWritten(t, s, count(0, 2*each)...)
	}
	// A key that one rotates is old to the other's next write, and events of both
	// follow each other without a gap.
	k, err := stores[1].Keyset(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	k.Version = 2
	if err := stores[1].RotateKeyset(t.Context(), k, record(0, 0).CreatedAt, grahak.Event{ID: "evt_rotated", Type: grahak.EventSealRotated}); err != nil {
		t.Fatal(err)
	}
	late := record(2*each, 100)
	for version, want := range map[int64]grahak.Code{1: grahak.CodeKeyRotated, 2: ""} {
		late.Sealed.Version = version
		wantCode(t, fmt.Sprintf("a write under version %d", version), stores[0].CreateCustomer(t.Context(), acme, late, created(late), nil), want)
	}
	MustOrder(t, stores[1], acme, 1, 2*each+3)
	for _, s := range stores {
		wantUnordered(t, s)
	}
	before, err := stores[1].AccessVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := createMerchant(t.Context(), stores[0], "another"); err != nil {
		t.Fatal(err)
	}
	after, err := stores[1].AccessVersion(t.Context())
	if err != nil || after == before {
		t.Errorf("the access version of one store is %d, and %d (%v) after a change through the other", before, after, err)
	}
}

// MustCreateConcurrently writes customers from eight callers.
func MustCreateConcurrently(t testing.TB, s *sqlstore.SQLite, first, last int) {
	t.Helper()
	MustConcurrently(t, last-first, func(n int) error { return create(t.Context(), s, first+n) })
}

// MustConcurrently has eight callers call fn with the numbers from 0 to n-1.
func MustConcurrently(t testing.TB, n int, fn func(n int) error) {
	t.Helper()
	var calls sync.WaitGroup
	for w := range 8 {
		calls.Go(func() {
			for i := w; i < n; i += 8 {
				if err := fn(i); err != nil {
					t.Error(fmt.Errorf("call %d: %w", i, err))
				}
			}
		})
	}
	calls.Wait()
}
