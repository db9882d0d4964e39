package grahak_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/testkit"
)

// lastPruned is the position of the last event that [MustPruned] prunes: the end of
// the second of three segments.
const lastPruned = 7

// MustPruned is [MustAudited] after the events of its first two segments were
// pruned, the last of which is younger than the time they are kept by nothing but a
// second.
func MustPruned(tb testing.TB) *audited {
	tb.Helper()
	a := MustAudited(tb)
	a.mustAge(tb, lastPruned+1)
	if err := a.PruneEvents(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if n := a.PrunedEvents(); n != lastPruned+1 { // and the rival's
		tb.Fatalf("%d events were pruned", n)
	}
	return a
}

// mustAge lets time pass until the events of acme before the one at a position are
// old.
func (a *audited) mustAge(tb testing.TB, position int) {
	tb.Helper()
	for _, e := range a.MustEvents(tb, acme) {
		if e.Position == int64(position) {
			a.clock.Advance(e.At.Add(grahak.DefaultEventsKeep).Sub(a.clock.Now()))
			return
		}
	}
	tb.Fatalf("there is no event at position %d", position)
}

// What is older than events are kept goes by whole segments, and nothing else does.
// The audit goes on from there, and everything that the events say of customers.
func TestPruneEvents(t *testing.T) {
	t.Parallel()
	a := MustAudited(t)
	links := make(map[int64]grahak.Link)
	for _, segment := range a.mustSegments(t) {
		for i, link := range segment.Links {
			links[segment.First+int64(i)] = link
		}
	}
	prune := func(what string, pruned int64) {
		t.Helper()
		before := a.PrunedEvents()
		if err := a.PruneEvents(t.Context()); err != nil {
			t.Fatal(err)
		}
		diff(t, what, pruned, a.PrunedEvents()-before)
	}
	left := func() (list []int64) {
		for _, e := range a.MustEvents(t, acme) {
			list = append(list, e.Position)
		}
		return list
	}
	total := func(want int64) {
		t.Helper()
		diff(t, "the total", want, a.MustPage(t, acme, grahak.ListQuery{Limit: 1}).Total)
		diff(t, "found by number", int(want), len(a.MustPage(t, acme, grahak.ListQuery{Limit: 10, Filter: grahak.CustomerFilter{MobileNumber: given("9988776655")}}).Customers))
	}
	prune("nothing is old", 0)
	a.mustAge(t, 6)
	prune("a segment and a part of another are old, and the rival's", 4)
	diff(t, "the events that are left", []int64{4, 5, 6, 7, 8, 9, 10, 11, 12}, left())
	a.mustAge(t, lastPruned+1)
	prune("the second segment is old", 4)
	prune("nothing more is old", 0)
	diff(t, "the events that are left", []int64{8, 9, 10, 11, 12}, left())
	want := grahak.AuditReport{Merchant: acme, Head: a.head, Pruned: lastPruned, Pending: pending}
	var told []int64
	report, err := a.VerifyAudit(t.Context(), operator(acme), nil, func(events int64) { told = append(told, events) })
	wantCode(t, err, "")
	diff(t, "the report", want, report)
	diff(t, "progress", []int64{lastOrdered}, told)
	diff(t, "the report of another process", want, a.MustJoin(t).MustVerify(t, nil))
	for position, link := range links {
		report := a.MustVerify(t, &grahak.Anchor{Position: position, Link: link})
		old := strings.Contains(report.Fault, fmt.Sprintf("up to position %d were pruned because of their age", lastPruned)) &&
			strings.Contains(report.Fault, fmt.Sprintf("the anchor's position %d any more", position))
		if (report.Fault != "") != old || old != (position < lastPruned) {
			t.Errorf("with the anchor at %d: %+v", position, report)
		}
		link[0] ^= 1
		report = a.MustVerify(t, &grahak.Anchor{Position: position, Link: link})
		if position >= lastPruned && !strings.Contains(report.Fault, fmt.Sprintf("does not agree with the anchor at position %d:", position)) {
			t.Errorf("with another anchor at %d: %+v", position, report)
		}
	}
	total(4)
	exported, err := a.ExportCustomer(t.Context(), operator(acme), "a")
	wantCode(t, err, "")
	diff(t, "what is left to export of the events of a", 0, len(exported.Events))

	// However old it is, what is not in the chain stays.
	a.clock.Advance(2 * grahak.DefaultEventsKeep)
	prune("all is old", 3)
	diff(t, "the events that are left", []int64{11, 12}, left())
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: a.head, Pruned: lastOrdered, Pending: pending}, a.MustVerify(t, nil))
	total(4)
	a.MustOrder(t)
	prune("all is old and in order", pending)
	diff(t, "the number of events that are left", 0, len(left()))
	report = a.MustVerify(t, nil)
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: report.Head, Pruned: lastOrdered + pending}, report)
	diff(t, "the head's position", int64(lastOrdered+pending), report.Head.Position)
	total(4)
	note := report.Head
	a.MustCreate(t, acme, person("g"))
	total(5)
	diff(t, "the next event", []int64{lastOrdered + pending + 1}, left())
	a.MustJoin(t).MustOrder(t)
	report = a.MustVerify(t, &note)
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: report.Head, Pruned: lastOrdered + pending}, report)
	diff(t, "the head's position", int64(lastOrdered+pending+1), report.Head.Position)
	total(5)
}

