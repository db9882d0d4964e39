package grahak

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
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
	id, err := newID("cst_", s.customerTicks.at(now), s.random)
	if err != nil {
		return CustomerResult{}, err
	}
	customer := Customer{ID: CustomerID(id), Profile: p, Revision: 1, CreatedAt: now, UpdatedAt: now}
	record, err := s.seal(ctx, c.Merchant, customer)
	if err != nil {
		return CustomerResult{}, err
	}
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
	if err := s.store.CreateCustomer(ctx, c.Merchant, record, event, issued); err != nil {
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
	customer, _, err := s.find(ctx, c.Merchant, ref)
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
	return CustomerResult{}, Unavailable("too many updates of one customer at once", time.Second, nil)
}

// tryUpdate reports false if another update of the customer came first.
func (s *Service) tryUpdate(ctx context.Context, c Caller, ref string, in CustomerInput, token bool) (CustomerResult, bool, error) {
	customer, record, err := s.find(ctx, c.Merchant, ref)
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
	sealed, err := s.sealer.Seal(ctx, c.Merchant, customer.ID, p)
	if err != nil {
		return CustomerResult{}, false, err
	}
	record.Sealed, record.Revision, record.UpdatedAt = sealed, customer.Revision, customer.UpdatedAt
	event, err := s.event(c, EventCustomerUpdated, string(customer.ID), now)
	if err != nil {
		return CustomerResult{}, false, err
	}
	event.Revision, event.Changed = customer.Revision, changed
	done, err := s.store.UpdateCustomer(ctx, c.Merchant, record, event, issued)
	if err != nil {
		return CustomerResult{}, false, err
	}
	return result, done, nil
}

// Paging limits of [Service.Customers] (wire.md §4).
const (
	DefaultPage = 10
	MaxPage     = 100
	MaxOffset   = 10_000
)

// ListQuery asks for a page of customers.
type ListQuery struct {
	// Limit is how many to return, from 1; more than [MaxPage] is MaxPage.
	Limit int
	// Offset is how many of the newest to skip, up to [MaxOffset].
	Offset int
	// After is the Next of an earlier page; empty for the first.
	After string
}

// CustomerPage is customers in order of creation, newest first.
type CustomerPage struct {
	Customers []Customer
	// Total counts all customers of the merchant.
	Total int64
	// Next is the After of the next page; empty when there is none.
	Next string
}

// Customers returns a page of the merchant's customers. Codes:
// [CodeInvalidField] for an offset over [MaxOffset], a limit below 1 or a
// cursor that is not from this merchant's pages.
func (s *Service) Customers(ctx context.Context, c Caller, q ListQuery) (CustomerPage, error) {
	if err := c.may(ScopeRead); err != nil {
		return CustomerPage{}, err
	}
	var v validator
	if q.Limit < 1 {
		v.bad = append(v.bad, FieldCount)
	}
	if q.Offset < 0 || q.Offset > MaxOffset {
		v.bad = append(v.bad, FieldOffset)
	}
	before, ok, err := s.openCursor(ctx, c.Merchant, q.After)
	if err != nil {
		return CustomerPage{}, err
	}
	if !ok {
		v.bad = append(v.bad, FieldCursor)
	}
	if err := v.err(); err != nil {
		return CustomerPage{}, err
	}
	limit := min(q.Limit, MaxPage)
	// One more than asked for tells whether there is a next page.
	records, total, err := s.store.Customers(ctx, c.Merchant, before, limit+1, q.Offset)
	if err != nil {
		return CustomerPage{}, err
	}
	page := CustomerPage{Total: total}
	if len(records) > limit {
		records = records[:limit]
		if page.Next, err = s.cursor(ctx, c.Merchant, records[limit-1].ID); err != nil {
			return CustomerPage{}, err
		}
	}
	page.Customers = make([]Customer, len(records))
	for i, r := range records {
		if page.Customers[i], err = s.open(ctx, c.Merchant, r); err != nil {
			return CustomerPage{}, err
		}
	}
	return page, nil
}

// VerifyToken returns what token names. Code: [CodeTokenNotFound] for one that
// is unknown or expired. It is for the platform's own services, not merchants.
func (s *Service) VerifyToken(ctx context.Context, token string) (TokenRecord, error) {
	return s.store.Token(ctx, HashToken(token), s.clock.Now())
}

// find returns the customer whose id or else whose reference is ref, opened and
// as stored. No customer has a reference that breaks the rule for references,
// so such a ref is not looked up.
func (s *Service) find(ctx context.Context, m MerchantID, ref string) (Customer, CustomerRecord, error) {
	if ref == "" || !validReference(ref) {
		return Customer{}, CustomerRecord{}, &Error{Code: CodeCustomerNotFound, Message: "There is no such customer."}
	}
	index, err := s.sealer.Index(ctx, m, IndexReference, ref)
	if err != nil {
		return Customer{}, CustomerRecord{}, err
	}
	record, err := s.store.Customer(ctx, m, CustomerID(ref), index)
	if err != nil {
		return Customer{}, CustomerRecord{}, err
	}
	customer, err := s.open(ctx, m, record)
	return customer, record, err
}

func (s *Service) seal(ctx context.Context, m MerchantID, c Customer) (CustomerRecord, error) {
	index, err := s.sealer.Index(ctx, m, IndexReference, c.Reference)
	if err != nil {
		return CustomerRecord{}, err
	}
	sealed, err := s.sealer.Seal(ctx, m, c.ID, c.Profile)
	if err != nil {
		return CustomerRecord{}, err
	}
	return CustomerRecord{ID: c.ID, Reference: index, Sealed: sealed, Revision: c.Revision, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt}, nil
}

func (s *Service) open(ctx context.Context, m MerchantID, r CustomerRecord) (Customer, error) {
	p, err := s.sealer.Open(ctx, m, r.ID, r.Sealed)
	if err != nil {
		return Customer{}, fmt.Errorf("open customer %s of merchant %s: %w", r.ID, m, err)
	}
	return Customer{ID: r.ID, Profile: p, Revision: r.Revision, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}, nil
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

// cursorStart begins every cursor, so that none looks like a flag on a command
// line.
const cursorStart = "p"

// cursorCheck is how many bytes of a cursor prove that it is ours.
const cursorCheck = 8

// maxCursor is the length of the longest decoded cursor, in bytes.
const maxCursor = 256

// cursor returns an opaque, self-checking name for the place after id.
func (s *Service) cursor(ctx context.Context, m MerchantID, id CustomerID) (string, error) {
	sum, err := s.sealer.Index(ctx, m, IndexCursor, string(id))
	if err != nil {
		return "", err
	}
	return cursorStart + base64.RawURLEncoding.EncodeToString(append(sum[:cursorCheck:cursorCheck], id...)), nil
}

// openCursor returns the id in a cursor, and reports whether it is one of the
// merchant's. The empty cursor is the empty id.
func (s *Service) openCursor(ctx context.Context, m MerchantID, cursor string) (CustomerID, bool, error) {
	if cursor == "" {
		return "", true, nil
	}
	encoded, ok := strings.CutPrefix(cursor, cursorStart)
	if !ok {
		return "", false, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", false, nil //nolint:nilerr // A cursor that is not ours is an answer, not a failure.
	}
	if len(raw) <= cursorCheck || len(raw) > maxCursor {
		return "", false, nil
	}
	id := CustomerID(raw[cursorCheck:])
	sum, err := s.sealer.Index(ctx, m, IndexCursor, string(id))
	if err != nil {
		return "", false, err
	}
	return id, subtle.ConstantTimeCompare(sum[:cursorCheck], raw[:cursorCheck]) == 1, nil
}
