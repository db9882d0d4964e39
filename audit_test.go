package grahak_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"grahak"
	"grahak/internal/seal"
)

// The encoding under the links of chains never changes: every chain that exists
// would be taken for an altered one. Do not change these digits.
func TestLinkNeverChanges(t *testing.T) {
	t.Parallel()
	first := grahak.Event{
		Position: 1, ID: "evt_0000000000000001", Type: grahak.EventMerchantCreated,
		Actor: "cli:asha", At: time.Date(2026, time.March, 17, 14, 13, 37, 123456000, time.UTC),
	}
	second := grahak.Event{
		Position: 2, ID: "evt_0000000000000002", Type: grahak.EventCustomerUpdated, Subject: "cst_0000000000000001", Revision: 300,
		Changed: []grahak.Field{grahak.FieldMobileNumber, grahak.FieldEmail}, Actor: "key_0000000000000001", RequestID: "req-1",
		At: time.Unix(-1, 0),
	}
	link := first.Link(acme, grahak.Link{})
	diff(t, "the first link", "dd5dcc3e17e7e5aebc9647f959e9644d0521efba32a03511c94a19d30e0df397", hex.EncodeToString(link[:]))
	link = second.Link(acme, link)
	diff(t, "the second link", "6541755df9f402956e001b8b79f6d95482ccb31a960d46a6ff58f05a06ce4d66", hex.EncodeToString(link[:]))
}

// Whatever differs in an event, or before it, makes another link. No part can be
// moved over into its neighbour.
func TestLinksDiffer(t *testing.T) {
	t.Parallel()
	base := grahak.Event{
		Position: 7, ID: "evt_1", Type: "customer.updated", Subject: "cst_1", Revision: 3,
		Changed: []grahak.Field{grahak.FieldEmail}, Actor: "key_1", RequestID: "req_1", At: time.UnixMicro(1_700_000_000_000_000),
	}
	alter := func(fn func(*grahak.Event)) grahak.Event {
		e := base
		fn(&e)
		return e
	}
	links := map[grahak.Link]string{
		base.Link(acme, grahak.Link{}):  "as it is",
		base.Link(rival, grahak.Link{}): "another merchant's",
		base.Link("acm", grahak.Link{}): "a merchant with a letter less",
		base.Link(acme, grahak.Link{1}): "another link before",
	}
	for name, e := range map[string]grahak.Event{
		"another position":            alter(func(e *grahak.Event) { e.Position++ }),
		"another id":                  alter(func(e *grahak.Event) { e.ID = "evt_2" }),
		"another type":                alter(func(e *grahak.Event) { e.Type = "customer.erased" }),
		"another subject":             alter(func(e *grahak.Event) { e.Subject = "cst_2" }),
		"no subject":                  alter(func(e *grahak.Event) { e.Subject = "" }),
		"another revision":            alter(func(e *grahak.Event) { e.Revision = -3 }),
		"another field":               alter(func(e *grahak.Event) { e.Changed = []grahak.Field{grahak.FieldLastName} }),
		"two fields":                  alter(func(e *grahak.Event) { e.Changed = []grahak.Field{grahak.FieldEmail, grahak.FieldEmail} }),
		"no field":                    alter(func(e *grahak.Event) { e.Changed = nil }),
		"another actor":               alter(func(e *grahak.Event) { e.Actor = "key_2" }),
		"another request":             alter(func(e *grahak.Event) { e.RequestID = "" }),
		"a microsecond later":         alter(func(e *grahak.Event) { e.At = e.At.Add(time.Microsecond) }),
		"a letter moved to the right": alter(func(e *grahak.Event) { e.Actor, e.RequestID = "key_", "1req_1" }),
		"a part moved to the right":   alter(func(e *grahak.Event) { e.ID, e.Type = "", "evt_1customer.updated" }),
		"a part moved to the left":    alter(func(e *grahak.Event) { e.Type, e.Subject = "customer.updatedcst_1", "" }),
	} {
		link := e.Link(acme, grahak.Link{})
		if same, known := links[link]; known {
			t.Errorf("an event with %s has the link of one with %s", name, same)
		}
		links[link] = name
	}
	// The zone that a time is written in is no part of it.
	zone := alter(func(e *grahak.Event) { e.At = e.At.In(time.FixedZone("IST", 19800)).Add(999) })
	diff(t, "the link of a time in another zone", base.Link(acme, grahak.Link{}), zone.Link(acme, grahak.Link{}))
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	want := grahak.Anchor{Position: 42, Link: grahak.Link{0xde, 0xad, 31: 0x01}}
	text := "42:dead" + strings.Repeat("0", 58) + "01"
	diff(t, "an anchor as text", text, want.String())
	got, err := grahak.ParseAnchor(text)
	wantCode(t, err, "")
	diff(t, "read again", want, got)
	got, err = grahak.ParseAnchor(strings.ToUpper(text))
	wantCode(t, err, "")
	diff(t, "read in upper case", want, got)
	for _, bad := range []string{
		"", ":", "42", "42:", ":" + text[3:], "0" + text[2:], "-1" + text[2:], "x" + text[2:], text + "00", text[:len(text)-2], text[:len(text)-1],
		text + "g", strings.ReplaceAll(text, "d", "g"), " " + text, text + "\n", "42 :" + text[3:], "1:42:" + text[3:], "9223372036854775808" + text[2:],
	} {
		if got, err := grahak.ParseAnchor(bad); err == nil || got != (grahak.Anchor{}) {
			t.Errorf("%q was read as %v (%v)", bad, got, err)
		}
	}
}

