package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"grahak/internal/testkit"
)

// TestMistakes checks that what is given wrongly is named for what it is.
func TestMistakes(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"backup", ""}, 2, `^<file> is empty: give the file to write\. See grahak backup --help\.$`},
		{[]string{"restore", ""}, 2, `^<file> is empty: give the backup\. See grahak restore --help\.$`},
		{[]string{"backup", "/proc/x"}, 1, `^/proc/x cannot be made: the folder /proc takes no files, give another$`},
		{[]string{"backup", "/nowhere/x"}, 1, `^the folder /nowhere does not exist: make it first$`},
		{[]string{"customer", "list", "-m", "demo", "--offset", "-1"}, 2, `^--offset: a value that begins with - needs an equals sign: --offset=-1\. `},
		{[]string{"customer", "list", "-m", "demo", "--offset=-1"}, 2, `^--offset is from 0 to 10000`},
		{[]string{"customer", "list", "-m", "demo", "--offset", "--json"}, 2, `^--offset needs a value`},
		{[]string{"customer", "list", "-m", "demo", "--created-after", "2026-11-22T10:00:00"}, 2, `^--created-after: "2026-11-22T10:00:00" has no zone: end it with Z for UTC, or with an offset such as \+05:30`},
		{[]string{"customer", "list", "-m", "demo", "--created-after", "2026-11-22T10:00:00.5"}, 2, ` has no zone: `},
		// The wire takes no space there either.
		{[]string{"customer", "list", "-m", "demo", "--created-after", "2026-11-22 10:00:00Z"}, 2, `^--created-after: "2026-11-22 10:00:00Z" is not a time: write it like 2026-03-17T14:13:37Z or`},
	} {
		run(t, append(c.args, "--data", data)...).refused(t, c.status, c.says)
	}
	run(t, "customer", "list", "-m", "demo", "--created-after", "2026-11-22T10:00:00+05:30", "--data", data).done(t)
}

// TestLinesOfMasterKeys checks that of several lines the one that is no key is named, the first one, too.
func TestLinesOfMasterKeys(t *testing.T) {
	data, path := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "keys")
	testkit.Start(t, data).Stop(t)
	for text, says := range map[string]string{
		"nonsense\n" + newMasterKey(t):   `: line 1 is not a master key: a master key is the base64 of 32 random bytes`,
		newMasterKey(t) + "\nnonsense\n": `: line 3 is not a master key: a master key is the base64 of 32 random bytes`,
		"nonsense\n":                     `cannot be used: a master key is the base64 of 32 random bytes`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "merchant", "create", "acme", "--data", data, "--master-key-file", path).refused(t, 1, says)
	}
}

// TestBackupInDataFolder checks that a backup which would be lost with what it is of is said to be.
func TestBackupInDataFolder(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s := testkit.Start(t, data)
	caller{base: s.BaseURL, key: s.Key}.create(t, "asha")
	s.Stop(t)
	if err := os.Mkdir(filepath.Join(data, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := run(t, "backup", filepath.Join(dir, "beside"), "--data", data).done(t)
	mustMatch(t, "backup", r.stdout, `: 1 customer of 1 merchant \(sandbox\) `)
	for _, path := range []string{"within", "below/within"} {
		path = filepath.Join(data, path)
		r := run(t, "backup", path, "--data", data)
		if want := path + " is in the data folder, and is lost with it: move it to another disk.\n"; r.status != 0 || r.stderr != want {
			t.Errorf("exit status %d, %q, want %q", r.status, r.stderr, want)
		}
	}
}

// TestRestoreAfterKill checks that what a restore that was killed has left is said to be that, and that nothing else is in
// the way once it is gone.
func TestRestoreAfterKill(t *testing.T) {
	dir := t.TempDir()
	data, good, target := filepath.Join(dir, "data"), filepath.Join(dir, "good"), filepath.Join(dir, "new")
	testkit.Start(t, data).Stop(t)
	run(t, "backup", good, "--data", data).done(t)
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(target, "grahak.db.partial")
	for _, path := range []string{left, filepath.Join(target, "server.lock")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore := []string{"restore", good, "--data", target}
	run(t, restore...).refused(t, 1, `^grahak\.db\.partial is in the data folder .*/new: wait for the restore that is writing it or, if there is none, delete what one that was killed has left$`)
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	run(t, restore...).done(t)
	if err := os.Remove(filepath.Join(target, "grahak.db")); err != nil {
		t.Fatal(err)
	}
	s := testkit.Start(t, data)
	run(t, "restore", good, "--data", data).refused(t, 1, ` is not empty, grahak\.db`)
	s.Stop(t)
}

// TestVerifiedWithoutKey checks that a program is told what was not checked for want of the master key.
func TestVerifiedWithoutKey(t *testing.T) {
	dir := t.TempDir()
	data, good := filepath.Join(dir, "data"), filepath.Join(dir, "good")
	s := testkit.Start(t, data)
	settle(t, data)
	s.Stop(t)
	run(t, "backup", good, "--data", data).done(t)
	for folder, key := range map[string]bool{data: true, filepath.Join(dir, "none"): false} {
		type checks struct {
			MasterKey bool `json:"master_key_checked"`
			Chains    bool `json:"chains_checked"`
			Proofs    bool `json:"chain_proofs_checked"`
		}
		var got checks
		r := run(t, "restore", "--verify-only", good, "--json", "--data", folder).done(t)
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || !strings.Contains(r.stdout, "chain_proofs_checked") {
			t.Fatalf("%v: %s", err, r.stdout)
		}
		if want := (checks{key, true, key}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
