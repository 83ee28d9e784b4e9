package tcp

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

// lane is what a sender needs of a lane: an *shm.RelayLane, or a model of one.
type lane interface {
	Info() *shm.LaneInfo
	Known() bool
	Acked() uint64
	Due() uint64
	PendingBytes() uint64
	Lag() (frames, bytes uint64, more bool)
	Waits() bool
	Next(limit int) (shm.Run, error)
	Whole(shm.Run) bool
	Ack(next uint64)
	Return(shm.Run)
	Rewind(next uint64)
	Skim() error
	Done()
	Stall(bool)
}

// streamState is where a stream is: the picture is in docs/link.md.
type streamState uint8

const (
	streamIdle streamState = iota
	streamOpening
	streamSending
	streamEnding
	streamSkimmed
	streamEnded // there, too; the next step gives the lane up
	streamDone
)

func (s streamState) String() string {
	return [...]string{"idle", "opening", "sending", "ending", "skimmed", "ended", "done"}[s]
}

// stream is one lane on its way to the peer.
type stream struct {
	lane    lane
	lossy   bool
	state   streamState
	ref     uint32
	window  uint64
	round   uint16 // of the last RESUME
	high    uint64 // no ACK is beyond it
	opened  bool   // OPEN was sent on this connection
	retryAt int64  // ns; idle and skimmed
	tries   int    // refusals in a row
	why     code   // of the last refusal
	stats   streamStats
}

type streamStats struct {
	frames, bytes, gaps, missed uint64
}

const (
	skimFor  = int64(10 * time.Second) // then the receiver is asked again
	holdMin  = int64(50 * time.Millisecond)
	holdMax  = int64(5 * time.Second)
	sendRuns = 16 // of one stream, before the next has its turn
	runBytes = 64 << 10
)

// sender is the sending half of a link, without its I/O: it decides what goes out
// next. It outlives connections. One goroutine at a time.
type sender struct {
	self    layout.ID16
	paused  bool
	up      bool // a connection is there
	peer    layout.ID16
	maxBody int // that the peer takes
	streams []*stream
	refs    map[uint32]*stream
	lastRef uint32
	turn    int // whose stream is first
	total   senderStats
}

type senderStats struct {
	frames, bytes, gaps, missed, evictions, resumes, refusals, loops, torn uint64
}

func newSender(self layout.ID16) *sender {
	return &sender{self: self, refs: map[uint32]*stream{}}
}

// sink is where a sender's frames go.
type sink interface {
	full() bool
	control(frame []byte)
	// run takes frames of a lane. It reports false if they were overwritten
	// meanwhile, and then has taken none.
	run(st *stream, r shm.Run) bool
}

// attach takes a lane on.
func (s *sender) attach(l lane, lossy bool) {
	s.streams = append(s.streams, &stream{lane: l, lossy: lossy})
}

// connected begins a connection.
func (s *sender) connected(peer layout.ID16, maxBody uint32) {
	s.disconnected()
	s.up, s.peer, s.maxBody = true, peer, int(maxBody)
}

// disconnected ends one. What was sent and not acknowledged is sent again.
func (s *sender) disconnected() {
	s.up = false
	clear(s.refs)
	for _, st := range s.streams {
		st.opened, st.retryAt, st.tries = false, 0, 0
		if st.state != streamSkimmed && st.state != streamEnded {
			st.state = streamIdle
		}
	}
}

// step puts what is to be sent into out, stream by stream, until out is full. It
// reports whether it did anything.
func (s *sender) step(now int64, out sink) (worked bool) {
	n := len(s.streams)
	for i := range n {
		st := s.streams[(s.turn+i)%n]
		if s.advance(now, st, out) {
			worked = true
		}
		if out.full() {
			s.turn = (s.turn + i + 1) % n
			break
		}
	}
	s.streams = slices.DeleteFunc(s.streams, func(st *stream) bool { return st.state == streamDone })
	if s.turn >= len(s.streams) {
		s.turn = 0
	}
	return worked
}

// due is when a step has something to do although nothing came: ns, 0 = never.
func (s *sender) due() (at int64) {
	for _, st := range s.streams {
		if (st.state == streamIdle || st.state == streamSkimmed) && s.up && st.retryAt > 0 && (at == 0 || st.retryAt < at) {
			at = st.retryAt
		}
	}
	return at
}

func (s *sender) advance(now int64, st *stream, out sink) bool {
	switch st.state {
	case streamSkimmed:
		if err := st.lane.Skim(); err != nil {
			s.finish(st)
			return true
		}
		if s.up && !s.paused && now >= st.retryAt {
			st.state = streamIdle
			return s.offer(now, st, out)
		}
	case streamIdle:
		if s.paused || now < st.retryAt {
			st.lane.Stall(true)
			return false
		}
		return s.offer(now, st, out)
	case streamEnded:
		s.finish(st)
		return true
	case streamSending:
		return s.send(st, out)
	}
	return false
}

// finish gives a lane up for good.
func (s *sender) finish(st *stream) {
	if st.opened {
		delete(s.refs, st.ref)
	}
	st.state = streamDone
	st.lane.Done()
}

