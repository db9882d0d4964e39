package cli

import "testing"

func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 12 << 20: 400, 24 << 20: 200, 48 << 20: 100, 10 << 30: 100} {
		if got := garbagePercent(live); got != want {
			t.Errorf("beside %d bytes garbage is %d %%, want %d %%", live, got, want)
		}
	}
}
