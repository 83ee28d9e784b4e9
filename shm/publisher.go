package shm

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/seqlock"
)

// Publisher is the one writer of one lane. It is for one goroutine at a time:
// Claim, Publish, PublishBatch, Flush and Close must not overlap.
type Publisher struct {
	// The publishing goroutine's own state. A frame fits without more ado if it
	// ends at or before limit: the end of the lap, the intent. room is the same
	// for the unguarded fast paths, 0 where those are closed: outside Protect, while
	// a claim is open, where frames are stamped or carry hops, after the end.
	ring      ring
	pos       uint64 // where the next frame starts
	seq       uint64 // its sequence
	bytes     uint64 // payloads before it
	room      uint64
	limit     uint64
	most      uint64 // the largest payload that the first of them takes
	protected bool
	maxMsg    uint64
	nextBlock uint64 // the index wants the first frame that starts at or after it
	nextOwn   uint64 // lines to come may be due with the first that starts here; never beyond nextBlock
	part      uint64 // from one such place to the next: a power of two
	set       atomic.Pointer[memberSet]
	stamp     Timestamps
	shift     uint8
	closed    bool
	streams   bool  // at the last refill all lossless subscribers were ownLag or more behind
	dead      error // set once: ErrClosed or a fault

	intentL uint64 // own copy of the intent word
	claimed bool
	claimID uint64
	lastTS  int64
	probed  int64 // clock at the last lock probe
	stuck   stall
	tsc     *clock.TSC
	counts  [layout.MetricDeadReleases + 1]uint64

	mem     []byte
	intent  *uint64
	wakeSeq *uint32
	tail    seqlock.Cell
	metrics seqlock.Cell
	hdr     layout.LaneHeader
	policy  Policy
	fence   bool // no membarrier on this kernel: fence before looking for sleepers

	// Control goroutine and publishing goroutine.
	control sync.Mutex // guards what follows and the mapping's life
	tickets uint64
	notices [layout.Notices]uint64 // ticket that used the notice last
	mapping *segment.Mapping
	beat    seqlock.Cell
	client  *Client
	onEvict func(m *member, why evictReason)
	lost    atomic.Bool // the directory gave the lane up
}

// grantMax is G: the most that one Refill raises the intent beyond the tail.
func (p *Publisher) grantMax() uint64 {
	return max(p.hdr.Step, p.batchMax()+layout.FrameBytes(p.maxMsg)+layout.Align)
}

// batchMax bounds the bytes of one all-or-nothing batch.
func (p *Publisher) batchMax() uint64 { return p.hdr.Ring / 4 }

// newPublisher takes over a lane in mem, whose header was encoded and whose
// ring is zero. mem is a mapping, or heap memory in tests.
func newPublisher(mem []byte, h layout.LaneHeader, o PublisherOptions, policy Policy) (*Publisher, error) {
	if err := checkAligned(mem); err != nil {
		return nil, err
	}
	p := &Publisher{
		ring:    newRing(mem, h.Geometry),
		pos:     h.FirstPos,
		seq:     h.FirstSeq,
		maxMsg:  uint64(h.MaxMsg),
		most:    min(uint64(h.MaxMsg), putMax),
		stamp:   o.Timestamps,
		shift:   uint8(h.BlockShift()),
		intentL: h.FirstPos,
		mem:     mem,
		intent:  word64(mem, layout.OffIntent),
		wakeSeq: word32(mem, layout.OffWakeSeq),
		hdr:     h,
		policy:  policy,
	}
	p.set.Store(&memberSet{})
	p.follow(0)
	var err error
	if p.tail, err = seqlock.NewCell(mem[layout.OffTail : layout.OffTail+layout.TailBytes]); err != nil {
		return nil, err
	}
	if p.metrics, err = seqlock.NewCell(mem[layout.OffMetrics : layout.OffMetrics+layout.MetricBytes]); err != nil {
		return nil, err
	}
	if p.beat, err = seqlock.NewCell(mem[layout.OffLaneBeat : layout.OffLaneBeat+layout.BeatBytes]); err != nil {
		return nil, err
	}
	if p.stamp == TimestampsTSC {
		if p.tsc, err = sharedTSC(); err != nil {
			p.stamp = TimestampsClock
		}
	}
	atomic.StoreUint64(p.intent, p.intentL)
	p.storeTail()
	p.fence = !membarrierRegistered()
	return p, nil
}

