package grahak

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Credential is what a request presents.
type Credential struct {
	Key string
	// Merchant is the merchant the request names; empty when it names none.
	Merchant string
	// Addr is the client's address, for the IP list and the limit of failures; the
	// zero value if it cannot be told.
	Addr netip.Addr
}

// Access is the outcome of [Service.Authenticate].
type Access struct {
	// Caller is set if the key is valid.
	Caller Caller
	// KeyID is the key, as soon as it is known to be one, and KeyMerchant whose it is.
	KeyID       KeyID
	KeyMerchant MerchantID
	// Refusal says for the log why the key is not valid. Clients are never told.
	Refusal Refusal
	// IP is what the merchant's IP list says of the address.
	IP IPVerdict
	// Quota is what the limits leave to a caller who is known and whose address
	// is not refused.
	Quota Quota
	// Limited is the limit that refuses the request, empty if none does.
	Limited LimitKind
}

// Refusal is a reason for [CodeInvalidAPIKey].
type Refusal string

// The refusals.
const (
	RefusalMalformed        Refusal = "malformed"
	RefusalUnknown          Refusal = "unknown key"
	RefusalRevoked          Refusal = "revoked"
	RefusalExpired          Refusal = "expired"
	RefusalMerchantDisabled Refusal = "merchant disabled"
	RefusalOtherMerchant    Refusal = "key of another merchant"
)

// Authenticate finds out who presents cred. Codes: [CodeInvalidAPIKey] for a
// key that is unknown, revoked, expired, of a disabled merchant, or of another
// merchant than the named one; [CodeIPNotWhitelisted], and then the
// returned Access says who was refused; [CodeTooManyRequests] beyond one of the
// [Limits]; [CodeUnavailable] without the store, or for a key that this node has
// not seen while too many of those are looked up. A key that this node has seen is
// never refused for what others at its address did.
func (s *Service) Authenticate(ctx context.Context, cred Credential) (Access, error) {
	if cred.Key == "" || len(cred.Key) > MaxImportedKey || mistypedKey(cred.Key) {
		return s.RefuseCredential(cred, RefusalMalformed)
	}
	record, a, err := s.accessRecord(ctx, cred, s.clock.Now())
	if err != nil {
		return a, err
	}
	// The store may have taken long, and the limits must not be asked for what was
	// then: what others have used since would look like a debt.
	now := s.clock.Now()
	// To refuse what is known to be a key costs nothing: it counts as a failure, but
	// it is always told.
	refuse := func(id KeyID, why Refusal) (Access, error) {
		s.limits.failed.Take(failedKey(cred.Addr), now)
		return Access{KeyID: id, KeyMerchant: record.Merchant.ID, Refusal: why}, errNotValid
	}
	switch {
	case !record.Key.RevokedAt.IsZero():
		return refuse(record.Key.ID, RefusalRevoked)
	case !record.Key.ActiveAt(now):
		return refuse(record.Key.ID, RefusalExpired)
	case !record.Merchant.DisabledAt.IsZero():
		return refuse(record.Key.ID, RefusalMerchantDisabled)
	case cred.Merchant != "" && cred.Merchant != string(record.Merchant.ID):
		return refuse(record.Key.ID, RefusalOtherMerchant)
	}
	a = Access{
		Caller:      Caller{Merchant: record.Merchant.ID, Actor: string(record.Key.ID), Scope: record.Key.Scope},
		KeyID:       record.Key.ID,
		KeyMerchant: record.Merchant.ID,
		IP:          IPVerdict{Mode: IPModeOff},
	}
	if record.Merchant.IPMode != IPModeOff {
		a.IP = judgeIP(record.Merchant.IPMode, record.IPList, cred.Addr)
	}
	if a.IP.Refused() {
		return a, &Error{Code: CodeIPNotWhitelisted, Message: "The address is not on the merchant's IP list."}
	}
	if a.Quota, err = s.limits.request(record.Key.ID, record.Merchant.ID, now); err != nil {
		a.Limited = a.Quota.Kind
		return a, err
	}
	s.access.touch(KeyRef{Merchant: record.Merchant.ID, Key: record.Key.ID}, KeyUse{At: now, Addr: cred.Addr})
	return a, nil
}

var errNotValid = &Error{Code: CodeInvalidAPIKey, Message: "The API key is not valid."}

