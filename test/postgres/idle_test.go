package postgres_test

import (
	"net/http"
	"sync"
	"testing"

	"grahak/internal/testkit/postgres"
)

// Connections that the server has closed while nobody used them are nobody's
// trouble: the first request after that is served.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{})
	d := MustDeploy(t, cluster)
	node := d.node(t, "")
	acme := d.MustMerchant(t, "acme")
	c := newClient(t, node.BaseURL, acme.Key)
	customers := 0
	create := func() (answer, error) {
		customers++
		return c.create(t.Context(), form(int64(customers)))
	}
	list := func() (answer, error) { return c.do(t.Context(), http.MethodGet, "/customers", nil, "") }
	must := func(what string, send func() (answer, error)) {
		t.Helper()
		if a, err := send(); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: the answer is %d %s (%v)", what, a.status, a.body, err)
		}
	}
	// busy opens every connection that the node may have.
	busy := func() {
		t.Helper()
		var working sync.WaitGroup
		for range 32 {
			c := newClient(t, node.BaseURL, acme.Key)
			working.Go(func() {
				defer c.http.CloseIdleConnections()
				for range 5 {
					if a, err := c.do(t.Context(), http.MethodGet, "/customers?count=1", nil, ""); err != nil || a.status != http.StatusOK {
						t.Errorf("a list is answered %d %s (%v)", a.status, a.body, err)
					}
				}
			})
		}
		working.Wait()
	}

	// down returns when the node has noticed that the server is gone.
	down := func() {
		t.Helper()
		await(t, "the node lets go of its connections", recoveryBound, func() bool { return MustScrape(t, node)[idle] == 0 })
	}

	for range 2 * long(10) {
		for what, restart := range map[string]func(){
			"the server was stopped and started": func() {
				cluster.Stop(t)
				down()
				cluster.Restart(t)
			},
			"the server was killed and started": func() {
				cluster.Kill(t)
				down()
				cluster.Restart(t)
			},
		} {
			for _, first := range []func() (answer, error){create, list} {
				busy()
				restart()
				must(what, first)
			}
		}

		// What the server closes a moment before a write, when it has been told of the
		// one before, the node cannot know in time; but it learns from one.
		busy()
		cluster.Exec(t, "", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'grahak'")
		if a, err := create(); err != nil || a.status == http.StatusServiceUnavailable {
			customers--
		}
		must("every connection was closed", create)
		must("every connection was closed", list)
	}
	d.MustBeWhole(t, map[string]int{"acme": customers})
}
