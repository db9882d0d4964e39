package sealed_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"grahak/internal/testkit"
)

// aviary plants values, sends them wherever the program takes something, and
// looks whether any of them stays.
type aviary struct {
	t      *testing.T
	data   string
	server *testkit.Server
	client *client
	birds  *scanner
	count  int
	// answers is what clients and the standard output of commands were told, which
	// may show values; logs is what nobody's value may be in.
	answers, logs strings.Builder
	visible       []string // ids of customers, which are no personal data
	serverLogs    []*testkit.Server
}

// word, digits and email return a new value each that is planted.
func (a *aviary) word(what string) string {
	a.count++
	return a.birds.plant(what, fmt.Sprintf("Canary%04dzQ", a.count))
}

func (a *aviary) digits(what string) string {
	a.count++
	return a.birds.plant(what, fmt.Sprintf("7310%08d", 90001+a.count))
}

// email returns an address; its local part is planted.
func (a *aviary) email(what string) string { return a.word(what) + "@Example.com" }

// name returns a name with letters of several scripts.
func (a *aviary) name(what string) string {
	a.count++
	return a.birds.plant(what, fmt.Sprintf("Ćañary %04d «Жук»", a.count))
}

// start starts the server and connects to it.
func (a *aviary) start(args ...string) {
	a.t.Helper()
	a.server = testkit.Start(a.t, a.data, args...)
	a.serverLogs = append(a.serverLogs, a.server)
	key := a.server.Key
	if a.client != nil {
		a.client.close()
		key = a.client.key
	}
	a.client = newClient(a.server.BaseURL, key)
}

// send sends a request whose answer must have a status, and returns that.
func (a *aviary) send(want int, method, path, body string, headers ...string) answer {
	a.t.Helper()
	if body != "" && !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Content-Type") }) {
		headers = append(headers, "Content-Type: application/x-www-form-urlencoded")
	}
	headers = append(headers,
		"X-Customerid: "+a.email("an x-customerid"), "X-Routing-Id: "+a.word("an x-routing-id"), "User-Agent: "+a.word("a user agent"),
		"Referer: https://example.com/"+a.word("a referer"), "Idempotency-Key: "+a.email("an Idempotency-Key"), "If-None-Match: "+a.word("an If-None-Match"))
	got, err := a.client.send(a.t.Context(), method, path, body, headers...)
	if err != nil || got.status != want {
		a.t.Errorf("%s %s %s: %d %s (%v), want %d", method, path, body, got.status, got.body, err, want)
	}
	fmt.Fprintln(&a.answers, got.header, got.body)
	return got
}

// person is fields with a planted value in each.
func (a *aviary) person(what string) url.Values {
	return url.Values{
		"object_reference_id": {a.email(what + " reference")},
		"mobile_number":       {a.digits(what + " number")},
		"email_address":       {a.email(what + " address")},
		"first_name":          {a.name(what + " first name")},
		"last_name":           {a.word(what + " last name")},
		"metadata[" + a.name(what+" metadata key") + "]": {a.name(what + " metadata value")},
		"comment":                       {a.word(what + " unknown field")},
		"options.get_client_auth_token": {"true"},
	}
}

// create creates a customer and plants its token.
func (a *aviary) create(fields url.Values) customer {
	a.t.Helper()
	got := a.send(http.StatusOK, http.MethodPost, "/customers?"+url.Values{"email_address": fields["email_address"]}.Encode(), fields.Encode())
	a.token(got)
	c, err := got.customer()
	if want := made(customer{}, fields); err != nil || !want.same(c) {
		a.t.Fatalf("create %q: %s (%v)", fields, got.body, err)
	}
	a.visible = append(a.visible, c.ID)
	return c
}

// token plants the token of an answer, as it is and as the bytes that it spells.
func (a *aviary) token(got answer) string {
	a.t.Helper()
	var body struct {
		Juspay struct {
			Token string `json:"client_auth_token"`
		}
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.Juspay.Token == "" {
		a.t.Fatalf("no token in %s (%v)", got.body, err)
	}
	raw := make([]byte, 16)
	if _, err := fmt.Sscanf(body.Juspay.Token, "tkn_%x", &raw); err != nil {
		a.t.Fatal(err)
	}
	a.birds.plantSecret("a token", body.Juspay.Token, raw)
	return body.Juspay.Token
}

// plantSecret makes the scanner look for a secret's text and for the bytes that
// this stands for.
func (s *scanner) plantSecret(what, text string, raw []byte) {
	s.plant(what, text)
	s.values++
	s.add(needle{lower(raw), "its bytes", what})
}

// command runs a command, which must end with a status, and returns its standard
// output. What it says on standard error is logged.
func (a *aviary) command(want int, args ...string) string {
	a.t.Helper()
	return a.commandWith(want, "", args...)
}

// commandWith is command with a standard input.
func (a *aviary) commandWith(want int, input string, args ...string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Program(a.t), append(args, "--data", a.data)...)
	cmd.Env = testkit.Env()
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		fmt.Fprintf(&a.logs, "%s\n", exit.Stderr)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		a.t.Errorf("grahak %s: exit status %d (%v), want %d: %s", strings.Join(args, " "), got, err, want, a.logs.String())
	}
	a.answers.Write(out)
	return string(out)
}

