//go:build !race

package shm

// storeRelaxed is a plain store of a shared word that a later release publishes
// or that a reader validates.
func storeRelaxed(p *uint64, v uint64) { *p = v }