// audited is a rig whose merchant acme has a chain of several segments.
type audited struct {
	*rig
	head grahak.Anchor // of the chain
}

// The events of an audited merchant: what each of them is, by position.
const (
	lastOrdered = 10
	pending     = 2
)

// MustAudited makes ten events of acme in three segments, and two that are not in
// order. Three customers are left.
func MustAudited(tb testing.TB) *audited {
	tb.Helper()
	a := &audited{rig: MustMerchantRig(tb)}
	create := func(refs ...string) {
		tb.Helper()
		for _, ref := range refs {
			a.MustCreate(tb, acme, person(ref))
			a.clock.Advance(time.Second)
		}
	}
	create("a", "b") // 2 and 3
	a.MustOrder(tb)
	a.MustErase(tb, acme, "b") // 4
	in := grahak.CustomerInput{Email: given("new@example.com"), LastName: given("New")}
	if _, err := a.UpdateCustomer(tb.Context(), caller(acme, grahak.ScopeWrite), "a", in, grahak.WriteOptions{}); err != nil { // 5
		tb.Fatal(err)
	}
	create("c", "d") // 6 and 7
	a.MustOrder(tb)
	a.MustKey(tb, acme, grahak.KeySpec{})               // 8
	a.MustKey(tb, acme, grahak.KeySpec{Label: "other"}) // 9
	create("e")                                         // 10
	a.MustOrder(tb)
	head, err := a.store.ChainHead(tb.Context(), acme)
	if err != nil || head.Position != lastOrdered {
		tb.Fatal(head, err)
	}
	a.head = grahak.Anchor{Position: head.Position, Link: head.Link}
	a.MustErase(tb, acme, "e")
	create("f")
	return a
}

// MustVerify audits acme.
func (r *rig) MustVerify(tb testing.TB, anchor *grahak.Anchor) grahak.AuditReport {
	tb.Helper()
	report, err := r.VerifyAudit(tb.Context(), operator(acme), anchor, nil)
	if err != nil {
		tb.Fatalf("verify: %v", err)
	}
	return report
}

