package grahak

import (
	"encoding/binary"
	"io"
	"math/bits"
	"sync"
	"time"
)

// MerchantID names a merchant: 1–64 characters of [A-Za-z0-9_-], chosen by the
// operator, case-sensitive.
type MerchantID string

// CustomerID is Grahak's own id of a customer: "cst_" and 16 characters of
// [a-z0-9] (wire.md §4).
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

// lowestID returns the lowest id of a tick.
func lowestID(prefix string, tick int64) string { return formatID(prefix, tick, 0) }

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
