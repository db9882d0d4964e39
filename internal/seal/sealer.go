// Package seal keeps personal data unreadable at rest. It implements
// [grahak.Sealer] with Tink: every merchant has an AEAD keyset that seals
// profiles and a PRF key that makes blind indexes, both wrapped under a master
// key.
//
// A sealed profile is a version byte followed by Tink ciphertext
// (XAES-256-GCM, whose 192-bit nonces make random ones safe for any number of
// customers), which begins with the id of the key in the keyset. Its associated
// data binds the version, the merchant and the customer, so that a ciphertext
// moved to another row does not open.
package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"grahak"
)

// KeysetSource finds the merchants' wrapped keys; [grahak.Store] is one.
type KeysetSource interface {
	// Keyset returns the merchant's wrapped keys, or a
	// [grahak.CodeMerchantNotFound] error.
	Keyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error)
	// MasterKeyID returns the id of the master key that new merchants' keys are
	// to be wrapped under, and an empty one if none is named. It is called with
	// an empty id, which only asks.
	MasterKeyID(ctx context.Context, id string) (string, error)
}

// profileVersion is the layout of a sealed profile.
const profileVersion = 1

// maxMerchants bounds how many merchants' opened keys are kept in memory; when
// there are more, the memory starts again empty.
const maxMerchants = 10_000

// retryKeys is when to try again after the keys could not be had.
const retryKeys = 5 * time.Second

// Sealer implements [grahak.Sealer].
type Sealer struct {
	masters *MasterKeys
	source  KeysetSource

	readings atomic.Uint64 // numbers the readings of source

	mu     sync.RWMutex
	keys   map[grahak.MerchantID]*merchantKeys
	forgot uint64 // counts the calls of Forget
}

var _ grahak.Sealer = (*Sealer)(nil)

// NewSealer returns a Sealer that unwraps with masters the keysets found in
// source.
func NewSealer(masters *MasterKeys, source KeysetSource) *Sealer {
	return &Sealer{masters: masters, source: source, keys: make(map[grahak.MerchantID]*merchantKeys)}
}

// New returns a Sealer with one master key for good.
func New(master *MasterKey, source KeysetSource) *Sealer {
	fixed := func(context.Context) ([]*MasterKey, error) { return []*MasterKey{master}, nil }
	return NewSealer(NewMasterKeys(fixed, 0), source)
}

// Seal implements [grahak.Sealer].
func (s *Sealer) Seal(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, p grahak.Profile) (grahak.Sealed, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return grahak.Sealed{}, err
	}
	// What most profiles fit into; longer ones get more.
	var plain [256]byte
	var bound [128]byte
	sealed, err := k.aead.Encrypt(appendProfile(plain[:0], p), appendBound(bound[:0], m, id))
	if err != nil {
		return grahak.Sealed{}, err
	}
	return grahak.Sealed{Bytes: append([]byte{profileVersion}, sealed...), Version: k.version}, nil
}

// Open implements [grahak.Sealer].
func (s *Sealer) Open(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, sealed []byte) (grahak.Profile, error) {
	k, err := s.opening(ctx, m, sealed)
	if err != nil {
		return grahak.Profile{}, err
	}
	if len(sealed) == 0 || sealed[0] != profileVersion {
		return grahak.Profile{}, errors.New("the sealed profile has an unknown version")
	}
	var bound [128]byte
	plain, err := k.aead.Decrypt(sealed[1:], appendBound(bound[:0], m, id))
	if err != nil {
		return grahak.Profile{}, errOpen
	}
	return parseProfile(plain)
}

// errOpen is the error for ciphertext that does not open. Why, the cipher does not
// tell.
var errOpen = errors.New("the sealed profile does not open: it was altered, or sealed for another row or under another key")

// Index implements [grahak.Sealer].
func (s *Sealer) Index(ctx context.Context, m grahak.MerchantID, purpose grahak.IndexPurpose, value string) (grahak.Index, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return grahak.Index{}, err
	}
	var input [96]byte
	buf := append(input[:0], purpose...)
	buf = append(buf, 0)
	buf = append(buf, value...)
	var index grahak.Index
	out, err := k.prf.ComputePrimaryPRF(buf, uint32(len(index)))
	if err != nil {
		return grahak.Index{}, err
	}
	copy(index[:], out)
	return index, nil
}

// Check returns nil if the merchant's keys can be had.
func (s *Sealer) Check(ctx context.Context, m grahak.MerchantID) error {
	_, err := s.merchant(ctx, m)
	return err
}

// Forget implements [grahak.Sealer].
func (s *Sealer) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
	s.forgot++
}

// merchantKeys is a merchant's opened keys.
type merchantKeys struct {
	reading uint64 // of the source, which they come from
	version int64
	ids     map[uint32]bool // of the keys that open profiles
	aead    tink.AEAD
	prf     *prf.Set
	missing *missing
}

