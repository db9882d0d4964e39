package api

import (
	"strconv"
	"strings"

	"grahak"
	"grahak/internal/web"
)

// writeOptions returns what the headers of a write ask for, and whether a token is
// wanted.
func writeOptions(x *web.Exchange, token bool) grahak.WriteOptions {
	h := x.Request.Header
	return grahak.WriteOptions{Token: token, IdempotencyKey: idempotencyKey(h["Idempotency-Key"]), Match: match(h["If-Match"])}
}

// badKey is a key that the service refuses.
const badKey = "\x00"

// idempotencyKey returns the key in an Idempotency-Key header, empty if there is no
// such header. The draft has a quoted string (RFC 9651, section 3.3.3); clients send
// the bare text as well, which is the same key.
func idempotencyKey(values []string) string {
	if len(values) == 0 {
		return ""
	}
	key := strings.TrimSpace(values[0])
	for _, other := range values[1:] {
		if strings.TrimSpace(other) != key {
			return badKey
		}
	}
	if strings.HasPrefix(key, `"`) {
		key = unquote(key)
	}
	if key == "" {
		return badKey
	}
	return key
}

// unquote returns the text of a quoted string, or badKey if it is not one.
func unquote(s string) string {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return badKey
	}
	s = s[1 : len(s)-1]
	text := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return badKey
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return badKey
			}
		}
		text = append(text, s[i])
	}
	return string(text)
}

// entityTag returns the strong entity tag of a version of a customer (RFC 9110,
// section 8.8.3).
func entityTag(v grahak.Version) string {
	tag := make([]byte, 0, 48)
	tag = append(tag, '"')
	tag = append(tag, v.Customer...)
	tag = append(tag, '-')
	tag = strconv.AppendInt(tag, v.Revision, 10)
	return string(append(tag, '"'))
}

// match returns the condition in an If-Match header, nil if there is no such header.
// A weak tag fits nothing (RFC 9110, section 13.1.1), and neither does what is no tag
// of ours.
func match(values []string) *grahak.Match {
	if len(values) == 0 {
		return nil
	}
	m := new(grahak.Match)
	for _, value := range values {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" {
				m.Any = true
			}
			if v, ok := parseEntityTag(tag); ok {
				m.Versions = append(m.Versions, v)
			}
		}
	}
	return m
}

// parseEntityTag is the inverse of entityTag.
func parseEntityTag(tag string) (v grahak.Version, ok bool) {
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return v, false
	}
	tag = tag[1 : len(tag)-1]
	i := strings.LastIndexByte(tag, '-')
	if i < 0 {
		return v, false
	}
	v.Customer = grahak.CustomerID(tag[:i])
	var err error
	v.Revision, err = strconv.ParseInt(tag[i+1:], 10, 64)
	return v, err == nil && entityTag(v) == `"`+tag+`"`
}
