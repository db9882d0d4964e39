package grahak

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"time"
)

// maxSessions is how many sessions an operator has at most: another one ends the one
// that was used longest ago.
const maxSessions = 20

// maxForms is how many forms of an operator are remembered: far more than a person sends
// in a session, and few enough that nobody fills the store with them.
const maxForms = 1000

// touchSession is how old the note of a session's last use gets.
const touchSession = time.Minute

// sessionIdle is how long a session lasts without use, and sessionLifetime how long
// it lasts at all.
func (s *Service) sessionIdle() time.Duration {
	if s.environment == Sandbox {
		return 24 * time.Hour
	}
	return 30 * time.Minute
}

func (s *Service) sessionLifetime() time.Duration {
	if s.environment == Sandbox {
		return 7 * 24 * time.Hour
	}
	return 12 * time.Hour
}

// Login checks a password and a code, and begins a session, whose token is for the
// browser's cookie only. Codes: [CodeLoginRefused], whatever of it is wrong;
// [CodeTooManyRequests] for a name or an address with too many failures;
// [CodeUnavailable].
func (s *Service) Login(ctx context.Context, a LoginAttempt) (token string, err error) {
	p, err := s.prove(ctx, a.Name, a.Password, a.Code, a.Addr)
	if err != nil {
		return "", err
	}
	return s.beginSession(ctx, p, a.Client)
}

func (s *Service) beginSession(ctx context.Context, p LoginProof, client Client) (token string, err error) {
	var b [32]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		return "", err
	}
	token = base64.RawURLEncoding.EncodeToString(b[:])
	events, err := s.proofEvents(p, EventOperatorLoggedIn)
	if err != nil {
		return "", err
	}
	now := s.now()
	r := SessionRecord{Hash: hashSecret(token), Session: Session{
		Operator: p.Operator, CreatedAt: now, UsedAt: now, ExpiresAt: now.Add(s.sessionLifetime()), Addr: client.Addr.Unmap(), Browser: browser(client.UserAgent),
	}}
	err = s.store.BeginSession(ctx, p, r, now.Add(-s.sessionIdle()), maxSessions, events)
	return token, refused(err)
}

// refused gives a proof that does not hold the words of one that never did.
func refused(err error) error {
	if CodeOf(err) == CodeLoginRefused {
		return errLoginRefused
	}
	return err
}

// LoginLink returns a code with which a browser logs in as the operator, once, within
// [LoginLinkTime]. Sandboxes only; elsewhere [CodeLoginRefused]. Code:
// [CodeOperatorNotFound].
func (s *Service) LoginLink(ctx context.Context, c Caller, name OperatorName) (code string, err error) {
	if err := c.mayManageOperators(); err != nil {
		return "", err
	}
	if s.environment != Sandbox {
		return "", Errorf(CodeLoginRefused, "There are login links in a sandbox only: log in with a password and a code.")
	}
	code, kept, err := s.newCode(setupCodeBytes, LoginLinkTime)
	if err != nil {
		return "", err
	}
	return code, s.store.PutLoginLink(ctx, name, kept)
}

// LoginByLink begins a session with a code of LoginLink. Codes: [CodeLoginRefused],
// [CodeTooManyRequests].
func (s *Service) LoginByLink(ctx context.Context, code string, client Client) (token string, err error) {
	if s.environment != Sandbox {
		return "", errLoginRefused
	}
	o, err := s.operatorOfCode(ctx, CodeKindLink, code, client)
	if err != nil {
		return "", err
	}
	return s.beginSession(ctx, LoginProof{Operator: o.Name, At: s.now(), Kind: CodeKindLink, Code: hashCode(code)}, client)
}

// operatorOfCode returns whose code it is. Codes: [CodeLoginRefused],
// [CodeTooManyRequests].
func (s *Service) operatorOfCode(ctx context.Context, kind CodeKind, code string, client Client) (OperatorRecord, error) {
	if err := s.limits.mayLogin(client.Addr, s.clock.Now()); err != nil {
		return OperatorRecord{}, err
	}
	o, err := s.store.OperatorCode(ctx, kind, hashCode(code), s.now())
	if CodeOf(err) == CodeLoginRefused {
		s.limits.loginFailed(client.Addr, s.clock.Now())
	}
	return o, refused(err)
}

