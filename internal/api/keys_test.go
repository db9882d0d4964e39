package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// An Idempotency-Key is a quoted string or the bare text, which are the same key
// (RFC 9651, section 3.3.3); whatever is neither is refused.
func TestKeySyntax(t *testing.T) {
	s := MustServe(t)
	basic := "Authorization: " + s.basic(demo)
	s.MustCreate(t, "object_reference_id=a&mobile_number=1")
	long := strings.Repeat("k", 255)
	wrong := strings.ReplaceAll(string(MustCases(t)["wrong_mobile_number"].Body), "mobile_number", "Idempotency-Key")
	for i, tt := range []struct {
		name string
		// Each of the same key; every further one is a repeat of the first.
		same [][]string
	}{
		{"one character", [][]string{{"k"}, {`"k"`}, {"k", "k"}, {`"k"`, `"k"`}, {"  k  "}, {` "k" `}}},
		{"the longest", [][]string{{long}, {`"` + long + `"`}}},
		{"the longest, of quotes", [][]string{{`"` + strings.Repeat(`\"`, 255) + `"`}}},
		{"spaces within", [][]string{{"a key"}, {`"a key"`}}},
		{"spaces at the ends", [][]string{{`" a "`}, {`" a "`}}},
		{"a quote", [][]string{{`a"b`}, {`"a\"b"`}}},
		{"a backslash", [][]string{{`a\b`}, {`"a\\b"`}}},
		{"another letter case", [][]string{{"K"}, {`"K"`}}},
		{"a list", [][]string{{"a, b"}, {`"a, b"`}}},
		{"all signs", [][]string{{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}}},
		{"an address", [][]string{{"customer@example.com"}, {`"customer@example.com"`}}},
	} {
		for n, values := range tt.same {
			headers := []string{basic}
			for _, v := range values {
				headers = append(headers, "Idempotency-Key: "+v)
			}
			// Each name has a request of its own, so that keys that were the same would be refused.
			x := s.MustSend(t, request("POST /customers/a", headers, fmt.Sprintf("first_name=Jane %d", i)))
			if replayed := x.header.Get("Idempotent-Replayed") == "true"; x.status != http.StatusOK || replayed != (n > 0) {
				t.Errorf("%s: %q is answered %d, replayed %t: %s", tt.name, values, x.status, replayed, x.answer)
			}
		}
	}
	for _, values := range [][]string{
		{""},
		{`""`},
		{" "},
		{`"`},
		{`"k`},
		{`"k"k"`},
		{`"k" "k"`},
		{`"k";a=1`},
		{`"\"`},
		{`"\k"`},
		{long + "k"},
		{`"` + long + `k"`},
		{"a\tb"},
		{"\"a\tb\""},
		{"ключ"},
		{"é"},
		{"\xff"},
		{"k", "l"},
		{"k", `"k"`},
		{"k", ""},
	} {
		headers := []string{basic}
		for _, v := range values {
			headers = append(headers, "Idempotency-Key: "+v)
		}
		for _, line := range []string{"POST /customers", "POST /v2/customers", "POST /v2/customers/b", "POST /customers/a", "DELETE /customers/a"} {
			body := "object_reference_id=b&mobile_number=2"
			if strings.HasPrefix(line, "DELETE") {
				body = ""
			}
			if x := s.MustSend(t, request(line, headers, body)); x.status != http.StatusBadRequest || x.answer != wrong {
				t.Errorf("%s with the keys %q is answered %d %s", line, values, x.status, x.answer)
			}
		}
		if x := s.MustSend(t, request("GET /customers/a", headers, "")); x.status != http.StatusOK || strings.Contains(x.answer, `"mobile_number":"2"`) {
			t.Errorf("a read with the keys %q is answered %d %s", values, x.status, x.answer)
		}
	}
	if x := s.MustSend(t, request("GET /customers/b", []string{basic}, "")); x.status != http.StatusNotFound {
		t.Errorf("a request whose key was refused made a customer: %s", x.answer)
	}
}
