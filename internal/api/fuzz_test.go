package api

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"mime/multipart"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"grahak"
)

// Every decoder of what a client sends is held against something that is
// written another way. The corpora are in testdata/fuzz.

// fields returns what was decoded into q, by the wire's names.
func fields(q *request) map[string]grahak.Input {
	return map[string]grahak.Input{
		"object_reference_id": q.customer.Reference,
		"mobile_number":       q.customer.MobileNumber,
		"mobile_country_code": q.customer.MobileCountryCode,
		"email_address":       q.customer.Email,
		"first_name":          q.customer.FirstName,
		"last_name":           q.customer.LastName,
		"metadata":            q.customer.Metadata.Whole,
	}
}

// pairs returns the metadata that was decoded into q: of each key the first.
func pairs(q *request) map[string]grahak.MetadataPair {
	m := make(map[string]grahak.MetadataPair)
	for _, p := range q.customer.Metadata.Pairs {
		if _, ok := m[p.Key]; !ok {
			m[p.Key] = p
		}
	}
	return m
}

// expected is the input that text becomes in the field called name.
func expected(name, text string) grahak.Input {
	absent := (text == "undefined" || text == "null") && (name == "email_address" || name == "mobile_country_code")
	if absent {
		return grahak.Input{}
	}
	return grahak.Input{Value: text, Given: true}
}

var tokenSpellings = []string{"options.get_client_auth_token", "options[get_client_auth_token]", "options_get_client_auth_token"}

// checkValues fails unless q holds what values do, whose lists are in the order
// of the request.
func checkValues(t *testing.T, q *request, values map[string][]string) {
	t.Helper()
	for name, got := range fields(q) {
		want := grahak.Input{}
		if v := values[name]; len(v) > 0 {
			want = expected(name, v[0])
		}
		if got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	metadata := make(map[string]grahak.MetadataPair)
	for name, v := range values {
		if key, ok := strings.CutPrefix(name, "metadata["); ok && strings.HasSuffix(key, "]") {
			key = strings.TrimSuffix(key, "]")
			metadata[key] = grahak.MetadataPair{Key: key, Value: v[0]}
		}
	}
	if got := pairs(q); !maps.Equal(got, metadata) {
		t.Errorf("metadata is %+v, want %+v", got, metadata)
	}
	var token []string
	spellings := 0
	for _, name := range tokenSpellings {
		if v := values[name]; len(v) > 0 {
			token, spellings = v, spellings+1
		}
	}
	// Which of several spellings came first is not in values.
	if spellings < 2 {
		want := spellings == 1 && (token[0] == "1" || strings.ToLower(token[0]) == "true")
		if q.token != want {
			t.Errorf("token is %t of %q", q.token, token)
		}
	}
}

func FuzzBasicKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, header string) {
		key, ok := basicKey(header)
		// The standard library refuses more: a credential without a colon, and
		// spaces around it.
		scheme, rest, _ := strings.Cut(header, " ")
		rest = strings.TrimSpace(rest)
		r := &http.Request{Header: http.Header{"Authorization": {scheme + " " + rest}}}
		user, password, standard := r.BasicAuth()
		if !standard && strings.EqualFold(scheme, "Basic") {
			if raw, err := base64.StdEncoding.DecodeString(rest); err == nil {
				user, standard = string(raw), !strings.Contains(string(raw), ":")
			}
		}
		want := standard && user != "" && password == ""
		switch {
		case len(header) > maxAuthorization:
			// Long ones may be refused.
			want = want && ok
		case !strings.Contains(header, " "):
			want = false
		}
		if ok != want || ok && key != user {
			t.Errorf("%q: key %q %t, want %q %t", header, key, ok, user, want)
		}
	})
}

