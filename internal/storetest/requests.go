package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"grahak"
)

// RequestOpener returns a new, empty request log that nobody else uses. What it opens is
// closed when the test ends.
type RequestOpener func(t testing.TB) grahak.RequestStore

// RunRequests runs the suite of [grahak.RequestStore].
func RunRequests(t *testing.T, open RequestOpener) {
	for _, test := range []struct {
		name string
		run  func(*requestRig)
	}{
		{"blocks in order", requestBlocks},
		{"rows", requestRows},
		{"statistics", requestStats},
		{"merge", requestMerge},
		{"prune by age", requestPruneAge},
		{"prune by size", requestPruneSize},
		{"a caller that has gone", requestGone},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&requestRig{TB: t, store: open(t)}) })
	}
}

// requestRig is a test with its request log. The blocks that it makes are a minute
// apart.
type requestRig struct {
	testing.TB
	store  grahak.RequestStore
	serial int
}

// block returns a new block of the merchant with that many bytes of rows.
func (r *requestRig) block(m grahak.MerchantID, size int) grahak.RequestBlock {
	r.serial++
	to := start.Add(time.Duration(r.serial) * time.Minute)
	b := grahak.RequestBlock{
		Merchant: m,
		From:     to.Add(-30 * time.Second),
		To:       to,
		Count:    int64(r.serial),
		Filter:   []byte{0, 0xff, byte(r.serial)},
		Rows:     bytes.Repeat([]byte{byte(r.serial), 0}, size/2),
	}
	binary.BigEndian.PutUint64(b.ID[:], uint64(to.UnixMicro()))
	// Bytes above 0x7f sort behind all letters.
	b.ID[8], b.ID[15] = 0xff, byte(r.serial)
	return b
}

// MustPut writes blocks.
func (r *requestRig) MustPut(blocks ...grahak.RequestBlock) {
	r.Helper()
	if err := r.store.PutRequests(r.Context(), blocks, nil); err != nil {
		r.Fatal(err)
	}
}

// wantBlocks fails the test unless the merchant's blocks are those, with their rows.
func (r *requestRig) wantBlocks(m grahak.MerchantID, want ...grahak.RequestBlock) {
	r.Helper()
	got, err := r.store.RequestBlocks(r.Context(), m, farFuture, grahak.RequestBlockID{}, 1000)
	if err != nil {
		r.Fatal(err)
	}
	var ids []grahak.RequestBlockID
	for _, b := range got {
		ids = append(ids, b.ID)
	}
	rows, err := r.store.RequestRows(r.Context(), m, ids)
	if err != nil {
		r.Fatal(err)
	}
	for i := range got {
		got[i].Rows = rows[got[i].ID]
	}
	r.wantSame("blocks of "+string(m), got, want)
}

