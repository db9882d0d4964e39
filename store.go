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
	Reference Index      // blind index of the reference, unique per merchant
	Email     ShortIndex // of the e-mail address; zero for none
	Mobile    ShortIndex // of the mobile number
	Sealed    Sealed     // the Profile
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
	// Brought is set if ID does not tell CreatedAt; see [CustomerRange]. Of what
	// reads customers only Customers sets it, and only an import writes it.
	Brought bool
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
	SealStore
	EventStore
	ImportStore
	KeyStore
	IPListStore
	WebhookStore
	OperatorStore

	// Token returns the unexpired token of an active merchant with the given
	// hash. A token names its merchant, so there is none to pass.
	// Code: [CodeTokenNotFound].
	Token(ctx context.Context, hash TokenHash, now time.Time) (TokenRecord, error)
	// PruneTokens deletes at most limit tokens that expired before now and
	// returns how many it deleted.
	PruneTokens(ctx context.Context, now time.Time, limit int) (int, error)
	// PruneIdempotency deletes at most limit records of idempotency keys that
	// expired before now and returns how many it deleted.
	PruneIdempotency(ctx context.Context, now time.Time, limit int) (int, error)

	// AccessVersion returns a number that changes whenever an API key, an IP
	// list, a merchant or a keyset changes, by any process.
	AccessVersion(ctx context.Context) (int64, error)
	// Ping returns nil if the store can answer a read now.
	Ping(ctx context.Context) error

	// Beat notes that the node self, a running process, is alive, forgets the
	// nodes gone, and returns how often each node has beaten. An empty self only
	// forgets. A store that serves one process at a time knows no other.
	Beat(ctx context.Context, self NodeID, gone []NodeID) (map[NodeID]int64, error)
}

// CustomerStore keeps customers and their tokens.
type CustomerStore interface {
	// CreateCustomer writes a new customer with its event and what else there is.
	// Codes: [CodeMerchantNotFound]; [CodeDuplicateReference];
	// [CodeKeyRotated] if c is not sealed under the merchant's newest key version;
	// [CodeIdempotencyKeyUsed] or [CodeDuplicateReference] if there is a record of
	// the idempotency key; and nothing is written.
	CreateCustomer(ctx context.Context, m MerchantID, c CustomerRecord, e Event, b *Besides) error
	// Customer returns the customer whose id is id or else the one whose
	// reference has the given index. An id that is empty, and an index of zeros, is
	// nobody's. Code: [CodeCustomerNotFound].
	Customer(ctx context.Context, m MerchantID, id CustomerID, reference Index) (CustomerRecord, error)
	// UpdateCustomer overwrites what is sealed in the customer c.ID, its indexes
	// of e-mail address and mobile number, its revision and its time of update,
	// with the event and what else there is. It reports false, and writes nothing,
	// if the stored revision is not the one before c.Revision, or if there is a
	// record of the idempotency key.
	// Codes: [CodeCustomerNotFound]; [CodeKeyRotated] as in CreateCustomer;
	// [CodeIdempotencyKeyUsed] in place of false.
	UpdateCustomer(ctx context.Context, m MerchantID, c CustomerRecord, e Event, b *Besides) (bool, error)
	// EraseCustomer deletes the customer, its indexes and its tokens, and writes
	// the event and the idempotency key, if there is one. It reports false, and
	// writes nothing, if the stored revision is not the given one, or if there is
	// a record of the key. Codes: [CodeCustomerNotFound]; [CodeIdempotencyKeyUsed]
	// in place of false.
	EraseCustomer(ctx context.Context, m MerchantID, id CustomerID, revision int64, e Event, b *Besides) (bool, error)
	// Idempotency returns the record of an idempotency key, unless there is none or
	// it has expired at now.
	Idempotency(ctx context.Context, m MerchantID, key Index, now time.Time) (r IdempotencyRecord, found bool, err error)
	// PutIdempotency writes the record of an idempotency key that changed nothing
	// else. Code: [CodeIdempotencyKeyUsed] if there is one that has not expired at
	// r.At.
	PutIdempotency(ctx context.Context, m MerchantID, r IdempotencyRecord) error
	// Customers returns at most limit customers of a range, skipping offset: first
	// those whose ids tell when they were made, in descending order of id, then
	// those with ids that were brought, in descending order of creation and id; and
	// the number of all customers of the merchant, as of the same moment.
	Customers(ctx context.Context, m MerchantID, r CustomerRange, limit, offset int) ([]CustomerRecord, int64, error)
	// FindCustomers returns at most limit customers of a range of ids that have
	// the index that by holds, in descending order of id; and the number of all
	// customers of the merchant, as of the same moment. The times of the range
	// are not looked at, and From and Before only while the merchant has no customer
	// with a brought id.
	FindCustomers(ctx context.Context, m MerchantID, by CustomerIndex, r CustomerRange, limit int) ([]CustomerRecord, int64, error)
	// CountCustomers returns how many customers the merchant has, counted one by
	// one, and how many its events tell of, as of the same moment. It takes
	// seconds for millions of customers.
	CountCustomers(ctx context.Context, m MerchantID) (counted, recorded int64, err error)
	// CustomersAfter returns at most limit customers with an id above after, in
	// ascending order of id.
	CustomersAfter(ctx context.Context, m MerchantID, after CustomerID, limit int) ([]CustomerRecord, error)
	// Tokens returns the tokens of a customer, expired ones too as long as they
	// are not pruned.
	Tokens(ctx context.Context, m MerchantID, id CustomerID) ([]TokenRecord, error)
	// PutToken writes a token of an existing customer.
	// Code: [CodeCustomerNotFound].
	PutToken(ctx context.Context, m MerchantID, token TokenRecord) error
}

