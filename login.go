package grahak

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // What authenticators on telephones know: RFC 6238 with SHA-1.
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
)

// How many bytes of randomness codes have, of which each five are eight characters.
const (
	setupCodeBytes    = 20
	recoveryCodeBytes = 10
	recoveryCodes     = 10
)

// codeText writes codes: letters and digits that are hard to take for each other.
var codeText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newCode returns a code of n bytes from the service's random source, in groups of
// four characters, and what is kept of it.
func (s *Service) newCode(n int, lifetime time.Duration) (string, OperatorCode, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.random, b); err != nil {
		return "", OperatorCode{}, err
	}
	text := codeText.EncodeToString(b)
	groups := make([]string, 0, len(text)/4)
	for i := 0; i < len(text); i += 4 {
		groups = append(groups, text[i:i+4])
	}
	return strings.Join(groups, "-"), OperatorCode{Hash: hashCode(text), ExpiresAt: s.now().Add(lifetime)}, nil
}

// hashCode returns the hash of a code as a person enters it: without hyphens and
// spaces, in small letters.
func hashCode(code string) SecretHash {
	return hashSecret(strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, code)))
}

// newRecoveryCodes returns recovery codes and their hashes.
func (s *Service) newRecoveryCodes() (codes []string, hashes []SecretHash, err error) {
	for range recoveryCodes {
		code, kept, err := s.newCode(recoveryCodeBytes, 0)
		if err != nil {
			return nil, nil, err
		}
		codes, hashes = append(codes, code), append(hashes, kept.Hash)
	}
	return codes, hashes, nil
}

// RFC 6238, with what all authenticators take for granted.
const (
	totpDigits = 6
	totpPeriod = 30
	// totpSteps is how many steps a clock may be off, either way.
	totpSteps = 1
)

// totpCode returns the code of a time step.
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%0*d", totpDigits, binary.BigEndian.Uint32(sum[at:])&(1<<31-1)%1_000_000)
}

// totpStep returns the time step of which code is, after the step last.
func totpStep(secret []byte, code string, last int64, now time.Time) (step int64, ok bool) {
	middle := now.Unix() / totpPeriod
	for i := middle - totpSteps; i <= middle+totpSteps; i++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, i)), []byte(code)) == 1 && i > last && !ok {
			step, ok = i, true
		}
	}
	return step, ok
}

// totpSecret returns a version of the secret that an operator's authenticator holds,
// 20 bytes that only the key of [OperatorsMerchant] makes, so that none need be stored.
func (s *Service) totpSecret(ctx context.Context, name OperatorName, version int64) (secret []byte, err error) {
	for _, half := range []string{"/1", "/2"} {
		index, err := s.sealer.Index(ctx, OperatorsMerchant, IndexTOTP, string(name)+"/"+strconv.FormatInt(version, 10)+half)
		if err != nil {
			return nil, err
		}
		secret = append(secret, index[:]...)
	}
	return secret[:20], nil
}

// operatorSetup returns what is shown of a secret.
func (s *Service) operatorSetup(name OperatorName, secret []byte) OperatorSetup {
	issuer := "Grahak"
	if s.environment == Sandbox {
		issuer += " sandbox"
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	u := url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + string(name),
		RawQuery: "secret=" + text + "&issuer=" + url.PathEscape(issuer),
	}
	return OperatorSetup{Operator: name, Secret: text, URL: u.String()}
}

// passwordCost is OWASP's for argon2id with the least memory: some 50 ms.
var passwordCost = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// noPassword is a hash of that cost whose password nobody knows. It is compared with
// where there is none, so that it takes as long.
const noPassword = "$argon2id$v=19$m=19456,t=2,p=1$xj9fxHCxC5V8/aG1TTEpZA$JsJIroJ71W5eA0nYURfpwyCQ4G5c97ojed6LlQIMgr0" //nolint:gosec // Nobody has the password that it is of.

