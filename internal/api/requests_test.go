package api_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
)

func (s *server) requestsPath() string { return filepath.Join(s.folder, "requests.db") }

// mustKept returns what the request log has of some merchants, and of requests whose key
// is none, by their ids.
func (s *server) mustKept(tb testing.TB, merchants ...grahak.MerchantID) map[string]grahak.RequestRecord {
	tb.Helper()
	kept := make(map[string]grahak.RequestRecord)
	collect := func(read func(grahak.RequestQuery) (grahak.RequestPage, error)) {
		q := grahak.RequestQuery{Limit: grahak.MaxPage}
		for {
			page, err := read(q)
			if err != nil {
				tb.Fatal(err)
			}
			for _, r := range page.Requests {
				if _, twice := kept[r.RequestID]; twice {
					tb.Errorf("the request log has %s twice", r.RequestID)
				}
				kept[r.RequestID] = r
			}
			if page.Next == "" {
				return
			}
			q.Before = page.Next
		}
	}
	for _, m := range merchants {
		collect(func(q grahak.RequestQuery) (grahak.RequestPage, error) {
			return s.service.Requests(tb.Context(), operator(string(m)), q)
		})
	}
	visitor := grahak.Visitor{Grants: []grahak.Grant{{Merchant: grahak.OperatorsMerchant, Role: grahak.RoleViewer}}}
	collect(func(q grahak.RequestQuery) (grahak.RequestPage, error) {
		return s.service.UnknownRequests(tb.Context(), visitor, q)
	})
	return kept
}

// wantAllLogged compares the request log with the log, which tells of every request.
func (s *server) wantAllLogged(tb testing.TB, merchants ...grahak.MerchantID) {
	tb.Helper()
	want, got := make(map[string]map[string]any), make(map[string]map[string]any)
	for _, event := range s.logged(tb) {
		id, _ := event["request_id"].(string)
		want[id] = event
		// What they do not share: the log has the merchant only of who may call, and
		// what is wrong if something is.
		for _, name := range []string{"time", "level", "msg", "error", "merchant", "version"} {
			delete(event, name)
		}
	}
	for id, r := range s.mustKept(tb, merchants...) {
		event := map[string]any{
			"request_id": id, "method": r.Method, "route": r.Route, "status": float64(r.Status),
			"duration_us": float64(r.Took.Microseconds()), "addr": r.Addr.String(),
		}
		for name, value := range map[string]string{"key": string(r.Key), "customer": string(r.Customer), "code": r.Code, "refusal": string(r.Refusal), "limit": string(r.Limit)} {
			if value != "" {
				event[name] = value
			}
		}
		if r.IPReport {
			event["ip_list"] = "would refuse"
		}
		got[id] = event
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("the request log does not tell what the log does (-want +got):\n%s", diff)
	}
}

