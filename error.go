package grahak

import (
	"errors"
	"fmt"
	"time"
)

// Code names one way in which a use case can fail. Codes are stable: edges map
// each to a body or a sentence, and metrics are labelled with them.
type Code string

// Every code that a use case returns.
const (
	CodeInternal           Code = "internal_error"
	CodeUnavailable        Code = "unavailable"
	CodeInvalidField       Code = "invalid_field"
	CodeDuplicateReference Code = "duplicate_reference"
	CodeCustomerNotFound   Code = "customer_not_found"
	CodeInvalidAPIKey      Code = "invalid_api_key"
	CodeIPNotWhitelisted   Code = "ip_not_whitelisted"
	CodeInsufficientScope  Code = "insufficient_scope"
	CodeTooManyRequests    Code = "too_many_requests"
	CodeTokenNotFound      Code = "token_not_found"
	CodeInvalidMerchant    Code = "invalid_merchant"
	CodeMerchantExists     Code = "merchant_exists"
	CodeMerchantNotFound   Code = "merchant_not_found"
	CodeInvalidKey         Code = "invalid_key"
	CodeKeyExists          Code = "key_exists"
	CodeKeyNotFound        Code = "key_not_found"
	CodeInvalidIPEntry     Code = "invalid_ip_entry"
	CodeIPEntryExists      Code = "ip_entry_exists"
	CodeIPEntryNotFound    Code = "ip_entry_not_found"
	CodeIPListEmpty        Code = "ip_list_empty"
	CodeIPListFull         Code = "ip_list_full"
	CodeNotConfirmed       Code = "not_confirmed"
	CodeInvalidWebhook     Code = "invalid_webhook"
	CodeWebhookNotFound    Code = "webhook_not_found"
	CodeWebhooksFull       Code = "webhooks_full"
	CodeWebhookDisabled    Code = "webhook_disabled"
	CodeEventsExpired      Code = "events_expired"
	CodeInvalidImport      Code = "invalid_import"
	CodeImportConflict     Code = "import_conflict"
	CodeInvalidOperator    Code = "invalid_operator"
	CodeOperatorExists     Code = "operator_exists"
	CodeOperatorNotFound   Code = "operator_not_found"
	CodeLastOwner          Code = "last_owner"
	CodeLoginRefused       Code = "login_refused"
	CodeNoSession          Code = "no_session"

	CodePreconditionFailed    Code = "precondition_failed"
	CodeIdempotencyMismatch   Code = "idempotency_mismatch"
	CodeIdempotencyInProgress Code = "idempotency_in_progress"
)

// Codes between a [Store] and a [Service], which no use case returns.
const (
	// CodeKeyRotated has the service try again: the keys that a write was made
	// with are no longer the newest.
	CodeKeyRotated Code = "key_rotated"
	// CodeIdempotencyKeyUsed has it look for what the key was used for.
	CodeIdempotencyKeyUsed Code = "idempotency_key_used"
)

// Codes returns every code that a use case can return. Edges test themselves
// against it.
func Codes() []Code {
	return []Code{
		CodeInternal, CodeUnavailable, CodeInvalidField, CodeDuplicateReference, CodeCustomerNotFound,
		CodeInvalidAPIKey, CodeIPNotWhitelisted, CodeInsufficientScope, CodeTooManyRequests, CodeTokenNotFound,
		CodeInvalidMerchant, CodeMerchantExists, CodeMerchantNotFound,
		CodeInvalidKey, CodeKeyExists, CodeKeyNotFound,
		CodeInvalidIPEntry, CodeIPEntryExists, CodeIPEntryNotFound, CodeIPListEmpty, CodeIPListFull, CodeNotConfirmed,
		CodeInvalidWebhook, CodeWebhookNotFound, CodeWebhooksFull, CodeWebhookDisabled,
		CodeEventsExpired, CodeInvalidImport, CodeImportConflict,
		CodeInvalidOperator, CodeOperatorExists, CodeOperatorNotFound, CodeLastOwner, CodeLoginRefused, CodeNoSession,
		CodePreconditionFailed, CodeIdempotencyMismatch, CodeIdempotencyInProgress,
	}
}

// Error is the one error type that use cases and ports return for failures
// that a caller may act on. Any other error is a fault of ours and is treated
// as [CodeInternal].
type Error struct {
	// Code says what went wrong.
	Code Code
	// Message is one sentence for the person at the command line: what is
	// wrong and how to mend it. It holds no personal data and no secret.
	Message string
	// Fields names the refused fields in the order of their definition, when
	// Code is CodeInvalidField.
	Fields []Field
	// RetryIn is how long to wait before the same call may work, when Code is
	// CodeUnavailable, CodeIdempotencyInProgress or CodeTooManyRequests; zero when
	// nothing better than "soon" is known.
	RetryIn time.Duration
	// Customer is the customer that exists already, when Code is
	// CodeDuplicateReference and it is known.
	Customer CustomerID
	// Err is the cause, for the log. It is never shown to a client.
	Err error
}

// Error returns the message followed by the cause.
func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = string(e.Code)
	}
	if e.Err != nil {
		return msg + ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an *[Error] with the given code and a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unavailable returns a [CodeUnavailable] error that wraps cause. The message
// says what is not available; retryIn is when to try again.
func Unavailable(message string, retryIn time.Duration, cause error) *Error {
	return &Error{Code: CodeUnavailable, Message: message, RetryIn: retryIn, Err: cause}
}

// CodeOf returns the code of the first *[Error] in err's chain, and
// [CodeInternal] for any other error. It returns "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
