package seqlock

import "unsafe"

// wordsOf views b as whole words, or returns how far its start is from an
// 8-aligned address. Preconditions: len(b) > 0.
func wordsOf(b []byte) (words []uint64, misaligned uintptr) {
	p := unsafe.Pointer(unsafe.SliceData(b))
	if m := uintptr(p) % 8; m != 0 {
		return nil, m
	}
	return unsafe.Slice((*uint64)(p), len(b)/8), 0
}
