package clients_test

import (
	"bufio"
	"bytes"
	"context"
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

const (
	buildTimeout   = 5 * time.Minute
	commandTimeout = time.Minute
	startTimeout   = 20 * time.Second
	stopTimeout    = 30 * time.Second
)

// moduleRoot returns the folder of the module's go.mod, which is two above this file's.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		tb.Fatalf("find the module root: %v", err)
	}
	return root
}

// plainEnv returns the few variables that a child process needs, and extra. It leaves out all others, so that neither
// GRAHAK_* settings nor proxies of the person who runs the tests reach a server or a client.
func plainEnv(extra ...string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, extra...)
}

// program is the built grahak binary.
type program struct{ path string }

// buildProgram builds the binary as it is released, into a folder that goes away with the test.
func buildProgram(tb testing.TB) program {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), buildTimeout)
	defer cancel()
	path := filepath.Join(tb.TempDir(), "grahak")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/grahak")
	cmd.Dir = moduleRoot(tb)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build ./cmd/grahak: %v\n%s", err, out)
	}
	return program{path: path}
}

// run runs a command of the binary to its end and returns what it printed. A failing command fails the test.
func (p program) run(tb testing.TB, args ...string) []byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), commandTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = plainEnv()
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("grahak %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

// server is one running `grahak serve` on a data folder of its own.
type server struct {
	Data     string // The data folder.
	BaseURL  string
	Merchant string // The demo merchant that a first start in sandbox makes.
	APIKey   string // The demo merchant's key.

	cmd    *exec.Cmd
	stderr *os.File
	exited chan struct{} // Closed when the process has ended; cmd.ProcessState is set then.
}

// start runs `grahak serve` on a new data folder with args added, and returns once the banner has told base URL,
// merchant and key. The caller ends it with stop; a test that fails before that has it killed, and its log shown.
func (p program) start(tb testing.TB, args ...string) *server {
	tb.Helper()
	s := &server{Data: filepath.Join(tb.TempDir(), "data"), exited: make(chan struct{})}
	var err error
	if s.stderr, err = os.Create(filepath.Join(tb.TempDir(), "stderr")); err != nil {
		tb.Fatal(err)
	}
	s.cmd = exec.Command(p.path, append([]string{"serve", "--data", s.Data, "--ops-listen", "127.0.0.1:0"}, args...)...)
	s.cmd.Env = plainEnv()
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
		s.stderr.Close()
		if tb.Failed() {
			log, _ := os.ReadFile(s.stderr.Name())
			tb.Logf("the server's log:\n%s", log)
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
			tb.Fatalf("grahak serve: %v", err)
		}
	case <-time.After(startTimeout):
		_ = s.cmd.Process.Kill() // So that the reader of the banner ends and tells what it saw.
		tb.Fatalf("grahak serve: no complete banner within %v: %v", startTimeout, <-banner)
	}
	return s
}

// readBanner reads lines until it has seen all three values.
func (s *server) readBanner(stdout io.Reader) error {
	values := map[string]*string{"Base URL": &s.BaseURL, "Merchant id": &s.Merchant, "API key": &s.APIKey}
	var seen strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		for label, value := range values {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), label); ok {
				*value = strings.TrimSpace(rest)
				delete(values, label)
			}
		}
		if len(values) == 0 {
			return nil
		}
	}
	return fmt.Errorf("the program ended before its banner was complete; it printed:\n%s", seen.String())
}

// stop asks the server to stop as an operator does, and fails the test unless it then exits with 0.
func (s *server) stop(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatalf("send SIGTERM to grahak serve: %v", err)
	}
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			tb.Errorf("grahak serve ended with %v after SIGTERM, want exit status 0", s.cmd.ProcessState)
		}
	case <-time.After(stopTimeout):
		tb.Fatalf("grahak serve still runs %v after SIGTERM", stopTimeout)
	}
}
