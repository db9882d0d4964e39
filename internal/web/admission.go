package web

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"grahak"
)

// LimitInProgress is what [Exchange.Limit] names for a request that an [Admission]
// refused.
const LimitInProgress = "in_progress"

const (
	// retryAdmission is when to try again after a refusal.
	retryAdmission = time.Second
	// admissionLogged is how often at most the log tells of refusals.
	admissionLogged = 10 * time.Second
)

// Admission bounds how many requests are in progress at once, reads and writes apart,
// so that what is accepted does not wait long behind the rest. A merchant may have as
// many as there is room left: alone half of the bound, two that use up what they can
// a third each, and so on. So there is always room for another merchant. It is safe for
// concurrent use.
type Admission struct {
	most    int
	refused func()
	log     *slog.Logger
	clock   grahak.Clock

	mu     sync.Mutex
	totals [2]int
	counts map[admissionKey]int
	// untold is how many refusals the log has not told of since it last did, at told.
	untold int
	told   time.Time
}

// admissionKey is a merchant and one kind of its requests.
type admissionKey struct {
	merchant grahak.MerchantID
	kind     int
}

// The kinds of requests.
const (
	admissionRead = iota
	admissionWrite
)

// NewAdmission returns an admission of at most that many reads and that many writes,
// which must be more than 1. refused is called for each that is refused, by its
// goroutine. Every ten seconds at most the log tells how many there were.
func NewAdmission(most int, refused func(), logger *slog.Logger, clock grahak.Clock) *Admission {
	return &Admission{most: most, refused: refused, log: logger, clock: clock, counts: make(map[admissionKey]int)}
}

// InProgress returns how many reads and writes are in progress.
func (a *Admission) InProgress() (reads, writes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.totals[admissionRead], a.totals[admissionWrite]
}

// enter reports whether there is room for a request, which it then takes.
func (a *Admission) enter(key admissionKey) bool {
	a.mu.Lock()
	if n := a.counts[key]; n < a.most-a.totals[key.kind] {
		a.counts[key] = n + 1
		a.totals[key.kind]++
		a.mu.Unlock()
		return true
	}
	a.untold++
	tell, total := 0, a.totals[key.kind]
	if now := a.clock.Now(); now.Sub(a.told) >= admissionLogged {
		tell, a.untold, a.told = a.untold, 0, now
	}
	a.mu.Unlock()
	a.refused()
	if tell > 0 {
		a.log.Warn("requests were refused, because too many were in progress", "refused", tell,
			"merchant", string(key.merchant), "in_progress", total, "most", a.most)
	}
	return false
}

// leave gives back what enter took.
func (a *Admission) leave(key admissionKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.totals[key.kind]--
	if n := a.counts[key]; n > 1 {
		a.counts[key] = n - 1
	} else {
		delete(a.counts, key)
	}
}

// Admit begins the work of x for x.Merchant, or returns a
// [grahak.CodeUnavailable] error if too many requests are in progress; then nothing
// has been done. x is in progress until it is answered, but not while its body is
// read. It is called once, when the caller is known.
func (x *Exchange) Admit() error {
	if x.admission == nil {
		return nil
	}
	key := admissionKey{merchant: x.Merchant, kind: admissionWrite}
	if m := x.Request.Method; m == http.MethodGet || m == http.MethodHead {
		key.kind = admissionRead
	}
	if !x.admission.enter(key) {
		x.Limit = LimitInProgress
		return grahak.Unavailable("too many requests are in progress", retryAdmission, nil)
	}
	x.admitted = key
	return nil
}

// leave ends what Admit began, and reports whether it had begun.
func (x *Exchange) leave() bool {
	if x.admitted == (admissionKey{}) {
		return false
	}
	x.admission.leave(x.admitted)
	x.admitted = admissionKey{}
	return true
}
