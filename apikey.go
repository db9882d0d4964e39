package grahak

import (
	"crypto/sha256"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"time"
)

// Scope says what an API key may do.
type Scope string

// The scopes. A key with write scope may also read.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"

	// scopeOperator is not a key's: it is what the command line and the service itself
	// have, over merchants and operators as well.
	scopeOperator Scope = "operator"

	// Nor are these: they are what a visitor of the dashboard has, by the role.
	scopeViewer = Scope(RoleViewer)
	scopeAdmin  = Scope(RoleAdmin)
	scopeOwner  = Scope(RoleOwner)
)

// covers reports whether who has scope s may do all that another one allows.
func (s Scope) covers(other Scope) bool {
	switch s {
	case scopeOperator:
		return true
	case scopeOwner:
		return other != scopeOperator
	case scopeAdmin:
		return other == scopeViewer || other == ScopeRead || other == ScopeWrite
	case ScopeWrite:
		return other == ScopeRead
	}
	return false
}

// KeyHash is the SHA-256 of an API key. Our keys have 178 bits of entropy, so a
// plain hash is enough to store them by; an imported key is as hard to guess as
// whoever made it has made it.
type KeyHash [sha256.Size]byte

// HashKey returns the hash that key is stored and found by.
func HashKey(key string) KeyHash { return sha256.Sum256([]byte(key)) }

// APIKey is what is kept of a key; the key itself is shown once and not kept.
type APIKey struct {
	ID       KeyID
	Merchant MerchantID
	Hash     KeyHash
	// Prefix is the start of the key, enough to tell keys apart in a listing.
	Prefix    string
	Label     string
	Scope     Scope
	CreatedAt time.Time
	// ExpiresAt, RevokedAt and LastUsedAt are zero when they do not apply.
	// LastUsedAt lags by some ten seconds.
	ExpiresAt  time.Time
	RevokedAt  time.Time
	LastUsedAt time.Time
	// LastUsedAddr is where it was used from then, the zero value if that is not known.
	LastUsedAddr netip.Addr
}

// ActiveAt reports whether the key opens anything at t.
func (k APIKey) ActiveAt(t time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || t.Before(k.ExpiresAt))
}

// Limits of keys brought by a merchant, in bytes.
const (
	MinImportedKey = 16
	MaxImportedKey = 256
)

const (
	keyRandom   = 30 // characters of base 62: 178 bits
	keyChecksum = 6  // characters of base 62: a CRC-32
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newKey returns a fresh key: "gk_", the environment, "_", 30 characters of
// base 62 from random, and 6 of a CRC-32 of all before it, so that a scanner
// of leaked secrets can tell a key from a look-alike.
func newKey(env Environment, random io.Reader) (string, error) {
	buf := append(make([]byte, 0, 64), keyStart(env)...)
	var b [keyRandom]byte
	for n := 0; n < keyRandom; {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", err
		}
		for _, c := range b {
			// 248 is the largest multiple of 62 that fits a byte; above it the
			// remainder would favour some characters.
			if c < 248 && n < keyRandom {
				buf = append(buf, base62[c%62])
				n++
			}
		}
	}
	return string(appendChecksum(buf)), nil
}

func keyStart(env Environment) string { return "gk_" + string(env) + "_" }

func appendChecksum(buf []byte) []byte {
	sum := crc32.ChecksumIEEE(buf)
	var digits [keyChecksum]byte
	for i := keyChecksum - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return append(buf, digits[:]...)
}

// mistypedKey reports whether key has the exact form of a key of ours but a
// wrong checksum. Such a key is refused without asking the store.
func mistypedKey(key string) bool {
	for _, env := range [...]Environment{Sandbox, Production} {
		start := keyStart(env)
		if strings.HasPrefix(key, start) && len(key) == len(start)+keyRandom+keyChecksum {
			var space [64]byte
			body := append(space[:0], key[:len(key)-keyChecksum]...)
			return string(appendChecksum(body)) != key
		}
	}
	return false
}

// keyPrefix returns the part of key that may be shown again: the fixed start
// of our own keys and four characters, or the first four of an imported one.
func keyPrefix(env Environment, key string) string {
	shown := 4
	if start := keyStart(env); strings.HasPrefix(key, start) {
		shown += len(start)
	}
	return key[:min(shown, len(key))]
}

// checkImportedKey returns a [CodeInvalidKey] error if key cannot be imported:
// 16–256 printable ASCII characters without a colon or a space, and not one of
// our own with a typing mistake.
func checkImportedKey(key string) error {
	ok := len(key) >= MinImportedKey && len(key) <= MaxImportedKey
	for i := 0; ok && i < len(key); i++ {
		ok = key[i] > ' ' && key[i] < 0x7f && key[i] != ':'
	}
	switch {
	case !ok:
		return Errorf(CodeInvalidKey, "A key to import has %d to %d printable ASCII characters, no space and no colon.", MinImportedKey, MaxImportedKey)
	case mistypedKey(key):
		return Errorf(CodeInvalidKey, "The key has the form of a Grahak key but its checksum is wrong: check for a typing mistake.")
	}
	return nil
}
