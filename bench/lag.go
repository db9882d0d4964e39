package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"
)

// lag is how far Grahak's ordering pass was behind while customers were made.
type lag struct {
	// Max is the greatest age of an event that was not in order yet, of those that
	// were seen.
	Max float64 `json:"max_ms"`
	// CaughtUp is how long after the last answer all events were in order.
	CaughtUp float64 `json:"caught_up_ms"`
}

// worst returns the greater figure; l may be nil, for none.
func (l *lag) worst() float64 {
	if l == nil {
		return 0
	}
	return max(l.Max, l.CaughtUp)
}

// or returns the worse figures of l and other. Each may be nil, for none.
func (l *lag) or(other *lag) *lag {
	if l == nil || other == nil {
		return cmp.Or(l, other)
	}
	return &lag{Max: max(l.Max, other.Max), CaughtUp: max(l.CaughtUp, other.CaughtUp)}
}

func (l *lag) String() string {
	return fmt.Sprintf("the ordering pass was behind by at most %.0f ms, and had caught up at most %.0f ms after the last answer", l.Max, l.CaughtUp)
}

const (
	// lagPoll is how often the lag is looked at during a run. Each look costs the
	// server about a millisecond.
	lagPoll = 200 * time.Millisecond
	// catchUpPoll is how often it is looked at after one.
	catchUpPoll    = 20 * time.Millisecond
	catchUpTimeout = time.Minute
)

// orderLag returns the age of g's oldest event that is not in order, in
// milliseconds, 0 if there is none.
func (g *grahak) orderLag(ctx context.Context) (float64, error) {
	m, err := g.metrics(ctx)
	if err != nil {
		return 0, err
	}
	seconds, ok := m["grahak_store_order_lag_seconds"]
	if !ok || math.IsNaN(seconds) {
		return 0, fmt.Errorf("%s does not tell how far its ordering pass is behind", g.name)
	}
	return seconds * 1e3, nil
}

// watchLag watches the lag until the function that it returns is called, which
// then waits until all events are in order.
func (g *grahak) watchLag(ctx context.Context) (end func() (*lag, error)) {
	watch, stop := context.WithCancel(ctx)
	var seen lag
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(lagPoll)
		defer tick.Stop()
		for failed == nil {
			select {
			case <-watch.Done():
				return
			case <-tick.C:
			}
			ms, err := g.orderLag(watch)
			if watch.Err() == nil {
				seen.Max, failed = max(seen.Max, ms), err
			}
		}
	}()
	return func() (*lag, error) {
		start := time.Now()
		stop()
		<-done
		if failed != nil {
			return nil, failed
		}
		if err := g.catchUp(ctx); err != nil {
			return nil, err
		}
		seen.CaughtUp = float64(time.Since(start).Microseconds()) / 1e3
		return &seen, nil
	}
}

// catchUp waits until all events are in order.
func (g *grahak) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	for {
		ms, err := g.orderLag(ctx)
		if err != nil || ms == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has events that are not in order after %s: %w", g.name, catchUpTimeout, ctx.Err())
		case <-time.After(catchUpPoll):
		}
	}
}
