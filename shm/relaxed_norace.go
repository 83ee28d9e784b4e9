//go:build !race

package shm

// guesses reports whether a word may be looked at that may be anything, for a hint.
const guesses = true

// storeRelaxed is a plain store of a shared word that a later release publishes
// or that a reader validates.
func storeRelaxed(p *uint64, v uint64) { *p = v }
