package cli

import (
	"context"
	"log/slog"
	"time"

	"grahak/internal/app"
)

// A database whose clock differs by more than this gets a warning, and by more
// than the second a failure: what servers write is put in order by their clocks.
const (
	tolerableSkew = 2 * time.Second
	gravestSkew   = time.Minute
)

// checkPostgres looks at the database server, and then at what is in the database.
func (c doctorCmd) checkPostgres(ctx context.Context, r *report) {
	is, err := app.InspectPostgres(ctx, c.Data)
	if err != nil {
		r.fail("database", "%s", sentence(err))
		return
	}
	if is.Version < app.OldestPostgres {
		r.fail("database", "it is PostgreSQL %s: use %d or newer", is.VersionText, app.OldestPostgres)
	} else {
		r.ok("database", "PostgreSQL %s at %s (%.1f MiB)", is.VersionText, c.DatabaseURL, float64(is.Bytes)/(1<<20))
	}
	switch {
	case is.Standby:
		r.fail("database", "it is a standby, which takes no writes: name the primary in --database-url, or all hosts with target_session_attrs=read-write")
		return
	case is.ReadOnly:
		r.fail("database", "it takes no writes: set default_transaction_read_only to off for this user and database")
		return
	}
	c.checkConnections(r, is.MaxConnections)
	checkDurability(r, is.SynchronousCommit, is.Fsync, is.FullPageWrites)
	checkSkew(r, is.Skew, is.SkewError)

	data, err := app.OpenData(ctx, c.Data, c.MasterKey, slog.New(slog.DiscardHandler))
	if err != nil {
		r.fail("database", "%s", sentence(err))
		return
	}
	defer func() { _ = data.Close() }()
	c.checkEnvironment(r, data)
	c.checkMerchants(ctx, r, data)
}

// checkConnections compares what the database allows with what the server takes.
func (c doctorCmd) checkConnections(r *report, most int) {
	switch servers := most / max(c.Connections, 1); servers {
	case 0:
		r.fail("pool", "the database allows %d connections, and this server takes up to %d: raise max_connections or the limit of the user, or lower --database-connections", most, c.Connections)
	case 1:
		r.warn("pool", "the database allows %d connections, which is enough for one server with up to %d and no second one: raise max_connections, or lower --database-connections", most, c.Connections)
	default:
		r.ok("pool", "the database allows %d connections, enough for %d servers with up to %d each", most, servers, c.Connections)
	}
}

// checkDurability checks that what is committed outlives a crash of the database.
func checkDurability(r *report, synchronousCommit, fsync, fullPageWrites string) {
	sick := false
	off := func(setting, value, why string) {
		if value == "off" {
			r.fail("durability", "%s is off: %s; set it to on", setting, why)
			sick = true
		}
	}
	off("synchronous_commit", synchronousCommit, "a crash of the database loses writes that were acknowledged")
	off("fsync", fsync, "a crash of its machine loses writes that were acknowledged, and may damage the whole database")
	off("full_page_writes", fullPageWrites, "a crash of its machine may damage the database")
	if !sick {
		r.ok("durability", "a write is on the database's disk when it is acknowledged")
	}
}

// checkSkew compares the clocks. As much of a difference as the question took is
// none.
func checkSkew(r *report, skew, inexact time.Duration) {
	ahead := "ahead of"
	if skew < 0 {
		skew, ahead = -skew, "behind"
	}
	report := r.warn
	if skew-inexact > gravestSkew {
		report = r.fail
	}
	if skew-inexact > tolerableSkew {
		report("clock", "the database's clock is %s %s this machine's: set both by NTP", skew.Round(100*time.Millisecond), ahead)
	}
}
