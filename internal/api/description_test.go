package api_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	openapi "grahak/api"
)

// description is api/openapi.yaml, to hold exchanges against.
type description struct{ doc *openapi3.T }

// MustDescription returns the description that the server serves, after checking
// that it is sound and that its examples fit their schemas.
func MustDescription(tb testing.TB) *description {
	tb.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.YAML)
	if err != nil {
		tb.Fatal(err)
	}
	if err := doc.Validate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return &description{doc}
}

// template returns the path template for a request's escaped path, with its
// parameters. No router of kin-openapi does this, because an id may hold
// slashes.
func (d *description) template(escaped string) (string, map[string]string) {
	path := strings.TrimSuffix(escaped, "/")
	for prefix, param := range map[string]string{"/customers/": "id", "/v2/customers/": "object_reference_id"} {
		if id, ok := strings.CutPrefix(path, prefix); ok {
			id, _ = url.PathUnescape(id)
			return prefix + "{" + param + "}", map[string]string{param: id}
		}
	}
	return path, nil
}

// input returns what kin-openapi needs to judge x.
func (d *description) input(x exchange) *openapi3filter.RequestValidationInput {
	r := x.request.Clone(context.Background())
	r.Body, r.GetBody = http.NoBody, nil
	if x.body != "" {
		r.Body = io.NopCloser(strings.NewReader(x.body))
		if r.Header.Get("Content-Type") == "" {
			// The server reads such a body as a form; kin-openapi would refuse it.
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	path, params := d.template(r.URL.EscapedPath())
	return &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: d.route(path, r.Method),
		Options: &openapi3filter.Options{
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true, // A status that is not listed is an error.
			SkipSettingDefaults:   true, // Else the request is rewritten.
			ExcludeResponseBody:   r.Method == http.MethodHead,
		},
	}
}

// route returns the operation at a path template, or one made up of what the
// description says of all paths and methods that it does not list.
func (d *description) route(path, method string) *routers.Route {
	rt := &routers.Route{Spec: d.doc, Path: path, Method: method, PathItem: d.doc.Paths.Value(path)}
	if rt.PathItem == nil {
		res := d.doc.Components.Responses
		rt.PathItem = &openapi3.PathItem{}
		rt.Operation = &openapi3.Operation{Responses: openapi3.NewResponses(
			openapi3.WithStatus(http.StatusUnauthorized, res["invalid_api_key"]),
			openapi3.WithStatus(http.StatusForbidden, res["ip_not_whitelisted"]),
			openapi3.WithStatus(http.StatusNotFound, res["not_found"]),
			openapi3.WithStatus(http.StatusTooManyRequests, res["too_many_requests"]),
			openapi3.WithStatus(http.StatusServiceUnavailable, res["unavailable"]),
		)}
		return rt
	}
	if rt.Operation = rt.PathItem.GetOperation(method); rt.Operation == nil {
		// Another method can only have the errors of one that is listed.
		listed := rt.PathItem.Post
		if listed == nil {
			listed = rt.PathItem.Get
		}
		op := *listed
		op.Responses = &openapi3.Responses{}
		for status, response := range maps.All(listed.Responses.Map()) {
			if status != "200" {
				op.Responses.Set(status, response)
			}
		}
		rt.Operation = &op
	}
	return rt
}

// checkAnswer returns how the answer of x departs from the description.
func (d *description) checkAnswer(x exchange) error {
	in := d.input(x)
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: x.status, Header: x.header, Options: in.Options}
	return openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes([]byte(x.answer)))
}

// checkRequest returns how the request of x departs from the description.
func (d *description) checkRequest(x exchange) error {
	return openapi3filter.ValidateRequest(context.Background(), d.input(x))
}

// What the description lists and what the stories show must be the same, so
// that neither is added without the other.
func TestDescriptionIsShown(t *testing.T) {
	d := MustDescription(t)
	listed := make(map[string]bool)
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				listed[method+" "+path+" "+status] = true
			}
		}
	}
	listed["unknown endpoint 404"] = true
	shown := make(map[string]bool)
	for _, x := range MustTellAll(t) {
		path, _ := d.template(x.path)
		item, status := d.doc.Paths.Value(path), strconv.Itoa(x.status)
		switch {
		case item == nil:
			// Of what happens outside the listed paths, only this is told
			// apart; checkAnswer knows the rest.
			if x.status == http.StatusNotFound {
				shown["unknown endpoint 404"] = true
			}
		case item.GetOperation(x.method) != nil:
			shown[x.method+" "+path+" "+status] = true
		case x.status == http.StatusMethodNotAllowed:
			// It is listed with the operations that the Allow header names.
			for method := range item.Operations() {
				shown[method+" "+path+" "+status] = true
			}
		}
		if x.status == http.StatusConflict {
			// It takes five seconds, so one operation shows it for all.
			for operation := range listed {
				shown[operation] = shown[operation] || strings.HasSuffix(operation, " 409")
			}
		}
	}
	maps.DeleteFunc(shown, func(_ string, is bool) bool { return !is })
	if diff := cmp.Diff(slices.Sorted(maps.Keys(listed)), slices.Sorted(maps.Keys(shown))); diff != "" {
		t.Errorf("operations with their statuses (-described +shown by a story):\n%s", diff)
	}
}

