package shm

import (
	"unsafe"

	"github.com/torq/mycelium/internal/layout"
)

// Topic and source lie side by side, in a reader as in a Frame, and are 8 bytes each.
const (
	_ = -uint((unsafe.Sizeof(TopicID(0)) ^ 8) | (unsafe.Sizeof(SourceID(0)) ^ 8))
	_ = -uint(unsafe.Offsetof(reader{}.source) ^ (unsafe.Offsetof(reader{}.topic) + unsafe.Sizeof(TopicID(0))))
	_ = -uint(unsafe.Offsetof(Frame{}.Source) ^ (unsafe.Offsetof(Frame{}.Topic) + unsafe.Sizeof(TopicID(0))))
)

// layDown fills g and the frames behind it from the header f and those behind it, up to st.stop
// or the first that is not whole, or not the next. It goes by pointers, and copies topic and source as one, so
// that the loop keeps all that it needs in registers.
//
// Preconditions: f is the header at l.pos in a copy that ends at st.end, with a spare one behind it; behind
// as many frames as start before st.stop, g has a spare one, too.
func (r *reader) layDown(f *frameHeader, g *Frame, st *stretch, l laidDown) laidDown {
	var size, step uint64
	for meta := ^f.meta; l.pos < st.stop; {
		// Mostly frames are like the one before: a processor that guesses so has no need to wait for
		// this header before it looks at the next.
		if f.meta != meta {
			meta = f.meta
			size = uint64(uint32(meta))
			step = layout.FrameBytes(size)
			if size > r.maxMsg {
				break
			}
		}
		if f.commit != layout.Commit(l.pos, layout.KindData) || l.pos+step > st.end || f.seq != l.want { // as in hand
			break
		}
		*(*[2]uint64)(unsafe.Pointer(&g.Topic)) = *(*[2]uint64)(unsafe.Pointer(&r.topic))
		g.Seq, g.Time = l.want, int64(f.time)
		g.Type, g.Flags, g.Payload = uint16(meta>>32), uint8(meta>>48), f.payload(size)
		l.pos += step
		l.bytes += size
		l.want++
		f = (*frameHeader)(unsafe.Add(unsafe.Pointer(f), step))
		g = (*Frame)(unsafe.Add(unsafe.Pointer(g), unsafe.Sizeof(*g)))
	}
	return l
}
