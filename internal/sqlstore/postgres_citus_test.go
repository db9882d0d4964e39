package sqlstore_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// citusStub is what a Citus cluster has, as far as it is asked: functions that
// note what they are called for.
const citusStub = `
	CREATE TABLE pg_dist_partition (logicalrelid regclass, beside text);
	GRANT ALL ON pg_dist_partition TO PUBLIC;
	CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE sql
		AS 'INSERT INTO pg_dist_partition VALUES (t, NULL)';
	CREATE FUNCTION create_distributed_table(t regclass, col text, colocate_with text DEFAULT 'default') RETURNS void LANGUAGE sql
		AS 'INSERT INTO pg_dist_partition VALUES (t, col || '' '' || colocate_with)'`

// TestDistribute holds what a Citus cluster is asked for: every table, once, and
// the ones of a merchant beside each other. Citus itself is not here.
func TestDistribute(t *testing.T) {
	cluster := postgres.Start(t, postgres.Options{})
	url := cluster.Database(t)
	database := url[strings.LastIndex(url, "/")+1:]
	discard := slog.New(slog.DiscardHandler)
	if _, _, err := sqlstore.MigratePostgres(t.Context(), url, sqlstore.MigrateOptions{Logger: discard}); err != nil {
		t.Fatal(err)
	}
	var told []string
	distribute := func() error {
		told = nil
		return sqlstore.DistributeCitus(t.Context(), url, func(sentence string) { told = append(told, sentence) })
	}
	if err := distribute(); !errors.Is(err, sqlstore.ErrNoCitus) {
		t.Fatalf("without Citus: %v", err)
	}
	tables := cluster.QueryText(t, database, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version' ORDER BY 1`)
	cluster.Exec(t, database, citusStub)
	if err := distribute(); err != nil {
		t.Fatal(err)
	}
	if len(told) != len(tables) {
		t.Errorf("%d sentences about %d tables: %q", len(told), len(tables), told)
	}
	calls := func() []string {
		return cluster.QueryText(t, database, `SELECT logicalrelid || coalesce(': ' || beside, '') FROM pg_dist_partition ORDER BY logicalrelid::text`)
	}
	want := []string{
		"api_keys", "client_auth_tokens: merchant_id keysets", "customers: merchant_id keysets", "event_chain: merchant_id keysets",
		"events: merchant_id keysets", "idempotency_keys: merchant_id keysets", "imports: merchant_id keysets", "instance", "ip_list", "keysets: merchant_id default", "lookup_blocks: merchant_id keysets",
		"lookup_runs: merchant_id keysets", "merchants", "nodes",
		"operator_codes: merchant_id keysets", "operator_grants", "operator_sessions: merchant_id keysets", "operators", "pending_events: merchant_id keysets",
		"request_blocks: merchant_id keysets", "request_stats: merchant_id keysets", "unordered: merchant_id keysets",
		"webhook_attempts: merchant_id keysets", "webhook_retries: merchant_id keysets", "webhooks: merchant_id keysets",
	}
	if diff := cmp.Diff(want, calls()); diff != "" {
		t.Errorf("the cluster was asked for (-want +got):\n%s", diff)
	}
	if err := distribute(); err != nil {
		t.Fatal(err)
	}
	for _, sentence := range told {
		if !strings.HasSuffix(sentence, "is distributed already") {
			t.Errorf("the second time: %q", sentence)
		}
	}
	if diff := cmp.Diff(want, calls()); diff != "" {
		t.Errorf("the second time (-want +got):\n%s", diff)
	}
	// What Citus demands of the indexes of a distributed table.
	unique := cluster.QueryText(t, database, `SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_dist_partition d ON d.logicalrelid = i.indrelid
		WHERE d.beside IS NOT NULL AND i.indisunique AND NOT EXISTS (
			SELECT 1 FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attname = 'merchant_id')`)
	if len(unique) > 0 {
		t.Errorf("unique indexes without the merchant: %q", unique)
	}
}
