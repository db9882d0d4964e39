package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"grahak/internal/testkit"
)

// TestHintsNameTheProgram checks that what the program says to run next begins with the program as it was called, so that
// it can be pasted where it was printed.
func TestHintsNameTheProgram(t *testing.T) {
	dir := t.TempDir()
	called := filepath.Join(dir, "my tools", "customers")
	if err := os.Mkdir(filepath.Dir(called), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(testkit.Program(t), called); err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, filepath.Join(dir, "data")).Stop(t)
	for id, c := range map[string]struct{ name, hint string }{
		"by-name":   {"grahak", `grahak`},
		"in-folder": {"./my tools/customers", `'\./my tools/customers'`},
		"by-path":   {called, `'` + regexp.QuoteMeta(called) + `'`},
	} {
		command := func(args ...string) *exec.Cmd {
			cmd := exec.Command(called, args...)
			cmd.Args[0], cmd.Dir, cmd.Env = c.name, dir, testkit.Env()
			return cmd
		}
		made := runCommand(t, command("merchant", "create", id, "--data", "data")).done(t)
		mustMatch(t, "what "+c.name+" says", made.stdout, `: `+c.hint+` key create --merchant `+id+` --data data\n$`)
		hint := regexp.MustCompile(`: (.*)\n$`).FindStringSubmatch(made.stdout)
		if hint == nil {
			t.Fatalf("no hint in %q", made.stdout)
		}
		mustMatch(t, "what the pasted hint prints", paste(t, dir, hint[1]), `gk_sandbox_`)

		p := startCommand(t, command(serve("data")...))
		banner := p.banner(t)
		mustMatch(t, "the banner", banner, `(?m)^  `+c.hint+` key create --merchant demo --data data$`)
		mustMatch(t, "what the pasted banner prints", paste(t, dir, block(t, banner, "key create")), `gk_sandbox_`)
		p.stop(t, syscall.SIGTERM)
	}
}

// TestTrustHintIsAbsolute checks that the certificate authority is found from any folder, though the data folder was
// given as seen from one.
func TestTrustHintIsAbsolute(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testkit.Program(t), serve("data", "--tls-self-signed")...)
	cmd.Dir, cmd.Env = dir, testkit.Env()
	p := startCommand(t, cmd)
	banner := p.banner(t)
	ca := regexp.QuoteMeta(filepath.Join(dir, "data", "tls", "ca.pem"))
	mustMatch(t, "the banner", banner, `(?m)^Trust +`+ca+`: curl --cacert `+ca+`, or NODE_EXTRA_CA_CERTS=`+ca+`$`)
	mustMatch(t, "what the curl prints, pasted elsewhere", paste(t, t.TempDir(), block(t, banner, "curl")), createdCustomer)
	p.stop(t, syscall.SIGTERM)
}
