package grahak

import (
	"cmp"
	"context"
	"io"
	"time"
)

// Order puts all events into their merchants' chains, as [Service.Run] does now
// and then.
func (s *Service) Order(ctx context.Context) error { return untilDone(ctx, s.order) }

// ResealAll seals customers anew where keys were rotated, as [Service.Run] does
// now and then.
func (s *Service) ResealAll(ctx context.Context) error { return untilDone(ctx, s.reseal) }

// PruneEvents deletes the events of all merchants that have been kept for long
// enough, as [Service.Run] does now and then.
func (s *Service) PruneEvents(ctx context.Context) error { return untilDone(ctx, s.pruneEvents) }

func untilDone(ctx context.Context, work func(context.Context) (more bool, err error)) error {
	for {
		if more, err := work(ctx); !more || err != nil {
			return err
		}
	}
}

// ResealStep takes one step of that for a merchant.
func (s *Service) ResealStep(ctx context.Context, m MerchantID) (SealState, bool, error) {
	return s.resealStep(ctx, m)
}

// SetMaxScan bounds how many customers are opened for a page of a search.
func (s *Service) SetMaxScan(n int) { s.maxScan = n }

// Of the background work and of ids.
const (
	ResealBatch    = resealBatch
	OrderBatch     = orderBatch
	PrunedSegments = prunedSegments
	PrunedEvents   = prunedEvents
	MaxAhead       = maxAhead
	LastTick       = lastTick
)

// FoldCase is what stands for all texts that differ in letter case only.
func FoldCase(s string) string { return foldCase(s) }

// TickOf returns the tick of a moment.
func TickOf(t time.Time) int64 { return tickOf(t) }

// LowestID returns the lowest id of a customer of a tick.
func LowestID(tick int64) string { return string(lowestID(tick)) }

// Owns reports whether the work with the given name is this node's.
func (s *Service) Owns(work string) bool { return s.nodes.owns(work) }

// SecretText is how a receiver knows a secret.
func SecretText(secret []byte) string { return secretText(secret) }

// NextAttempt is when an event is tried again whose attempt of that number has just
// failed.
func NextAttempt(first time.Time, attempts int64, now time.Time, retryAfter time.Duration, random io.Reader) time.Time {
	return WebhookRetry{FirstAt: first, Attempts: attempts}.next(now, retryAfter, random)
}

// EncodeBlock returns requests as a block of a merchant.
func EncodeBlock(m MerchantID, records []RequestRecord, random [8]byte) RequestBlock {
	var w blockWriter
	for _, r := range records {
		w.add(r)
	}
	return w.block(m, random)
}

// DecodeBlock returns the requests of the rows of a block.
func DecodeBlock(m MerchantID, rows []byte) (records []RequestRecord, err error) {
	err = readBlock(m, rows, func(r RequestRecord) { records = append(records, r) })
	return records, err
}

// MergeBlocks makes one block of the rows of several.
func MergeBlocks(m MerchantID, rows [][]byte, random [8]byte) RequestBlock {
	return mergeBlocks(m, rows, random)
}

// MayHold reports whether a block's filter may hold an id.
func MayHold(filter []byte, id string) bool { return mayHold(filter, filterHash(id)) }

// Count returns what several encoded statistics have together.
func Count(encoded ...[]byte) (p TrafficPoint, addrs int, err error) {
	q := newQuarter(time.Time{})
	for _, data := range encoded {
		if err := q.addEncoded(data); err != nil {
			return p, 0, err
		}
	}
	return q.point(), len(q.addrs), nil
}

// EncodeStats returns the statistics of requests.
func EncodeStats(records []RequestRecord) []byte {
	q := newQuarter(time.Time{})
	for _, r := range records {
		q.add(r)
	}
	return q.encode()
}

// Percentile returns what a percentile of durations is taken to be.
func Percentile(part float64, durations ...time.Duration) time.Duration {
	var l latencies
	for _, d := range durations {
		l.add(d)
	}
	return l.percentile(part)
}

// FlushRequests writes the requests that are pending.
func (s *Service) FlushRequests(ctx context.Context) error {
	return cmp.Or(s.requests.flush(ctx), s.requests.mergeSmall(ctx))
}
