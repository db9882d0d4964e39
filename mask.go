package grahak

import (
	"strings"
	"time"
	"unicode/utf8"
)

// MaskedCustomer is a customer as those see who may not see the person: enough to tell
// customers apart, and to see whether one is whom a caller on the telephone says. What
// is masked cannot be had back from it. An empty string is an unset field.
type MaskedCustomer struct {
	ID                CustomerID
	Reference         string
	MobileCountryCode string // in clear
	MobileNumber      string
	Email             string
	FirstName         string
	LastName          string
	// MetadataKeys are in clear, in ascending order; their values are not shown.
	MetadataKeys []string
	Revision     int64
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Version returns the version of the customer.
func (c MaskedCustomer) Version() Version { return Version{Customer: c.ID, Revision: c.Revision} }

// Masked returns c without what tells who the person is.
func (c Customer) Masked() MaskedCustomer {
	m := MaskedCustomer{
		ID:                c.ID,
		Reference:         maskReference(c.Reference),
		MobileCountryCode: c.MobileCountryCode,
		MobileNumber:      maskDigits(c.MobileNumber),
		Email:             maskEmail(c.Email),
		FirstName:         maskText(c.FirstName, 1, 0),
		LastName:          maskText(c.LastName, 1, 0),
		Revision:          c.Revision,
		CreatedAt:         c.CreatedAt,
		UpdatedAt:         c.UpdatedAt,
	}
	for key := range c.Metadata.All() {
		m.MetadataKeys = append(m.MetadataKeys, key)
	}
	return m
}

// masked stands for what is not shown. There are as many dots however long that is.
const masked = "•••"

// maskText shows the first and the last few characters of s, unless they would be half
// of it or more.
func maskText(s string, first, last int) string {
	n := utf8.RuneCountInString(s)
	switch {
	case s == "":
		return ""
	case n <= 2*(first+last):
		return masked
	}
	runes := []rune(s)
	return string(runes[:first]) + masked + string(runes[n-last:])
}

// maskEmail shows the first letters of an address's two parts and the end of its domain.
func maskEmail(s string) string {
	local, domain, ok := strings.Cut(s, "@")
	if !ok {
		return maskText(s, 1, 0)
	}
	top := ""
	if dot := strings.LastIndexByte(domain, '.'); dot >= 0 {
		domain, top = domain[:dot], domain[dot:]
	}
	return maskText(local, 1, 0) + "@" + maskText(domain, 1, 0) + top
}

// maskDigits shows the last three digits of a number that is long enough to be one of
// many with them.
func maskDigits(s string) string {
	if s == "" {
		return ""
	}
	if len(s) < 8 {
		return masked
	}
	return masked + s[len(s)-3:]
}

// maskReference masks a reference as what it looks like.
func maskReference(s string) string {
	digits := stripPlus(s)
	switch {
	case validEmail(s):
		return maskEmail(s)
	case validDigits(digits, MaxReference):
		return maskDigits(digits)
	}
	return maskText(s, 2, 2)
}
