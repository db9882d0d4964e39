package grahak

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// SandboxOperatorName is who logs in to a sandbox's dashboard by the link that it
// prints.
const SandboxOperatorName OperatorName = "sandbox"

// CreateOperator makes an operator without any role, and returns the code with which
// the person chooses a password and sets up an authenticator, once, within
// [SetupTime]. Only the caller of [Operator] for [OperatorsMerchant] may.
// Codes: [CodeInvalidOperator], [CodeOperatorExists].
func (s *Service) CreateOperator(ctx context.Context, c Caller, name string) (setup string, err error) {
	if err := c.mayManageOperators(); err != nil {
		return "", err
	}
	return s.createOperator(ctx, c, name, Grant{})
}

// createOperator makes an operator with the role that g is about, unless that is
// empty.
func (s *Service) createOperator(ctx context.Context, c Caller, name string, g Grant) (setup string, err error) {
	n, err := ParseOperatorName(name)
	if err != nil {
		return "", err
	}
	setup, code, err := s.newCode(setupCodeBytes, SetupTime)
	if err != nil {
		return "", err
	}
	return setup, s.addOperator(ctx, c, n, code, g)
}

// addOperator writes an operator; see [OperatorStore].
func (s *Service) addOperator(ctx context.Context, c Caller, name OperatorName, setup OperatorCode, g Grant) error {
	if err := s.keepOperators(ctx, c.Actor); err != nil {
		return err
	}
	now := s.now()
	g.Operator, g.GrantedBy, g.GrantedAt = name, c.Actor, now
	e, err := s.event(c, EventOperatorCreated, string(name), now)
	if err != nil {
		return err
	}
	granted, err := s.event(c, EventRoleSet, roleSubject(name, g.Role), now)
	if err != nil {
		return err
	}
	return s.store.CreateOperator(ctx, name, now, setup, e, g, granted)
}

// keepOperators makes the merchant that operators are kept under, unless there is
// one.
func (s *Service) keepOperators(ctx context.Context, actor string) error {
	_, err := s.store.Merchant(ctx, OperatorsMerchant)
	if CodeOf(err) != CodeMerchantNotFound {
		return err
	}
	_, err = s.createMerchant(ctx, Operator(OperatorsMerchant, actor), "Operators of the dashboard")
	if CodeOf(err) == CodeMerchantExists {
		return nil // Somebody else has just made it.
	}
	return err
}

// roleSubject is the subject of an event that gives a role.
func roleSubject(name OperatorName, role Role) string { return string(name) + ":" + string(role) }

// SandboxOperator makes the operator [SandboxOperatorName], an owner of all merchants
// without a password, unless there is one, and returns its name. Sandboxes only;
// elsewhere [CodeLoginRefused].
func (s *Service) SandboxOperator(ctx context.Context) (OperatorName, error) {
	if s.environment != Sandbox {
		return "", errLoginRefused
	}
	if _, err := s.store.Operator(ctx, SandboxOperatorName); CodeOf(err) != CodeOperatorNotFound {
		return SandboxOperatorName, err
	}
	err := s.addOperator(ctx, Operator(OperatorsMerchant, "serve"), SandboxOperatorName, OperatorCode{}, Grant{Merchant: OperatorsMerchant, Role: RoleOwner})
	if CodeOf(err) == CodeOperatorExists {
		err = nil
	}
	return SandboxOperatorName, err
}

// ResetOperator takes the operator's password, authenticator, recovery codes, lock and
// sessions away and returns a code as CreateOperator does. Code: [CodeOperatorNotFound].
func (s *Service) ResetOperator(ctx context.Context, c Caller, name OperatorName) (setup string, err error) {
	setup, code, err := s.newCode(setupCodeBytes, SetupTime)
	if err != nil {
		return "", err
	}
	return setup, s.changeOperator(c, EventOperatorReset, name, func(_ time.Time, e Event) error {
		return s.store.ResetOperator(ctx, name, code, e)
	})
}

// DisableOperator ends all sessions of an operator and refuses new ones. Code:
// [CodeOperatorNotFound].
func (s *Service) DisableOperator(ctx context.Context, c Caller, name OperatorName) error {
	return s.changeOperator(c, EventOperatorDisabled, name, func(now time.Time, e Event) error {
		return s.store.DisableOperator(ctx, name, now, e)
	})
}

// EnableOperator lets a disabled operator log in again. Code: [CodeOperatorNotFound].
func (s *Service) EnableOperator(ctx context.Context, c Caller, name OperatorName) error {
	return s.changeOperator(c, EventOperatorEnabled, name, func(_ time.Time, e Event) error {
		return s.store.EnableOperator(ctx, name, e)
	})
}

