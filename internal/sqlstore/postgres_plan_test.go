package sqlstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// TestRowsRead holds that what is asked for a few customers reads few rows, whatever
// PostgreSQL knows of their merchant: it may have got all of its customers since the
// server last counted, which then believes that there are none.
func TestRowsRead(t *testing.T) {
	t.Parallel()
	const customers = 3000
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off", "autovacuum": "off"}})
	url := cluster.Database(t)
	open := func() *sqlstore.Postgres {
		s, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{URL: url, Environment: grahak.Sandbox, Migrate: true, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		return s
	}
	s := open()
	_, err := s.MasterKeyID(t.Context(), "mk_test")
	must(t, err)
	must(t, s.CreateMerchant(t.Context(), grahak.Merchant{ID: acme, IPMode: grahak.IPModeOff, CreatedAt: record(0, 0).CreatedAt},
		grahak.Keyset{Merchant: acme, MasterKeyID: "mk_test", Version: 1, Sealing: []byte{1}, Indexing: []byte{1}},
		grahak.Event{ID: "evt_made", Type: grahak.EventMerchantCreated, At: record(0, 0).CreatedAt}))
	cluster.Exec(t, url, `INSERT INTO customers (merchant_id, id, reference_index, sealed, key_version, revision, created_at, updated_at)
		SELECT convert_to('m' || n % 8, 'UTF8'), convert_to(n::text, 'UTF8'), int8send(n), '', 1, 1, 1, 1 FROM generate_series(1, 20000) AS n`)
	cluster.Exec(t, url, `INSERT INTO events (merchant_id, position, id, type, subject, revision, actor, request_id, at)
		SELECT convert_to('m' || n % 8, 'UTF8'), n, int8send(n), 'customer.created', convert_to(n::text, 'UTF8'), 1, '', '', 1 FROM generate_series(1, 20000) AS n`)
	cluster.Exec(t, url, "ANALYZE")
	must(t, s.Close())
	before := rowsRead(t, cluster, url)
	s = open()
	if list, _, err := s.Customers(t.Context(), acme, grahak.CustomerRange{}, 10, 0); err != nil || len(list) > 0 {
		t.Errorf("list of a merchant without customers: %v, %v", list, err)
	}
	must(t, s.Close())
	if rows := rowsRead(t, cluster, url) - before; rows > 10 {
		t.Errorf("list of a merchant without customers: read %d rows of others, none of which has a brought id", rows)
	}
	s = open()
	MustConcurrently(t, customers, func(n int) error {
		c := record(n, 0)
		return s.CreateCustomer(t.Context(), acme, c, created(c), nil)
	})
	brought := grahak.ImportStep{State: grahak.ImportState{Rows: customers / 3, Created: customers / 3, StartedAt: record(0, 0).CreatedAt, UpdatedAt: record(0, 0).CreatedAt}}
	for n := range customers / 3 {
		c := record(customers+n, 0)
		c.ID, c.Brought = grahak.CustomerID(fmt.Sprintf("cst_z%015d", n)), true
		brought.Created = append(brought.Created, grahak.ImportWrite{Customer: c, Event: created(c)})
	}
	if done, err := s.ImportCustomers(t.Context(), acme, brought); err != nil || !done {
		t.Fatalf("import: %t, %v", done, err)
	}
	MustOrderAll(t, s, acme, 512)
	must(t, s.Close())
	one := record(customers/2, 0)
	for revision, counted := range []bool{false, true} {
		if counted {
			cluster.Exec(t, url, "ANALYZE")
		}
		number := newNumber(revision)
		for _, c := range []struct {
			name string
			do   func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error)
		}{
			{"by id", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				found, err := s.Customer(ctx, acme, one.ID, grahak.Index{})
				return found.ID, err
			}},
			{"by reference", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				found, err := s.Customer(ctx, acme, "", one.Reference)
				return found.ID, err
			}},
			{"search by reference", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				return only(s.FindCustomers(ctx, acme, grahak.CustomerIndex{Reference: one.Reference}, grahak.CustomerRange{}, 10))
			}},
			{"search by e-mail address", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				return only(s.FindCustomers(ctx, acme, grahak.CustomerIndex{Email: one.Email}, grahak.CustomerRange{}, 10))
			}},
			{"list", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				return only(s.Customers(ctx, acme, grahak.CustomerRange{Before: record(customers/2+1, 0).ID}, 1, 0))
			}},
			{"list beside brought ids", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				return only(s.Customers(ctx, acme, grahak.CustomerRange{Until: record(customers/2+1, 0).ID}, 1, 0))
			}},
			{"update", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				c := one
				c.Revision, c.Mobile = int64(revision)+2, number
				e := created(c)
				e.ID, e.Type, e.Revision = grahak.EventID(fmt.Sprintf("evt_%d", c.Revision)), grahak.EventCustomerUpdated, c.Revision
				if done, err := s.UpdateCustomer(ctx, acme, c, e, nil); !done {
					return "", err
				}
				return c.ID, nil
			}},
			{"search by a number that is pending", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				return only(s.FindCustomers(ctx, acme, grahak.CustomerIndex{Mobile: number}, grahak.CustomerRange{}, 10))
			}},
			{"order one event", func(_ context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				MustOrderAll(t, s, acme, 512)
				return one.ID, nil
			}},
			{"the events of one", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				list, err := s.EventsOf(ctx, acme, string(one.ID))
				if len(list) != revision+2 {
					return "", err
				}
				return grahak.CustomerID(list[0].Subject), err
			}},
			{"the events of one in a range", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				list, err := s.EventsIn(ctx, acme, grahak.EventRange{After: 1, Subject: string(one.ID), Newest: true}, 10)
				if len(list) != revision+2 {
					return "", err
				}
				return grahak.CustomerID(list[0].Subject), err
			}},
			{"the newest events before one", func(ctx context.Context, s *sqlstore.Postgres) (grahak.CustomerID, error) {
				list, err := s.EventsIn(ctx, acme, grahak.EventRange{Before: customers, Newest: true}, 10)
				if len(list) != 10 || list[0].Position != customers-1 {
					return "", err
				}
				return one.ID, err
			}},
		} {
			before := rowsRead(t, cluster, url)
			s := open()
			id, err := c.do(t.Context(), s)
			if err != nil || id != one.ID {
				t.Errorf("%s: got %q, %v; want %q", c.name, id, err, one.ID)
			}
			must(t, s.Close())
			if rows := rowsRead(t, cluster, url) - before; rows > customers/10 {
				t.Errorf("%s: read %d rows of a merchant with %d customers; counted: %t", c.name, rows, customers, counted)
			}
		}
	}
}

// only returns the customer of a list of one.
func only(list []grahak.CustomerRecord, _ int64, err error) (grahak.CustomerID, error) {
	if len(list) != 1 {
		return "", err
	}
	return list[0].ID, err
}

// rowsRead returns how many rows and index entries of customers and events all
// connections have read that are closed, and waits until those of stores are.
func rowsRead(t testing.TB, cluster *postgres.Cluster, url string) int64 {
	t.Helper()
	await(t, "the connections are closed", func() bool {
		return cluster.QueryText(t, url, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'grahak'`)[0] == "0"
	})
	text := cluster.QueryText(t, url, `SELECT sum(seq_tup_read) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('customers', 'events'))
		FROM pg_stat_user_tables WHERE relname IN ('customers', 'events')`)[0]
	rows, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
