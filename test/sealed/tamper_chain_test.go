package sealed_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"grahak"
	"grahak/internal/seal"
)

// segment changes the links of the merchant's first or last segment of the chain.
func (x *alteration) segment(order string, change func([]byte) []byte) {
	x.t.Helper()
	where := ` WHERE merchant_id = $1 AND first_position = (SELECT ` + order + `(first_position) FROM event_chain WHERE merchant_id = $1)`
	links := x.column(`SELECT links FROM event_chain`+where, string(x.own.id))
	x.exec(`UPDATE event_chain SET links = $2`+where, string(x.own.id), change(bytes.Clone(links)))
}

// prune deletes the events of the first two segments of the merchant's chain, as the
// service does when they are old. What it proves is written down here on purpose:
// every checkpoint that exists is proven so.
func (x *alteration) prune() {
	x.t.Helper()
	data := filepath.Dir(string(x.column(`SELECT file FROM pragma_database_list WHERE name = 'main'`)))
	store := MustOpen(x.t, data)
	defer store.Close()
	masters := seal.NewMasterKeys(seal.FileKeys(filepath.Join(data, keyFile)), 0)
	defer masters.Close()
	segments, err := store.Chain(x.t.Context(), x.own.id, 0, 3)
	if err != nil || len(segments) < 3 {
		x.t.Fatalf("%s: there are %d segments (%v)", x.own.name, len(segments), err)
	}
	c := grahak.Checkpoint{ChainHead: segments[1].Head()}
	value := binary.BigEndian.AppendUint64(c.Link[:], uint64(c.Position))
	value = binary.BigEndian.AppendUint64(value, uint64(c.Customers))
	if c.Proof, err = seal.NewSealer(masters, store).Index(x.t.Context(), x.own.id, "checkpoint", string(value)); err != nil {
		x.t.Fatal(err)
	}
	if n, err := store.PruneEvents(x.t.Context(), x.own.id, c); err != nil || n != c.Position {
		x.t.Fatalf("%s: %d events were pruned (%v)", x.own.name, n, err)
	}
}

