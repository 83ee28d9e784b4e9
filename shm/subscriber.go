package shm

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/seqlock"
)

// gatherBytes is how much is copied and validated at once, rounded up to whole frames:
// small enough to stay in L1 beside the ring's lines that were fetched ahead.
const gatherBytes = 8 << 10

const (
	coldAfter    = 1 << 14 // empty polls after which a lane is looked at every 8th sweep only
	defaultMax   = 1024    // Poll's limit where none is given
	awaitedLanes = 16      // lanes whose next frames are fetched while they are awaited, so that these stay in L1
)

// Subscriber reads the lanes of a topic, or of all topics that match a pattern,
// also of those that appear later. Poll, PollBatch, View, Run, Frames and the Idler are for
// one goroutine at a time; Close, Stats and Name methods are safe from any.
type Subscriber struct {
	lanes     []*reader // polled
	next      int       // where the next sweep starts
	sweep     uint32
	buf       []byte
	mem       []byte // the cursor file
	batch     *batch // what PollBatch hands out, and to whom: while it polls, the other handler is nil
	batched   func([]Frame)
	laid      laid // what a loop over Frames is at
	idles     uint32
	inbox     atomic.Bool // something waits in inboxed, or closed or dead; cleared under control
	counts    [layout.SubMetricWords]uint64
	stats     seqlock.Cell
	closed    atomic.Bool
	worked    bool   // the last poll delivered something
	protected bool   // inside Protect
	busy      uint32 // 1 while Poll, View or a park is under way; plain stores, see Close
	fence     bool   // no membarrier on this kernel: raise busy with a fence
	resumed   bool   // durable, and its cursors are those of an owner before
	acked     bool   // its cursors follow the word of a Relay
	dead      error  // the cursor file is gone, or the directory gave the subscriber up

	waiting []*reader // lanes whose source's previous lane is still being read
	shifts  uint64    // how often lanes came or went
	park    *parker
	opts    SubscriberOptions
	hdr     layout.CursorHeader

	control sync.Mutex
	inboxed []admission
	beat    seqlock.Cell
	mapping *segment.Mapping
	client  *Client
	names   sync.Map // TopicID and SourceID -> string

	lost      atomic.Bool            // the directory gave the subscriber up
	lanesHeld map[layout.ID16]uint32 // by epoch, the number of a lane that was passed on and not yet drained; guarded by control
	left      leftLanes              // drained; guarded by control
	back      bool                   // resumed, and not told yet of every lane there is; guarded by control
	rejoining map[layout.ID16]bool   // asked to be joined again; guarded by control
	unmapped  bool                   // guarded by control
	final     Stats                  // after Close
}

// newSubscriber takes over a cursor file in mem, whose header was encoded.
func newSubscriber(mem []byte, h layout.CursorHeader, o SubscriberOptions) (*Subscriber, error) {
	if err := checkAligned(mem); err != nil {
		return nil, err
	}
	s := &Subscriber{mem: mem, hdr: h, opts: o, acked: o.acked, buf: gatherBuffer(gatherBytes), lanesHeld: map[layout.ID16]uint32{}, rejoining: map[layout.ID16]bool{}}
	var err error
	if s.stats, err = seqlock.NewCell(mem[layout.OffSubMetrics : layout.OffSubMetrics+layout.SubMetricBytes]); err != nil {
		return nil, err
	}
	if s.beat, err = seqlock.NewCell(mem[layout.OffCursorBeat : layout.OffCursorBeat+layout.BeatBytes]); err != nil {
		return nil, err
	}
	s.park = newParker(s)
	s.fence = !membarrierRegistered()
	return s, nil
}

