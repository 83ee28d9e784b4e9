package shm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// Relay is a subscriber for a forwarder. It reads lane by lane, in place, runs ahead
// of what its readers on another host have, and moves a cursor only when told that
// they have it: the ring of the origin is what is sent from again. One goroutine at
// a time, except Close, Forget and Kick.
//
//	         Next ------> run of frames, in the ring, up to where reading is
//	         v
//	--------+=====================+---------------------> positions
//	        ^ cursor              ^ reading
//	Ack ----+   <----- Rewind ----+
//
// A frame stays in the ring until it was acknowledged, unless the topic's policy
// evicts, or the relay is lossy: Whole tells.
type Relay struct {
	s     *Subscriber
	lanes []*RelayLane
	seen  uint64 // shifts of the subscriber that lanes knows of
	known map[*reader]*RelayLane
}

// RelayOptions; the zero value is a lossy relay from latest on.
type RelayOptions struct {
	SubscriberOptions
}

// Relay attaches to a topic or pattern. The errors are those of Subscriber.
func (c *Client) Relay(ctx context.Context, pattern string, o *RelayOptions) (*Relay, error) {
	var so SubscriberOptions
	if o != nil {
		so = o.SubscriberOptions
	}
	so.acked = true
	s, err := c.Subscriber(ctx, pattern, &so)
	if err != nil {
		return nil, err
	}
	return &Relay{s: s, known: map[*reader]*RelayLane{}}, nil
}

// ackedPart is how far a lane was acknowledged.
type ackedPart struct {
	pos, seq uint64
	sent     []mark // ends of the runs that are not acknowledged, in order
	head     int
}

// mark is where a run ends.
type mark struct{ pos, seq uint64 }

// acknowledge has the reader's cursor follow the word of a Relay.
func (r *reader) acknowledge(on bool) {
	if on && r != nil {
		r.acks = &ackedPart{pos: r.pos, seq: r.want}
	}
}

// nextSeq is the sequence that belongs to the cursor.
func (r *reader) nextSeq() uint64 {
	if r.acks != nil {
		return r.acks.seq
	}
	return r.want
}

// LaneInfo is what a lane's header says of it.
type LaneInfo struct {
	Topic, Source   string
	Epoch           layout.ID16
	OriginNode      layout.ID16
	OriginEpoch     layout.ID16
	Mirror          bool
	Hops            uint8
	Via             []layout.ID16
	OriginWall      int64 // a pair of readings of the origin's clocks, ns
	OriginMono      int64
	Timestamps      Timestamps
	RingBytes       uint64
	MaxMessageBytes uint32
}

func infoOf(h *layout.LaneHeader) LaneInfo {
	i := LaneInfo{Topic: h.Topic, Source: h.Source, Epoch: h.Epoch, OriginNode: h.OriginNode, OriginEpoch: h.OriginEpoch,
		Mirror: h.Mirror, Hops: h.Hops, OriginWall: h.OriginWall, OriginMono: h.OriginMono,
		Timestamps: Timestamps(h.Timestamp), RingBytes: h.Ring, MaxMessageBytes: h.MaxMsg}
	for _, v := range h.Via {
		if !v.IsZero() {
			i.Via = append(i.Via, v)
		}
	}
	return i
}

// Protect is Subscriber.Protect: everything else is called inside it.
func (f *Relay) Protect(loop func() error) error { return f.s.Protect(loop) }

// Lanes takes the directory's news and returns the lanes that there are to read. The
// lanes of one source come one after the other: the next appears when the one
// before was Done. The slice is good until the next call. An error is of one lane, or
// ErrClosed and ErrFault as from Poll.
func (f *Relay) Lanes() ([]*RelayLane, error) {
	if f.s.closed.Load() {
		return nil, ErrClosed
	}
	var err error
	if f.s.inbox.Load() {
		err = f.s.admit()
	}
	if f.seen != f.s.shifts { // not their number: one may have taken another's place
		f.seen = f.s.shifts
		f.lanes = f.lanes[:0:0]
		for _, r := range f.s.lanes {
			l := f.known[r]
			if l == nil {
				l = &RelayLane{relay: f, r: r, info: infoOf(&r.hdr)}
				f.known[r] = l
			}
			f.lanes = append(f.lanes, l)
		}
		for r := range f.known {
			if r.state == laneEnded {
				delete(f.known, r)
			}
		}
	}
	return f.lanes, err
}

