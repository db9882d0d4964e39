package grahak_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"grahak"
)

// drawRequest draws a request as it may be noted.
func drawRequest(t *rapid.T) grahak.RequestRecord {
	text := func(name string, some ...string) string {
		return rapid.OneOf(rapid.SampledFrom(append(some, "")), rapid.StringN(0, 5, 20)).Draw(t, name)
	}
	r := grahak.RequestRecord{
		Merchant:  acme,
		At:        time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "at")).UTC(),
		RequestID: text("id", "req-1"),
		Key:       grahak.KeyID(text("key", "key_1", "key_2")),
		Customer:  grahak.CustomerID(text("customer", "cst_1")),
		Method:    text("method", "GET", "POST"),
		Route:     text("route", "/customers", "/customers/{id}"),
		Status:    rapid.IntRange(100, 599).Draw(t, "status"),
		Code:      text("code", "not_found"),
		Took:      time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "took")) * time.Microsecond,
		Refusal:   grahak.Refusal(text("refusal", "revoked")),
		Limit:     grahak.LimitKind(text("limit", "key")),
		IPReport:  rapid.Bool().Draw(t, "report"),
		Created:   rapid.Bool().Draw(t, "created"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "addr") {
	case 1:
		r.Addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
	case 2:
		r.Addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
	}
	return r
}

var equalAddrs = cmpopts.EquateComparable(netip.Addr{})

// What is written into blocks is read from them, also when they are merged, and their
// filters deny nothing that they hold.
func TestRequestBlocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []grahak.RequestRecord
		var rows [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "blocks") {
			records := rapid.SliceOfN(rapid.Custom(drawRequest), 1, 20).Draw(t, "requests")
			b := grahak.EncodeBlock(acme, records, [8]byte{1})
			got, err := grahak.DecodeBlock(acme, b.Rows)
			if diff := cmp.Diff(records, got, equalAddrs); diff != "" || err != nil {
				t.Fatalf("a block is read as (%v) (-written +read):\n%s", err, diff)
			}
			all = append(all, records...)
			rows = append(rows, b.Rows)
			for _, r := range records {
				if !grahak.MayHold(b.Filter, r.RequestID) || r.Customer != "" && !grahak.MayHold(b.Filter, string(r.Customer)) {
					t.Fatalf("the filter denies %q or %q", r.RequestID, r.Customer)
				}
			}
		}
		merged := grahak.MergeBlocks(acme, rows, [8]byte{2})
		got, err := grahak.DecodeBlock(acme, merged.Rows)
		inOrder := cmpopts.SortSlices(func(a, b grahak.RequestRecord) int { return slices.Compare(key(a), key(b)) })
		if diff := cmp.Diff(all, got, equalAddrs, inOrder); diff != "" || err != nil {
			t.Fatalf("merged blocks are read as (%v) (-written +read):\n%s", err, diff)
		}
		first, last := all[0].At, all[0].At
		for i, r := range got {
			if i > 0 && r.At.Before(got[i-1].At) {
				t.Fatal("merged requests are out of order")
			}
			first, last = minTime(first, r.At), maxTime(last, r.At)
		}
		want := grahak.RequestBlock{Merchant: acme, From: first, To: last, Count: int64(len(all))}
		if diff := cmp.Diff(want, merged, cmpopts.IgnoreFields(grahak.RequestBlock{}, "ID", "Filter", "Rows")); diff != "" {
			t.Fatalf("the merged block (-want +got):\n%s", diff)
		}
	})
}

