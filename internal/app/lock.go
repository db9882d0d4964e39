package app

import (
	"fmt"
	"os"

	"github.com/gofrs/flock"

	"grahak/internal/config"
)

// tryLock takes the lock that a server holds on its data folder. It returns nil
// if another process has it.
func tryLock(data config.Data) (*flock.Flock, error) {
	lock := flock.New(data.LockFile(), flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be written: make it writable for this user, or give another with --data (%w)", data.Dir, err)
	}
	if !got {
		return nil, nil
	}
	return lock, nil
}

// Served reports whether a server uses the data folder, or a command has taken
// over from one. It makes nothing; what cannot be told is not so.
func Served(data config.Data) bool {
	// Locking makes the file.
	if _, err := os.Stat(data.LockFile()); err != nil {
		return false
	}
	lock := flock.New(data.LockFile())
	got, err := lock.TryLock()
	_ = lock.Unlock()
	return err == nil && !got
}

// TakeOver lets the caller do what a server does in the background: until
// release is called no server can start on the data folder. It reports false if
// a server runs, or another command has taken over.
func (d *Data) TakeOver() (release func() error, ok bool, err error) {
	lock, err := tryLock(d.data)
	if lock == nil {
		return nil, false, err
	}
	return lock.Unlock, true, nil
}
