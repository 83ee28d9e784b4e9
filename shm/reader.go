package shm

import (
	"sync/atomic"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/seqlock"
)

// reader is one subscriber's end of one lane. Only the polling goroutine uses
// it once the lane was admitted.
type reader struct {
	ring     ring
	intent   *uint64
	tailHint *uint64
	pos      uint64 // where the next frame starts
	want     uint64 // its sequence
	maxMsg   uint64
	loose    Cause // not 0: the next frame's sequence may be beyond want, for this cause
	fresh    bool  // want is not known: the next frame sets it
	topic    TopicID
	source   SourceID

	held      bool    // a publisher holds data for us from join on
	join      uint64  // J
	ticket    uint64  // of this join
	notice    *uint64 // the ticket word of our eviction notice
	published uint64  // cursor last stored
	step      uint64  // store it at least every so many bytes
	slotEpoch *uint64
	slotPos   *uint64
	slotSeq   *uint64
	slotLane  *uint64
	resumed   bool       // the slot is open since an owner before this one
	acks      *ackedPart // nil: the cursor follows what was read
	stalled   bool       // a Relay cannot send of it: what comes is no reason to wake up

	neverEvicts bool
	front       bool   // the last gather ended at a header that was not there yet
	bulk        bool   // the last gather took much: more is waiting, up to the tail
	first       uint64 // sequence with which the last deliver began
	bytes       uint64 // payloads that it handed out, the last one included
	size        uint64 // of that one
	tail        uint64 // tail hint last seen: everything before it is complete
	frame       uint64 // size of the last frame, to guess how much limit frames take
	due         uint64 // position at which the next part of the next stretch is fetched
	idle        uint32 // polls that found nothing, saturating
	state       laneState
	final       uint64 // where the lane ends, once its publisher is gone
	lastly      uint64 // sequence that would have come at final
	ended       bool   // final is known

	wakeSeq *uint32
	hdr     layout.LaneHeader
	mem     []byte
	mapping *segment.Mapping
}

// laneState is where a lane is in a subscriber's life.
//
//	WAITING --previous lane of the source ended--> READING --END, final--> ENDED
//	                                                |   ^
//	                                       notice   v   | joined again
//	                                               EVICTED
type laneState uint8

const (
	laneReading laneState = iota
	laneWaiting
	laneEvicted
	laneEnded
)

// newReader takes over a lane in mem, whose header was checked.
func newReader(mem []byte, h layout.LaneHeader) (*reader, error) {
	if err := checkAligned(mem); err != nil {
		return nil, err
	}
	return &reader{
		ring:     newRing(mem, h.Geometry),
		intent:   word64(mem, layout.OffIntent),
		tailHint: word64(mem, layout.OffTailPos),
		wakeSeq:  word32(mem, layout.OffWakeSeq),
		maxMsg:   uint64(h.MaxMsg),
		pos:      h.FirstPos,
		want:     h.FirstSeq,
		topic:    TopicID(h.TopicID),
		source:   SourceID(h.SourceID.Low()),
		step:     cursorStep(h.Geometry),
		hdr:      h,
		mem:      mem,
	}, nil
}

// cursorStep is how many bytes a reader may be ahead of its stored cursor.
func cursorStep(g layout.Geometry) uint64 { return min(g.Step/4, g.Ring/16) }

// bindSlot gives the reader its slot in the subscriber's cursor file.
func (r *reader) bindSlot(cursors []byte) {
	slot := layout.SlotOff(r.hdr.Lane)
	r.slotEpoch = word64(cursors, slot+layout.SlotEpoch)
	r.slotPos = word64(cursors, slot+layout.SlotCursor)
	r.slotSeq = word64(cursors, slot+layout.SlotSeq)
	r.slotLane = word64(cursors, slot+layout.SlotLane)
}

