package shm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
	"github.com/torq/mycelium/seqlock"
)

// Mirror is the one writer of a mirror lane: it carries on the frames of a lane of
// another host, with their sequences, time stamps and types. Which sequence is due
// next is read from what is committed, so that whoever goes on after a crash misses
// nothing and repeats nothing. One goroutine at a time.
type Mirror struct {
	p     *Publisher
	found bool
}

// MirrorOptions say what is mirrored. All but Via is required.
type MirrorOptions struct {
	LaneInfo        // of the origin's lane as this host is to show it: Hops and Via are this host's
	FirstSeq uint64 // to begin with, if this bus has nothing of the origin epoch
}

// Mirror opens a mirror lane. One writer may live for each source of a host. The
// errors are those of Publisher.
func (c *Client) Mirror(ctx context.Context, o *MirrorOptions) (*Mirror, error) {
	m := &mirrorRequest{Mirror: control.Mirror{Node: o.OriginNode, Epoch: o.OriginEpoch, FirstSeq: o.FirstSeq, Hops: o.Hops, Via: o.Via, Wall: o.OriginWall, Mono: o.OriginMono}}
	p, err := c.Publisher(ctx, o.Topic, &PublisherOptions{Source: o.Source, MaxMessageBytes: o.MaxMessageBytes, Timestamps: o.Timestamps, mirror: m})
	if err != nil {
		return nil, err
	}
	return &Mirror{p: p, found: m.found}, nil
}

// mirrorRequest makes a Publisher's lane a mirror lane.
type mirrorRequest struct {
	control.Mirror
	found bool // the answer: the bus had something of the origin epoch
}

// mirrored makes a header that of a mirror lane.
func mirrored(h *layout.LaneHeader, m *mirrorRequest) {
	h.Mirror, h.Hops, h.OriginNode, h.OriginEpoch = true, m.Hops, m.Node, m.Epoch
	copy(h.Via[:], m.Via)
	h.OriginWall, h.OriginMono = m.Wall, m.Mono
}

// Due is the sequence that comes next.
func (m *Mirror) Due() uint64 { return m.p.seq }

// FirstSeq is the sequence with which the lane began.
func (m *Mirror) FirstSeq() uint64 { return m.p.hdr.FirstSeq }

// RingBytes is the size of its ring.
func (m *Mirror) RingBytes() uint64 { return m.p.hdr.Ring }

// MaxMessageBytes is the largest payload that it takes.
func (m *Mirror) MaxMessageBytes() uint32 { return m.p.hdr.MaxMsg }

// ErrFrames says that bytes are not frames that can be appended.
var ErrFrames = errors.New("malformed frames")

// CountFrames is how many frames b holds. It is an error if they do not fill b, do not
// have the sequences from first on, or one has a payload of more than maxMsg bytes. The
// commit words are not looked at.
//
// Preconditions: b starts 8-aligned.
func CountFrames(b []byte, first uint64, maxMsg uint32) (count int, err error) {
	for at, end := uint64(0), uint64(len(b)); at < end; count++ {
		if end-at < layout.FrameHeaderBytes {
			return 0, fmt.Errorf("%w: %d bytes behind the last of %d", ErrFrames, end-at, count)
		}
		f := headerIn(b, at)
		n := uint64(uint32(f.meta))
		if n > uint64(maxMsg) || layout.FrameBytes(n) > end-at {
			return 0, fmt.Errorf("%w: a payload of %d bytes, with %d left and %d allowed", ErrFrames, n, end-at, maxMsg)
		}
		if seq := f.seq; seq != first+uint64(count) {
			return 0, fmt.Errorf("%w: sequence %d where %d is due", ErrFrames, seq, first+uint64(count))
		}
		at += layout.FrameBytes(n)
	}
	return count, nil
}

// Append writes frames as they stood in the origin's ring. It never waits: with
// ErrBackpressure some or none of them were written, and Due tells how many.
//
// Preconditions: CountFrames(b, Due(), MaxMessageBytes()) has no error, and nobody else
// has b.
func (m *Mirror) Append(b []byte) (err error) {
	p := m.p
	done, old := false, debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if !done {
			p.caught(recover(), &err)
		}
	}()
	for len(b) > 0 && err == nil {
		var n uint64
		n, err = p.appendPart(b)
		b = b[n:]
	}
	done = true
	return err
}