// Publish copies payload into the lane and makes it visible. When there is no
// room it waits as the topic's policy says: block until the deadline
// (ErrBackpressure), evict who is stuck, or fail at once. On any error nothing
// was published. It returns the frame's sequence. A loop that publishes at full
// speed runs inside Protect.
func (p *Publisher) Publish(typ uint16, payload []byte) (seq uint64, err error) {
	n, pos := uint64(len(payload)), p.pos
	next := pos + layout.FrameBytes(n)
	if next > p.room || n > p.most {
		return p.publishMore(typ, payload)
	}
	p.clearNext(next)
	f := p.ring.header(pos)
	// What is left over goes together with some that is there already.
	switch {
	case n >= 64:
		f.put32(payload, 0)
		f.put32(payload, 32)
		if n == 64 {
			break
		}
		if n > 96 {
			f.put32(payload, 64)
		}
		f.put32(payload, len(payload)-32)
	case n >= 32:
		f.put32(payload, 0)
		f.put32(payload, len(payload)-32)
	case n >= 16:
		f.put16(payload, 0)
		f.put16(payload, len(payload)-16)
	case n >= 8:
		f.put8(payload, 0)
		f.put8(payload, len(payload)-8)
	default:
		f.putFew(payload)
	}
	seq = p.seq
	f.seal(pos, layout.Meta(uint32(n), typ, 0, 0), seq, 0)
	p.advance(next, n)
	if p.due(pos) {
		return p.attend(pos)
	}
	return seq, nil
}

// publishMore is Publish of what its fast path does not take: the fast path of large payloads,
// in a function of its own since small ones would be spilled for its call (ADR 0078).
func (p *Publisher) publishMore(typ uint16, payload []byte) (uint64, error) {
	n := uint64(len(payload))
	if p.pos+layout.FrameBytes(n) > p.room || n > p.maxMsg || !lines.Hints {
		return p.publishGuarded(typ, payload)
	}
	lines.CopyOwn((*byte)(p.ring.header(p.pos).at(0)), payload, p.ring.at(p.ahead(p.pos, n)))
	// All else afterwards: what lives across that call is stored for it.
	pos, seq := p.pos, p.seq
	n = uint64(len(payload))
	next := pos + layout.FrameBytes(n)
	p.clearNext(next)
	p.ring.header(pos).seal(pos, layout.Meta(uint32(n), typ, 0, 0), seq, 0)
	p.advance(next, n)
	if p.due(pos) {
		return p.attend(pos)
	}
	return seq, nil
}

// ahead is where the lines are that are taken while the n bytes of a large payload are copied
// to the frame at pos, one for one: as far as there is credit, since beyond that somebody may
// be reading.
func (p *Publisher) ahead(pos, n uint64) uint64 {
	if at := pos + ownLead; at+n <= p.limit {
		return at
	}
	return pos
}

// fill copies a payload to the frame at pos, off the fast path.
func (p *Publisher) fill(pos uint64, payload []byte) {
	n := uint64(len(payload))
	to := p.ring.bytes(pos+layout.OffPayload, n)
	if n > putMax && lines.Hints {
		lines.CopyOwn(&to[0], payload, p.ring.at(p.ahead(pos, n)))
	} else {
		lines.Copy(to, payload)
	}
}

