// Package rows reads and writes files of customers: CSV with a header, and
// NDJSON with the customer object of the wire on every line. It knows the forms
// of the files and nothing of the rules for what stands in them.
package rows

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"grahak"
)

// Format is the form of a file.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180 in UTF-8, with a header
	NDJSON Format = "ndjson" // a JSON object on every line
)

// MaxRow is how long a row may be, in bytes.
const MaxRow = 1 << 20

// What is wrong with a row that does not have its format's form.
const (
	brokenTooLong   = "The row is longer than 1 MiB."
	brokenUTF8      = "The row is not in UTF-8."
	brokenQuote     = "A quotation mark stands inside a field that does not begin with one: write it twice, and the field between two more."
	brokenClosed    = "Text follows the quotation mark that ends a field."
	brokenOpen      = "A field begins with a quotation mark, and none ends it."
	brokenFields    = "The row does not have as many fields as the header."
	brokenObject    = "The line is not one JSON object."
	brokenSurrogate = "The line holds half of a surrogate pair, which is no character."
	brokenUnknown   = "The object has a key that is not known, which --ignore-unknown ignores."
)

// Row is one row of a file.
type Row struct {
	grahak.ImportRow
	// Raw is the row as it stands in the file, without the end of the line, cut
	// off if it is too long.
	Raw string
}

// Options are how a file is read.
type Options struct {
	// Format is the file's; an empty one is told by the content.
	Format Format
	// IgnoreUnknown reads over columns and keys that no customer has.
	IgnoreUnknown bool
	// NoNumber reads files without the column mobile_number, too.
	NoNumber bool
}

// nonsense is how many rows a file may begin with that do not have the form of
// its format.
const nonsense = 50

// Reader reads the rows of a file. It is for one goroutine, and needs the same
// memory for any file: a few times [MaxRow] at most.
type Reader struct {
	// Format is the file's.
	Format Format

	src    source
	next   func() (Row, error)
	opts   Options
	broken int // rows so far, while all of them are broken; then -1
	// firstBroken is the first row, if it is broken.
	firstBroken grahak.ImportRow

	columns []column // of CSV
	own     bool     // it is a file of rejected rows
	spans   []span   // of the record that was read last
	first   bool     // no object was read yet
}

// NewReader returns a Reader of r, which is unpacked if it is gzip. It returns
// an error that is a sentence if r is no file of customers, and r's own.
func NewReader(r io.Reader, opts Options) (*Reader, error) {
	text, err := unpack(r)
	if err != nil {
		return nil, err
	}
	d := &Reader{Format: opts.Format, opts: opts, src: source{r: text, line: 1}, first: true}
	if err := d.sniff(); err != nil {
		return nil, err
	}
	d.next = d.nextObject
	if d.Format == CSV {
		d.next = d.nextRecord
		if err := d.header(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// unpack returns what is packed in r, or r.
func unpack(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := b.Peek(3); !bytes.Equal(magic, []byte{0x1f, 0x8b, 8}) {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, damaged(err)
	}
	return unpacked{z}, nil
}

// unpacked says of errors of gzip what they mean.
type unpacked struct{ *gzip.Reader }

// Read implements [io.Reader].
func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	return n, damaged(err)
}

func damaged(err error) error {
	switch {
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the gzip file is damaged or cut off: make it again")
	case err != nil && strings.HasPrefix(err.Error(), "flate: "):
		return errors.New("the gzip file is damaged: make it again")
	}
	return err
}

// sniff looks at the beginning of the file, passes over its byte order mark and
// tells the format.
func (d *Reader) sniff() error {
	start, err := d.src.peek(4 << 10)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(start, []byte("\xef\xbb\xbf")) {
		start = start[3:]
		d.src.pos += 3
	}
	text := bytes.TrimLeft(start, " \t\r\n")
	begins := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if len(text) >= len(p) && strings.EqualFold(string(text[:len(p)]), p) {
				return true
			}
		}
		return false
	}
	switch {
	case len(text) == 0:
		return errors.New("the file is empty")
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return errors.New("the file is in UTF-16: save it as CSV in UTF-8")
	case begins("PK\x03\x04", "\xd0\xcf\x11\xe0"):
		return errors.New("the file is a spreadsheet or an archive: save it as CSV in UTF-8")
	case bytes.IndexByte(start, 0) >= 0:
		return errors.New("the file is not text: give CSV with a header, or NDJSON, or either packed by gzip")
	case begins("<!doctype", "<html", "<?xml", "<head", "<body"):
		return errors.New("the file is an HTML or XML page: give CSV with a header, or NDJSON")
	case begins("["):
		return errors.New("the file is one JSON array: write each of its objects on a line of its own, as jq -c '.[]' does")
	}
	if d.Format == "" {
		d.Format = CSV
		if text[0] == '{' {
			d.Format = NDJSON
		}
	}
	return nil
}

