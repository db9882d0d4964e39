package cli_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// event is a line of the log.
type event map[string]any

// timeless compares events without their times.
var timeless = cmpopts.IgnoreMapEntries(func(name string, _ any) bool { return name == "time" })

// readLog reads a log of which each line is a JSON object.
func readLog(t *testing.T, log string) []event {
	t.Helper()
	var events []event
	for line := range strings.Lines(log) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in the line %q", err, line)
		}
		if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(e["time"])); err != nil || at.IsZero() || e["level"] == nil || e["msg"] == nil {
			t.Errorf("a line without time, level and message: %q", line)
		}
		events = append(events, e)
	}
	return events
}

// TestLog checks that the log has one event for each request, with what an operator needs and nothing of what is
// personal or secret: the word canary is in all of that.
func TestLog(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, nil, serve(data, "--trusted-proxies", "127.0.0.1")...)
	banner := p.banner(t)
	demo := caller{base: field(t, banner, "Base URL"), key: field(t, banner, "API key")}
	// Report mode notes what enforce would refuse.
	run(t, "merchant", "create", "watched", "--data", data).done(t)
	run(t, "iplist", "add", "203.0.113.7", "--merchant", "watched", "--data", data).done(t)
	run(t, "iplist", "mode", "report", "--merchant", "watched", "--data", data).done(t)
	watched := caller{base: demo.base, key: createKey(t, data, "watched").Key}

	const (
		key      = `^key_[0-9a-z]{16}$`
		customer = `^cst_[0-9a-z]{16}$`
		loopback = `^127\.0\.0\.1$`
	)
	full := "mobile_number=98765canary"
	for _, name := range []string{"object_reference_id", "email_address", "first_name", "last_name"} {
		full += "&" + name + "=canary"
	}
	good := "object_reference_id=canary%40example.com&mobile_number=9988776655&email_address=canary%40example.com&first_name=canary&last_name=canary&metadata[canary]=canary&options.get_client_auth_token=true"
	private := []string{
		"X-Routing-Id", "canary@example.com", "X-Customerid", "canary@example.com", "User-Agent", "canary/1.0", "Referer", "http://canary.example.com/",
		"Cookie", "canary=canary", "Version", "canary",
	}
	requests := []struct {
		from               caller
		method, path, body string
		headers            []string
		want               map[string]string // patterns of the fields that the event has beside the common ones
	}{
		{
			demo, "POST", "/customers?canary=canary", good,
			[]string{"Version", "2023-06-30"},
			map[string]string{"route": "^/customers$", "status": "^200$", "merchant": "^demo$", "key": key, "customer": customer, "addr": loopback, "version": "^2023-06-30$"},
		},
		{
			demo, "POST", "/v2/customers", strings.Replace(good, "canary", "canary2", 1), private,
			map[string]string{"route": "^/v2/customers$", "status": "^200$", "merchant": "^demo$", "key": key, "customer": customer, "addr": loopback},
		},
		{
			demo, "GET", "/customers/canary%40example.com?canary=canary&options.get_client_auth_token=true", "", append(private, "X-Forwarded-For", "203.0.113.9"),
			map[string]string{"route": "^/customers/{id}$", "status": "^200$", "merchant": "^demo$", "key": key, "customer": customer, "addr": `^203\.0\.113\.9$`},
		},
		{
			demo, "POST", "/customers/canary%40example.com", "first_name=canary2", append(private, "X-Forwarded-For", "canary"),
			map[string]string{"route": "^/customers/{id}$", "status": "^200$", "merchant": "^demo$", "key": key, "customer": customer, "addr": loopback},
		},
		{
			demo, "POST", "/customers", good, private,
			map[string]string{"route": "^/customers$", "status": "^400$", "merchant": "^demo$", "key": key, "customer": customer, "addr": loopback, "code": "^duplicate_reference$"},
		},
		{
			demo, "POST", "/customers", full, private,
			map[string]string{"route": "^/customers$", "status": "^400$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "^invalid_field$"},
		},
		{
			demo, "GET", "/customers/canary-unknown", "", private,
			map[string]string{"route": "^/customers/{id}$", "status": "^404$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "^customer_not_found$"},
		},
		{
			demo, "DELETE", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^405$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "^method_not_allowed$"},
		},
		{
			demo, "CANARY", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^405$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "^method_not_allowed$"},
		},
		{
			demo, "GET", "/canary/canary", "", private,
			map[string]string{"route": "^unmatched$", "status": "^404$", "addr": loopback, "code": "^not_found$"},
		},
		{
			demo, "POST", "/customers", "canary=%zz" + good, append(private, "Content-Type", "application/canary"),
			map[string]string{"route": "^/customers$", "status": "^4..$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "."},
		},
		{
			demo, "GET", "/customers", "", append(private, "X-Merchantid", "canary"),
			map[string]string{"route": "^/customers$", "status": "^401$", "key": key, "addr": loopback, "code": "^invalid_api_key$", "refusal": "^key of another merchant$"},
		},
		{
			caller{base: demo.base, key: "canary-canary-canary"},
			"GET", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^401$", "addr": loopback, "code": "^invalid_api_key$", "refusal": "^unknown key$"},
		},
		{
			caller{base: demo.base},
			"GET", "/customers", "", append(private, "Authorization", "Bearer canary"),
			map[string]string{"route": "^/customers$", "status": "^401$", "addr": loopback, "code": "^invalid_api_key$", "refusal": "^malformed$"},
		},
		{
			watched, "GET", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^200$", "merchant": "^watched$", "key": key, "addr": loopback, "ip_list": "^would refuse$"},
		},
	}
	// Of the operations listener, checks of tokens are logged, and routine is not.
	ops := caller{base: field(t, banner, "Operations")}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/cmdline", "/canary"} {
		ops.send(t, "GET", path+"?canary=canary", "", private...)
	}
	requests = append(requests, []struct {
		from               caller
		method, path, body string
		headers            []string
		want               map[string]string
	}{
		{
			ops, "POST", "/client-auth-tokens/verify?canary=canary", "client_auth_token=TOKEN", private,
			map[string]string{"route": "^/client-auth-tokens/verify$", "status": "^200$", "merchant": "^demo$", "customer": customer, "addr": loopback},
		},
		{
			ops, "POST", "/client-auth-tokens/verify", "client_auth_token=tkn_canary", private,
			map[string]string{"route": "^/client-auth-tokens/verify$", "status": "^404$", "addr": loopback, "code": "^token_not_found$"},
		},
		{
			ops, "POST", "/client-auth-tokens/verify", "canary", private,
			map[string]string{"route": "^/client-auth-tokens/verify$", "status": "^400$", "addr": loopback, "code": "^malformed_body$"},
		},
	}...)
	wants := map[string]map[string]string{}
	var tokens []string
	for i, r := range requests {
		id := fmt.Sprintf("request-%d", i)
		body := r.body
		if len(tokens) > 0 {
			body = strings.Replace(body, "TOKEN", tokens[0], 1)
		}
		a := r.from.send(t, r.method, r.path, body, append(r.headers, "X-Request-Id", id)...)
		tokens = append(tokens, regexp.MustCompile(`tkn_[0-9a-f]+`).FindAllString(a.body, -1)...)
		r.want["method"] = "^" + r.method + "$"
		if r.method == "CANARY" {
			r.want["method"] = "^other$"
		}
		wants[id] = r.want
	}
	if len(tokens) != 3 {
		t.Errorf("%d tokens were issued, want 3", len(tokens))
	}
	if status := p.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}

	log := p.err.String()
	secrets := append(tokens, demo.key, watched.key, "9988776655", "98765", "canary")
	for _, secret := range secrets {
		for line := range strings.Lines(log) {
			if strings.Contains(strings.ToLower(line), strings.ToLower(secret)) {
				t.Errorf("the log holds %q: %s", secret, line)
			}
		}
	}
	events := readLog(t, log)
	if len(events) < 2 {
		t.Fatalf("the log has %d events", len(events))
	}
	first, last := events[0], events[len(events)-1]
	address := func(label string) string { return strings.TrimPrefix(field(t, banner, label), "http://") }
	if diff := cmp.Diff(event{
		"level": "INFO", "msg": "started", "environment": "sandbox", "version": strings.TrimSuffix(field(t, banner, "Grahak"), ","),
		"api": address("Base URL"), "operations": address("Operations"),
	}, first, timeless); diff != "" {
		t.Errorf("the first event (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(event{"level": "INFO", "msg": "stopped"}, last, timeless); diff != "" {
		t.Errorf("the last event (-want +got):\n%s", diff)
	}
	seen := map[string]int{}
	for _, e := range events[1 : len(events)-1] {
		if e["msg"] != "request" {
			t.Errorf("an event that is no request: %v", e)
			continue
		}
		id := fmt.Sprint(e["request_id"])
		seen[id]++
		want := wants[id]
		if took, ok := e["duration_us"].(float64); !ok || took < 0 {
			t.Errorf("%s took %v", id, e["duration_us"])
		}
		fields := append(slices.Collect(maps.Keys(want)), "time", "level", "msg", "request_id", "duration_us")
		less := func(a, b string) bool { return a < b }
		if diff := cmp.Diff(fields, slices.Collect(maps.Keys(e)), cmpopts.SortSlices(less)); diff != "" {
			t.Errorf("fields of the event of %s (-want +got):\n%s", id, diff)
		}
		for name, pattern := range want {
			if got := fmt.Sprint(e[name]); !regexp.MustCompile(pattern).MatchString(got) {
				t.Errorf("%s: %s is %q, want %s", id, name, got, pattern)
			}
		}
	}
	for id := range wants {
		if seen[id] != 1 {
			t.Errorf("%d events of %s, want one", seen[id], id)
		}
	}
}

