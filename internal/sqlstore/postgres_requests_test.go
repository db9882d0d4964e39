package sqlstore_test

import (
	"crypto/rand"
	"testing"
	"time"

	"grahak"
	"grahak/internal/testkit/postgres"
)

// Requests of many merchants and their statistics are one round trip, and a server that
// does not answer holds them up for seconds only.
func TestRequestsTogether(t *testing.T) {
	t.Parallel()
	cluster := postgres.Shared(t)
	url := cluster.Database(t)
	proxy := cluster.Proxy(t)
	s := MustOpenPostgres(t, postgres.URL(url, proxy)).Requests()
	at := time.Now()
	put := func() error {
		var blocks []grahak.RequestBlock
		var stats []grahak.RequestStats
		for _, m := range []grahak.MerchantID{"acme", "bank", "shop"} {
			b := grahak.RequestBlock{Merchant: m, From: at, To: at, Count: 1, Filter: []byte{1}, Rows: make([]byte, 10_000)}
			_, _ = rand.Read(b.ID[:])
			blocks = append(blocks, b)
			stats = append(stats, grahak.RequestStats{Merchant: m, At: at.Truncate(time.Hour), Node: "node_1", Data: []byte{1}})
		}
		return s.PutRequests(t.Context(), blocks, stats)
	}
	must(t, put()) // From now on its statements are prepared.
	before := proxy.RoundTrips()
	must(t, put())
	if trips := proxy.RoundTrips() - before; trips != 1 {
		t.Errorf("%d round trips, want 1", trips)
	}
	if n := countBlocks(t, s, "bank"); n != 2 {
		t.Errorf("%d blocks, want 2", n)
	}
	proxy.HoldAnswers()
	began := time.Now()
	if err := put(); grahak.CodeOf(err) != grahak.CodeUnavailable {
		t.Errorf("without an answer: %v", err)
	}
	// Transactions of several steps have half a minute.
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("without an answer it gave up after %v", took)
	}
	proxy.Release()
}
