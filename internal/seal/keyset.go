package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"grahak"
)

// errUnnamed is why no merchant can be made where the store names no master key.
var errUnnamed = errors.New("no server has started on this data with a master key yet: run `grahak serve` with it first")

// NewKeyset implements [grahak.Sealer].
func (s *Sealer) NewKeyset(ctx context.Context, m grahak.MerchantID) (grahak.Keyset, error) {
	id, err := s.source.MasterKeyID(ctx, "")
	if err != nil {
		return grahak.Keyset{}, err
	}
	if id == "" {
		return grahak.Keyset{}, unavailable(errUnnamed)
	}
	master, err := s.master(ctx, id)
	if err != nil {
		return grahak.Keyset{}, err
	}
	sealing, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return grahak.Keyset{}, err
	}
	indexing, err := keyset.NewHandle(prf.AESCMACPRFKeyTemplate())
	if err != nil {
		return grahak.Keyset{}, err
	}
	return wrapped(grahak.Keyset{Merchant: m, Version: 1}, master, sealing, indexing)
}

// Rotate implements [grahak.Sealer].
func (s *Sealer) Rotate(ctx context.Context, k grahak.Keyset) (grahak.Keyset, error) {
	k.Version++
	return s.rekey(ctx, k, func(keys *keyset.Manager, _ *keyset.Handle) error {
		id, err := keys.Add(aead.XAES256GCM192BitNonceKeyTemplate())
		if err != nil {
			return err
		}
		return keys.SetPrimary(id)
	})
}

// Retire implements [grahak.Sealer].
func (s *Sealer) Retire(ctx context.Context, k grahak.Keyset) (grahak.Keyset, error) {
	return s.rekey(ctx, k, func(keys *keyset.Manager, before *keyset.Handle) error {
		for i := range before.Len() {
			entry, err := before.Entry(i)
			if err != nil {
				return err
			}
			if entry.IsPrimary() {
				continue
			}
			if err := keys.Delete(entry.KeyID()); err != nil {
				return err
			}
		}
		return nil
	})
}

// rekey returns k with its sealing keys changed.
func (s *Sealer) rekey(ctx context.Context, k grahak.Keyset, change func(*keyset.Manager, *keyset.Handle) error) (grahak.Keyset, error) {
	master, err := s.master(ctx, k.MasterKeyID)
	if err != nil {
		return grahak.Keyset{}, err
	}
	sealing, indexing, err := unwrap(k, master)
	if err != nil {
		return grahak.Keyset{}, err
	}
	keys := keyset.NewManagerFromHandle(sealing)
	if err := change(keys, sealing); err != nil {
		return grahak.Keyset{}, err
	}
	if sealing, err = keys.Handle(); err != nil {
		return grahak.Keyset{}, err
	}
	return wrapped(k, master, sealing, indexing)
}

// NewMasterKeyID implements [grahak.Sealer].
func (s *Sealer) NewMasterKeyID(ctx context.Context) (string, error) {
	newest, err := s.masters.Newest(ctx)
	if err != nil {
		return "", unavailable(err)
	}
	return newest.id, nil
}

// Rewrap implements [grahak.Sealer].
func (s *Sealer) Rewrap(ctx context.Context, k grahak.Keyset, masterKeyID string) (grahak.Keyset, error) {
	from, err := s.master(ctx, k.MasterKeyID)
	if err != nil {
		return grahak.Keyset{}, err
	}
	to, err := s.master(ctx, masterKeyID)
	if err != nil {
		return grahak.Keyset{}, err
	}
	sealing, indexing, err := unwrap(k, from)
	if err != nil {
		return grahak.Keyset{}, err
	}
	return wrapped(k, to, sealing, indexing)
}

// master returns the master key with the given id.
func (s *Sealer) master(ctx context.Context, id string) (*MasterKey, error) {
	key, err := s.masters.Key(ctx, id)
	if err != nil {
		return nil, unavailable(err)
	}
	return key, nil
}

// The purposes of wrapped keysets, bound to them as associated data.
const (
	purposeSealing  = "sealing"
	purposeIndexing = "indexing"
)

func wrapBound(m grahak.MerchantID, purpose string) []byte {
	return []byte("grahak keyset v1\x00" + purpose + "\x00" + string(m))
}

// wrapped returns k with the keys in it, wrapped under master.
func wrapped(k grahak.Keyset, master *MasterKey, sealing, indexing *keyset.Handle) (grahak.Keyset, error) {
	k.MasterKeyID = master.id
	wrap := func(h *keyset.Handle, purpose string) ([]byte, error) {
		var buf bytes.Buffer
		err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), master.aead, wrapBound(k.Merchant, purpose))
		return buf.Bytes(), err
	}
	var err error
	if k.Sealing, err = wrap(sealing, purposeSealing); err != nil {
		return grahak.Keyset{}, err
	}
	if k.Indexing, err = wrap(indexing, purposeIndexing); err != nil {
		return grahak.Keyset{}, err
	}
	return k, nil
}

// unwrap returns the keys that are wrapped in k. An error that they do not open
// is not an *[grahak.Error].
func unwrap(k grahak.Keyset, master *MasterKey) (sealing, indexing *keyset.Handle, err error) {
	read := func(wrapped []byte, purpose string) (*keyset.Handle, error) {
		return keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), master.aead, wrapBound(k.Merchant, purpose))
	}
	if sealing, err = read(k.Sealing, purposeSealing); err == nil {
		indexing, err = read(k.Indexing, purposeIndexing)
	}
	if err != nil {
		return nil, nil, altered(k.Merchant, err)
	}
	return sealing, indexing, nil
}

// altered is the error for keys of a merchant that do not open.
func altered(m grahak.MerchantID, err error) error {
	return fmt.Errorf("the keys of merchant %s do not open; they were altered: %w", m, err)
}
