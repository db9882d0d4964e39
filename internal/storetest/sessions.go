package storetest

import (
	"fmt"
	"net/netip"
	"time"

	"grahak"
)

var sessionTests = []test{
	{"setup", operatorSetup},
	{"codes", operatorCodes},
	{"proofs that do not hold", proofsThatDoNotHold},
	{"sessions", operatorSessions},
	{"most sessions", mostSessions},
	{"another password", anotherPassword},
	{"prune", operatorsPrune},
	{"one code of the authenticator", loginsWithOneStep},
	{"one recovery code", loginsWithOneCode},
	{"one setup", setupsWithOneCode},
}

// password is the hash of every operator's password.
const password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"

// MustSetUp makes an operator who has set up a password and an authenticator, and
// has two recovery codes.
func (r *rig) MustSetUp(name grahak.OperatorName) grahak.OperatorRecord {
	r.Helper()
	r.MustOperator(name, "")
	setup := r.code()
	r.must(r.store.ResetOperator(r.Context(), name, setup, r.event(grahak.EventOperatorReset, string(name), 0)))
	to := r.MustAccount(name)
	to.SetUpAt, to.Password, to.TOTPStep = r.now(), password, 50_000_000
	r.must(r.store.FinishSetup(r.Context(), setup.Hash, to, []grahak.SecretHash{r.secret(), r.secret()}, r.event(grahak.EventOperatorSetUp, string(name), 0)))
	return r.MustAccount(name)
}

// proof returns a proof with the next code of an operator's authenticator.
func (r *rig) proof(name grahak.OperatorName) grahak.LoginProof {
	r.Helper()
	o := r.MustAccount(name)
	return grahak.LoginProof{Operator: name, At: r.now(), Password: o.Password, Version: o.TOTPVersion, Step: o.TOTPStep + 1}
}

// session returns a session that is not written yet, which lasts for an hour.
func (r *rig) session(name grahak.OperatorName, at time.Time) grahak.SessionRecord {
	h := r.secret()
	return grahak.SessionRecord{Hash: h, Session: grahak.Session{
		ID: h.ID(), Operator: name, CreatedAt: at, UsedAt: at, ExpiresAt: at.Add(time.Hour), Addr: netip.MustParseAddr("2001:db8::7"), Browser: "Firefox on Linux",
	}}
}

// begin begins a session, of which an operator may have five, and which end when they
// are not used for half an hour.
func (r *rig) begin(p grahak.LoginProof, s grahak.SessionRecord) error {
	return r.store.BeginSession(r.Context(), p, s, s.CreatedAt.Add(-30*time.Minute), 5, []grahak.Event{r.event(grahak.EventOperatorLoggedIn, string(p.Operator), 0)})
}

// MustSession begins a session.
func (r *rig) MustSession(name grahak.OperatorName, at time.Time) grahak.SessionRecord {
	r.Helper()
	s := r.session(name, at)
	r.must(r.begin(r.proof(name), s))
	return s
}

// wantSession fails the test unless there is the session.
func (r *rig) wantSession(want grahak.SessionRecord) {
	r.Helper()
	got, a, _, err := r.store.Session(r.Context(), want.Hash)
	r.must(err)
	r.wantEqual("the session", got, want)
	r.wantEqual("the session's operator", a, r.MustAccount(want.Operator).Account)
}

// wantNoSession fails the test if there is the session.
func (r *rig) wantNoSession(what string, s grahak.SessionRecord) {
	r.Helper()
	_, _, _, err := r.store.Session(r.Context(), s.Hash)
	r.wantCode("the session "+what, err, grahak.CodeNoSession)
}

