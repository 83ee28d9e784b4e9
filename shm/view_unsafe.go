package shm

import (
	"fmt"
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

// bytes are the n bytes from a position on.
// Precondition: they do not cross the end of the ring; the caller has bounded n.
func (r *ring) bytes(pos, n uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(r.base, pos&r.mask)), n)
}

// word64 and word32 view a shared word of a segment header.
func word64(mem []byte, off uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&mem[off : off+8 : off+8][0]))
}

func word32(mem []byte, off uint64) *uint32 {
	return (*uint32)(unsafe.Pointer(&mem[off : off+4 : off+4][0]))
}

// load64 reads a word of a private copy, host order: every supported platform
// is little-endian, as the layout is.
// Precondition: off+8 <= len(b) and off is a multiple of 8; b starts 8-aligned.
func load64(b []byte, off uint64) uint64 {
	return *(*uint64)(unsafe.Pointer(&b[off : off+8 : off+8][0]))
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