const (
	putMax   = 128     // above, a call that copies whole lines is faster than stores of 16 bytes
	ownLead  = 2 << 10 // so far ahead of what is copied lines are taken from who has read them
	ownLag   = 4 << 10 // whoever is less behind waits for frames: its core looks at these lines
	ownLook  = 4 << 10 // where none are taken, look again after so much
	ownBytes = 1 << 10 // so many at a time where frames are small: as many lines as a core asks for at once
)

// publishGuarded is Publish of whatever its fast path does not take, with the
// recovery from a memory fault where Protect has not set that up.
func (p *Publisher) publishGuarded(typ uint16, payload []byte) (seq uint64, err error) {
	if p.protected {
		return p.publish(typ, payload)
	}
	done, old := false, debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if !done { // recover costs as much as a publish
			p.caught(recover(), &err)
		}
	}()
	seq, err = p.publish(typ, payload)
	done = true
	return seq, err
}

func (p *Publisher) publish(typ uint16, payload []byte) (seq uint64, err error) {
	n := uint64(len(payload))
	if p.pos+layout.FrameBytes(n) > p.limit || n > p.maxMsg || p.claimed {
		if err := p.makeRoom(n, true); err != nil {
			return 0, err
		}
	}
	pos := p.pos
	next := pos + layout.FrameBytes(n)
	p.clearNext(next)
	p.fill(pos, payload)
	seq = p.seq
	p.ring.header(pos).seal(pos, layout.Meta(uint32(n), typ, 0, p.hdr.Hops), seq, p.now())
	p.advance(next, n)
	if p.due(pos) {
		return p.attend(pos)
	}
	return seq, nil
}

// markFault tells who looks at the header, if that is still there.
func (p *Publisher) markFault() {
	shielded(p.mem, func() {
		atomic.StoreUint32(word32(p.mem, layout.OffState), uint32(layout.LaneFault))
		p.counts[layout.MetricFaults]++
		p.metrics.Store(p.counts[:])
	})
}

// Protect runs f, a publishing loop, and makes each Publish and PublishBatch in it about a third
// cheaper: the recovery from a memory fault (a segment truncated by somebody
// with the registry's rights) is set up once around f rather than once a frame.
// Such a fault ends f and is returned as ErrFault; f's own error is returned
// otherwise. Publishing goroutine only; f must not start another.
func (p *Publisher) Protect(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	outer := p.protected
	defer func() {
		p.protected = outer
		p.openFastPath()
		debug.SetPanicOnFault(old)
		p.caught(recover(), &err)
	}()
	p.protected = true
	p.openFastPath()
	return f()
}

// openFastPath lets Publish take its fast paths where that is allowed.
func (p *Publisher) openFastPath() {
	p.room = 0
	if p.protected && !p.claimed && p.dead == nil && p.stamp == TimestampsOff && p.hdr.Hops == 0 {
		p.room = p.limit
	}
}

// caught turns a memory fault in the lane into ErrFault and ends the publisher:
// somebody truncated the segment. Any other panic goes on. What is left for the
// owner to do is Close.
func (p *Publisher) caught(v any, err *error) {
	if v == nil {
		return
	}
	if addr, ok := faultAddr(v); !ok || !addrWithin(addr, p.mem) {
		panic(v)
	}
	p.claimed, p.room, p.limit = false, 0, 0
	p.markFault()
	p.dead = &LaneError{Topic: TopicID(p.hdr.TopicID), Source: SourceID(p.hdr.SourceID.Low()), Pos: p.pos,
		Reason: "the segment was truncated under its publisher", Err: ErrFault}
	*err = p.dead
}

// clearNext sees to it that the word behind the frame that is about to be written
// is no commit for its place. I4: an old payload may have left one there, by
// accident or malice, and readers look at that word as soon as this frame is
// visible. It stores without a look: see ADR 0016.
func (p *Publisher) clearNext(next uint64) { storeRelaxed(p.ring.word(next), 0) }

