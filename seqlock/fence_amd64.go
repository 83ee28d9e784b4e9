package seqlock

// Enough: an x86 core performs loads in program order (as far as any other core can
// tell), so only the compiler has to be held back.
func loadLoad() { compilerOrder() }

// Enough: stores leave the store buffer in program order. The package issues no
// non-temporal stores, the only ones that would need SFENCE.
func storeStore() { compilerOrder() }

//go:noescape
func pause(n uint32)
