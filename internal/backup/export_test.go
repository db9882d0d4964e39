package backup

import "bytes"

// OpenBytes is Open of a file that is in memory.
func OpenBytes(path string, file []byte) (*File, error) {
	b := &File{path: path, data: bytes.NewReader(file), size: int64(len(file)), close: func() error { return nil }}
	return b, b.readManifest()
}
