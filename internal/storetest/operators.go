package storetest

import (
	"fmt"
	"time"

	"grahak"
)

var operatorTests = []test{
	{"accounts", operatorAccounts},
	{"roles", operatorRoles},
	{"last owner", lastOwner},
	{"disabled, enabled, reset", operatorStates},
	{"logins that fail", loginFailures},
	{"of merchants", operatorsOfMerchants},
	{"one name", createsOfOneOperator},
	{"last owners together", removalsOfLastOwners},
	{"logins that fail together", loginFailuresTogether},
}

// MustOperator makes an operator with a role at each of the merchants, of which there
// may be none, under the merchant of operators, which is made too if it is not there.
func (r *rig) MustOperator(name grahak.OperatorName, role grahak.Role, at ...grahak.MerchantID) {
	r.Helper()
	if _, err := r.store.Merchant(r.Context(), grahak.OperatorsMerchant); grahak.CodeOf(err) == grahak.CodeMerchantNotFound {
		r.MustMerchant(grahak.OperatorsMerchant)
	}
	r.must(r.create(name, grahak.OperatorCode{}, grahak.Grant{}))
	for _, m := range at {
		r.must(r.setRole(m, name, role))
	}
}

// create writes an operator.
func (r *rig) create(name grahak.OperatorName, setup grahak.OperatorCode, g grahak.Grant) error {
	g.Operator = name
	return r.store.CreateOperator(r.Context(), name, r.now(), setup, r.event(grahak.EventOperatorCreated, string(name), 0), g,
		r.event(grahak.EventRoleSet, string(name)+":"+string(g.Role), 0))
}

// setRole gives a role, or takes it away if it is empty.
func (r *rig) setRole(m grahak.MerchantID, name grahak.OperatorName, role grahak.Role) error {
	g := grahak.Grant{Merchant: m, Operator: name, Role: role, GrantedBy: "cli:asha", GrantedAt: r.now()}
	return r.store.SetRole(r.Context(), g, r.event(grahak.EventRoleSet, string(name)+":"+string(role), 0))
}

// secret returns a new hash, whose bytes are not text.
func (r *rig) secret() (h grahak.SecretHash) {
	short := r.short()
	copy(h[8:], short[:])
	h[31] = 0xff
	return h
}

// code returns a new code that is valid for an hour after the tests' time begins.
func (r *rig) code() grahak.OperatorCode {
	return grahak.OperatorCode{Hash: r.secret(), ExpiresAt: start.Add(time.Hour)}
}

// MustAccount returns an operator.
func (r *rig) MustAccount(name grahak.OperatorName) grahak.OperatorRecord {
	r.Helper()
	o, err := r.store.Operator(r.Context(), name)
	r.must(err)
	return o
}

// wantNew fails the test unless a merchant has as many events as before, and then
// those of the given types.
func (r *rig) wantNew(what string, m grahak.MerchantID, before int, want ...grahak.EventType) {
	r.Helper()
	var got []grahak.EventType
	for _, e := range r.MustEvents(m)[before:] {
		got = append(got, e.Type)
	}
	r.wantEqual(what, got, want)
}

