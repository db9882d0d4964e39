package grahak

import (
	"context"
	"errors"
)

// CreateOperator makes an operator without any role, and returns the code with which
// the person chooses a password and sets up an authenticator, once, within
// [SetupTime]. Only the caller of [Operator] for [OperatorsMerchant] may.
// Codes: [CodeInvalidOperator], [CodeOperatorExists].
func (s *Service) CreateOperator(ctx context.Context, c Caller, name string) (setup string, err error) {
	return "", errors.ErrUnsupported
}

// ResetOperator takes the operator's password, authenticator, recovery codes, lock and
// sessions away and returns a code as CreateOperator does. Code: [CodeOperatorNotFound].
func (s *Service) ResetOperator(ctx context.Context, c Caller, name OperatorName) (setup string, err error) {
	return "", errors.ErrUnsupported
}

// DisableOperator ends all sessions of an operator and refuses new ones; EnableOperator
// is the inverse; UnlockOperator lets somebody who failed to log in too often try
// again. Code: [CodeOperatorNotFound].
func (s *Service) DisableOperator(ctx context.Context, c Caller, name OperatorName) error {
	return errors.ErrUnsupported
}

// EnableOperator lets a disabled operator log in again. Code: [CodeOperatorNotFound].
func (s *Service) EnableOperator(ctx context.Context, c Caller, name OperatorName) error {
	return errors.ErrUnsupported
}

// UnlockOperator lets somebody try again who failed to log in too often. Code:
// [CodeOperatorNotFound].
func (s *Service) UnlockOperator(ctx context.Context, c Caller, name OperatorName) error {
	return errors.ErrUnsupported
}

// Operators returns all operators with their grants, by name.
func (s *Service) Operators(ctx context.Context, c Caller) ([]Account, []Grant, error) {
	return nil, nil, errors.ErrUnsupported
}

// Team returns who has a role at c's merchant, those with one at all merchants too,
// by name. Viewers may.
func (s *Service) Team(ctx context.Context, c Caller) ([]TeamMember, error) {
	return nil, errors.ErrUnsupported
}

// SetRole gives an operator a role at c's merchant in place of the one the operator
// has there; an empty role takes it away. Owners may. Codes: [CodeOperatorNotFound];
// [CodeInvalidOperator]; [CodeLastOwner] if the merchant's team would have no owner.
func (s *Service) SetRole(ctx context.Context, c Caller, name OperatorName, role Role) error {
	return errors.ErrUnsupported
}

// Invite makes an operator with a role at c's merchant and returns the setup code as
// CreateOperator does; for an operator there is it is SetRole, and returns none.
// Owners may.
func (s *Service) Invite(ctx context.Context, c Caller, name string, role Role) (setup string, err error) {
	return "", errors.ErrUnsupported
}
