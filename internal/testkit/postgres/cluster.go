// Package postgres gives tests throw-away PostgreSQL servers, made from the
// programs that the system has installed (13 or newer), and the faults that a
// real one has: it is killed, it stands still, its disk is full, a standby takes
// its place, the network between it and its clients breaks.
//
// A cluster is a server with its own folder, port and Unix socket. It sorts text
// as people do, not by bytes, so that a test sees an order that depends on it.
// It ends with the test, and on Linux also when the test binary is killed.
//
// Where something fails that a test did not ask to fail, the test fails. A program
// that is no test uses [New] and the functions beside it, which return errors.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// startTimeout bounds a start, with the recovery after a kill.
	startTimeout = 2 * time.Minute
	// stopTimeout bounds a stop; then the server is killed.
	stopTimeout = 2 * time.Minute
	// commandTimeout bounds one of PostgreSQL's programs or one statement.
	commandTimeout = 3 * time.Minute
	// pollEvery is the time between two looks at what gives no signal.
	pollEvery = 10 * time.Millisecond
)

// Options are what a test may want of a cluster. The zero value is a good
// cluster.
type Options struct {
	// Settings are lines of postgresql.conf (values without quotes), over those
	// of this package: fsync on, shared_buffers 32MB, max_connections 60 (of
	// which PostgreSQL keeps 3 for superusers).
	Settings map[string]string
	// Password is what the role grahak must give over TCP. When it is empty,
	// nobody is asked for one.
	Password string
	// Disk is the size in MiB of a file system of its own for the data folder,
	// which [Cluster.FillDisk] fills; at least 128. 0 is the disk of the
	// temporary folders.
	Disk int
}

// Cluster is one PostgreSQL server. Its methods are safe for concurrent use but
// for those that start, stop or pause it, which one goroutine at a time may
// call.
type Cluster struct {
	// Locale tells how the cluster sorts text, for people.
	Locale string

	host     *host
	port     int
	password string
	given    map[string]string // Options.Settings
	settings map[string]string // all of postgresql.conf
	shared   bool
	paused   bool
	server   *process // the last one that was started
	standbys []string // the names of the synchronous standbys
}

// Start makes a cluster and returns when it accepts connections. It is stopped
// and removed when the test ends; the end of its log is shown if the test
// failed.
func Start(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	c, err := create(opts)
	if err != nil {
		tb.Fatal(err)
	}
	c.endWith(tb)
	tb.Logf("PostgreSQL on port %d, sorting by %s", c.port, c.Locale)
	return c
}

// endWith removes the cluster when the test ends.
func (c *Cluster) endWith(tb testing.TB) {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the log of PostgreSQL on port %d ends:\n%s", c.port, c.logSince(0))
		}
		if err := c.remove(); err != nil {
			tb.Error(err)
		}
	})
}

// create makes and starts a cluster of which nothing is left if it fails.
func create(opts Options) (_ *Cluster, err error) {
	h, err := newHost(opts.Disk)
	if err != nil {
		return nil, err
	}
	c := newCluster(h, opts)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	if c.Locale, err = h.initdb(); err != nil {
		return nil, err
	}
	if err := c.startFirst(); err != nil {
		return nil, err
	}
	makeRole := "CREATE ROLE " + role + " LOGIN"
	if c.password != "" {
		makeRole += " PASSWORD " + quote(c.password)
	}
	if _, err := c.query("", makeRole); err != nil {
		return nil, err
	}
	return c, nil
}

// newCluster returns a cluster that has no data yet.
func newCluster(h *host, opts Options) *Cluster {
	c := &Cluster{host: h, password: opts.Password, given: map[string]string{}}
	c.settings = map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": h.dir,
		"hba_file":                filepath.Join(h.dir, "pg_hba.conf"),
		"shared_buffers":          "32MB",
		"max_connections":         "60",
		"fsync":                   "on",
		"password_encryption":     "scram-sha-256",
		"lc_messages":             "C",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
		"log_checkpoints":         "off",
	}
	maps.Copy(c.given, opts.Settings)
	maps.Copy(c.settings, opts.Settings)
	return c
}

