package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	openapi "grahak/api"
)

// MustCreate creates a customer of demo over HTTP and returns its id.
func (s *server) MustCreate(tb testing.TB, form string) string {
	tb.Helper()
	x := s.MustSend(tb, request("POST /customers", []string{"Authorization: " + s.basic(demo)}, form))
	var customer struct {
		ID string
	}
	if err := json.Unmarshal([]byte(x.answer), &customer); err != nil || x.status != http.StatusOK {
		tb.Fatalf("create %s: %d %s", form, x.status, x.answer)
	}
	return customer.ID
}

// page is an answer to a list.
type page struct {
	List []struct {
		Reference string `json:"object_reference_id"`
	}
	Count, Offset, Total int
	Next                 *string
}

// MustList lists demo's customers.
func (s *server) MustList(tb testing.TB, query string) page {
	tb.Helper()
	x := s.MustSend(tb, request("GET /customers"+query, []string{"Authorization: " + s.basic(demo)}, ""))
	var p page
	if err := json.Unmarshal([]byte(x.answer), &p); err != nil || x.status != http.StatusOK {
		tb.Fatalf("list %s: %d %s", query, x.status, x.answer)
	}
	if p.Count != len(p.List) {
		tb.Errorf("list %s: count is %d of %d customers", query, p.Count, len(p.List))
	}
	return p
}

