package postgres

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"grahak/internal/testkit"
)

// disk is a small file system in memory. It is mounted where only the processes
// see it that enter it, so that it takes no rights of root and is gone with them.
type disk struct {
	dir    string
	keeper *exec.Cmd // keeps it mounted until its input ends
	input  io.Closer
}

// newDisk mounts a new disk at a folder that it makes.
func newDisk(dir string, mib int) (*disk, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command("bash", "-c", `mount -t tmpfs -o size="$2"m,mode=700 tmpfs "$1" && echo mounted && exec cat`, "bash", dir, strconv.Itoa(mib))
	cmd.Env = testkit.Env()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:     true,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: syscall.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: syscall.Getgid(), Size: 1}},
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("a small disk for PostgreSQL needs user and mount namespaces, allow them or run the tests as root: %w", err)
	}
	d := &disk{dir: dir, keeper: cmd, input: input}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		return nil, errors.Join(errors.New("a small disk for PostgreSQL could not be mounted, allow user and mount namespaces or run the tests as root"), d.remove())
	}
	return d, nil
}

// enter returns what to put before a command so that it sees the disk, and not
// as root. The command replaces the programs that do that, so its process is the
// one that was started.
func (d *disk) enter() []string {
	return []string{
		"nsenter", "--target", strconv.Itoa(d.keeper.Process.Pid), "--user", "--mount", "--preserve-credentials",
		// In the namespace that mounted the disk this user is root, whom PostgreSQL refuses.
		"unshare", "--user", "--map-user=1000", "--map-group=1000",
	}
}

// remove takes the disk away; no process may use it.
func (d *disk) remove() error {
	_ = d.input.Close()
	_ = d.keeper.Wait() // When mounting failed, this says it again.
	return nil
}
