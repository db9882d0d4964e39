package sqlstore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"grahak"
)

// maxTailKeys bounds how many look-up keys are remembered of all tails, which is
// some 5 MB, and how many tails. The ordering pass leaves a tail of a thousand or two.
const maxTailKeys = 1 << 16

// tails remembers what reads have found in the events behind the chains' heads, so
// that each search and each page reads only the events that are newer than the last
// one's: under many writes there are a thousand, and each is a customer to look up.
//
// Nothing depends on it but speed: it is filled from snapshots, whoever wrote the
// events, and what it finds is looked up again. It is safe for concurrent use.
type tails struct {
	mu   sync.Mutex
	of   map[grahak.MerchantID]*tail
	keys int // in all of them
	most int // maxTailKeys, but for tests
}

// tail is what is remembered of a merchant's events.
type tail struct {
	// The keys are of the events at positions above from, up to last.
	from, last int64
	keys       []tailKey // in order of position

	counted   int64 // position of an event
	customers int64 // how many there were just after it
}

// tailKey is a look-up key of a customer at the time when the event was read, or
// later.
type tailKey struct {
	position int64
	value    grahak.ShortIndex
	id       string
}

// known returns how many customers the merchant had just after a position, which is
// the newest that is remembered from position up to last: position itself if
// there is none.
func (t *tails) known(m grahak.MerchantID, position, customers, last int64) (at, counted int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if of := t.of[m]; of != nil && of.counted > position && of.counted <= last {
		return of.counted, of.customers
	}
	return position, customers
}

// count remembers how many customers the merchant had just after a position.
func (t *tails) count(m grahak.MerchantID, position, customers int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if of := t.tail(m); position > of.counted {
		of.counted, of.customers = position, customers
	}
}

// find returns the ids that are remembered under value for events above head, and up
// to which position none is missing: head if nothing is remembered.
func (t *tails) find(m grahak.MerchantID, head int64, value grahak.ShortIndex) (found []string, last int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.of[m]
	if of == nil || of.from > head || of.last <= head {
		return nil, head
	}
	for _, k := range of.keys {
		if k.value == value && k.position > head {
			found = append(found, k.id)
		}
	}
	return found, of.last
}

// add remembers the keys of the events above first, which find told of, up to last,
// and forgets those of events that are long in the chain, which ends at head.
func (t *tails) add(m grahak.MerchantID, head, first, last int64, keys []tailKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.tail(m)
	if of.last >= last {
		// A search that began later has added them.
		return
	}
	if of.from > head || of.last < first {
		t.keys -= len(of.keys)
		of.keys, of.from, of.last = of.keys[:0], first, first
	}
	// Searches that began earlier may still see an older head.
	if old := above(of.keys, head); old > len(of.keys)/2 {
		of.keys = slices.Delete(of.keys, 0, old)
		of.from = head
		t.keys -= old
	}
	keys = keys[above(keys, of.last):]
	of.keys, of.last = append(of.keys, keys...), last
	if t.keys += len(keys); t.keys > t.most {
		t.of, t.keys = nil, 0
	}
}

// above returns where the keys of events above a position begin.
func above(keys []tailKey, position int64) int {
	i, _ := slices.BinarySearchFunc(keys, position+1, func(k tailKey, p int64) int { return cmp.Compare(k.position, p) })
	return i
}

// tail returns what is remembered of a merchant. The caller holds mu.
func (t *tails) tail(m grahak.MerchantID) *tail {
	of := t.of[m]
	if of == nil {
		if t.of == nil || len(t.of) >= t.most {
			t.of, t.keys = make(map[grahak.MerchantID]*tail), 0
		}
		of = &tail{}
		t.of[m] = of
	}
	return of
}

// total implements [engine]: the chain counts up to its head, and the rest is
// counted.
func (s *SQLite) total(r conn, m grahak.MerchantID) (int64, error) {
	head, last, customers, err := chainAndLast(r, m)
	if err != nil || last == head {
		return customers, err
	}
	at, customers := s.tails.known(m, head, customers, last)
	if at == last {
		return customers, nil
	}
	var rest int64
	err = r.queryRow(`SELECT coalesce(sum(CASE type WHEN 'customer.created' THEN 1 WHEN 'customer.erased' THEN -1 ELSE 0 END), 0)
		FROM events WHERE merchant_id = $1 AND position > $2`, string(m), at).Scan(&rest)
	if err == nil {
		s.tails.count(m, last, customers+rest)
	}
	return customers + rest, err
}

// search implements [engine]: the look-up index has the customers but for those
// with events that are not in the chain.
func (s *SQLite) search(r conn, m grahak.MerchantID, value grahak.ShortIndex, from, before string, limit int) ([]grahak.CustomerRecord, error) {
	found, err := searchKeys(r, m, value[:], from, before, limit)
	if err != nil {
		return nil, err
	}
	behind, err := s.searchTail(r, m, value)
	if err != nil {
		return nil, err
	}
	list := make([]grahak.CustomerRecord, 0, len(found)+len(behind))
	for i, id := range slices.Concat(found, behind) {
		if id < from || id >= before {
			continue
		}
		one, err := queryCustomers(r, customerByID, string(m), id)
		if err != nil {
			return nil, err
		}
		if len(one) == 0 && i < len(found) {
			return nil, fmt.Errorf("the look-up index of merchant %s has a customer %q who does not exist: it was altered", m, id)
		}
		for _, c := range one {
			// What the look-up index has in the wrong place is for whoever opens it to find.
			if i < len(found) || c.Email == value || c.Mobile == value {
				list = append(list, c)
			}
		}
	}
	return newestFirst(list, limit), nil
}

// searchTail returns the ids of the customers who had value, and may have it no more,
// after an event that is not in the chain.
func (s *SQLite) searchTail(r conn, m grahak.MerchantID, value grahak.ShortIndex) ([]string, error) {
	head, last, _, err := chainAndLast(r, m)
	if err != nil || last == head {
		return nil, err
	}
	found, known := s.tails.find(m, head, value)
	if known >= last {
		return found, nil
	}
	keys, err := changedKeys(r, m, known+1, last)
	if err != nil {
		return nil, err
	}
	s.tails.add(m, head, known, last, keys)
	for _, k := range keys {
		if k.value == value {
			found = append(found, k.id)
		}
	}
	return found, nil
}
