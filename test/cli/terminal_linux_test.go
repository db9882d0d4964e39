package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// TestEraseOnTerminal checks that a person is asked before a customer is erased, by what is shown and what is typed.
func TestEraseOnTerminal(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	demo := caller{base: s.BaseURL, key: s.Key}
	const reference = "asha@example.com"
	demo.create(t, reference)
	var customer struct{ ID string }
	if err := json.Unmarshal([]byte(demo.send(t, http.MethodGet, "/customers/"+reference, "").body), &customer); err != nil {
		t.Fatal(err)
	}
	const question = "Type the customer's id or reference to go on: "
	for _, c := range []struct {
		name, ref string
		answer    string // empty: Ctrl-C
		says      string // on standard error, empty if the customer is erased
	}{
		{"nothing", reference, "\n", "nothing was erased: what was typed is neither the customer's id nor its reference"},
		{"yes", reference, "yes\n", "nothing was erased: what was typed is neither the customer's id nor its reference"},
		{"another", customer.ID, "vikram@example.com\n", "nothing was erased: what was typed is neither the customer's id nor its reference"},
		{"an interrupt", reference, "", "interrupted; nothing was done"},
		{"the id", reference, customer.ID + "\n", ""},
		{"the reference, after it was made again", reference, reference + "\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if a := demo.send(t, http.MethodPost, "/customers", newCustomer(reference)); a.status == http.StatusOK {
				_ = json.Unmarshal([]byte(a.body), &customer)
			}
			person, program := openTerminal(t)
			cmd := exec.Command(testkit.Program(t), "customer", "erase", c.ref, "--merchant", "demo", "--data", s.Data)
			cmd.Env, cmd.Stdin, cmd.Stderr = testkit.Env(), program, program
			p := startCommand(t, cmd)
			reader := bufio.NewReader(person)
			var asked strings.Builder
			for !strings.HasSuffix(asked.String(), question) {
				b, err := reader.ReadByte()
				if err != nil {
					t.Fatalf("%v after %q", err, asked.String())
				}
				asked.WriteByte(b)
			}
			if want := "This erases customer " + customer.ID + " of merchant demo for good.\r\n" + question; asked.String() != want {
				t.Errorf("it asks %q, want %q", asked.String(), want)
			}
			status := 0
			if c.answer == "" {
				status = p.stop(t, os.Interrupt)
			} else {
				if _, err := person.WriteString(c.answer); err != nil {
					t.Fatal(err)
				}
				status = p.wait(t)
			}
			read := demo.send(t, http.MethodGet, "/customers/"+reference, "").status
			if c.says == "" {
				if status != 0 || !strings.HasPrefix(p.out.String(), "Erased customer "+customer.ID+" of merchant demo.") || read != http.StatusNotFound {
					t.Errorf("exit status %d, %q; then a read is answered %d", status, p.out.String(), read)
				}
				return
			}
			if status != 1 || p.out.String() != "" || read != http.StatusOK {
				t.Errorf("exit status %d, %q; then a read is answered %d", status, p.out.String(), read)
			}
			for line := ""; !strings.HasPrefix(line, "grahak: "); {
				var err error
				if line, err = reader.ReadString('\n'); err != nil {
					t.Fatalf("%v: it does not say %q", err, c.says)
				}
				if strings.HasPrefix(line, "grahak: ") && line != "grahak: "+c.says+"\r\n" {
					t.Errorf("it says %q, want %q", line, c.says)
				}
			}
		})
	}
	s.Stop(t)
}