// fetch returns what the operations listener answers.
func (a *aviary) fetch(want int, method, path, body string) string {
	a.t.Helper()
	c := newClient(a.server.OpsURL, "")
	defer c.close()
	got, err := c.send(a.t.Context(), method, path, body, "Content-Type: application/x-www-form-urlencoded")
	if err != nil || got.status != want {
		a.t.Errorf("%s %s: %d %s (%v), want %d", method, path, got.status, got.body, err, want)
	}
	return got.body
}

// keyFile is the file that a sandbox keeps its master key in.
const keyFile = "master.key"

// plantMasterKey plants the master key, and returns its text.
func (a *aviary) plantMasterKey() string {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.data, keyFile))
	if err != nil {
		a.t.Fatal(err)
	}
	key := string(bytes.TrimSpace(text))
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		a.t.Fatalf("the master key file holds no key (%v)", err)
	}
	a.birds.plantSecret(masterKeyNamed(key), key, raw)
	return key
}

func masterKeyNamed(key string) string { return "master key " + key[:4] + "…" }

// search looks through every byte there is. The present master key may be in
// its file, and must be.
func (a *aviary) search(when, masterKey string, more ...string) {
	a.t.Helper()
	t := a.t
	files := MustReadFolder(t, a.data)
	own := a.birds.scan(files[keyFile])
	if want := masterKeyNamed(masterKey); len(own) == 0 || slices.ContainsFunc(own, func(f string) bool { return !strings.HasPrefix(f, want) }) {
		t.Errorf("%s: %s holds %q, want %s and nothing else", when, keyFile, own, want)
	}
	delete(files, keyFile)
	for _, path := range more {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = content
	}
	for i, s := range a.serverLogs {
		files[fmt.Sprintf("log %d", i)] = []byte(s.Log(t))
	}
	files["what commands complained of"] = []byte(a.logs.String())
	for name, content := range files {
		a.birds.wantNothing(t, when+": "+name, content)
	}
	t.Logf("%s: looked for %d values in %v", when, a.birds.values, slices.Sorted(maps.Keys(files)))

	// What may be there is found.
	for _, name := range append([]string{"grahak.db", "log 0"}, more...) {
		content := files[name]
		if name == "grahak.db" {
			content = slices.Concat(content, files["grahak.db-wal"])
		}
		a.wantVisible(when, name, content)
	}
	// And so is what is planted where it may not be.
	scratch := t.TempDir()
	planted := []byte("…" + a.answers.String() + "…")
	if err := os.WriteFile(filepath.Join(scratch, "scratch"), planted, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := a.birds.scan(MustReadFolder(t, scratch)["scratch"]); len(found) < 20 {
		t.Errorf("%s: in what clients were told only %q is found", when, found)
	}
}

// wantVisible looks for what may be in a content.
func (a *aviary) wantVisible(when, name string, content []byte) {
	a.t.Helper()
	seen := newScanner()
	for _, id := range a.visible {
		seen.plant(id, id)
	}
	if len(seen.scan(content)) == 0 {
		a.t.Errorf("%s: no customer's id is found in %s, so nothing would be", when, name)
	}
}

// TestNothingInClear sends planted values through all that the program does, and
// then looks for them in every byte that it has written anywhere.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := &aviary{t: t, data: filepath.Join(dir, "data"), birds: newScanner()}
	a.start("--log-level", "debug")
	masterKey := a.plantMasterKey()
	a.birds.plant("the API key", a.client.key)

	kept := a.create(a.person("a kept"))
	a.requests(kept)
	a.refusals(kept)
	a.operations()
	a.commands(kept)
	a.search("while the server runs", masterKey)
	if log, err := os.Stat(database(a.data) + "-wal"); err != nil || log.Size() == 0 {
		t.Errorf("there is no write-ahead log to look through (%v)", err)
	}

	// A crash leaves everything as it is.
	crashed := a.create(a.person("a crashed"))
	a.server.Kill(t)
	a.search("after kill -9", masterKey)
	a.start("--log-level", "debug", "--log-format", "text")
	for _, c := range []customer{kept, crashed} {
		a.send(http.StatusOK, http.MethodGet, byReference(c).path, "")
		a.send(http.StatusOK, http.MethodPost, byID(c).path, url.Values{"last_name": {a.name("a last name after a crash")}}.Encode())
	}

	backup := filepath.Join(dir, "backup")
	a.command(0, "backup", backup)
	a.command(0, "seal", "rotate", "--all")
	a.command(0, "seal", "rewrap")
	old := masterKey
	if masterKey = a.plantMasterKey(); masterKey == old {
		t.Error("a rewrap has made no new master key")
	}
	later := filepath.Join(dir, "later")
	a.command(0, "backup", later)
	a.command(0, "audit", "verify")
	a.command(0, "doctor")
	a.requests(a.create(a.person("a late")))
	a.search("after rotation, rewrap and backup", masterKey, backup, later)

	a.server.Stop(t)
	a.command(0, "seal", "rotate", "--all")
	a.command(0, "seal", "status")
	a.command(0, "customer", "erase", "--merchant", "demo", "--yes", crashed.Reference)
	a.search("when all has ended", masterKey, backup, later)
	a.wantVisible("when all has ended", "the request log", MustReadFolder(t, a.data)["requests.db"])

	restored := &aviary{t: t, data: filepath.Join(dir, "restored"), birds: a.birds, visible: a.visible}
	restored.command(1, "restore", later, "--master-key-file", filepath.Join(dir, "none"))
	restored.command(0, "restore", later, "--master-key-file", filepath.Join(a.data, keyFile))
	for name, content := range MustReadFolder(t, restored.data) {
		a.birds.wantNothing(t, "a restored "+name, content)
	}
	a.birds.wantNothing(t, "what restore complained of", []byte(restored.logs.String()))
}

