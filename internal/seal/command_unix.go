//go:build unix

package seal

import (
	"os/exec"
	"syscall"
)

// killTogether makes the end of cmd's context kill what cmd has started, too: a
// shell that is killed alone leaves its pipeline behind.
func killTogether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
