package shm

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// View hands frames to h in place, without a copy, and validates after each
// run of frames. It is for lossless subscribers of topics that never evict
// (ErrViewRefused otherwise). If it returns an error, the results of this call's
// handlers are to be discarded. An error of h stops it and is returned; that
// frame comes again.
func (s *Subscriber) View(h func(Frame) error, limit int) (n int, err error) {
	if limit <= 0 {
		limit = defaultMax
	}
	if !s.protected {
		defer s.guard(debug.SetPanicOnFault(true), &err)
		s.enter()
		s.protected = true // as in pollGuarded
	}
	if s.inbox.Load() {
		if err := s.admit(); err != nil {
			return 0, err
		}
	}
	if s.laid.lane != nil { // as in Poll
		s.gatherUp()
	}
	lanes, first := s.lanes, s.next
	for i := range lanes {
		at := first + i
		if at >= len(lanes) {
			at -= len(lanes)
		}
		var got int
		got, err = s.viewLane(lanes[at], h, limit-n)
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

var errViewLapped = fmt.Errorf("%w: history was overwritten while it was viewed; discard what came after the first n frames", ErrGap)

// viewLane shows at most limit frames of one lane.
func (s *Subscriber) viewLane(r *reader, h func(Frame) error, limit int) (n int, err error) {
	if r.idle != 0 {
		limit = 1 // as in pollLane: a look for a second one would hold up the first
	}
	for looks := 0; n < limit && looks <= 2; looks++ { // as in pollRuns
		if r.state != laneReading {
			return n, nil
		}
		if !r.ended && (!r.held || !r.neverEvicts) {
			return n, ErrViewRefused
		}
		got, v, err := s.viewRun(r, h, limit-n)
		switch v {
		case found:
			if n += got; got > 0 {
				looks = 0
			}
			if err != nil {
				return n, err
			}
			if r.pos-r.published >= r.step && r.publish() {
				return n, s.evicted(r)
			}
		case nothing:
			if r.publish() {
				return n, s.evicted(r)
			}
			if n > 0 {
				return n, nil
			}
			s.await(r)
			r.idle = max(r.idle, 1) // no more: a View passes over no cold lanes, and makes none for Poll
			return 0, nil
		default:
			if err = s.unusual(r, v); err == nil && got > 0 {
				err = errViewLapped
			}
			return n, err
		}
	}
	if r.publish() {
		return n, s.evicted(r)
	}
	s.stats.Store(nil) // as in pollLane
	return n, nil
}

// viewRun is gather and deliver in one, on the ring's own bytes. With lappedRaw, n
// frames were shown that do not count.
func (s *Subscriber) viewRun(r *reader, h func(Frame) error, limit int) (n int, v verdict, err error) {
	start := r.pos
	lap := start&^r.ring.mask + r.ring.mask + 1
	p, want, fresh := start, r.want, r.fresh
	var bytes, frame uint64
	ahead := true
	for n < limit && p < lap {
		if atomic.LoadUint64(r.ring.word(p)) != layout.Commit(p, layout.KindData) { // SYNC commit/poll
			break
		}
		meta := *r.ring.word(p + layout.OffLen)
		seq := *r.ring.word(p + layout.OffSeq)
		size := uint64(uint32(meta))
		if size > r.maxMsg || p+layout.FrameBytes(size) > lap {
			break
		}
		if fresh || n == 0 && r.loose == CauseStart && seqlock.Before(seq, want) {
			fresh, want = false, seq
		} else if seq != want {
			if n > 0 {
				break // this run first
			}
			seqlock.LoadLoad()
			switch {
			case r.overrun(start):
				return 0, lappedRaw, nil
			case r.loose == 0 || seqlock.Before(seq, want):
				return 0, corrupt, nil
			}
			return 0, found, s.gap(r, seq)
		}
		ahead = ahead && r.fetchAhead(p, layout.FrameBytes(size), lap)
		if err = h(Frame{Topic: r.topic, Source: r.source, Seq: seq, Time: int64(*r.ring.word(p + layout.OffTime)),
			Type: uint16(meta >> 32), Flags: uint8(meta >> 48), Payload: r.ring.bytes(p+layout.OffPayload, size)}); err != nil {
			break
		}
		frame = layout.FrameBytes(size)
		p += frame
		want = seq + 1
		bytes += size
		n++
	}
	if n == 0 && err == nil {
		return 0, r.special(start, lap), nil
	}
	seqlock.LoadLoad()
	if r.overrun(start) {
		return max(n, 1), lappedRaw, nil
	}
	if n > 0 {
		r.pos, r.want, r.fresh, r.loose, r.idle, r.frame = p, want, fresh, 0, 0, frame
		s.counts[layout.SubFrames] += uint64(n)
		s.counts[layout.SubBytes] += bytes
	}
	return n, found, err
}
