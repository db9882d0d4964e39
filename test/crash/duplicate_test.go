package crash_test

import (
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// TestParallelCreatesOfOneReference lets 24 clients, each with its connection
// open already, create one customer at the same moment.
func TestParallelCreatesOfOneReference(t *testing.T) {
	const parallel, rounds = 24, 10
	server := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	duplicate := MustWireCases(t)["duplicate_reference"]
	clients := make([]*client, parallel)
	for i := range clients {
		clients[i] = newClient(server.BaseURL, server.Key)
		defer clients[i].close()
		if a, err := clients[i].get(t.Context(), "nobody"); err != nil || a.status != http.StatusNotFound {
			t.Fatalf("the first answer is %d %s (%v)", a.status, a.body, err)
		}
	}
	winners := make([]*tracked, 0, rounds)
	for round := range rounds {
		answers, errs := make([]answer, parallel), make([]error, parallel)
		ready := make(chan struct{})
		var calls sync.WaitGroup
		for i, c := range clients {
			calls.Go(func() {
				<-ready
				// The same reference, and otherwise another person each.
				f := form(1000*round + i)
				f.Set("object_reference_id", form(round).Get("object_reference_id"))
				answers[i], errs[i] = c.do(t.Context(), http.MethodPost, "/customers", f)
			})
		}
		close(ready)
		calls.Wait()
		var won []customer
		for i, a := range answers {
			switch {
			case errs[i] != nil:
				t.Errorf("round %d: %v", round, errs[i])
			case a.status == http.StatusOK:
				c, err := a.customer()
				if err != nil {
					t.Errorf("round %d: %v in %s", round, err, a.body)
				}
				won = append(won, c)
			case !duplicate.is(a):
				t.Errorf("round %d: the answer is %d %s, want the customer or %d %s", round, a.status, a.body, duplicate.Status, duplicate.Body)
			}
		}
		if len(won) != 1 {
			t.Fatalf("round %d: %d creates of one reference were answered 200, want 1", round, len(won))
		}
		for _, id := range []string{won[0].ID, won[0].Reference} {
			a, err := clients[0].get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.customer()
			if diff := cmp.Diff(won[0], got); diff != "" || err != nil {
				t.Errorf("round %d: the customer read by %q is not the acknowledged one (%v) (-want +got):\n%s", round, id, err, diff)
			}
		}
		winners = append(winners, &tracked{last: won[0]})
	}
	checkList(t, clients[0], winners)
	server.Stop(t)
	checkEvents(t, server.Data, winners)
}