// Topic is the topic or pattern.
func (f *Relay) Topic() string { return f.s.hdr.Pattern }

// Resumed reports whether the relay goes on where an owner before it was.
func (f *Relay) Resumed() bool { return f.s.resumed }

// Kick ends a Park of the RelayParker under way, or the next. Any goroutine.
func (f *Relay) Kick() { f.s.park.kick() }

// Close detaches, and keeps the cursors if the relay is durable.
func (f *Relay) Close() error { return f.s.Close() }

// Forget detaches for good.
func (f *Relay) Forget(ctx context.Context) error { return f.s.Forget(ctx) }

// RelayLane is one lane of a Relay.
type RelayLane struct {
	relay  *Relay
	r      *reader
	info   LaneInfo
	skipTo uint64 // frames before it are not handed out again
	skips  bool
	gone   error
	own    any
}

// Info describes the lane.
func (l *RelayLane) Info() *LaneInfo { return &l.info }

// Own is where the caller keeps what it knows of the lane.
func (l *RelayLane) Own() *any { return &l.own }

// Acked is the sequence up to which everything was acknowledged.
func (l *RelayLane) Acked() uint64 { return l.r.acks.seq }

// Due is the sequence that Next hands out next.
func (l *RelayLane) Due() uint64 { return l.r.want }

// PendingBytes is how much of the ring was handed out and not acknowledged.
func (l *RelayLane) PendingBytes() uint64 { return l.r.pos - l.r.acks.pos }

// Known reports whether the sequences that Acked and Due tell are true: a lane into
// which nothing was published since the relay came may not have told them yet.
func (l *RelayLane) Known() bool {
	r := l.r
	if !r.fresh || r.state == laneEnded {
		return true
	}
	if seq, ok := r.sequenceAt(r.pos); ok {
		r.want, r.fresh, r.acks.seq = seq, false, seq
	} else if r.ended && !seqlock.Before(r.pos, r.final) {
		r.want, r.fresh, r.acks.seq = r.lastly, false, r.lastly
	}
	return !r.fresh
}

// Run is frames of one lane, one after the other, as they stand in the ring.
type Run struct {
	Bytes []byte // headers and payloads; not to be written to
	First uint64 // sequence of the first
	Count int
	pos   uint64
}

// Next hands out the frames that follow, of at most limit bytes with their headers;
// none if there is nothing, or if the first is larger. Besides, it returns
//
//	*GapError      sequences are missing: Ack counts them in; go on
//	*EvictedError  the publisher does not wait for the relay any more; go on
//	io.EOF         the lane has ended: Ack the rest, then Done
//	*LaneError     the lane is gone
func (l *RelayLane) Next(limit int) (run Run, err error) {
	r, s := l.r, l.relay.s
	if l.gone == nil && r.state == laneEnded { // a memory fault, which Protect has reported
		l.gone = &LaneError{Topic: r.topic, Source: r.source, Pos: r.pos, Reason: "the segment was truncated under its reader", Err: ErrFault}
	}
	if l.gone != nil {
		return run, l.gone
	}
	for looks := 0; looks < 4; looks++ {
		if r.state != laneReading {
			return run, nil
		}
		if r.held && atomic.LoadUint64(r.notice) == r.ticket { // SYNC notice/evicted
			return run, s.evicted(r)
		}
		start := r.pos
		lap := start&^r.ring.mask + r.ring.mask + 1
		run, err = l.gather(start, min(lap, start+uint64(limit)))
		if err != nil || run.Count > 0 {
			return run, err
		}
		if r.pos != start { // frames that were skipped
			looks = 0
			continue
		}
		switch v := r.special(start, lap); v {
		case nothing:
			return run, nil
		case found:
			if r.pos == start { // a frame that is larger than limit, or came this moment
				return run, nil
			}
		case ended:
			return run, l.end()
		case skipped: // the next frame tells how much is missing, and is acknowledged with it
		default:
			if err := l.lapped(v); err != nil {
				return run, err
			}
		}
	}
	return run, nil
}

