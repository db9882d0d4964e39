//go:build !linux

package postgres

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// startAndWait starts a process, tells whether that worked, and waits for its
// end.
func startAndWait(p *process, started chan<- error) {
	defer close(p.exited)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait()
	}
}

// children returns the processes that a process has started.
func children(parent int) (list []int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err != nil {
			return nil, err
		}
		if ppid == parent {
			list = append(list, pid)
		}
	}
	return list, nil
}
