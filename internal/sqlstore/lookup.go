package sqlstore

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"grahak"
)

// The look-up index finds customers by e-mail address and mobile number. Its
// keys are a short index and the customer's id, one behind the other.
//
// A b-tree of such keys would have to touch a page for almost each of them,
// because they are random: that would be most of what a create costs. So they
// are kept in runs, as log-structured stores do: each pass over the events
// appends a sorted run, and runs of about one size, which are those of a level,
// are merged into a larger one, a bounded step at a time. All is written in long
// sequences. A search looks into every run, of which there are few on each of few
// levels. While events come faster than one pass takes, four runs of a level are
// merged, so that a key is written once a level. Otherwise two are, and one with one
// of the next level, if that is an even one: a key is written some eight times every
// other level, and a search among ten million customers looks into five runs at most.
//
// A run is cut into blocks. A block is keys in ascending order, each behind its
// length in one byte. It stands under as much of its first key as is above all keys
// of the block before: that is what the database finds it by, and reads most.
const (
	busyFanIn = 4
	calmFanIn = 2
	// smallRun is how many keys a run of level 0 has at most; each level has
	// busyFanIn times as many as the one below.
	smallRun = 512
	// searchBlocks is how many blocks of a run a search reads at first.
	searchBlocks = 2
	// readAhead is how many blocks of a run a merge reads at once.
	readAhead = 8
	// mergeBlocks bounds how many blocks a step of a merge writes, so that no
	// write waits long for it.
	mergeBlocks = 96
)

// levelOf returns the level of a run with that many keys.
func levelOf(keys int64) (level int64) {
	for ; keys > smallRun; keys /= busyFanIn {
		level++
	}
	return level
}

// lookupKey returns the key of a customer under one of its indexes.
func lookupKey(value []byte, id string) []byte { return append(slices.Clip(value), id...) }

// appendKey appends a key to a block.
func appendKey(block, key []byte) []byte {
	return append(append(block, byte(len(key))), key...)
}

var errDamagedBlock = errors.New("a block of the look-up index is damaged")

// nextKey returns the first key of a block, which has one, and the rest of the
// block.
func nextKey(block []byte) (key, rest []byte, err error) {
	if len(block) == 0 || len(block) <= int(block[0]) {
		return nil, nil, errDamagedBlock
	}
	end := 1 + int(block[0])
	return block[1:end], block[end:], nil
}

// run is a sorted run of a merchant's index.
type run struct {
	number int64
	// level is that of its own keys or, while a merge writes it or reads it, of the
	// largest run that is merged.
	level int64
	keys  int64 // that were written to it
	whole bool  // it is not, while a merge writes it
}

// lookupRuns returns the merchant's runs by number: a run is older than what was
// appended, or began to be merged, after it was.
func lookupRuns(c conn, m grahak.MerchantID) (list []run, err error) {
	err = c.query(func(row row) error {
		var r run
		err := row.Scan(&r.number, &r.level, &r.keys, &r.whole)
		list = append(list, r)
		return err
	}, `SELECT run, level, keys, whole FROM lookup_runs WHERE merchant_id = $1 ORDER BY run`, string(m))
	return list, err
}

// putRun writes what is known of a run.
func putRun(tx conn, m grahak.MerchantID, r run) error {
	return tx.later(`INSERT INTO lookup_runs (merchant_id, run, level, keys, whole) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (merchant_id, run) DO UPDATE SET level = excluded.level, keys = excluded.keys, whole = excluded.whole`,
		string(m), r.number, r.level, r.keys, r.whole)
}

// insertBlock writes a block of a run under first.
func insertBlock(tx conn, m grahak.MerchantID, number int64, first, block []byte) error {
	return tx.later(`INSERT INTO lookup_blocks (merchant_id, run, first, keys) VALUES ($1, $2, $3, $4)`, string(m), number, first, block)
}

func deleteBlock(tx conn, m grahak.MerchantID, number int64, first []byte) error {
	return tx.later(`DELETE FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 AND first = $3`, string(m), number, first)
}

// nextRun returns the number of the next run.
func nextRun(runs []run) int64 {
	if len(runs) == 0 {
		return 1
	}
	return runs[len(runs)-1].number + 1
}

