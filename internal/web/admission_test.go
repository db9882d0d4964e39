package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/web"
)

// gate is an edge whose requests, of the merchant in a header, say that they are
// admitted and then wait until they may go on.
type gate struct {
	admitted, proceed chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 100), make(chan struct{})} }

func (g *gate) serve(x *web.Exchange) error {
	x.Merchant = grahak.MerchantID(x.Request.Header.Get("Merchant"))
	if err := x.Admit(); err != nil {
		return err
	}
	if x.Request.ContentLength != 0 {
		if _, err := x.ReadBody(100); err != nil {
			return err
		}
	}
	g.admitted <- struct{}{}
	<-g.proceed
	return ok(x)
}

func (*gate) fail(x *web.Exchange, err error) {
	x.Code = string(grahak.CodeOf(err))
	x.RetryAfter(time.Second)
	x.JSON(http.StatusServiceUnavailable, []byte("{}"))
}

// A merchant gets half of the places, and what others leave of the rest; reads take no
// place of writes. Who is refused hears so while the others are still at work, and the log
// tells of the refused together.
func TestAdmission(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate()
		var refused atomic.Int64
		var admission *web.Admission
		s := start(t, edge{g.serve, g.fail}, func(c *web.Config) {
			admission = web.NewAdmission(8, func() { refused.Add(1) }, c.Logger, c.Clock)
			c.Admission = admission
		})
		var inside sync.WaitGroup
		enter := func(method, merchant string) {
			t.Helper()
			inside.Go(func() {
				resp, _ := MustDo(t, method, s.URL, nil, http.Header{"Merchant": {merchant}})
				if resp.StatusCode != http.StatusOK {
					t.Errorf("an admitted %s of %s: %s", method, merchant, resp.Status)
				}
			})
			next(t, "admission of a "+method+" of "+merchant, g.admitted)
		}
		refuse := func(method, merchant string) {
			t.Helper()
			resp, _ := MustDo(t, method, s.URL, nil, http.Header{"Merchant": {merchant}})
			if got := resp.Header.Get("Retry-After"); resp.StatusCode != http.StatusServiceUnavailable || got != "1" {
				t.Errorf("a %s of %s: %s, Retry-After: %s, want it refused", method, merchant, resp.Status, got)
			}
			want := measurement{Route: "unmatched", Method: method, Status: http.StatusServiceUnavailable, Code: "unavailable"}
			if diff := cmp.Diff(want, next(t, "measurement", s.measured)); diff != "" {
				t.Errorf("what is measured (-want +got):\n%s", diff)
			}
		}
		for range 4 {
			enter("POST", "acme")
		}
		refuse("POST", "acme")
		refuse("DELETE", "acme")
		enter("GET", "acme")
		enter("POST", "other")
		enter("POST", "other")
		refuse("POST", "other")
		enter("POST", "third")
		s.clock.Advance(10 * time.Second)
		refuse("POST", "third")
		if reads, writes := admission.InProgress(); reads != 1 || writes != 7 || refused.Load() != 4 {
			t.Errorf("in progress: %d and %d, refused: %d, want 1, 7 and 4", reads, writes, refused.Load())
		}
		type told struct{ Merchant, Refused, InProgress any }
		var got []told
		for range 2 {
			e := s.event(t)
			got = append(got, told{e["merchant"], e["refused"], e["in_progress"]})
		}
		if diff := cmp.Diff([]told{{"acme", 1.0, 4.0}, {"third", 3.0, 7.0}}, got); diff != "" {
			t.Errorf("what the log tells of refusals (-want +got):\n%s", diff)
		}
		s.quiet(t)
		close(g.proceed)
		inside.Wait()
		for range 8 {
			next(t, "measurement", s.measured)
		}
		if reads, writes := admission.InProgress(); reads != 0 || writes != 0 {
			t.Errorf("in progress after all were answered: %d and %d", reads, writes)
		}
		if resp, _ := MustDo(t, "POST", s.URL, nil, http.Header{"Merchant": {"acme"}}); resp.StatusCode != http.StatusOK {
			t.Errorf("afterwards: %s", resp.Status)
		}
	})
}

// A client that sends its body slowly is in nobody's way, and one that has sent it is
// refused if there is no place then.
func TestAdmissionOfSlowBodies(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate()
		reading := make(chan struct{}, 1)
		serve := func(x *web.Exchange) error {
			if x.Request.Header.Get("Slow") != "" {
				x.Request.Body = signalReader{x.Request.Body, reading}
			}
			return g.serve(x)
		}
		s := start(t, edge{serve, g.fail}, func(c *web.Config) {
			c.Admission = web.NewAdmission(2, func() {}, slog.New(slog.DiscardHandler), c.Clock)
		})
		post := func(body io.Reader, slow string, status chan<- int) {
			resp, _ := MustDo(t, "POST", s.URL, body, http.Header{"Merchant": {"acme"}, "Slow": {slow}})
			status <- resp.StatusCode
		}
		body, send := io.Pipe()
		slow, quick := make(chan int, 1), make(chan int, 1)
		go post(body, "yes", slow)
		if _, err := io.WriteString(send, "begun"); err != nil {
			t.Fatal(err)
		}
		next(t, "look at the slow body", reading)
		go post(strings.NewReader("whole"), "", quick)
		next(t, "admission beside a slow body", g.admitted)
		if err := send.Close(); err != nil {
			t.Fatal(err)
		}
		if got := next(t, "answer to the slow client", slow); got != http.StatusServiceUnavailable {
			t.Errorf("the slow client, where its place is taken: %d, want 503", got)
		}
		close(g.proceed)
		if got := next(t, "answer to the quick client", quick); got != http.StatusOK {
			t.Errorf("the quick client: %d, want 200", got)
		}
	})
}

// signalReader tells of its first read.
type signalReader struct {
	io.ReadCloser
	read chan struct{}
}

func (r signalReader) Read(p []byte) (int, error) {
	select {
	case r.read <- struct{}{}:
	default:
	}
	return r.ReadCloser.Read(p)
}