// offer opens a stream, unless the peer cannot want it.
func (s *sender) offer(now int64, st *stream, out sink) bool {
	st.lane.Stall(!s.up)
	if !s.up || !st.lane.Known() {
		return false
	}
	info := st.lane.Info()
	o := open{originEpoch: info.OriginEpoch, originNode: info.OriginNode, wall: info.OriginWall, mono: info.OriginMono,
		maxMsg: info.MaxMessageBytes, hops: info.Hops + 1, timestamp: uint8(info.Timestamps), lossy: st.lossy,
		via: info.Via, topic: info.Topic, source: info.Source}
	if info.Mirror {
		o.via = append(slices.Clone(info.Via), s.self)
	}
	switch {
	case o.originNode == s.peer || slices.Contains(o.via, s.peer):
		s.refused(now, st, codeLoop)
		return true
	case o.hops > layout.MaxHops:
		s.refused(now, st, codeHops)
		return true
	case layout.FrameBytes(uint64(info.MaxMessageBytes)) > uint64(s.maxBody):
		s.refused(now, st, codeLarge)
		return true
	case len(s.refs) >= maxRefs:
		st.retryAt = now + holdMin
		return false
	}
	for s.refs[s.lastRef] != nil || s.lastRef == 0 {
		s.lastRef = (s.lastRef + 1) % (maxRefs + 1)
	}
	st.ref, st.state, st.opened = s.lastRef, streamOpening, true
	s.refs[st.ref] = st
	st.lane.Stall(true)
	out.control(o.encode(st.ref, st.lane.Acked()))
	return true
}

// refused deals with a stream that the peer does not take, now or ever.
func (s *sender) refused(now int64, st *stream, why code) {
	st.why = why
	s.total.refusals++
	if why == codeLoop || why == codeHave || why == codeHops {
		s.total.loops++
	}
	if why.holds() {
		st.state = streamIdle
		st.retryAt = now + min(holdMin<<min(st.tries, 10), holdMax)
		st.tries++
		return
	}
	st.state, st.retryAt = streamSkimmed, now+skimFor
	st.lane.Stall(false)
}

// send puts as much of a stream into out as the window and out itself allow.
func (s *sender) send(st *stream, out sink) (worked bool) {
	for range sendRuns {
		if out.full() {
			return worked
		}
		room := int64(st.window) - int64(st.lane.PendingBytes())
		if room <= 0 {
			st.lane.Stall(true)
			return worked
		}
		run, err := st.lane.Next(int(min(room, int64(s.runMax(st)))))
		switch {
		case err != nil:
			worked = true
			if !s.report(st, err, out) {
				return worked
			}
		case run.Count == 0:
			// What does not fit the window waits for an ACK.
			st.lane.Stall(st.lane.Waits() && st.lane.PendingBytes() > 0)
			return worked
		default:
			worked = true
			if !out.run(st, run) {
				s.total.torn++
				st.lane.Return(run)
				continue
			}
			st.stats.frames += uint64(run.Count)
			st.stats.bytes += uint64(len(run.Bytes))
			s.total.frames += uint64(run.Count)
			s.total.bytes += uint64(len(run.Bytes))
		}
	}
	st.lane.Stall(false)
	return worked
}

// runMax is the longest run: one frame at least, and not much more than what a cache
// holds beside everything else.
func (s *sender) runMax(st *stream) int {
	return min(s.maxBody, max(runBytes, int(layout.FrameBytes(uint64(st.lane.Info().MaxMessageBytes)))))
}

// report passes on what Next said instead of frames. It reports whether the stream
// goes on.
func (s *sender) report(st *stream, err error, out sink) bool {
	var gap *shm.GapError
	switch {
	case errors.As(err, &gap):
		st.stats.gaps++
		st.stats.missed += gap.Missed()
		s.total.gaps++
		s.total.missed += gap.Missed()
		out.control(encodeRound(kindGap, st.round, st.ref, gap.From, words(gap.Next, uint64(gap.Cause))))
		return true
	case errors.Is(err, shm.ErrEvicted):
		s.total.evictions++
		return true
	case errors.Is(err, io.EOF):
		out.control(encodeRound(kindEnd, st.round, st.ref, st.lane.Due(), words(0)))
	default:
		out.control(encodeRound(kindEnd, st.round, st.ref, st.lane.Due(), words(1)))
	}
	st.state = streamEnding
	st.lane.Stall(true)
	return false
}

// take acts on a receiver's frame.
func (s *sender) take(now int64, f *frame) error {
	st := s.refs[f.ref]
	if st == nil {
		return protocolError("%v of stream %d, which is not open", f.kind, f.ref)
	}
	switch f.kind {
	case kindResume:
		st.window, st.round, st.high = word(f.body, 0), f.round, f.seq
		st.lane.Ack(f.seq)
		st.lane.Rewind(f.seq)
		st.state, st.tries, st.why = streamSending, 0, 0
		s.total.resumes++
		st.lane.Stall(false)
	case kindAck:
		if st.state == streamOpening || seqlock.After(f.seq, seqlock.Max(st.high, st.lane.Due())) {
			return protocolError("ACK of %d in stream %d, %v, where %d is due", f.seq, f.ref, st.state, st.lane.Due())
		}
		st.window = word(f.body, 0)
		st.lane.Ack(f.seq)
		if st.state == streamSending {
			st.lane.Stall(false)
		}
	case kindRefuse:
		c, _, err := decodeReason(f.body)
		if err != nil {
			return err
		}
		delete(s.refs, f.ref)
		st.opened = false
		s.refused(now, st, c)
	case kindEnded:
		if st.state != streamEnding || f.seq != st.lane.Due() {
			return protocolError("ENDED of stream %d, %v, at %d", f.ref, st.state, f.seq)
		}
		st.lane.Ack(f.seq)
		st.state = streamEnded
	}
	return nil
}