// More than a step's worth of segments, and segments of more than a step's worth of
// events, go in as many steps as it takes.
func TestPruneInSteps(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	for i := range 2*grahak.PrunedSegments + 5 {
		r.MustCreate(t, acme, person(fmt.Sprint(i)))
		r.MustOrder(t)
	}
	r.MustCrowd(t, acme, 2*grahak.OrderBatch+10)
	r.MustOrder(t)
	r.clock.Advance(2 * grahak.DefaultEventsKeep)
	r.MustCreate(t, acme, person("late"))
	r.MustOrder(t)
	counted := &prunes{Store: r.store}
	s := MustService(t, grahak.Config{Store: counted, Sealer: r.sealer, Clock: r.clock})
	if err := s.PruneEvents(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := r.MustEvents(t, acme)
	if len(events) != 1 || s.PrunedEvents() != events[0].Position { // and the rival's
		t.Errorf("%d events are left, and %d were pruned", len(events), s.PrunedEvents())
	}
	if counted.steps < 4 || counted.most > grahak.PrunedEvents+grahak.OrderBatch {
		t.Errorf("%d steps pruned up to %d events each", counted.steps, counted.most)
	}
	report := r.MustVerify(t, nil)
	diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: report.Head, Pruned: events[0].Position - 1}, report)
}

// prunes is a store that counts in how many steps events are pruned, and how many a
// step prunes.
type prunes struct {
	grahak.Store
	steps int
	most  int64
}

func (p *prunes) PruneEvents(ctx context.Context, m grahak.MerchantID, c grahak.Checkpoint) (int64, error) {
	n, err := p.Store.PruneEvents(ctx, m, c)
	if m == acme {
		p.steps++
		p.most = max(p.most, n)
	}
	return n, err
}