// hold begins the protected part of a lossless reader's life: everything at or
// after J stays until the cursor has passed it.
func (r *reader) hold(j *control.Joined) {
	r.join, r.ticket, r.held = j.Pos, j.Ticket, true
	r.notice = word64(r.mem, layout.OffNotices+uint64(j.Notice%layout.Notices)*layout.NoticeBytes)
}

// openSlot makes the publisher use the stored cursor instead of its J.
func (r *reader) openSlot() {
	r.published = r.cursor()
	if r.resumed { // it is open, and a publisher that saw it closed would go back to J
		r.resumed = false
		return
	}
	seqlock.StoreRelease(r.slotEpoch, 0)
	seqlock.StoreRelease(r.slotLane, 0)
	seqlock.StoreRelease(r.slotPos, r.published)
	seqlock.StoreRelease(r.slotSeq, r.nextSeq())
	seqlock.StoreRelease(r.slotLane, r.hdr.Epoch.Low())
	seqlock.StoreRelease(r.slotEpoch, r.hdr.Epoch.Low()) // SYNC slot/refill
}

// closeSlot makes the publisher fall back to the J of a join, before one is
// asked for.
func (r *reader) closeSlot() { seqlock.StoreRelease(r.slotEpoch, 0) }

// cursor is what may be overwritten no longer: never before J, which is where
// protection starts even while older history is read.
func (r *reader) cursor() uint64 {
	if r.held {
		return seqlock.Max(r.join, r.done())
	}
	return r.done()
}

// done is where the frames begin that are still wanted.
func (r *reader) done() uint64 {
	if r.acks != nil {
		return r.acks.pos
	}
	return r.pos
}

// inHistory reports whether the reader is before J. Its cursor stays at J, and only
// the sequence beside it tells how far it has come.
func (r *reader) inHistory() bool { return r.held && seqlock.Before(r.done(), r.join) }

// publish stores the cursor, and reports whether the publisher has let go of
// this reader.
func (r *reader) publish() (evicted bool) {
	r.storeCursor()
	return r.held && atomic.LoadUint64(r.notice) == r.ticket // SYNC notice/evicted
}

func (r *reader) storeCursor() {
	if c := r.cursor(); c != r.published || r.inHistory() {
		r.published = c
		// The sequence first: a durable subscriber that is killed in between reads
		// from the older position, and never misses what is due.
		seqlock.StoreRelease(r.slotSeq, r.nextSeq())
		seqlock.StoreRelease(r.slotPos, c) // SYNC cursor/refill
	}
}

// overrun reports whether bytes from pos on may have been overwritten: I6.
func (r *reader) overrun(pos uint64) bool {
	return seqlock.Diff(atomic.LoadUint64(r.intent), pos) > int64(r.ring.mask+1) // SYNC intent/overrun
}

// verdict is what a look at the next position found.
type verdict uint8

const (
	found     verdict = iota // frames, or a padding frame that was skipped
	nothing                  // no frame yet
	lapped                   // overwritten before it was read
	lappedRaw                // overwritten while it was read
	corrupt
	ended
	skipped // a GAP frame: want has moved, report it
)