func operatorSetup(r *rig) {
	ctx := r.Context()
	r.MustOperator("mina", "")
	setup, recovery := r.code(), []grahak.SecretHash{r.secret(), r.secret()}
	r.must(r.create("asha", setup, grahak.Grant{}))
	before, to := len(r.MustEvents(grahak.OperatorsMerchant)), r.MustAccount("asha")
	to.SetUpAt, to.Password, to.TOTPStep = r.now(), password, 1_234_567
	finish := func(to grahak.OperatorRecord) error {
		return r.store.FinishSetup(ctx, setup.Hash, to, recovery, r.event(grahak.EventOperatorSetUp, string(to.Name), 0))
	}
	for what, change := range map[string]func(*grahak.OperatorRecord){
		"somebody else's code":     func(o *grahak.OperatorRecord) { o.Name = "mina" },
		"another authenticator":    func(o *grahak.OperatorRecord) { o.TOTPVersion++ },
		"a code that just expired": func(o *grahak.OperatorRecord) { o.SetUpAt = setup.ExpiresAt },
	} {
		wrong := to
		change(&wrong)
		r.wantCode(what, finish(wrong), grahak.CodeLoginRefused)
	}
	r.must(r.store.LoginFailed(ctx, "asha", r.now(), func(int64) time.Duration { return 0 }, grahak.Event{}))
	r.wantNew("nothing was changed", grahak.OperatorsMerchant, before)
	r.must(finish(to))
	to.RecoveryCodes = len(recovery)
	r.wantEqual("set up, and no failure counts", r.MustAccount("asha"), to)
	r.wantNew("of the setup", grahak.OperatorsMerchant, before, grahak.EventOperatorSetUp)
	r.wantCode("the same code again", finish(to), grahak.CodeLoginRefused)
	for _, hash := range recovery {
		found, err := r.store.OperatorCode(ctx, grahak.CodeKindRecovery, hash, start.Add(1_000_000*time.Hour))
		r.must(err)
		r.wantEqual("whose recovery code it is, which never expires", found, to)
	}
	r.must(r.store.SetRecoveryCodes(ctx, r.proof("asha"), []grahak.SecretHash{r.secret()}, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
	r.wantEqual("other recovery codes", r.MustAccount("asha").RecoveryCodes, 1)
	for _, hash := range recovery {
		_, err := r.store.OperatorCode(ctx, grahak.CodeKindRecovery, hash, start)
		r.wantCode("one of the recovery codes before", err, grahak.CodeLoginRefused)
	}
}

func operatorCodes(r *rig) {
	ctx := r.Context()
	asha := r.MustSetUp("asha")
	link := r.code()
	r.must(r.store.PutLoginLink(ctx, "asha", link))
	for _, try := range []struct {
		name string
		kind grahak.CodeKind
		hash grahak.SecretHash
		now  time.Time
		want grahak.Code
	}{
		{"at its last moment", grahak.CodeKindLink, link.Hash, link.ExpiresAt.Add(-time.Microsecond), ""},
		{"expired", grahak.CodeKindLink, link.Hash, link.ExpiresAt, grahak.CodeLoginRefused},
		{"for setup", grahak.CodeKindSetup, link.Hash, start, grahak.CodeLoginRefused},
		{"for recovery", grahak.CodeKindRecovery, link.Hash, start, grahak.CodeLoginRefused},
		{"another", grahak.CodeKindLink, r.secret(), start, grahak.CodeLoginRefused},
	} {
		got, err := r.store.OperatorCode(ctx, try.kind, try.hash, try.now)
		if r.wantCode(try.name, err, try.want); err == nil {
			r.wantEqual("whose link it is", got, asha)
		}
	}
	r.must(r.store.DisableOperator(ctx, "asha", r.now(), r.event(grahak.EventOperatorDisabled, "asha", 0)))
	_, err := r.store.OperatorCode(ctx, grahak.CodeKindLink, link.Hash, start)
	r.wantCode("of a disabled operator", err, grahak.CodeLoginRefused)
	r.must(r.store.EnableOperator(ctx, "asha", r.event(grahak.EventOperatorEnabled, "asha", 0)))
	p := grahak.LoginProof{Operator: "asha", At: r.now(), Kind: grahak.CodeKindLink, Code: link.Hash}
	first := r.session("asha", r.now())
	r.must(r.begin(p, first))
	r.wantSession(first)
	r.wantCode("a link that was used", r.begin(p, r.session("asha", r.now())), grahak.CodeLoginRefused)

	recovery := r.secret()
	r.must(r.store.SetRecoveryCodes(ctx, r.proof("asha"), []grahak.SecretHash{recovery, r.secret()}, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	p = grahak.LoginProof{Operator: "asha", At: r.now(), Password: password, Kind: grahak.CodeKindRecovery, Code: recovery}
	second := r.session("asha", r.now())
	r.must(r.store.BeginSession(ctx, p, second, second.CreatedAt.Add(-time.Hour), 5, []grahak.Event{
		r.event(grahak.EventOperatorRecoveryCodeUsed, "asha", 0), r.event(grahak.EventOperatorLoggedIn, "asha", 0),
	}))
	r.wantSession(second)
	r.wantEqual("recovery codes that are left", r.MustAccount("asha").RecoveryCodes, 1)
	r.wantNew("of a recovery code", grahak.OperatorsMerchant, before, grahak.EventOperatorRecoveryCodeUsed, grahak.EventOperatorLoggedIn)
	r.wantCode("a recovery code that was used", r.begin(p, r.session("asha", r.now())), grahak.CodeLoginRefused)
}

// proofsThatDoNotHold uses each of them for everything that a proof is for: nothing
// changes.
func proofsThatDoNotHold(r *rig) {
	ctx := r.Context()
	r.MustSetUp("mina")
	r.MustSetUp("disabled")
	r.MustOperator("new", "")
	recovery, link := r.secret(), r.code()
	r.MustSetUp("asha")
	r.must(r.store.SetRecoveryCodes(ctx, r.proof("asha"), []grahak.SecretHash{recovery}, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
	r.must(r.store.PutLoginLink(ctx, "asha", link))
	kept := r.MustSession("asha", r.now())
	good := r.proof("asha")
	byCode := grahak.LoginProof{Operator: "asha", At: r.now(), Password: password, Kind: grahak.CodeKindRecovery, Code: recovery}
	byLink := grahak.LoginProof{Operator: "asha", At: r.now(), Kind: grahak.CodeKindLink, Code: link.Hash}
	disabled := r.proof("disabled")
	r.must(r.store.DisableOperator(ctx, "disabled", r.now(), r.event(grahak.EventOperatorDisabled, "disabled", 0)))
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	with := func(p grahak.LoginProof, change func(*grahak.LoginProof)) grahak.LoginProof {
		change(&p)
		return p
	}
	accounts, err := r.store.Operators(ctx)
	r.must(err)
	for what, p := range map[string]grahak.LoginProof{
		"a password before":                 with(good, func(p *grahak.LoginProof) { p.Password += "x" }),
		"the last step again":               with(good, func(p *grahak.LoginProof) { p.Step-- }),
		"a step before":                     with(good, func(p *grahak.LoginProof) { p.Step -= 2 }),
		"an authenticator before":           with(good, func(p *grahak.LoginProof) { p.Version-- }),
		"nobody":                            with(good, func(p *grahak.LoginProof) { p.Operator = "nobody" }),
		"a disabled operator":               disabled,
		"an operator without a password":    with(good, func(p *grahak.LoginProof) { p.Operator, p.Password = "new", "" }),
		"a recovery code, not the password": with(byCode, func(p *grahak.LoginProof) { p.Password = "" }),
		"somebody else's recovery code":     with(byCode, func(p *grahak.LoginProof) { p.Operator = "mina" }),
		"a recovery code as a link":         with(byCode, func(p *grahak.LoginProof) { p.Kind = grahak.CodeKindLink }),
		"a link as a recovery code":         with(byLink, func(p *grahak.LoginProof) { p.Kind, p.Password = grahak.CodeKindRecovery, password }),
		"somebody else's link":              with(byLink, func(p *grahak.LoginProof) { p.Operator = "mina" }),
		"a link that expired":               with(byLink, func(p *grahak.LoginProof) { p.At = link.ExpiresAt }),
		"a link that there is not":          with(byLink, func(p *grahak.LoginProof) { p.Code = r.secret() }),
	} {
		s := r.session(p.Operator, r.now())
		r.wantCode(what+", to log in", r.begin(p, s), grahak.CodeLoginRefused)
		r.wantNoSession("of "+what, s)
		r.wantCode(what+", for a password", r.store.SetPassword(ctx, p, "another", r.secret(), []grahak.Event{r.event(grahak.EventOperatorPasswordChanged, "asha", 0)}), grahak.CodeLoginRefused)
		r.wantCode(what+", for recovery codes", r.store.SetRecoveryCodes(ctx, p, nil, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}), grahak.CodeLoginRefused)
	}
	after, err := r.store.Operators(ctx)
	r.must(err)
	r.wantEqual("the operators", after, accounts)
	r.wantSession(kept)
	r.wantNew("nothing was changed", grahak.OperatorsMerchant, before)
	for _, p := range []grahak.LoginProof{good, byCode, byLink} {
		r.must(r.begin(p, r.session("asha", r.now())))
	}
}

func operatorSessions(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustSetUp("asha")
	r.MustSetUp("mina")
	for _, m := range []grahak.MerchantID{own, other, grahak.OperatorsMerchant} {
		r.must(r.setRole(m, "asha", grahak.RoleViewer))
		r.must(r.setRole(m, "mina", grahak.RoleAdmin))
	}
	p, first := r.proof("asha"), r.session("asha", r.now())
	first.Addr, first.Browser = netip.Addr{}, ""
	r.must(r.begin(p, first))
	account := r.MustAccount("asha")
	r.wantEqual("the last login", account.LastLoginAt, first.CreatedAt)
	r.wantEqual("the last step", account.TOTPStep, p.Step)
	_, _, grants, err := r.store.Session(ctx, first.Hash)
	r.must(err)
	var at []grahak.MerchantID
	for _, g := range grants {
		at = append(at, g.Merchant)
		r.wantEqual("whose role it is", g.Operator, grahak.OperatorName("asha"))
	}
	r.wantEqual("the roles, that of all merchants first", at, []grahak.MerchantID{grahak.OperatorsMerchant, other, own})
	r.wantSession(first)

	second, theirs := r.MustSession("asha", r.now()), r.MustSession("mina", r.now())
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	list := func(name grahak.OperatorName, want ...grahak.SessionRecord) {
		r.Helper()
		got, err := r.store.Sessions(ctx, name)
		r.must(err)
		r.wantEqual("sessions of "+string(name), got, want)
	}
	list("asha", second, first)
	used := r.now()
	r.must(r.store.TouchSession(ctx, first.Hash, used))
	r.must(r.store.TouchSession(ctx, first.Hash, used.Add(-time.Second)))
	r.must(r.store.TouchSession(ctx, r.secret(), used))
	first.UsedAt = used
	list("asha", first, second)
	list("mina", theirs)
	list("nobody")
	end := func(hash grahak.SecretHash) {
		r.Helper()
		r.must(r.store.EndSessions(ctx, "asha", hash, r.event(grahak.EventOperatorSessionsEnded, "asha", 0)))
	}
	end(theirs.Hash)
	end(r.secret())
	r.wantNew("nothing was ended", grahak.OperatorsMerchant, before)
	end(first.Hash)
	list("asha", second)
	third := r.MustSession("asha", r.now())
	before = len(r.MustEvents(grahak.OperatorsMerchant))
	end(grahak.SecretHash{})
	end(grahak.SecretHash{})
	list("asha")
	r.wantNoSession("that was ended", third)
	r.wantNew("sessions were ended once", grahak.OperatorsMerchant, before, grahak.EventOperatorSessionsEnded)
	r.must(r.store.TouchSession(ctx, third.Hash, r.now()))
	r.wantNoSession("that was ended and touched", third)
	r.wantSession(theirs)
}

// A login ends those of the operator's sessions that were used longest ago, if there
// are too many, and anybody's that have ended.
func mostSessions(r *rig) {
	r.MustSetUp("asha")
	r.MustSetUp("mina")
	idle, expired := r.MustSession("mina", start), r.MustSession("mina", start)
	long := r.session("mina", start)
	long.ExpiresAt = start.Add(1000 * time.Hour)
	r.must(r.begin(r.proof("mina"), long))
	var sessions []grahak.SessionRecord
	for range 5 {
		sessions = append(sessions, r.MustSession("asha", r.now()))
	}
	sessions[0].UsedAt = r.now()
	r.must(r.store.TouchSession(r.Context(), sessions[0].Hash, sessions[0].UsedAt))
	sessions = append(sessions, r.MustSession("asha", r.now()))
	r.wantNoSession("that was used longest ago", sessions[1])
	for i, s := range sessions {
		if i != 1 {
			r.wantSession(s)
		}
	}
	r.must(r.store.TouchSession(r.Context(), expired.Hash, start.Add(59*time.Minute)))
	r.must(r.store.TouchSession(r.Context(), long.Hash, start.Add(59*time.Minute)))
	long.UsedAt = start.Add(59 * time.Minute)
	link := r.code()
	r.must(r.store.PutLoginLink(r.Context(), "mina", link))
	last := r.MustSession("asha", start.Add(time.Hour))
	r.wantNoSession("that was not used", idle)
	r.wantNoSession("that expired", expired)
	r.wantSession(long)
	got, err := r.store.Sessions(r.Context(), "asha")
	r.must(err)
	r.wantEqual("sessions that have not ended", got, []grahak.SessionRecord{last})
	_, err = r.store.OperatorCode(r.Context(), grahak.CodeKindLink, link.Hash, start)
	r.wantCode("a code that had expired", err, grahak.CodeLoginRefused)
}

func anotherPassword(r *rig) {
	r.MustSetUp("asha")
	r.MustSetUp("mina")
	ended, kept, theirs := r.MustSession("asha", r.now()), r.MustSession("asha", r.now()), r.MustSession("mina", r.now())
	before, want, p := len(r.MustEvents(grahak.OperatorsMerchant)), r.MustAccount("asha"), r.proof("asha")
	r.must(r.store.SetPassword(r.Context(), p, "another", kept.Hash, []grahak.Event{r.event(grahak.EventOperatorPasswordChanged, "asha", 0)}))
	want.Password, want.TOTPStep = "another", p.Step
	r.wantEqual("the operator", r.MustAccount("asha"), want)
	r.wantNew("of the password", grahak.OperatorsMerchant, before, grahak.EventOperatorPasswordChanged)
	r.wantNoSession("that is not kept", ended)
	r.wantSession(kept)
	r.wantSession(theirs)
}

// What has ended is deleted, a part at a time, without an event.
func operatorsPrune(r *rig) {
	ctx := r.Context()
	prune := func(now time.Time, limit, want int) {
		r.Helper()
		n, err := r.store.PruneOperators(ctx, now, limit)
		r.must(err)
		r.wantEqual("deleted", n, want)
	}
	r.MustMerchant(own)
	prune(start, 10, 0)
	r.MustSetUp("asha")
	ended := []grahak.SessionRecord{r.MustSession("asha", start), r.MustSession("asha", start)}
	lasts := r.MustSession("asha", start.Add(time.Second))
	for range 2 {
		r.must(r.store.PutLoginLink(ctx, "asha", r.code()))
	}
	link := grahak.OperatorCode{Hash: r.secret(), ExpiresAt: start.Add(2 * time.Hour)}
	r.must(r.store.PutLoginLink(ctx, "asha", link))
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	prune(start.Add(time.Hour-time.Microsecond), 10, 0)
	for _, want := range []int{3, 1, 0} {
		prune(start.Add(time.Hour), 3, want)
	}
	for _, s := range ended {
		r.wantNoSession("that expired", s)
	}
	r.wantSession(lasts)
	account, err := r.store.OperatorCode(ctx, grahak.CodeKindLink, link.Hash, start)
	r.must(err)
	r.wantEqual("recovery codes, which never expire", account.RecoveryCodes, 2)
	r.wantNew("nothing is written of it", grahak.OperatorsMerchant, before)
}

// wantOneLogin has many log in at once with what works once.
func (r *rig) wantOneLogin(p grahak.LoginProof) {
	r.Helper()
	before, at := len(r.MustEvents(grahak.OperatorsMerchant)), r.now()
	sessions := make([]grahak.SessionRecord, parallel)
	errs := r.together(parallel, func(r *rig, i int) error {
		sessions[i] = r.session(p.Operator, at)
		return r.begin(p, sessions[i])
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeLoginRefused: parallel - 1})
	for i, err := range errs {
		if err == nil {
			r.process(i + 1).wantSession(sessions[i])
			continue
		}
		r.wantNoSession(fmt.Sprintf("of login %d, which was refused", i), sessions[i])
	}
	r.wantNew("of the one login", grahak.OperatorsMerchant, before, grahak.EventOperatorLoggedIn)
}

func loginsWithOneStep(r *rig) {
	r.MustSetUp("asha")
	p := r.proof("asha")
	r.wantOneLogin(p)
	r.wantEqual("the step that was used", r.MustAccount("asha").TOTPStep, p.Step)
}

func loginsWithOneCode(r *rig) {
	r.MustSetUp("asha")
	recovery := r.secret()
	r.must(r.store.SetRecoveryCodes(r.Context(), r.proof("asha"), []grahak.SecretHash{recovery, r.secret()}, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
	r.wantOneLogin(grahak.LoginProof{Operator: "asha", At: r.now(), Password: password, Kind: grahak.CodeKindRecovery, Code: recovery})
	r.wantEqual("recovery codes that are left", r.MustAccount("asha").RecoveryCodes, 1)
}

// setupsWithOneCode has many finish one setup at once: one of them has the password.
func setupsWithOneCode(r *rig) {
	setup := r.code()
	r.MustMerchant(grahak.OperatorsMerchant)
	r.must(r.create("asha", setup, grahak.Grant{}))
	o, at := r.MustAccount("asha"), r.now()
	errs := r.together(parallel, func(r *rig, i int) error {
		to := o
		to.SetUpAt, to.Password, to.TOTPStep = at, fmt.Sprintf("password %d", i), 7
		return r.store.FinishSetup(r.Context(), setup.Hash, to, []grahak.SecretHash{r.secret()}, r.event(grahak.EventOperatorSetUp, "asha", 0))
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeLoginRefused: parallel - 1})
	o = r.MustAccount("asha")
	r.wantEqual("recovery codes", o.RecoveryCodes, 1)
	for i, err := range errs {
		if err == nil {
			r.wantEqual("the password", o.Password, fmt.Sprintf("password %d", i))
		}
	}
}