// The checks against the description must be able to fail.
func TestDescriptionRefuses(t *testing.T) {
	s := MustServe(t)
	d := MustDescription(t)
	good := s.MustSend(t, request("POST /customers", []string{"Authorization: " + s.basic(demo)},
		"object_reference_id=a&mobile_number=1&options.get_client_auth_token=1"))
	if err := d.checkAnswer(good); err != nil {
		t.Fatal(err)
	}
	if err := d.checkRequest(good); err != nil {
		t.Fatal(err)
	}
	alter := func(change func(*exchange)) exchange {
		x := good
		x.header = good.header.Clone()
		change(&x)
		return x
	}
	body := func(old, with string) func(*exchange) {
		return func(x *exchange) {
			if !strings.Contains(x.answer, old) {
				t.Fatalf("no %s in %s", old, x.answer)
			}
			x.answer = strings.Replace(x.answer, old, with, 1)
		}
	}
	for name, change := range map[string]func(*exchange){
		"status":          func(x *exchange) { x.status = http.StatusCreated },
		"no request id":   func(x *exchange) { x.header.Del("X-Request-Id") },
		"no merchant":     func(x *exchange) { x.header.Del("X-Jp-Merchant-Id") },
		"not JSON":        func(x *exchange) { x.header.Set("Content-Type", "text/html") },
		"another key":     body(`"object":`, `"x":1,"object":`),
		"a key missing":   body(`"last_name":null,`, ``),
		"a number":        body(`"mobile_number":"1"`, `"mobile_number":1`),
		"null":            body(`"mobile_number":"1"`, `"mobile_number":null`),
		"empty":           body(`"first_name":null`, `"first_name":""`),
		"fraction":        body(`Z","last_updated"`, `.1Z","last_updated"`),
		"upper-case":      body(`tkn_`, `tkn_A`),
		"token, no limit": body(`,"client_auth_token_expiry":"`, `,"x":"`),
	} {
		if d.checkAnswer(alter(change)) == nil {
			t.Errorf("an answer that is wrong (%s) fits the description", name)
		}
	}
	basic := []string{"Authorization: " + s.basic(demo)}
	search := s.MustSend(t, request("GET /customers?email_address=a@b.com&mobile_number=1&mobile_country_code=91&created_after=2026-03-17T14:13:37.5Z&created_before=2026-03-17T19:43:37%2B05:30", basic, ""))
	if err := errors.Join(d.checkRequest(search), d.checkAnswer(search)); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		"object_reference_id=", "mobile_number=x", "mobile_number=1&mobile_country_code=12345", "email_address=a", "email_address=",
		"created_after=2026-03-17", "created_before=now", "count=0", "offset=10001",
	} {
		x := s.MustSend(t, request("GET /customers?"+query, basic, ""))
		if x.status != http.StatusBadRequest || d.checkAnswer(x) != nil {
			t.Errorf("%s: %d, %v", query, x.status, d.checkAnswer(x))
		}
		if d.checkRequest(x) == nil {
			t.Errorf("a query that is wrong (%s) fits the description", query)
		}
	}
	erased := s.MustSend(t, request("DELETE /customers/a", basic, ""))
	if err := errors.Join(d.checkRequest(erased), d.checkAnswer(erased)); err != nil || erased.status != http.StatusOK {
		t.Fatalf("%d %v", erased.status, err)
	}
	for _, change := range [][2]string{{`true`, `false`}, {`"deleted":true`, `"deleted":true,"x":1`}, {`"object":"customer",`, ``}} {
		x := erased
		x.answer = strings.Replace(erased.answer, change[0], change[1], 1)
		if x.answer == erased.answer || d.checkAnswer(x) == nil {
			t.Errorf("an answer that is wrong (%s) fits the description", x.answer)
		}
	}
	for name, text := range map[string]string{
		"no reference":   "mobile_number=1",
		"mobile letters": "object_reference_id=a&mobile_number=x",
		"two signs":      "object_reference_id=a&mobile_number=1&email_address=a@b@c",
	} {
		if d.checkRequest(alter(func(x *exchange) { x.body = text })) == nil {
			t.Errorf("a request that is wrong (%s) fits the description", name)
		}
	}
}