// Every kind of answer is in the request log of whose key it was, with what there is to
// tell of it and nothing else.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	operate := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	list := func(merchant string, mode grahak.IPMode) {
		t.Helper()
		s.MustMerchant(t, merchant)
		_, err := s.service.AddIPEntry(t.Context(), operator(merchant), "203.0.113.0/24", "")
		operate(err)
		operate(s.service.SetIPMode(t.Context(), operator(merchant), mode))
	}
	list("shut", grahak.IPModeEnforce)
	list("watched", grahak.IPModeReport)
	s.MustMerchant(t, "closed")
	operate(s.service.DisableMerchant(t.Context(), operator("closed")))
	s.MustKey(t, demo, "reader", grahak.KeySpec{Scope: grahak.ScopeRead})
	s.MustKey(t, demo, "revoked", grahak.KeySpec{Scope: grahak.ScopeWrite})
	operate(s.service.RevokeKey(t.Context(), operator(demo), s.keys["revoked"].id))

	const sent = "object_reference_id=asha@example.com&mobile_number=9876543210&first_name=Asha"
	const one, all, v2 = "/customers/{id}", "/customers", "/v2/customers/{object_reference_id}"
	type record = grahak.RequestRecord
	made := grahak.CustomerID("") // filled in by the first answer
	want := make(map[string]record)
	n := 0
	send := func(key, line, body string, r record, headers ...string) {
		t.Helper()
		n++
		id := fmt.Sprintf("kind-%02d", n)
		headers = append(headers, "X-Request-Id: "+id)
		if key != "" {
			headers = append(headers, "Authorization: "+s.basic(key))
			r.Key, r.Merchant = s.keys[key].id, s.keys[key].merchant
		}
		x := s.MustSend(t, request(line, headers, body))
		if x.status != r.Status {
			t.Errorf("%s %s: %d %s, want %d", line, body, x.status, x.answer, r.Status)
		}
		if made == "" && r.Created {
			_, rest, _ := strings.Cut(x.answer, `"id":"`)
			text, _, _ := strings.Cut(rest, `"`)
			made = grahak.CustomerID(text)
			r.Customer = made
		}
		r.At, r.RequestID, r.Addr = s.clock.Now().UTC().Truncate(time.Microsecond), id, netip.MustParseAddr("127.0.0.1")
		if r.Method == "" {
			r.Method, _, _ = strings.Cut(line, " ")
		}
		want[id] = r
		s.clock.Advance(time.Millisecond)
	}
	again := "Idempotency-Key: again"
	send(demo, "POST /customers", sent, record{Route: all, Status: 200, Created: true}, again)
	send(demo, "POST /customers", sent, record{Route: all, Status: 200, Customer: made}, again)
	send(demo, "POST /customers", sent, record{Route: all, Status: 400, Code: "duplicate_reference", Customer: made})
	send(demo, "POST /v2/customers/asha@example.com", "", record{Route: v2, Status: 200, Customer: made})
	send(demo, "GET /customers/asha@example.com?email_address=asha@example.com", "", record{Route: one, Status: 200, Customer: made})
	send("reader", "GET /customers/"+string(made), "", record{Route: one, Status: 200, Customer: made})
	send(demo, "POST /customers/"+string(made), "first_name=Usha", record{Route: one, Status: 200, Customer: made})
	send(demo, "POST /customers/"+string(made), "first_name=Usha", record{Route: one, Status: 412, Code: "precondition_failed"}, `If-Match: "another"`)
	send(demo, "GET /customers?email_address=asha@example.com", "", record{Route: all, Status: 200})
	send(demo, "POST /customers", "mobile_number=asha@example.com", record{Route: all, Status: 400, Code: "invalid_field"})
	send(demo, "POST /customers", "%zz", record{Route: all, Status: 400, Code: "malformed_body"})
	send(demo, "POST /customers", "asha", record{Route: all, Status: 415, Code: "unsupported_media_type"}, "Content-Type: text/asha@example.com")
	send(demo, "POST /customers", strings.Repeat("asha@example.com", 5000), record{Route: all, Status: 413, Code: "body_too_large"})
	send(demo, "POST /customers/"+string(made), "first_name=Isha", record{Route: one, Status: 422, Code: "idempotency_mismatch"}, again)
	send(demo, "GET /customers/usha@example.com", "", record{Route: one, Status: 404, Code: "customer_not_found"})
	send(demo, "PATCH /customers/asha@example.com", "", record{Route: one, Status: 405, Code: "method_not_allowed"})
	send("reader", "DELETE /customers/asha@example.com", "", record{Route: one, Status: 403, Code: "insufficient_scope"})
	send("shut", "POST /customers", sent, record{Route: all, Status: 403, Code: "ip_not_whitelisted"})
	send("watched", "GET /customers", "", record{Route: all, Status: 200, IPReport: true})
	send("revoked", "GET /customers", "", record{Route: all, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalRevoked})
	send("closed", "GET /customers", "", record{Route: all, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalMerchantDisabled})
	send(demo, "GET /customers", "", record{Route: all, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalOtherMerchant}, "x-merchantid: shut")
	send("", "GET /customers/asha@example.com", "", record{Route: one, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalMalformed})
	send("", "GET /customers", "", record{Route: all, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalUnknown}, "Authorization: "+basicAuth("nobody-has-this-key:"))
	send("", "GET /asha@example.com", "", record{Route: "unmatched", Status: 404, Code: "not_found"})
	send(demo, "ASHA /customers", "", record{Route: all, Method: "other", Status: 405, Code: "method_not_allowed"})
	send(demo, "DELETE /customers/asha@example.com", "", record{Route: one, Status: 200, Customer: made})
	s.random.broken.Store(true)
	send(demo, "POST /customers", sent, record{Route: all, Status: 500, Code: "internal_error"})
	s.random.broken.Store(false)
	kept := func() {
		t.Helper()
		s.mustSettle(t, n)
		if diff := cmp.Diff(want, s.mustKept(t, demo, "shut", "watched", "closed"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("the request log (-want +got):\n%s", diff)
		}
	}
	kept()

	// Another server on the same log, as if the first were started again.
	s.mustLimit(t, grahak.Limits{Key: 1, Merchant: 100, Failed: 1})
	send(demo, "GET /customers", "", record{Route: all, Status: 200})
	send(demo, "GET /customers", "", record{Route: all, Status: 429, Code: "too_many_requests", Limit: grahak.LimitKey})
	send("", "GET /customers", "", record{Route: all, Status: 401, Code: "invalid_api_key", Refusal: grahak.RefusalMalformed})
	send("", "GET /customers", "", record{Route: all, Status: 429, Code: "too_many_requests", Refusal: grahak.RefusalMalformed, Limit: grahak.LimitFailed})
	operate(s.store.Close())
	s.clock.Advance(time.Minute)
	send("", "GET /customers/asha@example.com", "", record{Route: one, Status: http.StatusServiceUnavailable, Code: "unavailable"}, "Authorization: "+s.basic(demo))
	kept()
	s.wantAllLogged(t, demo, "shut", "watched", "closed")
}