// wantSame fails the test unless both are the same. No list is an empty one.
func (r *requestRig) wantSame(what string, got, want any) {
	r.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		r.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// farFuture is behind all that the tests write.
var farFuture = start.AddDate(10, 0, 0)

// header is a block as it is listed.
func header(b grahak.RequestBlock) grahak.RequestBlock {
	b.Rows = nil
	return b
}

func requestBlocks(r *requestRig) {
	a, b, foreign, c, unknown := r.block(own, 10), r.block(own, 0), r.block(other, 10), r.block(own, 100_000), r.block(grahak.UnknownMerchant, 10)
	r.MustPut(b, foreign, c)
	r.MustPut(a, unknown)
	// A block that was written, of which the writer did not hear, is written again.
	r.MustPut(a)
	for _, test := range []struct {
		name   string
		from   time.Time
		behind grahak.RequestBlockID
		limit  int
		want   []grahak.RequestBlock
	}{
		{"all", farFuture, grahak.RequestBlockID{}, 10, []grahak.RequestBlock{header(c), header(b), header(a)}},
		{"the newest", farFuture, grahak.RequestBlockID{}, 1, []grahak.RequestBlock{header(c)}},
		{"behind one", farFuture, c.ID, 1, []grahak.RequestBlock{header(b)}},
		{"behind the oldest", farFuture, a.ID, 10, nil},
		{"begun at a time", b.From, grahak.RequestBlockID{}, 10, []grahak.RequestBlock{header(b), header(a)}},
		{"begun before a time", b.From.Add(-time.Microsecond), grahak.RequestBlockID{}, 10, []grahak.RequestBlock{header(a)}},
		{"both", b.From, b.ID, 10, []grahak.RequestBlock{header(a)}},
	} {
		got, err := r.store.RequestBlocks(r.Context(), own, test.from, test.behind, test.limit)
		if err != nil {
			r.Fatal(err)
		}
		r.wantSame(test.name, got, test.want)
	}
	r.wantBlocks(other, foreign)
	r.wantBlocks(grahak.UnknownMerchant, unknown)
	r.wantBlocks(nobody)
}

func requestRows(r *requestRig) {
	var all []grahak.RequestBlock
	want := make(map[grahak.RequestBlockID][]byte)
	var ids []grahak.RequestBlockID
	for i := range 40 {
		b := r.block(own, 2*i)
		all, ids = append(all, b), append(ids, b.ID)
		want[b.ID] = b.Rows
	}
	foreign := r.block(other, 10)
	r.MustPut(append(all, foreign)...)
	ids = append(ids, foreign.ID, r.block(own, 1).ID)
	got, err := r.store.RequestRows(r.Context(), own, ids)
	if err != nil {
		r.Fatal(err)
	}
	r.wantSame("rows", got, want)
	if got, err = r.store.RequestRows(r.Context(), own, nil); err != nil || len(got) > 0 {
		r.Errorf("rows of no blocks are %v (%v)", got, err)
	}
}

func requestStats(r *requestRig) {
	quarter := func(n int, m grahak.MerchantID, node, data string) grahak.RequestStats {
		return grahak.RequestStats{Merchant: m, At: start.Truncate(15 * time.Minute).Add(time.Duration(n) * 15 * time.Minute), Node: node, Data: []byte(data)}
	}
	put := func(stats ...grahak.RequestStats) {
		r.Helper()
		if err := r.store.PutRequests(r.Context(), nil, stats); err != nil {
			r.Fatal(err)
		}
	}
	put(quarter(0, own, "a", "old"), quarter(1, own, "a", "first"), quarter(1, other, "a", "foreign"))
	put(quarter(2, own, "b", "\x00\xff"))
	put(quarter(1, own, "a", "second")) // what the node wrote before is replaced
	got, err := r.store.RequestStats(r.Context(), own, quarter(1, own, "", "").At)
	if err != nil {
		r.Fatal(err)
	}
	r.wantSame("statistics", got, []grahak.RequestStats{quarter(1, own, "a", "second"), quarter(2, own, "b", "\x00\xff")})
	put(quarter(2, own, "a", "beside")) // another node's stay
	if got, err = r.store.RequestStats(r.Context(), own, quarter(2, own, "", "").At); err != nil {
		r.Fatal(err)
	}
	byNode := cmpopts.SortSlices(func(a, b grahak.RequestStats) bool { return a.Node < b.Node })
	if diff := cmp.Diff([]grahak.RequestStats{quarter(2, own, "a", "beside"), quarter(2, own, "b", "\x00\xff")}, got, byNode); diff != "" {
		r.Errorf("statistics of two nodes (-want +got):\n%s", diff)
	}
}

func requestMerge(r *requestRig) {
	a, foreign, b, c := r.block(own, 10), r.block(other, 10), r.block(own, 20), r.block(own, 30)
	r.MustPut(a, foreign, b, c)
	merge := func(into grahak.RequestBlock, ids ...grahak.RequestBlockID) {
		r.Helper()
		if err := r.store.MergeRequests(r.Context(), into, ids); err != nil {
			r.Fatal(err)
		}
	}
	// One of them is pruned already, or another merchant's: then nothing happens.
	merge(r.block(own, 50), a.ID, b.ID, r.block(own, 1).ID)
	merge(r.block(own, 50), a.ID, foreign.ID)
	r.wantBlocks(own, c, b, a)
	// The new one may have the id of one that it is made of.
	merged := r.block(own, 30)
	merged.ID, merged.From, merged.To = b.ID, a.From, b.To
	merge(merged, a.ID, b.ID)
	r.wantBlocks(own, c, merged)
	r.wantBlocks(other, foreign)
}

// MustPrune prunes step by step until there is no more.
func (r *requestRig) MustPrune(before time.Time, size int64, limit int) {
	r.Helper()
	for range 100 {
		more, err := r.store.PruneRequests(r.Context(), before, size, limit)
		if err != nil {
			r.Fatal(err)
		}
		if !more {
			return
		}
	}
	r.Fatal("there was always more to prune")
}

func requestPruneAge(r *requestRig) {
	var blocks []grahak.RequestBlock
	for range 7 {
		blocks = append(blocks, r.block(own, 10), r.block(other, 10))
	}
	at := func(b grahak.RequestBlock) grahak.RequestStats {
		return grahak.RequestStats{Merchant: own, At: b.To, Node: "a", Data: []byte("x")}
	}
	stats := []grahak.RequestStats{at(blocks[0]), at(blocks[8]), at(blocks[9]), at(blocks[13])}
	if err := r.store.PutRequests(r.Context(), blocks, stats); err != nil {
		r.Fatal(err)
	}
	// A step is bounded.
	if more, err := r.store.PruneRequests(r.Context(), blocks[9].To, 1<<40, 2); err != nil || !more {
		r.Fatalf("a first step says that there is more: %t (%v)", more, err)
	}
	r.wantBlocks(own, blocks[12], blocks[10], blocks[8], blocks[6], blocks[4], blocks[2])
	r.wantBlocks(other, blocks[13], blocks[11], blocks[9], blocks[7], blocks[5], blocks[3])
	r.MustPrune(blocks[9].To, 1<<40, 2)
	r.wantBlocks(own, blocks[12], blocks[10])
	r.wantBlocks(other, blocks[13], blocks[11], blocks[9])
	got, err := r.store.RequestStats(r.Context(), own, start)
	if err != nil {
		r.Fatal(err)
	}
	r.wantSame("statistics", got, stats[2:])
}

func requestPruneSize(r *requestRig) {
	const size = 10_000
	var blocks []grahak.RequestBlock
	for range 6 {
		blocks = append(blocks, r.block(own, size), r.block(other, size))
	}
	r.MustPut(blocks...)
	long := start.AddDate(-1, 0, 0)
	r.MustPrune(long, 1<<40, 100)
	r.wantBlocks(own, blocks[10], blocks[8], blocks[6], blocks[4], blocks[2], blocks[0])
	// Five and a half of them fit, whosever they are.
	r.MustPrune(long, 5*size+size/2, 2)
	r.wantBlocks(own, blocks[10], blocks[8])
	r.wantBlocks(other, blocks[11], blocks[9], blocks[7])
	r.MustPrune(long, 0, 3)
	r.wantBlocks(own)
	r.wantBlocks(other)
}

// requestGone asks with a context that has ended, which may or may not be served: the
// log must serve the next caller.
func requestGone(r *requestRig) {
	gone, cancel := context.WithCancel(r.Context())
	cancel()
	a, b := r.block(other, 10), r.block(own, 10)
	_ = r.store.PutRequests(gone, []grahak.RequestBlock{a}, nil)
	_, _ = r.store.RequestBlocks(gone, own, farFuture, grahak.RequestBlockID{}, 1)
	r.MustPut(a, b)
	r.wantBlocks(other, a)
	r.wantBlocks(own, b)
}
