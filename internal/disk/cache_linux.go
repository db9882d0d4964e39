package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// DropCache asks the system to forget what it has in memory of a file that is on
// disk, so that who reads it next reads the disk.
func DropCache(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
