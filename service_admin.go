package grahak

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// Operator returns the caller for work on merchant m at the command line, or of this
// program itself, which may do all that there is. The actor says who: "cli:" and a user
// name, or what part of the program.
func Operator(m MerchantID, actor string) Caller {
	return Caller{Merchant: m, Actor: actor, Scope: scopeOperator}
}

// CreateMerchant makes the merchant c.Merchant with its own sealing keys.
// Codes: [CodeInvalidMerchant], [CodeMerchantExists].
func (s *Service) CreateMerchant(ctx context.Context, c Caller, name string) (Merchant, error) {
	if _, err := ParseMerchantID(string(c.Merchant)); err != nil {
		return Merchant{}, err
	}
	return s.createMerchant(ctx, c, name)
}

func (s *Service) createMerchant(ctx context.Context, c Caller, name string) (Merchant, error) {
	if err := c.may(scopeOperator); err != nil {
		return Merchant{}, err
	}
	if !validText(name, MaxReference) {
		return Merchant{}, Errorf(CodeInvalidMerchant, "A merchant's name has at most %d characters and no control characters.", MaxReference)
	}
	now := s.now()
	m := Merchant{ID: c.Merchant, Name: name, IPMode: IPModeOff, CreatedAt: now}
	return m, s.underNewestKey(func() error {
		keys, err := s.sealer.NewKeyset(ctx, c.Merchant)
		if err != nil {
			return err
		}
		return s.changeAccess(c, EventMerchantCreated, "", now, func(e Event) error {
			return s.store.CreateMerchant(ctx, m, keys, e)
		})
	})
}

// Merchants returns all merchants, by id. It takes no caller: it is for the command line,
// and visitors have [Service.VisitorMerchants].
func (s *Service) Merchants(ctx context.Context) ([]Merchant, error) {
	list, err := s.store.Merchants(ctx)
	return slices.DeleteFunc(list, func(m Merchant) bool { return m.ID == OperatorsMerchant }), err
}

// DisableMerchant makes every key of the merchant be refused from now on. It
// does nothing to one that is disabled. Code: [CodeMerchantNotFound].
func (s *Service) DisableMerchant(ctx context.Context, c Caller) error {
	if err := c.may(scopeOperator); err != nil {
		return err
	}
	if err := c.ofMerchant(); err != nil {
		return err
	}
	now := s.now()
	return s.changeAccess(c, EventMerchantDisabled, "", now, func(e Event) error {
		return s.store.DisableMerchant(ctx, c.Merchant, now, e)
	})
}

// KeySpec describes a key to make.
type KeySpec struct {
	Label string
	Scope Scope
	// ExpiresAt is zero for a key that does not expire.
	ExpiresAt time.Time
}

// CreateKey makes an API key and returns it with the key itself, which is not
// kept and cannot be had again. Codes: [CodeInvalidKey], [CodeMerchantNotFound].
func (s *Service) CreateKey(ctx context.Context, c Caller, spec KeySpec) (APIKey, string, error) {
	secret, err := newKey(s.environment, s.random)
	if err != nil {
		return APIKey{}, "", err
	}
	k, err := s.addKey(ctx, c, EventKeyCreated, secret, spec)
	return k, secret, err
}

// ImportKey keeps an existing key of any shape (16–256 printable ASCII
// characters, no colon), because merchants bring the keys that their programs
// already hold. Codes: [CodeInvalidKey], [CodeKeyExists],
// [CodeMerchantNotFound].
func (s *Service) ImportKey(ctx context.Context, c Caller, secret string, spec KeySpec) (APIKey, error) {
	if err := checkImportedKey(secret); err != nil {
		return APIKey{}, err
	}
	return s.addKey(ctx, c, EventKeyImported, secret, spec)
}

func (s *Service) addKey(ctx context.Context, c Caller, t EventType, secret string, spec KeySpec) (APIKey, error) {
	now := s.now()
	k, err := s.newAPIKey(c.Merchant, secret, spec, now)
	if err != nil {
		return APIKey{}, err
	}
	return k, s.change(c, t, string(k.ID), now, func(e Event) error {
		return s.store.CreateKey(ctx, c.Merchant, k, e)
	})
}

func (s *Service) newAPIKey(m MerchantID, secret string, spec KeySpec, now time.Time) (APIKey, error) {
	switch {
	case !validText(spec.Label, MaxName):
		return APIKey{}, Errorf(CodeInvalidKey, "A key's label has at most %d characters and no control characters.", MaxName)
	case spec.Scope != ScopeRead && spec.Scope != ScopeWrite:
		return APIKey{}, Errorf(CodeInvalidKey, "A key's scope is read or write.")
	case !spec.ExpiresAt.IsZero() && !spec.ExpiresAt.Truncate(time.Microsecond).After(now): // as it is stored
		return APIKey{}, Errorf(CodeInvalidKey, "The key would expire in the past: give a later time.")
	}
	id, err := newID("key_", s.keyTicks.at(now), s.random)
	if err != nil {
		return APIKey{}, err
	}
	return APIKey{
		ID:        KeyID(id),
		Merchant:  m,
		Hash:      HashKey(secret),
		Prefix:    keyPrefix(s.environment, secret),
		Label:     spec.Label,
		Scope:     spec.Scope,
		CreatedAt: now,
		ExpiresAt: spec.ExpiresAt.UTC().Truncate(time.Microsecond),
	}, nil
}

