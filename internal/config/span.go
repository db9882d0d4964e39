package config

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Span is a duration setting that also takes days, as in 90d.
type Span time.Duration

// String writes whole days as days.
func (s Span) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(s); d < day || d%day != 0 {
		return d.String()
	}
	return fmt.Sprintf("%dd", time.Duration(s)/day)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Span) UnmarshalText(text []byte) error {
	in := string(text)
	if days, ok := strings.CutSuffix(in, "d"); ok {
		in = days + "h"
	}
	d, err := time.ParseDuration(in)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration: write it like 90d, 24h or 30m", text)
	}
	if in != string(text) {
		if d > math.MaxInt64/24 {
			return fmt.Errorf("%q is too long: at most %dd", text, math.MaxInt64/24/time.Hour)
		}
		d *= 24
	}
	*s = Span(d)
	return nil
}
