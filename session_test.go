package grahak_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak"
	"grahak/internal/testkit"
)

// wantVisit fails the test unless a session lasts, or has ended.
func (d *desk) wantVisit(t *testing.T, what, token string, lasts bool) {
	t.Helper()
	switch _, err := d.Visit(t.Context(), token); {
	case lasts && err != nil:
		t.Errorf("%s: %v", what, err)
	case !lasts && grahak.CodeOf(err) != grahak.CodeNoSession:
		t.Errorf("%s: the session has not ended (%v)", what, err)
	}
}

// Sessions end when they have not been used for a while, and in any case after a while.
func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	for env, ends := range map[grahak.Environment]struct{ idle, lifetime time.Duration }{
		grahak.Production: {30 * time.Minute, 12 * time.Hour},
		grahak.Sandbox:    {24 * time.Hour, 7 * 24 * time.Hour},
	} {
		t.Run(string(env), func(t *testing.T) {
			t.Parallel()
			d := MustDesk(t, env)
			asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
			token, v := asha.MustLogin(t)
			d.clock.Advance(ends.idle - time.Microsecond)
			d.wantVisit(t, "just used", token, true)
			d.clock.Advance(ends.idle)
			d.wantVisit(t, "not used", token, false)
			if list, err := d.Sessions(t.Context(), v); err != nil || len(list) != 0 {
				t.Errorf("the sessions are %v (%v)", list, err)
			}
			// A use is noted once a minute.
			token, v = asha.MustLogin(t)
			for _, step := range []struct{ advance, noted time.Duration }{{59 * time.Second, 0}, {time.Second, time.Minute}, {30 * time.Second, time.Minute}} {
				d.clock.Advance(step.advance)
				got, err := d.Visit(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				diff(t, "when it was used", v.Session.CreatedAt.Add(step.noted), got.Session.UsedAt)
			}
			token, v = asha.MustLogin(t)
			for d.clock.Now().Add(ends.idle / 2).Before(v.Session.ExpiresAt) {
				d.clock.Advance(ends.idle / 2)
				d.wantVisit(t, "in use", token, true)
			}
			diff(t, "when it ends", v.Session.CreatedAt.Add(ends.lifetime), v.Session.ExpiresAt)
			d.clock.Advance(v.Session.ExpiresAt.Sub(d.clock.Now()))
			d.wantVisit(t, "in use for too long", token, false)
		})
	}
}

