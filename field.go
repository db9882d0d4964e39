package grahak

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Field names one of a customer's personal data, in the order in which
// problems with them are reported (wire.md §3).
type Field uint8

// The fields of a customer, from FieldCount on what else a request may hold, and from
// FieldID on those of an import.
const (
	FieldReference Field = iota
	FieldMobileNumber
	FieldMobileCountryCode
	FieldEmail
	FieldFirstName
	FieldLastName
	FieldMetadata
	FieldCount
	FieldOffset
	FieldCursor
	FieldCreatedAfter
	FieldCreatedBefore
	FieldBefore
	FieldType
	FieldCustomer
	FieldIdempotencyKey
	FieldID
	FieldCreatedAt
	FieldUpdatedAt
	FieldRow // the row as a whole
)

var fieldNames = [...]string{
	FieldReference:         "reference",
	FieldMobileNumber:      "mobile_number",
	FieldMobileCountryCode: "mobile_country_code",
	FieldEmail:             "email_address",
	FieldFirstName:         "first_name",
	FieldLastName:          "last_name",
	FieldMetadata:          "metadata",
	FieldCount:             "count",
	FieldOffset:            "offset",
	FieldCursor:            "cursor",
	FieldCreatedAfter:      "created_after",
	FieldCreatedBefore:     "created_before",
	FieldID:                "id",
	FieldCreatedAt:         "created_at",
	FieldUpdatedAt:         "updated_at",
	FieldRow:               "row",
	FieldIdempotencyKey:    "idempotency_key",
	FieldBefore:            "before",
	FieldType:              "type",
	FieldCustomer:          "customer",
}

// String returns the field's name as it stands in events.
func (f Field) String() string { return fieldNames[f] }

// ParseField is the inverse of [Field.String]; it reports false for another
// name.
func ParseField(name string) (Field, bool) {
	i := slices.Index(fieldNames[:], name)
	return Field(max(i, 0)), i >= 0
}

// Limits of the fields, in Unicode code points (wire.md §3).
const (
	MaxReference    = 128
	MaxMobileNumber = 16
	MaxCountryCode  = 4
	MaxEmail        = 128
	MaxName         = 64
)

// validText reports whether s is valid UTF-8 of at most limit code points
// without control characters.
func validText(s string, limit int) bool {
	if !utf8.ValidString(s) || (len(s) > limit && utf8.RuneCountInString(s) > limit) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return strings.IndexFunc(s[i:], unicode.IsControl) < 0
		}
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// validDigits reports whether s is 1 to limit ASCII digits.
func validDigits(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// validEmail implements the e-mail rule of wire.md §3. Combining marks count
// as letters, since scripts such as Devanagari cannot be written without them.
func validEmail(s string) bool {
	if !validText(s, MaxEmail) {
		return false
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || strings.Contains(domain, "@") {
		return false
	}
	if strings.IndexFunc(domain, unicode.IsSpace) >= 0 {
		return false
	}
	for _, end := range []byte{local[0], local[len(local)-1]} {
		if end == '_' || end == '.' {
			return false
		}
	}
	for _, r := range local {
		switch {
		case r < utf8.RuneSelf && strings.IndexByte("!#$%&'*+-/=?^_.{|}~`", byte(r)) >= 0:
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
		default:
			return false
		}
	}
	return true
}

// isBlank reports whether s is empty or white space only, which counts as
// empty (wire.md §3).
func isBlank(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] > ' ' && s[i] < utf8.RuneSelf {
			return false
		}
	}
	return strings.TrimSpace(s) == ""
}
