package seal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"grahak/internal/disk"
)

// ErrNoMasterKey is returned for a file of master keys that does not exist.
var ErrNoMasterKey = errors.New("the master key file does not exist")

// readKeyFile reads master keys in the form of [ParseMasterKeys]. A file that
// does not exist is [ErrNoMasterKey].
func readKeyFile(path string) ([]*MasterKey, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoMasterKey
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyText+1))
	if err != nil {
		return nil, err
	}
	return ParseMasterKeys(text)
}

// MakeMasterKey makes a master key and writes it to a new file of mode 0600,
// which is on disk when it returns. A file that exists is an error.
func MakeMasterKey(path string) (*MasterKey, error) {
	key, err := randomMasterKey()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := fill(f, []*MasterKey{key}); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return key, disk.SyncDir(filepath.Dir(path))
}

// AddMasterKey makes a master key and puts it on top of a file of master keys.
// The file is replaced whole: at any moment, and after a crash, it holds the old
// keys or those and the new one. Whoever changes one file from two places at
// once loses a key.
func AddMasterKey(path string) (*MasterKey, error) {
	keys, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := randomMasterKey()
	if err != nil {
		return nil, err
	}
	return key, replace(path, slices.Insert(keys, 0, key))
}

// KeepMasterKey removes all keys from a file of master keys but the one with the
// given id, in the way of [AddMasterKey]. If that one is not in the file, it is
// left as it is.
func KeepMasterKey(path, id string) error {
	keys, err := readKeyFile(path)
	if err != nil {
		return err
	}
	key := byID(keys, id)
	if key == nil {
		return errors.New("the master key to keep is not in the file, which was left as it is")
	}
	if len(keys) == 1 {
		return nil
	}
	return replace(path, []*MasterKey{key})
}

// replace puts a file with the keys in the place of the one at path, with the same
// owner. What a replacement that was cut off has left, which may hold a key that
// is no longer wanted, is overwritten.
func replace(path string, keys []*MasterKey) error {
	// A link stays one.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(disk.GiveTo(f, old), fill(f, keys))
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return disk.SyncDir(filepath.Dir(path))
}

// fill writes the keys to a new file, and closes it when they are on disk.
func fill(f *os.File, keys []*MasterKey) error {
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(k.text + "\n")
	}
	_, err := f.WriteString(text.String())
	return errors.Join(err, f.Sync(), f.Close())
}

// FileKeys is the source of the keys in a file.
func FileKeys(path string) KeySource {
	return func(context.Context) ([]*MasterKey, error) { return readKeyFile(path) }
}
