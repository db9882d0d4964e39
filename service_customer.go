package grahak

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// CustomerResult is one customer and, when one was asked for, a fresh token.
type CustomerResult struct {
	Customer Customer
	Token    *Token
}

// CreateCustomer makes a customer, with a token if token is set. Codes:
// [CodeInsufficientScope], [CodeInvalidField], [CodeDuplicateReference].
func (s *Service) CreateCustomer(ctx context.Context, c Caller, in CustomerInput, token bool) (CustomerResult, error) {
	if err := c.may(ScopeWrite); err != nil {
		return CustomerResult{}, err
	}
	p, err := NewProfile(in, s.countryCode)
	if err != nil {
		return CustomerResult{}, err
	}
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
	result := CustomerResult{Customer: customer}
	issued, err := s.issue(c.Merchant, customer.ID, token, &result)
	if err != nil {
		return CustomerResult{}, err
	}
	err = s.underNewestKey(func() error {
		record, err := s.seal(ctx, c.Merchant, customer)
		if err != nil {
			return err
		}
		return s.store.CreateCustomer(ctx, c.Merchant, record, event, issued)
	})
	if err != nil {
		return CustomerResult{}, err
	}
	return result, nil
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
	issued, err := s.issue(c.Merchant, customer.ID, token, &result)
	if err != nil {
		return CustomerResult{}, err
	}
	if issued != nil {
		if err := s.store.PutToken(ctx, c.Merchant, *issued); err != nil {
			return CustomerResult{}, err
		}
	}
	return result, nil
}

// updateAttempts bounds how often an update that loses a race against another
// update of the same customer starts again. A loser means that a winner made
// progress, so running out takes that many rivals on one customer at once.
const updateAttempts = 64

var errTooManyUpdates = Unavailable("too many updates of one customer at once", time.Second, nil)

// UpdateCustomer puts the given fields of in over the customer whose id or else
// whose reference is ref, with a token if token is set. When no value changes,
// nothing is written and the time of update stays. Codes:
// [CodeInsufficientScope], [CodeInvalidField], [CodeCustomerNotFound].
func (s *Service) UpdateCustomer(ctx context.Context, c Caller, ref string, in CustomerInput, token bool) (CustomerResult, error) {
	if err := c.may(ScopeWrite); err != nil {
		return CustomerResult{}, err
	}
	// Validation comes before the look-up, so that a bad field is 400 even for
	// an unknown customer.
	if _, _, err := (Profile{}).Apply(in); err != nil {
		return CustomerResult{}, err
	}
	for range updateAttempts {
		result, done, err := s.tryUpdate(ctx, c, ref, in, token)
		if done || err != nil {
			return result, err
		}
	}
	return CustomerResult{}, errTooManyUpdates
}

// tryUpdate reports false if another update of the customer came first.
func (s *Service) tryUpdate(ctx context.Context, c Caller, ref string, in CustomerInput, token bool) (CustomerResult, bool, error) {
	customer, err := s.find(ctx, c.Merchant, ref)
	if err != nil {
		return CustomerResult{}, false, err
	}
	p, changed, err := customer.Apply(in)
	if err != nil {
		return CustomerResult{}, false, err
	}
	result := CustomerResult{Customer: customer}
	issued, err := s.issue(c.Merchant, customer.ID, token, &result)
	if err != nil {
		return CustomerResult{}, false, err
	}
	if len(changed) == 0 {
		if issued != nil {
			err = s.store.PutToken(ctx, c.Merchant, *issued)
		}
		return result, true, err
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
	var done bool
	err = s.underNewestKey(func() error {
		record, err := s.seal(ctx, c.Merchant, customer)
		if err != nil {
			return err
		}
		done, err = s.store.UpdateCustomer(ctx, c.Merchant, record, event, issued)
		return err
	})
	if err != nil {
		return CustomerResult{}, false, err
	}
	return result, done, nil
}

// EraseCustomer deletes the customer whose id or else whose reference is ref,
// with everything that is found by it, and returns its id. The events stay:
// they hold no personal data. Codes: [CodeInsufficientScope],
// [CodeCustomerNotFound].
func (s *Service) EraseCustomer(ctx context.Context, c Caller, ref string) (CustomerID, error) {
	if err := c.may(ScopeWrite); err != nil {
		return "", err
	}
	for range updateAttempts {
		record, err := s.record(ctx, c.Merchant, ref)
		if err == nil && string(record.ID) != ref {
			// By its own id a damaged one can be erased, too.
			_, err = s.openFound(ctx, c.Merchant, ref, record)
		}
		if err != nil {
			return "", err
		}
		event, err := s.event(c, EventCustomerErased, string(record.ID), s.now())
		if err != nil {
			return "", err
		}
		event.Revision = record.Revision + 1
		done, err := s.store.EraseCustomer(ctx, c.Merchant, record.ID, record.Revision, event)
		if done || err != nil {
			return record.ID, err
		}
	}
	return "", errTooManyUpdates
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
// else whose reference is ref. It is for operators. Codes:
// [CodeInsufficientScope], [CodeCustomerNotFound].
func (s *Service) ExportCustomer(ctx context.Context, c Caller, ref string) (CustomerExport, error) {
	if err := c.may(scopeOperator); err != nil {
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

// record is find without opening what is found. No customer has a reference
// that breaks the rule for references, so such a ref is not looked up.
func (s *Service) record(ctx context.Context, m MerchantID, ref string) (CustomerRecord, error) {
	if ref == "" || !validReference(ref) {
		return CustomerRecord{}, &Error{Code: CodeCustomerNotFound, Message: "There is no such customer."}
	}
	index, err := s.sealer.Index(ctx, m, IndexReference, ref)
	if err != nil {
		return CustomerRecord{}, err
	}
	return s.store.Customer(ctx, m, CustomerID(ref), index)
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

// issue makes a token of the customer if wanted, puts it into result and
// returns what to store of it.
func (s *Service) issue(m MerchantID, id CustomerID, wanted bool, result *CustomerResult) (*TokenRecord, error) {
	if !wanted {
		return nil, nil
	}
	token, err := newToken(s.clock.Now().UTC(), s.random)
	if err != nil {
		return nil, err
	}
	result.Token = &token
	return &TokenRecord{Merchant: m, Customer: id, Hash: HashToken(token.Value), ExpiresAt: token.ExpiresAt}, nil
}