// Poll hands at most limit frames (0 = 1,024) to h and returns how many. It never
// waits. h sees a private, validated copy of each frame. Errors come alone, after
// what was delivered before them, and polling again goes on:
//
//	*GapError      sequences are missing; the next frame is the one after the gap
//	*EvictedError  a publisher stopped waiting for this lossless subscriber
//	*LaneError     one lane was detached for good
//	ErrClosed      the subscriber is closed, or the registry gave it up
//	ErrFault       the subscriber's own cursor file is gone
//
// After one of the last two every Poll returns the same, and Close is all that is
// left to do.
//
// The position moves after h returns: a frame whose handler panicked is
// delivered again.
func (s *Subscriber) Poll(h func(Frame), limit int) (n int, err error) {
	if !s.protected {
		return s.pollGuarded(h, limit)
	}
	if limit <= 0 {
		limit = defaultMax
	}
	if s.inbox.Load() {
		if err := s.admit(); err != nil {
			return 0, err
		}
	}
	if s.laid.lane != nil { // the loop's body polls, or has panicked
		s.gatherUp()
	}
	if s.worked {
		s.worked = false
		s.stats.Store(nil) // no counters, but the activity that publishers watch
	}
	if len(s.lanes) == 1 {
		n, err = s.pollLane(s.lanes[0], h, limit)
	} else {
		n, err = s.pollAll(h, limit)
	}
	if n > 0 {
		s.idles, s.worked = 0, true
	} else if s.idles++; s.idles == 64 {
		s.stats.Store(s.counts[:])
	}
	return n, err
}

// pollGuarded is Poll with the recovery from a memory fault that Protect sets up
// for many.
func (s *Subscriber) pollGuarded(h func(Frame), limit int) (n int, err error) {
	defer s.guard(debug.SetPanicOnFault(true), &err)
	s.enter()
	s.protected = true // guard takes it back
	return s.Poll(h, limit)
}

// Protect runs f, a polling loop, and makes each Poll, PollBatch and View in it cheaper:
// the recovery from a memory fault in a lane is set up once around f rather than
// once a poll. Such a fault ends f and is returned as a *LaneError; that lane is
// detached and f may be run again. f's own error is returned otherwise. Polling
// goroutine only. Close waits until f has returned, which a Poll in it brings
// about with ErrClosed.
func (s *Subscriber) Protect(f func() error) (err error) {
	if s.protected {
		return f()
	}
	defer s.guard(debug.SetPanicOnFault(true), &err)
	s.enter()
	s.protected = true
	return f()
}

// pollAll sweeps over the lanes, beginning where the last sweep was cut short.
func (s *Subscriber) pollAll(h func(Frame), limit int) (n int, err error) {
	lanes, first := s.lanes, s.next // a lane that ends changes both
	s.sweep++
	for i := range lanes {
		at := first + i
		if at >= len(lanes) {
			at -= len(lanes)
		}
		r := lanes[at]
		if r.idle >= coldAfter && (s.sweep+uint32(at))&7 != 0 {
			continue
		}
		var got int
		got, err = s.pollLane(r, h, limit-n)
		n += got
		if err != nil || n >= limit {
			s.next = at + 1
			if s.next >= len(s.lanes) {
				s.next = 0
			}
			break
		}
	}
	return n, err
}

// enter says that the polling goroutine uses the mappings; guard that it no
// longer does. Close raises closed and then waits for busy to fall: the barrier
// between the two makes one side see the other.
func (s *Subscriber) enter() {
	if s.fence { // no membarrier: this side fences
		atomic.StoreUint32(&s.busy, 1)
		return
	}
	seqlock.StoreRelease32(&s.busy, 1) // SYNC busy/close
}

// shield makes a poll in a loop around which guard is deferred like one inside Protect, and
// unshield what follows it like something outside.
func (s *Subscriber) shield() {
	s.enter()
	s.protected = true
}

func (s *Subscriber) unshield() {
	s.protected = false
	seqlock.StoreRelease32(&s.busy, 0)
}

// guard turns a memory fault in one of the lanes into its detachment, and one in
// the subscriber's own cursor file into its end. Any other panic goes on.
func (s *Subscriber) guard(old bool, err *error) {
	debug.SetPanicOnFault(old)
	if !s.protected {
		return // the end of a loop, or a panic in its body
	}
	s.protected, s.laid.wanted = false, false
	v := recover()
	if v == nil {
		seqlock.StoreRelease32(&s.busy, 0)
		return
	}
	defer seqlock.StoreRelease32(&s.busy, 0)
	addr, ok := faultAddr(v)
	if !ok {
		panic(v)
	}
	if addrWithin(addr, s.mem) {
		*err = s.disown(s.truncated())
		return
	}
	for _, r := range s.lanes {
		if addrWithin(addr, r.mem) {
			if !shielded(s.mem, func() { *err = s.detach(r, ErrFault, "the segment was truncated under its reader") }) {
				*err = s.disown(s.truncated())
			}
			return
		}
	}
	panic(v)
}

