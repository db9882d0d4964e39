package grahak

import "context"

// Index is a blind index: a keyed pseudo-random function of a value. Equal
// values of one merchant have equal indexes; without the merchant's key an
// index says nothing of its value.
type Index [16]byte

// IndexPurpose keeps the indexes of different fields apart, so that equal
// values in two fields do not show as equal.
type IndexPurpose string

// The purposes of indexes.
const (
	IndexReference IndexPurpose = "reference"
	IndexCursor    IndexPurpose = "cursor"
)

// Keyset is a merchant's sealing keys, wrapped under the master key.
type Keyset struct {
	// MasterKeyID names the master key that opens the wrapped keys; it is a
	// fingerprint, not a secret.
	MasterKeyID string
	Sealing     []byte // wrapped AEAD keyset
	Indexing    []byte // wrapped PRF keyset
}

// Sealer turns personal data into ciphertext and blind indexes, and back. All
// methods are safe for concurrent use and return a [CodeUnavailable] error when
// the keys cannot be had.
type Sealer interface {
	// Seal returns p as ciphertext that opens only as the given customer of
	// the given merchant.
	Seal(ctx context.Context, m MerchantID, id CustomerID, p Profile) ([]byte, error)
	// Open is the inverse of Seal. Ciphertext that was altered, or that was
	// sealed for another customer, merchant or key, is an error that is not an
	// *Error.
	Open(ctx context.Context, m MerchantID, id CustomerID, sealed []byte) (Profile, error)
	// Index returns the blind index of value for purpose.
	Index(ctx context.Context, m MerchantID, purpose IndexPurpose, value string) (Index, error)
	// NewKeyset makes the keys of a new merchant.
	NewKeyset(m MerchantID) (Keyset, error)
}
