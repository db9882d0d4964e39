package cli

import (
	"context"
	"fmt"
	"strings"

	"grahak"
	"grahak/internal/app"
)

type restoreCmd struct {
	File       string `arg:"" help:"The backup, which grahak backup has made."`
	VerifyOnly bool   `name:"verify-only" env:"GRAHAK_VERIFY_ONLY" help:"Check the backup in every way and restore nothing."`
	target
	jsonFlag
}

// Help is what `grahak restore --help` says above the flags.
func (restoreCmd) Help() string {
	return `Restore into a new folder, or only check:

  grahak restore 2026-03-17.grahak --data new --master-key-file master.key
  grahak restore --verify-only 2026-03-17.grahak

The data folder must not exist, or be empty but for a master.key. Checksums, the database, the number of customers and the chain of events of every merchant are checked before the folder gets its database; with the master key also that it opens every merchant's keys. The master key is not in the backup: give it here as the server gets it, or put a sandbox's master.key into the folder.

Customers who were erased after the backup was made are back: erase them again.`
}

// Run restores or checks a backup.
func (c restoreCmd) Run(ctx context.Context, std Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.File == "" {
		return wrongUse("<file> is empty: give the backup")
	}
	if c.Folder() == "" {
		return wrongUse("--data is empty: give a folder")
	}
	work := app.Restore
	if c.VerifyOnly {
		work = app.VerifyBackup
	}
	bar := steps{std: std}
	verified, err := work(ctx, c.File, c.Data, c.MasterKey, bar.set)
	bar.finish()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.Out, struct {
			backupJSON
			Restored  bool `json:"restored"`
			MasterKey bool `json:"master_key_checked"`
			Chains    bool `json:"chains_checked"`
			Proofs    bool `json:"chain_proofs_checked"`
		}{toBackupJSON(verified.Backup), !c.VerifyOnly, verified.MasterKey, !verified.Older, !verified.Older && verified.MasterKey})
	}
	did := "Restored into " + c.Folder()
	if c.VerifyOnly {
		did = c.File + " is whole"
	}
	_, err = fmt.Fprintf(std.Out, "%s: %s.\n%s\n%s", did, contents(verified.Backup), sum(verified.Backup), c.notes(verified))
	return err
}

// notes says what was not checked, and what is to be done next.
func (c restoreCmd) notes(v app.Verified) string {
	var b strings.Builder
	production := v.Environment == string(grahak.Production)
	if v.Older {
		b.WriteString("Its schema is older than this grahak's, so the chains of events were not checked: run grahak audit verify once grahak serve has started on it.\n")
	}
	switch {
	case v.MasterKey:
		b.WriteString("The master key opens the keys of every merchant.\n")
	case v.MasterKeyID != "":
		fmt.Fprintf(&b, "Master key %s is not here, so it was not checked that it opens the keys of every merchant, nor who made the chains of events. Nobody's data can be read without it: ", v.MasterKeyID)
		if !production && !c.VerifyOnly {
			b.WriteString("put the old folder's master.key into the new one, or ")
		}
		b.WriteString("give it with --master-key-file, --master-key-command or GRAHAK_MASTER_KEY.\n")
	}
	if c.VerifyOnly {
		return b.String()
	}
	env := ""
	if production {
		env = " --env production"
	}
	fmt.Fprintf(&b, "Customers who were erased after the backup was made are back: erase them again.\n\n  %s serve%s%s\n", programName(), env, c.flags())
	return b.String()
}
