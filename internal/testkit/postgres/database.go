package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// role is the one that owns the databases of tests. It may do what the
	// program's own role may in production, so it is no superuser.
	role = "grahak"
	// superuser is the role that the cluster was made by.
	superuser = "postgres"
)

// databases counts the databases that were made, so that each has its own name
// whichever server it moves to.
var databases atomic.Int64

// Database makes an empty database and returns its URL,
// postgres://grahak@127.0.0.1:PORT/NAME. It is dropped when the test ends, even
// while it is used.
func (c *Cluster) Database(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("grahak_%d", databases.Add(1))
	c.Exec(tb, "", "CREATE DATABASE "+name+" OWNER "+role)
	// A cluster of one test goes as a whole, and need not even run by then.
	if c.shared {
		tb.Cleanup(func() { c.drop(tb, name) })
	}
	return c.databaseURL(name)
}

// databaseURL returns the URL of a database.
func (c *Cluster) databaseURL(name string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: c.Addr(), Path: "/" + name}
	if c.password != "" {
		u.User = url.UserPassword(role, c.password)
	}
	return u.String()
}

// drop drops a database, whoever uses it.
func (c *Cluster) drop(tb testing.TB, name string) {
	tb.Helper()
	err := poll(commandTimeout, func(context.Context) (bool, error) {
		_, err := c.query("", "DROP DATABASE "+name+" WITH (FORCE)")
		var inUse *pgconn.PgError
		if errors.As(err, &inUse) && inUse.Code == "55006" {
			return false, nil // It tells its users to go, and does not wait for them for long.
		}
		return true, err
	})
	if err != nil {
		tb.Error(err)
	}
}

// Endpoint is what clients connect to: a [Cluster] or a [Proxy].
type Endpoint interface {
	// Addr returns host and port.
	Addr() string
}

// URL returns the URL of a database that [Cluster.Database] made, by way of
// other endpoints. Among several, clients are told to look for the one that
// takes writes.
func URL(database string, endpoints ...Endpoint) string {
	u, err := url.Parse(database)
	if err != nil {
		panic(err) // Cluster.Database made it.
	}
	var addresses []string
	for _, e := range endpoints {
		addresses = append(addresses, e.Addr())
	}
	u.Host = strings.Join(addresses, ",")
	if len(addresses) > 1 {
		u.RawQuery = "target_session_attrs=read-write"
	}
	return u.String()
}

// Addr returns host and port of the server.
func (c *Cluster) Addr() string { return address(c.port) }

// Exec runs statements as a superuser in the database of a URL that
// [Cluster.Database] returned, or in a database of PostgreSQL's own if that is
// empty. It goes by the server's own socket, whatever host the URL names. More
// than one statement is one transaction.
func (c *Cluster) Exec(tb testing.TB, database, sql string) {
	tb.Helper()
	if _, err := c.query(database, sql); err != nil {
		tb.Fatal(err)
	}
}

// QueryText runs a query as [Cluster.Exec] does, and returns its rows as text,
// the columns of each parted by "|" and NULL as nothing.
func (c *Cluster) QueryText(tb testing.TB, database, sql string) []string {
	tb.Helper()
	rows, err := c.query(database, sql)
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

// Hold runs statements as [Cluster.Exec] does, in a transaction that keeps its locks
// until release.
func (c *Cluster) Hold(tb testing.TB, database, sql string) (release func()) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	conn, err := c.connect(ctx, database)
	if err == nil {
		_, err = conn.Exec(ctx, "BEGIN; "+sql).ReadAll()
	}
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	return sync.OnceFunc(func() {
		// What ends the connection ends the transaction.
		_ = conn.Close(ctx)
		cancel()
	})
}

// query runs statements on a connection of its own.
func (c *Cluster) query(database, sql string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	conn, err := c.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%w in: %s", err, sql)
	}
	var rows []string
	for _, result := range results {
		for _, row := range result.Rows {
			columns := make([]string, len(row))
			for i, column := range row {
				columns[i] = string(column)
			}
			rows = append(rows, strings.Join(columns, "|"))
		}
	}
	return rows, nil
}

// connect connects to the server as the superuser.
func (c *Cluster) connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	name := superuser
	if database != "" {
		u, err := url.Parse(database)
		if err != nil {
			return nil, err
		}
		name = strings.TrimPrefix(u.Path, "/")
	}
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable target_session_attrs=any", c.host.dir, c.port, superuser, name))
}
