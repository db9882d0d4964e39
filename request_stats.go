package grahak

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
	"time"
)

// statsStep is for how long requests are counted together.
const statsStep = 15 * time.Minute

// maxStatsAddrs is how many addresses of a merchant are told apart in a quarter of an
// hour.
const maxStatsAddrs = 256

// maxStatsKinds is how many kinds of answers are.
const maxStatsKinds = 512

// quarter is what a process has answered to a merchant in a quarter of an hour.
type quarter struct {
	at      time.Time
	kinds   map[answerKind]int64
	created int64
	took    latencies
	addrs   map[netip.Addr]*AddressUse
	dirty   bool // not written as it is
}

// answerKind is what answers are told apart by.
type answerKind struct {
	status int
	code   string
}

func newQuarter(at time.Time) *quarter {
	return &quarter{at: at, kinds: make(map[answerKind]int64), addrs: make(map[netip.Addr]*AddressUse)}
}

// add counts a request.
func (q *quarter) add(r RequestRecord) {
	q.dirty = true
	kind := answerKind{r.Status, r.Code}
	if _, known := q.kinds[kind]; !known && len(q.kinds) >= maxStatsKinds {
		kind.code = ""
	}
	q.kinds[kind]++
	if r.Created {
		q.created++
	}
	q.took.add(r.Took)
	if r.Refusal != "" || !r.Addr.IsValid() {
		return
	}
	use := q.addrs[r.Addr]
	if use == nil {
		if len(q.addrs) >= maxStatsAddrs {
			return
		}
		use = &AddressUse{Addr: r.Addr}
		q.addrs[r.Addr] = use
	}
	use.Requests++
	if r.Code == string(CodeIPNotWhitelisted) {
		use.Refused++
	}
	if r.IPReport {
		use.WouldRefuse++
	}
	if r.At.After(use.LastAt) {
		use.LastAt = r.At
	}
}

// latencies counts durations in steps of an eighth: bucket i holds those from
// latencyFloor(i) µs on.
type latencies [8 * 32]uint32

func latencyBucket(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < 16 {
		return int(us)
	}
	top := bits.Len64(us) - 1 // at least 4
	return min((top-2)*8+int(us>>(top-3)&7), len(latencies{})-1)
}

// latencyFloor is the least duration of a bucket, in µs.
func latencyFloor(i int) uint64 {
	if i < 16 {
		return uint64(i)
	}
	return uint64(8+i%8) << (i/8 - 1)
}

func (l *latencies) add(d time.Duration) { l[latencyBucket(d)]++ }

func (l *latencies) merge(other *latencies) {
	for i, n := range other {
		l[i] += n
	}
}

// percentile returns the duration that a part of all are at most as long as, from 0 to
// 1, 0 without any: the middle of its bucket.
func (l *latencies) percentile(part float64) time.Duration {
	total := uint64(0)
	for _, n := range l {
		total += uint64(n)
	}
	rank, seen := uint64(part*float64(total)+0.5), uint64(0)
	for i, n := range l {
		if seen += uint64(n); n > 0 && seen >= max(1, rank) {
			return time.Duration(latencyFloor(i)+latencyFloor(i+1)) * time.Microsecond / 2
		}
	}
	return 0
}

const statsVersion = 1

// encode returns the quarter as [RequestStats] have it: a version byte, the customers
// made, and lists of kinds, latencies and addresses, each behind its length.
func (q *quarter) encode() []byte {
	buf := append(make([]byte, 0, 256), statsVersion)
	put := func(v int64) { buf = binary.AppendUvarint(buf, uint64(v)) }
	text := func(s string) {
		put(int64(len(s)))
		buf = append(buf, s...)
	}
	put(q.created)
	put(int64(len(q.kinds)))
	for kind, n := range q.kinds {
		put(int64(kind.status))
		text(kind.code)
		put(n)
	}
	filled := int64(0)
	for _, n := range q.took {
		if n > 0 {
			filled++
		}
	}
	put(filled)
	for i, n := range q.took {
		if n > 0 {
			put(int64(i))
			put(int64(n))
		}
	}
	put(int64(len(q.addrs)))
	for addr, use := range q.addrs {
		text(string(addr.AsSlice()))
		put(use.Requests)
		put(use.Refused)
		put(use.WouldRefuse)
		put(use.LastAt.UnixMicro())
	}
	return buf
}

var errStats = errors.New("grahak: statistics of the request log are damaged")

// addEncoded adds the counts of encoded statistics, which may be anything.
func (q *quarter) addEncoded(data []byte) error {
	if len(data) == 0 || data[0] != statsVersion {
		return errStats
	}
	r := blockReader{rows: data[1:]}
	count := func() int64 { return int64(r.uvarint() & (1<<63 - 1)) }
	q.created += count()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		kind := answerKind{status: int(min(r.uvarint(), maxStatus)), code: r.text()}
		q.kinds[kind] += count()
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		bucket, times := r.uvarint(), count()
		if bucket < uint64(len(q.took)) {
			q.took[bucket] += uint32(times)
		}
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		addr, ok := netip.AddrFromSlice([]byte(r.text()))
		use := AddressUse{Addr: addr, Requests: count(), Refused: count(), WouldRefuse: count()}
		use.LastAt = time.UnixMicro(count()).UTC()
		if ok && !r.bad {
			q.addUse(use)
		}
	}
	if r.bad {
		return errStats
	}
	return nil
}

// addUse adds what there was of an address.
func (q *quarter) addUse(use AddressUse) {
	sum := q.addrs[use.Addr]
	if sum == nil {
		sum = &AddressUse{Addr: use.Addr}
		q.addrs[use.Addr] = sum
	}
	sum.Requests += use.Requests
	sum.Refused += use.Refused
	sum.WouldRefuse += use.WouldRefuse
	if use.LastAt.After(sum.LastAt) {
		sum.LastAt = use.LastAt
	}
}

// addAll adds the counts of another quarter.
func (q *quarter) addAll(other *quarter) {
	q.created += other.created
	for kind, n := range other.kinds {
		q.kinds[kind] += n
	}
	q.took.merge(&other.took)
	for _, use := range other.addrs {
		q.addUse(*use)
	}
}

// point returns the quarter as a point of a chart.
func (q *quarter) point() TrafficPoint {
	p := TrafficPoint{At: q.at, Created: q.created, P50: q.took.percentile(0.50), P95: q.took.percentile(0.95), P99: q.took.percentile(0.99)}
	for kind, n := range q.kinds {
		p.Requests += n
		switch {
		case kind.status >= 500:
			p.ServerErrors += n
		case kind.status >= 400:
			p.ClientErrors += n
		}
	}
	return p
}
