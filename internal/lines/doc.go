// Package lines moves cache lines between cores that work on one ring: a publisher
// that fills it while subscribers read. Why this is not what copy does, and what it
// brings, is in ADR 0070, 0076 and 0079.
//
// The assembly is for amd64. Elsewhere, and under the race detector, which sees no
// assembly, Copy is copy, Fetch and Own do nothing, and there are no Hints.
package lines

// Bytes is the size of a cache line.
const Bytes = 64

// Copy copies from to the first len(from) bytes of to, which must be at least as
// long and must not overlap it. In which order the bytes appear is not defined. It
// panics if to is shorter; memory that is gone (SIGBUS) is a memory fault here as
// in copy. It does not allocate; any goroutine may call it.
func Copy(to, from []byte) { copyLines(to[:len(from)], from) }

// CopyFetch copies from to where to points, and with each line that it copies it asks for
// one from ahead on, to be read soon, as Fetch does: as many as it copies and at most two
// more.
//
// Preconditions, which it does not check: Hints; len(from) >= Bytes; there is room.
func CopyFetch(to *byte, from []byte, ahead *byte) { copyFetch(to, from, ahead) }

// CopyOwn is CopyFetch for lines that are to be written: other cores lose them. It has its
// preconditions.
func CopyOwn(to *byte, from []byte, ahead *byte) { copyOwn(to, from, ahead) }

// Fetch asks for the lines that b lies in, to be read soon, and does not wait for
// them. It is a hint: it reads nothing, so that b may be memory that is gone. It does
// not allocate; any goroutine may call it.
func Fetch(b []byte) { fetchLines(b) }

// Own is Fetch for lines that are to be written: other cores lose them.
func Own(b []byte) { ownLines(b) }
