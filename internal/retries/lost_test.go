package retries_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit/postgres"
)

// statements are what is in the statement that makes each operation's change.
var statements = map[string]string{
	"create": "INSERT INTO customers", "make": "INSERT INTO customers",
	"fetch": "COMMIT", "update of nothing": "COMMIT",
	"fetch and update": "UPDATE customers", "update": "UPDATE customers", "erase": "DELETE FROM customers",
}

// A write whose answer the database gave and nobody heard is answered 503, and
// whoever sends it again learns that it took effect. One that never reached the
// database is answered 503 and not remembered: it takes effect when it is sent
// again.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	bodies := MustBodies(t)
	cluster := postgres.Shared(t)
	proxy := cluster.Proxy(t)
	d := MustDeployPostgres(t, postgres.URL(cluster.Database(t), proxy))
	for i, o := range operations {
		for side, cutAt := range map[string]func(string) <-chan postgres.Cut{"before": proxy.CutBefore, "after": proxy.CutAfter} {
			what := fmt.Sprintf("%s, cut %s the commit's answer", o.name, side)
			reference := person("lost-"+side, i)
			d.MustExist(t, o, reference)
			r := o.write(reference)
			r.key = reference
			cut := cutAt(statements[o.name])
			lost := d.MustSend(t, r)
			// The key of what changes nothing else is written again by the store itself.
			again := statements[o.name] == "COMMIT"
			if again {
				lost.id(t)
			} else {
				lost.is(t, what, bodies["unavailable"])
			}
			if (lost.retry == "") != again {
				t.Errorf("%s: Retry-After is %q", what, lost.retry)
			}
			select {
			case c := <-cut:
				if side == "after" && !again && !slices.ContainsFunc(c.Answer, func(tag string) bool { return strings.HasPrefix(tag, "INSERT 0 1") }) {
					t.Fatalf("%s: the database said %q to %q", what, c.Answer, c.SQL)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: nothing was cut", what)
			}
			first := d.MustSend(t, r)
			if (first.Replayed != "") != (again || side == "after") {
				t.Errorf("%s: sent again it is answered %+v", what, first)
			}
			d.MustSend(t, r).is(t, what+", sent a third time", replayed(first))
			if o.name == "create" {
				r.key = "" // Who has no key is told that somebody was first.
				duplicate := bodies["duplicate_reference"]
				duplicate.Existing = first.id(t)
				d.MustSend(t, r).is(t, what+", without its key", duplicate)
			}
			d.MustHave(t, what, first.id(t), o.events...)
		}
	}
}

// A client that hangs up before it has its answer, and sends the same again, is
// answered as if it had waited: the write took effect once.
func TestHungUp(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, d *deployment) {
		for i, o := range operations {
			for round := range 3 {
				what := fmt.Sprintf("%s, round %d", o.name, round)
				reference := person(fmt.Sprintf("hung-up-%d", round), i)
				d.MustExist(t, o, reference)
				r := o.write(reference)
				r.key = reference
				d.MustHangUp(t, r)
				first := d.MustSend(t, r)
				first.Replayed = ""
				d.MustSend(t, r).is(t, what, replayed(first))
				d.MustHave(t, what, first.id(t), o.events...)
			}
		}
	})
}

// MustHangUp sends a request on a connection of its own and closes that at once.
func (d *deployment) MustHangUp(tb testing.TB, r request) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.nodes[0].api.Listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	contentType, body := encodings["form"](r.pairs)
	req, err := http.NewRequestWithContext(ctx, r.method, d.nodes[0].api.URL+r.path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Idempotency-Key", r.key)
	req.SetBasicAuth(d.keys[acme], "")
	w := bufio.NewWriter(conn)
	if err := req.Write(w); err != nil {
		tb.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		tb.Fatal(err)
	}
}

// Requests with one key that the database keeps waiting, on two nodes, are answered
// when it goes on: one took effect.
func TestHeldUp(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	database := cluster.Database(t)
	d := MustDeployPostgres(t, database)
	d.MustJoin(t)
	for i, o := range operations {
		if !strings.HasPrefix(statements[o.name], "UPDATE") && !strings.HasPrefix(statements[o.name], "DELETE") {
			continue // Others wait for no row.
		}
		reference := person("held-up", i)
		d.MustExist(t, o, reference)
		release := cluster.Hold(t, database, `SELECT id FROM customers WHERE merchant_id = 'acme' FOR UPDATE`)
		t.Cleanup(release)
		r := o.write(reference)
		r.key = reference
		type result struct {
			answer
			err error
		}
		results := make(chan result, len(d.nodes))
		for _, n := range d.nodes {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				a, err := d.send(ctx, n, r)
				for err == nil && a.Status == http.StatusServiceUnavailable {
					// A lock is given up on after some seconds, and they need not begin together.
					a, err = d.send(ctx, n, r)
				}
				results <- result{a, err}
			}()
		}
		MustWait(t, cluster, database, len(d.nodes))
		release()
		var list []answer
		for range d.nodes {
			got := <-results
			if got.err != nil {
				t.Fatal(got.err)
			}
			list = append(list, got.answer)
		}
		slices.SortFunc(list, func(a, b answer) int { return strings.Compare(a.Replayed, b.Replayed) })
		list[1].is(t, o.name, replayed(list[0]))
		if list[0].Replayed != "" {
			t.Errorf("%s: nobody has taken effect: %+v", o.name, list)
		}
		d.MustHave(t, o.name, list[0].id(t), o.events...)
	}
}

// MustWait returns when so many connections of a database wait for a lock.
func MustWait(tb testing.TB, c *postgres.Cluster, database string, want int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got := c.QueryText(tb, database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
		if got[0] == strconv.Itoa(want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("%s connections wait for a lock, want %d", got[0], want)
		}
	}
}