// gather copies as many committed data frames as fit buf, at most limit, and
// validates the copy as a whole: one intent check for its first byte covers all,
// because later positions are overwritten later. It moves nothing.
//
// A reader that is far behind does not look at each header in the ring first:
// up to the tail hint everything is complete, so a whole stretch is copied and
// deliver finds the frames in the copy, where the next header is an L1 hit away.
// Such a stretch may end in the middle of a frame.
//
// Preconditions: len(buf) >= the largest frame; buf starts 8-aligned.
func (r *reader) gather(buf []byte, limit int) (n uint64, v verdict) {
	start := r.pos
	lap := start&^r.ring.mask + r.ring.mask + 1
	end := min(lap, start+uint64(len(buf)))
	r.front = false
	if r.bulk {
		// Whole frames, if all are as large as the last one: what is cut is copied twice.
		count := min(uint64(limit), gatherBytes/max(r.frame, 1)+1)
		stretch := min(end, start+count*r.frame)
		if r.tail < stretch+gatherBytes { // what lies behind is fetched, see fetch
			r.tail = atomic.LoadUint64(r.tailHint) // SYNC tail/bulk
		}
		if r.tail >= stretch && stretch > start { // no frame was delivered yet: no guess
			return r.take(buf, stretch-start, r.ahead(stretch-start))
		}
		r.bulk = false
	}
	p := start
	for ; limit > 0 && p-start < gatherBytes; limit-- {
		if atomic.LoadUint64(r.ring.word(p)) != layout.Commit(p, layout.KindData) { // SYNC commit/poll
			r.front = true
			break
		}
		// The length is read once here to find the next header and once more,
		// by deliver, from the validated copy.
		size := uint64(uint32(*r.ring.word(p + layout.OffLen)))
		if size > r.maxMsg {
			break
		}
		next := p + layout.FrameBytes(size)
		if next > end {
			break
		}
		p = next
		if p == end {
			break
		}
	}
	if n = p - start; n == 0 {
		return 0, r.special(start, lap)
	}
	r.bulk = n > gatherBytes/2
	return r.take(buf, n, nil)
}

const (
	fetchBytes = 1 << 10 // at a time: as many lines as a core asks for at once
	fetchMost  = 512     // larger frames are fetched while they are copied: handlers take less long than that
	fetchLead  = 2 << 10 // that far behind what is copied then
	noFetch    = ^uint64(0)
)

// fetch asks for a part of the stretch behind the one that is being delivered, lead
// bytes further on than due, where delivery has come to: so that its lines travel
// while handlers run. It returns where the next part is due. What is not complete yet
// is left to the publisher, which is writing there.
func (r *reader) fetch(due, lead uint64) (next uint64) {
	at := (due + lead) &^ (lines.Bytes - 1)
	if at+fetchBytes > min(r.tail, at|r.ring.mask+1) {
		return noFetch
	}
	lines.Fetch(r.ring.bytes(at, fetchBytes))
	return due + fetchBytes
}

// ahead is where the lines are that are asked for while n bytes of large frames are
// copied, one for one: nil if not all are complete, or the copy asks for none.
func (r *reader) ahead(n uint64) *byte {
	at := r.pos + fetchLead
	if lap := at | r.ring.mask + 1; at+n > lap {
		at = lap
	}
	if r.frame <= fetchMost || at+n > r.tail || n < lines.Bytes || !lines.Hints {
		return nil
	}
	return r.ring.at(at)
}

// awaited are the lines behind that of the header that is awaited, as many as the frame has
// if it is as large as the last one: asked for while it is awaited, they come
// with that header and not after it. A larger frame is still being written when
// its first line comes: see ADR 0075.
func (r *reader) awaited() []byte {
	first, end := r.pos|(lines.Bytes-1)+1, r.pos+r.frame
	if r.frame > fetchMost || end <= first || end > r.pos|r.ring.mask+1 {
		return nil
	}
	return r.ring.bytes(first, end-first)
}

// take copies n bytes, asks for what lies ahead meanwhile, unless that is nil, and
// validates the copy.
func (r *reader) take(buf []byte, n uint64, ahead *byte) (uint64, verdict) {
	from := r.ring.bytes(r.pos, n)
	if ahead == nil {
		lines.Copy(buf, from)
	} else {
		lines.CopyFetch(&buf[0], from, ahead)
	}
	seqlock.LoadLoad()
	if r.overrun(r.pos) {
		return 0, lappedRaw
	}
	return n, found
}

