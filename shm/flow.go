package shm

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// This file is back-pressure: who holds the publisher back, for how long, and
// how that ends.
//
//	            +-- lim >= need --> grant: intent moves, publish goes on
//	Refill -----+
//	            +-- lim <  need --> wait --+-- progress ---------> Refill
//	                                       +-- lock is free -----> drop the dead member, Refill
//	                                       +-- evict: idle for t, or still for busyTimeouts*t -> evict, Refill
//	                                       +-- block: deadline --> ErrBackpressure
//	                                       +-- fail -------------> ErrBackpressure

// PolicyKind says what a publisher does about a lossless subscriber that makes
// no progress while the ring is full.
type PolicyKind uint8

const (
	PolicyBlock PolicyKind = iota // wait up to Timeout, then ErrBackpressure; nothing is ever lost
	PolicyEvict                   // evict who makes no progress for Timeout
	PolicyFail                    // ErrBackpressure at once
)

// Policy of a topic. The zero Policy blocks for DefaultTimeout.
type Policy struct {
	Kind    PolicyKind
	Timeout time.Duration // block: deadline, negative = none; evict: time without progress, ten times that while it reads other lanes; 0 = DefaultTimeout
}

// DefaultTimeout is a policy's timeout where none is given.
const DefaultTimeout = time.Second

func (p Policy) timeout() time.Duration {
	if p.Timeout == 0 {
		return DefaultTimeout
	}
	return p.Timeout
}

func (p Policy) String() string {
	switch p.Kind {
	case PolicyEvict:
		return "evict:" + p.timeout().String()
	case PolicyFail:
		return "fail"
	}
	if p.Timeout < 0 {
		return "block"
	}
	return "block:" + p.timeout().String()
}

type evictReason uint8

const (
	evictStalled evictReason = 1
	evictHostile evictReason = 2
)

func (r evictReason) String() string {
	if r == evictHostile {
		return "hostile cursor"
	}
	return "stalled"
}

const (
	probeEvery = int64(time.Millisecond)      // lock probes of members that lag
	yieldFor   = int64(20 * time.Microsecond) // then sleep: whoever reads may want this very processor
	sleepMin   = 20 * time.Microsecond
	sleepMax   = 100 * time.Microsecond
	roundMax   = int64(5 * time.Millisecond) // counts at most this much of a wait round: a freeze of both sides is no stall

	busyTimeouts = 10 // a member that is busy elsewhere is waited for so many times longer
)

// round is one wait for room.
type round struct {
	start int64
	sleep time.Duration
}

// stall is how long one member has made no progress. It outlives a wait, so that
// a publisher that only claims, and never waits, evicts as well. Times are what the
// publisher observed, freezes of both sides left out.
type stall struct {
	of     *member // whom the publisher waits for
	at     uint64  // its position
	active uint64  // its activity word
	last   int64   // clock at the last look
	still  int64   // ns since its position moved
	idle   int64   // ns since that or its activity word moved
}

// look adds the time since the last look, unless m made progress.
func (s *stall) look(m *member, now int64) {
	active := atomic.LoadUint64(m.activity)
	if m != s.of || m.last != s.at {
		*s = stall{of: m, at: m.last, active: active, last: now}
		return
	}
	d := min(now-s.last, roundMax)
	s.last, s.still, s.idle = now, s.still+d, s.idle+d
	if active != s.active {
		s.active, s.idle = active, 0
	}
}

// over reports whether a policy of evict:t lets the member go. Anybody can move an
// activity word for ever: on its own it buys time only.
func (s *stall) over(t time.Duration) bool {
	return t > 0 && (time.Duration(s.idle) >= t || time.Duration(s.still)/busyTimeouts >= t)
}

// refill moves the intent so that positions below need may be written. It is
// the only place that changes the intent.
func (p *Publisher) refill(need uint64, wait bool) (err error) {
	var r round
	for again := true; again; {
		again, err = p.tryRefill(&r, need, wait)
	}
	return err
}

// refillEarly refills before the credit is used up, if there is more: after a frame that
// is visible, so that no frame waits for what a refill costs (ADR 0077). A lane that the
// directory gave up gets no more: makeRoom says so when what is left is used up.
func (p *Publisher) refillEarly() {
	if p.lost.Load() {
		return
	}
	for again := true; again; {
		again, _ = p.tryRefill(nil, p.pos+p.hdr.Step, false)
	}
	p.setRoom()
}

