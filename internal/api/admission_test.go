package api_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/web"
)

// crowded is the API's edge beside requests that hold a place of the demo merchant as
// long as a test wants. The body of every other request begins to arrive when it is
// read, and goes on when a test lets it.
type crowded struct {
	*api.Edge
	holding, reading chan struct{}
	release          chan struct{}
}

func (c crowded) Serve(x *web.Exchange) error {
	if x.Request.URL.Path != "/hold" {
		x.Request.Body = &lateBody{ReadCloser: x.Request.Body, reading: c.reading, holding: c.holding}
		return c.Edge.Serve(x)
	}
	x.Merchant = demo
	if err := x.Admit(); err != nil {
		return err
	}
	close(c.holding)
	<-c.release
	x.JSON(http.StatusOK, nil)
	return nil
}

// lateBody tells that it is read, and arrives when a place is held.
type lateBody struct {
	io.ReadCloser
	reading, holding chan struct{}
	told             bool
}

func (b *lateBody) Read(p []byte) (int, error) {
	if !b.told {
		b.told = true
		close(b.reading)
		<-b.holding
	}
	return b.ReadCloser.Read(p)
}

// A request whose place was taken while its body arrived is refused as one too many is,
// not as one whose body is wrong, and nothing of it was done.
func TestRefusedBehindBody(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	edge := crowded{Edge: api.New(s.service), holding: make(chan struct{}), reading: make(chan struct{}), release: make(chan struct{})}
	addr := serve(t, web.NewAPIServer(web.NewHandler(web.Config{
		Edge: edge, Logger: s.logger, Observer: s.metrics, Clock: s.clock, Random: rand.Reader,
		// The merchant alone has one place.
		Admission: web.NewAdmission(2, func() {}, s.logger, s.clock),
	}), nil, s.logger))
	held := make(chan error, 1)
	go func() {
		<-edge.reading
		resp, err := http.Post("http://"+addr+"/hold", "", nil)
		if err == nil {
			err = resp.Body.Close()
		}
		held <- err
	}()
	form := url.Values{"object_reference_id": {"late"}, "mobile_number": {"9876543210"}, "email_address": {"late@example.com"}}
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/customers", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", s.basic(demo))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d with %s, %v", resp.StatusCode, body, err)
	}
	close(edge.release)
	if err := <-held; err != nil {
		t.Error(err)
	}
	if _, err := s.service.Customer(t.Context(), operator(demo), "late", false); grahak.CodeOf(err) != grahak.CodeCustomerNotFound {
		t.Errorf("the customer of a refused request: %v", err)
	}
}
