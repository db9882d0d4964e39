package cli_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// finding is a line of the doctor: a mark, a subject, and what it says.
func finding(mark, subject, says string) string {
	return `(?m)^` + mark + ` +` + subject + ` +` + says + `$`
}

// mustFind runs the doctor and checks its exit status, its findings, and that nothing else is wrong.
func mustFind(t *testing.T, data string, flags []string, findings ...string) {
	t.Helper()
	checkFindings(t, run(t, append([]string{"doctor", "--data", data}, flags...)...), findings)
}

// checkFindings checks the doctor's exit status, its findings, and that nothing else is wrong.
func checkFindings(t *testing.T, r result, findings []string) {
	t.Helper()
	rest := r.stdout
	bad := 0
	for _, f := range findings {
		if !regexp.MustCompile(f).MatchString(r.stdout) {
			t.Errorf("doctor does not say %s:\n%s", f, r.stdout)
		}
		rest = regexp.MustCompile(f).ReplaceAllString(rest, "")
		if strings.Contains(f, "FAIL") {
			bad = 1
		}
	}
	if strings.Contains(rest, "FAIL") || strings.Contains(rest, "warn") {
		t.Errorf("doctor finds more than it should:\n%s", rest)
	}
	want := ""
	if bad != 0 {
		want = "grahak: something needs mending; see above\n"
	}
	if r.status != bad || r.stderr != want {
		t.Errorf("doctor: exit status %d and %q, want %d and %q", r.status, r.stderr, bad, want)
	}
}

// manyCustomers starts a sandbox with enough customers that they fill pages of their own, and stops it.
func manyCustomers(t *testing.T) (data string) {
	t.Helper()
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	demo := caller{base: s.BaseURL, key: s.Key}
	for i := range 200 {
		demo.create(t, fmt.Sprintf("doctor-%d", i))
	}
	s.Stop(t)
	return s.Data
}

func TestDoctorHealthy(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	healthy := func(folder string) []string {
		return []string{
			finding("ok", "settings", `fit together \(sandbox\)`),
			finding("ok", "folder", `.*/data can be written; `+folder),
			finding("ok", "disk", `[\d.]+ GiB are free`),
			finding("ok", "database", `sound \([\d.]+ MiB, and [\d.]+ MiB in the log\)`),
			finding("ok", "master key", `opens the keys of every merchant \(1\)`),
			finding("ok", "clock", `\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`),
		}
	}
	mustFind(t, s.Data, nil, healthy("a server is using it")...)
	caller{base: s.BaseURL, key: s.Key}.create(t, "after the doctor")
	s.Stop(t)
	mustFind(t, s.Data, nil, healthy("no server is using it")...)
	// The doctor has not kept the folder from a server.
	testkit.Start(t, s.Data).Stop(t)
}

func TestDoctorFindsFolder(t *testing.T) {
	dir := t.TempDir()
	mustFind(t, filepath.Join(dir, "none"), nil,
		finding("FAIL", "folder", `".*/none" does not exist: grahak serve makes it at its first start, or give the right one with --data`))
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("the doctor made the folder")
	}
	mustFind(t, dir, nil, finding("FAIL", "database", `there is none in .*: grahak serve makes it at its first start, or give the right folder with --data`),
		finding("warn", "folder", `.* can be read by other users of this machine: chmod 700 .*`))
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustFind(t, file, nil, finding("FAIL", "folder", `.*/file is a file: give a folder with --data`))
}