// requests does everything that succeeds.
func (a *aviary) requests(c customer) {
	const jsonBody = "Content-Type: application/json"
	token := "?options.get_client_auth_token=true"
	a.token(a.send(http.StatusOK, http.MethodGet, byID(c).path+token, ""))
	a.token(a.send(http.StatusOK, http.MethodGet, "/customers/"+c.Reference+token, ""))
	// In a path with every character escaped.
	var escaped strings.Builder
	for _, b := range []byte(c.Reference) {
		fmt.Fprintf(&escaped, "%%%02X", b)
	}
	a.send(http.StatusOK, http.MethodGet, "/customers/"+escaped.String(), "")

	// Made in the path, fetched, and changed there.
	ensured := "/v2/customers/" + a.email("an ensured reference")
	a.send(http.StatusOK, http.MethodPost, ensured, a.person("an ensured").Encode())
	a.send(http.StatusOK, http.MethodPost, ensured, a.person("a fetched").Encode())
	a.send(http.StatusOK, http.MethodPost, ensured, a.person("an ensured and changed").Encode()+"&update=true")

	inJSON, _ := json.Marshal(map[string]any{
		"object_reference_id": a.name("a JSON reference") + "/ref?a=b&c", "mobile_number": a.digits("a JSON number"), "last_name": a.name("a JSON last name"),
		"metadata": map[string]string{a.word("a JSON metadata key"): a.name("a JSON metadata value")},
	})
	a.send(http.StatusOK, http.MethodPost, "/v2/customers", string(inJSON), jsonBody)
	a.send(http.StatusOK, http.MethodPost, "/customers", "--b\r\nContent-Disposition: form-data; name=\"object_reference_id\"\r\n\r\n"+a.email("a multipart reference")+
		"\r\n--b\r\nContent-Disposition: form-data; name=\"mobile_number\"; filename=\""+a.word("a file name")+"\"\r\n\r\n"+a.digits("a multipart number")+"\r\n--b--\r\n",
		"Content-Type: multipart/form-data; boundary=b")

	// Updates of each field, and one that changes nothing.
	for field, value := range map[string]string{
		"mobile_number": a.digits("an updated number"), "email_address": a.email("an updated address"),
		"first_name": a.name("an updated first name"), "last_name": a.word("an updated last name"),
		"metadata[" + a.word("an updated metadata key") + "]": a.name("an updated metadata value"),
	} {
		update := url.Values{field: {value}, "object_reference_id": {a.email("an updated reference")}}.Encode()
		got := a.send(http.StatusOK, http.MethodPost, byReference(c).path, update)
		a.send(http.StatusOK, http.MethodPost, byID(c).path, update)
		updated, err := got.customer()
		if err != nil {
			a.t.Fatal(err)
		}
		c = updated
	}
	inJSON, _ = json.Marshal(map[string]any{"first_name": a.name("an updated JSON name"), "email_address": nil})
	a.send(http.StatusOK, http.MethodPost, byID(c).path, string(inJSON), jsonBody)

	// Searches that find somebody and searches that do not, and pages.
	search := func(filter url.Values) {
		a.send(http.StatusOK, http.MethodGet, find(filter).path, "")
	}
	for _, w := range bySearch(c) {
		a.send(http.StatusOK, http.MethodGet, w.path, "")
	}
	search(url.Values{"email_address": {strings.ToUpper(*c.Email)}})
	search(url.Values{"email_address": {a.email("a sought address")}})
	search(url.Values{"mobile_number": {a.digits("a sought number")}, "mobile_country_code": {"44"}})
	search(url.Values{"object_reference_id": {a.email("a sought reference")}})
	search(url.Values{"created_after": {"2020-01-01T00:00:00Z"}, "created_before": {"2099-01-01T00:00:00Z"}, "name": {a.word("an unknown filter")}})
	first, err := a.send(http.StatusOK, http.MethodGet, "/customers?count=1", "").page()
	if err != nil || first.Next == nil {
		a.t.Fatalf("there is no second page (%v)", err)
	}
	a.birds.plant("a cursor", *first.Next)
	search(url.Values{"after": {*first.Next}, "count": {"2"}})
	search(url.Values{"offset": {"1"}})

	// Erased by each id, after a change.
	for _, by := range []func(customer) way{byID, byReference} {
		gone := a.create(a.person("an erased"))
		a.send(http.StatusOK, http.MethodPost, byID(gone).path, url.Values{"email_address": {a.email("a changed and erased address")}}.Encode())
		a.send(http.StatusOK, http.MethodDelete, by(gone).path, a.word("the body of an erase"))
		a.send(http.StatusNotFound, http.MethodGet, byReference(gone).path, "")
	}
}

