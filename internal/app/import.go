package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"grahak"
	"grahak/internal/rows"
)

// Import is a file of customers that is to be imported.
type Import struct {
	// Path is the file; "-" is In.
	Path        string
	In          io.Reader
	Caller      grahak.Caller
	Format      rows.Format // told by the content if empty
	OnDuplicate grahak.OnDuplicate
	// IgnoreUnknown passes over columns and keys that no customer has.
	IgnoreUnknown bool
	// Restart begins with the first row although an import of the same file has
	// come further.
	Restart bool
	// DryRun writes no customer.
	DryRun bool
	// Rejected is the file that takes the rows that are rejected; empty for none.
	Rejected string
	// Begun is told, before the first row, of an import that goes on where it has
	// ended.
	Begun func(resumed grahak.ImportState)
	// Report is told of every row that is rejected, in their order.
	Report func(RejectedRow)
	// Progress is told how many bytes of the file are done, of how many, and how many
	// rows this run has done.
	Progress func(done, total, rows int64)
}

// RejectedRow says why a row was rejected. There is nothing of the person in it.
type RejectedRow struct {
	Line   int64
	Faults []RejectedField
}

// RejectedField says what is wrong with a field of a row.
type RejectedField struct {
	Name   string // of the column or key; empty for the row as a whole
	Reason string // a sentence
	Value  string // masked; empty for none
}

// Imported is what came of an import.
type Imported struct {
	// State counts all rows of the file, also those of earlier runs.
	State grahak.ImportState
	// Resumed is how many rows earlier runs have done.
	Resumed int64
	// Before is set if the whole file had been imported before, and nothing was
	// done.
	Before bool
	// Unnoted is how many rows that earlier runs rejected are not in the file of
	// rejected rows.
	Unnoted int64
	Took    time.Duration
}

// maxChunkBytes is how much a chunk weighs, unless a single row weighs more.
const maxChunkBytes = 2 << 20

// weight is how much of a chunk row takes up, in bytes. A row of few bytes may have
// many keys of metadata: those of the header of CSV, which go with every row.
func weight(row rows.Row) int {
	const pair = 48 // what one takes besides its texts, most of which Raw counts
	n := len(row.Raw)
	for _, p := range row.Customer.Metadata.Pairs {
		n += pair + len(p.Key)
	}
	return n
}

// inFlight is how many chunks are under way at once: one is written while the next
// ones are prepared.
const inFlight = 3

// attempts bounds how often an import starts again because a chunk of a run before,
// which was cut off, came first.
const attempts = 5

// Run imports the file. Errors are one sentence.
func (i *Importer) Run(ctx context.Context, job Import) (done Imported, err error) {
	clock := grahak.SystemClock{}
	begun := clock.Now()
	for n := range attempts {
		run := importRun{Importer: i, Import: job}
		done, err = run.run(ctx)
		moved := grahak.CodeOf(err) == grahak.CodeImportConflict && run.state.Rows == done.Resumed
		if !moved || run.size == 0 || n == attempts-1 {
			err = run.explain(ctx, err)
			break
		}
	}
	done.Took = clock.Now().Sub(begun)
	return done, err
}

// run opens the file and imports it.
func (r *importRun) run(ctx context.Context) (done Imported, err error) {
	defer func() {
		if r.file != nil {
			_ = r.file.Close()
		}
	}()
	if err := r.open(ctx); err != nil {
		return done, err
	}
	var state grahak.ImportState
	if !r.DryRun {
		if state, err = r.ImportState(ctx, r.Caller, r.id); err != nil {
			return done, err
		}
		if state.Done && !r.Restart {
			return Imported{State: state, Resumed: state.Rows, Before: true}, r.complete(ctx, state)
		}
		if r.Restart {
			state = grahak.ImportState{}
		}
	}
	r.state, r.resumed, done.Resumed = state, state.Rows, state.Rows
	if state.Rows > 0 {
		r.Begun(state)
	}
	done.Unnoted, err = r.work(ctx)
	done.State = r.state
	return done, err
}

// importRun is an import at work.
type importRun struct {
	*Importer
	Import

	id     string
	file   *os.File // nil for a stream
	size   int64
	sum    [sha256.Size]byte
	input  *counter
	reader *rows.Reader

	state    grahak.ImportState
	resumed  int64         // rows that earlier runs have done
	rejected *rejectedFile // nil for none
}

// counter counts and sums what is read through it.
type counter struct {
	r    io.Reader
	n    int64
	hash hash.Hash
}

// Read implements [io.Reader].
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	return n, err
}