// mustSegments returns the chain of acme.
func (r *rig) mustSegments(tb testing.TB) []grahak.ChainSegment {
	tb.Helper()
	segments, err := r.store.Chain(tb.Context(), acme, 0, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	return segments
}

func TestAuditOfAnIntactChain(t *testing.T) {
	t.Parallel()
	a := MustAudited(t)
	events := a.MustEvents(t, acme)
	diff(t, "events", lastOrdered+pending, len(events))
	var told []int64
	report, err := a.VerifyAudit(t.Context(), operator(acme), nil, func(events int64) { told = append(told, events) })
	wantCode(t, err, "")
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: a.head, Pending: pending}, report)
	diff(t, "progress", []int64{lastOrdered}, told)

	// Every position of the chain is an anchor, and goes on being one.
	var anchors []grahak.Anchor
	var link grahak.Link
	for _, e := range events[:lastOrdered] {
		link = e.Link(acme, link)
		anchors = append(anchors, grahak.Anchor{Position: e.Position, Link: link})
	}
	diff(t, "the head", anchors[lastOrdered-1], a.head)
	a.MustOrder(t)
	for _, anchor := range anchors {
		report := a.MustVerify(t, &anchor)
		if report.Fault != "" || report.Head.Position != lastOrdered+pending || report.Pending != 0 {
			t.Errorf("with the anchor %v: %+v", anchor, report)
		}
	}
	// Another process, and other merchants: one with little in its chain, and one
	// with nothing.
	diff(t, "the report of another process", a.MustVerify(t, nil), a.MustJoin(t).MustVerify(t, nil))
	if _, err := a.CreateMerchant(t.Context(), operator("new"), ""); err != nil {
		t.Fatal(err)
	}
	report, err = a.VerifyAudit(t.Context(), operator("new"), nil, nil)
	wantCode(t, err, "")
	diff(t, "a merchant with nothing in order", grahak.AuditReport{Merchant: "new", Pending: 1}, report)
	report, err = a.VerifyAudit(t.Context(), operator(rival), &a.head, nil)
	wantCode(t, err, "")
	if report.Fault == "" {
		t.Error("another merchant's anchor was found to be right")
	}

	for name, c := range map[string]grahak.Caller{"reading": caller(acme, grahak.ScopeRead), "writing": caller(acme, grahak.ScopeWrite), "nothing": {Merchant: acme}} {
		_, err := a.VerifyAudit(t.Context(), c, nil, nil)
		if grahak.CodeOf(err) != grahak.CodeInsufficientScope {
			t.Errorf("an audit with a scope for %s: got %v", name, err)
		}
	}
	_, err = a.VerifyAudit(t.Context(), operator("nobody"), nil, nil)
	wantCode(t, err, grahak.CodeMerchantNotFound)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.VerifyAudit(ctx, operator(acme), nil, nil); err == nil {
		t.Error("an audit went on after its context had ended")
	}
}

