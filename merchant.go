package grahak

import "time"

// Environment says what a deployment is for. A store records its environment
// when it is made and cannot be opened as the other.
type Environment string

// The environments.
const (
	Sandbox    Environment = "sandbox"
	Production Environment = "production"
)

// Merchant is a tenant: everything else belongs to exactly one.
type Merchant struct {
	ID        MerchantID
	Name      string // for people; may be empty
	IPMode    IPMode
	CreatedAt time.Time
	// DisabledAt is zero while the merchant is active. All keys of a disabled
	// merchant are refused as if they did not exist.
	DisabledAt time.Time
}

// MaxMerchantID is the length limit of a merchant id, in bytes.
const MaxMerchantID = 64

// ParseMerchantID returns s as an id, or a [CodeInvalidMerchant] error if it is
// not 1–64 characters of [A-Za-z0-9_-].
func ParseMerchantID(s string) (MerchantID, error) {
	ok := s != "" && len(s) <= MaxMerchantID
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	if !ok {
		return "", Errorf(CodeInvalidMerchant, "A merchant id has 1 to %d characters of letters, digits, _ and -.", MaxMerchantID)
	}
	return MerchantID(s), nil
}
