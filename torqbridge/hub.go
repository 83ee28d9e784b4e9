package torqbridge

import (
	"math"
	"slices"
	"sync"
)

// Origins of a message: who put it into the hub. Clients have numbers from
// firstClient on.
const (
	originBus    uint32 = iota // a publisher on the bus other than this bridge
	originRelay                // the legacy relay, through the mirror
	originNobody               // no message has it
	firstClient
)

// hub holds the last messages of a domain in the one order in which every socket
// gets them, as a relay's broadcast channel does.
//
//	arena  |....|msg|msg|msg|..............|msg|     bytes, a ring; no message crosses its end
//	items   oldest ------------------> next          where each message lies, and whose it is
//	taps          ^slow      ^mirror   ^up to date
//
// A tap is one reader's place. A tap with a queue never holds anybody back: what is
// further behind than its queue is dropped for it, the oldest first, and counted.
// A tap without one is lossless: put waits for it.
type hub struct {
	mu     sync.Mutex
	room   sync.Cond // lossless taps moved, or there are fewer
	arena  []byte    // power of two
	items  []item    // power of two
	oldest uint64    // index of the oldest item kept
	next   uint64    // index of the next item
	end    uint64    // arena position behind the newest item
	taps   []*tap
	floor  uint64 // no lossless tap is before it
	closed bool
}

type item struct {
	pos    uint64 // arena position, never reused; modulo its size the place
	n      uint32
	origin uint32
}

// bytesPerItem is how many arena bytes there are for each item: some less than
// the common messages take.
const bytesPerItem = 64

// newHub makes a hub that keeps about so many bytes of messages.
func newHub(historyBytes int) *hub {
	size := 1 << 16
	for size < historyBytes {
		size *= 2
	}
	h := &hub{arena: make([]byte, size), items: make([]item, size/bytesPerItem)}
	h.room.L = &h.mu
	return h
}

// put appends messages of one origin. It waits for lossless taps that are a whole
// history behind. A message must be shorter than the history.
func (h *hub) put(origin uint32, msgs [][]byte) {
	h.mu.Lock()
	for _, m := range msgs {
		if !h.put1(origin, m) {
			break
		}
	}
	h.wake()
	h.mu.Unlock()
}

// put1 appends one message; false = the hub is closed.
func (h *hub) put1(origin uint32, m []byte) bool {
	size := uint64(len(h.arena))
	for {
		at := h.end
		if room := size - at&(size-1); room < uint64(len(m)) {
			at += room
		}
		end := at + uint64(len(m))
		for h.oldest < h.next && (h.next-h.oldest == uint64(len(h.items)) || end-h.item(h.oldest).pos > size) {
			if h.held(h.oldest) {
				break
			}
			h.oldest++
		}
		if h.oldest == h.next || h.next-h.oldest < uint64(len(h.items)) && end-h.item(h.oldest).pos <= size {
			copy(h.arena[at&(size-1):], m)
			*h.item(h.next) = item{at, uint32(len(m)), origin}
			h.next++
			h.end = end
			return true
		}
		if h.closed {
			return false
		}
		h.wake() // whoever is waited for may be asleep
		h.room.Wait()
	}
}

func (h *hub) item(i uint64) *item { return &h.items[i&uint64(len(h.items)-1)] }

// held reports whether a lossless tap has item i still to read.
func (h *hub) held(i uint64) bool {
	if i < h.floor {
		return false
	}
	h.floor = noIndex
	for _, t := range h.taps {
		if t.queue == 0 {
			h.floor = min(h.floor, t.next)
		}
	}
	return i >= h.floor
}

// wake wakes the taps that wait for messages.
func (h *hub) wake() {
	for _, t := range h.taps {
		t.signal()
	}
}

// close ends every tap, and put.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.wake()
	h.room.Broadcast()
	h.mu.Unlock()
}

// position is the index that the next message gets.
func (h *hub) position() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next
}

// tap is one reader's place in a hub. take is for one goroutine; the rest is safe
// for concurrent use.
type tap struct {
	h       *hub
	queue   uint64                                 // items it may be behind; 0 = lossless
	skip    func(index uint64, origin uint32) bool // items that are not for it; called with the hub locked
	next    uint64                                 // index of the next item to take
	stop    uint64                                 // index at which it ends
	hold    uint64                                 // index at which it waits
	dropped uint64
	waiting bool
	bell    chan struct{}
}

const noIndex = math.MaxUint64

