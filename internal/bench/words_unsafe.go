package bench

import "unsafe"

// word is the 64-bit word at an 8-aligned offset of shared memory.
func word(mem []byte, off int) *uint64 {
	return (*uint64)(unsafe.Pointer(&mem[off : off+8 : off+8][0]))
}

// word32 is the 32-bit word at a 4-aligned offset of shared memory.
func word32(mem []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(&mem[off : off+4 : off+4][0]))
}