// Whoever shortens the chain, or alters what is behind its checkpoint, is found out.
func TestAuditFindsTamperingAfterPruning(t *testing.T) {
	t.Parallel()
	tamper := func(queries ...string) func(*testing.T, *audited) {
		return func(t *testing.T, a *audited) {
			for _, query := range queries {
				a.MustTamper(t, query)
			}
		}
	}
	const (
		checkpoint = ` WHERE merchant_id = 'acme' AND first_position = 0`
		last       = ` WHERE merchant_id = 'acme' AND first_position = 8`
		ofLast     = ` (SELECT last_position, customers, proof, substr(links, length(links) - 31) FROM event_chain` + last + `)`
		anywhere   = `was not made by this service: events up to there were removed, not pruned`
	)
	for name, c := range map[string]struct {
		tamper func(*testing.T, *audited)
		want   string
		// keyless is what is said without the merchant's key; empty if that does not
		// show it.
		keyless string
	}{
		"another link": {
			tamper(`UPDATE event_chain SET links = CAST(zeroblob(31) || x'01' AS BLOB)` + checkpoint),
			"the checkpoint at position 7 " + anywhere, "position 8 (",
		},
		"another number of customers": {
			tamper(`UPDATE event_chain SET customers = customers + 1` + checkpoint),
			"the checkpoint at position 7 " + anywhere, "counts 4 customers, and its events 5",
		},
		"another position": {
			tamper(`UPDATE event_chain SET last_position = 6` + checkpoint),
			"the checkpoint at position 6 " + anywhere, "does not go on at position 7:",
		},
		"another proof": {
			tamper(`UPDATE event_chain SET proof = zeroblob(16)` + checkpoint),
			"the checkpoint at position 7 " + anywhere, "",
		},
		"another merchant's checkpoint": {
			func(t *testing.T, a *audited) {
				a.clock.Advance(grahak.DefaultEventsKeep)
				a.MustCreate(t, rival, person("young"))
				a.MustOrder(t)
				if err := a.PruneEvents(t.Context()); err != nil {
					t.Fatal(err)
				}
				a.MustTamper(t, `DELETE FROM event_chain`+checkpoint)
				a.MustTamper(t, `UPDATE event_chain SET merchant_id = 'acme' WHERE merchant_id = 'rival' AND first_position = 0`)
			},
			"the checkpoint at position 1 " + anywhere, "there are 4 customers, but the events tell of 0",
		},
		"no checkpoint": {tamper(`DELETE FROM event_chain` + checkpoint), "does not go on at position 1:", "does not go on at position 1:"},
		"a checkpoint that is a segment": {
			tamper(`UPDATE event_chain SET first_position = 7` + checkpoint),
			"does not go on at position 1:", "does not go on at position 1:",
		},
		"more removed than was pruned": {
			tamper(`DELETE FROM events WHERE merchant_id = 'acme' AND position = 8`), "the event at position 8 is missing", "the event at position 8 is missing",
		},
		"more removed, with its part of the chain": {
			tamper(`DELETE FROM events WHERE merchant_id = 'acme' AND position <= 10`, `DELETE FROM event_chain`+last),
			"the event at position 8 is missing", "the event at position 8 is missing",
		},
		"more removed, and a checkpoint made of what proved it": {
			tamper(`UPDATE event_chain SET (last_position, customers, proof, links) =`+ofLast+checkpoint,
				`DELETE FROM event_chain`+last, `DELETE FROM events WHERE merchant_id = 'acme' AND position <= 10`),
			"the checkpoint at position 10 " + anywhere, "",
		},
		"an event altered behind the checkpoint": {
			tamper(`UPDATE events SET actor = 'cli:nobody' WHERE merchant_id = 'acme' AND position = 8`), "position 8 (", "position 8 (",
		},
		"an event put before the checkpoint": {
			tamper(`INSERT INTO events SELECT merchant_id, 7, id, type, subject, revision, changed, actor, request_id, at FROM events WHERE merchant_id = 'acme' AND position = 8`),
			"the event at position 7 (", "what stood up to position 7 was pruned",
		},
		"a segment put before the checkpoint": {
			tamper(`INSERT INTO event_chain SELECT merchant_id, 7, 7, customers, proof, links FROM event_chain` + checkpoint),
			"does not go on at position 8:", "does not go on at position 8:",
		},
		"two links": {
			tamper(`UPDATE event_chain SET links = CAST(links || links AS BLOB)` + checkpoint), "is damaged at its checkpoint", "is damaged at its checkpoint",
		},
		"a position before the first": {
			tamper(`UPDATE event_chain SET last_position = -7` + checkpoint),
			"the checkpoint at position -7 " + anywhere, "the checkpoint at position -7 " + anywhere,
		},
		"a customer removed": {
			tamper(`DELETE FROM customers WHERE merchant_id = 'acme' AND id = (SELECT min(id) FROM customers WHERE merchant_id = 'acme')`),
			"customers were removed or added without an event", "customers were removed or added without an event",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := MustPruned(t)
			c.tamper(t, a)
			keyless := MustService(t, grahak.Config{
				Store: a.store, Clock: a.clock,
				Sealer: seal.NewSealer(seal.NewMasterKeys(func(context.Context) ([]*seal.MasterKey, error) { return nil, context.DeadlineExceeded }, 0), a.store),
			})
			for what, s := range map[string]*grahak.Service{c.want: a.Service, c.keyless: keyless} {
				report, err := s.VerifyAudit(t.Context(), operator(acme), nil, nil)
				said := report.Fault
				if err != nil {
					said = err.Error()
				}
				if !strings.Contains(said, what) || (said == "") != (what == "") || report.Keyless != (s == keyless) {
					t.Errorf("%+v, %v: want what says %q", report, err, what)
				}
			}
		})
	}
}