func FuzzDecodeForm(f *testing.F) {
	f.Fuzz(func(t *testing.T, body string) {
		q := new(request)
		err := decodeForm(q, []byte(body))
		// The standard library refuses a bare semicolon, which is a character
		// like others here.
		values, standard := url.ParseQuery(strings.ReplaceAll(body, ";", "%3B"))
		if (err == nil) != (standard == nil) {
			t.Fatalf("%q: %v, but the standard library says %v", body, err, standard)
		}
		if err == nil {
			checkValues(t, q, values)
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		q := new(request)
		err := decodeJSON(q, body)
		var members map[string]json.RawMessage
		ok := utf8.Valid(body) && json.Unmarshal(body, &members) == nil && members != nil && !losesCharacters(t, body)
		if (err == nil) != ok {
			t.Fatalf("%q: %v, want success %t", body, err, ok)
		}
		if err != nil {
			return
		}
		// A map keeps the last of duplicates, and it cannot be told from its
		// keys whether there were any; but without escapes a key that is in the
		// text once is one.
		if strings.Contains(string(body), `\`) {
			return
		}
		for name, got := range fields(q) {
			raw, given := members[name]
			if strings.Count(string(body), `"`+name+`"`) > 1 {
				continue
			}
			want := grahak.Input{}
			var text string
			switch {
			case !given || string(raw) == "null", name == "metadata" && raw[0] == '{':
			case json.Unmarshal(raw, &text) == nil:
				want = expected(name, text)
			case strings.Trim(string(raw), "0123456789") == "":
				want = grahak.Input{Value: string(raw), Given: true}
			default:
				want = grahak.Input{Value: got.Value, Given: true, Malformed: true}
			}
			if got != want {
				t.Errorf("%q: %s is %+v, want %+v", body, name, got, want)
			}
		}
		if strings.Count(string(body), `"metadata"`) < 2 && !strings.Contains(string(body), `"metadata[`) {
			checkMetadata(t, q, body, members["metadata"])
		}
		if q.token && !regexp.MustCompile(`get_client_auth_token`).Match(body) {
			t.Errorf("%q: token", body)
		}
	})
}

// checkMetadata fails unless q has the pairs of raw, the metadata of a body
// without escapes.
func checkMetadata(t *testing.T, q *request, body, raw []byte) {
	t.Helper()
	var members map[string]json.RawMessage
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &members); err != nil {
			t.Fatal(err)
		}
	}
	got := pairs(q)
	for key, raw := range members {
		p := got[key]
		delete(got, key)
		if strings.Count(string(body), `"`+key+`"`) > 1 {
			continue
		}
		want := grahak.MetadataPair{Key: key}
		switch {
		case string(raw) == "null", json.Unmarshal(raw, &want.Value) == nil:
		case strings.Trim(string(raw), "0123456789") == "":
			want.Value = string(raw)
		default:
			want = grahak.MetadataPair{Key: key, Value: p.Value, Malformed: true}
		}
		if p != want {
			t.Errorf("%q: %+v, want %+v", body, p, want)
		}
	}
	if len(got) > 0 {
		t.Errorf("%q: %+v is not in it", body, got)
	}
}

