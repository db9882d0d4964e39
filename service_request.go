package grahak

import (
	"context"
	"errors"
	"time"
)

// NoteRequest has a request be written to the request log soon. It never waits: what
// cannot be kept up with is dropped and counted. Safe for concurrent use.
func (s *Service) NoteRequest(r RequestRecord) {}

// Requests returns a page of the merchant's requests. Viewers may. Code:
// [CodeInvalidField] for a limit below 1 or a cursor that is none.
func (s *Service) Requests(ctx context.Context, c Caller, q RequestQuery) (RequestPage, error) {
	return RequestPage{}, errors.ErrUnsupported
}

// Request returns the merchant's requests with the given id, newest first: callers may
// give an id of theirs more than once. At most ten are returned. Viewers may.
func (s *Service) Request(ctx context.Context, c Caller, requestID string) ([]RequestRecord, error) {
	return nil, errors.ErrUnsupported
}

// UnknownRequests is Requests of those whose key is none, which are no merchant's.
// Those with a role at all merchants may.
func (s *Service) UnknownRequests(ctx context.Context, c Caller, q RequestQuery) (RequestPage, error) {
	return RequestPage{}, errors.ErrUnsupported
}

// Traffic returns how the merchant's requests were over a span until now. Viewers may.
func (s *Service) Traffic(ctx context.Context, c Caller, span TrafficSpan) (Traffic, error) {
	return Traffic{}, errors.ErrUnsupported
}

// Addresses returns the addresses that the merchant's valid keys were used from since
// a time, to within a quarter of an hour, latest first. Viewers may.
func (s *Service) Addresses(ctx context.Context, c Caller, since time.Time) ([]AddressUse, error) {
	return nil, errors.ErrUnsupported
}
