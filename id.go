package grahak

import (
	"encoding/binary"
	"io"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"
)

// MerchantID names a merchant: 1–64 characters of [A-Za-z0-9_-], chosen by the
// operator, case-sensitive.
type MerchantID string

// CustomerID is Grahak's own id of a customer: "cst_" and 16 characters of
// [a-z0-9] (wire.md §4); or one that the merchant has brought along, which is "cst_"
// or "cth_" and 1 to 59 characters of [A-Za-z0-9].
type CustomerID string

// KeyID names an API key in listings, events and logs; it is not a secret.
type KeyID string

// EventID names an event.
type EventID string

// NodeID names a running process that serves a store beside others.
type NodeID string

// An id is one number of 16 base-36 digits: ticks of a quarter millisecond since
// idEpoch, and 40 bits of randomness below them. So ids sort by creation and
// indexes on them append. The digits suffice to the year 2077.
const (
	idEpoch      = 1577836800000 // 2020-01-01T00:00:00Z in Unix milliseconds
	ticksPerMS   = 4
	idRandomBits = 40
	idDigits     = 16
	// lastTick is the last that 16 digits hold with the random bits below it.
	lastTick = 7_238_000_000_000
)

// ticks gives the time parts of ids. It is safe for concurrent use.
type ticks struct {
	mu   sync.Mutex
	last int64
}

// maxAhead is how far time parts may run ahead of the clock, in ticks. Up to
// that, ids made one after another sort in that order even within a tick; where
// more are made, they are made at once, and have no order.
const maxAhead = 8

// tickOf returns the tick of a moment, between the first and the last there is.
func tickOf(t time.Time) int64 {
	us := t.UnixMicro() - idEpoch*1000
	return min(max(0, us), lastTick/ticksPerMS*1000) * ticksPerMS / 1000
}

// at returns the time part for an id made at t.
func (k *ticks) at(t time.Time) int64 {
	now := tickOf(t)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case now > k.last:
		k.last = now
	case k.last-now < maxAhead:
		k.last++
	default:
		return now
	}
	return k.last
}

// customerPrefix begins the ids of customers.
const customerPrefix = "cst_"

// newID returns prefix and an id of the given tick. It fails only if random,
// which must be a cryptographic source, fails.
func newID(prefix string, tick int64, random io.Reader) (string, error) {
	var entropy [8]byte
	if _, err := io.ReadFull(random, entropy[:idRandomBits/8]); err != nil {
		return "", err
	}
	return formatID(prefix, tick, binary.LittleEndian.Uint64(entropy[:])), nil
}

// lowestID returns the lowest id of a customer of a tick.
func lowestID(tick int64) CustomerID { return CustomerID(formatID(customerPrefix, tick, 0)) }

// tells reports whether an id tells when its customer was made, as far as lists
// take it to: its tick is that of t or at most maxAhead above.
func (id CustomerID) tells(t time.Time) bool {
	digits, ok := strings.CutPrefix(string(id), customerPrefix)
	if !ok || len(digits) != idDigits || t.UnixMicro() < idEpoch*1000 {
		return false
	}
	var high, low uint64
	for _, c := range []byte(digits) {
		var digit uint64
		switch {
		case '0' <= c && c <= '9':
			digit = uint64(c - '0')
		case 'a' <= c && c <= 'z':
			digit = uint64(c-'a') + 10
		default:
			return false
		}
		carry, product := bits.Mul64(low, 36)
		var over uint64
		low, over = bits.Add64(product, digit, 0)
		high = high*36 + carry + over
	}
	tick := int64(high<<(64-idRandomBits) | low>>idRandomBits)
	return tickOf(t) <= tick && tick <= tickOf(t)+maxAhead
}

// newIDs returns n ids of the given tick in ascending order; see newID.
func newIDs(prefix string, tick int64, n int, random io.Reader) ([]string, error) {
	const size = idRandomBits / 8
	entropy := make([]byte, n*size+8-size)
	if _, err := io.ReadFull(random, entropy[:n*size]); err != nil {
		return nil, err
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = formatID(prefix, tick, binary.LittleEndian.Uint64(entropy[i*size:])&(1<<idRandomBits-1))
	}
	slices.Sort(ids)
	return ids, nil
}

// formatID returns prefix and the id of a tick with the given random bits.
func formatID(prefix string, tick int64, random uint64) string {
	high, low := uint64(tick)>>(64-idRandomBits), uint64(tick)<<idRandomBits|random
	buf := append(make([]byte, 0, 24), prefix...)
	end := len(buf) + idDigits
	buf = buf[:end]
	for i := end - 1; i >= len(prefix); i-- {
		var digit uint64
		low, digit = bits.Div64(high%36, low, 36)
		high /= 36
		buf[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
	}
	return string(buf)
}
