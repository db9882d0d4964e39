package grahak

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"
)

// OperatorName names a person who uses the dashboard: 1 to 64 characters of a-z,
// 0-9, ".", "_" and "-", the first a letter. It is what the person logs in with and
// what events name as the actor; those hold no personal data, so it is no e-mail
// address. A name is never given to somebody else.
type OperatorName string

// Actor returns what events name the operator as.
func (n OperatorName) Actor() string { return "operator:" + string(n) }

// Role says what an operator may do with a merchant.
type Role string

// The roles, each of which may do what those below it may.
const (
	RoleOwner  Role = "owner"  // who is in the team
	RoleAdmin  Role = "admin"  // customers in clear, keys, the IP list, webhooks
	RoleViewer Role = "viewer" // sees everything, personal data masked, and changes nothing
)

// scope is what a role lets its holder do; empty for what is none.
func (r Role) scope() Scope {
	switch r {
	case RoleOwner:
		return scopeOwner
	case RoleAdmin:
		return scopeAdmin
	case RoleViewer:
		return scopeViewer
	}
	return ""
}

// OperatorsMerchant stands for all merchants where a role is given, and for none
// where operators themselves are kept: what happens to them is in its chain of
// events, and their secrets are under its keys. No merchant can have this id
// (see [ParseMerchantID]), and [Service.Merchants] does not return it.
const OperatorsMerchant MerchantID = "@operators"

// Account is what is kept of a person who uses the dashboard.
type Account struct {
	Name      OperatorName
	CreatedAt time.Time
	// SetUpAt is when the person chose a password, zero until then.
	SetUpAt time.Time
	// DisabledAt is zero for an operator who may log in.
	DisabledAt time.Time
	// LockedUntil is until when no login is tried, because too many failed; it may be
	// past.
	LockedUntil time.Time
	// LastLoginAt is zero for an operator who never did.
	LastLoginAt time.Time
	// RecoveryCodes is how many of them are left.
	RecoveryCodes int
}

// Grant is a role that an operator has at a merchant, or at all of them if that is
// [OperatorsMerchant].
type Grant struct {
	Merchant  MerchantID
	Operator  OperatorName
	Role      Role
	GrantedBy string // the actor
	GrantedAt time.Time
}

// SessionID names a session without giving it away.
type SessionID string

// Session is an operator's browser that is logged in.
type Session struct {
	ID        SessionID
	Operator  OperatorName
	CreatedAt time.Time
	// UsedAt lags by a minute at most.
	UsedAt time.Time
	// ExpiresAt is when it ends however much it is used.
	ExpiresAt time.Time
	Addr      netip.Addr // it began from
	// Browser is what the browser and the system call themselves, in a few words.
	Browser string
}

// Visitor is an operator with a session: who a page is for.
type Visitor struct {
	Account Account
	Session Session
	// Grants are all that the operator has; that of all merchants comes first.
	Grants []Grant
}

// Role returns the higher of the visitor's roles at m and at all merchants, empty for
// none.
func (v Visitor) Role(m MerchantID) (highest Role) {
	for _, g := range v.Grants {
		if (g.Merchant == m || g.Merchant == OperatorsMerchant) && (highest == "" || g.Role.scope().covers(highest.scope())) {
			highest = g.Role
		}
	}
	return highest
}

// Client is what is known of a browser that logs in.
type Client struct {
	// Addr is the zero value if it cannot be told.
	Addr netip.Addr
	// UserAgent is the header; at most its first 512 bytes are looked at, and it is
	// not kept.
	UserAgent string
}

// LoginAttempt is what a person enters to log in.
type LoginAttempt struct {
	Name     string
	Password string
	// Code is six digits of the authenticator, or a recovery code.
	Code string
	Client
}

// OperatorSetup is what a person needs to set up an authenticator.
type OperatorSetup struct {
	Operator OperatorName
	// Secret is the authenticator's, in base 32; URL is the same as an otpauth:// URL
	// for a QR code.
	Secret, URL string
}

// TeamMember is a person with a role at a merchant.
type TeamMember struct {
	Account Account
	Grant   Grant
}

// Bounds of operators' secrets.
const (
	// MinPassword is how many characters a password has at least.
	MinPassword = 12
	// SetupTime is for how long a setup code can be used, LoginLinkTime a login link.
	SetupTime     = 72 * time.Hour
	LoginLinkTime = 15 * time.Minute
)

// maxOperatorName is the limit of an operator's name, in bytes.
const maxOperatorName = 64

// ParseOperatorName returns s as a name, or a [CodeInvalidOperator] error.
func ParseOperatorName(s string) (OperatorName, error) {
	ok := s != "" && len(s) <= maxOperatorName && s[0] >= 'a' && s[0] <= 'z'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return "", Errorf(CodeInvalidOperator, "An operator's name has 1 to %d characters of a-z, 0-9, ., _ and -, the first of them a letter.", maxOperatorName)
	}
	return OperatorName(s), nil
}

// SecretHash is the SHA-256 of a session's token or of a code, which have at least 80
// bits of entropy.
type SecretHash [sha256.Size]byte

// hashSecret returns the hash that a secret is stored and found by.
func hashSecret(secret string) SecretHash { return sha256.Sum256([]byte(secret)) }

// ID returns the hash of a session as its id.
func (h SecretHash) ID() SessionID { return SessionID(hex.EncodeToString(h[:])) }

// hash is the inverse of [SecretHash.ID].
func (id SessionID) hash() (h SecretHash, ok bool) {
	b, err := hex.DecodeString(string(id))
	return h, err == nil && copy(h[:], b) == len(h) && len(b) == len(h)
}

// CodeKind says what a code that works once is for.
type CodeKind string

// The kinds of codes.
const (
	CodeKindSetup    CodeKind = "setup"
	CodeKindLink     CodeKind = "link"
	CodeKindRecovery CodeKind = "recovery"
	// CodeKindForm is of a form that was sent and cannot be sent again.
	CodeKindForm CodeKind = "form"
)

// OperatorCode is what is kept of a code. One with a zero ExpiresAt does not expire.
type OperatorCode struct {
	Hash      SecretHash
	ExpiresAt time.Time
}

// OperatorRecord is an operator as the store keeps it.
type OperatorRecord struct {
	Account
	// Password is an argon2id hash, empty until the person has set a password.
	Password string
	// TOTPVersion tells the authenticator's secret from those before, and TOTPStep is
	// the last time step of which a code was used.
	TOTPVersion, TOTPStep int64
	// Failures is how many logins in a row have failed.
	Failures int64
}

// SessionRecord is a session as the store keeps it.
type SessionRecord struct {
	Hash SecretHash
	Session
}

// LoginProof is what somebody has shown to be an operator. It holds if the operator is
// not disabled, the password is still the one that was compared, and the rest was not
// used before.
type LoginProof struct {
	Operator OperatorName
	At       time.Time
	// Password is the hash that was compared; it is not looked at for a login link.
	Password string
	// Code is a code of Kind. With an empty Kind it is the authenticator's code of
	// Step, of the secret of Version.
	Kind          CodeKind
	Code          SecretHash
	Version, Step int64
}
