package sealed_test

import (
	"bytes"
	"testing"
)

// keys changes columns of the merchant's keyset.
func (x *alteration) keys(change func([]byte) []byte, columns ...string) {
	x.t.Helper()
	for _, column := range columns {
		before := x.column(`SELECT `+column+` FROM keysets WHERE merchant_id = $1`, string(x.own.id))
		x.exec(`UPDATE keysets SET `+column+` = $1 WHERE merchant_id = $2`, change(bytes.Clone(before)), string(x.own.id))
	}
}

// swapKeys swaps columns of the keysets of two merchants.
func (x *alteration) swapKeys(columns ...string) {
	x.t.Helper()
	for _, column := range columns {
		const query = ` FROM keysets WHERE merchant_id = $1`
		a, b := x.column(`SELECT `+column+query, string(x.own.id)), x.column(`SELECT `+column+query, string(x.twin.id))
		x.exec(`UPDATE keysets SET `+column+` = $1 WHERE merchant_id = $2`, b, string(x.own.id))
		x.exec(`UPDATE keysets SET `+column+` = $1 WHERE merchant_id = $2`, a, string(x.twin.id))
	}
}

// alteredKeys is what may be altered in the rows of keys.
func alteredKeys() map[string]altered {
	const noKeys = `the keys of merchant MERCHANT do not open; they were altered`
	list := map[string]altered{
		"keys swapped":          {twin: true, alter: func(x *alteration) { x.swapKeys("sealing", "indexing") }},
		"sealing keys swapped":  {twin: true, alter: func(x *alteration) { x.swapKeys("sealing") }},
		"indexing keys swapped": {twin: true, alter: func(x *alteration) { x.swapKeys("indexing") }},
		"a key for the other": {alter: func(x *alteration) {
			x.exec(`UPDATE keysets SET sealing = indexing WHERE merchant_id = $1`, string(x.own.id))
		}},
		"a key for the others": {alter: func(x *alteration) {
			x.exec(`UPDATE keysets SET indexing = sealing WHERE merchant_id = $1`, string(x.own.id))
		}},
	}
	for _, column := range []string{"sealing", "indexing"} {
		for name, change := range map[string]func([]byte) []byte{
			"no":                cut(0),
			"half":              func(b []byte) []byte { return b[:len(b)/2] },
			"all but a byte of": cut(-1),
			"zeros for":         func(b []byte) []byte { return make([]byte, len(b)) },
			"noise after":       func(b []byte) []byte { return append(b, 1, 2, 3) },
			"bit 2 of byte 0":   flip(0),
			"bit 2 of byte 20":  flip(20),
			"bit 2 of byte -1":  flip(-1),
		} {
			list[name+" "+column] = altered{alter: func(x *alteration) { x.keys(change, column) }}
		}
	}
	for name, c := range list {
		c.rules = []rule{get(`(twin )?(last )?rotation`, refused), get(`.*`, fault)}
		c.says, c.audit = []string{noKeys}, `the keys of merchant .* do not open; they were altered`
		if c.twin {
			c.twinAudit = c.audit
		}
		list[name] = c
	}
	list["another master key's name"] = altered{
		alter: func(x *alteration) {
			x.exec(`UPDATE keysets SET master_key_id = $1 WHERE merchant_id = $2`, "0123456789abcdef", string(x.own.id))
		},
		rules: []rule{get(`(last )?rotation`, refused), get(`.*`, down)},
		says:  []string{`the data is sealed under master key 0123456789abcdef, but the configured master key is [0-9a-f]{16}: configure the right one`},
	}
	list["no row of keys"] = altered{
		alter: func(x *alteration) { x.exec(`DELETE FROM keysets WHERE merchant_id = $1`, string(x.own.id)) },
		rules: []rule{get(`(last )?rotation`, refused), get(`.*`, fault)},
		audit: `.`,
	}
	// A version only says which key is the newest.
	list["a newer version"] = altered{alter: func(x *alteration) {
		x.exec(`UPDATE keysets SET version = 9 WHERE merchant_id = $1`, string(x.own.id))
	}}
	list["an older version"] = altered{alter: func(x *alteration) {
		x.exec(`UPDATE keysets SET version = 0 WHERE merchant_id = $1`, string(x.own.id))
	}}
	return list
}

// TestAlteredKeys alters the wrapped keys of merchants: their customers are
// refused, and other merchants do not notice.
func TestAlteredKeys(t *testing.T) {
	t.Parallel()
	settle(t, alteredKeys()).live()
}
