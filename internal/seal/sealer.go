// Package seal keeps personal data unreadable at rest. It implements
// [grahak.Sealer] with Tink: every merchant has an AEAD keyset that seals
// profiles and a PRF key that makes blind indexes, both wrapped under one
// master key.
//
// A sealed profile is a version byte followed by Tink ciphertext
// (XAES-256-GCM, whose 192-bit nonces make random ones safe for any number of
// customers). Its associated data binds the version, the merchant and the
// customer, so that a ciphertext moved to another row does not open.
package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"grahak"
)

// KeysetSource finds a merchant's wrapped keys; [grahak.Store] is one.
type KeysetSource interface {
	// Keyset returns the merchant's wrapped keys, or a
	// [grahak.CodeMerchantNotFound] error.
	Keyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error)
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
	master *MasterKey
	fault  error
	source KeysetSource

	mu   sync.RWMutex
	keys map[grahak.MerchantID]*merchantKeys
}

var _ grahak.Sealer = (*Sealer)(nil)

// merchantKeys is a merchant's opened keys.
type merchantKeys struct {
	aead tink.AEAD
	prf  *prf.Set
}

// New returns a Sealer that unwraps with master the keysets found in source.
func New(master *MasterKey, source KeysetSource) *Sealer {
	return &Sealer{master: master, source: source, keys: make(map[grahak.MerchantID]*merchantKeys)}
}

// Broken returns a Sealer whose every method returns a
// [grahak.CodeUnavailable] error with the given cause, for a server whose
// master key is missing or wrong.
func Broken(cause error) *Sealer { return &Sealer{fault: cause} }

// Seal implements [grahak.Sealer].
func (s *Sealer) Seal(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, p grahak.Profile) ([]byte, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return nil, err
	}
	var plain, bound [512]byte
	sealed, err := k.aead.Encrypt(appendProfile(plain[:0], p), appendBound(bound[:0], m, id))
	if err != nil {
		return nil, err
	}
	return append([]byte{profileVersion}, sealed...), nil
}

// Open implements [grahak.Sealer].
func (s *Sealer) Open(ctx context.Context, m grahak.MerchantID, id grahak.CustomerID, sealed []byte) (grahak.Profile, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return grahak.Profile{}, err
	}
	if len(sealed) == 0 || sealed[0] != profileVersion {
		return grahak.Profile{}, errors.New("the sealed profile has an unknown version")
	}
	var bound [512]byte
	plain, err := k.aead.Decrypt(sealed[1:], appendBound(bound[:0], m, id))
	if err != nil {
		return grahak.Profile{}, fmt.Errorf("the sealed profile does not open: it was altered, or sealed for another row or under another key: %w", err)
	}
	return parseProfile(plain)
}

// Index implements [grahak.Sealer].
func (s *Sealer) Index(ctx context.Context, m grahak.MerchantID, purpose grahak.IndexPurpose, value string) (grahak.Index, error) {
	k, err := s.merchant(ctx, m)
	if err != nil {
		return grahak.Index{}, err
	}
	var input [256]byte
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

// NewKeyset implements [grahak.Sealer].
func (s *Sealer) NewKeyset(m grahak.MerchantID) (grahak.Keyset, error) {
	if s.fault != nil {
		return grahak.Keyset{}, s.unavailable(s.fault)
	}
	sealing, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return grahak.Keyset{}, err
	}
	indexing, err := keyset.NewHandle(prf.AESCMACPRFKeyTemplate())
	if err != nil {
		return grahak.Keyset{}, err
	}
	out := grahak.Keyset{MasterKeyID: s.master.id}
	if out.Sealing, err = s.wrap(sealing, m, purposeSealing); err != nil {
		return grahak.Keyset{}, err
	}
	out.Indexing, err = s.wrap(indexing, m, purposeIndexing)
	return out, err
}

// Check returns nil if the master key opens the merchant's keys.
func (s *Sealer) Check(ctx context.Context, m grahak.MerchantID) error {
	_, err := s.merchant(ctx, m)
	return err
}

// merchant returns the merchant's opened keys.
func (s *Sealer) merchant(ctx context.Context, m grahak.MerchantID) (*merchantKeys, error) {
	if s.fault != nil {
		return nil, s.unavailable(s.fault)
	}
	s.mu.RLock()
	k := s.keys[m]
	s.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	wrapped, err := s.source.Keyset(ctx, m)
	if err != nil {
		return nil, err
	}
	if wrapped.MasterKeyID != s.master.id {
		return nil, s.unavailable(fmt.Errorf("the keys of merchant %s are wrapped under master key %s, but the configured master key is %s: configure the right one", m, wrapped.MasterKeyID, s.master.id))
	}
	if k, err = s.unwrap(m, wrapped); err != nil {
		return nil, fmt.Errorf("the keys of merchant %s do not open; they were altered: %w", m, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= maxMerchants {
		clear(s.keys)
	}
	s.keys[m] = k
	return k, nil
}

func (s *Sealer) unwrap(m grahak.MerchantID, wrapped grahak.Keyset) (*merchantKeys, error) {
	sealing, err := s.read(wrapped.Sealing, m, purposeSealing)
	if err != nil {
		return nil, err
	}
	indexing, err := s.read(wrapped.Indexing, m, purposeIndexing)
	if err != nil {
		return nil, err
	}
	k := new(merchantKeys)
	if k.aead, err = aead.New(sealing); err != nil {
		return nil, err
	}
	if k.prf, err = prf.NewPRFSet(indexing); err != nil {
		return nil, err
	}
	return k, nil
}

// The purposes of wrapped keysets, bound to them as associated data.
const (
	purposeSealing  = "sealing"
	purposeIndexing = "indexing"
)

func wrapBound(m grahak.MerchantID, purpose string) []byte {
	return []byte("grahak keyset v1\x00" + purpose + "\x00" + string(m))
}

func (s *Sealer) wrap(h *keyset.Handle, m grahak.MerchantID, purpose string) ([]byte, error) {
	var buf bytes.Buffer
	err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), s.master.aead, wrapBound(m, purpose))
	return buf.Bytes(), err
}

func (s *Sealer) read(wrapped []byte, m grahak.MerchantID, purpose string) (*keyset.Handle, error) {
	return keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), s.master.aead, wrapBound(m, purpose))
}

func (s *Sealer) unavailable(cause error) error {
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