// maxPassword is the limit of passwords, in bytes.
const maxPassword = 1024

// CheckPassword returns a [CodeInvalidOperator] error unless an operator may have the
// password, which is not looked at but for its length.
func CheckPassword(password string) error {
	if utf8.RuneCountInString(password) < MinPassword || len(password) > maxPassword {
		return Errorf(CodeInvalidOperator, "A password has at least %d characters and at most %d bytes: a few words do.", MinPassword, maxPassword)
	}
	return nil
}

// lockedFor is how long no login is tried after that many in a row have failed.
func lockedFor(failures int64) time.Duration {
	const free, first, most = 5, 30 * time.Second, 15 * time.Minute
	if failures < free {
		return 0
	}
	return min(most, first<<min(failures-free, 5))
}

const (
	// loginWait is how long a password waits for others to be hashed.
	loginWait = 5 * time.Second
	// failurePause is how long the turn lasts at least after a failure, which is longer
	// than it takes to write one: how long the next has to wait must not tell whether
	// there is such an operator.
	failurePause = 50 * time.Millisecond
	// maxStrangers bounds how many names that are no operator's are remembered.
	maxStrangers = 4096
)

// logins has one password hashed at a time, so that a flood of logins takes bounded
// memory and at most one processor.
type logins struct {
	turn chan struct{}
	// strangers are logins that failed with a name that is no operator's, who gets the
	// same answers as an operator. Whoever has the turn may use it.
	strangers map[string]stranger
}

type stranger struct {
	failures    int64
	lockedUntil time.Time
}

func newLogins() *logins {
	return &logins{turn: make(chan struct{}, 1), strangers: make(map[string]stranger)}
}

// begin waits for the turn, which is over when end is called. That collects what the
// password's hash took: 19 MiB, which a collection meanwhile would take for a part of
// the live heap and let as much garbage grow.
func (l *logins) begin(ctx context.Context) (end func(), err error) {
	wait, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
		return func() {
			runtime.GC()
			<-l.turn
		}, nil
	case <-wait.Done():
		return nil, Unavailable("Too many logins are under way.", loginWait, ctx.Err())
	}
}

// failed counts a failure of a name that is no operator's.
func (l *logins) failed(name string, now time.Time) {
	f := l.strangers[name]
	f.failures++
	if locked := lockedFor(f.failures); locked > 0 {
		f.lockedUntil = now.Add(locked)
	}
	if len(l.strangers) >= maxStrangers {
		clear(l.strangers)
	}
	l.strangers[name] = f
}

// errLoginRefused does not tell what is wrong.
var errLoginRefused = &Error{Code: CodeLoginRefused, Message: "This is not right. Codes work once: a code of the authenticator that was used has to be waited out."}

// hashPassword returns the hash that a password is stored by.
func (s *Service) hashPassword(ctx context.Context, password string) (string, error) {
	end, err := s.logins.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	return argon2id.CreateHash(password, passwordCost)
}

