// Package seqlock is how one writer and many readers share words of memory
// without locks, within a process or between processes: the release store, the
// fences, wrap-safe sequence arithmetic, the sequence word ([Word]) and a value
// of several words that is always read whole ([Cell]). It is the only package
// with fences and release stores; the others name what they need.
//
// # Concepts
//
// A writer publishes with [StoreRelease]; a reader picks up with
// atomic.LoadUint64, which is a MOV on amd64, an LDAR on arm64, and an acquire
// everywhere. There is no LoadAcquire here because that already is one.
//
// A value of more than one word has no such store. Its writer announces the
// change first, changes it, and announces the end; a reader copies what is there,
// and then asks whether a change was announced in the meantime. If so the copy
// may be a mixture, and is thrown away unlooked at. [StoreStore] keeps the
// announcement ahead of the change, [LoadLoad] keeps the copy ahead of the
// question. A Word is an announcement that only counts:
//
//	          WriteBegin
//	    +----------------------+
//	    |                      v
//	+------+                +------+
//	| REST |                | BUSY |---+ WriteBegin, by the successor of
//	| even |                | odd  |<--+ a writer that died here
//	+------+                +------+
//	    ^                      |
//	    +----------------------+
//	    WriteEnd: next even number
//
// Its edges:
//   - REST to BUSY: the word turns odd, and only then does the value change.
//   - BUSY to REST: the value is whole, and only then does the word turn even; it
//     is another even number than before.
//   - BUSY to BUSY: the word was left odd; readers are kept off already.
//
// # Invariants
//
//  1. A shared word has one writer: one goroutine of one process.
//  2. Whoever sees a StoreRelease sees all that its writer loaded and stored
//     before it.
//  3. Whoever sees a store made after StoreStore and then calls LoadLoad sees
//     every store made before that StoreStore.
//  4. A value read between ReadBegin and ReadRetry is whole if ReadRetry returns
//     false. By 2, ReadBegin saw the end of the last write; by 3, had any word come
//     from a later one, ReadRetry would have seen its beginning. (A reader that
//     sleeps through exactly 2^63 writes is fooled.)
//  5. No reader waits without bound for a writer, and no writer waits for a reader.
//  6. Nothing relies on the store order of x86: what arm64 needs is written down,
//     and costs nothing where it is not needed.
//
// # Reading under a Word
//
// [Cell.Load] is this loop, for a value of words. Spell it out to read anything else:
//
//	for range attempts {
//		seq, ok := w.ReadBegin()
//		if !ok { // odd: the writer is at it, or died at it
//			seqlock.Pause(8)
//			continue
//		}
//		n := copy(private, shared) // may be a mixture: copy, do not interpret
//		if w.ReadRetry(seq) {      // it was, or could have been
//			continue
//		}
//		return private[:n], nil // whole: now look at it
//	}
//	return nil, errBusy // do something else and come back
//
// # What the compiler and the race detector make of it
//
// The reads in that loop race with the writer on purpose. Go bounds what such a
// race can do as long as no word holds a pointer: a read of one machine word gives
// some value that was stored there, and the program goes on. The compiler keeps
// memory accesses on their side of every function here, because their bodies are
// assembly or atomics, or hold an atomic for that purpose alone. In a build with the
// race detector the stores of this package are atomics, so Word and Cell over heap
// memory are checked there like any other code; over a mapped file the detector sees
// nothing at all.
package seqlock
