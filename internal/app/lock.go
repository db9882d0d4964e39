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
		return nil, fmt.Errorf("the data folder %s cannot be written: make it writable for this user, or give another with --data (%w)", data.Folder(), err)
	}
	if !got {
		return nil, nil
	}
	return lock, nil
}

// lockOut takes the lock that a server holds on its data folder, so that none can
// start, and refuses if one runs.
func lockOut(data config.Data) (*flock.Flock, error) {
	lock, err := tryLock(data)
	if err == nil && lock == nil {
		err = fmt.Errorf("a grahak serve, or another command that works alone, is using the data folder %s: stop it first", data.Folder())
	}
	return lock, err
}

// secretsLock is the lock that those hold who make secrets in the data folder.
func secretsLock(data config.Data) *flock.Flock {
	return flock.New(data.Folder(), flock.SetFlag(os.O_RDONLY))
}

// Served reports whether a server uses the data folder, or a command has taken
// over from one. It makes nothing; what cannot be told is not so, but a
// PostgreSQL database counts as served, because its servers may be anywhere.
func Served(data config.Data) bool {
	if data.Postgres() {
		return true
	}
	// Locking makes the file.
	if _, err := os.Stat(data.LockFile()); err != nil {
		return false
	}
	lock := flock.New(data.LockFile())
	got, err := lock.TryLock()
	_ = lock.Unlock()
	return err == nil && !got
}

// TakeOver lets the caller do what a server does in the background. In a data
// folder no server can start until release is called, and it reports false if one
// runs, or if another command has taken over. On PostgreSQL the caller does it
// beside the servers: whoever takes a step first has taken it.
func (d *Data) TakeOver() (release func() error, ok bool, err error) {
	if d.data.Postgres() {
		return func() error { return nil }, true, nil
	}
	lock, err := tryLock(d.data)
	if lock == nil {
		return nil, false, err
	}
	return lock.Unlock, true, nil
}
