package sealed_test

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

// blocks changes the keys of all blocks of the merchant's look-up index.
func (x *alteration) blocks(change func([]byte) []byte) {
	x.t.Helper()
	var firsts [][]byte
	rows, err := x.db.QueryContext(x.t.Context(), `SELECT first FROM lookup_blocks WHERE merchant_id = $1`, string(x.own.id))
	if err != nil {
		x.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var first []byte
		if err := rows.Scan(&first); err != nil {
			x.t.Fatal(err)
		}
		firsts = append(firsts, first)
	}
	if err := rows.Err(); err != nil || len(firsts) == 0 {
		x.t.Fatalf("the look-up index has %d blocks (%v)", len(firsts), err)
	}
	for _, first := range firsts {
		keys := x.column(`SELECT keys FROM lookup_blocks WHERE merchant_id = $1 AND first = $2`, string(x.own.id), first)
		x.exec(`UPDATE lookup_blocks SET keys = $1 WHERE merchant_id = $2 AND first = $3`, change(keys), string(x.own.id), first)
	}
}

// run changes what is said of the merchant's runs.
func (x *alteration) run(set string, value any) {
	x.t.Helper()
	x.exec(`UPDATE lookup_runs SET `+set+` WHERE merchant_id = $2`, value, string(x.own.id))
}

// alteredIndex is what may be altered in the look-up index.
func alteredIndex() map[string]altered {
	own := func(query string) func(x *alteration) {
		return func(x *alteration) { x.exec(query, string(x.own.id)) }
	}
	list := map[string]altered{
		"no keys":                  {alter: func(x *alteration) { x.blocks(cut(0)) }},
		"a key beyond its block":   {alter: func(x *alteration) { x.blocks(func(b []byte) []byte { b[0] = 255; return b }) }},
		"a key without length":     {alter: func(x *alteration) { x.blocks(func(b []byte) []byte { b[0] = 0; return b }) }},
		"a short key":              {alter: func(x *alteration) { x.blocks(func(b []byte) []byte { b[0] = 5; return b }) }},
		"cut in a key":             {alter: func(x *alteration) { x.blocks(cut(-3)) }},
		"only a length":            {alter: func(x *alteration) { x.blocks(cut(1)) }},
		"a flipped value":          {alter: func(x *alteration) { x.blocks(flip(3)) }},
		"a flipped id":             {alter: func(x *alteration) { x.blocks(flip(15)) }},
		"zeros":                    {alter: func(x *alteration) { x.blocks(func([]byte) []byte { return make([]byte, 4000) }) }},
		"all ones":                 {alter: func(x *alteration) { x.blocks(func([]byte) []byte { return bytes.Repeat([]byte{255}, 4000) }) }},
		"all keys twice":           {alter: func(x *alteration) { x.blocks(func(b []byte) []byte { return slices.Concat(b, b) }) }},
		"keys backwards":           {alter: func(x *alteration) { x.blocks(backwards) }},
		"no blocks":                {alter: own(`DELETE FROM lookup_blocks WHERE merchant_id = $1`)},
		"no runs":                  {alter: own(`DELETE FROM lookup_runs WHERE merchant_id = $1`)},
		"a run that grows":         {alter: func(x *alteration) { x.run("whole = $1", 0) }},
		"a run of no known state":  {alter: func(x *alteration) { x.run("whole = $1", -7) }},
		"a level of 2^60":          {alter: func(x *alteration) { x.run("level = $1", 1<<60) }},
		"a level of 2^63-1":        {alter: func(x *alteration) { x.run("level = $1", math.MaxInt64) }},
		"a level below 0":          {alter: func(x *alteration) { x.run("level = $1", -5) }},
		"more keys than there are": {alter: func(x *alteration) { x.run("keys = $1", 1<<60) }},
		"fewer keys than none":     {alter: func(x *alteration) { x.run("keys = $1", math.MinInt64) }},
		"a growing run of 2^60": {alter: func(x *alteration) {
			x.run("level = $1, whole = 0", 1<<60)
		}},
		"the highest run": {alter: func(x *alteration) {
			x.run("run = $1", math.MaxInt64)
			x.exec(`UPDATE lookup_blocks SET run = $1 WHERE merchant_id = $2`, math.MaxInt64, string(x.own.id))
		}},
		"a run twice": {alter: func(x *alteration) {
			x.exec(`INSERT INTO lookup_blocks (merchant_id, run, first, keys) SELECT merchant_id, run + 1, first, keys FROM lookup_blocks WHERE merchant_id = $1`, string(x.own.id))
			x.exec(`INSERT INTO lookup_runs (merchant_id, run, level, keys, whole) SELECT merchant_id, run + 1, level, keys, whole FROM lookup_runs WHERE merchant_id = $1`, string(x.own.id))
		}},
		"a block under a low key":  {alter: own(`UPDATE lookup_blocks SET first = x'00' WHERE merchant_id = $1`)},
		"a block under a high key": {alter: own(`UPDATE lookup_blocks SET first = x'ffffffffffff' WHERE merchant_id = $1`)},
		"a block under no key":     {alter: own(`UPDATE lookup_blocks SET first = x'' WHERE merchant_id = $1`)},
		"another merchant's": {twin: true, alter: func(x *alteration) {
			x.exec(`DELETE FROM lookup_blocks WHERE merchant_id = $1`, string(x.own.id))
			x.exec(`INSERT INTO lookup_blocks (merchant_id, run, first, keys) SELECT $1, run, first, keys FROM lookup_blocks WHERE merchant_id = $2`, string(x.own.id), string(x.twin.id))
		}},
		// Whoever asks for the victim is led to the second, and the other way round.
		"ids swapped": {alter: func(x *alteration) {
			a, b := []byte(x.own.people[victim].ID), []byte(x.own.people[second].ID)
			x.blocks(func(keys []byte) []byte {
				between := bytes.Repeat([]byte{'?'}, len(a))
				return bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(keys, a, between), b, a), between, b)
			})
		}},
	}
	const anybody = `(victim|second|bystander|fourth|new)`
	for name, c := range list {
		c.rules = append(c.rules,
			get(`(gone )?`+anybody+` search (number|email)`, right, missing, fault),
			// They take keys out of the index.
			get(`victim update|`+anybody+` erase .*`, right, fault),
			get(`order`, right, fault),
		)
		list[name] = c
	}
	return list
}

// backwards returns a block with its keys in the opposite order.
func backwards(block []byte) []byte {
	var keys [][]byte
	for rest := block; len(rest) > 0; {
		end := 1 + int(rest[0])
		keys = append(keys, rest[:end])
		rest = rest[end:]
	}
	slices.Reverse(keys)
	return slices.Concat(keys...)
}

// TestAlteredIndex alters the look-up index: at worst a search misses or fails,
// and whoever it finds is who was looked for. All else goes on.
func TestAlteredIndex(t *testing.T) {
	t.Parallel()
	settle(t, alteredIndex()).live()
}
