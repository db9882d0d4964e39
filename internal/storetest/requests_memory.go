package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"grahak"
)

// Requests is a [grahak.RequestStore] in memory, for tests of what is made of the request
// log. It prunes nothing. Its zero value is empty and ready.
type Requests struct {
	mu     sync.Mutex
	blocks []grahak.RequestBlock
	stats  []grahak.RequestStats
}

var _ grahak.RequestStore = (*Requests)(nil)

// PutRequests implements [grahak.RequestStore].
func (r *Requests) PutRequests(_ context.Context, blocks []grahak.RequestBlock, stats []grahak.RequestStats) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks = append(r.blocks, blocks...)
	for _, s := range stats {
		r.stats = slices.DeleteFunc(r.stats, func(old grahak.RequestStats) bool {
			return old.Merchant == s.Merchant && old.At.Equal(s.At) && old.Node == s.Node
		})
		r.stats = append(r.stats, s)
	}
	return nil
}

// RequestBlocks implements [grahak.RequestStore].
func (r *Requests) RequestBlocks(_ context.Context, m grahak.MerchantID, from time.Time, behind grahak.RequestBlockID, limit int) (list []grahak.RequestBlock, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.blocks {
		if b.Merchant == m && !b.From.After(from) && (behind == grahak.RequestBlockID{} || bytes.Compare(b.ID[:], behind[:]) < 0) {
			b.Rows = nil
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b grahak.RequestBlock) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return list[:min(len(list), limit)], nil
}

// RequestRows implements [grahak.RequestStore].
func (r *Requests) RequestRows(_ context.Context, m grahak.MerchantID, ids []grahak.RequestBlockID) (map[grahak.RequestBlockID][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := make(map[grahak.RequestBlockID][]byte)
	for _, b := range r.blocks {
		if b.Merchant == m && slices.Contains(ids, b.ID) {
			rows[b.ID] = b.Rows
		}
	}
	return rows, nil
}

// RequestStats implements [grahak.RequestStore].
func (r *Requests) RequestStats(_ context.Context, m grahak.MerchantID, from time.Time) (list []grahak.RequestStats, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.stats {
		if s.Merchant == m && !s.At.Before(from) {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b grahak.RequestStats) int { return cmp.Compare(a.At.UnixMicro(), b.At.UnixMicro()) })
	return list, nil
}

// MergeRequests implements [grahak.RequestStore].
func (r *Requests) MergeRequests(_ context.Context, block grahak.RequestBlock, merged []grahak.RequestBlockID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(r.blocks), func(b grahak.RequestBlock) bool {
		return b.Merchant == block.Merchant && slices.Contains(merged, b.ID)
	})
	if len(r.blocks)-len(rest) == len(merged) {
		r.blocks = append(rest, block)
	}
	return nil
}

// PruneRequests implements [grahak.RequestStore].
func (*Requests) PruneRequests(context.Context, time.Time, int64, int) (bool, error) {
	return false, nil
}
