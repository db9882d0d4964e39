package grahak

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// importPlan is what becomes of some rows of an import.
type importPlan struct {
	service *Service
	caller  Caller
	rule    OnDuplicate
	rows    []plannedRow
	now     time.Time
	// seen is what a dry run knows of the rows before; nil if it is none.
	seen *seenRows
	met  *metCustomers // that were looked up ahead; nil for none

	// What was decided.
	counts           ImportState
	faults           []ImportFault
	created, updated []ImportWrite
}

// plannedRow is a row of an import, and what can be known of it by itself.
type plannedRow struct {
	*ImportRow
	faults []ImportFault // for which it is rejected whatever becomes of it
	// refused is why no customer can be made of it.
	refused   error
	customer  Customer // that it makes
	brought   bool     // its id does not tell when it was made
	reference Index
	record    CustomerRecord // customer, sealed
	event     EventID
}

// The reasons of faults.
const (
	reasonMissing       = "It is missing."
	reasonID            = `It is not "cst_" or "cth_" and 1 to 59 letters and digits behind that.`
	reasonIDTaken       = "Another customer has this id."
	reasonIDOther       = "The customer with this reference has another id."
	reasonDuplicate     = "A customer with this reference exists."
	reasonTime          = "It is not a time such as 2020-03-17T14:13:37Z."
	reasonTimeRange     = "It is before the year 2000, or more than a day ahead."
	reasonUpdatedBefore = "It is before the time of creation."
)

// reasons is what is wrong with values that break the rules of wire.md §3.
var reasons = map[Field]string{
	FieldReference:         "It has more than 128 characters, or such as cannot be printed.",
	FieldMobileNumber:      "It is not 1 to 16 digits.",
	FieldMobileCountryCode: "It is not 1 to 4 digits.",
	FieldEmail:             "It is not an e-mail address of at most 128 characters.",
	FieldFirstName:         "It has more than 64 characters, or such as cannot be printed.",
	FieldLastName:          "It has more than 64 characters, or such as cannot be printed.",
	FieldMetadata:          "It has more than 50 keys, a key of more than 40 characters or a value of more than 500, or such as cannot be printed.",
}

// firstImported is the earliest time of creation of a customer to import, and
// maxImportAhead how far ahead of now the latest is.
var firstImported = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

const maxImportAhead = 24 * time.Hour

// planImport validates rows, makes their ids and computes the indexes of their
// references, on all processors.
func (s *Service) planImport(ctx context.Context, c Caller, rule OnDuplicate, rows []ImportRow) (*importPlan, error) {
	p := &importPlan{service: s, caller: c, rule: rule, rows: make([]plannedRow, len(rows)), now: s.now()}
	customers, err := newIDs(customerPrefix, s.customerTicks.at(p.now), len(rows), s.random)
	if err != nil {
		return nil, err
	}
	events, err := newIDs("evt_", s.eventTicks.at(p.now), len(rows), s.random)
	if err != nil {
		return nil, err
	}
	err = p.each(func(i int, r *plannedRow) (err error) {
		r.ImportRow, r.event = &rows[i], EventID(events[i])
		if r.check(p.now, s.countryCode, rule); r.faults != nil {
			return nil
		}
		switch {
		case r.customer.ID != "":
			r.brought = !r.customer.ID.tells(r.customer.CreatedAt)
		case r.customer.CreatedAt.Equal(p.now):
			r.customer.ID = CustomerID(customers[i])
		default:
			id, err := newID(customerPrefix, tickOf(r.customer.CreatedAt), s.random)
			if err != nil {
				return err
			}
			r.customer.ID = CustomerID(id)
			r.brought = !r.customer.ID.tells(r.customer.CreatedAt)
		}
		r.reference, err = s.sealer.Index(ctx, c.Merchant, IndexReference, r.Customer.Reference.Value)
		return err
	})
	return p, err
}

