//go:build unix

package seal_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"grahak/internal/seal"
)

// commandLimit is more than any command needs that is not meant to hang.
const commandLimit = time.Minute

// MustKeyFile returns the ids of two keys and the path of a file with both.
func MustKeyFile(tb testing.TB) (path string, want []string) {
	tb.Helper()
	a, aText := MustMasterKey(tb)
	b, bText := MustMasterKey(tb)
	path = filepath.Join(tb.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(aText+bText), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path, ids(a, b)
}

func TestCommandKeys(t *testing.T) {
	t.Parallel()
	path, want := MustKeyFile(t)
	for name, command := range map[string]string{
		"prints a file":               `cat "%s"`,
		"is a pipeline":               `cat "%s" | sed -e 's/^/ /' | cat`,
		"reads its input, of nothing": `cat; cat "%s"`,
		"complains, and works":        `echo 'a newer version is out' >&2; cat "%s"`,
		"leaves something behind":     `cat "%s"; sleep 3 &`,
	} {
		wantKeys(t, name, seal.CommandKeys(fmt.Sprintf(command, path), commandLimit), want...)
	}
}

func TestCommandFails(t *testing.T) {
	t.Parallel()
	path, _ := MustKeyFile(t)
	secret := read(t, path)
	for name, c := range map[string]struct {
		command string
		limit   time.Duration
		says    string // the whole error
	}{
		"with a reason":          {`echo first >&2; printf 'AccessDenied: no such key\n\n' >&2; exit 3`, commandLimit, `the command failed: exit status 3: AccessDenied: no such key`},
		"without a reason":       {`exit 1`, commandLimit, `the command failed: exit status 1`},
		"after it printed keys":  {`cat "%s"; exit 1`, commandLimit, `the command failed: exit status 1`},
		"with keys as a reason":  {`cat "%s" >&2; exit 1`, commandLimit, `the command failed: exit status 1: …`},
		"with a key in a reason": {`set -x; : "$(cat "%s")"; exit 4`, commandLimit, `the command failed: exit status 4: \+ exit 4`},
		"with keys in a line":    {`echo "got $(tr '\n' ' ' <"%s")" >&2; exit 1`, commandLimit, `the command failed: exit status 1: got … …`},
		"with a long reason":     {`head -c 3000 /dev/zero | tr '\0' ' x' >&2; echo >&2; printf '%%0900d' 7 | sed 's/0/o /g' >&2; exit 1`, commandLimit, `the command failed: exit status 1: (o )+…`},
		"with an endless reason": {`head -c 100000 /dev/zero | tr '\0' y >&2; exit 1`, commandLimit, `the command failed: exit status 1`},
		"with colours":           {`printf '\033[31mno\007\n' >&2; exit 1`, commandLimit, `the command failed: exit status 1: \[31mno`},
		"by a signal":            {`kill -9 $$`, commandLimit, `the command failed: signal: killed`},
		"to be found":            {`no-such-program-here "%s"`, commandLimit, `the command failed: exit status 127: .*no-such-program-here.*not found`},
		"by hanging":             {`echo 'waiting for the vault' >&2; cat "%s"; sleep 1000`, 5 * time.Second, `the command took longer than 5s: waiting for the vault`},
		"by printing for ever":   {`yes`, commandLimit, `the command printed more than 4096 bytes`},
		"by printing too much":   {`for i in $(seq 60); do cat "%s"; done`, commandLimit, `the command printed more than 4096 bytes`},
		"by printing nothing":    {`:`, commandLimit, `a master key is the base64 of 32 random bytes; make one with .*`},
		"by printing nonsense":   {`echo "key: $(cat "%s")"`, commandLimit, `line 1 is not a master key: a master key is the base64 of 32 random bytes; make one with .*`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := strings.ReplaceAll(strings.ReplaceAll(c.command, "%s", path), "%%", "%")
			keys, err := seal.CommandKeys(command, c.limit)(t.Context())
			if err == nil {
				t.Fatalf("got %d keys, want an error", len(keys))
			}
			if !regexp.MustCompile(`^` + c.says + `$`).MatchString(err.Error()) {
				t.Errorf("got the error %q, want %s", err, c.says)
			}
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			wantNothingOf(t, name, err, secret)
		})
	}
}

// A command that takes too long, or whose caller leaves, is killed with all that
// it has started.
func TestCommandIsKilled(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(ctx context.Context, source func(time.Duration) seal.KeySource, running <-chan struct{}) error{
		"too long": func(ctx context.Context, source func(time.Duration) seal.KeySource, _ <-chan struct{}) error {
			_, err := source(5 * time.Second)(ctx)
			return err
		},
		"the caller leaves": func(ctx context.Context, source func(time.Duration) seal.KeySource, running <-chan struct{}) error {
			ctx, leave := context.WithCancel(ctx)
			go func() {
				<-running
				leave()
			}()
			_, err := source(commandLimit)(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A pipe is at its end once no process holds its other side.
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			running, gone := make(chan struct{}), make(chan error, 1)
			go func() {
				f, err := os.Open(pipe) // Waits for the command.
				close(running)
				if err == nil {
					_, err = io.Copy(io.Discard, f)
					_ = f.Close()
				}
				gone <- err
			}()
			command := fmt.Sprintf(`{ sleep 1000; echo; } >"%s" & sleep 1000 | cat`, pipe)
			if err := ends(t.Context(), func(limit time.Duration) seal.KeySource { return seal.CommandKeys(command, limit) }, running); err == nil {
				t.Error("the command worked")
			}
			select {
			case err := <-gone:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("what the command has started runs on")
			}
		})
	}
}
