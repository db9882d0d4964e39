package grahak

import (
	"context"
	"time"
)

// Index is a blind index: a keyed pseudo-random function of a value. Equal
// values of one merchant have equal indexes; without the merchant's key an
// index says nothing of its value.
type Index [16]byte

// ShortIndex is the start of a blind index, short enough that two values may
// share one by chance: whoever finds a customer by it opens the customer and
// compares. The zero ShortIndex stands for no value.
type ShortIndex [8]byte

// Short returns the start of x.
func (x Index) Short() (s ShortIndex) {
	copy(s[:], x[:])
	return s
}

// IndexPurpose keeps the indexes of different fields apart, so that equal
// values in two fields do not show as equal.
type IndexPurpose string

// The purposes of indexes. They are part of what is stored and never change.
const (
	IndexReference IndexPurpose = "reference"
	IndexEmail     IndexPurpose = "email" // of the folded address
	IndexMobile    IndexPurpose = "mobile"
	IndexCursor    IndexPurpose = "cursor"
	IndexChain     IndexPurpose = "chain"
	// Of an idempotency key, and of all that the request with it said.
	IndexIdempotencyKey     IndexPurpose = "idempotency key"
	IndexIdempotencyRequest IndexPurpose = "idempotency request"
	// IndexCheckpoint is of the end of what was pruned of a chain.
	IndexCheckpoint IndexPurpose = "checkpoint"
	IndexWebhook    IndexPurpose = "webhook" // secrets, which are shown to their receivers
	// IndexImport is of an import's name.
	IndexImport IndexPurpose = "import"
	IndexTOTP   IndexPurpose = "totp" // secrets, which operators' authenticators hold
)

// Keyset is a merchant's sealing keys, wrapped under a master key. Its sealing
// key has versions: the newest one seals, and all of them open.
type Keyset struct {
	Merchant MerchantID
	// Revision counts the changes of the stored keyset. The store sets it, and
	// refuses to change a keyset of another revision than the stored one.
	Revision int64
	// MasterKeyID names the master key that opens the wrapped keys; it is a
	// fingerprint, not a secret.
	MasterKeyID string
	// Version counts the sealing keys that the merchant has had, from 1.
	Version  int64
	Sealing  []byte // wrapped AEAD keyset
	Indexing []byte // wrapped PRF keyset
}

// SealState is a merchant's keyset and how far the re-sealing under its newest
// version has come.
type SealState struct {
	Keyset
	// RotatedAt is when the version was made.
	RotatedAt time.Time
	// Oldest is the oldest version that is still kept. It is Version when
	// everything is sealed under that.
	Oldest int64
	// Walking is set while customers are re-sealed, in ascending order of id;
	// After is the last one that was looked at.
	Walking bool
	After   CustomerID
	// Seen counts the customers that were looked at, and Unopened those among
	// them that do not open: their version is kept, and they are left as they
	// are.
	Seen     int64
	Unopened int64
}

// Complete reports whether everything is sealed under the newest version and no
// other is kept.
func (s SealState) Complete() bool { return s.Oldest == s.Version }

// Sealed is ciphertext of a [Profile] and the version of the key it is sealed
// under.
type Sealed struct {
	Bytes   []byte
	Version int64
}

// Sealer turns personal data into ciphertext and blind indexes, and back. All
// methods are safe for concurrent use and return a [CodeUnavailable] error when
// the keys cannot be had.
type Sealer interface {
	// Seal returns p as ciphertext that opens only as the given customer of
	// the given merchant.
	Seal(ctx context.Context, m MerchantID, id CustomerID, p Profile) (Sealed, error)
	// Open is the inverse of Seal. Ciphertext that was altered, or that was
	// sealed for another customer, merchant or key, is an error that is not an
	// *Error.
	Open(ctx context.Context, m MerchantID, id CustomerID, sealed []byte) (Profile, error)
	// Index returns the blind index of value for purpose.
	Index(ctx context.Context, m MerchantID, purpose IndexPurpose, value string) (Index, error)

	// NewKeyset makes the keys of a new merchant, at version 1, under the master
	// key that the store names.
	NewKeyset(ctx context.Context, m MerchantID) (Keyset, error)
	// Rotate returns k with a new sealing key, as its next version; the older
	// ones still open.
	Rotate(ctx context.Context, k Keyset) (Keyset, error)
	// Retire returns k without any sealing key but the newest.
	Retire(ctx context.Context, k Keyset) (Keyset, error)
	// NewMasterKeyID returns the id of the newest master key that is
	// configured: the one to rewrap under.
	NewMasterKeyID(ctx context.Context) (string, error)
	// Rewrap returns k wrapped under the master key with the given id.
	Rewrap(ctx context.Context, k Keyset, masterKeyID string) (Keyset, error)
	// Forget drops what is remembered of the keysets of all merchants, after
	// some may have changed.
	Forget()
}
