//go:build !amd64 && !arm64

package clock

func invariant() bool { return false }

// counter stands still: NewTSC never gets as far as using it.
func counter() uint64 { return 0 }