// disown ends a subscriber. What is left for the caller to do is Close.
func (s *Subscriber) disown(why error) error {
	s.dead = why
	s.inbox.Store(true) // admit answers from now on
	return s.dead
}

// truncated ends a subscriber whose cursors nobody would see.
func (s *Subscriber) truncated() error {
	return fmt.Errorf("%w: the cursor file of this subscriber of %s was truncated", ErrFault, s.hdr.Pattern)
}

// pollLane delivers at most limit frames of one lane.
func (s *Subscriber) pollLane(r *reader, h func(Frame), limit int) (n int, err error) {
	if r.state != laneReading {
		return 0, nil
	}
	// Cursors follow at the next poll, when what was delivered has been dealt
	// with and nobody waits for an answer to it.
	if r.pos != r.published && r.publish() {
		return 0, s.evicted(r)
	}
	if r.idle == 0 || r.fresh || r.loose != 0 {
		return s.pollRuns(r, h, limit)
	}
	// After a wait the first frame goes out alone: a look for a second would
	// hold up the first, on a line that the publisher is writing. What is not
	// simply there, or not simply missing, is left to pollRuns.
	pos := r.pos
	f := r.ring.header(pos)
	word := atomic.LoadUint64(&f.commit) // SYNC commit/poll
	if word != layout.Commit(pos, layout.KindData) {
		if layout.Committed(word, pos) || r.ended || r.overrun(pos) {
			return s.pollRuns(r, h, 1)
		}
		s.await(r)
		return 0, s.waits(r)
	}
	meta, seq, time := f.meta, f.seq, f.time
	size := uint64(uint32(meta))
	next := pos + layout.FrameBytes(size)
	if size > r.maxMsg || next > pos|r.ring.mask+1 || seq != r.want {
		return s.pollRuns(r, h, 1)
	}
	payload := s.buf[:size:size]
	copy(payload, r.ring.bytes(pos+layout.OffPayload, size))
	seqlock.LoadLoad()
	if r.overrun(pos) {
		return 0, s.unusual(r, lappedRaw)
	}
	if h == nil {
		s.batch[0] = Frame{r.topic, r.source, seq, int64(time), uint16(meta >> 32), uint8(meta >> 48), payload}
		s.batched(s.batch[:1:1])
	} else {
		spread(h)(r.topic, r.source, seq, int64(time), uint16(meta>>32), uint8(meta>>48), payload)
	}
	r.pos, r.want, r.frame, r.idle = next, seq+1, next-pos, 0
	s.counts[layout.SubFrames]++
	s.counts[layout.SubBytes] += size
	return 1, nil
}

// await asks for the lines of a lane's next frame.
func (s *Subscriber) await(r *reader) {
	if len(s.lanes) <= awaitedLanes {
		lines.Fetch(r.awaited())
	}
}

// waits notes that a lane has nothing yet, and looks whether its publisher still
// waits for this reader.
func (s *Subscriber) waits(r *reader) error {
	if r.idle < coldAfter {
		r.idle++
	}
	if r.held && atomic.LoadUint64(r.notice) == r.ticket { // SYNC notice/evicted
		return s.evicted(r)
	}
	return nil
}

// pollRuns delivers at most limit frames of one lane, as many at a time as lie
// together.
func (s *Subscriber) pollRuns(r *reader, h func(Frame), limit int) (n int, err error) {
	if s.laid.wanted {
		return s.lay(r)
	}
	for looks := 0; n < limit; {
		if r.state != laneReading {
			return n, nil
		}
		bytes, v := r.gather(s.buf, limit-n)
		if v != found {
			if v != nothing {
				return n, s.unusual(r, v)
			}
			if n > 0 {
				return n, nil // the next poll has time to look further
			}
			return 0, s.waits(r)
		}
		if bytes == 0 {
			// Padding, or a header that changed between two looks. An honest
			// publisher does that once; a hostile one does not keep us here.
			if looks++; looks > 2 {
				return n, nil
			}
			continue
		}
		looks = 0
		got, err := s.deliver(r, s.buf[:bytes], h, limit-n)
		n += got
		if err != nil {
			return n, err
		}
		if r.pos-r.published >= r.step {
			if r.publish() {
				return n, s.evicted(r)
			}
			s.stats.Store(s.counts[:])
		}
		if r.front {
			return n, nil // the next header was not there a moment ago
		}
	}
	return n, nil
}