// Next returns the next row, or [io.EOF]. A row that does not have its format's
// form is returned with what is wrong in Broken, and the reader goes on behind it.
// If the file begins with nothing but such rows, that is an error.
func (d *Reader) Next() (Row, error) {
	row, err := d.next()
	switch {
	case d.broken < 0:
	case err == nil && row.Broken == "":
		d.broken = -1
	case err == nil:
		if d.broken == 0 {
			d.firstBroken = row.ImportRow
		}
		d.broken++
	}
	if d.broken >= nonsense || d.broken > 1 && errors.Is(err, io.EOF) {
		form := "CSV with the columns of its header"
		if d.Format == NDJSON {
			form = "NDJSON, which has a JSON object on every line"
		}
		return Row{}, fmt.Errorf("none of the first %d rows is %s; line %d: %s", d.broken, form, d.firstBroken.Line, d.firstBroken.Broken)
	}
	return row, err
}

// input returns what stands in a field as the value of a request.
func input(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }

// absent reports whether value is what clients write for a value that there is
// not, in fields in which it is no value (wire.md §3).
func absent(value string) bool { return value == "undefined" || value == "null" }

// set gives row the value of a column or key, and reports whether a customer has
// one of that name.
func set(row *grahak.ImportRow, name string, in grahak.Input) bool {
	switch name {
	case "id":
		row.ID = in
	case "object_reference_id":
		row.Customer.Reference = in
	case "mobile_number":
		row.Customer.MobileNumber = in
	case "mobile_country_code":
		if !absent(in.Value) {
			row.Customer.MobileCountryCode = in
		}
	case "email_address":
		if !absent(in.Value) {
			row.Customer.Email = in
		}
	case "first_name":
		row.Customer.FirstName = in
	case "last_name":
		row.Customer.LastName = in
	case "date_created":
		row.CreatedAt = in
	case "last_updated":
		row.UpdatedAt = in
	default:
		return false
	}
	return true
}

// Columns of a file of rejected rows, which stand before the others.
const (
	rejectedLine   = "rejected_line"
	rejectedReason = "rejected_reason"
	rejectedText   = "rejected_text"
)

// passed reports whether a column or key tells nothing of a customer that can be
// brought.
func passed(name string) bool {
	switch name {
	case "object", "juspay", "revision", rejectedLine, rejectedReason, rejectedText:
		return true
	}
	return false
}

// known names what a file may have, for an error.
const known = "id, object_reference_id, mobile_number, mobile_country_code, email_address, first_name, last_name, date_created, last_updated, metadata and, in CSV, metadata.KEY"

// display returns a name out of a file for an error.
func display(name string) string {
	const longest = 48
	if utf8.RuneCountInString(name) > longest {
		name = string([]rune(name)[:longest]) + "…"
	}
	return fmt.Sprintf("%q", name)
}

// unknownNames is the error for columns or keys that no customer has.
func unknownNames(what string, names []string) error {
	const most = 8
	shown := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		shown = append(shown, display(name))
	}
	list := strings.Join(shown, ", ")
	if len(names) > most {
		list += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return fmt.Errorf("unknown %s %s: known are %s; name them so, or give --ignore-unknown", what, list, known)
}