// tap adds a reader that begins with item from, or the next one if from is noIndex.
func (h *hub) tap(queue int, from uint64, skip func(index uint64, origin uint32) bool) *tap {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &tap{h: h, queue: uint64(queue), skip: skip, next: min(from, h.next), stop: noIndex, hold: noIndex, bell: make(chan struct{}, 1)}
	t.next = max(t.next, h.oldest)
	h.floor = min(h.floor, t.next)
	h.taps = append(h.taps, t)
	return t
}

func (t *tap) signal() {
	if t.waiting {
		t.waiting = false
		t.bell <- struct{}{}
	}
}

// batch is what a tap took: messages back to back.
type batch struct {
	buf   []byte
	ends  []int    // end of each message in buf
	index []uint64 // index of each message in the hub
}

const (
	batchBytes    = 60 << 10 // below what a relay reads at once
	batchMessages = 1024
)

func (b *batch) reset() { b.buf, b.ends, b.index = b.buf[:0], b.ends[:0], b.index[:0] }

// message is the i-th message.
func (b *batch) message(i int) []byte {
	if i == 0 {
		return b.buf[:b.ends[0]]
	}
	return b.buf[b.ends[i-1]:b.ends[i]]
}

// take waits for messages and fills b with at least one. False: the tap has come
// to its end.
func (t *tap) take(b *batch) bool {
	b.reset()
	h := t.h
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		before := t.next
		t.gather(b)
		if t.next != before && t.queue == 0 {
			h.room.Broadcast()
		}
		if len(b.ends) > 0 {
			return true
		}
		if h.closed || t.next >= t.stop {
			return false
		}
		t.waiting = true
		h.mu.Unlock()
		<-t.bell
		h.mu.Lock()
	}
}

// gather copies what there is, up to a batch.
func (t *tap) gather(b *batch) {
	h := t.h
	if t.queue > 0 && t.stop == noIndex {
		if behind := h.next - t.next; behind > t.queue {
			t.drop(h.next - t.queue)
		}
	}
	if t.next < h.oldest {
		t.drop(h.oldest)
	}
	size := uint64(len(h.arena))
	for end := min(h.next, t.stop, t.hold); t.next < end && len(b.ends) < batchMessages; t.next++ {
		it := h.item(t.next)
		if t.skip != nil && t.skip(t.next, it.origin) {
			continue
		}
		if len(b.buf) > 0 && len(b.buf)+int(it.n) > batchBytes {
			break
		}
		at := it.pos & (size - 1)
		b.buf = append(b.buf, h.arena[at:at+uint64(it.n)]...)
		b.ends = append(b.ends, len(b.buf))
		b.index = append(b.index, t.next)
	}
}

// drop moves on to item to; what was for this tap on the way is counted.
func (t *tap) drop(to uint64) {
	for ; t.next < to; t.next++ {
		// What the history has lost already cannot be asked about.
		if t.next < t.h.oldest || t.skip == nil || !t.skip(t.next, t.h.item(t.next).origin) {
			t.dropped++
		}
	}
}

// finishAt ends the tap at an index: it takes what is before it, and nothing of
// that is dropped.
func (t *tap) finishAt(index uint64) {
	t.h.mu.Lock()
	t.stop = index
	t.signal()
	t.h.mu.Unlock()
}

// holdAt makes the tap wait at an index; noIndex lets it go on.
func (t *tap) holdAt(index uint64) {
	t.h.mu.Lock()
	t.hold = index
	t.signal()
	t.h.mu.Unlock()
}

// at is the index of the next item to take, and how many were dropped, those included
// that will be at the next take.
func (t *tap) at() (next, dropped uint64) {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	dropped = t.dropped
	if behind := t.h.next - t.next; t.queue > 0 && t.stop == noIndex && behind > t.queue {
		dropped += behind - t.queue
	}
	return t.next, dropped
}

// close takes the tap out of the hub and ends its take. Twice does nothing.
func (t *tap) close() {
	h := t.h
	h.mu.Lock()
	h.taps = slices.DeleteFunc(h.taps, func(o *tap) bool { return o == t })
	t.stop = 0
	t.signal()
	h.room.Broadcast()
	h.mu.Unlock()
}

// idleAt reports whether all before an index has been taken and dealt with: the
// tap's goroutine waits for more.
func (t *tap) idleAt(index uint64) bool {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	return t.waiting && t.next >= min(index, t.h.next)
}

// freeze makes taps wait at the next message, all at the same, and returns its index.
func (h *hub) freeze(taps []*tap) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range taps {
		t.hold = h.next
	}
	return h.next
}
