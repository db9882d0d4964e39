package grahak

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// IPGuardTime is how far [Service.PlanIPChange] looks back for addresses that are in
// use.
const IPGuardTime = 24 * time.Hour

// IPChange is a change of a merchant's IP list that may shut somebody out: either the
// mode that it is to have, or an address or network to take off.
type IPChange struct {
	Mode   IPMode
	Remove string
}

// IPPlan is what an [IPChange] would do, as far as it can be told from the addresses
// that were seen in the last [IPGuardTime].
type IPPlan struct {
	// Entries is how many entries the list has after the change, and Enforced whether
	// it refuses others then.
	Entries  int
	Enforced bool
	// ShutOut is the addresses that are not refused now and would be, those seen last
	// first; LetIn is how many of those that were seen would not be.
	ShutOut []AddressUse
	LetIn   int
	// Blind is set if the list is enforced and there is no request log, so that nobody
	// knows who would be shut out.
	Blind bool
}

// Confirmation says what must be given for the plan to be carried out.
func (p IPPlan) Confirmation() IPConfirmation {
	switch {
	case p.Enforced && p.Entries == 0, len(p.ShutOut) > 0 && p.LetIn == 0:
		return IPConfirmTyped
	case len(p.ShutOut) > 0, p.Blind:
		return IPConfirmSeen
	}
	return IPConfirmNone
}

// IPConfirmation is how sure somebody must be of a change of an IP list.
type IPConfirmation int

// The degrees of confirmation, each of which includes those before it.
const (
	IPConfirmNone  IPConfirmation = iota
	IPConfirmSeen                 // who was shown that some addresses would be shut out, or may be
	IPConfirmTyped                // who typed the merchant's id: all would be
)

// PlanIPChange says what a change of the merchant's IP list would do, and does nothing.
// Viewers may. Codes: [CodeInvalidIPEntry] for a change that is none,
// [CodeIPEntryNotFound], [CodeMerchantNotFound].
func (s *Service) PlanIPChange(ctx context.Context, c Caller, change IPChange) (IPPlan, error) {
	m, entries, err := s.IPList(ctx, c)
	if err != nil {
		return IPPlan{}, err
	}
	before := make([]netip.Prefix, len(entries))
	for i, e := range entries {
		before[i] = e.Prefix
	}
	mode, after := m.IPMode, before
	if change.Remove != "" {
		p, err := ParseIPEntry(change.Remove)
		if err != nil {
			return IPPlan{}, err
		}
		if after = slices.DeleteFunc(slices.Clone(before), func(q netip.Prefix) bool { return p == q }); len(after) == len(before) {
			return IPPlan{}, Errorf(CodeIPEntryNotFound, "%s is not on the list.", p)
		}
	} else if mode, err = parseIPMode(change.Mode); err != nil {
		return IPPlan{}, err
	}
	plan := IPPlan{Entries: len(after), Enforced: mode == IPModeEnforce}
	plan.Blind = plan.Enforced && !s.LogsRequests()
	if !plan.Enforced || plan.Blind {
		return plan, nil
	}
	seen, err := s.Addresses(ctx, c, s.now().Add(-IPGuardTime))
	if err != nil {
		return IPPlan{}, err
	}
	for _, use := range seen {
		switch {
		case !judgeIP(mode, after, use.Addr).Refused():
			plan.LetIn++
		case !judgeIP(m.IPMode, before, use.Addr).Refused():
			plan.ShutOut = append(plan.ShutOut, use)
		}
	}
	return plan, nil
}

// ChangeIPList carries a change out if its plan asks for no more confirmation than is
// given, and returns the plan. typed is what somebody has typed to confirm it; seen is
// set if the addresses that it shuts out were shown. The plan is made of what is known
// when it is called: of two changes at the same moment neither knows the other. Codes:
// [CodeNotConfirmed], and those of [Service.PlanIPChange].
func (s *Service) ChangeIPList(ctx context.Context, c Caller, change IPChange, seen bool, typed string) (IPPlan, error) {
	if err := c.may(scopeAdmin); err != nil {
		return IPPlan{}, err
	}
	plan, err := s.PlanIPChange(ctx, c, change)
	if err != nil {
		return IPPlan{}, err
	}
	given := IPConfirmNone
	switch {
	case typed == string(c.Merchant):
		given = IPConfirmTyped
	case seen:
		given = IPConfirmSeen
	}
	if needed := plan.Confirmation(); given < needed {
		if needed == IPConfirmTyped {
			return plan, Errorf(CodeNotConfirmed, "Nobody who has called in the last 24 hours could call any more: to do it all the same, type the merchant's id, %s.", c.Merchant)
		}
		if plan.Blind {
			return plan, Errorf(CodeNotConfirmed, "There is no request log, so nobody knows who could not call any more: confirm the change.")
		}
		return plan, Errorf(CodeNotConfirmed, "Some who have called in the last 24 hours could not call any more: look at their addresses and confirm the change.")
	}
	if change.Remove == "" {
		return plan, s.setIPMode(ctx, c, change.Mode, given == IPConfirmTyped)
	}
	p, err := ParseIPEntry(change.Remove)
	if err != nil {
		return plan, err
	}
	return plan, s.removeIPEntry(ctx, c, p, given == IPConfirmTyped)
}

// RemoveIPEntry takes an address or network off the merchant's IP list, whoever calls
// from there, but not the last one of a list that is enforced. Codes:
// [CodeInvalidIPEntry], [CodeIPEntryNotFound], [CodeIPListEmpty],
// [CodeMerchantNotFound].
func (s *Service) RemoveIPEntry(ctx context.Context, c Caller, address string) error {
	p, err := ParseIPEntry(address)
	if err != nil {
		return err
	}
	return s.removeIPEntry(ctx, c, p, false)
}

func (s *Service) removeIPEntry(ctx context.Context, c Caller, p netip.Prefix, evenLast bool) error {
	return s.change(c, EventIPEntryRemoved, p.String(), s.now(), func(e Event) error {
		return s.store.RemoveIPEntry(ctx, c.Merchant, p, evenLast, e)
	})
}

// SetIPMode sets what the merchant's IP list does, whoever calls, but does not enforce
// an empty one. Codes: [CodeInvalidIPEntry] for an unknown mode, [CodeIPListEmpty],
// [CodeMerchantNotFound].
func (s *Service) SetIPMode(ctx context.Context, c Caller, mode IPMode) error {
	if _, err := parseIPMode(mode); err != nil {
		return err
	}
	return s.setIPMode(ctx, c, mode, false)
}

func (s *Service) setIPMode(ctx context.Context, c Caller, mode IPMode, evenEmpty bool) error {
	return s.change(c, EventIPModeChanged, string(mode), s.now(), func(e Event) error {
		return s.store.SetIPMode(ctx, c.Merchant, mode, evenEmpty, e)
	})
}

// parseIPMode returns mode, or a [CodeInvalidIPEntry] error if it is none.
func parseIPMode(mode IPMode) (IPMode, error) {
	if mode != IPModeOff && mode != IPModeReport && mode != IPModeEnforce {
		return "", Errorf(CodeInvalidIPEntry, "The mode is off, report or enforce.")
	}
	return mode, nil
}
