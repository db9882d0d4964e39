package grahak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// CustomerResult is one customer and, when one was asked for, a fresh token.
type CustomerResult struct {
	Customer Customer
	Token    *Token
	// Created is set if the request made the customer.
	Created bool
	// Replayed is set if the request had taken effect before, and this is its
	// answer again. Of an erased customer it has the id only.
	Replayed bool
}

// Version returns the version of the customer.
func (c Customer) Version() Version { return Version{Customer: c.ID, Revision: c.Revision} }

// CreateCustomer makes a customer. Codes: [CodeInsufficientScope],
// [CodeInvalidField]; [CodeDuplicateReference], with the customer that has the
// reference if it is still there; those of an idempotency key, see [WriteOptions].
func (s *Service) CreateCustomer(ctx context.Context, c Caller, in CustomerInput, o WriteOptions) (CustomerResult, error) {
	if err := c.may(ScopeWrite); err != nil {
		return CustomerResult{}, err
	}
	var v validator
	p, err := NewProfile(in, s.countryCode)
	v.add(err)
	v.idempotencyKey(o)
	if err := v.err(); err != nil {
		return CustomerResult{}, err
	}
	result, err := s.write(ctx, writing{
		Caller: c, WriteOptions: o, operation: operationCreate, in: in, tryFirst: true,
		attempt: func(key *IdempotencyRecord) (CustomerResult, bool, error) {
			result, err := s.create(ctx, c, p, o.Token, key)
			return result, true, err
		},
	})
	var known *Error
	if errors.As(err, &known) && known.Code == CodeDuplicateReference {
		// It says who has the reference. Should that not be known, it is a
		// duplicate all the same.
		if record, err := s.recordOf(ctx, c.Merchant, p.Reference); err == nil {
			return result, &Error{Code: CodeDuplicateReference, Message: known.Message, Customer: record.ID}
		}
	}
	return result, err
}

// create makes a customer, with the idempotency key that the request had unless
// that is nil.
func (s *Service) create(ctx context.Context, c Caller, p Profile, token bool, key *IdempotencyRecord) (CustomerResult, error) {
	now := s.now()
	id, err := newID(customerPrefix, s.customerTicks.at(now), s.random)
	if err != nil {
		return CustomerResult{}, err
	}
	customer := Customer{ID: CustomerID(id), Profile: p, Revision: 1, CreatedAt: now, UpdatedAt: now}
	event, err := s.event(c, EventCustomerCreated, id, now)
	if err != nil {
		return CustomerResult{}, err
	}
	event.Revision = customer.Revision
	result := CustomerResult{Customer: customer, Created: true}
	besides, err := s.besides(c.Merchant, token, key, OutcomeCreated, &result)
	if err != nil {
		return CustomerResult{}, err
	}
	err = s.underNewestKey(func() error {
		record, err := s.seal(ctx, c.Merchant, customer)
		if err != nil {
			return err
		}
		return s.store.CreateCustomer(ctx, c.Merchant, record, event, besides)
	})
	if err != nil {
		return CustomerResult{}, err
	}
	return result, nil
}

// EnsureCustomer returns the customer with the given reference, and makes it if
// there is none; of those who ask at once, one makes it. If update is set, the
// given fields of in are put over a customer that there is. The reference in in is
// ignored. Codes: [CodeInsufficientScope], [CodeInvalidField];
// [CodePreconditionFailed], also where there is no customer; those of an
// idempotency key, see [WriteOptions].
func (s *Service) EnsureCustomer(ctx context.Context, c Caller, reference string, in CustomerInput, update bool, o WriteOptions) (CustomerResult, error) {
	if err := c.may(ScopeWrite); err != nil {
		return CustomerResult{}, err
	}
	in.Reference = Input{Value: reference, Given: true}
	var v validator
	v.require(FieldReference, in.Reference, validReference)
	// What is wrong with a value is said whether there is a customer or not. That
	// the number is missing matters only where it is needed.
	changes := in
	if !in.MobileNumber.Malformed && isBlank(in.MobileNumber.Value) && !update {
		changes.MobileNumber = Input{}
	}
	_, _, err := (Profile{}).Apply(changes)
	v.add(err)
	v.idempotencyKey(o)
	if err := v.err(); err != nil {
		return CustomerResult{}, err
	}
	operation := "ensure"
	if update {
		operation = "ensure and update"
	}
	return s.write(ctx, writing{
		Caller: c, WriteOptions: o, operation: operation, target: reference, in: in,
		attempt: func(key *IdempotencyRecord) (CustomerResult, bool, error) {
			return s.tryEnsure(ctx, c, in, update, o, key)
		},
	})
}

