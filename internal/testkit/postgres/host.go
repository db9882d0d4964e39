package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"grahak/internal/testkit"
)

// oldest is the oldest major version of PostgreSQL that serves.
const oldest = 13

// programs finds the folder of the newest installed PostgreSQL that has a
// server. Debian keeps its programs off the PATH.
var programs = sync.OnceValues(func() (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	if found, err := exec.LookPath("postgres"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil {
			folders = append(folders, filepath.Dir(found))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	best, folder := oldest-1, ""
	for _, f := range folders {
		if v := version(ctx, f); v > best {
			best, folder = v, f
		}
	}
	if folder == "" {
		return "", fmt.Errorf("the server of PostgreSQL %d or newer is not installed: run scripts/need or install Debian's package postgresql", oldest)
	}
	return folder, nil
})

// version returns the major version of the server in a folder, or 0 if there is
// none that can be used.
func version(ctx context.Context, folder string) int {
	for _, name := range []string{"initdb", "pg_basebackup"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return 0
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(folder, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	number := regexp.MustCompile(`\d+`).Find(out)
	v, _ := strconv.Atoi(string(number))
	return v
}

// Program returns the path of one of PostgreSQL's programs, as pgbench or psql.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	folder, err := programs()
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(folder, name)
	if _, err := os.Stat(file); err != nil {
		tb.Fatalf("PostgreSQL's program %s is not in %s: run scripts/need or install Debian's package postgresql", name, folder)
	}
	return file
}

// host is where a cluster lives: its folder, and how PostgreSQL's programs are
// started there.
type host struct {
	programs string
	dir      string // of the socket, the settings and the log
	data     string
	// credential is the user that the programs run as: PostgreSQL refuses root.
	// It is nil when this process's own user will do.
	credential *syscall.Credential
	disk       *disk // nil when the data folder has no file system of its own
}

// newHost makes a folder, and in it a disk of that many MiB if that is not 0.
func newHost(diskMiB int) (_ *host, err error) {
	h := &host{}
	if h.programs, err = programs(); err != nil {
		return nil, err
	}
	parent := os.TempDir()
	if os.Geteuid() == 0 && diskMiB == 0 {
		if h.credential, err = unprivileged(); err != nil {
			return nil, err
		}
		// That user must come to the folder.
		if !open(parent) {
			parent = "/tmp"
		}
	}
	// The path of a Unix socket has some 100 bytes at most, so this one is short.
	if h.dir, err = os.MkdirTemp(parent, "grahak-pg-*"); err != nil {
		return nil, err
	}
	h.data = h.path("data")
	if h.credential != nil {
		err = os.Chown(h.dir, int(h.credential.Uid), int(h.credential.Gid))
	}
	if err == nil && diskMiB != 0 {
		h.disk, err = newDisk(h.path("disk"), diskMiB)
		h.data = h.path("disk", "data")
	}
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	return h, nil
}

// unprivileged returns a user that is not root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and this system has neither a user postgres nor nobody: run the tests as another user")
}

// open reports whether every user may pass through a folder.
func open(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&1 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// path returns the path of a file in the cluster's folder.
func (h *host) path(name ...string) string {
	return filepath.Join(append([]string{h.dir}, name...)...)
}

// write writes a file for PostgreSQL to read into the cluster's folder.
func (h *host) write(name, content string) error {
	file := h.path(name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return err
	}
	if h.credential == nil {
		return nil
	}
	return os.Chown(file, int(h.credential.Uid), int(h.credential.Gid))
}

// command returns a command of PostgreSQL that runs on this host.
func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	args = append([]string{filepath.Join(h.programs, name)}, args...)
	if h.disk != nil {
		args = append(h.disk.enter(), args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = h.dir
	cmd.Env = testkit.Env("LC_ALL=C.UTF-8")
	// A group of its own, so that Ctrl-C in a terminal is for the tests alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.credential}
	return cmd
}

// initdb makes an empty cluster and tells how it sorts text. Not every
// PostgreSQL was built with ICU, and not every system has a language.
func (h *host) initdb() (locale string, err error) {
	var failed []error
	for _, l := range append([][]string{
		{"en-US of ICU", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"},
		{"en-US of ICU", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C"},
	}, systemLocales()...) {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		args := append([]string{"-D", h.data, "--no-sync", "--username=" + superuser, "--auth=trust", "--encoding=UTF8"}, l[1:]...)
		err := run(h.command(ctx, "initdb", args...))
		cancel()
		if err == nil {
			return l[0], nil
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

// systemLocales returns the C library's locales that may serve, the best first,
// each with its option of initdb. The last is not a language's, but every system
// has it.
func systemLocales() (list [][]string) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "locale", "-a").Output()
	best := ""
	for _, name := range bytes.Fields(out) {
		lower := strings.ReplaceAll(strings.ToLower(string(name)), "-", "")
		if strings.HasSuffix(lower, ".utf8") && !strings.HasPrefix(lower, "c.") && (best == "" || strings.HasPrefix(lower, "en_")) {
			best = string(name)
		}
	}
	if best != "" {
		list = append(list, []string{best + " of the system", "--locale=" + best})
	}
	return append(list, []string{"C.UTF-8 of the system", "--locale=C.UTF-8"})
}

// remove removes the folder, in which nothing may run any more.
func (h *host) remove() error {
	var err error
	if h.disk != nil {
		err = h.disk.remove()
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}
