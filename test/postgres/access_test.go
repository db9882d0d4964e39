package postgres_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// changeBound is when a change of keys, IP lists and merchants holds on all nodes.
const changeBound = 2 * time.Second

// MustHold makes a change while every node serves requests of a key, so that it has
// the key in mind, and fails the test unless each then answers that key with a
// status, and a body unless that is nil: each request that begins more than
// changeBound after the change, and each that follows one that is answered so.
func MustHold(t *testing.T, nodes []*testkit.Server, what, key string, want wireCase, change func()) {
	t.Helper()
	var changed atomic.Pointer[time.Time]
	standstill := testkit.Standstill()
	var looking, begun sync.WaitGroup
	begun.Add(len(nodes))
	for i, node := range nodes {
		looking.Go(func() {
			c := newClient(t, node.BaseURL, key)
			once := sync.OnceFunc(begun.Done)
			defer once()
			for held := 0; held < 5; {
				since, begin := changed.Load(), time.Now()
				a, err := c.do(t.Context(), http.MethodGet, "/customers?count=1", nil, "")
				once()
				switch {
				case t.Context().Err() != nil:
					return // The change has failed.
				case err != nil:
					t.Errorf("%s, node %d: %v", what, i, err)
					return
				case since == nil:
				case a.status == want.Status && (want.Body == nil || a.is(want)):
					held++
				case held > 0 || begin.Sub(*since) > changeBound+standstill():
					t.Errorf("%s: %v later node %d answers %d %s, want %d %s", what, begin.Sub(*since), i, a.status, a.body, want.Status, want.Body)
					return
				}
			}
		})
	}
	begun.Wait()
	change()
	now := time.Now()
	changed.Store(&now)
	looking.Wait()
}

// What an operator changes, every node knows within two seconds.
func TestAccessChanges(t *testing.T) {
	t.Parallel()
	d := MustDeploy(t, postgres.Shared(t))
	var nodes []*testkit.Server
	for range 3 {
		nodes = append(nodes, d.node(t, ""))
	}
	cases := MustWireCases(t)
	served := wireCase{Status: http.StatusOK}
	refused, elsewhere := cases["invalid_api_key"], cases["ip_not_whitelisted"]
	run := func(args ...string) func() { return func() { d.MustRun(t, args...) } }
	nothing := func() {}

	first := d.MustMerchant(t, "acme")
	MustHold(t, nodes, "a merchant is made", first.Key, served, nothing)
	second := d.MustKey(t, "acme")
	MustHold(t, nodes, "a second key is made", second.Key, served, nothing)
	MustHold(t, nodes, "the first key is revoked", first.Key, refused, run("key", "revoke", first.ID, "--merchant", "acme"))
	MustHold(t, nodes, "the second key remains", second.Key, served, nothing)

	d.MustRun(t, "iplist", "add", "203.0.113.0/24", "--merchant", "acme")
	MustHold(t, nodes, "the IP list is enforced", second.Key, elsewhere, run("iplist", "mode", "enforce", "--merchant", "acme"))
	MustHold(t, nodes, "the address is put on the list", second.Key, served, run("iplist", "add", "127.0.0.1", "--merchant", "acme"))
	MustHold(t, nodes, "the address is taken off the list", second.Key, elsewhere, run("iplist", "remove", "127.0.0.1", "--merchant", "acme"))
	MustHold(t, nodes, "the IP list is turned off", second.Key, served, run("iplist", "mode", "off", "--merchant", "acme"))

	other := d.MustMerchant(t, "other")
	MustHold(t, nodes, "another merchant is made", other.Key, served, nothing)
	MustHold(t, nodes, "the merchant is disabled", second.Key, refused, run("merchant", "disable", "acme"))
	MustHold(t, nodes, "the other merchant remains", other.Key, served, nothing)
}