// gather finds the run of data frames from start on, none of which ends behind end.
func (l *RelayLane) gather(start, end uint64) (run Run, err error) {
	r, s := l.r, l.relay.s
	p, want := start, r.want
	first := start
	ahead := true
	for p < end && atomic.LoadUint64(r.ring.word(p)) == layout.Commit(p, layout.KindData) { // SYNC commit/poll
		size := uint64(uint32(*r.ring.word(p + layout.OffLen)))
		next := p + layout.FrameBytes(size)
		if size > r.maxMsg || next > end {
			break
		}
		ahead = ahead && r.fetchAhead(p, next-p, end)
		seq := *r.ring.word(p + layout.OffSeq)
		if seq != want || r.fresh {
			if p != start {
				break // this run first
			}
			seqlock.LoadLoad()
			if r.overrun(start) {
				break
			}
			if err := s.resume(r, seq); err != nil {
				r.acks.sent = append(r.acks.sent, mark{r.pos, r.want})
				return run, l.failed(err)
			}
			want = seq
		}
		want++
		p = next
		if l.skips && seqlock.Before(seq, l.skipTo) {
			first = p
		} else {
			l.skips = false
		}
	}
	if p == start {
		return run, nil
	}
	seqlock.LoadLoad()
	if r.overrun(start) {
		return run, l.lapped(lappedRaw)
	}
	run = Run{Bytes: r.ring.bytes(first, p-first), First: r.want, Count: int(want - r.want), pos: first}
	if first != start {
		// What was skipped is not handed out; its sequences were.
		skipped := l.countSkipped(start, first)
		run.First += skipped
		run.Count -= int(skipped)
		if a := r.acks; a.head == len(a.sent) { // whoever wants no more of them has them
			a.pos, a.seq = first, run.First
		}
	}
	s.counts[layout.SubFrames] += uint64(run.Count)
	s.counts[layout.SubBytes] += uint64(len(run.Bytes))
	r.pos, r.want, r.loose = p, want, 0
	if run.Count > 0 {
		r.acks.sent = append(r.acks.sent, mark{p, want})
	}
	return run, nil
}

// countSkipped is how many frames lie between two positions.
func (l *RelayLane) countSkipped(from, to uint64) (n uint64) {
	for from < to {
		from += layout.FrameBytes(uint64(uint32(*l.r.ring.word(from + layout.OffLen))))
		n++
	}
	return n
}

// lapped deals with a lap, or with a lane that is corrupt. Bytes that were overwritten
// are nobody's to wait for: they count as acknowledged with what was handed out before
// them, and the gap is told when the next frame says how long it is.
func (l *RelayLane) lapped(v verdict) error {
	r := l.r
	before := r.pos
	if err := l.relay.s.unusual(r, v); err != nil {
		return l.failed(err)
	}
	switch a := r.acks; {
	case r.pos == before:
	case a.head == len(a.sent):
		a.pos = r.pos
	default:
		a.sent = append(a.sent, mark{r.pos, r.want})
	}
	return nil
}

// failed remembers a lane that was detached.
func (l *RelayLane) failed(err error) error {
	var lane *LaneError
	if errors.As(err, &lane) {
		l.gone = err
	}
	return err
}

// end is the lane's end; the last frames may be missing.
func (l *RelayLane) end() error {
	r := l.r
	if !r.fresh && seqlock.After(r.lastly, r.want) {
		if r.loose == 0 {
			r.loose = CauseLapped
		}
		err := l.relay.s.gap(r, r.lastly)
		r.acks.sent = append(r.acks.sent, mark{r.pos, r.want})
		return err
	}
	return io.EOF
}

// Whole reports whether all of a run is still what its publisher wrote: to be asked
// after its bytes were read.
func (l *RelayLane) Whole(run Run) bool {
	if l.r.mem == nil { // it was given up since, and nobody asks for the run again
		return true
	}
	seqlock.LoadLoad()
	return !l.r.overrun(run.pos)
}