// tryRefill is refill until the cursor file of a member goes away under it; that
// member is evicted, and again is true. Without a round it waits for nobody and
// leaves all as it is where there is no credit.
func (p *Publisher) tryRefill(st *round, need uint64, wait bool) (again bool, err error) {
	var set *memberSet
	done := false
	defer func() {
		if !done {
			again = p.peerGone(set, recover())
		}
	}()
	for {
		set = p.set.Load() // SYNC join/refill
		lim, nearest := p.pos+p.hdr.Ring, p.pos-p.hdr.Ring
		var slowest *member
		for _, m := range set.lossless {
			v := m.position(p.hdr.Epoch)
			// I7: a cursor never passes the tail and never moves back.
			if seqlock.After(v, p.pos) || seqlock.Before(v, m.last) || v%layout.Align != 0 {
				p.evict(m, evictHostile)
				continue
			}
			m.last, nearest = v, seqlock.Max(nearest, v)
			if seqlock.Before(v+p.hdr.Ring, lim) {
				lim, slowest = v+p.hdr.Ring, m
			}
		}
		runtime.KeepAlive(set) // the mappings behind the words live as long as their members
		if seqlock.Diff(lim, need) >= 0 {
			if slowest == nil {
				nearest = p.pos // nobody is behind; of lossy ones nothing is known
			}
			p.follow(p.pos - nearest)
			p.grant(need, lim)
			if st != nil && st.start != 0 {
				p.counts[layout.MetricBackpressureNs] += uint64(clock.Mono() - st.start)
			}
			p.stuck = stall{}
			done = true
			return false, nil
		}
		if st == nil {
			done = true
			return false, nil
		}
		if err := p.backpressure(st, set, slowest, need, wait); err != nil {
			done = true
			return false, err
		}
	}
}

// peerGone evicts the member of set whose cursor file was truncated, v being
// what the look at it panicked with. Any other panic goes on.
func (p *Publisher) peerGone(set *memberSet, v any) bool {
	if v == nil { // the goroutine exits
		return false
	}
	if addr, ok := faultAddr(v); ok {
		for _, l := range [][]*member{set.lossless, set.sleepers} {
			for _, m := range l {
				if addrWithin(addr, m.peer.mem) {
					if m.held() {
						p.evict(m, evictHostile)
					}
					p.remove(m)
					return true
				}
			}
		}
	}
	panic(v)
}

// grant publishes the new intent. I5: the intent is visible before any byte
// below it is written, so this store is a full fence.
func (p *Publisher) grant(need, lim uint64) {
	i := p.pos + p.hdr.Step
	if seqlock.Before(i, need) {
		i = need
	}
	i = seqlock.Min(i, lim)
	if failpoint.Enabled {
		failpoint.Here("pub.before_intent")
	}
	atomic.StoreUint64(p.intent, i) // SYNC intent/overrun
	seqlock.StoreStore()
	p.intentL = i
	p.counts[layout.MetricRefills]++
	p.storeTail()
	if failpoint.Enabled {
		failpoint.Here("pub.after_intent")
	}
}

// backpressure waits one round for the slowest member, or gives up.
func (p *Publisher) backpressure(st *round, set *memberSet, m *member, need uint64, wait bool) error {
	now := clock.Mono()
	if st.start == 0 {
		*st = round{start: now, sleep: sleepMin}
		p.counts[layout.MetricBackpressure]++
		p.storeTail()
	}
	if now-p.probed >= probeEvery {
		p.probed = now
		if p.dropDead(set, need) {
			return nil
		}
	}
	waited, t := now-st.start, p.policy.timeout()
	switch p.policy.Kind {
	case PolicyFail:
		return ErrBackpressure
	case PolicyEvict:
		if p.stuck.look(m, now); p.stuck.over(t) {
			p.evict(m, evictStalled)
			return nil
		}
	case PolicyBlock:
		if wait && t > 0 && time.Duration(waited) >= t {
			p.counts[layout.MetricBackpressureNs] += uint64(waited)
			return &BackpressureError{Subscriber: m.peer.epoch.String(), LagBytes: p.pos - m.last, Waited: time.Duration(waited)}
		}
	}
	if !wait {
		return ErrBackpressure
	}
	switch {
	case waited < yieldFor:
		yieldCore()
	default:
		runtime.Gosched() // the subscriber may be a goroutine that wants this very thread
		nap(st.sleep)
		st.sleep = min(st.sleep*2, sleepMax)
	}
	return nil
}

