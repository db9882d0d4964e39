package cli_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// MustGrow makes a sandbox with a database of that many MiB, and returns its
// data folder. What is sealed in its customers does not open.
func MustGrow(tb testing.TB, size int) string {
	tb.Helper()
	data := filepath.Join(tb.TempDir(), "data")
	testkit.Start(tb, data).Stop(tb)
	store, err := sqlstore.OpenSQLite(tb.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(data, "grahak.db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	for n := range size {
		c := grahak.CustomerRecord{
			ID: grahak.CustomerID(fmt.Sprintf("cst_%016d", n)), Sealed: grahak.Sealed{Bytes: make([]byte, 1<<20), Version: 1},
			Revision: 1, CreatedAt: time.UnixMicro(1), UpdatedAt: time.UnixMicro(1),
		}
		binary.BigEndian.PutUint64(c.Reference[:], uint64(n))
		e := grahak.Event{ID: grahak.EventID(fmt.Sprintf("evt_%016d", n)), Type: grahak.EventCustomerCreated, Subject: string(c.ID), Revision: 1, Actor: "test", At: c.CreatedAt}
		if err := store.CreateCustomer(tb.Context(), "demo", c, e, nil); err != nil {
			tb.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		tb.Fatal(err)
	}
	return data
}

// large is the size of a database that takes long enough to copy to be stopped
// in the middle, in MiB.
const large = 128

// wantNothing fails the test if there is anything in the folder.
func wantNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("there is %v in the folder (%v), want nothing", entries, err)
	}
}

// interrupted runs a command, sends it the signal once begun is true, and returns what it said. Where the command was done
// before the signal came, that shows nothing: then undo takes back what it did, and it is run again.
func interrupted(t *testing.T, sig os.Signal, begun func(*program) bool, undo func(), args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	for ctx.Err() == nil {
		p := start(t, nil, args...)
		for running := true; running && !begun(p); {
			select {
			case <-p.exited:
				running = false
			default:
			}
		}
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if status := p.wait(t); status != 0 {
			return result{status, p.out.String(), p.err.String()}
		}
		undo()
	}
	t.Fatalf("grahak %v is always done before it is interrupted", args)
	return result{}
}

// TestInterrupt stops a backup, a restore and a check in the middle.
func TestInterrupt(t *testing.T) {
	data, dir := MustGrow(t, large), t.TempDir()
	good := filepath.Join(t.TempDir(), "good")
	run(t, "backup", good, "--data", data).done(t)
	stop := func(sig os.Signal, begun func(*program) bool, args ...string) {
		t.Helper()
		undo := func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		interrupted(t, sig, begun, undo, args...).refused(t, 1, `^interrupted; nothing was left behind$`)
		wantNothing(t, dir)
	}
	exists := func(path string) func(*program) bool {
		return func(*program) bool {
			_, err := os.Stat(path)
			return err == nil
		}
	}
	target := filepath.Join(dir, "above", "new")
	backup, restore := filepath.Join(dir, "backup"), []string{"restore", good, "--data", target}
	stop(syscall.SIGINT, exists(backup+".partial"), "backup", backup, "--data", data)
	stop(syscall.SIGTERM, exists(backup+".partial"), "backup", backup, "--data", data)
	stop(syscall.SIGINT, exists(filepath.Join(target, "grahak.db.partial")), restore...)
	stop(syscall.SIGTERM, exists(filepath.Join(target, "grahak.db.partial")), restore...)
	// A command for the master key may take long, too.
	key := filepath.Join(t.TempDir(), "begun")
	stop(syscall.SIGINT, exists(key), append(restore, "--master-key-command", "touch "+key+"; sleep 20")...)

	// Nothing of this is in the way of the next.
	run(t, "backup", backup, "--data", data).done(t)
	run(t, restore...).done(t)
}

