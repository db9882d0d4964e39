package rows_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/rows"
)

// FuzzReader holds what is true of any file: it is read to its end, the same way
// in whatever pieces it comes, every byte of it is in one row at most, rows that were
// rejected are read again as they were, and what encoding/csv reads without an
// error is read as the same.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", head, head + "a,1\n", head + "\"a\nb\"\"\",1\r\n\"c,2\nd,3", head + "a\"b\n\"c\"d,\n", "\xef\xbb\xbf" + head + "a,1\n,\n",
		"object_reference_id,mobile_number,metadata,metadata.k\na,1,\"{\"\"a\"\":[1,{}]}\",x\n",
		`{"object_reference_id":"a","mobile_number":1,"metadata":{"a":"\u00e9\ud83d\ude00","b":[{"c":"}"}],"d":-1e5}}` + "\n{\n",
		"rejected_line,rejected_reason," + head + "1,\"x\",a,1\n2,x\n", "\x1f\x8b\x08", "<html>", "[{}]", "a;b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			return // A short file may unpack to a very long one.
		}
		opts := rows.Options{IgnoreUnknown: true, NoNumber: true}
		list, format, err := read(bytes.NewReader(data), opts)
		again, formatAgain, errAgain := read(iotest.OneByteReader(bytes.NewReader(data)), opts)
		if diff := cmp.Diff(list, again); diff != "" || format != formatAgain || (err == nil) != (errAgain == nil) {
			t.Fatalf("read byte by byte it is %q (%v), not %q (%v); rows (-want +got):\n%s", formatAgain, errAgain, format, err, diff)
		}
		size, line := 0, int64(0)
		for _, row := range list {
			size += len(row.Raw)
			if row.Line <= line {
				t.Fatalf("line %d follows line %d", row.Line, line)
			}
			line = row.Line
		}
		if size > len(data) {
			t.Fatalf("the rows have %d bytes of %d", size, len(data))
		}
		if err != nil {
			return
		}
		rejectAll(t, data, opts, list)
		if format == rows.CSV {
			likeStandard(t, data, list)
		}
	})
}

// rejectAll rejects all rows, and reads what comes of it.
func rejectAll(t *testing.T, data []byte, opts rows.Options, list []rows.Row) {
	d, err := rows.NewReader(bytes.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	text := d.RejectedHeader()
	for _, row := range list {
		if row.Broken != "" {
			continue
		}
		text += d.Rejected(row, "wrong")
	}
	again, _, err := read(strings.NewReader(text), rows.Options{Format: d.Format, IgnoreUnknown: true, NoNumber: true})
	if err != nil && text != "" {
		t.Fatalf("what was rejected is not read again: %v\n%q", err, text)
	}
	var want []rows.Row
	for _, row := range list {
		if row.Broken == "" {
			want = append(want, row)
		}
	}
	for i := range want {
		want[i].Line, want[i].Raw = 0, ""
	}
	for i := range again {
		again[i].Line, again[i].Raw = 0, ""
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Fatalf("what was rejected is read again as (-want +got):\n%s\n%q", diff, text)
	}
}

// likeStandard compares the number of rows with those of encoding/csv, if that
// finds nothing wrong.
func likeStandard(t *testing.T, data []byte, list []rows.Row) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	n := -1 // the header
	for {
		_, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
		n++
	}
	if n != len(list) {
		t.Fatalf("%d rows, and encoding/csv has %d", len(list), n)
	}
	for _, row := range list {
		if row.Broken != "" && row.Broken != "The row is not in UTF-8." {
			t.Fatalf("line %d: %s; encoding/csv finds nothing wrong", row.Line, row.Broken)
		}
	}
}
