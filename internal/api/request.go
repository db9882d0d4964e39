package api

import (
	"bytes"
	"errors"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"grahak"
	"grahak/internal/web"
)

// maxBody is the largest request body, in bytes (wire.md §5).
const maxBody = 64 << 10

// request is what the body of a create or an update says. The three encodings
// fill it through the same set.
type request struct {
	customer grahak.CustomerInput
	token    bool
	update   bool // of a create-or-fetch: put the fields over a customer that there is

	tokenGiven, updateGiven bool // the body says whether

	seen uint16 // a bit for each parameter that was met, the first of which counts
}

// value is one decoded parameter.
type value struct {
	text      string
	null      bool // JSON null
	malformed bool // no parameter can have it: some kinds of JSON, bad escapes
}

// parameter numbers the parameters that a request may hold.
type parameter uint8

const (
	paramReference parameter = iota
	paramMobileNumber
	paramCountryCode
	paramEmail
	paramFirstName
	paramLastName
	paramMetadata // all of it in one value
	paramToken
	paramUpdate
	paramUnknown
)

// parameterOf returns the parameter that key names, in any of its spellings.
func parameterOf(key string) parameter {
	switch key {
	case "object_reference_id":
		return paramReference
	case "mobile_number":
		return paramMobileNumber
	case "mobile_country_code":
		return paramCountryCode
	case "email_address":
		return paramEmail
	case "first_name":
		return paramFirstName
	case "last_name":
		return paramLastName
	case "metadata":
		return paramMetadata
	case "options.get_client_auth_token", "options[get_client_auth_token]", "options_get_client_auth_token":
		return paramToken
	case "update":
		return paramUpdate
	}
	return paramUnknown
}

// set takes one parameter of the request. Unknown ones and all but the first of
// each are ignored.
func (q *request) set(key string, v value) {
	p := parameterOf(key)
	if p == paramUnknown {
		if inner, ok := strings.CutPrefix(key, "metadata["); ok && strings.HasSuffix(inner, "]") {
			q.addMetadata(inner[:len(inner)-1], v)
		}
		return
	}
	q.setParameter(p, v)
}

// addMetadata takes one key of the metadata. Here null is a value: an empty one.
func (q *request) addMetadata(key string, v value) {
	m := &q.customer.Metadata
	m.Pairs = append(m.Pairs, grahak.MetadataPair{Key: key, Value: v.text, Malformed: v.malformed})
}

func (q *request) setParameter(p parameter, v value) {
	if !q.first(p) {
		return
	}
	in := grahak.Input{Value: v.text, Given: !v.null, Malformed: v.malformed}
	switch p {
	case paramReference:
		q.customer.Reference = in
	case paramMobileNumber:
		q.customer.MobileNumber = in
	case paramCountryCode:
		q.customer.MobileCountryCode = unlessAbsent(in)
	case paramEmail:
		q.customer.Email = unlessAbsent(in)
	case paramFirstName:
		q.customer.FirstName = in
	case paramLastName:
		q.customer.LastName = in
	case paramMetadata:
		q.customer.Metadata.Whole = in
	case paramToken:
		q.token, q.tokenGiven = isTrue(v.text), in.Given
	case paramUpdate:
		q.update, q.updateGiven = isTrue(v.text), in.Given
	}
}

// first reports whether p is met for the first time.
func (q *request) first(p parameter) bool {
	met := q.seen&(1<<p) != 0
	q.seen |= 1 << p
	return !met
}

// unlessAbsent returns in, or an absent input for the strings that the official
// Node client sends for absent values (wire.md §3).
func unlessAbsent(in grahak.Input) grahak.Input {
	if in.Value == "undefined" || in.Value == "null" {
		return grahak.Input{}
	}
	return in
}

func isTrue(s string) bool { return s == "1" || strings.EqualFold(s, "true") }

// readRequest decodes the body of x, and the parameters that may also stand
// in the query. Its checks are in the order of wire.md §2: size, type, syntax.
func readRequest(x *web.Exchange) (*request, error) {
	body, err := x.ReadBody(maxBody)
	if errors.Is(err, web.ErrBodyTooLarge) {
		return nil, errBodyTooLarge
	}
	var refused *grahak.Error
	if errors.As(err, &refused) {
		return nil, err
	}
	if err != nil {
		return nil, malformed(err)
	}
	decode, err := decoderOf(x.Request.Header)
	if err != nil {
		return nil, err
	}
	q := new(request)
	if len(body) > 0 {
		if err := decode(q, body); err != nil {
			return nil, malformed(err)
		}
	}
	if !q.tokenGiven {
		q.token = queryFlag(x, paramToken)
	}
	if !q.updateGiven {
		q.update = queryFlag(x, paramUpdate)
	}
	return q, nil
}