// Ack says that every sequence before next has arrived. The cursor moves to the end
// of the last run that lies before it.
func (l *RelayLane) Ack(next uint64) {
	a := l.r.acks
	moved := false
	for a.head < len(a.sent) && !seqlock.After(a.sent[a.head].seq, next) {
		a.pos, a.seq, moved = a.sent[a.head].pos, a.sent[a.head].seq, true
		a.head++
	}
	if !moved {
		return
	}
	if a.head == len(a.sent) {
		a.sent, a.head = a.sent[:0], 0
	} else if a.head > 1024 {
		a.sent = a.sent[:copy(a.sent, a.sent[a.head:])]
		a.head = 0
	}
	if l.r.state != laneReading {
		return
	}
	l.r.storeCursor()
	if s := l.relay.s; len(s.waiting) > 0 {
		s.stats.Store(s.counts[:]) // whoever waits behind this lane is not stuck
	}
}

// Return takes back the run that Next has just handed out: it comes again, or as a gap
// if it was overwritten.
func (l *RelayLane) Return(run Run) {
	r := l.r
	r.pos, r.want = run.pos, run.First
	r.acks.sent = r.acks.sent[:len(r.acks.sent)-1]
}

// Rewind goes back to the cursor, and has Next hand out what follows from next on. If
// the ring has less, what is missing comes as a gap.
func (l *RelayLane) Rewind(next uint64) {
	r := l.r
	a := r.acks
	a.sent, a.head = a.sent[:0], 0
	if l.gone != nil || r.state == laneEnded {
		return
	}
	r.pos = a.pos
	switch {
	case r.fresh: // Known tells later
	case seqlock.Before(next, a.seq):
		r.want, r.loose = next, CauseForwarded
	default:
		r.want = a.seq
		l.skipTo, l.skips = next, next != a.seq
	}
}

// Skim moves to the end of what there is and acknowledges all of it: nobody wants the
// lane for now, and it holds nobody back. It returns io.EOF at the end of the lane.
func (l *RelayLane) Skim() error {
	for {
		run, err := l.Next(int(l.r.hdr.Ring))
		l.Ack(l.r.want)
		if err == nil && run.Count == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, ErrGap) && !errors.Is(err, ErrEvicted) {
			return err
		}
	}
}

// Stall says whether what comes in the lane is worth waking up for.
func (l *RelayLane) Stall(on bool) { l.r.stalled = on }

// Done gives the lane up: it was read to its end and acknowledged, or nobody will
// ever want it.
func (l *RelayLane) Done() {
	if l.r.state == laneEnded {
		return
	}
	if !l.r.ended && l.r.slotEpoch != nil {
		l.r.closeSlot()
	}
	l.relay.s.drop(l.r)
	l.gone = fmt.Errorf("lane %s: %w", l.info.Epoch, ErrClosed)
}

// Lag is how much was published and not acknowledged: frames, and bytes of the ring. The
// publisher tells only once per credit step, so that up to one of them may be missing.
// more says that something lies where reading goes on, or before the lane has told its
// sequences, of which it is not known how much it is.
func (l *RelayLane) Lag() (frames, bytes uint64, more bool) {
	r := l.r
	var tail [layout.TailWords]uint64
	var next uint64
	shielded(r.mem, func() {
		if r.mem == nil {
			return
		}
		if cell, err := seqlock.NewCell(r.mem[layout.OffTail : layout.OffTail+layout.TailBytes]); err == nil {
			_ = cell.Load(tail[:]) // zeros, if it was stopped in the middle
		}
		next = atomic.LoadUint64(r.ring.word(r.pos)) // whether there is a frame: nothing of it is read
	})
	pos, seq := r.pos, r.want // at least what was read
	switch {
	case !seqlock.After(tail[0], pos):
		more = layout.Committed(next, pos) && layout.KindOf(next) != layout.KindEnd
	case seqlock.Diff(tail[0], pos) <= int64(r.hdr.Ring):
		pos, seq = tail[0], tail[1]
	default: // lapped
		more = true
	}
	if r.fresh || seqlock.Before(seq, r.acks.seq) {
		return 0, pos - r.acks.pos, more || pos != r.acks.pos
	}
	return seq - r.acks.seq, pos - r.acks.pos, more
}
