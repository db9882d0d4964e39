package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	domain "grahak"
	"grahak/internal/sqlstore"
)

// floorResult is what the storage does without HTTP, sealing and JSON.
type floorResult struct {
	Rate        float64 `json:"creates_per_second"`
	P50         float64 `json:"p50_ms"`
	Batch       float64 `json:"writes_per_commit"`
	CommitMs    float64 `json:"commit_ms"`
	CPU         float64 `json:"cpu_us_per_create"`
	Utilisation float64 `json:"cpus_busy"`
}

// commits counts the store's commits.
type commits struct {
	writes, commits int64
	took            time.Duration
}

func (c *commits) Committed(writes int, took time.Duration) {
	c.writes += int64(writes)
	c.commits++
	c.took += took
}

// sealedSize is about the size of a sealed profile.
const sealedSize = 180

// aloneComparison is creates one after the other: of the storage by itself, and of
// Grahak on one connection, measured in alternation; and the medians of both p50s,
// in milliseconds, and of what the second is of the first.
type aloneComparison struct {
	Pairs  []alonePair `json:"pairs"`
	Floor  float64     `json:"floor_p50_ms_median"`
	Grahak float64     `json:"grahak_p50_ms_median"`
	Ratio  float64     `json:"ratio_median"`
}

type alonePair struct {
	Floor  floorResult `json:"floor"`
	Grahak sample      `json:"grahak"`
}

// compareAlone runs the pairs of creates one after the other, each in the other
// order than the one before.
func (b *bench) compareAlone(ctx context.Context, create target) (*aloneComparison, error) {
	c := new(aloneComparison)
	l := load{connections: 1, threads: 1, duration: time.Duration(b.seconds) * time.Second}
	for i := range b.pairs {
		var p alonePair
		for half := range 2 {
			var err error
			if (half == 0) == (i%2 == 0) {
				p.Floor, err = measureFloor(ctx, b.dir, 1, l.duration)
			} else {
				p.Grahak, err = b.measure(ctx, b.grahak.server, create, l)
			}
			if err != nil {
				return nil, err
			}
		}
		c.Pairs = append(c.Pairs, p)
	}
	c.Floor = medianOf(c.Pairs, func(p alonePair) float64 { return p.Floor.P50 })
	c.Grahak = medianOf(c.Pairs, func(p alonePair) float64 { return p.Grahak.P50 })
	c.Ratio = medianOf(c.Pairs, func(p alonePair) float64 { return p.Grahak.P50 / p.Floor.P50 })
	return c, nil
}

// measureFloor runs the store's own create from that many goroutines on a new
// database under dir.
func measureFloor(ctx context.Context, dir string, goroutines int, d time.Duration) (result floorResult, err error) {
	// The same as Grahak sets for itself.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var seen commits
	if dir, err = os.MkdirTemp(dir, "floor-"); err != nil {
		return result, err
	}
	store, err := sqlstore.OpenSQLite(ctx, sqlstore.SQLiteConfig{Path: filepath.Join(dir, "floor.db"), Environment: domain.Sandbox, Observer: &seen})
	if err != nil {
		return result, err
	}
	const merchant domain.MerchantID = "floor"
	if err := floorMerchant(ctx, store, merchant); err != nil {
		return result, errors.Join(err, store.Close())
	}
	blobs := make([][]byte, 256)
	for i := range blobs {
		blobs[i] = make([]byte, sealedSize)
		_, _ = rand.Read(blobs[i])
	}
	before, err := readCPU(0)
	if err != nil {
		return result, errors.Join(err, store.Close())
	}
	end := before.at.Add(d)
	var created atomic.Int64
	failed, took := make([]error, goroutines), make([][]float64, goroutines)
	var wait sync.WaitGroup
	for g := range goroutines {
		wait.Go(func() {
			for failed[g] == nil && time.Now().Before(end) {
				record, event := floorCustomer(blobs[created.Add(1)%int64(len(blobs))])
				start := time.Now()
				failed[g] = store.CreateCustomer(ctx, merchant, record, event, nil)
				took[g] = append(took[g], time.Since(start).Seconds()*1e3)
			}
		})
	}
	wait.Wait()
	after, err := readCPU(0)
	// The observer's figures may be read once the writer has ended.
	if err := errors.Join(append(failed, err, store.Close())...); err != nil {
		return result, err
	}
	n, seconds := float64(created.Load()), after.at.Sub(before.at).Seconds()
	return floorResult{
		Rate:        n / seconds,
		P50:         median(slices.Concat(took...)),
		Batch:       float64(seen.writes) / float64(seen.commits),
		CommitMs:    seen.took.Seconds() * 1e3 / float64(seen.commits),
		CPU:         float64((after.server - before.server).Microseconds()) / n,
		Utilisation: (after.server - before.server).Seconds() / seconds,
	}, nil
}

// floorMerchant makes the merchant, whose keys nobody opens.
func floorMerchant(ctx context.Context, store *sqlstore.SQLite, id domain.MerchantID) error {
	const master = "floor"
	if _, err := store.MasterKeyID(ctx, master); err != nil {
		return err
	}
	now := time.Now()
	return store.CreateMerchant(ctx, domain.Merchant{ID: id, IPMode: domain.IPModeOff, CreatedAt: now},
		domain.Keyset{Merchant: id, MasterKeyID: master, Version: 1, Sealing: []byte{0}, Indexing: []byte{0}},
		domain.Event{ID: "evt_floor", Type: domain.EventMerchantCreated, Actor: "cli:bench", At: now})
}

// floorCustomer returns a customer and an event as large as real ones: ids
// that begin with a time-ordered part, and random indexes.
func floorCustomer(sealed []byte) (domain.CustomerRecord, domain.Event) {
	now := time.Now()
	text := rand.Text()
	id := fmt.Sprintf("%08s%s", strconv.FormatInt(now.UnixMilli()-1577836800000, 36), text[:8])
	record := domain.CustomerRecord{ID: domain.CustomerID("cst_" + id), Sealed: domain.Sealed{Bytes: sealed, Version: 1}, Revision: 1, CreatedAt: now, UpdatedAt: now}
	_, _ = rand.Read(record.Reference[:])
	_, _ = rand.Read(record.Email[:])
	_, _ = rand.Read(record.Mobile[:])
	return record, domain.Event{
		ID: domain.EventID("evt_" + id), Type: domain.EventCustomerCreated, Subject: string(record.ID),
		Revision: 1, Actor: "key_0123456789abcdef", RequestID: text[6:26], At: now,
	}
}