// Setup returns what is needed to set up an authenticator, for a setup code, which
// stays valid. Codes: [CodeLoginRefused], [CodeTooManyRequests].
func (s *Service) Setup(ctx context.Context, code string, client Client) (OperatorSetup, error) {
	o, err := s.operatorOfCode(ctx, CodeKindSetup, code, client)
	if err != nil {
		return OperatorSetup{}, err
	}
	secret, err := s.totpSecret(ctx, o.Name, o.TOTPVersion)
	if err != nil {
		return OperatorSetup{}, err
	}
	return s.operatorSetup(o.Name, secret), nil
}

// FinishSetup sets the password, if totp shows that the authenticator works, ends the
// code and returns the recovery codes, which are not kept in clear. That code of the
// authenticator is used then: a login needs the next one. Codes:
// [CodeLoginRefused]; [CodeInvalidOperator] for a password under [MinPassword]
// characters or a wrong totp.
func (s *Service) FinishSetup(ctx context.Context, code, password, totp string, client Client) (recovery []string, err error) {
	o, err := s.operatorOfCode(ctx, CodeKindSetup, code, client)
	if err != nil {
		return nil, err
	}
	if err := CheckPassword(password); err != nil {
		return nil, err
	}
	p, right, err := s.codeProof(ctx, o, totp, s.now())
	if err != nil {
		return nil, err
	}
	if !right || p.Kind != "" {
		return nil, Errorf(CodeInvalidOperator, "This is not the code that the authenticator shows now: check the time of both devices and enter the next one.")
	}
	if o.Password, err = s.hashPassword(ctx, password); err != nil {
		return nil, err
	}
	recovery, hashes, err := s.newRecoveryCodes()
	if err != nil {
		return nil, err
	}
	o.SetUpAt, o.TOTPStep = p.At, p.Step
	events, err := s.proofEvents(p, EventOperatorSetUp)
	if err != nil {
		return nil, err
	}
	if err := s.store.FinishSetup(ctx, hashCode(code), o, hashes, events[0]); err != nil {
		return nil, refused(err)
	}
	return recovery, nil
}

// Visit returns who the session is of. Code: [CodeNoSession] for one that has ended,
// or of a disabled operator.
func (s *Service) Visit(ctx context.Context, token string) (Visitor, error) {
	hash := hashSecret(token)
	r, a, grants, err := s.store.Session(ctx, hash)
	if err != nil {
		return Visitor{}, err
	}
	now := s.now()
	if !s.lasts(r.Session, now) || !a.DisabledAt.IsZero() {
		return Visitor{}, Errorf(CodeNoSession, "The session has ended: log in again.")
	}
	if now.Sub(r.UsedAt) >= touchSession {
		r.UsedAt = now
		if err := s.store.TouchSession(ctx, hash, now); err != nil && ctx.Err() == nil {
			s.log.Error("cannot write when a session was last used", "error", err)
		}
	}
	return Visitor{Account: a, Session: r.Session, Grants: grants}, nil
}

// lasts reports whether a session has not ended at now.
func (s *Service) lasts(r Session, now time.Time) bool {
	return now.Before(r.ExpiresAt) && now.Before(r.UsedAt.Add(s.sessionIdle()))
}

// VisitorCaller returns the caller for a visitor's use of a merchant. Its scope is the
// visitor's role there. Code: [CodeMerchantNotFound] also if the visitor has none.
func (s *Service) VisitorCaller(ctx context.Context, v Visitor, m MerchantID) (Caller, Merchant, error) {
	scope := v.Role(m).scope()
	if scope == "" || m == OperatorsMerchant {
		return Caller{}, Merchant{}, Errorf(CodeMerchantNotFound, "There is no such merchant, or you have no role there.")
	}
	merchant, err := s.store.Merchant(ctx, m)
	return Caller{Merchant: m, Actor: v.Account.Name.Actor(), Scope: scope}, merchant, err
}

