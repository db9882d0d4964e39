package grahak

import (
	"encoding/binary"
	"io"
	"time"
)

// MerchantID names a merchant: 1–64 characters of [A-Za-z0-9_-], chosen by the
// operator, case-sensitive.
type MerchantID string

// CustomerID is Grahak's own id of a customer: "cst_" and 16 characters of
// [a-z0-9] (wire.md §4).
type CustomerID string

// KeyID names an API key in listings, events and logs; it is not a secret.
type KeyID string

// EventID names an event.
type EventID string

// idEpoch is the start of the time part of ids, 2020-01-01T00:00:00Z, in Unix
// milliseconds. Eight base-36 digits reach to the year 2109.
const idEpoch = 1577836800000

const (
	idDigits   = "0123456789abcdefghijklmnopqrstuvwxyz"
	idHalf     = 8             // characters of time, and of randomness
	idHalfSize = 2821109907456 // 36^8
)

// newID returns prefix followed by 16 characters of [a-z0-9]: eight of time
// (milliseconds, so that ids sort by creation and indexes on them append) and
// eight of randomness (41.4 bits from random, which must be a cryptographic
// source). It fails only if random fails.
func newID(prefix string, at time.Time, random io.Reader) (string, error) {
	var entropy [8]byte
	if _, err := io.ReadFull(random, entropy[:]); err != nil {
		return "", err
	}
	ms := at.UnixMilli() - idEpoch
	if ms < 0 {
		ms = 0
	}
	buf := make([]byte, 0, len(prefix)+2*idHalf)
	buf = append(buf, prefix...)
	buf = appendBase36(buf, uint64(ms))
	buf = appendBase36(buf, binary.LittleEndian.Uint64(entropy[:]))
	return string(buf), nil
}

// appendBase36 appends the low eight base-36 digits of n, most significant
// first.
func appendBase36(buf []byte, n uint64) []byte {
	n %= idHalfSize
	var digits [idHalf]byte
	for i := idHalf - 1; i >= 0; i-- {
		digits[i] = idDigits[n%36]
		n /= 36
	}
	return append(buf, digits[:]...)
}
