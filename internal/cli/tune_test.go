package cli

import "testing"

func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 20 << 20: 400, 40 << 20: 200, 80 << 20: 100, 10 << 30: 100} {
		if got := garbagePercent(live); got != want {
			t.Errorf("beside %d bytes garbage is %d %%, want %d %%", live, got, want)
		}
	}
}
