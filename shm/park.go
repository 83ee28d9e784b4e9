package shm

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// Parking, and why no wake-up is missed:
//
//	subscriber                                publisher
//	read wake word of every lane              commit frame
//	sleeping = park number     SYNC park/wake load sleeping
//	membarrier                                not 0 and not yet woken:
//	look at every header again                  wake word++, FUTEX_WAKE
//	FUTEX_WAIT(wake words as read)
//
// If the publisher loaded 0, its commit was in program order before that load,
// and the membarrier has drained its store buffer: the second look finds the
// frame. If it loaded the park number, it bumps the wake word, which was read
// before the number was raised: FUTEX_WAIT does not sleep, or is woken.
type parker struct {
	s        *Subscriber
	sleeping *uint32
	kicked   *uint32
	seen     uint32 // kicked at the last wait
	number   uint32
	rebuild  bool // the set of lanes changed
	waiters  []waiter
	lanes    []*reader
}

// parkBelt is in case of a bug in all of the above; tests take it off.
var parkBelt = 2 * time.Second

// parkPartial is for more lanes than one futex_waitv takes: the rest are looked at
// this often.
const parkPartial = time.Millisecond

func newParker(s *Subscriber) *parker {
	return &parker{s: s, sleeping: word32(s.mem, layout.OffSleeping), kicked: word32(s.mem, layout.OffKick), rebuild: true}
}

// kick ends the sleep from this process: news from the directory, a context
// that ended. Any goroutine, but only while the cursor file is mapped.
func (p *parker) kick() {
	p.s.control.Lock()
	defer p.s.control.Unlock()
	if p.s.unmapped {
		return
	}
	shielded(p.s.mem, func() { atomic.AddUint32(p.kicked, 1) })
	futexWake(p.kicked)
}

// wait sleeps until one of the lanes has a frame, somebody kicks, or the belt.
func (p *parker) wait() {
	s := p.s
	if !s.protected {
		s.enter()
		defer seqlock.StoreRelease32(&s.busy, 0)
	}
	if s.closed.Load() {
		return
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer passFault()
	// Who kicks changed something before it, a context perhaps, that the caller
	// is to look at: a kick since the last wait ends this one.
	if k := atomic.LoadUint32(p.kicked); k != p.seen {
		p.seen = k
		return
	}
	if p.rebuild {
		p.rebuild = false
		p.lanes = s.lanes
		p.waiters = makeWaiters(p.kicked, p.lanes)
	}
	timeout := parkBelt
	if len(p.lanes) > len(p.waiters)-1 {
		timeout = parkPartial
	}
	readWaiters(p.waiters)
	p.raise()
	membarrier()
	if !s.inbox.Load() && !s.closed.Load() && !anyReady(p.lanes) {
		s.counts[layout.SubParks]++
		s.stats.Store(s.counts[:]) // nobody does while this one sleeps
		futexWait(p.waiters, clock.Mono()+int64(timeout))
	}
	seqlock.StoreRelease32(p.sleeping, 0)
}

// passFault ends what met a segment that was truncated: the next look at it says which.
func passFault() {
	if v := recover(); v != nil {
		if _, fault := faultAddr(v); !fault {
			panic(v)
		}
	}
}

// raise shows the number of this park: one more than that of the last, never 0.
func (p *parker) raise() {
	if p.number++; p.number == 0 {
		p.number++
	}
	atomic.StoreUint32(p.sleeping, p.number) // SYNC park/wake
}

// anyReady looks at the next header of every lane.
func anyReady(lanes []*reader) bool {
	for _, r := range lanes {
		if r.state != laneReading || r.stalled {
			continue
		}
		if layout.Committed(atomic.LoadUint64(r.ring.word(r.pos)), r.pos) || r.overrun(r.pos) { // SYNC commit/poll
			return true
		}
		if r.ended && !seqlock.Before(r.pos, r.final) {
			return true
		}
	}
	return false
}
