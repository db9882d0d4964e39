package telemetry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/telemetry"
)

// sink keeps what is written to it, write by write.
type sink struct {
	mu     sync.Mutex
	writes []string
	fault  error // returned by every write while set
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return 0, s.fault
	}
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

// messages returns the messages of the lines, which must be JSON.
func messages(tb testing.TB, text string) (list []string) {
	tb.Helper()
	for line := range strings.Lines(text) {
		var event struct {
			Msg string `json:"msg"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			tb.Fatalf("the line %q is not JSON: %v", line, err)
		}
		list = append(list, event.Msg)
	}
	return list
}

// MustClose closes a log.
func MustClose(tb testing.TB, l *telemetry.Log) {
	tb.Helper()
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
}

func TestLinesComeSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := new(sink)
		log := telemetry.NewLog(out, false, slog.LevelInfo)
		defer MustClose(t, log)
		for range 3 {
			log.Info("one")
			log.Info("two")
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			if d := cmp.Diff([]string{"one", "two"}, messages(t, out.all())); d != "" {
				t.Errorf("after a fifth of a second (-want +got):\n%s", d)
			}
			out.writes = nil
		}
	})
}

// What somebody may be waiting for is written at once, after all before it.
func TestErrorsComeAtOnce(t *testing.T) {
	t.Parallel()
	for _, derive := range []func(*slog.Logger) *slog.Logger{
		func(l *slog.Logger) *slog.Logger { return l },
		func(l *slog.Logger) *slog.Logger { return l.With("a", "b") },
		func(l *slog.Logger) *slog.Logger { return l.WithGroup("g").With("a", "b") },
	} {
		synctest.Test(t, func(t *testing.T) {
			out := new(sink)
			log := telemetry.NewLog(out, false, slog.LevelInfo)
			defer MustClose(t, log)
			logger := derive(log.Logger)
			logger.Info("one")
			logger.Warn("two")
			if got := out.all(); got != "" {
				t.Errorf("written at once: %q", got)
			}
			logger.Error("three")
			if d := cmp.Diff([]string{"one", "two", "three"}, messages(t, out.all())); d != "" {
				t.Errorf("after an error (-want +got):\n%s", d)
			}
		})
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	out := new(sink)
	log := telemetry.NewLog(out, false, slog.LevelInfo)
	log.Info("before")
	MustClose(t, log)
	if d := cmp.Diff([]string{"before"}, messages(t, out.all())); d != "" {
		t.Errorf("after the end (-want +got):\n%s", d)
	}
	log.Info("after")
	if d := cmp.Diff([]string{"before", "after"}, messages(t, out.all())); d != "" {
		t.Errorf("a line after the end (-want +got):\n%s", d)
	}
	MustClose(t, log)
}

func TestForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  bool
		level slog.Level
		want  []string // parts of the lines, in order
	}{
		{false, slog.LevelInfo, []string{`"level":"INFO","msg":"info","a":1`, `"level":"ERROR","msg":"error"`}},
		{true, slog.LevelInfo, []string{`level=INFO msg=info a=1`, `level=ERROR msg=error`}},
		{true, slog.LevelDebug, []string{`msg=debug`, `msg=info`, `msg=error`}},
		{true, slog.LevelError, []string{`msg=error`}},
	} {
		out := new(sink)
		log := telemetry.NewLog(out, c.text, c.level)
		log.Debug("debug")
		log.Info("info", "a", 1)
		log.Error("error")
		MustClose(t, log)
		lines := strings.Split(strings.TrimSuffix(out.all(), "\n"), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("text %v, level %v: got the lines %q", c.text, c.level, lines)
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(lines[i], part) {
				t.Errorf("text %v, level %v: the line %q does not hold %q", c.text, c.level, lines[i], part)
			}
		}
	}
}

// Every line is written whole and once, whoever writes at the same time.
func TestLinesStayWhole(t *testing.T) {
	t.Parallel()
	out := new(sink)
	log := telemetry.NewLog(out, false, slog.LevelInfo)
	const workers, each = 8, 200
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				// Some are longer than a block.
				log.Info(fmt.Sprintf("%d of %d", i, w), "filler", strings.Repeat("x", (i*i*7)%1000+i/199*100_000))
			}
		})
	}
	group.Wait()
	MustClose(t, log)
	if len(out.writes) >= workers*each/2 {
		t.Errorf("%d lines took %d writes", workers*each, len(out.writes))
	}
	seen := make(map[string]int)
	for _, block := range out.writes {
		if !strings.HasSuffix(block, "\n") {
			t.Fatalf("a write ends within a line: %q", block[max(0, len(block)-80):])
		}
		for _, msg := range messages(t, block) {
			seen[msg]++
		}
	}
	for w := range workers {
		for i := range each {
			if n := seen[fmt.Sprintf("%d of %d", i, w)]; n != 1 {
				t.Errorf("the line %d of %d was written %d times", i, w, n)
			}
		}
	}
}

// A log that cannot be written costs lines, not service, and goes on when it
// can be written again.
func TestBrokenLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := new(sink)
		full := errors.New("the disk is full")
		log := telemetry.NewLog(out, false, slog.LevelInfo)
		out.fail(full)
		log.Info("lost")
		log.Error("lost too")
		time.Sleep(time.Second)
		out.fail(nil)
		log.Info("kept")
		time.Sleep(time.Second)
		synctest.Wait()
		if d := cmp.Diff([]string{"kept"}, messages(t, out.all())); d != "" {
			t.Errorf("after the disk had room again (-want +got):\n%s", d)
		}
		out.fail(full)
		log.Info("lost at the end")
		if err := log.Close(); !errors.Is(err, full) {
			t.Errorf("the end tells %v, want that a line was lost", err)
		}
	})
}
