package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// imported is what is known of a store that `grahak import` has filled. It is kept
// beside the store's data, in importedFile.
type imported struct {
	Key       string  `json:"key"`
	Customers int     `json:"customers"`
	Seconds   float64 `json:"seconds"`
	Memory    memory  `json:"memory"` // of the import
	Disk      disk    `json:"disk"`   // with all events in order, before any request is logged
	// Rates is rows a second over the seconds since the beginning.
	Rates []point `json:"rates"`
}

const importedFile = "import.json"

// open starts the store with that many customers whose data is under dir. Where
// there is none yet, they are imported before.
func (s *store) open(ctx context.Context, b *bench, name, dir string, customers int) (made imported, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, importedFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if made, err = b.fillByImport(ctx, name, dir, customers); err != nil {
			return made, err
		}
	case err != nil:
		return made, err
	default:
		if err := json.Unmarshal(raw, &made); err != nil {
			return made, err
		}
		if made.Customers != customers {
			return made, fmt.Errorf("the store in %s has %d customers, not %d: give -large %d, or another -store", dir, made.Customers, customers, made.Customers)
		}
	}
	if s.grahak, err = startGrahak(ctx, name, b.program, dir, made.Key); err != nil {
		return made, err
	}
	return made, s.sample(ctx, customers)
}

// sample finds what the reads choose among.
func (s *store) sample(ctx context.Context, customers int) (err error) {
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.made = newPopulation(s.grahak, customers)
	ids := make([]string, s.made.sampled())
	if err := concurrently(ctx, len(ids), func(ctx context.Context, i int) error {
		answer, err := send(ctx, http.MethodGet, s.url+"/customers/"+populated(i*s.made.step()), s.key, "")
		if err != nil {
			return err
		}
		var customer struct{ ID string }
		err = json.Unmarshal(answer.Body, &customer)
		ids[i] = customer.ID
		return err
	}); err != nil {
		return err
	}
	if err := s.made.write(ids); err != nil {
		return err
	}
	s.cursors, err = s.grahak.cursors(ctx, customers, pageSize)
	return err
}

// fillByImport makes an empty instance under dir, imports that many customers into it
// from a file, and writes down what was seen.
func (b *bench) fillByImport(ctx context.Context, name, dir string, customers int) (made imported, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return made, err
	}
	g, err := startGrahak(ctx, name, b.program, dir, "")
	if err != nil {
		return made, err
	}
	made = imported{Key: g.key, Customers: customers}
	if err := g.stop(); err != nil {
		return made, err
	}
	file := filepath.Join(dir, "customers.csv")
	fmt.Fprintf(b.out, "Writing a file of %d customers …\n", customers)
	if err := writeCustomers(file, customers); err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	fmt.Fprintf(b.out, "Importing it …\n")
	if err := made.run(ctx, g, file); err != nil {
		return made, err
	}
	fmt.Fprintf(b.out, "That took %.1f s (%.0f/s), and %.1f MB at most.\n", made.Seconds, float64(customers)/made.Seconds, made.Memory.Peak)
	if made.Disk, err = b.weighImported(ctx, name, dir, g.key); err != nil {
		return made, err
	}
	raw, err := json.Marshal(made)
	if err != nil {
		return made, err
	}
	return made, os.WriteFile(filepath.Join(dir, importedFile), raw, 0o600)
}

// weighImported returns what an import has left under dir, once a server has done what
// was left to do.
func (b *bench) weighImported(ctx context.Context, name, dir, key string) (d disk, err error) {
	var s store
	if s.grahak, err = startGrahak(ctx, name, b.program, dir, key); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := errors.Join(s.catchUp(ctx), s.settle(ctx)); err != nil {
		return d, err
	}
	return s.stopAndWeigh(ctx)
}

// importPoll is how often it is looked how far an import is.
const importPoll = 2 * time.Second

// run imports the file into g's data folder, on which no server runs.
func (m *imported) run(ctx context.Context, g *grahak, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, g.program, "import", file, "--data", g.data(), "--merchant", "demo")
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(importPoll)
	defer tick.Stop()
	var last point
	for {
		select {
		case err := <-ended:
			m.Seconds = time.Since(start).Seconds()
			if err != nil {
				return fmt.Errorf("grahak import: %w\n%s", err, said.String())
			}
			return nil
		case <-tick.C:
		}
		// Both fail once the process has ended.
		if now, err := readMemory(cmd.Process.Pid); err == nil && now.Peak > 0 {
			m.Memory = now
		}
		if read, err := readOffset(cmd.Process.Pid, file); err == nil {
			now := point{time.Since(start).Seconds(), float64(read) / float64(info.Size()) * float64(m.Customers)}
			m.Rates = append(m.Rates, point{now.X, (now.Y - last.Y) / (now.X - last.X)})
			last = now
		}
	}
}

// readOffset returns how far a process has read a file that it has open.
func readOffset(pid int, file string) (int64, error) {
	opened := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(opened)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if path, err := os.Readlink(filepath.Join(opened, entry.Name())); err != nil || path != file {
			continue
		}
		position := strings.TrimPrefix(firstLine(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, entry.Name())), "pos:")
		return strconv.ParseInt(strings.TrimSpace(position), 10, 64)
	}
	return 0, fmt.Errorf("process %d has not opened %s", pid, file)
}

// writeCustomers writes a file for `grahak import` with the customers that populate
// would make.
func writeCustomers(file string, customers int) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	defer func() { err = errors.Join(err, w.Flush()) }()
	if _, err := io.WriteString(w, "object_reference_id,mobile_number,email_address,first_name,last_name\n"); err != nil {
		return err
	}
	for i := range customers {
		reference := strings.Replace(populated(i), "%40", "@", 1)
		if _, err := fmt.Fprintf(w, "%s,%s,%s,Asha,Rao\n", reference, populatedMobile(i), reference); err != nil {
			return err
		}
	}
	return nil
}

// concurrently calls do with each number below n, 64 at a time, until one fails.
func concurrently(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	const workers = 64
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				if err := do(ctx, i); err != nil {
					fail(err)
				}
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}
