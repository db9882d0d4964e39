package postgres_test

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak/internal/testkit/postgres"
)

// Clients that do not wait long for an answer and ask anew pile up nothing in a
// node whose database stands still: what it holds is bounded, and it is let go.
func TestPauseUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		connections = 200 // that the node takes
		clients     = 300
		patience    = 300 * time.Millisecond
		// A connection takes one goroutine and one more while its request is served.
		// The rest is the node's own work and its connections to the database.
		bound = 2*connections + 300
	)
	cluster := postgres.Start(t, postgres.Options{})
	d := MustDeploy(t, cluster)
	node := d.node(t, "", "--max-connections", strconv.Itoa(connections), "--log-level", "error")
	acme := d.MustMerchant(t, "acme")
	cases := MustWireCases(t)
	// The patient client has a connection before the crowd comes.
	patient := newClient(t, node.BaseURL, acme.Key)
	var serial atomic.Int64
	create := func() answer {
		a, err := patient.create(t.Context(), form(serial.Add(1)))
		if err != nil || a.took > answerBound {
			t.Fatalf("a create is answered after %v: %v", a.took, err)
		}
		return a
	}
	if a := create(); a.status != http.StatusOK {
		t.Fatalf("a create is answered %d %s", a.status, a.body)
	}
	quiet := MustScrape(t, node)[goroutines]

	cluster.Pause(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var crowd sync.WaitGroup
	var sent atomic.Int64
	for i := range clients {
		c := newClient(t, node.BaseURL, acme.Key)
		// A connection that the node has no place for is given up as well.
		c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: patience}).DialContext}
		crowd.Go(func() {
			for ctx.Err() == nil {
				hurry, cancel := context.WithTimeout(ctx, patience)
				// It is gone before it is answered, most of the time.
				if i%2 == 0 {
					_, _ = c.create(hurry, form(serial.Add(1)))
				} else {
					_, _ = c.get(hurry, "person+1@example.com")
				}
				<-hurry.Done()
				cancel()
				sent.Add(1)
			}
		})
	}
	var most, waiting, memory float64
	began := time.Now()
	for time.Since(began) < time.Duration(long(5))*12*time.Second {
		now := MustScrape(t, node)
		most, waiting, memory = max(most, now[goroutines]), max(waiting, now[queued]), max(memory, now[resident])
		if open := now[inUse] + now[idle]; open > now[maxConnections] {
			t.Errorf("the node has %v connections to its database, want %v at most", open, now[maxConnections])
		}
		if now[queued] > now[queueCapacity] {
			t.Errorf("%v writes wait, want %v at most", now[queued], now[queueCapacity])
		}
		if a := create(); !a.is(cases["unavailable"]) {
			t.Fatalf("a create without a database is answered %d %s", a.status, a.body)
		}
	}
	if most > bound {
		t.Errorf("the node had %v goroutines, want %d at most", most, bound)
	}
	stop()
	crowd.Wait()
	cluster.Resume(t)
	back := time.Now()
	await(t, "a create is answered again", recoveryBound, func() bool { return create().status == http.StatusOK })
	served := time.Since(back)
	await(t, "the node lets go of what it held", recoveryBound, func() bool {
		now := MustScrape(t, node)
		return now[queued] == 0 && now[goroutines] < quiet+50
	})
	t.Logf("%d requests were given up: at most %v goroutines (%v before), %v writes waiting, %.0f MiB; served again after %v",
		sent.Load(), most, quiet, waiting, memory/(1<<20), served.Round(time.Millisecond))
	d.MustBeWhole(t, nil)
}
