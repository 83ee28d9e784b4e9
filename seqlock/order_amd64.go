package seqlock

import "sync/atomic"

// order is loaded to hold the compiler back, and never stored.
var order uint64

// compilerOrder keeps every memory access on its side of the call, in the code that
// the compiler makes of it; the processor sees one load of a line that never leaves
// its cache. It works because cmd/compile treats an atomic operation as one that
// reads and changes all memory: nothing passes it, and no store before it is taken
// for overwritten by one after it. A call into assembly would do the same, but
// every value that lives across a call is stored to the stack first, and in the
// store buffer those stores wait behind the line that is being fetched from a
// reader (ADR 0015).
func compilerOrder() { atomic.LoadUint64(&order) }
