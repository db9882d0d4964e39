package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

var (
	errNotJSON   = errors.New("the body is not one JSON object in valid UTF-8")
	errSurrogate = errors.New("the body holds half of a surrogate pair")
)

// decodeJSON decodes application/json: one object. A number of plain digits is
// read as a string, null means absent, other values are malformed ones of
// their parameter (wire.md §1). Unknown members are skipped, however deep.
func decodeJSON(q *request, body []byte) error {
	// Valid checks the whole syntax and bounds the depth, so that the walk
	// below meets no error.
	if !utf8.Valid(body) || !json.Valid(body) {
		return errNotJSON
	}
	if hasLoneSurrogate(body) {
		return errSurrogate
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errNotJSON
	}
	for d.More() {
		key, err := memberName(d)
		if err != nil {
			return err
		}
		if key == "options" {
			if err := decodeOptions(q, d); err != nil {
				return err
			}
			continue
		}
		if key == "metadata" {
			if err := decodeMetadata(q, d); err != nil {
				return err
			}
			continue
		}
		v, err := decodeValue(d)
		if err != nil {
			return err
		}
		q.set(key, v)
	}
	return nil
}

// decodeMetadata decodes the metadata: an object, or another value for all of
// it.
func decodeMetadata(q *request, d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		v, err := valueOf(d, t)
		q.setParameter(paramMetadata, v)
		return err
	}
	first := q.first(paramMetadata)
	for d.More() {
		key, err := memberName(d)
		if err != nil {
			return err
		}
		v, err := decodeValue(d)
		if err != nil {
			return err
		}
		if first {
			q.addMetadata(key, v)
		}
	}
	_, err = d.Token()
	return err
}

// decodeOptions decodes the nested spelling of the token option.
func decodeOptions(q *request, d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return skipRest(d, t)
	}
	for d.More() {
		key, err := memberName(d)
		if err != nil {
			return err
		}
		v, err := decodeValue(d)
		if err != nil {
			return err
		}
		if key == "get_client_auth_token" {
			q.setParameter(paramToken, v)
		}
	}
	_, err = d.Token()
	return err
}

func memberName(d *json.Decoder) (string, error) {
	t, err := d.Token()
	if err != nil {
		return "", err
	}
	key, ok := t.(string)
	if !ok {
		return "", errNotJSON
	}
	return key, nil
}

// decodeValue reads the next value whole.
func decodeValue(d *json.Decoder) (value, error) {
	t, err := d.Token()
	if err != nil {
		return value{}, err
	}
	return valueOf(d, t)
}

// valueOf reads the rest of the value that t began.
func valueOf(d *json.Decoder, t json.Token) (value, error) {
	switch t := t.(type) {
	case string:
		return value{text: t}, nil
	case json.Number:
		return value{text: t.String(), malformed: !plainDigits(t.String())}, nil
	case bool:
		// A field is never a boolean, but the token option may be.
		return value{text: strconv.FormatBool(t), malformed: true}, nil
	case nil:
		return value{null: true}, nil
	}
	return value{malformed: true}, skipRest(d, t)
}

// skipRest reads the rest of the value that t began.
func skipRest(d *json.Decoder, t json.Token) error {
	depth := 0
	for {
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = d.Token(); err != nil {
			return err
		}
	}
}

func plainDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// hasLoneSurrogate reports whether valid JSON escapes half of a surrogate pair,
// which is no character: encoding/json would replace it without a word.
func hasLoneSurrogate(body []byte) bool {
	for i := bytes.IndexByte(body, '\\'); i >= 0 && i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		i++ // the escaped character
		switch unit := utf16Escape(body[i:]); {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return true
		case unit >= 0xD800 && unit <= 0xDBFF:
			i += 5 // past uXXXX
			if i >= len(body) || body[i] != '\\' {
				return true
			}
			if low := utf16Escape(body[i+1:]); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 5
		}
	}
	return false
}

// utf16Escape returns the unit of an escape whose text after the backslash
// begins with uXXXX, and -1 for other text.
func utf16Escape(s []byte) int64 {
	if len(s) < 5 || s[0] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(s[1:5]), 16, 16)
	if err != nil {
		return -1
	}
	return int64(n)
}
