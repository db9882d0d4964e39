package config_test

import (
	"testing"

	"grahak/internal/config"
)

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		size config.ByteSize
		text string
	}{
		"1GiB":    {1 << 30, "1GiB"},
		"1024MiB": {1 << 30, "1GiB"},
		"500MB":   {500e6, "500MB"},
		"1.5 GiB": {3 << 29, "1536MiB"},
		"1000":    {1000, "1kB"},
		"1025":    {1025, "1025B"},
		"0":       {0, "0"},
	} {
		var got config.ByteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want.size || got.String() != want.text {
			t.Errorf("%q is %d (%s), %v; want %d (%s)", text, int64(got), got, err, int64(want.size), want.text)
		}
	}
	for _, text := range []string{"", "GiB", "1 gigabyte", "-1GiB", "NaN", "Inf", "9999999999GiB", "1GiB2"} {
		var got config.ByteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d bytes", text, int64(got))
		}
	}
}