// Besides is what a write of a customer may write besides the customer and the
// event, in the same transaction. A nil *Besides is nothing.
type Besides struct {
	Token *TokenRecord       // nil for none
	Key   *IdempotencyRecord // nil for none
}

// CustomerRange is a range of customers. Its zero value is all of them.
type CustomerRange struct {
	From   CustomerID // lowest id of those that were not brought
	Before CustomerID // the id above the highest of those; empty for no end
	// Until is Before where the merchant has customers with brought ids: it spares a
	// list to pass over those of them that sort above all that were made so far. Empty
	// for no end. FindCustomers does not look at it.
	Until CustomerID
	// Behind is where the page before has ended: those before it and itself do not
	// belong to the range. Of the customers that an index finds, which are in
	// descending order of id whatever that tells, those are the ones with this id
	// and higher ones.
	Behind CustomerPlace
	// CreatedFrom and CreatedBefore bound the time of creation, in whole
	// microseconds: the first belongs to the range, the second does not. Zero
	// times are no bounds.
	CreatedFrom, CreatedBefore time.Time
}

// CustomerPlace is a customer's place in a list. The zero CustomerPlace is before
// all others.
type CustomerPlace struct {
	ID CustomerID
	// Brought is when the customer was made, if its id was brought, else zero.
	Brought time.Time
}

// CustomerIndex is what customers are found by: the first of its members that
// is not zero.
type CustomerIndex struct {
	Reference Index
	Email     ShortIndex
	Mobile    ShortIndex
}

// MerchantStore keeps merchants.
type MerchantStore interface {
	// CreateMerchant writes a merchant with its keys. Codes:
	// [CodeMerchantExists]; [CodeKeyRotated] if the keys are not wrapped under
	// the master key that the store names.
	CreateMerchant(ctx context.Context, m Merchant, keys Keyset, e Event) error
	// Merchant returns one merchant. Code: [CodeMerchantNotFound].
	Merchant(ctx context.Context, m MerchantID) (Merchant, error)
	// Merchants returns all merchants, by id.
	Merchants(ctx context.Context) ([]Merchant, error)
	// DisableMerchant sets the time from which the merchant is disabled, unless
	// it is disabled already. Code: [CodeMerchantNotFound].
	DisableMerchant(ctx context.Context, m MerchantID, at time.Time, e Event) error
}