// prove returns a proof that somebody is an operator, to be used in the change that it
// is for. Codes: as [Service.Login].
func (s *Service) prove(ctx context.Context, name, password, code string, addr netip.Addr) (LoginProof, error) {
	if err := s.limits.mayLogin(addr, s.clock.Now()); err != nil {
		return LoginProof{}, err
	}
	end, err := s.logins.begin(ctx)
	if err != nil {
		return LoginProof{}, err
	}
	defer func() { end() }()
	// Those before may have used up what there was.
	if err := s.limits.mayLogin(addr, s.clock.Now()); err != nil {
		return LoginProof{}, err
	}
	now := s.now()
	// What cannot be anybody's name is looked up all the same.
	n, err := ParseOperatorName(name)
	if err != nil {
		name = ""
	}
	o, err := s.store.Operator(ctx, n)
	known := err == nil
	if !known && CodeOf(err) != CodeOperatorNotFound {
		return LoginProof{}, err
	}
	until := o.LockedUntil
	if !known {
		until = s.logins.strangers[name].lockedUntil
		o.Name, o.TOTPVersion = n, 1
	}
	if now.Before(until) {
		return LoginProof{}, &Error{Code: CodeTooManyRequests, Message: "Too many logins with this name have failed; try again later.", RetryIn: until.Sub(now)}
	}
	p, right, err := s.codeProof(ctx, o, code, now)
	if err != nil {
		return LoginProof{}, err
	}
	hash := o.Password
	if hash == "" {
		hash = noPassword
	}
	if len(password) > maxPassword {
		password = ""
	}
	same, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return LoginProof{}, err
	}
	if same && right && o.Password != "" && o.DisabledAt.IsZero() {
		return p, nil
	}
	s.limits.loginFailed(addr, now)
	if !known {
		s.logins.failed(name, now)
	}
	// How long it takes to write that would tell that there is such an operator. The
	// turn is over only then: nobody on this node tries another password before.
	over := end
	end = func() {}
	pause := time.NewTimer(failurePause)
	go func() {
		defer over()
		if known {
			s.noteFailure(context.WithoutCancel(ctx), n, now)
		}
		<-pause.C
	}()
	return LoginProof{}, errLoginRefused
}

func (s *Service) noteFailure(ctx context.Context, name OperatorName, now time.Time) {
	e, err := s.event(Operator(OperatorsMerchant, "login"), EventOperatorLockedOut, string(name), now)
	if err == nil {
		err = s.store.LoginFailed(ctx, name, now, lockedFor, e)
	}
	if err != nil {
		s.log.Error("cannot count a login that failed", "error", err)
	}
}

// codeProof reports whether code is one of an operator's, and what is to be looked at
// again when it is used.
func (s *Service) codeProof(ctx context.Context, o OperatorRecord, code string, now time.Time) (p LoginProof, right bool, err error) {
	p = LoginProof{Operator: o.Name, At: now, Password: o.Password, Version: o.TOTPVersion}
	code = strings.TrimSpace(code)
	if short := strings.ReplaceAll(code, " ", ""); len(short) == totpDigits {
		secret, err := s.totpSecret(ctx, o.Name, o.TOTPVersion)
		if CodeOf(err) == CodeMerchantNotFound {
			return p, false, nil // There is no operator at all.
		}
		if err != nil {
			return p, false, err
		}
		p.Step, right = totpStep(secret, short, o.TOTPStep, now)
		return p, right, nil
	}
	p.Kind, p.Code = CodeKindRecovery, hashCode(code)
	owner, err := s.store.OperatorCode(ctx, p.Kind, p.Code, now)
	if CodeOf(err) == CodeLoginRefused {
		return p, false, nil
	}
	return p, owner.Name == o.Name, err
}

// proofEvents returns an event of a change that a proof was used for, and another if
// that took a recovery code.
func (s *Service) proofEvents(p LoginProof, t EventType) ([]Event, error) {
	c := Caller{Actor: p.Operator.Actor()}
	e, err := s.event(c, t, string(p.Operator), p.At)
	if err != nil || p.Kind != CodeKindRecovery {
		return []Event{e}, err
	}
	used, err := s.event(c, EventOperatorRecoveryCodeUsed, string(p.Operator), p.At)
	return []Event{used, e}, err
}

// browser says in a few words what a User-Agent header is of.
func browser(header string) string {
	header = header[:min(len(header), 512)]
	find := func(names [][2]string) string {
		for _, n := range names {
			if strings.Contains(header, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	// Most call themselves by the names of those before them, too.
	program := find([][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"FxiOS/", "Firefox"}, {"Safari/", "Safari"}, {"curl/", "curl"}})
	system := find([][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	switch {
	case program == "" && system == "":
		return "unknown browser"
	case program == "":
		return "unknown browser on " + system
	case system == "":
		return program
	}
	return program + " on " + system
}
