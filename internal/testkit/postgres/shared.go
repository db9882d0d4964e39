package postgres

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// theShared is the cluster that the tests of a package share.
var theShared struct {
	sync.Mutex
	allowed bool
	cluster *Cluster
	err     error
}

// Main runs the tests of a package, ends the cluster that they shared, and
// returns their exit status. A package that uses [Shared] calls it from
// TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(postgres.Main(m.Run)) }
func Main(run func() int) int {
	theShared.Lock()
	theShared.allowed = true
	theShared.Unlock()
	status := run()
	theShared.Lock()
	defer theShared.Unlock()
	if theShared.cluster != nil {
		if err := theShared.cluster.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// Shared returns the cluster that the tests of a package share, which the first
// of them starts. Each test makes databases of its own in it; none may stop or
// pause it, so it need not wait for the disk, and does not. If the test fails, what the server logged meanwhile is shown.
func Shared(tb testing.TB) *Cluster {
	tb.Helper()
	theShared.Lock()
	defer theShared.Unlock()
	if !theShared.allowed {
		tb.Fatal("this package's TestMain does not call postgres.Main")
	}
	if theShared.cluster == nil && theShared.err == nil {
		theShared.cluster, theShared.err = create(Options{Settings: map[string]string{"fsync": "off", "full_page_writes": "off"}})
		if theShared.err == nil {
			theShared.cluster.shared = true
		}
	}
	if theShared.err != nil {
		tb.Fatal(theShared.err)
	}
	c := theShared.cluster
	var began int64
	if info, err := os.Stat(c.host.path("log")); err == nil {
		began = info.Size()
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the log of PostgreSQL on port %d ends:\n%s", c.port, c.logSince(began))
		}
	})
	return c
}