// TestRewrapOnTerminal checks that a person whose key comes from a variable is asked before the master key changes under a
// server.
func TestRewrapOnTerminal(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	older, newer := newMasterKey(t), newMasterKey(t)
	both := []string{"GRAHAK_MASTER_KEY=" + newer + older}
	server := start(t, both, serve(data)...)
	server.banner(t)
	// The server has named the newer key; to the command, this one is the newest.
	third := "GRAHAK_MASTER_KEY=" + newMasterKey(t) + newer + older
	for _, c := range []struct {
		answer string
		status int
		says   string
	}{
		{"y", 1, "grahak: nothing was changed: what was typed is not yes\r\n"},
		{"yes", 0, ""},
	} {
		person, program := openTerminal(t)
		cmd := exec.Command(testkit.Program(t), "seal", "rewrap", "--data", data)
		cmd.Env, cmd.Stdin, cmd.Stderr = testkit.Env(third), program, program
		p := startCommand(t, cmd)
		reader := bufio.NewReader(person)
		var asked strings.Builder
		for !strings.HasSuffix(asked.String(), "\r\nType yes if it was: ") {
			b, err := reader.ReadByte()
			if err != nil {
				t.Fatalf("%v after %q", err, asked.String())
			}
			asked.WriteByte(b)
		}
		if !strings.HasPrefix(asked.String(), "A server uses this data folder. If it has its master key from GRAHAK_MASTER_KEY, too,") {
			t.Errorf("it says %q", asked.String())
		}
		if _, err := person.WriteString(c.answer + "\n"); err != nil {
			t.Fatal(err)
		}
		status := p.wait(t)
		if changed := strings.HasPrefix(p.out.String(), "The keys of all merchants are wrapped under master key "); status != c.status || changed != (c.status == 0) {
			t.Errorf("%s: exit status %d, %q", c.answer, status, p.out.String())
		}
		if _, err := program.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		for said := ""; c.says != "" && said != c.says; {
			var err error
			if said, err = reader.ReadString('\n'); err != nil {
				t.Fatalf("%v: it does not say %q", err, c.says)
			}
		}
	}
	server.stop(t, syscall.SIGTERM)
}

// TestProgressOnTerminal checks that a person sees how far a long command is, and nothing of it afterwards.
func TestProgressOnTerminal(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 200)
	settle(t, s.Data)
	s.Stop(t)
	rows := filepath.Join(t.TempDir(), "rows.csv")
	var text strings.Builder
	text.WriteString("object_reference_id,mobile_number\n")
	for n := range 3000 {
		fmt.Fprintf(&text, "person+%d@example.com,98%08d\n", n, n)
	}
	if err := os.WriteFile(rows, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		bar  string // a pattern
	}{
		{[]string{"seal", "rotate", "--all"}, `^Re-sealing demo +0% \|[^|]*\| \(\d+/200\)`},
		{[]string{"audit", "verify", "-m", "demo"}, `^Checking demo +\d+% \|[^|]*\| \(\d+/202\)`},
		{[]string{"export", "-m", "demo"}, `^Exporting +\d+% \|[^|]*\| \(\d+/200\)`},
		{[]string{"import", rows, "-m", "demo", "--dry-run"}, `^Checking, \d+ rows/s +\d+% \|[^|]*\| \( *[\d.]+( k?B)?/[\d.]+ kB`},
		{[]string{"import", rows, "-m", "demo"}, `^Importing, \d+ rows/s +\d+% \|[^|]*\| \( *[\d.]+( k?B)?/[\d.]+ kB`},
	} {
		person, program := openTerminal(t)
		cmd := exec.Command(testkit.Program(t), append(c.args, "--data", s.Data)...)
		cmd.Env, cmd.Stderr = testkit.Env(), program
		p := startCommand(t, cmd)
		if status := p.wait(t); status != 0 {
			t.Errorf("%v: exit status %d", c.args, status)
		}
		if _, err := program.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		shown, err := bufio.NewReader(person).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		// What stands in a line is what was written after the last carriage return, over what was there.
		frames := strings.Split(strings.TrimSuffix(shown, "\r\n"), "\r")
		seen := ""
		for _, frame := range frames {
			if strings.TrimSpace(frame) != "" {
				seen = frame
			}
		}
		mustMatch(t, fmt.Sprint(c.args), seen, c.bar)
		if last := frames[len(frames)-1]; last != "" || len(frames) < 2 || strings.TrimSpace(frames[len(frames)-2]) != "" {
			t.Errorf("%v leaves %q on the terminal", c.args, frames[max(0, len(frames)-2):])
		}
	}
}
