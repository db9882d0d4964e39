package sqlstore_test

import (
	"sync"
	"testing"
	"time"

	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// TestInspectPostgres compares what is said of a database with how it was made; the
// program's tests have what an operator sees of it.
func TestInspectPostgres(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "30", "superuser_reserved_connections": "4"}})
	url := cluster.Database(t)
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		is, err := sqlstore.InspectPostgres(t.Context(), url, func() time.Time { return time.Now().Add(-ahead) })
		if err != nil {
			t.Fatal(err)
		}
		if off := (is.Skew - ahead).Abs(); off > is.SkewError+time.Millisecond {
			t.Errorf("the database's clock is %v ahead, up to %v; want %v", is.Skew, is.SkewError, ahead)
		}
		if is.Version < sqlstore.OldestPostgres || is.VersionText == "" || is.Bytes < 1<<20 {
			t.Errorf("it is of version %d, %q, and has %d bytes", is.Version, is.VersionText, is.Bytes)
		}
		is.Skew, is.SkewError, is.Version, is.VersionText, is.Bytes = 0, 0, 0, "", 0
		diff(t, "the report", sqlstore.PostgresReport{MaxConnections: 26, SynchronousCommit: "on", Fsync: "on", FullPageWrites: "on"}, is)
	}
	if tables := cluster.QueryText(t, url, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`); tables != nil {
		t.Errorf("the look has made %v", tables)
	}
}

// TestConnectionStats counts operations that wait for a connection, and no others.
func TestConnectionStats(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off"}})
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url)
	if _, err := s.Merchants(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := s.Connections()
	if before.Max != sqlstore.MinConnections || before.Opened == 0 || before.Waits != 0 || before.Waited != 0 {
		t.Errorf("after one operation: %+v", before)
	}
	var work sync.WaitGroup
	work.Go(func() {
		// Nobody reads until somebody has waited for a moment.
		if _, err := cluster.Query(url, `DO $$ DECLARE waited int := 0; BEGIN
			LOCK TABLE merchants IN ACCESS EXCLUSIVE MODE;
			FOR i IN 1..200 LOOP
				EXIT WHEN waited >= 30;
				IF EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted) THEN waited := waited + 1; END IF;
				PERFORM pg_sleep(0.01);
			END LOOP;
		END $$`); err != nil {
			t.Error(err)
		}
	})
	for looks := 0; ; looks++ {
		held := cluster.QueryText(t, url, `SELECT count(*) FROM pg_locks WHERE relation = 'merchants'::regclass AND mode = 'AccessExclusiveLock' AND granted`)
		if held[0] == "1" {
			break
		}
		if looks == 2000 {
			t.Fatal("the table is not locked")
		}
	}
	const readers = 2 * sqlstore.MinConnections
	for range readers {
		work.Go(func() {
			if _, err := s.Merchants(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	after := s.Connections()
	if after.Waits < sqlstore.MinConnections || after.Waits > readers || after.Waited <= 0 {
		t.Errorf("after %d operations at once: %+v", readers, after)
	}
	if after.InUse != 0 || after.Idle == 0 || after.Idle > after.Max {
		t.Errorf("when all are done: %+v", after)
	}
}
