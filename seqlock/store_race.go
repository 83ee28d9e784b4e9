//go:build race

package seqlock

import "sync/atomic"

// The race detector sees no assembly. Under it the release stores are atomics,
// so that the same code over heap memory is checked for real races.

func storeRelease(p *uint64, v uint64) { atomic.StoreUint64(p, v) }

func storeRelease32(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

func storeWord(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