// UnlockOperator lets somebody try again who failed to log in too often. Code:
// [CodeOperatorNotFound].
func (s *Service) UnlockOperator(ctx context.Context, c Caller, name OperatorName) error {
	return s.changeOperator(c, EventOperatorUnlocked, name, func(_ time.Time, e Event) error {
		return s.store.UnlockOperator(ctx, name, e)
	})
}

// changeOperator runs a write about an operator, with its event.
func (s *Service) changeOperator(c Caller, t EventType, name OperatorName, write func(now time.Time, e Event) error) error {
	if err := c.mayManageOperators(); err != nil {
		return err
	}
	now := s.now()
	e, err := s.event(c, t, string(name), now)
	if err != nil {
		return err
	}
	return write(now, e)
}

// Operators returns all operators with their grants, by name.
func (s *Service) Operators(ctx context.Context, c Caller) ([]Account, []Grant, error) {
	if err := c.mayManageOperators(); err != nil {
		return nil, nil, err
	}
	accounts, err := s.store.Operators(ctx)
	if err != nil {
		return nil, nil, err
	}
	grants, err := s.store.Grants(ctx, "")
	return accounts, grants, err
}

// Team returns who has a role at c's merchant, those with one at all merchants too,
// by name. Who has both is there twice. Viewers may.
func (s *Service) Team(ctx context.Context, c Caller) ([]TeamMember, error) {
	if err := c.may(scopeViewer); err != nil {
		return nil, err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return nil, err
	}
	grants, err := s.store.Grants(ctx, c.Merchant)
	if err != nil {
		return nil, err
	}
	if c.Merchant != OperatorsMerchant {
		all, err := s.store.Grants(ctx, OperatorsMerchant)
		if err != nil {
			return nil, err
		}
		grants = append(all, grants...)
	}
	accounts, err := s.store.Operators(ctx)
	if err != nil {
		return nil, err
	}
	team := make([]TeamMember, 0, len(grants))
	for _, g := range grants {
		i, found := slices.BinarySearchFunc(accounts, g.Operator, func(a Account, name OperatorName) int { return cmp.Compare(a.Name, name) })
		if found {
			team = append(team, TeamMember{Account: accounts[i], Grant: g})
		}
	}
	slices.SortStableFunc(team, func(a, b TeamMember) int { return cmp.Compare(a.Account.Name, b.Account.Name) })
	return team, nil
}

// SetRole gives an operator a role at c's merchant in place of the one the operator
// has there; an empty role takes it away. Owners may. Codes: [CodeOperatorNotFound];
// [CodeInvalidOperator]; [CodeLastOwner] if the merchant's team would have no owner.
func (s *Service) SetRole(ctx context.Context, c Caller, name OperatorName, role Role) error {
	if err := c.mayManageTeam(); err != nil {
		return err
	}
	t, subject := EventRoleSet, roleSubject(name, role)
	if role == "" {
		t, subject = EventRoleRemoved, string(name)
	} else if err := role.check(); err != nil {
		return err
	}
	now := s.now()
	e, err := s.event(c, t, subject, now)
	if err != nil {
		return err
	}
	return s.store.SetRole(ctx, Grant{Merchant: c.Merchant, Operator: name, Role: role, GrantedBy: c.Actor, GrantedAt: now}, e)
}

// check returns a [CodeInvalidOperator] error unless r is a role.
func (r Role) check() error {
	if r.scope() == "" {
		return Errorf(CodeInvalidOperator, "A role is owner, admin or viewer.")
	}
	return nil
}

// Invite makes an operator with a role at c's merchant and returns the setup code as
// CreateOperator does; for an operator there is it is SetRole, and returns none.
// Owners may.
func (s *Service) Invite(ctx context.Context, c Caller, name string, role Role) (setup string, err error) {
	if err := c.mayManageTeam(); err != nil {
		return "", err
	}
	if err := role.check(); err != nil {
		return "", err
	}
	if c.Merchant == OperatorsMerchant {
		if err := s.keepOperators(ctx, c.Actor); err != nil {
			return "", err
		}
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return "", err
	}
	setup, err = s.createOperator(ctx, c, name, Grant{Merchant: c.Merchant, Role: role})
	if CodeOf(err) == CodeOperatorExists {
		return "", s.SetRole(ctx, c, OperatorName(name), role)
	}
	if err != nil {
		return "", err
	}
	return setup, nil
}
