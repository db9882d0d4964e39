package postgres_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"grahak/internal/testkit/postgres"
)

// MustReceive returns what a channel gives.
func MustReceive[T any](tb testing.TB, from <-chan T) (value T) {
	tb.Helper()
	select {
	case value = <-from:
	case <-time.After(time.Minute):
		tb.Fatal("the signal did not come within a minute")
	}
	return value
}

// proxied is a database with a table, and a proxy before it.
type proxied struct {
	proxy *postgres.Proxy
	url   string // by way of the proxy
	kept  func() []string
}

func newProxied(t *testing.T) proxied {
	t.Helper()
	c := postgres.Shared(t)
	db := c.Database(t)
	MustRun(t, MustConnect(t, db), "CREATE TABLE kept (n int UNIQUE)")
	p := c.Proxy(t)
	return proxied{p, postgres.URL(db, p), func() []string { return c.QueryText(t, db, "SELECT n FROM kept ORDER BY n") }}
}

// Each way in which a client commits can lose its connection before the commit
// and after it.
func TestProxyCut(t *testing.T) {
	insert := "INSERT  INTO kept\nVALUES ($1)"
	one := [][]byte{[]byte("1")}
	// Each writes a row in the table.
	ways := map[string]struct {
		text string
		sql  []string
		tags []string
		run  func(*pgconn.PgConn) error
	}{
		"a simple query": {
			"insert into KEPT",
			[]string{"INSERT INTO kept VALUES (1)"},
			[]string{"INSERT 0 1"},
			func(conn *pgconn.PgConn) error {
				_, err := conn.Exec(t.Context(), "INSERT INTO kept VALUES (1)").ReadAll()
				return err
			},
		},
		"one of several statements": {
			"UPDATE",
			[]string{"INSERT INTO kept VALUES (7); UPDATE kept SET n = 1"},
			[]string{"INSERT 0 1", "UPDATE 1"},
			func(conn *pgconn.PgConn) error {
				_, err := conn.Exec(t.Context(), "INSERT INTO kept VALUES (7); UPDATE kept SET n = 1").ReadAll()
				return err
			},
		},
		"an unnamed statement": {
			"INSERT INTO kept VALUES",
			[]string{insert},
			[]string{"INSERT 0 1"},
			func(conn *pgconn.PgConn) error {
				return conn.ExecParams(t.Context(), insert, one, nil, nil, nil).Read().Err
			},
		},
		"a prepared statement": {
			"INSERT INTO kept VALUES",
			[]string{insert},
			[]string{"INSERT 0 1"},
			func(conn *pgconn.PgConn) error {
				if _, err := conn.Prepare(t.Context(), "put", insert, nil); err != nil {
					t.Errorf("a statement that is prepared and not run: %v", err)
				}
				return conn.ExecPrepared(t.Context(), "put", one, nil, nil).Read().Err
			},
		},
		"a batch that commits": {
			"commit",
			[]string{"BEGIN", insert, "COMMIT"},
			[]string{"BEGIN", "INSERT 0 1", "COMMIT"},
			func(conn *pgconn.PgConn) error {
				batch := &pgconn.Batch{}
				batch.ExecParams("BEGIN", nil, nil, nil, nil)
				batch.ExecParams(insert, one, nil, nil, nil)
				batch.ExecParams("COMMIT", nil, nil, nil, nil)
				_, err := conn.ExecBatch(t.Context(), batch).ReadAll()
				return err
			},
		},
		"an explicit transaction": {
			"COMMIT",
			[]string{"commit"},
			[]string{"COMMIT"},
			func(conn *pgconn.PgConn) error {
				for _, sql := range []string{"begin", "INSERT INTO kept VALUES (1)", "commit"} {
					if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
						return err
					}
				}
				return nil
			},
		},
		"a pipeline with a transaction before it": {
			"INSERT INTO kept VALUES",
			[]string{insert},
			[]string{"INSERT 0 1"},
			func(conn *pgconn.PgConn) error {
				pipeline := conn.StartPipeline(t.Context())
				pipeline.SendQueryParams("SELECT 1", nil, nil, nil, nil)
				_ = pipeline.Sync()
				pipeline.SendQueryParams(insert, one, nil, nil, nil)
				_ = pipeline.Sync()
				for range 3 { // The result of the first, its end, the result of the second.
					got, err := pipeline.GetResults()
					if err != nil {
						return err
					}
					if reader, ok := got.(*pgconn.ResultReader); ok {
						if _, err := reader.Close(); err != nil {
							return err
						}
					}
				}
				return pipeline.Close()
			},
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			p := newProxied(t)
			try := func(what string, done <-chan postgres.Cut, want postgres.Cut, rows []string) {
				t.Helper()
				if err := way.run(MustConnect(t, p.url)); err == nil || code(err) != "" {
					t.Errorf("cut %s the commit, the client has the answer %v", what, err)
				}
				if diff := cmp.Diff(want, MustReceive(t, done)); diff != "" {
					t.Errorf("cut %s the commit (-want +got):\n%s", what, diff)
				}
				if diff := cmp.Diff(rows, p.kept()); diff != "" {
					t.Errorf("cut %s the commit, the rows are (-want +got):\n%s", what, diff)
				}
			}
			try("before", p.proxy.CutBefore(way.text), postgres.Cut{SQL: way.sql}, nil)
			try("after", p.proxy.CutAfter(way.text), postgres.Cut{SQL: way.sql, Answer: way.tags}, []string{"1"})
			if err := way.run(MustConnect(t, p.url)); code(err) != "23505" {
				t.Errorf("not cut, the answer is %v, want the code 23505", err)
			}
		})
	}

	p := newProxied(t)
	done := p.proxy.CutAfter("nothing")
	MustRun(t, MustConnect(t, p.url), "SELECT 1")
	if n := p.proxy.CutAll(); n != 1 {
		t.Errorf("%d connections were cut, want 1", n)
	}
	conn := MustConnect(t, p.url)
	if _, err := conn.Exec(t.Context(), "SELECT nothing").ReadAll(); err == nil || code(err) != "" {
		t.Errorf("the client has the answer %v", err)
	}
	if diff := cmp.Diff(postgres.Cut{SQL: []string{"SELECT nothing"}, Answer: []string{"ERROR 42703"}}, MustReceive(t, done)); diff != "" {
		t.Errorf("a failed statement (-want +got):\n%s", diff)
	}
}

