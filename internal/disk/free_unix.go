//go:build unix

package disk

import "golang.org/x/sys/unix"

// Free returns the bytes that this user may still write on the disk that
// holds path.
func Free(path string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:unconvert // The types differ from system to system.
}
