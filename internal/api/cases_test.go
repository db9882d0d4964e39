package api_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/api"
	"grahak/internal/testkit"
	"grahak/internal/web"
)

// wireCase is a status and a body that the wire contract decides.
type wireCase struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// MustCases returns the cases of testdata/wire-cases.json by name, their bodies
// without white space.
func MustCases(tb testing.TB) map[string]wireCase {
	tb.Helper()
	raw, err := os.ReadFile("testdata/wire-cases.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		About   string              `json:"about"`
		Literal map[string]wireCase `json:"literal"`
		Ours    map[string]wireCase `json:"ours"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		tb.Fatal(err)
	}
	cases := maps.Clone(file.Literal)
	maps.Copy(cases, file.Ours)
	if len(file.Literal) == 0 || len(cases) != len(file.Literal)+len(file.Ours) {
		tb.Fatalf("wire-cases.json has %d literal cases and %d of ours, which do not add up", len(file.Literal), len(file.Ours))
	}
	for name, c := range cases {
		var compact bytes.Buffer
		if err := json.Compact(&compact, c.Body); err != nil {
			tb.Fatal(err)
		}
		cases[name] = wireCase{Status: c.Status, Body: compact.Bytes()}
	}
	return cases
}

// Every body that the contract decides is answered in some story, byte for
// byte, and no story answers an error that it does not decide.
func TestCasesAreShown(t *testing.T) {
	cases := MustCases(t)
	known := make(map[string]string, len(cases))
	for name, c := range cases {
		known[fmt.Sprintf("%d %s", c.Status, c.Body)] = name
	}
	// These are ours as well: the fields named in a refusal vary, and scopes and
	// events are nothing that the contract knows.
	family := regexp.MustCompile(`^(400 \{"error_message":"Wrong value in [A-Za-z_-]+","status":"Invalid Request","error_code":"Invalid Request","error_info":\{"user_message":"Invalid request params\. Please verify your input\.","fields":\[(,?\{"field_name":"[A-Za-z_-]+","reason":"Invalid value\."\})+\],"developer_message":"Invalid request params","code":"INVALID_INPUT","category":"USER_ERROR"\}\}` +
		`|403 \{"error_message":"This API key may not do that\.","status":"invalid_request_error","error_code":"insufficient_scope",.*\}` +
		`|410 \{"error_message":"Events behind this position are no longer available\.","status":"invalid_request_error","error_code":"events_expired",.*\})$`)
	shown := make(map[string]bool)
	for _, x := range MustTellAll(t) {
		if x.status == http.StatusOK || x.method == http.MethodHead {
			continue
		}
		answer := fmt.Sprintf("%d %s", x.status, x.answer)
		if name, ok := known[answer]; ok {
			shown[name] = true
		} else if !family.MatchString(answer) {
			t.Errorf("%s, %q: the contract knows no such answer: %s", x.story, x.title, answer)
		}
	}
	want := slices.Sorted(maps.Keys(cases))
	got := slices.Sorted(maps.Keys(shown))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cases of the contract (-want +shown):\n%s", diff)
	}
}

// failing is the API's edge with a use case that ends in err.
type failing struct {
	*api.Edge
	err error
}

func (f failing) Serve(*web.Exchange) error {
	if errors.Is(f.err, errPanic) {
		panic("panic with " + secret)
	}
	return f.err
}

var errPanic = errors.New("panic")

// secret is in every error that must not be shown.
const secret = "internals-7f3a"

type noObserver struct{}

func (noObserver) Request(string, string, int, string, time.Duration) {}

// Every code that a use case or the protocol can end in has an answer of its
// own or is a fault, and none shows what is in the error.
func TestEveryCode(t *testing.T) {
	cases := MustCases(t)
	body := func(name string) string { return string(cases[name].Body) }
	refused := func(field string) string {
		return strings.ReplaceAll(body("wrong_mobile_number"), "mobile_number", field)
	}
	type answer struct {
		Status     int
		Body       string
		Code       string // in the log
		RetryAfter string
		Challenge  string
	}
	fault := answer{Status: 500, Body: body("internal_error"), Code: "internal_error"}
	want := map[grahak.Code]answer{
		grahak.CodeUnavailable:           {Status: 503, Body: body("unavailable"), RetryAfter: "2"},
		grahak.CodeInvalidField:          {Status: 400, Body: refused("email_address")},
		grahak.CodeDuplicateReference:    {Status: 400, Body: body("duplicate_reference")},
		grahak.CodeCustomerNotFound:      {Status: 404, Body: body("customer_not_found")},
		grahak.CodeInvalidAPIKey:         {Status: 401, Body: body("invalid_api_key"), Challenge: `Basic realm="grahak"`},
		grahak.CodeIPNotWhitelisted:      {Status: 403, Body: body("ip_not_whitelisted")},
		grahak.CodeInsufficientScope:     {Status: 403, Body: `{"error_message":"This API key may not do that.","status":"invalid_request_error","error_code":"insufficient_scope","error_info":{"user_message":"Not allowed.","developer_message":"The API key has read scope; this call needs a key with write scope.","code":"FORBIDDEN","category":"USER_ERROR"}}`},
		grahak.CodePreconditionFailed:    {Status: 412, Body: body("precondition_failed")},
		grahak.CodeIdempotencyMismatch:   {Status: 422, Body: body("idempotency_mismatch")},
		grahak.CodeIdempotencyInProgress: {Status: 409, Body: body("idempotency_in_progress"), RetryAfter: "2"},
		grahak.CodeTooManyRequests:       {Status: 429, Body: body("too_many_requests"), RetryAfter: "2"},
		grahak.CodeEventsExpired:         {Status: 410, Body: `{"error_message":"Events behind this position are no longer available.","status":"invalid_request_error","error_code":"events_expired","error_info":{"user_message":"Please start again.","developer_message":"Events behind this position are no longer shown; begin again with after=0, and read the customers anew.","code":"RESOURCE_NOT_FOUND","category":"USER_ERROR"}}`},
		"not_found":                      {Status: 404, Body: body("not_found")},
		"method_not_allowed":             {Status: 405, Body: body("method_not_allowed")},
		"malformed_body":                 {Status: 400, Body: body("malformed_body")},
		"body_too_large":                 {Status: 413, Body: body("body_too_large")},
		"unsupported_media_type":         {Status: 415, Body: body("unsupported_media_type")},
	}
	codes := grahak.Codes()
	for code := range want {
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	type test struct {
		name string
		err  error
		want answer
	}
	var tests []test
	for _, code := range append(codes, "a_code_that_nobody_knows") {
		expected, ok := want[code]
		if !ok {
			expected = fault
		}
		if expected.Code == "" {
			expected.Code = string(code)
		}
		err := &grahak.Error{
			Code: code, Message: secret, Fields: []grahak.Field{grahak.FieldEmail},
			RetryIn: 1100 * time.Millisecond, Err: errors.New(secret),
		}
		tests = append(
			tests,
			test{string(code), err, expected},
			test{string(code) + ", wrapped", fmt.Errorf("%s: %w", secret, err), expected},
		)
	}
	for field, name := range map[grahak.Field]string{
		grahak.FieldReference: "object_reference_id", grahak.FieldMobileNumber: "mobile_number",
		grahak.FieldMobileCountryCode: "mobile_country_code", grahak.FieldEmail: "email_address",
		grahak.FieldFirstName: "first_name", grahak.FieldLastName: "last_name", grahak.FieldMetadata: "metadata",
		grahak.FieldCount: "count", grahak.FieldOffset: "offset", grahak.FieldCursor: "after",
		grahak.FieldCreatedAfter: "created_after", grahak.FieldCreatedBefore: "created_before",
		grahak.FieldBefore: "before", grahak.FieldType: "type", grahak.FieldCustomer: "customer",
		grahak.FieldIdempotencyKey: "Idempotency-Key",
	} {
		err := &grahak.Error{Code: grahak.CodeInvalidField, Message: secret, Fields: []grahak.Field{field}}
		tests = append(tests, test{"field " + name, err, answer{Status: 400, Body: refused(name), Code: "invalid_field"}})
	}
	tests = append(
		tests,
		test{"no field named", &grahak.Error{Code: grahak.CodeInvalidField, Message: secret}, fault},
		test{"retry soon", &grahak.Error{Code: grahak.CodeUnavailable}, answer{Status: 503, Body: body("unavailable"), Code: "unavailable", RetryAfter: "1"}},
		test{"another error", errors.New(secret), fault},
		test{"panic", errPanic, fault},
	)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := new(testkit.Buffer)
			logger := slog.New(slog.NewJSONHandler(log, nil))
			s := &server{addr: serve(t, web.NewAPIServer(web.NewHandler(web.Config{
				Edge: failing{api.New(nil), tt.err}, Logger: logger, Observer: noObserver{}, Random: rand.Reader,
			}), nil, logger))}
			x := s.MustSend(t, request("GET /customers", nil, ""))
			var event struct {
				Code string
			}
			if err := json.Unmarshal([]byte(log.String()), &event); err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			got := answer{x.status, x.answer, event.Code, x.header.Get("Retry-After"), x.header.Get("Www-Authenticate")}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if x.header.Get("Content-Type") != "application/json" || x.header.Get("Content-Length") != strconv.Itoa(len(x.answer)) {
				t.Errorf("headers: %v", x.header)
			}
			if leaked := fmt.Sprint(x.answer, x.header); strings.Contains(leaked, secret) {
				t.Errorf("the answer shows what is in the error: %s", leaked)
			}
			if x.status == http.StatusInternalServerError && tt.name != "no field named" && !strings.Contains(log.String(), secret) {
				t.Errorf("the log does not say why: %s", log)
			}
		})
	}
}