// refusals does everything that is refused.
func (a *aviary) refusals(c customer) {
	a.send(http.StatusPreconditionFailed, http.MethodPost, byID(c).path, "first_name="+a.word("a first name for another version"), "If-Match: \""+a.email("an If-Match")+"\"")
	a.send(http.StatusPreconditionFailed, http.MethodPost, "/v2/customers/"+a.email("an unknown reference below v2"), a.person("one with a condition").Encode(), "If-Match: *")
	duplicate := a.person("a duplicate")
	duplicate.Set("object_reference_id", c.Reference)
	a.send(http.StatusBadRequest, http.MethodPost, "/customers", duplicate.Encode())
	for _, field := range []string{"object_reference_id", "mobile_number", "mobile_country_code", "email_address", "first_name", "last_name", "metadata", "metadata[a]"} {
		bad := a.person("a refused")
		bad.Set(field, a.word("a bad "+field)+"\x00")
		a.send(http.StatusBadRequest, http.MethodPost, "/customers", bad.Encode())
		if field != "object_reference_id" {
			a.send(http.StatusBadRequest, http.MethodPost, byReference(c).path, url.Values{field: bad[field]}.Encode())
		}
	}
	for _, name := range []string{
		"object_reference_id", "mobile_number", "mobile_country_code", "email_address", "created_after", "created_before", "count", "offset", "after",
	} {
		a.send(http.StatusBadRequest, http.MethodGet, find(url.Values{name: {a.word("a bad "+name) + "\x00"}}).path, "")
	}
	a.send(http.StatusBadRequest, http.MethodPost, "/customers", `{"first_name":"`+a.name("a broken JSON name"), "Content-Type: application/json")
	a.send(http.StatusBadRequest, http.MethodPost, "/customers", "first_name="+a.word("a broken form name")+"%zz")
	a.send(http.StatusBadRequest, http.MethodPost, byReference(c).path, "metadata["+strings.Repeat(a.word("a long metadata key"), 4)+"]="+a.word("its value"))
	a.send(http.StatusBadRequest, http.MethodPost, "/customers", "--b\r\n"+a.word("a broken part")+"\r\n", "Content-Type: multipart/form-data; boundary=b")
	a.send(http.StatusRequestEntityTooLarge, http.MethodPost, "/customers", "first_name="+strings.Repeat(a.word("a large body"), 7000))
	a.send(http.StatusUnsupportedMediaType, http.MethodPost, "/customers", a.word("another type's body"), "Content-Type: text/"+a.word("another type"))
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		a.send(http.StatusNotFound, method, "/customers/"+url.PathEscape(a.email("an unknown reference")), "first_name="+a.name("an unknown customer's name"))
	}
	a.send(http.StatusNotFound, http.MethodGet, "/customers/"+a.email("a path with wallets")+"/wallets", "")
	a.send(http.StatusNotFound, http.MethodGet, "/"+a.word("an unknown path"), "")
	a.send(http.StatusMethodNotAllowed, http.MethodPut, "/customers/"+a.email("a wrong method's path"), a.word("a wrong method's body"))
	key := a.client.key
	defer func() { a.client.key = key }()
	a.client.key = a.word("a wrong key") + a.word("more of a wrong key")
	a.send(http.StatusUnauthorized, http.MethodGet, "/customers/"+a.email("a stranger's path"), "")
	a.client.key = key
	a.send(http.StatusUnauthorized, http.MethodGet, "/customers", "", "X-Merchantid: "+a.word("another merchant"))
}

