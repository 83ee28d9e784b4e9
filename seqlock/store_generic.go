//go:build !amd64 && !arm64 && !race

package seqlock

import "sync/atomic"

// Enough: atomic stores are sequentially consistent, which includes release.

func storeRelease(p *uint64, v uint64) { atomic.StoreUint64(p, v) }

func storeRelease32(p *uint32, v uint32) { atomic.StoreUint32(p, v) }
