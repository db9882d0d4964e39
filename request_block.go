package grahak

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The rows of a block are a version byte, the microseconds of the first row as an
// unsigned varint, and the rows, each of them
//
//	varint  microseconds since the row before, which may be negative
//	uvarint microseconds that the answer took
//	uvarint status
//	byte    flags
//	word    method, route, code, key, refusal, limit, address
//	text    request id, customer id
//
// where a text is a length and bytes, and a word is 0 for an empty one, n for the nth
// that the block has, or the number of those it has plus 1 and then a text.
const blockVersion = 1

const (
	blockIPReport = 1 << iota
	blockCreated
)

// blockWriter encodes requests of a merchant into a block. It is used by one goroutine
// at a time.
type blockWriter struct {
	rows     []byte
	words    map[string]uint64
	addrs    map[netip.Addr]uint64 // their words
	hashes   []uint64              // of the ids that the filter is to tell
	last     int64
	from, to int64
	count    int64
}

// word appends a word.
func (w *blockWriter) word(s string) {
	if s == "" {
		w.rows = append(w.rows, 0)
		return
	}
	n, known := w.words[s]
	if !known {
		n = uint64(len(w.words)) + 1
		w.words[strings.Clone(s)] = n
	}
	w.rows = binary.AppendUvarint(w.rows, n)
	if !known {
		w.text(s)
	}
}

func (w *blockWriter) text(s string) {
	w.rows = binary.AppendUvarint(w.rows, uint64(len(s)))
	w.rows = append(w.rows, s...)
}

// addr appends the word of an address, its bytes.
func (w *blockWriter) addr(a netip.Addr) {
	n, known := w.addrs[a]
	if known {
		w.rows = binary.AppendUvarint(w.rows, n)
		return
	}
	w.word(string(a.AsSlice()))
	if a.IsValid() {
		w.addrs[a] = w.words[string(a.AsSlice())]
	}
}

// add appends a request.
func (w *blockWriter) add(r RequestRecord) {
	at := r.At.UnixMicro()
	if w.count == 0 {
		if w.words == nil {
			w.words, w.addrs = make(map[string]uint64), make(map[netip.Addr]uint64)
		}
		w.rows = append(w.rows, blockVersion)
		w.rows = binary.AppendUvarint(w.rows, uint64(at))
		w.last, w.from, w.to = at, at, at
	}
	w.rows = binary.AppendVarint(w.rows, at-w.last)
	w.last, w.from, w.to = at, min(w.from, at), max(w.to, at)
	w.rows = binary.AppendUvarint(w.rows, uint64(max(0, r.Took.Microseconds())))
	w.rows = binary.AppendUvarint(w.rows, uint64(r.Status))
	var flags byte
	if r.IPReport {
		flags |= blockIPReport
	}
	if r.Created {
		flags |= blockCreated
	}
	w.rows = append(w.rows, flags)
	w.word(r.Method)
	w.word(r.Route)
	w.word(r.Code)
	w.word(string(r.Key))
	w.word(string(r.Refusal))
	w.word(string(r.Limit))
	w.addr(r.Addr)
	w.text(r.RequestID)
	w.text(string(r.Customer))
	w.hashes = append(w.hashes, filterHash(r.RequestID))
	if r.Customer != "" {
		w.hashes = append(w.hashes, filterHash(string(r.Customer)))
	}
	w.count++
}

// block returns what was added as a block, whose id ends with random.
func (w *blockWriter) block(m MerchantID, random [8]byte) RequestBlock {
	b := RequestBlock{
		Merchant: m,
		From:     time.UnixMicro(w.from).UTC(),
		To:       time.UnixMicro(w.to).UTC(),
		Count:    w.count,
		Filter:   newFilterBits(w.hashes),
		Rows:     w.rows,
	}
	binary.BigEndian.PutUint64(b.ID[:8], uint64(w.to))
	copy(b.ID[8:], random[:])
	return b
}

var errBlock = errors.New("grahak: a block of the request log is damaged")

// blockReader decodes rows, which may be anything.
type blockReader struct {
	rows  []byte
	words []string
	bad   bool
}

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rows)
	if n <= 0 {
		r.bad, r.rows = true, nil
		return 0
	}
	r.rows = r.rows[n:]
	return v
}