// tryEnsure reports false if another write of the customer came first.
func (s *Service) tryEnsure(ctx context.Context, c Caller, in CustomerInput, update bool, o WriteOptions, key *IdempotencyRecord) (CustomerResult, bool, error) {
	reference := in.Reference.Value
	record, err := s.recordOf(ctx, c.Merchant, reference)
	if CodeOf(err) == CodeCustomerNotFound {
		if o.Match != nil {
			return CustomerResult{}, false, errPreconditionFailed
		}
		p, err := NewProfile(in, s.countryCode)
		if err != nil {
			return CustomerResult{}, false, err
		}
		result, err := s.create(ctx, c, p, o.Token, key)
		if CodeOf(err) == CodeDuplicateReference {
			return CustomerResult{}, false, nil
		}
		return result, true, err
	}
	if err != nil {
		return CustomerResult{}, false, err
	}
	customer, err := s.openFound(ctx, c.Merchant, reference, record)
	if err == nil && !update {
		in = CustomerInput{}
	}
	var result CustomerResult
	done := false
	if err == nil {
		result, done, err = s.tryUpdate(ctx, c, customer, in, o, key)
	}
	if CodeOf(err) == CodeCustomerNotFound {
		// It was erased in between, so it is to be made.
		return CustomerResult{}, false, nil
	}
	return result, done, err
}

// Customer returns the customer whose id or else whose reference is ref, with a
// token if token is set, for which the caller needs write scope. Codes:
// [CodeInsufficientScope], [CodeCustomerNotFound].
func (s *Service) Customer(ctx context.Context, c Caller, ref string, token bool) (CustomerResult, error) {
	scope := ScopeRead
	if token {
		scope = ScopeWrite
	}
	if err := c.may(scope); err != nil {
		return CustomerResult{}, err
	}
	customer, err := s.find(ctx, c.Merchant, ref)
	if err != nil {
		return CustomerResult{}, err
	}
	result := CustomerResult{Customer: customer}
	err = s.issueNow(ctx, c.Merchant, token, &result)
	return result, err
}

// UpdateCustomer puts the given fields of in over the customer whose id or else
// whose reference is ref. When no value changes, nothing is written of the customer
// and the time of update stays. Codes: [CodeInsufficientScope], [CodeInvalidField],
// [CodeCustomerNotFound], [CodePreconditionFailed]; those of an idempotency key, see
// [WriteOptions].
func (s *Service) UpdateCustomer(ctx context.Context, c Caller, ref string, in CustomerInput, o WriteOptions) (CustomerResult, error) {
	if err := c.may(ScopeWrite); err != nil {
		return CustomerResult{}, err
	}
	// Validation comes before the look-up, so that a bad field is 400 even for
	// an unknown customer.
	var v validator
	_, _, err := (Profile{}).Apply(in)
	v.add(err)
	v.idempotencyKey(o)
	if err := v.err(); err != nil {
		return CustomerResult{}, err
	}
	return s.write(ctx, writing{
		Caller: c, WriteOptions: o, operation: "update", target: ref, in: in,
		attempt: func(key *IdempotencyRecord) (CustomerResult, bool, error) {
			customer, err := s.find(ctx, c.Merchant, ref)
			if err != nil {
				return CustomerResult{}, false, err
			}
			return s.tryUpdate(ctx, c, customer, in, o, key)
		},
	})
}