// open opens the file and names the import after its content. A stream has a name
// that is never met again.
func (r *importRun) open(ctx context.Context) (err error) {
	in := r.In
	if r.Path != "-" {
		if r.file, err = os.Open(r.Path); err != nil {
			return cannotOpen(r.Path, err)
		}
		in = r.file
		info, err := r.file.Stat()
		switch {
		case err != nil:
			return err
		case info.IsDir():
			return fmt.Errorf("%s is a folder: give a file", r.Path)
		case info.Mode().IsRegular():
			if err := r.sumUp(ctx, info.Size()); err != nil {
				return err
			}
		}
	}
	r.input = &counter{r: in, hash: sha256.New()}
	r.reader, err = rows.NewReader(r.input, rows.Options{
		Format: r.Format, IgnoreUnknown: r.IgnoreUnknown,
		// An update of those who are there says nothing of their numbers.
		NoNumber: r.OnDuplicate == grahak.DuplicateUpdate,
	})
	if err != nil {
		return r.about(err)
	}
	if r.size > 0 {
		r.id = "sha256:" + hex.EncodeToString(r.sum[:]) + ":" + string(r.reader.Format)
	} else {
		r.id = "stream:" + rand.Text()
	}
	return nil
}

// about is what is wrong with the file.
func (r *importRun) about(err error) error {
	name := r.Path
	if name == "-" {
		name = "standard input"
	}
	return fmt.Errorf("%s cannot be imported: %w", name, err)
}

func cannotOpen(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s: give the file to import, or - for standard input", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read: make it readable for this user", path)
	}
	return err
}

// sumUp reads the whole file once.
func (r *importRun) sumUp(ctx context.Context, size int64) error {
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.file.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	sum.Sum(r.sum[:0])
	r.size = size
	_, err := r.file.Seek(0, io.SeekStart)
	return err
}

// unchanged returns an error if what was read is not what the import was named
// after.
func (r *importRun) unchanged() error {
	if r.size == 0 {
		return nil
	}
	// gzip may leave what follows it.
	if _, err := io.Copy(io.Discard, r.input); err != nil {
		return err
	}
	if !bytes.Equal(r.input.hash.Sum(nil), r.sum[:]) {
		return errors.New("the file was changed while it was imported: import it again when it is whole, with --on-duplicate skip for the rows that are imported already")
	}
	return nil
}

// batch is rows of the file that are done together.
type batch struct {
	after int64 // rows of the file before it
	rows  []rows.Row
	bytes int64 // of the file up to its end
	last  bool
	err   error // why there is no more
	// unnoted is the first line of the batches that were under way when this one
	// was begun; 0 for none.
	unnoted int64
}

// read sends the rows of the file behind the first skip in batches. keep is told of
// the rows that are skipped.
func (r *importRun) read(ctx context.Context, skip int64, keep func(rows.Row), to chan<- batch) {
	defer close(to)
	var b batch
	size := 0
	send := func() bool {
		b.bytes = r.input.n
		select {
		case to <- b:
		case <-ctx.Done():
			return false
		}
		b, size = batch{after: b.after + int64(len(b.rows))}, 0
		return !b.last
	}
	for n := int64(0); ; n++ {
		row, err := r.reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			if b.last, b.err = true, r.unchanged(); n < skip {
				b.err = errors.New("it has fewer rows than were imported of it before")
			}
			send()
			return
		case err != nil:
			b.err = err
			send()
			return
		case n < skip:
			keep(row)
			b.after = n + 1
			if ctx.Err() != nil {
				return
			}
			continue
		}
		b.rows = append(b.rows, row)
		size += weight(row)
		if (len(b.rows) == grahak.MaxImportChunk || size >= maxChunkBytes) && !send() {
			return
		}
	}
}

// outcome is what became of a batch.
type outcome struct {
	batch
	state  grahak.ImportState
	faults []grahak.ImportFault
	err    error
}

// work does the rows behind those that are done, and returns how many rejected rows
// the file of them lacks.
func (r *importRun) work(ctx context.Context) (unnoted int64, err error) {
	resumed := r.state
	last := lastRejected(resumed)
	if r.Rejected != "" {
		if r.rejected, err = openRejected(r.Rejected, resumed.Rows > 0); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, r.rejected.close()) }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan batch, 2)
	go r.read(ctx, resumed.Rows, last.keep, batches)
	do, err := r.doer()
	if err != nil {
		return 0, err
	}
	type call struct {
		line   int64 // of the first row
		result chan outcome
	}
	var under []call
	defer func() {
		// What is under way is ended before what it works on is closed.
		cancel()
		for _, c := range under {
			<-c.result
		}
	}()
	first := true
	finish := func() error {
		o := <-under[0].result
		under = under[1:]
		return r.finish(o)
	}
	for b := range batches {
		if first && r.rejected != nil {
			// All that was skipped has been read.
			if unnoted, err = r.rejected.resume(r.reader, resumed, last); err != nil {
				return 0, err
			}
		}
		if b.err != nil {
			for len(under) > 0 {
				if err := finish(); err != nil {
					return unnoted, err
				}
			}
			return unnoted, r.about(b.err)
		}
		if len(under) > 0 {
			b.unnoted = under[0].line
		}
		c := call{result: make(chan outcome, 1)}
		if len(b.rows) > 0 {
			c.line = b.rows[0].Line
		}
		under = append(under, c)
		go func() { c.result <- do(ctx, b) }()
		// A restart is to be over before the next chunk looks where it has come to.
		for limit := r.limit(first); len(under) >= limit; {
			if err := finish(); err != nil {
				return unnoted, err
			}
		}
		first = false
	}
	for len(under) > 0 {
		if err := finish(); err != nil {
			return unnoted, err
		}
	}
	return unnoted, ctx.Err()
}

