package grahak

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Credential is what a request presents.
type Credential struct {
	Key string
	// Merchant is the merchant the request names; empty when it names none.
	Merchant string
	// Addr is the client's address, for the IP list.
	Addr netip.Addr
}

// Access is the outcome of [Service.Authenticate].
type Access struct {
	// Caller is set if the key is valid.
	Caller Caller
	// KeyID is the key, as soon as it is known to be one.
	KeyID KeyID
	// Refusal says for the log why the key is not valid. Clients are never told.
	Refusal Refusal
	// IP is what the merchant's IP list says of the address.
	IP IPVerdict
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
// merchant than the named one; [CodeIPNotWhitelisted], and then the returned
// Access says who was refused.
func (s *Service) Authenticate(ctx context.Context, cred Credential) (Access, error) {
	refuse := func(id KeyID, why Refusal) (Access, error) {
		return Access{KeyID: id, Refusal: why}, &Error{Code: CodeInvalidAPIKey, Message: "The API key is not valid."}
	}
	if cred.Key == "" || len(cred.Key) > MaxImportedKey || mistypedKey(cred.Key) {
		return refuse("", RefusalMalformed)
	}
	now := s.clock.Now()
	record, err := s.access.get(ctx, HashKey(cred.Key))
	if err != nil {
		if CodeOf(err) == CodeKeyNotFound {
			return refuse("", RefusalUnknown)
		}
		return Access{}, err
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
	a := Access{
		Caller: Caller{Merchant: record.Merchant.ID, Actor: string(record.Key.ID), Scope: record.Key.Scope},
		KeyID:  record.Key.ID,
		IP:     IPVerdict{Mode: IPModeOff},
	}
	if record.Merchant.IPMode != IPModeOff {
		a.IP = judgeIP(record.Merchant.IPMode, record.IPList, cred.Addr)
	}
	if a.IP.Refused() {
		return a, &Error{Code: CodeIPNotWhitelisted, Message: "The address is not on the merchant's IP list."}
	}
	s.access.touch(KeyRef{Merchant: record.Merchant.ID, Key: record.Key.ID}, now)
	return a, nil
}

// maxStale is for how long a cached access record may be used without asking
// the store whether it still holds.
const maxStale = 2 * time.Second

// maxCachedAccess bounds the cache; when it is full it starts again empty.
const maxCachedAccess = 10_000

// accessCache remembers access records by key hash. The store's access version
// tells when they are out of date: at once for changes made through this
// process, within maxStale for those of others. Safe for concurrent use.
type accessCache struct {
	store   Store
	clock   Clock
	changed func() // called when the store's access version has moved

	mu        sync.RWMutex
	records   map[KeyHash]*AccessRecord
	version   int64
	cleared   uint64 // counts how often records was emptied
	checkedAt time.Time

	touchMu sync.Mutex
	touched map[KeyRef]time.Time
}

func newAccessCache(store Store, clock Clock, changed func()) *accessCache {
	return &accessCache{
		store:   store,
		clock:   clock,
		changed: changed,
		records: make(map[KeyHash]*AccessRecord),
		touched: make(map[KeyRef]time.Time),
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
	loaded, err := c.store.Access(ctx, hash)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// If the cache was emptied while the record was read, the record may be
	// older than the change that emptied it; then it serves this call only.
	if c.cleared == cleared {
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

// empty forgets all records. The caller holds mu.
func (c *accessCache) empty() {
	clear(c.records)
	c.cleared++
}

// touch notes that a key was used at t.
func (c *accessCache) touch(key KeyRef, t time.Time) {
	c.touchMu.Lock()
	c.touched[key] = t
	c.touchMu.Unlock()
}

// takeTouched returns the notes since the last call.
func (c *accessCache) takeTouched() map[KeyRef]time.Time {
	c.touchMu.Lock()
	defer c.touchMu.Unlock()
	if len(c.touched) == 0 {
		return nil
	}
	used := c.touched
	c.touched = make(map[KeyRef]time.Time, len(used))
	return used
}
