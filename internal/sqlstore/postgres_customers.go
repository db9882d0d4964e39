package sqlstore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"grahak"
)

const pendingColumns = `merchant_id, id, type, subject, revision, changed, actor, request_id, at`

// The parts of a transaction: creates come first, in the order of references, then
// what changes customers, in that of ids. A customer's tokens come after its changes:
// they share its lock, and two transactions that share a lock wait for each other if
// both then want it for themselves.
const (
	turnCreate = "1"
	turnChange = "2"
	turnToken  = "\x00"
)

// customerStatements are the statements that write a customer of one kind, by what
// they write besides: a sum of withToken and withKey.
type customerStatements [4]string

// newCustomerStatements returns the statements of a change, whose CTEs end with
// made, the customer as it was written, and whose event is inserted from that.
// Parameters from next on are those that [customerStatements.with] adds. guard is a
// condition that the change has to make its own, unless it is empty.
func newCustomerStatements(next int, change func(guard string) string, event string) (list customerStatements) {
	for i := range list {
		n, guard, ctes := next, "", ""
		if i&withToken != 0 {
			ctes += fmt.Sprintf(`, issued AS (INSERT INTO client_auth_tokens (merchant_id, customer_id, hash, expires_at) SELECT merchant_id, $%d, $%d, $%d FROM made)`, n, n+1, n+2)
			n += 3
		}
		if i&withKey != 0 {
			guard = fmt.Sprintf(`NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE merchant_id = $1 AND key_index = $%d AND expires_at > $%d)`, n, n+1)
			ctes += fmt.Sprintf(`, kept AS (`+keepIdempotency+`SELECT merchant_id, $%d, $%d, $%d, $%d, $%d FROM made`+orReplaceExpired+`)`, n, n+2, n+3, n+4, n+5, n+1) // the parameters in the order in which they stand there
		}
		list[i] = change(guard) + ctes + event
	}
	return list
}

// A request that has the same key as one that is being written waits here, and then
// fails for want of a request_index: so what it wrote before that is undone.
const (
	keepIdempotency  = `INSERT INTO idempotency_keys (merchant_id, key_index, request_index, outcome, customer_id, expires_at) `
	orReplaceExpired = ` ON CONFLICT (merchant_id, key_index) DO UPDATE SET
		request_index = CASE WHEN idempotency_keys.expires_at <= $%d THEN excluded.request_index END,
		outcome = excluded.outcome, customer_id = excluded.customer_id, expires_at = excluded.expires_at`
)

const (
	withToken = 1
	withKey   = 2
)

// and returns a condition that follows another.
func and(condition string) string {
	if condition == "" {
		return ""
	}
	return " AND " + condition
}

// with returns w as the statement of a write with what there is besides.
func (list *customerStatements) with(b *grahak.Besides, w *write) *write {
	kind := 0
	if b != nil && b.Token != nil {
		kind |= withToken
		w.args = append(w.args, string(b.Token.Customer), b.Token.Hash[:], b.Token.ExpiresAt.UnixMicro())
	}
	if b != nil && b.Key != nil {
		kind |= withKey
		w.args = append(w.args, b.Key.Key[:], b.Key.At.UnixMicro(), b.Key.Request[:], string(b.Key.Outcome), string(b.Key.Customer), b.Key.ExpiresAt.UnixMicro())
	}
	w.query = list[kind]
	return w
}

