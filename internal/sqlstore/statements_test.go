package sqlstore_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// AcrossMerchants is the statements on merchants' rows that name no merchant, by
// how they begin, and why each of them may not: none is on the path of a customer.
// Where tables are distributed by merchant, these go to every shard.
var AcrossMerchants = map[string]string{
	"SELECT merchant_id, id, hash, prefix, label, scope, created_at, expires_at, revoked_at, last_used_at, last_used_addr FROM api_keys WHERE hash = $1": "An API key is how a request's merchant is found.",
	"SELECT t.merchant_id, t.customer_id, t.expires_at FROM client_auth_tokens t JOIN merchants m ON m.id = t.merchant_id WHERE t.hash = $1":             "A client auth token is all that its bearer has.",
	"SELECT count(*) FROM (SELECT 1 FROM client_auth_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1)":                                         "Tokens of all merchants expire alike: every ten seconds one node looks for such.",
	"DELETE FROM client_auth_tokens WHERE (merchant_id, customer_id, hash) IN (SELECT merchant_id, customer_id, hash FROM client_auth_tokens WHERE":      "It deletes what the look before has found.",
	"SELECT count(*) FROM (SELECT 1 FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1)":                                           "So do idempotency keys.",
	"DELETE FROM idempotency_keys WHERE (merchant_id, key_index) IN (SELECT merchant_id, key_index FROM idempotency_keys WHERE":                          "It deletes what the look before has found.",
	"SELECT merchant_id FROM unordered": "It is how the pass that orders events finds its merchants.",
	"SELECT merchant_id, count(*) FROM (SELECT merchant_id FROM pending_events WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2)": "It is how the pass that orders events finds its merchants on PostgreSQL.",
	"SELECT min(at) FROM pending_events":                             "It is a metric.",
	"SELECT merchant_id FROM keysets WHERE oldest_version < version": "It is how the walk that seals customers anew finds its merchants.",
	"SELECT merchant_id, revision, master_key_id, version, sealing, indexing, rotated_at, oldest_version, walking, walked_to, seen, unopened FROM keysets ORDER BY": "A master key is that of all merchants.",
	"SELECT merchant_id, operator, role, granted_by, granted_at FROM operator_grants WHERE operator = $1":                                                           "It is where an operator may go, and the table is small.",
	"SELECT merchant_id, operator, role, granted_by, granted_at FROM operator_grants ORDER BY":                                                                      "It is the command line's list of operators.",
	"SELECT EXISTS (SELECT 1 FROM keysets)": "It tells whether the master key is in use.",
	"SELECT merchant_id, id, url, types, label, created_at, disabled_at, disabled_for, secret_version, previous_until, cursor, failures, failing_since, resume_at, holder, term, coalesce(": "It is how the pass that sends events to endpoints finds those with something to do.",
	"SELECT min((SELECT at FROM events AS e WHERE e.merchant_id = w.merchant_id":                                                                                                            "It is a metric.",
	"SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM request_blocks":                                                                                                                    "The size of the request log is that of all merchants' together: one node looks at it in the background.",
	"SELECT merchant_id, id, to_at, bytes FROM request_blocks ORDER BY to_at LIMIT":                                                                                                         "It is what is oldest in the request log, whosever it is.",
	"SELECT merchant_id, node, at FROM request_stats WHERE at < $1 ORDER BY at":                                                                                                             "So are the oldest statistics.",
}

var (
	// ofMerchants is the tables whose rows are a merchant's.
	ofMerchants   = regexp.MustCompile(`\b(customers|events|pending_events|event_chain|lookup_runs|lookup_blocks|client_auth_tokens|idempotency_keys|keysets|ip_list|api_keys|unordered|imports|webhooks|webhook_retries|webhook_attempts|operators|operator_grants|operator_sessions|operator_codes|request_blocks|request_stats)\b`)
	namesMerchant = regexp.MustCompile(`\bmerchant_id = \$\d+`)
	givesMerchant = regexp.MustCompile(`^INSERT (?:OR ROLLBACK )?INTO \w+ \(merchant_id\b[^)]*\) (VALUES \(|SELECT )\$1\b|^WITH made AS \(INSERT INTO \w+ \(merchant_id\b[^)]*\) VALUES \(\$1\b`)
)

// oneLine is a statement without its line breaks.
func oneLine(query string) string { return strings.Join(strings.Fields(query), " ") }

// acrossMerchants reports whether a statement is one of [AcrossMerchants].
func acrossMerchants(query string) bool {
	for start := range AcrossMerchants {
		if strings.HasPrefix(oneLine(query), start) {
			return true
		}
	}
	return false
}