// Whoever alters what is stored is found out, and what is named is the first
// event that does not fit.
func TestAuditFindsTampering(t *testing.T) {
	t.Parallel()
	event := func(set string, position int) func(*testing.T, *audited) {
		return func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET `+set+` WHERE merchant_id = 'acme' AND position = ?`, position)
		}
	}
	tests := map[string]struct {
		tamper func(*testing.T, *audited)
		want   []string // in the fault
	}{
		"an event's id":                {event(`id = 'evt_other'`, 3), []string{"position 3 ", "altered", "evt_other"}},
		"an event's type":              {event(`type = 'customer.updated'`, 2), []string{"position 2 ", "altered"}},
		"an event's subject":           {event(`subject = 'cst_other'`, 10), []string{"position 10 ", "altered"}},
		"an event's revision":          {event(`revision = revision + 1`, 5), []string{"position 5 ", "altered"}},
		"an event's fields":            {event(`changed = 'email_address'`, 5), []string{"position 5 ", "altered"}},
		"no fields any more":           {event(`changed = NULL`, 5), []string{"position 5 ", "altered"}},
		"fields where there were none": {event(`changed = 'last_name'`, 2), []string{"position 2 ", "altered"}},
		"an event's actor":             {event(`actor = 'cli:nobody'`, 1), []string{"position 1 ", "altered"}},
		"an event's request":           {event(`request_id = ''`, 7), []string{"position 7 ", "altered"}},
		"an event's time":              {event(`at = at - 1`, 8), []string{"position 8 ", "altered"}},
		"an event given to another":    {event(`merchant_id = 'nobody'`, 6), []string{"position 6 ", "missing"}},
		"an event removed":             {event(`position = -6`, 6), []string{"position 6 ", "missing"}},
		"the first event removed":      {event(`position = -1`, 1), []string{"position 1 ", "missing"}},
		"the last event removed":       {event(`position = -10`, lastOrdered), []string{"position 10 ", "missing"}},
		"a later event removed":        {event(`position = -11`, lastOrdered+1), []string{"position 11 ", "missing"}},
		"an event moved behind others": {event(`position = 100`, 9), []string{"position 9 ", "missing"}},
		"two events, of which the first is named": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET actor = 'cli:nobody' WHERE merchant_id = 'acme' AND position IN (4, 9)`)
		}, []string{"position 4 ", "altered"}},
		"two events that changed places": {func(t *testing.T, a *audited) {
			for _, move := range [][2]int{{8, -8}, {9, 8}, {-8, 9}} {
				a.MustTamper(t, `UPDATE events SET position = ? WHERE merchant_id = 'acme' AND position = ?`, move[1], move[0])
			}
		}, []string{"position 8 ", "altered, or stood elsewhere"}},
		"an event taken out, and the others moved up": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `DELETE FROM events WHERE merchant_id = 'acme' AND position = 5`)
			for p := 6; p <= lastOrdered+pending; p++ {
				a.MustTamper(t, `UPDATE events SET position = ? WHERE merchant_id = 'acme' AND position = ?`, p-1, p)
			}
		}, []string{"position 5 ", "altered, or stood elsewhere"}},
		"an event put between": {func(t *testing.T, a *audited) {
			for p := lastOrdered + pending; p >= 5; p-- {
				a.MustTamper(t, `UPDATE events SET position = ? WHERE merchant_id = 'acme' AND position = ?`, p+1, p)
			}
			a.MustTamper(t, `INSERT INTO events SELECT merchant_id, 5, id, type, subject, revision, changed, actor, request_id, at FROM events WHERE merchant_id = 'acme' AND position = 4`)
		}, []string{"position 5 ", "altered, or stood elsewhere"}},
		"a link": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET links = CAST(substr(links, 1, 32) || zeroblob(32) || substr(links, 65) AS BLOB) WHERE merchant_id = 'acme' AND first_position = 4`)
		}, []string{"position 5 ", "altered"}},
		"a proof": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET proof = zeroblob(16) WHERE merchant_id = 'acme' AND first_position = 4`)
		}, []string{"up to position 7 ", "from position 4 on"}},
		"a proof taken from another segment": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET proof = (SELECT proof FROM event_chain WHERE merchant_id = 'acme' AND first_position = 8) WHERE merchant_id = 'acme' AND first_position = 4`)
		}, []string{"up to position 7 ", "from position 4 on"}},
		"a customer removed": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `DELETE FROM customers WHERE merchant_id = 'acme' AND id = (SELECT max(id) FROM customers WHERE merchant_id = 'acme')`)
		}, []string{"customers were removed or added without an event"}},
		"a customer added": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `INSERT INTO customers (merchant_id, id, reference_index, sealed, revision, created_at, updated_at)
				SELECT merchant_id, max(id) || 'x', zeroblob(16), sealed, revision, created_at, updated_at FROM customers WHERE merchant_id = 'acme'`)
		}, []string{"customers were removed or added without an event"}},
		"a count": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET customers = customers + 1 WHERE merchant_id = 'acme' AND first_position = 4`)
		}, []string{"up to position 7 ", "counts 4 customers", "events 3", "altered"}},
		"every count from one on": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET customers = customers - 1 WHERE merchant_id = 'acme' AND first_position >= 4`)
		}, []string{"up to position 7 ", "counts 2 customers", "events 3"}},
		"the first segment gone": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `DELETE FROM event_chain WHERE merchant_id = 'acme' AND first_position = 1`)
		}, []string{"does not go on at position 1:", "missing"}},
		"a segment gone": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `DELETE FROM event_chain WHERE merchant_id = 'acme' AND first_position = 4`)
		}, []string{"does not go on at position 4:", "missing"}},
		"a segment that begins elsewhere": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET first_position = 9, last_position = 11 WHERE merchant_id = 'acme' AND first_position = 8`)
		}, []string{"does not go on at position 8:", "missing"}},
		"an event and its chain made anew": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET actor = 'cli:nobody' WHERE merchant_id = 'acme' AND position = 5`)
			a.mustForge(t)
		}, []string{"up to position 7 ", "from position 4 on", "not made by this service"}},
		"all events and their chain made anew": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET actor = 'cli:nobody' WHERE merchant_id = 'acme'`)
			a.mustForge(t)
		}, []string{"up to position 3 ", "from position 1 on", "not made by this service"}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := MustAudited(t)
			c.tamper(t, a)
			for _, s := range []*rig{a.rig, a.MustJoin(t)} {
				report := s.MustVerify(t, nil)
				for _, words := range c.want {
					if !strings.Contains(report.Fault+" ", words) {
						t.Errorf("the fault %q does not say %q", report.Fault, words)
					}
				}
				if report.Keyless {
					t.Error("the keys were not found")
				}
			}
			report, err := a.VerifyAudit(t.Context(), operator(rival), nil, nil)
			if err != nil || report.Fault != "" {
				t.Errorf("the other merchant's events: %+v (%v)", report, err)
			}
		})
	}
}