// TestLogSettings checks the form and the level of the log.
func TestLogSettings(t *testing.T) {
	const inJSON = `^\{"time":"[^"]+","level":"INFO","msg":"started",.*\}\n\{"time":"[^"]+","level":"INFO","msg":"request",.*"status":401,.*\}\n\{"time":"[^"]+","level":"INFO","msg":"stopped"\}\n$`
	for name, c := range map[string]struct {
		flags   []string
		pattern string // of the whole log
	}{
		"JSON on a pipe": {nil, inJSON},
		"JSON":           {[]string{"--log-format", "json"}, inJSON},
		"text": {[]string{"--log-format", "text"}, `^time=\S+ level=INFO msg=started .*\n` +
			`time=\S+ level=INFO msg=request request_id=\S+ method=GET route=/customers status=401 duration_us=\d+ addr=127\.0\.0\.1 code=invalid_api_key refusal=malformed\n` +
			`time=\S+ level=INFO msg=stopped\n$`},
		"warnings only": {[]string{"--log-level", "warn"}, `^$`},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil, serve(filepath.Join(t.TempDir(), "data"), c.flags...)...)
			if status := (caller{base: field(t, p.banner(t), "Base URL")}).list(t); status != http.StatusUnauthorized {
				t.Errorf("%d, want 401", status)
			}
			p.stop(t, syscall.SIGTERM)
			mustMatch(t, "the log", p.err.String(), c.pattern)
		})
	}
}

