package grahak_test

import (
	"database/sql" //nolint:depguard // These tests do what somebody does who can write the database file.
	"path/filepath"
	"testing"
)

// MustTamper changes the database behind the service's back, as somebody might
// who can write its file, and fails the test if that changes nothing.
func (r *rig) MustTamper(tb testing.TB, query string, args ...any) {
	tb.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(r.folder, "grahak.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(tb.Context(), query, args...)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		tb.Fatalf("%s: changed %d rows (%v)", query, n, err)
	}
}