// RefuseCredential is [Service.Authenticate] of a credential that cannot be valid for
// the given reason, such as one that an edge cannot read.
func (s *Service) RefuseCredential(cred Credential, why Refusal) (Access, error) {
	if err := s.limits.failure(cred.Addr, s.clock.Now()); err != nil {
		return Access{Refusal: why, Limited: LimitFailed}, err
	}
	return Access{Refusal: why}, errNotValid
}

// accessRecord returns the record of cred's key, or the outcome for what is not known to
// be a key.
func (s *Service) accessRecord(ctx context.Context, cred Credential, now time.Time) (*AccessRecord, Access, error) {
	hash := HashKey(cred.Key)
	if record, a, settled, err := s.rememberedRecord(ctx, cred, hash, now); settled {
		return record, a, err
	}
	leave, err := s.access.queue(ctx)
	if errors.Is(err, errManyStrangers) {
		s.limits.refused(LimitLookup)
		return nil, Access{Limited: LimitLookup}, err
	}
	if err != nil {
		return nil, Access{}, err
	}
	defer leave()
	// Those before may have asked for the same key, or have used up what the address may
	// guess.
	now = s.clock.Now()
	if record, a, settled, err := s.rememberedRecord(ctx, cred, hash, now); settled {
		return record, a, err
	}
	record, err := s.access.get(ctx, hash)
	if CodeOf(err) == CodeKeyNotFound {
		s.limits.guess(cred.Addr, now)
		a, err := s.RefuseCredential(cred, RefusalUnknown)
		return nil, a, err
	}
	return record, Access{}, err
}

// rememberedRecord is accessRecord as far as it is settled by what is remembered: of a key
// that is or was known, of one that is known not to be, and of any other from an address
// with too many of those.
func (s *Service) rememberedRecord(ctx context.Context, cred Credential, hash KeyHash, now time.Time) (_ *AccessRecord, _ Access, settled bool, _ error) {
	record, kept := s.access.remembered(hash, now)
	switch kept {
	case keptRecord:
		return record, Access{}, true, nil
	case keptKnown:
		record, err := s.access.get(ctx, hash)
		return record, Access{}, true, err
	case keptUnknown:
		a, err := s.RefuseCredential(cred, RefusalUnknown)
		return nil, a, true, err
	case keptNothing:
	}
	if err := s.limits.mayGuess(cred.Addr, now); err != nil {
		return nil, Access{Limited: LimitFailed}, true, err
	}
	return nil, Access{}, false, nil
}

// maxStale is for how long a cached access record may be used without asking
// the store whether it still holds.
const maxStale = 2 * time.Second

// maxCachedAccess bounds the cache; when it is full it starts again empty.
const maxCachedAccess = 10_000

// maxKnownKeys bounds each of the two generations of known keys.
const maxKnownKeys = 50_000

// strangerWait is how long a look-up of a key that was never seen waits for others of
// that kind.
const strangerWait = time.Second

// errManyStrangers is what it ends with then.
var errManyStrangers = Unavailable("Too many unknown API keys are being looked up.", strangerWait, nil)

// accessCache remembers access records by key hash. The store's access version
// tells when they are out of date: at once for changes made through this
// process, within maxStale for those of others. Safe for concurrent use.
//
// It also remembers which keys the store does not have, as long as that is not out of
// date and for maxStale at most; and which keys there were when they were last asked
// for, whatever has changed, so that a flood of others does not hold up those.
type accessCache struct {
	store   Store
	clock   Clock
	changed func() // called when the store's access version has moved

	mu        sync.RWMutex
	records   map[KeyHash]*AccessRecord
	unknown   map[KeyHash]time.Time // when the store was asked for a key that it does not have
	version   int64
	cleared   uint64 // counts how often records and unknown were emptied
	checkedAt time.Time

	// known are keys that the store had, in two generations: when the younger one
	// is full it becomes the older one, which is forgotten.
	known, knownBefore map[KeyHash]struct{}

	// strangers lets one key that is not known be looked up at a time: the store
	// has few connections for such short reads, which must not all be taken.
	strangers chan struct{}

	touchMu sync.Mutex
	touched map[KeyRef]KeyUse
}

func newAccessCache(store Store, clock Clock, changed func()) *accessCache {
	return &accessCache{
		store:   store,
		clock:   clock,
		changed: changed,
		records: make(map[KeyHash]*AccessRecord),
		unknown: make(map[KeyHash]time.Time),
		known:   make(map[KeyHash]struct{}),
		touched: make(map[KeyRef]KeyUse),

		strangers: make(chan struct{}, 1),
	}
}

