package shm

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// RelayParker puts the one goroutine of several relays to sleep until one of them has
// something to do. The protocol is that of a parked subscriber, for each of them.
// Their options say IdlePark: else publishers do not wake them.
type RelayParker struct {
	relays  []*Relay
	waiters []waiter
	all     bool // the kernel watches every lane
}

// NewRelayParker is for relays that are protected whenever Park is called.
func NewRelayParker(relays []*Relay) *RelayParker { return &RelayParker{relays: relays} }

// Park sleeps until a lane has a frame, a relay is kicked, or the timeout.
func (p *RelayParker) Park(timeout time.Duration) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer passFault()
	p.rebuild()
	for _, f := range p.relays {
		k := f.s.park
		if seen := atomic.LoadUint32(k.kicked); seen != k.seen || f.s.closed.Load() {
			k.seen = seen
			return
		}
	}
	readWaiters(p.waiters)
	for _, f := range p.relays {
		f.s.park.raise()
	}
	membarrier()
	if !p.anyReady() {
		if !p.all {
			timeout = min(timeout, parkPartial)
		}
		futexWait(p.waiters, clock.Mono()+int64(timeout))
	}
	for _, f := range p.relays {
		seqlock.StoreRelease32(f.s.park.sleeping, 0)
	}
}

// Watch looks for what Park would sleep for, until a time of clock.Mono, or until over.
// After a few looks it gives way to whoever wants the core between them.
func (p *RelayParker) Watch(until int64, over *atomic.Bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer passFault()
	for looks := 0; !over.Load() && !p.anyReady() && clock.Mono() < until; looks++ {
		if looks < watchPauses {
			seqlock.Pause(1)
		} else {
			yieldCore()
		}
	}
}

const watchPauses = 100 // some 5 us

// rebuild lists the words to watch: every relay's kick word, then as many lanes as the kernel takes.
func (p *RelayParker) rebuild() {
	changed, lanes := p.waiters == nil, 0
	for _, f := range p.relays {
		changed = changed || f.s.park.rebuild
		f.s.park.rebuild = false
		lanes += len(f.s.lanes)
	}
	if !changed {
		return
	}
	p.all = lanes+len(p.relays) <= maxWaiters
	p.waiters = p.waiters[:0]
	for _, f := range p.relays {
		p.waiters = append(p.waiters, makeWaiters(f.s.park.kicked, nil)...)
	}
	for _, f := range p.relays {
		ws := makeWaiters(f.s.park.kicked, f.s.lanes)[1:]
		p.waiters = append(p.waiters, ws[:min(len(ws), maxWaiters-len(p.waiters))]...)
	}
}

func (p *RelayParker) anyReady() bool {
	for _, f := range p.relays {
		if f.s.inbox.Load() || f.s.closed.Load() || anyReady(f.s.lanes) {
			return true
		}
	}
	return false
}

// Waits reports whether a lane has something that Next would hand out.
func (l *RelayLane) Waits() bool {
	r := l.r
	return r.state == laneReading && layout.Committed(atomic.LoadUint64(r.ring.word(r.pos)), r.pos) // SYNC commit/poll
}
