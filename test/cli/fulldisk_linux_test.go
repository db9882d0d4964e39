package cli_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"grahak/internal/testkit"
)

// inOwnMounts returns a command that runs the shell's script where what it mounts is seen by nobody else, and is gone
// with it. Root may always do that, and other users where the system lets them.
func inOwnMounts(script string, args ...string) *exec.Cmd {
	cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, args...)...)
	cmd.Env = testkit.Env()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: syscall.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: syscall.Getgid(), Size: 1}},
	}
	return cmd
}

// TestFullDiskAtStart starts a server for the first time where it has too little space, from a page to almost enough,
// and then where it has enough with what is left of the first try. Where this user may mount no small disk, files cannot
// grow instead, and then the program cannot tell that it is space that is missing.
func TestFullDiskAtStart(t *testing.T) {
	const (
		onSmallDisk = `mount -t tmpfs -o size="$2"k tmpfs "$1" || exit 3
			dir=$1; shift 2; "$@" && exit 4
			mount -o remount,size=100m "$dir" || exit 5
			exec "$@"`
		withSmallFiles = `ulimit -S -f "$2" || exit 3
			shift 2; trap '' XFSZ; "$@" && exit 4
			ulimit -S -f unlimited || exit 5
			exec "$@"`
	)
	mountable := true
	if out, err := inOwnMounts(`mount -t tmpfs tmpfs "$1"`, t.TempDir()).CombinedOutput(); err != nil {
		t.Logf("this user may mount nothing: %v %s", err, out)
		mountable = false
	}
	for _, size := range []int{4, 8, 32, 36, 64, 100} { // KiB
		t.Run(fmt.Sprintf("%d KiB", size), func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{dir, fmt.Sprint(size), testkit.Program(t)}, serve(filepath.Join(dir, "data"))...)
			cmd, says := inOwnMounts(onSmallDisk, args...), `^the disk that holds .*/data is full: free some space and start again; nothing is lost \(.*\)$`
			if !mountable {
				cmd = inOwnMounts(withSmallFiles, args...)
				cmd.SysProcAttr, says = nil, `^the disk (that holds .*/data )?returned an error: `
			}
			p := startCommand(t, cmd)
			banner := p.banner(t)
			first, _, _ := strings.Cut(p.err.String(), "\n")
			result{1, "", first + "\n"}.refused(t, 1, says)
			demo := caller{base: field(t, banner, "Base URL"), key: field(t, banner, "API key")}
			checkKey(t, demo.key, "sandbox")
			demo.create(t, "there is space")
			if status := p.stop(t, syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM", status)
			}
		})
	}
}
