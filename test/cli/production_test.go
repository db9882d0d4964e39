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

// noMasterKey matches what is said where production's data needs a master key and none was given.
const noMasterKey = `the data is of production, which keeps no master key itself, and none was given: give the server's, with --master-key-file FILE or --master-key-command CMD, or in GRAHAK_MASTER_KEY$`

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
		noKey      = `production needs a master key: give --master-key-file FILE or --master-key-command CMD, or set GRAHAK_MASTER_KEY \(make one with: openssl rand -base64 32\)`
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
		{nil, []string{"--master-key-file", key, "--master-key-command", "cat"}, []string{`--master-key-file and --master-key-command exclude each other`}},
		{
			[]string{"GRAHAK_MASTER_KEY=" + newMasterKey(t), "GRAHAK_MASTER_KEY_COMMAND=cat"},
			[]string{"--master-key-file", key},
			[]string{`--master-key-file and --master-key-command and GRAHAK_MASTER_KEY exclude each other`},
		},
		{[]string{"GRAHAK_MASTER_KEY=", "GRAHAK_MASTER_KEY_COMMAND=", "GRAHAK_MASTER_KEY_FILE="}, nil, []string{noKey}},
	} {
		runEnv(t, c.env, serve(data, append([]string{"--env", "production"}, c.flags...)...)...).
			refused(t, 2, `^`+strings.Join(c.problems, "; ")+`\. See grahak serve --help\.$`)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data folder was made")
	}

	for _, pair := range [][2]string{{"nowhere", "nowhere"}, {"main_test.go", "main_test.go"}} {
		run(t, serve(data, "--env", "production", "--master-key-file", key, "--tls-cert", pair[0], "--tls-key", pair[1])...).
			refused(t, 1, `^the TLS (file|certificate) `+pair[0]+` `)
	}
}

// TestProduction checks that a production that is given its master key, in any way there is, starts, provisions nothing,
// and works with what the command line makes beside it.
func TestProduction(t *testing.T) {
	file := masterKeyFile(t)
	for by, c := range map[string]struct{ flags, env []string }{
		"file":                       {[]string{"--master-key-file", file}, nil},
		"command":                    {[]string{"--master-key-command", "sed 's/^/ /' '" + file + "'"}, nil},
		"environment":                {nil, []string{"GRAHAK_MASTER_KEY=" + newMasterKey(t)}},
		"command in the environment": {nil, []string{"GRAHAK_MASTER_KEY_COMMAND=cat '" + file + "'"}},
	} {
		t.Run(by, func(t *testing.T) {
			flags, env := c.flags, c.env
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
			if diff := cmp.Diff([]string{"control.sock", "grahak.db", "grahak.db-shm", "grahak.db-wal", "requests.db", "requests.db-shm", "requests.db-wal", "server.lock"}, made); diff != "" {
				t.Errorf("files in the data folder (-want +got):\n%s", diff)
			}

			base := field(t, banner, "Base URL")
			if status := (caller{base: base}).list(t); status != http.StatusUnauthorized {
				t.Errorf("without a key: %d, want 401", status)
			}
			// The banner's commands have the flag of the master key; a variable is there already.
			hints := strings.ReplaceAll(block(t, banner, "merchant create"), "ID", "acme")
			if env == nil {
				mustMatch(t, "what the pasted commands print", paste(t, dir, hints), `gk_production_`)
			} else {
				if strings.Contains(banner, file) {
					t.Errorf("the banner shows what the environment holds:\n%s", banner)
				}
				run(t, "merchant", "create", "acme", "--data", data).refused(t, 1, noMasterKey)
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

// TestProductionKeyIsGiven checks that no command takes a master key out of the data folder of a production, and that each
// says how to give one.
func TestProductionKeyIsGiven(t *testing.T) {
	key, data := masterKeyFile(t), filepath.Join(t.TempDir(), "data")
	s := testkit.Start(t, data, "--env", "production", "--master-key-file", key)
	run(t, "merchant", "create", "acme", "--data", data, "--master-key-file", key).done(t)
	caller{base: s.BaseURL, key: createKey(t, data, "acme").Key}.create(t, "asha")
	s.Stop(t)
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "master.key"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"merchant create other", "customer get asha -m acme", "customer list -m acme", "customer export asha -m acme", "customer erase asha -m acme --yes", "seal rewrap", "seal rotate --all"} {
		run(t, append(strings.Fields(command), "--data", data)...).refused(t, 1, noMasterKey)
	}
	r := run(t, "doctor", "--data", data, "--env", "production")
	if want := finding("FAIL", "master key", `1 of 1 merchant cannot be served, acme among them: the sealing keys are not available: `+strings.TrimSuffix(noMasterKey, "$")); r.status != 1 || !regexp.MustCompile(want).MatchString(r.stdout) {
		t.Errorf("doctor: exit status %d\n%s", r.status, r.stdout)
	}
	if left, err := os.ReadFile(filepath.Join(data, "master.key")); err != nil || !cmp.Equal(content, left) {
		t.Errorf("the file in the data folder was changed (%v)", err)
	}
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
