//go:build !race

package lines

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// lineBytes is the size of a cache line.
const lineBytes = 64

// whole reports whether one store can fill a line. Processors that have AVX-512
// without VBMI2 (Skylake, Cascade Lake) slow down for a while when they use it.
var whole = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VBMI2

// Precondition: to is as long as from.
func copyLines(to, from []byte) {
	if !whole || len(from) < lineBytes {
		copy(to, from)
		return
	}
	fill(unsafe.Pointer(unsafe.SliceData(to)), unsafe.Pointer(unsafe.SliceData(from)), uint64(len(from)))
}

func fetchLines(b []byte) {
	if len(b) > 0 {
		fetch(unsafe.Pointer(unsafe.SliceData(b)), uint64(len(b)))
	}
}

func ownLines(b []byte) {
	if len(b) > 0 {
		own(unsafe.Pointer(unsafe.SliceData(b)), uint64(len(b)))
	}
}

// fill copies n >= lineBytes bytes, each whole line of to with one store.
//
//go:noescape
func fill(to, from unsafe.Pointer, n uint64)

// fetch has the lines of n > 0 bytes from p on brought near.
//
//go:noescape
func fetch(p unsafe.Pointer, n uint64)

// own has the lines of n > 0 bytes from p on brought near, and taken from others.
//
//go:noescape
func own(p unsafe.Pointer, n uint64)
