package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"grahak/internal/config"
)

// jsonFlag chooses output for programs.
type jsonFlag struct {
	JSON bool `name:"json" env:"GRAHAK_JSON" help:"Print JSON for programs; of a list, one object a line."`
}

// printJSON prints v on a line of its own.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table prints rows under a heading, in aligned columns. Values come from
// outside, so control characters are replaced.
func table(w io.Writer, heading []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '�'
		}
		return r
	}, s)
}

// count prints how many there are of what, which takes an s for all numbers but
// one.
func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// stamp prints a time for people, and nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// jsonTime prints a time for programs, and null for none.
func jsonTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339)
	return &s
}

// shellWord is s as one word of a shell's command line.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// span is a duration flag that also takes days, as in 90d.
type span = config.Span

// moment is a time flag.
type moment struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler. It takes RFC 3339, as the
// wire does, and a day, which is its start in UTC.
func (m *moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			m.Time = t
			return nil
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05", string(text)); err == nil {
		return fmt.Errorf("%q has no zone: end it with Z for UTC, or with an offset such as +05:30", text)
	}
	return fmt.Errorf("%q is not a time: write it like 2026-03-17T14:13:37Z or, for the start of a day, 2026-03-17", text)
}
