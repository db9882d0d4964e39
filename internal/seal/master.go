package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// masterKeySize is the size of a master key, in bytes.
const masterKeySize = 32

// MasterKey wraps the merchants' keysets. It is immutable and safe for
// concurrent use.
type MasterKey struct {
	id   string
	text string // its base64
	aead tink.AEAD
}

// ID is a fingerprint of the key. It is not a secret.
func (k *MasterKey) ID() string { return k.id }

// errMasterKey says of no text what it holds: some of it may be a key.
var errMasterKey = fmt.Errorf("a master key is the base64 of %d random bytes; make one with `openssl rand -base64 32`", masterKeySize)

// ParseMasterKeys reads master keys, one a line and the newest first, with blank
// lines and white space around them allowed. A key is the base64 of 32 random
// bytes, as `openssl rand -base64 32` makes. There is at least one in what it
// returns. Errors never contain any of the text.
func ParseMasterKeys(text []byte) ([]*MasterKey, error) {
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("there are more than %d bytes, and a master key is a line of %d", maxKeyText, base64.StdEncoding.EncodedLen(masterKeySize))
	}
	var keys []*MasterKey
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := parseMasterKey(string(line))
		if err != nil && bytes.ContainsRune(bytes.TrimSpace(text), '\n') {
			err = fmt.Errorf("line %d is not a master key: %w", number, err)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errMasterKey
	}
	return keys, nil
}

func parseMasterKey(line string) (*MasterKey, error) {
	raw, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(raw) != masterKeySize {
		return nil, errMasterKey
	}
	return newMasterKey(raw)
}

// randomMasterKey makes a key.
func randomMasterKey() (*MasterKey, error) {
	var raw [masterKeySize]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	return newMasterKey(raw[:])
}

func newMasterKey(raw []byte) (*MasterKey, error) {
	primitive, err := subtle.NewAESGCM(raw)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("grahak master key id v1"))
	return &MasterKey{
		id:   hex.EncodeToString(mac.Sum(nil)[:8]),
		text: base64.StdEncoding.EncodeToString(raw),
		aead: primitive,
	}, nil
}

// byID returns the key with the given id, or nil.
func byID(keys []*MasterKey, id string) *MasterKey {
	for _, k := range keys {
		if k.id == id {
			return k
		}
	}
	return nil
}
