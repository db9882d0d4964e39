package web_test

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
	"grahak/internal/web"
)

// Whatever becomes of a request, the request log is given one record of it; of a page
// for people it is given none.
func TestRequestRecords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		var serve func(*web.Exchange) error
		var clock grahak.Clock
		records := make(chan grahak.RequestRecord, 100)
		s := start(t, edge{
			serve: func(x *web.Exchange) error { return serve(x) },
			fail: func(x *web.Exchange, _ error) {
				x.Code = "internal_error"
				x.JSON(http.StatusInternalServerError, nil)
			},
		}, func(c *web.Config) {
			c.Requests = func(r grahak.RequestRecord) { records <- r }
			clock = c.Clock
		})
		addr := netip.MustParseAddr("127.0.0.1")
		for _, c := range []struct {
			name   string
			method string
			id     string
			serve  func(*web.Exchange) error
			want   []grahak.RequestRecord
		}{
			{"all that there is", "PUT", "given", func(x *web.Exchange) error {
				x.Route, x.Merchant, x.KeyMerchant, x.Key, x.Customer = "/a/{b}", "caller", "acme", "key_1", "cst_1"
				x.Code, x.Version, x.Refusal, x.Limit, x.IPReport, x.Created = "code", "2024-01-01", "revoked", "key", true, true
				x.Cause(errors.New("the disk sings"))
				return ok(x)
			}, []grahak.RequestRecord{{
				RequestID: "given", Merchant: "acme", Key: "key_1", Customer: "cst_1", Method: "PUT", Route: "/a/{b}", Status: 200, Code: "code",
				Refusal: "revoked", Limit: "key", IPReport: true, Created: true,
			}}},
			{"nothing but an answer", "GET", "given", ok, []grahak.RequestRecord{{RequestID: "given", Method: "GET", Route: "unmatched", Status: 200}}},
			{"a method that nobody knows", "ASHA", "given", ok, []grahak.RequestRecord{{RequestID: "given", Method: "other", Route: "unmatched", Status: 200}}},
			{"an id that is none", "GET", "asha@example.com", ok, []grahak.RequestRecord{{Method: "GET", Route: "unmatched", Status: 200}}},
			{"a fault", "GET", "given", func(*web.Exchange) error { return errors.New("the disk sings") }, []grahak.RequestRecord{{
				RequestID: "given", Method: "GET", Route: "unmatched", Status: 500, Code: "internal_error",
			}}},
			{"a panic", "GET", "given", func(x *web.Exchange) error {
				x.Route, x.KeyMerchant = "/a", "acme"
				panic("overboard")
			}, []grahak.RequestRecord{{RequestID: "given", Merchant: "acme", Method: "GET", Route: "/a", Status: 500, Code: "internal_error"}}},
			{"a panic after the answer", "GET", "given", func(x *web.Exchange) error {
				_ = ok(x)
				panic("overboard")
			}, []grahak.RequestRecord{{RequestID: "given", Method: "GET", Route: "unmatched", Status: 200}}},
			{"a page", "GET", "given", func(x *web.Exchange) error {
				x.Page = true
				return ok(x)
			}, nil},
			{"a page that fails", "GET", "given", func(x *web.Exchange) error {
				x.Page = true
				panic("overboard")
			}, nil},
		} {
			serve = c.serve
			MustDo(t, c.method, s.URL+"/asha@example.com?a=asha@example.com", nil, http.Header{"X-Request-Id": {c.id}})
			s.event(t) // what is logged has its record
			var got []grahak.RequestRecord
			for len(records) > 0 {
				r := <-records
				if c.name == "an id that is none" && r.RequestID != c.id {
					r.RequestID = ""
				}
				got = append(got, r)
			}
			for i := range c.want {
				c.want[i].At, c.want[i].Addr = clock.Now(), addr
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateApproxTime(time.Microsecond)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	})
}