// Keys returns the merchant's keys, oldest first. Code:
// [CodeMerchantNotFound].
func (s *Service) Keys(ctx context.Context, c Caller) ([]APIKey, error) {
	if err := c.may(scopeViewer); err != nil {
		return nil, err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return nil, err
	}
	return s.store.Keys(ctx, c.Merchant)
}

// RevokeKey makes a key be refused from now on. It does nothing to one that is
// revoked. Code: [CodeKeyNotFound].
func (s *Service) RevokeKey(ctx context.Context, c Caller, id KeyID) error {
	now := s.now()
	return s.change(c, EventKeyRevoked, string(id), now, func(e Event) error {
		return s.store.RevokeKey(ctx, c.Merchant, id, now, e)
	})
}

// RotateKey makes a successor with the label and scope of the key id, returns
// it with the new key itself, and lets the old one expire after overlap, so
// that programs can change over. The successor expires at expiresAt, or not if
// that is zero. Codes: [CodeKeyNotFound] if the key is
// unknown, revoked or expired; [CodeInvalidKey] for a negative overlap.
func (s *Service) RotateKey(ctx context.Context, c Caller, id KeyID, overlap time.Duration, expiresAt time.Time) (APIKey, string, error) {
	if err := c.mayAdminister(); err != nil {
		return APIKey{}, "", err
	}
	if overlap < 0 {
		return APIKey{}, "", Errorf(CodeInvalidKey, "The overlap cannot be negative.")
	}
	now := s.now()
	old, err := s.store.Key(ctx, c.Merchant, id)
	if err != nil {
		return APIKey{}, "", err
	}
	if !old.ActiveAt(now) {
		return APIKey{}, "", Errorf(CodeKeyNotFound, "The key %s is revoked or expired: make a new one with `grahak key create`.", id)
	}
	secret, err := newKey(s.environment, s.random)
	if err != nil {
		return APIKey{}, "", err
	}
	next, err := s.newAPIKey(c.Merchant, secret, KeySpec{Label: old.Label, Scope: old.Scope, ExpiresAt: expiresAt}, now)
	if err != nil {
		return APIKey{}, "", err
	}
	return next, secret, s.change(c, EventKeyRotated, string(id), now, func(e Event) error {
		return s.store.RotateKey(ctx, c.Merchant, id, now.Add(overlap), next, e)
	})
}

// AddIPEntry puts an address or network on the merchant's IP list. Codes:
// [CodeInvalidIPEntry], [CodeIPEntryExists], [CodeIPListFull],
// [CodeMerchantNotFound].
func (s *Service) AddIPEntry(ctx context.Context, c Caller, address, label string) (IPEntry, error) {
	p, err := ParseIPEntry(address)
	if err != nil {
		return IPEntry{}, err
	}
	if !validText(label, MaxName) {
		return IPEntry{}, Errorf(CodeInvalidIPEntry, "A label has at most %d characters and no control characters.", MaxName)
	}
	now := s.now()
	entry := IPEntry{Prefix: p, Label: label, AddedBy: c.Actor, CreatedAt: now}
	return entry, s.change(c, EventIPEntryAdded, p.String(), now, func(e Event) error {
		return s.store.AddIPEntry(ctx, c.Merchant, entry, e)
	})
}

// IPList returns the merchant, whose IPMode is what the list does, and its
// entries in the order they were added. Code: [CodeMerchantNotFound].
func (s *Service) IPList(ctx context.Context, c Caller) (Merchant, []IPEntry, error) {
	if err := c.may(scopeViewer); err != nil {
		return Merchant{}, nil, err
	}
	m, err := s.store.Merchant(ctx, c.Merchant)
	if err != nil {
		return Merchant{}, nil, err
	}
	entries, err := s.store.IPList(ctx, c.Merchant)
	return m, entries, err
}

// TestIP says what the merchant's IP list makes of an address. Codes:
// [CodeInvalidIPEntry], [CodeMerchantNotFound].
func (s *Service) TestIP(ctx context.Context, c Caller, address string) (IPVerdict, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return IPVerdict{}, Errorf(CodeInvalidIPEntry, "%q is not an IP address.", address)
	}
	m, entries, err := s.IPList(ctx, c)
	if err != nil {
		return IPVerdict{}, err
	}
	list := make([]netip.Prefix, len(entries))
	for i, e := range entries {
		list[i] = e.Prefix
	}
	return judgeIP(m.IPMode, list, addr), nil
}

// now is the time that is stored: UTC, in microseconds.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Microsecond) }

// change is changeAccess by a caller who may administer the merchant.
func (s *Service) change(c Caller, t EventType, subject string, at time.Time, write func(Event) error) error {
	if err := c.mayAdminister(); err != nil {
		return err
	}
	return s.changeAccess(c, t, subject, at, write)
}

// changeAccess runs a write that decides about access, with its event, and makes
// this process see it at once. Whether the caller may is not looked at.
func (s *Service) changeAccess(c Caller, t EventType, subject string, at time.Time, write func(Event) error) error {
	e, err := s.event(c, t, subject, at)
	if err != nil {
		return err
	}
	err = write(e)
	s.access.invalidate()
	return err
}
