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

// payload are the n bytes behind a header in a private copy of frames. That n comes from 32 bits
// spares the check. Precondition: the copy holds them.
func (f *frameHeader) payload(n uint64) []byte {
	return (*[1 << 32]byte)(unsafe.Add(unsafe.Pointer(f), layout.OffPayload))[:n:n]
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

// put32, put16 and put8 copy so many bytes of b, from i on, to the same place in the payload of
// a frame in the ring: without a call, since what lives across a call is stored to the stack
// first (ADR 0015). Precondition: both have them.
func (f *frameHeader) put32(b []byte, i int) {
	f.put16(b, i)
	f.put16(b, i+16)
}

func (f *frameHeader) put16(b []byte, i int) {
	*(*[16]byte)(f.at(i)) = *(*[16]byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), i))
}

func (f *frameHeader) put8(b []byte, i int) {
	*(*uint64)(f.at(i)) = *(*uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), i))
}

// putFew copies the less than 8 bytes of b.
func (f *frameHeader) putFew(b []byte) {
	for i := range b {
		*(*byte)(f.at(i)) = b[i]
	}
}

// at is where a frame's payload has its i-th byte.
func (f *frameHeader) at(i int) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(f), layout.OffPayload+i)
}

// at is the byte at a position.
func (r *ring) at(pos uint64) *byte { return (*byte)(unsafe.Add(r.base, pos&r.mask)) }

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
