package api_test

import (
	"bytes"
	"database/sql" //nolint:depguard // A story does what somebody does who can write the database file.
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"grahak"
)

// Stories are transcripts: testdata/stories/*.txtar, each a run of exchanges
// with one server that starts empty but for the merchant demo. They are the
// golden record of the wire; "go test -run Stories -update" writes the answers
// anew, to be read before they are committed.
//
// The comment of a file says what it shows. Its sections are
//
//	-- operator --           what an operator does before what follows, a command a line (see operate)
//	-- any other title --    a request: comments (# …), first line, headers, empty line, body
//	-- answer --             the answer to the request above: status, headers that matter, body
//
// A second passes before every request without a comment "# at once". Host, Connection and Content-Length are
// added. Lines of a multipart body are ended as HTTP wants it. A comment
// "# undescribed: why" says that the OpenAPI description does not cover the
// request although it is answered 200.
//
// In a request «…» stands for what cannot be written down, see story.expand.
// In an answer it stands for what differs from run to run: the first customer
// id that the story sees is «cst 1» wherever it occurs, and so on; «new id» is
// a request id that the client did not send.

var update = flag.Bool("update", false, "write the answers of the stories anew")

const (
	sectionOperator = "operator"
	sectionAnswer   = "answer"
)

func storyFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no stories: %v", err)
	}
	return files
}

func TestStories(t *testing.T) {
	doc := MustDescription(t)
	for _, file := range storyFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := story{server: MustServe(t), doc: doc, seen: make(map[string]string), names: make(map[string]string), counts: make(map[string]int)}
			want := archive.Files
			archive.Files = s.run(t, want)
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for i, got := range archive.Files {
				if i >= len(want) || want[i].Name != got.Name {
					t.Fatalf("%s: section %d is not the answer to the request before it; run with -update", file, i+1)
				}
				if diff := cmp.Diff(string(want[i].Data), string(got.Data)); diff != "" {
					t.Errorf("%s: answer to %q (-want +got):\n%s", file, archive.Files[i-1].Name, diff)
				}
			}
		})
	}
}

// story is a story while it runs.
type story struct {
	*server
	doc    *description
	seen   map[string]string // what stands for a volatile value, by the value
	names  map[string]string // and the other way round
	counts map[string]int    // how many values of a kind were seen
	ids    map[string]bool   // the ids of answers and requests that the server made

	stalled chan error // the end of the request that an operator stalled
}

// run plays the sections and returns them with the answers that were given.
func (s *story) run(t *testing.T, sections []txtar.File) []txtar.File {
	t.Helper()
	s.ids = make(map[string]bool)
	var out []txtar.File
	for _, section := range sections {
		switch section.Name {
		case sectionAnswer:
			continue
		case sectionOperator:
			for line := range strings.Lines(string(section.Data)) {
				s.operate(t, strings.Fields(s.expand(t, line)))
			}
			out = append(out, section)
			continue
		}
		script := parseScript(string(section.Data))
		headers := make([]string, len(script.headers))
		for i, h := range script.headers {
			headers[i] = s.expand(t, h)
		}
		if !script.atOnce {
			s.clock.Advance(time.Second)
		}
		x := s.MustSend(t, request(s.expand(t, script.line), headers, s.expand(t, script.body)))
		s.checkHeaders(t, section.Name, x)
		s.checkDescription(t, section.Name, script.undescribed, x)
		out = append(out, section, txtar.File{Name: sectionAnswer, Data: []byte(s.render(x))})
	}
	return out
}

// script is a request as a story tells it.
type script struct {
	undescribed string
	atOnce      bool
	line        string
	headers     []string
	body        string
}

func parseScript(text string) script {
	var s script
	for strings.HasPrefix(text, "#") {
		var comment string
		comment, text, _ = strings.Cut(text, "\n")
		if why, ok := strings.CutPrefix(comment, "# undescribed:"); ok {
			s.undescribed = strings.TrimSpace(why)
		}
		s.atOnce = s.atOnce || comment == "# at once"
	}
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	s.line, s.headers = lines[0], lines[1:]
	s.body = strings.TrimSuffix(body, "\n")
	for _, h := range s.headers {
		if strings.HasPrefix(h, "Content-Type: multipart/") {
			s.body = strings.ReplaceAll(s.body, "\n", "\r\n")
		}
	}
	return s
}

