package sqlstore_test

import (
	"strings"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
)

// A page costs about as much to compile as to read, so its statement is compiled
// once, whatever its bounds are.
func TestPagesAreCompiledOnce(t *testing.T) {
	t.Parallel()
	s := MustOpenAcme(t, sqlstore.SQLiteConfig{})
	MustCreate(t, s, 0, 8)
	// Each connection gets its turn more than once.
	for limit := range 40 {
		if _, _, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 1+limit, limit); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.FindCustomers(t.Context(), acme, grahak.CustomerIndex{Mobile: grahak.ShortIndex{byte(1 + limit)}}, grahak.CustomerRange{}, 1+limit); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Events(t.Context(), acme, int64(limit), 1+limit); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range s.Recompiled() {
		if strings.HasPrefix(query, "PRAGMA ") {
			continue // The background's, which no page waits for.
		}
		t.Errorf("compiled again: %s", query)
	}
}
