package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"grahak/internal/testkit/postgres"
)

// code returns the SQLSTATE of an error, or nothing.
func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// What was committed before a kill is there after the next start, on the same
// port, and connections from before are gone.
func TestKill(t *testing.T) {
	t.Parallel()
	c := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "17"}})
	db := c.Database(t)
	conn := MustConnect(t, db)
	MustRun(t, conn, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
	MustRun(t, conn, "BEGIN; INSERT INTO kept VALUES (2)")
	c.Kill(t)
	select {
	case <-c.Exited():
	default:
		t.Error("the server is killed but has not exited")
	}
	if _, err := pgconn.Connect(t.Context(), db); err == nil {
		t.Error("a killed server accepts connections")
	}
	c.Restart(t)
	if _, err := conn.Exec(t.Context(), "COMMIT").ReadAll(); err == nil {
		t.Error("a connection outlives the server")
	}
	c.Restart(t)
	want := []string{"1|17|on"}
	if diff := cmp.Diff(want, c.QueryText(t, db, "SELECT n, current_setting('max_connections'), current_setting('fsync') FROM kept")); diff != "" {
		t.Errorf("after a kill and a restart (-want +got):\n%s", diff)
	}
	if log := c.Log(t); strings.Count(log, "not properly shut down") != 1 {
		t.Errorf("the log does not tell of one recovery:\n%s", log)
	}
	c.Configure(t, map[string]string{"work_mem": "77kB"})
	if got := c.QueryText(t, db, "SHOW work_mem"); !cmp.Equal(got, []string{"77kB"}) {
		t.Errorf("work_mem is %q, want 77kB", got)
	}
}

// Nobody answers while the server is paused: neither who is connected nor who
// comes. Then both are answered.
func TestPause(t *testing.T) {
	t.Parallel()
	c := postgres.Start(t, postgres.Options{Password: "a password"})
	db := c.Database(t)
	conn := MustConnect(t, db)
	c.Pause(t)
	answered := make(chan error, 2)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT 1").ReadAll()
		answered <- err
	}()
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		conn, err := pgconn.Connect(ctx, db)
		if err == nil {
			err = conn.Close(ctx)
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	c.Resume(t)
	for range 2 {
		if err := MustReceive(t, answered); err != nil {
			t.Errorf("after the pause: %v", err)
		}
	}
	// It can be killed while it stands still.
	c.Pause(t)
	c.Kill(t)
	c.Restart(t)

	for password, want := range map[string]string{"a password": "", "another": "28P01"} {
		u, err := url.Parse(db)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(u.User.Username(), password)
		conn, err := pgconn.Connect(t.Context(), u.String())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if got := code(err); got != want {
			t.Errorf("with the password %q the code is %q (%v), want %q", password, got, err, want)
		}
	}
}

// A full disk refuses what needs space, and with space again it works, after a
// restart if the server needed it for its log.
func TestFillDisk(t *testing.T) {
	t.Parallel()
	c := postgres.Start(t, postgres.Options{Disk: 128})
	db := c.Database(t)
	conn := MustConnect(t, db)
	const (
		table = "CREATE TABLE big (line text)"
		rows  = "INSERT INTO big SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
	)
	MustRun(t, conn, table)
	c.FillDisk(t)
	_, err := conn.Exec(t.Context(), rows).ReadAll()
	if got := code(err); got != "53100" {
		t.Errorf("on a full disk the code is %q (%v), want 53100", got, err)
	}
	c.FreeDisk(t)
	MustRun(t, conn, rows)

	// Without space for its log it goes down.
	c.FillDisk(t)
	if _, err := conn.Exec(t.Context(), "SELECT pg_logical_emit_message(true, '', repeat('x', 20000000))").ReadAll(); err == nil {
		t.Error("a full disk took 20 MB of log")
	}
	MustReceive(t, c.Exited())
	c.FreeDisk(t)
	c.Restart(t)
	if got := c.QueryText(t, db, "SELECT count(*) FROM big"); !cmp.Equal(got, []string{"1000"}) {
		t.Errorf("after a restart there are %q rows, want 1000", got)
	}
}

// A standby has each acknowledged commit when its primary is killed, and takes
// writes after its promotion.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := postgres.Start(t, postgres.Options{})
	db := primary.Database(t)
	MustRun(t, MustConnect(t, db), "CREATE TABLE kept (n int)")
	standby := primary.Standby(t, postgres.Options{})
	both := postgres.URL(db, standby, primary)

	// The commit waits for the standby.
	writer := MustConnect(t, both)
	standby.Pause(t)
	committed := make(chan error, 1)
	go func() {
		_, err := writer.Exec(context.WithoutCancel(t.Context()), "INSERT INTO kept VALUES (1)").ReadAll()
		committed <- err
	}()
	tooLong := time.After(time.Minute)
	for waits := false; !waits; {
		select {
		case <-tooLong:
			t.Fatal("a commit neither waits for the standby nor is acknowledged")
		case err := <-committed:
			t.Fatalf("a commit was acknowledged (%v) without the standby", err)
		default:
			waits = len(primary.QueryText(t, "", "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) == 1
		}
	}
	standby.Resume(t)
	if err := MustReceive(t, committed); err != nil {
		t.Fatal(err)
	}

	_, err := MustConnect(t, postgres.URL(db, standby)).Exec(t.Context(), "INSERT INTO kept VALUES (2)").ReadAll()
	if got := code(err); got != "25006" {
		t.Errorf("a standby answers a write with %q (%v), want 25006", got, err)
	}
	primary.Kill(t)
	if _, err := pgconn.Connect(t.Context(), both); err == nil {
		t.Error("there is a server for writes before the promotion")
	}
	standby.Promote(t)
	conn := MustConnect(t, both)
	MustRun(t, conn, "INSERT INTO kept VALUES (3)")
	if diff := cmp.Diff([]string{"1", "3"}, standby.QueryText(t, db, "SELECT n FROM kept ORDER BY n")); diff != "" {
		t.Errorf("after the promotion (-want +got):\n%s", diff)
	}
}
