package shm

import (
	"slices"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// admission is news from the control goroutine for the polling goroutine.
type admission struct {
	lane    *reader         // a new lane
	epoch   layout.ID16     // or news about this one:
	final   *control.Final  // it ends there
	joined  *control.Joined // it is held again
	refused error           // it is not held again
	err     error           // or a lane could not be followed
	lost    error           // or the subscriber is over
}

// admit takes the control goroutine's news up to the first error, or memory fault;
// the rest waits for the next poll.
func (s *Subscriber) admit() (err error) {
	s.control.Lock()
	if s.closed.Load() {
		s.control.Unlock()
		return ErrClosed
	}
	if s.dead != nil {
		s.control.Unlock()
		return s.dead
	}
	news := s.inboxed
	s.inboxed = nil
	s.inbox.Store(false)
	s.control.Unlock()
	defer func() {
		if len(news) == 0 {
			return
		}
		s.control.Lock()
		s.inboxed = append(news, s.inboxed...)
		s.inbox.Store(true)
		s.control.Unlock()
	}()
	for err == nil && len(news) > 0 {
		a := news[0]
		news = news[1:]
		err = s.take(a)
	}
	return err
}

// take acts on one piece of news. A lane whose source's previous lane is still
// being read waits for that one's end: order per source survives a restart of the
// publisher.
func (s *Subscriber) take(a admission) error {
	switch {
	case a.lost != nil:
		return s.disown(a.lost)
	case a.err != nil:
		return a.err
	case a.lane != nil:
		if need := gatherFor(a.lane.maxMsg); len(s.buf) < need {
			s.buf = gatherBuffer(need)
		}
		a.lane.state = laneWaiting
		s.waiting = append(s.waiting, a.lane)
		s.unblock()
		return nil
	}
	r := s.reader(a.epoch)
	switch {
	case r == nil:
	case a.final != nil:
		r.final, r.lastly, r.ended = a.final.Pos, a.final.Seq, true
		r.idle = 0
		if r.state == laneEvicted { // nobody is left to join: read what there is
			r.state, r.loose = laneReading, CauseEvicted
			r.openSlot()
		}
	case a.refused != nil:
		if r.state == laneEvicted {
			return s.detach(r, a.refused, "evicted, and not joined again")
		}
	case r.state == laneEvicted:
		r.rejoined(a.joined)
	case r.held && seqlock.After(a.joined.Ticket, r.ticket):
		// Asked for on two connections, and answered twice: the publisher
		// honours the last join, and tells of the end of that one.
		r.hold(a.joined)
		r.loose = CauseEvicted
		r.storeCursor()
	}
	return nil
}

// gatherFor is the size of a buffer for what gather takes at once of frames of up to maxMsg
// bytes: the last frame may lie across gatherBytes.
func gatherFor(maxMsg uint64) int { return int(gatherBytes + layout.FrameBytes(maxMsg)) }

// gatherBuffer is a buffer of n bytes and, behind its length, of one header: the payload of an
// empty frame begins where the frame ends, and that must be within the buffer, or it keeps
// alive, and is, whatever lies behind it.
func gatherBuffer(n int) []byte { return make([]byte, n, n+layout.FrameHeaderBytes) }

// postAll hands news to the polling goroutine and wakes it if it sleeps. The slot of
// a new lane is opened here, where the cursor file is known to be mapped.
func (s *Subscriber) postAll(news []admission) {
	s.control.Lock()
	for i, a := range news {
		switch {
		case a.lane == nil:
		case s.unmapped: // closed in between: a lane that nobody will poll
			a.lane.unmap()
		case shielded(s.mem, a.lane.openSlot):
			s.lanesHeld[a.lane.hdr.Epoch] = a.lane.hdr.Lane
		default:
			a.lane.unmap()
			news[i] = admission{lost: s.truncated()}
		}
	}
	if !s.unmapped {
		s.inboxed = append(s.inboxed, news...)
		s.inbox.Store(true)
	}
	s.control.Unlock()
	s.park.kick()
}

// unmap ends a reader that is used no longer.
func (r *reader) unmap() {
	if r.mapping != nil {
		_ = r.mapping.Close()
	}
	r.mem = nil
}

func (s *Subscriber) post(a admission) { s.postAll([]admission{a}) }

// unblock starts the waiting lanes whose predecessors have ended.
func (s *Subscriber) unblock() {
	s.waiting = slices.DeleteFunc(s.waiting, func(w *reader) bool {
		if s.reads(w.hdr.PrevEpoch) {
			return false
		}
		w.state = laneReading
		s.lanes = append(slices.Clip(s.lanes), w)
		return true
	})
	s.counts[layout.SubLanes] = uint64(len(s.lanes))
	s.park.rebuild = true
	s.shifts++
}

func (s *Subscriber) reads(epoch layout.ID16) bool { return s.reader(epoch) != nil }

// reader of a lane, nil if it is not followed.
func (s *Subscriber) reader(epoch layout.ID16) *reader {
	for _, l := range [][]*reader{s.lanes, s.waiting} {
		for _, r := range l {
			if r.hdr.Epoch == epoch {
				return r
			}
		}
	}
	return nil
}
