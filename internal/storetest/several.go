package storetest

import (
	"fmt"

	"grahak"
)

// severalTests are run by several processes that share a store. Those that are run
// by one, too, are the ones of which a process may do a part by itself: it runs
// writes together, and orders events.
var severalTests = []test{
	{"one idempotency key", idempotencyRace},
	{"what others wrote", seenByOthers},
	{"beats", beats},
	{"one reference", createsOfOneReference},
	{"many references", createsOfManyReferences},
	{"one revision", updatesOfOneRevision},
	{"updates with retries", updatesWithRetries},
	{"erase against updates and tokens", eraseAgainstUpdates},
	{"erase one of many", erasesOfOneCustomer},
	{"touch together", keyTouchTogether},
	{"total beside refused and failed creates", totalBesideFailures},
	{"events and their order", eventPositions},
	{"orderers beside writers", orderBesideWriters},
	{"pruners beside writers", pruneBesideWriters},
	{"search is one moment", searchIsOneMoment},
	{"fence against creates", keyFenceAgainstCreates},
	{"retire against writes", retireAgainstWrites},
	{"one import", importRace},
	{"imports against creates", importsAgainstCreates},
	{"one code of the authenticator", loginsWithOneStep},
	{"one recovery code", loginsWithOneCode},
	{"last owners together", removalsOfLastOwners},
	{"logins that fail together", loginFailuresTogether},
}

// seenByOthers writes through one process after the other. At once all of them
// read the same, of everything.
func seenByOthers(r *rig) {
	ctx := r.Context()
	r.MustMerchant(own)
	r.MustMerchant(other)
	c, k := r.MustCustomer(own), r.MustKey(own)
	entry := r.entry("203.0.113.0/24")
	token := r.token(own, c.ID)
	for i, step := range []struct {
		name  string
		write func(*rig) error
	}{
		{"an order", func(r *rig) error { return second(r.order(own, all)) }},
		{"a create", func(r *rig) error {
			late := r.customer()
			return r.store.CreateCustomer(ctx, own, late, r.created(late), nil)
		}},
		{"an update", func(r *rig) error {
			c = r.next(c)
			return second(r.store.UpdateCustomer(ctx, own, c, r.updated(c), nil))
		}},
		{"a token", func(r *rig) error { return r.store.PutToken(ctx, own, token) }},
		{"another order", func(r *rig) error { return second(r.order(own, 1)) }},
		{"an entry", func(r *rig) error {
			return r.store.AddIPEntry(ctx, own, entry, r.event(grahak.EventIPEntryAdded, entry.Prefix.String(), 0))
		}},
		{"a mode", func(r *rig) error {
			return r.store.SetIPMode(ctx, own, grahak.IPModeEnforce, false, r.event(grahak.EventIPModeChanged, "enforce", 0))
		}},
		{"a revocation", func(r *rig) error {
			return r.store.RevokeKey(ctx, own, k.ID, r.now(), r.event(grahak.EventKeyRevoked, string(k.ID), 0))
		}},
		{"a rotation", func(r *rig) error { return r.rotate(own) }},
		{"a walk", func(r *rig) error {
			r.MustReseal(own)
			return nil
		}},
		{"a merchant", func(r *rig) error {
			r.MustMerchant("late")
			return nil
		}},
		{"an erasure", func(r *rig) error { return r.erase(own, c.ID) }},
		{"the end of the service", func(r *rig) error {
			return r.store.DisableMerchant(ctx, own, r.now(), r.event(grahak.EventMerchantDisabled, "", 0))
		}},
	} {
		r.must(step.write(r.process(i)))
		what := "after " + step.name + ": "
		want, version := r.process(i).MustState(own), r.process(i).MustVersion()
		_, absent := r.process(i).store.Customer(ctx, own, c.ID, grahak.Index{})
		_, none := r.process(i).store.Token(ctx, token.Hash, start)
		access, err := r.process(i).store.Access(ctx, k.Hash)
		r.must(err)
		for p := range r.processes {
			r := r.process(p)
			r.wantEqual(what+"what the merchant has", r.MustState(own), want)
			r.wantEqual(what+"the access version", r.MustVersion(), version)
			got, err := r.store.Access(ctx, k.Hash)
			r.must(err)
			r.wantEqual(what+"the access", got, access)
			_, err = r.store.Token(ctx, token.Hash, start)
			r.wantCode(what+"the token", err, grahak.CodeOf(none))
			got2, err := r.store.Customer(ctx, own, c.ID, grahak.Index{})
			r.wantCode(what+"the customer", err, grahak.CodeOf(absent))
			if err != nil {
				r.wantLost(what+"the customer", own, c)
				continue
			}
			c.Sealed = got2.Sealed // the walk's
			r.wantCustomer(own, c)
			r.wantFound(what+"the customer", own, c)
		}
	}
}

// beats counts the beats of nodes. A store that serves one process at a time tells
// of itself only; where it tells of others, all are told the same.
func beats(r *rig) {
	node := func(i int) grahak.NodeID { return grahak.NodeID(fmt.Sprint("node_", i)) }
	var told []map[grahak.NodeID]int64
	for round := range 3 {
		for i := range r.processes {
			beats, err := r.process(i).store.Beat(r.Context(), node(i), nil)
			r.must(err)
			if beats[node(i)] == 0 {
				r.Errorf("round %d: node %d is not among %v", round, i, beats)
			}
			told = append(told, beats)
		}
	}
	last := told[len(told)-1]
	if len(last) == 1 {
		return
	}
	r.wantEqual("the beats", last, map[grahak.NodeID]int64{node(0): 3, node(1): 3, node(2): 3})
	// One says that another has gone, and one that it goes itself.
	last, err := r.process(0).store.Beat(r.Context(), node(0), []grahak.NodeID{node(1), "node_unknown"})
	r.must(err)
	r.wantEqual("the beats after one has gone", last, map[grahak.NodeID]int64{node(0): 4, node(2): 3})
	last, err = r.process(2).store.Beat(r.Context(), "", []grahak.NodeID{node(2)})
	r.must(err)
	r.wantEqual("the beats after another has gone", last, map[grahak.NodeID]int64{node(0): 4})
	// All beat at once.
	const each = 10
	r.wantOutcomes(r.together(parallel, func(r *rig, i int) error {
		for range each {
			if _, err := r.store.Beat(r.Context(), node(i), []grahak.NodeID{node(0)}); err != nil {
				return err
			}
		}
		return nil
	}), map[grahak.Code]int{"": parallel})
	last, err = r.store.Beat(r.Context(), node(0), nil)
	r.must(err)
	for i := 1; i < parallel; i++ {
		r.wantEqual(fmt.Sprintf("the beats of node %d", i), last[node(i)], int64(each))
	}
	r.wantEqual("the number of nodes", len(last), parallel)
}
