//go:build !race

package seqlock

//go:noescape
func storeRelease(p *uint64, v uint64)

//go:noescape
func storeRelease32(p *uint32, v uint32)
