package api

import (
	"errors"
	"net/http"

	"grahak"
	"grahak/internal/web"
)

// Codes of the protocol itself, which no use case returns.
const (
	codeNotFound             grahak.Code = "not_found"
	codeMethodNotAllowed     grahak.Code = "method_not_allowed"
	codeMalformedBody        grahak.Code = "malformed_body"
	codeBodyTooLarge         grahak.Code = "body_too_large"
	codeUnsupportedMediaType grahak.Code = "unsupported_media_type"
)

var (
	errNotFound             = &grahak.Error{Code: codeNotFound}
	errMethodNotAllowed     = &grahak.Error{Code: codeMethodNotAllowed}
	errBodyTooLarge         = &grahak.Error{Code: codeBodyTooLarge}
	errUnsupportedMediaType = &grahak.Error{Code: codeUnsupportedMediaType}
)

func malformed(cause error) error { return &grahak.Error{Code: codeMalformedBody, Err: cause} }

// answer is a status and a body of wire.md §5.
type answer struct {
	status int
	body   string
}

// answers holds the body of every code that can reach a client. The codes of
// operators' work are missing: no request causes them, and if one did it would
// be a fault of ours.
var answers = map[grahak.Code]answer{
	grahak.CodeDuplicateReference:    {http.StatusBadRequest, `{"error_message":"Customer with given object reference id already exist for your account.","status":"invalid_request_error","error_code":"unique","error_info":{"user_message":"Already exists.","developer_message":"Customer account with given object reference already exists.","code":"ALREADY_EXISTS","category":"USER_ERROR"}}`},
	grahak.CodeCustomerNotFound:      {http.StatusNotFound, `{"error_message":"Cannot find what you are looking for","status":"invalid_request_error","error_code":"object_not_found","error_info":{"user_message":"Cannot process your request as customer account not found.","developer_message":"Customer account not found.","code":"RESOURCE_NOT_FOUND","category":"USER_ERROR"}}`},
	grahak.CodeInvalidAPIKey:         {http.StatusUnauthorized, `{"status":"error","error_code":"access_denied","error_info":{"user_message":"Unauthorized.","developer_message":"Invalid API Key. Please pass a valid and active api key.","code":"UNAUTHORIZED","category":"USER_ERROR"}}`},
	grahak.CodeIPNotWhitelisted:      {http.StatusForbidden, `{"error":true,"error_message":"Internal Server error.","user_message":"Bad Origin.","error_info":{"code":"BAD_ORIGIN","category":"USER_ERROR","user_message":"Bad Origin.","developer_message":"IP Verification Failed"}}`},
	grahak.CodeInsufficientScope:     {http.StatusForbidden, `{"error_message":"This API key may not do that.","status":"invalid_request_error","error_code":"insufficient_scope","error_info":{"user_message":"Not allowed.","developer_message":"The API key has read scope; this call needs a key with write scope.","code":"FORBIDDEN","category":"USER_ERROR"}}`},
	grahak.CodeIdempotencyInProgress: {http.StatusConflict, `{"error_message":"A request with this Idempotency-Key is still in progress.","status":"error","error_code":"idempotency_in_progress","error_info":{"user_message":"Please try again later.","developer_message":"Retry after the Retry-After header with the same Idempotency-Key.","code":"DUPLICATE_REQUEST","category":"USER_ERROR"}}`},
	grahak.CodePreconditionFailed:    {http.StatusPreconditionFailed, `{"error_message":"The customer has changed.","status":"invalid_request_error","error_code":"precondition_failed","error_info":{"user_message":"Please reload and try again.","developer_message":"The If-Match header does not match the customer's current ETag; nothing was changed.","code":"INVALID_ACTION","category":"USER_ERROR"}}`},
	grahak.CodeIdempotencyMismatch:   {http.StatusUnprocessableEntity, `{"error_message":"Idempotency-Key was used with a different request.","status":"invalid_request_error","error_code":"idempotency_mismatch","error_info":{"user_message":"Invalid request params. Please verify your input.","developer_message":"This Idempotency-Key belongs to an earlier, different request; use a new one.","code":"DUPLICATE_REQUEST","category":"USER_ERROR"}}`},
	grahak.CodeTooManyRequests:       {http.StatusTooManyRequests, `{"error_message":"Too many requests.","status":"error","error_code":"too_many_requests","error_info":{"user_message":"Please try again later.","developer_message":"Rate limit exceeded; see the Retry-After header.","code":"RATE_LIMITED","category":"USER_ERROR"}}`},
	grahak.CodeEventsExpired:         {http.StatusGone, `{"error_message":"Events behind this position are no longer available.","status":"invalid_request_error","error_code":"events_expired","error_info":{"user_message":"Please start again.","developer_message":"Events behind this position are no longer shown; begin again with after=0, and read the customers anew.","code":"RESOURCE_NOT_FOUND","category":"USER_ERROR"}}`},
	codeNotFound:                     {http.StatusNotFound, `{"error_message":"Not Found","status":"invalid_request_error","error_code":"not_found","error_info":{"user_message":"Not found.","developer_message":"No such endpoint.","code":"RESOURCE_NOT_FOUND","category":"USER_ERROR"}}`},
	codeMethodNotAllowed:             {http.StatusMethodNotAllowed, `{"error_message":"Method Not Allowed","status":"invalid_request_error","error_code":"method_not_allowed","error_info":{"user_message":"Invalid request.","developer_message":"This endpoint does not support the request's method; see the Allow header.","code":"INVALID_ACTION","category":"USER_ERROR"}}`},
	codeMalformedBody:                {http.StatusBadRequest, `{"error_message":"Bad request.","status":"ERROR","error_code":"Bad request.","error_info":{"user_message":"Bad request.","developer_message":"Failed while parsing your request.","code":"INVALID_INPUT","category":"USER_ERROR"}}`},
	codeBodyTooLarge:                 {http.StatusRequestEntityTooLarge, `{"error_message":"Request body too large.","status":"invalid_request_error","error_code":"body_too_large","error_info":{"user_message":"Bad request.","developer_message":"The request body exceeds 64 KiB.","code":"INVALID_INPUT","category":"USER_ERROR"}}`},
	codeUnsupportedMediaType:         {http.StatusUnsupportedMediaType, `{"error_message":"Unsupported content type.","status":"invalid_request_error","error_code":"unsupported_media_type","error_info":{"user_message":"Bad request.","developer_message":"Send application/x-www-form-urlencoded, application/json or multipart/form-data.","code":"INVALID_INPUT","category":"USER_ERROR"}}`},
	grahak.CodeInternal:              {http.StatusInternalServerError, `{"error_message":"Internal Server Error","status":"internal_error","error_code":"internal_error","error_info":{"user_message":"Something went wrong.","developer_message":"Internal error; quote the x-request-id header to the operator.","code":"INTERNAL_ERROR","category":"SERVER_ERROR"}}`},
	grahak.CodeUnavailable:           {http.StatusServiceUnavailable, `{"error_message":"Service Unavailable","status":"error","error_code":"unavailable","error_info":{"user_message":"Please try again later.","developer_message":"Temporarily unavailable; retry after the Retry-After header with the same values. Whether this request took effect is not known.","code":"UNAVAILABLE","category":"SERVER_ERROR"}}`},
}

