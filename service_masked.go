package grahak

import (
	"context"
	"errors"
	"strings"
)

// MaskedPage is a [CustomerPage] of masked customers.
type MaskedPage struct {
	Customers []MaskedCustomer
	Total     int64
	Next      string
}

// MaskedCustomers is [Service.Customers] for viewers. Codes: as there.
func (s *Service) MaskedCustomers(ctx context.Context, c Caller, q ListQuery) (MaskedPage, error) {
	if err := c.may(scopeViewer); err != nil {
		return MaskedPage{}, err
	}
	page, err := s.customers(ctx, c.Merchant, q)
	return MaskedPage{Customers: maskAll(page.Customers), Total: page.Total, Next: page.Next}, err
}

func maskAll(customers []Customer) []MaskedCustomer {
	all := make([]MaskedCustomer, len(customers))
	for i, customer := range customers {
		all[i] = customer.Masked()
	}
	return all
}

// MaskedCustomer returns one customer. Viewers may. Codes: [CodeInsufficientScope],
// [CodeCustomerNotFound].
func (s *Service) MaskedCustomer(ctx context.Context, c Caller, id CustomerID) (MaskedCustomer, error) {
	if err := c.may(scopeViewer); err != nil {
		return MaskedCustomer{}, err
	}
	customer, err := s.customerByID(ctx, c.Merchant, id)
	if err != nil {
		return MaskedCustomer{}, err
	}
	return customer.Masked(), nil
}

// customerByID returns the customer with an id.
func (s *Service) customerByID(ctx context.Context, m MerchantID, id CustomerID) (Customer, error) {
	record, err := s.recordByID(ctx, m, id)
	if err != nil {
		return Customer{}, err
	}
	return s.open(ctx, m, record)
}

// recordByID is customerByID without opening what is found. Ids that were brought keep
// the rule for references, so no other one is looked up.
func (s *Service) recordByID(ctx context.Context, m MerchantID, id CustomerID) (CustomerRecord, error) {
	if id == "" || !validReference(string(id)) {
		return CustomerRecord{}, errNoCustomer
	}
	return s.store.Customer(ctx, m, id, Index{})
}

// RevealCustomer returns a customer in clear to an admin, after an event of that has
// been written: whoever was shown a person is on record, and without the record nobody
// is shown. Codes: [CodeInsufficientScope], [CodeCustomerNotFound].
func (s *Service) RevealCustomer(ctx context.Context, c Caller, id CustomerID) (Customer, error) {
	if err := c.may(scopeAdmin); err != nil {
		return Customer{}, err
	}
	// What is not there, or was erased, needs no event.
	if _, err := s.recordByID(ctx, c.Merchant, id); err != nil {
		return Customer{}, err
	}
	e, err := s.event(c, EventCustomerRevealed, string(id), s.now())
	if err != nil {
		return Customer{}, err
	}
	if err := s.store.RecordEvent(ctx, c.Merchant, e); err != nil {
		return Customer{}, err
	}
	return s.customerByID(ctx, c.Merchant, id)
}

// FoundKind says as what a text was found.
type FoundKind string

// The kinds of what is found.
const (
	FoundNothing   FoundKind = ""
	FoundID        FoundKind = "customer id"
	FoundErased    FoundKind = "id of an erased customer"
	FoundReference FoundKind = "reference"
	FoundEmail     FoundKind = "e-mail address"
	FoundMobile    FoundKind = "mobile number"
	FoundRequest   FoundKind = "request id"
)

// Found is what [Service.FindCustomer] came upon.
type Found struct {
	// Kind is that of the first one found, FoundNothing if there is none.
	Kind FoundKind
	// Customers are those who have the text as anything, each once.
	Customers []MaskedCustomer
	// More is set if there are more with the same e-mail address or number.
	More bool
	// ID is the customer's id of FoundID and FoundErased.
	ID CustomerID
	// RequestID is the id of FoundRequest.
	RequestID string
}

// maxFound is how many customers with the same e-mail address, or number, are found.
const maxFound = 50