// decoderOf returns the decoder of the request's content type.
func decoderOf(h http.Header) (func(*request, []byte) error, error) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, errUnsupportedMediaType
	}
	contentType := h.Get("Content-Type")
	if contentType == "" || contentType == "application/x-www-form-urlencoded" {
		return decodeForm, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return nil, errUnsupportedMediaType
	}
	switch media {
	case "application/x-www-form-urlencoded":
		return decodeForm, nil
	case "application/json":
		return decodeJSON, nil
	case "multipart/form-data":
		return func(q *request, body []byte) error { return decodeMultipart(q, body, params["boundary"]) }, nil
	}
	return nil, errUnsupportedMediaType
}

// decodeForm decodes application/x-www-form-urlencoded.
func decodeForm(q *request, body []byte) error {
	return eachPair(string(body), q.set)
}

// eachPair calls fn for each pair of a form or query, in order, decoded. A key
// that cannot be decoded is passed over and a value that cannot is handed on as
// it is, as malformed; the error returned is that of the first.
func eachPair(form string, fn func(key string, v value)) (first error) {
	for form != "" {
		var pair string
		pair, form, _ = strings.Cut(form, "&")
		if pair == "" {
			continue
		}
		rawKey, rawText, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(rawKey)
		if err == nil {
			var text string
			if text, err = url.QueryUnescape(rawText); err != nil {
				text = rawText
			}
			fn(key, value{text: text, malformed: err != nil})
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

var errNoBoundary = errors.New("the multipart content type names no boundary")

// decodeMultipart decodes multipart/form-data.
func decodeMultipart(q *request, body []byte, boundary string) error {
	if boundary == "" {
		return errNoBoundary
	}
	// The reader of parts takes an end between two of them for the end of all.
	// So it never sees the end of the body: what it ends at is the last
	// boundary, whose line need not be ended.
	whole := io.MultiReader(bytes.NewReader(body), strings.NewReader("\r\n"), cutOff{})
	parts := multipart.NewReader(whole, boundary)
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		q.set(part.FormName(), value{text: string(text)})
	}
}

// cutOff is an [io.Reader] of what is missing of a body.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// queryFlag reports whether a parameter of the query is true. What cannot be decoded
// is ignored, as unknown keys are.
func queryFlag(x *web.Exchange, p parameter) bool {
	wanted, given := false, false
	_ = eachPair(x.Request.URL.RawQuery, func(key string, v value) {
		if !given && parameterOf(key) == p {
			wanted, given = isTrue(v.text), true
		}
	})
	return wanted
}

// parseListQuery reads the query of a list (wire.md §4), of whose keys the first
// counts. A value that is not a number becomes one that the service refuses.
func parseListQuery(query string) grahak.ListQuery {
	q := grahak.ListQuery{Limit: grahak.DefaultPage}
	filters := map[string]*grahak.Input{
		"object_reference_id": &q.Filter.Reference,
		"email_address":       &q.Filter.Email,
		"mobile_number":       &q.Filter.MobileNumber,
		"mobile_country_code": &q.Filter.MobileCountryCode,
		"created_after":       &q.Filter.CreatedFrom,
		"created_before":      &q.Filter.CreatedBefore,
	}
	var count, offset, after bool
	_ = eachPair(query, func(key string, v value) {
		switch {
		case filters[key] != nil && !filters[key].Given:
			*filters[key] = grahak.Input{Value: v.text, Given: true, Malformed: v.malformed}
		case key == "count" && !count:
			count = true
			if v.text != "" {
				q.Limit = number(v.text)
			}
		case key == "offset" && !offset:
			offset = true
			if v.text != "" {
				q.Offset = number(v.text)
			}
		case key == "after" && !after:
			after = true
			q.After = v.text
		}
	})
	return q
}

// number reads plain digits; a larger number than fits is the largest that
// does, and anything else is -1.
func number(s string) int {
	if s == "" || !plainDigits(s) {
		return -1
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return math.MaxInt32
	}
	return int(n)
}
