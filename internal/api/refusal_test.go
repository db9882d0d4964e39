package api_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
)

// Why a credential is refused is for operators: the log has it, with the key if
// it is known, and every client gets the same literal answer.
func TestRefusalsAreLogged(t *testing.T) {
	s := MustServe(t)
	operate := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.MustKey(t, demo, "revoked", grahak.KeySpec{Scope: grahak.ScopeWrite})
	operate(s.service.RevokeKey(t.Context(), operator(demo), s.keys["revoked"].id))
	s.MustKey(t, demo, "expired", grahak.KeySpec{Scope: grahak.ScopeWrite, ExpiresAt: s.clock.Now().Add(time.Hour)})
	s.clock.Advance(time.Hour)
	s.MustMerchant(t, "closed")
	operate(s.service.DisableMerchant(t.Context(), operator("closed")))
	s.MustMerchant(t, "rival")

	demoKey := s.keys[demo].text
	last := "a" // for the last character, which is one of a checksum
	if strings.HasSuffix(demoKey, last) {
		last = "b"
	}
	mistyped := demoKey[:len(demoKey)-1] + last
	auth := func(text string) string { return "Authorization: " + basicAuth(text) }
	demoAuth := auth(demoKey + ":")
	seen := make(map[string]bool)
	for i, tt := range []struct {
		name    string
		headers []string
		refusal grahak.Refusal
		key     string // of which the log has the id
	}{
		{"no credential", nil, grahak.RefusalMalformed, ""},
		{"another scheme", []string{"Authorization: Bearer " + demoKey}, grahak.RefusalMalformed, ""},
		{"no base64", []string{"Authorization: Basic *"}, grahak.RefusalMalformed, ""},
		{"an empty key", []string{auth(":")}, grahak.RefusalMalformed, ""},
		{"a password", []string{auth(demoKey + ":x")}, grahak.RefusalMalformed, ""},
		{"the key as the password", []string{auth(":" + demoKey)}, grahak.RefusalMalformed, ""},
		{"a mistyped key", []string{auth(mistyped + ":")}, grahak.RefusalMalformed, ""},
		{"a key that is far too long", []string{auth(strings.Repeat("a", 300) + ":")}, grahak.RefusalMalformed, ""},
		{"an unknown key", []string{auth("0123456789abcdef:")}, grahak.RefusalUnknown, ""},
		{"a revoked key", []string{"Authorization: " + s.basic("revoked")}, grahak.RefusalRevoked, "revoked"},
		{"a revoked key without a colon", []string{auth(s.keys["revoked"].text)}, grahak.RefusalRevoked, "revoked"},
		{"an expired key", []string{"Authorization: " + s.basic("expired")}, grahak.RefusalExpired, "expired"},
		{"a disabled merchant's key", []string{"Authorization: " + s.basic("closed")}, grahak.RefusalMerchantDisabled, "closed"},
		{"another merchant named", []string{demoAuth, "x-merchantid: rival"}, grahak.RefusalOtherMerchant, demo},
		{"another merchant named by an alias", []string{demoAuth, "x-jp-merchant-id: rival"}, grahak.RefusalOtherMerchant, demo},
		{"the merchant in capitals", []string{demoAuth, "x-merchantid: DEMO"}, grahak.RefusalOtherMerchant, demo},
		{"an empty merchant", []string{demoAuth, "x-merchantid:"}, grahak.RefusalOtherMerchant, ""},
		{"two merchants", []string{demoAuth, "x-merchantid: demo", "x-merchant-id: rival"}, grahak.RefusalOtherMerchant, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen[string(tt.refusal)] = true
			before := len(s.logged(t))
			id := fmt.Sprintf("refused-%d", i)
			x := s.MustSend(t, request("GET /customers/x", append(tt.headers, "X-Request-Id: "+id), ""))
			if want := string(MustCases(t)["invalid_api_key"].Body); x.status != http.StatusUnauthorized || x.answer != want {
				t.Errorf("%d %s, want %s", x.status, x.answer, want)
			}
			for name, values := range x.header {
				if name == "X-Jp-Merchant-Id" || strings.Contains(strings.Join(values, " "), string(tt.refusal)) {
					t.Errorf("the client is told %s: %q", name, values)
				}
			}
			got := s.mustSettle(t, before+1)[before]
			want := map[string]any{
				"level": "INFO", "request_id": id, "method": "GET", "route": "/customers/{id}", "status": 401.0,
				"addr": "127.0.0.1", "code": "invalid_api_key", "refusal": string(tt.refusal),
			}
			if tt.key != "" {
				want["key"] = string(s.keys[tt.key].id)
			}
			for _, name := range []string{"time", "msg", "duration_us"} {
				delete(got, name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the event (-want +got):\n%s", diff)
			}
		})
	}
	if len(seen) != 6 {
		t.Errorf("%d reasons were seen, want all 6: %v", len(seen), seen)
	}
	for name, key := range s.keys {
		if log := s.log.String(); strings.Contains(log, key.text) || strings.Contains(log, base64.StdEncoding.EncodeToString([]byte(key.text))) {
			t.Errorf("the log holds the key %s", name)
		}
	}
}

// What is refused for another reason than its key has no refusal in the log.
func TestOtherRefusalsAreNotTheKeys(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	s.MustKey(t, demo, "reader", grahak.KeySpec{Scope: grahak.ScopeRead})
	basic, reader := "Authorization: "+s.basic(demo), "Authorization: "+s.basic("reader")
	s.MustMerchant(t, "shut")
	if _, err := s.service.AddIPEntry(t.Context(), operator("shut"), "203.0.113.0/24", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.service.SetIPMode(t.Context(), operator("shut"), grahak.IPModeEnforce); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		line, header string
		status       int
		merchant     any
	}{
		{"GET /customers", basic, 200, demo},
		{"GET /customers/x", basic, 404, demo},
		{"PUT /customers", basic, 405, demo},
		{"POST /customers", basic, 400, demo},
		{"POST /customers/x", reader, 403, demo},
		{"GET /customers", "Authorization: " + s.basic("shut"), 403, "shut"},
		{"GET /elsewhere", "", 404, nil},
	} {
		var headers []string
		if tt.header != "" {
			headers = []string{tt.header}
		}
		x := s.MustSend(t, request(tt.line, headers, ""))
		event := s.mustSettle(t, i+1)[i]
		if x.status != tt.status || event["status"] != float64(tt.status) || event["refusal"] != nil || event["merchant"] != tt.merchant {
			t.Errorf("%s: %d, and the log says %v", tt.line, x.status, event)
		}
	}
}
