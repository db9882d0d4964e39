package grahak

import (
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
