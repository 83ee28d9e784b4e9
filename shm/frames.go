package shm

import (
	"context"
	"iter"
	"runtime/debug"

	"github.com/torq/mycelium/internal/layout"
)

// Frames is Run as an iterator. Payloads are valid until the next step; errors
// come in their place in the stream and do not end it, except the subscriber's end
// and that of ctx. The position moves before the loop's body sees a frame: after a break, a
// panic or a Close in it, that frame has been had. Its cursor follows with the next step.
func (s *Subscriber) Frames(ctx context.Context) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		idle := s.Idler()
		stop := context.AfterFunc(ctx, s.park.kick)
		defer stop()
		for more := true; more; {
			var err error
			if more, err = s.frames(ctx, idle, yield); err != nil {
				more = yield(Frame{}, err) && !s.closed.Load() && s.dead == nil
			} else if more {
				yield(Frame{}, ctx.Err())
				return
			}
		}
	}
}

// frames is Frames up to an error, the end of ctx, or until the loop wants no more. The recovery
// from a memory fault is set up once, but the loop's body runs as if outside of it, so that it may
// Close and poll; its panics go on.
func (s *Subscriber) frames(ctx context.Context, idle Idler, yield func(Frame, error) bool) (more bool, err error) {
	outer := s.protected
	if !outer {
		defer s.guard(debug.SetPanicOnFault(true), &err)
	}
	more = true // also after a fault
	var f Frame
	var took bool
	take := func(g Frame) { f, took = g, true }
	for err == nil && ctx.Err() == nil {
		if !outer {
			s.shield()
		}
		n := -1
		if took, err = s.step(&f); !took && err == nil {
			s.laid.wanted = true
			n, err = s.Poll(take, 1)
			s.laid.wanted = false
		}
		if !outer {
			s.unshield()
		}
		if took && !yield(f, nil) {
			return false, nil
		}
		if n >= 0 && err == nil {
			idle.Idle(n * defaultMax) // one stretch at a time is this loop's limit, and no sign of a chase
		}
	}
	return more, err
}

// laidMost is how many frames a stretch has at most: enough to share the costs of a poll, and so few
// that the other lanes have their turn soon, however slow the loop's body is.
const laidMost = 16

// laid is a stretch that Frames takes one frame at a time, between the polls that gather one. As
// after a poll, the position is behind the frame that the loop's body has: whatever else is done
// meanwhile, Close and Poll included, goes on from there.
type laid struct {
	wanted bool    // by the poll under way: to be laid down, and not handed out
	lane   *reader // nil: nothing is laid down
	copy   []byte
	stretch
}

// step takes the next frame of the stretch that is laid down, if there is one.
func (s *Subscriber) step(f *Frame) (ok bool, err error) {
	l := &s.laid
	if s.inbox.Load() || l.lane == nil { // a Close may be at work
		return false, nil
	}
	r := l.lane
	s.stats.Store(nil)                       // the activity, as in Poll
	if r.pos != r.published && r.publish() { // as in pollLane
		s.gatherUp()
		return false, s.evicted(r)
	}
	pos := r.pos
	if pos >= l.end {
		s.gatherUp()
		return false, nil
	}
	h := headerIn(l.copy, pos-l.start)
	size := uint64(uint32(h.meta))
	next := pos + layout.FrameBytes(size)
	if h.commit != layout.Commit(pos, layout.KindData) || size > r.maxMsg || next > l.end || h.seq != r.want { // as in hand
		l.lane = nil
		_, err = s.finish(r, &l.stretch, l.copy, false)
		return false, err
	}
	// One by one: a processor passes on what it has just stored to a load of as much.
	f.Topic, f.Source, f.Seq, f.Time = r.topic, r.source, h.seq, int64(h.time)
	f.Type, f.Flags, f.Payload = uint16(h.meta>>32), uint8(h.meta>>48), h.payload(size)
	r.pos, r.size = next, size
	r.want++
	r.bytes += size
	if next >= r.due {
		r.due = r.fetch(r.due, l.end-l.start)
	}
	return true, nil
}

// lay is pollRuns for Frames: what it gathers stays until it is stepped through.
func (s *Subscriber) lay(r *reader) (n int, err error) {
	bytes, v := r.gather(s.buf, laidMost)
	switch {
	case v == nothing:
		return 0, s.waits(r)
	case v != found:
		return 0, s.unusual(r, v)
	case bytes == 0: // as in pollRuns
		return 0, nil
	}
	l := &s.laid
	l.copy = s.buf[:bytes]
	if l.stretch, err = s.begin(r, l.copy, laidMost); err != nil {
		return 0, err
	}
	l.lane = r
	return 1, nil
}

// gatherUp ends a loop's stretch before its end: what was not taken of it is gathered again.
func (s *Subscriber) gatherUp() {
	r := s.laid.lane
	s.laid.lane = nil
	_, _ = s.finish(r, &s.laid.stretch, s.laid.copy, true)
}
