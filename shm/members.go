package shm

import (
	"os"
	"slices"
	"sync/atomic"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

// peer is another process's cursor file, mapped read-only. The garbage
// collector is what frees it: the publishing goroutine may still hold a member
// of a set that the control goroutine has replaced.
type peer struct {
	epoch layout.ID16
	mem   []byte
	file  *os.File // for the lock probe; nil for a cursor in test memory
	keep  int64    // ns that a durable subscriber's file counts as alive without an owner; 0 = it is not durable
	freed int64    // clock when its lock was first found free; publishing goroutines of several lanes: atomic
}

// alive asks the kernel whether the subscriber's process still holds its file.
func (p *peer) alive() bool {
	if p.file == nil {
		return true
	}
	held, err := segment.Held(p.file)
	return err != nil || held
}

// gone reports whether a publisher may stop waiting for the subscriber: its
// process is dead, and if it is durable, has been for as long as it is kept.
func (p *peer) gone(now int64) bool {
	if p.alive() {
		atomic.StoreInt64(&p.freed, 0)
		return false
	}
	if p.keep == 0 {
		return true
	}
	if atomic.CompareAndSwapInt64(&p.freed, 0, now) {
		return false
	}
	return now-atomic.LoadInt64(&p.freed) >= p.keep
}

// member is a subscriber that a lane honours (lossless) or wakes (park).
type member struct {
	peer     *peer
	lossless bool
	park     bool

	epoch    *uint64 // slot words, in the subscriber's file
	cursor   *uint64
	sleeping *uint32
	activity *uint64 // sequence word of its metrics cell: moves while it reads anything, buys time under evict

	evicted atomic.Bool

	join   uint64 // J
	ticket uint64
	notice uint32

	// Publishing goroutine only.
	last  uint64 // newest position seen
	woken uint32 // park number that was already woken
}

// memberSet is immutable; changed only by CAS in a retry loop: Refill evicts on
// the publishing goroutine while the control goroutine joins and removes.
type memberSet struct {
	lossless []*member
	sleepers []*member
}

func (s *memberSet) with(m *member) *memberSet {
	n := &memberSet{lossless: s.lossless, sleepers: s.sleepers}
	if m.lossless {
		n.lossless = append(slices.Clip(slices.Clone(s.lossless)), m)
	}
	if m.park {
		n.sleepers = append(slices.Clip(slices.Clone(s.sleepers)), m)
	}
	return n
}

func (s *memberSet) without(m *member) *memberSet {
	drop := func(l []*member) []*member {
		return slices.DeleteFunc(slices.Clone(l), func(x *member) bool { return x == m })
	}
	return &memberSet{lossless: drop(s.lossless), sleepers: drop(s.sleepers)}
}

// withoutHold keeps waking an evicted subscriber and stops honouring it.
func (s *memberSet) withoutHold(m *member) *memberSet {
	n := s.without(m)
	n.sleepers = s.sleepers
	return n
}

// held reports whether the member was joined and not evicted since: a ticket of 0
// in the set of sleepers means that only the wake-up is left.
func (m *member) held() bool { return m.lossless && !m.evicted.Load() }

func (s *memberSet) bySub(sub layout.ID16) *member {
	for _, l := range [][]*member{s.lossless, s.sleepers} {
		for _, m := range l {
			if m.peer.epoch == sub {
				return m
			}
		}
	}
	return nil
}

// position is how far the member has come: the cursor in its slot, or J until that
// is open.
func (m *member) position(lane layout.ID16) uint64 {
	if atomic.LoadUint64(m.epoch) == lane.Low() { // SYNC slot/refill
		return atomic.LoadUint64(m.cursor) // SYNC cursor/refill
	}
	return m.join
}

// newMember views the slot of lane number n in a subscriber's cursor file.
func newMember(p *peer, n uint32, lossless, park bool) *member {
	slot := layout.SlotOff(n)
	return &member{
		peer:     p,
		lossless: lossless,
		park:     park,
		epoch:    word64(p.mem, slot+layout.SlotEpoch),
		cursor:   word64(p.mem, slot+layout.SlotCursor),
		sleeping: word32(p.mem, layout.OffSleeping),
		activity: word64(p.mem, layout.OffSubMetrics),
	}
}
