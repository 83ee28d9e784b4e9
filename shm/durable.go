package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/seqlock"
)

// reopenCursors takes over the cursor file that the durable subscriber's owner
// before left. Publishers look into it at this moment: its header, and the slots
// that are open, stay as they are.
func (c *Client) reopenCursors(ctx context.Context, f *os.File, want layout.CursorHeader, o SubscriberOptions) (*Subscriber, error) {
	defer func() { _ = f.Close() }()
	registerBarrier()
	if err := segment.Lock(f); err != nil {
		return nil, err
	}
	h, err := segment.ReadCursor(f)
	if err != nil {
		return nil, err
	}
	if h.Epoch != want.Epoch || h.Pattern != want.Pattern || h.Name != want.Name || h.Mode != want.Mode || h.Park != want.Park || h.Slots != want.Slots {
		return nil, fmt.Errorf("%w: cursor file %s is of %q, %s where %q, %s is meant", layout.ErrMagic, h.Epoch, h.Name, h.Pattern, want.Name, want.Pattern)
	}
	mp, err := segment.Map(f, true)
	if err != nil {
		return nil, err
	}
	var s *Subscriber
	if !shielded(mp.Bytes(), func() { s, err = takeOver(mp.Bytes(), h, o) }) {
		err = layout.ErrTruncated
	}
	if err != nil {
		_ = mp.Close()
		return nil, err
	}
	if failpoint.Enabled {
		failpoint.Here("sub.taken_over")
	}
	return c.subscribed(ctx, s, mp)
}

// takeOver makes a subscriber on a cursor file that was used before.
func takeOver(mem []byte, h layout.CursorHeader, o SubscriberOptions) (*Subscriber, error) {
	for _, off := range []uint64{layout.OffSubMetrics, layout.OffCursorBeat} {
		w := word64(mem, off) // odd if its owner was killed while it stored the cell
		atomic.StoreUint64(w, (atomic.LoadUint64(w)+1)&^1)
	}
	atomic.StoreUint32(word32(mem, layout.OffSleeping), 0)
	s, err := newSubscriber(mem, h, o)
	if err != nil {
		return nil, err
	}
	s.resumed, s.back = true, true
	s.park.number = uint32(clock.Mono()) // a publisher does not wake the same number twice
	return s, nil
}

// resume puts the reader of a lane where the owner before was. It reports false if
// that one had nothing of the lane, and the lane is to be read from a start.
func (r *reader) resume(lossless, isNew bool) bool {
	if atomic.LoadUint64(r.slotLane) != r.hdr.Epoch.Low() {
		if r.held && !isNew { // joined by the owner before, who never read of it
			r.pos, r.fresh = r.join, r.join != r.hdr.FirstPos
			return true
		}
		return false
	}
	pos, seq := atomic.LoadUint64(r.slotPos), atomic.LoadUint64(r.slotSeq)
	if pos%layout.Align != 0 || seqlock.Before(pos, r.hdr.FirstPos) || pos >= layout.MaxPos {
		return false // not a cursor that this library has stored
	}
	switch at, ok := r.sequenceAt(pos); {
	case ok && !seqlock.After(at, seq):
		r.pos, r.want = pos, at // before seq: killed between the two stores
	case lossless && (!r.held || pos == r.join):
		r.startInHistory(pos, seq)
	default:
		r.pos, r.want = pos, seq
		if ok { // in history, and evicted since
			r.loose = CauseEvicted
		}
	}
	r.resumed = atomic.LoadUint64(r.slotEpoch) == r.hdr.Epoch.Low()
	if !r.resumed && r.held { // it was evicted
		r.behindJoin()
	}
	return true
}

// startInHistory moves to seq, of an owner that was still reading what lies before
// the cursor, or at its very end: what is still there of it is not lost.
func (r *reader) startInHistory(cursor, seq uint64) {
	r.startAt(seq)
	if seqlock.Before(cursor, r.pos) && !r.overrun(cursor) {
		r.pos = cursor
	}
}

// behindJoin has a reader that was evicted, and is held from J on, read what lies
// before J while it is there: only what was really overwritten is missed.
func (r *reader) behindJoin() {
	if seqlock.Before(r.pos, r.join) && r.overrun(r.pos) && (!r.seek(true) || seqlock.After(r.pos, r.join)) {
		r.pos = r.join
	}
	r.loose = CauseEvicted
}

// Forget is Close for a durable subscriber that is over for good: nothing is held
// for it any more. For any other it is Close.
func (s *Subscriber) Forget(ctx context.Context) error {
	err := s.closeWith(ctx, &control.Message{Op: control.OpCloseSub, Sub: s.hdr.Epoch, Forget: true})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// Resumed reports whether a durable subscriber goes on where an owner before it was.
func (s *Subscriber) Resumed() bool { return s.resumed }