// checkDescription holds an exchange against the OpenAPI description.
func (s *story) checkDescription(t *testing.T, title, undescribed string, x exchange) {
	t.Helper()
	if err := s.doc.checkAnswer(x); err != nil {
		t.Errorf("%s: the description does not cover the answer: %v", title, err)
	}
	if x.status != http.StatusOK {
		// What is refused need not be described.
		return
	}
	err := s.doc.checkRequest(x)
	switch {
	case err != nil && undescribed == "":
		t.Errorf("%s: the description does not cover the request: %v", title, err)
	case err == nil && undescribed != "":
		t.Errorf("%s: the description covers the request although the story says that it does not", title)
	}
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkHeaders checks what holds for every answer (wire.md §2).
func (s *story) checkHeaders(t *testing.T, title string, x exchange) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type":  "application/json",
		"Cache-Control": "no-store",
	} {
		if got := x.header[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: header %s is %q, want %q", title, name, got, want)
		}
	}
	made := []string{x.header.Get("X-Response-Id")}
	if id := x.header.Get("X-Request-Id"); id != x.request.Header.Get("X-Request-Id") {
		made = append(made, id)
	}
	for _, id := range made {
		if !idPattern.MatchString(id) || s.ids[id] {
			t.Errorf("%s: the id %q has a wrong form or was given before", title, id)
		}
		s.ids[id] = true
	}
	length, _ := strconv.Atoi(x.header.Get("Content-Length"))
	switch {
	case x.request.Method == http.MethodHead:
		if length == 0 || x.answer != "" {
			t.Errorf("%s: the answer to HEAD has the length %d and the body %q", title, length, x.answer)
		}
	case length != len(x.answer) || !json.Valid([]byte(x.answer)):
		t.Errorf("%s: the body is not JSON of %d bytes: %q", title, length, x.answer)
	}
}

// render returns the answer of x as it stands in a story.
func (s *story) render(x exchange) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", x.status, http.StatusText(x.status))
	for _, name := range []string{"Allow", "Content-Type", "Etag", "Idempotent-Replayed", "Location", "Ratelimit", "Ratelimit-Policy", "Retry-After", "Www-Authenticate", "X-Customer-Created", "X-Existing-Customer-Id", "X-Jp-Merchant-Id", "X-Request-Id"} {
		if name == "X-Request-Id" && x.request.Header[name] == nil {
			// Every answer has one; it says nothing unless the client sent one.
			continue
		}
		for _, value := range x.header[name] {
			if name == "X-Request-Id" && !slices.Contains(x.request.Header[name], value) {
				value = "«new id»"
			}
			fmt.Fprintf(&b, "%s: %s\n", name, s.name(value))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", s.name(x.answer))
	return b.String()
}

// volatile finds what differs from run to run in a body. The first word of what
// stands for it is the name of its group.
var volatile = regexp.MustCompile(`(?P<cst>cst_[a-z0-9]{16}\b)|(?P<tkn>tkn_[0-9a-f]{32}\b)|(?P<evt>evt_[a-z0-9]{16}\b)|"next":"(?P<next>[A-Za-z0-9_-]+)"`)

// name puts stable names in place of the volatile values in a body.
func (s *story) name(body string) string {
	var out strings.Builder
	end := 0
	for _, at := range volatile.FindAllStringSubmatchIndex(body, -1) {
		for group := 1; group < len(at)/2; group++ {
			from, to := at[2*group], at[2*group+1]
			if from < 0 {
				continue
			}
			value, kind := body[from:to], volatile.SubexpNames()[group]
			if s.seen[value] == "" {
				s.counts[kind]++
				s.seen[value] = fmt.Sprintf("%s %d", kind, s.counts[kind])
				s.names[s.seen[value]] = value
			}
			out.WriteString(body[end:from] + "«" + s.seen[value] + "»")
			end = to
		}
	}
	out.WriteString(body[end:])
	return out.String()
}

var placeholder = regexp.MustCompile(`«([^«»]*)»`)

// expand replaces, from the inside out,
//
//	«cst 1», «tkn 1», «evt 1», «next 1»   by the value that an answer held
//	«key NAME»                   by an API key
//	«basic NAME»                 by an Authorization header's value for that key
//	«base64 TEXT»                by the base64 of the text
//	«hex DIGITS»                 by these bytes
//	«repeat N TEXT»              by that many copies of the text
func (s *story) expand(tb testing.TB, text string) string {
	tb.Helper()
	for strings.Contains(text, "«") {
		next := placeholder.ReplaceAllStringFunc(text, func(m string) string {
			m = placeholder.FindStringSubmatch(m)[1]
			if value, ok := s.names[m]; ok {
				return value
			}
			verb, rest, _ := strings.Cut(m, " ")
			switch key := s.keys[rest]; {
			case verb == "key" && key.text != "":
				return key.text
			case verb == "basic" && key.text != "":
				return s.basic(rest)
			case verb == "base64":
				return base64.StdEncoding.EncodeToString([]byte(rest))
			case verb == "hex":
				if raw, err := hex.DecodeString(rest); err == nil {
					return string(raw)
				}
			case verb == "repeat":
				count, unit, _ := strings.Cut(rest, " ")
				if n, err := strconv.Atoi(count); err == nil {
					return strings.Repeat(unit, n)
				}
			}
			tb.Fatalf("the story has not seen «%s»", m)
			return ""
		})
		if next == text {
			tb.Fatalf("unbalanced guillemets in %q", text)
		}
		text = next
	}
	return text
}

func basicAuth(credential string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credential))
}