func operatorAccounts(r *rig) {
	r.MustMerchant(own)
	setup := r.code()
	r.wantCode("before there is the merchant of operators", r.create("asha", setup, grahak.Grant{}), grahak.CodeMerchantNotFound)
	r.MustMerchant(grahak.OperatorsMerchant)
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	_, err := r.store.Operator(r.Context(), "asha")
	r.wantCode("one that there is not", err, grahak.CodeOperatorNotFound)

	at := r.now()
	grant := grahak.Grant{Merchant: own, Operator: "asha", Role: grahak.RoleAdmin, GrantedBy: "operator:ravi", GrantedAt: r.now()}
	of := len(r.MustEvents(own))
	r.must(r.store.CreateOperator(r.Context(), "asha", at, setup, r.event(grahak.EventOperatorCreated, "asha", 0), grant, r.event(grahak.EventRoleSet, "asha:admin", 0)))
	want := grahak.OperatorRecord{Account: grahak.Account{Name: "asha", CreatedAt: at}, TOTPVersion: 1}
	r.wantEqual("the operator", r.MustAccount("asha"), want)
	grants, err := r.store.Grants(r.Context(), own)
	r.must(err)
	r.wantEqual("the role", grants, []grahak.Grant{grant})
	found, err := r.store.OperatorCode(r.Context(), grahak.CodeKindSetup, setup.Hash, at)
	r.must(err)
	r.wantEqual("whose setup code it is", found, want)
	r.wantNew("events of operators", grahak.OperatorsMerchant, before, grahak.EventOperatorCreated)
	r.wantNew("events of the merchant", own, of, grahak.EventRoleSet)

	other := r.code()
	r.wantCode("the same name", r.create("asha", other, grahak.Grant{Merchant: own, Role: grahak.RoleOwner}), grahak.CodeOperatorExists)
	r.wantCode("a role at a merchant that there is not", r.create("ravi", other, grahak.Grant{Merchant: nobody, Role: grahak.RoleOwner}), grahak.CodeMerchantNotFound)
	_, err = r.store.OperatorCode(r.Context(), grahak.CodeKindSetup, other.Hash, at)
	r.wantCode("the code of a refused one", err, grahak.CodeLoginRefused)
	r.wantNew("events after refusals", grahak.OperatorsMerchant, before, grahak.EventOperatorCreated)
	for _, name := range []grahak.OperatorName{"b", "a_z", "a-z", "a.z", "az", "a0"} {
		r.must(r.create(name, grahak.OperatorCode{}, grahak.Grant{}))
	}
	accounts, err := r.store.Operators(r.Context())
	r.must(err)
	var names []grahak.OperatorName
	for _, a := range accounts {
		names = append(names, a.Name)
	}
	r.wantEqual("by name, in the order of bytes", names, []grahak.OperatorName{"a-z", "a.z", "a0", "a_z", "asha", "az", "b"})
	r.wantEqual("an account in the list", accounts[4], want.Account)
}

func operatorRoles(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustOperator("ravi", "")
	r.MustOperator("asha", "")
	roles := func(m grahak.MerchantID) (list []string) {
		r.Helper()
		grants, err := r.store.Grants(r.Context(), m)
		r.must(err)
		for _, g := range grants {
			list = append(list, fmt.Sprintf("%s %s %s", g.Operator, g.Merchant, g.Role))
		}
		return list
	}
	before := len(r.MustEvents(own))
	r.wantCode("an operator that there is not", r.setRole(own, "nobody", grahak.RoleOwner), grahak.CodeOperatorNotFound)
	r.wantCode("a merchant that there is not", r.setRole(nobody, "asha", grahak.RoleOwner), grahak.CodeMerchantNotFound)
	r.must(r.setRole(own, "asha", "")) // which there is none of
	r.wantNew("nothing was changed", own, before)
	for _, role := range []grahak.Role{grahak.RoleViewer, grahak.RoleViewer, grahak.RoleOwner} {
		r.must(r.setRole(own, "ravi", role))
	}
	r.must(r.setRole(own, "asha", grahak.RoleAdmin))
	r.must(r.setRole(other, "asha", grahak.RoleViewer))
	r.must(r.setRole(grahak.OperatorsMerchant, "asha", grahak.RoleViewer))
	r.wantEqual("at the merchant", roles(own), []string{"asha acme admin", "ravi acme owner"})
	r.wantEqual("at the other", roles(other), []string{"asha Acme viewer"})
	r.wantEqual("at one that there is not", roles(nobody), []string(nil))
	r.wantEqual("all", roles(""), []string{"asha @operators viewer", "asha Acme viewer", "asha acme admin", "ravi acme owner"})
	r.wantNew("the same role is no change", own, before, grahak.EventRoleSet, grahak.EventRoleSet, grahak.EventRoleSet)
	r.must(r.setRole(own, "asha", ""))
	r.wantEqual("one fewer", roles(own), []string{"ravi acme owner"})
	r.wantEqual("as before at the other", roles(other), []string{"asha Acme viewer"})
}

