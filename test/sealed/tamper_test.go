package sealed_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// set overwrites a column of a person's row.
func (x *alteration) set(who int, column string, value any) {
	x.t.Helper()
	x.exec(`UPDATE customers SET `+column+` = $1 WHERE merchant_id = $2 AND id = $3`, value, string(x.own.id), x.own.people[who].ID)
}

// of returns a column of a person's row.
func (x *alteration) of(who int, column string) []byte {
	x.t.Helper()
	return x.column(`SELECT `+column+` FROM customers WHERE merchant_id = $1 AND id = $2`, string(x.own.id), x.own.people[who].ID)
}

// swap swaps columns of the rows of the victim and the second.
func (x *alteration) swap(columns ...string) {
	x.t.Helper()
	for _, column := range columns {
		a, b := x.of(victim, column), x.of(second, column)
		// A reference is unique at any time.
		x.set(victim, column, []byte("0123456789abcdef"))
		x.set(second, column, a)
		x.set(victim, column, b)
	}
}

// sealed returns a case in which the victim's blob is another one.
func sealed(change func(blob []byte) []byte) altered {
	return altered{
		alter: func(x *alteration) { x.set(victim, "sealed", change(bytes.Clone(x.of(victim, "sealed")))) },
		rules: damagedRow("victim"),
		says:  []string{`open customer VICTIM of merchant MERCHANT: `, `a customer cannot be sealed under the new key; the old one is kept: open customer VICTIM of merchant MERCHANT: `},
	}
}

// damagedRow is the rules for rows of people that do not open.
func damagedRow(who string) []rule {
	return []rule{
		get(`(`+who+`) (id|reference|search .*|update|erase reference)`, fault),
		get(`list`, fault),
		get(`rotation`, stuck),
	}
}

func flip(offset int) func([]byte) []byte {
	return func(blob []byte) []byte {
		if offset < 0 {
			offset += len(blob)
		}
		blob[offset] ^= 4
		return blob
	}
}

func cut(length int) func([]byte) []byte {
	return func(blob []byte) []byte {
		if length < 0 {
			length += len(blob)
		}
		return blob[:length]
	}
}