// FindCustomer looks for a text as people have it at hand: an id, a reference, an
// e-mail address, a mobile number with or without country code and punctuation, or a
// request id. Only what is exactly so is found. Viewers may. Code:
// [CodeInsufficientScope].
func (s *Service) FindCustomer(ctx context.Context, c Caller, text string) (Found, error) {
	if err := c.may(scopeViewer); err != nil {
		return Found{}, err
	}
	text = strings.TrimSpace(text)
	f := finding{Service: s, merchant: c.Merchant, seen: make(map[CustomerID]bool)}
	if text == "" || !validReference(text) {
		return f.found, nil
	}
	if err := f.byName(ctx, text); err != nil {
		return Found{}, err
	}
	if validEmail(text) {
		if err := f.by(ctx, FoundEmail, CustomerFilter{Email: Input{Value: text, Given: true}}); err != nil {
			return Found{}, err
		}
	}
	for _, filter := range mobileFilters(text) {
		if err := f.by(ctx, FoundMobile, filter); err != nil {
			return Found{}, err
		}
	}
	if f.found.Kind != FoundNothing {
		return f.found, nil
	}
	requests, err := s.Request(ctx, c, text)
	if err != nil {
		return Found{}, err
	}
	if len(requests) > 0 {
		f.found.Kind, f.found.RequestID = FoundRequest, text
		return f.found, nil
	}
	events, err := s.store.LatestEvents(ctx, c.Merchant, text, 1)
	if err == nil && len(events) > 0 && events[0].Type.AboutCustomer() {
		f.found.Kind, f.found.ID = FoundErased, CustomerID(text)
	}
	return f.found, err
}

// finding is one run of [Service.FindCustomer].
type finding struct {
	*Service
	merchant MerchantID
	found    Found
	seen     map[CustomerID]bool
}

// byName looks for the customer with an id or a reference.
func (f *finding) byName(ctx context.Context, text string) error {
	customer, err := f.find(ctx, f.merchant, text)
	switch {
	case CodeOf(err) == CodeCustomerNotFound:
		return nil
	case err != nil:
		return err
	case string(customer.ID) == text:
		f.found.ID = customer.ID
		f.add(FoundID, customer)
	default:
		f.add(FoundReference, customer)
	}
	return nil
}

// by looks for the customers of a filter. One that no customer can fit finds none.
func (f *finding) by(ctx context.Context, kind FoundKind, filter CustomerFilter) error {
	page, err := f.customers(ctx, f.merchant, ListQuery{Limit: maxFound, Filter: filter})
	var known *Error
	if errors.As(err, &known) && known.Code == CodeInvalidField {
		return nil
	}
	f.add(kind, page.Customers...)
	f.found.More = f.found.More || page.Next != ""
	return err
}

// add adds customers who were found as kind.
func (f *finding) add(kind FoundKind, customers ...Customer) {
	for _, customer := range customers {
		if f.seen[customer.ID] {
			continue
		}
		f.seen[customer.ID] = true
		if f.found.Kind == FoundNothing {
			f.found.Kind = kind
		}
		f.found.Customers = append(f.found.Customers, customer.Masked())
	}
}

// minSubscriber is how many digits of what may be a number are left behind a country
// code at least.
const minSubscriber = 6

// mobileFilters returns what chooses the customers with a number as people write it:
// with spaces and the like, with the country code or a leading 0, or without. How
// long the country code is cannot be told, so each length is tried.
func mobileFilters(text string) []CustomerFilter {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/\u00a0", r) {
			return -1
		}
		return r
	}, text)
	digits, international := strings.CutPrefix(digits, "+")
	if !validDigits(digits, 2+MaxCountryCode+MaxMobileNumber) {
		return nil
	}
	number := func(code, number string) CustomerFilter {
		return CustomerFilter{
			MobileCountryCode: Input{Value: code, Given: code != ""},
			MobileNumber:      Input{Value: number, Given: true},
		}
	}
	filters := []CustomerFilter{number("", digits)}
	if !international {
		if rest, ok := strings.CutPrefix(digits, "00"); ok {
			digits = rest
		} else if rest, ok := strings.CutPrefix(digits, "0"); ok {
			return append(filters, number("", rest))
		}
	}
	for n := 1; n <= MaxCountryCode && len(digits)-n >= minSubscriber; n++ {
		filters = append(filters, number(digits[:n], digits[n:]))
	}
	return filters
}
