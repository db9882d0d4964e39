package main

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of processor times in /proc.
const tick = 10 * time.Millisecond

// cpuTimes are processor times since some start.
type cpuTimes struct {
	at     time.Time
	busy   time.Duration // of the whole machine, the kernel's included
	server time.Duration // of one process, see processCPU
}

// readCPU reads the processor times of the machine and of a process; 0 is this
// one.
func readCPU(pid int) (cpuTimes, error) {
	t := cpuTimes{at: time.Now()}
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, err
	}
	line, _, _ := strings.Cut(string(machine), "\n")
	// cpu user nice system idle iowait irq softirq steal …
	for i, field := range strings.Fields(line) {
		if n, err := strconv.ParseInt(field, 10, 64); err == nil && i <= 8 && i != 4 && i != 5 {
			t.busy += time.Duration(n) * tick
		}
	}
	if pid == 0 {
		pid = os.Getpid()
	}
	t.server, err = processCPU(pid)
	return t, err
}

// processCPU returns the processor time of a process and of those of its children
// that have ended.
func processCPU(pid int) (cpu time.Duration, err error) {
	process, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The program's name, in parentheses, may hold spaces.
	_, rest, _ := cutLast(string(process), ")")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, fmt.Errorf("cannot read /proc/%d/stat", pid)
	}
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		cpu += time.Duration(n) * tick
	}
	return cpu, nil
}

// memory is what a process used, in MB of 10^6 bytes.
type memory struct {
	Peak float64 `json:"peak_mb"` // VmHWM: the most that was ever resident
	// The parts of what is resident now.
	Anonymous float64 `json:"anonymous_mb"` // heap and stacks
	File      float64 `json:"file_mb"`      // pages of the program file
	Shared    float64 `json:"shared_mb"`    // the index of SQLite's log, mapped
}

func readMemory(pid int) (memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	values := map[string]*float64{"VmHWM": &m.Peak, "RssAnon": &m.Anonymous, "RssFile": &m.File, "RssShmem": &m.Shared}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		if value := values[name]; value != nil {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return memory{}, err
			}
			*value = kib * 1024 / 1e6
		}
	}
	return m, nil
}

// machine is where the figures were measured.
type machine struct {
	CPUs       int     `json:"cpus"`
	Model      string  `json:"model"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	Filesystem string  `json:"filesystem"`
	Device     string  `json:"device"`
	Rotational string  `json:"rotational"` // what the kernel says: 0 or 1
	FsyncMs    float64 `json:"fsync_ms"`   // median of appending 4 KiB and syncing
	Load       string  `json:"load_average"`
}

// describeMachine describes this machine and the disk that holds dir, which
// must be a real one.
func describeMachine(dir string) (machine, error) {
	kernel, _, _ := strings.Cut(firstLine("/proc/sys/kernel/osrelease"), "-")
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: kernel, Load: firstLine("/proc/loadavg")}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("the benchmark reads /proc, so it needs Linux: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
		}
	}
	if m.Filesystem, m.Device, err = mountOf(dir); err != nil {
		return m, err
	}
	if m.Filesystem == "tmpfs" || m.Filesystem == "ramfs" {
		return m, fmt.Errorf("%s is in memory (%s), where nothing is durable: run the benchmark from a folder on a disk", dir, m.Filesystem)
	}
	m.Rotational = firstLine("/sys/class/block/" + filepath.Base(m.Device) + "/queue/rotational")
	m.FsyncMs, err = probeFsync(dir)
	return m, err
}

func firstLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return line
}

// mountOf returns the type and the device of the file system that holds dir.
func mountOf(dir string) (fstype, device string, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return "", "", err
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	longest := 0
	for line := range strings.Lines(string(raw)) {
		// 36 35 98:0 /root /mount/point options … - type device options
		left, right, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(kind) < 2 {
			continue
		}
		at := strings.TrimSuffix(mount[4], "/") + "/"
		if strings.HasPrefix(dir+"/", at) && len(at) >= longest {
			longest, fstype, device = len(at), kind[0], kind[1]
		}
	}
	return fstype, device, nil
}

// probeFsync returns the median time to append 4 KiB to a file and sync it, in
// milliseconds.
func probeFsync(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "fsync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	var page [4096]byte
	took := make([]float64, 0, 200)
	for range cap(took) {
		start := time.Now()
		_, err := f.Write(page[:])
		if err := errors.Join(err, f.Sync()); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		took = append(took, time.Since(start).Seconds()*1e3)
	}
	return median(took), f.Close()
}

// median returns the middle of values, or 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medianOf returns the median of a figure of pairs.
func medianOf[P any](pairs []P, get func(P) float64) float64 {
	values := make([]float64, len(pairs))
	for i, p := range pairs {
		values[i] = get(p)
	}
	return median(values)
}

// halves returns the processors that this program may use, in two halves.
func halves() (first, second []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, nil, fmt.Errorf("which processors there are: %w", err)
	}
	var all []int
	for cpu := range len(set) * bits.UintSize {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	if len(all) < 2 {
		return nil, nil, errors.New("this needs two processors: one for the server, and one for what asks it")
	}
	return all[:len(all)/2], all[len(all)/2:], nil
}

// pin has this program, and what it starts from now on, run on the given processors
// only.
func pin(cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	runtime.GOMAXPROCS(len(cpus))
	// A thread that began meanwhile is seen the second time.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err == nil {
				err = unix.SchedSetaffinity(id, &set)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("a thread cannot be moved: %w", err)
			}
		}
	}
	return nil
}
