package bench

import (
	"sync/atomic"

	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

// slotRing is the baseline: a bare ring of fixed slots with one writer and one
// reader, and nothing else. A slot is {sequence u64, payload}, rounded up to
// whole cache lines. The writer looks at the reader's cursor only when the ring
// is full as far as it knows; the reader stores it every eighth of the ring and
// when it finds nothing.
//
//	0     cursor: slots read
//	128   end: 1 + number of the last slot, 0 = not known yet
//	4096  slots
type slotRing struct {
	cursor, end *uint64
	mem         []byte // from the first slot on
	slot        int    // bytes
	slots       uint64 // power of two
	size        int    // bytes of payload
	written     uint64
	limit       uint64 // written may grow up to here
}

const (
	slotsOff  = 4096
	cacheLine = 64
)

func slotBytes(size int) int { return (8 + size + cacheLine - 1) / cacheLine * cacheLine }

// slotRingBytes is the memory for payloads of size bytes: as much as a lane's ring, but
// never below 8 slots.
func slotRingBytes(size int, ring uint64) int { return slotsOff + max(int(ring), 8*slotBytes(size)) }

// newSlotRing views mem, which was zeroed, as an empty ring.
func newSlotRing(mem []byte, size int) *slotRing {
	r := &slotRing{cursor: word(mem, 0), end: word(mem, 128), mem: mem[slotsOff:], slot: slotBytes(size), slots: 1, size: size}
	for r.slots*2*uint64(r.slot) <= uint64(len(r.mem)) {
		r.slots *= 2
	}
	r.limit = r.slots
	return r
}

func (r *slotRing) at(n uint64) int { return int(n&(r.slots-1)) * r.slot }

// write publishes payload n times.
func (r *slotRing) write(payload []byte, n uint64, idle shm.Idler) {
	for last := r.written + n; r.written < last; {
		for r.written == r.limit {
			r.limit = atomic.LoadUint64(r.cursor) + r.slots // SYNC slots/cursor
			if r.written == r.limit {
				idle.Idle(0)
			}
		}
		off := r.at(r.written)
		copy(r.mem[off+8:off+8+r.size], payload)
		r.written++
		seqlock.StoreRelease(word(r.mem, off), r.written) // SYNC slots
	}
}

// finish tells the reader that nothing comes any more.
func (r *slotRing) finish() { seqlock.StoreRelease(r.end, r.written+1) }

// read copies messages out and hands each to h, until the writer has finished.
func (r *slotRing) read(h func(seq uint64, payload []byte), idle shm.Idler) {
	private := make([]byte, r.size)
	stored, step := uint64(0), r.slots/8
	waited := false
	for i := uint64(0); ; {
		off := r.at(i)
		if atomic.LoadUint64(word(r.mem, off)) != i+1 { // SYNC slots
			if i != stored {
				stored = i
				seqlock.StoreRelease(r.cursor, i) // SYNC slots/cursor
			}
			if atomic.LoadUint64(r.end) == i+1 {
				return
			}
			idle.Idle(0)
			waited = true
			continue
		}
		copy(private, r.mem[off+8:off+8+r.size])
		h(i+1, private)
		if waited {
			idle.Idle(1)
			waited = false
		}
		if i++; i-stored >= step {
			stored = i
			seqlock.StoreRelease(r.cursor, i) // SYNC slots/cursor
		}
	}
}
