// Package backup is the form of a backup file: a database, and behind it what
// tells whether that is whole. Nothing in a backup is encrypted by this package;
// the database keeps personal data sealed.
//
// The file is the database as it is, the manifest as JSON, and 56 bytes: the
// SHA-256 of the manifest, its length in bytes (big-endian), and a mark. So it is
// written from its beginning to its end, and whoever has lost this program still
// finds the database at its beginning. The sums find damage. They cannot find
// what somebody changed on purpose, who would have changed them too.
package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Format is the form that this package writes, and the newest that it reads.
const Format = 1

// Manifest says what is in a backup.
type Manifest struct {
	Format      int        `json:"format"`
	Program     string     `json:"program"` // the version of grahak that made it
	Schema      int64      `json:"schema_version"`
	Environment string     `json:"environment"`
	MasterKeyID string     `json:"master_key_id"` // of the key that it is sealed under; empty for none
	MadeAt      time.Time  `json:"made_at"`       // all that was acknowledged before is in it
	Merchants   []Merchant `json:"merchants"`
	Database    Database   `json:"database"`
}

// Merchant is what a backup holds of a merchant.
type Merchant struct {
	ID        string `json:"id"`
	Customers int64  `json:"customers"`
	Events    int64  `json:"events"`
	// Chain is the head of the chain of its events, as `grahak audit verify`
	// prints it; empty if there is none yet.
	Chain string `json:"chain,omitempty"`
}

// Database is the first part of a backup file.
type Database struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
}

// Customers returns how many customers all merchants have.
func (m Manifest) Customers() (n int64) {
	for _, merchant := range m.Merchants {
		n += merchant.Customers
	}
	return n
}

// footer is the end of a file.
type footer struct {
	SHA256 [sha256.Size]byte // of the manifest
	Length uint64            // of the manifest, in bytes
	Mark   [16]byte
}

var mark = [16]byte([]byte("grahak's backup\n"))

// footerSize is the size of a footer in a file.
var footerSize = int64(binary.Size(footer{}))

// maxManifest bounds the length of a manifest, which has some hundred bytes a
// merchant, so that a wrong one does not take all memory.
const maxManifest = 256 << 20

// Finish makes a backup of f, which holds a database: it puts m, whose Format and
// Database it sets, and the end behind it, and sees to it that all is on disk.
func Finish(ctx context.Context, f *os.File, m Manifest, progress func(done, total int64)) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m.Format, m.Database.Bytes = Format, info.Size()
	sum := sha256.New()
	if err := copyTo(ctx, sum, io.NewSectionReader(f, 0, m.Database.Bytes), m.Database.Bytes, progress); err != nil {
		return err
	}
	m.Database.SHA256 = hex.EncodeToString(sum.Sum(nil))
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	end := bytes.NewBuffer(manifest)
	if err := binary.Write(end, binary.BigEndian, footer{sha256.Sum256(manifest), uint64(len(manifest)), mark}); err != nil {
		return err
	}
	if _, err := f.WriteAt(end.Bytes(), m.Database.Bytes); err != nil {
		return err
	}
	return f.Sync()
}

// File is an open backup file.
type File struct {
	Manifest Manifest
	path     string
	data     io.ReaderAt
	size     int64
	close    func() error
}

// Open opens a backup file, and checks its end and its manifest. Errors are one
// sentence.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a file", path)
	default:
		b := &File{path: path, data: f, size: info.Size(), close: f.Close}
		if err = b.readManifest(); err == nil {
			return b, nil
		}
	}
	_ = f.Close()
	return nil, err
}

func (b *File) readManifest() error {
	switch {
	case b.size == 0:
		return fmt.Errorf("%s is empty", b.path)
	case b.size < footerSize:
		return b.foreign()
	}
	var end footer
	if err := binary.Read(io.NewSectionReader(b.data, b.size-footerSize, footerSize), binary.BigEndian, &end); err != nil {
		return err
	}
	if end.Mark != mark {
		return b.foreign()
	}
	if end.Length > maxManifest || int64(end.Length) > b.size-footerSize {
		return b.damaged("its manifest has an impossible length")
	}
	manifest := make([]byte, end.Length)
	start := b.size - footerSize - int64(end.Length)
	if _, err := b.data.ReadAt(manifest, start); err != nil {
		return err
	}
	if sha256.Sum256(manifest) != end.SHA256 {
		return b.damaged("the checksum of its manifest is another")
	}
	// A newer form may have other fields.
	var form struct{ Format int }
	if err := json.Unmarshal(manifest, &form); err == nil && form.Format > Format {
		return fmt.Errorf("the backup %s has format %d, but this grahak knows only up to %d: use the newer grahak that made it", b.path, form.Format, Format)
	}
	if err := json.Unmarshal(manifest, &b.Manifest); err != nil {
		return b.damaged("its manifest cannot be read")
	}
	if b.Manifest.Database.Bytes != start {
		return b.damaged("its database has another length")
	}
	return nil
}

func (b *File) foreign() error {
	return fmt.Errorf("%s is not a backup that grahak backup has made, or its end is missing", b.path)
}

func (b *File) damaged(what string) error {
	return fmt.Errorf("the backup %s is damaged: %s; use another backup", b.path, what)
}

// CopyTo writes the database to w and returns the SHA-256 of the whole file. It
// is an error if what it read, and wrote, is not what the manifest says.
func (b *File) CopyTo(ctx context.Context, w io.Writer, progress func(done, total int64)) (whole [sha256.Size]byte, err error) {
	sum := sha256.New()
	database := io.NewSectionReader(b.data, 0, b.Manifest.Database.Bytes)
	if err := copyTo(ctx, io.MultiWriter(sum, w), database, b.Manifest.Database.Bytes, progress); err != nil {
		return whole, err
	}
	if hex.EncodeToString(sum.Sum(nil)) != b.Manifest.Database.SHA256 {
		return whole, b.damaged("the checksum of its database is another")
	}
	if _, err := io.Copy(sum, io.NewSectionReader(b.data, b.Manifest.Database.Bytes, b.size-b.Manifest.Database.Bytes)); err != nil {
		return whole, err
	}
	return [sha256.Size]byte(sum.Sum(nil)), nil
}

// Size returns the size of the whole file, in bytes.
func (b *File) Size() int64 { return b.size }

// Close closes the file.
func (b *File) Close() error { return b.close() }

// copyTo copies r, which has total bytes, until ctx ends.
func copyTo(ctx context.Context, w io.Writer, r io.Reader, total int64, progress func(done, total int64)) error {
	buf := make([]byte, 1<<20)
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			done += int64(n)
			progress(done, total)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
