package sqlstore_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/testkit/postgres"
)

// TestUnorderedBehindMany holds that a merchant is found whose events are few, or
// who only has runs to merge, among others with very many.
func TestUnorderedBehindMany(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	s := MustOpenPostgres(t, url)
	cluster.Exec(t, url, `
		INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
			SELECT m::bytea, int8send(n), 'key.created', '', 0, '', '', 0, 0
			FROM (VALUES ('b', 25000), ('c', 1), ('d', 20000), ('e', 2)) AS merchants (m, events) CROSS JOIN LATERAL generate_series(1, events) AS n;
		INSERT INTO unordered VALUES ('a'), ('c'), ('f')`)
	got, err := s.Unordered(t.Context())
	must(t, err)
	if diff := cmp.Diff([]grahak.MerchantID{"a", "b", "c", "d", "e", "f"}, got); diff != "" {
		t.Errorf("the merchants with something to do (-want +got):\n%s", diff)
	}
}

// TestPendingOfOneMoment holds that a customer's revisions are put in order without a
// gap, also if some are written while they are read, on nodes whose clocks differ.
func TestPendingOfOneMoment(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	proxy := cluster.Proxy(t)
	s := MustOpenPostgres(t, postgres.URL(url, proxy))
	write := func(m grahak.MerchantID, id string, revision int) {
		cluster.Exec(t, url, fmt.Sprintf(`INSERT INTO pending_events (merchant_id, id, type, subject, revision, actor, request_id, at, reindex)
			VALUES ('%s', '%s', 'customer.updated', 'cst_1', %d, '', '', 0, 0)`, m, id, revision))
	}
	pending := func(m grahak.MerchantID) (revisions []int64) {
		events, err := s.Pending(t.Context(), m, 0, 2)
		if err != nil {
			t.Error(err)
		}
		for _, e := range events {
			revisions = append(revisions, e.Revision)
		}
		return revisions
	}
	write("none", "evt_5", 2)
	write("none", "evt_6", 3)
	pending("none") // From now on its statements are prepared.
	for trip := range int64(6) {
		m := grahak.MerchantID(fmt.Sprintf("m%d", trip))
		write(m, "evt_5", 2)
		write(m, "evt_6", 3)
		// Two more are written while an answer is on its way, of which the earlier one
		// has the lower id.
		start, held := proxy.RoundTrips(), proxy.HoldAnswers()
		read := make(chan []int64, 1)
		go func() { read <- pending(m) }()
		var got []int64
		await(t, "an answer is on its way", func() bool {
			select {
			case got = <-read:
				return true
			case <-held:
			default:
				return false
			}
			if proxy.RoundTrips() > start+trip {
				return true
			}
			proxy.Release()
			held = proxy.HoldAnswers()
			return false
		})
		write(m, "evt_3", 4)
		write(m, "evt_9", 5)
		proxy.Release()
		if got == nil {
			got = <-read
		}
		if want := []int64{2, 3, 4, 5}[:min(len(got), 4)]; len(got) < 2 || !slices.Equal(got, want) {
			t.Errorf("written during round trip %d: the revisions are put in order as %v", trip+1, got)
		}
	}
}
