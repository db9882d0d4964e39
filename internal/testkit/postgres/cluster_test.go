package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"grahak/internal/testkit/postgres"
)

// MustConnect connects as a client does.
func MustConnect(tb testing.TB, url string) *pgconn.PgConn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// MustRun runs statements as a client does.
func MustRun(tb testing.TB, conn *pgconn.PgConn, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestDatabase(t *testing.T) {
	c := postgres.Shared(t)
	first, second := c.Database(t), c.Database(t)
	for _, url := range []string{first, second} {
		MustRun(t, MustConnect(t, url), "CREATE TABLE word (w text PRIMARY KEY); INSERT INTO word VALUES ('b'), ('A'), ('a'), ('_'), ('B')")
	}
	c.Exec(t, first, "DELETE FROM word WHERE w <> 'a'; INSERT INTO word VALUES ('x')")
	want := map[string][]string{first: {"a|", "x|"}, second: {"_|", "a|", "A|", "b|", "B|"}}
	for url, words := range want {
		if diff := cmp.Diff(words, c.QueryText(t, url, "SELECT w, NULL FROM word ORDER BY w")); diff != "" {
			t.Errorf("%s sorted by %s (-want +got):\n%s", url, c.Locale, diff)
		}
	}
	if got := c.QueryText(t, first, "SELECT current_setting('fsync'), current_setting('server_encoding'), current_user"); !cmp.Equal(got, []string{"on|UTF8|postgres"}) {
		t.Errorf("the settings are %q", got)
	}
}