// merchant returns the merchant's opened keys.
func (s *Sealer) merchant(ctx context.Context, m grahak.MerchantID) (*merchantKeys, error) {
	s.mu.RLock()
	k := s.keys[m]
	s.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	return s.load(ctx, m)
}

// opening returns the merchant's opened keys, with the one that opens sealed
// among them if there is such a key: another process may have added it.
func (s *Sealer) opening(ctx context.Context, m grahak.MerchantID, sealed []byte) (*merchantKeys, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return nil, err
	}
	id, ok := keyID(sealed)
	if !ok || k.ids[id] || k.missing.has(id) {
		return k, nil
	}
	if k, err = s.load(ctx, m); err != nil {
		return nil, err
	}
	if !k.ids[id] {
		k.missing.add(id)
	}
	return k, nil
}

// keyID returns the id that Tink gave the key of a sealed profile.
func keyID(sealed []byte) (uint32, bool) {
	const prefix = 1 // Tink's mark of an id
	if len(sealed) < 6 || sealed[1] != prefix {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[2:]), true
}

// load reads the merchant's keys from the source, opens and remembers them.
func (s *Sealer) load(ctx context.Context, m grahak.MerchantID) (*merchantKeys, error) {
	s.mu.RLock()
	forgot := s.forgot
	s.mu.RUnlock()
	reading := s.readings.Add(1)
	wrapped, master, err := s.stored(ctx, m)
	if err != nil {
		return nil, err
	}
	k, err := openKeys(wrapped, master)
	if err != nil {
		return nil, err
	}
	k.reading = reading
	s.mu.Lock()
	defer s.mu.Unlock()
	// If Forget was called while the keys were read, they may be older than the
	// change that it was called for; then they serve this call only.
	if s.forgot != forgot {
		return k, nil
	}
	if known := s.keys[m]; known != nil {
		if known.reading > reading {
			return known, nil
		}
		if known.version == k.version {
			k.missing = known.missing
		}
	}
	if len(s.keys) >= maxMerchants {
		clear(s.keys)
	}
	s.keys[m] = k
	return k, nil
}

// stored returns the merchant's keys as they are stored, and the master key that
// they are under.
func (s *Sealer) stored(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, *MasterKey, error) {
	k, err := s.source.Keyset(ctx, m)
	for {
		if err != nil {
			return grahak.Keyset{}, nil, err
		}
		// What binds the keys to their merchant must be what was asked for.
		k.Merchant = m
		master, missing := s.master(ctx, k.MasterKeyID)
		if missing == nil {
			return k, master, nil
		}
		// While the master key was looked for, the keys may have been wrapped
		// under another, and it may be gone for that reason.
		before := k.MasterKeyID
		if k, err = s.source.Keyset(ctx, m); err == nil && k.MasterKeyID == before {
			return grahak.Keyset{}, nil, missing
		}
	}
}

// openKeys opens a merchant's keys.
func openKeys(wrapped grahak.Keyset, master *MasterKey) (*merchantKeys, error) {
	sealing, indexing, err := unwrap(wrapped, master)
	if err != nil {
		return nil, err
	}
	k := &merchantKeys{version: wrapped.Version, ids: make(map[uint32]bool), missing: new(missing)}
	for i := range sealing.Len() {
		entry, err := sealing.Entry(i)
		if err != nil {
			return nil, err
		}
		k.ids[entry.KeyID()] = true
	}
	if k.aead, err = aead.New(sealing); err != nil {
		return nil, altered(wrapped.Merchant, err)
	}
	if k.prf, err = prf.NewPRFSet(indexing); err != nil {
		return nil, altered(wrapped.Merchant, err)
	}
	return k, nil
}

// maxMissing bounds how many ids a merchant's missing holds.
const maxMissing = 1000

// missing is the ids of keys that damaged profiles name and that were looked for
// in vain. A key is stored before anything is sealed under it, so they need not
// be looked for again. Safe for concurrent use.
type missing struct {
	mu  sync.Mutex
	ids map[uint32]bool
}

func (m *missing) has(id uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[id]
}

func (m *missing) add(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids == nil || len(m.ids) >= maxMissing {
		m.ids = make(map[uint32]bool)
	}
	m.ids[id] = true
}

func unavailable(cause error) error {
	return grahak.Unavailable("the sealing keys are not available", retryKeys, cause)
}

// appendBound appends the associated data of a sealed profile.
func appendBound(buf []byte, m grahak.MerchantID, id grahak.CustomerID) []byte {
	buf = append(buf, "grahak profile"...)
	buf = append(buf, profileVersion)
	buf = binary.AppendUvarint(buf, uint64(len(m)))
	buf = append(buf, m...)
	return append(buf, id...)
}