// operations does what the platform's own services do.
func (a *aviary) operations() {
	token := a.token(a.send(http.StatusOK, http.MethodPost, "/customers", a.person("a token's").Encode()))
	a.fetch(http.StatusOK, http.MethodPost, "/client-auth-tokens/verify", "client_auth_token="+token)
	a.fetch(http.StatusNotFound, http.MethodPost, "/client-auth-tokens/verify", "client_auth_token="+a.word("a wrong token"))
	a.fetch(http.StatusNotFound, http.MethodGet, "/"+a.word("an unknown path of operations"), "")
	for _, path := range []string{"/readyz", "/healthz", "/debug/pprof/goroutine?debug=2"} {
		a.birds.wantNothing(a.t, path, []byte(a.fetch(http.StatusOK, http.MethodGet, path, "")))
	}
	metrics := a.fetch(http.StatusOK, http.MethodGet, "/metrics", "")
	a.birds.wantNothing(a.t, "/metrics", []byte(metrics))
	if !strings.Contains(metrics, `route="/customers/{id}"`) {
		a.t.Errorf("the metrics have no requests in them:\n%s", metrics)
	}
}

// commands does what operators do.
func (a *aviary) commands(c customer) {
	demo := []string{"--merchant", "demo"}
	customers := func(want int, args ...string) string {
		a.t.Helper()
		return a.command(want, slices.Concat([]string{"customer"}, args, demo)...)
	}
	for _, ref := range []string{c.ID, c.Reference} {
		for _, args := range [][]string{{"get", ref}, {"get", ref, "--json"}, {"export", ref}} {
			if out := customers(0, args...); !strings.Contains(out, c.Reference) {
				a.t.Errorf("grahak customer %q does not show the customer, so this shows nothing:\n%s", args, out)
			}
		}
	}
	customers(0, "list")
	customers(0, "list", "--json", "--count", "1")
	customers(0, "list", "--reference", c.Reference)
	customers(0, "list", "--email", a.email("an address given to a command"))
	customers(0, "list", "--mobile", a.digits("a number given to a command"), "--country-code", "91")
	customers(1, "get", a.email("a reference given to a command"))
	customers(1, "export", a.email("a reference to export"))
	customers(1, "erase", "--yes", a.email("a reference to erase"))
	customers(2, "list", "--email", a.word("no address given to a command"))
	customers(2, "list", "--mobile", a.word("no number given to a command"))
	customers(1, "list", "--after", a.word("no cursor given to a command"))
	gone := a.create(a.person("a command's"))
	customers(2, "erase", gone.Reference) // There is no terminal to ask on.
	customers(0, "erase", "--yes", gone.Reference)

	var key struct{ Key string }
	if err := json.Unmarshal([]byte(a.command(0, "key", "create", "--merchant", "demo", "--json")), &key); err != nil {
		a.t.Fatal(err)
	}
	a.birds.plant("another API key", key.Key)
	// Four characters of an imported key stay, by which it is told from others.
	a.commandWith(0, "mine"+a.word("an imported key")+a.word("more of an imported key")+"\n", "key", "import", "--merchant", "demo")
	a.commandWith(1, a.word("a bad key\x01")+" \x01\n", "key", "import", "--merchant", "demo")
	a.command(0, "key", "list", "--merchant", "demo")
}
