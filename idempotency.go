package grahak

import (
	"context"
	"encoding/binary"
	"sync"
	"time"
)

// MaxIdempotencyKey is the length of the longest idempotency key, in bytes.
const MaxIdempotencyKey = 255

// DefaultIdempotencyKeep is how long the outcome of a request with an idempotency
// key is kept unless [Config] says otherwise.
const DefaultIdempotencyKeep = 24 * time.Hour

// IdempotencyOutcome is what a request with an idempotency key came to.
type IdempotencyOutcome string

// The outcomes.
const (
	OutcomeCreated IdempotencyOutcome = "created" // a customer was made
	OutcomeFound   IdempotencyOutcome = "found"   // a customer that there was, changed or not
	OutcomeErased  IdempotencyOutcome = "erased"
)

// IdempotencyRecord is an idempotency key as the store keeps it. The key may hold
// anything, and so may the request: both are blind indexes. What the request was
// answered with is not kept, but found again by the customer's id; when the
// customer has been erased, the record is what keeps a late retry from making the
// person anew.
type IdempotencyRecord struct {
	Key      Index // of the key
	Request  Index // of all that the request said
	Outcome  IdempotencyOutcome
	Customer CustomerID
	// At is when the request was made. The record is of no effect from ExpiresAt
	// on, as if it were not there.
	At, ExpiresAt time.Time
}

// WriteOptions are what a request to write one customer may ask for besides.
type WriteOptions struct {
	// Token asks for a client auth token.
	Token bool
	// IdempotencyKey makes the same request with the same key, of the same
	// merchant, take effect once: whoever repeats it is answered with the customer
	// that it was about, as that is now. 1–255 printable ASCII characters; empty
	// for none.
	IdempotencyKey string
	// Match is a condition on the customer that there is; nil for none. A create
	// has no such customer, and ignores it.
	Match *Match
}

// Version is one state of a customer. It differs from those before and after a
// change of a stored value, and from those of every other customer.
type Version struct {
	Customer CustomerID
	Revision int64
}

// Match is a condition on the version of a customer. Its zero value holds for none.
type Match struct {
	Any      bool // holds for every version
	Versions []Version
}

// check returns a [CodePreconditionFailed] error unless the condition, if there is
// one, holds for a version.
func (m *Match) check(v Version) error {
	if m == nil || m.Any {
		return nil
	}
	for _, wanted := range m.Versions {
		if wanted == v {
			return nil
		}
	}
	return errPreconditionFailed
}

var errPreconditionFailed = &Error{Code: CodePreconditionFailed, Message: "The customer has changed, or there is none."}

// appendCanonical appends what o says of a request, apart from the key.
func (o WriteOptions) appendCanonical(buf []byte) []byte {
	flags := byte(0)
	if o.Token {
		flags |= 1
	}
	if o.Match != nil {
		flags |= 2
		if o.Match.Any {
			flags |= 4
		}
	}
	buf = append(buf, flags)
	if o.Match != nil {
		for _, v := range o.Match.Versions {
			buf = appendText(buf, string(v.Customer))
			buf = binary.AppendVarint(buf, v.Revision)
		}
	}
	return buf
}

