//go:build !race

package seqlock

// Enough: a store becomes visible after every older load and store of its core, so
// a plain aligned MOV already is a release. What it lacks against XCHG is the order
// of this store before *later loads*, which no release promises.
func storeRelease(p *uint64, v uint64) {
	compilerOrder()
	*p = v
}

// Enough: as storeRelease.
func storeRelease32(p *uint32, v uint32) {
	compilerOrder()
	*p = v
}
