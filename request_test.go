package grahak_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// requestRigs calls test with a rig whose service has a request log, on both engines.
func requestRigs(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		r := MustMerchantRig(t)
		r.Service = MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Requests: MustOpenRequests(t)})
		test(t, r)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		r := MustMerchantRig(t)
		store, err := sqlstore.OpenPostgres(t.Context(), sqlstore.PostgresConfig{
			URL: postgres.Start(t, postgres.Options{Settings: map[string]string{"fsync": "off"}}).Database(t), Environment: grahak.Sandbox, Migrate: true, Logger: discard,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		r.Service = MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Requests: store.Requests()})
		test(t, r)
	})
}

// allPages returns the requests of all pages that a query has.
func allPages(t *testing.T, r *rig, q grahak.RequestQuery) (list []grahak.RequestRecord, pages int) {
	t.Helper()
	for {
		page, err := r.Requests(t.Context(), operator(acme), q)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, page.Requests...)
		pages++
		if page.Next == "" {
			return list, pages
		}
		if q.Before = page.Next; pages > 1000 {
			t.Fatal("pages have no end")
		}
	}
}

// Pages of requests have all that fit, newest first, each once, however they lie in
// blocks; and nobody else's.
func TestRequestPages(t *testing.T) {
	t.Parallel()
	requestRigs(t, func(t *testing.T, r *rig) {
		var want []grahak.RequestRecord
		// Enough for several blocks, of which small ones are merged.
		for i := range 700 {
			record := grahak.RequestRecord{
				At: r.clock.Now().Truncate(time.Microsecond), RequestID: fmt.Sprintf("req-%04d", i), Merchant: acme, Key: "key_1",
				Method: "GET", Route: "/customers/{id}", Status: 200, Took: time.Millisecond, Addr: netip.MustParseAddr("203.0.113.7"),
			}
			if i%5 == 0 {
				record.Status, record.Code, record.Customer = 404, "customer_not_found", "cst_1"
				record.Addr = netip.MustParseAddr("2001:db8::1")
			}
			want = append([]grahak.RequestRecord{record}, want...)
			r.NoteRequest(record)
			r.NoteRequest(grahak.RequestRecord{At: r.clock.Now(), RequestID: "of rival", Merchant: rival, Status: 200})
			r.NoteRequest(grahak.RequestRecord{At: r.clock.Now(), RequestID: "of nobody", Status: 401, Code: "invalid_api_key"})
			if i%7 == 0 {
				if err := r.FlushRequests(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if i%3 != 0 {
				r.clock.Advance(time.Second)
			}
		}
		got, pages := allPages(t, r, grahak.RequestQuery{Limit: 100})
		if diff := cmp.Diff(want, got, equalAddrs, cmpopts.EquateApproxTime(0)); diff != "" || pages != 7 && pages != 8 {
			t.Fatalf("%d pages (-want +got):\n%s", pages, diff)
		}
		for name, c := range map[string]struct {
			query grahak.RequestQuery
			fits  func(grahak.RequestRecord) bool
		}{
			"status":   {grahak.RequestQuery{Status: 404}, func(q grahak.RequestRecord) bool { return q.Status == 404 }},
			"class":    {grahak.RequestQuery{Status: 2}, func(q grahak.RequestRecord) bool { return q.Status == 200 }},
			"code":     {grahak.RequestQuery{Code: "customer_not_found"}, func(q grahak.RequestRecord) bool { return q.Code != "" }},
			"customer": {grahak.RequestQuery{Customer: "cst_1"}, func(q grahak.RequestRecord) bool { return q.Customer != "" }},
			"address":  {grahak.RequestQuery{Addr: netip.MustParsePrefix("2001:db8::/32")}, func(q grahak.RequestRecord) bool { return q.Addr.Is6() }},
			"id":       {grahak.RequestQuery{RequestID: "req-0123"}, func(q grahak.RequestRecord) bool { return q.RequestID == "req-0123" }},
			"no id":    {grahak.RequestQuery{RequestID: "of rival"}, func(grahak.RequestRecord) bool { return false }},
			"key":      {grahak.RequestQuery{Key: "key_2"}, func(grahak.RequestRecord) bool { return false }},
			"times": {
				grahak.RequestQuery{From: want[500].At, Until: want[100].At},
				func(q grahak.RequestRecord) bool { return !q.At.Before(want[500].At) && q.At.Before(want[100].At) },
			},
		} {
			var fitting []grahak.RequestRecord
			for _, record := range want {
				if c.fits(record) {
					fitting = append(fitting, record)
				}
			}
			c.query.Limit = 50
			got, _ := allPages(t, r, c.query)
			if diff := cmp.Diff(fitting, got, equalAddrs, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("by %s (-want +got):\n%s", name, diff)
			}
		}
		one, err := r.Request(t.Context(), operator(acme), "req-0005")
		if err != nil || len(one) != 1 || one[0].Customer != "cst_1" {
			t.Errorf("by its id a request is %v, %v", one, err)
		}
		for _, cursor := range []string{"%", "AAAA", want[0].RequestID} {
			_, err := r.Requests(t.Context(), operator(acme), grahak.RequestQuery{Limit: 1, Before: cursor})
			if code := grahak.CodeOf(err); code != grahak.CodeInvalidField {
				t.Errorf("the cursor %q is answered %v", cursor, err)
			}
		}
	})
}

// Charts add up what all processes have counted, at once, and only what is of the span.
func TestTraffic(t *testing.T) {
	t.Parallel()
	requestRigs(t, func(t *testing.T, r *rig) {
		note := func(n, status int, code string, created bool) {
			for range n {
				r.NoteRequest(grahak.RequestRecord{
					At: r.clock.Now(), RequestID: "req-1", Merchant: acme, Key: "key_1", Status: status, Code: code, Created: created,
					Took: 3 * time.Millisecond, Addr: netip.MustParseAddr("203.0.113.7"),
				})
			}
		}
		note(7, 200, "", true) // too old for a day
		r.clock.Advance(26 * time.Hour)
		note(5, 200, "", true)
		if err := r.FlushRequests(t.Context()); err != nil {
			t.Fatal(err)
		}
		note(3, 404, "customer_not_found", false)
		r.clock.Advance(time.Hour)
		note(2, 503, "unavailable", false)
		note(4, 403, string(grahak.CodeIPNotWhitelisted), false)

		day, err := r.Traffic(t.Context(), operator(acme), grahak.TrafficDay)
		if err != nil {
			t.Fatal(err)
		}
		if len(day.Points) != 48 || day.Step != 30*time.Minute || day.Points[47].At.After(r.clock.Now()) || day.Points[47].At.Add(day.Step).Before(r.clock.Now()) {
			t.Errorf("a day has %d points of %v, the last from %v", len(day.Points), day.Step, day.Points[len(day.Points)-1].At)
		}
		ignored := cmpopts.IgnoreFields(grahak.TrafficPoint{}, "At", "P50", "P95", "P99")
		for i, want := range map[int]grahak.TrafficPoint{
			45: {Requests: 8, Created: 5, ClientErrors: 3},
			46: {},
			47: {Requests: 6, ServerErrors: 2, ClientErrors: 4},
		} {
			if diff := cmp.Diff(want, day.Points[i], ignored); diff != "" {
				t.Errorf("point %d (-want +got):\n%s", i, diff)
			}
		}
		if diff := cmp.Diff(grahak.TrafficPoint{Requests: 14, Created: 5, ClientErrors: 7, ServerErrors: 2}, day.Total, ignored); diff != "" {
			t.Errorf("the total of a day (-want +got):\n%s", diff)
		}
		if p := day.Total.P50; p < 2700*time.Microsecond || p > 3300*time.Microsecond {
			t.Errorf("answers of 3 ms have a median of %v", p)
		}
		codes := []grahak.CodeCount{{"ip_not_whitelisted", 403, 4}, {"customer_not_found", 404, 3}, {"unavailable", 503, 2}}
		if diff := cmp.Diff(codes, day.Codes); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
		week, err := r.Traffic(t.Context(), operator(acme), grahak.TrafficWeek)
		if err != nil || week.Total.Requests != 21 {
			t.Errorf("a week has %d requests, %v", week.Total.Requests, err)
		}
		uses, err := r.Addresses(t.Context(), operator(acme), r.clock.Now().Add(-24*time.Hour))
		want := []grahak.AddressUse{{Addr: netip.MustParseAddr("203.0.113.7"), Requests: 14, Refused: 4, LastAt: r.clock.Now().UTC()}}
		if diff := cmp.Diff(want, uses, equalAddrs, cmpopts.EquateApproxTime(time.Microsecond)); diff != "" || err != nil {
			t.Errorf("addresses (%v) (-want +got):\n%s", err, diff)
		}
		if _, err := r.Traffic(t.Context(), operator(acme), "1h"); grahak.CodeOf(err) != grahak.CodeInvalidField {
			t.Errorf("an unknown span is answered %v", err)
		}
	})
}

// What cannot be written is dropped and counted, and holds nobody up; what is in the
// log before and after can be read.
func TestDroppedRequests(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	requests := MustOpenRequests(t)
	r.Service = MustService(t, grahak.Config{Store: r.store, Sealer: r.sealer, Clock: r.clock, Requests: requests})
	note := func(id string) {
		r.NoteRequest(grahak.RequestRecord{At: r.clock.Now(), RequestID: id, Merchant: acme, Status: 200})
	}
	for i := range 500_000 {
		note(fmt.Sprintf("request-number-%d", i))
	}
	dropped := r.DroppedRequests()
	if dropped == 0 || dropped > 450_000 {
		t.Errorf("of 500,000 requests that nobody writes %d are dropped", dropped)
	}
	if err := r.FlushRequests(t.Context()); err != nil {
		t.Fatal(err)
	}
	// However many came in at one moment, pages have an end.
	if found, pages := allPages(t, r, grahak.RequestQuery{Limit: 10, Status: 500}); len(found) > 0 || pages > 3 {
		t.Errorf("%d pages have %d requests that failed", pages, len(found))
	}
	r.clock.Advance(time.Second)
	note("the last")
	page, err := r.Requests(t.Context(), operator(acme), grahak.RequestQuery{Limit: 1})
	if err != nil || len(page.Requests) != 1 || r.DroppedRequests() != dropped {
		t.Errorf("after that the newest is %v, %v; %d are dropped", page.Requests, err, r.DroppedRequests()-dropped)
	}
	day, err := r.Traffic(t.Context(), operator(acme), grahak.TrafficDay)
	if err != nil || day.Total.Requests != 500_001 {
		t.Errorf("%d are counted, %v", day.Total.Requests, err)
	}
}
