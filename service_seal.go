package grahak

import (
	"context"
	"fmt"
	"time"
)

// resealInterval is how often it is looked whether customers are to be sealed
// anew.
const resealInterval = time.Second

// resealBatch is how many customers are sealed anew at once, so that no write
// waits long for them.
const resealBatch = 128

// RotateSeal gives the merchant a new sealing key, under which everything is
// sealed from now on. Customers are sealed anew, and older keys destroyed, by
// [Service.Run] of whichever process runs it, or by [Service.Reseal]. If an
// earlier rotation has not ended, it goes on, from the first customer if it was
// stuck, and no key is made. It returns the state after that, and whether a key
// was made. It is for the command line. Codes: [CodeInsufficientScope],
// [CodeMerchantNotFound].
func (s *Service) RotateSeal(ctx context.Context, c Caller) (SealState, bool, error) {
	if err := c.may(scopeOperator); err != nil {
		return SealState{}, false, err
	}
	made := false
	err := s.underNewestKey(func() error {
		state, err := s.store.SealState(ctx, c.Merchant)
		if err != nil {
			return err
		}
		switch {
		case state.Walking:
			return nil
		case state.Oldest < state.Version:
			return s.store.RestartReseal(ctx, c.Merchant, state.Version)
		}
		k, err := s.sealer.Rotate(ctx, state.Keyset)
		if err != nil {
			return err
		}
		now := s.now()
		err = s.changeAccess(c, EventSealRotated, keyVersion(k.Version), now, func(e Event) error {
			return s.store.RotateKeyset(ctx, k, now, e)
		})
		made = err == nil
		return err
	})
	s.sealer.Forget()
	if err != nil {
		return SealState{}, false, err
	}
	state, err := s.store.SealState(ctx, c.Merchant)
	return state, made, err
}

// keyVersion is the subject of an event about a sealing key.
func keyVersion(version int64) string { return fmt.Sprintf("version %d", version) }

// SealStates returns the state of every merchant's keys, by merchant. It is for
// operators only: it takes no caller.
func (s *Service) SealStates(ctx context.Context) ([]SealState, error) {
	return s.store.SealStates(ctx)
}

// reseal seals customers anew where keys were rotated, a batch of each merchant,
// and reports whether there is more to do.
func (s *Service) reseal(ctx context.Context) (more bool, err error) {
	merchants, err := s.store.Rotating(ctx)
	if err != nil {
		return false, err
	}
	return round(ctx, s.nodes.mine(merchants), func(ctx context.Context, m MerchantID) (bool, error) {
		_, more, err := s.resealStep(ctx, m)
		return more, err
	})
}

// Reseal seals the merchant's customers anew, if its key was rotated, and then
// destroys the older keys, as [Service.Run] does in the background. progress is
// told the state before each step. It returns the last state: if that is not
// complete, customers do not open. It is for the command line. Codes:
// [CodeInsufficientScope], [CodeMerchantNotFound].
func (s *Service) Reseal(ctx context.Context, c Caller, progress func(SealState)) (SealState, error) {
	if err := c.may(scopeOperator); err != nil {
		return SealState{}, err
	}
	for {
		state, more, err := s.resealStep(ctx, c.Merchant)
		if err != nil || !more {
			return state, err
		}
		progress(state)
		if err := ctx.Err(); err != nil {
			return state, err
		}
	}
}

// resealStep takes the merchant's next step, and returns the state before it and
// whether it took one.
func (s *Service) resealStep(ctx context.Context, m MerchantID) (SealState, bool, error) {
	state, err := s.store.SealState(ctx, m)
	switch {
	case err != nil || state.Complete():
		return state, false, err
	case state.Walking:
		err = s.resealBatch(ctx, state)
	case state.Unopened == 0:
		err = s.retire(ctx, state)
	default:
		return state, false, nil
	}
	if CodeOf(err) == CodeKeyRotated {
		// Another process took the step, or rotated once more.
		s.sealer.Forget()
		err = nil
	}
	return state, err == nil, err
}

// resealBatch seals the next customers of a walk anew.
func (s *Service) resealBatch(ctx context.Context, state SealState) error {
	customers, err := s.store.CustomersAfter(ctx, state.Merchant, state.After, resealBatch)
	if err != nil {
		return err
	}
	// A keyset that does not open is not its customers' fault.
	if err := s.needKeys(ctx, state.Merchant); err != nil {
		return err
	}
	before := state.After
	changed := make([]CustomerRecord, 0, len(customers))
	for _, r := range customers {
		state.After = r.ID
		state.Seen++
		if r.Sealed.Version == state.Version {
			continue
		}
		customer, err := s.open(ctx, state.Merchant, r)
		switch CodeOf(err) {
		case CodeUnavailable:
			return err
		case CodeCustomerNotFound:
			continue
		}
		if err != nil {
			s.log.Error("a customer cannot be sealed under the new key; the old one is kept", "error", err)
			state.Unopened++
			continue
		}
		anew, err := s.seal(ctx, state.Merchant, customer)
		if err != nil {
			return err
		}
		if anew.Sealed.Version != state.Version {
			return &Error{Code: CodeKeyRotated}
		}
		changed = append(changed, anew)
	}
	state.Walking = len(customers) == resealBatch
	return s.store.Reseal(ctx, state, before, changed)
}

// retire destroys the keys under which nothing is sealed any more.
func (s *Service) retire(ctx context.Context, state SealState) error {
	k, err := s.sealer.Retire(ctx, state.Keyset)
	if err != nil {
		return err
	}
	c := Operator(state.Merchant, "reseal")
	err = s.changeAccess(c, EventSealRetired, keyVersion(state.Version), s.now(), func(e Event) error {
		return s.store.RetireKeyset(ctx, k, e)
	})
	s.sealer.Forget()
	return err
}

// RewrapKeysets wraps the keys of all merchants under the newest master key that
// is configured, and returns its id and the id of the one before, which are the
// same if there was nothing to do. It is for the command line; actor says who.
func (s *Service) RewrapKeysets(ctx context.Context, actor string) (from, to string, err error) {
	if to, err = s.sealer.NewMasterKeyID(ctx); err != nil {
		return "", "", err
	}
	err = s.underNewestKey(func() error {
		from, err = s.store.MasterKeyID(ctx, "")
		if err != nil || from == to {
			return err
		}
		states, err := s.store.SealStates(ctx)
		if err != nil {
			return err
		}
		keysets, events := make([]Keyset, len(states)), make([]Event, len(states))
		now := s.now()
		for i, state := range states {
			if keysets[i], err = s.sealer.Rewrap(ctx, state.Keyset, to); err != nil {
				return err
			}
			if events[i], err = s.event(Operator(state.Merchant, actor), EventSealRewrapped, to, now); err != nil {
				return err
			}
		}
		return s.store.RewrapKeysets(ctx, to, keysets, events)
	})
	s.sealer.Forget()
	return from, to, err
}
