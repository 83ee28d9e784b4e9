package shm

import (
	"fmt"
	"structs"
	"unsafe"

	"github.com/torq/mycelium/internal/layout"
)

// ring is a lane's ring as words and bytes. Every access is masked, so that no
// position, however hostile, leaves the ring.
//
// Preconditions: base is 8-aligned and has mask+1 bytes; positions are
// 8-aligned where a word is meant.
type ring struct {
	base unsafe.Pointer
	mask uint64
}

func newRing(mem []byte, g layout.Geometry) ring {
	b := mem[layout.OffRing : layout.OffRing+g.Ring : layout.OffRing+g.Ring]
	return ring{base: unsafe.Pointer(&b[0]), mask: g.Ring - 1}
}

// word is the 64-bit word at a position.
func (r *ring) word(pos uint64) *uint64 { return (*uint64)(unsafe.Add(r.base, pos&r.mask)) }

// frameHeader is the header of a frame as it lies in the ring: layout.OffCommit
// and the three words behind it.
type frameHeader struct {
	_                       structs.HostLayout
	commit, meta, seq, time uint64
}

const (
	_ = -uint(unsafe.Sizeof(frameHeader{}) ^ layout.FrameHeaderBytes)
	_ = -uint(unsafe.Offsetof(frameHeader{}.commit) ^ layout.OffCommit)
	_ = -uint(unsafe.Offsetof(frameHeader{}.meta) ^ layout.OffLen)
	_ = -uint(unsafe.Offsetof(frameHeader{}.seq) ^ layout.OffSeq)
	_ = -uint(unsafe.Offsetof(frameHeader{}.time) ^ layout.OffTime)
)

// header is the header of the frame at a position, a multiple of layout.Align.
func (r *ring) header(pos uint64) *frameHeader {
	return (*frameHeader)(unsafe.Add(r.base, pos&r.mask))
}

// headerIn is the header that lies off bytes into a private copy of frames.
// Precondition: the copy holds it; off is a multiple of layout.Align.
func headerIn(b []byte, off uint64) *frameHeader {
	return (*frameHeader)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), off))
}

// payload are the n bytes behind a header in a private copy of frames.
// Precondition: the copy holds them.
func (f *frameHeader) payload(n uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(f), layout.OffPayload)), n)
}

// spread is h with the fields of its Frame as arguments. Go passes a struct whose fields
// all fit into registers as it passes as many arguments one by one (register assignment in
// cmd/compile/abi-internal.md), but where the caller has it as one value, it is stored to the stack and
// loaded from there first. The fields are those of Frame, in their order.
func spread(h func(Frame)) func(TopicID, SourceID, uint64, int64, uint16, uint8, []byte) {
	return *(*func(TopicID, SourceID, uint64, int64, uint16, uint8, []byte))(unsafe.Pointer(&h))
}

// bytes are the n bytes from a position on.
// Precondition: they do not cross the end of the ring; the caller has bounded n.
func (r *ring) bytes(pos, n uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(r.base, pos&r.mask)), n)
}

// putMax is the most that put is for: above, a memmove is faster.
const putMax = 256

// put copies b to a position in as few stores as there are without a call: what
// lives across a call is stored to the stack first, and a publisher's stores are
// what its rate hangs on (ADR 0015).
// Precondition: as bytes.
func (r *ring) put(pos uint64, b []byte) {
	to, from, n := unsafe.Add(r.base, pos&r.mask), unsafe.Pointer(unsafe.SliceData(b)), len(b)
	i := 0
	for ; i+16 <= n; i += 16 {
		*(*[16]byte)(unsafe.Add(to, i)) = *(*[16]byte)(unsafe.Add(from, i))
	}
	if i+8 <= n {
		*(*uint64)(unsafe.Add(to, i)) = *(*uint64)(unsafe.Add(from, i))
		i += 8
	}
	for ; i < n; i++ { // no pointer is formed at n: it would be past the slice
		*(*byte)(unsafe.Add(to, i)) = *(*byte)(unsafe.Add(from, i))
	}
}

// word64 and word32 view a shared word of a segment header.
func word64(mem []byte, off uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&mem[off : off+8 : off+8][0]))
}

func word32(mem []byte, off uint64) *uint32 {
	return (*uint32)(unsafe.Pointer(&mem[off : off+4 : off+4][0]))
}

// addrWithin reports whether a fault address lies in mem.
func addrWithin(addr uintptr, mem []byte) bool {
	if len(mem) == 0 {
		return false
	}
	start := uintptr(unsafe.Pointer(&mem[0]))
	return addr >= start && addr-start < uintptr(len(mem))
}

// checkAligned refuses memory that the atomic views cannot stand on.
func checkAligned(mem []byte) error {
	if uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		return fmt.Errorf("segment memory is not 8-byte aligned")
	}
	return nil
}