// A merchant keeps an owner who is not disabled; one of all merchants will do.
func lastOwner(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(other)
	r.MustOperator("asha", grahak.RoleOwner, own, other)
	r.MustOperator("ravi", grahak.RoleAdmin, own)
	r.MustOperator("mina", grahak.RoleOwner, other)
	before := len(r.MustEvents(own))
	r.wantCode("away", r.setRole(own, "asha", ""), grahak.CodeLastOwner)
	r.wantCode("an admin", r.setRole(own, "asha", grahak.RoleAdmin), grahak.CodeLastOwner)
	r.wantNew("nothing was changed", own, before)
	r.must(r.setRole(other, "asha", ""))
	r.must(r.setRole(own, "ravi", grahak.RoleOwner))
	r.must(r.store.DisableOperator(r.Context(), "ravi", r.now(), r.event(grahak.EventOperatorDisabled, "ravi", 0)))
	r.wantCode("beside a disabled one", r.setRole(own, "asha", ""), grahak.CodeLastOwner)
	r.must(r.setRole(grahak.OperatorsMerchant, "mina", grahak.RoleAdmin))
	r.wantCode("beside an admin of all", r.setRole(own, "asha", ""), grahak.CodeLastOwner)
	r.must(r.setRole(grahak.OperatorsMerchant, "mina", grahak.RoleOwner))
	r.must(r.setRole(own, "asha", ""))
	r.must(r.setRole(grahak.OperatorsMerchant, "mina", ""))
	r.must(r.store.EnableOperator(r.Context(), "ravi", r.event(grahak.EventOperatorEnabled, "ravi", 0)))
	r.wantCode("enabled, and the last", r.setRole(own, "ravi", grahak.RoleViewer), grahak.CodeLastOwner)
}

