package grahak

import (
	"context"
	"errors"
)

// Login checks a password and a code, and begins a session, whose token is for the
// browser's cookie only. Codes: [CodeLoginRefused], whatever of it is wrong;
// [CodeTooManyRequests] for a name or an address with too many failures;
// [CodeUnavailable].
func (s *Service) Login(ctx context.Context, a LoginAttempt) (token string, err error) {
	return "", errors.ErrUnsupported
}

// LoginLink returns a code with which a browser logs in as the operator, once, within
// [LoginLinkTime]. Sandboxes only; elsewhere [CodeLoginRefused]. Code:
// [CodeOperatorNotFound].
func (s *Service) LoginLink(ctx context.Context, c Caller, name OperatorName) (code string, err error) {
	return "", errors.ErrUnsupported
}

// LoginByLink begins a session with a code of LoginLink. Codes: [CodeLoginRefused],
// [CodeTooManyRequests].
func (s *Service) LoginByLink(ctx context.Context, code string, client Client) (token string, err error) {
	return "", errors.ErrUnsupported
}

// Setup returns what is needed to set up an authenticator, for a setup code, which
// stays valid. Codes: [CodeLoginRefused], [CodeTooManyRequests].
func (s *Service) Setup(ctx context.Context, code string, client Client) (OperatorSetup, error) {
	return OperatorSetup{}, errors.ErrUnsupported
}

// FinishSetup sets the password, if totp shows that the authenticator works, ends the
// code and returns the recovery codes, which are not kept in clear. Codes:
// [CodeLoginRefused]; [CodeInvalidOperator] for a password under [MinPassword]
// characters or a wrong totp.
func (s *Service) FinishSetup(ctx context.Context, code, password, totp string, client Client) (recovery []string, err error) {
	return nil, errors.ErrUnsupported
}

// Visit returns who the session is of. Code: [CodeNoSession] for one that has ended,
// or of a disabled operator.
func (s *Service) Visit(ctx context.Context, token string) (Visitor, error) {
	return Visitor{}, errors.ErrUnsupported
}

// VisitorCaller returns the caller for a visitor's use of a merchant. Its scope is the
// visitor's role there. Code: [CodeMerchantNotFound] also if the visitor has none.
func (s *Service) VisitorCaller(ctx context.Context, v Visitor, m MerchantID) (Caller, Merchant, error) {
	return Caller{}, Merchant{}, errors.ErrUnsupported
}

// VisitorMerchants returns the merchants that a visitor has a role at, by id.
func (s *Service) VisitorMerchants(ctx context.Context, v Visitor) ([]Merchant, error) {
	return nil, errors.ErrUnsupported
}

// Logout ends the visitor's session.
func (s *Service) Logout(ctx context.Context, v Visitor) error { return errors.ErrUnsupported }

// Sessions returns the visitor's own sessions, the one in use too, latest used first.
func (s *Service) Sessions(ctx context.Context, v Visitor) ([]Session, error) {
	return nil, errors.ErrUnsupported
}

// EndSession ends one of the visitor's own sessions; an unknown one has ended.
func (s *Service) EndSession(ctx context.Context, v Visitor, id SessionID) error {
	return errors.ErrUnsupported
}

// EndSessions ends all of the visitor's own sessions, the one in use too.
func (s *Service) EndSessions(ctx context.Context, v Visitor) error { return errors.ErrUnsupported }

// ChangePassword sets another password and ends the visitor's other sessions. Codes:
// [CodeLoginRefused] if the old one or the code is wrong; [CodeTooManyRequests];
// [CodeInvalidOperator] if the new one is too short.
func (s *Service) ChangePassword(ctx context.Context, v Visitor, password, code, next string) error {
	return errors.ErrUnsupported
}

// NewRecoveryCodes replaces the visitor's recovery codes. Codes: as ChangePassword.
func (s *Service) NewRecoveryCodes(ctx context.Context, v Visitor, password, code string) ([]string, error) {
	return nil, errors.ErrUnsupported
}
