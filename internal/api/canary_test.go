package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak"
)

// metricsText returns what a scraper sees.
func (s *server) metricsText(tb testing.TB) string {
	tb.Helper()
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// flock makes canaries: words that occur nowhere else and look the same in
// every encoding of a request.
type flock struct {
	birds map[string]string // what for, by canary
}

func (f *flock) word(what string) string {
	return f.keep(fmt.Sprintf("canary%04dz", len(f.birds)), what)
}

func (f *flock) digits(what string) string {
	return f.keep(fmt.Sprintf("7310%08d", 90001+len(f.birds)), what)
}

func (f *flock) email(what string) string { return f.word(what) + "@example.com" }

// keep notes a canary that was found elsewhere.
func (f *flock) keep(canary, what string) string {
	f.birds[strings.ToLower(canary)] = what
	return canary
}

// search reports every canary in what is kept under the name.
func (f *flock) search(t *testing.T, name string, kept []byte) {
	t.Helper()
	kept = bytes.ToLower(kept)
	for canary, what := range f.birds {
		if bytes.Contains(kept, []byte(canary)) {
			t.Errorf("%s holds the canary of %s: %s", name, what, canary)
		}
	}
}

// Nothing that tells who a person is, and nothing secret, is in the log, in the
// metrics or in the files, whatever happens to the requests that carry it.
func TestCanaries(t *testing.T) {
	s := MustServe(t)
	stop := s.mustRun(t)
	f := &flock{birds: make(map[string]string)}
	credential := func(what, text string) string {
		f.keep(base64.StdEncoding.EncodeToString([]byte(text))[:16], what+" in base64")
		return "Authorization: " + basicAuth(text)
	}
	f.keep(s.keys[demo].text, "the API key")
	// What no client may leave anywhere, on every request.
	common := func(method string) []string {
		return []string{
			"x-routing-id: " + f.email(method+" x-routing-id"),
			"x-customerid: " + f.email(method+" x-customerid"),
			"version: " + f.word(method+" version"),
			"User-Agent: " + f.word(method+" user agent"),
			"Cookie: c=" + f.word(method+" cookie"),
			"Referer: https://example.com/" + f.word(method+" referer"),
			"X-Forwarded-For: " + f.word(method+" X-Forwarded-For"),
			"X-Anything: " + f.word(method+" an unknown header"),
			"If-None-Match: \"" + f.email(method+" If-None-Match") + "\"",
			// A request id that is not well formed is not the client's to choose.
			"X-Request-Id: " + f.email(method+" a malformed request id"),
		}
	}
	demoKey := credential("the demo credential", s.keys[demo].text+":")
	sent := 0
	var answers strings.Builder
	send := func(want int, line, body string, headers ...string) string {
		t.Helper()
		method, _, _ := strings.Cut(line, " ")
		headers = append(common(method), headers...)
		if !strings.Contains(strings.Join(headers, "\n"), "\nIdempotency-Key: ") {
			// Clients make keys of what they know the customer by.
			headers = append(headers, "Idempotency-Key: "+f.email(method+" Idempotency-Key"))
		}
		x := s.MustSend(t, request(line, headers, body))
		sent++
		if want != http.StatusOK {
			f.search(t, "the answer to "+line, fmt.Append(nil, x.header, x.answer))
		}
		if x.status != want {
			t.Errorf("%s %s: %d %s, want %d", line, body, x.status, x.answer, want)
		}
		answers.WriteString(x.answer)
		return x.answer
	}
	junk := func(what string) string { return "If-Match: " + f.word(what) + ", \"" + f.email(what) + "-1\"" }
	query := func(what string) string {
		return fmt.Sprintf("?%s=%s&email_address=%s", f.word(what+" query key"), f.word(what+" query value"), f.email(what+" query e-mail"))
	}
	const token = "options.get_client_auth_token=true"
	fields := func(what, reference string) string {
		return fmt.Sprintf("object_reference_id=%s&mobile_number=%s&email_address=%s&first_name=%s&last_name=%s&metadata[%s]=%s&%s=%s&%s",
			reference, f.digits(what+" mobile_number"), f.email(what+" email_address"), f.word(what+" first_name"), f.word(what+" last_name"),
			f.word(what+" metadata key"), f.word(what+" metadata value"), f.word(what+" unknown key"), f.word(what+" unknown value"), token)
	}
	keepToken := func(answer string) string {
		var body struct {
			ID     string
			Juspay struct {
				Token string `json:"client_auth_token"`
			}
		}
		if err := json.Unmarshal([]byte(answer), &body); err != nil || body.Juspay.Token == "" {
			t.Fatalf("no token in %s", answer)
		}
		f.keep(body.Juspay.Token, "a token")
		return body.ID
	}

	// All operations that succeed, in the three encodings.
	reference := f.email("reference")
	id := keepToken(send(200, "POST /customers"+query("create"), fields("create", reference), demoKey))
	send(200, "POST /v2/customers", fmt.Sprintf(`{"object_reference_id":%q,"mobile_number":%s,"first_name":%q,"metadata":{%q:%q}}`,
		f.email("JSON reference"), f.digits("JSON mobile_number"), f.word("JSON first_name"), f.word("JSON metadata key"), f.word("JSON metadata value")), demoKey, "Content-Type: application/json")
	send(200, "POST /customers", "--b\r\nContent-Disposition: form-data; name=\"object_reference_id\"\r\n\r\n"+f.email("multipart reference")+
		"\r\n--b\r\nContent-Disposition: form-data; name=\"mobile_number\"; filename=\""+f.word("file name")+"\"\r\n\r\n"+f.digits("multipart mobile_number")+"\r\n--b--\r\n",
		demoKey, "Content-Type: multipart/form-data; boundary=b; "+f.word("parameter")+"=x")
	keepToken(send(200, "GET /customers/"+reference+"?"+token, "", demoKey))
	keepToken(send(200, "POST /customers/"+reference, fields("update", f.email("update reference")), demoKey))
	send(200, "POST /customers/"+id+query("update by id"), "first_name="+f.word("update by id first_name"), demoKey)
	send(200, "POST /v2/customers/"+f.email("reference below v2"), fields("v2 create", "x"), demoKey)
	send(200, "POST /v2/customers/"+reference+query("v2 fetch"), fields("v2 fetch", "x"), demoKey)
	send(200, "POST /v2/customers/"+reference, fields("v2 update", "x")+"&update=true", demoKey)
	key := "Idempotency-Key: " + f.email("a repeated key")
	for range 2 {
		send(200, "POST /customers/"+reference, "first_name="+f.keep("canary-repeatedz", "repeated first_name"), demoKey, key)
	}
	var list page
	if err := json.Unmarshal([]byte(send(200, "GET /customers?count=1&"+f.word("list query")+"=1", "", demoKey)), &list); err != nil || list.Next == nil {
		t.Fatalf("no next page: %v", err)
	}
	send(200, "GET /customers?after="+f.keep(*list.Next, "a cursor"), "", demoKey)
	find := func(want int, filter string) int {
		t.Helper()
		var found page
		if err := json.Unmarshal([]byte(send(want, "GET /customers?"+filter, "", demoKey)), &found); err != nil {
			t.Fatal(err)
		}
		return found.Count
	}
	email, number := f.email("sought email_address"), f.digits("sought mobile_number")
	sought := f.email("sought reference")
	send(200, "POST /customers", "object_reference_id="+sought+"&email_address="+email+"&mobile_number="+number, demoKey)
	search := func(what string, want int) {
		t.Helper()
		for _, filter := range []string{"email_address=" + email, "mobile_number=" + number, "object_reference_id=" + sought, "mobile_country_code=91&mobile_number=" + number} {
			if got := find(200, filter); got != want {
				t.Errorf("%s: %d customers by %s, want %d", what, got, filter, want)
			}
		}
	}
	search("before the search index has it", 1)
	s.mustOrder(t)
	search("in the search index", 1)
	find(200, "email_address="+f.email("unknown email_address"))
	find(200, "mobile_number="+f.digits("unknown mobile_number"))
	find(200, "object_reference_id="+f.word("unknown reference to search"))
	// Customers that are erased: by reference, and by id after a change.
	send(200, "DELETE /customers/"+sought+query("erase"), f.word("body of an erase"), demoKey)
	search("erased", 0)
	var gone struct{ ID string }
	if err := json.Unmarshal([]byte(send(200, "POST /customers", fields("erased", f.email("erased reference")), demoKey)), &gone); err != nil {
		t.Fatal(err)
	}
	send(200, "POST /customers/"+gone.ID, "email_address="+f.email("changed before the erase"), demoKey)
	send(200, "DELETE /customers/"+gone.ID, "", demoKey)
	s.mustOrder(t)
	search("erased, and the search index knows", 0)

	// All that is refused.
	send(400, "POST /customers", fields("duplicate", reference), demoKey)
	for _, field := range []string{"object_reference_id", "mobile_number", "mobile_country_code", "email_address", "first_name", "last_name", "metadata", "metadata[a]"} {
		bad := "%00" + f.word("bad "+field)
		send(400, "POST /customers", strings.Replace(fields("bad "+field, f.email("bad "+field+" reference")), field+"=", field+"="+bad+"&x=", 1)+"&"+field+"="+bad, demoKey)
		if field != "object_reference_id" {
			send(400, "POST /customers/"+reference, field+"="+bad, demoKey)
		}
	}
	send(400, "POST /customers/"+reference, fmt.Sprintf(`{"metadata":{"%s\u0000":"%s"}}`, f.word("bad metadata key"), f.word("value of a bad metadata key")), demoKey, "Content-Type: application/json")
	send(400, "POST /customers/"+reference, fmt.Sprintf(`{"metadata":{"a":{"%s":"%s"}}}`, f.word("nested metadata key"), f.word("nested metadata value")), demoKey, "Content-Type: application/json")
	for _, filter := range []string{"object_reference_id", "mobile_number", "mobile_country_code", "email_address", "created_after", "created_before"} {
		find(400, filter+"=%00"+f.word("bad filter "+filter))
		find(400, filter+"=%zz"+f.word("undecodable filter "+filter))
	}
	send(400, "GET /customers?count="+f.word("bad count")+"&offset="+f.word("bad offset")+"&after="+f.word("bad after"), "", demoKey)
	for _, body := range []string{`{"first_name":"%s"`, `{"first_name":"%s\ud800"}`, `"%s"`, `{%s}`, `{"%s":1}}`, `{"metadata":{"%s":"}`} {
		send(400, "POST /customers", fmt.Sprintf(body, f.word("malformed JSON "+body)), demoKey, "Content-Type: application/json")
	}
	send(400, "POST /customers", "first_name="+f.word("malformed form value")+"%zz", demoKey)
	send(400, "POST /customers", f.word("malformed form key")+"%zz=1", demoKey)
	send(400, "POST /customers", "--b\r\nContent-Disposition: form-data; name=\""+f.word("malformed multipart name")+"\r\n\r\n"+f.word("malformed multipart"), demoKey, "Content-Type: multipart/form-data; boundary=b")
	send(400, "POST /customers", "--b\r\n"+f.word("malformed multipart header")+"\r\n\r\nx\r\n--b--\r\n", demoKey, "Content-Type: multipart/form-data; boundary=b")
	send(415, "POST /customers", f.word("body of another type"), demoKey, "Content-Type: text/"+f.word("content type"))
	send(415, "POST /customers", f.word("encoded body"), demoKey, "Content-Encoding: "+f.word("content encoding"))
	send(413, "POST /customers", "first_name="+strings.Repeat(f.word("large body"), 7000), demoKey)
	send(404, "GET /customers/"+f.email("unknown reference")+query("read"), "", demoKey)
	send(404, "POST /customers/"+f.email("unknown reference of an update"), "first_name="+f.word("update of an unknown one"), demoKey)
	send(404, "GET /customers/"+f.email("path of a sub-resource")+"/wallets", "", demoKey)
	send(405, "GET /v2/customers/"+f.email("path below v2"), "", demoKey)
	send(404, "POST /v2/customers/"+f.email("path of a sub-resource below v2")+"/wallets", "", demoKey)
	send(412, "POST /customers/"+reference, "first_name="+f.word("update of another version"), demoKey, junk("an update"))
	send(412, "DELETE /customers/"+reference, "", demoKey, junk("an erase"))
	send(412, "POST /v2/customers/"+f.email("reference of nobody below v2"), fields("v2 without a customer", "x"), demoKey, junk("v2 without a customer"))
	send(200, "GET /customers/"+reference, "", demoKey, junk("a read"))
	send(400, "POST /v2/customers/"+f.email("refused reference below v2"), "mobile_number=%00"+f.word("bad mobile_number below v2"), demoKey)
	send(400, "POST /v2/customers/"+f.word("long reference below v2")+strings.Repeat("x", 128), "", demoKey)
	for what, key := range map[string]string{
		"a long key": strings.Repeat("x", 256), "a key in another script": "ключ", "a key of which the end is missing": `"`,
	} {
		send(400, "POST /customers/"+reference, "", demoKey, "Idempotency-Key: "+key+f.email(what))
	}
	send(422, "POST /customers/"+reference, "first_name="+f.word("other first_name under a key"), demoKey, key)
	send(422, "DELETE /customers/"+f.email("other reference under a key"), "", demoKey, key)
	send(404, "GET /"+f.word("unknown path")+"/"+f.email("unknown path segment")+query("unknown path"), "", demoKey)
	send(404, "DELETE /customers/"+f.email("unknown reference of an erase"), f.word("body of an unknown erase"), demoKey)
	send(405, "PATCH /customers/"+f.email("path of a wrong method"), "", demoKey)
	send(405, f.word("method")+" /customers", "", demoKey)
	send(401, "GET /customers/"+f.email("path without a key"), "")
	send(401, "GET /customers", "", credential("a wrong key", f.word("wrong key")+f.word("more of a wrong key")+":"))
	send(401, "GET /customers", "", credential("a password", s.keys[demo].text+":"+f.word("password")))
	send(401, "GET /customers", "", "Authorization: Bearer "+f.word("bearer token"))
	send(401, "GET /customers", "", "Authorization: "+f.word("garbage for a credential"))
	for _, name := range []string{"x-merchantid", "x-merchant-id", "x-jp-merchant-id"} {
		send(401, "GET /customers", "", demoKey, name+": "+f.word(name))
	}
	s.MustKey(t, demo, "reader", grahak.KeySpec{Scope: grahak.ScopeRead})
	f.keep(s.keys["reader"].text, "the reader's key")
	send(403, "POST /customers", fields("read scope", f.email("reference under read scope")), "Authorization: "+s.basic("reader"))
	send(403, "DELETE /customers/"+f.email("reference of an erase under read scope"), "", "Authorization: "+s.basic("reader"))
	imported := f.word("imported key") + f.word("more of an imported key")
	if _, err := s.service.ImportKey(t.Context(), operator(demo), imported, grahak.KeySpec{Scope: grahak.ScopeWrite}); err != nil {
		t.Fatal(err)
	}
	// An operator may see the first four characters of it again.
	send(200, "GET /customers", "", credential("an imported key", imported))
	s.MustMerchant(t, "shut")
	if _, err := s.service.AddIPEntry(t.Context(), operator("shut"), "203.0.113.0/24", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.service.SetIPMode(t.Context(), operator("shut"), grahak.IPModeEnforce); err != nil {
		t.Fatal(err)
	}
	f.keep(s.keys["shut"].text, "the refused merchant's key")
	send(403, "POST /customers/"+f.email("path from a refused address"), fields("refused address", "x"), "Authorization: "+s.basic("shut"))
	// What does not even become a request.
	for _, raw := range []string{
		"GET /customers/" + f.word("request line") + " " + f.word("more of a request line") + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /customers HTTP/1.1\r\nHost: x\r\n" + f.word("header line") + "\r\n\r\n",
		"GET /" + f.word("path") + "%zz HTTP/1.1\r\nHost: " + f.word("host") + "\r\n\r\n",
	} {
		if x, err := s.sendRaw(t.Context(), []byte(raw), http.MethodGet); err != nil || x.status != http.StatusBadRequest {
			t.Errorf("%q: %d %v", raw, x.status, err)
		}
	}
	// What the service itself writes.
	if _, err := s.service.VerifyToken(t.Context(), f.word("wrong token")); grahak.CodeOf(err) != grahak.CodeTokenNotFound {
		t.Errorf("a wrong token: %v", err)
	}

	// Faults, and an outage.
	s.MustDamage(t, demo, grahak.CustomerID(id))
	send(500, "GET /customers/"+reference+query("fault"), "", demoKey)
	send(500, "POST /customers/"+id, fields("fault", f.email("reference of a fault")), demoKey)
	send(500, "GET /customers?count=100", "", demoKey)
	send(500, "GET /customers?object_reference_id="+reference, "", demoKey)
	s.random.broken.Store(true)
	send(500, "POST /customers", fields("no randomness", f.email("reference without randomness")), demoKey)
	send(500, "DELETE /customers/"+reference, "", demoKey)
	s.random.broken.Store(false)
	s.mustOrder(t)
	s.mustSettle(t, sent)
	f.search(t, "the database while it is open", s.files(t))
	stop()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	send(503, "POST /customers", fields("outage", f.email("reference in an outage")), demoKey)
	s.clock.Advance(time.Minute)
	send(503, "GET /customers/"+reference, "", demoKey)
	send(503, "DELETE /customers/"+reference, "", demoKey)
	send(503, "GET /customers?email_address="+email, "", demoKey)
	send(503, "GET /customers", "", credential("a wrong key in an outage", f.word("wrong key in an outage")+":"))
	s.mustSettle(t, sent)

	// The request log tells of each request what the log does, and no more.
	s.wantAllLogged(t, demo, "shut")
	if err := s.kept.Close(); err != nil {
		t.Fatal(err)
	}
	log, files := s.log.String(), s.files(t)
	f.search(t, "the log", []byte(log))
	f.search(t, "the metrics", []byte(s.metricsText(t)))
	f.search(t, "the database after it was closed", files)

	requests, err := os.ReadFile(s.requestsPath())
	if err != nil {
		t.Fatal(err)
	}
	// The search must be able to find something: these may be everywhere.
	for name, kept := range map[string]string{"the log": log, "the files": string(files), "the request log": string(requests), "the answers": answers.String()} {
		if !strings.Contains(kept, id) {
			t.Errorf("%s cannot be searched: the customer's id is not in it", name)
		}
	}
	if !strings.Contains(answers.String(), reference) {
		t.Error("no answer holds the reference, so this test shows nothing")
	}
}

// files returns the content of every file of the data folder.
func (s *server) files(tb testing.TB) []byte {
	tb.Helper()
	var all []byte
	err := filepath.WalkDir(s.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, content...)
		return err
	})
	if err != nil || len(all) == 0 {
		tb.Fatalf("the data folder cannot be read: %v", err)
	}
	return all
}