// SealStore keeps the merchants' wrapped keys.
type SealStore interface {
	// MasterKeyID returns the id of the master key that merchants' keys are to be
	// wrapped under, after naming id as that one if there is none yet or no
	// merchant has keys. An empty id only asks.
	MasterKeyID(ctx context.Context, id string) (string, error)
	// Keyset returns the merchant's wrapped keys. Code: [CodeMerchantNotFound].
	Keyset(ctx context.Context, m MerchantID) (Keyset, error)
	// SealState returns the merchant's keyset and how far its re-sealing has
	// come. Code: [CodeMerchantNotFound].
	SealState(ctx context.Context, m MerchantID) (SealState, error)
	// SealStates returns the state of every merchant, by id.
	SealStates(ctx context.Context) ([]SealState, error)
	// Rotating returns the merchants whose state is not complete, by id.
	Rotating(ctx context.Context) ([]MerchantID, error)
	// RotateKeyset writes k, which is of the version after the stored one, and
	// starts the re-sealing. No write that begins after it can be sealed under an
	// older version. Codes: [CodeMerchantNotFound]; [CodeKeyRotated] if
	// the stored revision is not k's.
	RotateKeyset(ctx context.Context, k Keyset, at time.Time, e Event) error
	// Reseal writes a step of the re-sealing: the customers' ciphertexts and
	// indexes, but for customers that are under version state.Version already, or no
	// longer of the given revision, which counts as done. state is the state after
	// the step, and before is its After until then. Code: [CodeKeyRotated] if the
	// stored state is another, because somebody else has taken the step.
	Reseal(ctx context.Context, state SealState, before CustomerID, customers []CustomerRecord) error
	// RestartReseal starts the re-sealing again from the first customer.
	// Code: [CodeKeyRotated] if the stored version is not the given one, or if
	// there is no older one to be sealed anew.
	RestartReseal(ctx context.Context, m MerchantID, version int64) error
	// RetireKeyset writes k, which holds only the newest sealing key, once the
	// re-sealing has ended. Code: [CodeKeyRotated] if it has not, or if the
	// stored revision is not k's, or if a customer is still sealed under an older
	// version: then it has started the re-sealing again.
	RetireKeyset(ctx context.Context, k Keyset, e Event) error
	// RewrapKeysets writes the keysets of all merchants, which are now wrapped
	// under the master key with the given id, and names that one; events has an
	// event for each. Code: [CodeKeyRotated] if a merchant is missing or a stored
	// revision is another.
	RewrapKeysets(ctx context.Context, masterKeyID string, keysets []Keyset, events []Event) error
}

// EventStore keeps events and the chain over them.
type EventStore interface {
	// Events returns at most limit events of the merchant with a position above
	// after, in order of position. Whoever follows positions misses nothing. Where
	// several processes write, an event has a position only once it is in the
	// chain.
	Events(ctx context.Context, m MerchantID, after int64, limit int) ([]Event, error)
	// EventsIn returns at most limit events of a range.
	EventsIn(ctx context.Context, m MerchantID, r EventRange, limit int) ([]Event, error)
	// LatestEvents returns at most limit of the merchant's events, newest first, of the
	// given subject unless that is empty. Those that have no position yet come first,
	// with position 0, and in the reverse of the order in which they will be in the
	// chain as far as they are the same customer's.
	LatestEvents(ctx context.Context, m MerchantID, subject string, limit int) ([]Event, error)
	// RecordEvent writes an event of something that changes nothing that is stored.
	// Code: [CodeMerchantNotFound].
	RecordEvent(ctx context.Context, m MerchantID, e Event) error
	// EventsOf returns the events with the given subject, in order of position.
	// Those that have none yet come last, with position 0.
	EventsOf(ctx context.Context, m MerchantID, subject string) ([]Event, error)
	// Unordered returns the merchants with events that are not in their chain, or
	// with an index to tidy.
	Unordered(ctx context.Context) ([]MerchantID, error)
	// Pending returns at most limit events that are to follow the position after,
	// which is that of the chain's head, in the merchant's chain. They are in order,
	// each customer's in that of its revisions, and have the positions that they
	// will have there. They may be some more than limit.
	Pending(ctx context.Context, m MerchantID, after int64, limit int) ([]Event, error)
	// CountPending returns how many events are not in the merchant's chain.
	CountPending(ctx context.Context, m MerchantID) (int64, error)
	// ChainHead returns where the merchant's chain has come to.
	ChainHead(ctx context.Context, m MerchantID) (ChainHead, error)
	// Chain returns at most limit segments of the merchant's chain whose first
	// position is above after, in order.
	Chain(ctx context.Context, m MerchantID, after int64, limit int) ([]ChainSegment, error)
	// ChainCheckpoint returns what stands in the place of the part of the merchant's
	// chain whose events were pruned, zero if none were.
	ChainCheckpoint(ctx context.Context, m MerchantID) (Checkpoint, error)
	// PruneEvents deletes the events up to the position of c and their part of the
	// chain, leaves c in its place, and returns how many events there were. It does
	// nothing if no segment of the chain ends at that position with c's link and
	// number of customers: so the chain stays whole, and of several who prune the
	// same, one does.
	PruneEvents(ctx context.Context, m MerchantID, c Checkpoint) (int64, error)
	// Order appends a segment, which is that of the given pending events, to the
	// merchant's chain, and lets their customers be found by their indexes without
	// a look at the events. It does not append if the chain's head is not the one
	// before the segment. It reports whether there is something to tidy.
	Order(ctx context.Context, m MerchantID, s ChainSegment, events []Event) (untidy bool, err error)
	// Tidy does a bounded part of the work that keeps the merchant's indexes
	// fast, and reports whether there is more to do.
	Tidy(ctx context.Context, m MerchantID) (more bool, err error)
}

