package grahak_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit/postgres"
)

// BenchmarkImport imports as many customers into an empty store as -benchtime says
// (200000x), with everything going on in the background, three chunks at once. It
// reports how many it imports a second, and how long the background works on after
// the end.
func BenchmarkImport(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		store, err := sqlstore.OpenSQLite(b.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(b.TempDir(), "grahak.db"), Environment: grahak.Sandbox, Logger: discard})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkImport(b, store)
	})
	b.Run("postgres", func(b *testing.B) {
		cluster := postgres.Start(b, postgres.Options{Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "4GB"}})
		store, err := sqlstore.OpenPostgres(b.Context(), sqlstore.PostgresConfig{URL: cluster.Database(b), Environment: grahak.Sandbox, Migrate: true, Logger: discard})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkImport(b, store)
	})
}

func benchmarkImport(b *testing.B, store sqlstore.Store) {
	defer func() { _ = store.Close() }()
	master, err := seal.MakeMasterKey(filepath.Join(b.TempDir(), "master.key"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := store.MasterKeyID(b.Context(), master.ID()); err != nil {
		b.Fatal(err)
	}
	s := MustService(b, grahak.Config{Store: store, Sealer: seal.New(master, store)})
	if _, err := s.CreateMerchant(b.Context(), operator(acme), ""); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { s.Run(ctx) })
	const chunk = 1000
	b.ResetTimer()
	began := time.Now()
	free := make(chan struct{}, 3)
	var work sync.WaitGroup
	for after := 0; after < b.N; after += chunk {
		free <- struct{}{}
		rows := make([]grahak.ImportRow, min(chunk, b.N-after))
		for i := range rows {
			n := after + i
			rows[i] = grahak.ImportRow{
				Line: int64(n + 2), Customer: person(fmt.Sprintf("customer-%d@example.com", n)),
				CreatedAt: given(time.UnixMicro(1_600_000_000_000_000 + int64(n)*1_000_000).UTC().Format(time.RFC3339)),
			}
			rows[i].Customer.Email, rows[i].Customer.MobileNumber = rows[i].Customer.Reference, given(fmt.Sprintf("%010d", n))
		}
		work.Go(func() {
			defer func() { <-free }()
			_, faults, err := s.ImportCustomers(ctx, operator(acme), grahak.ImportChunk{
				Import: "benchmark", After: int64(after), Rows: rows, OnDuplicate: grahak.DuplicateFail, Last: after+chunk >= b.N,
			})
			if err != nil || len(faults) > 0 {
				b.Errorf("behind %d: %v %v", after, faults, err)
			}
		})
	}
	work.Wait()
	took := time.Since(began)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/took.Seconds(), "rows/s")
	for {
		n, err := store.CountPending(ctx, acme)
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	b.ReportMetric((time.Since(began) - took).Seconds(), "s-behind")
}