// Sessions are ended one by one, all at once, and by what happens to the operator.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
	ravi := d.MustMember(t, "ravi", acme, grahak.RoleOwner)
	his, he := ravi.MustLogin(t)
	first, v := asha.MustLogin(t)
	second, w := asha.MustLogin(t)
	third, _ := asha.MustLogin(t)

	// Nobody ends another's session, by its id or by what is none.
	for _, id := range []grahak.SessionID{he.Session.ID, "", "xyz", he.Session.ID + "00", "00"} {
		wantCode(t, d.EndSession(t.Context(), v, id), "")
	}
	d.wantVisit(t, "ravi's", his, true)
	d.wantVisit(t, "the first", first, true)
	wantCode(t, d.EndSession(t.Context(), v, w.Session.ID), "")
	d.wantVisit(t, "the second", second, false)
	wantCode(t, d.Logout(t.Context(), v), "")
	d.wantVisit(t, "the first", first, false)
	d.wantVisit(t, "the third", third, true)
	wantCode(t, d.EndSessions(t.Context(), v), "")
	d.wantVisit(t, "the third", third, false)

	// What they show of themselves does not let anybody in.
	for _, token := range []string{"", string(he.Session.ID), his[:len(his)-1], his + "A"} {
		d.wantVisit(t, "what is no token", token, false)
	}

	// Another password ends all but the one in use.
	first, v = asha.MustLogin(t)
	second, _ = asha.MustLogin(t)
	d.clock.Advance(time.Minute)
	wantCode(t, d.ChangePassword(t.Context(), v, "not the right words", asha.phone.code(0), goodPassword), grahak.CodeLoginRefused)
	d.wantVisit(t, "the other", second, true)
	wantCode(t, d.ChangePassword(t.Context(), v, goodPassword, asha.phone.code(0), goodPassword), "")
	d.wantVisit(t, "the one in use", first, true)
	d.wantVisit(t, "the other", second, false)

	// Who is disabled is out, and stays out when that is undone.
	wantCode(t, d.DisableOperator(t.Context(), allMerchants, "asha"), "")
	d.wantVisit(t, "disabled", first, false)
	_, err := d.Login(t.Context(), asha.attempt())
	wantCode(t, err, grahak.CodeLoginRefused)
	wantCode(t, d.EnableOperator(t.Context(), allMerchants, "asha"), "")
	d.wantVisit(t, "enabled again", first, false)

	// A reset takes sessions, password and authenticator away, and lets a lock end.
	first, _ = asha.MustLogin(t)
	for range 5 {
		_, err := d.Login(t.Context(), d.wrong("asha"))
		wantCode(t, err, grahak.CodeLoginRefused)
	}
	setup, err := d.ResetOperator(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	d.wantVisit(t, "reset", first, false)
	d.clock.Advance(time.Minute)
	for _, code := range []string{asha.phone.code(0), asha.recovery[0]} {
		a := asha.attempt()
		a.Code = code
		_, err = d.Login(t.Context(), a)
		wantCode(t, err, grahak.CodeLoginRefused)
	}
	d.MustSetUp(t, "asha", setup).MustLogin(t)
	d.wantVisit(t, "ravi's", his, true)
}

// An operator has twenty sessions at most; another one ends the one used longest ago.
func TestManySessions(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Sandbox)
	if _, err := d.CreateOperator(t.Context(), allMerchants, "asha"); err != nil {
		t.Fatal(err)
	}
	var tokens []string
	begin := func() {
		t.Helper()
		d.clock.Advance(time.Minute)
		link, err := d.LoginLink(t.Context(), allMerchants, "asha")
		if err != nil {
			t.Fatal(err)
		}
		token, err := d.LoginByLink(t.Context(), link, browserHere)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	for range 20 {
		begin()
	}
	d.clock.Advance(time.Minute)
	d.wantVisit(t, "the first of 20", tokens[0], true)
	begin()
	for i, token := range tokens {
		d.wantVisit(t, fmt.Sprintf("number %d of 21", i), token, i != 1)
	}
}

