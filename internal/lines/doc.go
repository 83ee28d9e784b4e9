// Package lines moves cache lines between cores that work on one ring: a publisher
// that fills it while subscribers read. Why this is not what copy does, and what it
// brings, is in ADR 0070.
//
// The assembly is for amd64. Elsewhere, and under the race detector, which sees no
// assembly, Copy is copy, and Fetch and Own do nothing.
package lines

// Copy copies from to the first len(from) bytes of to, which must be at least as
// long and must not overlap it. In which order the bytes appear is not defined. It
// panics if to is shorter; memory that is gone (SIGBUS) is a memory fault here as
// in copy. It does not allocate; any goroutine may call it.
func Copy(to, from []byte) { copyLines(to[:len(from)], from) }

// Fetch asks for the lines that b lies in, to be read soon, and does not wait for
// them. It is a hint: it reads nothing, so that b may be memory that is gone. It does
// not allocate; any goroutine may call it.
func Fetch(b []byte) { fetchLines(b) }

// Own is Fetch for lines that are to be written: other cores lose them. It writes
// nothing.
func Own(b []byte) { ownLines(b) }