// The created customer's insert feeds its event's.
var createCustomer = newCustomerStatements(18, func(guard string) string {
	values := `SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE ` + guard
	if guard == "" {
		values = `VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	}
	return `WITH made AS (INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at)
		` + values + ` ON CONFLICT (merchant_id, reference_index) DO NOTHING RETURNING merchant_id, id)`
}, ` INSERT INTO pending_events (`+pendingColumns+`, reindex)
	SELECT merchant_id, $11, $12, id, $13, $14, $15, $16, $17, 1 FROM made`)

// CreateCustomer implements [grahak.CustomerStore].
func (s *Postgres) CreateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, b *grahak.Besides) error {
	w := createCustomer.with(b, &write{
		args: []any{
			string(m), string(c.ID), c.Reference[:], short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.CreatedAt.UnixMicro(), c.UpdatedAt.UnixMicro(),
			string(e.ID), string(e.Type), e.Revision, changedFields(e), e.Actor, e.RequestID, e.At.UnixMicro(),
		},
		sealed:  true,
		version: c.Sealed.Version,
		turn:    turnCreate + string(c.Reference[:]),
	})
	if err := s.lanes.do(ctx, m, w); err != nil {
		return err
	}
	if w.rows == 0 {
		return grahak.Errorf(grahak.CodeDuplicateReference, "A customer with this reference exists.")
	}
	return nil
}

// An update locks the customer first, to tell what it replaces. The lock and the
// update look for the same revision, so they find the same row or none.
var updateCustomer = newCustomerStatements(17, func(guard string) string {
	return `WITH old AS MATERIALIZED (SELECT merchant_id, id, email_index, mobile_index FROM customers WHERE merchant_id = $1 AND id = $2 AND revision = $3` + and(guard) + ` FOR NO KEY UPDATE),
		made AS (UPDATE customers AS c SET email_index = $4, mobile_index = $5, sealed = $6, key_version = $7, revision = $8, updated_at = $9
			FROM old WHERE c.merchant_id = $1 AND c.id = $2 AND old.merchant_id = $1 AND c.id = old.id
			RETURNING c.merchant_id, c.id, old.email_index AS old_email, old.mobile_index AS old_mobile, c.email_index AS new_email, c.mobile_index AS new_mobile)`
}, ` INSERT INTO pending_events (`+pendingColumns+`, reindex, old_email, old_mobile)
	SELECT merchant_id, $10, $11, id, $12, $13, $14, $15, $16,
		CASE WHEN old_email IS DISTINCT FROM new_email OR old_mobile IS DISTINCT FROM new_mobile THEN 1 ELSE 0 END,
		CASE WHEN old_email IS DISTINCT FROM new_email THEN old_email END,
		CASE WHEN old_mobile IS DISTINCT FROM new_mobile THEN old_mobile END FROM made`)

// UpdateCustomer implements [grahak.CustomerStore].
func (s *Postgres) UpdateCustomer(ctx context.Context, m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event, b *grahak.Besides) (bool, error) {
	w := updateCustomer.with(b, &write{
		args:    updateArgs(m, c, e),
		sealed:  true,
		version: c.Sealed.Version,
		turn:    turnChange + string(c.ID),
	})
	if err := s.lanes.do(ctx, m, w); err != nil {
		return false, err
	}
	if w.rows == 0 {
		return false, s.customerExists(ctx, m, c.ID)
	}
	return true, nil
}

// updateArgs returns the arguments of updateCustomer.
func updateArgs(m grahak.MerchantID, c grahak.CustomerRecord, e grahak.Event) []any {
	return []any{
		string(m), string(c.ID), c.Revision - 1, short(c.Email), short(c.Mobile), c.Sealed.Bytes, c.Sealed.Version, c.Revision, c.UpdatedAt.UnixMicro(),
		string(e.ID), string(e.Type), e.Revision, changedFields(e), e.Actor, e.RequestID, e.At.UnixMicro(),
	}
}

var eraseCustomer = newCustomerStatements(11, func(guard string) string {
	return `WITH made AS (DELETE FROM customers WHERE merchant_id = $1 AND id = $2 AND revision = $3` + and(guard) + ` RETURNING merchant_id, id, email_index, mobile_index),
	spent AS (DELETE FROM client_auth_tokens AS t USING made WHERE t.merchant_id = $1 AND t.customer_id = $2 AND t.customer_id = made.id)`
}, ` INSERT INTO pending_events (`+pendingColumns+`, reindex, old_email, old_mobile)
	SELECT merchant_id, $4, $5, id, $6, $7, $8, $9, $10, 1, email_index, mobile_index FROM made`)

// EraseCustomer implements [grahak.CustomerStore]. The customer is locked by a
// statement before: the tokens that are deleted are those that were there when it
// began, and some may have been made while it waited for the lock. The pass that
// orders events takes the indexes out of the look-up index.
func (s *Postgres) EraseCustomer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, revision int64, e grahak.Event, b *grahak.Besides) (bool, error) {
	w := eraseCustomer.with(b, &write{
		args:  []any{string(m), string(id), revision, string(e.ID), string(e.Type), e.Revision, changedFields(e), e.Actor, e.RequestID, e.At.UnixMicro()},
		turn:  turnChange + string(id),
		first: &write{query: `SELECT revision FROM customers WHERE merchant_id = $1 AND id = $2 FOR UPDATE`, args: []any{string(m), string(id)}},
	})
	if err := s.lanes.do(ctx, m, w); err != nil {
		return false, err
	}
	if w.rows == 0 {
		return false, s.customerExists(ctx, m, id)
	}
	return true, nil
}

// PutToken implements [grahak.CustomerStore].
func (s *Postgres) PutToken(ctx context.Context, m grahak.MerchantID, token grahak.TokenRecord) error {
	w := &write{
		query: `INSERT INTO client_auth_tokens (merchant_id, customer_id, hash, expires_at)
			SELECT merchant_id, id, $3, $4 FROM customers WHERE merchant_id = $1 AND id = $2 FOR KEY SHARE`,
		args: []any{string(m), string(token.Customer), token.Hash[:], token.ExpiresAt.UnixMicro()},
		turn: turnChange + string(token.Customer) + turnToken,
	}
	err := s.lanes.do(ctx, m, w)
	if err == nil && w.rows == 0 {
		return errCustomerNotFound
	}
	return err
}

// customerExists returns nil if the customer exists.
func (s *Postgres) customerExists(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID) error {
	_, err := s.Customer(ctx, m, id, grahak.Index{})
	return err
}

// maxLookUpsTogether bounds how many look-ups share a round trip.
const maxLookUpsTogether = 64

// lookUp is the look-up of a customer.
type lookUp struct {
	query string // customerByID or customerByReference
	args  []any
	found grahak.CustomerRecord // set before the job is done; without an id for none
}

// Customer implements [grahak.CustomerStore].
func (s *Postgres) Customer(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, reference grahak.Index) (grahak.CustomerRecord, error) {
	var ways []*lookUp
	if id != "" {
		ways = append(ways, &lookUp{query: customerByID, args: []any{string(m), string(id)}})
	}
	if reference != (grahak.Index{}) {
		ways = append(ways, &lookUp{query: customerByReference, args: []any{string(m), reference[:]}})
	}
	for _, l := range ways {
		if err := s.lookUps.do(ctx, l); err != nil {
			return grahak.CustomerRecord{}, err
		}
		if l.found.ID != "" {
			return l.found, nil
		}
	}
	return grahak.CustomerRecord{}, errCustomerNotFound
}

// startLookUps begins to run look-ups of customers: those that wait share a round
// trip.
func (s *Postgres) startLookUps() {
	s.lookUps = newQueue[*lookUp]("reads", lookUps, operationLimit+time.Second)
	for range min(cap(s.finding), max(2, runtime.GOMAXPROCS(0))) {
		s.lookUps.workers.Add(1)
		go s.lookUps.work(make([]*job[*lookUp], 0, maxLookUpsTogether), s.findTogether)
	}
}

// findTogether runs look-ups in one round trip and sets the error of each.
func (s *Postgres) findTogether(jobs []*job[*lookUp]) {
	err := s.run(context.Background(), operation{slots: s.finding, limit: operationLimit, again: true}, func(c *postgresConn) error {
		// What is not prepared yet takes a round trip, which has to be before these.
		for _, j := range jobs {
			if _, err := c.prepare(j.work.query); err != nil {
				return err
			}
		}
		p := c.raw.StartPipeline(c.ctx)
		for _, j := range jobs {
			if err := j.work.send(c, p); err != nil {
				_ = p.Close()
				return err
			}
		}
		err := p.Sync()
		if err == nil {
			err = readLookUps(p, jobs)
		}
		if closeErr := p.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	for _, j := range jobs {
		j.err = err
	}
}

// send sends the query, which is prepared, with p.
func (l *lookUp) send(c *postgresConn, p *pgconn.Pipeline) error {
	described, err := c.prepare(l.query)
	if err != nil {
		return err
	}
	values, err := encodeArgs(described, l.args)
	if err == nil {
		p.SendQueryStatement(described, values, binaryFormat, binaryFormat)
	}
	return err
}

// readLookUps reads the results of look-ups.
func readLookUps(p *pgconn.Pipeline, jobs []*job[*lookUp]) error {
	for _, j := range jobs {
		answer, err := p.GetResults()
		if err != nil {
			return err
		}
		result, ok := answer.(*pgconn.ResultReader)
		if !ok {
			return fmt.Errorf("the database answered with %T in a pipeline", answer)
		}
		j.work.found = grahak.CustomerRecord{}
		for result.NextRow() {
			c, err := scanCustomer(postgresRow(result.Values()))
			if err != nil {
				return err
			}
			j.work.found = c
		}
		if _, err := result.Close(); err != nil {
			return err
		}
	}
	return nil
}

// total implements [engine]: the chain counts up to its head, and the rest is
// pending. One statement sees both as of one moment.
func (s *Postgres) total(c conn, m grahak.MerchantID) (total int64, err error) {
	err = c.queryRow(`SELECT coalesce((SELECT customers FROM event_chain WHERE merchant_id = $1 ORDER BY first_position DESC LIMIT 1), 0)
		+ coalesce((SELECT CAST(sum(CASE type WHEN 'customer.created' THEN 1 WHEN 'customer.erased' THEN -1 ELSE 0 END) AS BIGINT) FROM pending_events WHERE merchant_id = $1), 0)`, string(m)).Scan(&total)
	return total, err
}

// search implements [engine]: the look-up index has the customers but for those
// with pending events. It may still have one under a value that the customer no
// longer has, which a pending event tells of.
//
// The customers are looked up one by one (LATERAL … LIMIT 1): a planner that is
// free to choose may read all of a merchant's instead, if it takes them for few.
func (s *Postgres) search(c conn, m grahak.MerchantID, value grahak.ShortIndex, from, before string, limit int) ([]grahak.CustomerRecord, error) {
	list, err := queryCustomers(c, `SELECT `+customerColumns+`
		FROM (SELECT DISTINCT subject FROM pending_events WHERE merchant_id = $1 AND reindex = 1 AND subject >= $3 AND subject < $4) AS changed
		CROSS JOIN LATERAL (SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = changed.subject LIMIT 1) AS customer
		WHERE email_index = $2 OR mobile_index = $2 ORDER BY id DESC LIMIT $5`, string(m), value[:], from, before, limit)
	if err != nil {
		return nil, err
	}
	for have := 0; have < limit; {
		found, err := searchKeys(c, m, value[:], from, before, limit)
		if err != nil {
			return nil, err
		}
		current, err := queryCustomers(c, `SELECT `+customerColumns+`
			FROM unnest($3::bytea[]) AS found (found_id)
			CROSS JOIN LATERAL (SELECT `+customerColumns+` FROM customers WHERE merchant_id = $1 AND id = found_id LIMIT 1) AS customer
			WHERE email_index = $2 OR mobile_index = $2`, string(m), value[:], found)
		if err != nil {
			return nil, err
		}
		list = append(list, current...)
		have += len(current)
		if len(found) < limit {
			break
		}
		before = found[len(found)-1]
	}
	return newestFirst(list, limit), nil
}

// appendEvent implements [tx].
func (c *postgresConn) appendEvent(m grahak.MerchantID, e grahak.Event) error {
	return c.later(`INSERT INTO pending_events (`+pendingColumns+`, reindex) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)`,
		string(m), string(e.ID), string(e.Type), e.Subject, e.Revision, changedFields(e), e.Actor, e.RequestID, e.At.UnixMicro())
}

// lockAccess implements [tx].
func (c *postgresConn) lockAccess() error {
	var id int64
	return c.queryRow(`SELECT id FROM instance WHERE id = 1 FOR UPDATE`).Scan(&id)
}

// lockIndex implements [tx]. Writes that only hold the merchant's keys go on.
func (c *postgresConn) lockIndex(m grahak.MerchantID) error {
	return c.query(func(row) error { return nil }, `SELECT version FROM keysets WHERE merchant_id = $1 FOR NO KEY UPDATE`, string(m))
}

// lockKeys implements [tx]. A statement that began before the rotation, and that locks
// the row only after this transaction, would be given a lock of the row as it was, key
// and all: that lock and an update of no key do not conflict. An update under the lock
// that this takes does conflict, whatever it changes; so such a statement looks again.
func (c *postgresConn) lockKeys(m grahak.MerchantID) error {
	err := c.query(func(row) error { return nil }, `SELECT version FROM keysets WHERE merchant_id = $1 FOR UPDATE`, string(m))
	if err == nil {
		_, err = c.exec(`UPDATE keysets SET revision = revision WHERE merchant_id = $1`, string(m))
	}
	return err
}

// rotated implements [tx]: nothing is remembered.
func (c *postgresConn) rotated(grahak.MerchantID) {}

// unfound implements [tx].
func (c *postgresConn) unfound(grahak.MerchantID, []byte, grahak.CustomerID) {}

// inRevisionOrder puts the events of each customer among list in the order of its
// revisions: clocks of different nodes may differ, and ids with them.
func inRevisionOrder(list []grahak.Event) {
	places := make(map[string][]int)
	for i, e := range list {
		if e.Revision > 0 {
			places[e.Subject] = append(places[e.Subject], i)
		}
	}
	for _, at := range places {
		if len(at) < 2 {
			continue
		}
		events := make([]grahak.Event, len(at))
		for i, place := range at {
			events[i] = list[place]
		}
		slices.SortStableFunc(events, func(a, b grahak.Event) int { return int(a.Revision - b.Revision) })
		for i, place := range at {
			list[place] = events[i]
		}
	}
}
