package grahak

import (
	"context"
	"fmt"
	"time"
)

// How long events are shown to merchants, and how long they are kept.
const (
	DefaultEventsCatchUp = 90 * 24 * time.Hour
	DefaultEventsKeep    = 396 * 24 * time.Hour // 13 months
	MinEventsKeep        = 30 * 24 * time.Hour
)

// pruneEventsInterval is how often the oldest event of each merchant is looked at.
const pruneEventsInterval = time.Hour

// prunedSegments and prunedEvents bound how much is pruned at once, so that no write
// waits long for it: the segments, and the events in them but for those of the
// first.
const (
	prunedSegments = 32
	prunedEvents   = 1024
)

// PrunedEvents returns how many events this process has pruned.
func (s *Service) PrunedEvents() int64 { return s.pruned.Load() }

// pruneEvents deletes the events of all merchants that have been kept for long enough. It
// costs a merchant whose oldest event is younger one look at that.
func (s *Service) pruneEvents(ctx context.Context) (more bool, err error) {
	merchants, err := s.store.Merchants(ctx)
	if err != nil {
		return false, err
	}
	ids := make([]MerchantID, len(merchants))
	for i, m := range merchants {
		ids[i] = m.ID
	}
	return round(ctx, s.nodes.mine(ids), func(ctx context.Context, m MerchantID) (bool, error) {
		return false, s.pruneMerchant(ctx, m)
	})
}

// pruneMerchant deletes those of one merchant.
func (s *Service) pruneMerchant(ctx context.Context, m MerchantID) error {
	before := s.clock.Now().Add(-s.keep)
	for more := true; more && ctx.Err() == nil; {
		oldest, err := s.store.Events(ctx, m, 0, 1)
		if err != nil || len(oldest) == 0 || !oldest[0].At.Before(before) {
			return err
		}
		if more, err = s.pruneStep(ctx, m, before); err != nil {
			return err
		}
	}
	return nil
}

// pruneStep deletes the first segments of the chain whose events are all older than
// before, with these, and reports whether it did. It checks them first, in the way
// of [Service.VerifyAudit]: otherwise who can write the database could have it prove
// a chain that it did not make, or prune what is not old.
func (s *Service) pruneStep(ctx context.Context, m MerchantID, before time.Time) (bool, error) {
	if err := s.needKeys(ctx, m); err != nil {
		return false, err
	}
	a := audit{Service: s, report: AuditReport{Merchant: m}}
	if err := a.begin(ctx); err != nil {
		return false, fmt.Errorf("the oldest events stay: %w", err)
	}
	begun := a.head
	end, err := a.old(ctx, before)
	if err != nil {
		// Another node may just have pruned it.
		if now, readErr := s.store.ChainCheckpoint(ctx, m); readErr == nil && now.ChainHead != begun {
			return false, nil
		}
		return false, fmt.Errorf("the oldest events stay: %w", err)
	}
	if end.Position == 0 {
		return false, nil
	}
	c := Checkpoint{ChainHead: end}
	if c.Proof, err = s.checkpointProof(ctx, m, end); err != nil {
		return false, err
	}
	n, err := s.store.PruneEvents(ctx, m, c)
	s.pruned.Add(n)
	return n > 0, err
}

// old checks segments up to the first with an event that is not older than before,
// and returns the head at the end of those; the zero ChainHead if there are none.
func (a *audit) old(ctx context.Context, before time.Time) (end ChainHead, err error) {
	segments, err := a.store.Chain(ctx, a.report.Merchant, 0, prunedSegments)
	if err != nil {
		return end, err
	}
	for _, segment := range segments {
		if end.Position > 0 && segment.Head().Position-a.report.Pruned > prunedEvents {
			break
		}
		if err := a.segment(ctx, segment); err != nil {
			return end, err
		}
		if !a.latest.Before(before) {
			break
		}
		end = a.head
	}
	return end, nil
}