// appendPart writes the longest head of b that needs no padding and fits one batch.
func (p *Publisher) appendPart(b []byte) (n uint64, err error) {
	first := uint64(uint32(headerIn(b, 0).meta))
	if err := p.makeRoom(first, false); err != nil {
		return 0, err
	}
	pos := p.pos
	most := min(uint64(len(b)), p.lapEnd(pos)-pos, p.batchMax())
	n = layout.FrameBytes(first) // may be more than a batch
	count := uint64(1)
	for n < most {
		next := n + layout.FrameBytes(uint64(uint32(headerIn(b, n).meta)))
		if next > most {
			break
		}
		n = next
		count++
	}
	if need := pos + n + layout.Align; seqlock.Diff(need, p.intentL) > 0 {
		if err := p.refill(need, false); err != nil {
			return 0, err
		}
	}
	hops := uint64(p.hdr.Hops) << 56
	p.clearNext(pos + n)
	// The first commit word stays out of it: the origin's could be a true one here.
	lines.Copy(p.ring.bytes(pos+8, n-8), b[8:n])
	for at := uint64(0); at < n; {
		meta := headerIn(b, at).meta
		size := uint64(uint32(meta))
		*p.ring.word(pos + at + layout.OffLen) = meta&^(0xff<<56) | hops
		if at > 0 {
			storeRelaxed(p.ring.word(pos+at), layout.Commit(pos+at, layout.KindData))
		}
		p.bytes += size
		at += layout.FrameBytes(size)
	}
	if failpoint.Enabled {
		failpoint.Here("mirror.before_commit")
	}
	seqlock.StoreRelease(p.ring.word(pos), layout.Commit(pos, layout.KindData)) // SYNC commit/poll
	if failpoint.Enabled {
		failpoint.Here("mirror.after_commit")
	}
	seq := p.seq
	for at := uint64(0); at < n; seq++ {
		if pos+at >= p.nextBlock {
			p.indexFrame(pos+at, seq)
		}
		at += layout.FrameBytes(uint64(uint32(headerIn(b, at).meta)))
	}
	p.pos += n
	p.seq += count
	p.counts[layout.MetricBatches]++
	p.setRoom()
	p.wake()
	return n, nil
}

// Gap says that the sequences from Due to before next were lost before this host. It
// never waits.
func (m *Mirror) Gap(next uint64) (err error) {
	p := m.p
	if !seqlock.After(next, p.seq) {
		return fmt.Errorf("%w: a gap up to %d where %d is due", ErrFrames, next, p.seq)
	}
	done, old := false, debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if !done {
			p.caught(recover(), &err)
		}
	}()
	err = p.makeRoom(8, false)
	if err == nil {
		pos := p.pos
		end := pos + layout.FrameBytes(8)
		p.clearNext(end)
		*p.ring.word(pos + layout.OffLen) = layout.Meta(8, 0, 0, p.hdr.Hops)
		*p.ring.word(pos + layout.OffSeq) = p.seq
		*p.ring.word(pos + layout.OffTime) = 0
		*p.ring.word(pos + layout.OffPayload) = next - 1
		seqlock.StoreRelease(p.ring.word(pos), layout.Commit(pos, layout.KindGap)) // SYNC commit/poll
		p.pos, p.seq = end, next
		p.setRoom()
		p.storeTail()
		p.wake()
	}
	done = true
	return err
}

// Room is how many bytes of frames Append takes without a doubt, at most half the
// ring. While there are less than least, the topic's policy acts on who holds them.
//
// Preconditions: least is at most a quarter of the ring.
func (m *Mirror) Room(least uint64) (room uint64) {
	p := m.p
	if p.dead != nil || p.lost.Load() {
		return 0
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	room = p.looseRoom()
	if room < least && p.refill(p.pos+least+p.spare(), false) == nil {
		room = p.looseRoom()
	}
	return room
}

// looseRoom is what the slowest member leaves, without the padding at the ring's end
// and the header that is cleared behind a frame.
func (p *Publisher) looseRoom() uint64 {
	most, free := p.hdr.Ring/2, p.hdr.Ring
	set := p.set.Load() // SYNC join/refill
	for _, m := range set.lossless {
		at := p.pos
		if !shielded(m.peer.mem, func() { at = m.position(p.hdr.Epoch) }) || seqlock.After(at, p.pos) {
			continue // refill deals with it
		}
		free = min(free, p.hdr.Ring-min(p.pos-at, p.hdr.Ring))
	}
	runtime.KeepAlive(set)
	if free > p.spare() {
		return min(free-p.spare(), most)
	}
	return 0
}

// spare is what frames may need beside their own bytes: padding, a cleared header.
func (p *Publisher) spare() uint64 { return layout.FrameBytes(p.maxMsg) + layout.Align }

// Flush stores the tail hint and the counters: see Publisher.
func (m *Mirror) Flush() { m.p.Flush() }

// Lost reports whether the lane takes no more: its segment was truncated, or the
// registry gave it up. Close it, and open another.
func (m *Mirror) Lost() bool { return m.p.dead != nil || m.p.lost.Load() }

// Found reports whether the bus had something of the origin epoch before.
func (m *Mirror) Found() bool { return m.found }

// Close ends the lane, for good or until the next Mirror of the origin epoch.
func (m *Mirror) Close() error { return m.p.Close() }
