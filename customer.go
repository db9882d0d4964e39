package grahak

import (
	"errors"
	"strings"
	"time"
)

// Profile is a customer's personal data. An empty string is an unset field;
// Reference and MobileNumber are always set. A Profile leaves the process only
// sealed, or to the merchant it belongs to.
type Profile struct {
	Reference         string // the merchant's own id of the customer, unique per merchant
	MobileCountryCode string // digits without a leading +
	MobileNumber      string // digits
	Email             string
	FirstName         string
	LastName          string
	Metadata          Metadata
}

// Customer is one customer of one merchant.
type Customer struct {
	ID CustomerID
	Profile
	// Revision counts the changes of the stored values, from 1.
	Revision int64
	// CreatedAt and UpdatedAt are UTC, in microseconds. The time part of ID is
	// CreatedAt, to within 2 ms, unless the id was brought.
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Input is one field of a request: absent, given, or given in a form that can
// hold no valid value (a JSON object where a string belongs, say).
type Input struct {
	Value     string
	Given     bool
	Malformed bool
}

// CustomerInput is what a create or update request says of a customer.
type CustomerInput struct {
	Reference         Input
	MobileNumber      Input
	MobileCountryCode Input
	Email             Input
	FirstName         Input
	LastName          Input
	Metadata          MetadataInput
}

// validator collects the refused fields of one request.
type validator struct{ bad []Field }

// check takes in, whose blank value means "unset", and returns its value. When
// the value is set and ok refuses it, f is noted as bad.
func (v *validator) check(f Field, in Input, ok func(string) bool) string {
	switch {
	case in.Malformed:
		v.bad = append(v.bad, f)
	case isBlank(in.Value):
		return ""
	case !ok(in.Value):
		v.bad = append(v.bad, f)
	}
	return in.Value
}

// require is check for a field that must be set.
func (v *validator) require(f Field, in Input, ok func(string) bool) string {
	if !in.Malformed && isBlank(in.Value) {
		v.bad = append(v.bad, f)
		return ""
	}
	return v.check(f, in, ok)
}

// add notes the fields that another validator's error names; nil names none.
func (v *validator) add(err error) {
	var other *Error
	if errors.As(err, &other) {
		v.bad = append(v.bad, other.Fields...)
	}
}

// idempotencyKey notes a key that is not allowed.
func (v *validator) idempotencyKey(o WriteOptions) {
	notPrintable := func(r rune) bool { return r < ' ' || r > '~' }
	if len(o.IdempotencyKey) > MaxIdempotencyKey || strings.ContainsFunc(o.IdempotencyKey, notPrintable) {
		v.bad = append(v.bad, FieldIdempotencyKey)
	}
}

// err returns nil, or a [CodeInvalidField] error that names the bad fields.
func (v *validator) err() error {
	if len(v.bad) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalidField, Message: "The value of " + v.bad[0].String() + " is not valid.", Fields: v.bad}
}

func validReference(s string) bool { return validText(s, MaxReference) }
func validMobile(s string) bool    { return validDigits(s, MaxMobileNumber) }
func validName(s string) bool      { return validText(s, MaxName) }

func validCountryCode(s string) bool { return validDigits(stripPlus(s), MaxCountryCode) }

// stripPlus removes one leading "+", or the space that an unescaped "+"
// becomes in a form.
func stripPlus(s string) string {
	if s != "" && (s[0] == '+' || s[0] == ' ') {
		return s[1:]
	}
	return s
}

// NewProfile validates in as a new customer (wire.md §3), with countryCode for
// an unset mobile country code. It returns a [CodeInvalidField] error that
// names every refused field.
func NewProfile(in CustomerInput, countryCode string) (Profile, error) {
	var v validator
	p := Profile{
		Reference:         v.require(FieldReference, in.Reference, validReference),
		MobileNumber:      v.require(FieldMobileNumber, in.MobileNumber, validMobile),
		MobileCountryCode: stripPlus(v.check(FieldMobileCountryCode, in.MobileCountryCode, validCountryCode)),
		Email:             v.check(FieldEmail, in.Email, validEmail),
		FirstName:         v.check(FieldFirstName, in.FirstName, validName),
		LastName:          v.check(FieldLastName, in.LastName, validName),
		Metadata:          v.metadata(Metadata{}, in.Metadata),
	}
	if p.MobileCountryCode == "" {
		p.MobileCountryCode = countryCode
	}
	return p, v.err()
}

// Apply returns p with the given fields of in put over it, and the fields
// whose value changed (wire.md §3). Only given fields are validated, and the
// reference is never changed. A blank optional field is cleared, a blank
// country code leaves the old one, a blank mobile number is refused. The keys
// of metadata that are given are put over those there are. It returns a [CodeInvalidField] error that names every refused field.
func (p Profile) Apply(in CustomerInput) (Profile, []Field, error) {
	var v validator
	next := p
	if in.MobileNumber.Given {
		next.MobileNumber = v.require(FieldMobileNumber, in.MobileNumber, validMobile)
	}
	if in.MobileCountryCode.Given {
		if code := stripPlus(v.check(FieldMobileCountryCode, in.MobileCountryCode, validCountryCode)); code != "" {
			next.MobileCountryCode = code
		}
	}
	if in.Email.Given {
		next.Email = v.check(FieldEmail, in.Email, validEmail)
	}
	if in.FirstName.Given {
		next.FirstName = v.check(FieldFirstName, in.FirstName, validName)
	}
	if in.LastName.Given {
		next.LastName = v.check(FieldLastName, in.LastName, validName)
	}
	next.Metadata = v.metadata(p.Metadata, in.Metadata)
	if err := v.err(); err != nil {
		return p, nil, err
	}
	return next, p.diff(next), nil
}

// diff returns the fields in which p and q differ, in the order of definition.
func (p Profile) diff(q Profile) []Field {
	var changed []Field
	for _, c := range []struct {
		field Field
		same  bool
	}{
		{FieldReference, p.Reference == q.Reference},
		{FieldMobileNumber, p.MobileNumber == q.MobileNumber},
		{FieldMobileCountryCode, p.MobileCountryCode == q.MobileCountryCode},
		{FieldEmail, p.Email == q.Email},
		{FieldFirstName, p.FirstName == q.FirstName},
		{FieldLastName, p.LastName == q.LastName},
		{FieldMetadata, p.Metadata == q.Metadata},
	} {
		if !c.same {
			changed = append(changed, c.field)
		}
	}
	return changed
}