// A setup code sets up one operator, once, for three days, and until the next reset.
func TestSetupCodes(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	create := func(name grahak.OperatorName) string {
		t.Helper()
		code, err := d.CreateOperator(t.Context(), allMerchants, string(name))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	refused := func(what, code string) {
		t.Helper()
		_, err := d.Setup(t.Context(), code, browserHere)
		_, finished := d.FinishSetup(t.Context(), code, goodPassword, "000000", browserHere)
		if grahak.CodeOf(err) != grahak.CodeLoginRefused || grahak.CodeOf(finished) != grahak.CodeLoginRefused {
			t.Errorf("%s: got %v, %v", what, err, finished)
		}
	}
	// Looking does not use it up, nor does what is refused.
	code := create("asha")
	shown, err := d.Setup(t.Context(), code, browserHere)
	if err != nil || shown.Operator != "asha" {
		t.Fatalf("got %+v (%v)", shown, err)
	}
	_, err = d.FinishSetup(t.Context(), code, "eleven char", "000000", browserHere)
	wantCode(t, err, grahak.CodeInvalidOperator)
	_, err = d.FinishSetup(t.Context(), code, goodPassword, "000000", browserHere)
	wantCode(t, err, grahak.CodeInvalidOperator)
	_, err = d.FinishSetup(t.Context(), code, goodPassword, code, browserHere)
	wantCode(t, err, grahak.CodeInvalidOperator)
	asha := d.MustSetUp(t, "asha", code)
	refused("used", code)
	refused("a recovery code", asha.recovery[0])
	asha.MustLogin(t)

	code = create("ravi")
	d.clock.Advance(grahak.SetupTime - time.Second)
	if _, err := d.Setup(t.Context(), code, browserHere); err != nil {
		t.Error(err)
	}
	d.clock.Advance(time.Second)
	refused("old", code)

	again, err := d.ResetOperator(t.Context(), allMerchants, "ravi")
	if err != nil {
		t.Fatal(err)
	}
	code, err = d.ResetOperator(t.Context(), allMerchants, "ravi")
	if err != nil {
		t.Fatal(err)
	}
	refused("before a reset", again)
	wantCode(t, d.DisableOperator(t.Context(), allMerchants, "ravi"), "")
	refused("disabled", code)
	wantCode(t, d.EnableOperator(t.Context(), allMerchants, "ravi"), "")
	d.MustSetUp(t, "ravi", code).MustLogin(t)
}

// A login link logs in once, for a quarter of an hour, and in a sandbox only.
func TestLoginLinks(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	d := r.MustDesk(t, grahak.Config{})
	production := r.MustDesk(t, grahak.Config{Environment: grahak.Production})
	d.MustMember(t, "asha", acme, grahak.RoleViewer)
	link := func() string {
		t.Helper()
		code, err := d.LoginLink(t.Context(), allMerchants, "asha")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	refused := func(what string, d *desk, code string) {
		t.Helper()
		if _, err := d.LoginByLink(t.Context(), code, browserHere); grahak.CodeOf(err) != grahak.CodeLoginRefused {
			t.Errorf("%s: %v", what, err)
		}
	}
	once := link()
	refused("in production", production, once)
	token, err := d.LoginByLink(t.Context(), once, browserHere)
	if err != nil {
		t.Fatal(err)
	}
	d.wantVisit(t, "by a link", token, true)
	refused("used", d, once)
	late := link()
	d.clock.Advance(grahak.LoginLinkTime - time.Second)
	if _, err := d.LoginByLink(t.Context(), late, browserHere); err != nil {
		t.Error(err)
	}
	late = link()
	d.clock.Advance(grahak.LoginLinkTime)
	refused("old", d, late)
	late = link()
	a := grahak.LoginAttempt{Name: "asha", Password: goodPassword, Code: late, Client: browserHere}
	_, err = d.Login(t.Context(), a)
	wantCode(t, err, grahak.CodeLoginRefused) // It is no recovery code.
	wantCode(t, d.DisableOperator(t.Context(), allMerchants, "asha"), "")
	refused("disabled", d, late)

	_, err = production.LoginLink(t.Context(), allMerchants, "asha")
	wantCode(t, err, grahak.CodeLoginRefused)
	_, err = production.SandboxOperator(t.Context())
	wantCode(t, err, grahak.CodeLoginRefused)
	_, err = d.LoginLink(t.Context(), allMerchants, "nobody")
	wantCode(t, err, grahak.CodeOperatorNotFound)
}

// What a role is changed to holds in sessions there are, from the next page on.
func TestRolesHoldAtOnce(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleViewer)
	d.MustMember(t, "ravi", rival, grahak.RoleOwner) // The last one would stay.
	token, _ := asha.MustLogin(t)
	check := func(what string, m grahak.MerchantID, settings, reveals grahak.Code) {
		t.Helper()
		v, err := d.Visit(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := d.VisitorCaller(t.Context(), v, m)
		if err != nil {
			if got := grahak.CodeOf(err); got != settings {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		_, err = d.Keys(t.Context(), c)
		_, revealed := d.RevealCustomer(t.Context(), c, "cst_none")
		if grahak.CodeOf(err) != settings || grahak.CodeOf(revealed) != reveals {
			t.Errorf("%s: got %v, %v", what, err, revealed)
		}
	}
	const hidden, refused, allowed = grahak.CodeMerchantNotFound, grahak.CodeInsufficientScope, grahak.CodeCustomerNotFound
	check("viewer", acme, "", refused)
	check("viewer", rival, hidden, "")
	for _, step := range []struct {
		at          grahak.MerchantID
		role        grahak.Role
		acme, rival grahak.Code // of reading keys
		// Of revealing a customer that there is not.
		acmeReveals, rivalReveals grahak.Code
	}{
		{acme, grahak.RoleAdmin, "", hidden, allowed, ""},
		{acme, grahak.RoleViewer, "", hidden, refused, ""},
		{grahak.OperatorsMerchant, grahak.RoleAdmin, "", "", allowed, allowed},
		{acme, "", "", "", allowed, allowed},
		{grahak.OperatorsMerchant, grahak.RoleViewer, "", "", refused, refused},
		{rival, grahak.RoleOwner, "", "", refused, allowed},
		{grahak.OperatorsMerchant, "", hidden, "", "", allowed},
		{rival, "", hidden, hidden, "", ""},
	} {
		wantCode(t, d.SetRole(t.Context(), operator(step.at), "asha", step.role), "")
		what := fmt.Sprintf("%s at %s", step.role, step.at)
		check(what+": acme", acme, step.acme, step.acmeReveals)
		check(what+": rival", rival, step.rival, step.rivalReveals)
	}
}

// On both engines what works once works once however many nodes it is sent to at once,
// and what ends or locks on one node does so on all.
func TestLoginsOfNodes(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			clock := testkit.NewClock()
			var nodes []*desk
			node := func(store grahak.Store, sealer grahak.Sealer) {
				s := MustService(t, grahak.Config{Store: store, Sealer: sealer, Clock: clock})
				nodes = append(nodes, &desk{Service: s, clock: clock, store: store})
			}
			if engine == "SQLite" {
				r := MustMerchantRig(t)
				clock = r.clock
				other := r.MustJoin(t)
				node(r.store, r.sealer)
				node(other.store, other.sealer)
			} else {
				open := MustPostgres(t)
				node(open())
				node(open())
			}
			d, e := nodes[0], nodes[1]
			asha := d.MustMember(t, "asha", acme, grahak.RoleOwner)
			once := func(what string, try func(d *desk) error) {
				t.Helper()
				var tries sync.WaitGroup
				errs := make([]error, 4)
				for i := range errs {
					tries.Go(func() { errs[i] = try(nodes[i%2]) })
				}
				tries.Wait()
				right := 0
				for _, err := range errs {
					if err == nil {
						right++
					} else if grahak.CodeOf(err) != grahak.CodeLoginRefused {
						t.Errorf("%s: %v", what, err)
					}
				}
				if right != 1 {
					t.Errorf("%s: it worked %d times: %v", what, right, errs)
				}
			}
			login := func(code string) func(*desk) error {
				a := asha.attempt()
				a.Code = code
				return func(d *desk) error {
					_, err := d.Login(t.Context(), a)
					return err
				}
			}
			once("a code", login(asha.phone.code(0)))
			once("a recovery code", login(asha.recovery[0]))
			link, err := e.LoginLink(t.Context(), allMerchants, "asha")
			if err != nil {
				t.Fatal(err)
			}
			once("a link", func(d *desk) error {
				_, err := d.LoginByLink(t.Context(), link, browserHere)
				return err
			})
			setup, err := e.CreateOperator(t.Context(), allMerchants, "ravi")
			if err != nil {
				t.Fatal(err)
			}
			shown, err := d.Setup(t.Context(), setup, browserHere)
			if err != nil {
				t.Fatal(err)
			}
			ravi := d.MustPhone(t, shown)
			once("a setup code", func(d *desk) error {
				_, err := d.FinishSetup(t.Context(), setup, goodPassword, ravi.code(0), browserHere)
				return err
			})

			// The other node knows a session, a role and a lock.
			token, _ := asha.MustLogin(t)
			e.wantVisit(t, "begun elsewhere", token, true)
			wantCode(t, e.SetRole(t.Context(), operator(rival), "asha", grahak.RoleViewer), "")
			v, err := d.Visit(t.Context(), token)
			if err != nil || !slices.ContainsFunc(v.Grants, func(g grahak.Grant) bool { return g.Merchant == rival }) {
				t.Errorf("the roles are %v (%v)", v.Grants, err)
			}
			wantCode(t, e.EndSessions(t.Context(), v), "")
			d.wantVisit(t, "ended elsewhere", token, false)
			// Failures above may still count, so the last ones may be refused otherwise.
			for range 5 {
				if _, err := d.Login(t.Context(), d.wrong("asha")); err == nil {
					t.Error("a wrong password is right")
				}
			}
			// Who is next on d waits until its last failure is written.
			clock.Advance(time.Second)
			for _, d := range nodes {
				_, err := d.Login(t.Context(), asha.attempt())
				wantCode(t, err, grahak.CodeTooManyRequests)
			}
		})
	}
}

// What somebody could log in with is nowhere in clear: not in any file of the database
// and not in the log.
func TestLoginSecretsAreNotKept(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	var log bytes.Buffer
	d := r.MustDesk(t, grahak.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	setup, err := d.CreateOperator(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	asha := d.MustSetUp(t, "asha", setup)
	link, err := d.LoginLink(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	unused, err := d.LoginLink(t.Context(), allMerchants, "asha")
	if err != nil {
		t.Fatal(err)
	}
	byLink, err := d.LoginByLink(t.Context(), link, browserHere)
	if err != nil {
		t.Fatal(err)
	}
	token, v := asha.MustLogin(t)
	if err := d.ChangePassword(t.Context(), v, goodPassword, asha.recovery[0], "another few words"); err != nil {
		t.Fatal(err)
	}
	made, err := d.NewRecoveryCodes(t.Context(), v, "another few words", asha.recovery[1])
	if err != nil {
		t.Fatal(err)
	}
	wrong := d.wrong("asha")
	for range 5 {
		if _, err := d.Login(t.Context(), wrong); err == nil {
			t.Fatal("a wrong password is right")
		}
	}
	invited, err := d.CreateOperator(t.Context(), allMerchants, "ravi")
	if err != nil {
		t.Fatal(err)
	}
	// The last failure is written when the next login has its turn.
	if _, err := d.Login(t.Context(), wrong); err == nil {
		t.Fatal("a wrong password is right")
	}

	secrets := map[string][]byte{
		"the authenticator's secret":          asha.phone.secret,
		"the authenticator's secret as hex":   []byte(hex.EncodeToString(asha.phone.secret)),
		"the first password":                  []byte(goodPassword),
		"the second password":                 []byte("another few words"),
		"a wrong password":                    []byte(wrong.Password),
		"the token of a session that is gone": []byte(byLink),
		"the token of a session":              []byte(token),
		"the browser's full name":             []byte(browserHere.UserAgent),
	}
	bytesOf, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	secrets["the token of a session as bytes"] = bytesOf
	codes := append([]string{setup, link, unused, invited}, slices.Concat(asha.recovery, made)...)
	for _, code := range codes {
		plain := strings.ReplaceAll(code, "-", "")
		secrets["the code "+code] = []byte(code)
		secrets["the code "+plain] = []byte(plain)
	}
	found := 0
	check := func(where string, b []byte) {
		if bytes.Contains(b, []byte("operator:asha")) {
			found++
		}
		for what, secret := range secrets {
			if bytes.Contains(b, secret) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	check("the log", log.Bytes())
	err = filepath.WalkDir(r.folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		check(filepath.Base(path), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("the files do not even say what asha did")
	}
}