// special deals with a position that holds no data frame that could be taken.
func (r *reader) special(p, lap uint64) verdict {
	word := atomic.LoadUint64(r.ring.word(p)) // SYNC commit/poll
	if !layout.Committed(word, p) {
		// A lapped header may hold anything.
		if r.overrun(p) {
			return lapped
		}
		if r.ended && !seqlock.Before(p, r.final) {
			return ended
		}
		return nothing
	}
	meta := *r.ring.word(p + layout.OffLen)
	seq := *r.ring.word(p + layout.OffSeq)
	size := uint64(uint32(meta))
	var upTo uint64
	fits := size <= r.maxMsg && p+layout.FrameBytes(size) <= lap
	if fits && size >= 8 {
		upTo = *r.ring.word(p + layout.OffPayload)
	}
	seqlock.LoadLoad()
	if r.overrun(p) {
		return lappedRaw
	}
	switch layout.KindOf(word) {
	case layout.KindPad:
		r.pos = lap
		return found
	case layout.KindEnd:
		r.lastly = seq
		return ended
	case layout.KindGap:
		// The sequences seq .. upTo are missing since before this host.
		if !fits || size < 8 || seqlock.Before(upTo, seq) {
			return corrupt
		}
		r.pos = p + layout.FrameBytes(size)
		r.loose = CauseForwarded
		return skipped
	}
	if fits {
		return found // committed between two looks: gather takes it next time
	}
	return corrupt
}

// seek moves a reader that was lapped, or that starts somewhere, to a frame
// that is still there: the oldest that is not about to be overwritten, or the
// latest that the index knows. It never moves back. It reports false when
// everything that it tried was overwritten under it: try again later.
func (r *reader) seek(oldest bool) bool {
	ringCap := r.ring.mask + 1
	after := r.pos
	for range layout.IndexEntries {
		intent := atomic.LoadUint64(r.intent)
		low := uint64(0)
		if intent > ringCap {
			low = intent - ringCap
			if oldest {
				low += r.hdr.Step // not the one that goes next
			}
		}
		best, ok := uint64(0), false
		for i := range uint64(layout.IndexEntries) {
			pos := atomic.LoadUint64(word64(r.mem, layout.OffIndex+i*layout.IndexEntryBytes)) // SYNC index/seek
			if pos == 0 || pos%layout.Align != 0 || pos <= after || pos < low || pos >= intent ||
				pos>>r.hdr.BlockShift()%layout.IndexEntries != i {
				continue
			}
			if !ok || oldest == (pos < best) {
				best, ok = pos, true
			}
		}
		if !ok {
			break
		}
		if seq, ok := r.sequenceAt(best); ok && (r.fresh || !seqlock.Before(seq, r.want)) {
			r.pos = best
			return true
		}
		if !oldest {
			break
		}
		after = best
	}
	// Nothing in the index: the tail hint is a frame boundary.
	tail := atomic.LoadUint64(r.tailHint) // SYNC tail/join
	if tail > r.pos && tail%layout.Align == 0 && tail < layout.MaxPos && !r.overrun(tail) {
		r.pos = tail
		return true
	}
	return false
}

// incredible reports whether the intent is further beyond the tail than any publisher
// goes, so that nothing in the ring will ever be valid. A grant is less than a ring
// (grantMax), the tail follows each grant, and one may be under way.
func (r *reader) incredible() bool {
	intent := atomic.LoadUint64(r.intent) // first: the tail only comes closer
	return seqlock.Diff(intent, atomic.LoadUint64(r.tailHint)) > 2*int64(r.ring.mask+1)
}

// sequenceAt reads the sequence of the data frame at pos, validated.
func (r *reader) sequenceAt(pos uint64) (uint64, bool) {
	ok := atomic.LoadUint64(r.ring.word(pos)) == layout.Commit(pos, layout.KindData)
	seq := *r.ring.word(pos + layout.OffSeq)
	seqlock.LoadLoad()
	return seq, ok && !r.overrun(pos)
}

