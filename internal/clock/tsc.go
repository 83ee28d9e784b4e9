package clock

import (
	"errors"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnsupported reports a processor without a counter that ticks at one rate
// whatever the power state, or an architecture that this package has no code for.
// Use [Mono] there.
var ErrUnsupported = errors.New("clock: no invariant time stamp counter on this machine; use the monotonic clock")

const (
	// calibrationTime is how long NewTSC takes, and the shortest stretch that a
	// rate is taken from. Two samples good to 10 ns each give 2 ppm.
	calibrationTime = 8 * time.Millisecond

	// slewNs is how long Now takes to take up an error of at most maxSlewNs: at
	// most 1 % fast or slow. More than that is no drift.
	slewNs    = int64(100 * time.Millisecond)
	maxSlewNs = int64(time.Millisecond)

	// rateShift is the binary point of line.rate.
	rateShift = 48
)

// TSC is the time stamp counter (amd64) or the virtual counter (arm64) of this
// machine, read as nanoseconds of [Mono]. Make it with [NewTSC].
type TSC struct {
	cur atomic.Pointer[lines]

	mu   sync.Mutex // guards what follows, and storing cur
	last sample     // where the rate of cur.steady was measured up to
}

// sample is one moment on both clocks.
type sample struct {
	ticks uint64
	ns    int64
}

// line maps ticks to nanoseconds: rate is nanoseconds per tick << rateShift.
type line struct {
	from sample
	rate uint64
}

// lines is what Now computes with, see the package comment; immutable.
type lines struct {
	slew, steady line
}

// NewTSC calibrates the counter of this machine, which takes about 10 ms. It
// returns [ErrUnsupported] where there is none to rely on. It cannot tell whether
// the counters of two sockets agree. The kernel can: where it fell back to the
// clock source hpet or acpi_pm, use [Mono].
func NewTSC() (*TSC, error) {
	t := &TSC{}
	if !invariant() || !t.calibrate() {
		return nil, ErrUnsupported
	}
	return t, nil
}

// Now returns CLOCK_MONOTONIC in nanoseconds. After NewTSC alone it may drift by a
// few microseconds per second; called about once a second, Recalibrate keeps it
// well within one microsecond of [Mono]. The counter is read when the processor
// gets to it, which may be some 10 ns before an earlier load is done. Values of
// one goroutine do not go back, but for a few nanoseconds when Recalibrate or a
// move to another core falls in between, or when the host's own clock jumped: who
// needs order clamps to the previous value. Safe for concurrent use; never
// allocates, never waits.
func (t *TSC) Now() int64 {
	l := t.cur.Load() // SYNC lines: stored by calibrate and Recalibrate
	return l.at(counter())
}

// Recalibrate compares the counter with [Mono] and corrects it, slowly enough that
// time does not go back; only a difference above 1 ms is stepped over at once, and
// that takes 10 ms. Call it about once a second from a control goroutine. Safe for
// concurrent use.
func (t *TSC) Recalibrate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follow(takeSample())
}

// follow turns cur towards now. Preconditions: mu is held.
func (t *TSC) follow(now sample) {
	cur := t.cur.Load()
	if off := now.ns - cur.at(now.ticks); off > maxSlewNs || off < -maxSlewNs {
		t.calibrate() // if the counter stands still there is nothing better than cur
		return
	}
	rate := cur.steady.rate
	if now.ns-t.last.ns >= int64(calibrationTime) {
		if r, ok := rateBetween(t.last, now); ok {
			rate, t.last = r, now
		}
	}
	t.cur.Store(cur.turn(now, rate)) // SYNC lines: loaded by Now
}

// calibrate measures afresh and lets time step. Preconditions: mu is held, or t is
// not shared yet.
func (t *TSC) calibrate() bool {
	a := takeSample()
	time.Sleep(calibrationTime)
	b := takeSample()
	rate, ok := rateBetween(a, b)
	if !ok {
		return false
	}
	l := line{from: b, rate: rate}
	t.cur.Store(&lines{slew: l, steady: l}) // SYNC lines: loaded by Now
	t.last = b
	return true
}

// at returns the time at ticks.
func (l *lines) at(ticks uint64) int64 {
	on := &l.steady
	if int64(ticks-on.from.ticks) < 0 {
		on = &l.slew
	}
	return on.at(ticks)
}

// at returns the time at ticks. Ticks just before the start, from a core whose
// counter is a little behind or was read early, count as the start.
func (l *line) at(ticks uint64) int64 {
	d := ticks - l.from.ticks
	if int64(d) < 0 {
		return l.from.ns
	}
	hi, lo := bits.Mul64(d, l.rate)
	return l.from.ns + int64(hi<<(64-rateShift)|lo>>rateShift)
}

// turn returns lines that leave l at now and reach the truth slewNs later, to go
// on at rate. Preconditions: l is off by at most maxSlewNs; rateBetween gave rate.
func (l *lines) turn(now sample, rate uint64) *lines {
	hi, lo := bits.Mul64(uint64(slewNs), 1<<rateShift)
	slewTicks, _ := bits.Div64(hi, lo, rate)
	start := sample{ticks: now.ticks, ns: l.at(now.ticks)}
	join := sample{ticks: now.ticks + slewTicks, ns: now.ns + slewNs}
	return &lines{
		slew:   line{from: start, rate: perTick(join.ns-start.ns, slewTicks)},
		steady: line{from: join, rate: rate},
	}
}

// rateBetween returns nanoseconds per tick << rateShift, and false if the samples
// give none: a clock stood still or went back, or the counter ticks outside
// 100 kHz to 100 GHz.
func rateBetween(a, b sample) (rate uint64, ok bool) {
	ticks, ns := b.ticks-a.ticks, b.ns-a.ns
	if int64(ticks) <= 0 || ns <= 0 || ticks/100 >= uint64(ns) || uint64(ns)/10_000 >= ticks {
		return 0, false
	}
	return perTick(ns, ticks), true
}

// perTick returns ns/ticks << rateShift. Preconditions: the quotient is below 2^16.
func perTick(ns int64, ticks uint64) uint64 {
	hi, lo := bits.Mul64(uint64(ns), 1<<rateShift)
	rate, _ := bits.Div64(hi, lo, ticks)
	return rate
}

// takeSample reads Mono between two readings of the counter and keeps the
// narrowest of several pairs: an interrupt or a stolen core widens the others.
func takeSample() (best sample) {
	narrowest := uint64(math.MaxUint64)
	for range 16 {
		before := counter()
		ns := Mono()
		after := counter()
		if d := after - before; d < narrowest {
			narrowest, best = d, sample{ticks: before + d/2, ns: ns}
		}
	}
	return best
}
