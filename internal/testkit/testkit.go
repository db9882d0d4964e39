// Package testkit runs the real binary for tests that look at it from outside.
package testkit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These bound what would otherwise hang, on a machine that has much else to do.
const (
	buildTimeout   = 5 * time.Minute
	commandTimeout = 3 * time.Minute
	startTimeout   = 2 * time.Minute
	stopTimeout    = time.Minute
)

// ModuleRoot returns the folder of the module's go.mod.
func ModuleRoot(tb testing.TB) string {
	tb.Helper()
	root, err := moduleRoot()
	if err != nil {
		tb.Fatal(err)
	}
	return root
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// Env returns the few variables that a child process needs, and extra. It leaves
// out all others, so that neither GRAHAK_* settings nor proxies of the person who
// runs the tests reach a server or a client.
func Env(extra ...string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, extra...)
}

// binary is where Main has built the program.
var binary string

// Main builds the binary as it is released, runs the tests of m and returns
// their exit status. A package that uses [Program] calls it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "grahak-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "grahak")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/grahak")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/grahak: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Program returns the path of the binary that [Main] built.
func Program(tb testing.TB) string {
	tb.Helper()
	if binary == "" {
		tb.Fatal("this package's TestMain does not call testkit.Main")
	}
	return binary
}

// Run runs a command of the binary to its end and returns what it printed on
// standard output. A failing command fails the test.
func Run(tb testing.TB, args ...string) []byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), commandTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, Program(tb), args...)
	cmd.Env = Env()
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("grahak %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

// Server is one running `grahak serve`.
type Server struct {
	Data    string // the data folder
	BaseURL string // of the API
	OpsURL  string // of the operations listener
	// DashboardURL is the address of the dashboard, in a sandbox a link that logs in
	// once; empty if there is no dashboard.
	DashboardURL string
	// Merchant and Key are the demo merchant and its key, when this was the
	// first start of a sandbox on the folder.
	Merchant string
	Key      string
	Banner   string // what it printed on standard output

	cmd    *exec.Cmd
	stderr *os.File
	exited chan struct{} // closed when the process has ended; cmd.ProcessState is set then
}

// Start runs `grahak serve` on the data folder with args added, on free ports
// unless args say otherwise, and returns once its banner is complete. The caller
// ends it with Stop or Kill; one that still runs when the test ends is killed,
// and the log of a failed test is shown.
func Start(tb testing.TB, data string, args ...string) *Server {
	tb.Helper()
	return StartEnv(tb, data, nil, args...)
}

// StartEnv is [Start] with extra environment variables.
func StartEnv(tb testing.TB, data string, env []string, args ...string) *Server {
	tb.Helper()
	s := &Server{Data: data, exited: make(chan struct{})}
	var err error
	if s.stderr, err = os.Create(filepath.Join(tb.TempDir(), "stderr")); err != nil {
		tb.Fatal(err)
	}
	// A flag that is given twice counts the second time.
	s.cmd = exec.Command(Program(tb), append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, args...)...)
	s.cmd.Env = Env(env...)
	s.cmd.Stderr = s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		tb.Fatalf("grahak serve: %v", err)
	}
	tb.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.exited
		_ = s.stderr.Close()
		if tb.Failed() {
			tb.Logf("the server's log:\n%s", s.Log(tb))
		}
	})
	banner := make(chan error, 1)
	go func() {
		banner <- s.readBanner(stdout)
		_, _ = io.Copy(io.Discard, stdout)
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	select {
	case err := <-banner:
		if err != nil {
			tb.Fatalf("grahak serve: %v\n%s", err, s.Log(tb))
		}
	case <-time.After(startTimeout):
		// So that the reader of the banner ends and tells what it saw.
		_ = s.cmd.Process.Kill()
		tb.Fatalf("grahak serve: no complete banner within %v: %v", startTimeout, <-banner)
	}
	return s
}

// readBanner reads lines up to the empty one that ends the addresses.
func (s *Server) readBanner(stdout io.Reader) error {
	values := map[string]*string{"Base URL": &s.BaseURL, "Operations": &s.OpsURL, "Dashboard": &s.DashboardURL, "Merchant id": &s.Merchant, "API key": &s.Key}
	var seen strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		for label, value := range values {
			if rest, ok := strings.CutPrefix(lines.Text(), label); ok {
				if words := strings.Fields(rest); len(words) > 0 {
					*value = words[0]
				}
			}
		}
		// The addresses are one block of lines; an empty line ends it.
		if lines.Text() == "" && s.BaseURL != "" {
			s.Banner = seen.String()
			return nil
		}
	}
	return fmt.Errorf("the program ended before its banner was complete; it printed:\n%s", seen.String())
}

// Log returns what the server has logged so far.
func (s *Server) Log(tb testing.TB) string {
	tb.Helper()
	log, err := os.ReadFile(s.stderr.Name())
	if err != nil {
		tb.Fatal(err)
	}
	return string(log)
}

// Pid returns the process id of the server.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server as a crash would (SIGKILL) and returns when it is gone.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		tb.Fatalf("kill grahak serve: %v", err)
	}
	<-s.exited
}

// Exited is closed when the process has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Signal sends the server a signal.
func (s *Server) Signal(tb testing.TB, sig os.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("send %v to grahak serve: %v", sig, err)
	}
}

// Stop asks the server to stop as an operator does, and fails the test unless it
// then exits with 0.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	s.Signal(tb, syscall.SIGTERM)
	s.WaitExit(tb)
}

// WaitExit waits for a server that was asked to stop, and fails the test unless
// it exits with 0.
func (s *Server) WaitExit(tb testing.TB) {
	tb.Helper()
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			tb.Errorf("grahak serve ended with %v, want exit status 0", s.cmd.ProcessState)
		}
	case <-time.After(stopTimeout):
		tb.Fatalf("grahak serve still runs %v after it was asked to stop", stopTimeout)
	}
}
