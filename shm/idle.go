package shm

import (
	"fmt"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/seqlock"
)

// Idler is what a poll loop does between polls: idle.Idle(n) after each, with
// the number of frames that the poll returned. For one goroutine.
type Idler interface{ Idle(work int) }

// Idle names an idle strategy.
type Idle uint8

const (
	IdleBackoff Idle = iota // spin, then yield, then sleep up to 1 ms: cheap, no wake-up needed
	IdleSpin                // never leave the core: the lowest latency, one core per subscriber
	IdleYield               // let other goroutines run, never sleep
	IdlePark                // spin 50 us, where that pays, giving way to who needs the core, then sleep in the kernel until a publisher wakes it
)

func (i Idle) String() string {
	switch i {
	case IdleBackoff:
		return "backoff"
	case IdleSpin:
		return "spin"
	case IdleYield:
		return "yield"
	case IdlePark:
		return "park"
	}
	return fmt.Sprintf("Idle(%d)", uint8(i))
}

// UnmarshalText accepts backoff, spin, yield and park.
func (i *Idle) UnmarshalText(b []byte) error {
	for _, k := range []Idle{IdleBackoff, IdleSpin, IdleYield, IdlePark} {
		if string(b) == k.String() {
			*i = k
			return nil
		}
	}
	return fmt.Errorf("%w: idle strategy %q: want backoff, spin, yield or park", ErrInvalid, b)
}

// Spin is the IdleSpin strategy; the zero value is ready. A reader that is faster
// than the writer keeps looking at the very line that is being written and slows
// the writer down by half. When poll after poll finds less than it may, with hardly an
// empty one between, Spin waits a moment after each and lets frames gather: half as many pauses as
// there were frames, at least 16 and at most 64 (seqlock.Pause; 0.4 to 1.7 us where one takes 27 ns). With
// one lane and a handler that takes no time, that is above some 20 M frames a second. Who finds as
// many as ever lately, from 128 on, is behind, and does not wait: give Poll no lower limit beside a Spin.
type Spin struct {
	empty  uint32 // empty polls since the last frame
	chases uint32 // polls in a row that found less than they may right away
	most   uint32 // frames that one poll found lately
}

const (
	chaseEmpty = 2   // so few empty polls before the next frame mean that we chase
	chaseMany  = 128 // who finds so many, and as many as ever lately, is behind, and does not chase
	chaseFade  = 6   // most forgets a 64th, rounded down, with each poll that finds less
	chaseAfter = 8   // so often in a row
	chaseMin   = 16  // pauses
	chaseMax   = 64
)

func (s *Spin) Idle(work int) {
	if work == 0 {
		if s.empty++; s.empty > chaseEmpty {
			s.chases = 0
		}
		return
	}
	s.empty = 0
	found := uint32(work)
	if found >= max(s.most, chaseMany) {
		s.most, s.chases = found, 0
		return
	}
	s.most -= s.most >> chaseFade
	if s.chases++; s.chases >= chaseAfter {
		seqlock.Pause(min(max(found/2, chaseMin), chaseMax))
	}
}

// Yield is the IdleYield strategy; the zero value is ready. Another process that wants
// the core has it after any empty poll, another goroutine of this one after a few.
type Yield struct{ empty uint32 }

const yieldGoroutines = 32 // empty polls from one Gosched to the next

func (y *Yield) Idle(work int) {
	switch y.empty++; {
	case work > 0:
		y.empty = 0
	case y.empty%yieldGoroutines == 0:
		yield()
	default:
		yieldCore()
	}
}

// Backoff is the IdleBackoff strategy; the zero value is ready.
type Backoff struct {
	since int64
	sleep time.Duration
}

const (
	backoffSpin  = int64(20 * time.Microsecond)
	backoffYield = int64(200 * time.Microsecond)
	backoffMin   = 50 * time.Microsecond
	backoffMax   = time.Millisecond
)

func (b *Backoff) Idle(work int) {
	if work > 0 {
		b.since = 0
		return
	}
	now := clock.Mono()
	if b.since == 0 {
		b.since, b.sleep = now, backoffMin
	}
	switch waited := now - b.since; {
	case waited < backoffSpin:
		seqlock.Pause(1)
	case waited < backoffYield:
		yield()
	default:
		time.Sleep(b.sleep)
		b.sleep = min(b.sleep*2, backoffMax)
	}
}

// Idler is the strategy of the subscriber's options, for a loop of one's own:
//
//	for idle := s.Idler(); ; {
//		n, err := s.Poll(handle, 0)
//		...
//		idle.Idle(n)
//	}
func (s *Subscriber) Idler() Idler {
	switch s.opts.Idle {
	case IdleSpin:
		return &Spin{}
	case IdleYield:
		return &Yield{}
	case IdlePark:
		return &parkIdler{s: s}
	}
	return &Backoff{}
}

// spinBeforePark is longer than a wake costs: whoever is busy never sleeps. The
// publisher may want this very processor, and gets it from pauseBeforePark on. Where
// frames come further apart than that, spinning is in vain, and its core looks busy to a
// scheduler that has others to place: after parkMisses times only each parkProbe-th wait
// spins longer than pauseBeforePark.
const (
	spinBeforePark  = int64(50 * time.Microsecond)
	pauseBeforePark = int64(5 * time.Microsecond)
	parkMisses      = 4
	parkProbe       = 16
)

type parkIdler struct {
	s      *Subscriber
	since  int64
	misses uint32 // waits in a row in which spinning found nothing
}

// spin is how long this wait spins.
func (p *parkIdler) spin() int64 {
	if p.misses < parkMisses || p.misses%parkProbe == 0 {
		return spinBeforePark
	}
	return pauseBeforePark
}

func (p *parkIdler) Idle(work int) {
	if work > 0 {
		if p.since != 0 && p.spin() == spinBeforePark {
			p.misses = 0
		}
		p.since = 0
		return
	}
	now := clock.Mono()
	if p.since == 0 {
		p.since = now
	}
	switch waited := now - p.since; {
	case waited < pauseBeforePark:
		seqlock.Pause(1)
	case waited < p.spin():
		yieldCore()
	default:
		p.misses++
		p.s.park.wait()
		p.since = 0
	}
}