// Answers that are held back arrive after the release, and what they tell of was
// done before. New connections wait with the others.
func TestProxyHoldAnswers(t *testing.T) {
	p := newProxied(t)
	conn := MustConnect(t, p.url)
	before := p.proxy.RoundTrips()
	MustRun(t, conn, "INSERT INTO kept VALUES (1)")
	if got := p.proxy.RoundTrips() - before; got != 1 {
		t.Errorf("a statement took %d round trips, want 1", got)
	}
	held := p.proxy.HoldAnswers()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "INSERT INTO kept VALUES (2)").ReadAll()
		answered <- err
	}()
	MustReceive(t, held)
	if diff := cmp.Diff([]string{"1", "2"}, p.kept()); diff != "" {
		t.Errorf("while the answer is held back (-want +got):\n%s", diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pgconn.Connect(ctx, p.url); err == nil {
		t.Error("a client connects while answers are held back")
	}
	select {
	case err := <-answered:
		t.Errorf("the client has its answer (%v) although it is held back", err)
	default:
	}
	p.proxy.HoldAnswers()
	p.proxy.Release()
	if err := MustReceive(t, answered); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

// Where nobody listens the system refuses, connections that exist go on, and
// those that are cut end.
func TestProxyRefuse(t *testing.T) {
	p := newProxied(t)
	conn := MustConnect(t, p.url)
	p.proxy.Refuse(t)
	MustRun(t, conn, "INSERT INTO kept VALUES (1)")
	if c, err := net.Dial("tcp", p.proxy.Addr()); err == nil {
		_ = c.Close()
		t.Error("a proxy that refuses accepts a connection")
	}
	if n := p.proxy.CutAll(); n != 1 {
		t.Errorf("%d connections were cut, want 1", n)
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1").ReadAll(); err == nil {
		t.Error("a connection works after it was cut")
	}
	p.proxy.Accept(t)
	MustRun(t, MustConnect(t, p.url), "INSERT INTO kept VALUES (2)")
	if diff := cmp.Diff([]string{"1", "2"}, p.kept()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
