package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"grahak"
	"grahak/internal/backup"
	"grahak/internal/config"
	"grahak/internal/disk"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
)

// Verified is a backup in which everything fits, as far as it could be looked
// at.
type Verified struct {
	Backup
	// MasterKey is set if the master key was there: then it opens the keys of
	// every merchant and the chains are proven to be made by their service.
	MasterKey bool
	// Older is set if the schema is older than this program's: then the chains
	// were not looked at.
	Older bool
}

// VerifyBackup reads a backup to its end and checks that everything in it fits.
// It looks for the master key where key says or else in the data folder. Errors
// are one sentence.
func VerifyBackup(ctx context.Context, path string, data config.Data, key config.MasterKey, progress Progress) (_ Verified, err error) {
	defer func() { err = orInterrupted(ctx, err) }()
	v, err := newVerifier(path, data, key, progress)
	if err != nil {
		return Verified{}, err
	}
	defer v.masters.Close()
	if err := v.findMasterKey(ctx); err != nil {
		return Verified{}, err
	}
	if v.Backup, err = readBackup(ctx, path, io.Discard, progress.bytes("Reading")); err == nil {
		err = v.check(ctx, path)
	}
	return v.Verified, err
}

// Restore makes the data folder, which must not exist or be empty but for a
// master key, out of a backup, and checks it in the way of [VerifyBackup] before
// it gives it its name. Whatever it made is gone again after an error. Errors are
// one sentence.
func Restore(ctx context.Context, path string, data config.Data, key config.MasterKey, progress Progress) (_ Verified, err error) {
	if data.Postgres() {
		return Verified{}, errors.New("a backup is restored into a data folder, and --database-url (or GRAHAK_DATABASE_URL) names PostgreSQL, which has its own ways: use pg_restore or a base backup; docs/operations.md says how")
	}
	defer func() { err = orInterrupted(ctx, err) }()
	v, err := newVerifier(path, data, key, progress)
	if err != nil {
		return Verified{}, err
	}
	defer v.masters.Close()
	release, err := claimFolder(data)
	if err != nil {
		return Verified{}, err
	}
	defer func() { release(err != nil) }()
	if err := v.findMasterKey(ctx); err != nil {
		return Verified{}, err
	}
	f, err := createPartial(data.Database())
	if err != nil {
		return Verified{}, err
	}
	defer func() {
		if err != nil {
			err = cleanUp(f, err)
		}
	}()
	if free, err := disk.Free(data.Folder()); err == nil && free < uint64(v.Database.Bytes)+spareSpace {
		return Verified{}, fmt.Errorf("the disk that holds %s has %d MiB free and the data needs %d: free some space, or use another disk", data.Folder(), free>>20, (v.Database.Bytes+spareSpace)>>20)
	}
	if v.Backup, err = readBackup(ctx, path, f, progress.bytes("Copying")); err != nil {
		return Verified{}, err
	}
	if err := f.Sync(); err != nil {
		return Verified{}, err
	}
	disk.DropCache(f)
	if err := v.check(ctx, f.Name()); err != nil {
		return Verified{}, err
	}
	return v.Verified, publish(f, data.Database())
}