func TestListLimits(t *testing.T) {
	s := MustServe(t)
	const total = 103
	var newestFirst []string
	for i := range total {
		reference := fmt.Sprintf("c%d", i)
		in := grahak.CustomerInput{Reference: grahak.Input{Value: reference, Given: true}, MobileNumber: grahak.Input{Value: "1", Given: true}}
		if _, err := s.service.CreateCustomer(t.Context(), operator(demo), in, grahak.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(time.Millisecond)
		newestFirst = append([]string{reference}, newestFirst...)
	}
	for query, want := range map[string]struct {
		from, to int
		last     bool
	}{
		"":                     {0, 10, false},
		"?count=":              {0, 10, false},
		"?count=1":             {0, 1, false},
		"?count=100":           {0, 100, false},
		"?count=101":           {0, 100, false},
		"?count=1000000":       {0, 100, false},
		"?offset=3&count=100":  {3, 103, true},
		"?offset=2&count=100":  {2, 102, false},
		"?offset=100":          {100, 103, true},
		"?offset=103":          {103, 103, true},
		"?count=007&offset=00": {0, 7, false},
	} {
		t.Run(query, func(t *testing.T) {
			p := s.MustList(t, query)
			got := []string{}
			for _, c := range p.List {
				got = append(got, c.Reference)
			}
			if diff := cmp.Diff(newestFirst[want.from:want.to], got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if p.Total != total || (p.Next == nil) != want.last {
				t.Errorf("total %d, next %v", p.Total, p.Next)
			}
		})
	}
	// Following next shows everybody once, also when customers come meanwhile.
	var all []string
	for query, pages := "?count=25", 0; query != ""; pages++ {
		if pages > total {
			t.Fatal("next never ends")
		}
		p := s.MustList(t, query)
		for _, c := range p.List {
			all = append(all, c.Reference)
		}
		query = ""
		if p.Next != nil {
			query = "?count=25&after=" + *p.Next
		}
		s.clock.Advance(time.Second)
		s.MustCreate(t, fmt.Sprintf("object_reference_id=later%d&mobile_number=1", pages))
	}
	if diff := cmp.Diff(newestFirst, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Of creates of one reference at the same time one succeeds and the others are
// told that it is taken.
func TestParallelCreates(t *testing.T) {
	s := MustServe(t)
	const rivals = 24
	var wg sync.WaitGroup
	answers := make([]exchange, rivals)
	errs := make([]error, rivals)
	start := make(chan struct{})
	for i := range rivals {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = s.send(t.Context(), request("POST /customers", []string{"Authorization: " + s.basic(demo)},
				fmt.Sprintf("object_reference_id=one&mobile_number=%d", i)))
		})
	}
	close(start)
	wg.Wait()
	duplicate := string(MustCases(t)["duplicate_reference"].Body)
	got := make(map[string]int)
	for i, x := range answers {
		switch {
		case errs[i] != nil:
			t.Error(errs[i])
		case x.status == http.StatusOK:
			got["made"]++
		case x.status == http.StatusBadRequest && x.answer == duplicate:
			got["duplicate"]++
		default:
			t.Errorf("%d %s", x.status, x.answer)
		}
	}
	if diff := cmp.Diff(map[string]int{"made": 1, "duplicate": rivals - 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p := s.MustList(t, ""); p.Total != 1 {
		t.Errorf("there are %d customers", p.Total)
	}
}

// Of erases of one customer at the same time one succeeds and the others find
// nobody; then the reference can be used by one again.
func TestParallelErases(t *testing.T) {
	s := MustServe(t)
	const rivals = 24
	cases := MustCases(t)
	basic := "Authorization: " + s.basic(demo)
	for round := range 3 {
		id := s.MustCreate(t, "object_reference_id=one&mobile_number=1")
		var wg sync.WaitGroup
		answers := make([]exchange, rivals)
		errs := make([]error, rivals)
		start := make(chan struct{})
		for i := range rivals {
			wg.Go(func() {
				<-start
				path := "/customers/" + []string{id, "one"}[i%2]
				answers[i], errs[i] = s.send(t.Context(), request("DELETE "+path, []string{basic}, ""))
			})
		}
		close(start)
		wg.Wait()
		got := make(map[string]int)
		for i, x := range answers {
			switch {
			case errs[i] != nil:
				t.Error(errs[i])
			case x.status == http.StatusOK && x.answer == `{"id":"`+id+`","object":"customer","deleted":true}`:
				got["erased"]++
			case x.status == http.StatusNotFound && x.answer == string(cases["customer_not_found"].Body):
				got["nobody"]++
			default:
				t.Errorf("%d %s", x.status, x.answer)
			}
		}
		if diff := cmp.Diff(map[string]int{"erased": 1, "nobody": rivals - 1}, got); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
		if p := s.MustList(t, ""); p.Total != 0 {
			t.Errorf("there are %d customers", p.Total)
		}
	}
}

// What was answered is found at once, whatever the search index has taken in
// meanwhile; what was changed or erased is not found as it was.
func TestFoundAtOnce(t *testing.T) {
	s := MustServe(t)
	s.mustRun(t)
	basic := []string{"Authorization: " + s.basic(demo)}
	find := func(query string) string {
		var all []string
		for _, c := range s.MustList(t, "?count=100&"+query).List {
			all = append(all, c.Reference)
		}
		return strings.Join(all, " ")
	}
	check := func(query, want string) {
		t.Helper()
		if got := find(query); got != want {
			t.Errorf("%s: found %q, want %q", query, got, want)
		}
	}
	for i := range 150 {
		s.clock.Advance(time.Millisecond)
		reference, email, number := fmt.Sprintf("c%d", i), fmt.Sprintf("c%d@example.com", i), fmt.Sprint(1000+i)
		s.MustCreate(t, "object_reference_id="+reference+"&email_address="+email+"&mobile_number="+number)
		check("object_reference_id="+reference, reference)
		check("email_address="+email, reference)
		check("mobile_number="+number, reference)
		if i%25 == 0 {
			s.mustOrder(t)
		}
		switch i % 3 {
		case 1:
			x := s.MustSend(t, request("POST /customers/"+reference, basic, "email_address=new-"+email+"&mobile_number=9"+number))
			if x.status != http.StatusOK {
				t.Fatalf("%d %s", x.status, x.answer)
			}
			check("email_address="+email, "")
			check("mobile_number="+number, "")
			check("email_address=new-"+email+"&mobile_number=9"+number, reference)
		case 2:
			x := s.MustSend(t, request("DELETE /customers/"+reference, basic, ""))
			if x.status != http.StatusOK {
				t.Fatalf("%d %s", x.status, x.answer)
			}
			check("object_reference_id="+reference, "")
			check("email_address="+email, "")
			check("mobile_number="+number, "")
		}
	}
	if p := s.MustList(t, ""); p.Total != 100 {
		t.Errorf("there are %d customers, want 100", p.Total)
	}
}

// Following next with a filter shows everybody whom it chooses once, while
// others come and go.
func TestFilteredPages(t *testing.T) {
	s := MustServe(t)
	create := func(reference, code string) {
		s.clock.Advance(time.Second)
		s.MustCreate(t, "object_reference_id="+reference+"&mobile_number=5&email_address=E@example.com&mobile_country_code="+code)
	}
	var want []string
	for i := range 60 {
		reference := fmt.Sprintf("c%d", i)
		create(reference, []string{"91", "1", "44"}[i%3])
		if i%3 == 1 {
			want = append([]string{reference}, want...)
		}
	}
	for _, filter := range []string{"mobile_number=5&mobile_country_code=1", "email_address=e@EXAMPLE.com&mobile_country_code=%2B1&mobile_number=5"} {
		var got []string
		for query, pages := "?count=7&"+filter, 0; query != ""; pages++ {
			if pages > 60 {
				t.Fatal("next never ends")
			}
			p := s.MustList(t, query)
			for _, c := range p.List {
				got = append(got, c.Reference)
			}
			query = ""
			if p.Next != nil {
				query = "?count=7&" + filter + "&after=" + *p.Next
			}
			// One comes who is newer than all, and goes again with the next.
			create(fmt.Sprintf("later%d", pages), "1")
			if pages > 0 {
				s.MustSend(t, request(fmt.Sprintf("DELETE /customers/later%d", pages-1), []string{"Authorization: " + s.basic(demo)}, ""))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", filter, diff)
		}
		s.MustSend(t, request("DELETE /customers/later2", []string{"Authorization: " + s.basic(demo)}, ""))
		if p := s.MustList(t, "?"+filter); p.Total != 60 {
			t.Errorf("%d customers are left", p.Total)
		}
	}
}

// What net/http cannot read as a request is answered by net/http itself, in
// plain text: the one exception to JSON.
func TestUnreadableRequest(t *testing.T) {
	s := MustServe(t)
	for name, raw := range map[string]string{
		"a space in the request line": "GET /customers/sp ace HTTP/1.1\r\nHost: grahak.example\r\n\r\n",
		"a bad escape in the path":    "GET /customers/100% HTTP/1.1\r\nHost: grahak.example\r\n\r\n",
		"no host":                     "GET /customers HTTP/1.1\r\n\r\n",
	} {
		x, err := s.sendRaw(t.Context(), []byte(raw), http.MethodGet)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if x.status != http.StatusBadRequest || !strings.HasPrefix(x.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %v %s", name, x.status, x.header, x.answer)
		}
	}
}

// A body whose chunks are broken is malformed.
func TestBrokenChunks(t *testing.T) {
	s := MustServe(t)
	raw := "POST /customers HTTP/1.1\r\nHost: grahak.example\r\nAuthorization: " + s.basic(demo) +
		"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nobject_reference\r\n"
	x, err := s.sendRaw(t.Context(), []byte(raw), http.MethodPost)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(MustCases(t)["malformed_body"].Body); x.status != http.StatusBadRequest || x.answer != want {
		t.Errorf("%d %s", x.status, x.answer)
	}
}

// Requests on one connection do not mix, although they share buffers.
func TestKeptConnection(t *testing.T) {
	s := MustServe(t)
	id := s.MustCreate(t, "object_reference_id=kept&mobile_number=1")
	client := &http.Client{Timeout: exchangeTimeout}
	t.Cleanup(client.CloseIdleConnections)
	for i := range 25 {
		method, path, body, want := http.MethodGet, "/customers/"+id, "", http.StatusOK
		switch i % 5 {
		case 1:
			method, body, want = http.MethodPost, strings.Repeat("x", 70_000), http.StatusRequestEntityTooLarge
		case 2:
			method, body, want = http.MethodPost, "first_name="+strings.Repeat("x", 60), http.StatusOK
		case 3:
			path, want = "/customers/nobody", http.StatusNotFound
		case 4:
			// A body that nobody reads must not become the next request.
			method, path, body, want = http.MethodDelete, "/customers/nobody", "DELETE /customers/"+id+" HTTP/1.1\r\n", http.StatusNotFound
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", s.basic(demo))
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]any
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if err != nil || res.StatusCode != want {
			t.Errorf("request %d: %d %v %v, want %d", i, res.StatusCode, answer, err, want)
		}
		if want == http.StatusOK && answer["id"] != id {
			t.Errorf("request %d was answered %v", i, answer)
		}
	}
}

// The description is there for everybody, as it stands in the repository.
func TestServedDescription(t *testing.T) {
	s := MustServe(t)
	x := s.MustSend(t, request("GET /openapi.yaml", nil, ""))
	if x.status != http.StatusOK || !bytes.Equal([]byte(x.answer), openapi.YAML) {
		t.Errorf("%d, %d bytes, want %d", x.status, len(x.answer), len(openapi.YAML))
	}
	if got := x.header.Get("Content-Type"); got != "application/yaml" {
		t.Errorf("content type %q", got)
	}
	cases := MustCases(t)
	x = s.MustSend(t, request("POST /openapi.yaml", nil, ""))
	if x.status != http.StatusMethodNotAllowed || x.header.Get("Allow") != "GET" || x.answer != string(cases["method_not_allowed"].Body) {
		t.Errorf("POST: %d %v %s", x.status, x.header, x.answer)
	}
	x = s.MustSend(t, request("GET /openapi.yaml/", nil, ""))
	if x.status != http.StatusOK || !bytes.Equal([]byte(x.answer), openapi.YAML) {
		t.Errorf("with a slash: %d, %d bytes", x.status, len(x.answer))
	}
}

// logged returns the log's events of requests.
func (s *server) logged(tb testing.TB) []map[string]any {
	tb.Helper()
	var events []map[string]any
	for line := range strings.Lines(s.log.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			tb.Fatalf("the log holds a line that is not JSON: %q", line)
		}
		if event["msg"] == "request" {
			events = append(events, event)
		}
	}
	return events
}

// A request is logged as one event: what joins it to others, and nothing of
// whom it is about.
func TestRequestEvent(t *testing.T) {
	s := MustServe(t)
	id := s.MustCreate(t, "object_reference_id=customer@example.com&mobile_number=1")
	// The demo key's id is what the log knows the key by.
	key := string(s.keys[demo].id)
	basic := "Authorization: " + s.basic(demo)
	type event = map[string]any
	for _, tt := range []struct {
		name string
		raw  []byte
		want event
	}{
		{
			"read", request("GET /customers/customer@example.com", []string{basic, "X-Request-Id: r1", "Version: 2023-06-30"}, ""),
			event{"level": "INFO", "request_id": "r1", "method": "GET", "route": "/customers/{id}", "status": 200.0, "merchant": "demo", "key": key, "customer": id, "addr": "127.0.0.1", "version": "2023-06-30"},
		},
		{
			"a version that is no date", request("GET /customers", []string{basic, "X-Request-Id: r2", "Version: 2023-06-30T00"}, ""),
			event{"level": "INFO", "request_id": "r2", "method": "GET", "route": "/customers", "status": 200.0, "merchant": "demo", "key": key, "addr": "127.0.0.1"},
		},
		{
			"duplicate", request("POST /v2/customers/", []string{basic, "X-Request-Id: r3"}, "object_reference_id=customer@example.com&mobile_number=1"),
			event{"level": "INFO", "request_id": "r3", "method": "POST", "route": "/v2/customers", "status": 400.0, "merchant": "demo", "key": key, "customer": id, "addr": "127.0.0.1", "code": "duplicate_reference"},
		},
		{
			"create or fetch, with a key", request("POST /v2/customers/customer@example.com", []string{basic, "X-Request-Id: r11", "Idempotency-Key: customer@example.com"}, ""),
			event{"level": "INFO", "request_id": "r11", "method": "POST", "route": "/v2/customers/{object_reference_id}", "status": 200.0, "merchant": "demo", "key": key, "customer": id, "addr": "127.0.0.1"},
		},
		{
			"another version", request("POST /customers/customer@example.com", []string{basic, "X-Request-Id: r12", `If-Match: "customer@example.com"`}, ""),
			event{"level": "INFO", "request_id": "r12", "method": "POST", "route": "/customers/{id}", "status": 412.0, "merchant": "demo", "key": key, "addr": "127.0.0.1", "code": "precondition_failed"},
		},
		{
			"a key that was used", request("POST /customers/customer@example.com", []string{basic, "X-Request-Id: r13", "Idempotency-Key: customer@example.com"}, ""),
			event{"level": "INFO", "request_id": "r13", "method": "POST", "route": "/customers/{id}", "status": 422.0, "merchant": "demo", "key": key, "addr": "127.0.0.1", "code": "idempotency_mismatch"},
		},
		{
			"no key", request("POST /customers/x", []string{"X-Request-Id: r4"}, ""),
			event{"level": "INFO", "request_id": "r4", "method": "POST", "route": "/customers/{id}", "status": 401.0, "addr": "127.0.0.1", "code": "invalid_api_key", "refusal": "malformed"},
		},
		{
			"a search", request("GET /customers?email_address=customer@example.com", []string{basic, "X-Request-Id: r7"}, ""),
			event{"level": "INFO", "request_id": "r7", "method": "GET", "route": "/customers", "status": 200.0, "merchant": "demo", "key": key, "addr": "127.0.0.1"},
		},
		{
			"a filter that is wrong", request("GET /customers?email_address=customer", []string{basic, "X-Request-Id: r8"}, ""),
			event{"level": "INFO", "request_id": "r8", "method": "GET", "route": "/customers", "status": 400.0, "merchant": "demo", "key": key, "addr": "127.0.0.1", "code": "invalid_field"},
		},
		{
			"an erase by reference", request("DELETE /customers/customer@example.com", []string{basic, "X-Request-Id: r9"}, ""),
			event{"level": "INFO", "request_id": "r9", "method": "DELETE", "route": "/customers/{id}", "status": 200.0, "merchant": "demo", "key": key, "customer": id, "addr": "127.0.0.1"},
		},
		{
			"an erase of nobody", request("DELETE /customers/"+id, []string{basic, "X-Request-Id: r10"}, ""),
			event{"level": "INFO", "request_id": "r10", "method": "DELETE", "route": "/customers/{id}", "status": 404.0, "merchant": "demo", "key": key, "addr": "127.0.0.1", "code": "customer_not_found"},
		},
		{
			"a path and a method that nobody knows", request("BREW /customer@example.com", []string{"X-Request-Id: r5"}, ""),
			event{"level": "INFO", "request_id": "r5", "method": "other", "route": "unmatched", "status": 404.0, "addr": "127.0.0.1", "code": "not_found"},
		},
		{
			"a sub-resource", request("GET /customers/x/wallets", []string{basic, "X-Request-Id: r6"}, ""),
			event{"level": "INFO", "request_id": "r6", "method": "GET", "route": "unmatched", "status": 404.0, "merchant": "demo", "key": key, "addr": "127.0.0.1", "code": "not_found"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.logged(t))
			s.MustSend(t, tt.raw)
			events := s.mustSettle(t, before+1)
			got := events[before]
			for _, name := range []string{"time", "msg", "duration_us"} {
				if got[name] == nil {
					t.Errorf("the event has no %s", name)
				}
				delete(got, name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(events) != before+1 {
				t.Errorf("%d events for one request", len(events)-before)
			}
		})
	}
}

// mustSettle waits until the log holds at least n events of requests: a client
// may have its answer before that is logged.
func (s *server) mustSettle(tb testing.TB, n int) []map[string]any {
	tb.Helper()
	deadline := time.After(exchangeTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if events := s.logged(tb); len(events) >= n {
			return events
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the log has %d events, not %d", len(s.logged(tb)), n)
		}
	}
}

// Report mode answers as if there were no list, and logs what enforcing it
// would refuse.
func TestReportedAddress(t *testing.T) {
	s := MustServe(t)
	if _, err := s.service.AddIPEntry(t.Context(), operator(demo), "203.0.113.0/24", ""); err != nil {
		t.Fatal(err)
	}
	wants := map[grahak.IPMode]any{grahak.IPModeOff: nil, grahak.IPModeReport: "would refuse", grahak.IPModeEnforce: nil}
	for i, mode := range []grahak.IPMode{grahak.IPModeOff, grahak.IPModeReport, grahak.IPModeEnforce} {
		if err := s.service.SetIPMode(t.Context(), operator(demo), mode); err != nil {
			t.Fatal(err)
		}
		s.MustSend(t, request("GET /customers", []string{"Authorization: " + s.basic(demo)}, ""))
		event := s.mustSettle(t, i+1)[i]
		if event["ip_list"] != wants[mode] {
			t.Errorf("mode %s: the log says %v", mode, event)
		}
	}
	// Once the address is listed there is nothing to report.
	for _, step := range []error{
		s.service.SetIPMode(t.Context(), operator(demo), grahak.IPModeReport),
		func() error {
			_, err := s.service.AddIPEntry(t.Context(), operator(demo), "127.0.0.1", "")
			return err
		}(),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	s.MustSend(t, request("GET /customers", []string{"Authorization: " + s.basic(demo)}, ""))
	if event := s.mustSettle(t, 4)[3]; event["ip_list"] != nil {
		t.Errorf("a listed address is logged %v", event)
	}
}

// A record that lies under another customer's id is a fault of ours: the log
// names the row, the answer nothing.
func TestSwappedRecords(t *testing.T) {
	s := MustServe(t)
	persons := []string{"asha.rao", "Asha", "9100000001", "vikram.das", "Vikram", "9100000002"}
	a := s.MustCreate(t, "object_reference_id=asha.rao@example.com&mobile_number=9100000001&first_name=Asha")
	b := s.MustCreate(t, "object_reference_id=vikram.das@example.com&mobile_number=9100000002&first_name=Vikram")
	var records [2]grahak.CustomerRecord
	for i, id := range []string{a, b} {
		var err error
		if records[i], err = s.store.Customer(t.Context(), demo, grahak.CustomerID(id), grahak.Index{}); err != nil {
			t.Fatal(err)
		}
	}
	records[0].Sealed, records[1].Sealed = records[1].Sealed, records[0].Sealed
	for _, record := range records {
		s.mustReseal(t, demo, record)
	}
	want := string(MustCases(t)["internal_error"].Body)
	basic := "Authorization: " + s.basic(demo)
	for i, tt := range []struct {
		line, body string
		rows       []string // one of which the log names
	}{
		{"GET /customers/" + a, "", []string{a}},
		{"GET /customers/vikram.das@example.com", "", []string{b}},
		{"POST /customers/" + a, "first_name=New", []string{a}},
		{"GET /customers", "", []string{a, b}},
		{"GET /customers?object_reference_id=asha.rao@example.com", "", []string{a}},
		{"GET /customers?mobile_number=9100000002", "", []string{b}},
	} {
		x := s.MustSend(t, request(tt.line, []string{basic, fmt.Sprintf("X-Request-Id: swapped-%d", i)}, tt.body))
		if x.status != http.StatusInternalServerError || x.answer != want {
			t.Errorf("%s: %d %s", tt.line, x.status, x.answer)
		}
		event := s.mustSettle(t, 2+i+1)[2+i]
		cause, _ := event["error"].(string)
		named := slices.ContainsFunc(tt.rows, func(id string) bool { return strings.Contains(cause, id) })
		if !named || !strings.Contains(cause, demo) || event["level"] != "ERROR" || event["request_id"] != fmt.Sprintf("swapped-%d", i) {
			t.Errorf("%s: the log does not name the row: %v", tt.line, event)
		}
	}
	for _, person := range persons {
		if strings.Contains(s.log.String(), person) {
			t.Errorf("the log holds %q", person)
		}
	}
}

// The metrics count requests by labels of few values.
func TestMetricLabels(t *testing.T) {
	s := MustServe(t)
	for i := range 30 {
		for _, line := range []string{
			fmt.Sprintf("GET /customers/c%d@example.com", i),
			fmt.Sprintf("GET /x%d", i),
			fmt.Sprintf("BREW%d /customers/c%d", i, i),
			fmt.Sprintf("GET /customers/c%d/wallets", i),
			fmt.Sprintf("GET /v2/customers/c%d", i),
			fmt.Sprintf("POST /v2/customers/c%d", i),
		} {
			s.MustSend(t, request(line, []string{"Authorization: " + s.basic(demo)}, ""))
		}
	}
	s.mustSettle(t, 180)
	got := make(map[string]bool)
	for line := range strings.Lines(s.metricsText(t)) {
		if labels, ok := strings.CutPrefix(line, "grahak_http_requests_total{"); ok {
			got["{"+strings.TrimSpace(labels)] = true
		}
	}
	want := []string{
		`{code="customer_not_found",method="GET",route="/customers/{id}",status="404"} 30`,
		`{code="invalid_field",method="POST",route="/v2/customers/{object_reference_id}",status="400"} 30`,
		`{code="method_not_allowed",method="GET",route="/v2/customers/{object_reference_id}",status="405"} 30`,
		`{code="method_not_allowed",method="other",route="/customers/{id}",status="405"} 30`,
		`{code="not_found",method="GET",route="unmatched",status="404"} 60`,
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