// TestEmptyDatabase checks that what a first start that was cut off leaves is filled by serve and by nothing else.
func TestEmptyDatabase(t *testing.T) {
	const noData = "there is no data in \".*/empty\": run `grahak serve` first, or give the right folder with --data"
	data := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "grahak.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustFind(t, data, nil, finding("FAIL", "database", noData))
	for _, command := range []string{"merchant list", "merchant create acme", "key create --merchant demo", "iplist list --merchant demo", "customer list --merchant demo"} {
		run(t, append(strings.Fields(command), "--data", data)...).refused(t, 1, "^"+noData+"$")
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
		t.Errorf("beside the database there are %v (%v)", files, err)
	}
	if content, err := os.ReadFile(path); err != nil || len(content) > 0 {
		t.Errorf("%d bytes were written into the empty database (%v)", len(content), err)
	}
	s := testkit.Start(t, data)
	caller{base: s.BaseURL, key: s.Key}.create(t, "first")
	s.Stop(t)
}

// customersPage returns the last page of the database that holds customers and is in use: what the server has freed in the
// meantime, nobody misses.
func customersPage(t *testing.T, db []byte, size int) []byte {
	t.Helper()
	pageOf := func(n uint32) []byte { return db[int(n-1)*size : int(n)*size] }
	free := make(map[uint32]bool)
	// A page of the list holds the next of them, a count, and so many free pages: see SQLite's fileformat.html.
	for list := binary.BigEndian.Uint32(db[32:]); list != 0; {
		p := pageOf(list)
		free[list] = true
		for n := range binary.BigEndian.Uint32(p[4:]) {
			free[binary.BigEndian.Uint32(p[8+4*n:])] = true
		}
		list = binary.BigEndian.Uint32(p)
	}
	for n := uint32(len(db) / size); n > 1; n-- {
		if p := pageOf(n); !free[n] && bytes.Contains(p, []byte("democst_")) {
			return p
		}
	}
	t.Fatal("no page holds customers")
	return nil
}

