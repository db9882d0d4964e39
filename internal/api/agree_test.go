package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// pair is one parameter of a request, before it is encoded.
type pair struct {
	key, value string
	null       bool // in JSON; left out of the others
}

// encodings write the same parameters in each of the three ways.
var encodings = map[string]func([]pair) (contentType, body string){
	"form":      encodeForm,
	"json":      encodeJSON,
	"multipart": encodeMultipart,
}

func encodeForm(pairs []pair) (contentType, body string) {
	var b strings.Builder
	for _, p := range pairs {
		if !p.null {
			fmt.Fprintf(&b, "&%s=%s", url.QueryEscape(p.key), url.QueryEscape(p.value))
		}
	}
	return "application/x-www-form-urlencoded", strings.TrimPrefix(b.String(), "&")
}

// encodeJSON writes digits as a number where JSON can, and an empty value of
// metadata as null, every second time. For an even number of pairs it writes
// metadata as an object, unless they give it as one value, too.
func encodeJSON(pairs []pair) (contentType, body string) {
	var members, metadata []string
	nest := len(pairs)%2 == 0 && !slices.ContainsFunc(pairs, func(p pair) bool { return p.key == "metadata" })
	for i, p := range pairs {
		inner, isMetadata := strings.CutPrefix(p.key, "metadata[")
		isMetadata = isMetadata && strings.HasSuffix(inner, "]")
		value, _ := json.Marshal(p.value)
		switch {
		case p.null, i%2 == 0 && isMetadata && p.value == "":
			value = []byte("null")
		case i%2 == 0 && jsonDigits.MatchString(p.value):
			value = []byte(p.value)
		}
		name := p.key
		list := &members
		if isMetadata && nest {
			name = strings.TrimSuffix(inner, "]")
			list = &metadata
		}
		key, _ := json.Marshal(name)
		*list = append(*list, fmt.Sprintf("%s:%s", key, value))
	}
	if nest {
		members = append(members, `"metadata":{`+strings.Join(metadata, ",")+"}")
	}
	return "application/json", "{" + strings.Join(members, ",") + "}"
}

var jsonDigits = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

func encodeMultipart(pairs []pair) (contentType, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range pairs {
		if !p.null {
			_ = w.WriteField(p.key, p.value) // A bytes.Buffer does not fail.
		}
	}
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

// drawPairs draws the parameters of a request: good ones, or anything.
func drawPairs(t *rapid.T) []pair {
	good := rapid.Bool().Draw(t, "good")
	anything := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[0-9]{0,18}`),
		rapid.StringMatching(`[+ ]?[0-9]{0,5}`),
		rapid.StringMatching(`[ \t\r\n\x{3000}]{0,3}`),
		rapid.StringMatching(`[a-z._]{0,3}@?[a-z.]{0,5}`),
		rapid.StringMatching(`[a-z&=%+;"\\-]{0,8}`),
		rapid.StringMatching(`(ग्राहक|é|😀|\x{2028}|a){0,130}`),
		rapid.SampledFrom([]string{"undefined", "null", "true", "True", "1", "0", "\x00", "\x7f", "\u0085", "\ufeff", "\r\n--"}),
	)
	valid := map[string]*rapid.Generator[string]{
		"object_reference_id": rapid.StringMatching(`[A-Za-z0-9@./ +&=%ग-य]{1,40}x`),
		"mobile_number":       rapid.StringMatching(`[0-9]{1,16}`),
		"mobile_country_code": rapid.StringMatching(`[+ ]?[0-9]{1,4}`),
		"email_address":       rapid.StringMatching(`[a-z+é]{1,9}@[a-z.]{1,20}`),
		"first_name":          rapid.StringMatching(`[A-Za-z '-नé😀]{1,30}`),
		"last_name":           rapid.StringMatching(`[A-Za-z "\\ऀ-य]{0,30}`),
	}
	var pairs []pair
	for _, key := range []string{"object_reference_id", "mobile_number", "mobile_country_code", "email_address", "first_name", "last_name"} {
		required := key == "object_reference_id" || key == "mobile_number"
		if !(good && required) && rapid.IntRange(0, 3).Draw(t, "leave out "+key) == 0 {
			if rapid.Bool().Draw(t, "null "+key) {
				pairs = append(pairs, pair{key: key, null: true})
			}
			continue
		}
		values := anything
		if good {
			values = valid[key]
		}
		pairs = append(pairs, pair{key: key, value: values.Draw(t, key)})
		if rapid.IntRange(0, 4).Draw(t, "repeat "+key) == 0 {
			pairs = append(pairs, pair{key: key, value: anything.Draw(t, key+" again")})
		}
	}
	for _, key := range []string{"options.get_client_auth_token", "options[get_client_auth_token]", "options_get_client_auth_token", "update", "First_Name", "metadata[a", "metadata.a"} {
		if rapid.IntRange(0, 5).Draw(t, "send "+key) == 0 {
			pairs = append(pairs, pair{key: key, value: anything.Draw(t, key)})
		}
	}
	keys, values := rapid.StringMatching(`[a-c"\\\[\]= &%+.éक😀]{0,3}`), anything
	if good {
		keys, values = rapid.StringMatching(`[a-c"\\\[\]= &%+.éक😀]{1,3}x`), rapid.StringMatching(`[A-Za-z0-9 "\\<ऀ-य]{0,30}`)
	}
	for range rapid.IntRange(0, 5).Draw(t, "keys of metadata") {
		pairs = append(pairs, pair{key: "metadata[" + keys.Draw(t, "key of metadata") + "]", value: values.Draw(t, "value of metadata")})
	}
	if rapid.IntRange(0, 5).Draw(t, "send metadata") == 0 {
		whole := anything
		if good {
			whole = rapid.StringMatching(` {0,2}`)
		}
		pairs = append(pairs, pair{key: "metadata", value: whole.Draw(t, "metadata")})
	}
	return rapid.Permutation(pairs).Draw(t, "order")
}

var random = regexp.MustCompile(`cst_[a-z0-9]{16}|tkn_[0-9a-f]{32}`)

// The three encodings of the same parameters get the same answers, and make and
// change customers that are the same field for field. Each encoding has a
// merchant of its own.
func TestEncodingsAgree(t *testing.T) {
	s := MustServe(t)
	for name := range encodings {
		s.MustMerchant(t, name)
	}
	made, changed, erased, annotated := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s.clock.Advance(time.Second)
		pairs := drawPairs(t)
		target := rapid.SampledFrom([]string{"/customers", "/v2/customers", "/customers/base", "/v2/customers/base"}).Draw(t, "path")
		ofBase := strings.HasSuffix(target, "/base")
		if ofBase {
			// Only the first update of a run makes it.
			compare(t, s, "/customers", []pair{{key: "object_reference_id", value: "base"}, {key: "mobile_number", value: "1"}})
		}
		status := compare(t, s, target, pairs)
		if status != http.StatusOK {
			return
		}
		reference := "base"
		if ofBase {
			changed++
		} else {
			made++
			for _, p := range pairs {
				if p.key == "object_reference_id" {
					reference = p.value
					break
				}
			}
		}
		if read(t, s, reference) {
			annotated++
		}
		if reference != "base" && rapid.Bool().Draw(t, "erase") {
			erase(t, s, reference)
			erased++
		}
	})
	if !t.Failed() && (made == 0 || changed == 0 || erased == 0 || annotated == 0) {
		t.Errorf("of all requests %d made a customer, %d changed one, %d erased one and %d left metadata", made, changed, erased, annotated)
	}
}

