//go:build !linux

package disk

import "os"

// DropCache cannot do anything on this system.
func DropCache(*os.File) {}
