package seqlock

import "sync/atomic"

// Word is a sequence word: even while the value it guards is at rest, odd while
// its writer is changing it. It lives in memory of the caller's, shared or not;
// a *uint64 converts to it: (*seqlock.Word)(p). Zero is a valid start.
//
// One goroutine of one process writes; any number of goroutines of any processes
// read, through a read-only mapping if they like.
type Word uint64

// WriteBegin makes the Word odd. No store after it is visible before that. After
// a writer that died between WriteBegin and WriteEnd the Word is odd already and
// stays so until the next WriteEnd. Writer only.
func (w *Word) WriteBegin() {
	p := (*uint64)(w)
	StoreRelease(p, atomic.LoadUint64(p)|1) // SYNC word-begin: StoreStore here, LoadLoad in ReadRetry
	StoreStore()
}

// WriteEnd makes the Word even again, and visible with all that was stored
// before. Writer only.
func (w *Word) WriteEnd() {
	p := (*uint64)(w)
	StoreRelease(p, (atomic.LoadUint64(p)|1)+1) // SYNC word-end: acquired by ReadBegin
}

// ReadBegin returns the sequence to hand to ReadRetry, and false while a write
// is under way: then there is nothing to read yet.
func (w *Word) ReadBegin() (seq uint64, ok bool) {
	seq = atomic.LoadUint64((*uint64)(w)) // SYNC word-end: released by WriteEnd
	return seq, seq&1 == 0
}

// ReadRetry reports whether a write began since the ReadBegin that returned seq.
// If so, what was read in between is to be thrown away unlooked at.
func (w *Word) ReadRetry(seq uint64) bool {
	LoadLoad() // SYNC word-begin: pairs with the StoreStore in WriteBegin
	return atomic.LoadUint64((*uint64)(w)) != seq
}
