package grahak

import (
	"encoding/binary"
	"io"
	"time"
)

const (
	// webhookPatience is for how long an event is tried again, and for how long an
	// endpoint may fail without any success before it is disabled.
	webhookPatience = 72 * time.Hour
	// webhookDown is after how many new events that failed one after the other an
	// endpoint is taken for down: from then on it gets one at a time.
	webhookDown = 5
)

// eventPause is how long to wait after an event has failed for the n-th time.
func eventPause(n int64) time.Duration {
	pause := 5 * time.Second
	for ; n > 1 && pause < 6*time.Hour; n-- {
		pause *= 3
	}
	return min(pause, 6*time.Hour)
}

// endpointPause is how long to wait after so many new events have failed one after
// the other.
func endpointPause(failures int64) time.Duration {
	pause := time.Second
	for ; failures > webhookDown && pause < time.Minute; failures-- {
		pause *= 2
	}
	return min(pause, time.Minute)
}

// jitter returns d or up to a quarter more, so that what failed together is not
// tried again together.
func jitter(d time.Duration, random io.Reader) time.Duration {
	var b [2]byte
	_, _ = io.ReadFull(random, b[:])
	return d + d/4*time.Duration(binary.BigEndian.Uint16(b[:]))/0xffff
}

// next returns when to try an event again whose n-th attempt has failed just now,
// and zero if it is to be given up. retryAfter is what the receiver asked for.
func (r WebhookRetry) next(now time.Time, retryAfter time.Duration, random io.Reader) time.Time {
	end := r.FirstAt.Add(webhookPatience)
	if !now.Before(end) {
		return time.Time{}
	}
	next := now.Add(max(jitter(eventPause(r.Attempts), random), retryAfter))
	if next.After(end) && retryAfter < end.Sub(now) {
		// The last attempt is when the time is over, and not before.
		next = end
	}
	return next.Truncate(time.Microsecond)
}
