package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"grahak/internal/testkit"
)

// openTerminal returns the two ends of a new terminal: what a person types and reads, and what a program does.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	// A descriptor that does not block lets reads have deadlines.
	person = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	if err := person.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	return person, program
}

// TestLogOnTerminal checks that a person sees text.
func TestLogOnTerminal(t *testing.T) {
	person, program := openTerminal(t)
	cmd := exec.Command(testkit.Program(t), serve(filepath.Join(t.TempDir(), "data"))...)
	cmd.Env, cmd.Stderr = testkit.Env(), program
	p := startCommand(t, cmd)
	caller{base: field(t, p.banner(t), "Base URL")}.list(t)
	reader := bufio.NewReader(person)
	for _, pattern := range []string{`^time=\S+ level=INFO msg=started environment=sandbox `, `^time=\S+ level=INFO msg=request .* status=401 `} {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		mustMatch(t, "the log on a terminal", line, pattern)
	}
	p.stop(t, syscall.SIGTERM)
}

// TestImportOnTerminal checks that a person is asked for the key, and that the terminal does not show it.
func TestImportOnTerminal(t *testing.T) {
	const secret = "typed-in-by-hand-1234"
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	person, program := openTerminal(t)
	cmd := exec.Command(testkit.Program(t), "key", "import", "--merchant", "demo", "--data", data)
	cmd.Env, cmd.Stdin, cmd.Stderr = testkit.Env(), program, program
	p := startCommand(t, cmd)
	var shown strings.Builder
	reader := bufio.NewReader(person)
	prompt, err := reader.ReadString(':')
	shown.WriteString(prompt)
	if err != nil || prompt != "Key to import:" {
		t.Fatalf("the program asks %q (%v)", prompt, err)
	}
	// The prompt comes before the terminal stops to show what is typed.
	eventually(t, answerTimeout, "the terminal does not show what is typed", func() bool {
		mode, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		return err == nil && mode.Lflag&unix.ECHO == 0
	})
	if _, err := person.WriteString(secret + "\n"); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	rest, err := reader.ReadString('\n')
	shown.WriteString(rest)
	if err != nil || strings.Contains(shown.String(), secret) {
		t.Errorf("the terminal shows %q (%v)", shown.String(), err)
	}
	// The same key once more is refused, so it is the one that was typed.
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd = exec.CommandContext(ctx, testkit.Program(t), "key", "import", "--merchant", "demo", "--data", data)
	cmd.Env, cmd.Stdin = testkit.Env(), strings.NewReader(secret)
	runCommand(t, cmd).refused(t, 1, `^this key exists already`)
}
