package telemetry

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// lineHandler writes records as JSON, a line each, exactly as the handler of slog that it
// has would write them, and hands those to it that hold more than plain texts and whole
// numbers: every request is a line, and finding out how to write a value costs slog more
// than writing it. It is safe for concurrent use.
type lineHandler struct {
	slog.Handler
	writer *blockWriter
	second *atomic.Pointer[second]
}

func newLineHandler(w *blockWriter, options *slog.HandlerOptions) lineHandler {
	return lineHandler{Handler: slog.NewJSONHandler(w, options), writer: w, second: new(atomic.Pointer[second])}
}

// second is how the times of a second are written: what comes before the fraction, and
// what comes after it.
type second struct {
	unix          int64
	place         *time.Location
	before, after string
}

// lines are buffers for one line each.
var lines = sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }}

// Handle implements [slog.Handler].
func (h lineHandler) Handle(ctx context.Context, r slog.Record) error {
	space, _ := lines.Get().(*[]byte)
	defer lines.Put(space)
	line, ok := h.appendRecord((*space)[:0], r)
	*space = line
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	_, err := h.writer.Write(line)
	return err
}

// appendRecord appends the line of a record, and reports whether it could.
func (h lineHandler) appendRecord(line []byte, r slog.Record) ([]byte, bool) {
	if r.Time.IsZero() || !plainText(r.Message) {
		return line, false
	}
	line = append(line, `{"time":"`...)
	line = h.appendTime(line, r.Time)
	line = append(line, `","level":"`...)
	line = append(line, r.Level.String()...)
	line = append(line, `","msg":"`...)
	line = append(line, r.Message...)
	line = append(line, '"')
	all := true
	r.Attrs(func(a slog.Attr) bool {
		line, all = appendPlain(line, a)
		return all
	})
	return append(line, "}\n"...), all
}

// appendPlain appends a member, and reports whether it could.
func appendPlain(line []byte, a slog.Attr) ([]byte, bool) {
	if !plainText(a.Key) {
		return line, false
	}
	line = append(line, `,"`...)
	line = append(line, a.Key...)
	line = append(line, `":`...)
	switch a.Value.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(line, a.Value.Int64(), 10), true
	case slog.KindString:
		text := a.Value.String()
		if !plainText(text) {
			return line, false
		}
		line = append(line, '"')
		line = append(line, text...)
		return append(line, '"'), true
	}
	return line, false
}

// plainText reports whether a JSON string holds s as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendTime appends t as [time.RFC3339Nano] has it.
func (h lineHandler) appendTime(line []byte, t time.Time) []byte {
	known := h.second.Load()
	if known == nil || known.unix != t.Unix() || known.place != t.Location() {
		known = &second{unix: t.Unix(), place: t.Location(), before: t.Format("2006-01-02T15:04:05"), after: t.Format("Z07:00")}
		h.second.Store(known)
	}
	line = append(line, known.before...)
	if ns := t.Nanosecond(); ns != 0 {
		digits := [10]byte{0: '.'}
		last := 0
		for i := 9; i > 0; i-- {
			digits[i] = '0' + byte(ns%10)
			if last == 0 && ns%10 != 0 {
				last = i
			}
			ns /= 10
		}
		line = append(line, digits[:last+1]...)
	}
	return append(line, known.after...)
}