// startFirst starts a cluster for the first time, on a port that it keeps. Another
// process may take that port before PostgreSQL does; then it is another one.
func (c *Cluster) startFirst() error {
	method := "trust"
	if c.password != "" {
		method = "scram-sha-256"
	}
	hba := "local all,replication all trust\nhost all all 127.0.0.1/32 " + method + "\n"
	if err := c.host.write("pg_hba.conf", hba); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		listener, err := listen()
		if err != nil {
			return err
		}
		c.port = listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
		c.settings["port"] = strconv.Itoa(c.port)
		if err = c.start(); err == nil {
			return nil
		}
		if attempt == 5 || !strings.Contains(c.logSince(0), "could not create any TCP/IP sockets") {
			return err
		}
	}
}

// listen listens on a port that is free and that no outgoing connection takes as
// its own, so that a server which stops gets it again.
func listen() (net.Listener, error) {
	var failed error
	for range 100 {
		listener, err := net.Listen("tcp", address(15_000+rand.IntN(15_000)))
		if err == nil {
			return listener, nil
		}
		failed = err
	}
	return nil, failed
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// start starts the server, and returns when it accepts connections or has ended.
func (c *Cluster) start() error {
	if err := c.configure(); err != nil {
		return err
	}
	log, err := os.OpenFile(c.host.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := c.host.command(context.Background(), "postgres", "-D", c.host.data, "-c", "config_file="+c.host.path("postgresql.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	if c.server, err = startProcess(cmd); err != nil {
		return err
	}
	return poll(startTimeout, func(ctx context.Context) (bool, error) {
		conn, err := c.connect(ctx, "")
		if err == nil {
			return true, conn.Close(ctx)
		}
		select {
		case <-c.server.exited:
			return false, fmt.Errorf("PostgreSQL ended while it started (%v); its log ends:\n%s", cmd.ProcessState, c.logSince(0))
		default:
			return false, nil
		}
	})
}

// configure writes postgresql.conf.
func (c *Cluster) configure() error {
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", name, quote(c.settings[name]))
	}
	return c.host.write("postgresql.conf", conf.String())
}

// quote returns s as a literal of SQL and of postgresql.conf.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// running reports whether the server's process exists.
func (c *Cluster) running() bool {
	if c.server == nil {
		return false
	}
	select {
	case <-c.server.exited:
		return false
	default:
		return true
	}
}

// end sends the server a signal and returns when it has ended.
func (c *Cluster) end(signal syscall.Signal) error {
	if !c.running() {
		return nil
	}
	if c.paused && signal == syscall.SIGQUIT {
		// So that nothing which stands still answers somebody first.
		return errors.Join(c.resume(signal), c.server.end(signal))
	}
	return errors.Join(c.resume(0), c.server.end(signal))
}

// remove ends the server at once and removes the cluster's folder.
func (c *Cluster) remove() error {
	return errors.Join(c.end(syscall.SIGQUIT), c.host.remove())
}

// Log returns what the server has logged so far.
func (c *Cluster) Log(tb testing.TB) string {
	tb.Helper()
	log, err := os.ReadFile(c.host.path("log"))
	if err != nil {
		tb.Fatal(err)
	}
	return string(log)
}

// logSince returns the log from an offset on, but not more than its end.
func (c *Cluster) logSince(offset int64) string {
	const most = 4 << 10
	log, err := os.ReadFile(c.host.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(log[max(min(offset, int64(len(log))), int64(len(log))-most):])
}

// process is a server's process.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended; cmd.ProcessState is set then
}

// startProcess starts a process that dies with this one where the system can do
// that.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go startAndWait(p, started)
	return p, <-started
}

// end sends the process a signal, and returns when it has ended.
func (p *process) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("PostgreSQL still ran %v after it was told to end by %v", stopTimeout, signal)
	}
}

// poll calls done until it returns true or an error, or until the timeout.
func poll(timeout time.Duration, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("what was waited for did not happen within %v", timeout)
		case <-ticker.C:
		}
	}
}

// run runs a command to its end; its output is part of the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, bytes.TrimSpace(out))
	}
	return nil
}