// key is all of a request in a form that can be ordered.
func key(r grahak.RequestRecord) []string { return []string{fmt.Sprint(r)} }

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A filter says yes to few ids that it does not have.
func TestRequestFilter(t *testing.T) {
	t.Parallel()
	var records []grahak.RequestRecord
	for i := range 2000 {
		records = append(records, grahak.RequestRecord{RequestID: fmt.Sprintf("req-%06d", i), Customer: grahak.CustomerID(fmt.Sprintf("cst_%016d", i))})
	}
	b := grahak.EncodeBlock(acme, records, [8]byte{})
	wrong := 0
	for i := range 10_000 {
		if grahak.MayHold(b.Filter, fmt.Sprintf("other-%06d", i)) {
			wrong++
		}
	}
	if wrong > 100 {
		t.Errorf("of 10,000 ids that a block does not have, its filter takes %d for its own", wrong)
	}
	if len(b.Filter) > 6100 {
		t.Errorf("the filter of %d requests has %d bytes", len(records), len(b.Filter))
	}
}

// A percentile is within an eighth of the true one.
func TestRequestPercentiles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.SliceOfN(rapid.Int64Range(0, 1<<32), 1, 200).Draw(t, "µs")
		part := rapid.SampledFrom([]float64{0.5, 0.95, 0.99}).Draw(t, "part")
		durations := make([]time.Duration, len(us))
		for i, v := range us {
			durations[i] = time.Duration(v) * time.Microsecond
		}
		slices.Sort(us)
		want := float64(us[max(1, int(part*float64(len(us))+0.5))-1])
		got := float64(grahak.Percentile(part, durations...).Microseconds())
		if math.Abs(got-want) > want/8+1 {
			t.Fatalf("the %v percentile is %v µs, and told as %v µs", part, want, got)
		}
	})
}

// Statistics of several processes add up, and tell addresses apart up to a bound.
func TestRequestStats(t *testing.T) {
	t.Parallel()
	var one, two []grahak.RequestRecord
	for i := range 300 {
		r := grahak.RequestRecord{Status: 200, Created: i%2 == 0, Took: time.Millisecond, At: time.UnixMicro(1), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)})}
		one = append(one, r)
		r.Status, r.Code, r.Created = 404, "customer_not_found", false
		two = append(two, r)
	}
	two = append(two, grahak.RequestRecord{Status: 503, Code: "unavailable", Addr: netip.AddrFrom4([4]byte{10, 9, 9, 9}), Refusal: grahak.RefusalUnknown})
	got, addrs, err := grahak.Count(grahak.EncodeStats(one), grahak.EncodeStats(two))
	if err != nil {
		t.Fatal(err)
	}
	want := grahak.TrafficPoint{Requests: 601, Created: 150, ClientErrors: 300, ServerErrors: 1}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(grahak.TrafficPoint{}, "P50", "P95", "P99", "At")); diff != "" || addrs != 256 {
		t.Errorf("%d addresses; (-want +got):\n%s", addrs, diff)
	}
}

// Blocks and statistics that are damaged are refused, and harm nothing else.
func FuzzRequestBlocks(f *testing.F) {
	records := []grahak.RequestRecord{
		{At: time.UnixMicro(1e15), RequestID: "req-1", Method: "POST", Route: "/customers", Status: 200, Took: time.Millisecond, Addr: netip.MustParseAddr("203.0.113.7"), Created: true},
		{At: time.UnixMicro(1e15 + 5), RequestID: "req-2", Customer: "cst_1", Key: "key_1", Method: "GET", Route: "/customers/{id}", Status: 404, Code: "customer_not_found", Addr: netip.MustParseAddr("2001:db8::1")},
	}
	f.Add(grahak.EncodeBlock(acme, records, [8]byte{}).Rows)
	f.Add(grahak.EncodeStats(records))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := grahak.DecodeBlock(acme, data); err == nil && len(got) > 0 {
			again, err := grahak.DecodeBlock(acme, grahak.EncodeBlock(acme, got, [8]byte{}).Rows)
			if diff := cmp.Diff(got, again, equalAddrs); diff != "" || err != nil {
				t.Errorf("what was read cannot be written and read again (%v):\n%s", err, diff)
			}
		}
		_, _, _ = grahak.Count(data)
	})
}
