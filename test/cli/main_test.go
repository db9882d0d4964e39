// Package cli_test looks at the program from outside, as its operator does: the command line, the server that it
// starts, and what the one does to the other.
package cli_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

func TestMain(m *testing.M) {
	os.Exit(postgres.Main(func() int { return testkit.Main(m) }))
}

// These bound what would otherwise hang; nothing here is expected to take so long.
const (
	commandTimeout = 3 * time.Minute
	startTimeout   = 2 * time.Minute
	stopTimeout    = time.Minute
	answerTimeout  = time.Minute
)

// anyPorts makes a server take free ports.
var anyPorts = []string{"--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}

// result is what a command left behind when it ended.
type result struct {
	status         int
	stdout, stderr string
}

// run runs a command of the program to its end.
func run(tb testing.TB, args ...string) result {
	tb.Helper()
	return runEnv(tb, nil, args...)
}

// runEnv is run with extra environment variables.
func runEnv(tb testing.TB, env []string, args ...string) result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Program(tb), args...)
	cmd.Env = testkit.Env(env...)
	return runCommand(tb, cmd)
}

func runCommand(tb testing.TB, cmd *exec.Cmd) result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
		tb.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// done fails the test unless the command did its work and complained of nothing.
func (r result) done(tb testing.TB) result {
	tb.Helper()
	if r.status != 0 || r.stderr != "" {
		tb.Fatalf("exit status %d, want 0 and nothing on standard error\nstdout: %s\nstderr: %s", r.status, r.stdout, r.stderr)
	}
	return r
}

// refused fails the test unless the command ended with the status, printed nothing on standard output and one
// sentence that matches pattern on standard error.
func (r result) refused(tb testing.TB, status int, pattern string) {
	tb.Helper()
	if why := r.notRefused(status, pattern); why != "" {
		tb.Errorf("%s\nexit status %d\nstdout: %s\nstderr: %s", why, r.status, r.stdout, r.stderr)
	}
}

// notRefused says in what the result differs from one of refused, nothing if it does not.
func (r result) notRefused(status int, pattern string) string {
	line, rest, ended := strings.Cut(r.stderr, "\n")
	sentence, named := strings.CutPrefix(line, "grahak: ")
	switch {
	case r.status != status:
		return "the exit status is not the expected one"
	case r.stdout != "":
		return "something is on standard output"
	case !ended || rest != "" || !named || sentence == "":
		return "standard error is not one line that begins with the program's name"
	case !regexp.MustCompile(pattern).MatchString(sentence):
		return "the sentence does not match " + pattern
	}
	return ""
}

// program is the program at work, with its standard output and error on pipes.
type program struct {
	out, err testkit.Buffer
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the process has ended
}

// start starts the program. It is killed at the end of the test if it then still runs.
func start(tb testing.TB, env []string, args ...string) *program {
	tb.Helper()
	cmd := exec.Command(testkit.Program(tb), args...)
	cmd.Env = testkit.Env(env...)
	return startCommand(tb, cmd)
}

func startCommand(tb testing.TB, cmd *exec.Cmd) *program {
	tb.Helper()
	p := &program{cmd: cmd, exited: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.err
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.exited
		if tb.Failed() {
			tb.Logf("%s printed:\n%s%s", strings.Join(cmd.Args, " "), p.out.String(), p.err.String())
		}
	})
	return p
}

// banner waits until the server has printed its banner, which is one write, and returns it.
func (p *program) banner(tb testing.TB) string {
	tb.Helper()
	var banner string
	eventually(tb, startTimeout, "the server prints its banner", func() bool {
		select {
		case <-p.exited:
			tb.Fatalf("the server ended at once: %v\n%s", p.cmd.ProcessState, p.err.String())
		default:
		}
		banner = p.out.String()
		return strings.HasSuffix(banner, "\n\n")
	})
	return banner
}

// stop sends the signal and returns the exit status.
func (p *program) stop(tb testing.TB, sig os.Signal) int {
	tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
	return p.wait(tb)
}

// wait waits for the process to end and returns its exit status.
func (p *program) wait(tb testing.TB) int {
	tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		tb.Fatalf("the program still runs after %v", stopTimeout)
	}
	return p.cmd.ProcessState.ExitCode()
}

// eventually fails the test unless ok comes true within limit.
func eventually(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	testkit.Await(tb, what, limit, ok)
}

// field returns what follows label in a banner.
func field(tb testing.TB, banner, label string) string {
	tb.Helper()
	for line := range strings.Lines(banner) {
		if words := strings.Fields(strings.TrimPrefix(line, label)); strings.HasPrefix(line, label) && len(words) > 0 {
			return words[0]
		}
	}
	tb.Fatalf("no %q in the banner:\n%s", label, banner)
	return ""
}

// caller is a merchant's program.
type caller struct {
	base, key string
	client    *http.Client // nil for the default
}

// answer is what came back over the wire.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request with headers given as pairs, and fails the test if there is no answer. A body is sent as a form.
func (c caller) send(tb testing.TB, method, path, body string, headers ...string) answer {
	tb.Helper()
	a, err := c.try(tb.Context(), method, path, body, headers...)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// try is send for a request that may find no server.
func (c caller) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if c.key != "" {
		req.SetBasicAuth(c.key, "")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := c.client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}

// create makes a customer with the reference.
func (c caller) create(tb testing.TB, reference string) {
	tb.Helper()
	if a := c.send(tb, http.MethodPost, "/customers", newCustomer(reference)); a.status != http.StatusOK {
		tb.Fatalf("create %s: %d %s", reference, a.status, a.body)
	}
}

// newCustomer is the body of a request that creates a customer.
func newCustomer(reference string) string {
	return "mobile_number=9988776655&object_reference_id=" + reference
}

// list returns the status of a request that every valid key may make.
func (c caller) list(tb testing.TB, headers ...string) int {
	tb.Helper()
	return c.send(tb, http.MethodGet, "/customers?count=1", "", headers...).status
}

// checkKey fails the test unless key has the form of the environment's keys and its last six characters are the CRC-32
// of all before them, in base 62.
func checkKey(tb testing.TB, key, environment string) {
	tb.Helper()
	if why := notKey(key, environment); why != "" {
		tb.Errorf("%q is no key: %s", key, why)
	}
}

func notKey(key, environment string) string {
	if !regexp.MustCompile(`^gk_` + environment + `_[0-9A-Za-z]{36}$`).MatchString(key) {
		return "it has not the form of a key of " + environment
	}
	body, checksum := key[:len(key)-6], key[len(key)-6:]
	var sum uint64
	for _, c := range checksum {
		sum = sum*62 + uint64(strings.IndexRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", c))
	}
	if sum != uint64(crc32.ChecksumIEEE([]byte(body))) {
		return "its checksum is wrong"
	}
	return ""
}
