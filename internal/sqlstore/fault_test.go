package sqlstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
)

// MustLimitPages lets the database grow by so many pages and no further, which
// SQLite reports as a full disk.
func MustLimitPages(t testing.TB, s *sqlstore.SQLite, more int) {
	t.Helper()
	err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
		pages, err := tx.QueryInt(`PRAGMA page_count`)
		if err != nil {
			return err
		}
		_, err = tx.QueryInt(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+more))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	MustCreate(t, s, 0, 10)
	MustLimitPages(t, s, 6)

	written := count(0, 10)
	n, full := 10, error(nil)
	for ; n < 10_000 && full == nil; n++ {
		if full = create(t.Context(), s, n); full == nil {
			written = append(written, n)
		}
	}
	wantCode(t, "a write on a full disk", full, grahak.CodeUnavailable)
	var e *grahak.Error
	if !errors.As(full, &e) || e.RetryIn <= 0 {
		t.Errorf("the error %v does not say when to try again", full)
	}

	// All writes of a batch that does not fit fail, whichever met the limit.
	release := MustBlock(t, s)
	var outcomes []<-chan error
	for i := range 20 {
		outcomes = append(outcomes, MustQueue(t, s, func() error { return create(t.Context(), s, n+i) }))
	}
	release()
	for _, outcome := range outcomes {
		wantCode(t, "a write of a batch on a full disk", <-outcome, grahak.CodeUnavailable)
	}
	wantWritten(t, s, written...)

	// Writes work again as soon as there is space, without a restart.
	MustLimitPages(t, s, 1000)
	MustCreate(t, s, n, n+20)
	written = append(written, count(n, n+20)...)
	wantWritten(t, s, written...)
	wantSound(t, s)
	MustClose(t, s)
	wantWritten(t, MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path}), written...)
}

// TestUndoneWriteIsNotFound undoes a create when all of it but its event has been
// written, and then puts others in order: nothing of it comes back.
func TestUndoneWriteIsNotFound(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	MustCreate(t, s, 0, 3)
	MustOrderAll(t, s, acme, 100)
	MustLimitPages(t, s, 0)
	undone := record(3, 100)
	e := created(undone)
	e.Actor = strings.Repeat("a", 100_000)
	wantCode(t, "a create on a full disk", s.CreateCustomer(t.Context(), acme, undone, e, nil), grahak.CodeUnavailable)
	MustLimitPages(t, s, 1000)
	MustCreate(t, s, 4, 6)
	MustOrderAll(t, s, acme, 100)
	for n, want := range []int{1, 1, 1, 0, 1, 1} {
		list, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: record(n, 100).Mobile}, grahak.CustomerRange{}, 2)
		if err != nil || len(list) != want {
			t.Errorf("customer %d: %d found (%v), want %d", n, len(list), err, want)
		}
	}
}

func wantSound(t testing.TB, s *sqlstore.SQLite) {
	t.Helper()
	found, err := s.Check(t.Context())
	if err != nil || len(found) > 0 {
		t.Errorf("the check found %q (%v)", found, err)
	}
}

// TestLockHeldTooLong lets another process write for longer than a write waits.
func TestLockHeldTooLong(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{LockWait: 50 * time.Millisecond})
	MustCreate(t, s, 0, 10)
	db := MustOpenRaw(t, s)
	MustExec(t, db, `BEGIN IMMEDIATE`)
	for n := 10; n < 13; n++ {
		err := create(t.Context(), s, n)
		wantCode(t, "a write beside a lock holder", err, grahak.CodeUnavailable)
		var e *grahak.Error
		if !errors.As(err, &e) || e.RetryIn <= 0 {
			t.Errorf("the error %v does not say when to try again", err)
		}
	}
	wantWritten(t, s, count(0, 10)...)
	MustExec(t, db, `ROLLBACK`)
	MustCreate(t, s, 20, 30)
	wantWritten(t, s, append(count(0, 10), count(20, 30)...)...)
}

// TestLockHeldForAWhile lets another process write for less than a write waits.
func TestLockHeldForAWhile(t *testing.T) {
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{LockWait: time.Minute})
	db := MustOpenRaw(t, s)
	MustExec(t, db, `BEGIN IMMEDIATE`)
	outcome := make(chan error, 1)
	go func() { outcome <- create(t.Context(), s, 0) }()
	// Reads do not wait meanwhile, and what is not committed is not seen.
	for range 100 {
		wantWritten(t, s)
	}
	select {
	case err := <-outcome:
		t.Fatalf("the write did not wait for the lock: %v", err)
	default:
	}
	MustExec(t, db, `COMMIT`)
	if err := <-outcome; err != nil {
		t.Errorf("the write that waited for the lock: %v", err)
	}
	wantWritten(t, s, 0)
}

