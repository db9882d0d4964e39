package crash_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// requestsFile is the request log in a data folder.
const requestsFile = "requests.db"

// MustCountRequests returns how many requests the request log of a data folder has of
// the demo merchant's keys, and with keys that are none.
func MustCountRequests(t *testing.T, data string) (demo, unknown int64) {
	t.Helper()
	log, err := sqlstore.OpenRequests(filepath.Join(data, requestsFile), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	count := func(m grahak.MerchantID) (n int64) {
		blocks, err := log.RequestBlocks(t.Context(), m, time.Now().Add(time.Hour), grahak.RequestBlockID{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			n += b.Count
		}
		return n
	}
	return count("demo"), count(grahak.UnknownMerchant)
}

// await polls until done is true.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	testkit.Await(t, what, answerTimeout, done)
}

// mustAsk sends a number of requests, which must be answered with a status.
func mustAsk(t *testing.T, c *client, path string, status, times int) {
	t.Helper()
	for range times {
		a, err := c.do(t.Context(), http.MethodGet, path, nil)
		if err != nil || a.status != status {
			t.Fatalf("GET %s is answered %d %s (%v), want %d", path, a.status, a.body, err, status)
		}
	}
}

// What was written of the request log outlives the process, and a stop writes the rest;
// pages are not in it.
func TestRequestsKilled(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	c := newClient(server.BaseURL, server.Key)
	mustAsk(t, c, "/customers", http.StatusOK, 30)
	await(t, "30 requests are in the request log", func() bool {
		demo, _ := MustCountRequests(t, data)
		return demo == 30
	})
	server.Kill(t)
	c.close()
	if demo, unknown := MustCountRequests(t, data); demo != 30 || unknown != 0 {
		t.Errorf("after kill -9 the request log has %d requests, and %d of nobody's; want 30 and none", demo, unknown)
	}
	server = testkit.Start(t, data)
	c = newClient(server.BaseURL, c.key)
	defer c.close()
	mustAsk(t, c, "/customers", http.StatusOK, 5)
	mustAsk(t, c, "/dashboard/login", http.StatusOK, 3)
	nobody := newClient(server.BaseURL, "nobody-has-this-key")
	defer nobody.close()
	mustAsk(t, nobody, "/customers", http.StatusUnauthorized, 2)
	server.Stop(t)
	if demo, unknown := MustCountRequests(t, data); demo != 35 || unknown != 2 {
		t.Errorf("after a stop the request log has %d requests, and %d of nobody's; want 35 and 2", demo, unknown)
	}
}

// Whatever became of the request log, the server starts, says so once, and serves.
func TestRequestsLost(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := testkit.Start(t, data)
	key := server.Key
	server.Stop(t)
	path := filepath.Join(data, requestsFile)
	for _, c := range []struct {
		name    string
		damage  func() error
		warning string
		again   bool // it is begun anew
	}{
		{"garbage", func() error { return os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600) }, "the request log is begun anew", true},
		{"cut off", func() error { return os.Truncate(path, 5000) }, "the request log is begun anew", true},
		{"a folder in its place", func() error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(path, "something"), 0o700)
		}, "requests are not logged for the dashboard", false},
	} {
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		server := testkit.Start(t, data)
		api := newClient(server.BaseURL, key)
		mustAsk(t, api, "/customers", http.StatusOK, 3)
		api.close()
		server.Stop(t)
		log := server.Log(t)
		if warnings := strings.Count(log, `"level":"WARN"`); warnings != 1 || !strings.Contains(log, c.warning) {
			t.Errorf("%s: %d warnings, want 1 with %q:\n%s", c.name, warnings, c.warning, log)
		}
		if !c.again {
			continue
		}
		if demo, _ := MustCountRequests(t, data); demo != 3 {
			t.Errorf("%s: begun anew, the request log has %d requests, want 3", c.name, demo)
		}
	}
}

// droppedRequests returns what the server tells of requests that are not in the log.
func droppedRequests(t *testing.T, server *testkit.Server) (n float64) {
	t.Helper()
	c := newClient(server.OpsURL, "")
	defer c.close()
	a, err := c.do(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(a.body) {
		if _, err := fmt.Sscanf(line, "grahak_request_log_dropped_total %g", &n); err == nil {
			return n
		}
	}
	t.Fatal("no metric tells what is missing in the request log")
	return 0
}