// seal writes the header of the frame at pos, whose payload is in place and whose
// successor is clear, and makes it visible.
func (f *frameHeader) seal(pos, meta, seq, time uint64) {
	if failpoint.Enabled {
		failpoint.Here("pub.after_copy")
	}
	f.meta, f.seq, f.time = meta, seq, time
	if failpoint.Enabled {
		failpoint.Here("pub.before_commit")
	}
	seqlock.StoreRelease(&f.commit, layout.Commit(pos, layout.KindData)) // SYNC commit/poll
	if failpoint.Enabled {
		failpoint.Here("pub.after_commit")
	}
}

// advance moves on from a sealed frame of n bytes to next.
func (p *Publisher) advance(next, n uint64) {
	p.pos = next
	p.seq++
	p.bytes += n
}

// due reports whether something that is not due after every frame is due after the
// one at pos.
func (p *Publisher) due(pos uint64) bool {
	return pos >= p.nextOwn || len(p.set.Load().sleepers) != 0
}

// attend does what due found after the last frame, the one at pos, and
// returns that frame's sequence.
func (p *Publisher) attend(pos uint64) (seq uint64, err error) {
	p.wake()
	if pos >= p.nextOwn {
		lines.Own(p.coming(pos))
	}
	if pos >= p.nextBlock {
		p.indexFrame(pos, p.seq-1)
		if p.intentL-p.pos < 2<<p.shift {
			p.refillEarly()
		}
	}
	return p.seq - 1, nil
}

// follow notes at a refill how the lossless subscribers follow, the nearest of them behind by
// lag: where all are behind, lines to come are taken.
func (p *Publisher) follow(lag uint64) {
	n := uint64(ownLook)
	if p.streams = lines.Hints && lag >= ownLag; p.streams {
		n = ownBytes
	}
	p.part = min(n, 1<<p.shift) // parts of blocks: a block's first frame is always due
}

// coming are the lines to take after the frame at pos, and moves nextOwn beyond it: lines of
// small frames to come, while all subscribers are behind, as far as there is credit. Large
// frames ask for theirs as they are copied.
func (p *Publisher) coming(pos uint64) []byte {
	part := pos &^ (p.part - 1)
	p.nextOwn = part + p.part
	at := part + ownLead
	if !p.streams || at+p.part > p.limit || p.pos-pos > layout.FrameBytes(putMax) {
		return nil
	}
	return p.ring.bytes(at, p.part)
}

// now is the time stamp of the next frame, never before the one before it.
func (p *Publisher) now() uint64 {
	if p.stamp == TimestampsOff {
		return 0
	}
	return p.stampNow()
}

func (p *Publisher) stampNow() uint64 {
	var t int64
	if p.stamp == TimestampsTSC {
		t = p.tsc.Now()
	} else {
		t = clock.Mono()
	}
	p.lastTS = max(p.lastTS, t)
	return uint64(p.lastTS)
}

// indexFrame notes the first frame that starts in a block.
func (p *Publisher) indexFrame(pos, seq uint64) {
	block := pos >> p.shift
	p.nextBlock = (block + 1) << p.shift
	e := layout.OffIndex + block%layout.IndexEntries*layout.IndexEntryBytes
	storeRelaxed(word64(p.mem, e+8), seq)
	seqlock.StoreRelease(word64(p.mem, e), pos) // SYNC index/seek
}

// Claim reserves room for a payload of n bytes in the lane, to be filled in
// place. One claim may be open at a time and ends in Commit or Abort. It never
// waits and never allocates: ErrTooLarge, ErrBackpressure, ErrClaimOpen, ErrClosed.
// The caller writes to the segment itself, so a loop of claims runs inside
// Protect if it is to survive a truncated segment.
func (p *Publisher) Claim(typ uint16, n int) (c Claim, err error) {
	if n < 0 {
		return Claim{}, ErrTooLarge
	}
	un := uint64(n)
	if p.pos+layout.FrameBytes(un) > p.limit || un > p.maxMsg || p.claimed {
		if err := p.makeRoom(un, false); err != nil {
			return Claim{}, err
		}
	}
	p.room = 0
	p.claimed = true
	p.claimID++
	if failpoint.Enabled {
		failpoint.Here("pub.claimed")
	}
	return Claim{p: p, id: p.claimID, n: uint32(n), typ: typ}, nil
}

