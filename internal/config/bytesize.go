package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ByteSize is a setting in bytes that also takes units, as in 500MB or 1GiB.
type ByteSize int64

var byteUnits = []struct {
	name  string
	bytes float64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}

// String writes the size in the largest unit that it is a whole number of.
func (s ByteSize) String() string {
	for _, u := range byteUnits {
		if n := float64(s) / u.bytes; n >= 1 && n == math.Trunc(n) {
			return strconv.FormatFloat(n, 'f', -1, 64) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *ByteSize) UnmarshalText(text []byte) error {
	number, unit := string(text), 1.0
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || n*unit > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size: write it like 500MB, 64MiB or 1GiB", text)
	}
	*s = ByteSize(n * unit)
	return nil
}