// TestBackupOnFullDisk writes a backup, and restores one, where there is too
// little space from the beginning, and where it runs out. Where this user may
// mount no small disk, files cannot grow instead, and then the program cannot
// tell that it is space that is missing.
func TestBackupOnFullDisk(t *testing.T) {
	data := MustGrow(t, large)
	good := filepath.Join(t.TempDir(), "good")
	run(t, "backup", good, "--data", data).done(t)
	const (
		// The disk, its size in MiB, and the command.
		onSmallDisk = `mount -t tmpfs -o size="$2"m tmpfs "$1" || exit 3
			dir=$1; shift 2; "$@"; status=$?
			ls -A "$dir"; exit $status`
		// The same, and the file that appears when the command has begun.
		fillingDisk = `mount -t tmpfs -o size="$2"m tmpfs "$1" || exit 3
			dir=$1; begun=$3; shift 3; "$@" & pid=$!
			until [ -e "$begun" ]; do kill -0 $pid || exit 4; done
			kill -STOP $pid; dd if=/dev/zero of="$dir/fill" bs=1M 2>"$dir.dd"; kill -CONT $pid
			wait $pid; status=$?
			rm "$dir/fill"; ls -A "$dir"; exit $status`
		// No file may be larger than half of what it has to be.
		withSmallFiles = `ulimit -S -f "$2" || exit 3
			dir=$1; shift 2; trap '' XFSZ; "$@"; status=$?
			ls -A "$dir"; exit $status`
	)
	for name, command := range map[string]func(dir string) (begun string, args []string){
		"backup": func(dir string) (string, []string) {
			return filepath.Join(dir, "backup.partial"), []string{"backup", filepath.Join(dir, "backup"), "--data", data}
		},
		"restore": func(dir string) (string, []string) {
			return filepath.Join(dir, "new", "grahak.db.partial"), []string{"restore", good, "--data", filepath.Join(dir, "new")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			begun, args := command(dir)
			args = append([]string{testkit.Program(t)}, args...)
			if out, err := inOwnMounts(`mount -t tmpfs tmpfs "$1"`, dir).CombinedOutput(); err != nil {
				t.Logf("this user may mount nothing: %v %s", err, out)
				cmd := inOwnMounts(withSmallFiles, append([]string{dir, fmt.Sprint(large << 9)}, args...)...)
				cmd.SysProcAttr = nil
				runCommand(t, cmd).refused(t, 1, `disk|too large`)
				return
			}
			for _, size := range []int{1, large / 2, large + 10} {
				runCommand(t, inOwnMounts(onSmallDisk, append([]string{dir, fmt.Sprint(size)}, args...)...)).refused(t, 1,
					`^the disk that holds .* has \d+ MiB free and the (backup|data) needs \d+: free some space, or .* another disk$`)
			}
			runCommand(t, inOwnMounts(fillingDisk, append([]string{dir, fmt.Sprint(large + 30), begun}, args...)...)).refused(t, 1,
				`^the disk that holds .* is full: free some space, or use another disk$`)
			cmd := inOwnMounts(withSmallFiles, append([]string{dir, fmt.Sprint(large << 9)}, args...)...)
			cmd.SysProcAttr = nil
			runCommand(t, cmd).refused(t, 1, `disk|too large`)
		})
	}
}

// TestBackupProgress looks at what a person sees of a long backup and a restore.
func TestBackupProgress(t *testing.T) {
	data, dir := MustGrow(t, large), t.TempDir()
	for _, c := range []struct {
		args []string
		bar  string // what is shown of the bar
	}{
		{[]string{"backup", filepath.Join(dir, "backup"), "--data", data}, `Copying \(MiB\) .*\(\d+/1\d\d\)`},
		{[]string{"restore", filepath.Join(dir, "backup"), "--data", filepath.Join(dir, "new")}, `Copying \(MiB\) .*\(\d+/1\d\d\)`},
	} {
		person, program := openTerminal(t)
		cmd := exec.Command(testkit.Program(t), c.args...)
		cmd.Env, cmd.Stderr = testkit.Env(), program
		p := startCommand(t, cmd)
		var shown testkit.Buffer
		go func() { _, _ = io.Copy(&shown, person) }()
		if status := p.wait(t); status != 0 {
			t.Errorf("grahak %v: exit status %d", c.args, status)
		}
		eventually(t, answerTimeout, "the bar is shown", func() bool {
			return regexp.MustCompile(c.bar).MatchString(shown.String())
		})
	}
}
