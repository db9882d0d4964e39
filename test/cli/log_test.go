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
	good := "object_reference_id=canary%40example.com&mobile_number=9988776655&email_address=canary%40example.com&first_name=canary&last_name=canary&options.get_client_auth_token=true"
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
			map[string]string{"route": "^/customers$", "status": "^400$", "merchant": "^demo$", "key": key, "addr": loopback, "code": "^duplicate_reference$"},
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
			map[string]string{"route": "^/customers$", "status": "^401$", "addr": loopback, "code": "^invalid_api_key$"},
		},
		{
			caller{base: demo.base, key: "canary-canary-canary"},
			"GET", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^401$", "addr": loopback, "code": "^invalid_api_key$"},
		},
		{
			caller{base: demo.base},
			"GET", "/customers", "", append(private, "Authorization", "Bearer canary"),
			map[string]string{"route": "^/customers$", "status": "^401$", "addr": loopback, "code": "^invalid_api_key$"},
		},
		{
			watched, "GET", "/customers", "", private,
			map[string]string{"route": "^/customers$", "status": "^200$", "merchant": "^watched$", "key": key, "addr": loopback, "ip_list": "^would refuse$"},
		},
	}
	wants := map[string]map[string]string{}
	var tokens []string
	for i, r := range requests {
		id := fmt.Sprintf("request-%d", i)
		a := r.from.send(t, r.method, r.path, r.body, append(r.headers, "X-Request-Id", id)...)
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
	seen := map[string]int{}
	for _, e := range readLog(t, log) {
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
	for name, c := range map[string]struct {
		flags   []string
		pattern string // of the whole log
	}{
		"JSON on a pipe": {nil, `^\{"time":"[^"]+","level":"INFO","msg":"request",.*"status":401,.*\}\n$`},
		"JSON":           {[]string{"--log-format", "json"}, `^\{"time":"[^"]+","level":"INFO","msg":"request",.*"status":401,.*\}\n$`},
		"text":           {[]string{"--log-format", "text"}, `^time=\S+ level=INFO msg=request request_id=\S+ method=GET route=/customers status=401 duration_us=\d+ addr=127\.0\.0\.1 code=invalid_api_key\n$`},
		"warnings only":  {[]string{"--log-level", "warn"}, `^$`},
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
