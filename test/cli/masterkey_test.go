package cli_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// recoverTimeout bounds how long a server may take to notice that its master key is back; it looks every five seconds.
const recoverTimeout = time.Minute

// TestMasterKeyRefused checks that without any data a key that cannot be had is a mistake to mend at once, which is said
// in one sentence that shows nothing of a key.
func TestMasterKeyRefused(t *testing.T) {
	key := masterKeyFile(t)
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	const form = `a master key is the base64 of 32 random bytes; make one with`
	for name, c := range map[string]struct{ flag, value, env, pattern string }{
		"no file":              {"file", "nowhere", "", `the master key file nowhere cannot be used: the master key file does not exist$`},
		"a folder":             {"file", t.TempDir(), "", `the master key file .* cannot be used: .*is a directory$`},
		"no key in the file":   {"file", "testdata/merchant.txtar", "", `the master key file testdata/merchant\.txtar cannot be used: line 1 is not a master key: ` + form},
		"a large file":         {"file", "main_test.go", "", `the master key file main_test\.go cannot be used: there are more than 4096 bytes, and a master key is a line of 44$`},
		"no key in a variable": {"", "", "nonsense", `GRAHAK_MASTER_KEY is not a master key: ` + form},
		"a second line":        {"", "", string(secret) + "nonsense", `GRAHAK_MASTER_KEY is not a master key: line 2 is not a master key: ` + form},
		"a failing command": {
			"command", "cat '" + key + "'; echo 'Vault is sealed' >&2; exit 3", "",
			`--master-key-command gave no master key: the command failed: exit status 3: Vault is sealed$`,
		},
		"no such command":           {"command", "no-such-vault read key", "", `--master-key-command gave no master key: the command failed: exit status 127: .*no-such-vault.*not found$`},
		"a silent command":          {"command", ":", "", `--master-key-command gave no master key: ` + form},
		"a command that talks":      {"command", "echo The key is: && cat '" + key + "'", "", `--master-key-command gave no master key: line 1 is not a master key: ` + form},
		"a command that never ends": {"command", "yes", "", `--master-key-command gave no master key: the command printed more than 4096 bytes$`},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			for _, environment := range []string{"production", "sandbox"} {
				args := serve(filepath.Join(data, environment), "--env", environment)
				if c.flag != "" {
					args = append(args, "--master-key-"+c.flag, c.value)
				}
				r := runEnv(t, []string{"GRAHAK_MASTER_KEY=" + c.env}, args...)
				r.refused(t, 1, "^"+c.pattern)
				if strings.Contains(r.stderr, string(secret[:8])) {
					t.Errorf("the key is shown: %s", r.stderr)
				}
				if _, err := os.Stat(filepath.Join(data, environment, "master.key")); err == nil {
					t.Error("a key was made although one was given")
				}
			}
		})
	}
}

// TestMasterKeyIsNamed checks that the data knows its master key from the first start on, before there is a merchant whose
// keys could tell, and that it may be another as long as there is none.
func TestMasterKeyIsNamed(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first, second := masterKeyFile(t), masterKeyFile(t)
	production := func(key string) []string { return []string{"--env", "production", "--master-key-file", key} }
	create := func(key string) result {
		return run(t, "merchant", "create", "acme", "--data", data, "--master-key-file", key)
	}
	refused := `^the sealing keys are not available: ` + otherMasterKey + `$`

	// A start that found no key has made a database and named none.
	run(t, serve(data, production("nowhere")...)...).refused(t, 1, `^the master key file nowhere cannot be used: `)
	create(first).refused(t, 1, "^the sealing keys are not available: no server has started on this data with a master key yet: run `grahak serve` with it first$")

	testkit.Start(t, data, production(first)...).Stop(t)
	create(second).refused(t, 1, refused)
	s := testkit.Start(t, data, production(second)...)
	if strings.Contains(s.Banner, "CUSTOMERS CANNOT BE SERVED") {
		t.Errorf("without merchants the master key cannot be changed:\n%s", s.Banner)
	}
	create(first).refused(t, 1, refused)
	create(second).done(t)
	acme := caller{base: s.BaseURL, key: createKey(t, data, "acme").Key}
	acme.create(t, "here")
	s.Stop(t)

	s = testkit.Start(t, data, production(first)...)
	acme.base = s.BaseURL
	if status := acme.list(t); status != http.StatusServiceUnavailable {
		t.Errorf("under another master key: %d, want 503", status)
	}
	mustMatch(t, "the log", s.Log(t), `"msg":"customers cannot be served","error":"`+otherMasterKey+`"`)
	s.Stop(t)
	// The start with the wrong key has not made it the right one.
	s = testkit.Start(t, data, production(second)...)
	acme.base = s.BaseURL
	if a := acme.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
		t.Errorf("under the right master key again: %d %s", a.status, a.body)
	}
	s.Stop(t)
}

