package sealed_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// way is a request that finds one customer, or none.
type way struct {
	path string
	list bool // the answer is a list
}

func find(filter url.Values) way { return way{"/customers?" + filter.Encode(), true} }

// byReference, byID and bySearch return the ways to c.
func byReference(c customer) way { return way{"/customers/" + url.PathEscape(c.Reference), false} }

func byID(c customer) way { return way{"/customers/" + c.ID, false} }

func bySearch(c customer) []way {
	ways := []way{
		find(url.Values{"object_reference_id": {c.Reference}}),
		find(url.Values{"mobile_number": {c.Mobile}, "mobile_country_code": {c.CountryCode}}),
	}
	if c.Email != nil {
		// The case of letters does not matter.
		ways = append(ways, find(url.Values{"email_address": {strings.ToLower(*c.Email)}}))
	}
	return ways
}

// waysTo returns all ways to c.
func waysTo(c customer) []way { return append(bySearch(c), byReference(c), byID(c)) }

// look goes a way and reports whether the server answered at all. What it
// answers must be the customer want, or none if that is nil: anything else fails
// the test.
func (c *client) look(t *testing.T, w way, want *customer) bool {
	t.Helper()
	a, err := c.do(t.Context(), http.MethodGet, w.path, nil)
	if err != nil {
		return false
	}
	got, err := a.found(w)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("GET %s: %d %s (%v) (-want +got):\n%s", w.path, a.status, a.body, err, diff)
	}
	return true
}

// found returns the customer that was found on a way, nil for none. Anything
// else than one or none is an error.
func (a answer) found(w way) (*customer, error) {
	switch {
	case a.status == http.StatusNotFound && !w.list && strings.Contains(a.body, `"object_not_found"`):
		return nil, nil
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("the status is %d", a.status)
	case !w.list:
		c, err := a.customer()
		return &c, err
	}
	p, err := a.page()
	switch {
	case err != nil:
		return nil, err
	case len(p.List) == 0:
		return nil, nil
	case len(p.List) > 1:
		return nil, fmt.Errorf("%d customers were found", len(p.List))
	}
	return &p.List[0], nil
}

// record is what a clerk knows of one customer.
type record struct {
	first customer // as it was created; without an id, if that was not answered
	is    *customer
	was   *customer // before the last change
	// asked is set if a request was not answered, and becomes is what that makes
	// of the customer.
	asked   bool
	becomes *customer
}

// clerk creates, changes, erases and reads customers of its own, one request
// after the other.
type clerk struct {
	client  *client
	random  *rand.Rand
	serial  *atomic.Int64
	records []*record
	live    []*record
	most    int              // customers that the clerk has at a time
	touched map[*record]bool // since the last check
}

// adopt makes customers who are there the clerk's, who may have some more.
func (c *clerk) adopt(people []customer) {
	for _, p := range people {
		r := &record{first: p, is: &p}
		c.records, c.live = append(c.records, r), append(c.live, r)
	}
	c.most = len(c.live) + 60
}

// work sends requests until one is not answered or stop is closed, and no faster
// than at a pace that leaves the server room for its own work.
func (c *clerk) work(t *testing.T, stop <-chan struct{}) {
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		if !c.step(t) {
			return
		}
	}
}

// step sends a request and reports whether it was answered.
func (c *clerk) step(t *testing.T) bool {
	switch n := c.random.IntN(10); {
	case len(c.live) == 0, n < 3 && len(c.live) < c.most:
		return c.create(t)
	case n < 6:
		return c.update(t)
	case n == 6:
		return c.erase(t)
	}
	r := c.live[c.random.IntN(len(c.live))]
	ways := waysTo(*r.is)
	return c.client.look(t, ways[c.random.IntN(len(ways))], r.is)
}

func (c *clerk) create(t *testing.T) bool {
	fields := form(int(c.serial.Add(1)))
	r := &record{first: made(customer{}, fields)}
	c.records = append(c.records, r)
	if !c.send(t, r, http.MethodPost, "/customers", fields, &r.first) {
		return false
	}
	r.first = *r.is
	c.live = append(c.live, r)
	return true
}

