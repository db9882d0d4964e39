package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The tables of a Citus cluster. Those that every request may need, which are
// small, are on every node. Those of a merchant are in the shard that the merchant
// is in, so that each of its transactions is one of one node.
var (
	citusReference   = []string{"instance", "nodes", "merchants", "api_keys", "ip_list", "operators", "operator_grants"}
	citusDistributed = []string{
		"keysets", "customers", "client_auth_tokens", "idempotency_keys", "pending_events", "events", "event_chain",
		"lookup_runs", "lookup_blocks", "unordered", "imports",
		"webhooks", "webhook_retries", "webhook_attempts",
		"operator_sessions", "operator_codes",
		"request_blocks", "request_stats",
	}
)

// ErrNoCitus is returned for a database without the extension.
var ErrNoCitus = errors.New("the database has no Citus: run CREATE EXTENSION citus in it, on every node, or leave out --distribute")

// DistributeCitus distributes the tables of the database that url names, whose
// schema is up to date, over the nodes of its Citus cluster: by merchant, or whole
// on each. tell is told what is done, one sentence a table. Tables that are
// distributed already are left as they are, so it may be called again after it was
// interrupted. Rows that are there move to their nodes.
func DistributeCitus(ctx context.Context, url string, tell func(sentence string)) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return explainURL(err)
	}
	configureConn(cfg)
	db := openForMigration(cfg)
	defer func() { _ = db.Close() }()
	return explainPostgres(cfg, distribute(ctx, db, tell))
}

func distribute(ctx context.Context, db *sql.DB, tell func(sentence string)) error {
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_proc WHERE proname = 'create_distributed_table')`).Scan(&there); err != nil {
		return err
	}
	if !there {
		return ErrNoCitus
	}
	step := func(table, call, sentence string) error {
		var done bool
		if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = $1::text::regclass)`, table).Scan(&done); err != nil {
			return err
		}
		if done {
			tell(fmt.Sprintf("%s is distributed already", table))
			return nil
		}
		if _, err := db.ExecContext(ctx, call); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		tell(sentence)
		return nil
	}
	for _, table := range citusReference {
		err := step(table, fmt.Sprintf(`SELECT create_reference_table('%s')`, table), table+" is small and needed by all: it is on every node")
		if err != nil {
			return err
		}
	}
	first := citusDistributed[0]
	for _, table := range citusDistributed {
		call := fmt.Sprintf(`SELECT create_distributed_table('%s', 'merchant_id')`, table)
		if table != first {
			call = fmt.Sprintf(`SELECT create_distributed_table('%s', 'merchant_id', colocate_with => '%s')`, table, first)
		}
		if err := step(table, call, table+" is distributed by merchant, beside the merchant's other rows"); err != nil {
			return err
		}
	}
	return nil
}