// EventRange is a range of a merchant's events. Its zero value is all of them, in
// order of position.
type EventRange struct {
	After  int64 // position that they stand above
	Before int64 // position that they stand below; 0 for no end
	// Subject is that of all of them; empty for any.
	Subject string
	// Newest has them in descending order of position.
	Newest bool
}

// ImportStore keeps how far imports have come, and does their steps.
type ImportStore interface {
	// Import returns how far the import has come whose name has the given index:
	// without an ID, and zero if it is not known.
	Import(ctx context.Context, m MerchantID, name Index) (ImportState, error)
	// KnownCustomers returns the customers that have one of the references or one of
	// the ids, in no order, some of them twice; and for each of the ids that a
	// customer has or had the last revision that its events tell of.
	KnownCustomers(ctx context.Context, m MerchantID, references []Index, ids []CustomerID) ([]CustomerRecord, map[CustomerID]int64, error)
	// ImportCustomers does a step of an import in one transaction. It reports false,
	// and writes nothing, if a customer to make has the id or the reference of one
	// there is, or a customer to change does not have the revision before the given
	// one, or there is none. Codes: [CodeMerchantNotFound]; [CodeKeyRotated] as in
	// CreateCustomer; [CodeImportConflict] if the stored state is not step.Before.
	ImportCustomers(ctx context.Context, m MerchantID, step ImportStep) (bool, error)
}

// ImportStep is customers that are made and changed together, and the note of it.
type ImportStep struct {
	Import Index
	// Before is what Import returns until the step is done, and State what it
	// returns then. Their times of update differ.
	Before, State ImportState
	// Created is to be in ascending order of reference, and Updated is done after it,
	// as UpdateCustomer would, in ascending order of id and revision. Other orders
	// cost time, or let transactions wait for each other in a circle.
	Created, Updated []ImportWrite
}

// ImportWrite is a customer that an import makes or changes, as it is then, and the
// event of that.
type ImportWrite struct {
	Customer CustomerRecord
	Event    Event
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
	// TouchKeys notes the last use of keys, unless a later one is noted. It moves no
	// AccessVersion and writes no event. Unknown keys are passed over.
	TouchKeys(ctx context.Context, used map[KeyRef]KeyUse) error
	// Access returns what decides about the key with the given hash, which is
	// unique over all merchants. Code: [CodeKeyNotFound].
	Access(ctx context.Context, hash KeyHash) (AccessRecord, error)
}

// KeyUse is when a key was used, and from where.
type KeyUse struct {
	At   time.Time
	Addr netip.Addr // the zero value if it could not be told
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
	// [CodeIPListEmpty] if it is the last one and the mode is enforce, unless evenLast
	// is set, [CodeMerchantNotFound].
	RemoveIPEntry(ctx context.Context, m MerchantID, p netip.Prefix, evenLast bool, e Event) error
	// IPList returns the merchant's entries in the order they were added.
	IPList(ctx context.Context, m MerchantID) ([]IPEntry, error)
	// SetIPMode sets what the list does. Codes: [CodeIPListEmpty] if mode is
	// enforce and the list is empty, unless evenEmpty is set, [CodeMerchantNotFound].
	SetIPMode(ctx context.Context, m MerchantID, mode IPMode, evenEmpty bool, e Event) error
}

