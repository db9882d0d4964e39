package rows

import (
	"bytes"
	"encoding/json"
	"io"
	"iter"
	"regexp"
	"unicode/utf8"

	"grahak"
)

// nextObject is Next for NDJSON.
func (d *Reader) nextObject() (Row, error) {
	for {
		end, err := d.src.lineEnd(0)
		row := Row{ImportRow: grahak.ImportRow{Line: d.src.line}}
		switch {
		case err != nil:
			return Row{}, err
		case end == 0:
			return Row{}, io.EOF
		case end < 0:
			row.Broken = brokenTooLong
			row.Raw, err = d.src.skipLine()
			return row, err
		}
		data := bytes.TrimSpace(d.src.buf[d.src.pos : d.src.pos+end])
		if len(data) == 0 {
			d.src.take(end)
			continue
		}
		var unknown []string
		if row.Broken = checkObject(data); row.Broken == "" {
			unknown = readObject(&row.ImportRow, data)
		}
		row.Raw = ownKeys.ReplaceAllString(d.src.take(end), "{")
		first := d.first
		d.first = false
		if len(unknown) > 0 && !d.opts.IgnoreUnknown {
			if first {
				return Row{}, unknownNames("keys", unknown)
			}
			row.ImportRow = grahak.ImportRow{Line: row.Line, Broken: brokenUnknown}
		}
		return row, nil
	}
}

// ownKeys is what a file of rejected rows has put into an object.
var ownKeys = regexp.MustCompile(`^\{"rejected_line":\d+,"rejected_reason":"(?:[^"\\]|\\.)*",?`)

// checkObject returns what is wrong with an object in JSON, nothing if nothing.
func checkObject(data []byte) string {
	switch {
	case !utf8.Valid(data):
		return brokenUTF8
	case len(data) == 0 || data[0] != '{' || !json.Valid(data):
		return brokenObject
	case hasLoneSurrogate(data):
		return brokenSurrogate
	}
	return ""
}

// readObject gives row what the object in data says, and returns the keys that no
// customer has. The first of equal keys counts, as on the wire.
func readObject(row *grahak.ImportRow, data []byte) (unknown []string) {
	var seen [16]string
	n := 0
	for key, value := range members(data) {
		again := false
		for _, s := range seen[:n] {
			again = again || s == key
		}
		if again || value[0] == 'n' {
			continue // null is as if the key were not there.
		}
		if n < len(seen) {
			seen[n] = key
			n++
		}
		switch {
		case key == "metadata":
			if value[0] == '{' {
				row.Customer.Metadata.Pairs = pairs(value)
			} else {
				text, ok := scalar(value)
				row.Customer.Metadata.Whole = grahak.Input{Value: text, Given: true, Malformed: !ok}
			}
		case passed(key):
		default:
			text, ok := scalar(value)
			if !set(row, key, grahak.Input{Value: text, Given: true, Malformed: !ok}) {
				unknown = append(unknown, key)
			}
		}
	}
	return unknown
}

// pairs returns the members of an object of metadata.
func pairs(data []byte) (list []grahak.MetadataPair) {
	for key, value := range members(data) {
		text, ok := scalar(value)
		list = append(list, grahak.MetadataPair{Key: key, Value: text, Malformed: !ok && value[0] != 'n'})
	}
	return list
}

// scalar returns the text of a value: of a string, or of a number of plain
// digits. It reports false for any other.
func scalar(value []byte) (string, bool) {
	if value[0] == '"' {
		return unquote(value), true
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return string(value), true
}

// unquote returns the text of a valid string of JSON.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // It was found valid.
	return text
}

// members returns the members of the object in data, which is valid JSON: keys,
// and values as they stand there.
func members(data []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		at := blank(data, 1)
		for data[at] != '}' {
			if data[at] == ',' {
				at = blank(data, at+1)
			}
			end := valueEnd(data, at)
			key := unquote(data[at:end])
			at = blank(data, blank(data, end)+1) // past the colon
			end = valueEnd(data, at)
			if !yield(key, data[at:end]) {
				return
			}
			at = blank(data, end)
		}
	}
}

// blank returns where the white space at byte at ends.
func blank(data []byte, at int) int {
	for data[at] == ' ' || data[at] == '\t' || data[at] == '\r' || data[at] == '\n' {
		at++
	}
	return at
}

// valueEnd returns where the value that begins at byte at ends.
func valueEnd(data []byte, at int) int {
	depth := 0
	for {
		switch c := data[at]; c {
		case '"':
			for at++; data[at] != '"'; at++ {
				if data[at] == '\\' {
					at++
				}
			}
			at++
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		default:
			if depth > 0 {
				at++
				continue
			}
			// A number, true, false or null.
			for at < len(data) && bytes.IndexByte([]byte(",}] \t\r\n"), data[at]) < 0 {
				at++
			}
		}
		if depth == 0 {
			return at
		}
	}
}

// hasLoneSurrogate reports whether valid JSON escapes half of a surrogate pair,
// which is no character: encoding/json would replace it without a word.
func hasLoneSurrogate(data []byte) bool {
	high := false
	for i := bytes.IndexByte(data, '\\'); i >= 0 && i < len(data); i++ {
		if data[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		i++
		unit := rune(0)
		if data[i] == 'u' {
			for _, c := range data[i+1 : i+5] {
				unit = unit<<4 | hex(c)
			}
			i += 4
		}
		switch low := unit >= 0xDC00 && unit <= 0xDFFF; {
		case low != high:
			return true
		default:
			high = unit >= 0xD800 && unit <= 0xDBFF
		}
	}
	return high
}

// hex returns the value of a hexadecimal digit.
func hex(c byte) rune {
	switch {
	case c >= 'a':
		return rune(c-'a') + 10
	case c >= 'A':
		return rune(c-'A') + 10
	}
	return rune(c - '0')
}
