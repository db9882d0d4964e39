package rows_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/rows"
)

// given is a value that a file gives.
func given(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }

// malformed is a value that can be none.
var malformed = grahak.Input{Given: true, Malformed: true}

// read reads a file to its end.
func read(r io.Reader, opts rows.Options) (list []rows.Row, format rows.Format, err error) {
	d, err := rows.NewReader(r, opts)
	if err != nil {
		return nil, "", err
	}
	for {
		row, err := d.Next()
		if errors.Is(err, io.EOF) {
			return list, d.Format, nil
		}
		if err != nil {
			return list, d.Format, err
		}
		list = append(list, row)
	}
}

// row is a row with a reference and a number.
func row(line int64, raw, reference, number string) rows.Row {
	r := rows.Row{ImportRow: grahak.ImportRow{Line: line}, Raw: raw}
	r.Customer.Reference, r.Customer.MobileNumber = given(reference), given(number)
	return r
}

// broken is a row without the form of its format.
func broken(line int64, raw, why string) rows.Row {
	return rows.Row{ImportRow: grahak.ImportRow{Line: line, Broken: why}, Raw: raw}
}

const (
	head     = "object_reference_id,mobile_number\n"
	unclosed = "A field begins with a quotation mark, and none ends it."
	bare     = "A quotation mark stands inside a field that does not begin with one: write it twice, and the field between two more."
	behind   = "Text follows the quotation mark that ends a field."
	fields   = "The row does not have as many fields as the header."
	noObject = "The line is not one JSON object."
)

