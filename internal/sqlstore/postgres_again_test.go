package sqlstore_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/testkit/postgres"
)

// TestReadAgain holds that a read that the server has undone in the middle of its
// answer, and that runs again, returns each row once.
func TestReadAgain(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url)
	ctx := t.Context()
	MustMerchants(t, s, "acme", "bazaar", "corner", "depot")
	for n := range 4 {
		c := record(n, 0)
		must(t, s.CreateCustomer(ctx, acme, c, created(c), nil))
		must(t, s.CreateKey(ctx, acme, grahak.APIKey{ID: grahak.KeyID(fmt.Sprintf("key_%d", n)), Merchant: acme, Hash: grahak.KeyHash{byte(n)}, Scope: grahak.ScopeRead, CreatedAt: c.CreatedAt},
			grahak.Event{ID: grahak.EventID(fmt.Sprintf("evt_key_%d", n)), Type: grahak.EventKeyCreated, At: c.CreatedAt}))
		MustOrderAll(t, s, acme, 512)
	}
	cluster.Exec(t, url, `
		CREATE SEQUENCE calls;
		GRANT ALL ON calls TO public;
		CREATE FUNCTION trouble(value anyelement) RETURNS anyelement STABLE LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('calls') = 3 THEN
				RAISE 'somebody else comes first' USING ERRCODE = '40001';
			END IF;
			RETURN value;
		END $$`)
	for _, c := range []struct {
		table, column string
		read          func() (any, error)
	}{
		{"events", "actor", func() (any, error) { return s.Events(ctx, acme, 0, 100) }},
		{"event_chain", "proof", func() (any, error) { return s.Chain(ctx, acme, 0, 100) }},
		{"api_keys", "label", func() (any, error) { return s.Keys(ctx, acme) }},
		{"merchants", "name", func() (any, error) { return s.Merchants(ctx) }},
	} {
		want, err := c.read()
		must(t, err)
		// A view of the table whose third row is the trouble, the first time that it is
		// read. In the order of an index, the two before it have gone to the client by then.
		columns := cluster.QueryText(t, url, `SELECT string_agg(CASE attname WHEN '`+c.column+`' THEN 'trouble(`+c.column+`) AS `+c.column+`' ELSE attname END, ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = '`+c.table+`'::regclass AND attnum > 0`)[0]
		cluster.Exec(t, url, strings.NewReplacer("@", c.table, "#", columns).Replace(`
			ALTER TABLE @ RENAME TO the_@;
			CREATE VIEW @ AS SELECT # FROM the_@;
			GRANT ALL ON @, the_@ TO public;
			ALTER SEQUENCE calls RESTART`))
		// Its plans are made anew.
		s = MustOpenPostgres(t, url+"?enable_seqscan=off&enable_sort=off")
		got, err := c.read()
		must(t, err)
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("%s, read again (-want +got):\n%s", c.table, diff)
		}
		if cluster.QueryText(t, url, "SELECT last_value < 7 FROM calls")[0] == "t" {
			t.Errorf("%s was not read again", c.table)
		}
	}
}

// MustMerchants makes merchants with those ids, each with keys of version 1.
func MustMerchants(t testing.TB, s grahak.Store, ids ...grahak.MerchantID) {
	t.Helper()
	_, err := s.MasterKeyID(t.Context(), "mk_test")
	must(t, err)
	at := record(0, 0).CreatedAt
	for _, id := range ids {
		must(t, s.CreateMerchant(t.Context(), grahak.Merchant{ID: id, Name: string(id), IPMode: grahak.IPModeOff, CreatedAt: at},
			grahak.Keyset{Merchant: id, Revision: 1, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}},
			grahak.Event{ID: "evt_" + grahak.EventID(id), Type: grahak.EventMerchantCreated, At: at}))
	}
}