func TestDoctorFindsDamage(t *testing.T) {
	sound := manyCustomers(t)
	content, err := os.ReadFile(filepath.Join(sound, "grahak.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if len(content) < 10*page {
		t.Fatalf("the database has only %d bytes: the log was not copied into it at the end", len(content))
	}
	const (
		damaged = `the database .*/grahak\.db is damaged or not a database: restore it from a backup; it was left as it is \(.*\)`
		inside  = `the database is damaged: restore it from a backup: [^;]*`
	)
	noise := bytes.Repeat([]byte{0xa5, 0x5a, 0x17}, page)
	for name, c := range map[string]struct {
		damage func(content []byte)
		says   string
		serves string // what serve says of it, nothing if it does not see it
	}{
		"not a database": {func(b []byte) { copy(b, "This is a letter to my mother.") }, damaged, damaged},
		"all but the header": {func(b []byte) {
			for i := 200; i < len(b); i++ {
				b[i] = 0xff
			}
		}, damaged, damaged},
		"two pages near the start": {func(b []byte) { copy(b[page:3*page], noise) }, damaged, damaged},
		"two pages of zeros":       {func(b []byte) { clear(b[page : 3*page]) }, damaged, damaged},
		"the page of merchants": {func(b []byte) {
			copy(b[5*page:6*page], noise)
		}, `(.*/grahak\.db is damaged, \d+ findings, first: .*; restore it from a backup|` + inside + `)`, inside},
		"a page of customers": {func(b []byte) {
			clear(customersPage(t, b, page))
		}, `(.* is damaged, \d+ findings, first: .*; restore it from a backup|.* cannot be read to its end: .*; if it is damaged, restore it from a backup)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(data, os.DirFS(sound)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(data, "grahak.db")
			bad := bytes.Clone(content)
			c.damage(bad)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(data, "master.key"), 0o600); err != nil {
				t.Fatal(err)
			}
			mustFind(t, data, nil, finding("FAIL", "database", c.says))
			if c.serves == "" {
				return
			}
			run(t, serve(data)...).refused(t, 1, `^`+c.serves+`$`)
			run(t, "merchant", "list", "--data", data).refused(t, 1, `^`+c.serves+`$`)
			if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, bad) {
				t.Errorf("the damaged database was touched (%v)", err)
			}
		})
	}
}

func TestDoctorFindsSettings(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	otherEnvironment := finding("FAIL", "settings", `the database is of the sandbox environment: use --env sandbox or other data`)
	mustFind(t, data, []string{"--env", "production"}, otherEnvironment,
		finding("FAIL", "settings", `production needs a master key: give --master-key-file FILE or --master-key-command CMD, or set GRAHAK_MASTER_KEY .*`))
	mustFind(t, data, []string{"--env", "production", "--master-key-file", filepath.Join(data, "master.key")}, otherEnvironment)
	mustFind(t, data, []string{"--listen", "nowhere"}, finding("FAIL", "settings", `--listen "nowhere" is not an address and a port: write it like 127\.0\.0\.1:8080`))

	dir := t.TempDir()
	mustFind(t, data, []string{"--tls-cert", "nowhere", "--tls-key", "nowhere"}, finding("FAIL", "TLS", `the certificate nowhere and key nowhere cannot be used: .*`))
	for valid, want := range map[time.Duration]string{
		-time.Hour:           finding("FAIL", "TLS", `the certificate .*/cert\.pem ended on \S+ \S+Z: renew it`),
		7 * 24 * time.Hour:   finding("warn", "TLS", `the certificate .*/cert\.pem ends on \S+ \S+Z: renew it`),
		365 * 24 * time.Hour: finding("ok", "TLS", `the certificate is good until \S+ \S+Z`),
	} {
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		writeCertificate(t, cert, key, 1, time.Now().Add(valid))
		mustFind(t, data, []string{"--tls-cert", cert, "--tls-key", key}, want)
	}
}

func TestDoctorFindsMasterKey(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	path := filepath.Join(data, "master.key")
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(path, 0o640)
	mustFind(t, data, nil, finding("FAIL", "master key", `.*/master\.key can be read by other users of this machine: chmod 600 .*/master\.key`))
	mustFind(t, data, []string{"--master-key-file", path}, finding("warn", "master key", `.*/master\.key can be read by other users of this machine: chmod 600 .*/master\.key`))
	chmod(path, 0o600)
	chmod(data, 0o755)
	mustFind(t, data, nil, finding("warn", "folder", `.*/data can be read by other users of this machine: chmod 700 .*/data`))
	chmod(data, 0o700)

	run(t, "merchant", "create", "acme", "--data", data).done(t)
	mustFind(t, data, []string{"--master-key-file", masterKeyFile(t)}, finding("FAIL", "master key",
		`2 of 2 merchants cannot be served, demo among them: the sealing keys are not available: `+otherMasterKey))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustFind(t, data, nil, finding("FAIL", "master key",
		`2 of 2 merchants cannot be served, demo among them: .*there is no master key in .*/master\.key: put the file back, or give the key with --master-key-file, --master-key-command or GRAHAK_MASTER_KEY; .*`))

	// A production without merchants knows its key by name.
	key := masterKeyFile(t)
	data = filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data, "--env", "production", "--master-key-file", key).Stop(t)
	mustFind(t, data, []string{"--env", "production", "--master-key-file", key}, finding("ok", "master key", `opens the keys of every merchant \(0\)`))
	mustFind(t, data, []string{"--env", "production", "--master-key-file", masterKeyFile(t)}, finding("FAIL", "master key", `the sealing keys are not available: `+otherMasterKey))
	mustFind(t, data, []string{"--env", "production", "--master-key-file", "nowhere"}, finding("FAIL", "master key", `.*the master key file nowhere cannot be used: .*`))
	mustFind(t, data, []string{"--env", "production", "--master-key-command", "cat '" + key + "'"}, finding("ok", "master key", `opens the keys of every merchant \(0\)`))
	mustFind(t, data, []string{"--env", "production", "--master-key-command", "cat '" + key + "'; echo denied >&2; exit 7"},
		finding("FAIL", "master key", `the sealing keys are not available: --master-key-command gave no master key: the command failed: exit status 7: denied`))
}