// TestRefusalsInTheLog checks that an operator can tell why a key was refused, and that its bearer cannot.
func TestRefusalsInTheLog(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, nil, serve(data)...)
	banner := p.banner(t)
	base := field(t, banner, "Base URL")
	do := func(args ...string) {
		t.Helper()
		run(t, append(args, "--data", data)...).done(t)
	}
	revoked, expired := createKey(t, data, "demo"), createKey(t, data, "demo")
	do("key", "revoke", revoked.ID, "--merchant", "demo")
	rotate(t, data, "demo", expired.ID, "0s")
	do("merchant", "create", "acme")
	disabled := createKey(t, data, "acme")
	do("merchant", "disable", "acme")
	good := createKey(t, data, "demo")
	mistyped := good.Key[:len(good.Key)-1] + "0"
	if mistyped == good.Key {
		mistyped = good.Key[:len(good.Key)-1] + "1"
	}

	want := map[string]event{}
	var bodies []string
	for _, c := range []struct {
		name, key, refusal, id string
		headers                []string
	}{
		{"none", "", "malformed", "", nil},
		{"mistyped", mistyped, "malformed", "", nil},
		{"unknown", "brought-from-elsewhere", "unknown key", "", nil},
		{"revoked", revoked.Key, "revoked", revoked.ID, nil},
		{"expired", expired.Key, "expired", expired.ID, nil},
		{"disabled", disabled.Key, "merchant disabled", disabled.ID, nil},
		{"other", good.Key, "key of another merchant", good.ID, []string{"X-Merchantid", "acme"}},
	} {
		a := (caller{base: base, key: c.key}).send(t, http.MethodGet, "/customers", "", append(c.headers, "X-Request-Id", c.name)...)
		bodies = append(bodies, fmt.Sprint(a.status, a.header["X-Jp-Merchant-Id"], a.body))
		e := event{
			"level": "INFO", "msg": "request", "request_id": c.name, "method": "GET", "route": "/customers", "status": 401.0,
			"addr": "127.0.0.1", "code": "invalid_api_key", "refusal": c.refusal,
		}
		if c.id != "" {
			e["key"] = c.id
		}
		want[c.name] = e
	}
	for _, body := range bodies {
		if body != bodies[0] || !strings.HasPrefix(body, "401 ") {
			t.Errorf("the answers to refused keys differ, or are no refusals:\n%s\n%s", bodies[0], body)
		}
	}
	p.stop(t, syscall.SIGTERM)
	got := map[string]event{}
	for _, e := range readLog(t, p.err.String()) {
		if e["msg"] == "request" {
			got[fmt.Sprint(e["request_id"])] = e
		}
	}
	ignored := cmpopts.IgnoreMapEntries(func(name string, _ any) bool { return name == "time" || name == "duration_us" })
	if diff := cmp.Diff(want, got, ignored); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestOperationsInTheLog checks that at level debug the operations listener's routine is logged as well, by its patterns.