func FuzzDecodeMultipart(f *testing.F) {
	f.Fuzz(func(t *testing.T, boundary string, body []byte) {
		q := new(request)
		if err := decodeMultipart(q, body, boundary); err != nil {
			return
		}
		// The standard library takes a body that is cut off between two parts
		// for a whole one; all that is decoded it must decode too.
		if !strings.Contains(string(body), "--"+boundary+"--") {
			t.Fatalf("a body without its last boundary was decoded: %q, boundary %q", body, boundary)
		}
		form, err := multipart.NewReader(strings.NewReader(string(body)), boundary).ReadForm(1 << 20)
		if err != nil {
			// It bounds how many parts there may be.
			if parts := strings.Count(string(body), "--"+boundary); parts < 1000 {
				t.Fatalf("%q, boundary %q: the standard library says %v", body, boundary, err)
			}
			return
		}
		defer func() { _ = form.RemoveAll() }()
		if len(form.File) == 0 {
			checkValues(t, q, form.Value)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	names := []string{
		"wallets", "mandates", "cards", "bank-accounts", "customer-accounts",
		"payment_methods", "eligibility", "virtual-accounts", "events",
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, inside := parsePath(path)
		want, wantInside := target{}, true
		segments := strings.Split(path, "/")
		if n := len(segments); n > 2 && segments[n-1] == "" {
			segments = segments[:n-1]
		}
		switch {
		case len(segments) < 2 || segments[0] != "":
			wantInside = false
		case segments[1] == "customers" && len(segments) == 2:
			want.route = routeCustomers
		case segments[1] == "customers":
			id, err := url.PathUnescape(strings.Join(segments[2:], "/"))
			if err == nil && id != "" && !slices.Contains(names, segments[len(segments)-1]) {
				want = target{route: routeCustomer, id: id}
			}
		case segments[1] == "v2" && len(segments) > 2 && segments[2] == "customers":
			if len(segments) == 3 {
				want.route = routeCustomersV2
				break
			}
			reference, err := url.PathUnescape(strings.Join(segments[3:], "/"))
			if err == nil && reference != "" && !slices.Contains(names, segments[len(segments)-1]) {
				want = target{route: routeEnsure, id: reference}
			}
		default:
			wantInside = false
		}
		if got != want || inside != wantInside {
			t.Errorf("%q: %+v %t, want %+v %t", path, got, inside, want, wantInside)
		}
		// Any id can be asked for when it is escaped, unless it is reserved.
		if path != "" && !slices.Contains(names, path) {
			for _, end := range []string{"", "/"} {
				if got, _ := parsePath("/customers/" + url.PathEscape(path) + end); got.route != routeCustomer || got.id != path {
					t.Errorf("the id %q is read as %+v", path, got)
				}
			}
		}
	})
}

func FuzzParseListQuery(f *testing.F) {
	f.Fuzz(func(t *testing.T, query string) {
		got := parseListQuery(query)
		values, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
		if err != nil {
			// Pairs that cannot be decoded are not in values. Whatever they
			// are, numbers stay in their range.
			if got.Limit < -1 || got.Limit > math.MaxInt32 || got.Offset < -1 || got.Offset > math.MaxInt32 {
				t.Errorf("%q: %+v", query, got)
			}
			// A filter of which something cannot be decoded is not left out.
			if f := got.Filter.Email; values.Has("email_address") && !f.Given || f.Malformed && !strings.Contains(f.Value, "%") {
				t.Errorf("%q: %+v", query, f)
			}
			return
		}
		number := func(name string, absent int) int {
			text := values.Get(name)
			if text == "" {
				return absent
			}
			n, ok := new(big.Int).SetString(text, 10)
			switch {
			case !ok || strings.Trim(text, "0123456789") != "":
				return -1
			case n.Cmp(big.NewInt(math.MaxInt32)) > 0:
				return math.MaxInt32
			}
			return int(n.Int64())
		}
		// Whatever a filter holds, even nothing, it is given.
		filter := func(name string) grahak.Input {
			return grahak.Input{Value: values.Get(name), Given: values.Has(name)}
		}
		want := grahak.ListQuery{
			Limit: number("count", grahak.DefaultPage), Offset: number("offset", 0), After: values.Get("after"),
			Filter: grahak.CustomerFilter{
				Reference: filter("object_reference_id"), Email: filter("email_address"),
				MobileNumber: filter("mobile_number"), MobileCountryCode: filter("mobile_country_code"),
				CreatedFrom: filter("created_after"), CreatedBefore: filter("created_before"),
			},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
	})
}

// losesCharacters reports whether encoding/json replaces something in valid JSON
// by U+FFFD: there is more of it in the strings than in the text.
func losesCharacters(t *testing.T, body []byte) bool {
	t.Helper()
	text := strings.ReplaceAll(string(body), `\\`, "__")
	written := strings.Count(text, "\uFFFD") + len(regexp.MustCompile(`\\u[fF]{3}[dD]`).FindAllString(text, -1))
	read := 0
	d := json.NewDecoder(strings.NewReader(string(body)))
	for {
		token, err := d.Token()
		if err != nil {
			return read > written
		}
		if s, ok := token.(string); ok {
			read += strings.Count(s, "\uFFFD")
		}
	}
}

func FuzzHasLoneSurrogate(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		got := hasLoneSurrogate(body)
		if !utf8.Valid(body) || !json.Valid(body) {
			// Then the answer means nothing, but there must be one.
			return
		}
		if want := losesCharacters(t, body); got != want {
			t.Errorf("%q: %t, want %t", body, got, want)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		got := appendString([]byte("x"), s)
		var back string
		if err := json.Unmarshal(got[1:], &back); err != nil || back != s || got[0] != 'x' {
			t.Errorf("%q became %q, which is %q (%v)", s, got, back, err)
		}
		// Nothing is escaped that need not be.
		if plain := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }); plain && string(got[1:]) != `"`+s+`"` {
			t.Errorf("%q became %q", s, got)
		}
	})
}
