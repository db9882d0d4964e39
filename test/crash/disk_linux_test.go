package crash_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"grahak/internal/testkit"
)

// limitFiles bounds the size of every file that the server writes, or lifts the
// bound again when bytes is 0. It is how a test without rights of its own takes
// away the server's disk: a write beyond the bound fails.
func limitFiles(t *testing.T, server *testkit.Server, bytes int64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(server.Pid(), unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if bytes > 0 {
		limit.Cur = uint64(bytes)
	}
	if err := unix.Prlimit(server.Pid(), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk takes the server's disk away and gives it back.
func TestFullDisk(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	unavailable := MustWireCases(t)["unavailable"]
	c := newClient(server.BaseURL, server.Key)
	defer c.close()
	var written []*tracked
	create := func(c *client, n int) answer {
		t.Helper()
		a, err := c.do(t.Context(), http.MethodPost, "/customers", form(n))
		if err != nil {
			t.Errorf("create: %v", err)
		}
		return a
	}
	mustCreate := func(n int) {
		t.Helper()
		a := create(c, n)
		got, err := a.customer()
		if a.status != http.StatusOK || err != nil {
			t.Fatalf("create is answered %d %s (%v)", a.status, a.body, err)
		}
		written = append(written, &tracked{last: got})
	}
	wantUnavailable := func(what string, a answer) {
		t.Helper()
		if !unavailable.is(a) {
			t.Errorf("%s: the answer is %d %s, want %d %s", what, a.status, a.body, unavailable.Status, unavailable.Body)
		}
		if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 {
			t.Errorf("%s: Retry-After is %q, want seconds", what, a.header.Get("Retry-After"))
		}
	}
	verify := func() {
		t.Helper()
		for _, want := range written {
			for _, id := range []string{want.last.ID, want.last.Reference} {
				a, err := c.get(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				got, err := a.customer()
				if diff := cmp.Diff(want.last, got); diff != "" || err != nil {
					t.Errorf("the customer read by %q is %d (%v) (-acknowledged +read):\n%s", id, a.status, err, diff)
				}
			}
		}
	}
	n := 0
	for ; n < 20; n++ {
		mustCreate(n)
	}

	for round := range 3 {
		// There is space for a little more, and then none.
		var largest int64
		files, err := filepath.Glob(filepath.Join(data, "*.db*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("the data folder has %v (%v)", files, err)
		}
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, info.Size())
		}
		limitFiles(t, server, largest+64<<10)
		full := n
		for ; full < n+10_000; full++ {
			a := create(c, full)
			if a.status != http.StatusOK {
				wantUnavailable("the first write on a full disk", a)
				break
			}
			got, err := a.customer()
			if err != nil {
				t.Fatal(err)
			}
			written = append(written, &tracked{last: got})
		}
		if full == n+10_000 {
			t.Fatal("the disk did not fill up")
		}

		// A smaller write might still fit; now none does. Every write fails as an
		// outage, alone and among others, and every read works.
		limitFiles(t, server, 4096)
		wantUnavailable("another write", create(c, full))
		a, err := c.do(t.Context(), http.MethodPost, "/customers/"+written[0].last.ID, url.Values{"first_name": {"Nobody"}})
		if err != nil {
			t.Fatal(err)
		}
		wantUnavailable("an update", a)
		var calls sync.WaitGroup
		for i := range 24 {
			calls.Go(func() {
				c := newClient(server.BaseURL, server.Key)
				defer c.close()
				wantUnavailable("a write among others", create(c, full+i))
			})
		}
		calls.Wait()
		verify()

		// With space again, the same requests succeed: nothing of them was left.
		limitFiles(t, server, 0)
		for i := range 24 {
			mustCreate(full + i)
		}
		n = full + 24
		verify()
		if t.Failed() {
			t.Fatalf("stopped after round %d", round)
		}
	}
	checkList(t, c, written)
	server.Stop(t)
	MustBeSound(t, data)
	checkEvents(t, data, written)
}

// Where the request log cannot be written, requests are answered as ever; what is
// missing is counted, and what comes later is there.
func TestRequestsFullDisk(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	c := newClient(server.BaseURL, server.Key)
	defer c.close()
	limitFiles(t, server, 4096)
	mustAsk(t, c, "/customers", http.StatusOK, 10)
	await(t, "10 requests are missing", func() bool { return droppedRequests(t, server) == 10 })
	limitFiles(t, server, 0)
	mustAsk(t, c, "/customers", http.StatusOK, 7)
	await(t, "7 requests are in the request log", func() bool {
		demo, _ := MustCountRequests(t, data)
		return demo == 7
	})
	server.Stop(t)
}
