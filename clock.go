package grahak

import "time"

// Clock tells the time. Everything that needs the time takes a Clock, so that
// tests can hold it still. Implementations are safe for concurrent use.
type Clock interface {
	// Now returns the current time. Only differences and UTC renderings of it
	// are used, so its location does not matter.
	Now() time.Time
}

// SystemClock is the machine's clock, in UTC.
type SystemClock struct{}

// Now implements [Clock].
func (SystemClock) Now() time.Time { return time.Now().UTC() }
