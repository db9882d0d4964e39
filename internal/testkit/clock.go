package testkit

import (
	"sync"
	"time"
)

// Clock is a clock that stands still until a test moves it. It is a
// grahak.Clock, safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at a moment with nanoseconds, so that a
// test sees what is cut off where.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, time.March, 17, 14, 13, 37, 123456789, time.UTC)}
}

// Now returns the time at which the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d, back if d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