// addKeys appends a run with the given keys to the merchant's index.
func addKeys(tx conn, m grahak.MerchantID, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	runs, err := lookupRuns(tx, m)
	if err != nil {
		return err
	}
	added := run{number: nextRun(runs), level: levelOf(int64(len(keys))), keys: int64(len(keys)), whole: true}
	if err := putRun(tx, m, added); err != nil {
		return err
	}
	out := blockWriter{tx: tx, merchant: m, run: added.number}
	for _, key := range keys {
		if err := out.add(key); err != nil {
			return err
		}
	}
	return out.flush()
}

// blockWriter writes the blocks of a run.
type blockWriter struct {
	tx       conn
	merchant grahak.MerchantID
	run      int64
	last     []byte // the last key that was added, or is in the run
	first    []byte // what the block stands under
	block    []byte
	blocks   int // written
	keys     int64
}

func (w *blockWriter) add(key []byte) error {
	if len(w.block) == 0 {
		w.first = append(w.first[:0], separator(w.last, key)...)
	}
	w.block = appendKey(w.block, key)
	w.last = append(w.last[:0], key...)
	w.keys++
	if len(w.block) < w.tx.blockSize() {
		return nil
	}
	return w.flush()
}

func (w *blockWriter) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	err := insertBlock(w.tx, w.merchant, w.run, w.first, w.block)
	w.block = w.block[:0]
	w.blocks++
	return err
}

// separator returns the shortest start of key that is above last, a lower key.
func separator(last, key []byte) []byte {
	same := 0
	for same < len(last) && last[same] == key[same] {
		same++
	}
	return key[:same+1]
}

// removeKey takes a key out of the merchant's index, wherever it is. It leaves a
// damaged block alone, so that its customers can be erased: whoever searches
// there is told.
func removeKey(tx conn, m grahak.MerchantID, key []byte) error {
	runs, err := lookupRuns(tx, m)
	if err != nil {
		return err
	}
	for _, r := range runs {
		var first, block []byte
		err := tx.queryRow(`SELECT first, keys FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 AND first <= $3 ORDER BY first DESC LIMIT 1`,
			string(m), r.number, key).Scan(&first, &block)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		left, err := without(block, key)
		if err != nil || len(left) == len(block) {
			continue
		}
		// What the block stands under may be of the key, so it must go as well.
		if err := deleteBlock(tx, m, r.number, first); err != nil {
			return err
		}
		if len(left) > 0 {
			if first, _, err = nextKey(left); err != nil {
				return err
			}
			if err := insertBlock(tx, m, r.number, first, left); err != nil {
				return err
			}
		}
	}
	return nil
}

// without returns block without key.
func without(block, key []byte) (left []byte, err error) {
	for len(block) > 0 {
		var k []byte
		if k, block, err = nextKey(block); err != nil {
			return nil, err
		}
		if !bytes.Equal(k, key) {
			left = appendKey(left, k)
		}
	}
	return left, nil
}

// searchKeys returns at most limit ids of customers under value, from the given
// id up to below another, in descending order.
func searchKeys(c conn, m grahak.MerchantID, value []byte, from, before string, limit int) ([]string, error) {
	runs, err := lookupRuns(c, m)
	if err != nil {
		return nil, err
	}
	low, high := lookupKey(value, from), lookupKey(value, before)
	var found []string
	for _, r := range runs {
		enough := len(found) + limit
		end := high
		// Most values are in one block.
		for some, more := searchBlocks, true; more; some *= searchBlocks {
			seen := 0
			err := c.query(func(row row) error {
				var block []byte
				if err := row.Scan(&end, &block); err != nil {
					return err
				}
				seen++
				below := false
				for rest := true; rest; rest = len(block) > 0 {
					var key []byte
					var err error
					if key, block, err = nextKey(block); err != nil {
						return fmt.Errorf("search customers of merchant %s: %w", m, err)
					}
					switch {
					case bytes.Compare(key, low) < 0:
						below = true
					case bytes.Compare(key, high) < 0:
						found = append(found, string(key[len(value):]))
					}
				}
				if below || len(found) >= enough {
					more = false
					return io.EOF
				}
				return nil
			}, `SELECT first, keys FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 AND first < $3 ORDER BY first DESC LIMIT $4`, string(m), r.number, end, some)
			if err != nil {
				return nil, err
			}
			more = more && seen == some
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(b, a) })
	found = slices.Compact(found)
	return found[:min(len(found), limit)], nil
}

