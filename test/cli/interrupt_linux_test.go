package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"grahak/internal/testkit"
)

// TestInterruptBlamesNothing checks that who ends a check in the middle is told so, and of no fault: neither while the
// database is read, nor while the master key is waited for.
func TestInterruptBlamesNothing(t *testing.T) {
	grown, data := MustGrow(t, large), filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	for name, c := range map[string]struct {
		args  []string
		begun func(p *program, mark string) bool
	}{
		"doctor, the database": {
			[]string{"doctor", "--data", grown},
			func(p *program, _ string) bool { return strings.Contains(p.out.String(), "  disk ") },
		},
		"doctor, the master key": {[]string{"doctor", "--data", data}, nil},
		"audit verify":           {[]string{"audit", "verify", "--data", data}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			mark, args := filepath.Join(t.TempDir(), "begun"), c.args
			if c.begun == nil {
				args = append(args, "--master-key-command", "touch '"+mark+"'; sleep 20")
				c.begun = func(_ *program, mark string) bool {
					_, err := os.Stat(mark)
					return err == nil
				}
			}
			begun := func(p *program) bool { return c.begun(p, mark) }
			r := interrupted(t, os.Interrupt, begun, func() {}, args...)
			if r.status != 1 || r.stderr != "grahak: interrupted\n" || strings.Contains(r.stdout, "FAIL") {
				t.Errorf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
		})
	}
}