// mustForge makes the links and counts of acme's chain anew, as somebody can who
// has the database and knows how they are made, but has no key.
func (a *audited) mustForge(tb testing.TB) {
	tb.Helper()
	events := a.MustEvents(tb, acme)
	var link grahak.Link
	for _, segment := range a.mustSegments(tb) {
		var links []byte
		for i := range segment.Links {
			link = events[segment.First-1+int64(i)].Link(acme, link)
			links = append(links, link[:]...)
		}
		a.MustTamper(tb, `UPDATE event_chain SET links = ? WHERE merchant_id = 'acme' AND first_position = ?`, links, segment.First)
	}
}

// A chain whose rows do not fit together is an error that names the place, if it
// is no finding.
func TestAuditOfADamagedChain(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"another last position": `UPDATE event_chain SET last_position = 8 WHERE merchant_id = 'acme' AND first_position = 4`,
		"links cut short":       `UPDATE event_chain SET links = substr(links, 1, 33) WHERE merchant_id = 'acme' AND first_position = 4`,
		"no links":              `UPDATE event_chain SET links = x'' WHERE merchant_id = 'acme' AND first_position = 4`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := MustAudited(t)
			a.MustTamper(t, query)
			report, err := a.VerifyAudit(t.Context(), operator(acme), nil, nil)
			if said := report.Fault + fmt.Sprint(err); !strings.Contains(said, "position 4") {
				t.Errorf("got %+v, %v, want what names position 4", report, err)
			}
		})
	}
}

