package app_test

import (
	"context"
	"database/sql" //nolint:depguard // The test makes a database older, which no program does.
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/backup"
	"grahak/internal/config"
	"grahak/internal/sqlstore"
)

func silent(string, int64, int64) {}

// MustBackUp makes a backup of a new store without merchants, after change has
// been done to the database in it.
func MustBackUp(t testing.TB, change string) string {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(t.TempDir(), "grahak.db"), Environment: grahak.Sandbox, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := store.CopyTo(t.Context(), f.Name(), func(_, _ int64) {}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+f.Name())
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), change)
	db.Close()
	if err != nil {
		t.Fatal(err)
	}
	copied, err := sqlstore.OpenCopy(t.Context(), f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	sum, err := copied.Summarize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := backup.Manifest{Schema: sum.Schema, Environment: string(sum.Environment), MasterKeyID: sum.MasterKeyID, Merchants: []backup.Merchant{}}
	for _, merchant := range sum.Merchants {
		m.Merchants = append(m.Merchants, backup.Merchant{ID: string(merchant.ID), Customers: merchant.Customers, Events: merchant.Events})
	}
	if err := backup.Finish(t.Context(), f, m, func(_, _ int64) {}); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// older makes the schema one version older.
const older = `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version);`

// gap makes a merchant whose events begin at position 7.
const gap = `INSERT INTO merchants (id, name, ip_mode, created_at) VALUES ('acme', '', 'off', 0);
	INSERT INTO keysets (merchant_id, master_key_id, sealing, indexing) VALUES ('acme', '', x'', x'');
	INSERT INTO events (merchant_id, position, id, type, subject, revision, actor, request_id, at) VALUES ('acme', 7, 'evt_1', 'x', '', 0, '', '', 0);`

// TestOlderSchema restores a backup of an older program.
func TestOlderSchema(t *testing.T) {
	// Chains are not looked at, because they may be elsewhere in it.
	path := MustBackUp(t, older+gap)
	for name, work := range map[string]func(context.Context, string, config.Data, config.MasterKey, app.Progress) (app.Verified, error){
		"verify": app.VerifyBackup, "restore": app.Restore,
	} {
		data := config.Data{Dir: filepath.Join(t.TempDir(), "new")}
		got, err := work(t.Context(), path, data, config.MasterKey{}, silent)
		if err != nil || !got.Older || got.MasterKey || len(got.Merchants) != 1 {
			t.Errorf("%s: %+v (%v)", name, got, err)
		}
		_, err = os.Stat(data.Database())
		if restored := err == nil; restored != (name == "restore") {
			t.Errorf("%s: the database is there: %v (%v)", name, restored, err)
		}
	}
}

// TestUnsoundDatabase refuses a backup of a database that was not sound, and of
// one whose chain does not fit its events.
func TestUnsoundDatabase(t *testing.T) {
	for name, c := range map[string]struct{ change, says string }{
		"an index without its row": {`PRAGMA writable_schema = 1; CREATE TABLE other (a TEXT); CREATE INDEX other_a ON other (a); INSERT INTO other VALUES ('x');
			UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'ip_list') WHERE name = 'other_a'`, "was damaged before it was backed up"},
		"a gap in the events": {gap, "the event at position 1 is missing"},
	} {
		dir := t.TempDir()
		path := MustBackUp(t, c.change)
		_, err := app.Restore(t.Context(), path, config.Data{Dir: filepath.Join(dir, "above", "new")}, config.MasterKey{}, silent)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v is left behind (%v)", name, entries, err)
		}
	}
}