// deliver hands the frames of a validated copy to h, at most limit. Of those that a panic or
// runtime.Goexit of h cut short, it counts what came before.
func (s *Subscriber) deliver(r *reader, b []byte, h func(Frame), limit int) (n int, err error) {
	st, err := s.begin(r, b, limit)
	if err != nil {
		return 0, err
	}
	whole, cut := false, true
	defer func() {
		if cut {
			s.counts[layout.SubFrames] += r.want - r.first
			s.counts[layout.SubBytes] += r.bytes - r.size
		}
	}()
	if h == nil {
		whole = r.handBatch(&st, b, s.batch, s.batched)
	} else {
		whole = r.hand(&st, b, h)
	}
	cut = false
	return s.finish(r, &st, b, whole)
}

// begin readies a lane for hand.
func (s *Subscriber) begin(r *reader, b []byte, limit int) (st stretch, err error) {
	if r.fresh || r.loose != 0 { // the first frame needs a closer look
		if f := headerIn(b, 0); f.commit == layout.Commit(r.pos, layout.KindData) {
			if err := s.resume(r, f.seq); err != nil {
				return st, err
			}
		}
	}
	r.first, r.bytes, r.size, r.idle = r.want, 0, 0, 0
	r.due = r.pos
	if !r.bulk || r.frame > fetchMost {
		r.due = noFetch
	}
	return stretch{start: r.pos, end: r.pos + uint64(len(b)), last: r.want + min(uint64(limit), uint64(len(b))/layout.Align)}, nil
}

// finish counts what hand has handed out since begin, and judges what it stopped at if that
// was not whole.
func (s *Subscriber) finish(r *reader, st *stretch, b []byte, whole bool) (n int, err error) {
	if !whole {
		if f := headerIn(b, r.pos-st.start); f.commit == layout.Commit(r.pos, layout.KindData) && f.seq != r.want {
			err = s.detach(r, ErrCorrupt, fmt.Sprintf("sequence %d where %d is due", f.seq, r.want))
		} else if !r.bulk {
			err = s.detach(r, ErrCorrupt, "frame changed while it was read")
		}
	}
	n = int(r.want - r.first)
	s.counts[layout.SubFrames] += uint64(n)
	s.counts[layout.SubBytes] += r.bytes
	if n == 0 {
		r.bulk = false
	} else {
		r.frame = layout.FrameBytes(r.size)
	}
	return n, err
}

// stretch is what hand hands out.
type stretch struct {
	start, end uint64 // positions
	last       uint64 // sequence to stop before, if that is not all
	stop       uint64 // position: what starts before it comes before last and end, and has no fetch due
}

// hand calls h for the frames of a stretch, whose copy is b, and fetches what lies behind them on
// the way: false if one is not whole, or not the next. A call of h costs the loop every
// register, and what is live across it is stored before and loaded after. So little is: the
// rest is compared where it lies, in the reader and in st, which is this call's own (ADR 0080).
func (r *reader) hand(st *stretch, b []byte, h func(Frame)) bool {
	call := spread(h)
	for seqlock.Before(r.want, st.last) && r.pos < st.end {
		if r.pos >= r.due {
			r.due = r.fetch(r.due, st.end-st.start)
		}
		// No more frames than are left to hand out start before that.
		st.stop = min(r.due, st.end, r.pos+(st.last-r.want)*layout.Align)
		for pos := r.pos; pos < st.stop; {
			f := headerIn(b, pos-st.start)
			meta, seq := f.meta, f.seq
			size := uint64(uint32(meta))
			next := pos + layout.FrameBytes(size)
			// The end of a stretch, or something that gather must look at. If the publisher is
			// hostile, the copy may also differ from what gather saw.
			if f.commit != layout.Commit(pos, layout.KindData) || size > r.maxMsg || next > st.end || seq != r.want {
				return false
			}
			r.size = size
			r.bytes += size
			call(r.topic, r.source, seq, int64(f.time), uint16(meta>>32), uint8(meta>>48), f.payload(size))
			r.pos = next
			r.want++
			pos = next
		}
	}
	return true
}