// alteredRows is what may be altered in the rows of customers.
func alteredRows() map[string]altered {
	list := map[string]altered{
		"a blob of zeros":   sealed(func(blob []byte) []byte { return make([]byte, len(blob)) }),
		"a blob too long":   sealed(func(blob []byte) []byte { return append(blob, 0) }),
		"a blob of 2 MiB":   sealed(func(blob []byte) []byte { return append(blob, make([]byte, 2<<20)...) }),
		"a blob's halves":   sealed(func(blob []byte) []byte { return slices.Concat(blob[len(blob)/2:], blob[:len(blob)/2]) }),
		"another's blob":    {alter: func(x *alteration) { x.set(victim, "sealed", x.of(second, "sealed")) }},
		"two swapped blobs": {alter: func(x *alteration) { x.swap("sealed") }},
		"another merchant's blob": {twin: true, alter: func(x *alteration) {
			x.set(victim, "sealed", x.column(`SELECT sealed FROM customers WHERE merchant_id = $1 AND id = $2`, string(x.twin.id), x.twin.people[victim].ID))
		}},
		"two swapped rows": {
			alter: func(x *alteration) { x.swap("sealed", "reference_index", "email_index", "mobile_index") },
			// The look-up index has keys of what was in the rows before.
			rules: append(damagedRow("victim|second"), get(`gone (victim|second) search (number|email)`, missing, fault)),
			says:  []string{`open customer VICTIM of merchant MERCHANT: `, `open customer SECOND of merchant MERCHANT: `},
		},
		"two swapped references": {
			alter: func(x *alteration) { x.swap("reference_index") },
			rules: []rule{
				get(`(victim|second) reference`, fault),
				get(`(victim|second) search reference`, missing),
				get(`victim erase reference`, fault),
			},
			says: []string{
				`customer VICTIM of merchant MERCHANT stands under the index of another reference: its row was altered`,
				`customer SECOND of merchant MERCHANT stands under the index of another reference: its row was altered`,
			},
		},
		"another reference": {
			alter: func(x *alteration) { x.set(victim, "reference_index", []byte("0123456789abcdef")) },
			rules: []rule{get(`victim (reference|search reference|erase reference)`, missing)},
		},
		// The look-up index has the right ones; what is in the rows is what it is
		// tidied by.
		"two swapped addresses and numbers": {
			alter: func(x *alteration) { x.swap("email_index", "mobile_index") },
			rules: []rule{get(`(gone )?(victim|second) search (email|number)`, right, missing, fault)},
		},
		"no address and no number": {
			alter: func(x *alteration) { x.set(victim, "email_index", nil); x.set(victim, "mobile_index", nil) },
			rules: []rule{get(`(gone )?victim search (email|number)`, right, missing, fault)},
		},
		"an older key's version": {alter: func(x *alteration) { x.set(fourth, "key_version", 0) }},
		"a newer key's version":  {alter: func(x *alteration) { x.set(fourth, "key_version", 99) }},
		"a row moved to another merchant": {
			twin: true,
			alter: func(x *alteration) {
				x.exec(`UPDATE customers SET merchant_id = $1 WHERE merchant_id = $2 AND id = $3`, string(x.twin.id), string(x.own.id), x.own.people[victim].ID)
			},
			rules: []rule{
				get(`victim (id|reference|search reference|update|erase .*)|list|last list`, missing),
				get(`victim search (number|email)`, missing, fault),
				get(`twin (gone stranger|list|last list)`, fault),
				get(`twin (last )?rotation`, stuck),
			},
			says:      []string{`open customer VICTIM of merchant TWIN: `},
			audit:     `there are 3 customers, but the events tell of 4`,
			twinAudit: `there are 4 customers, but the events tell of 3`,
		},
		"a row copied to another merchant": {
			twin: true,
			alter: func(x *alteration) {
				x.exec(`INSERT INTO customers (merchant_id, id, reference_index, sealed, revision, created_at, updated_at, email_index, mobile_index, key_version)
					SELECT $1, id, reference_index, sealed, revision, created_at, updated_at, email_index, mobile_index, key_version FROM customers WHERE merchant_id = $2 AND id = $3`,
					string(x.twin.id), string(x.own.id), x.own.people[victim].ID)
			},
			rules:     []rule{get(`twin (gone stranger|list|last list)`, fault), get(`twin (last )?rotation`, stuck)},
			says:      []string{`open customer VICTIM of merchant TWIN: `},
			twinAudit: `there are 4 customers, but the events tell of 3`,
		},
		"a row under another's id": {
			alter: func(x *alteration) {
				x.exec(`DELETE FROM customers WHERE merchant_id = $1 AND id = $2`, string(x.own.id), x.own.people[second].ID)
				x.set(victim, "id", x.own.people[second].ID)
			},
			rules: []rule{
				get(`victim id|victim update|victim erase id`, missing),
				get(`(gone )?(victim|second) search (number|email)`, missing, fault),
				get(`second (reference|search reference)`, missing),
				get(`second id|victim erase reference|list`, fault),
				get(`victim (reference|search reference)`, fault, missing), // missing once the second is erased
				get(`rotation`, stuck),
				get(`last list`, missing),
			},
			says:  []string{`open customer SECOND of merchant MERCHANT: `},
			audit: `there are 3 customers, but the events tell of 4`,
		},
	}
	for name, who := range map[string]string{"another's blob": "victim", "two swapped blobs": "victim|second", "another merchant's blob": "victim"} {
		c := list[name]
		c.rules = damagedRow(who)
		c.says = []string{`open customer VICTIM of merchant MERCHANT: `}
		list[name] = c
	}
	// The layout, Tink's mark, the key's id, the nonce, the ciphertext, the tag.
	for _, offset := range []int{0, 1, 2, 5, 6, 29, 30, 50, -17, -16, -1} {
		list[fmt.Sprintf("bit 2 of byte %d of a blob", offset)] = sealed(flip(offset))
	}
	for _, length := range []int{0, 1, 5, 6, 30, 46, -16, -1} {
		list[fmt.Sprintf("a blob cut to %d", length)] = sealed(cut(length))
	}
	return list
}

// TestAlteredRows alters rows of customers: who is in them is refused, and
// nobody else notices.
func TestAlteredRows(t *testing.T) {
	t.Parallel()
	settle(t, alteredRows()).live()
}
