package grahak_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/testkit"
)

// told is what somebody is told of a login: all that tells one answer from another.
func told(err error) string {
	known := new(grahak.Error)
	if !errors.As(err, &known) {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%s, again in %s: %s", known.Code, known.RetryIn, known.Message)
}

// wrong is a login with a password that is not the operator's.
func (d *desk) wrong(name string) grahak.LoginAttempt {
	return grahak.LoginAttempt{Name: name, Password: "not the right words", Code: "000000", Client: browserHere}
}

// strangers are names with which nobody can log in, by why. The desk gets those of them
// who are operators.
func (d *desk) strangers(t *testing.T) map[string]string {
	t.Helper()
	d.MustMember(t, "gone", acme, grahak.RoleOwner)
	if err := d.DisableOperator(t.Context(), allMerchants, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CreateOperator(t.Context(), allMerchants, "invited"); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"disabled": "gone", "not set up": "invited", "unknown": "nobody", "no name at all": "No Body!"}
}

// Failures in a row lock a name for longer and longer, and a login that is right is not
// even looked at meanwhile. Nothing tells an operator from anybody else.
func TestLockOut(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	names := d.strangers(t)
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	names["operator"] = "asha"
	fail := func(want time.Duration) {
		t.Helper()
		for who, name := range names {
			_, err := d.Login(t.Context(), d.wrong(name))
			wantCode(t, err, grahak.CodeLoginRefused)
			again := asha.attempt()
			again.Name = name
			if want == 0 {
				continue
			}
			for _, left := range []time.Duration{want, time.Microsecond} {
				d.clock.Advance(want - left)
				_, err = d.Login(t.Context(), again)
				d.clock.Advance(left - want)
				if got, want := told(err), fmt.Sprintf("too_many_requests, again in %s: Too many logins with this name have failed; try again later.", left); got != want {
					t.Errorf("%s: got %q, want %q", who, got, want)
				}
			}
		}
		d.clock.Advance(want)
	}
	for _, want := range []time.Duration{0, 0, 0, 0, 30 * time.Second} {
		fail(want)
	}
	// Two are enough for the rest.
	names = map[string]string{"operator": "asha", "unknown": "nobody"}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		fail(want)
	}
	if got, want := d.lockOuts(t)["asha"], 7; got != want {
		t.Errorf("there are %d events that asha was locked out, want %d", got, want)
	}

	// A login ends it, and so does the command line.
	asha.MustLogin(t)
	names = map[string]string{"operator": "asha"}
	for range 4 {
		fail(0)
	}
	asha.MustLogin(t)
	for range 4 {
		fail(0)
	}
	fail(30 * time.Second)
	d.clock.Advance(-time.Second)
	_, err := d.Login(t.Context(), asha.attempt())
	wantCode(t, err, grahak.CodeTooManyRequests)
	if err := d.UnlockOperator(t.Context(), allMerchants, "asha"); err != nil {
		t.Fatal(err)
	}
	asha.MustLogin(t)
}

