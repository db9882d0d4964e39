package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/backup"
	"grahak/internal/config"
)

type backupCmd struct {
	File string `arg:"" help:"The file to write, which must not exist. Put it on another disk, and never with the master key."`
	config.Data
	jsonFlag
}

// Help is what `grahak backup --help` says above the flags.
func (backupCmd) Help() string {
	return `Make a backup, and check it:

  grahak backup /mnt/backups/$(date +%F).grahak
  grahak restore --verify-only /mnt/backups/$(date +%F).grahak

It works beside a running server, which goes on writing, and without one. All that was acknowledged before it began is in the file. Customers are sealed in it, and merchants' keys wrapped under the master key, which is not in it: keep that apart. The server's write-ahead log grows while it runs.`
}

// Run makes a backup.
func (c backupCmd) Run(ctx context.Context, std Streams) error {
	if c.File == "" {
		return wrongUse("<file> is empty: give the file to write")
	}
	return target{Data: c.Data}.with(ctx, std, func(d *app.Data) error {
		bar := steps{std: std}
		made, err := d.Backup(ctx, c.File, version(), bar.set)
		bar.finish()
		if err != nil {
			return err
		}
		if inside(c.File, c.Folder()) {
			fmt.Fprintf(std.Err, "%s is in the data folder, and is lost with it: move it to another disk.\n", c.File)
		}
		if c.JSON {
			return printJSON(std.Out, toBackupJSON(made))
		}
		_, err = fmt.Fprintf(std.Out, "Wrote %s: %s.\n%s\n", made.Path, contents(made), sum(made))
		return err
	})
}

// inside reports whether the file at path is in the folder or below it, as far
// as that can be told.
func inside(path, folder string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		return false
	}
	path, pathErr := filepath.Abs(path)
	folder, folderErr := filepath.Abs(folder)
	if pathErr != nil || folderErr != nil {
		return false
	}
	below, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(below)
}

// contents says what is in a backup.
func contents(b app.Backup) string {
	key := "without any merchant's keys"
	if b.MasterKeyID != "" {
		key = "sealed under master key " + b.MasterKeyID
	}
	merchants := slices.DeleteFunc(slices.Clone(b.Merchants), func(m backup.Merchant) bool { return m.ID == string(grahak.OperatorsMerchant) })
	return fmt.Sprintf("%s of %s (%s) as of %s, %.1f MiB, %s",
		count(b.Customers(), "customer"), count(int64(len(merchants)), "merchant"), b.Environment, stamp(b.MadeAt), float64(b.Bytes)/(1<<20), key)
}

// sum is the sum of a whole backup file, which other programs can check, too.
func sum(b app.Backup) string { return "SHA-256 " + hex.EncodeToString(b.SHA256[:]) }

// backupJSON is a backup for programs.
type backupJSON struct {
	File        string            `json:"file"`
	Bytes       int64             `json:"bytes"`
	SHA256      string            `json:"sha256"`
	MadeAt      *string           `json:"made_at"`
	Program     string            `json:"program"`
	Schema      int64             `json:"schema_version"`
	Environment string            `json:"environment"`
	MasterKeyID string            `json:"master_key_id"`
	Customers   int64             `json:"customers"`
	Merchants   []backup.Merchant `json:"merchants"`
}

func toBackupJSON(b app.Backup) backupJSON {
	return backupJSON{
		File: b.Path, Bytes: b.Bytes, SHA256: hex.EncodeToString(b.SHA256[:]), MadeAt: jsonTime(b.MadeAt), Program: b.Program,
		Schema: b.Schema, Environment: b.Environment, MasterKeyID: b.MasterKeyID, Customers: b.Customers(), Merchants: b.Merchants,
	}
}

// steps shows the progress of work that has several steps, one bar after the
// other.
type steps struct {
	std  Streams
	step string
	bar  *progress
}

// set shows how far a step is.
func (s *steps) set(step string, done, total int64) {
	if s.bar == nil || s.step != step {
		s.finish()
		s.step, s.bar = step, newProgress(s.std, step)
	}
	s.bar.set(done, total)
}

// finish takes the bar away.
func (s *steps) finish() {
	if s.bar != nil {
		s.bar.finish()
	}
}
