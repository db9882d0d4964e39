package app

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"

	"grahak"
	"grahak/internal/disk"
	"grahak/internal/rows"
)

// exportPage is how many customers are read at once for an export. Each may have a
// hundred kilobytes of metadata, and three pages are in memory.
const exportPage = 250

// Export is customers to be written into a file.
type Export struct {
	Caller grahak.Caller
	Format rows.Format
	Gzip   bool
	// Path is the file, which must not exist, and appears when it is whole and on
	// disk; empty for Out.
	Path string
	Out  io.Writer
}

// UnreadError is why customers could not be read for an export, as opposed to why
// they could not be written.
type UnreadError struct{ Err error }

// Error is that of Err.
func (e UnreadError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e UnreadError) Unwrap() error { return e.Err }

// Export writes all customers of a merchant, beside servers that go on writing, and
// returns how many. Errors are one sentence; those of reading are an [UnreadError].
func (d *Data) Export(ctx context.Context, e Export, progress func(done, total int64)) (n int64, err error) {
	_, total, err := d.Store.Customers(ctx, e.Caller.Merchant, grahak.CustomerRange{}, 1, 0)
	if err != nil {
		return 0, err
	}
	count := func(done int64) { progress(done, max(total, done)) }
	if e.Path == "" {
		return d.export(ctx, e, e.Out, count)
	}
	f, err := createPartial(e.Path)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			n, err = 0, orInterrupted(ctx, cleanUp(f, err))
		}
	}()
	if n, err = d.export(ctx, e, f, count); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), e.Path); err != nil {
		return 0, err
	}
	return n, disk.SyncDir(filepath.Dir(e.Path))
}

// page is some of the customers.
type page struct {
	customers []grahak.Customer
	err       error
}

// export writes the customers to w.
func (d *Data) export(ctx context.Context, e Export, w io.Writer, progress func(done int64)) (n int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The next page is read while one is written.
	pages := make(chan page, 1)
	go func() {
		defer close(pages)
		for after := grahak.CustomerID(""); ; {
			customers, next, err := d.Service.ExportCustomers(ctx, e.Caller, after, exportPage)
			select {
			case pages <- page{customers, err}:
			case <-ctx.Done():
				return
			}
			if err != nil || next == "" {
				return
			}
			after = next
		}
	}()
	buffered := bufio.NewWriterSize(w, 256<<10)
	out := io.Writer(buffered)
	var packed *gzip.Writer
	if e.Gzip {
		packed = gzip.NewWriter(buffered)
		out = packed
	}
	var writer *rows.Writer
	for p := range pages {
		switch {
		case p.err != nil && ctx.Err() != nil:
			return n, p.err
		case p.err != nil:
			return n, UnreadError{p.err}
		}
		if writer == nil {
			if writer, err = rows.NewWriter(out, e.Format); err != nil {
				return 0, err
			}
		}
		if err := writer.Write(p.customers); err != nil {
			return n, err
		}
		n += int64(len(p.customers))
		progress(n)
	}
	if err := ctx.Err(); err != nil {
		return n, err
	}
	if packed != nil {
		if err := packed.Close(); err != nil {
			return n, err
		}
	}
	return n, buffered.Flush()
}