// WebhookStore keeps the merchants' endpoints, what is not delivered to them, and
// the log of deliveries. Each of its changes of an endpoint has an event; progress
// has none.
type WebhookStore interface {
	// CreateWebhook writes an endpoint, whose cursor it puts at the end of the
	// merchant's chain. Codes: [CodeMerchantNotFound]; [CodeWebhooksFull] beyond
	// [MaxWebhooks] that are not disabled.
	CreateWebhook(ctx context.Context, m MerchantID, w Webhook, e Event) error
	// Webhooks returns the merchant's endpoints, oldest first.
	Webhooks(ctx context.Context, m MerchantID) ([]Webhook, error)
	// Webhook returns one endpoint. Code: [CodeWebhookNotFound].
	Webhook(ctx context.Context, m MerchantID, id WebhookID) (Webhook, error)
	// DisableWebhook disables an endpoint by command and takes it from its holder,
	// unless it is disabled already. Code: [CodeWebhookNotFound].
	DisableWebhook(ctx context.Context, m MerchantID, id WebhookID, at time.Time, e Event) error
	// EnableWebhook lets events be sent to an endpoint again, from its cursor on and
	// at once, if it is disabled. Codes: [CodeWebhookNotFound], [CodeWebhooksFull].
	EnableWebhook(ctx context.Context, m MerchantID, id WebhookID, e Event) error
	// RotateWebhookSecret makes the secret of the version after the given one sign,
	// and the given one as well until a time. It reports false, and writes nothing,
	// if the stored version is another. Code: [CodeWebhookNotFound].
	RotateWebhookSecret(ctx context.Context, m MerchantID, id WebhookID, version int64, until time.Time, e Event) (bool, error)

	// WebhookWork returns the endpoints of all merchants that are not disabled.
	WebhookWork(ctx context.Context) ([]WebhookWork, error)
	// ClaimWebhook makes a node the holder of an endpoint, at the term after the given
	// one. It reports false if the term is another or the endpoint is disabled.
	ClaimWebhook(ctx context.Context, m MerchantID, id WebhookID, term int64, holder NodeID) (bool, error)
	// ReleaseWebhook leaves the endpoint without a holder, if that is the given one.
	ReleaseWebhook(ctx context.Context, m MerchantID, id WebhookID, holder NodeID) error
	// WebhookWaiting returns the customers whose events wait at an endpoint because
	// one failed, each with when that is to be tried again.
	WebhookWaiting(ctx context.Context, m MerchantID, id WebhookID) (map[CustomerID]time.Time, error)
	// WebhookRetries returns at most limit failed deliveries that are due, the
	// earliest event of each customer, those first that have been due for longest.
	WebhookRetries(ctx context.Context, m MerchantID, id WebhookID, due time.Time, limit int) ([]WebhookRetry, error)
	// SettleWebhook writes what came of deliveries. The cursor never goes back. It
	// reports false, and writes nothing, unless the endpoint is held by the given
	// node at the given term and is not disabled.
	SettleWebhook(ctx context.Context, m MerchantID, id WebhookID, holder NodeID, term int64, s WebhookSettlement) (bool, error)
	// ReplayWebhook has the events between two positions, both included, up to the
	// endpoint's cursor and of its types, sent again from e.At on, or only those
	// that were given up. It returns how many. Codes: [CodeWebhookNotFound];
	// [CodeWebhookDisabled].
	ReplayWebhook(ctx context.Context, m MerchantID, id WebhookID, from, to int64, givenUp bool, e Event) (int, error)
	// WebhookLog returns at most limit attempts of an endpoint, or only those that
	// failed, newest first.
	WebhookLog(ctx context.Context, m MerchantID, id WebhookID, failed bool, limit int) ([]WebhookAttempt, error)
	// PruneWebhook deletes at most limit attempts of an endpoint that are from before
	// a time or not among the newest keep ones, and as many events that were given up
	// and first tried before another time. It reports whether there may be more.
	PruneWebhook(ctx context.Context, m MerchantID, id WebhookID, before time.Time, keep int, givenUpBefore time.Time, limit int) (more bool, err error)
}

