package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit/postgres"
)

// orphanVar tells the test binary what to do as a child of [TestOrphan].
const orphanVar = "GRAHAK_TEST_ORPHAN"

// A server does not outlive the test binary, even when that is killed.
func TestOrphan(t *testing.T) {
	if kind := os.Getenv(orphanVar); kind != "" {
		paused := kind == "paused on its own disk"
		opts := postgres.Options{}
		if paused {
			opts.Disk = 128
		}
		c := postgres.Start(t, opts)
		dir := c.QueryText(t, "", "SHOW unix_socket_directories")[0]
		if paused {
			c.Pause(t)
		}
		fmt.Println("started", c.Addr(), dir)
		_, _ = io.Copy(io.Discard, os.Stdin) // Until it is killed.
		return
	}
	t.Parallel()
	for _, kind := range []string{"running", "paused on its own disk"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestOrphan$")
			cmd.Env = append(os.Environ(), orphanVar+"="+kind)
			cmd.Stderr = os.Stderr
			if _, err := cmd.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var addr, dir string
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if _, err := fmt.Sscanf(strings.TrimSpace(line), "started %s %s", &addr, &dir); err != nil {
				t.Errorf("the child says %q (%v)", line, err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if err != nil || t.Failed() {
				t.Fatalf("the child did not start a server: %v", err)
			}
			// Nobody is left who could.
			defer os.RemoveAll(dir)

			ticker := time.NewTicker(10 * time.Millisecond)
			defer ticker.Stop()
			var dialer net.Dialer
			for {
				conn, err := dialer.DialContext(ctx, "tcp", addr)
				if err != nil {
					break
				}
				_ = conn.Close()
				select {
				case <-ticker.C:
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				t.Error("the server outlives the test binary that started it")
			}
		})
	}
}