func TestOperationsInTheLog(t *testing.T) {
	p := start(t, nil, serve(filepath.Join(t.TempDir(), "data"), "--log-level", "debug")...)
	ops := caller{base: field(t, p.banner(t), "Operations")}
	type entry struct {
		Level, Method, Route string
		Status               float64
	}
	var want []entry
	for _, c := range []struct {
		method, path string
		want         entry
	}{
		{http.MethodGet, "/healthz?canary", entry{Level: "DEBUG", Route: "/healthz", Status: 200}},
		{http.MethodGet, "/readyz", entry{Level: "DEBUG", Route: "/readyz", Status: 200}},
		{http.MethodGet, "/metrics", entry{Level: "DEBUG", Route: "/metrics", Status: 200}},
		{http.MethodGet, "/debug/pprof/cmdline", entry{Level: "DEBUG", Route: "/debug/pprof/cmdline", Status: 200}},
		{http.MethodGet, "/debug/pprof/canary", entry{Level: "DEBUG", Route: "/debug/pprof/", Status: 404}},
		{http.MethodGet, "/canary", entry{Level: "DEBUG", Route: "unmatched", Status: 404}},
		{http.MethodPost, "/client-auth-tokens/verify", entry{Level: "INFO", Route: "/client-auth-tokens/verify", Status: 400}},
	} {
		if a := ops.send(t, c.method, c.path, ""); a.status != int(c.want.Status) {
			t.Errorf("%s %s: %d %s, want %v", c.method, c.path, a.status, a.body, c.want.Status)
		}
		c.want.Method = c.method
		want = append(want, c.want)
	}
	p.stop(t, syscall.SIGTERM)
	log := p.err.String()
	if strings.Contains(log, "canary") {
		t.Errorf("the log holds a path:\n%s", log)
	}
	var got []entry
	for _, e := range readLog(t, log) {
		if e["msg"] != "request" {
			continue
		}
		status, _ := e["status"].(float64)
		got = append(got, entry{fmt.Sprint(e["level"]), fmt.Sprint(e["method"]), fmt.Sprint(e["route"]), status})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