// checkMerchants fails the test if a statement on merchants' rows names no
// merchant.
func checkMerchants(t *testing.T, statements map[string]bool) {
	checked := 0
	for query := range statements {
		line := oneLine(query)
		if !ofMerchants.MatchString(line) {
			continue
		}
		checked++
		if named := namesMerchant.MatchString(line) || givesMerchant.MatchString(line); named == acrossMerchants(query) {
			t.Errorf("%s\nnames one merchant: %t; it is said to be across merchants: %t", line, named, !named)
		}
	}
	if checked < 50 {
		t.Errorf("%d statements on merchants' rows were seen: the suite did not run them all", checked)
	}
}

// unportable is what another database does otherwise, or does not have, or what a
// cluster of several cannot do; and what would have the database take the clock's
// or the service's place.
var unportable = regexp.MustCompile(`(?i)\bCOLLATE\b|\b(BIG|SMALL)?SERIAL\b|\bSEQUENCE\b|\bnextval\b|\bIDENTITY\b|\bAUTOINCREMENT\b|advisory|\bLISTEN\b|\bNOTIFY\b|\bTRIGGER\b` +
	`|\bCREATE\s+(OR\s+REPLACE\s+)?FUNCTION\b|\bnow\s*\(|\bclock_timestamp\b|\bCURRENT_(TIMESTAMP|TIME|DATE)\b|\bstrftime\b|\b(date|time|datetime|julianday|unixepoch)\s*\(` +
	`|\brandom\w*\s*\(|\buuid|_uuid|\bREFERENCES\b|\b(lower|upper)\s*\(|\bI?LIKE\b`)

// likes are the statements that look for a name in a list of names.
const likes = `(e.type = 'customer.created' OR e.changed LIKE '%email_address%' OR e.changed LIKE '%mobile_number%')`

// checkPortable fails the test if a statement is one that only one database
// understands, or each in its own way.
func checkPortable(t *testing.T, statements map[string]bool) {
	for query := range statements {
		if found := unportable.FindString(strings.ReplaceAll(query, likes, "")); found != "" {
			t.Errorf("%s\nis not portable: %s", oneLine(query), found)
		}
	}
}

