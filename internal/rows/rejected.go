package rows

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"grahak"
)

// RejectedHeader returns what a file begins with that takes rejected rows of d's:
// the header of CSV, with columns for the line and the reason before the others.
func (d *Reader) RejectedHeader() string {
	if d.Format != CSV {
		return ""
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(append([]string{rejectedLine, rejectedReason}, d.Header()...))
	w.Flush()
	return b.String()
}

// RejectedStart returns what every file of rejected rows of d's begins with.
func (d *Reader) RejectedStart() string {
	if d.Format == CSV {
		return d.RejectedHeader()
	}
	return `{"` + rejectedLine + `":`
}

// Rejected returns row, which d has read, as it stands in a file of rejected rows:
// as it was, with its line and the reason before it. A Reader takes such a file as
// one with the rows themselves.
func (d *Reader) Rejected(row Row, reason string) string {
	if d.Format == CSV {
		return strconv.FormatInt(row.Line, 10) + `,"` + strings.ReplaceAll(reason, `"`, `""`) + `",` + row.Raw + "\n"
	}
	start := fmt.Sprintf(`{"%s":%d,"%s":%s`, rejectedLine, row.Line, rejectedReason, quote(reason))
	object := strings.TrimSpace(row.Raw)
	if checkObject([]byte(object)) != "" {
		return start + `,"` + rejectedText + `":` + quote(row.Raw) + "}\n"
	}
	rest := strings.TrimLeft(object[1:], " \t\r")
	if rest != "}" {
		start += ","
	}
	return start + rest + "\n"
}

// quote returns text as a string of JSON.
func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // A string has no way to fail.
	return strings.TrimSuffix(b.String(), "\n")
}

// names are the columns that fields stand in.
var names = map[grahak.Field]string{
	grahak.FieldReference: "object_reference_id",
	grahak.FieldCreatedAt: "date_created",
	grahak.FieldUpdatedAt: "last_updated",
}

// Name returns the column or key in which a field stands in a file.
func Name(f grahak.Field) string {
	if name := names[f]; name != "" {
		return name
	}
	return f.String()
}

// Value returns what row says of a field, empty for what has no one value.
func Value(row grahak.ImportRow, f grahak.Field) string {
	switch f {
	case grahak.FieldReference:
		return row.Customer.Reference.Value
	case grahak.FieldMobileNumber:
		return row.Customer.MobileNumber.Value
	case grahak.FieldMobileCountryCode:
		return row.Customer.MobileCountryCode.Value
	case grahak.FieldEmail:
		return row.Customer.Email.Value
	case grahak.FieldFirstName:
		return row.Customer.FirstName.Value
	case grahak.FieldLastName:
		return row.Customer.LastName.Value
	case grahak.FieldID:
		return row.ID.Value
	case grahak.FieldCreatedAt:
		return row.CreatedAt.Value
	case grahak.FieldUpdatedAt:
		return row.UpdatedAt.Value
	}
	return ""
}

// Mask returns a value so that who has the file knows it again and nobody else
// learns it: how long it is and, of a long one, its first and last character.
func Mask(value string) string {
	const long = 6
	n := utf8.RuneCountInString(value)
	if n < long {
		if n == 1 {
			return "1 character"
		}
		return fmt.Sprintf("%d characters", n)
	}
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	return fmt.Sprintf("%s…%s, %d characters", visible(first), visible(last), n)
}

// visible returns r, or how it is written in a string if it cannot be seen.
func visible(r rune) string {
	if unicode.IsGraphic(r) && r != utf8.RuneError {
		return string(r)
	}
	return strings.Trim(strconv.QuoteRuneToASCII(r), "'")
}
