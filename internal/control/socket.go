package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// maxPath is how long the path of a socket may be where that is shortest, in
// bytes.
const maxPath = 103

// Listen makes the socket at path, which only this user may open, in place of one
// that a server before has left there: the caller knows that no other runs. Closing
// the listener removes it.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	// A socket may be opened from the moment on at which it is there, so it gets
	// its place once it has its mode.
	making := path + ".new"
	if err := os.RemoveAll(making); err != nil {
		return nil, err
	}
	if err := os.Mkdir(making, 0o700); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(making) }()
	made := filepath.Join(making, "s")
	addr, done, err := address(made)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", addr)
	done()
	if err != nil {
		return nil, err
	}
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &listener{Listener: l, path: path}, nil
}

// listener removes its socket when it is closed.
type listener struct {
	net.Listener
	path string
	once sync.Once
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() {
		if removeErr := os.Remove(l.path); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	})
	return err
}

// dial connects to the socket at path.
func dial(ctx context.Context, path string) (net.Conn, error) {
	addr, done, err := address(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return new(net.Dialer).DialContext(ctx, "unix", addr)
}

// address returns a name for the socket at path that is short enough for the
// system, for as long as done was not called.
func address(path string) (addr string, done func(), err error) {
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	// On Linux an open folder has a short name, too.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	addr = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	if _, err := os.Stat(addr); err != nil {
		_ = dir.Close()
		return "", nil, fmt.Errorf("the path of the socket %s is too long for this system, which takes %d bytes: use a data folder with a shorter path", path, maxPath)
	}
	return filepath.Join(addr, filepath.Base(path)), func() { _ = dir.Close() }, nil
}