// What cannot be proven is not pruned: an event that only looks old, or a chain that
// the service did not make, would be so for good.
func TestPruneProvesFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tamper func(*testing.T, *audited)
		want   string
	}{
		"a young event made old": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET at = 1 WHERE merchant_id = 'acme' AND position BETWEEN 8 AND 10`)
		}, "position 8 ("},
		"young events made old, and their chain to fit": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE events SET at = 1 WHERE merchant_id = 'acme' AND position BETWEEN 8 AND 10`)
			link := mustCheckpoint(t, a).Link
			var links []byte
			for _, e := range a.MustEvents(t, acme)[:3] {
				link = e.Link(acme, link)
				links = append(links, link[:]...)
			}
			a.MustTamper(t, `UPDATE event_chain SET links = ? WHERE merchant_id = 'acme' AND first_position = 8`, links)
		}, "from position 8 on"},
		"another checkpoint": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET links = zeroblob(32) WHERE merchant_id = 'acme' AND first_position = 0`)
			a.clock.Advance(grahak.DefaultEventsKeep)
		}, "the checkpoint at position 7 "},
		"a count": {func(t *testing.T, a *audited) {
			a.MustTamper(t, `UPDATE event_chain SET customers = 9 WHERE merchant_id = 'acme' AND first_position = 8`)
			a.clock.Advance(grahak.DefaultEventsKeep)
		}, "counts 9 customers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := MustPruned(t)
			c.tamper(t, a)
			err := a.PruneEvents(t.Context())
			if err == nil || !strings.Contains(err.Error(), "merchant acme: the oldest events stay: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it ended with %v", err)
			}
			events := a.MustEvents(t, acme)
			if len(events) != lastOrdered+pending-lastPruned || mustCheckpoint(t, a).Position != lastPruned {
				t.Errorf("%d events are left", len(events))
			}
		})
	}
}

func mustCheckpoint(tb testing.TB, a *audited) grahak.Checkpoint {
	tb.Helper()
	c, err := a.store.ChainCheckpoint(tb.Context(), acme)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// pruning is a store in which all that is old is pruned while an audit is under way,
// just before it reads from a position on.
type pruning struct {
	grahak.Store
	at    int64
	prune func()
}

func (p *pruning) Events(ctx context.Context, m grahak.MerchantID, after int64, limit int) ([]grahak.Event, error) {
	if after == p.at {
		p.prune()
	}
	return p.Store.Events(ctx, m, after, limit)
}

// Events that are pruned while an audit reads them are not missing.
func TestAuditWhilePruning(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 3, lastPruned - 1, lastPruned} {
		a := MustAudited(t)
		a.mustAge(t, lastPruned+1)
		s := MustService(t, grahak.Config{Sealer: a.sealer, Clock: a.clock, Store: &pruning{a.store, at, func() {
			if err := a.PruneEvents(t.Context()); err != nil {
				t.Error(err)
			}
		}}})
		report, err := s.VerifyAudit(t.Context(), operator(acme), nil, nil)
		wantCode(t, err, "")
		report.Pruned = 0 // It depends on who was faster.
		diff(t, fmt.Sprint("pruned at ", at), grahak.AuditReport{Merchant: acme, Head: a.head, Pending: pending}, report)
	}
}

// The background work of several nodes prunes once an hour, each event once.
func TestRunPrunesEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := MustAudited(t)
		a.mustAge(t, lastPruned+1)
		table := &beats{counts: make(map[grahak.NodeID]int64)}
		var nodes []*grahak.Service
		log := new(testkit.Buffer)
		for range 2 {
			s := MustService(t, grahak.Config{
				Store: &sharedStore{Store: a.store, beats: table}, Sealer: a.sealer, Clock: a.clock, Logger: slog.New(slog.NewTextHandler(log, nil)),
			})
			nodes = append(nodes, s)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s.Run(ctx)
			}()
			defer func() {
				stop()
				<-ended
			}()
		}
		pruned := func() int64 { return nodes[0].PrunedEvents() + nodes[1].PrunedEvents() }
		pass(time.Hour - time.Second)
		diff(t, "events that were pruned within an hour", int64(0), pruned())
		pass(2 * time.Second)
		diff(t, "events that were pruned after an hour", int64(lastPruned+1), pruned()) // and the rival's
		report := a.MustVerify(t, nil)
		diff(t, "the report", grahak.AuditReport{Merchant: acme, Head: report.Head, Pruned: lastPruned}, report)
		diff(t, "faults logged", "", log.String())
	})
}

// Events are not kept for less time than they are shown, nor for too little.
func TestEventTimes(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	a := MustRig(t)
	for times, right := range map[[2]time.Duration]bool{
		{}:                      true,
		{30 * day, 30 * day}:    true,
		{time.Second, 30 * day}: true,
		{0, 90 * day}:           true,
		{0, 90*day - 1}:         false,
		{-1, 40 * day}:          false,
		{day, 30*day - 1}:       false,
		{40 * day, 40*day - 1}:  false,
		{397 * day, 0}:          false,
	} {
		_, err := grahak.NewService(grahak.Config{Store: a.store, Sealer: a.sealer, EventsCatchUp: times[0], EventsKeep: times[1]})
		if (err == nil) != right {
			t.Errorf("shown for %s, kept for %s: %v", times[0], times[1], err)
		}
	}
}
