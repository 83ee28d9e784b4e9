//go:build race

package shm

import "sync/atomic"

// storeRelaxed is atomic under the race detector, which would otherwise report
// the poll of a word that is about to be zeroed.
func storeRelaxed(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
