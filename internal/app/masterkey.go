package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"grahak"
	"grahak/internal/config"
	"grahak/internal/seal"
)

const (
	// commandLimit is how long --master-key-command may take.
	commandLimit = 30 * time.Second
	// requestPatience is how long a reading of the master key may take before
	// the server's requests no longer wait for it.
	requestPatience = 5 * time.Second
	// faultInterval is how often a server looks whether it has the master key.
	faultInterval = time.Second
)

// masterKeySource is the source of the master keys that were given, or else of
// those that a sandbox keeps in its data folder. Production has none but what is
// given.
func masterKeySource(data config.Data, key config.MasterKey, env grahak.Environment) seal.KeySource {
	switch {
	case key.Text != "":
		return saying("GRAHAK_MASTER_KEY is not a master key", seal.TextKeys(key.Text))
	case key.Command != "":
		return saying("--master-key-command gave no master key", seal.CommandKeys(key.Command, commandLimit))
	case key.File != "":
		return saying(fmt.Sprintf("the master key file %s cannot be used", key.File), seal.FileKeys(key.File))
	}
	if env == grahak.Production {
		return func(context.Context) ([]*seal.MasterKey, error) { return nil, lostMasterKey{} }
	}
	path := data.GeneratedMasterKey()
	read := saying(fmt.Sprintf("the master key file %s cannot be used", path), seal.FileKeys(path))
	return func(ctx context.Context) ([]*seal.MasterKey, error) {
		keys, err := read(ctx)
		if errors.Is(err, seal.ErrNoMasterKey) {
			err = lostMasterKey{path}
		}
		return keys, err
	}
}

// saying returns source with what before each of its errors.
func saying(what string, source seal.KeySource) seal.KeySource {
	return func(ctx context.Context) ([]*seal.MasterKey, error) {
		keys, err := source(ctx)
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		return keys, err
	}
}

// lostMasterKey is the error for a generated master key that is not at its path,
// or without a path for a master key that production was not given.
type lostMasterKey struct{ path string }

// Error says how to mend it.
func (e lostMasterKey) Error() string {
	if e.path == "" {
		return "the data is of production, which keeps no master key itself, and none was given: give the server's, with --master-key-file FILE or --master-key-command CMD, or in GRAHAK_MASTER_KEY"
	}
	return fmt.Sprintf("there is no master key in %s: put the file back, or give the key with --master-key-file, --master-key-command or GRAHAK_MASTER_KEY; customers are sealed under it and cannot be read without it", e.path)
}

// sealer returns the sealer. Where there is data, a master key that cannot be
// had or is not the data's own is a fault of the server, which it outlives: a
// lost key must look like an outage, not like lost customers.
func (s *Server) sealer(ctx context.Context) (*seal.Sealer, error) {
	merchants, err := s.store.Merchants(ctx)
	if err != nil {
		return nil, err
	}
	s.MasterKeys = seal.NewMasterKeys(masterKeySource(s.cfg.Data, s.cfg.MasterKey, s.store.Environment()), requestPatience)
	if len(merchants) == 0 {
		if err := s.nameMasterKey(ctx); err != nil {
			return nil, err
		}
	}
	s.checkMasterKey(ctx)
	sealer := seal.NewSealer(s.MasterKeys, s.store)
	if s.Fault() == nil {
		for _, m := range merchants {
			if err := sealer.Check(ctx, m.ID); err != nil {
				s.log.Error("the customers of a merchant cannot be served", "merchant", m.ID, "error", err)
			}
		}
	}
	return sealer, nil
}

// nameMasterKey names the newest master key as the one that the keys of the
// first merchants will be under. Only here does a sandbox make a key: one made
// beside existing data would open none of it.
func (s *Server) nameMasterKey(ctx context.Context) error {
	newest, err := s.MasterKeys.Newest(ctx)
	if lost := (lostMasterKey{}); errors.As(err, &lost) && !s.cfg.Production() {
		if _, err := seal.MakeMasterKey(lost.path); err != nil {
			return fmt.Errorf("the master key %s cannot be made: %w", lost.path, err)
		}
		newest, err = s.MasterKeys.Newest(ctx)
	}
	if err != nil {
		return err
	}
	_, err = s.store.MasterKeyID(ctx, newest.ID())
	return err
}

// Fault returns why customers cannot be served although the server runs, nil if
// they can. It is never more than some seconds old while the server runs.
func (s *Server) Fault() error {
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// watchMasterKey keeps Fault up to date until ctx ends.
func (s *Server) watchMasterKey(ctx context.Context) {
	tick := time.NewTicker(faultInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.checkMasterKey(ctx)
		}
	}
}

// checkMasterKey finds out whether the server has the master key that the data is
// under, and says so in the log when that has changed.
func (s *Server) checkMasterKey(ctx context.Context) {
	named, err := s.store.MasterKeyID(ctx, "")
	if err != nil {
		return // The storage has an outage of its own, and it tells nothing of the key.
	}
	_, fault := s.MasterKeys.Key(ctx, named)
	if s.cfg.Postgres() {
		fault = shared(fault)
	}
	if ctx.Err() != nil {
		return
	}
	if fault != nil {
		if again, err := s.store.MasterKeyID(ctx, ""); err != nil || again != named {
			return // It was changed meanwhile, and the next look tells.
		}
	}
	before := s.Fault()
	switch {
	case fault == nil && before != nil:
		s.log.Info("customers can be served again")
	case fault != nil && (before == nil || before.Error() != fault.Error()):
		s.log.Error("customers cannot be served", "error", fault)
	}
	s.fault.Store(&fault)
}

// shared is what is wrong with the master key of a server that is one of several,
// with what mends it where the others have one that this one lacks.
func shared(fault error) error {
	lost, other := lostMasterKey{}, seal.OtherMasterKeyError{}
	if errors.As(fault, &lost) || errors.As(fault, &other) {
		return fmt.Errorf("%w; all servers of one database need the same master key, as from one --master-key-file that each of them has", fault)
	}
	return fault
}

// RenewMasterKey changes the master key that a sandbox keeps in its data folder:
// it puts a new one beside the old, calls rewrap, which is to wrap all keysets
// under the newest, and removes the old one. When it is cut off, both are left,
// and the next call goes on from there. It does nothing but call rewrap if the
// operator gives the master key.
func (d *Data) RenewMasterKey(ctx context.Context, rewrap func(context.Context) error) error {
	if d.key.Given() {
		return rewrap(ctx)
	}
	// Two at once would overwrite each other's new key.
	lock := secretsLock(d.data)
	got, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("the data folder %s cannot be locked: %w", d.data.Folder(), err)
	}
	if !got {
		return errors.New("the master key is being changed by another command: wait for its end")
	}
	defer func() { _ = lock.Unlock() }()

	path := d.data.GeneratedMasterKey()
	newest, err := d.MasterKeys.Newest(ctx)
	if err != nil {
		return err
	}
	named, err := d.Store.MasterKeyID(ctx, "")
	if err != nil {
		return err
	}
	if newest.ID() == named {
		if _, err := seal.AddMasterKey(path); err != nil {
			return fmt.Errorf("no new master key can be put into %s: %w", path, err)
		}
	}
	if err := rewrap(ctx); err != nil {
		return err
	}
	if named, err = d.Store.MasterKeyID(ctx, ""); err != nil {
		return err
	}
	if err := seal.KeepMasterKey(path, named); err != nil {
		return fmt.Errorf("the old master key cannot be removed from %s: %w", path, err)
	}
	return nil
}