// OperatorStore keeps operators, what they may do, their sessions and their codes.
// Its changes happen one after another, those of several processes too, each with
// its events, which are of [OperatorsMerchant] unless it is said otherwise.
type OperatorStore interface {
	// CreateOperator writes an operator, with a setup code unless its hash is zero,
	// and the role that g is about unless that is empty, whose event granted is then
	// g.Merchant's. Codes: [CodeOperatorExists]; [CodeMerchantNotFound].
	CreateOperator(ctx context.Context, name OperatorName, at time.Time, setup OperatorCode, e Event, g Grant, granted Event) error
	// Operator returns one operator. Code: [CodeOperatorNotFound].
	Operator(ctx context.Context, name OperatorName) (OperatorRecord, error)
	// Operators returns all operators, by name.
	Operators(ctx context.Context) ([]Account, error)
	// Grants returns the roles at m, or all roles that there are if m is empty, by
	// operator and merchant.
	Grants(ctx context.Context, m MerchantID) ([]Grant, error)
	// SetRole writes a role in place of the one that the operator has there, or takes
	// that away if g.Role is empty; the event is g.Merchant's. Codes:
	// [CodeMerchantNotFound]; [CodeOperatorNotFound]; [CodeLastOwner] if the merchant
	// would be left without an owner who is not disabled.
	SetRole(ctx context.Context, g Grant, e Event) error
	// ResetOperator takes the operator's password, recovery codes, other codes, lock
	// and sessions away, moves the version of the authenticator's secret and writes a
	// setup code. Code: [CodeOperatorNotFound].
	ResetOperator(ctx context.Context, name OperatorName, setup OperatorCode, e Event) error
	// DisableOperator sets the time from which an operator is disabled and ends the
	// sessions, unless it is disabled already. Code: [CodeOperatorNotFound].
	DisableOperator(ctx context.Context, name OperatorName, at time.Time, e Event) error
	// EnableOperator is the inverse. Code: [CodeOperatorNotFound].
	EnableOperator(ctx context.Context, name OperatorName, e Event) error
	// UnlockOperator forgets the logins that failed. Code: [CodeOperatorNotFound].
	UnlockOperator(ctx context.Context, name OperatorName, e Event) error

	// LoginFailed counts a login that failed. With the new number of those in a row it
	// asks lock for how long no other is to be tried; if that is not 0 it writes so,
	// with the event. lock may be called more than once. An operator that there is not
	// is passed over.
	LoginFailed(ctx context.Context, name OperatorName, at time.Time, lock func(failures int64) time.Duration, e Event) error
	// PutLoginLink writes a code of [CodeKindLink]. Code: [CodeOperatorNotFound].
	PutLoginLink(ctx context.Context, name OperatorName, link OperatorCode) error
	// ClaimForm writes a code of [CodeKindForm] and reports whether there was none with
	// its hash. Codes: [CodeOperatorNotFound]; [CodeTooManyRequests] if the operator has
	// most of them.
	ClaimForm(ctx context.Context, name OperatorName, form OperatorCode, most int) (bool, error)
	// OperatorCode returns whose code of a kind has the given hash. Code:
	// [CodeLoginRefused] if there is none, it has expired at now, or the operator is
	// disabled.
	OperatorCode(ctx context.Context, kind CodeKind, hash SecretHash, now time.Time) (OperatorRecord, error)
	// FinishSetup uses a setup code: it sets a password, the last step of the
	// authenticator that was used and the recovery codes. Code: [CodeLoginRefused] as
	// OperatorCode, or if the code has become another operator's or the authenticator
	// another one.
	FinishSetup(ctx context.Context, setup SecretHash, to OperatorRecord, recovery []SecretHash, e Event) error
	// BeginSession uses a proof and writes a session with its events. Sessions of
	// anybody that have ended are deleted, those not used since idle too, and of the
	// operator's others those used longest ago until there are fewer than most. Code:
	// [CodeLoginRefused] if the proof does not hold.
	BeginSession(ctx context.Context, p LoginProof, s SessionRecord, idle time.Time, most int, events []Event) error
	// SetPassword uses a proof, sets another password and ends all sessions but keep.
	// Code: [CodeLoginRefused].
	SetPassword(ctx context.Context, p LoginProof, password string, keep SecretHash, events []Event) error
	// SetRecoveryCodes uses a proof and puts recovery codes in the place of all there
	// are. Code: [CodeLoginRefused].
	SetRecoveryCodes(ctx context.Context, p LoginProof, recovery []SecretHash, events []Event) error

	// Session returns the session with the given hash, ended or not, whose it is, and
	// that operator's roles, the one at all merchants first and then by merchant. Code:
	// [CodeNoSession].
	Session(ctx context.Context, hash SecretHash) (SessionRecord, Account, []Grant, error)
	// Sessions returns an operator's sessions, those used last first.
	Sessions(ctx context.Context, name OperatorName) ([]SessionRecord, error)
	// TouchSession notes when a session was last used. It writes no event, and passes
	// over a session that has ended.
	TouchSession(ctx context.Context, hash SecretHash, at time.Time) error
	// PruneOperators deletes at most limit sessions and codes that expired before now,
	// without an event, and returns how many it deleted.
	PruneOperators(ctx context.Context, now time.Time, limit int) (int, error)
	// EndSessions deletes one session of an operator, or all if the hash is zero. It
	// writes the event only if there were any.
	EndSessions(ctx context.Context, name OperatorName, hash SecretHash, e Event) error
}
