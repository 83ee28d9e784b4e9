package seqlock

import (
	"math"
	"testing"
)

func TestSequencesCompareByDistanceAcrossTheWrap(t *testing.T) {
	origins := []uint64{0, 1, 3, 0x7fff_ffff, 1<<62 + 1, 1<<63 - 1, 1<<63 + 1, math.MaxUint64 - 2, math.MaxUint64}
	steps := []uint64{1, 2, 31, 1 << 32, 1<<62 + 1, 1<<63 - 1}
	for _, a := range origins {
		if Before(a, a) || After(a, a) || Diff(a, a) != 0 || Min(a, a) != a || Max(a, a) != a {
			t.Errorf("%#x does not equal itself", a)
		}
		for _, d := range steps {
			b := a + d // wraps for the high origins
			if !Before(a, b) || Before(b, a) {
				t.Errorf("Before(%#x, %#x) = %v, reversed %v; want true, false", a, b, Before(a, b), Before(b, a))
			}
			if !After(b, a) || After(a, b) {
				t.Errorf("After(%#x, %#x) = %v, reversed %v; want true, false", b, a, After(b, a), After(a, b))
			}
			if Diff(b, a) != int64(d) || Diff(a, b) != -int64(d) {
				t.Errorf("Diff(%#x, %#x) = %d, reversed %d; want %d and its negative", b, a, Diff(b, a), Diff(a, b), d)
			}
			if Min(a, b) != a || Min(b, a) != a || Max(a, b) != b || Max(b, a) != b {
				t.Errorf("Min, Max of %#x, %#x = %#x, %#x", a, b, Min(a, b), Max(a, b))
			}
		}
	}
}