// A code that was used before, and a login of somebody disabled, count as failures although
// the password is right.
func TestLockOutWithPassword(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	gone := d.MustMember(t, "gone", acme, grahak.RoleOwner)
	if err := d.DisableOperator(t.Context(), allMerchants, "gone"); err != nil {
		t.Fatal(err)
	}
	asha.MustLogin(t)
	for who, a := range map[string]grahak.LoginAttempt{"a code again": asha.attempt(), "disabled": gone.attempt()} {
		for range 5 {
			_, err := d.Login(t.Context(), a)
			wantCode(t, err, grahak.CodeLoginRefused)
		}
		if _, err := d.Login(t.Context(), a); grahak.CodeOf(err) != grahak.CodeTooManyRequests {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// lockOuts returns how often operators were locked out, by their names.
func (d *desk) lockOuts(t *testing.T) map[string]int {
	t.Helper()
	events, err := d.store.Events(t.Context(), grahak.OperatorsMerchant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, e := range events {
		if e.Type == grahak.EventOperatorLockedOut {
			count[e.Subject]++
		}
	}
	return count
}

// Whatever is wrong of a login has one answer and costs as much: a password is hashed,
// which takes 19 MiB, except while a name is locked. It cannot run beside other tests,
// whose memory would be counted.
func TestLoginsAlike(t *testing.T) { //nolint:paralleltest // See above.
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	ravi := d.MustMember(t, "ravi", acme, grahak.RoleOwner)
	right := func() grahak.LoginAttempt { return asha.attempt() }
	attempts := make(map[string]grahak.LoginAttempt)
	add := func(what string, change func(*grahak.LoginAttempt)) {
		a := right()
		change(&a)
		attempts[what] = a
	}
	for what, name := range d.strangers(t) {
		add(what, func(a *grahak.LoginAttempt) { a.Name = name })
	}
	add("no name", func(a *grahak.LoginAttempt) { a.Name = "" })
	add("somebody else", func(a *grahak.LoginAttempt) { a.Name = "ravi" })
	add("password", func(a *grahak.LoginAttempt) { a.Password = "not the right words" })
	add("no password", func(a *grahak.LoginAttempt) { a.Password = "" })
	add("a password without end", func(a *grahak.LoginAttempt) { a.Password = strings.Repeat("x", 1025) })
	add("the code of somebody else", func(a *grahak.LoginAttempt) { a.Code = ravi.phone.code(0) })
	add("no code", func(a *grahak.LoginAttempt) { a.Code = "" })
	add("a recovery code that there is not", func(a *grahak.LoginAttempt) { a.Code = "aaaa-aaaa-aaaa-aaaa" })
	add("the recovery code of somebody else", func(a *grahak.LoginAttempt) { a.Code = ravi.recovery[0] })
	const want = "login_refused, again in 0s: This is not right. Codes work once: a code of the authenticator that was used has to be waited out."
	const hash = 19 << 20
	for what, a := range attempts {
		if err := d.UnlockOperator(t.Context(), allMerchants, "asha"); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.Login(t.Context(), a)
		runtime.ReadMemStats(&after)
		if got := told(err); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got < hash || got > hash*3/2 {
			t.Errorf("%s: it takes %d KiB", what, got>>10)
		}
	}
	asha.MustLogin(t)
}

// The test's authenticator is right (RFC 6238, appendix B), and the service takes its
// codes one step early and late, each once and none before the last one.
func TestAuthenticator(t *testing.T) {
	t.Parallel()
	at59 := testkit.NewClock()
	at59.Advance(time.Unix(59, 0).Sub(at59.Now()))
	if got := (authenticator{secret: []byte("12345678901234567890"), clock: at59}).code(0); got != "287082" {
		t.Fatalf("the test's authenticator shows %s", got)
	}
	d := MustDesk(t, grahak.Production)
	setup, err := d.CreateOperator(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	asha := d.MustSetUp(t, "asha", setup)
	login := func(what string, ok bool, code string) {
		t.Helper()
		a := asha.attempt()
		a.Code = code
		_, err := d.Login(t.Context(), a)
		if got := err == nil; got != ok {
			t.Errorf("%s: %v", what, err)
		}
		if err := d.UnlockOperator(t.Context(), allMerchants, "asha"); err != nil {
			t.Fatal(err)
		}
	}
	d.clock.Advance(-time.Minute)
	login("the code that the setup used", false, asha.phone.code(0))
	d.clock.Advance(time.Hour)
	login("two steps early", false, asha.phone.code(2))
	login("two steps late", false, asha.phone.code(-2))
	login("one step late", true, asha.phone.code(-1))
	login("one step late, again", false, asha.phone.code(-1))
	login("now, with spaces", true, " "+asha.phone.code(0)[:3]+" "+asha.phone.code(0)[3:])
	login("now, again", false, asha.phone.code(0))
	login("one step early", true, asha.phone.code(1))
	login("after that", false, asha.phone.code(0))
	d.clock.Advance(30 * time.Second)
	login("when its time has come", false, asha.phone.code(0))
	d.clock.Advance(30 * time.Second)
	login("the next", true, asha.phone.code(0))

	// A code that came with a wrong password is not used up.
	d.clock.Advance(time.Minute)
	a := asha.attempt()
	a.Password = "not the right words"
	_, err = d.Login(t.Context(), a)
	wantCode(t, err, grahak.CodeLoginRefused)
	login("after a typing mistake", true, a.Code)

	// Another setup has another secret.
	setup, err = d.ResetOperator(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	old := asha.phone
	asha = d.MustSetUp(t, "asha", setup)
	login("the old authenticator", false, old.code(0))
	login("the new one", true, asha.phone.code(0))
}

// A recovery code stands for the authenticator, once.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	codes := asha.recovery
	login := func(password, code string, want grahak.Code) {
		t.Helper()
		_, err := d.Login(t.Context(), grahak.LoginAttempt{Name: "asha", Password: password, Code: code, Client: browserHere})
		wantCode(t, err, want)
	}
	login("not the right words", codes[0], grahak.CodeLoginRefused)
	login(goodPassword, codes[0], "")
	login(goodPassword, codes[0], grahak.CodeLoginRefused)
	login(goodPassword, " "+strings.ToUpper(strings.ReplaceAll(codes[1], "-", " ")), "")
	login(goodPassword, strings.ReplaceAll(codes[1], "-", ""), grahak.CodeLoginRefused)
	login(goodPassword, codes[2][:len(codes[2])-1], grahak.CodeLoginRefused)
	_, v := asha.MustLogin(t)
	if v.Account.RecoveryCodes != 8 {
		t.Errorf("%d recovery codes are left, want 8", v.Account.RecoveryCodes)
	}
	// What else asks for one takes it as well.
	_, err := d.NewRecoveryCodes(t.Context(), v, "not the right words", codes[2])
	wantCode(t, err, grahak.CodeLoginRefused)
	made, err := d.NewRecoveryCodes(t.Context(), v, goodPassword, codes[2])
	if err != nil || len(made) != 10 {
		t.Fatalf("got %q (%v)", made, err)
	}
	login(goodPassword, codes[3], grahak.CodeLoginRefused)
	login(goodPassword, made[0], "")
	wantCode(t, d.ChangePassword(t.Context(), v, goodPassword, made[0], "another few words"), grahak.CodeLoginRefused)
	wantCode(t, d.ChangePassword(t.Context(), v, goodPassword, made[1], "too short"), grahak.CodeInvalidOperator)
	wantCode(t, d.ChangePassword(t.Context(), v, goodPassword, made[1], "another few words"), "")
	login(goodPassword, made[2], grahak.CodeLoginRefused)
	login("another few words", made[2], "")
}

// An address fails so often a minute, whatever the names; that is counted apart from API
// keys.
func TestLoginsOfAnAddress(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	d := r.MustDesk(t, grahak.Config{Limits: grahak.Limits{Failed: 3}})
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	elsewhere := grahak.Client{Addr: netip.MustParseAddr("203.0.113.9")}
	badKey := func(want grahak.Code) {
		t.Helper()
		_, err := d.Authenticate(t.Context(), grahak.Credential{Key: "gk_sandbox_no_such_key", Addr: browserHere.Addr})
		wantCode(t, err, want)
	}
	for range 3 {
		badKey(grahak.CodeInvalidAPIKey)
	}
	badKey(grahak.CodeTooManyRequests)
	// What is wrong of codes counts as well.
	_, err := d.Login(t.Context(), d.wrong("nobody"))
	wantCode(t, err, grahak.CodeLoginRefused)
	_, err = d.Setup(t.Context(), "aaaa-bbbb", browserHere)
	wantCode(t, err, grahak.CodeLoginRefused)
	_, err = d.LoginByLink(t.Context(), "aaaa-bbbb", browserHere)
	wantCode(t, err, grahak.CodeLoginRefused)

	_, login := d.Login(t.Context(), asha.attempt())
	_, setup := d.Setup(t.Context(), "aaaa-bbbb", browserHere)
	_, link := d.LoginByLink(t.Context(), "aaaa-bbbb", browserHere)
	_, finish := d.FinishSetup(t.Context(), "aaaa-bbbb", goodPassword, "000000", browserHere)
	for what, err := range map[string]error{"login": login, "setup": setup, "link": link, "end of a setup": finish} {
		if grahak.CodeOf(err) != grahak.CodeTooManyRequests {
			t.Errorf("%s: %v", what, err)
		}
	}
	// It is nobody else's fault.
	a := asha.attempt()
	a.Client = elsewhere
	if _, err := d.Login(t.Context(), a); err != nil {
		t.Error(err)
	}
	d.clock.Advance(time.Minute)
	badKey(grahak.CodeInvalidAPIKey)
	if _, err := d.Login(t.Context(), asha.attempt()); err != nil {
		t.Error(err)
	}
}

// Who sends all at once is not let try more often.
func TestLoginsAtOnce(t *testing.T) {
	t.Parallel()
	d := MustMerchantRig(t).MustDesk(t, grahak.Config{Limits: grahak.Limits{Failed: 2}})
	var tries sync.WaitGroup
	codes := make([]grahak.Code, 12)
	for i := range codes {
		tries.Go(func() {
			_, err := d.Login(t.Context(), d.wrong(fmt.Sprintf("nobody%d", i)))
			codes[i] = grahak.CodeOf(err)
		})
	}
	tries.Wait()
	count := make(map[grahak.Code]int)
	for _, c := range codes {
		count[c]++
	}
	if count[grahak.CodeLoginRefused] > 2 || count[""] > 0 {
		t.Errorf("the answers are %v", count)
	}
}

// How long the next login has to wait does not tell whether the one before it was with
// an operator's name: a failure that is not written takes as long as one that is.
func TestFailuresTakeAsLong(t *testing.T) {
	t.Parallel()
	d := MustMerchantRig(t).MustDesk(t, grahak.Config{})
	for range 5 {
		_, err := d.Login(t.Context(), d.wrong("locked"))
		wantCode(t, err, grahak.CodeLoginRefused)
	}
	start := time.Now()
	_, err := d.Login(t.Context(), d.wrong("nobody"))
	wantCode(t, err, grahak.CodeLoginRefused)
	// No password is hashed for it, but it waits for its turn.
	_, err = d.Login(t.Context(), d.wrong("locked"))
	wantCode(t, err, grahak.CodeTooManyRequests)
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("the next login had its turn after %v", took)
	}
}
