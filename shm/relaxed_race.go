//go:build race

package shm

import "sync/atomic"

// raceEnabled: the race detector looks on.
const raceEnabled = true

// storeRelaxed is atomic under the race detector, which would otherwise report
// the poll of a word that is about to be zeroed.
func storeRelaxed(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
