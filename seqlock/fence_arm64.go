package seqlock

// The compiler moves no load and no store across a call whose body it cannot
// see, so each of these is also a compiler barrier. What the processor needs
// beyond that is said beside the bodies in fence_$GOARCH.s.

//go:noescape
func loadLoad()

//go:noescape
func storeStore()

//go:noescape
func pause(n uint32)