func (r *blockReader) varint() int64 {
	v, n := binary.Varint(r.rows)
	if n <= 0 {
		r.bad, r.rows = true, nil
		return 0
	}
	r.rows = r.rows[n:]
	return v
}

func (r *blockReader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rows)) {
		r.bad, r.rows = true, nil
		return ""
	}
	s := string(r.rows[:n])
	r.rows = r.rows[n:]
	return s
}

func (r *blockReader) word() string {
	n := r.uvarint()
	switch known := uint64(len(r.words)); {
	case n == 0:
		return ""
	case n <= known:
		return r.words[n-1]
	case n == known+1 && !r.bad:
		s := r.text()
		r.words = append(r.words, s)
		return s
	}
	r.bad, r.rows = true, nil
	return ""
}

// maxTook is more µs than an answer takes, and maxStatus more than any HTTP status.
const (
	maxTook   = 1 << 40
	maxStatus = 1000
)

// readBlock calls each with the requests of a block of the merchant, in the order in
// which they were added. It returns an error for rows that are none.
func readBlock(m MerchantID, rows []byte, each func(RequestRecord)) error {
	r := blockReader{rows: rows}
	if len(rows) == 0 || rows[0] != blockVersion {
		return errBlock
	}
	r.rows = rows[1:]
	at := int64(r.uvarint())
	for len(r.rows) > 0 {
		at += r.varint()
		record := RequestRecord{Merchant: m, At: time.UnixMicro(at).UTC()}
		record.Took = time.Duration(min(r.uvarint(), maxTook)) * time.Microsecond
		record.Status = int(min(r.uvarint(), maxStatus))
		if len(r.rows) == 0 {
			return errBlock
		}
		flags := r.rows[0]
		r.rows = r.rows[1:]
		record.IPReport, record.Created = flags&blockIPReport != 0, flags&blockCreated != 0
		record.Method, record.Route, record.Code = r.word(), r.word(), r.word()
		record.Key, record.Refusal, record.Limit = KeyID(r.word()), Refusal(r.word()), LimitKind(r.word())
		record.Addr, _ = netip.AddrFromSlice([]byte(r.word()))
		record.RequestID, record.Customer = r.text(), CustomerID(r.text())
		if r.bad {
			return errBlock
		}
		each(record)
	}
	if r.bad {
		return errBlock
	}
	return nil
}

// A filter is a Bloom filter with twelve bits a value, in which each value sets
// filterProbes: it says yes to one in 300 that it does not have.
const filterProbes = 6

func filterHash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	// The low bits of FNV alone are too much alike for ids that are.
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

func newFilterBits(hashes []uint64) []byte {
	filter := make([]byte, (12*len(hashes)+7)/8)
	for _, h := range hashes {
		filterBits(filter, h, func(at *byte, bit byte) bool {
			*at |= bit
			return true
		})
	}
	return filter
}

// mayHold reports whether the value with a hash may be among those of a filter. Any
// may be for an empty one.
func mayHold(filter []byte, h uint64) bool {
	return filterBits(filter, h, func(at *byte, bit byte) bool { return *at&bit != 0 })
}

// filterBits calls each for the bits of a hash until it returns false, and returns
// what it returned last.
func filterBits(filter []byte, h uint64, each func(at *byte, bit byte) bool) bool {
	step := h>>32 | 1
	for range min(filterProbes, filterProbes*len(filter)) {
		bit := h % uint64(len(filter)*8)
		if !each(&filter[bit/8], 1<<(bit%8)) {
			return false
		}
		h += step
	}
	return true
}

// newestFirst orders requests, those of one moment by their ids.
func newestFirst(a, b RequestRecord) int {
	if c := b.At.Compare(a.At); c != 0 {
		return c
	}
	return strings.Compare(b.RequestID, a.RequestID)
}

// mergeBlocks returns one block with the requests of several, in order of time. Those
// of a block that is damaged are left out.
func mergeBlocks(m MerchantID, rows [][]byte, random [8]byte) RequestBlock {
	var all []RequestRecord
	for _, b := range rows {
		_ = readBlock(m, b, func(r RequestRecord) { all = append(all, r) })
	}
	slices.SortFunc(all, newestFirst)
	var w blockWriter
	for _, r := range slices.Backward(all) {
		w.add(r)
	}
	b := w.block(m, random)
	b.Rows = bytes.Clone(b.Rows)
	return b
}