// appendText appends a text behind its length.
func appendText(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

// operationCreate is the operation of a create, which has no target.
const operationCreate = "create"

// writing is one request to write a customer.
type writing struct {
	Caller
	WriteOptions
	// operation and target say what is asked for: what is done, and to whom.
	operation, target string
	in                CustomerInput
	// tryFirst has the write tried before the key is looked for, because the store
	// refuses it in any case if the key was used.
	tryFirst bool
	// attempt makes the change, with key in its transaction unless that is nil. It
	// reports false if another write of the customer came first.
	attempt func(key *IdempotencyRecord) (CustomerResult, bool, error)
}

// reference returns the reference that w is about, if it is not about an id.
func (w writing) reference() string {
	if w.operation == operationCreate {
		return w.in.Reference.Value
	}
	return w.target
}

// writeAttempts bounds how often a write that loses a race against another write
// of the same customer starts again. A loser means that a winner made progress, so
// running out takes that many rivals on one customer at once.
const writeAttempts = 64

var errTooManyWrites = Unavailable("too many writes of one customer at once", time.Second, nil)

// write does what w asks for, once for each idempotency key. Codes: those of the
// attempt; [CodeIdempotencyMismatch], [CodeIdempotencyInProgress], and
// [CodeCustomerNotFound] for a request that took effect on a customer who was
// erased since.
func (s *Service) write(ctx context.Context, w writing) (CustomerResult, error) {
	if w.IdempotencyKey == "" {
		for range writeAttempts {
			if result, done, err := w.attempt(nil); done || err != nil {
				return result, err
			}
		}
		return CustomerResult{}, errTooManyWrites
	}
	key, err := s.idempotencyRecord(ctx, w)
	if err != nil {
		return CustomerResult{}, err
	}
	release, err := s.running.take(ctx, runningKey{w.Merchant, key.Key})
	if err != nil {
		return CustomerResult{}, err
	}
	defer release()
	look := !w.tryFirst
	for range writeAttempts {
		if look {
			result, replayed, err := s.replay(ctx, w, key)
			if replayed || err != nil {
				return result, err
			}
		}
		look = true
		result, done, err := w.attempt(&key)
		switch code := CodeOf(err); {
		case code == CodeDuplicateReference, code == CodeCustomerNotFound, code == CodePreconditionFailed:
			// That may be what the same request has made of the customer meanwhile.
			before, replayed, replayErr := s.replay(ctx, w, key)
			if replayed || replayErr != nil {
				return before, replayErr
			}
			return result, err
		case code == CodeIdempotencyKeyUsed:
		case done || err != nil:
			return result, err
		}
	}
	return CustomerResult{}, errTooManyWrites
}

// idempotencyRecord returns the record of a request that has an idempotency key,
// without its outcome.
func (s *Service) idempotencyRecord(ctx context.Context, w writing) (r IdempotencyRecord, err error) {
	if r.Key, err = s.sealer.Index(ctx, w.Merchant, IndexIdempotencyKey, w.IdempotencyKey); err != nil {
		return r, err
	}
	var space [512]byte
	request := appendText(space[:0], w.operation)
	request = appendText(request, w.target)
	request = w.appendCanonical(request)
	request = w.in.AppendCanonical(request)
	r.Request, err = s.sealer.Index(ctx, w.Merchant, IndexIdempotencyRequest, string(request))
	r.At = s.now()
	r.ExpiresAt = r.At.Add(s.idempotencyKeep)
	return r, err
}

// replay answers w as the same request was answered before, if it was.
func (s *Service) replay(ctx context.Context, w writing, key IdempotencyRecord) (CustomerResult, bool, error) {
	before, found, err := s.store.Idempotency(ctx, w.Merchant, key.Key, key.At)
	if err != nil || !found {
		return CustomerResult{}, false, err
	}
	if before.Request != key.Request {
		return CustomerResult{}, false, &Error{Code: CodeIdempotencyMismatch, Message: "The idempotency key was used with another request."}
	}
	result := CustomerResult{Customer: Customer{ID: before.Customer}, Created: before.Outcome == OutcomeCreated, Replayed: true}
	if before.Outcome == OutcomeErased {
		return result, true, nil
	}
	record, err := s.store.Customer(ctx, w.Merchant, before.Customer, Index{})
	if err != nil {
		return CustomerResult{}, false, err
	}
	if result.Customer, err = s.open(ctx, w.Merchant, record); err != nil {
		return CustomerResult{}, false, err
	}
	if result.Customer.Reference != w.reference() && string(result.Customer.ID) != w.target {
		// The customer was erased, and an import has brought the id for somebody else.
		return CustomerResult{}, false, errNoCustomer
	}
	err = s.issueNow(ctx, w.Merchant, w.Token, &result)
	return result, err == nil, err
}

// idempotencyWait is how long a request waits for another with the same key.
const idempotencyWait = 5 * time.Second

type runningKey struct {
	merchant MerchantID
	key      Index
}

// running is the idempotency keys of the requests that this process is working on.
// It is safe for concurrent use.
type running struct {
	mu   sync.Mutex
	keys map[runningKey]chan struct{}
}

// take waits until nobody else has the key, at most [idempotencyWait], and holds it
// until release. Code: [CodeIdempotencyInProgress].
func (r *running) take(ctx context.Context, key runningKey) (release func(), err error) {
	var timeout *time.Timer
	for {
		r.mu.Lock()
		other, taken := r.keys[key]
		if !taken {
			if r.keys == nil {
				r.keys = make(map[runningKey]chan struct{})
			}
			done := make(chan struct{})
			r.keys[key] = done
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				delete(r.keys, key)
				r.mu.Unlock()
				close(done)
			}, nil
		}
		r.mu.Unlock()
		if timeout == nil {
			timeout = time.NewTimer(idempotencyWait)
			defer timeout.Stop()
		}
		select {
		case <-other:
		case <-timeout.C:
			return nil, &Error{Code: CodeIdempotencyInProgress, Message: "A request with this idempotency key is still in progress.", RetryIn: time.Second}
		case <-ctx.Done():
			return nil, Unavailable("the caller went away while another request with its idempotency key was in progress", time.Second, ctx.Err())
		}
	}
}
