package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// alone fails the test if other tests use the cluster, too.
func (c *Cluster) alone(tb testing.TB) {
	tb.Helper()
	if c.shared {
		tb.Fatal("a cluster that tests share is neither stopped nor paused nor set otherwise: use postgres.Start")
	}
}

// Kill ends the server at once, as "pg_ctl stop -m immediate" does: no client is
// told, and the next start recovers. It returns when the server is gone.
func (c *Cluster) Kill(tb testing.TB) {
	tb.Helper()
	c.alone(tb)
	if err := c.end(syscall.SIGQUIT); err != nil {
		tb.Fatal(err)
	}
}

// Stop ends the server as an operator does who does not wait for clients: their
// transactions are rolled back and they are told.
func (c *Cluster) Stop(tb testing.TB) {
	tb.Helper()
	c.alone(tb)
	if err := c.end(syscall.SIGINT); err != nil {
		tb.Fatal(err)
	}
}

// Restart starts the server on the same port and data, after a [Cluster.Stop] if
// it still runs, and returns when it accepts connections.
func (c *Cluster) Restart(tb testing.TB) {
	tb.Helper()
	c.Stop(tb)
	if err := c.start(); err != nil {
		tb.Fatal(err)
	}
}

// Exited is closed when the server that runs now has ended, whoever ended it.
func (c *Cluster) Exited() <-chan struct{} { return c.server.exited }

// Pause makes the server and everything that works for it stand still
// (SIGSTOP), as a machine does that hangs. The system still accepts some
// connections in its name, and nobody answers them.
func (c *Cluster) Pause(tb testing.TB) {
	tb.Helper()
	c.alone(tb)
	if !c.running() {
		tb.Fatal("PostgreSQL does not run, so it cannot be paused")
	}
	c.paused = true
	// It comes first, so that it starts nothing any more.
	parent := c.server.cmd.Process.Pid
	if err := syscall.Kill(parent, syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
	stopped := make(map[int]bool)
	for before := -1; len(stopped) > before; {
		before = len(stopped)
		list, err := children(parent)
		if err != nil {
			tb.Fatal(err)
		}
		for _, pid := range list {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				tb.Fatal(err)
			}
			stopped[pid] = true
		}
	}
}

// Resume lets a paused server go on.
func (c *Cluster) Resume(tb testing.TB) {
	tb.Helper()
	if err := c.resume(0); err != nil {
		tb.Fatal(err)
	}
}

// resume lets a paused server go on, after a signal to each of its processes
// unless that is 0.
func (c *Cluster) resume(signal syscall.Signal) error {
	if !c.paused {
		return nil
	}
	c.paused = false
	parent := c.server.cmd.Process.Pid
	list, err := children(parent)
	if err != nil {
		return err
	}
	for _, pid := range append(list, parent) {
		if signal != 0 {
			err = errors.Join(err, kill(pid, signal))
		}
		err = errors.Join(err, kill(pid, syscall.SIGCONT))
	}
	return err
}

// kill sends a signal to a process that may have ended.
func kill(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to PostgreSQL: %w", signal, err)
	}
	return nil
}

// Configure changes settings of postgresql.conf and has the running server read
// them. What only a start can change, as max_connections, waits for
// [Cluster.Restart].
func (c *Cluster) Configure(tb testing.TB, settings map[string]string) {
	tb.Helper()
	c.alone(tb)
	maps.Copy(c.settings, settings)
	if err := c.configure(); err != nil {
		tb.Fatal(err)
	}
	const loaded = "SELECT pg_conf_load_time()"
	before := c.QueryText(tb, "", loaded)
	if err := c.server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		tb.Fatal(err)
	}
	// A new connection knows what the server knew when it was made.
	c.await(tb, "the server reads its settings", func() bool { return c.QueryText(tb, "", loaded)[0] != before[0] })
}

// await returns when done returns true.
func (c *Cluster) await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	if err := poll(startTimeout, func(context.Context) (bool, error) { return done(), nil }); err != nil {
		tb.Fatalf("wait until %s: %v", what, err)
	}
}

// FillDisk leaves no space on the cluster's own disk (see [Options]). From then
// on, what needs a new page fails with SQLSTATE 53100, and the server goes down
// when it needs a new segment of its write-ahead log (16 MiB each).
func (c *Cluster) FillDisk(tb testing.TB) {
	tb.Helper()
	c.onDisk(tb, `cat /dev/zero >"$1" 2>/dev/null; test -s "$1"`)
}

// FreeDisk gives back what [Cluster.FillDisk] took.
func (c *Cluster) FreeDisk(tb testing.TB) {
	tb.Helper()
	c.onDisk(tb, `rm -f "$1"`)
}

// onDisk runs a shell script, with the file that fills the disk as its argument,
// where that is seen.
func (c *Cluster) onDisk(tb testing.TB, script string) {
	tb.Helper()
	if c.host.disk == nil {
		tb.Fatal("the cluster has no disk of its own: set Options.Disk")
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	args := append(c.host.disk.enter(), "sh", "-c", script, "sh", filepath.Join(c.host.disk.dir, "ballast"))
	if err := run(exec.CommandContext(ctx, args[0], args[1:]...)); err != nil {
		tb.Fatal(err)
	}
}
