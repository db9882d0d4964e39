package sqlstore_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"grahak/internal/sqlstore"
)

// TestMigrateSQLite brings an older file up to date by command, and makes no store
// where there is none.
func TestMigrateSQLite(t *testing.T) {
	newest, err := sqlstore.NewestSchema()
	if err != nil {
		t.Fatal(err)
	}
	path := MustMakeFirstSchema(t, 10)
	for _, want := range [][2]int64{{1, newest}, {newest, newest}} {
		before, after, err := sqlstore.MigrateSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
		diff(t, "versions before and after", want, [2]int64{before, after}, err)
	}
	// It needs no environment to be opened by now, and has its own still.
	s, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	diff(t, "the environment", "sandbox", string(s.Environment()))
	c := migrated(0)
	got, err := s.Customer(t.Context(), acme, "", c.Reference)
	diff(t, "a customer", c, got, err)

	dir := t.TempDir()
	for name, content := range map[string]string{"none": "", "empty": "", "other": "no database at all, but long enough"} {
		path := filepath.Join(dir, name)
		if name != "none" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := sqlstore.MigrateSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
		if content != "" {
			wantSentence(t, err, path, "not a database")
		} else if !errors.Is(err, sqlstore.ErrNoStore) {
			t.Errorf("%s: %v, want that there is no store", name, err)
		}
		if left, err := os.ReadFile(path); name != "none" && (err != nil || string(left) != content) || name == "none" && err == nil {
			t.Errorf("%s was changed (%v)", name, err)
		}
	}
}
