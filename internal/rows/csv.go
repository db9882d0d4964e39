package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"grahak"
)

// column is what stands in a column of a CSV file.
type column struct {
	name     string
	metadata string // the key, in a column metadata.KEY
	skip     bool
}

// span is where a field stands in its row.
type span struct {
	start, end int
	quoted     bool // start and end are those of what is between the quotation marks
	escaped    bool // there are quotation marks in it, each twice
}

// in returns the field's value.
func (s span) in(raw string) string {
	text := raw[s.start:s.end]
	if s.escaped {
		text = strings.ReplaceAll(text, `""`, `"`)
	}
	return text
}

// after returns where the field behind this one begins in its row.
func (s span) after() int {
	if s.quoted {
		return s.end + 2
	}
	return s.end + 1
}

// outcome is what became of an attempt to read a record.
type outcome string

const (
	whole    outcome = ""
	needMore outcome = "more" // the record goes on behind what is there
)

// split finds the fields of the record that data begins with, and how long it is
// with its end. If it is broken, the outcome says of what, and the length is that
// up to there. more says that text may follow data.
func split(data []byte, fields []span, more bool) ([]span, int, outcome) {
	fields = fields[:0]
	for at := 0; ; {
		field := span{start: at}
		if at < len(data) && data[at] == '"' {
			field = span{start: at + 1, quoted: true}
			at++
			for {
				i := bytes.IndexByte(data[at:], '"')
				if i < 0 || more && at+i+1 == len(data) {
					if more {
						return fields, 0, needMore
					}
					return fields, at, brokenOpen
				}
				at += i + 1
				if at == len(data) || data[at] != '"' {
					break
				}
				field.escaped = true
				at++
			}
			field.end = at - 1
			if bytes.HasPrefix(data[at:], []byte("\r\n")) {
				at++
			}
			if at < len(data) && data[at] != ',' && data[at] != '\n' {
				if more && data[at] == '\r' && at+1 == len(data) {
					return fields, 0, needMore
				}
				return fields, at, brokenClosed
			}
		} else {
			for at < len(data) && data[at] != ',' && data[at] != '\n' {
				if data[at] == '"' {
					return fields, at, brokenQuote
				}
				at++
			}
			if at == len(data) && more {
				return fields, 0, needMore
			}
			field.end = at
			if at < len(data) && data[at] == '\n' && at > field.start && data[at-1] == '\r' {
				field.end--
			}
		}
		fields = append(fields, field)
		if at == len(data) {
			return fields, at, whole
		}
		at++
		if data[at-1] == '\n' {
			return fields, at, whole
		}
	}
}

// record reads the next record: what it is and the line that it begins in. Empty
// lines are passed over. A record that is broken is its first line, and the outcome
// says of what.
func (d *Reader) record() (raw string, line int64, broken outcome, err error) {
	for {
		end, err := d.src.lineEnd(0)
		line = d.src.line
		switch {
		case err != nil:
			return "", 0, "", err
		case end == 0:
			return "", 0, "", io.EOF
		case end < 0:
			raw, err = d.src.skipLine()
			return raw, line, brokenTooLong, err
		}
		if len(trimEnd(d.src.buf[d.src.pos:d.src.pos+end])) > 0 {
			break
		}
		d.src.take(end)
	}
	n, broken, err := d.extent()
	if err != nil {
		return "", 0, "", err
	}
	raw = d.src.take(n)
	if broken == whole && !utf8.ValidString(raw) {
		broken = brokenUTF8
	}
	return raw, line, broken, nil
}

// extent returns how long the record is that comes next, with its end, after
// splitting it; of a broken one it is the length of its first line.
func (d *Reader) extent() (n int, broken outcome, err error) {
	for {
		s := &d.src
		// What a quotation mark opens may go over many lines.
		d.spans, n, broken = split(s.buf[s.pos:s.end], d.spans, s.err == nil)
		switch {
		case broken == needMore && s.end-s.pos <= MaxRow:
			s.fill()
			if s.err != nil && !errors.Is(s.err, io.EOF) {
				return 0, "", s.err
			}
			continue
		case broken == needMore:
			broken = brokenOpen
		case broken == whole && s.within(n) < 0:
			broken = brokenOpen
		}
		first, err := s.lineEnd(0)
		if err != nil {
			return 0, "", err
		}
		if broken == whole && first < n && len(d.columns) > 0 && len(d.spans) != len(d.columns) && d.fits(first) {
			// A quotation mark that nobody has closed has swallowed other rows.
			broken = brokenOpen
		}
		if broken != whole {
			if n > first {
				// The quotation mark that was open is what is wrong.
				broken = brokenOpen
			}
			n = first
		}
		return n, broken, nil
	}
}

