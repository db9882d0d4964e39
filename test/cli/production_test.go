package cli_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// newMasterKey returns a master key as its file holds it.
func newMasterKey(t *testing.T) string {
	t.Helper()
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw[:]) + "\n"
}

// otherMasterKey matches what is said of a master key that is not the one of the data.
const otherMasterKey = `the data is sealed under master key [0-9a-f]{16}, but the configured master key is [0-9a-f]{16}: configure the right one`

// masterKeyFile writes a new master key to a file and returns its path.
func masterKeyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master key")
	if err := os.WriteFile(path, []byte(newMasterKey(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProductionRefuses checks that a half-configured production names each thing that it lacks, and touches nothing.
func TestProductionRefuses(t *testing.T) {
	const (
		noKey      = `production needs a master key: give --master-key-file FILE or set GRAHAK_MASTER_KEY \(make one with: openssl rand -base64 32\)`
		selfSigned = `--tls-self-signed is for sandbox; give --tls-cert and --tls-key, or end TLS at a proxy`
		halfTLS    = `--tls-cert and --tls-key go together, but only one is given`
		twoKeys    = `--master-key-file and GRAHAK_MASTER_KEY exclude each other`
	)
	data := filepath.Join(t.TempDir(), "data")
	key := masterKeyFile(t)
	for _, c := range []struct {
		env      []string
		flags    []string
		problems []string
	}{
		{nil, nil, []string{noKey}},
		{nil, []string{"--tls-self-signed"}, []string{selfSigned, noKey}},
		{nil, []string{"--tls-self-signed", "--master-key-file", key}, []string{selfSigned}},
		{nil, []string{"--tls-cert", "x"}, []string{halfTLS, noKey}},
		{nil, []string{"--tls-key", "x", "--master-key-file", key}, []string{halfTLS}},
		{[]string{"GRAHAK_MASTER_KEY=" + newMasterKey(t)}, []string{"--master-key-file", key}, []string{twoKeys}},
		{[]string{"GRAHAK_MASTER_KEY="}, nil, []string{noKey}},
	} {
		runEnv(t, c.env, serve(data, append([]string{"--env", "production"}, c.flags...)...)...).
			refused(t, 2, `^`+strings.Join(c.problems, "; ")+`\. See grahak serve --help\.$`)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data folder was made")
	}

	for _, c := range []struct{ env, file, pattern string }{
		{"", "nowhere", `^the master key file nowhere cannot be used: the master key file does not exist$`},
		{"", "main_test.go", `^the master key file main_test\.go cannot be used: a master key is the base64 of 32 random bytes; make one with`},
		{"nonsense", "", `^GRAHAK_MASTER_KEY is not a master key: a master key is the base64 of 32 random bytes; make one with`},
	} {
		runEnv(t, []string{"GRAHAK_MASTER_KEY=" + c.env}, serve(data, "--env", "production", "--master-key-file", c.file)...).refused(t, 1, c.pattern)
	}
	for _, pair := range [][2]string{{"nowhere", "nowhere"}, {"main_test.go", "main_test.go"}} {
		run(t, serve(data, "--env", "production", "--master-key-file", key, "--tls-cert", pair[0], "--tls-key", pair[1])...).
			refused(t, 1, `^the TLS (file|certificate) `+pair[0]+` `)
	}
}

// TestProduction checks that a production that is given its master key, by file or by environment, starts, provisions
// nothing, and works with what the command line makes beside it.
func TestProduction(t *testing.T) {
	for _, by := range []string{"file", "environment"} {
		t.Run(by, func(t *testing.T) {
			var flags, env []string
			if by == "file" {
				flags = []string{"--master-key-file", masterKeyFile(t)}
			} else {
				env = []string{"GRAHAK_MASTER_KEY=" + newMasterKey(t)}
			}
			dir := t.TempDir()
			data := filepath.Join(dir, "data")
			p := start(t, env, serve(data, append([]string{"--env", "production"}, flags...)...)...)
			banner := p.banner(t)
			if strings.Contains(banner, "gk_") || strings.Contains(banner, "demo") {
				t.Errorf("the banner of production shows a key or a demo merchant:\n%s", banner)
			}
			mustMatch(t, "the banner", banner, `^Grahak \S+, production, data in `)
			if r := run(t, "merchant", "list", "--json", "--data", data).done(t); r.stdout != "" {
				t.Errorf("production made merchants: %s", r.stdout)
			}
			var made []string
			entries, err := os.ReadDir(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				made = append(made, e.Name())
			}
			if diff := cmp.Diff([]string{"grahak.db", "grahak.db-shm", "grahak.db-wal", "server.lock"}, made); diff != "" {
				t.Errorf("files in the data folder (-want +got):\n%s", diff)
			}

			base := field(t, banner, "Base URL")
			if status := (caller{base: base}).list(t); status != http.StatusUnauthorized {
				t.Errorf("without a key: %d, want 401", status)
			}
			// The banner's commands name the master key file; a variable is there already.
			hints := strings.ReplaceAll(block(t, banner, "merchant create"), "ID", "acme")
			if by == "file" {
				mustMatch(t, "what the pasted commands print", paste(t, dir, hints), `gk_production_`)
			} else {
				run(t, "merchant", "create", "acme", "--data", data).refused(t, 1, "there is no master key in ")
				runEnv(t, env, "merchant", "create", "acme", "--data", data).done(t)
			}
			key := createKey(t, data, "acme")
			checkKey(t, key.Key, "production")
			acme := caller{base: base, key: key.Key}
			acme.create(t, "acme-1")
			if a := acme.send(t, http.MethodGet, "/customers/acme-1", ""); a.status != http.StatusOK {
				t.Errorf("get: %d %s", a.status, a.body)
			}
			if status := p.stop(t, syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM", status)
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

// TestDamagedKeyset checks that a merchant whose keys were damaged costs the others nothing.
func TestDamagedKeyset(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	run(t, "merchant", "create", "acme", "--data", s.Data).done(t)
	demo, acme := caller{key: s.Key}, caller{base: s.BaseURL, key: createKey(t, s.Data, "acme").Key}
	acme.create(t, "theirs")
	s.Stop(t)
	path := filepath.Join(s.Data, "grahak.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The merchant, the master key's id, and then the wrapped keys.
	found := regexp.MustCompile(`acme[0-9a-f]{16}`).FindAllIndex(content, -1)
	if len(found) != 1 {
		t.Fatalf("there are %d keysets of acme in the database, want 1", len(found))
	}
	content[found[0][1]+64] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	p := start(t, nil, serve(s.Data)...)
	banner := p.banner(t)
	if strings.Contains(banner, "CANNOT BE SERVED") {
		t.Errorf("the banner says that nobody is served:\n%s", banner)
	}
	demo.base, acme.base = field(t, banner, "Base URL"), field(t, banner, "Base URL")
	demo.create(t, "ours")
	if status := demo.list(t); status != http.StatusOK {
		t.Errorf("another merchant: %d, want 200", status)
	}
	for _, path := range []string{"/customers", "/customers/theirs", "/customers/none"} {
		if a := acme.send(t, http.MethodGet, path, ""); a.status < 500 {
			t.Errorf("%s: %d %s, want a failure of the server", path, a.status, a.body)
		}
	}
	if a := (caller{base: field(t, banner, "Operations")}).send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusOK {
		t.Errorf("/readyz: %d %s, want 200", a.status, a.body)
	}
	p.stop(t, syscall.SIGTERM)
	mustMatch(t, "the log", p.err.String(), `"level":"ERROR","msg":"the customers of a merchant cannot be served","merchant":"acme","error":"the keys of merchant acme do not open; they were altered: `)
	if strings.Contains(p.err.String(), `cannot be served","merchant":"demo"`) {
		t.Error("the log says that another merchant cannot be served")
	}
	mustFind(t, s.Data, nil, finding("FAIL", "master key", `1 of 2 merchants cannot be served, acme among them: the keys of merchant acme do not open; they were altered: .*`))
}

// TestOtherEnvironment checks that data of the one environment is never opened by the other, and not harmed by the try.
func TestOtherEnvironment(t *testing.T) {
	key := masterKeyFile(t)
	production := []string{"--env", "production", "--master-key-file", key}
	for _, c := range []struct {
		made, other string
		own, others []string
	}{
		{"sandbox", "production", nil, production},
		{"production", "sandbox", production, nil},
	} {
		t.Run(c.made, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			testkit.Start(t, data, c.own...).Stop(t)
			run(t, serve(data, c.others...)...).refused(t, 1,
				`^the database in `+regexp.QuoteMeta(data)+` was made for the `+c.made+` environment, not `+c.other+`: use another data folder, or --env `+c.made+`$`)
			if _, err := os.Stat(filepath.Join(data, "master.key")); (err == nil) != (c.made == "sandbox") {
				t.Errorf("the try changed the master key in the folder (%v)", err)
			}
			testkit.Start(t, data, c.own...).Stop(t)
		})
	}
}

// TestMasterKeyLost checks that customers whose keys cannot be had look like an outage and never like a refusal or like
// customers that do not exist, and that they are back with the key.
func TestMasterKeyLost(t *testing.T) {
	another := func(path string) error { return os.WriteFile(path, []byte(newMasterKey(t)), 0o600) }
	for name, c := range map[string]struct {
		lose func(path string) error
		says string
	}{
		"removed": {os.Remove, `there is no master key in .*: put the file back, or give the key with --master-key-file or GRAHAK_MASTER_KEY; customers are sealed under it and cannot be read without it`},
		"another": {another, otherMasterKey},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			s := testkit.Start(t, data)
			caller{base: s.BaseURL, key: s.Key}.create(t, "here")
			s.Stop(t)
			path := filepath.Join(data, "master.key")
			saved, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.lose(path); err != nil {
				t.Fatal(err)
			}
			lost, _ := os.ReadFile(path)

			p := start(t, nil, serve(data)...)
			banner := p.banner(t)
			mustMatch(t, "the banner", banner, `(?m)^CUSTOMERS CANNOT BE SERVED, every such request is answered 503: `+c.says+`$`)
			mustMatch(t, "the log", p.err.String(), `"level":"ERROR","msg":"customers cannot be served"`)
			if strings.Contains(banner, "gk_") {
				t.Errorf("the start made a key:\n%s", banner)
			}
			demo := caller{base: field(t, banner, "Base URL"), key: s.Key}
			for _, r := range []struct{ method, path, body string }{
				{http.MethodGet, "/customers", ""},
				{http.MethodGet, "/customers/here", ""},
				{http.MethodGet, "/customers/not-here", ""},
				{http.MethodPost, "/customers/here", "first_name=Asha"},
				{http.MethodPost, "/customers", newCustomer("here")},
				{http.MethodPost, "/customers", newCustomer("new")},
			} {
				a := demo.send(t, r.method, r.path, r.body)
				if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"error_code":"unavailable"`) {
					t.Errorf("%s %s: %d %v %s, want 503 with Retry-After", r.method, r.path, a.status, a.header, a.body)
				}
				if strings.Contains(a.body, "master") {
					t.Errorf("%s %s tells of our insides: %s", r.method, r.path, a.body)
				}
			}
			if status := (caller{base: demo.base, key: "gk_wrong_gk_wrong"}).list(t); status != http.StatusUnauthorized {
				t.Errorf("a wrong key: %d, want 401", status)
			}
			ops := caller{base: field(t, banner, "Operations")}
			if a := ops.send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "master key") {
				t.Errorf("/readyz: %d %s, want 503 and the reason", a.status, a.body)
			}
			if a := ops.send(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
				t.Errorf("/healthz: %d %s, want 200", a.status, a.body)
			}
			if status := p.stop(t, syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM", status)
			}
			if left, _ := os.ReadFile(path); !cmp.Equal(lost, left) {
				t.Error("the start made a master key, beside customers that it does not open")
			}

			if err := os.WriteFile(path, saved, 0o600); err != nil {
				t.Fatal(err)
			}
			s2 := testkit.Start(t, data)
			if a := (caller{base: s2.BaseURL, key: s.Key}).send(t, http.MethodGet, "/customers/here", ""); a.status != http.StatusOK {
				t.Errorf("with the key back: %d %s", a.status, a.body)
			}
			s2.Stop(t)
		})
	}
}
