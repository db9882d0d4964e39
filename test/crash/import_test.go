package crash_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// planted is a file of customers with bad rows among them, and what is to come of
// it.
type planted struct {
	path     string
	created  map[string]bool // by reference
	rejected string          // the file of the rejected rows
	n, bad   int
}

// existing is the reference of the n-th customer that is there before the import.
func existing(n int) string { return fmt.Sprintf("there+%d@example.com", n) }

// MustPlant writes a file of n rows, of which every so many is bad in one of many
// ways. there is how many customers there are before.
func MustPlant(t *testing.T, n, every, there int) planted {
	t.Helper()
	p := planted{path: filepath.Join(t.TempDir(), "customers.csv"), created: make(map[string]bool), n: n}
	const header = "object_reference_id,mobile_number,email_address,last_name\n"
	var file, rejected bytes.Buffer
	file.WriteString(header)
	rejected.WriteString("rejected_line,rejected_reason," + header)
	line := 2
	for i := range n {
		reference := fmt.Sprintf("person+%d@example.com", i)
		rest := fmt.Sprintf(`person.%d@example.com,"Rao ""%d"", née"`, i, i)
		row := fmt.Sprintf("%s,98%08d,%s", reference, i, rest)
		reason := ""
		if i%every == every-1 {
			switch kind := i / every % 7; kind {
			case 0:
				row, reason = fmt.Sprintf("%s,98x%d,%s", reference, i, rest), "mobile_number: It is not 1 to 16 digits."
			case 1:
				row, reason = fmt.Sprintf("%s,1,@,Rao", reference), "email_address: It is not an e-mail address of at most 128 characters."
			case 2:
				row, reason = reference+",1", "The row does not have as many fields as the header."
			case 3:
				row, reason = fmt.Sprintf("%s,\"1,%d,Rao", reference, i), "A field begins with a quotation mark, and none ends it."
			case 4:
				row, reason = fmt.Sprintf("%s,1,,\"Rao\x01\"", reference), "last_name: It has more than 64 characters, or such as cannot be printed."
			case 5:
				row, reason = fmt.Sprintf("person+%d@example.com,1,,", i-every/2), "object_reference_id: A customer with this reference exists."
			case 6:
				row, reason = existing(i%there)+",1,,", "object_reference_id: A customer with this reference exists."
			}
			p.bad++
			fmt.Fprintf(&rejected, "%d,%q,%s\n", line, reason, row)
		} else {
			p.created[reference] = true
		}
		file.WriteString(row + "\n")
		line++
	}
	p.rejected = rejected.String()
	if err := os.WriteFile(p.path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// imported is what `grahak import --json` prints at its end.
type imported struct {
	Rows, Created, Updated, Skipped, Rejected int
	Resumed                                   int `json:"resumed_rows"`
}

// TestImportKilled kills an import again and again, or the server that does it, and
// runs it to its end: every row was done once, and the file of rejected rows has
// each that was, once and as it was.
func TestImportKilled(t *testing.T) {
	rows, kills := 50_000, 4
	if os.Getenv("GRAHAK_LONG") != "" {
		rows, kills = 1_000_000, 20
	}
	for name, scene := range map[string]struct{ served, postgres bool }{
		"alone": {}, "by the server": {served: true}, "on PostgreSQL": {postgres: true},
	} {
		t.Run(name, func(t *testing.T) {
			const there = 10
			p := MustPlant(t, rows, 37, there)
			data := filepath.Join(t.TempDir(), "data")
			var env []string
			if scene.postgres {
				env = []string{"GRAHAK_DATABASE_URL=" + postgres.Shared(t).Database(t)}
			}
			server := testkit.StartEnv(t, data, env)
			c := newClient(server.BaseURL, server.Key)
			defer c.close()
			for i := range there {
				f := form(i)
				f.Set("object_reference_id", existing(i))
				if a, err := c.do(t.Context(), http.MethodPost, "/customers", f); err != nil || a.status != http.StatusOK {
					t.Fatalf("create: %d %s (%v)", a.status, a.body, err)
				}
			}
			if !scene.served {
				server.Stop(t)
			}
			rejected := filepath.Join(t.TempDir(), "rejected.csv")
			args := []string{"import", p.path, "--rejected", rejected, "--merchant", "demo", "--data", data, "--json"}
			// The file of rejected rows tells from outside how far it is.
			for kill := range kills {
				until := int64(len(p.rejected)) * int64(1+kill) / int64(kills+1)
				cmd := exec.Command(testkit.Program(t), args...)
				cmd.Env = testkit.Env(env...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				if err := reach(t, rejected, until, ended); err != nil {
					_ = cmd.Process.Kill()
					t.Fatalf("run %d: %v\n%s", kill, err, &stderr)
				}
				if scene.served && kill%2 == 0 {
					server.Kill(t)
					if err := <-ended; err == nil || !strings.Contains(stderr.String(), "run the same command again, which goes on behind them") {
						t.Fatalf("an import without its server: %v\n%s", err, &stderr)
					}
					server = testkit.StartEnv(t, data, env)
				} else {
					_ = cmd.Process.Kill()
					if err := <-ended; err == nil {
						t.Fatalf("run %d ended before it was killed", kill)
					}
				}
			}
			out, err := runImport(t, env, args)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Fatalf("the last run ended with %v, want exit status 1", err)
			}
			var got imported
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
				t.Fatal(err)
			}
			if got.Resumed == 0 {
				t.Error("the last run began with the first row")
			}
			want := imported{Rows: p.n, Created: p.n - p.bad, Rejected: p.bad, Resumed: got.Resumed}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			text, err := os.ReadFile(rejected)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(p.rejected, "\n"), strings.Split(string(text), "\n")); diff != "" {
				t.Errorf("rejected rows (-want +got):\n%s", diff)
			}
			checkImported(t, env, data, p, there)
			if !scene.postgres {
				if scene.served {
					server.Stop(t)
				}
				MustBeSound(t, data)
			}
		})
	}
}

// reach waits until the file has so many bytes, for longer than any machine takes.
// It returns an error if the command that writes it has ended.
func reach(t *testing.T, path string, size int64, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	size += rand.Int64N(200)
	for {
		if info, err := os.Stat(path); err == nil && info.Size() >= size {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("the import ended before it had rejected %d bytes: %w", size, err)
		case <-ctx.Done():
			return fmt.Errorf("the import has not rejected %d bytes: %w", size, ctx.Err())
		}
	}
}

// runImport runs an import to its end.
func runImport(t *testing.T, env, args []string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Program(t), args...)
	cmd.Env = testkit.Env(env...)
	out, err := cmd.Output()
	return string(out), err
}

// checkImported compares all customers that there are with those that are to be.
func checkImported(t *testing.T, env []string, data string, p planted, there int) {
	t.Helper()
	out, err := runImport(t, env, []string{"export", "--merchant", "demo", "--data", data})
	if err != nil {
		t.Fatalf("export: %v", err)
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range records[1:] {
		if seen[r[1]] {
			t.Errorf("there are two customers %s", r[1])
		}
		seen[r[1]] = true
		if !p.created[r[1]] && !strings.HasPrefix(r[1], "there+") {
			t.Errorf("customer %s was not to be imported", r[1])
		}
	}
	if len(seen) != len(p.created)+there {
		t.Errorf("there are %d customers, want %d", len(seen), len(p.created)+there)
	}
}