// Claim is room for one frame. The zero Claim is ended.
type Claim struct {
	p   *Publisher
	id  uint64
	n   uint32
	typ uint16
}

// Bytes is the payload in the lane: n bytes with arbitrary content, to be
// written before Commit and not touched after; nil once the claim has ended.
// Writing to a lane that somebody has truncated is a memory fault in the caller's
// code, which Protect catches.
func (c *Claim) Bytes() []byte {
	if !c.open() {
		return nil
	}
	return c.p.ring.bytes(c.p.pos+layout.OffPayload, uint64(c.n))
}

func (c *Claim) open() bool { return c.p != nil && c.p.claimed && c.id == c.p.claimID }

// Commit makes the frame visible and returns its sequence. An ended claim
// commits nothing and returns 0, as does a lane that was truncated meanwhile: the
// publisher's next call returns ErrFault.
func (c *Claim) Commit() (seq uint64) {
	if !c.open() {
		return 0
	}
	p := c.p
	if !p.protected {
		return c.commitGuarded()
	}
	c.p = nil
	pos, n := p.pos, uint64(c.n)
	next := pos + layout.FrameBytes(n)
	p.clearNext(next)
	seq = p.seq
	p.ring.header(pos).seal(pos, layout.Meta(c.n, c.typ, 0, p.hdr.Hops), seq, p.now())
	p.advance(next, n)
	p.endClaim()
	if p.due(pos) {
		seq, _ = p.attend(pos)
	}
	return seq
}

// commitGuarded is Commit outside Protect, with the recovery from a memory fault for
// itself: Protect costs half as much again as a Commit.
func (c *Claim) commitGuarded() (seq uint64) {
	p := c.p
	done, old := false, debug.SetPanicOnFault(true)
	defer func() {
		p.protected, p.room = false, 0
		debug.SetPanicOnFault(old)
		if !done { // recover costs as much as a publish
			var err error
			p.caught(recover(), &err)
		}
	}()
	p.protected = true
	seq = c.Commit()
	done = true
	return seq
}

// Abort gives the room back. After Commit it does nothing, so it may be deferred.
func (c *Claim) Abort() {
	if !c.open() {
		return
	}
	// One writer, one open claim: nothing was made visible, so the next frame
	// simply takes the same place and no padding is needed.
	c.p.counts[layout.MetricAborts]++
	c.p.endClaim()
	c.p = nil
}

func (p *Publisher) endClaim() {
	p.claimed = false
	p.openFastPath()
}

// PublishBatch publishes messages so that a reader sees all of them or none.
// A batch larger than a quarter of the ring, headers included, is split and
// then loses that property between its parts. It waits for room like Publish,
// before anything is written, and returns the first sequence; on an error the
// messages before the failed part were published and first+count tells how many
// through the error (BatchError), nothing of the failed part.
func (p *Publisher) PublishBatch(msgs []Message) (first uint64, err error) {
	if !p.protected {
		old := debug.SetPanicOnFault(true)
		defer func() {
			debug.SetPanicOnFault(old)
			p.caught(recover(), &err)
		}()
	}
	for i := range msgs {
		if uint64(len(msgs[i].Payload)) > p.maxMsg {
			p.counts[layout.MetricTooLarge]++
			return 0, ErrTooLarge
		}
	}
	first = p.seq
	for done := 0; done < len(msgs); {
		n, err := p.publishPart(msgs[done:])
		if err != nil {
			if done > 0 {
				err = &BatchError{Published: done, Err: err}
			}
			return first, err
		}
		done += n
	}
	return first, nil
}