// operate does what an operator does:
//
//	merchant M              make a merchant, with a key that is named after it
//	disable M               disable a merchant
//	key M NAME [read] [FOR] make a key, of read scope or for a duration
//	import M NAME TEXT      import a key
//	revoke NAME             revoke a key
//	rotate NAME NEW OVERLAP rotate a key
//	ip M add ADDRESS        put an address on the IP list; also: mode off, report, enforce
//	limit KEY MERCHANT FAILED
//	                        run the server anew with these limits
//	order M                 put the merchant's events in order
//	wait DURATION           let time pass
//	damage ID               give the record of the customer to be read a fault
//	spoil M                 alter the merchant's events so that none can be read
//	break randomness        let the source of randomness fail
//	mend randomness         let it work again
//	stall KEY REFERENCE     send a create with an Idempotency-Key that does not come to its end
//	resume                  let it come to its end
//	close storage           close the store under the running server
func (s *story) operate(t *testing.T, words []string) {
	t.Helper()
	if len(words) == 0 {
		return
	}
	arg := func(i int) string {
		if i >= len(words) {
			return ""
		}
		return words[i]
	}
	var err error
	switch key := s.keys[arg(1)]; words[0] {
	case "merchant":
		s.MustMerchant(t, arg(1))
	case "disable":
		err = s.service.DisableMerchant(t.Context(), operator(arg(1)))
	case "key":
		spec := grahak.KeySpec{Scope: grahak.ScopeWrite}
		for _, word := range words[3:] {
			if word == "read" {
				spec.Scope = grahak.ScopeRead
			} else {
				spec.ExpiresAt = s.clock.Now().Add(mustDuration(t, word))
			}
		}
		s.MustKey(t, arg(1), arg(2), spec)
	case "import":
		var k grahak.APIKey
		k, err = s.service.ImportKey(t.Context(), operator(arg(1)), arg(3), grahak.KeySpec{Scope: grahak.ScopeWrite})
		s.keys[arg(2)] = keyRef{text: arg(3), id: k.ID, merchant: k.Merchant}
	case "revoke":
		err = s.service.RevokeKey(t.Context(), operator(string(key.merchant)), key.id)
	case "rotate":
		var next keyRef
		var k grahak.APIKey
		k, next.text, err = s.service.RotateKey(t.Context(), operator(string(key.merchant)), key.id, mustDuration(t, arg(3)), time.Time{})
		next.id, next.merchant = k.ID, k.Merchant
		s.keys[arg(2)] = next
	case "ip":
		if arg(2) == "add" {
			_, err = s.service.AddIPEntry(t.Context(), operator(arg(1)), arg(3), "")
		} else {
			err = s.service.SetIPMode(t.Context(), operator(arg(1)), grahak.IPMode(arg(3)))
		}
	case "limit":
		var limits grahak.Limits
		for i, limit := range []*int{&limits.Key, &limits.Merchant, &limits.Failed} {
			if *limit, err = strconv.Atoi(arg(1 + i)); err != nil {
				t.Fatal(err)
			}
		}
		s.mustLimit(t, limits)
	case "order":
		err = s.service.OrderEvents(t.Context(), operator(arg(1)))
	case "wait":
		s.clock.Advance(mustDuration(t, arg(1)))
	case "damage":
		s.MustDamage(t, demo, grahak.CustomerID(arg(1)))
	case "spoil":
		s.mustSpoil(t, arg(1))
	case "break":
		s.random.broken.Store(true)
	case "mend":
		s.random.broken.Store(false)
	case "stall":
		s.stalled = make(chan error, 1)
		held := s.random.hold()
		t.Cleanup(s.random.release)
		go func() {
			_, err := s.send(t.Context(), request("POST /customers", []string{"Authorization: " + s.basic(demo), "Idempotency-Key: " + arg(1)}, "mobile_number=1&object_reference_id="+arg(2)))
			s.stalled <- err
		}()
		select {
		case <-held.reached:
		case err = <-s.stalled:
		}
	case "resume":
		s.random.release()
		err = <-s.stalled
	case "close":
		err = s.store.Close()
	default:
		t.Fatalf("an operator cannot %q", words)
	}
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
}

