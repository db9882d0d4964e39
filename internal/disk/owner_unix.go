//go:build unix

package disk

import (
	"os"
	"syscall"
)

// GiveTo gives a file to the owner of another, which like describes. Only root
// can give a file away.
func GiveTo(f *os.File, like os.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