// skip steps over committed frames from r.pos, reading headers only, as long as
// old says so of their sequences, or there are no more. It leaves pos and want at
// the first frame not skipped. Used at the start of a subscription, never on the
// hot path.
func (r *reader) skip(old func(seq uint64) bool) {
	for steps := r.ring.mask / layout.Align; steps > 0; steps-- {
		p := r.pos
		word := atomic.LoadUint64(r.ring.word(p)) // SYNC commit/poll
		if !layout.Committed(word, p) {
			return
		}
		size := uint64(uint32(*r.ring.word(p + layout.OffLen)))
		seq := *r.ring.word(p + layout.OffSeq)
		seqlock.LoadLoad()
		lap := p&^r.ring.mask + r.ring.mask + 1
		if r.overrun(p) || size > r.ring.mask || p+layout.FrameBytes(size) > lap {
			return
		}
		switch layout.KindOf(word) {
		case layout.KindPad:
			r.pos = lap
		case layout.KindData:
			if !old(seq) {
				r.want, r.fresh = seq, false
				return
			}
			r.pos, r.want, r.fresh = p+layout.FrameBytes(size), seq+1, false
		default:
			return
		}
	}
}

// startLatest moves to the end of what is committed now.
func (r *reader) startLatest() {
	r.startTail()
	r.skip(func(uint64) bool { return true })
}

// startTail moves to the tail hint, or to J where a publisher holds data.
func (r *reader) startTail() {
	var tail [layout.TailWords]uint64
	cell, err := seqlock.NewCell(r.mem[layout.OffTail : layout.OffTail+layout.TailBytes])
	consistent := err == nil && cell.Load(tail[:])
	if !consistent {
		tail[0] = atomic.LoadUint64(r.tailHint)
	}
	if r.held && seqlock.Before(tail[0], r.join) {
		tail[0], consistent = r.join, false
	}
	if tail[0]%layout.Align != 0 || tail[0] >= layout.MaxPos || tail[0] < r.hdr.FirstPos {
		return // hostile: stay at the first position and be lapped
	}
	r.pos, r.want, r.fresh = tail[0], tail[1], !consistent
}

// startOldest moves to the oldest frame that will stay for a while.
func (r *reader) startOldest() {
	if !r.overrun(r.hdr.FirstPos) {
		return // nothing was overwritten yet
	}
	for range 8 {
		r.pos, r.fresh = 0, true
		if r.seek(true) {
			break
		}
	}
	if seq, ok := r.sequenceAt(r.pos); ok {
		r.want, r.fresh = seq, false
	}
}

// startAt moves to sequence seq, or to the oldest frame after it; what lies
// between is reported as a gap.
func (r *reader) startAt(seq uint64) {
	var best, at uint64
	for i := range uint64(layout.IndexEntries) {
		pos := atomic.LoadUint64(word64(r.mem, layout.OffIndex+i*layout.IndexEntryBytes)) // SYNC index/seek
		if pos <= best || pos%layout.Align != 0 || pos>>r.hdr.BlockShift()%layout.IndexEntries != i {
			continue
		}
		if s, ok := r.sequenceAt(pos); ok && !seqlock.After(s, seq) {
			best, at = pos, s
		}
	}
	if best != 0 {
		r.pos, r.want = best, at
	} else {
		r.startOldest()
	}
	r.skip(func(s uint64) bool { return seqlock.Before(s, seq) })
	// Beyond it, or lost on the way: it is gone, and the first frame tells how
	// much else. Short of it: it is yet to come; what comes first is delivered.
	if r.fresh || seqlock.After(r.want, seq) || r.overrun(r.pos) {
		r.want, r.fresh, r.loose = seq, false, CauseStart
	}
}

const (
	aheadFrames = 8
	aheadMin    = 256 // smaller frames come with their neighbours' cache lines
)

// fetchAhead looks at a header some frames ahead, if all are as long as the one at p, so
// that its cache line is on the way when the walk gets there: where the next header is
// stands in the one before, and one after the other would be waited for. It reports
// whether that was a frame: beyond the last one are lines that the publisher writes. The race
// detector would report the look: there may be no header.
func (r *reader) fetchAhead(p, size, end uint64) bool {
	q := p + aheadFrames*size
	return !raceEnabled && size >= aheadMin && q < end && atomic.LoadUint64(r.ring.word(q)) == layout.Commit(q, layout.KindData) // SYNC commit/poll
}
