//go:build !race

package lines

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Hints reports whether CopyFetch and CopyOwn may be called: where assembly is.
const Hints = true

// whole reports whether one store can fill a line. Processors that have AVX-512
// without VBMI2 (Skylake, Cascade Lake) slow down for a while when they use it.
var whole = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VBMI2

// Precondition: to is as long as from.
func copyLines(to, from []byte) {
	if !whole || len(from) < Bytes {
		copy(to, from)
		return
	}
	fill(unsafe.Pointer(unsafe.SliceData(to)), unsafe.Pointer(unsafe.SliceData(from)), uint64(len(from)))
}

// Precondition: that of CopyFetch.
func copyFetch(to *byte, from []byte, ahead *byte) {
	fillFetch(unsafe.Pointer(to), unsafe.Pointer(unsafe.SliceData(from)), uint64(len(from)), unsafe.Pointer(ahead))
}

// Precondition: that of CopyOwn.
func copyOwn(to *byte, from []byte, ahead *byte) {
	fillOwn(unsafe.Pointer(to), unsafe.Pointer(unsafe.SliceData(from)), uint64(len(from)), unsafe.Pointer(ahead))
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

// fill copies n >= Bytes bytes, each whole line of to with one store. Precondition: whole.
//
//go:noescape
func fill(to, from unsafe.Pointer, n uint64)

// fillFetch copies n >= Bytes bytes, and has one line from ahead on brought near with each
// that it copies.
//
//go:noescape
func fillFetch(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)

// fillOwn is fillFetch, and takes those lines from others.
//
//go:noescape
func fillOwn(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)

// fetch has the lines of n > 0 bytes from p on brought near.
//
//go:noescape
func fetch(p unsafe.Pointer, n uint64)

// own has the lines of n > 0 bytes from p on taken from others.
//
//go:noescape
func own(p unsafe.Pointer, n uint64)