// complete completes the file of rejected rows of an import that is done, if that
// was cut off before it had written the last ones.
func (r *importRun) complete(ctx context.Context, state grahak.ImportState) error {
	if r.Rejected == "" || len(state.LastFaults) == 0 {
		return nil
	}
	n, err := countRejected(r.Rejected, r.reader.Format)
	if err != nil || n < 0 || n >= state.Rejected {
		return err
	}
	file, err := openRejected(r.Rejected, true)
	if err != nil {
		return err
	}
	last := lastRejected(state)
	batches := make(chan batch, 1)
	r.read(ctx, state.Rows, last.keep, batches)
	if b := <-batches; b.err != nil {
		err = r.about(b.err)
	} else if err = ctx.Err(); err == nil {
		_, err = file.resume(r.reader, state, last)
	}
	return errors.Join(err, file.close())
}

// limit is how many batches may be under way when the next is begun.
func (r *importRun) limit(first bool) int {
	if r.DryRun || first && r.Restart {
		return 1
	}
	return inFlight
}

// doer returns what does a batch.
func (r *importRun) doer() (func(context.Context, batch) outcome, error) {
	if r.DryRun {
		check, err := r.check(r.Caller, r.OnDuplicate)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, b batch) outcome {
			faults, err := check.Rows(ctx, importRows(b.rows))
			return outcome{b, check.State(), faults, err}
		}, nil
	}
	return func(ctx context.Context, b batch) outcome {
		state, faults, err := r.ImportCustomers(ctx, r.Caller, grahak.ImportChunk{
			Import: r.id, After: b.after, Rows: importRows(b.rows), OnDuplicate: r.OnDuplicate,
			Last: b.last, Restart: r.Restart && b.after == 0, Unnoted: b.unnoted,
		})
		return outcome{b, state, faults, err}
	}, nil
}

func importRows(from []rows.Row) []grahak.ImportRow {
	list := make([]grahak.ImportRow, len(from))
	for i := range from {
		list[i] = from[i].ImportRow
	}
	return list
}

// finish notes what became of the batch that was the next.
func (r *importRun) finish(o outcome) error {
	if o.err != nil {
		return o.err
	}
	r.state = o.state
	at := 0
	var text strings.Builder
	for rest := o.faults; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Line == rest[0].Line {
			n++
		}
		for at < len(o.rows) && o.rows[at].Line != rest[0].Line {
			at++
		}
		if at == len(o.rows) {
			return fmt.Errorf("a fault is about line %d, which is not among the rows: this is a mistake in Grahak, please report it", rest[0].Line)
		}
		row := o.rows[at]
		r.Report(describeRejected(row, rest[:n]))
		if r.rejected != nil {
			text.WriteString(r.reader.Rejected(row, reason(rest[:n])))
		}
		rest = rest[n:]
	}
	if r.size > 0 {
		r.Progress(o.bytes, r.size, r.state.Rows-r.resumed)
	}
	if text.Len() == 0 {
		return nil
	}
	return r.rejected.write(r.reader, text.String())
}

// describeRejected says what is wrong with a row.
func describeRejected(row rows.Row, faults []grahak.ImportFault) RejectedRow {
	rejected := RejectedRow{Line: row.Line}
	for _, f := range faults {
		field := RejectedField{Reason: f.Reason}
		if f.Field != grahak.FieldRow {
			field.Name = rows.Name(f.Field)
			if value := rows.Value(row.ImportRow, f.Field); value != "" {
				field.Value = rows.Mask(value)
			}
		}
		rejected.Faults = append(rejected.Faults, field)
	}
	return rejected
}

// reason is what is wrong with a row as it stands in the file of rejected rows.
func reason(faults []grahak.ImportFault) string {
	list := make([]string, len(faults))
	for i, f := range faults {
		list[i] = f.Reason
		if f.Field != grahak.FieldRow {
			list[i] = rows.Name(f.Field) + ": " + f.Reason
		}
	}
	return strings.Join(list, " ")
}

// explain is err with what it means for the rows that are left.
func (r *importRun) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *grahak.Error
	text := err.Error()
	switch {
	case ctx.Err() != nil:
		text = "interrupted"
	case errors.As(err, &known) && known.Message != "" && known.Code != grahak.CodeUnavailable:
		text = known.Message
	}
	text = strings.TrimSuffix(text, ".")
	switch {
	case r.DryRun || r.state.Rows == 0:
		return errors.New(text)
	case r.size == 0:
		return fmt.Errorf("%s; %d rows are done, and a stream cannot go on there: import it again with --on-duplicate skip", text, r.state.Rows)
	}
	return fmt.Errorf("%s; %d rows are done: run the same command again, which goes on behind them", text, r.state.Rows)
}