// alteredChain is what may be altered in events and their chain.
func alteredChain() map[string]altered {
	own := func(query string) func(x *alteration) {
		return func(x *alteration) { x.exec(query, string(x.own.id)) }
	}
	pruned := func(queries ...string) func(x *alteration) {
		return func(x *alteration) {
			x.prune()
			for _, query := range queries {
				x.exec(query, string(x.own.id))
			}
		}
	}
	const checkpoint = ` WHERE merchant_id = $1 AND first_position = 0`
	const forged = `the checkpoint at position \d+ was not made by this service: events up to there were removed, not pruned`
	const last = ` WHERE merchant_id = $1 AND first_position = (SELECT max(first_position) FROM event_chain WHERE merchant_id = $1)`
	// Positions 1 and 2 are of the merchant and its key; then come the people.
	list := map[string]altered{
		"an actor":             {alter: own(`UPDATE events SET actor = 'nobody' WHERE merchant_id = $1 AND position = 4`), audit: `position 4 .*was altered`},
		"a type":               {alter: own(`UPDATE events SET type = 'customer.updated' WHERE merchant_id = $1 AND position = 3`), audit: `position 3 .*was altered`},
		"a subject":            {alter: own(`UPDATE events SET subject = 'cst_0000000000000000' WHERE merchant_id = $1 AND position = 3`), audit: `position 3 .*was altered`},
		"a time":               {alter: own(`UPDATE events SET at = at + 1 WHERE merchant_id = $1 AND position = 5`), audit: `position 5 .*was altered`},
		"an event removed":     {alter: own(`DELETE FROM events WHERE merchant_id = $1 AND position = 4`), audit: `position 4 is missing`},
		"the first removed":    {alter: own(`DELETE FROM events WHERE merchant_id = $1 AND position = 1`), audit: `position 1 is missing`},
		"two events swapped":   {alter: own(`UPDATE events SET id = 'evt_x', subject = (SELECT subject FROM events e WHERE e.merchant_id = $1 AND e.position = 9 - events.position) WHERE merchant_id = $1 AND position IN (4, 5)`), audit: `position 4 .*was altered`},
		"an event too many":    {alter: own(`INSERT INTO events (merchant_id, position, id, type, subject, revision, actor, request_id, at) VALUES ($1, 0, 'evt_x', 'customer.erased', 'x', 1, 'x', 'x', 1)`), audit: `position 0 \(evt_x\) was added`},
		"a link":               {alter: func(x *alteration) { x.segment("min", flip(0)) }, audit: `was altered`},
		"the last link":        {alter: func(x *alteration) { x.segment("max", flip(-1)) }, audit: `was altered`},
		"links cut":            {alter: func(x *alteration) { x.segment("max", cut(10)) }, audit: `the chain of merchant town.* is damaged at position`},
		"no links":             {alter: func(x *alteration) { x.segment("max", cut(0)) }, audit: `the chain of merchant town.* is damaged at position`},
		"a link too many":      {alter: func(x *alteration) { x.segment("max", func(b []byte) []byte { return append(b, make([]byte, 32)...) }) }, audit: `the chain of merchant town.* is damaged at position`},
		"a proof":              {alter: own(`UPDATE event_chain SET proof = x'00112233445566778899aabbccddeeff'` + last), audit: `was not made by this service`},
		"no proof":             {alter: own(`UPDATE event_chain SET proof = x''` + last), audit: `was not made by this service`},
		"a count":              {alter: own(`UPDATE event_chain SET customers = customers + 100` + last), audit: `counts \d+ customers`},
		"the count of all":     {alter: own(`UPDATE event_chain SET customers = 9223372036854775807 WHERE merchant_id = $1`), audit: `counts \d+ customers`},
		"the first part gone":  {alter: own(`DELETE FROM event_chain WHERE merchant_id = $1 AND first_position = 1`), audit: `the chain does not go on at position 1: a part of it is missing`},
		"a part in the middle": {alter: own(`DELETE FROM event_chain WHERE merchant_id = $1 AND first_position > 1 AND first_position < (SELECT max(first_position) FROM event_chain WHERE merchant_id = $1)`), audit: `a part of it is missing`},
		// The server makes the rest of a chain that was cut off anew, as
		// docs/security.md says; who has noted the head sees it.
		"the last part gone": {alter: own(`DELETE FROM event_chain` + last)},
		"all of it gone":     {alter: own(`DELETE FROM event_chain WHERE merchant_id = $1`)},
		// The beginning is pruned.
		"pruned":                       {alter: pruned()},
		"pruned, and no checkpoint":    {alter: pruned(`DELETE FROM event_chain` + checkpoint), audit: `the chain does not go on at position 1: a part of it is missing`},
		"pruned, and another link":     {alter: pruned(`UPDATE event_chain SET links = CAST(zeroblob(31) || x'01' AS BLOB)` + checkpoint), audit: forged},
		"pruned, and another count":    {alter: pruned(`UPDATE event_chain SET customers = customers + 1` + checkpoint), audit: forged},
		"pruned, and another position": {alter: pruned(`UPDATE event_chain SET last_position = last_position - 1` + checkpoint), audit: forged},
		"pruned, and no proof":         {alter: pruned(`UPDATE event_chain SET proof = x''` + checkpoint), audit: forged},
		"pruned, and half a link":      {alter: pruned(`UPDATE event_chain SET links = x'00'` + checkpoint), audit: `the chain of merchant town.* is damaged at its checkpoint`},
		"pruned, and more removed": {
			alter: pruned(`DELETE FROM events WHERE merchant_id = $1 AND position = (SELECT min(position) FROM events WHERE merchant_id = $1)`),
			audit: `the event at position \d+ is missing`,
		},
		"pruned, and more removed with its chain": {
			alter: pruned(`DELETE FROM events WHERE merchant_id = $1 AND position <= (SELECT last_position FROM event_chain WHERE merchant_id = $1 AND first_position > 0 ORDER BY first_position LIMIT 1)`,
				`DELETE FROM event_chain WHERE merchant_id = $1 AND first_position = (SELECT min(first_position) FROM event_chain WHERE merchant_id = $1 AND first_position > 0)`),
			// If that was the end of it, too, the number of customers tells.
			audit: `the event at position \d+ is missing|the chain does not go on at position \d+|customers were removed or added without an event`,
		},
		"pruned by a segment's proof": {
			alter: func(x *alteration) {
				own := string(x.own.id)
				x.exec(`INSERT INTO event_chain SELECT merchant_id, 0, last_position, customers, proof, substr(links, length(links) - 31) FROM event_chain WHERE merchant_id = $1 AND first_position = 1`, own)
				x.exec(`DELETE FROM events WHERE merchant_id = $1 AND position <= (SELECT last_position FROM event_chain WHERE merchant_id = $1 AND first_position = 0)`, own)
				x.exec(`DELETE FROM event_chain WHERE merchant_id = $1 AND first_position = 1`, own)
			},
			audit: forged,
		},
		"an end far off": {
			alter: own(`UPDATE event_chain SET last_position = last_position + 1000` + last),
			rules: []rule{get(`(gone )?(victim|new) search (email|number)`, right, missing), get(`order`, fault)},
			audit: `the chain of merchant town.* is damaged at position`,
		},
		"an end before": {
			alter: own(`UPDATE event_chain SET last_position = first_position - 1` + last),
			rules: []rule{get(`order`, right, fault)},
			audit: `the chain of merchant town.* is damaged at position`,
		},
		"the highest end": {
			alter: own(`UPDATE event_chain SET last_position = 9223372036854775807` + last),
			rules: []rule{get(`(gone )?(victim|new) search (email|number)`, right, missing), get(`order`, fault)},
			audit: `the chain of merchant town.* is damaged at position`,
		},
		"another merchant's links": {
			twin: true,
			alter: func(x *alteration) {
				x.segment("max", func([]byte) []byte {
					return x.column(`SELECT links FROM event_chain`+last, string(x.twin.id))
				})
			},
			audit: `was altered`,
		},
		"another merchant's events": {
			twin: true,
			alter: func(x *alteration) {
				x.exec(`DELETE FROM events WHERE merchant_id = $1`, string(x.own.id))
				x.exec(`INSERT INTO events SELECT $1, position, id, type, subject, revision, changed, actor, request_id, at FROM events WHERE merchant_id = $2`, string(x.own.id), string(x.twin.id))
			},
			audit: `position 1 .*was altered`,
		},
	}
	return list
}

// TestAlteredChain alters events and their chain: the audit says so, and nobody's
// data depends on it.
func TestAlteredChain(t *testing.T) {
	t.Parallel()
	settle(t, alteredChain()).live()
}