func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", rows.MaxRow)
	full := grahak.ImportRow{
		Line: 2, ID: given("cst_1"), CreatedAt: given("2020-03-17T14:13:37.123456Z"), UpdatedAt: given("2021-03-17T14:13:37Z"),
		Customer: grahak.CustomerInput{
			Reference: given("a@example.com"), MobileNumber: given("0998"), MobileCountryCode: given("+91"), Email: given("b@example.com"),
			FirstName: given("Asha"), LastName: given(""), Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{
				{Key: "plan", Value: `"gold"`}, {Key: "seats", Value: "12"}, {Key: "gone"}, {Key: "deep", Malformed: true}, {Key: "tier", Value: "é"},
			}},
		},
	}
	objectRow := full
	objectRow.Line = 1
	objectRow.Customer.LastName = grahak.Input{}
	for name, c := range map[string]struct {
		text string
		opts rows.Options
		want []rows.Row
	}{
		"CSV, no rows":              {text: head},
		"CSV, no end of line":       {text: head + "a,1", want: []rows.Row{row(2, "a,1", "a", "1")}},
		"CSV, CR LF and BOM":        {text: "\xef\xbb\xbfobject_reference_id,mobile_number\r\na,1\r\nb,2\r\n", want: []rows.Row{row(2, "a,1", "a", "1"), row(3, "b,2", "b", "2")}},
		"CSV, empty lines":          {text: "\n" + head + "\r\n\na,1\n\n", want: []rows.Row{row(5, "a,1", "a", "1")}},
		"CSV, quoted":               {text: `"object_reference_id","mobile_number"` + "\n" + `"a,""b""","1"` + "\r\n" + `"",2`, want: []rows.Row{row(2, `"a,""b""","1"`, `a,"b"`, "1"), row(3, `"",2`, "", "2")}},
		"CSV, a field over lines":   {text: head + "\"a\nb\r\nc\",1\nd,2\n", want: []rows.Row{row(2, "\"a\nb\r\nc\",1", "a\nb\r\nc", "1"), row(5, "d,2", "d", "2")}},
		"CSV, too few and too many": {text: head + "a\nb,2,3\nc,3\n", want: []rows.Row{broken(2, "a", fields), broken(3, "b,2,3", fields), row(4, "c,3", "c", "3")}},
		"CSV, bare quotation mark":  {text: head + "a\"b,1\nc,3\n", want: []rows.Row{broken(2, `a"b,1`, bare), row(3, "c,3", "c", "3")}},
		"CSV, text behind":          {text: head + "\"a\"b,1\nc,3\n", want: []rows.Row{broken(2, `"a"b,1`, behind), row(3, "c,3", "c", "3")}},
		"CSV, never closed":         {text: head + "\"a,1\nb,2\nc,3\n", want: []rows.Row{broken(2, `"a,1`, unclosed), row(3, "b,2", "b", "2"), row(4, "c,3", "c", "3")}},
		"CSV, closed by the next":   {text: head + "\"a,1\n\"b\",2\nc,3\n", want: []rows.Row{broken(2, `"a,1`, unclosed), row(3, `"b",2`, "b", "2"), row(4, "c,3", "c", "3")}},
		"CSV, swallowed rows":       {text: head + "\"a,1\nb,2\nc\",\"3\"\n", want: []rows.Row{row(2, "\"a,1\nb,2\nc\",\"3\"", "a,1\nb,2\nc", "3")}},
		"CSV, swallowed and seen":   {text: head + "a,\"1\nb,2\nc,3\",\"4\"\n", want: []rows.Row{broken(2, `a,"1`, unclosed), row(3, "b,2", "b", "2"), broken(4, `c,3","4"`, bare)}},
		"CSV, over lines, one more": {text: head + "\"a\nb\",2,3\nc,3\n", want: []rows.Row{broken(2, "\"a\nb\",2,3", fields), row(4, "c,3", "c", "3")}},
		"CSV, not UTF-8":            {text: head + "a\xff,1\nc,3\n", want: []rows.Row{broken(2, "a\xff,1", "The row is not in UTF-8."), row(3, "c,3", "c", "3")}},
		"CSV, a row too long": {
			text: head + long + ",1\nc,3\n",
			want: []rows.Row{broken(2, long[:1<<10], "The row is longer than 1 MiB."), row(3, "c,3", "c", "3")},
		},
		"CSV, a row as long as may be": {text: head + long[2:] + ",1\r\nc,3\n", want: []rows.Row{row(2, long[2:]+",1", long[2:], "1"), row(3, "c,3", "c", "3")}},
		"CSV, a quotation mark that is never closed before much": {
			text: head + "\"a,1\n" + long + "\n" + long + "\nc,3\n",
			want: []rows.Row{broken(2, `"a,1`, unclosed), broken(3, long, fields), broken(4, long, fields), row(5, "c,3", "c", "3")},
		},
		"CSV, everything": {
			text: "id,object,object_reference_id,mobile_country_code,mobile_number,email_address,first_name,last_name,date_created,last_updated,metadata,metadata.tier\n" +
				`cst_1,customer,a@example.com,+91,0998,b@example.com,Asha,,2020-03-17T14:13:37.123456Z,2021-03-17T14:13:37Z,"{""plan"":""\""gold\"""",""seats"":12, ""gone"":null,""deep"":{""x"":[1]}}",é` + "\n",
			want: []rows.Row{{ImportRow: full, Raw: `cst_1,customer,a@example.com,+91,0998,b@example.com,Asha,,2020-03-17T14:13:37.123456Z,2021-03-17T14:13:37Z,"{""plan"":""\""gold\"""",""seats"":12, ""gone"":null,""deep"":{""x"":[1]}}",é`}},
		},
		"CSV, what stands for nothing": {
			text: "object_reference_id,mobile_number,email_address,mobile_country_code,first_name,metadata\na,1,null,undefined,null, \nb,2,c@example.com,91,,[1]\n",
			want: func() []rows.Row {
				one, two := row(2, "a,1,null,undefined,null, ", "a", "1"), row(3, "b,2,c@example.com,91,,[1]", "b", "2")
				one.Customer.FirstName, one.Customer.Metadata.Whole = given("null"), given("")
				two.Customer.Email, two.Customer.MobileCountryCode, two.Customer.FirstName = given("c@example.com"), given("91"), given("")
				two.Customer.Metadata.Whole = malformed
				return []rows.Row{one, two}
			}(),
		},
		"CSV, unknown columns ignored": {
			text: "shoe,object_reference_id,mobile_number,shoe\n44,a,1,45\n", opts: rows.Options{IgnoreUnknown: true},
			want: []rows.Row{row(2, "44,a,1,45", "a", "1")},
		},
		"CSV, without a number": {
			text: "object_reference_id\na\n", opts: rows.Options{NoNumber: true},
			want: func() []rows.Row {
				r := row(2, "a", "a", "")
				r.Customer.MobileNumber = grahak.Input{}
				return []rows.Row{r}
			}(),
		},
		"CSV, rejected before": {
			text: "rejected_line,rejected_reason," + head + "17,\"wrong, \"\"so\"\"\",a,1\n18,x,\"b\n",
			want: []rows.Row{row(2, "a,1", "a", "1"), broken(3, `"b`, unclosed)},
		},
		"NDJSON": {
			text: `{"object_reference_id":"a","mobile_number":1}` + "\r\n\n  " + `{"mobile_number" : "2" , "object_reference_id":"b\u00e9\n"} ` + "\n",
			want: []rows.Row{
				row(1, `{"object_reference_id":"a","mobile_number":1}`, "a", "1"),
				row(3, `  {"mobile_number" : "2" , "object_reference_id":"b\u00e9\n"} `, "bé\n", "2"),
			},
		},
		"NDJSON, everything": {
			text: `{"id":"cst_1","object":"customer","object_reference_id":"a@example.com","mobile_country_code":"+91","mobile_number":"0998","email_address":"b@example.com","first_name":"Asha","last_name":null,"date_created":"2020-03-17T14:13:37.123456Z","last_updated":"2021-03-17T14:13:37Z","metadata":{"plan":"\"gold\"","seats":12,"gone":null,"deep":{"x":[1,"}"]},"tier":"é"},"juspay":{"client_auth_token":"x"},"revision":3}`,
			want: []rows.Row{{ImportRow: objectRow, Raw: `{"id":"cst_1","object":"customer","object_reference_id":"a@example.com","mobile_country_code":"+91","mobile_number":"0998","email_address":"b@example.com","first_name":"Asha","last_name":null,"date_created":"2020-03-17T14:13:37.123456Z","last_updated":"2021-03-17T14:13:37Z","metadata":{"plan":"\"gold\"","seats":12,"gone":null,"deep":{"x":[1,"}"]},"tier":"é"},"juspay":{"client_auth_token":"x"},"revision":3}`}},
		},
		"NDJSON, values that are none": {
			text: `{"object_reference_id":["a"],"object_reference_id":"b","mobile_number":-1.5,"metadata":[],"mobile_number":"2"}` + "\n{}\n",
			want: func() []rows.Row {
				r := rows.Row{ImportRow: grahak.ImportRow{Line: 1}, Raw: `{"object_reference_id":["a"],"object_reference_id":"b","mobile_number":-1.5,"metadata":[],"mobile_number":"2"}`}
				r.Customer.Reference, r.Customer.MobileNumber, r.Customer.Metadata.Whole = malformed, malformed, malformed
				return []rows.Row{r, {ImportRow: grahak.ImportRow{Line: 2}, Raw: "{}"}}
			}(),
		},
		"NDJSON, broken lines": {
			text: `{"object_reference_id":"a","mobile_number":"1"}` + "\n{\nnull\n[1]\n{\"a\":1} {}\n{\"object_reference_id\":\"\xff\"}\n{\"object_reference_id\":\"\\ud800x\"}\n{\"object_reference_id\":\"\\udc00\"}\n{\"object_reference_id\":\"\\ud83d\\ude00\",\"mobile_number\":\"2\"}\n" + long + "x\n{\"object_reference_id\":\"c\",\"mobile_number\":\"3\"}",
			want: []rows.Row{
				row(1, `{"object_reference_id":"a","mobile_number":"1"}`, "a", "1"),
				broken(2, "{", noObject), broken(3, "null", noObject), broken(4, "[1]", noObject), broken(5, `{"a":1} {}`, noObject),
				broken(6, "{\"object_reference_id\":\"\xff\"}", "The row is not in UTF-8."),
				broken(7, `{"object_reference_id":"\ud800x"}`, "The line holds half of a surrogate pair, which is no character."),
				broken(8, `{"object_reference_id":"\udc00"}`, "The line holds half of a surrogate pair, which is no character."),
				row(9, `{"object_reference_id":"\ud83d\ude00","mobile_number":"2"}`, "😀", "2"),
				broken(10, long[:1<<10], "The row is longer than 1 MiB."),
				row(11, `{"object_reference_id":"c","mobile_number":"3"}`, "c", "3"),
			},
		},
		"NDJSON, an unknown key later": {
			text: `{"object_reference_id":"a","mobile_number":"1"}` + "\n" + `{"object_reference_id":"b","mobile_number":"2","shoe":44}`,
			want: []rows.Row{
				row(1, `{"object_reference_id":"a","mobile_number":"1"}`, "a", "1"),
				broken(2, `{"object_reference_id":"b","mobile_number":"2","shoe":44}`, "The object has a key that is not known, which --ignore-unknown ignores."),
			},
		},
		"NDJSON, unknown keys ignored": {
			text: `{"object_reference_id":"a","mobile_number":"1","shoe":{"size":[44]}}`, opts: rows.Options{IgnoreUnknown: true},
			want: []rows.Row{row(1, `{"object_reference_id":"a","mobile_number":"1","shoe":{"size":[44]}}`, "a", "1")},
		},
		"NDJSON, rejected before": {
			text: `{"rejected_line":17,"rejected_reason":"wrong, \"so\"","object_reference_id":"a","mobile_number":"1"}` + "\n" + `{"rejected_line":18,"rejected_reason":"x"}`,
			want: []rows.Row{row(1, `{"object_reference_id":"a","mobile_number":"1"}`, "a", "1"), {ImportRow: grahak.ImportRow{Line: 2}, Raw: "{}"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			format := rows.CSV
			if strings.HasPrefix(name, "NDJSON") {
				format = rows.NDJSON
			}
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, _ = io.WriteString(z, c.text)
			_ = z.Close()
			for how, r := range map[string]io.Reader{
				"at once": strings.NewReader(c.text), "in pieces": iotest.HalfReader(strings.NewReader(c.text)),
				"packed": &packed, "end with the data": iotest.DataErrReader(strings.NewReader(c.text)),
			} {
				got, told, err := read(r, c.opts)
				if err != nil || told != format {
					t.Errorf("%s: told as %q (%v), want %q", how, told, err, format)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s: rows (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, head+strings.Repeat("a,1\n", 1000))
	_ = z.Close()
	const known = ": known are id, object_reference_id, mobile_number, mobile_country_code, email_address, first_name, last_name, date_created, last_updated, metadata and, in CSV, metadata.KEY; name them so, or give --ignore-unknown"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":             {"", "the file is empty"},
		"white space":         {" \n\r\n", "the file is empty"},
		"a byte order mark":   {"\xef\xbb\xbf", "the file is empty"},
		"UTF-16":              {"\xff\xfeo\x00b\x00", "the file is in UTF-16: save it as CSV in UTF-8"},
		"a spreadsheet":       {"PK\x03\x04\x14\x00", "the file is a spreadsheet or an archive: save it as CSV in UTF-8"},
		"binary":              {"\x7fELF\x02\x01\x00", "the file is not text: give CSV with a header, or NDJSON, or either packed by gzip"},
		"a page":              {"\n <!DOCTYPE html>\n<html>", "the file is an HTML or XML page: give CSV with a header, or NDJSON"},
		"an array":            {`[{"object_reference_id":"a"}]`, "the file is one JSON array: write each of its objects on a line of its own, as jq -c '.[]' does"},
		"semicolons":          {"object_reference_id;mobile_number\na;1\n", "the columns are not separated by commas: save the file as CSV with commas"},
		"no header":           {"asha@example.com,9988776655\n", "the first line is not a header, because it names no column that is known: begin the file with a line such as object_reference_id,mobile_number,email_address,first_name,last_name"},
		"unknown columns":     {"object_reference_id,mobile_number,shoe,\"Hat\nsize\"\n", `unknown columns "shoe", "Hat\nsize"` + known},
		"many":                {head[:len(head)-1] + ",a,b,c,d,e,f,g,h,i,j\n", `unknown columns "a", "b", "c", "d", "e", "f", "g", "h" and 2 more` + known},
		"a long one":          {head[:len(head)-1] + "," + strings.Repeat("é", 49), `unknown columns "` + strings.Repeat("é", 48) + `…"` + known},
		"missing":             {"first_name\nAsha\n", "the header lacks object_reference_id and mobile_number, which every customer has: add what is missing"},
		"no number":           {"object_reference_id\na\n", "the header lacks mobile_number, which every customer has: add what is missing"},
		"twice":               {"object_reference_id,mobile_number,object_reference_id\n", `the column "object_reference_id" is there twice: keep one`},
		"a broken header":     {"object_reference_id,\"mobile_number\n", "the header in line 1 cannot be read, because a field begins with a quotation mark, and none ends it: give CSV in UTF-8 with a header, or NDJSON"},
		"unknown keys":        {`{"object_reference_id":"a","mobile_number":"1","shoe":44}`, `unknown keys "shoe"` + known},
		"an object over many": {"{\n\"object_reference_id\":\"a\"\n}\n", "none of the first 3 rows is NDJSON, which has a JSON object on every line; line 1: " + noObject},
		"no rows of CSV":      {"object_reference_id,mobile_number\n" + strings.Repeat("some prose\n", 60), "none of the first 50 rows is CSV with the columns of its header; line 2: " + fields},
		"gzip, cut off":       {packed.String()[:packed.Len()-9], "the gzip file is damaged or cut off: make it again"},
		"gzip, altered":       {packed.String()[:packed.Len()-6] + "\x00" + packed.String()[packed.Len()-5:], "the gzip file is damaged or cut off: make it again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(strings.NewReader(c.text), rows.Options{})
			if err == nil || err.Error() != c.want {
				t.Errorf("got error %v\nwant %s", err, c.want)
			}
		})
	}
}

// A file whose reader fails is not taken for one that ends there.
func TestReadFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("the disk is on fire")
	for _, text := range []string{"", head, head + "a,1\nb", head + `"a`, `{"object_reference_id":"a","mobile_number":"1"}` + "\n{"} {
		if _, _, err := read(io.MultiReader(strings.NewReader(text), iotest.ErrReader(fault)), rows.Options{}); !errors.Is(err, fault) {
			t.Errorf("%q: got error %v", text, err)
		}
	}
}

// What was rejected can be mended and read again, and stands in the file as it was.
func TestRejected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"CSV": {
			head + "a,1\n\"b\nc\",2\n\"d,3\ne,4,5\n", `rejected_line,rejected_reason,object_reference_id,mobile_number
2,"wrong, ""so""",a,1
3,"wrong, ""so""","b
c",2
5,"wrong, ""so""","d,3
6,"wrong, ""so""",e,4,5
`,
		},
		"NDJSON": {
			`{"object_reference_id":"a"}` + "\n{ }\n" + `[<"x">]` + "\n", `{"rejected_line":1,"rejected_reason":"wrong, \"so\"","object_reference_id":"a"}
{"rejected_line":2,"rejected_reason":"wrong, \"so\""}
{"rejected_line":3,"rejected_reason":"wrong, \"so\"","rejected_text":"[<\"x\">]"}
`,
		},
	} {
		d, err := rows.NewReader(strings.NewReader(c.text), rows.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := d.RejectedHeader()
		var raw []string
		for row, err := d.Next(); !errors.Is(err, io.EOF); row, err = d.Next() {
			if err != nil {
				t.Fatal(err)
			}
			got += d.Rejected(row, `wrong, "so"`)
			raw = append(raw, row.Raw)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: rejected rows (-want +got):\n%s", name, diff)
		}
		again, _, err := read(strings.NewReader(got), rows.Options{})
		if err != nil || len(again) != len(raw) {
			t.Fatalf("%s: of %d rejected rows %d are read again (%v)", name, len(raw), len(again), err)
		}
		for i, row := range again[:2] {
			if row.Raw != strings.ReplaceAll(raw[i], "{ }", "{}") {
				t.Errorf("%s: %q is read again as %q", name, raw[i], row.Raw)
			}
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "0 characters", "9": "1 character", "99887": "5 characters", "998877": "9…7, 6 characters",
		"asha@example.com": "a…m, 16 characters", "éshaaé": "é…é, 6 characters", "\x00aaaa\xff": `\x00…\ufffd, 6 characters`,
	} {
		if got := rows.Mask(value); got != want {
			t.Errorf("Mask(%q) is %q, want %q", value, got, want)
		}
	}
}

// TestRejectedStart holds that a file of rejected rows is known by how it begins.
func TestRejectedStart(t *testing.T) {
	for _, text := range []string{"object_reference_id,mobile_number\na,x\n", `{"object_reference_id":"a"}` + "\n", "{\n" + `{"object_reference_id":"a"}` + "\n"} {
		d, err := rows.NewReader(strings.NewReader(text), rows.Options{})
		if err != nil {
			t.Fatal(err)
		}
		row, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		start, file := d.RejectedStart(), d.RejectedHeader()+d.Rejected(row, "It is missing.")
		if start == "" || strings.HasPrefix(text, start) || !strings.HasPrefix(file, start) {
			t.Errorf("a file of rejected rows begins with %q, and one is %q", start, file)
		}
	}
}
