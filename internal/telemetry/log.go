// Package telemetry is how the service is watched: its log and its metrics.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Log is a logger whose lines are written in blocks: a system call for each
// request would cost more than many requests do.
type Log struct {
	*slog.Logger
	writer *blockWriter
}

// NewLog returns a log on w: text for people, or JSON, a line per event. Lines
// of level error and above are written at once, others at the latest after
// flushInterval. Close writes what is left.
func NewLog(w io.Writer, text bool, level slog.Level) *Log {
	bw := &blockWriter{out: w, quit: make(chan struct{}), stopped: make(chan struct{})}
	go bw.run()
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = newLineHandler(bw, options)
	if text {
		handler = slog.NewTextHandler(bw, options)
	}
	return &Log{Logger: slog.New(urgentHandler{handler, bw}), writer: bw}
}

// Close writes the lines that wait. Later lines are written at once.
func (l *Log) Close() error { return l.writer.close() }

const (
	blockSize     = 32 << 10
	flushInterval = 200 * time.Millisecond
)

// urgentHandler flushes after lines that somebody may be waiting for.
type urgentHandler struct {
	slog.Handler
	writer *blockWriter
}

func (h urgentHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if err == nil && r.Level >= slog.LevelError {
		return h.writer.flush()
	}
	return err
}

func (h urgentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgentHandler{h.Handler.WithAttrs(attrs), h.writer}
}

func (h urgentHandler) WithGroup(name string) slog.Handler {
	return urgentHandler{h.Handler.WithGroup(name), h.writer}
}

// blockWriter collects lines into blocks. It is safe for concurrent use.
type blockWriter struct {
	mu      sync.Mutex
	out     io.Writer
	block   []byte
	closed  bool
	quit    chan struct{}
	stopped chan struct{}
}

// Write takes one line. A line is never split over two blocks, so that another
// writer of the same file cannot come between its parts. Lines that cannot be
// written are lost: a full disk must not stop the service.
func (w *blockWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.block)+len(line) > blockSize {
		_ = w.flushLocked()
	}
	w.block = append(w.block, line...)
	if w.closed {
		return len(line), w.flushLocked()
	}
	return len(line), nil
}

func (w *blockWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushLocked()
}

func (w *blockWriter) flushLocked() error {
	if len(w.block) == 0 {
		return nil
	}
	_, err := w.out.Write(w.block)
	w.block = w.block[:0]
	return err
}

// run flushes every flushInterval until close.
func (w *blockWriter) run() {
	defer close(w.stopped)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = w.flush()
		case <-w.quit:
			return
		}
	}
}

func (w *blockWriter) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.quit)
	w.mu.Unlock()
	<-w.stopped
	return w.flush()
}
