package sqlstore

import (
	"context"
	"crypto/tls"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"grahak"
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

// MigrateOptions are what [MigratePostgres] may be told.
type MigrateOptions struct {
	// NoLock leaves out the advisory lock that keeps two migrations apart, for
	// databases that have none, such as CockroachDB.
	NoLock bool
	// Logger is told of each migration; default [slog.Default].
	Logger *slog.Logger
}

// MigratePostgres brings the schema of the database that url names up to date and
// returns its versions before and after, which are the same if there was nothing
// to do. Errors are one sentence that says how to mend it.
func MigratePostgres(ctx context.Context, url string, opts MigrateOptions) (before, after int64, err error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, 0, explainURL(err)
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	configureConn(cfg)
	db := openForMigration(cfg)
	defer func() { _ = db.Close() }()
	if before, err = postgresSchema(ctx, db); err == nil {
		after, err = migratePostgres(ctx, db, opts)
	}
	return before, after, explainPostgres(cfg, err)
}

// openForMigration returns a pool for statements that may take long.
func openForMigration(cfg *pgx.ConnConfig) *sql.DB {
	cfg = cfg.Copy()
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	return stdlib.OpenDB(*cfg)
}

func newPostgresProvider(db *sql.DB, opts MigrateOptions) (*goose.Provider, error) {
	files, err := fs.Sub(postgresMigrations, "migrations/postgres")
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithSlog(opts.Logger)}
	if !opts.NoLock {
		// It is asked for once a second, for five minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, options...)
}

// migratePostgres brings the schema up to date and returns its version.
func migratePostgres(ctx context.Context, db *sql.DB, opts MigrateOptions) (int64, error) {
	provider, err := newPostgresProvider(db, opts)
	if err != nil {
		return 0, err
	}
	current, err := postgresSchema(ctx, db)
	if err != nil {
		return 0, err
	}
	if newest := newestOf(provider); current > newest {
		return 0, tooNew(current, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return 0, err
	}
	return postgresSchema(ctx, db)
}

func newestOf(provider *goose.Provider) int64 {
	sources := provider.ListSources()
	return sources[len(sources)-1].Version
}

func tooNew(current, newest int64) error {
	return fmt.Errorf("the database has schema version %d, but this grahak knows only up to %d: use the newer grahak that made it", current, newest)
}

func tooOld(current, newest int64) error {
	return fmt.Errorf("the database has schema version %d and this grahak needs %d: run `grahak migrate`, which brings it up to date", current, newest)
}

// postgresSchema returns the version of the last migration, 0 for a database
// without any.
func postgresSchema(ctx context.Context, db *sql.DB) (version int64, err error) {
	var tables int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM information_schema.tables WHERE table_name = 'goose_db_version' AND table_schema = current_schema()`).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, schemaVersionQuery).Scan(&version)
	return version, err
}

// preparePostgres makes sure that the schema is the one this program knows, and
// returns the environment of the store, after writing it into a new one.
func preparePostgres(ctx context.Context, conn *pgx.ConnConfig, cfg PostgresConfig) (grahak.Environment, error) {
	db := openForMigration(conn)
	defer func() { _ = db.Close() }()
	provider, err := newPostgresProvider(db, MigrateOptions{Logger: cfg.Logger})
	if err != nil {
		return "", err
	}
	current, err := postgresSchema(ctx, db)
	newest := newestOf(provider)
	switch {
	case err != nil:
		return "", err
	case current > newest:
		return "", tooNew(current, newest)
	case current < newest && cfg.Migrate:
		if current > 0 {
			// A store of the other environment is left as it is.
			if _, err := postgresEnvironment(ctx, db, PostgresConfig{Environment: cfg.Environment, Clock: cfg.Clock}); err != nil && !errors.Is(err, ErrNoStore) {
				return "", err
			}
		}
		if _, err := migratePostgres(ctx, db, MigrateOptions{Logger: cfg.Logger}); err != nil {
			return "", err
		}
	case current == 0:
		return "", ErrNoStore
	case current < newest:
		return "", tooOld(current, newest)
	}
	return postgresEnvironment(ctx, db, cfg)
}

// postgresEnvironment returns the environment of the store, after writing it into
// a new one. A copy that is not finished is none.
func postgresEnvironment(ctx context.Context, db *sql.DB, cfg PostgresConfig) (grahak.Environment, error) {
	if err := refuseUnfinishedCopy(ctx, db); err != nil {
		return "", err
	}
	if cfg.Environment != "" {
		_, err := db.ExecContext(ctx, `INSERT INTO instance (id, environment, access_version, created_at) VALUES (1, $1, 1, $2) ON CONFLICT (id) DO NOTHING`,
			string(cfg.Environment), cfg.Clock.Now().UnixMicro())
		if err != nil {
			return "", err
		}
	}
	var env string
	err := db.QueryRowContext(ctx, `SELECT environment FROM instance WHERE id = 1`).Scan(&env)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNoStore
	}
	if err == nil && cfg.Environment != "" && env != string(cfg.Environment) {
		err = fmt.Errorf("the database was made for the %s environment, not %s: use another database, or --env %s", env, cfg.Environment, env)
	}
	return grahak.Environment(env), err
}

// explainURL is the error of a URL that cannot be read. It may hold a password, so
// nothing of it is shown but the name of a file.
func explainURL(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("a file that --database-url or a variable of PostgreSQL names cannot be used (%w): give the right one", file)
	}
	return errors.New("--database-url is not a database's address: write it like postgres://user@host:5432/name")
}

// explainPostgres turns an error of opening the database into one sentence that
// says what is wrong and how to mend it.
func explainPostgres(cfg *pgx.ConnConfig, err error) error {
	if err == nil || errors.Is(err, ErrNoStore) {
		return err
	}
	where := addresses(cfg)
	switch state := sqlState(err); {
	case state == stateInvalidPassword, state == stateInvalidAuthorization:
		return fmt.Errorf("the database server at %s does not let the user %q in: check user and password in --database-url, and pg_hba.conf there (%w)", where, cfg.User, reasons(err))
	case state == stateUndefinedDatabase:
		return fmt.Errorf("the server at %s has no database %q: make it with `createdb %s`, or name another in --database-url", where, cfg.Database, cfg.Database)
	case state == stateInsufficientRights, state == stateNoSchema:
		return fmt.Errorf("the user %q may not do that in the database %q at %s: make it the owner (%w)", cfg.User, cfg.Database, where, reasons(err))
	case state == stateTooManyConnections:
		return fmt.Errorf("the database server at %s has no connection free: raise its max_connections, or lower --database-connections", where)
	case state == stateUnknownParameter, state == stateInvalidParameter:
		return fmt.Errorf("the database server at %s does not take a parameter of --database-url: correct it there (%w)", where, reasons(err))
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		if strings.Contains(err.Error(), "read only") {
			return fmt.Errorf("the database server at %s is a standby, which cannot be written: name the primary, or all hosts, in --database-url", where)
		}
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			return fmt.Errorf("the certificate of the database server at %s cannot be trusted: give the file of its CA as sslrootcert, and the host that it names, in --database-url (%w)", where, certificate.Err)
		}
		if reason := reasons(err); reason.Error() == noTLS {
			return fmt.Errorf("the database server at %s speaks no TLS, which --database-url asks for: switch ssl on there, or give another sslmode", where)
		}
		return fmt.Errorf("the database server at %s cannot be reached: start it, or give the right address with --database-url (%w)", where, reasons(err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the database server at %s has stopped to answer: see what holds it up (%w)", where, reasons(err))
	}
	return err
}

// noTLS is pgx's text for a server that answers a request for TLS with no.
const noTLS = "server refused TLS connection"

// reasons returns why the attempts to connect that err tells of have failed, each
// reason once. The errors around them repeat user and database, and that a server
// speaks no TLS is no reason where it was then asked without.
func reasons(err error) error {
	var list []string
	for _, cause := range causes(err) {
		text := cause.Error()
		if errors.Is(cause, context.DeadlineExceeded) {
			text = "no answer in time"
		}
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	if i := slices.Index(list, noTLS); i >= 0 && len(list) > 1 {
		list = slices.Delete(list, i, i+1)
	}
	return errors.New(strings.Join(list, "; "))
}

// causes returns the innermost errors of err that say what happened, and where.
func causes(err error) []error {
	switch e := err.(type) { //nolint:errorlint // Every link of the chain is looked at.
	case *net.OpError, *net.DNSError, *pgconn.PgError:
		return []error{err}
	case interface{ Unwrap() []error }:
		var list []error
		for _, inner := range e.Unwrap() {
			list = append(list, causes(inner)...)
		}
		return list
	}
	if inner := errors.Unwrap(err); inner != nil {
		return causes(inner)
	}
	return []error{err}
}

// addresses returns the hosts that are tried, for people.
func addresses(cfg *pgx.ConnConfig) string {
	list := []string{net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))}
	for _, other := range cfg.Fallbacks {
		address := net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port)))
		if address != list[len(list)-1] {
			list = append(list, address)
		}
	}
	return strings.Join(list, ", ")
}