// TestMigrationsArePortable holds the migrations to the same.
func TestMigrationsArePortable(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*/*.sql")
	if err != nil || len(files) < 3 {
		t.Fatalf("the migrations are %q (%v)", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "--")
			if found := unportable.FindString(line); found != "" {
				t.Errorf("%s: %s\nis not portable: %s", file, strings.TrimSpace(line), found)
			}
		}
	}
}

// fill gives eight merchants 1,500 customers each, with events, a part of them
// pending, a chain, look-up keys and tokens.
const fill = `
INSERT INTO merchants (id, name, ip_mode, created_at) SELECT convert_to('m' || m, 'UTF8'), '', 'off', 0 FROM generate_series(1, 8) AS m;
INSERT INTO keysets (merchant_id, master_key_id, sealing, indexing) SELECT id, 'mk', '\x00', '\x00' FROM merchants;
INSERT INTO api_keys (merchant_id, id, hash, prefix, label, scope, created_at)
	SELECT id, convert_to('key_' || n, 'UTF8'), sha256(id || convert_to('key_' || n, 'UTF8')), '', '', 'write', 0 FROM merchants, generate_series(1, 5) AS n;
INSERT INTO ip_list (merchant_id, prefix, label, added_by, created_at) SELECT id, '10.0.' || n || '.0/24', '', '', n FROM merchants, generate_series(1, 20) AS n;
INSERT INTO customers (merchant_id, id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at)
	SELECT id, convert_to('cst_' || lpad(n::text, 16, '0'), 'UTF8'), substr(sha256(id || convert_to(n::text, 'UTF8')), 1, 16),
		substr(sha256(convert_to('e' || n, 'UTF8')), 1, 8), substr(sha256(convert_to('m' || n, 'UTF8')), 1, 8), decode(repeat('00', 150), 'hex'), 1, 1, n, n
	FROM merchants, generate_series(1, 1500) AS n;
INSERT INTO client_auth_tokens (merchant_id, customer_id, hash, expires_at) SELECT merchant_id, id, sha256(merchant_id || id), created_at FROM customers;
INSERT INTO idempotency_keys (merchant_id, key_index, request_index, outcome, customer_id, expires_at) SELECT merchant_id, reference_index, reference_index, 'created', id, created_at FROM customers;
INSERT INTO events (merchant_id, position, id, type, subject, revision, actor, request_id, at)
	SELECT merchant_id, created_at, convert_to('evt_' || created_at, 'UTF8'), 'customer.created', id, 1, 'key', 'req', created_at FROM customers;
INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
	SELECT merchant_id, convert_to('evt_' || created_at, 'UTF8'), 'customer.updated', id, 1, 'key', 'req', created_at, 1 FROM customers WHERE created_at <= 300;
INSERT INTO event_chain (merchant_id, first_position, last_position, customers, proof, links)
	SELECT id, n * 10 + 1, n * 10 + 10, n, '\x00', decode(repeat('00', 320), 'hex') FROM merchants, generate_series(0, 119) AS n;
INSERT INTO lookup_runs (merchant_id, run, level, keys, whole) SELECT id, n, 0, 100, 1 FROM merchants, generate_series(1, 5) AS n;
INSERT INTO lookup_blocks (merchant_id, run, first, keys)
	SELECT id, r, sha256(convert_to(n::text, 'UTF8')), decode(repeat('00', 2000), 'hex') FROM merchants, generate_series(1, 5) AS r, generate_series(1, 50) AS n;
UPDATE customers SET brought = created_at WHERE created_at <= 300;
INSERT INTO imports (merchant_id, import_index, rows_done, created, updated, skipped, rejected, faults, started_at, updated_at, done)
	SELECT id, int8send(n), 0, 0, 0, 0, 0, '[]', 0, 0, 1 FROM merchants, generate_series(1, 5) AS n;
INSERT INTO webhooks (merchant_id, id, url, types, label, created_at, disabled_for, secret_version, cursor, failures, holder, term)
	SELECT id, convert_to('whe_' || n, 'UTF8'), '', '', '', 0, '', 1, 1000, 0, '', 0 FROM merchants, generate_series(1, 3) AS n;
INSERT INTO webhook_retries (merchant_id, webhook_id, position, event_id, customer_id, attempts, first_at, next_at)
	SELECT w.merchant_id, w.id, n, 'evt', convert_to('cst_' || lpad((n % 100)::text, 16, '0'), 'UTF8'), 1, 0, nullif(n % 10, 0) FROM webhooks AS w, generate_series(1, 500) AS n;
INSERT INTO webhook_attempts (merchant_id, webhook_id, at, event_id, position, attempt, took, status, failure)
	SELECT w.merchant_id, w.id, n, 'evt', n, 1, 0, 200, '' FROM webhooks AS w, generate_series(1, 2000) AS n;
INSERT INTO request_blocks (merchant_id, id, from_at, to_at, requests, bytes, filter, content)
	SELECT id, int8send(n) || id, n, n, 1, 1000, '\x00', decode(repeat('00', 1000), 'hex') FROM merchants, generate_series(1, 1000) AS n;
INSERT INTO request_stats (merchant_id, at, node, data) SELECT id, n, 'node', decode(repeat('00', 200), 'hex') FROM merchants, generate_series(1, 2880) AS n;
ANALYZE`

// A page of customers is the one statement whose plan is better for its arguments:
// without them PostgreSQL takes the range for a narrow one. It sees that, too. Of
// such as were brought, a page is another statement.
const (
	pageOfCustomers = `SELECT id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at FROM customers WHERE merchant_id = $1 AND id >= $2 AND id < $3 AND created_at >= $4`
	pageOfBrought   = `SELECT id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at FROM customers WHERE merchant_id = $1 AND brought IS NOT NULL AND`
	firstPage       = `('m1', '', '\xf48fbfbf', -9223372036854775808, 9223372036854775807, 10, 0)`
	firstOfBrought  = `('m1', -9223372036854775808, 9223372036854775807, '', 10, 0)`
)

// planNode is a node of a plan.
type planNode struct {
	Type      string     `json:"Node Type"`
	Relation  string     `json:"Relation Name"`
	Index     string     `json:"Index Cond"`
	Recheck   string     `json:"Recheck Cond"`
	Filter    string     `json:"Filter"`
	Operation string     `json:"Operation"`
	Plans     []planNode `json:"Plans"`
}

// each calls fn with the node and all below it.
func (n planNode) each(fn func(planNode)) {
	fn(n)
	for _, below := range n.Plans {
		below.each(fn)
	}
}

var (
	// merchantOnly is a condition on nothing but the merchant.
	merchantOnly = regexp.MustCompile(`^\(merchant_id = \$\d+\)$`)
	// grows is the tables that grow with the number of customers. What is pending
	// is little, but does so while nobody puts it in order. Statistics of requests are as
	// many a merchant as there are quarters of an hour in the time that they are kept for.
	grows = []string{"customers", "events", "event_chain", "lookup_blocks", "client_auth_tokens", "idempotency_keys", "pending_events", "webhook_retries", "webhook_attempts", "request_blocks"}
)

// readsAll is the statements that may read all of a table that grows, by how they
// begin; none of them is one of a request.
var readsAll = []string{
	// The planner takes a tenth of all tokens for what is to be deleted, if it is
	// not told how many: then that is the fastest. It is told.
	"DELETE FROM client_auth_tokens WHERE (merchant_id, customer_id, hash) IN",
	"DELETE FROM idempotency_keys WHERE (merchant_id, key_index) IN",
	// It looks at what is pending, as a metric.
	"SELECT min(at) FROM pending_events",
	// It reads an index, which has nothing of what the blocks hold.
	"SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM request_blocks",
}

// sortsSome is the statements that sort what no index has in order, by how they
// begin: the few rows of one customer, and customers with pending events.
var sortsSome = []string{
	sortsFew,
	"SELECT position, id, type, subject, revision, changed, actor, request_id, at FROM events WHERE merchant_id = $1 AND subject = $2",
	"WITH about AS MATERIALIZED (SELECT position, id, type, subject, revision, changed, actor, request_id, at FROM events WHERE merchant_id = $1 AND subject = $5)",
	"SELECT id, reference_index, email_index, mobile_index, sealed, key_version, revision, created_at, updated_at FROM (SELECT DISTINCT subject FROM pending_events WHERE",
	// What was given up is little, and looked at when a log is pruned.
	"SELECT position FROM webhook_retries WHERE merchant_id = $1 AND webhook_id = $2 AND coalesce(next_at, 0) = 0",
}

// checkPostgresPlans fails the test if PostgreSQL, for a statement on a table that
// grows, reads rows that it does not need, or another merchant's, or sorts what an
// index has in order. Plans are those that it makes without arguments, because
// after five runs it takes such a plan unless it finds it to be the worse one.
func checkPostgresPlans(t *testing.T, databases *databases, statements map[string]bool) {
	url := databases.MustTake(t)
	MustOpenPostgres(t, url)
	databases.cluster.Exec(t, url, fill)
	begins := func(query string, starts []string) bool {
		return slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(oneLine(query), start) })
	}
	checked := 0
	for query := range statements {
		args, mode := "", "force_generic_plan"
		if n := len(slices.Compact(slices.Sorted(slices.Values(number.FindAllString(query, -1))))); n > 0 {
			args = "(" + strings.Repeat("NULL, ", n-1) + "NULL)"
		}
		runs := ""
		if strings.HasPrefix(oneLine(query), pageOfCustomers) {
			args, mode = firstPage, "auto"
		} else if strings.HasPrefix(oneLine(query), pageOfBrought) {
			args, mode = firstOfBrought, "auto"
		}
		if mode == "auto" {
			runs = strings.Repeat("EXECUTE s "+args+"; ", 10)
		}
		lines := databases.cluster.QueryText(t, url, "SET plan_cache_mode = "+mode+"; PREPARE s AS "+query+"; "+runs+"EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE s"+args)
		var plans []struct{ Plan planNode }
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &plans); err != nil || len(plans) != 1 {
			t.Fatalf("%s: %v\n%s", query, err, lines)
		}
		scans := 0
		plans[0].Plan.each(func(n planNode) {
			if strings.HasSuffix(n.Type, "Sort") && !begins(query, sortsSome) {
				n.each(func(below planNode) {
					if slices.Contains(grows, below.Relation) && below.Relation != "pending_events" {
						t.Errorf("%s\nsorts rows of %s", oneLine(query), below.Relation)
					}
				})
			}
			if !slices.Contains(grows, n.Relation) || n.Operation != "" {
				return
			}
			scans++
			condition := n.Index + n.Recheck
			switch {
			case begins(query, readsAll):
			case n.Type == "Seq Scan":
				t.Errorf("%s\nreads all of %s", oneLine(query), n.Relation)
			case acrossMerchants(query):
			case !strings.Contains(condition, "merchant_id = "):
				t.Errorf("%s\nreads %s by %q, whosever they are", oneLine(query), n.Relation, condition)
			case merchantOnly.MatchString(condition) && n.Relation != "pending_events" && !begins(query, endOnly):
				t.Errorf("%s\nreads all %s of a merchant", oneLine(query), n.Relation)
			}
		})
		if scans > 0 {
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("%d statements that read tables that grow were seen: the suite did not run them all", checked)
	}
}
