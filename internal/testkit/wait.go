package testkit

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

// Await returns when done returns true, and fails the test when it has not within bound.
// It asks 50 times a second.
func Await(tb testing.TB, what string, bound time.Duration, done func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), bound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			tb.Fatalf("%s: not within %v", what, bound)
		case <-tick.C:
		}
	}
}

// Buffer is a log that can be read while it is written. It is safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
