//go:build !race

package shm

// raceEnabled: the race detector looks on.
const raceEnabled = false

// storeRelaxed is a plain store of a shared word that a later release publishes
// or that a reader validates.
func storeRelaxed(p *uint64, v uint64) { *p = v }