// tryUpdate puts the given fields of in over customer. It reports false if another
// write of the customer came first.
func (s *Service) tryUpdate(ctx context.Context, c Caller, customer Customer, in CustomerInput, o WriteOptions, key *IdempotencyRecord) (CustomerResult, bool, error) {
	if err := o.Match.check(customer.Version()); err != nil {
		return CustomerResult{}, false, err
	}
	p, changed, err := customer.Apply(in)
	if err != nil {
		return CustomerResult{}, false, err
	}
	result := CustomerResult{Customer: customer}
	if len(changed) == 0 {
		if err := s.issueNow(ctx, c.Merchant, o.Token, &result); err != nil {
			return CustomerResult{}, false, err
		}
		if key != nil {
			key.Outcome, key.Customer = OutcomeFound, customer.ID
			err = s.store.PutIdempotency(ctx, c.Merchant, *key)
		}
		return result, err == nil, err
	}
	now := s.now()
	customer.Profile = p
	customer.Revision++
	// A clock that was set back must not make a change look older than the
	// one before it.
	if now.After(customer.UpdatedAt) {
		customer.UpdatedAt = now
	}
	result.Customer = customer
	event, err := s.event(c, EventCustomerUpdated, string(customer.ID), now)
	if err != nil {
		return CustomerResult{}, false, err
	}
	event.Revision, event.Changed = customer.Revision, changed
	besides, err := s.besides(c.Merchant, o.Token, key, OutcomeFound, &result)
	if err != nil {
		return CustomerResult{}, false, err
	}
	var done bool
	err = s.underNewestKey(func() error {
		record, err := s.seal(ctx, c.Merchant, customer)
		if err != nil {
			return err
		}
		done, err = s.store.UpdateCustomer(ctx, c.Merchant, record, event, besides)
		return err
	})
	if err != nil {
		return CustomerResult{}, false, err
	}
	return result, done, nil
}

// Erasure is the outcome of [Service.EraseCustomer].
type Erasure struct {
	Customer CustomerID
	// Replayed is set if the request had taken effect before.
	Replayed bool
}

// EraseCustomer deletes the customer whose id or else whose reference is ref,
// with everything that is found by it. The events stay: they hold no personal
// data. So do idempotency keys, until they expire. A token cannot be asked for.
// Codes: [CodeInsufficientScope], [CodeInvalidField], [CodeCustomerNotFound],
// [CodePreconditionFailed]; those of an idempotency key, see [WriteOptions].
func (s *Service) EraseCustomer(ctx context.Context, c Caller, ref string, o WriteOptions) (Erasure, error) {
	if err := c.may(ScopeWrite); err != nil {
		return Erasure{}, err
	}
	var v validator
	v.idempotencyKey(o)
	if err := v.err(); err != nil {
		return Erasure{}, err
	}
	result, err := s.write(ctx, writing{
		Caller: c, WriteOptions: o, operation: "erase", target: ref,
		attempt: func(key *IdempotencyRecord) (CustomerResult, bool, error) {
			return s.tryErase(ctx, c, ref, o, key)
		},
	})
	return Erasure{Customer: result.Customer.ID, Replayed: result.Replayed}, err
}

// tryErase reports false if another write of the customer came first.
func (s *Service) tryErase(ctx context.Context, c Caller, ref string, o WriteOptions, key *IdempotencyRecord) (CustomerResult, bool, error) {
	record, err := s.record(ctx, c.Merchant, ref)
	if err == nil && string(record.ID) != ref {
		// By its own id a damaged one can be erased, too.
		_, err = s.openFound(ctx, c.Merchant, ref, record)
	} else if err == nil {
		// But no customer of a merchant whose keys do not open: with the right master key
		// there may be nothing wrong with them.
		_, err = s.sealer.Index(ctx, c.Merchant, IndexReference, ref)
	}
	if err == nil {
		err = o.Match.check(Version{Customer: record.ID, Revision: record.Revision})
	}
	if err != nil {
		return CustomerResult{}, false, err
	}
	event, err := s.event(c, EventCustomerErased, string(record.ID), s.now())
	if err != nil {
		return CustomerResult{}, false, err
	}
	event.Revision = record.Revision + 1
	result := CustomerResult{Customer: Customer{ID: record.ID}}
	besides, err := s.besides(c.Merchant, false, key, OutcomeErased, &result)
	if err != nil {
		return CustomerResult{}, false, err
	}
	done, err := s.store.EraseCustomer(ctx, c.Merchant, record.ID, record.Revision, event, besides)
	return result, done, err
}