func (c *clerk) update(t *testing.T) bool {
	r := c.live[c.random.IntN(len(c.live))]
	n := c.serial.Add(1)
	fields := []url.Values{
		{"first_name": {fmt.Sprintf("Asha %d", n)}},
		{"email_address": {fmt.Sprintf("Other.%d@example.com", n)}},
		{"mobile_number": {fmt.Sprintf("97%08d", n)}, "email_address": {fmt.Sprintf("Another.%d@example.com", n)}},
	}[c.random.IntN(3)]
	becomes := made(*r.is, fields)
	return c.send(t, r, http.MethodPost, c.path(r), fields, &becomes)
}

func (c *clerk) erase(t *testing.T) bool {
	i := c.random.IntN(len(c.live))
	r := c.live[i]
	c.live[i] = c.live[len(c.live)-1]
	c.live = c.live[:len(c.live)-1]
	return c.send(t, r, http.MethodDelete, c.path(r), nil, nil)
}

// path is where r is, by either of its ids.
func (c *clerk) path(r *record) string {
	if c.random.IntN(2) == 0 {
		return byID(*r.is).path
	}
	return byReference(*r.is).path
}

// send sends a request that makes becomes of r, nil if it erases it, and reports
// whether it was answered.
func (c *clerk) send(t *testing.T, r *record, method, path string, fields url.Values, becomes *customer) bool {
	c.touched[r] = true
	r.asked, r.becomes = true, becomes
	a, err := c.client.do(t.Context(), method, path, fields)
	if err != nil {
		return false
	}
	want := fmt.Sprintf(`{"id":%q,"object":"customer","deleted":true}`, r.first.ID)
	if becomes != nil {
		want = "the customer"
		var got customer
		if got, err = a.customer(); err == nil && becomes.same(got) {
			r.learn(&got)
			return true
		}
	} else if a.body == want {
		r.learn(nil)
		return true
	}
	t.Errorf("%s %s %q: %d %s (%v), want %s", method, path, fields, a.status, a.body, err, want)
	return false
}

// same reports whether got is c, but for what only the server knows.
func (c *customer) same(got customer) bool {
	if c.ID == "" {
		got.ID, got.Created = "", ""
	}
	got.Updated = c.Updated
	return cmp.Equal(*c, got)
}

// learn notes what has become of r.
func (r *record) learn(is *customer) {
	r.was, r.is = r.is, is
	r.asked, r.becomes = false, nil
}