// mustBeDown fails the test unless the server at banner answers everything about the customers of the caller as an outage,
// never as a refusal or as customers that do not exist, and says for the given reason that it is not ready.
func mustBeDown(t *testing.T, banner string, c caller, why string) {
	t.Helper()
	for _, r := range []struct{ method, path, body string }{
		{http.MethodGet, "/customers", ""},
		{http.MethodGet, "/customers/here", ""},
		{http.MethodGet, "/customers/not-here", ""},
		{http.MethodPost, "/customers/here", "first_name=Asha"},
		{http.MethodPost, "/customers", newCustomer("here")},
		{http.MethodPost, "/customers", newCustomer("new")},
	} {
		a := c.send(t, r.method, r.path, r.body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"error_code":"unavailable"`) {
			t.Errorf("%s %s: %d %v %s, want 503 with Retry-After", r.method, r.path, a.status, a.header, a.body)
		}
		if strings.Contains(a.body, "master") {
			t.Errorf("%s %s tells of our insides: %s", r.method, r.path, a.body)
		}
	}
	if status := (caller{base: c.base, key: "gk_wrong_gk_wrong"}).list(t); status != http.StatusUnauthorized {
		t.Errorf("a wrong key: %d, want 401", status)
	}
	ops := caller{base: field(t, banner, "Operations")}
	if a := ops.send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusServiceUnavailable || !regexp.MustCompile(why).MatchString(a.body) {
		t.Errorf("/readyz: %d %s, want 503 and %s", a.status, a.body, why)
	}
	if a := ops.send(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz: %d %s, want 200", a.status, a.body)
	}
}

// mustRecover waits until the server at banner serves the caller's customers again.
func mustRecover(t *testing.T, p *program, banner string, c caller) {
	t.Helper()
	ops := caller{base: field(t, banner, "Operations")}
	eventually(t, recoverTimeout, "the server is ready again", func() bool {
		return ops.send(t, http.MethodGet, "/readyz", "").status == http.StatusOK
	})
	if a := c.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
		t.Errorf("when the server is ready again: %d %s", a.status, a.body)
	}
	c.create(t, "after the outage")
	eventually(t, answerTimeout, "the log says so", func() bool {
		return strings.Contains(p.err.String(), `"level":"INFO","msg":"customers can be served again"`)
	})
}

// TestMasterKeyLost checks that customers whose keys cannot be had look like an outage, that this is said everywhere an
// operator looks, and that they are back with the key, without a restart.
func TestMasterKeyLost(t *testing.T) {
	write := func(text string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	sandbox := func(string) []string { return nil }
	production := func(source, value string) func(path string) []string {
		return func(path string) []string {
			return []string{"--env", "production", "--master-key-" + source, strings.ReplaceAll(value, "KEY", path)}
		}
	}
	for name, c := range map[string]struct {
		flags func(path string) []string // that make the server take its key from there
		lose  func(path string) error
		says  string
	}{
		"removed": {
			sandbox, os.Remove,
			`there is no master key in .*/master\.key: put the file back, or give the key with --master-key-file, --master-key-command or GRAHAK_MASTER_KEY; customers are sealed under it and cannot be read without it`,
		},
		"another":         {sandbox, write(newMasterKey(t)), otherMasterKey},
		"nonsense":        {sandbox, write("nonsense\n"), "the master key file .* cannot be used: a master key is the base64 of 32 random bytes; make one with `openssl rand -base64 32`"},
		"a file, removed": {production("file", "KEY"), os.Remove, `the master key file .* cannot be used: the master key file does not exist`},
		"a file, another": {production("file", "KEY"), write(newMasterKey(t)), otherMasterKey},
		"a file with two others": {
			production("file", "KEY"), write(newMasterKey(t) + newMasterKey(t)),
			`the data is sealed under master key [0-9a-f]{16}, but the configured master keys are [0-9a-f]{16} and [0-9a-f]{16}: configure the right one`,
		},
		"a command that fails": {
			production("command", "cat 'KEY' 2>/dev/null || { echo 'Vault is sealed' >&2; exit 2; }"), os.Remove,
			`--master-key-command gave no master key: the command failed: exit status 2: Vault is sealed`,
		},
		"a command with another": {production("command", "cat 'KEY'"), write(newMasterKey(t)), otherMasterKey},
		"a command that hangs": {
			production("command", "until cat 'KEY' 2>/dev/null; do sleep 0.1; done"), os.Remove,
			`reading the master key takes long: see what holds up its file or command`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			path, flags := masterKeyFile(t), []string(nil)
			if flags = c.flags(path); flags == nil {
				path = filepath.Join(data, "master.key")
			}
			s := testkit.Start(t, data, flags...)
			key := s.Key
			if key == "" {
				run(t, append([]string{"merchant", "create", "acme", "--data", data}, flags[2:]...)...).done(t)
				key = createKey(t, data, "acme").Key
			}
			caller{base: s.BaseURL, key: key}.create(t, "here")
			s.Stop(t)
			saved, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.lose(path); err != nil {
				t.Fatal(err)
			}
			lost, _ := os.ReadFile(path)

			p := start(t, nil, serve(data, flags...)...)
			banner := p.banner(t)
			mustMatch(t, "the banner", banner, `(?m)^CUSTOMERS CANNOT BE SERVED, every such request is answered 503: `+c.says+`$`)
			logged := regexp.MustCompile(`"level":"ERROR","msg":"customers cannot be served","error":"` + c.says + `"`)
			eventually(t, answerTimeout, "the log says so", func() bool { return logged.MatchString(p.err.String()) })
			if strings.Contains(banner, "gk_") {
				t.Errorf("the start made a key:\n%s", banner)
			}
			client := caller{base: field(t, banner, "Base URL"), key: key}
			mustBeDown(t, banner, client, c.says)
			if left, _ := os.ReadFile(path); !cmp.Equal(lost, left) {
				t.Error("the start made a master key, beside customers that it does not open")
			}
			if strings.Contains(p.err.String()+p.out.String(), string(saved[:8])) {
				t.Error("the master key is in the log")
			}

			if err := os.WriteFile(path, saved, 0o600); err != nil {
				t.Fatal(err)
			}
			mustRecover(t, p, banner, client)
			// A server that has its key does not need the source any more.
			if err := c.lose(path); err != nil {
				t.Fatal(err)
			}
			client.create(t, "without the source")
			if status := p.stop(t, syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM", status)
			}
		})
	}
}

// TestStopWhileKeyIsRead checks that a command that hangs does not hold up a stop, nor outlives it.
func TestStopWhileKeyIsRead(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	key := masterKeyFile(t)
	s := testkit.Start(t, data, "--env", "production", "--master-key-file", key)
	run(t, "merchant", "create", "acme", "--data", data, "--master-key-file", key).done(t)
	s.Stop(t)
	// A pipe is at its end once no process holds its other side.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan *os.File, 1)
	go func() {
		f, err := os.Open(pipe) // Waits for the command.
		if err != nil {
			t.Error(err)
		}
		opened <- f
	}()
	p := start(t, nil, serve(data, "--env", "production", "--master-key-command", `{ sleep 1000; } >"`+pipe+`" | cat`)...)
	f := <-opened
	defer f.Close()
	p.banner(t)
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = f.Read(make([]byte, 1))
	}()
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		t.Error("the command runs on after the server has ended")
	}
}

// TestSeveralMasterKeys checks that the data is served under any of the keys that are configured, and that merchants are
// made under the one that the others are under.
func TestSeveralMasterKeys(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	older, newer := newMasterKey(t), newMasterKey(t)
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for source, flags := range map[string][]string{
		"file":    {"--master-key-file", path},
		"command": {"--master-key-command", "cat '" + path + "'"},
	} {
		t.Run(source, func(t *testing.T) {
			data, production := filepath.Join(data, source), append([]string{"--env", "production"}, flags...)
			write(older)
			s := testkit.Start(t, data, production...)
			run(t, append([]string{"merchant", "create", "acme", "--data", data}, flags...)...).done(t)
			acme := caller{base: s.BaseURL, key: createKey(t, data, "acme").Key}
			acme.create(t, "acme-1")
			s.Stop(t)

			write("\n " + newer + "\n" + older)
			s = testkit.Start(t, data, production...)
			acme.base = s.BaseURL
			acme.create(t, "acme-2")
			run(t, append([]string{"merchant", "create", "second", "--data", data}, flags...)...).done(t)
			second := caller{base: s.BaseURL, key: createKey(t, data, "second").Key}
			second.create(t, "second-1")
			mustFind(t, data, production, finding("ok", "master key", `opens the keys of every merchant \(2\)`),
				finding("warn", "master key", `[0-9a-f]{16} is in use, and not yet the newer [0-9a-f]{16}: run .* seal rewrap --data .* before you remove the line of [0-9a-f]{16}`))
			s.Stop(t)

			write(newer)
			mustFind(t, data, production, finding("FAIL", "master key", `2 of 2 merchants cannot be served, .*`+otherMasterKey))
		})
	}
}

// TestChangeMasterKey checks that nobody who calls notices when the master key changes, and changes again, under a running
// server.
func TestChangeMasterKey(t *testing.T) {
	for name, source := range map[string][]string{
		"generated":      nil,
		"file":           {"--master-key-file", "KEY"},
		"command":        {"--master-key-command", "cat 'KEY'"},
		"a slow command": {"--master-key-command", "sleep 1; cat 'KEY'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			path, flags := filepath.Join(t.TempDir(), "keys"), []string(nil)
			for _, f := range source {
				flags = append(flags, strings.ReplaceAll(f, "KEY", path))
			}
			// It is put there in one piece, as the server may read it at any time.
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			current := newMasterKey(t)
			write(current)
			s := testkit.Start(t, data, flags...)
			demo := caller{base: s.BaseURL, key: s.Key}
			demo.create(t, "here")

			ctx, stop := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			for i := range 2 {
				calls.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						for _, r := range []struct{ method, path, body string }{
							{http.MethodGet, "/customers/here", ""},
							{http.MethodPost, "/customers", newCustomer(fmt.Sprintf("%d-%d", i, n))},
						} {
							if a, err := demo.try(t.Context(), r.method, r.path, r.body); err != nil || a.status != http.StatusOK {
								t.Errorf("%s %s: %d %s %v", r.method, r.path, a.status, a.body, err)
								return
							}
						}
					}
				})
			}
			defer calls.Wait()
			defer stop()
			for range 3 {
				if flags != nil {
					fresh := newMasterKey(t)
					write(fresh + current)
					current = fresh
				}
				run(t, append([]string{"seal", "rewrap", "--data", data}, flags...)...).done(t)
				if flags != nil {
					write(current)
				}
				// When it knows of this key, it has forgotten what it read before the change.
				key := createKey(t, data, "demo").Key
				seen(t, "a new key works", func() bool { return (caller{base: s.BaseURL, key: key}).list(t) == http.StatusOK })
				if a := demo.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
					t.Errorf("after a change: %d %s", a.status, a.body)
				}
			}
			run(t, append([]string{"merchant", "create", "later", "--data", data}, flags...)...).done(t)
			later := caller{base: s.BaseURL, key: createKey(t, data, "later").Key}
			seen(t, "a new merchant is served", func() bool { return later.list(t) == http.StatusOK })
			stop()
			calls.Wait()
			if strings.Contains(s.Log(t), "cannot be served") {
				t.Error("the log tells of an outage")
			}
			s.Stop(t)
			testkit.Start(t, data, flags...).Stop(t)
			mustFind(t, data, flags, finding("ok", "master key", `opens the keys of every merchant \(2\)`))
		})
	}
}

// TestChangeOfVariable checks that who changes a master key that comes from a variable is told what the server that runs
// needs, before and after, and that the doctor tells where the change has come to.
func TestChangeOfVariable(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	older, newer := newMasterKey(t), newMasterKey(t)
	env := func(keys string) []string { return []string{"GRAHAK_MASTER_KEY=" + keys} }
	p := start(t, env(older), serve(data)...)
	banner := p.banner(t)
	demo := caller{base: field(t, banner, "Base URL"), key: field(t, banner, "API key")}
	demo.create(t, "here")
	both := env(newer + older)
	rewrap := []string{"seal", "rewrap", "--data", data}
	doctor := func(pattern string) {
		t.Helper()
		r := runEnv(t, both, "doctor", "--data", data).done(t)
		mustMatch(t, "doctor", r.stdout, finding("warn", "master key", pattern))
	}
	doctor(`[0-9a-f]{16} is in use, and not yet the newer [0-9a-f]{16}: run .* seal rewrap --data .* before you remove the line of [0-9a-f]{16}`)
	runEnv(t, both, rewrap...).refused(t, 2, `^a server uses this data folder\. If it has its master key from GRAHAK_MASTER_KEY, too, it must have been started with both lines in it, or else it answers 503 from now on until it is restarted with them: see to that, and give --yes\. See `)
	if a := demo.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
		t.Errorf("after a change that was not made: %d %s", a.status, a.body)
	}
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	p = start(t, both, serve(data)...)
	demo.base = field(t, p.banner(t), "Base URL")
	r := runEnv(t, both, append(rewrap, "--yes")...).done(t)
	mustMatch(t, "seal rewrap", r.stdout, `(?m)^The server that runs reads a file or command again by itself\. If it has its key from GRAHAK_MASTER_KEY, it must have been started with both lines; if it was not, it answers 503 now: restart it with both\.$`)
	if a := demo.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
		t.Errorf("after the change: %d %s", a.status, a.body)
	}
	doctor(`[0-9a-f]{16} is in use, and nothing is under [0-9a-f]{16} any more: the line of that may be removed`)
	// There is nothing to ask where nothing is to be changed.
	runEnv(t, both, rewrap...).done(t)
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	// And nobody to be harmed where no server runs.
	r = runEnv(t, env(newMasterKey(t)+newer), rewrap...).done(t)
	if strings.Contains(r.stdout, "The server that runs") {
		t.Errorf("it tells of a server that does not run:\n%s", r.stdout)
	}
}

// TestGeneratedMasterKeyChanges checks that a sandbox's change of its own master key, wherever an earlier one was cut off
// and however many are asked for at once, ends with one key in the file, which opens everything.
func TestGeneratedMasterKeyChanges(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := testkit.Start(t, data)
	demo := caller{base: s.BaseURL, key: s.Key}
	demo.create(t, "here")
	path := filepath.Join(data, "master.key")
	content := func() string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rewrap := []string{"seal", "rewrap", "--data", data}
	first, second := content(), newMasterKey(t)

	// The new key was in the file, and nothing was wrapped under it.
	if err := os.WriteFile(path, []byte(second+first), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, rewrap...).done(t)
	if diff := cmp.Diff(second, content()); diff != "" {
		t.Errorf("the file is not that of the new key alone (-want +got):\n%s", diff)
	}
	// Everything was wrapped under the new key, and the old one was still in the file.
	if err := os.WriteFile(path, []byte(second+first), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, rewrap...).done(t)
	if got := content(); got == first || got == second || strings.Count(got, "\n") != 1 {
		t.Error("the file is not one of a newer key alone")
	}

	// While another changes it, and at the same time.
	folder, err := os.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	const busy = `^the master key is being changed by another command: wait for its end$`
	before := content()
	run(t, rewrap...).refused(t, 1, busy)
	if content() != before {
		t.Error("the file was changed while another command changes it")
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	var results [5]result
	var commands sync.WaitGroup
	for i := range results {
		commands.Go(func() { results[i] = run(t, rewrap...) })
	}
	commands.Wait()
	successes := 0
	for _, r := range results {
		if r.status == 0 {
			successes++
		} else {
			r.refused(t, 1, busy)
		}
	}
	if successes == 0 {
		t.Error("none of the commands did its work")
	}
	if strings.Count(content(), "\n") != 1 {
		t.Error("there is more than one key in the file at the end")
	}
	mustFind(t, data, nil, finding("ok", "master key", `opens the keys of every merchant \(1\)`))
	if a := demo.send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
		t.Errorf("after all that: %d %s", a.status, a.body)
	}
	s.Stop(t)
}

// TestMasterKeyIsNotAskedFor checks that a command which needs no master key does not run the one that prints it, which
// may cost money or leave a trace.
func TestMasterKeyIsNotAskedFor(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	mark := filepath.Join(t.TempDir(), "asked")
	command := "touch '" + mark + "'; cat '" + filepath.Join(data, "master.key") + "'"
	for _, args := range [][]string{{"merchant", "list"}, {"key", "create", "--merchant", "demo"}, {"iplist", "list", "--merchant", "demo"}} {
		run(t, append(args, "--data", data, "--master-key-command", command)...).done(t)
		if _, err := os.Stat(mark); err == nil {
			t.Fatalf("grahak %s needs the master key", strings.Join(args, " "))
		}
	}
	run(t, "merchant", "create", "acme", "--data", data, "--master-key-command", command).done(t)
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("grahak merchant create does not ask for the master key: %v", err)
	}
}
