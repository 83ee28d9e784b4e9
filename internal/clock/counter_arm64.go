package clock

// frequency returns ticks per second as the firmware set it.
//
//go:noescape
func frequency() uint64

// invariant reports whether the counter can be relied on: the architecture
// promises its rate, and firmware that set up the system counter told it.
func invariant() bool { return frequency() != 0 }