// settle finds out whether a request that was not answered took effect: wholly,
// or not at all.
func (c *clerk) settle(t *testing.T, r *record) {
	w := byReference(r.first)
	a, err := c.client.do(t.Context(), http.MethodGet, w.path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	got, err := a.found(w)
	took := got == nil && r.becomes == nil || got != nil && r.becomes != nil && r.becomes.same(*got)
	switch {
	case err != nil:
		t.Errorf("GET %s: %d %s: %v", w.path, a.status, a.body, err)
	case took:
		if r.first.ID == "" && got != nil {
			r.first = *got
		}
		r.learn(got)
	case !cmp.Equal(r.is, got):
		t.Errorf("a request that was not answered has done half its work: %+v was to become %+v and is %s", r.is, r.becomes, a.body)
	default:
		r.asked, r.becomes = false, nil
	}
}

// check settles and compares the records with what the server has.
func (c *clerk) check(t *testing.T, records []*record) {
	for _, r := range records {
		if r.asked {
			c.settle(t, r)
		}
		ways := []way{byReference(r.first)}
		if r.first.ID != "" {
			ways = append(ways, byID(r.first))
		}
		if r.is != nil {
			ways = waysTo(*r.is)
		} else if r.was != nil {
			ways = append(ways, bySearch(*r.was)...)
		}
		for _, w := range ways {
			if !c.client.look(t, w, r.is) {
				t.Errorf("GET %s is not answered", w.path)
				return
			}
		}
		if r.is != nil && r.was != nil {
			for i, w := range bySearch(*r.was) {
				if w != bySearch(*r.is)[i] && !c.client.look(t, w, nil) {
					t.Errorf("GET %s is not answered", w.path)
					return
				}
			}
		}
	}
}

// refresh puts into live what there is.
func (c *clerk) refresh() {
	c.live = c.live[:0]
	for _, r := range c.records {
		if r.is != nil {
			c.live = append(c.live, r)
		}
	}
}

// office is clerks that work, and readers who look at settled customers all the
// while.
type office struct {
	clerks  []*clerk
	settled []*settled
	reads   atomic.Int64
	working sync.WaitGroup
	stop    chan struct{}
}

// settled is customers of a merchant that nobody changes.
type settled struct {
	key       string
	customers []customer
}

// newOffice returns an office of that many clerks, who number what they create
// from first on, and take share of the first merchant's customers.
func newOffice(size int, seed uint64, first, share int, people ...*settled) *office {
	o := &office{settled: people}
	serial := new(atomic.Int64)
	serial.Store(int64(first))
	for i := range size {
		c := &clerk{random: rand.New(rand.NewPCG(seed, uint64(i))), serial: serial}
		c.adopt(people[0].customers[:share/size])
		people[0].customers = people[0].customers[share/size:]
		o.clerks = append(o.clerks, c)
	}
	return o
}

// readers is how many readers each merchant's settled customers have.
const readers = 2

// open lets all work on the server at base, until it does not answer any more or
// close is called. Clerks work for the merchant of the first settled customers.
func (o *office) open(t *testing.T, base string, seed uint64) {
	o.stop = make(chan struct{})
	for _, c := range o.clerks {
		c.client, c.touched = newClient(base, o.settled[0].key), make(map[*record]bool)
		o.working.Go(func() { c.work(t, o.stop) })
	}
	for i, s := range o.settled {
		for j := range readers {
			random := rand.New(rand.NewPCG(seed, uint64(i*readers+j)))
			o.working.Go(func() { o.read(t, newClient(base, s.key), s, random) })
		}
	}
}

func (o *office) read(t *testing.T, c *client, s *settled, random *rand.Rand) {
	defer c.close()
	pace := time.NewTicker(3 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-o.stop:
			return
		case <-pace.C:
		}
		want := s.customers[random.IntN(len(s.customers))]
		ways := waysTo(want)
		if !c.look(t, ways[random.IntN(len(ways))], &want) {
			return
		}
		o.reads.Add(1)
	}
}

// close waits until all have gone.
func (o *office) close() {
	close(o.stop)
	o.working.Wait()
	for _, c := range o.clerks {
		c.client.close()
	}
}

// check compares what clerks know with what the server at base has: of the
// records touched since the last check, or of all.
func (o *office) check(t *testing.T, base string, all bool) {
	var checking sync.WaitGroup
	for _, c := range o.clerks {
		records := c.records
		if !all {
			records = records[:0:0]
			for r := range c.touched {
				records = append(records, r)
			}
		}
		c.client = newClient(base, o.settled[0].key)
		checking.Go(func() {
			defer c.client.close()
			c.check(t, records)
			c.refresh()
		})
	}
	checking.Wait()
}

// live returns the customers that the clerks' merchant has.
func (o *office) live() []customer {
	list := append([]customer(nil), o.settled[0].customers...)
	for _, c := range o.clerks {
		for _, r := range c.live {
			list = append(list, *r.is)
		}
	}
	return list
}

// populate creates customers numbered from first on, over many connections.
func populate(t *testing.T, base, key string, first, count int) *settled {
	t.Helper()
	s := &settled{key: key, customers: make([]customer, count)}
	var next atomic.Int64
	var creating sync.WaitGroup
	for range 16 {
		creating.Go(func() {
			c := newClient(base, key)
			defer c.close()
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				fields := form(first + i)
				a, err := c.do(t.Context(), http.MethodPost, "/customers", fields)
				var got customer
				if err == nil {
					got, err = a.customer()
				}
				if want := made(customer{}, fields); err != nil || a.status != http.StatusOK || !want.same(got) {
					t.Errorf("create %q: %d %s (%v)", fields, a.status, a.body, err)
					return
				}
				s.customers[i] = got
			}
		})
	}
	creating.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return s
}
