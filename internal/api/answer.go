package api

import (
	"strconv"
	"time"
	"unicode/utf8"

	"grahak"
)

// appendResult appends the customer object of wire.md §4, with the token if
// there is one.
func appendResult(buf []byte, r grahak.CustomerResult) []byte {
	buf = appendMembers(buf, r.Customer)
	if r.Token != nil {
		buf = append(buf, `,"juspay":{"client_auth_token":`...)
		buf = appendString(buf, r.Token.Value)
		buf = append(buf, `,"client_auth_token_expiry":`...)
		buf = appendTime(buf, r.Token.ExpiresAt)
		buf = append(buf, '}')
	}
	return append(buf, '}')
}

// appendMembers appends the customer object without its closing brace.
func appendMembers(buf []byte, c grahak.Customer) []byte {
	buf = append(buf, `{"id":`...)
	buf = appendString(buf, string(c.ID))
	buf = append(buf, `,"object":"customer","object_reference_id":`...)
	buf = appendString(buf, c.Reference)
	buf = append(buf, `,"mobile_country_code":`...)
	buf = appendString(buf, c.MobileCountryCode)
	buf = append(buf, `,"mobile_number":`...)
	buf = appendString(buf, c.MobileNumber)
	buf = append(buf, `,"email_address":`...)
	buf = appendOptional(buf, c.Email)
	buf = append(buf, `,"first_name":`...)
	buf = appendOptional(buf, c.FirstName)
	buf = append(buf, `,"last_name":`...)
	buf = appendOptional(buf, c.LastName)
	buf = append(buf, `,"date_created":`...)
	buf = appendTime(buf, c.CreatedAt)
	buf = append(buf, `,"last_updated":`...)
	buf = appendTime(buf, c.UpdatedAt)
	if c.Metadata == (grahak.Metadata{}) {
		return buf
	}
	buf = append(buf, `,"metadata":`...)
	separator := byte('{')
	for key, text := range c.Metadata.All() {
		buf = append(buf, separator)
		buf = appendString(buf, key)
		buf = append(buf, ':')
		buf = appendString(buf, text)
		separator = ','
	}
	return append(buf, '}')
}

// appendErased appends the answer to an erase (wire.md §4).
func appendErased(buf []byte, id grahak.CustomerID) []byte {
	buf = append(buf, `{"id":`...)
	buf = appendString(buf, string(id))
	return append(buf, `,"object":"customer","deleted":true}`...)
}

// appendPage appends the list object of wire.md §4.
func appendPage(buf []byte, p grahak.CustomerPage, offset int) []byte {
	buf = append(buf, `{"object":"list","list":[`...)
	for i, c := range p.Customers {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendMembers(buf, c), '}')
	}
	buf = append(buf, `],"count":`...)
	buf = strconv.AppendInt(buf, int64(len(p.Customers)), 10)
	buf = append(buf, `,"offset":`...)
	buf = strconv.AppendInt(buf, int64(offset), 10)
	buf = append(buf, `,"total":`...)
	buf = strconv.AppendInt(buf, p.Total, 10)
	buf = append(buf, `,"next":`...)
	buf = appendOptional(buf, p.Next)
	return append(buf, '}')
}

// appendTime appends t in UTC and whole seconds, because a strict client
// refuses fractions.
func appendTime(buf []byte, t time.Time) []byte {
	buf = append(buf, '"')
	buf = t.UTC().AppendFormat(buf, time.RFC3339)
	return append(buf, '"')
}

// appendOptional appends s, or null for an empty one.
func appendOptional(buf []byte, s string) []byte {
	if s == "" {
		return append(buf, "null"...)
	}
	return appendString(buf, s)
}

// appendString appends s as a JSON string. s is valid UTF-8.
func appendString(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' || c >= utf8.RuneSelf {
			continue
		}
		buf = append(buf, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			buf = append(buf, '\\', c)
		default:
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	buf = append(buf, s[start:]...)
	return append(buf, '"')
}