// fieldNames are the wire's names of the fields.
var fieldNames = [...]string{
	grahak.FieldReference:         "object_reference_id",
	grahak.FieldMobileNumber:      "mobile_number",
	grahak.FieldMobileCountryCode: "mobile_country_code",
	grahak.FieldEmail:             "email_address",
	grahak.FieldFirstName:         "first_name",
	grahak.FieldLastName:          "last_name",
	grahak.FieldMetadata:          "metadata",
	grahak.FieldCount:             "count",
	grahak.FieldOffset:            "offset",
	grahak.FieldCursor:            "after",
	grahak.FieldCreatedAfter:      "created_after",
	grahak.FieldCreatedBefore:     "created_before",
	grahak.FieldBefore:            "before",
	grahak.FieldType:              "type",
	grahak.FieldCustomer:          "customer",
	grahak.FieldIdempotencyKey:    "Idempotency-Key",
}

// Fail implements [web.Edge].
func (e *Edge) Fail(x *web.Exchange, err error) {
	known := &grahak.Error{Code: grahak.CodeInternal}
	// As leaves known as it is if err is not one of ours.
	_ = errors.As(err, &known)
	a := answerOf(known)
	x.Code = string(known.Code)
	switch a.status {
	case http.StatusInternalServerError:
		x.Code = string(grahak.CodeInternal)
	case http.StatusUnauthorized:
		x.Header()["Www-Authenticate"] = basicChallenge
	case http.StatusServiceUnavailable, http.StatusConflict, http.StatusTooManyRequests:
		x.RetryAfter(known.RetryIn)
	}
	if known.Customer != "" {
		x.Customer = known.Customer
		x.Header()["X-Existing-Customer-Id"] = []string{string(known.Customer)}
		x.Header()["Location"] = []string{customerPath(known.Customer)}
	}
	x.Buf = append(x.Buf[:0], a.body...)
	x.JSON(a.status, x.Buf)
}

var basicChallenge = []string{`Basic realm="grahak"`}

// answerOf returns the status and body for err.
func answerOf(err *grahak.Error) answer {
	if err.Code == grahak.CodeInvalidField && len(err.Fields) > 0 {
		return wrongValue(err.Fields)
	}
	if a, ok := answers[err.Code]; ok {
		return a
	}
	return answers[grahak.CodeInternal]
}

// wrongValue is the answer for refused fields: the message names the first,
// the list all (wire.md §3).
func wrongValue(fields []grahak.Field) answer {
	buf := append([]byte(nil), `{"error_message":"Wrong value in `...)
	buf = append(buf, fieldNames[fields[0]]...)
	buf = append(buf, `","status":"Invalid Request","error_code":"Invalid Request","error_info":{"user_message":"Invalid request params. Please verify your input.","fields":[`...)
	for i, f := range fields {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"field_name":"`...)
		buf = append(buf, fieldNames[f]...)
		buf = append(buf, `","reason":"Invalid value."}`...)
	}
	buf = append(buf, `],"developer_message":"Invalid request params","code":"INVALID_INPUT","category":"USER_ERROR"}}`...)
	return answer{http.StatusBadRequest, string(buf)}
}