func operatorStates(r *rig) {
	ctx := r.Context()
	r.MustSetUp("asha")
	r.MustSetUp("mina")
	session := r.MustSession("asha", r.now())
	stays := r.MustSession("mina", r.now())
	before, account, mina := len(r.MustEvents(grahak.OperatorsMerchant)), r.MustAccount("asha"), r.MustAccount("mina")

	account.DisabledAt = r.now()
	for i := range 2 {
		r.must(r.store.DisableOperator(ctx, "asha", account.DisabledAt.Add(time.Duration(i)*time.Second), r.event(grahak.EventOperatorDisabled, "asha", 0)))
	}
	r.wantEqual("disabled", r.MustAccount("asha"), account)
	r.wantNoSession("of a disabled operator", session)
	for range 2 {
		r.must(r.store.EnableOperator(ctx, "asha", r.event(grahak.EventOperatorEnabled, "asha", 0)))
	}
	account.DisabledAt = time.Time{}
	r.wantEqual("enabled", r.MustAccount("asha"), account)
	r.must(r.store.UnlockOperator(ctx, "asha", r.event(grahak.EventOperatorUnlocked, "asha", 0))) // who is not locked
	r.wantNew("each once", grahak.OperatorsMerchant, before, grahak.EventOperatorDisabled, grahak.EventOperatorEnabled)

	session = r.MustSession("asha", r.now())
	r.must(r.store.LoginFailed(ctx, "asha", r.now(), func(int64) time.Duration { return time.Hour }, r.event(grahak.EventOperatorLockedOut, "asha", 0)))
	link, setup, recovery := r.code(), r.code(), r.secret()
	r.must(r.store.PutLoginLink(ctx, "asha", link))
	r.must(r.store.SetRecoveryCodes(ctx, r.proof("asha"), []grahak.SecretHash{recovery}, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
	r.must(r.store.LoginFailed(ctx, "asha", r.now(), func(int64) time.Duration { return time.Hour }, r.event(grahak.EventOperatorLockedOut, "asha", 0)))
	before, account = len(r.MustEvents(grahak.OperatorsMerchant)), r.MustAccount("asha")
	r.must(r.store.ResetOperator(ctx, "asha", setup, r.event(grahak.EventOperatorReset, "asha", 0)))
	want := grahak.OperatorRecord{
		Account:     grahak.Account{Name: "asha", CreatedAt: account.CreatedAt, LastLoginAt: account.LastLoginAt},
		TOTPVersion: account.TOTPVersion + 1,
	}
	r.wantEqual("reset", r.MustAccount("asha"), want)
	r.wantNew("of the reset", grahak.OperatorsMerchant, before, grahak.EventOperatorReset)
	r.wantNoSession("of an operator who was reset", session)
	for kind, hash := range map[grahak.CodeKind]grahak.SecretHash{grahak.CodeKindLink: link.Hash, grahak.CodeKindRecovery: recovery} {
		_, err := r.store.OperatorCode(ctx, kind, hash, start)
		r.wantCode("the code for "+string(kind), err, grahak.CodeLoginRefused)
	}
	found, err := r.store.OperatorCode(ctx, grahak.CodeKindSetup, setup.Hash, start)
	r.must(err)
	r.wantEqual("whose setup code it is", found, want)
	r.wantEqual("another operator", r.MustAccount("mina"), mina)
	r.wantSession(stays)
	for what, err := range map[string]error{
		"disable": r.store.DisableOperator(ctx, "nobody", r.now(), r.event(grahak.EventOperatorDisabled, "nobody", 0)),
		"enable":  r.store.EnableOperator(ctx, "nobody", r.event(grahak.EventOperatorEnabled, "nobody", 0)),
		"unlock":  r.store.UnlockOperator(ctx, "nobody", r.event(grahak.EventOperatorUnlocked, "nobody", 0)),
		"reset":   r.store.ResetOperator(ctx, "nobody", r.code(), r.event(grahak.EventOperatorReset, "nobody", 0)),
		"link":    r.store.PutLoginLink(ctx, "nobody", r.code()),
	} {
		r.wantCode(what+" one that there is not", err, grahak.CodeOperatorNotFound)
	}
}

func loginFailures(r *rig) {
	ctx := r.Context()
	r.MustSetUp("asha")
	before, want := len(r.MustEvents(grahak.OperatorsMerchant)), r.MustAccount("asha")
	fail := func(name grahak.OperatorName, at time.Time) {
		r.Helper()
		r.must(r.store.LoginFailed(ctx, name, at, func(failures int64) time.Duration {
			if failures < 3 {
				return 0
			}
			return time.Duration(failures) * time.Minute
		}, r.event(grahak.EventOperatorLockedOut, string(name), 0)))
	}
	for i := range 4 {
		at := r.now()
		fail("asha", at)
		if want.Failures++; i >= 2 {
			want.LockedUntil = at.Add(time.Duration(want.Failures) * time.Minute)
		}
		r.wantEqual(fmt.Sprintf("after %d failures", i+1), r.MustAccount("asha"), want)
	}
	fail("nobody", r.now())
	r.wantNew("of each lock", grahak.OperatorsMerchant, before, grahak.EventOperatorLockedOut, grahak.EventOperatorLockedOut)
	r.must(r.store.UnlockOperator(ctx, "asha", r.event(grahak.EventOperatorUnlocked, "asha", 0)))
	want.Failures, want.LockedUntil = 0, time.Time{}
	r.wantEqual("unlocked", r.MustAccount("asha"), want)
	for what, succeed := range map[string]func(){
		"a login": func() { want.LastLoginAt = r.MustSession("asha", r.now()).CreatedAt },
		"another password": func() {
			r.must(r.store.SetPassword(ctx, r.proof("asha"), want.Password, r.secret(), []grahak.Event{r.event(grahak.EventOperatorPasswordChanged, "asha", 0)}))
		},
		"other recovery codes": func() {
			r.must(r.store.SetRecoveryCodes(ctx, r.proof("asha"), nil, []grahak.Event{r.event(grahak.EventOperatorRecoveryCodesMade, "asha", 0)}))
			want.RecoveryCodes = 0
		},
	} {
		for range 3 {
			fail("asha", r.now())
		}
		succeed()
		want.TOTPStep++
		r.wantEqual("after "+what, r.MustAccount("asha"), want)
	}
}

// operatorsOfMerchants checks that nothing but their roles is a merchant's own: its
// access, its keys and its customers are as they were.
func operatorsOfMerchants(r *rig) {
	r.MustMerchant(own)
	r.MustKey(own)
	r.MustCustomer(own)
	before := r.MustState(own)
	r.MustOperator("asha", "")
	r.MustSetUp("ravi")
	r.must(r.store.EndSessions(r.Context(), "ravi", r.MustSession("ravi", r.now()).Hash, r.event(grahak.EventOperatorSessionsEnded, "ravi", 0)))
	r.wantEqual("what the merchant has", r.MustState(own), before)
	r.must(r.setRole(own, "asha", grahak.RoleOwner))
	after := r.MustState(own)
	r.wantEqual("the event of a role", after.Events[len(before.Events)].Subject, "asha:owner")
	after.Events, after.Unordered = before.Events, before.Unordered
	r.wantEqual("what the merchant has besides", after, before)
}

func createsOfOneOperator(r *rig) {
	r.MustMerchant(own)
	r.MustMerchant(grahak.OperatorsMerchant)
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	errs := r.together(parallel, func(r *rig, _ int) error {
		return r.create("asha", r.code(), grahak.Grant{Merchant: own, Role: grahak.RoleOwner})
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": 1, grahak.CodeOperatorExists: parallel - 1})
	r.wantNew("of the one", grahak.OperatorsMerchant, before, grahak.EventOperatorCreated)
}

// Owners who all leave at once leave one behind.
func removalsOfLastOwners(r *rig) {
	r.MustMerchant(own)
	names := make([]grahak.OperatorName, parallel)
	for i := range names {
		names[i] = grahak.OperatorName(fmt.Sprintf("owner%02d", i))
		r.MustOperator(names[i], grahak.RoleOwner, own)
	}
	errs := r.together(parallel, func(r *rig, i int) error {
		role := grahak.Role("")
		if i%2 == 0 {
			role = grahak.RoleViewer
		}
		return r.setRole(own, names[i], role)
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel - 1, grahak.CodeLastOwner: 1})
	grants, err := r.store.Grants(r.Context(), own)
	r.must(err)
	for i, g := range grants {
		if g.Role != grahak.RoleOwner {
			continue
		}
		if at := int(g.Operator[5]-'0')*10 + int(g.Operator[6]-'0'); errs[at] == nil {
			r.Errorf("%s is an owner, and was not refused to leave: %v", g.Operator, grants[i])
		}
	}
}

// Each login that fails counts, on whichever node.
func loginFailuresTogether(r *rig) {
	r.MustOperator("asha", "")
	before := len(r.MustEvents(grahak.OperatorsMerchant))
	at := r.now()
	errs := r.together(parallel, func(r *rig, _ int) error {
		return r.store.LoginFailed(r.Context(), "asha", at, func(failures int64) time.Duration {
			if failures < parallel-1 {
				return 0
			}
			return time.Duration(failures) * time.Minute
		}, r.event(grahak.EventOperatorLockedOut, "asha", 0))
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	o := r.MustAccount("asha")
	r.wantEqual("failures", o.Failures, int64(parallel))
	r.wantEqual("locked until", o.LockedUntil, at.Add(parallel*time.Minute))
	r.wantNew("of the locks", grahak.OperatorsMerchant, before, grahak.EventOperatorLockedOut, grahak.EventOperatorLockedOut)
}