// publishPart publishes the longest head of msgs that fits batchMax.
func (p *Publisher) publishPart(msgs []Message) (n int, err error) {
	// The first frame's own padding, if any, is committed before the batch and
	// shows nothing; the rest is laid out from there.
	if err := p.makeRoom(uint64(len(msgs[0].Payload)), true); err != nil {
		return 0, err
	}
	first := p.pos
	lap, most, end := p.lapEnd(first), first+p.batchMax(), first
	for n < len(msgs) {
		next := after(end, lap, uint64(len(msgs[n].Payload)))
		if n > 0 && next > most {
			break
		}
		end = next
		n++
	}
	if seqlock.Diff(end+layout.Align, p.intentL) > 0 {
		if err := p.refill(end+layout.Align, true); err != nil {
			return 0, err
		}
	}
	p.clearNext(end)
	pos, seq, bytes, pads := first, p.seq, p.bytes, uint64(0)
	for i := range msgs[:n] {
		m := &msgs[i]
		size := uint64(len(m.Payload))
		next := after(pos, lap, size)
		if at := next - layout.FrameBytes(size); at != pos { // never for i == 0
			pad := p.ring.header(pos)
			pad.meta = layout.Meta(uint32(at-pos-layout.FrameHeaderBytes), 0, 0, 0)
			storeRelaxed(&pad.commit, layout.Commit(pos, layout.KindPad))
			pads++
			pos = at
		}
		p.fill(pos, m.Payload)
		f := p.ring.header(pos)
		f.meta, f.seq, f.time = layout.Meta(uint32(size), m.Type, 0, p.hdr.Hops), seq, p.now()
		if i > 0 {
			storeRelaxed(&f.commit, layout.Commit(pos, layout.KindData))
		}
		pos, seq, bytes = next, seq+1, bytes+size
	}
	if failpoint.Enabled {
		failpoint.Here("pub.batch_before_commit")
	}
	seqlock.StoreRelease(p.ring.word(first), layout.Commit(first, layout.KindData)) // SYNC commit/poll
	if end > p.nextBlock {
		pos = first
		for i := range msgs[:n] {
			size := uint64(len(msgs[i].Payload))
			next := after(pos, lap, size)
			if pos = next - layout.FrameBytes(size); pos >= p.nextBlock {
				p.indexFrame(pos, p.seq+uint64(i))
			}
			pos = next
		}
	}
	p.pos, p.seq, p.bytes = end, seq, bytes
	p.counts[layout.MetricPads] += pads
	p.counts[layout.MetricBatches]++
	p.setRoom()
	p.wake()
	return n, nil
}

// after is where a frame with n bytes of payload ends that follows one which ended at pos, in
// the lap that ends at lap: it does not cross that, and begins there if it would.
func after(pos, lap, n uint64) uint64 {
	size := layout.FrameBytes(n)
	if pos < lap && pos+size > lap {
		pos = lap
	}
	return pos + size
}

// lapEnd is the first position of the next lap.
func (p *Publisher) lapEnd(pos uint64) uint64 { return pos&^p.ring.mask + p.ring.mask + 1 }

// setRoom derives the limit: the end of this lap, and the intent less the header
// that is zeroed behind each frame.
func (p *Publisher) setRoom() {
	p.limit = min(p.lapEnd(p.pos), p.intentL-layout.Align)
	p.openFastPath()
}