// CustomerExport is everything that is held on one customer.
type CustomerExport struct {
	Customer Customer
	// Tokens are the client auth tokens that are kept: their hashes, not
	// themselves.
	Tokens []TokenRecord
	Events []Event
}

// ExportCustomer returns everything that is held on the customer whose id or
// else whose reference is ref. Admins may. Codes:
// [CodeInsufficientScope], [CodeCustomerNotFound].
func (s *Service) ExportCustomer(ctx context.Context, c Caller, ref string) (CustomerExport, error) {
	if err := c.may(scopeAdmin); err != nil {
		return CustomerExport{}, err
	}
	customer, err := s.find(ctx, c.Merchant, ref)
	if err != nil {
		return CustomerExport{}, err
	}
	export := CustomerExport{Customer: customer}
	if export.Tokens, err = s.store.Tokens(ctx, c.Merchant, customer.ID); err != nil {
		return CustomerExport{}, err
	}
	export.Events, err = s.store.EventsOf(ctx, c.Merchant, string(customer.ID))
	return export, err
}

// VerifyToken returns what token names. Code: [CodeTokenNotFound] for one that
// is unknown or expired. It is for the platform's own services, not merchants.
func (s *Service) VerifyToken(ctx context.Context, token string) (TokenRecord, error) {
	return s.store.Token(ctx, HashToken(token), s.clock.Now())
}

// find returns the customer whose id or else whose reference is ref.
func (s *Service) find(ctx context.Context, m MerchantID, ref string) (Customer, error) {
	record, err := s.record(ctx, m, ref)
	if err != nil {
		return Customer{}, err
	}
	return s.openFound(ctx, m, ref, record)
}

// openFound opens what was found by ref.
func (s *Service) openFound(ctx context.Context, m MerchantID, ref string, record CustomerRecord) (Customer, error) {
	customer, err := s.open(ctx, m, record)
	if err == nil && string(customer.ID) != ref && customer.Reference != ref {
		// What is sealed is bound to the id, but not to the index it was found by.
		err = fmt.Errorf("customer %s of merchant %s stands under the index of another reference: its row was altered", record.ID, m)
	}
	return customer, err
}

var errNoCustomer = &Error{Code: CodeCustomerNotFound, Message: "There is no such customer."}

// record is find without opening what is found. No customer has a reference
// that breaks the rule for references, so such a ref is not looked up. All ids are
// such as may be brought, and most references are not.
func (s *Service) record(ctx context.Context, m MerchantID, ref string) (CustomerRecord, error) {
	if ref == "" || !validReference(ref) {
		return CustomerRecord{}, errNoCustomer
	}
	if validBroughtID(ref) {
		record, err := s.store.Customer(ctx, m, CustomerID(ref), Index{})
		if CodeOf(err) != CodeCustomerNotFound {
			return record, err
		}
	}
	return s.recordOf(ctx, m, ref)
}

// recordOf returns the customer with the given reference, which is a valid one.
// Code: [CodeCustomerNotFound].
func (s *Service) recordOf(ctx context.Context, m MerchantID, reference string) (CustomerRecord, error) {
	index, err := s.sealer.Index(ctx, m, IndexReference, reference)
	if err != nil {
		return CustomerRecord{}, err
	}
	return s.store.Customer(ctx, m, "", index)
}

// sealAttempts bounds how often a write starts again because the merchant's key
// was rotated in between.
const sealAttempts = 5