func mustDuration(tb testing.TB, text string) time.Duration {
	tb.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// MustDamage alters the last byte of what is sealed of a customer, as a failing
// disk might.
func (s *server) MustDamage(tb testing.TB, merchant grahak.MerchantID, id grahak.CustomerID) {
	tb.Helper()
	record, err := s.store.Customer(tb.Context(), merchant, id, grahak.Index{})
	if err != nil {
		tb.Fatal(err)
	}
	record.Sealed.Bytes = bytes.Clone(record.Sealed.Bytes)
	record.Sealed.Bytes[len(record.Sealed.Bytes)-1] ^= 1
	s.mustReseal(tb, merchant, record)
}

// mustSpoil alters the events of a merchant, as somebody might who can write the
// database file.
func (s *server) mustSpoil(tb testing.TB, merchant string) {
	tb.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.folder, "grahak.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(tb.Context(), `UPDATE events SET changed = 'nonsense' WHERE merchant_id = ?`, merchant); err != nil {
		tb.Fatal(err)
	}
}

// mustReseal stores a record over the one it was read as.
func (s *server) mustReseal(tb testing.TB, merchant grahak.MerchantID, record grahak.CustomerRecord) {
	tb.Helper()
	record.Revision++
	event := grahak.Event{
		ID: grahak.EventID(fmt.Sprintf("evt_%s_%d", record.ID, record.Revision)), Type: grahak.EventCustomerUpdated,
		Subject: string(record.ID), Revision: record.Revision, Actor: "test", At: s.clock.Now(),
	}
	if done, err := s.store.UpdateCustomer(tb.Context(), merchant, record, event, nil); err != nil || !done {
		tb.Fatalf("the record of %s was not written: %v", record.ID, err)
	}
}

// told is an exchange as a story tells it.
type told struct {
	story, title string
	method, path string
	status       int
	answer       string
}

// MustTellAll returns the exchanges of all stories, as they stand in the files.
func MustTellAll(tb testing.TB) []told {
	tb.Helper()
	var all []told
	for _, file := range storyFiles(tb) {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		for i, section := range archive.Files {
			if section.Name != sectionAnswer {
				continue
			}
			if i == 0 {
				tb.Fatalf("%s begins with an answer", file)
			}
			head, body, _ := strings.Cut(string(section.Data), "\n\n")
			status, err := strconv.Atoi(head[:min(3, len(head))])
			if err != nil {
				tb.Fatalf("%s: answer to %q: %v", file, archive.Files[i-1].Name, err)
			}
			method, rest, _ := strings.Cut(parseScript(string(archive.Files[i-1].Data)).line, " ")
			path, _, _ := strings.Cut(rest, "?")
			all = append(all, told{
				story: filepath.Base(file), title: archive.Files[i-1].Name,
				method: method, path: path, status: status, answer: strings.TrimSuffix(body, "\n"),
			})
		}
	}
	return all
}

// The names of stories' values must not be guessed wrong by the pattern that
// finds them.
func TestStoryNames(t *testing.T) {
	s := story{server: new(server), seen: make(map[string]string), names: make(map[string]string), counts: make(map[string]int)}
	a, b := "cst_0000000000000a01", "cst_0000000000000b02"
	token := "tkn_0123456789abcdef0123456789abcdef"
	got := s.name(`{"id":"`+b+`","next":"AbC-_9","t":"`+token+`"}`) + s.name(`["`+a+`","`+b+`",null]`)
	want := `{"id":"«cst 1»","next":"«next 1»","t":"«tkn 1»"}["«cst 2»","«cst 1»",null]`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	names := slices.Sorted(maps.Keys(s.names))
	if diff := cmp.Diff([]string{"cst 1", "cst 2", "next 1", "tkn 1"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if back := s.expand(t, "«cst 2» «repeat 3 «hex 61»»"); back != a+" aaa" {
		t.Errorf("expand gave %q", back)
	}
}
