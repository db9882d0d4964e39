package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"grahak/internal/disk"
)

// masterKeySize is the size of a master key, in bytes.
const masterKeySize = 32

// ErrNoMasterKey is returned by [ReadMasterKey] when the file does not exist.
var ErrNoMasterKey = errors.New("the master key file does not exist")

// MasterKey wraps the merchants' keysets. It is immutable and safe for
// concurrent use.
type MasterKey struct {
	id   string
	aead tink.AEAD
}

// ParseMasterKey reads a master key: the base64 of 32 random bytes, as
// `openssl rand -base64 32` makes, with white space around it allowed. Errors
// never contain any of the text.
func ParseMasterKey(text []byte) (*MasterKey, error) {
	text = bytes.TrimSpace(text)
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(raw, text)
	if err != nil || n != masterKeySize {
		return nil, fmt.Errorf("a master key is the base64 of %d random bytes; make one with `openssl rand -base64 32`", masterKeySize)
	}
	return newMasterKey(raw[:n])
}

// ReadMasterKey reads a master key from a file in the form of
// [ParseMasterKey]. A file that does not exist is [ErrNoMasterKey].
func ReadMasterKey(path string) (*MasterKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoMasterKey
	}
	if err != nil {
		return nil, err
	}
	return ParseMasterKey(text)
}

// MakeMasterKey makes a master key and writes it to a new file of mode 0600,
// which is on disk when it returns.
func MakeMasterKey(path string) (*MasterKey, error) {
	var raw [masterKeySize]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(raw[:]) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
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
	return &MasterKey{id: hex.EncodeToString(mac.Sum(nil)[:8]), aead: primitive}, nil
}

// ID is a fingerprint of the key. It is not a secret.
func (k *MasterKey) ID() string { return k.id }
