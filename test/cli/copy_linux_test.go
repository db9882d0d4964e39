package cli_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// TestCopyShowsProgress checks that a person sees on a terminal how far a copy is.
func TestCopyShowsProgress(t *testing.T) {
	cluster := postgres.Shared(t)
	database := cluster.Database(t)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	customers(t, s, 20)
	settle(t, s.Data)
	s.Stop(t)
	runEnv(t, on(database), "migrate").done(t)
	stalled, release := stallAt(t, cluster, database, "event_chain")
	person, terminal := openTerminal(t)
	cmd := exec.Command(testkit.Program(t), fromTo(s.Data, database)...)
	cmd.Env, cmd.Stderr = testkit.Env(), terminal
	p := startCommand(t, cmd)
	eventually(t, answerTimeout, "the copy writes the chain", stalled)
	var seen strings.Builder
	for reader := bufio.NewReader(person); !strings.Contains(seen.String(), "Copying rows"); {
		b, err := reader.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q", err, seen.String())
		}
		seen.WriteByte(b)
	}
	release()
	if status := p.wait(t); status != 1 {
		t.Errorf("exit status %d after the connection was lost", status)
	}
}