// An anchor tells what the database alone cannot: that the end was cut off, or
// that all of it was made anew by somebody who has the keys.
func TestAuditWithAnAnchor(t *testing.T) {
	t.Parallel()
	a := MustAudited(t)
	other := a.head
	other.Link[31] ^= 1
	early := grahak.Anchor{Position: 3, Link: a.head.Link}
	late := grahak.Anchor{Position: lastOrdered + 1, Link: a.head.Link}
	for name, c := range map[string]struct {
		anchor grahak.Anchor
		want   []string
	}{
		"another link at the end":       {other, []string{"does not agree with the anchor at position 10:"}},
		"another link before the end":   {early, []string{"does not agree with the anchor at position 3:"}},
		"a position that is to come":    {late, []string{"ends at position 10,", "anchor's position 11:"}},
		"a position that is far ahead ": {grahak.Anchor{Position: 1 << 60}, []string{"ends at position 10,"}},
	} {
		report := a.MustVerify(t, &c.anchor)
		for _, words := range c.want {
			if !strings.Contains(report.Fault, words) {
				t.Errorf("%s: the fault %q does not say %q", name, report.Fault, words)
			}
		}
	}

	// The last segment and its events are cut off, and those that are not in
	// order, and the customers that were made in them: without an anchor that is
	// nothing to be seen.
	a.MustTamper(t, `DELETE FROM customers WHERE merchant_id = 'acme' AND id IN
		(SELECT subject FROM events WHERE merchant_id = 'acme' AND position > 7 AND type = 'customer.created')`)
	a.MustTamper(t, `DELETE FROM events WHERE merchant_id = 'acme' AND position > 7`)
	a.MustTamper(t, `DELETE FROM event_chain WHERE merchant_id = 'acme' AND first_position > 7`)
	report := a.MustVerify(t, nil)
	if report.Fault != "" || report.Head.Position != 7 || report.Pending != 0 {
		t.Errorf("after the end was cut off: %+v", report)
	}
	if report := a.MustVerify(t, &a.head); !strings.Contains(report.Fault, "ends at position 7, before the anchor's position 10") {
		t.Errorf("after the end was cut off, with an anchor: %+v", report)
	}
	// What comes after that does not hide it.
	for i := range 5 {
		a.MustCreate(t, acme, person(fmt.Sprint("late ", i)))
	}
	a.MustOrder(t)
	if report := a.MustVerify(t, nil); report.Fault != "" {
		t.Errorf("a chain that went on: %+v", report)
	}
	if report := a.MustVerify(t, &a.head); !strings.Contains(report.Fault, "does not agree with the anchor at position 10:") {
		t.Errorf("a chain that went on, with an anchor: %+v", report)
	}
}

// Without the merchant's key an audit sees whether events and chain agree, and
// says that it cannot see more.
func TestAuditWithoutTheKey(t *testing.T) {
	t.Parallel()
	a := MustAudited(t)
	none := func(context.Context) ([]*seal.MasterKey, error) { return nil, context.DeadlineExceeded }
	keyless := MustService(t, grahak.Config{Store: a.store, Sealer: seal.NewSealer(seal.NewMasterKeys(none, 0), a.store), Clock: a.clock})
	verify := func() grahak.AuditReport {
		t.Helper()
		report, err := keyless.VerifyAudit(t.Context(), operator(acme), nil, nil)
		wantCode(t, err, "")
		return report
	}
	want := grahak.AuditReport{Merchant: acme, Head: a.head, Pending: pending, Keyless: true}
	diff(t, "the report without the key", want, verify())
	a.MustTamper(t, `UPDATE events SET actor = 'cli:nobody' WHERE merchant_id = 'acme' AND position = 5`)
	if report := verify(); !report.Keyless || !strings.Contains(report.Fault, "position 5 ") {
		t.Errorf("an altered event, without the key: %+v", report)
	}
	a.mustForge(t)
	if report := verify(); !report.Keyless || report.Fault != "" {
		t.Errorf("a chain made anew, without the key: %+v", report)
	}
	if report := a.MustVerify(t, nil); report.Keyless || report.Fault == "" {
		t.Errorf("a chain made anew, with the key: %+v", report)
	}
}