// mergeRuns takes a step of the merges that are due in the merchant's index, in
// which it writes little more than budget blocks. It reports whether there is more
// to do.
//
// A merge goes on only while none of a lower level has begun or is due. So what
// it merges is all that is older than its output, and stays so.
func mergeRuns(tx conn, m grahak.MerchantID, calm bool, budget int) (more bool, err error) {
	fanIn := busyFanIn
	if calm {
		fanIn = calmFanIn
	}
	for {
		runs, err := lookupRuns(tx, m)
		if err != nil {
			return false, err
		}
		in, out, due := dueMerge(runs, fanIn)
		if low, ok := raised(runs); ok && calm && !due {
			if err := putRun(tx, m, low); err != nil {
				return false, err
			}
			continue
		}
		if !due || budget <= 0 {
			return due, nil
		}
		blocks, err := mergeStep(tx, m, in, out, budget)
		if err != nil {
			return false, err
		}
		// Even a merge that writes nothing costs something.
		budget -= blocks + 1
	}
}

// dueMerge returns the merge that has begun, or is due, on the lowest level.
func dueMerge(runs []run, fanIn int) (in []run, out run, due bool) {
	levels := make([]int64, len(runs))
	for i, r := range runs {
		levels[i] = r.level
	}
	slices.Sort(levels)
	for _, level := range slices.Compact(levels) {
		in, out = nil, run{number: nextRun(runs), level: level}
		for _, r := range runs {
			if r.level == level && !r.whole {
				out, due = r, true
			}
		}
		for _, r := range runs {
			// What is newer than the output was not there when its merge began.
			if r.level == level && r.whole && r.number < out.number {
				in = append(in, r)
			}
		}
		if due = due || len(in) >= fanIn; due {
			return in, out, true
		}
	}
	return nil, run{}, false
}

// raised returns, on the next level, a run of an odd level above which there is
// another. It is for runs of which no merge has begun.
func raised(runs []run) (low run, ok bool) {
	for _, low = range runs {
		above := func(r run) bool { return r.level == low.level+1 }
		if low.level%2 == 1 && slices.ContainsFunc(runs, above) {
			low.level++
			return low, true
		}
	}
	return run{}, false
}

// mergeStep moves keys of the runs in, in ascending order, to the end of the run
// out, until that has grown by limit blocks or in is empty: then out is whole.
// What was moved so far is told by the last key of out: all others of in are
// above it. It returns how many blocks it wrote.
func mergeStep(tx conn, m grahak.MerchantID, in []run, out run, limit int) (int, error) {
	done, err := lastKey(tx, m, out.number)
	if err != nil {
		return 0, err
	}
	sources := make([]*source, len(in))
	for i, r := range in {
		sources[i] = &source{tx: tx, merchant: m, run: r.number}
		if err := sources[i].skip(done); err != nil {
			return 0, err
		}
	}
	w := blockWriter{tx: tx, merchant: m, run: out.number, last: slices.Clone(done)}
	for w.blocks < limit {
		var least *source
		for _, s := range sources {
			if s.key != nil && (least == nil || bytes.Compare(s.key, least.key) < 0) {
				least = s
			}
		}
		if least == nil {
			out.whole = true
			break
		}
		done = append(done[:0], least.key...)
		if err := w.add(done); err != nil {
			return w.blocks, err
		}
		// The same key may be in several runs.
		for _, s := range sources {
			if err := s.skip(done); err != nil {
				return w.blocks, err
			}
		}
	}
	if err := w.flush(); err != nil {
		return w.blocks, err
	}
	out.keys += w.keys
	if out.whole {
		// The runs that were merged are empty.
		out.level = levelOf(out.keys)
		for _, r := range in {
			if err := tx.later(`DELETE FROM lookup_runs WHERE merchant_id = $1 AND run = $2`, string(m), r.number); err != nil {
				return w.blocks, err
			}
		}
	}
	return w.blocks, putRun(tx, m, out)
}