// underNewestKey runs write, which seals and stores, again for as long as the
// store finds that it sealed under a key that is no longer the newest: another
// process may rotate keys at any time.
func (s *Service) underNewestKey(write func() error) error {
	for range sealAttempts {
		err := write()
		if CodeOf(err) != CodeKeyRotated {
			return err
		}
		s.sealer.Forget()
	}
	return Unavailable("the sealing keys changed again and again", time.Second, nil)
}

// seal returns c as it is stored.
func (s *Service) seal(ctx context.Context, m MerchantID, c Customer) (CustomerRecord, error) {
	r := CustomerRecord{ID: c.ID, Revision: c.Revision, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt}
	var err error
	if r.Reference, err = s.sealer.Index(ctx, m, IndexReference, c.Reference); err != nil {
		return CustomerRecord{}, err
	}
	if r.Email, err = s.emailIndex(ctx, m, c.Email); err != nil {
		return CustomerRecord{}, err
	}
	if r.Mobile, err = s.mobileIndex(ctx, m, c.MobileNumber); err != nil {
		return CustomerRecord{}, err
	}
	r.Sealed, err = s.sealer.Seal(ctx, m, c.ID, c.Profile)
	return r, err
}

// open returns the customer that is sealed in r. If that does not open, the
// customer may have been sealed anew since it was read, and the older key be
// gone, so it is read again. Code: [CodeCustomerNotFound] if it was erased since.
func (s *Service) open(ctx context.Context, m MerchantID, r CustomerRecord) (Customer, error) {
	p, err := s.sealer.Open(ctx, m, r.ID, r.Sealed.Bytes)
	if CodeOf(err) == CodeInternal {
		again, readErr := s.store.Customer(ctx, m, r.ID, Index{})
		switch {
		case readErr != nil:
			return Customer{}, readErr
		case !bytes.Equal(again.Sealed.Bytes, r.Sealed.Bytes):
			r = again
			p, err = s.sealer.Open(ctx, m, r.ID, r.Sealed.Bytes)
		}
	}
	if err != nil {
		return Customer{}, fmt.Errorf("open customer %s of merchant %s: %w", r.ID, m, err)
	}
	return Customer{ID: r.ID, Profile: p, Revision: r.Revision, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}, nil
}

// openAll is open for many. Those that were erased since they were read are left
// out.
func (s *Service) openAll(ctx context.Context, m MerchantID, records []CustomerRecord) ([]Customer, error) {
	customers := make([]Customer, 0, len(records))
	for _, r := range records {
		customer, err := s.open(ctx, m, r)
		switch {
		case err == nil:
			customers = append(customers, customer)
		case CodeOf(err) != CodeCustomerNotFound:
			return nil, err
		}
	}
	return customers, nil
}

// issue makes a token of the customer in result if wanted, puts it there and
// returns what to store of it.
func (s *Service) issue(m MerchantID, wanted bool, result *CustomerResult) (*TokenRecord, error) {
	if !wanted {
		return nil, nil
	}
	token, err := newToken(s.clock.Now().UTC(), s.random)
	if err != nil {
		return nil, err
	}
	result.Token = &token
	return &TokenRecord{Merchant: m, Customer: result.Customer.ID, Hash: HashToken(token.Value), ExpiresAt: token.ExpiresAt}, nil
}

// issueNow is issue for a customer of whom nothing else is written.
func (s *Service) issueNow(ctx context.Context, m MerchantID, wanted bool, result *CustomerResult) error {
	issued, err := s.issue(m, wanted, result)
	if err == nil && issued != nil {
		err = s.store.PutToken(ctx, m, *issued)
	}
	if err != nil {
		*result = CustomerResult{}
	}
	return err
}

// besides returns what is written with the customer in result: a token if one is
// wanted, and the idempotency key, with the outcome, unless that is nil.
func (s *Service) besides(m MerchantID, token bool, key *IdempotencyRecord, outcome IdempotencyOutcome, result *CustomerResult) (*Besides, error) {
	if !token && key == nil {
		return nil, nil
	}
	issued, err := s.issue(m, token, result)
	if key != nil {
		key.Outcome, key.Customer = outcome, result.Customer.ID
	}
	return &Besides{Token: issued, Key: key}, err
}
