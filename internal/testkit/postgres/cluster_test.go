package postgres_test

import (
	"context"
	"strings"
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

// Databases are apart from each other, sort as people do, and go with the test.
func TestDatabase(t *testing.T) {
	c := postgres.Shared(t)
	const words = "CREATE TABLE word (w text PRIMARY KEY); INSERT INTO word VALUES ('b'), ('A'), ('a'), ('_'), ('B')"
	t.Run("apart", func(t *testing.T) {
		first, second := c.Database(t), c.Database(t)
		for _, url := range []string{first, second} {
			MustRun(t, MustConnect(t, url), words)
		}
		c.Exec(t, first, "DELETE FROM word WHERE w <> 'a'; INSERT INTO word VALUES ('x')")
		want := map[string][]string{first: {"a|", "x|"}, second: {"_|", "a|", "A|", "b|", "B|"}}
		if strings.HasPrefix(c.Locale, "C.") { // This system has no language.
			want[second] = []string{"A|", "B|", "_|", "a|", "b|"}
		}
		for url, words := range want {
			if diff := cmp.Diff(words, c.QueryText(t, url, "SELECT w, NULL FROM word ORDER BY w")); diff != "" {
				t.Errorf("%s sorted by %s (-want +got):\n%s", url, c.Locale, diff)
			}
		}
		got := c.QueryText(t, first, "SELECT current_setting('server_encoding'), current_user")
		if diff := cmp.Diff([]string{"UTF8|postgres"}, got); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
	})
	if got := c.QueryText(t, "", "SELECT datname FROM pg_database WHERE datname LIKE 'grahak%'"); len(got) != 0 {
		t.Errorf("the databases %q outlive their test", got)
	}
}

// What a program without a test asks for by name replaces what had the name.
func TestNewDatabase(t *testing.T) {
	c := postgres.Shared(t)
	query := func(url, sql string) []string {
		t.Helper()
		rows, err := c.Query(url, sql)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	const name, other = "of_a_program", "another_of_it"
	for i, template := range []string{"", "", other} {
		url, err := c.NewDatabase(name, template)
		if err != nil {
			t.Fatal(err)
		}
		if template == "" {
			query(url, "CREATE TABLE word (w text); INSERT INTO word VALUES ('old')")
		} else if got := query(url, "SELECT w FROM word"); !cmp.Equal(got, []string{"copied"}) {
			t.Errorf("the copy has %q", got)
		}
		if i == 1 {
			if url, err = c.NewDatabase(other, name); err != nil {
				t.Fatal(err)
			}
			query(url, "UPDATE word SET w = 'copied'")
		}
	}
	if rows, err := c.Query("", "SELECT nothing"); code(err) != "42703" {
		t.Errorf("a statement that is wrong returns %q, %v", rows, err)
	}
	processes, err := c.Processes()
	if err != nil || len(processes) < 4 {
		t.Errorf("the processes are %v (%v), want the server's and its workers'", processes, err)
	}
}
