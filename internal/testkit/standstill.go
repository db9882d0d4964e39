package testkit

import (
	"sync"
	"time"
)

// meter notes for how long this process did not run although it was to.
var meter struct {
	sync.Mutex
	started bool
	last    time.Time // when it ran last
	lost    time.Duration
}

const (
	// meterEvery is how often the meter wants to run.
	meterEvery = 20 * time.Millisecond
	// meterSlack is how late it may be before it takes itself for held up.
	meterSlack = 100 * time.Millisecond
)

// Standstill begins to measure for how long the machine has stood still, or was so
// busy that it came to the same, and returns a function that tells it. Who promises
// something within a time cannot keep that while nothing runs, so a test of it adds
// this to its bound.
func Standstill() (lost func() time.Duration) {
	meter.Lock()
	if !meter.started {
		meter.started, meter.last = true, time.Now()
		go func() {
			for range time.Tick(meterEvery) {
				meter.Lock()
				note()
				meter.Unlock()
			}
		}()
	}
	meter.Unlock()
	total := func() time.Duration {
		meter.Lock()
		defer meter.Unlock()
		note()
		return meter.lost
	}
	began := total()
	return func() time.Duration { return total() - began }
}

// note adds the time since the meter ran last, if that is long. The caller holds
// the lock.
func note() {
	now := time.Now()
	if late := now.Sub(meter.last) - meterEvery; late > meterSlack {
		meter.lost += late
	}
	meter.last = now
}
