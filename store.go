package grahak

import (
	"context"
	"net/netip"
	"time"
)

// CustomerRecord is a customer as the store keeps it: nothing in it tells who
// the person is.
type CustomerRecord struct {
	ID        CustomerID
	Reference Index  // blind index of the reference, unique per merchant
	Sealed    []byte // the Profile
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// AccessRecord is everything that decides whether a key may be used: the key,
// its merchant, and the merchant's IP list.
type AccessRecord struct {
	Key      APIKey
	Merchant Merchant
	IPList   []netip.Prefix
}

// Store keeps everything. Its operations are whole: each is one transaction,
// and a nil error from one that writes means that the change and its event are
// on disk. One that finds nothing to change writes no event either.
//
// All methods are safe for concurrent use. Times are stored in microseconds
// UTC. Besides the codes that a method names, every method may return a
// [CodeUnavailable] error when the storage cannot be reached or is overloaded;
// whether a write that returned one took effect is not known. A context that
// ends makes a method return early, but never undoes a write that has begun.
type Store interface {
	CustomerStore
	MerchantStore
	KeyStore
	IPListStore

	// Token returns the unexpired token of an active merchant with the given
	// hash. A token names its merchant, so there is none to pass.
	// Code: [CodeTokenNotFound].
	Token(ctx context.Context, hash TokenHash, now time.Time) (TokenRecord, error)
	// PruneTokens deletes at most limit tokens that expired before now and
	// returns how many it deleted.
	PruneTokens(ctx context.Context, now time.Time, limit int) (int, error)

	// Events returns at most limit events of the merchant with a position above
	// after, in order of position. Whoever follows positions misses nothing.
	Events(ctx context.Context, m MerchantID, after int64, limit int) ([]Event, error)

	// MasterKeyID returns the id of the master key that merchants' keys are to be
	// wrapped under, after naming id as that one if there is none yet or no
	// merchant has keys. An empty id only asks.
	MasterKeyID(ctx context.Context, id string) (string, error)

	// AccessVersion returns a number that changes whenever a key, an IP list
	// or a merchant changes, by any process.
	AccessVersion(ctx context.Context) (int64, error)
	// Ping returns nil if the store can answer a read now.
	Ping(ctx context.Context) error
}

// CustomerStore keeps customers and their tokens.
type CustomerStore interface {
	// CreateCustomer writes a new customer with its event and, if token is not
	// nil, a token. Code: [CodeDuplicateReference], and nothing is written.
	CreateCustomer(ctx context.Context, m MerchantID, c CustomerRecord, e Event, token *TokenRecord) error
	// Customer returns the customer whose id is id or else the one whose
	// reference has the given index. Code: [CodeCustomerNotFound].
	Customer(ctx context.Context, m MerchantID, id CustomerID, reference Index) (CustomerRecord, error)
	// UpdateCustomer overwrites what is sealed in the customer c.ID, its
	// revision and its time of update, with the event and, if token is not nil,
	// a token. It reports false, and writes nothing, if the stored revision is
	// not the one before c.Revision. Code: [CodeCustomerNotFound].
	UpdateCustomer(ctx context.Context, m MerchantID, c CustomerRecord, e Event, token *TokenRecord) (bool, error)
	// Customers returns at most limit customers in descending order of id,
	// skipping offset, starting below the id before unless that is empty; and
	// the number of all customers of the merchant, as of the same moment.
	Customers(ctx context.Context, m MerchantID, before CustomerID, limit, offset int) ([]CustomerRecord, int64, error)
	// PutToken writes a token of an existing customer.
	// Code: [CodeCustomerNotFound].
	PutToken(ctx context.Context, m MerchantID, token TokenRecord) error
}

// MerchantStore keeps merchants and their wrapped keys.
type MerchantStore interface {
	// CreateMerchant writes a merchant with its keys. Code:
	// [CodeMerchantExists].
	CreateMerchant(ctx context.Context, m Merchant, keys Keyset, e Event) error
	// Merchant returns one merchant. Code: [CodeMerchantNotFound].
	Merchant(ctx context.Context, m MerchantID) (Merchant, error)
	// Merchants returns all merchants, by id.
	Merchants(ctx context.Context) ([]Merchant, error)
	// DisableMerchant sets the time from which the merchant is disabled, unless
	// it is disabled already. Code: [CodeMerchantNotFound].
	DisableMerchant(ctx context.Context, m MerchantID, at time.Time, e Event) error
	// Keyset returns the merchant's wrapped keys. Code: [CodeMerchantNotFound].
	Keyset(ctx context.Context, m MerchantID) (Keyset, error)
}

// KeyStore keeps API keys.
type KeyStore interface {
	// CreateKey writes a key. Codes: [CodeKeyExists] if a key with the same
	// hash exists at any merchant, [CodeMerchantNotFound].
	CreateKey(ctx context.Context, m MerchantID, k APIKey, e Event) error
	// Keys returns the merchant's keys, oldest first.
	Keys(ctx context.Context, m MerchantID) ([]APIKey, error)
	// Key returns one key. Code: [CodeKeyNotFound].
	Key(ctx context.Context, m MerchantID, id KeyID) (APIKey, error)
	// RevokeKey sets the time from which the key is revoked, unless it is
	// revoked already. Code: [CodeKeyNotFound].
	RevokeKey(ctx context.Context, m MerchantID, id KeyID, at time.Time, e Event) error
	// RotateKey writes successor and lets the key old expire at oldExpires, or
	// at its own expiry if that is sooner. Codes: [CodeKeyNotFound] if old is
	// unknown or revoked, [CodeKeyExists].
	RotateKey(ctx context.Context, m MerchantID, old KeyID, oldExpires time.Time, successor APIKey, e Event) error
	// TouchKeys notes when keys were last used. It moves no AccessVersion and
	// writes no event. Unknown keys are passed over.
	TouchKeys(ctx context.Context, used map[KeyRef]time.Time) error
	// Access returns what decides about the key with the given hash, which is
	// unique over all merchants. Code: [CodeKeyNotFound].
	Access(ctx context.Context, hash KeyHash) (AccessRecord, error)
}

// KeyRef names a key of a merchant.
type KeyRef struct {
	Merchant MerchantID
	Key      KeyID
}

// IPListStore keeps the merchants' IP lists.
type IPListStore interface {
	// AddIPEntry writes an entry. Codes: [CodeIPEntryExists],
	// [CodeIPListFull] beyond [MaxIPEntries], [CodeMerchantNotFound].
	AddIPEntry(ctx context.Context, m MerchantID, entry IPEntry, e Event) error
	// RemoveIPEntry deletes an entry. Codes: [CodeIPEntryNotFound],
	// [CodeIPListEmpty] if it is the last one and the mode is enforce,
	// [CodeMerchantNotFound].
	RemoveIPEntry(ctx context.Context, m MerchantID, p netip.Prefix, e Event) error
	// IPList returns the merchant's entries in the order they were added.
	IPList(ctx context.Context, m MerchantID) ([]IPEntry, error)
	// SetIPMode sets what the list does. Codes: [CodeIPListEmpty] if mode is
	// enforce and the list is empty, [CodeMerchantNotFound].
	SetIPMode(ctx context.Context, m MerchantID, mode IPMode, e Event) error
}