// kept is what is remembered of a key.
type kept int

const (
	keptNothing kept = iota
	keptKnown        // it was a key when it was last asked for
	keptUnknown      // the store does not have it
	keptRecord       // its record
)

// remembered returns what is remembered of the key with the given hash, and its record
// with keptRecord.
func (c *accessCache) remembered(hash KeyHash, now time.Time) (*AccessRecord, kept) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if now.Sub(c.checkedAt) < maxStale {
		if record := c.records[hash]; record != nil {
			return record, keptRecord
		}
		if since, ok := c.unknown[hash]; ok && now.Sub(since) < maxStale {
			return nil, keptUnknown
		}
	}
	_, young := c.known[hash]
	_, old := c.knownBefore[hash]
	if young || old {
		return nil, keptKnown
	}
	return nil, keptNothing
}

// queue waits until the caller may ask the store for a key that is not known, which one
// does at a time, until it leaves. Who has waited for strangerWait gets errManyStrangers.
func (c *accessCache) queue(ctx context.Context) (leave func(), err error) {
	wait, cancel := context.WithTimeout(ctx, strangerWait)
	defer cancel()
	select {
	case c.strangers <- struct{}{}:
		return func() { <-c.strangers }, nil
	case <-wait.Done():
		if err := ctx.Err(); err != nil {
			return nil, Unavailable("The request was given up.", 0, err)
		}
		return nil, errManyStrangers
	}
}

// get returns the record of the key with the given hash, from memory if that
// was compared with the store in the last maxStale.
func (c *accessCache) get(ctx context.Context, hash KeyHash) (*AccessRecord, error) {
	c.mu.RLock()
	record, cleared, fresh := c.records[hash], c.cleared, c.clock.Now().Sub(c.checkedAt) < maxStale
	c.mu.RUnlock()
	if record != nil && fresh {
		return record, nil
	}
	if !fresh {
		if err := c.refresh(ctx); err != nil {
			return nil, err
		}
		c.mu.RLock()
		record, cleared = c.records[hash], c.cleared
		c.mu.RUnlock()
		if record != nil {
			return record, nil
		}
	}
	asked := c.clock.Now()
	loaded, err := c.store.Access(ctx, hash)
	if err != nil && CodeOf(err) != CodeKeyNotFound {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// If the cache was emptied while the record was read, the record may be
	// older than the change that emptied it; then it serves this call only.
	current := c.cleared == cleared
	if err != nil {
		if current {
			if len(c.unknown) >= maxCachedAccess {
				clear(c.unknown)
			}
			c.unknown[hash] = asked
		}
		return nil, err
	}
	if len(c.known) >= maxKnownKeys {
		c.known, c.knownBefore = make(map[KeyHash]struct{}), c.known
	}
	c.known[hash] = struct{}{}
	if current {
		if len(c.records) >= maxCachedAccess {
			clear(c.records)
		}
		c.records[hash] = &loaded
	}
	return &loaded, nil
}

// refresh compares the cache with the store and empties it if they differ.
func (c *accessCache) refresh(ctx context.Context) error {
	now := c.clock.Now()
	version, err := c.store.AccessVersion(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version != c.version {
		c.empty()
		c.version = version
		c.changed()
	}
	if now.After(c.checkedAt) {
		c.checkedAt = now
	}
	return nil
}

// invalidate makes the next get ask the store, after a change made through
// this process.
func (c *accessCache) invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
	c.checkedAt = time.Time{}
}

// empty forgets all records, and which keys there are not. The caller holds mu.
func (c *accessCache) empty() {
	clear(c.records)
	clear(c.unknown)
	c.cleared++
}

// touch notes the use of a key.
func (c *accessCache) touch(key KeyRef, use KeyUse) {
	c.touchMu.Lock()
	c.touched[key] = use
	c.touchMu.Unlock()
}

// takeTouched returns the notes since the last call.
func (c *accessCache) takeTouched() map[KeyRef]KeyUse {
	c.touchMu.Lock()
	defer c.touchMu.Unlock()
	if len(c.touched) == 0 {
		return nil
	}
	used := c.touched
	c.touched = make(map[KeyRef]KeyUse, len(used))
	return used
}
