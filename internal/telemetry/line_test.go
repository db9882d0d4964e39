package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/telemetry"
)

// TestLinesAreThoseOfSlog holds every line against what slog's own handler writes.
func TestLinesAreThoseOfSlog(t *testing.T) {
	t.Parallel()
	india := time.FixedZone("IST", 5*3600+1800)
	noon := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	request := []slog.Attr{
		slog.String("request_id", "abc-123_.~"), slog.String("method", "GET"), slog.String("route", "/customers/{id}"),
		slog.Int("status", 200), slog.Int64("duration_us", 52), slog.String("merchant", "acme"), slog.String("addr", "::1"),
	}
	for name, c := range map[string]struct {
		at      time.Time
		level   slog.Level
		message string
		attrs   []slog.Attr
	}{
		"request":             {at: noon, message: "request", attrs: request},
		"no members":          {at: noon, message: "ready"},
		"fraction":            {at: noon.Add(123_456_789), message: "request", attrs: request},
		"fraction with zeros": {at: noon.Add(1_020_300), message: "request", attrs: request},
		"a nanosecond":        {at: noon.Add(1), message: "request"},
		"half a second":       {at: noon.Add(time.Second / 2), message: "request"},
		"elsewhere":           {at: noon.In(india), message: "request", attrs: request},
		"here":                {at: noon.Local(), message: "request", attrs: request},
		"no time":             {message: "request", attrs: request},
		"error":               {at: noon, level: slog.LevelError, message: "request", attrs: append(request[:len(request):len(request)], slog.String("error", "disk full"))},
		"odd level":           {at: noon, level: slog.LevelWarn + 1, message: "request"},
		"quotes":              {at: noon, message: `say "hello"`, attrs: []slog.Attr{slog.String("a", `\`)}},
		"lines":               {at: noon, message: "a\nb", attrs: []slog.Attr{slog.String("a", "b\tc\x00\x7f")}},
		"other scripts":       {at: noon, message: "request", attrs: []slog.Attr{slog.String("name", "आशा <&>"), slog.String("bad", "\xff\u2028")}},
		"plain, then not":     {at: noon, message: "request", attrs: []slog.Attr{slog.String("a", "b"), slog.Int("n", -7), slog.String("c", `"`)}},
		"strange key":         {at: noon, message: "request", attrs: []slog.Attr{slog.String(`a"b`, "c")}},
		"no key":              {at: noon, message: "request", attrs: []slog.Attr{slog.String("", "c"), {}}},
		"empty text":          {at: noon, message: "", attrs: []slog.Attr{slog.String("a", "")}},
		"other kinds": {at: noon, message: "request", attrs: []slog.Attr{
			slog.Bool("yes", true), slog.Duration("d", time.Second), slog.Time("t", noon), slog.Float64("f", 1.5), slog.Uint64("u", 1<<63),
			slog.Any("err", errors.New("no")), slog.Group("g", slog.Int("n", 1)), slog.Group("empty"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want bytes.Buffer
			out := new(sink)
			log := telemetry.NewLog(out, false, slog.LevelInfo)
			for _, h := range []slog.Handler{slog.NewJSONHandler(&want, nil), log.Handler()} {
				// Twice, because a time may be remembered.
				for range 2 {
					r := slog.NewRecord(c.at, c.level, c.message, 0)
					r.AddAttrs(c.attrs...)
					if err := h.Handle(context.Background(), r); err != nil {
						t.Fatal(err)
					}
				}
			}
			MustClose(t, log)
			if diff := cmp.Diff(want.String(), out.all()); diff != "" {
				t.Errorf("lines, -slog +ours:\n%s", diff)
			}
		})
	}
}

// TestLinesFollowTheClock has one log write times of many seconds and places.
func TestLinesFollowTheClock(t *testing.T) {
	t.Parallel()
	var want bytes.Buffer
	out := new(sink)
	log := telemetry.NewLog(out, false, slog.LevelInfo)
	begin := time.Date(2026, 12, 31, 23, 59, 58, 0, time.UTC)
	for _, h := range []slog.Handler{slog.NewJSONHandler(&want, nil), log.Handler()} {
		for i := range 20 {
			at := begin.Add(time.Duration(i) * 333 * time.Millisecond)
			for _, place := range []*time.Location{time.UTC, time.FixedZone("IST", 19800), time.FixedZone("NST", -12600)} {
				if err := h.Handle(context.Background(), slog.NewRecord(at.In(place), slog.LevelInfo, "tick", 0)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	MustClose(t, log)
	if diff := cmp.Diff(want.String(), out.all()); diff != "" {
		t.Errorf("lines, -slog +ours:\n%s", diff)
	}
}

// TestMembersOfALogger has a logger whose lines all have a member and a group.
func TestMembersOfALogger(t *testing.T) {
	t.Parallel()
	out := new(sink)
	log := telemetry.NewLog(out, false, slog.LevelInfo)
	for _, h := range []slog.Handler{log.With("part", "api").Handler(), log.WithGroup("api").Handler()} {
		r := slog.NewRecord(time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC), slog.LevelInfo, "ready", 0)
		r.AddAttrs(slog.Int("n", 1))
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	MustClose(t, log)
	want := `{"time":"2026-02-28T12:00:00Z","level":"INFO","msg":"ready","part":"api","n":1}` + "\n" +
		`{"time":"2026-02-28T12:00:00Z","level":"INFO","msg":"ready","api":{"n":1}}` + "\n"
	if diff := cmp.Diff(want, out.all()); diff != "" {
		t.Errorf("lines, -want +got:\n%s", diff)
	}
}

func BenchmarkRequestLine(b *testing.B) {
	log := telemetry.NewLog(new(discard), false, slog.LevelInfo)
	defer func() { _ = log.Close() }()
	handler := log.Handler()
	attrs := []slog.Attr{
		slog.String("request_id", "abcdefghijklmnopqrst"), slog.String("method", "GET"), slog.String("route", "/customers/{id}"),
		slog.Int("status", 200), slog.Int64("duration_us", 52), slog.String("merchant", "acme"), slog.String("key", "key_abcdefghijkl"),
		slog.String("customer", "cst_abcdefghijklmnop"), slog.String("addr", "127.0.0.1"),
	}
	b.ReportAllocs()
	for b.Loop() {
		r := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
		r.AddAttrs(attrs...)
		_ = handler.Handle(context.Background(), r)
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
