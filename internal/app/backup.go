package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"grahak"
	"grahak/internal/backup"
	"grahak/internal/disk"
	"grahak/internal/sqlstore"
)

// Progress is told, by one goroutine, how far a step of long work is: done of
// about total, in what the step's name says.
type Progress func(step string, done, total int64)

// bytes returns what tells the progress of a step in bytes.
func (p Progress) bytes(step string) func(done, total int64) {
	return func(done, total int64) { p(step+" (MiB)", done>>20, total>>20) }
}

// Backup is a backup file.
type Backup struct {
	backup.Manifest
	Path   string
	Bytes  int64
	SHA256 [sha256.Size]byte
}

// spareSpace is what is left free on a disk that is just large enough, in bytes,
// and holds what a copy is larger than expected.
const spareSpace = 16 << 20

// Backup writes a backup to path, which must not exist, beside a server that
// goes on writing or without one. The file appears when it is whole, on disk, and
// has been read back from there; until then it has another name, which is gone
// after an error, too. program is the version of this one. Errors are one
// sentence.
func (d *Data) Backup(ctx context.Context, path, program string, progress Progress) (b Backup, err error) {
	if d.SQLite == nil {
		return Backup{}, errors.New("the data is in PostgreSQL, which has backups of its own: use pg_dump or a base backup with archived log, and keep a copy of the master key apart from it; docs/operations.md says how")
	}
	defer func() { err = orInterrupted(ctx, err) }()
	f, err := createPartial(path)
	if err != nil {
		return Backup{}, err
	}
	defer func() {
		if err != nil {
			err = cleanUp(f, err)
		}
	}()
	size, err := d.SQLite.CopySize(ctx)
	if err != nil {
		return Backup{}, err
	}
	if free, err := disk.Free(filepath.Dir(path)); err == nil && free < uint64(size)+spareSpace {
		return Backup{}, fmt.Errorf("the disk that holds %s has %d MiB free and the backup needs %d: free some space, or write it to another disk", path, free>>20, (size+spareSpace)>>20)
	}
	manifest := backup.Manifest{Program: program, MadeAt: grahak.SystemClock{}.Now().Truncate(time.Second)}
	if err := d.SQLite.CopyTo(ctx, f.Name(), progress.bytes("Copying")); err != nil {
		return Backup{}, err
	}
	copied, err := sqlstore.OpenCopy(ctx, f.Name())
	if err != nil {
		return Backup{}, err
	}
	if err := errors.Join(describe(ctx, copied, &manifest), copied.Close()); err != nil {
		return Backup{}, err
	}
	if err := backup.Finish(ctx, f, manifest, progress.bytes("Summing up")); err != nil {
		return Backup{}, err
	}
	disk.DropCache(f)
	if b, err = readBackup(ctx, f.Name(), io.Discard, progress.bytes("Reading back")); err != nil {
		return Backup{}, err
	}
	b.Path = path
	return b, publish(f, path)
}

// partial is the name of what becomes the file at path.
func partial(path string) string { return path + ".partial" }

// createPartial makes the file that becomes path when it is whole.
func createPartial(path string) (*os.File, error) {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s exists: give a name that is free, because nothing is ever written over", path)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%s cannot be made: %s is not a folder", path, filepath.Dir(path))
	default:
		return nil, err
	}
	f, err := os.OpenFile(partial(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("%s exists: wait for the command that is writing it or, if there is none, delete what one that was killed has left", partial(path))
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err == nil {
			return nil, fmt.Errorf("%s cannot be made: the folder %s takes no files, give another", path, filepath.Dir(path))
		}
		return nil, fmt.Errorf("the folder %s does not exist: make it first", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("%s cannot be made: make the folder %s writable for this user (%w)", path, filepath.Dir(path), err)
	}
	return f, err
}

// cleanUp removes a file that did not become whole because of err, and returns
// err as one sentence.
func cleanUp(f *os.File, err error) error {
	free, freeErr := disk.Free(filepath.Dir(f.Name()))
	if errors.Is(err, syscall.ENOSPC) || freeErr == nil && free < 1<<20 {
		err = fmt.Errorf("the disk that holds %s is full: free some space, or use another disk", filepath.Dir(f.Name()))
	}
	_ = f.Close()
	return errors.Join(err, os.Remove(f.Name()))
}

// orInterrupted is err, if any, or that it was the user who ended the work.
func orInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; nothing was left behind")
	}
	return err
}

// publish gives f, which is whole and on disk, its name.
func publish(f *os.File, path string) error {
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// describe fills in m with what is in the store.
func describe(ctx context.Context, store *sqlstore.SQLite, m *backup.Manifest) error {
	sum, err := store.Summarize(ctx)
	if err != nil {
		return err
	}
	m.Schema, m.Environment, m.MasterKeyID = sum.Schema, string(sum.Environment), sum.MasterKeyID
	m.Merchants = make([]backup.Merchant, len(sum.Merchants))
	for i, merchant := range sum.Merchants {
		m.Merchants[i] = backup.Merchant{ID: string(merchant.ID), Customers: merchant.Customers, Events: merchant.Events}
		if head := merchant.Head; head.Position > 0 {
			m.Merchants[i].Chain = grahak.Anchor{Position: head.Position, Link: head.Link}.String()
		}
	}
	return nil
}

// readBackup reads a backup file to its end, and writes the database in it to w.
func readBackup(ctx context.Context, path string, w io.Writer, progress func(done, total int64)) (Backup, error) {
	file, err := backup.Open(path)
	if err != nil {
		return Backup{}, err
	}
	defer func() { _ = file.Close() }()
	sum, err := file.CopyTo(ctx, w, progress)
	return Backup{Manifest: file.Manifest, Path: path, Bytes: file.Size(), SHA256: sum}, err
}
