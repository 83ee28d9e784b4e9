package clock

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// The standard library reads CLOCK_MONOTONIC through the vDSO but only tells
// differences. base is a reading of it, and baseNs what the clock stood at then.
var (
	base   = time.Now()
	baseNs = findBase()
)

// Mono returns CLOCK_MONOTONIC of this host in nanoseconds. The values of all
// processes of a host lie on one clock, give or take a fixed error per process of
// well under 1 us. Safe for concurrent use. In a testing/synctest bubble, whose
// time is not the host's, it means nothing.
func Mono() int64 { return baseNs + int64(time.Since(base)) }

// Wall returns nanoseconds since the Unix epoch. Safe for concurrent use.
func Wall() int64 { return time.Now().UnixNano() }

// findBase asks the kernel between two readings of the vDSO: the true base is no
// less than kernel - after and no more than kernel - before. Each round narrows
// that down; what remains is the way into the kernel and back, about 0.1 us, and
// half of it is the error.
func findBase() int64 {
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	for range 32 {
		var ts unix.Timespec
		before := int64(time.Since(base))
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic("clock: the kernel does not tell CLOCK_MONOTONIC: " + err.Error()) // no Linux is without it
		}
		after := int64(time.Since(base))
		lo = max(lo, ts.Nano()-after)
		hi = min(hi, ts.Nano()-before)
	}
	return lo + (hi-lo)/2
}