// claimFolder makes the data folder, if there is none, and keeps servers out of
// it until release is called, which removes what was made if it is to undo it.
func claimFolder(data config.Data) (release func(undo bool), err error) {
	made, err := makeDataDir(data.Folder())
	if err != nil {
		return nil, err
	}
	undo := func() {
		for _, dir := range made {
			_ = os.Remove(dir)
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	entries, err := os.ReadDir(data.Folder())
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		switch filepath.Join(data.Folder(), entry.Name()) {
		case data.GeneratedMasterKey(), data.LockFile(), data.ControlSocket():
			// Whoever uses the folder holds the lock; the files say nothing.
		case partial(data.Database()):
			return nil, fmt.Errorf("%s is in the data folder %s: wait for the restore that is writing it or, if there is none, delete what one that was killed has left", entry.Name(), data.Folder())
		default:
			return nil, fmt.Errorf("the data folder %s is not empty, %s is in it: give another with --data, or move away what is there", data.Folder(), entry.Name())
		}
	}
	lock, err := tryLock(data)
	if err == nil && lock == nil {
		err = fmt.Errorf("another grahak is using the data folder %s: wait for its end, or give another folder with --data", data.Folder())
	}
	if err != nil {
		return nil, err
	}
	return func(undone bool) {
		if undone {
			_ = os.Remove(data.LockFile())
		}
		_ = lock.Unlock()
		if undone {
			undo()
		}
	}, nil
}

// verifier checks one backup.
type verifier struct {
	Verified
	path     string
	masters  *seal.MasterKeys
	progress Progress
}

// newVerifier opens a backup, and checks that this program knows its schema. The
// caller closes its masters.
func newVerifier(path string, data config.Data, key config.MasterKey, progress Progress) (*verifier, error) {
	file, err := backup.Open(path)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	newest, err := sqlstore.NewestSchema()
	if err != nil {
		return nil, err
	}
	m := file.Manifest
	if m.Schema > newest {
		return nil, fmt.Errorf("the backup %s has schema version %d, but this grahak knows only up to %d: use the newer grahak that made it", path, m.Schema, newest)
	}
	v := &verifier{path: path, masters: seal.NewMasterKeys(masterKeySource(data, key, grahak.Environment(m.Environment)), 0), progress: progress}
	v.Manifest, v.Older = m, m.Schema < newest
	return v, nil
}

// findMasterKey looks for the master key that the backup is sealed under. That
// there is none is no error, but that there is another is one.
func (v *verifier) findMasterKey(ctx context.Context) error {
	if v.MasterKeyID == "" {
		return nil
	}
	_, err := v.masters.Key(ctx, v.MasterKeyID)
	if lost := (lostMasterKey{}); err != nil && !errors.As(err, &lost) {
		return err
	}
	v.MasterKey = err == nil
	return nil
}

// check checks the database at path, whose bytes are known to be those that
// were backed up: whether it was sound then, and whether it is what the manifest
// says.
func (v *verifier) check(ctx context.Context, path string) error {
	store, err := sqlstore.OpenCopy(ctx, path)
	if err != nil {
		return fmt.Errorf("the database in the backup %s cannot be opened: %w", v.path, err)
	}
	defer func() { _ = store.Close() }()
	found, err := store.Check(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("the database in the backup %s was damaged before it was backed up, %d findings, first: %s; use an older backup", v.path, len(found), found[0])
	}
	var is backup.Manifest
	if err := describe(ctx, store, &is); err != nil {
		return err
	}
	said := v.Manifest
	if is.Schema != said.Schema || is.Environment != said.Environment || is.MasterKeyID != said.MasterKeyID || !slices.Equal(is.Merchants, said.Merchants) {
		return fmt.Errorf("the backup %s does not hold what its manifest says: %d customers of %d merchants where it says %d of %d; use another backup", v.path, is.Customers(), len(is.Merchants), said.Customers(), len(said.Merchants))
	}
	sealer := seal.NewSealer(v.masters, store)
	service, err := grahak.NewService(grahak.Config{Store: store, Sealer: sealer, Environment: store.Environment(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for _, m := range said.Merchants {
		if err := v.checkMerchant(ctx, service, sealer, m); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) checkMerchant(ctx context.Context, service *grahak.Service, sealer *seal.Sealer, m backup.Merchant) error {
	id := grahak.MerchantID(m.ID)
	if v.MasterKey {
		if err := sealer.Check(ctx, id); err != nil {
			return err
		}
	}
	if v.Older {
		return nil
	}
	report, err := service.VerifyAudit(ctx, grahak.Operator(id, "restore"), nil, func(events int64) {
		v.progress("Checking events of "+m.ID, events, m.Events)
	})
	if err != nil {
		return err
	}
	if report.Fault != "" {
		return fmt.Errorf("the events of merchant %s in the backup %s are not what they were: %s; use an older backup", id, v.path, report.Fault)
	}
	return nil
}