// makeRoom is the slow path of a claim: once per lap, once per credit step, and
// for everything unusual.
func (p *Publisher) makeRoom(n uint64, wait bool) (err error) {
	switch {
	case p.dead != nil:
		return p.dead
	case p.claimed:
		return ErrClaimOpen
	case n > p.maxMsg:
		p.counts[layout.MetricTooLarge]++
		return ErrTooLarge
	}
	if p.lost.Load() {
		return fmt.Errorf("%w: the registry gave this lane up", ErrClosed)
	}
	old := debug.SetPanicOnFault(true)
	done := false
	defer func() {
		debug.SetPanicOnFault(old)
		if !done {
			p.caught(recover(), &err)
		}
	}()
	next := after(p.pos, p.lapEnd(p.pos), n)
	need := next + layout.Align
	if seqlock.Diff(need, p.intentL) > 0 {
		if err := p.refill(need, wait); err != nil {
			done = true
			return err
		}
	}
	if q := next - layout.FrameBytes(n); q != p.pos {
		*p.ring.word(p.pos + layout.OffLen) = layout.Meta(uint32(q-p.pos-layout.FrameHeaderBytes), 0, 0, 0)
		*p.ring.word(p.pos + layout.OffSeq) = p.seq
		p.clearNext(q)
		seqlock.StoreRelease(p.ring.word(p.pos), layout.Commit(p.pos, layout.KindPad)) // SYNC commit/poll
		if failpoint.Enabled {
			failpoint.Here("pub.after_pad")
		}
		p.pos = q
		p.counts[layout.MetricPads]++
	}
	p.setRoom()
	done = true
	return nil
}

// Flush publishes the tail hint and the metrics, which otherwise move once per
// credit step. Subscribers do not need it; tools and late joiners start closer.
func (p *Publisher) Flush() {
	if p.dead == nil {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			var err error
			p.caught(recover(), &err)
		}()
		p.storeTail()
	}
}

func (p *Publisher) storeTail() {
	p.tail.Store([]uint64{p.pos, p.seq}) // SYNC tail/join, tail/bulk
	p.counts[layout.MetricFrames] = p.seq - p.hdr.FirstSeq
	p.counts[layout.MetricBytesPublished] = p.bytes
	p.metrics.Store(p.counts[:])
}

// Seq is the sequence that the next frame gets.
func (p *Publisher) Seq() uint64 { return p.seq }

// MaxMessageBytes is the largest payload that the topic takes.
func (p *Publisher) MaxMessageBytes() int { return int(p.maxMsg) }

// Topic is the name of the topic.
func (p *Publisher) Topic() string { return p.hdr.Topic }

// Source is the name under which this publisher's order is kept.
func (p *Publisher) Source() string { return p.hdr.Source }

// ID is the topic's id, as in Frame.Topic; SourceID as in Frame.Source.
func (p *Publisher) ID() (TopicID, SourceID) {
	return TopicID(p.hdr.TopicID), SourceID(p.hdr.SourceID.Low())
}

// wake ends the sleep of every parked subscriber that has not been woken since
// it went to sleep.
func (p *Publisher) wake() {
	if set := p.set.Load(); len(set.sleepers) != 0 {
		p.wakeAll(set)
	}
}

// wakeAll is wake where somebody may sleep. The sleeper read the wake word before it raised
// its flag, so one bump of the word per park number cannot be missed.
func (p *Publisher) wakeAll(set *memberSet) {
	if p.fence {
		atomic.AddUint32(p.wakeSeq, 0)
	}
	bumped := false
	for !p.findSleepers(set, &bumped) {
		set = p.set.Load()
	}
	if bumped {
		p.counts[layout.MetricWakes]++
		futexWake(p.wakeSeq)
	}
}

// findSleepers bumps the wake word if somebody sleeps. It reports false when the
// set is to be looked at again, without the member whose file has gone.
func (p *Publisher) findSleepers(set *memberSet, bumped *bool) (done bool) {
	defer func() {
		if !done {
			p.peerGone(set, recover())
		}
	}()
	for _, m := range set.sleepers {
		n := atomic.LoadUint32(m.sleeping) // SYNC park/wake
		if n == 0 || n == m.woken {
			continue
		}
		m.woken = n
		if !*bumped {
			*bumped = true
			seqlock.StoreRelease32(p.wakeSeq, *p.wakeSeq+1)
		}
	}
	runtime.KeepAlive(set)
	return true
}
