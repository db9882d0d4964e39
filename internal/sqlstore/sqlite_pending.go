package sqlstore

import (
	"slices"

	"grahak"
)

// pendingKeys are the look-up keys of the customers that the writer has made, or given
// other values, in events that are not in the chain yet. The ordering pass adds them to
// the look-up index, and need not look up each customer again, for which all writes
// would wait.
//
// Nothing depends on it but speed: what it does not know for certain is read. It is the
// writer's, and forgotten when a transaction is undone.
type pendingKeys struct {
	of   map[grahak.MerchantID]*merchantKeys
	keys int // in all of them
}

// merchantKeys are all keys of a merchant's events above the position from, as the
// customers are now, unless the database has another version: then others have written.
type merchantKeys struct {
	from, version int64
	keys          []tailKey // in order of position
}

// add notes the keys of a customer after an event at the position that made it, or gave
// it other values.
func (p *pendingKeys) add(tx conn, m grahak.MerchantID, position int64, c *grahak.CustomerRecord) error {
	if p.keys >= maxTailKeys {
		p.forget()
	}
	of := p.of[m]
	if of == nil {
		of = &merchantKeys{from: position - 1}
		var err error
		if of.version, err = dataVersion(tx); err != nil {
			return err
		}
		if p.of == nil {
			p.of = make(map[grahak.MerchantID]*merchantKeys)
		}
		p.of[m] = of
	}
	for _, value := range [...]grahak.ShortIndex{c.Email, c.Mobile} {
		if value != (grahak.ShortIndex{}) {
			of.keys = append(of.keys, tailKey{position: position, value: value, id: string(c.ID)})
			p.keys++
		}
	}
	return nil
}

// remove takes a key out that its customer has no more.
func (p *pendingKeys) remove(m grahak.MerchantID, value []byte, id grahak.CustomerID) {
	of := p.of[m]
	if of == nil {
		return
	}
	before := len(of.keys)
	of.keys = slices.DeleteFunc(of.keys, func(k tailKey) bool { return string(k.value[:]) == string(value) && k.id == string(id) })
	p.keys -= before - len(of.keys)
}

// take returns the keys of the events at the positions from first to last, and whether
// these are all. Those up to last are forgotten.
func (p *pendingKeys) take(tx conn, m grahak.MerchantID, first, last int64) (keys []tailKey, known bool, err error) {
	of := p.of[m]
	if of == nil {
		return nil, false, nil
	}
	version, err := dataVersion(tx)
	if err != nil {
		return nil, false, err
	}
	end := above(of.keys, last)
	if known = of.version == version && of.from < first; known {
		keys = slices.Clone(of.keys[above(of.keys, first-1):end])
	}
	if of.version != version || end == len(of.keys) {
		end = len(of.keys)
		delete(p.of, m)
	}
	of.keys = slices.Delete(of.keys, 0, end)
	p.keys -= end
	return keys, known, nil
}

// forget empties p.
func (p *pendingKeys) forget() { *p = pendingKeys{} }

// dataVersion returns a number that is another one after another connection has written
// the database.
func dataVersion(c conn) (version int64, err error) {
	err = c.queryRow("PRAGMA data_version").Scan(&version)
	return version, err
}
