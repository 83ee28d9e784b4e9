package seqlock

// Sequences and positions are uint64 that may wrap. They are compared by their
// difference, never by <, and the answers hold while the two lie less than 2^63
// apart.

// Before reports whether a comes before b.
func Before(a, b uint64) bool { return int64(a-b) < 0 }

// After reports whether a comes after b.
func After(a, b uint64) bool { return int64(a-b) > 0 }

// Diff returns how far a is ahead of b; negative when it is behind.
func Diff(a, b uint64) int64 { return int64(a - b) }

// Min returns whichever of a and b comes first.
func Min(a, b uint64) uint64 {
	if Before(b, a) {
		return b
	}
	return a
}

// Max returns whichever of a and b comes last.
func Max(a, b uint64) uint64 {
	if After(b, a) {
		return b
	}
	return a
}
