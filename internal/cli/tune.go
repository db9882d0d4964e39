package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// maxGarbage is how much garbage there may be before it is collected, in bytes,
	// as long as that is not less than the live heap.
	maxGarbage = 48 << 20
	// leastGarbage and mostGarbage are its bounds in per cent of the live heap; the first is
	// Go's default.
	leastGarbage, mostGarbage = 100, 400
)

// tuneGC lets garbage grow to four times the live heap before it is collected, while
// that is small: some megabytes more memory for a quarter of the collector's work. With
// many connections it is not, and garbage is bounded. GOGC wins. What starting took
// is collected before, or it would be taken for a part of the live heap, and be multiplied
// as well: twice, because what is in pools survives a collection, and migrations leave
// 16 MB there.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		runtime.GC()
		runtime.GC()
		debug.SetGCPercent(mostGarbage)
		tuneNextGC(mostGarbage)
	}
}

// tuneNextGC sets the garbage collector, which is at percent, after each of its cycles.
func tuneNextGC(percent int) {
	// It is garbage at once, so its end is that of a cycle. Without a pointer and of 16 bytes
	// it would not be alone in its memory.
	sign := new([4]uint64)
	runtime.AddCleanup(sign, func(percent int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		wanted := garbagePercent(live[0].Value.Uint64())
		// To set it stops everything for a moment.
		if wanted*10 < percent*9 || wanted*9 > percent*10 {
			debug.SetGCPercent(wanted)
			percent = wanted
		}
		tuneNextGC(percent)
	}, percent)
}

// garbagePercent returns how much garbage there may be, in per cent of the live heap,
// which is that many bytes.
func garbagePercent(live uint64) int {
	return int(min(max(100*maxGarbage/max(live, 1), leastGarbage), mostGarbage))
}

// tuneProcs lets two more goroutines run than there are processors: the writer and
// the checkpoints of SQLite are in calls of the system for most of their time, and would
// come back from each behind all requests that wait for a processor. GOMAXPROCS
// wins. A limit of processors that changes while the server runs is not followed.
func tuneProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
}