// dropDead releases every member that holds back need and whose owner is dead
// by the kernel's word: its file lock is free. It needs no registry.
func (p *Publisher) dropDead(set *memberSet, need uint64) (dropped bool) {
	for _, m := range set.lossless {
		if seqlock.Diff(m.last+p.hdr.Ring, need) >= 0 || !m.peer.gone(p.probed) {
			continue
		}
		if m.peer.keep > 0 { // should its owner come back, it learns what became of it
			p.evict(m, evictStalled)
		}
		p.remove(m)
		p.counts[layout.MetricDeadReleases]++
		dropped = true
	}
	return dropped
}

// evict stops honouring m and leaves it a notice. It stays safe: m validates
// everything that it reads against the intent.
func (p *Publisher) evict(m *member, why evictReason) {
	n := layout.OffNotices + uint64(m.notice)*layout.NoticeBytes
	storeRelaxed(word64(p.mem, n+8), p.pos)
	storeRelaxed(word64(p.mem, n+16), uint64(clock.Mono())<<2|uint64(why))
	storeRelaxed(word64(p.mem, n+24), m.peer.epoch.Low())
	seqlock.StoreRelease(word64(p.mem, n), m.ticket) // SYNC notice/evicted
	m.evicted.Store(true)
	p.swapSet(func(s *memberSet) *memberSet { return s.withoutHold(m) })
	p.counts[layout.MetricEvictions]++
	if p.onEvict != nil {
		p.onEvict(m, why)
	}
}

func (p *Publisher) swapSet(f func(*memberSet) *memberSet) {
	for {
		old := p.set.Load()
		if p.set.CompareAndSwap(old, f(old)) {
			return
		}
	}
}

// remove forgets m altogether.
func (p *Publisher) remove(m *member) {
	p.swapSet(func(s *memberSet) *memberSet { return s.without(m) })
}

// join makes the publisher honour (lossless) or wake (park) a subscriber from a
// position J on: every frame at or after J is held for it. Control goroutine.
//
// J is the tail hint. The set changes by CAS, a full fence; if the intent could
// by then, or by one more Refill that had loaded the old set, have passed J+cap,
// the member is taken out again and a newer tail is tried.
func (p *Publisher) join(pr *peer, lossless, park bool) (m *member, err error) {
	p.control.Lock()
	defer p.control.Unlock()
	if p.mapping == nil && p.client != nil {
		return nil, ErrClosed
	}
	if !shielded(p.mem, func() { m, err = p.joinAt(pr, lossless, park) }) {
		return nil, ErrFault
	}
	return m, err
}

func (p *Publisher) joinAt(pr *peer, lossless, park bool) (*member, error) {
	set := p.set.Load()
	if lossless && len(set.lossless) >= layout.Notices {
		return nil, fmt.Errorf("%w: the lane has %d lossless subscribers, the most it takes", ErrQuota, layout.Notices)
	}
	var notice uint32
	if lossless {
		notice = p.freeNotice(set)
	}
	for {
		// A fresh member and ticket for each attempt: the publishing goroutine
		// may have used, or evicted, the one before.
		m := newMember(pr, p.hdr.Lane, lossless, park)
		p.tickets++
		m.ticket, m.notice = p.tickets, notice
		if lossless {
			p.notices[notice] = m.ticket
		}
		j := atomic.LoadUint64(word64(p.mem, layout.OffTailPos)) // SYNC tail/join
		m.join, m.last = j, j
		p.swapSet(func(s *memberSet) *memberSet { return s.with(m) }) // SYNC join/refill
		if failpoint.Enabled {
			failpoint.Here("join.added")
		}
		i := atomic.LoadUint64(p.intent)
		if !lossless || seqlock.Diff(i+p.grantMax(), j) <= int64(p.hdr.Ring) {
			return m, nil
		}
		// Never leave an old J in the set while looking for a newer tail.
		p.remove(m)
		runtime.Gosched()
	}
}

// freeNotice picks the notice that no member holds and that was used longest ago.
func (p *Publisher) freeNotice(set *memberSet) uint32 {
	var held [layout.Notices]bool
	for _, m := range set.lossless {
		held[m.notice] = true
	}
	best := -1
	for i, used := range p.notices {
		if !held[i] && (best < 0 || used < p.notices[best]) {
			best = i
		}
	}
	return uint32(best)
}