// TestDamagedPage overwrites the page that holds one customer.
func TestDamagedPage(t *testing.T) {
	path := MustMake(t, 500)
	data := MustRead(t, path)
	const victim, page = 250, 4096
	at := bytes.Index(data, fmt.Appendf(nil, "sealed %d.", victim))
	if at < page {
		t.Fatalf("the customer's bytes are at offset %d", at)
	}
	at -= at % page
	copy(data[at:at+page], bytes.Repeat([]byte{0xa5}, page))
	MustWrite(t, path, data)

	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	c := record(victim, 100)
	_, err := s.Customer(t.Context(), acme, c.ID, grahak.Index{})
	wantCode(t, "read by id", err, grahak.CodeUnavailable)
	_, err = s.Customer(t.Context(), acme, "", c.Reference)
	wantCode(t, "read by reference", err, grahak.CodeUnavailable)
	_, _, err = s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1000, 0)
	wantCode(t, "list", err, grahak.CodeUnavailable)
	c.Revision++
	_, err = s.UpdateCustomer(t.Context(), acme, c, grahak.Event{ID: "evt_update", Type: grahak.EventCustomerUpdated, Subject: string(c.ID), Revision: 2, At: c.UpdatedAt}, nil)
	wantCode(t, "update", err, grahak.CodeUnavailable)
	found, err := s.Check(t.Context())
	if err != nil || len(found) == 0 {
		t.Errorf("the check found %q (%v), want the damage", found, err)
	}
	for _, line := range found {
		if line == "" || strings.Contains(line, "\n") {
			t.Errorf("the check found %q, want one line", line)
		}
	}
	// What is on other pages can still be read.
	first := record(0, 100)
	if _, err := s.Customer(t.Context(), acme, first.ID, grahak.Index{}); err != nil {
		t.Errorf("a customer on a sound page: %v", err)
	}
	MustClose(t, s)
	if !bytes.Equal(MustRead(t, path), data) {
		t.Error("the damaged file was changed")
	}
}

// TestCheckpoint writes while reads go on without a pause, until several times
// more was written than the write-ahead log holds: it started again from its
// beginning, and more than once.
func TestCheckpoint(t *testing.T) {
	const lockWait, padding, most = 7 * time.Second, 32 << 10, 1000
	path := filepath.Join(t.TempDir(), "grahak.db")
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path, LockWait: lockWait})
	s.Checkpoint(2*time.Millisecond, 32)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1, 0); err != nil {
					t.Errorf("a read beside checkpoints: %v", err)
					return
				}
			}
		})
	}
	written := 0
	for log := int64(256 << 10); written < most && int64(written*padding) < 5*log; written++ {
		c := record(written, padding)
		if err := s.CreateCustomer(t.Context(), acme, c, created(c), nil); err != nil {
			t.Errorf("a write beside checkpoints: %v", err)
			break
		}
		if _, size := s.Size(); size > log {
			log = size
		}
	}
	close(stop)
	reading.Wait()
	database, log := s.Size()
	t.Logf("%d KiB were written; the database has %d KiB and the log %d KiB", written*padding>>10, database>>10, log>>10)
	if written == most {
		t.Error("the log grew with everything that was written")
	}

	// A checkpoint waits less for others than a write does, but only itself.
	err := s.Write(t.Context(), func(tx sqlstore.Tx) error {
		wait, err := tx.QueryInt(`PRAGMA busy_timeout`)
		if int64(wait) != lockWait.Milliseconds() {
			t.Errorf("after checkpoints writes wait for %d ms, want %v", wait, lockWait)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	MustClose(t, s)
	again := MustOpenAcme(t, sqlstore.SQLiteConfig{Path: path})
	wantSound(t, again)
	list, total, err := again.Customers(t.Context(), acme, grahak.CustomerRange{}, 1<<20, 0)
	if err != nil || total != int64(written) || len(list) != written {
		t.Fatalf("there are %d customers (total %d, %v), want %d", len(list), total, err, written)
	}
	for i, c := range list {
		if want := record(written-1-i, padding); c.ID != want.ID || !bytes.Equal(c.Sealed.Bytes, want.Sealed.Bytes) {
			t.Fatalf("customer %s is not as it was written", want.ID)
		}
	}
}
