package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
	"grahak/internal/disk"
)

type doctorCmd struct {
	config.Server
}

// Help is what `grahak doctor --help` says above the flags.
func (doctorCmd) Help() string {
	return `Give it the flags and the environment that the server runs with. It works beside a running server and changes nothing. In a data folder it reads the whole database, which takes a while if that is large; of PostgreSQL it looks at the server's settings.`
}

// errUnwell makes the exit status say that something is wrong.
var errUnwell = errors.New("something needs mending; see above")

// report prints findings as they come.
type report struct {
	std  Streams
	sick bool
	// ended returns an error once the user has ended the work. What is found from
	// then on was not looked at to its end, and is not printed.
	ended func() error
}

func (r *report) ok(what, format string, args ...any) { r.line("ok  ", what, format, args...) }

func (r *report) warn(what, format string, args ...any) { r.line("warn", what, format, args...) }

func (r *report) fail(what, format string, args ...any) {
	r.sick = r.sick || r.ended() == nil
	r.line("FAIL", what, format, args...)
}

func (r *report) line(mark, what, format string, args ...any) {
	if r.ended() != nil {
		return
	}
	fmt.Fprintf(r.std.Out, "%s  %-10s %s\n", mark, what, fmt.Sprintf(format, args...))
}

// Run checks everything and fails if anything is wrong.
func (c doctorCmd) Run(ctx context.Context, std Streams, warn warning) error {
	r := &report{std: std, ended: ctx.Err}
	if warn != "" {
		r.warn("settings", "%s", warn)
	}
	if err := c.Check(); err != nil {
		r.fail("settings", "%s", err)
	} else {
		r.ok("settings", "fit together (%s)", c.Environment)
	}
	c.checkTLS(r)
	switch {
	case c.Postgres():
		c.checkPostgres(ctx, r)
	case c.checkFolder(r):
		c.checkDisk(r)
		c.checkStore(ctx, r)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.sick {
		return errUnwell
	}
	return nil
}

// A certificate that ends sooner than this gets a warning.
const soon = 14 * 24 * time.Hour

func (c doctorCmd) checkTLS(r *report) {
	if c.TLSCert == "" || c.TLSKey == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		r.fail("TLS", "the certificate %s and key %s cannot be used: %s", c.TLSCert, c.TLSKey, err)
		return
	}
	switch left := pair.Leaf.NotAfter.Sub(grahak.SystemClock{}.Now()); {
	case left <= 0:
		r.fail("TLS", "the certificate %s ended on %s: renew it", c.TLSCert, stamp(pair.Leaf.NotAfter))
	case left < soon:
		r.warn("TLS", "the certificate %s ends on %s: renew it", c.TLSCert, stamp(pair.Leaf.NotAfter))
	default:
		r.ok("TLS", "the certificate is good until %s", stamp(pair.Leaf.NotAfter))
	}
}

// checkFolder reports whether there is a folder to look into.
func (c doctorCmd) checkFolder(r *report) bool {
	info, err := os.Stat(c.Folder())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.fail("folder", "%q does not exist: grahak serve makes it at its first start, or give the right one with --data", c.Folder())
		return false
	case err != nil:
		r.fail("folder", "%s", err)
		return false
	case !info.IsDir():
		r.fail("folder", "%s is a file: give a folder with --data", c.Folder())
		return false
	}
	if info.Mode().Perm()&0o077 != 0 {
		r.warn("folder", "%s can be read by other users of this machine: chmod 700 %s", c.Folder(), shellWord(c.Folder()))
	}
	probe, err := os.CreateTemp(c.Folder(), ".doctor-*")
	if err != nil {
		r.fail("folder", "%s cannot be written: make it writable for this user (%s)", c.Folder(), err)
		return true
	}
	_, err = probe.WriteString("x")
	err = errors.Join(err, probe.Sync(), probe.Close(), os.Remove(probe.Name()))
	if err != nil {
		r.fail("folder", "a file in %s cannot be written and removed: %s", c.Folder(), err)
		return true
	}
	running := "no server is using it"
	if app.Served(c.Data) {
		running = "a server is using it"
	}
	r.ok("folder", "%s can be written; %s", c.Folder(), running)
	return true
}

// A disk with less free space than this, in bytes, gets a warning, and with
// less than the second a failure.
const (
	lowDisk  = 1 << 30
	fullDisk = 64 << 20
)

func (c doctorCmd) checkDisk(r *report) {
	free, err := disk.Free(c.Folder())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		r.warn("disk", "the free space cannot be told: %s", err)
	case free < fullDisk:
		r.fail("disk", "%d MiB are free: free some space, or writes will be refused", free>>20)
	case free < lowDisk:
		r.warn("disk", "%d MiB are free: plan for more", free>>20)
	default:
		r.ok("disk", "%.1f GiB are free", float64(free)/(1<<30))
	}
}

