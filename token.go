package grahak

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"
)

// TokenHash is the SHA-256 of a client auth token.
type TokenHash [sha256.Size]byte

// HashToken returns the hash that token is stored and found by.
func HashToken(token string) TokenHash { return sha256.Sum256([]byte(token)) }

// TokenLifetime is how long a client auth token is valid (wire.md §4).
const TokenLifetime = 900 * time.Second

// Token is a client auth token as it is handed out, once.
type Token struct {
	Value     string // "tkn_" and 32 lower-case hex digits
	ExpiresAt time.Time
}

// TokenRecord is what is kept of a token.
type TokenRecord struct {
	Merchant  MerchantID
	Customer  CustomerID
	Hash      TokenHash
	ExpiresAt time.Time
}

// newToken returns a fresh token with 128 bits from random that expires
// [TokenLifetime] after now.
func newToken(now time.Time, random io.Reader) (Token, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return Token{}, err
	}
	return Token{Value: "tkn_" + hex.EncodeToString(b[:]), ExpiresAt: now.Add(TokenLifetime)}, nil
}
