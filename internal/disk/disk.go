// Package disk is what the os package lacks about disks.
package disk

import (
	"errors"
	"os"
)

// SyncDir makes the names in a folder durable: that a file is on disk does not
// mean that its name is.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