// each calls fn with the rows, those of a part in order, and returns one of its
// errors. The parts run at once.
func (p *importPlan) each(fn func(i int, r *plannedRow) error) error {
	parts := min(runtime.GOMAXPROCS(0), len(p.rows))
	errs := make([]error, parts)
	var work sync.WaitGroup
	for part := range parts {
		work.Go(func() {
			for i := len(p.rows) * part / parts; i < len(p.rows)*(part+1)/parts && errs[part] == nil; i++ {
				errs[part] = fn(i, &p.rows[i])
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// check validates the row by itself. What only a new customer needs is no fault of a
// row that may be an update.
func (r *plannedRow) check(now time.Time, countryCode string, rule OnDuplicate) {
	if r.Broken != "" {
		r.fault(FieldRow, r.Broken)
		return
	}
	if r.ID.Malformed || !isBlank(r.ID.Value) && !validBroughtID(r.ID.Value) {
		r.fault(FieldID, reasonID)
	}
	var profile Profile
	profile, r.refused = NewProfile(r.Customer, countryCode)
	created, updated := r.time(FieldCreatedAt, r.CreatedAt, now), r.time(FieldUpdatedAt, r.UpdatedAt, now)
	invalid := r.invalidFaults(r.refused)
	byReference := func(f ImportFault) bool { return f.Field == FieldReference }
	if r.faults != nil || slices.ContainsFunc(invalid, byReference) {
		for _, f := range invalid {
			if rule != DuplicateUpdate || f.Reason != reasonMissing || byReference(f) {
				r.faults = append(r.faults, f)
			}
		}
		return
	}
	switch {
	case created.IsZero() && updated.IsZero():
		created, updated = now, now
	case created.IsZero():
		created = updated
	case updated.IsZero():
		updated = created
	}
	if updated.Before(created) {
		r.fault(FieldUpdatedAt, reasonUpdatedBefore)
		return
	}
	r.customer = Customer{Profile: profile, Revision: 1, CreatedAt: created, UpdatedAt: updated}
	if !isBlank(r.ID.Value) {
		r.customer.ID = CustomerID(r.ID.Value)
	}
}

// time returns the time in a field, to the microsecond; zero if there is none or it
// is refused.
func (r *plannedRow) time(field Field, in Input, now time.Time) time.Time {
	if !in.Malformed && isBlank(in.Value) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, in.Value)
	if in.Malformed || err != nil {
		r.fault(field, reasonTime)
		return time.Time{}
	}
	if t.Before(firstImported) || t.After(now.Add(maxImportAhead)) {
		r.fault(field, reasonTimeRange)
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// validBroughtID reports whether s is an id that a merchant may bring.
func validBroughtID(s string) bool {
	const maxLetters = 59
	letters, ok := strings.CutPrefix(s, customerPrefix)
	if !ok {
		letters, ok = strings.CutPrefix(s, "cth_")
	}
	if !ok || letters == "" || len(letters) > maxLetters {
		return false
	}
	for _, c := range []byte(letters) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}

func (r *plannedRow) fault(field Field, reason string) {
	r.faults = append(r.faults, ImportFault{Line: r.Line, Field: field, Reason: reason})
}

// invalidFaults returns the faults of a [CodeInvalidField] error.
func (r *plannedRow) invalidFaults(err error) []ImportFault {
	var invalid *Error
	if !errors.As(err, &invalid) {
		return nil
	}
	faults := make([]ImportFault, len(invalid.Fields))
	for i, f := range invalid.Fields {
		reason := reasons[f]
		if in := map[Field]Input{FieldReference: r.Customer.Reference, FieldMobileNumber: r.Customer.MobileNumber}; !in[f].Malformed && isBlank(in[f].Value) && (f == FieldReference || f == FieldMobileNumber) {
			reason = reasonMissing
		}
		faults[i] = ImportFault{Line: r.Line, Field: f, Reason: reason}
	}
	return faults
}

// seal seals the customers that the rows may make, on all processors.
func (p *importPlan) seal(ctx context.Context) error {
	return p.each(func(_ int, r *plannedRow) (err error) {
		if r.faults == nil && r.refused == nil {
			r.record, err = p.service.seal(ctx, p.caller.Merchant, r.customer)
			r.record.Brought = r.brought
		}
		return err
	})
}

// knownCustomer is a customer that a row may meet: of the store, or of a row before.
type knownCustomer struct {
	record   CustomerRecord // as it is stored; without an ID for one of a row before
	customer Customer       // once it is opened
	opened   bool
	// hidden is set in a dry run for one of another chunk: nothing else is known.
	hidden bool
}

// decide decides what becomes of the rows, in their order, with the customers that
// the store has now. It may be called again. Code: [CodeCustomerNotFound] if one of
// them is erased meanwhile.
func (p *importPlan) decide(ctx context.Context) error {
	p.counts, p.faults, p.created, p.updated = ImportState{Rows: int64(len(p.rows))}, nil, p.created[:0], nil
	if p.met == nil {
		if err := p.lookUp(ctx); err != nil {
			return err
		}
	}
	met := p.met
	// Whoever decides again wants to know what there is then.
	p.met = nil
	for i := range p.rows {
		r := &p.rows[i]
		faults := r.faults
		if faults == nil {
			var err error
			if known := p.meets(r, met); known == nil {
				faults = p.create(r, met)
			} else if faults, err = p.duplicate(ctx, r, known); err != nil {
				return err
			}
		}
		if faults != nil {
			p.counts.Rejected++
			p.faults = append(p.faults, faults...)
		}
	}
	slices.SortFunc(p.created, func(a, b ImportWrite) int {
		return bytes.Compare(a.Customer.Reference[:], b.Customer.Reference[:])
	})
	// A customer's revisions stay in their order.
	slices.SortStableFunc(p.updated, func(a, b ImportWrite) int { return strings.Compare(string(a.Customer.ID), string(b.Customer.ID)) })
	return nil
}

// metCustomers is the customers that rows may meet: by reference, those who have
// one of the ids, and the last revisions of the ids.
type metCustomers struct {
	byReference map[Index]*knownCustomer
	byID        map[CustomerID]bool
	revisions   map[CustomerID]int64
}

// lookUp looks up the customers in the store that the rows may meet. It may be called
// before it is the rows' turn: a step that takes what is no longer so for true is not
// done.
func (p *importPlan) lookUp(ctx context.Context) error {
	references := make([]Index, 0, len(p.rows))
	var ids []CustomerID
	for i := range p.rows {
		if r := &p.rows[i]; r.faults == nil {
			references = append(references, r.reference)
			if !isBlank(r.ID.Value) {
				ids = append(ids, r.customer.ID)
			}
		}
	}
	// Neighbours in the index are found together.
	slices.SortFunc(references, func(a, b Index) int { return bytes.Compare(a[:], b[:]) })
	list, revisions, err := p.service.store.KnownCustomers(ctx, p.caller.Merchant, slices.Compact(references), ids)
	if err != nil {
		return err
	}
	p.met = &metCustomers{make(map[Index]*knownCustomer, len(p.rows)), make(map[CustomerID]bool, len(p.rows)), revisions}
	for _, c := range list {
		p.met.byReference[c.Reference] = &knownCustomer{record: c}
		p.met.byID[c.ID] = true
	}
	return nil
}

// meets returns the customer with the row's reference, nil if there is none.
func (p *importPlan) meets(r *plannedRow, met *metCustomers) *knownCustomer {
	known := met.byReference[r.reference]
	if known == nil && p.seen.has(string(r.reference[:])) {
		return &knownCustomer{hidden: true}
	}
	return known
}

// create decides that a row makes a customer, or returns why it does not.
func (p *importPlan) create(r *plannedRow, met *metCustomers) []ImportFault {
	if r.refused != nil {
		return r.invalidFaults(r.refused)
	}
	id := r.customer.ID
	if met.byID[id] || p.seen.has(string(id)) {
		return []ImportFault{{r.Line, FieldID, reasonIDTaken}}
	}
	p.counts.Created++
	// A customer with this id may have been erased; its revisions are never used
	// again.
	r.customer.Revision = met.revisions[id] + 1
	r.record.ID, r.record.Reference, r.record.Revision = id, r.reference, r.customer.Revision
	met.byReference[r.reference] = &knownCustomer{customer: r.customer, opened: true}
	met.byID[id] = true
	p.created = append(p.created, ImportWrite{Customer: r.record, Event: p.event(EventCustomerCreated, r, r.customer, nil)})
	return nil
}

// duplicate decides what becomes of a row whose reference is that of a known
// customer, or returns why the row is rejected.
func (p *importPlan) duplicate(ctx context.Context, r *plannedRow, known *knownCustomer) ([]ImportFault, error) {
	switch {
	case p.rule == DuplicateFail:
		return []ImportFault{{r.Line, FieldReference, reasonDuplicate}}, nil
	case p.rule == DuplicateSkip:
		p.counts.Skipped++
		return nil, nil
	case known.hidden:
		if _, _, err := (Profile{}).Apply(r.Customer); err != nil {
			return r.invalidFaults(err), nil
		}
		p.counts.Updated++
		return nil, nil
	}
	if !known.opened {
		customer, err := p.service.open(ctx, p.caller.Merchant, known.record)
		if err != nil {
			return nil, err
		}
		known.customer, known.opened = customer, true
	}
	if !isBlank(r.ID.Value) && r.customer.ID != known.customer.ID {
		return []ImportFault{{r.Line, FieldID, reasonIDOther}}, nil
	}
	profile, changed, err := known.customer.Apply(r.Customer)
	if err != nil {
		return r.invalidFaults(err), nil
	}
	if len(changed) == 0 {
		p.counts.Skipped++
		return nil, nil
	}
	p.counts.Updated++
	customer := known.customer
	customer.Profile = profile
	customer.Revision++
	if p.now.After(customer.UpdatedAt) {
		customer.UpdatedAt = p.now
	}
	known.customer = customer
	if p.seen != nil {
		return nil, nil
	}
	record, err := p.service.seal(ctx, p.caller.Merchant, customer)
	p.updated = append(p.updated, ImportWrite{Customer: record, Event: p.event(EventCustomerUpdated, r, customer, changed)})
	return nil, err
}

// event returns the event of a row.
func (p *importPlan) event(t EventType, r *plannedRow, c Customer, changed []Field) Event {
	return Event{
		ID: r.event, Type: t, Subject: string(c.ID), Revision: c.Revision, Changed: changed,
		Actor: p.caller.Actor, RequestID: p.caller.RequestID, At: p.now,
	}
}