// lastKey returns the last key of a run, nil if it is empty.
func lastKey(tx conn, m grahak.MerchantID, number int64) (key []byte, err error) {
	var block []byte
	err = tx.queryRow(`SELECT keys FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 ORDER BY first DESC LIMIT 1`, string(m), number).Scan(&block)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	for len(block) > 0 && err == nil {
		key, block, err = nextKey(block)
	}
	return key, err
}

// source reads a run that is being merged, and deletes its blocks as they are
// used up.
type source struct {
	tx       conn
	merchant grahak.MerchantID
	run      int64
	key      []byte // the next one, nil at the end
	rest     []byte // of the block that key is in
	first    []byte // the key that the block stands under; nil before the first block
	ahead    []block
	read     []byte // the key that the last block stands under that was read
}

// block is a block of a run.
type block struct {
	first []byte // the key that it stands under
	keys  []byte
}

// skip moves on to the first key above done; every key is above nil.
func (s *source) skip(done []byte) error {
	for s.first == nil || s.key != nil && bytes.Compare(s.key, done) <= 0 {
		if len(s.rest) > 0 {
			if err := s.next(); err != nil {
				return err
			}
			continue
		}
		if s.first != nil {
			if err := deleteBlock(s.tx, s.merchant, s.run, s.first); err != nil {
				return err
			}
		}
		if len(s.ahead) == 0 {
			if err := s.readAhead(); err != nil {
				return err
			}
		}
		if len(s.ahead) == 0 {
			s.key, s.first = nil, []byte{}
			return nil
		}
		s.first, s.rest, s.ahead = s.ahead[0].first, s.ahead[0].keys, s.ahead[1:]
		if err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

// readAhead reads the next blocks, of which there are none at the end.
func (s *source) readAhead() error {
	if s.read == nil {
		s.read = []byte{}
	}
	return s.tx.query(func(row row) error {
		var b block
		err := row.Scan(&b.first, &b.keys)
		s.ahead = append(s.ahead, b)
		s.read = b.first
		return err
	}, `SELECT first, keys FROM lookup_blocks WHERE merchant_id = $1 AND run = $2 AND first > $3 ORDER BY first LIMIT $4`,
		string(s.merchant), s.run, s.read, readAhead)
}

// next moves on within the block.
func (s *source) next() (err error) {
	s.key, s.rest, err = nextKey(s.rest)
	return err
}

// indexes is what the look-up index may have of a customer.
type indexes struct {
	email, mobile []byte // nil for none
	revision      int64  // of the customer
}

// indexesOf returns the indexes of a customer, or [errCustomerNotFound].
func indexesOf(tx conn, m grahak.MerchantID, id grahak.CustomerID) (x indexes, err error) {
	err = tx.queryRow(`SELECT email_index, mobile_index, revision FROM customers WHERE merchant_id = $1 AND id = $2`, string(m), string(id)).
		Scan(&x.email, &x.mobile, &x.revision)
	if errors.Is(err, sql.ErrNoRows) {
		return x, errCustomerNotFound
	}
	return x, err
}

// replace takes the indexes that c, the customer as it is from now on, does not
// have out of the look-up index, and returns the keys of those that it has and
// the look-up index has not.
func (x indexes) replace(tx tx, m grahak.MerchantID, c grahak.CustomerRecord) (added [][]byte, err error) {
	for _, value := range []struct {
		was []byte
		is  grahak.ShortIndex
	}{{x.email, c.Email}, {x.mobile, c.Mobile}} {
		if bytes.Equal(value.was, value.is[:]) {
			continue
		}
		if value.was != nil {
			tx.unfound(m, value.was, c.ID)
			if err := removeKey(tx, m, lookupKey(value.was, string(c.ID))); err != nil {
				return nil, err
			}
		}
		if value.is != (grahak.ShortIndex{}) {
			added = append(added, lookupKey(value.is[:], string(c.ID)))
		}
	}
	return added, nil
}
