package cli_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// serve is the arguments that start a server on the data folder, on free ports.
func serve(data string, more ...string) []string {
	return append(append([]string{"serve", "--data", data}, anyPorts...), more...)
}

// paste runs text in a shell, as one who copies it from the terminal would, with the program on the path.
func paste(t *testing.T, dir, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e")
	cmd.Dir = dir
	cmd.Env = testkit.Env("PATH=" + filepath.Dir(testkit.Program(t)) + string(os.PathListSeparator) + os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(text)
	r := runCommand(t, cmd)
	if r.status != 0 {
		t.Fatalf("%s\nended with exit status %d: %s%s", text, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// block returns the indented lines of a banner that begin with one that holds start.
func block(t *testing.T, banner, start string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^  .*` + regexp.QuoteMeta(start) + `.*\n(?:  .*\n)*`).FindString(banner)
	if found == "" {
		t.Fatalf("no %q in the banner:\n%s", start, banner)
	}
	return found
}

const createdCustomer = `^\{"id":"cst_[0-9a-z]{16}","object":"customer","object_reference_id":"customer@example\.com",`

func mustMatch(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s does not match %s:\n%s", what, pattern, text)
	}
}

// TestFirstAndSecondStart is what a new user sees: what the banner says can be pasted, and works.
func TestFirstAndSecondStart(t *testing.T) {
	for name, flags := range map[string][]string{"plain": nil, "TLS": {"--tls-self-signed"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "it's my data")
			p := start(t, nil, serve(data, flags...)...)
			banner := p.banner(t)
			checkKey(t, field(t, banner, "API key"), "sandbox")
			if got := field(t, banner, "Merchant id"); got != "demo" {
				t.Errorf("the merchant id is %q, want demo", got)
			}
			if ops := (caller{base: field(t, banner, "Operations")}); ops.send(t, http.MethodGet, "/healthz", "").status != http.StatusOK {
				t.Errorf("no health at %s", ops.base)
			}
			curl := block(t, banner, "curl")
			if base := field(t, banner, "Base URL"); !strings.Contains(curl, base+"/customers") {
				t.Errorf("the curl does not call %s", base)
			}
			mustMatch(t, "what the pasted curl prints", paste(t, dir, curl), createdCustomer)
			run(t, "customer", "get", "customer@example.com", "--merchant", "demo", "--data", data).done(t)
			if status := p.stop(t, syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM", status)
			}

			p = start(t, nil, serve(data, flags...)...)
			banner = p.banner(t)
			if strings.Contains(banner, "gk_") || strings.Contains(banner, "API key") || strings.Contains(banner, "customers -u") {
				t.Errorf("the second start shows a key:\n%s", banner)
			}
			mustMatch(t, "the second banner", banner, `Keys were shown when they were made\.`)
			shown := regexp.MustCompile(`gk_\S+`).FindString(paste(t, dir, block(t, banner, "key create")))
			checkKey(t, shown, "sandbox")
			if status := p.stop(t, os.Interrupt); status != 0 {
				t.Errorf("exit status %d after SIGINT", status)
			}
		})
	}
}

// TestFromSource is the first of the two commands of the README, on free ports.
func TestFromSource(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	root := testkit.ModuleRoot(t)
	for _, hint := range []string{"curl", "key create"} {
		cmd := exec.Command("go", append([]string{"run", "./cmd/grahak"}, serve(data)...)...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		// A terminal sends Ctrl-C to the go command and to the server that it has started alike.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		p := startCommand(t, cmd)
		t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		pasted := block(t, p.banner(t), hint)
		out := paste(t, root, pasted)
		if hint == "curl" {
			mustMatch(t, "what the pasted curl prints", out, createdCustomer)
		} else {
			mustMatch(t, "the hint", pasted, `^  go run \./cmd/grahak key create `)
			mustMatch(t, "what the pasted hint prints", out, `gk_sandbox_`)
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		// The go command ends with 1 when it was interrupted, and tells if the server did not end with 0.
		p.wait(t)
		if log := p.err.String(); strings.Contains(log, "exit status") || strings.Contains(log, "signal:") {
			t.Errorf("after Ctrl-C: %s", log)
		}
	}
}

// TestDefaults checks that serve with no flags listens where its help says, and only there, and keeps its data where its
// help says. Where another program has one of the ports, that is what it must say.
func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(testkit.Program(t), "serve")
	cmd.Dir = dir
	cmd.Env = testkit.Env()
	p := startCommand(t, cmd)
	eventually(t, startTimeout, "the server prints its banner or ends", func() bool {
		select {
		case <-p.exited:
			return true
		default:
			return strings.HasSuffix(p.out.String(), "\n\n")
		}
	})
	if banner := p.out.String(); banner != "" {
		if base, ops := field(t, banner, "Base URL"), field(t, banner, "Operations"); base != "http://127.0.0.1:8080" || ops != "http://127.0.0.1:8081" {
			t.Errorf("listens on %s and %s", base, ops)
		}
		mustMatch(t, "the banner", banner, `data in \./grahak-data\n`)
		p.stop(t, syscall.SIGTERM)
	} else {
		mustMatch(t, "standard error", p.err.String(), `^grahak: the address 127\.0\.0\.1:808[01] is in use: `)
	}
	if _, err := os.Stat(filepath.Join(dir, "grahak-data")); err != nil {
		t.Error(err)
	}
}

// TestModes checks that nobody else on the machine can read what serve makes, whatever the umask.
func TestModes(t *testing.T) {
	data := filepath.Join(t.TempDir(), "a", "data")
	s := testkit.Start(t, data, "--tls-self-signed")
	got := map[string]fs.FileMode{}
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(data, path)
		got[name] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{
		".": fs.ModeDir | 0o700, "grahak.db": 0o600, "grahak.db-shm": 0o600, "grahak.db-wal": 0o600, "master.key": 0o600, "server.lock": 0o600,
		"requests.db": 0o600, "requests.db-shm": 0o600, "requests.db-wal": 0o600,
		"control.sock": fs.ModeSocket | 0o600,
		"tls":          fs.ModeDir | 0o700, "tls/ca.pem": 0o600, "tls/localhost.pem": 0o600, "tls/localhost-key.pem": 0o600,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	s.Stop(t)
}

// TestPortInUse checks every listener, and that a first start that failed so left no key behind that nobody was shown.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	data := filepath.Join(t.TempDir(), "data")
	for _, flag := range []string{"--listen", "--ops-listen", "--dashboard-listen"} {
		run(t, serve(data, flag, taken)...).refused(t, 1,
			`^the address `+regexp.QuoteMeta(taken)+` is in use: stop the program that uses it, or give another with `+flag+`$`)
	}
	s := testkit.Start(t, data)
	checkKey(t, s.Key, "sandbox")
	run(t, serve(filepath.Join(t.TempDir(), "data"), "--listen", "192.0.2.1:8080")...).refused(t, 1, `^cannot listen on 192\.0\.2\.1:8080 \(--listen\): `)
	s.Stop(t)
}

// TestSecondServer checks that a data folder serves one server at a time, and that the first goes on undisturbed.
func TestSecondServer(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	run(t, serve(s.Data)...).refused(t, 1, `^another grahak serve, or a seal rotate, is using the data folder .*: stop it, or give another folder with --data$`)
	caller{base: s.BaseURL, key: s.Key}.create(t, "first")
	s.Kill(t)
	// A server that crashed does not keep the folder.
	again := testkit.Start(t, s.Data)
	caller{base: again.BaseURL, key: s.Key}.create(t, "second")
	again.Stop(t)
}

// TestReadOnly checks what a user sees who may not write. Root may write everywhere, so as root the program runs as
// another user.
func TestReadOnly(t *testing.T) {
	dir, err := os.MkdirTemp("", "grahak-readonly-*") //nolint:usetesting // Only its owner may enter t.TempDir.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, _ error) error {
			if entry != nil && entry.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return nil
		})
		_ = os.RemoveAll(dir)
	})
	data := filepath.Join(dir, "data")
	testkit.Start(t, data).Stop(t)
	err = errors.Join(os.Mkdir(filepath.Join(dir, "empty"), 0o555), os.Mkdir(filepath.Join(dir, "closed"), 0),
		os.Chmod(filepath.Join(data, "grahak.db"), 0o444), os.Chmod(filepath.Join(data, "master.key"), 0o444), os.Chmod(filepath.Join(data, "server.lock"), 0o444),
		os.Chmod(data, 0o555), os.Chmod(dir, 0o555))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(data, "grahak.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    []string
		pattern string
	}{
		{serve(filepath.Join(dir, "new")), `^the data folder .*/new cannot be made: make it writable for this user, or give another with --data`},
		{serve(filepath.Join(dir, "empty")), `^the data folder .*/empty cannot be written: make it writable for this user, or give another with --data`},
		{serve(filepath.Join(dir, "closed")), `^the data folder .*/closed cannot be written: make it writable for this user, or give another with --data`},
		{serve(data), `^the database .*/data/grahak.db cannot be written: make the folder .*/data and the files in it writable for this user`},
		{[]string{"merchant", "create", "acme", "--data", data}, `cannot be written: make the folder .*/data and the files in it writable for this user`},
	} {
		runUnprivileged(t, c.args...).refused(t, 1, c.pattern)
	}
	r := runUnprivileged(t, "doctor", "--data", data)
	if r.status != 1 || !strings.Contains(r.stdout, "cannot be written: make it writable for this user") {
		t.Errorf("doctor: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	after, err := os.ReadFile(filepath.Join(data, "grahak.db"))
	if err != nil || !cmp.Equal(before, after) {
		t.Errorf("the database was changed (%v)", err)
	}
}

// runUnprivileged runs a command of the program as a user who owns nothing, or as this user if that is not root.
func runUnprivileged(t *testing.T, args ...string) result {
	t.Helper()
	program, err := os.Open(testkit.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Program(t), args...)
	cmd.Env = testkit.Env()
	if os.Geteuid() == 0 {
		// That user may not look into the folder that the program is in, so it is run by its descriptor.
		cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{program}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return runCommand(t, cmd)
}
