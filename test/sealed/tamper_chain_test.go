package sealed_test

import (
	"bytes"
	"testing"
)

// segment changes the links of the merchant's first or last segment of the chain.
func (x *alteration) segment(order string, change func([]byte) []byte) {
	x.t.Helper()
	where := ` WHERE merchant_id = $1 AND first_position = (SELECT ` + order + `(first_position) FROM event_chain WHERE merchant_id = $1)`
	links := x.column(`SELECT links FROM event_chain`+where, string(x.own.id))
	x.exec(`UPDATE event_chain SET links = $2`+where, string(x.own.id), change(bytes.Clone(links)))
}

// alteredChain is what may be altered in events and their chain.
func alteredChain() map[string]altered {
	own := func(query string) func(x *alteration) {
		return func(x *alteration) { x.exec(query, string(x.own.id)) }
	}
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
