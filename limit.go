package grahak

import (
	"net/netip"
	"time"

	"grahak/internal/ratelimit"
)

// Limits are how much one node answers; other nodes on its store count for
// themselves. 0 is no limit. Each may be used up at once, and comes back evenly
// over its time.
type Limits struct {
	// Key is requests a second with one API key, and Merchant of one merchant.
	Key, Merchant int
	// Failed is failed authentications a minute from one address, of which the
	// first 64 bits count if it is of IPv6; apart from these, as many logins of operators
	// that fail; and apart from both, as many keys that
	// the store turns out not to have. So who repeats a wrong key does not keep
	// keys that are new to this node from being looked up.
	Failed int
}

// MaxLimit is the largest limit that can be set.
const MaxLimit = 1_000_000

// LimitKind names a limit. Kinds are stable: headers, logs and metrics show them.
type LimitKind string

// The limits.
const (
	// LimitKey is [Limits.Key], LimitMerchant [Limits.Merchant], and LimitFailed
	// [Limits.Failed].
	LimitKey      LimitKind = "key"
	LimitMerchant LimitKind = "merchant"
	LimitFailed   LimitKind = "failed"
	// LimitLookup is that keys which this node has not seen are looked up one at a
	// time: who waits too long for it is refused with [CodeUnavailable].
	LimitLookup LimitKind = "lookup"
)

// Quota is what is left of a limit.
type Quota struct {
	// Kind is empty if there is no limit.
	Kind LimitKind
	// Limit is how many requests there may be in a Window.
	Limit  int
	Window time.Duration
	// Left is how many of them there may be now, and Full is how long it takes
	// until there may be all of them.
	Left int
	Full time.Duration
}

// Callers and addresses that a node remembers for their limits. A new one takes
// the place of the one that would have its whole limit back first.
const (
	maxLimitedKeys      = 1 << 16
	maxLimitedMerchants = 1 << 16
	maxLimitedAddresses = 1 << 16
)

const (
	requestWindow = time.Second
	failedWindow  = time.Minute
)

// limits are the limits of a node. They are safe for concurrent use.
type limits struct {
	cfg      Limits
	refused  func(LimitKind)
	key      *ratelimit.Limiter[KeyID]
	merchant *ratelimit.Limiter[MerchantID]
	failed   *ratelimit.Limiter[[16]byte] // by address: failed authentications
	guessed  *ratelimit.Limiter[[16]byte] // and keys that the store did not have
	login    *ratelimit.Limiter[[16]byte] // and operators' logins and codes that failed
}

func newLimits(cfg Limits, refused func(LimitKind), now time.Time) (*limits, error) {
	for _, n := range []int{cfg.Key, cfg.Merchant, cfg.Failed} {
		if n < 0 || n > MaxLimit {
			return nil, Errorf(CodeInvalidField, "The rate limit %d is not valid: it is from 0 to %d.", n, MaxLimit)
		}
	}
	if refused == nil {
		refused = func(LimitKind) {}
	}
	return &limits{
		cfg:      cfg,
		refused:  refused,
		key:      ratelimit.New[KeyID](cfg.Key, requestWindow, maxLimitedKeys, now),
		merchant: ratelimit.New[MerchantID](cfg.Merchant, requestWindow, maxLimitedMerchants, now),
		failed:   ratelimit.New[[16]byte](cfg.Failed, failedWindow, maxLimitedAddresses, now),
		guessed:  ratelimit.New[[16]byte](cfg.Failed, failedWindow, maxLimitedAddresses, now),
		login:    ratelimit.New[[16]byte](cfg.Failed, failedWindow, maxLimitedAddresses, now),
	}, nil
}

// request counts a request with key of merchant, unless a limit refuses it: then
// it counts for neither and the error has [CodeTooManyRequests]. It returns what
// is left of the limit that refuses it, or else of the one with the least left.
func (l *limits) request(key KeyID, merchant MerchantID, now time.Time) (Quota, error) {
	var quota Quota
	if l.key != nil {
		d := l.key.Take(key, now)
		quota = Quota{Kind: LimitKey, Limit: l.cfg.Key, Window: requestWindow, Left: d.Left, Full: d.Full}
		if !d.Allowed {
			return quota, l.refuse(LimitKey, d.RetryIn)
		}
	}
	if l.merchant != nil {
		d := l.merchant.Take(merchant, now)
		if !d.Allowed {
			l.key.Return(key)
		}
		if !d.Allowed || l.key == nil || d.Left < quota.Left {
			quota = Quota{Kind: LimitMerchant, Limit: l.cfg.Merchant, Window: requestWindow, Left: d.Left, Full: d.Full}
		}
		if !d.Allowed {
			return quota, l.refuse(LimitMerchant, d.RetryIn)
		}
	}
	return quota, nil
}

// failure counts a failed authentication from addr. Of an address that has used
// up its failures the error has [CodeTooManyRequests].
func (l *limits) failure(addr netip.Addr, now time.Time) error {
	if d := l.failed.Take(failedKey(addr), now); !d.Allowed {
		return l.refuse(LimitFailed, d.RetryIn)
	}
	return nil
}

// mayGuess has [CodeTooManyRequests] if the store did not have too many of the keys that
// came from addr, so that it is not to be asked about another one. It counts nothing.
func (l *limits) mayGuess(addr netip.Addr, now time.Time) error {
	if d := l.guessed.Peek(failedKey(addr), now); !d.Allowed {
		return l.refuse(LimitFailed, d.RetryIn)
	}
	return nil
}

// guess counts a key from addr that the store does not have.
func (l *limits) guess(addr netip.Addr, now time.Time) { l.guessed.Take(failedKey(addr), now) }

// mayLogin has [CodeTooManyRequests] if too many logins from addr have failed. It counts
// nothing.
func (l *limits) mayLogin(addr netip.Addr, now time.Time) error {
	if d := l.login.Peek(failedKey(addr), now); !d.Allowed {
		return l.refuse(LimitFailed, d.RetryIn)
	}
	return nil
}

// loginFailed counts a login from addr that failed.
func (l *limits) loginFailed(addr netip.Addr, now time.Time) { l.login.Take(failedKey(addr), now) }

func (l *limits) refuse(kind LimitKind, retryIn time.Duration) error {
	l.refused(kind)
	return &Error{Code: CodeTooManyRequests, Message: "There are too many requests; try again later.", RetryIn: retryIn}
}

// failedKey is what stands for addr: who has an IPv6 address has all that begin
// like it. Addresses that cannot be told stand together.
func failedKey(addr netip.Addr) (key [16]byte) {
	if !addr.IsValid() {
		return key
	}
	key = addr.As16()
	if !addr.Is4() && !addr.Is4In6() {
		clear(key[8:])
	}
	return key
}