// agree sends a request without a body for each merchant, fails unless all get
// the same answer, and returns that.
func agree(t *rapid.T, s *server, line string) string {
	t.Helper()
	answers := make(map[string]string)
	for name := range encodings {
		x, err := s.send(t.Context(), request(line, []string{"Authorization: " + s.basic(name)}, ""))
		if err != nil {
			t.Fatal(err)
		}
		answers[name] = fmt.Sprintf("%d %s", x.status, random.ReplaceAllString(x.answer, "…"))
	}
	same(t, answers)
	return answers["form"]
}

// compare sends pairs in each encoding to its merchant, fails unless all get the
// same answer, and returns its status.
func compare(t *rapid.T, s *server, target string, pairs []pair) int {
	t.Helper()
	answers := make(map[string]string)
	status := 0
	for name, encode := range encodings {
		contentType, body := encode(pairs)
		x, err := s.send(t.Context(), request("POST "+target, []string{"Authorization: " + s.basic(name), "Content-Type: " + contentType}, body))
		if err != nil {
			t.Fatal(err)
		}
		answers[name] = fmt.Sprintf("%d %s", x.status, random.ReplaceAllString(x.answer, "…"))
		status = x.status
	}
	same(t, answers)
	return status
}

// read fails unless all merchants have the same customer under the reference,
// and find just that one by all that it is. It reports whether there is metadata.
func read(t *rapid.T, s *server, reference string) bool {
	t.Helper()
	answer := agree(t, s, "GET /customers/"+url.PathEscape(reference))
	body, ok := strings.CutPrefix(answer, "200 ")
	if !ok {
		t.Fatalf("GET %q: %s", reference, answer)
	}
	var c map[string]any
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(err)
	}
	filters := url.Values{}
	for _, name := range []string{"object_reference_id", "mobile_number", "mobile_country_code", "email_address"} {
		if text, ok := c[name].(string); ok {
			filters.Set(name, text)
		}
	}
	found := agree(t, s, "GET /customers?"+filters.Encode())
	if !strings.Contains(found, `"list":[`+body+`],"count":1,`) {
		t.Errorf("%s finds %s, want %s", filters, found, body)
	}
	return c["metadata"] != nil
}

// erase fails unless all merchants erase the same customer, and have none
// afterwards.
func erase(t *rapid.T, s *server, reference string) {
	t.Helper()
	path := "/customers/" + url.PathEscape(reference)
	if got, want := agree(t, s, "DELETE "+path), `200 {"id":"…","object":"customer","deleted":true}`; got != want {
		t.Errorf("DELETE %q: %s", reference, got)
	}
	for _, line := range []string{"GET " + path, "DELETE " + path} {
		if got := agree(t, s, line); !strings.HasPrefix(got, "404 ") {
			t.Errorf("%s after it was erased: %s", line, got)
		}
	}
}

func same(t *rapid.T, answers map[string]string) {
	t.Helper()
	for _, name := range []string{"json", "multipart"} {
		if diff := cmp.Diff(answers["form"], answers[name]); diff != "" {
			t.Errorf("the form and %s are answered differently (-form +%s):\n%s", name, name, diff)
		}
	}
}
