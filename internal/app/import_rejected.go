package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"grahak"
	"grahak/internal/disk"
	"grahak/internal/rows"
)

// rejectedFile takes the rows of an import that are rejected. What is in it is
// that of the chunks that are done, less the newest ones' at most, which the state
// of the import still knows: so a run that goes on can complete it.
type rejectedFile struct {
	f    *os.File
	size int64
}

// openRejected opens the file, which an import that does not go on must find empty,
// or not at all.
func openRejected(path string, resumed bool) (*rejectedFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the folder %s does not exist: make it first", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s cannot be written: make it, and its folder, writable for this user", path)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file: give the file for the rejected rows another name", path)
	}
	if err == nil && info.Size() > 0 && !resumed {
		err = fmt.Errorf("%s exists: give the file for the rejected rows a name that is free, because nothing is ever written over", path)
	}
	if err == nil {
		// Whose it was before, it holds people now.
		err = f.Chmod(0o600)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &rejectedFile{f: f, size: info.Size()}, nil
}

// countRejected returns how many rows a file of rejected rows has, and -1 if there
// is none.
func countRejected(path string, format rows.Format) (n int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, cannotOpen(path, err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || info.Size() == 0 {
		return 0, err
	}
	reader, err := rows.NewReader(f, rows.Options{Format: format, IgnoreUnknown: true, NoNumber: true})
	if err != nil {
		return 0, nil // Then it has no whole row.
	}
	for ; ; n++ {
		if _, err := reader.Next(); err != nil {
			return n, nil // What does not read is no row.
		}
	}
}

// write adds rows, behind the header if there is none yet, and waits until they are
// on disk.
func (r *rejectedFile) write(reader *rows.Reader, text string) error {
	made := r.size == 0
	if made {
		text = reader.RejectedHeader() + text
	}
	n, err := r.f.WriteAt([]byte(text), r.size)
	r.size += int64(n)
	if err == nil {
		err = r.f.Sync()
	}
	if err == nil && made {
		err = disk.SyncDir(filepath.Dir(r.f.Name()))
	}
	if err != nil {
		return fmt.Errorf("the rejected rows cannot be written to %s; run the same command again when they can: %w", r.f.Name(), err)
	}
	return nil
}

// close closes the file, and removes it if nothing was rejected.
func (r *rejectedFile) close() error {
	if r.size == 0 {
		return errors.Join(r.f.Close(), os.Remove(r.f.Name()))
	}
	return r.f.Close()
}

// lastRows are the rejected rows of the newest chunks that earlier runs have done.
type lastRows struct {
	faults [][]grahak.ImportFault // of a row each
	rows   []rows.Row             // those of the same places
}

// lastRejected returns what the state knows of rejected rows.
func lastRejected(state grahak.ImportState) *lastRows {
	l := new(lastRows)
	for _, f := range state.LastFaults {
		if n := len(l.faults); n > 0 && l.faults[n-1][0].Line == f.Line {
			l.faults[n-1] = append(l.faults[n-1], f)
			continue
		}
		l.faults = append(l.faults, []grahak.ImportFault{f})
	}
	return l
}

// keep keeps row if it is one of them. They come in their order.
func (l *lastRows) keep(row rows.Row) {
	if n := len(l.rows); n < len(l.faults) && l.faults[n][0].Line == row.Line {
		l.rows = append(l.rows, row)
	}
}

// resume completes the file with the rejected rows of the newest chunks, of which
// there may be all, some, or a part of one in it. It returns how many rows are
// missing because they were rejected before the file was.
func (r *rejectedFile) resume(reader *rows.Reader, state grahak.ImportState, last *lastRows) (unnoted int64, err error) {
	if state.Rows == 0 {
		return 0, nil
	}
	if len(last.rows) < len(last.faults) {
		return 0, errors.New("the rows that were rejected before are not in the file: is it another?")
	}
	var b strings.Builder
	header := reader.RejectedHeader()
	earlier := state.Rejected - int64(len(last.rows))
	if earlier == 0 && len(last.rows) > 0 {
		b.WriteString(header)
	}
	for i, row := range last.rows {
		b.WriteString(reader.Rejected(row, reason(last.faults[i])))
	}
	text := b.String()
	tail := make([]byte, min(r.size, int64(len(text))))
	if _, err := r.f.ReadAt(tail, r.size-int64(len(tail))); err != nil {
		return 0, err
	}
	there := overlap(text, string(tail))
	begins := reader.RejectedStart()
	start := make([]byte, min(r.size, int64(len(begins))))
	if _, err := r.f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	switch before := r.size - int64(there); {
	case r.size == 0:
		unnoted = earlier
		if text != "" && earlier == 0 {
			text = strings.TrimPrefix(text, header) // write puts it there
		}
	case !strings.HasPrefix(begins, string(start)), earlier == 0 && before > 0, !r.endsLine(before):
		return 0, fmt.Errorf("%s is not the file of the rows that this import has rejected before: give that one, or a name that is free", r.f.Name())
	}
	if there == len(text) {
		return unnoted, nil
	}
	return unnoted, r.write(reader, text[there:])
}

// endsLine reports whether the first n bytes of the file end with a line, or are
// none.
func (r *rejectedFile) endsLine(n int64) bool {
	if n == 0 {
		return true
	}
	var b [1]byte
	_, err := r.f.ReadAt(b[:], n-1)
	return err == nil && b[0] == '\n'
}

// overlap returns the length of the longest beginning of text that tail ends with.
func overlap(text, tail string) int {
	// This is the search of Knuth, Morris and Pratt: borders[i] is how long the
	// longest beginning is that text[:i+1] ends with, but for itself.
	borders := make([]int, len(text))
	next := func(n int, c byte) int {
		for n > 0 && (n == len(text) || text[n] != c) {
			n = borders[n-1]
		}
		if n < len(text) && text[n] == c {
			n++
		}
		return n
	}
	for i := 1; i < len(text); i++ {
		borders[i] = next(borders[i-1], text[i])
	}
	n := 0
	for i := range len(tail) {
		n = next(n, tail[i])
	}
	return n
}
