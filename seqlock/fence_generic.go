//go:build !amd64 && !arm64

package seqlock

import "sync/atomic"

// fence is a full fence for architectures without a file of their own. On each
// of them Go compiles an atomic add to an instruction, or to a sequence between
// barriers, that no older access may sink below and no younger one rise above
// (riscv64: AMOADD.aqrl; ppc64: LWSYNC before, ISYNC after; loong64: AMADD_DB;
// arm, mips: DMB or SYNC on both sides; 386, s390x: ordered by themselves; wasm:
// one thread). The word is private to the call, so nothing is contended. This
// leans on the compiler's code, not on the Go memory model, which knows no fences.
func fence() {
	var word atomic.Uint32
	word.Add(1)
}

func loadLoad()    { fence() }
func storeStore()  { fence() }
func pause(uint32) {}