// fits reports whether the line that begins at byte from of what is there is a
// record by itself, with as many fields as the header.
func (d *Reader) fits(from int) bool {
	s := &d.src
	end, err := s.lineEnd(from)
	if err != nil || end <= from {
		return false
	}
	fields, _, broken := split(s.buf[s.pos+from:s.pos+end], nil, false)
	return broken == whole && len(fields) == len(d.columns)
}

// header reads the first record, and decides what stands in which column.
func (d *Reader) header() error {
	raw, line, broken, err := d.record()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case err != nil:
		return err
	case broken != whole:
		why := strings.ToLower(string(broken[:1])) + strings.TrimSuffix(string(broken[1:]), ".")
		return fmt.Errorf("the header in line %d cannot be read, because %s: give CSV in UTF-8 with a header, or NDJSON", line, why)
	}
	var unknown []string
	seen := make(map[string]bool, len(d.spans))
	twice := ""
	for _, s := range d.spans {
		c := column{name: s.in(raw)}
		key, isMetadata := strings.CutPrefix(c.name, "metadata.")
		switch {
		case isMetadata && key != "":
			c.metadata = key
		case c.name == "metadata", set(new(grahak.ImportRow), c.name, grahak.Input{}):
		default:
			c.skip = true
			if !passed(c.name) {
				unknown = append(unknown, c.name)
			}
		}
		if seen[c.name] && !c.skip {
			twice = c.name
		}
		seen[c.name] = true
		d.columns = append(d.columns, c)
	}
	switch {
	case len(unknown) == len(d.columns) && len(unknown) == 1 && strings.ContainsAny(unknown[0], ";\t|") && strings.Contains(unknown[0], "object_reference_id"):
		return errors.New("the columns are not separated by commas: save the file as CSV with commas")
	case len(unknown) == len(d.columns):
		// What stands there may be a person.
		return errors.New("the first line is not a header, because it names no column that is known: begin the file with a line such as object_reference_id,mobile_number,email_address,first_name,last_name")
	case len(unknown) > 0 && !d.opts.IgnoreUnknown:
		return unknownNames("columns", unknown)
	case twice != "":
		return fmt.Errorf("the column %s is there twice: keep one", display(twice))
	}
	var missing []string
	for _, name := range []string{"object_reference_id", "mobile_number"} {
		if !seen[name] && (name != "mobile_number" || !d.opts.NoNumber) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the header lacks %s, which every customer has: add what is missing", strings.Join(missing, " and "))
	}
	d.own = len(d.columns) > 2 && d.columns[0].name == rejectedLine && d.columns[1].name == rejectedReason
	return nil
}

// Header returns the names of a CSV file's columns as they are to stand before
// its rows.
func (d *Reader) Header() []string {
	names := make([]string, 0, len(d.columns))
	for _, c := range d.columns {
		names = append(names, c.name)
	}
	if d.own {
		names = slices.Delete(names, 0, 2)
	}
	return names
}

// nextRecord is Next for CSV.
func (d *Reader) nextRecord() (Row, error) {
	raw, line, broken, err := d.record()
	if err != nil {
		return Row{}, err
	}
	if broken == whole && len(d.spans) != len(d.columns) {
		broken = brokenFields
	}
	row := Row{ImportRow: grahak.ImportRow{Line: line, Broken: string(broken)}, Raw: raw}
	if d.own {
		row.Raw = d.withoutReason(raw, broken)
	}
	if broken != whole {
		return row, nil
	}
	for i, c := range d.columns {
		value := d.spans[i].in(raw)
		switch {
		case c.skip:
		case c.metadata != "":
			row.Customer.Metadata.Pairs = append(row.Customer.Metadata.Pairs, grahak.MetadataPair{Key: c.metadata, Value: value})
		case c.name == "metadata":
			setMetadata(&row.ImportRow, value)
		default:
			set(&row.ImportRow, c.name, input(value))
		}
	}
	return row, nil
}

// setMetadata gives row the metadata of a cell, which is a JSON object or blank.
func setMetadata(row *grahak.ImportRow, cell string) {
	data := []byte(cell)
	switch {
	case strings.TrimSpace(cell) == "":
		row.Customer.Metadata.Whole = input("")
	case checkObject(data) != "":
		row.Customer.Metadata.Whole = grahak.Input{Given: true, Malformed: true}
	default:
		row.Customer.Metadata.Pairs = append(row.Customer.Metadata.Pairs, pairs(data)...)
	}
}

// withoutReason returns a row of a file of rejected rows as it was.
func (d *Reader) withoutReason(raw string, broken outcome) string {
	// The first two fields are ours, however broken the rest is.
	if broken == brokenTooLong || len(d.spans) < 2 || d.spans[1].after() > len(raw) {
		return raw
	}
	return raw[d.spans[1].after():]
}