// VisitorMerchants returns the merchants that a visitor has a role at, by id.
func (s *Service) VisitorMerchants(ctx context.Context, v Visitor) ([]Merchant, error) {
	if v.Role(OperatorsMerchant) != "" {
		return s.Merchants(ctx)
	}
	var list []Merchant
	for _, g := range v.Grants {
		m, err := s.store.Merchant(ctx, g.Merchant)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Merchant) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// Logout ends the visitor's session.
func (s *Service) Logout(ctx context.Context, v Visitor) error {
	return s.EndSession(ctx, v, v.Session.ID)
}

// Sessions returns the visitor's own sessions, the one in use too, latest used first.
func (s *Service) Sessions(ctx context.Context, v Visitor) ([]Session, error) {
	records, err := s.store.Sessions(ctx, v.Account.Name)
	if err != nil {
		return nil, err
	}
	now := s.now()
	var list []Session
	for _, r := range records {
		if s.lasts(r.Session, now) {
			list = append(list, r.Session)
		}
	}
	return list, nil
}

// ClaimForm reports whether the visitor sends a form for the first time in this session,
// whichever node it is sent to. The form is known by its token, which nobody guesses. Code:
// [CodeTooManyRequests] for who has sent very many.
func (s *Service) ClaimForm(ctx context.Context, v Visitor, token string) (bool, error) {
	form := OperatorCode{Hash: hashSecret("form " + string(v.Session.ID) + " " + token), ExpiresAt: v.Session.ExpiresAt}
	return s.store.ClaimForm(ctx, v.Account.Name, form, maxForms)
}

// EndSession ends one of the visitor's own sessions; an unknown one has ended.
func (s *Service) EndSession(ctx context.Context, v Visitor, id SessionID) error {
	hash, ok := id.hash()
	if !ok {
		return nil
	}
	return s.endSessions(ctx, v, hash)
}

// EndSessions ends all of the visitor's own sessions, the one in use too.
func (s *Service) EndSessions(ctx context.Context, v Visitor) error {
	return s.endSessions(ctx, v, SecretHash{})
}

func (s *Service) endSessions(ctx context.Context, v Visitor, hash SecretHash) error {
	e, err := s.event(Caller{Actor: v.Account.Name.Actor()}, EventOperatorSessionsEnded, string(v.Account.Name), s.now())
	if err != nil {
		return err
	}
	return s.store.EndSessions(ctx, v.Account.Name, hash, e)
}

// ChangePassword sets another password and ends the visitor's other sessions. Codes:
// [CodeLoginRefused] if the old one or the code is wrong; [CodeTooManyRequests];
// [CodeInvalidOperator] if the new one is too short.
func (s *Service) ChangePassword(ctx context.Context, v Visitor, password, code, next string) error {
	if err := CheckPassword(next); err != nil {
		return err
	}
	p, err := s.prove(ctx, string(v.Account.Name), password, code, v.Session.Addr)
	if err != nil {
		return err
	}
	hash, err := s.hashPassword(ctx, next)
	if err != nil {
		return err
	}
	keep, ok := v.Session.ID.hash()
	if !ok {
		return errors.New("a visitor's session has no id")
	}
	events, err := s.proofEvents(p, EventOperatorPasswordChanged)
	if err != nil {
		return err
	}
	return refused(s.store.SetPassword(ctx, p, hash, keep, events))
}

// NewRecoveryCodes replaces the visitor's recovery codes. Codes: as ChangePassword.
func (s *Service) NewRecoveryCodes(ctx context.Context, v Visitor, password, code string) ([]string, error) {
	p, err := s.prove(ctx, string(v.Account.Name), password, code, v.Session.Addr)
	if err != nil {
		return nil, err
	}
	recovery, hashes, err := s.newRecoveryCodes()
	if err != nil {
		return nil, err
	}
	events, err := s.proofEvents(p, EventOperatorRecoveryCodesMade)
	if err != nil {
		return nil, err
	}
	if err := s.store.SetRecoveryCodes(ctx, p, hashes, events); err != nil {
		return nil, refused(err)
	}
	return recovery, nil
}
