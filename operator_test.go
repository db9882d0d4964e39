package grahak_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"grahak"
	"grahak/internal/testkit"
)

const goodPassword = "three words suffice"

var (
	allMerchants = operator(grahak.OperatorsMerchant)
	browserHere  = grahak.Client{Addr: netip.MustParseAddr(here), UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
)

// desk is a service at which operators work, at a time that stands still.
type desk struct {
	*grahak.Service
	clock *testkit.Clock
	store grahak.Store
}

// MustDesk returns the desk of an environment with the merchants acme and rival.
func MustDesk(t *testing.T, env grahak.Environment) *desk {
	t.Helper()
	return MustMerchantRig(t).MustDesk(t, grahak.Config{Environment: env})
}

// MustDesk returns a desk on r's store.
func (r *rig) MustDesk(t *testing.T, cfg grahak.Config) *desk {
	t.Helper()
	cfg.Store, cfg.Sealer, cfg.Clock = r.store, r.sealer, r.clock
	return &desk{Service: MustService(t, cfg), clock: r.clock, store: r.store}
}

// authenticator is a person's telephone.
type authenticator struct {
	secret []byte
	clock  *testkit.Clock
}

// MustPhone returns a telephone that is told the secret of a setup.
func (d *desk) MustPhone(t *testing.T, shown grahak.OperatorSetup) authenticator {
	t.Helper()
	secret, err := base32.StdEncoding.DecodeString(shown.Secret)
	if err != nil || len(secret) != 20 {
		t.Fatalf("the secret has %d bytes (%v)", len(secret), err)
	}
	return authenticator{secret: secret, clock: d.clock}
}

// code returns what it shows, as RFC 6238 has it, that many steps from now.
func (a authenticator) code(steps int64) string {
	mac := hmac.New(sha1.New, a.secret)
	_ = binary.Write(mac, binary.BigEndian, a.clock.Now().Unix()/30+steps)
	sum := mac.Sum(nil)
	offset := sum[19] & 0xf
	number := int(sum[offset]&0x7f)<<24 | int(sum[offset+1])<<16 | int(sum[offset+2])<<8 | int(sum[offset+3])
	return fmt.Sprintf("%06d", number%1000000)
}

// member is an operator who is set up.
type member struct {
	*desk
	name     grahak.OperatorName
	phone    authenticator
	recovery []string
}

// MustMember makes an operator with a role at m, or none if that is empty, and sets
// it up. A minute later the authenticator shows another code.
func (d *desk) MustMember(t *testing.T, name grahak.OperatorName, m grahak.MerchantID, role grahak.Role) *member {
	t.Helper()
	setup, err := d.CreateOperator(t.Context(), allMerchants, string(name))
	if err == nil && role != "" {
		err = d.SetRole(t.Context(), operator(m), name, role)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.MustSetUp(t, name, setup)
}

// MustSetUp sets an operator up.
func (d *desk) MustSetUp(t *testing.T, name grahak.OperatorName, setup string) *member {
	t.Helper()
	shown, err := d.Setup(t.Context(), setup, browserHere)
	if err != nil {
		t.Fatal(err)
	}
	p := &member{desk: d, name: name, phone: d.MustPhone(t, shown)}
	if p.recovery, err = d.FinishSetup(t.Context(), setup, goodPassword, p.phone.code(0), browserHere); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Minute)
	return p
}

func (p *member) attempt() grahak.LoginAttempt {
	return grahak.LoginAttempt{Name: string(p.name), Password: goodPassword, Code: p.phone.code(0), Client: browserHere}
}

// MustLogin logs in and returns the visitor.
func (p *member) MustLogin(t *testing.T) (token string, v grahak.Visitor) {
	t.Helper()
	p.clock.Advance(time.Minute)
	token, err := p.Login(t.Context(), p.attempt())
	if err == nil {
		v, err = p.Visit(t.Context(), token)
	}
	if err != nil {
		t.Fatal(err)
	}
	return token, v
}

// MustCaller returns who an operator is at a merchant.
func (p *member) MustCaller(t *testing.T, m grahak.MerchantID) grahak.Caller {
	t.Helper()
	_, v := p.MustLogin(t)
	c, _, err := p.VisitorCaller(t.Context(), v, m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLogin(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	asha := d.MustMember(t, "asha", acme, grahak.RoleAdmin)
	if len(asha.recovery) != 10 {
		t.Errorf("the recovery codes are %q", asha.recovery)
	}
	token, v := asha.MustLogin(t)
	if len(token) != 43 {
		t.Errorf("the token has %d characters", len(token))
	}
	now := d.clock.Now().Truncate(time.Microsecond)
	diff(t, "the visitor", grahak.Visitor{
		Account: grahak.Account{Name: "asha", CreatedAt: now.Add(-2 * time.Minute), SetUpAt: now.Add(-2 * time.Minute), LastLoginAt: now, RecoveryCodes: 10},
		Session: grahak.Session{ID: v.Session.ID, Operator: "asha", CreatedAt: now, UsedAt: now, ExpiresAt: now.Add(12 * time.Hour), Addr: browserHere.Addr, Browser: "Firefox on Linux"},
		Grants:  []grahak.Grant{{Merchant: acme, Operator: "asha", Role: grahak.RoleAdmin, GrantedBy: "cli:tester", GrantedAt: now.Add(-2 * time.Minute)}},
	}, v)
	c, m, err := d.VisitorCaller(t.Context(), v, acme)
	if err != nil || m.ID != acme || c.Actor != "operator:asha" {
		t.Errorf("the caller is %+v at %+v (%v)", c, m, err)
	}
	_, _, err = d.VisitorCaller(t.Context(), v, rival)
	wantCode(t, err, grahak.CodeMerchantNotFound)
	_, _, err = d.VisitorCaller(t.Context(), v, grahak.OperatorsMerchant)
	wantCode(t, err, grahak.CodeMerchantNotFound)
}