// resume accepts seq as the next sequence of a lane that was repositioned, and
// reports the gap before it; anywhere else a jump is corruption.
func (s *Subscriber) resume(r *reader, seq uint64) error {
	switch {
	case r.fresh, r.loose == CauseStart && seqlock.Before(seq, r.want): // the start asked for is yet to come
		r.fresh, r.want = false, seq
	case seq == r.want:
	case r.loose != 0 && seqlock.After(seq, r.want):
		return s.gap(r, seq)
	default:
		return s.detach(r, ErrCorrupt, fmt.Sprintf("sequence %d where %d is due", seq, r.want))
	}
	r.loose = 0
	return nil
}

// gap accounts for the frames from r.want to before seq and reports them.
func (s *Subscriber) gap(r *reader, seq uint64) error {
	e := &GapError{Topic: r.topic, Source: r.source, From: r.want, Next: seq, Cause: r.loose}
	r.want, r.loose = seq, 0
	s.counts[layout.SubGaps]++
	s.counts[layout.SubMissed] += e.Missed()
	s.stats.Store(s.counts[:])
	return e
}

// unusual acts on every verdict but found and nothing.
func (s *Subscriber) unusual(r *reader, v verdict) error {
	switch v {
	case lapped, lappedRaw:
		if v == lapped {
			s.counts[layout.SubOverrunPoll]++
		} else {
			s.counts[layout.SubOverrunRead]++
		}
		if r.held && !seqlock.Before(r.pos, r.join) {
			return s.evicted(r) // with or without a notice yet: nobody holds data for us
		}
		if r.loose == 0 {
			r.loose = CauseLapped
		}
		if r.held { // history before J went away: J is safe
			if !r.seek(true) || seqlock.After(r.pos, r.join) {
				r.pos = r.join
			}
			return nil
		}
		if !r.seek(!s.opts.LapToLatest) && r.incredible() {
			return s.detach(r, ErrCorrupt, "the intent is further beyond the tail than a publisher goes")
		}
		return nil
	case ended:
		return s.end(r)
	case skipped:
		return nil
	}
	return s.detach(r, ErrCorrupt, "impossible frame header")
}

// evicted begins the way back of a lossless reader: let go of the slot, ask to
// be joined again. Everything delivered so far stands.
func (s *Subscriber) evicted(r *reader) error {
	r.state, r.held = laneEvicted, false
	r.closeSlot()
	s.counts[layout.SubEvictions]++
	s.stats.Store(s.counts[:])
	if s.client != nil {
		s.client.rejoin(s, r.hdr.Epoch)
	}
	return &EvictedError{Topic: r.topic, Source: r.source, NextSeq: r.want}
}

// rejoined continues at the new J; the first frame there tells the gap.
func (r *reader) rejoined(j *control.Joined) {
	r.hold(j)
	r.state = laneReading
	r.behindJoin()
	r.openSlot()
}

// end takes a finished lane out; the last frames may be missing.
func (s *Subscriber) end(r *reader) (err error) {
	if !r.fresh && seqlock.After(r.lastly, r.want) {
		if r.loose == 0 {
			r.loose = CauseLapped
		}
		err = s.gap(r, r.lastly)
	}
	s.drop(r)
	return err
}

// detach gives a lane up for good.
func (s *Subscriber) detach(r *reader, why error, reason string) error {
	s.counts[layout.SubFaults]++
	e := &LaneError{Topic: r.topic, Source: r.source, Pos: r.pos, Reason: reason, Err: why}
	if r.slotEpoch != nil {
		r.closeSlot() // a publisher that lives lets go
	}
	s.drop(r)
	return e
}

// drop forgets a lane, tells the directory, and lets a waiting successor start.
// The slot keeps the epoch of a lane that was read to its end: a directory that
// starts again sees from it that the lane was had, and left.
func (s *Subscriber) drop(r *reader) {
	r.state = laneEnded
	if r.slotEpoch != nil {
		r.storeCursor()
	}
	// A new slice: a sweep may be walking the old one.
	s.lanes = slices.DeleteFunc(slices.Clone(s.lanes), func(x *reader) bool { return x == r })
	s.next = 0
	s.unblock()
	s.stats.Store(s.counts[:])
	if s.client != nil {
		s.client.drained(s, r.hdr.Epoch)
	}
	r.unmap()
}
