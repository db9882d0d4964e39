//go:build !unix

package disk

import "os"

// GiveTo cannot do anything on this system.
func GiveTo(*os.File, os.FileInfo) error { return nil }