func (c doctorCmd) checkStore(ctx context.Context, r *report) {
	data, err := app.OpenData(ctx, c.Data, c.MasterKey, slog.New(slog.DiscardHandler))
	if err != nil {
		if _, statErr := os.Stat(c.Database()); errors.Is(statErr, fs.ErrNotExist) {
			r.fail("database", "there is none in %s: grahak serve makes it at its first start, or give the right folder with --data", c.Folder())
			return
		}
		r.fail("database", "%s", sentence(err))
		return
	}
	defer func() { _ = data.Close() }()
	c.checkEnvironment(r, data)
	found, err := data.SQLite.Check(ctx)
	switch {
	case err != nil:
		r.fail("database", "%s cannot be read to its end: %s; if it is damaged, restore it from a backup", c.Database(), sentence(err))
		return
	case len(found) > 0:
		r.fail("database", "%s is damaged, %d findings, first: %s; restore it from a backup", c.Database(), len(found), found[0])
	default:
		size, wal := data.SQLite.Size()
		r.ok("database", "sound (%.1f MiB, and %.1f MiB in the log)", float64(size)/(1<<20), float64(wal)/(1<<20))
	}
	c.checkMerchants(ctx, r, data)
}

func (c doctorCmd) checkEnvironment(r *report, data *app.Data) {
	if env := data.Store.Environment(); string(env) != c.Environment {
		r.fail("settings", "the database is of the %s environment: use --env %s or other data", env, env)
	}
}

// checkMerchants checks that the master key opens every merchant's keys, and
// that the clock was not set back behind what has been written.
func (c doctorCmd) checkMerchants(ctx context.Context, r *report, data *app.Data) {
	merchants, err := data.Service.Merchants(ctx)
	if err != nil {
		r.fail("database", "%s", sentence(err))
		return
	}
	var latest time.Time
	var locked []grahak.MerchantID
	var why, operators error
	for _, m := range merchants {
		if err := data.Sealer.Check(ctx, m.ID); err != nil {
			locked, why = append(locked, m.ID), err
		}
		if m.CreatedAt.After(latest) {
			latest = m.CreatedAt
		}
		if page, _, err := data.Store.Customers(ctx, m.ID, grahak.CustomerRange{}, 1, 0); err == nil && len(page) > 0 && page[0].UpdatedAt.After(latest) {
			latest = page[0].UpdatedAt
		}
	}
	// Nobody logs in without the keys of the operators.
	if _, err := data.Store.Merchant(ctx, grahak.OperatorsMerchant); err == nil {
		operators = data.Sealer.Check(ctx, grahak.OperatorsMerchant)
	}
	if len(merchants) == 0 {
		// There is nothing yet to try the master key on but making keys.
		_, why = data.Sealer.NewKeyset(ctx, "doctor")
	}
	switch {
	case len(locked) > 0:
		r.fail("master key", "%d of %s cannot be served, %s among them: %s", len(locked), count(int64(len(merchants)), "merchant"), locked[len(locked)-1], sentence(why))
	case why != nil:
		r.fail("master key", "%s", sentence(why))
	case operators != nil:
		r.fail("master key", "nobody can log in to the dashboard: %s", sentence(operators))
	default:
		r.ok("master key", "opens the keys of every merchant (%d)", len(merchants))
		c.checkLeftOver(ctx, r, data)
	}
	c.checkMasterKeyFile(r)
	now := grahak.SystemClock{}.Now()
	if latest.After(now.Add(time.Minute)) {
		r.fail("clock", "it says %s, but records were written as late as %s: set the machine's clock", stamp(now), stamp(latest))
		return
	}
	r.ok("clock", "%s", stamp(now))
}

// checkLeftOver says which of several configured master keys is in use, and what
// is to become of the others. More than one is a change that has not ended.
func (c doctorCmd) checkLeftOver(ctx context.Context, r *report, data *app.Data) {
	named, err := data.Store.MasterKeyID(ctx, "")
	if err != nil {
		r.fail("database", "%s", sentence(err))
		return
	}
	keys, err := data.MasterKeys.All(ctx)
	if err != nil {
		r.fail("master key", "%s", sentence(err))
		return
	}
	var others []string
	for _, k := range keys {
		if k.ID() != named && !slices.Contains(others, k.ID()) {
			others = append(others, k.ID())
		}
	}
	switch {
	case len(others) == 0:
	case keys[0].ID() == named:
		r.warn("master key", "%s is in use, and nothing is under %s any more: the line of that may be removed", named, strings.Join(others, " and "))
	default:
		r.warn("master key", "%s is in use, and not yet the newer %s: run %s seal rewrap%s before you remove the line of %s", named, keys[0].ID(), programName(), dataFlag(c.Data), named)
	}
}

// checkMasterKeyFile checks that only this user can read the master key. Those
// who mount a given file into a container cannot always choose its mode.
func (c doctorCmd) checkMasterKeyFile(r *report) {
	path, report := c.GeneratedMasterKey(), r.fail
	if c.File != "" {
		path, report = c.File, r.warn
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		report("master key", "%s can be read by other users of this machine: chmod 600 %s", path, shellWord(path))
	}
}
