package sqlstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// OldestPostgres is the oldest major version of PostgreSQL that the store works
// with.
const OldestPostgres = 13

// PostgresReport is what an operator should know of a database and its server.
type PostgresReport struct {
	// Version is the server's major version, and VersionText the whole one as it
	// names it.
	Version     int
	VersionText string
	// Bytes is the size of the database.
	Bytes int64
	// Standby is set if the server takes no writes because it follows another, and
	// ReadOnly if it takes none for whatever reason.
	Standby, ReadOnly bool
	// MaxConnections is how many connections this user may have to the database, if
	// nobody else has any.
	MaxConnections int
	// SynchronousCommit, Fsync and FullPageWrites are settings as this user's
	// connections have them, empty where the server has none of that name.
	SynchronousCommit, Fsync, FullPageWrites string
	// Skew is by how much the server's clock is ahead of ours, and it is that
	// exact only up to SkewError either way.
	Skew, SkewError time.Duration
}

// inspection is the query for a report, as text so that any server can answer it.
const inspection = `SELECT
	current_setting('server_version_num')::bigint / 10000,
	current_setting('server_version'),
	pg_database_size(current_database()),
	pg_is_in_recovery(),
	current_setting('transaction_read_only') = 'on',
	least(
		current_setting('max_connections')::bigint - coalesce(current_setting('superuser_reserved_connections', true), '0')::bigint
			- coalesce(current_setting('reserved_connections', true), '0')::bigint,
		nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1),
		nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1)),
	coalesce(current_setting('synchronous_commit', true), ''),
	coalesce(current_setting('fsync', true), ''),
	coalesce(current_setting('full_page_writes', true), '')`

// InspectPostgres looks at the database that url names, be it a standby, and
// changes nothing. now tells our time, which its clock is compared with. Errors are
// one sentence that says how to mend it; none shows a password.
func InspectPostgres(ctx context.Context, url string, now func() time.Time) (PostgresReport, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return PostgresReport{}, explainURL(err)
	}
	asked := cfg.ValidateConnect
	configureConn(cfg)
	// Unless the URL itself asks for one, the server may be any.
	cfg.ValidateConnect = asked
	var r PostgresReport
	err = r.inspect(ctx, cfg, now)
	return r, explainPostgres(cfg, err)
}

func (r *PostgresReport) inspect(ctx context.Context, cfg *pgx.ConnConfig, now func() time.Time) error {
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	err = c.QueryRow(ctx, inspection).Scan(&r.Version, &r.VersionText, &r.Bytes, &r.Standby, &r.ReadOnly, &r.MaxConnections,
		&r.SynchronousCommit, &r.Fsync, &r.FullPageWrites)
	if err != nil {
		return err
	}
	before := now()
	var theirs time.Time
	if err := c.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return err
	}
	r.SkewError = now().Sub(before) / 2
	r.Skew = theirs.Sub(before.Add(r.SkewError))
	return nil
}
